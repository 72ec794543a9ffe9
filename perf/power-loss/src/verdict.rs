//! All points of a log, checked on several threads; one line for each thing that is wrong.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use nvme::{Geometry, MemoryDevice};
use serde_json::{Value, json};

use crate::check::Checker;
use crate::history::History;
use crate::log::Log;
use crate::replay::{self, Case, Point, Replay};
use crate::survey;

/// Progress is told about this often.
const PROGRESS: Duration = Duration::from_secs(30);

/// What to check.
#[derive(clap::Args)]
pub struct Options {
    /// The log device's image.
    #[arg(long)]
    log: PathBuf,
    /// MiB of the device that the load used.
    #[arg(long, default_value_t = 256)]
    mebibytes: u64,
    /// Bytes of its sectors; writes tear at them.
    #[arg(long, default_value_t = 4096)]
    sector: u32,
    /// Seed of the load.
    #[arg(long)]
    seed: u64,
    /// Number of random cuts.
    #[arg(long, default_value_t = 1000)]
    cuts: u64,
    /// Seed of the random cuts. Default: the load's.
    #[arg(long)]
    cut_seed: Option<u64>,
    /// Only this point, as flush:NUMBER or cut:NUMBER (may be repeated).
    #[arg(long)]
    only: Vec<Point>,
    /// Only flush points whose number among them is a multiple of this.
    #[arg(long, default_value_t = 1)]
    every: u64,
    /// Checks at a time. Default: the machine's cores.
    #[arg(long)]
    jobs: Option<usize>,
    /// Stop after so many points at which something is wrong.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    mismatches_max: u64,
}

/// Counted over all threads.
#[derive(Default)]
struct Tally {
    flush_points: u64,
    cuts: u64,
    mismatches: u64,
    objects: u64,
    log_entries: u64,
    first: Option<String>,
}

/// Checks; true if nothing is wrong.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let log = Log::open(&options.log)?;
    let requests = replay::requests(&log)?;
    let history = History::new(options.seed, requests);
    let block = MemoryDevice::default_geometry(options.mebibytes << 20);
    let geometry = Geometry {
        block_size: options.sector,
        atomic_write_unit: options.sector,
        volatile_cache: true,
        ..block
    };
    let survey = survey::survey(&log, &geometry)?;
    println!("log: {survey}");
    let cut_seed = options.cut_seed.unwrap_or(options.seed);
    let replay_options =
        replay::Options { seed: cut_seed, cuts: options.cuts, unit: u64::from(options.sector) };
    let replay = Replay::new(&log, &history, replay_options)?;
    let checker = Checker { history: &history, geometry };
    let tally = Mutex::new(Tally::default());
    let start = Instant::now();
    check_all(options, &log, &replay, &checker, &tally)?;
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let summary = summary(options, &log, requests, &tally, start.elapsed());
    println!("{summary}");
    Ok(tally.mismatches == 0)
}

fn check_all(
    options: &Options,
    log: &Log,
    replay: &Replay<'_>,
    checker: &Checker<'_>,
    tally: &Mutex<Tally>,
) -> anyhow::Result<()> {
    let jobs = match options.jobs {
        Some(jobs) => jobs.max(1),
        None => thread::available_parallelism().map_or(1, usize::from),
    };
    let only: BTreeSet<Point> = options.only.iter().copied().collect();
    let chosen = chosen_flushes(log, options.every);
    let wanted = |point: Point| match point {
        point if !only.is_empty() => only.contains(&point),
        Point::Flush(at) => chosen.contains(&at),
        Point::Cut(_) => true,
    };
    let expected = if only.is_empty() { chosen.len() as u64 + options.cuts } else { only.len() as u64 };
    // An image shares its pages with the next, but what is checked copies what it writes.
    let (send, receive) = sync_channel::<Case>(2 * jobs);
    let receive = Mutex::new(receive);
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..jobs).map(|_| scope.spawn(|| work(options, checker, &receive, tally))).collect();
        let (start, mut told) = (Instant::now(), Instant::now());
        let mut given = 0_u64;
        let walked = replay.walk(wanted, |case| {
            given += 1;
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                eprintln!("power-loss: {given} of {expected} points after {} s", start.elapsed().as_secs());
            }
            let so_far = tally.lock().unwrap_or_else(PoisonError::into_inner).mismatches;
            so_far < options.mismatches_max && send.send(case).is_ok()
        });
        drop(send);
        for worker in workers {
            ensure!(worker.join().is_ok(), "a thread ended badly");
        }
        walked
    })?;
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let checked = tally.flush_points + tally.cuts;
    ensure!(
        checked == expected || tally.mismatches >= options.mismatches_max,
        "{checked} of {expected} points were checked"
    );
    Ok(())
}

/// Places of flushes, every n-th.
fn chosen_flushes(log: &Log, every: u64) -> BTreeSet<usize> {
    let flushes = log.entries.iter().enumerate().filter(|(_, entry)| entry.flush).map(|(at, _)| at);
    flushes.zip(0_u64..).filter(|(_, number)| number.is_multiple_of(every.max(1))).map(|(at, _)| at).collect()
}

fn work(options: &Options, checker: &Checker<'_>, cases: &Mutex<Receiver<Case>>, tally: &Mutex<Tally>) {
    loop {
        let case = cases.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(case) = case else { return };
        let seen = checker.check(&case);
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        match case.point {
            Point::Flush(_) => tally.flush_points += 1,
            Point::Cut(_) => tally.cuts += 1,
        }
        tally.objects += seen.objects;
        tally.log_entries += seen.log_entries;
        if seen.wrong.is_empty() {
            continue;
        }
        tally.mismatches += 1;
        let again = again(options, case.point);
        let mut out = std::io::stdout().lock();
        for what in &seen.wrong {
            // Output that nobody reads does not change the verdict.
            let _ = writeln!(out, "MISMATCH {}: {what}; again: scripts/power-loss {again}", case.point);
        }
        tally.first.get_or_insert(case.point.to_string());
    }
}

/// What shows a point again.
fn again(options: &Options, point: Point) -> String {
    let cut_seed = options.cut_seed.map_or(String::new(), |seed| format!(" --cut-seed {seed}"));
    format!(
        "--log {} --seed {} --sector {} --cuts {}{cut_seed} --only {point}",
        options.log.display(),
        options.seed,
        options.sector,
        options.cuts
    )
}

fn summary(options: &Options, log: &Log, requests: u64, tally: &Tally, elapsed: Duration) -> Value {
    let points = tally.flush_points + tally.cuts;
    json!({
        "seed": options.seed, "requests": requests, "log_entries": log.entries.len(),
        "flush_points_in_log": replay::flush_points(log), "flush_points_checked": tally.flush_points,
        "random_cuts_checked": tally.cuts, "objects_compared": tally.objects,
        "group_log_entries_compared": tally.log_entries, "mismatches": tally.mismatches, "first_mismatch": tally.first,
        "seconds": elapsed.as_secs_f64(),
        "ms_per_point": elapsed.as_secs_f64() * 1000.0 / points.max(1) as f64,
    })
}
