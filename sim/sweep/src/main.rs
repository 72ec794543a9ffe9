//! `crash-sweep`: runs the sweep as a command, with progress and counts.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, panic, thread};

use clap::{Parser, ValueEnum};
use crash_sweep::{
    Below, Counts, Devices, Failure, Setup, Thoroughness, large_units, rocks, rocks_with_db, simulated,
    small_blocks, sweep_workload, untouched, with_db, with_db_and_wal, workload,
};
use nvme::BlockingDevice;

/// Records a fixed workload of every kind of write on a whole device, cuts power at every device write and flush, and
/// checks what is left: fsck clean, everything acknowledged there, nothing that never was.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: 0 if every image was right.\n\nExamples:\n  crash-sweep\n  crash-sweep --below \
                  rocksdb --one-in 10\n  crash-sweep --below simulated --save /tmp/failures"
)]
struct Cli {
    /// What is swept. Default: everything, one after another.
    #[arg(long, value_enum)]
    below: Option<Choice>,
    /// Takes one in so many cuts.
    #[arg(long, default_value_t = 1)]
    one_in: u64,
    /// Rounds of the workload.
    #[arg(long)]
    rounds: Option<u32>,
    /// Threads. Default: the machine's cores.
    #[arg(long)]
    jobs: Option<usize>,
    /// Writes the devices of failures into this folder, to be looked at with `spirula fsck`.
    #[arg(long)]
    save: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// The simulated key-value store, blocks of 4096 bytes.
    Simulated,
    /// The same, blocks of 512 bytes, more deferred, discard.
    SmallBlocks,
    /// As simulated, BlueFS's units larger than a block.
    LargeUnits,
    /// As simulated, keys and journal on a device of their own, which is too small for the keys.
    Db,
    /// As small-blocks, keys on one device and the journal on another.
    DbAndWal,
    /// Real RocksDB on BlueFS.
    Rocksdb,
    /// The same, keys and journal on a device of their own.
    RocksdbWithDb,
}

/// Rounds after which every feature was touched.
const ROUNDS: u32 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::new().filter_level(log::LevelFilter::Off).parse_env("SPIRULA_LOG").init();
    // A panic is the failure of one image; its text is in the report.
    panic::set_hook(Box::new(|info| log::debug!("{info}")));
    let chosen = cli.below.map_or(Choice::value_variants().to_vec(), |one| vec![one]);
    let mut failed = false;
    for choice in chosen {
        match run(choice, &cli) {
            Ok(0) => {}
            Ok(_) => failed = true,
            Err(reason) => {
                eprintln!("{choice:?}: {reason}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(choice: Choice, cli: &Cli) -> Result<usize, String> {
    let setup: Setup = match choice {
        Choice::Simulated => simulated(),
        Choice::SmallBlocks => small_blocks(),
        Choice::LargeUnits => large_units(),
        Choice::Db => with_db(),
        Choice::DbAndWal => with_db_and_wal(),
        Choice::Rocksdb => rocks(),
        Choice::RocksdbWithDb => rocks_with_db(),
    };
    let rounds = cli.rounds.unwrap_or(ROUNDS);
    let threads = cli.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let mut how = Thoroughness { cut_one_in: cli.one_in.max(1), ..Thoroughness::full(threads) };
    if setup.below == Below::RocksDb {
        // An image takes twenty times as long.
        (how.kill_one_in, how.whole_one_in, how.nest_one_in) = (10, 4, 600);
    }
    let (setup, plan, counts) = (Arc::new(setup), Arc::new(workload(rounds)), Counts::default());
    let (begun, done) = (Instant::now(), AtomicBool::new(false));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut shown, mut told) = (Instant::now(), 0);
            while !done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(100));
                if counts.failed() > told {
                    println!("{choice:?}: {}", counts.last_failure());
                    told = counts.failed();
                }
                if shown.elapsed() > Duration::from_secs(10) {
                    println!("{choice:?} {:>4}s: {}", begun.elapsed().as_secs(), counts.line());
                    shown = Instant::now();
                }
            }
        });
        let swept = || sweep_workload(&setup, &plan, &how, &counts);
        let result = panic::catch_unwind(panic::AssertUnwindSafe(swept));
        done.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|_| Err("the sweep itself panicked; SPIRULA_LOG=debug shows where".to_owned()))
    });
    let (totals, tape) = result?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{choice:?}: {} device writes and {} flushes recorded, {} in {seconds:.0} s",
        tape.writes(),
        tape.flushes(),
        counts.line()
    );
    println!("{choice:?}: workload {:?}", plan.kinds());
    let untouched = if rounds >= ROUNDS { untouched(&setup, &totals) } else { Vec::new() };
    untouched.iter().for_each(|feature| println!("{choice:?}: not worth a sweep: {feature}"));
    let worth: Vec<_> = totals.counters.iter().filter(|(_, count)| **count > 0).collect();
    println!("{choice:?}: {} mounts, {} reads, {worth:?}", totals.mounts, totals.reads);
    let failures = counts.failures.into_inner().map_err(|_| "a thread panicked".to_owned())?;
    for (number, failure) in failures.iter().enumerate() {
        println!("{choice:?}: {failure:?}");
        if let Some(folder) = &cli.save {
            let name = format!("{choice:?}-{number}").to_lowercase();
            save(failure, &setup.devices, folder, &name)?;
            println!("{choice:?}: saved in {} as {name}", folder.display());
        }
    }
    Ok(failures.len() + untouched.len())
}

/// Each device as a sparse file.
fn save(failure: &Failure, devices: &Devices, folder: &Path, name: &str) -> Result<(), String> {
    let windows = devices.windows();
    windows.into_iter().try_for_each(|(role, window)| {
        let path = folder.join(format!("{name}-{}", role.name()));
        let saved = save_window(failure, window, folder, &path);
        saved.map_err(|error| format!("{}: {error}", path.display()))
    })
}

fn save_window(failure: &Failure, window: Range<u64>, folder: &Path, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    const CHUNK: usize = 64 << 10;
    fs::create_dir_all(folder)?;
    let file = fs::File::create(path)?;
    file.set_len(window.end - window.start)?;
    let mut chunk = nvme::DmaBuf::zeroed(CHUNK);
    for at in window.clone().step_by(CHUNK) {
        let len = CHUNK.min(usize::try_from(window.end - at).unwrap_or(CHUNK));
        failure.device.read_at(at, &mut chunk[..len]).map_err(io::Error::other)?;
        if chunk[..len].iter().any(|byte| *byte != 0) {
            file.write_all_at(&chunk[..len], at - window.start)?;
        }
    }
    Ok(())
}
