//! Removing very many omap keys at once: what it writes, and what seeks take afterwards, compared with a fresh store, batch by
//! batch in turn.
//!
//! Expected before the first run: clearing an omap writes some hundred bytes whatever it has, as the object gets another
//! omap id; removing a range reads the keys to count them and writes one tombstone. Seeks in neighbours take what they take in
//! a fresh store; a seek across a removed range takes one step more in each sorted file, until RocksDB compacts it, which the
//! store asks for soon after the tombstones are in files.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Parser;
use engine::setup::{self, Setup};
use engine::{clock, spread};
use rt::uring::{Config, run};
use rt::{Core, CoreId};
use store::{CollectionId, Engine, ObjectId, ObjectStore, Op, Transaction};

/// Keys of one transaction while filling.
const KEYS_PER_WRITE: u64 = 5_000;
/// Keys that there are of each omap when seeks are timed.
const KEYS_OF_OTHERS: u64 = 5_000;
/// Ranges in which keys are removed: enough for the store to compact them.
const RANGES: u64 = 20;
/// Bytes on the device per byte of keys and values: twice while they are compacted, and twice for what admission reckons.
const DEVICE_PER_KEY_BYTES: u64 = 8;
/// Compacting ranges has to end by then.
const COMPACTED_WITHIN_NS: u64 = 600_000_000_000;
const COLLECTION: CollectionId = CollectionId { pool: 1, seed: 0 };

/// Clear an omap of very many keys, and remove another one's by ranges; compare seeks with a fresh store's.
#[derive(Parser, Clone)]
#[command(after_help = "Examples:
  cargo run --release -p engine --bin cleared_keys
  cargo run --release -p engine --bin cleared_keys -- --keys 1000000 --seeks 2000")]
struct Settings {
    /// Keys to clear, and as many to remove by ranges.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(100_000..))]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 32)]
    value: u16,
    /// Seeks of each measurement.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeks: u64,
    /// Most CPU that a seek may take, as a multiple of a fresh store's. Exceeded: exit status 1.
    #[arg(long, default_value_t = 2.0)]
    ratio: f64,
}

/// A store with objects that have omaps.
struct Store<'a> {
    core: &'a Core,
    engine: Engine,
    value: Bytes,
}

/// Seeks of one batch, of which the CPU is read.
const SEEKS_PER_BATCH: u64 = 200;

/// What a seek takes, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Seeks {
    /// CPU of the whole process: median of batches.
    cpu: f64,
    /// Median and 99th percentile of the time.
    p50: f64,
    p99: f64,
}

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let ratio = settings.ratio;
    let worst =
        run(CoreId(0), &Config::default(), move |core| async move { measure(&core, &settings).await })
            .context("io_uring cannot be used on this machine")??;
    ensure!(
        worst <= ratio,
        "a seek takes {worst:.2} times the CPU of one in a fresh store; at most {ratio} were expected"
    );
    Ok(())
}

/// Gives the worst ratio.
async fn measure(core: &Core, settings: &Settings) -> anyhow::Result<f64> {
    let objects = ["below", "cleared", "ranges", "above"].map(object);
    let [_, cleared, ranges, _] = &objects;
    let fresh = Store::make(core, settings, KEYS_OF_OTHERS).await?;
    let store = Store::make(core, settings, settings.keys).await?;
    for object in &objects {
        fresh.fill(object, KEYS_OF_OTHERS).await?;
        let is_large = object == cleared || object == ranges;
        store.fill(object, if is_large { settings.keys } else { KEYS_OF_OTHERS }).await?;
    }
    fresh.engine.checkpoint().await?;
    store.engine.checkpoint().await?;

    let (from, journal) = (core.now(), store.counter("journal_bytes_written"));
    store.commit(Op::OmapClear { collection: COLLECTION, object: cleared.clone() }).await?;
    let bytes = store.counter("journal_bytes_written") - journal;
    println!(
        "clearing {} keys: {:.1} ms, {bytes} bytes of the journal",
        settings.keys,
        since(core, from) / 1e3
    );
    store.fill(cleared, KEYS_OF_OTHERS).await?;
    let (from, journal) = (core.now(), store.counter("journal_bytes_written"));
    let per_range = settings.keys.div_ceil(RANGES);
    for first in (KEYS_OF_OTHERS..settings.keys).step_by(usize::try_from(per_range)?) {
        let end = key((first + per_range).min(settings.keys));
        let object = ranges.clone();
        store.commit(Op::OmapRemoveRange { collection: COLLECTION, object, first: key(first), end }).await?;
    }
    let bytes = store.counter("journal_bytes_written") - journal;
    println!(
        "removing as many but {KEYS_OF_OTHERS} in ranges of {per_range}: {:.1} ms, {bytes} bytes of the journal",
        since(core, from) / 1e3
    );

    let mut worst: f64 = 0.0;
    for when in ["at once", "after a checkpoint", "when compacted"] {
        for object in &objects {
            let numbers = || core.random_u64() % (KEYS_OF_OTHERS - 1);
            let name = String::from_utf8_lossy(&object.name);
            worst =
                worst.max(compare([&fresh, &store], object, settings.seeks, numbers, &[when, &name]).await?);
        }
        // From the last key that is left, so the seek runs over all that was removed behind it. That is part of the verdict
        // when it was compacted: it asks twice until a checkpoint, and passes a tombstone for each range until then.
        let last = || KEYS_OF_OTHERS - 1;
        let across = compare([&fresh, &store], ranges, settings.seeks, last, &[when, "across"]).await?;
        match when {
            "at once" => {
                store.engine.checkpoint().await?;
                fresh.engine.checkpoint().await?;
            }
            "after a checkpoint" => store.compacted(&from).await?,
            _ => worst = worst.max(across),
        }
    }
    println!("omaps reaped: {}; worst ratio {worst:.2}", store.counter("omaps_reaped"));
    store.engine.close().await?;
    fresh.engine.close().await?;
    Ok(worst)
}

/// Seeks in both stores, batches in turn, and prints what they took; gives how many times as much CPU it is in the second.
async fn compare(
    stores: [&Store<'_>; 2],
    object: &ObjectId,
    count: u64,
    number: impl Fn() -> u64,
    names: &[&str; 2],
) -> anyhow::Result<f64> {
    let mut samples = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for _ in 0..count.div_ceil(SEEKS_PER_BATCH) {
        for (store, (times, cpu)) in stores.iter().zip(&mut samples) {
            let before = clock::process();
            for _ in 0..SEEKS_PER_BATCH {
                let number = number();
                let from = store.core.now();
                let found = store.next(object, number).await?;
                times.push(since(store.core, from));
                let expected = (number + 1 < KEYS_OF_OTHERS).then(|| key(number + 1));
                ensure!(found == expected, "{object}: {found:?} follows {number}");
            }
            cpu.push((clock::process() - before).as_secs_f64() * 1e6 / SEEKS_PER_BATCH as f64);
        }
    }
    let [fresh, after] = samples.map(|(times, cpu)| Seeks::of(times, cpu));
    let [when, which] = names;
    println!(
        "{when:18}, {which:8}: CPU {:5.1} us, fresh {:5.1}; p50 {:6.1} and {:6.1}; p99 {:6.1} and {:6.1}",
        after.cpu, fresh.cpu, after.p50, fresh.p50, after.p99, fresh.p99
    );
    Ok(after.cpu / fresh.cpu)
}

impl Seeks {
    fn of(mut times: Vec<f64>, cpu: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(f64::NAN);
        Self { cpu: spread(cpu.into_iter())[1], p50: at(50), p99: at(99) }
    }
}

impl<'a> Store<'a> {
    /// An empty one, with room for two omaps of so many keys.
    async fn make(core: &'a Core, settings: &Settings, keys: u64) -> anyhow::Result<Self> {
        let bytes = 2 * keys * (30 + u64::from(settings.value)) * DEVICE_PER_KEY_BYTES;
        let engine = setup::make(core, &setup::device(0, bytes), &Setup::default()).await?;
        let store = Self { core, engine, value: Bytes::from(vec![7; settings.value.into()]) };
        store.commit(Op::CreateCollection { collection: COLLECTION, bits: 0 }).await?;
        Ok(store)
    }

    async fn commit(&self, op: Op) -> anyhow::Result<()> {
        Ok(self.engine.submit(Transaction { ops: vec![op] }).durable.await?)
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.engine.stats().counters;
        counters.iter().find(|(other, _)| *other == name).map_or(0, |(_, value)| *value)
    }

    /// Waits until the tombstones of ranges are compacted.
    async fn compacted(&self, since: &rt::Nanos) -> anyhow::Result<()> {
        while self.counter("kv_ranges_compacted") == 0 {
            ensure!(self.core.now().0 - since.0 < COMPACTED_WITHIN_NS, "the ranges are not compacted");
            self.core.sleep(std::time::Duration::from_millis(10)).await;
        }
        println!("compacted {:.0} ms after the first was removed", self::since(self.core, *since) / 1e3);
        Ok(())
    }

    async fn fill(&self, object: &ObjectId, keys: u64) -> anyhow::Result<()> {
        for first in (0..keys).step_by(usize::try_from(KEYS_PER_WRITE)?) {
            let numbers = first..(first + KEYS_PER_WRITE).min(keys);
            let entries: BTreeMap<Bytes, Bytes> =
                numbers.map(|number| (key(number), self.value.clone())).collect();
            let op = Op::OmapSet { collection: COLLECTION, object: object.clone(), entries };
            self.commit(op).await.context("filling")?;
        }
        Ok(())
    }

    async fn next(&self, object: &ObjectId, number: u64) -> anyhow::Result<Option<Bytes>> {
        let page =
            self.engine.omap_scan(COLLECTION, object, Some(key(number)), Bytes::new(), 1, 4096).await?;
        Ok(page.entries.into_iter().next().map(|(key, _)| key))
    }
}

/// Microseconds.
fn since(core: &Core, from: rt::Nanos) -> f64 {
    core.now().0.saturating_sub(from.0) as f64 / 1e3
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key-{number:012}"))
}

fn object(name: &'static str) -> ObjectId {
    ObjectId {
        pool: 1,
        hash: 1,
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::from_static(name.as_bytes()),
        snap: ObjectId::HEAD,
    }
}
