//! Compares the runtime's two real backends on the same code: CPU per echoed message, CPU per read from a file.
//!
//! Expected before the first run (from probes with hand-written loops): 7 us of server CPU per 4 KiB round trip at 64
//! connections on our reactor and 11 to 13 on glommio; 43 and 70 at one connection, where each round trip pays a
//! wake-up; 5 to 6 and 6 to 8 us per read, where the device's rate hides most of the difference.
//!
//! Rounds are interleaved, uring glommio uring glommio; the medians count. CPU is that of the whole process without
//! the clients' thread, so helper threads of a backend count as its own.

#![expect(
    unsafe_code,
    reason = "blocks for O_DIRECT, operations of its own on the ring, and clocks of threads"
)]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends the program")]

mod backend;
mod echo;
mod read;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use backend::{BACKENDS, Backend, Sample};
use echo::MESSAGE_BYTES;
use read::{BLOCK_BYTES, DEPTH};

/// Compare our io_uring reactor and glommio: CPU per message and per read.
#[derive(Parser)]
#[command(after_help = "Example:\n  cargo run --release -p reactors -- --rounds 5 --only echo")]
struct Settings {
    /// Seconds of a measurement.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Measurements of each backend.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// MiB of the file that is read.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    file_mib: u32,
    /// Folder for that file; it needs direct I/O.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Only comparisons whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// Write JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    run(&Settings::parse())
}

fn run(settings: &Settings) -> anyhow::Result<()> {
    let time = Duration::try_from_secs_f64(settings.seconds).context("--seconds")?;
    let mut results = Vec::new();
    let wanted = |name: &str| name.contains(&settings.only);
    for connections in [1, 64] {
        let name = format!("echo of {MESSAGE_BYTES} bytes, {connections} connections");
        if wanted(&name) {
            results.push(compare(&name, settings, |backend| echo::echo(backend, connections, time)));
        }
    }
    let name = format!("read of {BLOCK_BYTES} bytes from a file, depth {DEPTH}");
    if wanted(&name) {
        let file = tempfile::NamedTempFile::new_in(&settings.folder)
            .with_context(|| format!("cannot make a file in {}", settings.folder.display()))?;
        read::fill(file.as_file(), settings.file_mib)?;
        results.push(compare(&name, settings, |backend| read::read(backend, file.path(), time)));
    }
    if let Some(path) = &settings.json {
        let json = serde_json::json!({ "seconds": settings.seconds, "results": results });
        std::fs::write(path, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Runs interleaved rounds, prints and gives the medians.
fn compare(name: &str, settings: &Settings, measure: impl Fn(Backend) -> Sample) -> serde_json::Value {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..settings.rounds {
        for (backend, samples) in BACKENDS.into_iter().zip(&mut samples) {
            samples.push(measure(backend));
        }
    }
    println!("{name}");
    let mut values = serde_json::Map::new();
    values.insert("name".into(), name.into());
    let mut medians = Vec::new();
    for (backend, samples) in BACKENDS.into_iter().zip(&samples) {
        let cpu = spread(samples.iter().map(|sample| sample.cpu.as_secs_f64() * 1e6 / sample.ops as f64));
        let rate = spread(samples.iter().map(|sample| sample.ops as f64 / sample.time.as_secs_f64()));
        println!(
            "  {:8} {:7.2} us CPU each ({:.2} to {:.2})   {:9.0}/s",
            backend.name(),
            cpu[1],
            cpu[0],
            cpu[2],
            rate[1]
        );
        medians.push(cpu[1]);
        let numbers = serde_json::json!({
            "cpu_us_min": cpu[0], "cpu_us_median": cpu[1], "cpu_us_max": cpu[2], "per_second_median": rate[1],
        });
        values.insert(backend.name().into(), numbers);
    }
    println!("  glommio / uring: {:.2}", medians[1] / medians[0]);
    values.insert("ratio".into(), (medians[1] / medians[0]).into());
    values.into()
}

/// Least, median and most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_backends_are_measured() {
        let folder = PathBuf::from(".");
        let out = tempfile::NamedTempFile::new().unwrap();
        let json = Some(out.path().to_owned());
        let settings = Settings { seconds: 0.03, rounds: 1, file_mib: 4, folder, only: String::new(), json };
        run(&settings).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(out.path()).unwrap()).unwrap();
        let results = told["results"].as_array().unwrap();
        assert_eq!(results.len(), 3);
        for result in results {
            assert!(result["ratio"].as_f64().unwrap() > 0.0, "{result}");
        }
    }
}
