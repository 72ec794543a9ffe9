//! The engine alone, on a device in memory and one core: what a read and a durable write cost before any network.
//!
//! Expected before the first run: a 4 KiB read is a lookup in the onode cache, a copy of a block and its crc32c, about
//! 1.5 us; a durable overwrite is a block in new space, an extent map of 32 checksums encoded anew, a record and a log
//! entry, about 5 us, and checkpoints on top.
//!
//! Loads are interleaved, round after round; medians count. CPU is that of the core's thread and, apart, of the
//! process's other threads, which run RocksDB.

mod load;

use std::path::PathBuf;
use std::sync::{Arc, Barrier};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use engine::setup::{self, Kv, Setup};
use engine::spread;
use nvme::PooledBuffers;
use rt::uring::{Config, run, spawn_core};
use rt::{Core, CoreId};
use serde_json::json;

use load::{Dataset, Load, Sample, WHOLES};

/// Bytes of the device for an object that is written whole, its keys included.
const WHOLE_BYTES: u64 = 8 << 10;

/// Measure the engine alone on a device in memory: operations per second of one core, and CPU per operation.
#[derive(Parser, Clone)]
#[command(after_help = "Examples:
  cargo run --release -p engine
  cargo run --release -p engine -- --only overwrite --depth 1
  cargo run --release -p engine -- --cores 2 --kv memory
  cargo run --release -p engine -- --only read --objects 32 --read-blocks 256 --data-cache 0
  valgrind --tool=callgrind target/release/engine --warm-up 0 --rounds 1 --operations 20000 --kv memory")]
struct Settings {
    /// Operations of a measurement.
    #[arg(long, default_value_t = 200_000)]
    operations: u64,
    /// Measurements of each load.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Rounds before these that are not counted: memory of the device is written for the first time, and caches fill.
    #[arg(long, default_value_t = 1)]
    warm_up: u16,
    /// Operations in flight.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    depth: u16,
    /// Objects, each of 4 MiB but for those that are written whole.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    objects: u32,
    /// Bytes of the small ones among these.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..=4096))]
    small: u16,
    /// Objects of at most so many bytes are kept among the keys. Default: as the OSD does.
    #[arg(long)]
    inline: Option<u16>,
    /// MiB of blocks that are kept in memory. Default: as the OSD does without a target.
    #[arg(long)]
    data_cache: Option<u64>,
    /// Reads go to so many of each object's first blocks only, so that memory holds them.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1024))]
    read_blocks: u64,
    /// Placement groups.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    groups: u32,
    /// What keeps the keys.
    #[arg(long, default_value = "rocksdb")]
    kv: Kv,
    /// Cores, each with a store of its own; with several, each load is done by the first alone and then by all at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    cores: u16,
    /// One load only.
    #[arg(long)]
    only: Option<Load>,
    /// Write JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    measure(&Settings::parse())
}

/// Samples of each load: of the first core while it is alone, and of all cores at once if there are several.
#[derive(Default)]
struct Measured {
    alone: Vec<Sample>,
    /// The same moment of each core.
    together: Vec<Vec<Sample>>,
}

fn measure(settings: &Settings) -> anyhow::Result<()> {
    let loads: Vec<Load> = Load::value_variants().to_vec();
    let loads: Vec<Load> =
        loads.into_iter().filter(|load| settings.only.is_none_or(|only| only == *load)).collect();
    let start = Arc::new(Barrier::new(settings.cores.into()));
    let others: Vec<_> = (1..settings.cores)
        .map(|number| {
            let (given, loads, start) = (settings.clone(), loads.clone(), start.clone());
            spawn_core(CoreId(number), Config::default(), move |core| async move {
                one_core(&core, &given, &loads, &start).await
            })
        })
        .collect::<Result<_, _>>()
        .context("io_uring cannot be used on this machine")?;
    let (given, on_first) = (settings.clone(), loads.clone());
    let first = run(CoreId(0), &Config::default(), move |core| async move {
        one_core(&core, &given, &on_first, &start).await
    });
    let mut measured = first.context("io_uring cannot be used on this machine")??;
    for other in others {
        let other = other.join().context("a core")??;
        for (all, own) in measured.iter_mut().zip(other) {
            all.together.iter_mut().zip(own.together).for_each(|(all, own)| all.extend(own));
        }
    }
    let results: Vec<_> = loads
        .iter()
        .zip(&measured)
        .map(|(load, measured)| {
            let mut told = tell(*load, settings, &measured.alone);
            if settings.cores > 1 {
                told["scaling"] = tell_scaling(*load, settings, measured);
            }
            told
        })
        .collect();
    if let Some(path) = &settings.json {
        let json = json!({ "operations": settings.operations, "depth": settings.depth, "results": results });
        std::fs::write(path, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What one core does: a store of its own, and each load in each round, alone if it is the first, then with all others.
async fn one_core(
    core: &Core,
    given: &Settings,
    loads: &[Load],
    start: &Barrier,
) -> anyhow::Result<Vec<Measured>> {
    let setup = Setup {
        kv: given.kv,
        inline: given.inline.map(u64::from),
        data_cache: given.data_cache.map(|mib| mib << 20),
        ..Setup::default()
    };
    let _pooled = PooledBuffers::begin();
    let objects = u64::from(given.objects);
    let device = setup::device(objects, objects * WHOLES * WHOLE_BYTES);
    let engine = setup::make(core, &device, &setup).await?;
    let data = Dataset::fill(core, &engine, &device, given).await?;
    let mut measured: Vec<Measured> = loads.iter().map(|_| Measured::default()).collect();
    for round in 0..u32::from(given.warm_up) + u32::from(given.rounds) {
        let counts = round >= given.warm_up.into();
        for (load, measured) in loads.iter().zip(&mut measured) {
            // Whoever has nothing to do sleeps.
            start.wait();
            if core.id() == CoreId(0) {
                let sample = data.run(*load, given.operations, given.depth.into()).await?;
                measured.alone.extend(Some(sample).filter(|_| counts));
            }
            start.wait();
            if given.cores > 1 {
                let sample = data.run(*load, given.operations, given.depth.into()).await?;
                measured.together.extend(Some(vec![sample]).filter(|_| counts));
            }
        }
    }
    setup::close(&engine).await?;
    Ok(measured)
}

/// Prints and gives how much more all cores do at once than the first alone.
fn tell_scaling(load: Load, settings: &Settings, measured: &Measured) -> serde_json::Value {
    let operations = settings.operations as f64;
    let rate = |sample: &Sample| operations / sample.took.as_secs_f64();
    let us = |sample: &Sample| sample.core.as_secs_f64() * 1e6 / operations;
    let alone = spread(measured.alone.iter().map(rate))[1];
    let together = spread(measured.together.iter().map(|cores| cores.iter().map(rate).sum()))[1];
    let times = spread(
        measured
            .alone
            .iter()
            .zip(&measured.together)
            .map(|(alone, together)| together.iter().map(rate).sum::<f64>() / rate(alone)),
    );
    let cpu_alone = spread(measured.alone.iter().map(us))[1];
    let cpu = spread(measured.together.iter().flatten().map(us))[1];
    let all = measured.together.iter().flatten();
    let wakes = spread(all.map(|sample| sample.foreign_wakes as f64 / operations));
    println!(
        "{:10} {} cores: {together:8.0} per second, {:.2} times as many as one alone, {alone:.0} ({:.2} to {:.2}); CPU each {cpu:.2} us, \
         {cpu_alone:.2} alone; {:.5} wakes by other threads",
        load.name(),
        settings.cores,
        times[1],
        times[0],
        times[2],
        wakes[1]
    );
    json!({
        "cores": settings.cores, "per_second_alone": alone, "per_second": together, "times_min": times[0],
        "times_median": times[1], "times_max": times[2], "core_us_alone": cpu_alone, "core_us": cpu,
        "foreign_wakes_median": wakes[1],
    })
}

/// Prints and gives the medians of a load.
fn tell(load: Load, settings: &Settings, samples: &[Sample]) -> serde_json::Value {
    let operations = settings.operations as f64;
    let us =
        |value: fn(&Sample) -> f64| spread(samples.iter().map(|sample| value(sample) * 1e6 / operations));
    let core = us(|sample| sample.core.as_secs_f64());
    let others = us(|sample| sample.others.as_secs_f64());
    let rate = spread(samples.iter().map(|sample| operations / sample.core.as_secs_f64()));
    let bytes = spread(samples.iter().map(|sample| sample.device_bytes as f64 / operations));
    let all_bytes = spread(samples.iter().map(|sample| sample.all_bytes as f64 / operations));
    let flushes = spread(samples.iter().map(|sample| sample.flushes as f64 / operations));
    let tasks = spread(samples.iter().map(|sample| sample.tasks as f64 / operations));
    println!(
        "{:10} depth {:3}: {:6.2} us CPU each ({:.2} to {:.2}), {:8.0} per second of the core; other threads {:5.2} us; \
         {:5.0} device bytes, {:5.0} with the keys', {:.3} flushes, {:.1} tasks",
        load.name(),
        settings.depth,
        core[1],
        core[0],
        core[2],
        rate[1],
        others[1],
        bytes[1],
        all_bytes[1],
        flushes[1],
        tasks[1]
    );
    json!({
        "load": load.name(), "core_us_min": core[0], "core_us_median": core[1], "core_us_max": core[2],
        "per_core_second_median": rate[1], "other_threads_us_median": others[1],
        "device_bytes_median": bytes[1], "all_bytes_median": all_bytes[1], "flushes_median": flushes[1], "tasks_median": tasks[1],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_is_measured_over_both_stores() {
        for (kv, cores) in [(Kv::Memory, 2), (Kv::Rocksdb, 1)] {
            let folder = tempfile_dir();
            let json = folder.join("result.json");
            let settings = Settings {
                operations: 300,
                rounds: 1,
                warm_up: 1,
                depth: 8,
                objects: 2,
                groups: 2,
                small: 512,
                inline: Some(1024),
                data_cache: Some(1),
                read_blocks: 100,
                kv,
                cores,
                only: None,
                json: Some(json.clone()),
            };
            measure(&settings).expect("runs");
            let text = std::fs::read_to_string(&json).expect("written");
            std::fs::remove_dir_all(&folder).expect("removed");
            let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let results = told["results"].as_array().expect("a list");
            assert_eq!(results.len(), Load::value_variants().len());
            for result in results {
                assert_eq!(result["scaling"]["times_median"].as_f64().is_some(), cores > 1, "{result}");
                let is_read = result["load"] == "read";
                assert!(result["core_us_median"].as_f64().expect("a number") > 0.0, "{result}");
                assert_eq!(
                    result["device_bytes_median"].as_f64().expect("a number") < 1.0,
                    is_read,
                    "{result}"
                );
            }
        }
    }

    fn tempfile_dir() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("engine-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).expect("made");
        folder
    }
}
