//! Opening a store after it was killed with its journal as full as it gets, RocksDB and BlueFS included: what is read must not
//! depend on how many objects there are.
//!
//! Expected before the first run: all of the journal's and the log's ring are read, 128 MiB on a large device, whatever is in
//! it, and the bitmap, which only the capacity decides. RocksDB reads the ends of its files, of which more objects make more.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Parser;
use engine::setup::{self, Setup};
use futures_util::future::try_join_all;
use nvme::MemoryDevice;
use rt::uring::{Config, run};
use rt::{Core, CoreId};
use store::{CollectionId, Engine, LogVersion, ObjectId, ObjectStore, Op, Transaction};

/// Objects of one transaction while filling.
const OBJECTS_PER_WRITE: u64 = 200;
/// Transactions in flight.
const DEPTH: usize = 16;
/// Bytes of an object, of its info and of an entry of the log.
const OBJECT_BYTES: usize = 64;
const INFO_BYTES: usize = 250;
const LOG_ENTRY_BYTES: usize = 150;
/// Placement groups.
const GROUPS_BITS: u8 = 6;

/// Kill a store of many small objects with a full journal, open it again, and count what is read.
#[derive(Parser, Clone)]
#[command(after_help = "Examples:
  cargo run --release -p engine --bin start_up
  cargo run --release -p engine --bin start_up -- --objects 1000 --objects 100000 --capacity 8")]
struct Settings {
    /// Objects; several, to be compared.
    #[arg(long, default_values_t = [1_000, 100_000, 10_000_000])]
    objects: Vec<u64>,
    /// GiB of the device. Memory is taken for what is written only.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    capacity: u64,
    /// Most that bytes or reads may be of the least. Exceeded: exit status 1.
    #[arg(long, default_value_t = 1.2)]
    ratio: f64,
}

/// What opening took.
struct StartUp {
    journal_bytes: u64,
    records: u64,
    reads: u64,
    bytes: u64,
    seconds: f64,
}

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let mut all = Vec::new();
    for objects in settings.objects.clone() {
        let given = settings.clone();
        let measured = run(CoreId(0), &Config::default(), move |core| async move {
            measure(&core, objects, given.capacity << 30).await
        });
        let one = measured.context("io_uring cannot be used on this machine")??;
        println!(
            "{objects:9} objects: {:5} reads, {:6.1} MB, {:.2} s; {} records, {:.1} MB of the journal",
            one.reads,
            one.bytes as f64 / 1e6,
            one.seconds,
            one.records,
            one.journal_bytes as f64 / 1e6
        );
        all.push(one);
    }
    let ratio = |of: fn(&StartUp) -> u64| {
        let least = all.iter().map(of).min().unwrap_or(1);
        all.iter().map(of).max().unwrap_or(1) as f64 / least as f64
    };
    let (reads, bytes) = (ratio(|one| one.reads), ratio(|one| one.bytes));
    println!("most over least: {reads:.2} of reads, {bytes:.2} of bytes");
    ensure!(reads.max(bytes) <= settings.ratio, "start-up depends on the number of objects");
    Ok(())
}

async fn measure(core: &Core, objects: u64, capacity: u64) -> anyhow::Result<StartUp> {
    let device = MemoryDevice::new(capacity);
    let engine = Rc::new(setup::make(core, &device, &Setup::default()).await?);
    let create =
        (0..1 << GROUPS_BITS).map(|seed| Op::CreateCollection { collection: group(seed), bits: GROUPS_BITS });
    engine.submit(Transaction { ops: create.collect() }).durable.await?;
    fill(&engine, objects).await?;
    engine.checkpoint().await?;

    while engine.is_checkpointing() {
        core.sleep(Duration::from_millis(1)).await;
    }
    // Up to the moment in which the next checkpoint begins: that is when there is most to replay.
    let counter = |engine: &Engine, name: &str| {
        let counters = engine.stats().counters;
        counters.iter().find(|(other, _)| *other == name).map_or(0, |(_, value)| *value)
    };
    let journal = counter(&engine, "journal_bytes_written");
    let mut version = 0;
    while !engine.is_checkpointing() {
        let writes = (0..DEPTH).map(|_| {
            version += 1;
            engine.submit(write(core.random_u64() % objects, version)).durable
        });
        try_join_all(writes.collect::<Vec<_>>()).await?;
    }
    let killed = device.snapshot();
    let journal_bytes = counter(&engine, "journal_bytes_written") - journal;
    engine.close().await?;
    drop((engine, device));

    let from = core.now();
    let engine = setup::open(core, &killed, &Setup::default()).await?;
    let (reads, bytes) = killed.reads();
    let seconds = core.now().0.saturating_sub(from.0) as f64 / 1e9;
    let records = counter(&engine, "replayed_records");
    let found = engine.pool_stats();
    ensure!(found.first().is_some_and(|(_, stats)| u64::try_from(stats.objects) == Ok(objects)), "{found:?}");
    engine.close().await?;
    Ok(StartUp { journal_bytes, records, reads, bytes, seconds })
}

async fn fill(engine: &Engine, objects: u64) -> anyhow::Result<()> {
    let groups = u64::from(1u32 << GROUPS_BITS);
    let writes = (0..groups).flat_map(|seed| {
        let numbers: Vec<u64> = (seed..objects).step_by(usize::try_from(groups).unwrap_or(1)).collect();
        let chunks: Vec<Vec<u64>> =
            numbers.chunks(usize::try_from(OBJECTS_PER_WRITE).unwrap_or(1)).map(<[u64]>::to_vec).collect();
        chunks
    });
    let mut in_flight = Vec::new();
    for numbers in writes {
        let ops = numbers.into_iter().flat_map(|number| write(number, 0).ops).collect();
        in_flight.push(engine.submit(Transaction { ops }).durable);
        if in_flight.len() == DEPTH {
            try_join_all(in_flight.drain(..)).await.context("filling")?;
        }
    }
    try_join_all(in_flight).await.context("filling")?;
    Ok(())
}

/// As a placement group writes an object whole; with an entry of the log if there is a version.
fn write(number: u64, version: u64) -> Transaction {
    let (object, collection) =
        (object(number), group(u32::try_from(number % (1 << GROUPS_BITS)).unwrap_or(0)));
    let data = vec![Bytes::from(vec![u8::try_from(version % 251).unwrap_or(0); OBJECT_BYTES])];
    let attrs = BTreeMap::from([(Bytes::from_static(b"_"), Bytes::from(vec![7; INFO_BYTES]))]);
    let mut ops = vec![
        Op::Write { collection, object: object.clone(), offset: 0, data },
        Op::SetAttrs { collection, object, attrs },
    ];
    if version > 0 {
        let (version, entry) = (LogVersion { epoch: 1, version }, Bytes::from(vec![7; LOG_ENTRY_BYTES]));
        ops.push(Op::LogAppend { collection, version, entry });
    }
    Transaction { ops }
}

fn group(seed: u32) -> CollectionId {
    CollectionId { pool: 1, seed }
}

/// Its lowest bits are the group's seed; the others are spread.
fn object(number: u64) -> ObjectId {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mask = (1u64 << GROUPS_BITS) - 1;
    ObjectId {
        pool: 1,
        hash: u32::try_from((spread & !mask) | (number & mask)).unwrap_or(0),
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::from(format!("object-{number:08}")),
        snap: ObjectId::HEAD,
    }
}
