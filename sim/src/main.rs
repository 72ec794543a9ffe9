//! `sim`: runs the cluster simulator for one seed or many.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use sim::{Floors, Outcome, Scenario, Summary};

#[cfg(feature = "planted")]
mod plant;

/// Runs a whole cluster (clients, monitor, OSDs, disks, network) in one thread from one seed, crashes it at will, and
/// checks that nothing acknowledged is ever lost.
#[derive(Parser)]
#[command(version, about, after_help = HELP)]
struct Cli {
    /// First seed.
    #[arg(long)]
    seed: u64,
    /// Number of seeds.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Least number of requests in each run.
    #[arg(long, default_value_t = Floors::default().operations)]
    operations: u64,
    /// Least number of OSD crashes in each run.
    #[arg(long, default_value_t = Floors::default().crashes)]
    crashes: u64,
    /// Runs at a time. Default: the machine's cores.
    #[arg(long)]
    jobs: Option<usize>,
    /// Runs every seed twice and compares the hashes.
    #[arg(long)]
    twice: bool,
    /// Ends at the first seed that fails.
    #[arg(long)]
    first: bool,
    /// Writes every event of the last seed to this file.
    #[arg(long)]
    trace: Option<std::path::PathBuf>,
    /// Prints a line of JSON for every seed.
    #[arg(long)]
    json: bool,
    /// A bug to plant; the run is then expected to fail. `all` plants one after the other and says which seed finds it.
    #[cfg(feature = "planted")]
    #[arg(long)]
    planted: Option<String>,
}

const HELP: &str = "\
Each run goes on until it reached its floors (requests, crashes, crashes while a journal is replayed, journals gone \
around three times, half of the space for data reused on each OSD), and fails if it cannot.
Exit status: 0 if every seed passed.

Examples:
  sim --seed 1 --count 200
  sim --seed 4711 --trace trace.txt
  sim --seed 1 --count 200 --twice
  cargo run --release -p sim --features planted -- --seed 1 --count 200 --planted all
      plants each known bug and shows the seed that finds it; fails if one is not found";

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::new().filter_level(log::LevelFilter::Off).parse_env("SPIRULA_LOG").init();
    sim::catch_panics();
    #[cfg(feature = "planted")]
    if cli.planted.as_deref() == Some("all") {
        return plant::all(&cli);
    }
    let (summary, failed) = run_seeds(&cli, &|seed| run(&cli, seed), &|outcome| {
        if cli.json {
            println!("{}", outcome.json());
        }
        match &outcome.failure {
            Some(failure) => println!("seed {0} FAILED (sim --seed {0}): {failure}", outcome.seed),
            None if cli.count == 1 && !cli.json => {
                println!("seed {} passed, hash {:016x}", outcome.seed, outcome.hash);
            }
            None => {}
        }
    });
    if !cli.json {
        print!("{summary}");
        println!("{} passed, {} failed", summary.runs() - failed.len() as u64, failed.len());
    }
    if failed.is_empty() && summary.runs() == cli.count { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs all seeds, some at a time; gives the counts, and the outcomes that failed.
fn run_seeds(
    cli: &Cli,
    run: &(dyn Fn(u64) -> Outcome + Sync),
    tell: &(dyn Fn(&Outcome) + Sync),
) -> (Summary, Vec<Outcome>) {
    let jobs = cli.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
    let next = AtomicU64::new(cli.seed);
    let end = cli.seed.saturating_add(cli.count);
    let enough = AtomicBool::new(false);
    let results = Mutex::new((Summary::default(), Vec::new()));
    let bar = progress(cli);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || enough.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = run(seed);
                    bar.suspend(|| tell(&outcome));
                    bar.inc(1);
                    let Ok(mut results) = results.lock() else { return };
                    results.0.add(&outcome.counts);
                    if outcome.failure.is_some() {
                        enough.store(cli.first, Ordering::Relaxed);
                        results.1.push(outcome);
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    results.into_inner().unwrap_or_default()
}

/// How far it is, on standard error if that is a terminal and there is something to wait for.
fn progress(cli: &Cli) -> ProgressBar {
    if cli.count == 1 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {elapsed}, about {eta} left");
    ProgressBar::new(cli.count).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn run(cli: &Cli, seed: u64) -> Outcome {
    let once = || {
        let scenario = scenario(cli, seed);
        #[cfg(feature = "planted")]
        let scenario = match &cli.planted {
            Some(name) => scenario.with_planted(plant::by_name(name)),
            None => scenario,
        };
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

fn scenario(cli: &Cli, seed: u64) -> Scenario {
    let floors = Floors { operations: cli.operations, crashes: cli.crashes, ..Floors::default() };
    Scenario::new(seed, floors, cli.trace.is_some())
}
