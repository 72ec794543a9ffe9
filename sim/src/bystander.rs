//! One who reads a store beside its daemon, as scrubbing and recovery would: in no order with what the daemon does to the
//! same objects, where the daemon keeps such an order for its clients. What it reads must be whole; what it makes the
//! store load must not harm those who come after it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use rt::Core;
use store::{CollectionId, Engine, ObjectId, ObjectStore, StoreError, StoreResult};

/// Longest pause between two bursts, microseconds.
const PAUSE_US_MAX: u64 = 50_000;
/// Reads of a burst, at once.
const BURST: usize = 4;
/// Objects of a page of a listing.
const PAGE: usize = 32;
const OMAP_BYTES_MAX: usize = 4096;

/// Does so until the store is closed or down. `damaged` are blocks of it that may be unreadable.
pub async fn run(
    core: Core,
    store: Rc<Engine>,
    damaged: Rc<RefCell<BTreeSet<u64>>>,
    failed: impl Fn(String),
) {
    loop {
        core.sleep(Duration::from_micros(core.random_u64() % PAUSE_US_MAX)).await;
        let result = burst(&core, &*store).await;
        match result {
            Ok(()) | Err(StoreError::NotFound(_)) => {}
            Err(StoreError::Io(_)) if !damaged.borrow().is_empty() => {}
            Err(StoreError::Down(_)) => return,
            Err(error) => return failed(format!("a read beside the daemon: {error}")),
        }
    }
}

async fn burst(core: &Core, store: &dyn ObjectStore) -> StoreResult<()> {
    let mut collections = store.collections().await?;
    collections.retain(|(id, _, _)| *id != CollectionId::META);
    if collections.is_empty() {
        return Ok(());
    }
    let (id, _, _) = collections.swap_remove(any(core, collections.len()));
    // Both see the store as it is now, however long each takes and whatever changes meanwhile.
    let (first, second) = join(store.list(id, None, PAGE), store.list(id, None, PAGE)).await;
    let (objects, _) = first?;
    if second?.0 != objects {
        return Err(StoreError::Invalid("two listings of one moment differ".to_owned()));
    }
    if objects.is_empty() {
        return Ok(());
    }
    let reads = (0..BURST).map(|_| one(core, store, id, &objects[any(core, objects.len())]));
    // One that is gone by now says nothing about the others.
    let gone = |result: &StoreResult<()>| matches!(result, Err(StoreError::NotFound(_)));
    join_all(reads).await.into_iter().filter(|result| !gone(result)).collect()
}

async fn one(core: &Core, store: &dyn ObjectStore, id: CollectionId, object: &ObjectId) -> StoreResult<()> {
    match core.random_u64() % 6 {
        0 => store.attrs(id, object).await.map(drop),
        1 => store.omap_scan(id, object, None, Bytes::new(), PAGE, OMAP_BYTES_MAX).await.map(drop),
        _ => store.read(id, object, 0, u64::MAX).await.map(drop),
    }
}

fn any(core: &Core, count: usize) -> usize {
    usize::try_from(core.random_u64() % count as u64).unwrap_or(0)
}
