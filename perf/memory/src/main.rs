//! Whether a store with RocksDB keeps within its memory: random operations on more objects than memory holds, and the most
//! that the process ever had resident, as the kernel counted it.

#![expect(unsafe_code, reason = "counts what is allocated")]

mod counted;
mod load;
mod setup;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rt::sync::{Either, select};
use rt::uring::{Config, run};
use rt::{Core, CoreId};
use serde_json::json;
use store::{Engine, MemoryKind, ObjectStore, StoreStats};

use load::{Length, Load};

#[global_allocator]
static ALLOCATOR: counted::Counted = counted::Counted;

/// How often what is held is looked at, by kind.
const INTERVAL: Duration = Duration::from_millis(50);
/// How often standard error is told how far it is.
const TELL_INTERVAL: Duration = Duration::from_secs(60);
/// The process may have so many percent more than its target.
const TOLERANCE_PERCENT: u64 = 10;

/// Run random operations on a store in a file and see that the process never takes more memory than it may.
#[derive(Parser, Clone)]
#[command(after_help = "Exit status: 0 it kept within its memory, 1 it could not run, 2 it took more.

Examples:
  cargo run --release -p memory -- --memory 256 --operations 100000 --minutes 1
  cargo run --release -p memory -- --memory 512 --gigabytes 16 --operations 100000000 --minutes 120")]
struct Settings {
    /// MiB of memory for the store.
    #[arg(long, default_value_t = 256)]
    memory: u64,
    /// Operations at least.
    #[arg(long, default_value_t = 100_000)]
    operations: u64,
    /// Minutes at least.
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Operations in flight.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    depth: u16,
    /// GiB of the file; objects take up to a quarter of it, and their keys as much.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1024))]
    gigabytes: u64,
    /// KiB of the largest object: the smaller, the more objects and the more operations a second.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(4..=65536))]
    object_kib: u64,
    /// Folder for the file, which is removed at the end. Default: that for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Write JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Memory of the kinds that RocksDB allocates.
fn is_foreign(kind: MemoryKind) -> bool {
    matches!(kind, MemoryKind::KvCache | MemoryKind::KvTables)
}

/// What was measured.
struct Outcome {
    operations: u64,
    refused: u64,
    /// Most bytes by kind, and of all together.
    most: BTreeMap<&'static str, u64>,
    /// Most bytes that were resident, by the kernel's count.
    resident_most: u64,
    last: StoreStats,
    /// Bytes at the end that were accounted, and that were allocated since the store was opened; what RocksDB has left out.
    accounted: u64,
    allocated: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let settings = Settings::parse();
    let length = Length { operations: settings.operations, time: Duration::from_secs(60 * settings.minutes) };
    let outcome = measure(&settings, length)?;
    let target = settings.memory << 20;
    tell(&outcome, target);
    if let Some(path) = &settings.json {
        let text = format!("{:#}\n", as_json(&outcome, target));
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if outcome.resident_most <= allowed(target) { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn allowed(target: u64) -> u64 {
    target + target * TOLERANCE_PERCENT / 100
}

fn measure(settings: &Settings, length: Length) -> anyhow::Result<Outcome> {
    let folder = settings.folder.clone().unwrap_or_else(std::env::temp_dir);
    let path = folder.join(format!("spirula-memory-{}", uuid::Uuid::new_v4()));
    let (given, file) = (settings.clone(), path.clone());
    let measured = run(CoreId(0), &Config::default(), move |core| async move {
        let size = given.gigabytes << 30;
        let engine = setup::make(&core, &file, size, given.memory << 20).await?;
        let object_bytes = given.object_kib << 10;
        // Keys take about as much as data, and a full device is another matter.
        let objects = u32::try_from(size / 4 / object_bytes)?;
        let load = Load::new(&core, &engine, objects, object_bytes).await?;
        let own = |engine: &Engine| {
            let memory = engine.stats().memory;
            memory.iter().filter(|used| !is_foreign(used.kind)).map(|used| used.bytes).sum::<u64>()
        };
        let (own_before, allocated_before) = (own(&engine), counted::bytes());
        let mut most = BTreeMap::new();
        let watching = Box::pin(watch(&core, &engine, &mut most));
        let telling = Box::pin(tell_how_far(&core, &load, length));
        let beside = select(watching, telling);
        match select(Box::pin(load.run(length, given.depth)), Box::pin(beside)).await {
            Either::Left(done) => done?,
            Either::Right(Either::Left(never) | Either::Right(never)) => match never {},
        }
        let last = engine.stats();
        let accounted = own(&engine).saturating_sub(own_before);
        let allocated = counted::bytes().saturating_sub(allocated_before);
        engine.close().await?;
        let (operations, refused) = load.counts();
        let resident_most = resident_most()?;
        anyhow::Ok(Outcome { operations, refused, most, resident_most, last, accounted, allocated })
    });
    let removed = std::fs::remove_file(&path);
    let outcome = measured.context("io_uring cannot be used on this machine")??;
    removed.with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(outcome)
}

enum Never {}

async fn watch(core: &Core, engine: &Engine, most: &mut BTreeMap<&'static str, u64>) -> Never {
    loop {
        let mut all = 0;
        for used in engine.stats().memory {
            all += used.bytes;
            let seen = most.entry(used.kind.name()).or_default();
            *seen = used.bytes.max(*seen);
        }
        let seen = most.entry("accounted, together").or_default();
        *seen = all.max(*seen);
        let seen = most.entry("resident, now and then").or_default();
        *seen = core.resident_bytes().unwrap_or(0).max(*seen);
        core.sleep(INTERVAL).await;
    }
}

/// A run to a hundred million operations takes hours.
async fn tell_how_far(core: &Core, load: &Load<'_>, length: Length) -> Never {
    let since = core.now();
    loop {
        core.sleep(TELL_INTERVAL).await;
        let minutes = (core.now().0 - since.0) / 60_000_000_000;
        let (operations, refused) = load.counts();
        let resident = resident_most().map_or("unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        eprintln!(
            "{minutes} of {} minutes: {operations} of {} operations, {refused} refused; resident at most {resident}",
            length.time.as_secs() / 60,
            length.operations
        );
    }
}

/// The most that this process ever had resident, bytes.
fn resident_most() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.split_ascii_whitespace().next().context("VmHWM without a number")?.parse()?;
    Ok(kib << 10)
}

fn as_json(outcome: &Outcome, target: u64) -> serde_json::Value {
    json!({
        "operations": outcome.operations,
        "refused": outcome.refused,
        "target_bytes": target,
        "resident_bytes_max": outcome.resident_most,
        "bytes_max": outcome.most,
        "accounted_bytes": outcome.accounted,
        "allocated_bytes": outcome.allocated,
        "counters": outcome.last.counters.iter().copied().collect::<BTreeMap<_, _>>(),
    })
}

fn tell(outcome: &Outcome, target: u64) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("{} operations, {} of them refused for want of space", outcome.operations, outcome.refused);
    for (kind, bytes) in &outcome.most {
        println!("{kind:24} {:8.1} MiB at most", mib(*bytes));
    }
    let resident = outcome.resident_most;
    println!("resident                 {:8.1} MiB at most, of {:.0} allowed", mib(resident), mib(target));
    let (accounted, allocated) = (mib(outcome.accounted), mib(outcome.allocated));
    println!("{accounted:.1} MiB accounted at the end, {allocated:.1} allocated, without what RocksDB has");
    let counter =
        |name: &str| outcome.last.counters.iter().find(|(known, _)| *known == name).map_or(0, |c| c.1);
    for name in
        ["cache_hits", "cache_misses", "data_cache_hits", "data_cache_misses", "memory_short", "memory_waits"]
    {
        println!("{name:24} {:8}", counter(name));
    }
    if resident > allowed(target) {
        println!("that is more than {TOLERANCE_PERCENT} % above what is allowed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_keeps_within_its_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            memory: 160,
            operations: 5000,
            minutes: 0,
            depth: 16,
            gigabytes: 2,
            object_kib: 1024,
            folder: Some(folder.path().to_owned()),
            json: None,
        };
        let length = Length { operations: 5000, time: Duration::from_secs(10) };
        let outcome = measure(&settings, length).expect("runs");
        let target = settings.memory << 20;
        tell(&outcome, target);
        assert!(outcome.operations >= 5000 && outcome.most.values().all(|bytes| *bytes > 0));
        assert!(outcome.most["data"] > 1 << 20, "something is kept: {:?}", outcome.most);
        // What is accounted is what is allocated, but for what few bytes nobody counts.
        let difference = outcome.accounted.abs_diff(outcome.allocated);
        assert!(
            difference <= outcome.allocated / 5 + (4 << 20),
            "{} and {}",
            outcome.accounted,
            outcome.allocated
        );
        assert!(outcome.resident_most <= allowed(target), "{} bytes", outcome.resident_most);
    }
}
