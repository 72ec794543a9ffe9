//! `sim`: runs the cluster simulator for one seed or many.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{panic, thread};

use clap::Parser;
use sim::{Counts, Outcome, Scenario};

/// Runs a whole cluster (clients, monitor, OSDs, disks, network) in one thread from one seed, crashes it at will, and
/// checks that nothing acknowledged is ever lost.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: 0 if every seed passed.\n\nExamples:\n  sim --seed 1 --count 200\n  \
                  sim --seed 4711 --trace trace.txt\n  sim --seed 1 --count 200 --twice"
)]
struct Cli {
    /// First seed.
    #[arg(long)]
    seed: u64,
    /// Number of seeds.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Least number of requests in each run.
    #[arg(long, default_value_t = 500)]
    operations: u64,
    /// Least number of OSD crashes in each run.
    #[arg(long, default_value_t = 5)]
    crashes: u64,
    /// Runs at a time. Default: the machine's cores.
    #[arg(long)]
    jobs: Option<usize>,
    /// Runs every seed twice and compares the hashes.
    #[arg(long)]
    twice: bool,
    /// Writes every event of the last seed to this file.
    #[arg(long)]
    trace: Option<std::path::PathBuf>,
    /// Prints a line of JSON for every seed.
    #[arg(long)]
    json: bool,
    /// A bug to plant (needs the feature `planted`); the run is then expected to fail.
    #[cfg(feature = "planted")]
    #[arg(long)]
    planted: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::new().filter_level(log::LevelFilter::Off).parse_env("SPIRULA_LOG").init();
    // A panic in a run is that seed's failure; its text is in the outcome.
    panic::set_hook(Box::new(|_| {}));
    let jobs = cli.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
    let next = AtomicU64::new(cli.seed);
    let end = cli.seed.saturating_add(cli.count);
    let results = Mutex::new((Counts::default(), Vec::new(), 0_u64));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = run(&cli, seed);
                    if cli.json {
                        println!("{}", outcome.json());
                    }
                    let Ok(mut results) = results.lock() else { return };
                    results.0.add(&outcome.counts);
                    results.2 += 1;
                    if let Some(failure) = outcome.failure {
                        println!("seed {seed} FAILED (sim --seed {seed}): {failure}");
                        results.1.push(seed);
                    } else if cli.count == 1 && !cli.json {
                        println!("seed {seed} passed, hash {:016x}", outcome.hash);
                    }
                }
            });
        }
    });
    let Ok((counts, failed, runs)) = results.into_inner() else { return ExitCode::FAILURE };
    if !cli.json {
        println!("{counts}");
        println!("{} passed, {} failed", runs - failed.len() as u64, failed.len());
    }
    if failed.is_empty() && runs == cli.count { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(cli: &Cli, seed: u64) -> Outcome {
    let once = || {
        let scenario = Scenario::new(seed, cli.operations, cli.crashes, cli.trace.is_some());
        #[cfg(feature = "planted")]
        let scenario = scenario.with_planted(cli.planted.as_deref());
        sim::run(&scenario, cli.trace.as_deref())
    };
    let mut outcome = once();
    if cli.twice && outcome.failure.is_none() {
        let again = once();
        if again.hash != outcome.hash {
            outcome.failure = Some(format!(
                "not deterministic: hash {:016x}, then {:016x} ({} and {} events)",
                outcome.hash, again.hash, outcome.counts.events, again.counts.events
            ));
        }
    }
    outcome
}
