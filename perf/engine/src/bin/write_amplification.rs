//! Device bytes per byte that a client writes, journal, keys and their compaction included, once that is level.
//!
//! The device is in memory and a small model of a large one: the overlay and RocksDB's memtables are as much smaller than usual
//! as it is, so that what is written over is many times as large as both. I/Os are delayed, so that groups form.
//!
//! Expected before the first run, for 4 KiB over random blocks at depth 32: 1 for the data, 0.25 for records of 1 kB, and for
//! the same kilobyte in RocksDB a flush and two or three compactions, 0.75 to 1; depth 1 adds the padding of a group to a block.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use engine::setup::{self, OBJECT_BYTES, Setup};
use futures_util::future::try_join_all;
use nvme::MemoryDevice;
use rt::uring::{Config, run};
use rt::{Core, CoreId};
use serde_json::json;
use store::{CollectionId, Engine, LogVersion, ObjectId, ObjectStore, Op, StoreResult, Transaction};

/// Bytes of a placement group's log entry for an image's object, and of an object's info: `pg`'s tests hold its own to that.
const LOG_ENTRY_BYTES: usize = 106;
const INFO_BYTES: usize = 23;
/// Placement groups.
const GROUPS: u32 = 16;
/// Two phases in a row that differ by less are level.
const LEVEL: f64 = 0.02;
/// Phases at most.
const PHASES_MAX: u32 = 12;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pattern {
    /// Over random places of objects of 4 MiB.
    Overwrite,
    /// Behind the end of objects, up to 4 MiB each; the oldest object goes for each new one.
    Append,
    /// Objects of that size; the oldest goes for each new one.
    New,
}

/// Measure how many bytes reach the device for each byte written, by layer.
#[derive(Parser, Clone)]
#[command(after_help = "Examples:
  cargo run --release -p engine --bin write_amplification
  cargo run --release -p engine --bin write_amplification -- --bytes 4096 --depth 32 --pattern overwrite")]
struct Settings {
    /// Bytes of a write; several.
    #[arg(long, default_values_t = [4 << 10, 16 << 10, 64 << 10, 4 << 20])]
    bytes: Vec<u64>,
    /// Writes in flight; several.
    #[arg(long, default_values_t = [1, 32])]
    depth: Vec<u64>,
    /// What is written; several.
    #[arg(long, default_values = ["overwrite", "append", "new"])]
    pattern: Vec<Pattern>,
    /// MiB of data that there is.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u64).range(64..))]
    data: u64,
    /// MiB written in a phase; phases are repeated until two give the same.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    phase: u64,
    /// KiB of the overlay, and of RocksDB's memtables.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(64..))]
    overlay: u64,
    /// KiB of an object's shard. Default: as the OSD does.
    #[arg(long)]
    shard: Option<u32>,
    /// What an I/O takes, in microseconds.
    #[arg(long, default_value_t = 50)]
    delay: u64,
    /// Write JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Device bytes, by layer.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    client: u64,
    data: u64,
    journal: u64,
    deferred: u64,
    pg_log: u64,
    all: u64,
    /// Records and groups of the journal.
    records: u64,
    groups: u64,
}

/// A store, and what there is in it.
struct Load<'a> {
    core: &'a Core,
    engine: &'a Engine,
    device: &'a MemoryDevice,
    payload: Bytes,
    bytes: u64,
    /// Objects that there are, the oldest first, and the next one's number.
    objects: Cell<u64>,
    next: Cell<u64>,
    /// Where the newest object ends.
    end: Cell<u64>,
    client: Cell<u64>,
    versions: RefCell<BTreeMap<CollectionId, u64>>,
}

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let mut results = Vec::new();
    println!("bytes    depth pattern    all   data  journal deferred pg log  keys   phases  records/group");
    for pattern in &settings.pattern {
        for bytes in &settings.bytes {
            for depth in &settings.depth {
                let (given, pattern, bytes, depth) = (settings.clone(), *pattern, *bytes, *depth);
                let measured = run(CoreId(0), &Config::default(), move |core| async move {
                    measure(&core, &given, pattern, bytes, depth).await
                });
                let (written, phases) = measured.context("io_uring cannot be used on this machine")??;
                results.push(tell(pattern, bytes, depth, &written, phases));
            }
        }
    }
    if let Some(path) = &settings.json {
        let json = json!({ "data_mib": settings.data, "overlay_kib": settings.overlay, "results": results });
        std::fs::write(path, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn tell(pattern: Pattern, bytes: u64, depth: u64, written: &Written, phases: u32) -> serde_json::Value {
    let per = |device: u64| device as f64 / written.client as f64;
    let own = written.data + written.journal + written.deferred + written.pg_log;
    let keys = per(written.all.saturating_sub(own));
    println!(
        "{bytes:8} {depth:5} {:9} {:5.3}  {:5.3}  {:5.3}   {:5.3}    {:5.3}  {keys:5.3}  {phases:3}     {:7.2}",
        format!("{pattern:?}").to_lowercase(),
        per(written.all),
        per(written.data),
        per(written.journal),
        per(written.deferred),
        per(written.pg_log),
        written.records as f64 / written.groups as f64,
    );
    json!({
        "bytes": bytes, "depth": depth, "pattern": format!("{pattern:?}").to_lowercase(), "all": per(written.all),
        "data": per(written.data), "journal": per(written.journal), "deferred": per(written.deferred),
        "pg_log": per(written.pg_log), "keys": keys, "phases": phases,
        "records_per_group": written.records as f64 / written.groups as f64,
    })
}

/// The last phase, and how many there were.
async fn measure(
    core: &Core,
    settings: &Settings,
    pattern: Pattern,
    bytes: u64,
    depth: u64,
) -> anyhow::Result<(Written, u32)> {
    ensure!(
        bytes > 0 && OBJECT_BYTES.is_multiple_of(bytes),
        "{bytes} bytes are no whole part of {OBJECT_BYTES}"
    );
    let data = settings.data << 20;
    let device = setup::device(data / OBJECT_BYTES, 0);
    let setup = Setup {
        overlay: Some(settings.overlay << 10),
        shard_span: settings.shard.map(|kib| kib << 10),
        delay: Duration::from_micros(settings.delay),
        ..Setup::default()
    };
    let engine = setup::make(core, &device, &setup).await?;
    let bits = u8::try_from(GROUPS.trailing_zeros())?;
    let create =
        (0..GROUPS).map(|seed| Op::CreateCollection { collection: CollectionId { pool: 1, seed }, bits });
    engine.submit(Transaction { ops: create.collect() }).durable.await?;
    let load = Load {
        core,
        engine: &engine,
        device: &device,
        payload: (0..OBJECT_BYTES / 8).flat_map(|_| core.random_u64().to_le_bytes()).collect(),
        bytes,
        objects: Cell::new(0),
        next: Cell::new(0),
        end: Cell::new(OBJECT_BYTES),
        client: Cell::new(0),
        versions: RefCell::default(),
    };
    let size = if pattern == Pattern::New { bytes } else { OBJECT_BYTES };
    let fill = (0..32).map(|_| async {
        while load.objects.get() < data / size {
            let number = load.another();
            load.write(number, 0, size, None).await?;
        }
        StoreResult::Ok(())
    });
    try_join_all(fill).await.context("filling")?;
    let mut before: Option<f64> = None;
    for phase in 1..=PHASES_MAX {
        let from = load.reading();
        let writers = (0..depth).map(|_| async {
            while load.client.get() < from.client + (settings.phase << 20) {
                load.one(pattern).await?;
            }
            StoreResult::Ok(())
        });
        try_join_all(writers).await?;
        let written = load.reading().since(&from);
        let ratio = written.all as f64 / written.client as f64;
        if before.is_some_and(|before| (ratio / before - 1.0).abs() < LEVEL) || phase == PHASES_MAX {
            engine.close().await?;
            return Ok((written, phase));
        }
        before = Some(ratio);
    }
    anyhow::bail!("there are no phases")
}

impl Load<'_> {
    async fn one(&self, pattern: Pattern) -> StoreResult<()> {
        match pattern {
            Pattern::Overwrite => {
                let number = self.core.random_u64() % self.objects.get();
                let offset = self.core.random_u64() % (OBJECT_BYTES / self.bytes) * self.bytes;
                self.write(number, offset, self.bytes, None).await
            }
            Pattern::New => {
                let oldest = self.oldest();
                let number = self.another();
                self.write(number, 0, self.bytes, Some(oldest)).await
            }
            Pattern::Append => {
                let offset = self.end.get() % OBJECT_BYTES;
                self.end.set(offset + self.bytes);
                let oldest = (offset == 0).then(|| self.oldest());
                let number = if offset == 0 { self.another() } else { self.next.get() - 1 };
                self.write(number, offset, self.bytes, oldest).await
            }
        }
    }

    fn another(&self) -> u64 {
        self.objects.set(self.objects.get() + 1);
        self.next.replace(self.next.get() + 1)
    }

    /// The oldest object, which counts no more.
    fn oldest(&self) -> u64 {
        let oldest = self.next.get() - self.objects.get();
        self.objects.set(self.objects.get() - 1);
        oldest
    }

    /// As a placement group does: the data, the object's info, and the entry of the log.
    async fn write(&self, number: u64, offset: u64, bytes: u64, gone: Option<u64>) -> StoreResult<()> {
        let (collection, object) = named(number);
        let start = self.core.random_u64() % (OBJECT_BYTES - bytes + 1);
        let [from, len] = [start, bytes].map(|bytes| usize::try_from(bytes).unwrap_or(0));
        let data = vec![self.payload.slice(from..from + len)];
        let attrs = BTreeMap::from([(Bytes::from_static(b"_"), self.payload.slice(..INFO_BYTES))]);
        let mut ops = vec![
            Op::Write { collection, object: object.clone(), offset, data },
            Op::SetAttrs { collection, object, attrs },
            self.entry(collection),
        ];
        if let Some(gone) = gone {
            let (collection, object) = named(gone);
            ops.extend([Op::Remove { collection, object }, self.entry(collection)]);
        }
        self.engine.submit(Transaction { ops }).durable.await?;
        self.client.set(self.client.get() + bytes);
        Ok(())
    }

    fn entry(&self, collection: CollectionId) -> Op {
        let mut versions = self.versions.borrow_mut();
        let version = versions.entry(collection).or_default();
        *version += 1;
        let version = LogVersion { epoch: 1, version: *version };
        Op::LogAppend { collection, version, entry: self.payload.slice(..LOG_ENTRY_BYTES) }
    }

    fn reading(&self) -> Written {
        let counters: BTreeMap<_, _> = self.engine.stats().counters.into_iter().collect();
        let of = |name: &str| counters.get(name).copied().unwrap_or_default();
        Written {
            client: self.client.get(),
            data: of("data_bytes_written"),
            journal: of("journal_bytes_written"),
            deferred: of("deferred_bytes_written"),
            pg_log: of("pg_log_bytes_written"),
            all: self.device.bytes_written(),
            records: of("records"),
            groups: of("groups"),
        }
    }
}

impl Written {
    fn since(&self, before: &Self) -> Self {
        Self {
            client: self.client - before.client,
            data: self.data - before.data,
            journal: self.journal - before.journal,
            deferred: self.deferred - before.deferred,
            pg_log: self.pg_log - before.pg_log,
            all: self.all - before.all,
            records: self.records - before.records,
            groups: self.groups - before.groups,
        }
    }
}

fn named(number: u64) -> (CollectionId, ObjectId) {
    let seed = u32::try_from(number % u64::from(GROUPS)).unwrap_or(0);
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let object = ObjectId {
        pool: 1,
        hash: u32::try_from(spread).unwrap_or(0) & !(GROUPS - 1) | seed,
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::from(format!("rbd_data.1234567890ab.{number:016x}")),
        snap: ObjectId::HEAD,
    };
    (CollectionId { pool: 1, seed }, object)
}
