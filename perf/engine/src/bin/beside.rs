//! What clients notice of work in the background: latencies of random 4 KiB reads and writes, a few at a time, without and beside a
//! scrub, a deep check, defragmenting and clearing of space, each paced as the OSD does while clients wait for something. All are
//! measured in turns, so what else the machine does hits all of them; before each, objects are written and every second block of
//! them is taken away.
//!
//! The device is in memory and each I/O takes as long as is said. Aim: p99 at most a tenth longer beside any of them. Expected before
//! the first run: a step of 256 KiB costs the core some 100 us every 20 ms, so less than 1 % of operations wait for one.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use engine::setup::{self, OBJECT_BYTES, Setup};
use engine::spread;
use futures_util::future::{join, try_join_all};
use rt::uring::{Config, run};
use rt::{Core, CoreId, LocalBoxFuture};
use serde_json::json;
use store::{
    AccessHints, CollectionId, Engine, FsckLevel, ObjectId, ObjectStore, Op, StoreResult, Transaction, Watch,
};

const BLOCK: u64 = 4096;
const COLLECTION: CollectionId = CollectionId { pool: 1, seed: 0 };
/// Bytes that a scrub reads, and that defragmenting looks at, at a time: as the OSD does.
const SCRUB_BYTES: u64 = 256 << 10;
const DEFRAG_BYTES: u64 = 1 << 20;

/// What goes on beside the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Beside {
    /// Nothing.
    Nothing,
    /// All objects are read, and verified.
    Scrub,
    /// The store is checked, with all of its data.
    Fsck,
    /// Objects move to where they are in fewer pieces.
    Defrag,
    /// Parts of the device are cleared.
    Clear,
}

/// Measure how long reads and writes take beside work in the background.
#[derive(Parser, Clone)]
#[command(after_help = "Examples:
  cargo run --release -p engine --bin beside
  cargo run --release -p engine --bin beside -- --beside nothing scrub --depth 1 --seconds 10")]
struct Settings {
    /// What goes on beside the clients; several.
    #[arg(long, num_args = 1.., default_values = ["nothing", "scrub", "fsck", "defrag", "clear"])]
    beside: Vec<Beside>,
    /// Requests in flight.
    #[arg(long, default_value_t = 4)]
    depth: u64,
    /// How many of a hundred requests are writes.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=100))]
    writes: u64,
    /// MiB of objects, of which half is taken away.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..))]
    data: u64,
    /// What an I/O takes, in microseconds.
    #[arg(long, default_value_t = 50)]
    delay: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// KiB after which work in the background pauses.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    step: u64,
    /// Milliseconds of such a pause.
    #[arg(long, default_value_t = 20)]
    pause: u64,
    /// Write JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One measurement, microseconds.
#[derive(Clone, Copy, Debug)]
struct Latency {
    operations: usize,
    p50: f64,
    p99: f64,
    /// Bytes that the work in the background said it read or wrote.
    background: u64,
}

/// Slows work in the background down, as long as it is to go on.
#[derive(Clone)]
struct Pace(Rc<Pacing>);

struct Pacing {
    core: Core,
    step: u64,
    pause: Duration,
    unpaused: Cell<u64>,
    bytes: Cell<u64>,
    goes_on: Cell<bool>,
}

impl Pace {
    /// After so many bytes; whether to go on.
    async fn after(&self, bytes: u64) -> bool {
        let pacing = &self.0;
        pacing.bytes.set(pacing.bytes.get() + bytes);
        let unpaused = pacing.unpaused.get() + bytes;
        if unpaused < pacing.step {
            pacing.unpaused.set(unpaused);
            pacing.core.yield_now().await;
        } else {
            pacing.unpaused.set(0);
            let pauses = u32::try_from(unpaused / pacing.step).unwrap_or(u32::MAX);
            pacing.core.sleep(pacing.pause.saturating_mul(pauses)).await;
        }
        pacing.goes_on.get()
    }
}

impl Watch for Pace {
    fn pause(&self, bytes: u64) -> LocalBoxFuture<'static, bool> {
        let pace = self.clone();
        Box::pin(async move { pace.after(bytes).await })
    }
}

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let given = settings.clone();
    let measured =
        run(CoreId(0), &Config::default(), move |core| async move { measure(&core, &given).await });
    let measured = measured.context("io_uring cannot be used on this machine")??;
    let results = tell(&settings, &measured);
    if let Some(path) = &settings.json {
        let all = json!({ "depth": settings.depth, "delay_us": settings.delay, "results": results });
        std::fs::write(path, format!("{all:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Medians of the rounds, and how much longer it took than in the same round with what is first.
fn tell(settings: &Settings, measured: &[Vec<Latency>]) -> Vec<serde_json::Value> {
    println!("beside     ops/s    p50 us   p99 us   p99 min..max       p50 +%   p99 +%   background MB/s");
    let seconds = settings.seconds as f64;
    let mut results = Vec::new();
    for (number, beside) in settings.beside.iter().enumerate() {
        let of = |field: fn(&Latency) -> f64| spread(measured.iter().map(|round| field(&round[number])));
        let longer = |field: fn(&Latency) -> f64| {
            let [_, median, _] =
                spread(measured.iter().map(|round| field(&round[number]) / field(&round[0]) - 1.0));
            100.0 * median
        };
        let [_, operations, _] = of(|latency| latency.operations as f64);
        let ([_, p50, _], [least, p99, most]) = (of(|latency| latency.p50), of(|latency| latency.p99));
        let (p50_longer, p99_longer) = (longer(|latency| latency.p50), longer(|latency| latency.p99));
        let [_, background, _] = of(|latency| latency.background as f64 / 1e6);
        let (rate, background) = (operations / seconds, background / seconds);
        let name = format!("{beside:?}").to_lowercase();
        println!(
            "{name:8} {rate:8.0} {p50:8.1} {p99:8.1}   {least:7.1}..{most:<7.1} {p50_longer:8.1} {p99_longer:8.1} {background:10.1}"
        );
        results.push(json!({
            "beside": name, "operations_per_second": rate, "p50_us": p50, "p99_us": p99, "p50_longer_percent": p50_longer,
            "p99_longer_percent": p99_longer, "background_mb_per_second": background,
        }));
    }
    results
}

/// Of each round, one for each that goes on beside.
async fn measure(core: &Core, settings: &Settings) -> anyhow::Result<Vec<Vec<Latency>>> {
    let objects = (settings.data << 20) / OBJECT_BYTES;
    let device = setup::device(objects, 0);
    let delay = Duration::from_micros(settings.delay);
    let engine = setup::make(core, &device, &Setup { delay, ..Setup::default() }).await?;
    let create = Op::CreateCollection { collection: COLLECTION, bits: 0 };
    engine.submit(Transaction { ops: vec![create] }).durable.await?;
    let load = Load { core, engine: &engine, objects, payload: noise(core) };
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds {
        let mut round = Vec::new();
        for beside in &settings.beside {
            load.scatter().await.context("scattering")?;
            round.push(load.one(settings, *beside).await?);
        }
        rounds.push(round);
    }
    engine.close().await?;
    Ok(rounds)
}

fn noise(core: &Core) -> Bytes {
    (0..OBJECT_BYTES / 8).flat_map(|_| core.random_u64().to_le_bytes()).collect()
}

/// A store with some objects.
struct Load<'a> {
    core: &'a Core,
    engine: &'a Engine,
    objects: u64,
    payload: Bytes,
}

impl Load<'_> {
    /// Writes all objects and takes every second block away, so that there is something to clear.
    async fn scatter(&self) -> StoreResult<()> {
        for number in 0..self.objects {
            self.write(number, 0, OBJECT_BYTES).await?;
            let holes = (0..OBJECT_BYTES).step_by(2 * BLOCK as usize).map(|at| at + BLOCK);
            let zero =
                |offset| Op::Zero { collection: COLLECTION, object: named(number), offset, len: BLOCK };
            self.engine.submit(Transaction { ops: holes.map(zero).collect() }).durable.await?;
        }
        Ok(())
    }

    async fn one(&self, settings: &Settings, beside: Beside) -> anyhow::Result<Latency> {
        let (core, pause) = (self.core.clone(), Duration::from_millis(settings.pause));
        let (unpaused, bytes, goes_on) = (Cell::new(0), Cell::new(0), Cell::new(true));
        let pace = Pace(Rc::new(Pacing { core, step: settings.step << 10, pause, unpaused, bytes, goes_on }));
        let end = self.core.now().0 + settings.seconds * 1_000_000_000;
        let latencies = RefCell::new(Vec::new());
        let clients = (0..settings.depth).map(|_| async {
            while self.core.now().0 < end {
                let since = self.core.now().0;
                self.request(settings.writes).await?;
                latencies.borrow_mut().push((self.core.now().0 - since) as f64 / 1000.0);
            }
            StoreResult::Ok(())
        });
        let all = async {
            let done = try_join_all(clients).await;
            pace.0.goes_on.set(false);
            done.map(drop)
        };
        let (done, background) = join(all, self.repeat(beside, &pace)).await;
        done?;
        background.with_context(|| format!("{beside:?}"))?;
        let mut latencies = latencies.take();
        latencies.sort_by(f64::total_cmp);
        let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or(f64::NAN);
        let background = pace.0.bytes.get();
        Ok(Latency { operations: latencies.len(), p50: at(50), p99: at(99), background })
    }

    /// A random one of a client.
    async fn request(&self, writes: u64) -> StoreResult<()> {
        let (number, place) = (self.core.random_u64() % self.objects, self.core.random_u64());
        // Of the blocks that were left.
        let offset = place % (OBJECT_BYTES / BLOCK / 2) * 2 * BLOCK;
        if self.core.random_u64() % 100 < writes {
            return self.write(number, offset, BLOCK).await;
        }
        self.engine.read(COLLECTION, &named(number), offset, BLOCK).await.map(drop)
    }

    async fn write(&self, number: u64, offset: u64, bytes: u64) -> StoreResult<()> {
        let [from, to] = [offset, offset + bytes].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
        let data = vec![self.payload.slice(from..to)];
        let op = Op::Write { collection: COLLECTION, object: named(number), offset, data };
        self.engine.submit(Transaction { ops: vec![op] }).durable.await
    }

    /// Does what goes on beside the clients until they are done.
    async fn repeat(&self, beside: Beside, pace: &Pace) -> StoreResult<()> {
        match beside {
            Beside::Nothing => Ok(()),
            Beside::Scrub => {
                self.through_objects(SCRUB_BYTES, pace, |number, at| self.scrub(number, at)).await
            }
            Beside::Defrag => {
                self.through_objects(DEFRAG_BYTES, pace, |number, at| self.defragment(number, at)).await
            }
            Beside::Fsck => {
                while pace.0.goes_on.get() {
                    self.engine.fsck(FsckLevel::Deep, Rc::new(pace.clone())).await?;
                }
                Ok(())
            }
            Beside::Clear => {
                while pace.after(SCRUB_BYTES).await {
                    self.engine.clear_space(Rc::new(pace.clone())).await?;
                }
                Ok(())
            }
        }
    }

    /// Goes through all objects, in parts of so many bytes; `part` tells how many it read and wrote.
    async fn through_objects<F: Future<Output = StoreResult<u64>>>(
        &self,
        bytes: u64,
        pace: &Pace,
        part: impl Fn(u64, u64) -> F,
    ) -> StoreResult<()> {
        loop {
            for number in 0..self.objects {
                for at in (0..OBJECT_BYTES / bytes).map(|index| index * bytes) {
                    let done = part(number, at).await?;
                    if !pace.after(done.max(BLOCK)).await {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn scrub(&self, number: u64, at: u64) -> StoreResult<u64> {
        let hints = AccessHints::VERIFY;
        self.engine.read_with(COLLECTION, &named(number), at, SCRUB_BYTES, hints).await?;
        Ok(SCRUB_BYTES)
    }

    async fn defragment(&self, number: u64, at: u64) -> StoreResult<u64> {
        let object = named(number);
        let found = self.engine.fragments(COLLECTION, &object, at, DEFRAG_BYTES).await?;
        if found.pieces <= 1 {
            return Ok(0);
        }
        let op = Op::Defragment { collection: COLLECTION, object, offset: at, len: DEFRAG_BYTES };
        self.engine.submit(Transaction { ops: vec![op] }).durable.await?;
        Ok(2 * found.bytes)
    }
}

fn named(number: u64) -> ObjectId {
    ObjectId {
        pool: COLLECTION.pool,
        hash: u32::try_from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or(0),
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::from(format!("object.{number:08x}")),
        snap: ObjectId::HEAD,
    }
}
