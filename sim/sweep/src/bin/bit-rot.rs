//! `bit-rot`: flips single bits of stores, one at a time, and looks at what comes of each.

use std::collections::BTreeMap;
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use crash_sweep::{AtRest, PlaceCount, Setup, rocks, rocks_with_db, simulated, with_db, with_db_and_wal};

/// Takes a store that has been through a workload of every kind of op and is at rest, flips one bit somewhere on its devices,
/// before it is opened or under its feet, and goes on with it: everything is read and checked, written to, closed, and opened
/// again.
///
/// Each flip must be found, or change nothing that anybody can ask for. One in a block of an object must be found.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: 0 if every flip was found or harmless, 1 else; a seed that fails does so again.

Examples:
  bit-rot
  bit-rot --below rocksdb-with-db --flips 1000
  bit-rot --below db --seed 4711 --flips 1"
)]
struct Cli {
    /// The store. Default: one after another.
    #[arg(long, value_enum)]
    below: Option<Choice>,
    /// Flips in each.
    #[arg(long, default_value_t = 10_000)]
    flips: u64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads. Default: the machine's cores.
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// The simulated key-value store on one device.
    Simulated,
    /// The same, keys and journal on a device of their own.
    Db,
    /// Keys on one device and the journal on another; merged free list, blocks of 512 bytes.
    DbAndWal,
    /// Real RocksDB on BlueFS.
    Rocksdb,
    /// The same, keys and journal on a device of their own.
    RocksdbWithDb,
}

impl Choice {
    /// Every pool has crc32c: narrower checksums may miss a bit.
    fn setup(self) -> Setup {
        let mut setup = match self {
            Self::Simulated => simulated(),
            Self::Db => with_db(),
            Self::DbAndWal => with_db_and_wal(),
            Self::Rocksdb => rocks(),
            Self::RocksdbWithDb => rocks_with_db(),
        };
        setup.options.checksum = store::ChecksumKind::Crc32c;
        setup
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::new().filter_level(log::LevelFilter::Off).parse_env("SPIRULA_LOG").init();
    // A panic is the failure of one flip; its text is in the report.
    panic::set_hook(Box::new(|info| log::debug!("{info}")));
    let chosen = cli.below.map_or(Choice::value_variants().to_vec(), |one| vec![one]);
    let mut failed = false;
    for choice in chosen {
        match AtRest::new(choice.setup()) {
            Ok(store) => failed |= run(choice, &store, &cli),
            Err(reason) => {
                eprintln!("{choice:?}: the store itself is not good: {reason}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// True if some failed.
fn run(choice: Choice, store: &AtRest, cli: &Cli) -> bool {
    let jobs = cli.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
    let (begun, next, end) = (Instant::now(), AtomicU64::new(cli.seed), cli.seed.saturating_add(cli.flips));
    let counts: Mutex<BTreeMap<&'static str, PlaceCount>> = Mutex::default();
    let failures = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let flip = store.flip(seed);
                    match flip.found_by {
                        Ok(found_by) => {
                            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                            counts.entry(flip.place).or_default().add(found_by);
                        }
                        Err(failure) => {
                            failures.fetch_add(1, Ordering::Relaxed);
                            println!("{choice:?}: {failure}");
                        }
                    }
                }
            });
        }
    });
    let (failures, seconds) = (failures.into_inner(), begun.elapsed().as_secs());
    println!("{choice:?}: {} flips in {seconds} s, {failures} failures", cli.flips);
    for (place, count) in counts.into_inner().unwrap_or_else(PoisonError::into_inner) {
        println!(
            "  {place:24} {:>6} flips, {:>6} harmless, found by {:?}",
            count.flips,
            count.harmless(),
            count.found
        );
    }
    failures > 0
}
