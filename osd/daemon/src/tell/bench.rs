//! `bench`: writes to the store without clients or network, and removes what it wrote.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use store::{CollectionId, ObjectId, Op, StoreError, Transaction};

use super::{Answer, Arguments, Failure};
use crate::limits::{BENCH_BYTES_MAX, BENCH_IN_FLIGHT};
use crate::osd::Osd;

const BYTES_DEFAULT: u64 = 64 << 20;
const WRITE_BYTES_DEFAULT: u64 = 4 << 20;
const WRITE_BYTES_MAX: u64 = 64 << 20;

/// Writes `count` bytes in writes of `size`, one after another into objects of `object_size`.
pub async fn run(osd: &Rc<Osd>, arguments: &Arguments) -> Answer {
    let count = arguments.number("count")?.unwrap_or(BYTES_DEFAULT);
    let size = arguments.number("size")?.unwrap_or(WRITE_BYTES_DEFAULT);
    let object_size = arguments.number("object_size")?.filter(|&size| size > 0).unwrap_or(4 << 20).max(size);
    if size == 0 || size > WRITE_BYTES_MAX || count == 0 || count > BENCH_BYTES_MAX {
        return Err(Failure::invalid(format!(
            "count is 1 to {BENCH_BYTES_MAX} bytes, size 1 to {WRITE_BYTES_MAX}"
        )));
    }
    if object_size > pg::limits::OBJECT_BYTES_MAX {
        return Err(Failure::invalid("objects of that size are not possible"));
    }
    let writes = count.div_ceil(size);
    let per_object = (object_size / size).max(1);
    let data: Bytes = pattern(osd, size).into();
    let started = osd.core.now();
    let written = write_all(osd, writes, per_object, size, &data).await;
    let elapsed = osd.core.now().0.saturating_sub(started.0);
    let removed = remove_all(osd, writes.div_ceil(per_object)).await;
    written.and(removed).map_err(|error| match pg::OpError::from(error.clone()) {
        pg::OpError::Errno(errno) => Failure { errno, text: error.to_string() },
        pg::OpError::Down(_) => Failure { errno: wire::Errno::EIO, text: error.to_string() },
    })?;
    Ok(report(writes, size, elapsed))
}

#[expect(clippy::cast_precision_loss, reason = "rates need no precision")]
fn report(writes: u64, size: u64, elapsed_ns: u64) -> serde_json::Value {
    let seconds = (elapsed_ns as f64 / 1e9).max(1e-9);
    let bytes = writes * size;
    json!({
        "bytes_written": bytes,
        "blocksize": size,
        "elapsed_sec": seconds,
        "bytes_per_sec": bytes as f64 / seconds,
        "iops": writes as f64 / seconds,
    })
}

async fn write_all(
    osd: &Osd,
    writes: u64,
    per_object: u64,
    size: u64,
    data: &Bytes,
) -> Result<(), StoreError> {
    let mut next = 0;
    while next < writes {
        let batch = (writes - next).min(BENCH_IN_FLIGHT);
        let submitted = (next..next + batch).map(|number| {
            let op = Op::Write {
                collection: CollectionId::META,
                object: object(number / per_object),
                offset: number % per_object * size,
                data: vec![data.clone()],
            };
            osd.store.submit(Transaction { ops: vec![op] }).durable
        });
        join_all(submitted).await.into_iter().collect::<Result<(), _>>()?;
        next += batch;
    }
    Ok(())
}

async fn remove_all(osd: &Osd, objects: u64) -> Result<(), StoreError> {
    for number in 0..objects {
        let op = Op::Remove { collection: CollectionId::META, object: object(number) };
        match osd.store.submit(Transaction { ops: vec![op] }).readable.await {
            // One that was never written because the store was full.
            Ok(()) | Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes that do not compress within a block.
fn pattern(osd: &Osd, size: u64) -> Vec<u8> {
    const PERIOD: usize = 16 << 10;
    let period: Vec<u8> = (0..PERIOD / 8).flat_map(|_| osd.core.random_u64().to_le_bytes()).collect();
    let mut data = period.repeat(usize::try_from(size).unwrap_or(usize::MAX).div_ceil(PERIOD));
    data.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    data
}

fn object(number: u64) -> ObjectId {
    ObjectId {
        pool: CollectionId::META.pool,
        hash: 0,
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: format!("bench_{number}").into(),
        snap: ObjectId::HEAD,
    }
}
