//! `model-check`: random transactions on whole stores, compared with the memory store on the way.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use clap::Parser;
use crash_sweep::{Devices, Setup, Views, format, in_world, mount, simulated};
use nvme::MemoryDevice;
use rt::sim::RandomStream;
use rt::{Core, LocalBoxFuture};
use serde_json::json;
use store::suite::{Host, Shape, Tally, random};
use store::{
    Algorithm, CachePolicy, ChecksumKind, ChunkBounds, Compression, CompressionMode, FreeList, ObjectStore,
    Options,
};

/// Draws transactions of every kind of op from seeds, applies them to a store on a simulated device and to the memory store,
/// and compares everything that can be read: after each, and as a whole whenever the store is closed and opened.
///
/// Each seed has its own devices, of which the main one may be full all the time and one for keys too small for them, and its
/// own options: caches, deferral, checksums, compression, small objects, free list.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: 0 if there was no difference, 1 else; a seed that shows one shows it again.

Examples:
  model-check
  model-check --operations 20000 --seed 7 --json"
)]
struct Cli {
    /// Ops in all.
    #[arg(long, default_value_t = 1_000_000)]
    operations: u64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads. Default: the machine's cores.
    #[arg(long)]
    jobs: Option<usize>,
    /// Prints what was done as JSON.
    #[arg(long)]
    json: bool,
}

const TRANSACTIONS_PER_SEED: u32 = 400;
const PG_LOG_BYTES: u64 = 512 << 10;
/// Alignment of what keys have of a device of their own.
const FAST_UNIT: u64 = 64 << 10;
/// Longer than the pause after which space comes back, and what spilled moves back.
const REST: Duration = Duration::from_millis(2100);

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::new().filter_level(log::LevelFilter::Off).parse_env("SPIRULA_LOG").init();
    let jobs = cli.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
    let (next, done, failed) = (AtomicU64::new(cli.seed), AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) < cli.operations && !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    match panic::catch_unwind(AssertUnwindSafe(|| check(seed))) {
                        Ok(one) => {
                            done.fetch_add(one.tally.operations, Ordering::Relaxed);
                            sum.lock().unwrap_or_else(PoisonError::into_inner).add(&one);
                        }
                        // Why was printed where it happened.
                        Err(_) => {
                            failed.store(true, Ordering::Relaxed);
                            eprintln!("seed {seed} shows a difference");
                        }
                    }
                }
            });
        }
        let mut shown = Instant::now();
        while done.load(Ordering::Relaxed) < cli.operations && !failed.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
            if shown.elapsed() > Duration::from_secs(10) {
                eprintln!("{} of {} ops", done.load(Ordering::Relaxed), cli.operations);
                shown = Instant::now();
            }
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let told = tell(&sum, begun.elapsed().as_secs(), cli.json);
    if let Err(error) = told {
        eprintln!("the result cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    if failed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What was done.
#[derive(Default)]
struct Sum {
    tally: Tally,
    seeds: u64,
    /// Of those, with a device for keys; with one for the journal; with one for keys on which they had no room, and on which
    /// they had some again; with a free list that changes are merged into.
    seeds_with_db: u64,
    seeds_with_wal: u64,
    seeds_that_spilled: u64,
    seeds_that_moved_back: u64,
    seeds_with_merged_free_list: u64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.seeds += other.seeds;
        self.seeds_with_db += other.seeds_with_db;
        self.seeds_with_wal += other.seeds_with_wal;
        self.seeds_that_spilled += other.seeds_that_spilled;
        self.seeds_that_moved_back += other.seeds_that_moved_back;
        self.seeds_with_merged_free_list += other.seeds_with_merged_free_list;
    }
}

fn tell(sum: &Sum, seconds: u64, as_json: bool) -> io::Result<()> {
    use std::io::Write;
    let (tally, seeds) = (&sum.tally, sum.seeds);
    let kinds: BTreeMap<_, _> = tally.kinds.iter().collect();
    let mut out = io::stdout().lock();
    if as_json {
        let value = json!({
            "seeds": seeds, "operations": tally.operations, "transactions": tally.transactions, "kinds": kinds,
            "refused": tally.refused, "refused_for_space": tally.refused_for_space, "reopened": tally.reopened,
            "objects_compared": tally.objects_compared, "seconds": seconds, "seeds_with_db": sum.seeds_with_db,
            "seeds_with_wal": sum.seeds_with_wal, "seeds_that_spilled": sum.seeds_that_spilled,
            "seeds_that_moved_back": sum.seeds_that_moved_back,
            "seeds_with_merged_free_list": sum.seeds_with_merged_free_list,
        });
        return writeln!(out, "{value:#}");
    }
    writeln!(
        out,
        "{seeds} seeds in {seconds} s: {} ops in {} transactions, {} of them refused by both and {} for want of space; {} times \
         opened again; {} objects compared",
        tally.operations,
        tally.transactions,
        tally.refused,
        tally.refused_for_space,
        tally.reopened,
        tally.objects_compared
    )?;
    writeln!(
        out,
        "{} seeds with a device for keys, in {} of which some spilled and in {} some moved back; {} with one for the journal;          {} with a merged free list",
        sum.seeds_with_db,
        sum.seeds_that_spilled,
        sum.seeds_that_moved_back,
        sum.seeds_with_wal,
        sum.seeds_with_merged_free_list
    )?;
    kinds.iter().try_for_each(|(kind, count)| writeln!(out, "  {kind:20} {count:>10}"))
}

/// Runs one seed; panics at the first difference.
fn check(seed: u64) -> Sum {
    let mut dice = RandomStream::new(seed, "model check");
    // Most of what is written does not fit then.
    let is_tight = dice.one_in(3);
    let setup = setup(&mut dice, is_tight);
    let object_bytes = if is_tight { 400_000 } else { pick(&mut dice, &[20_000, 150_000, 400_000]) };
    let shape = Shape {
        steps: TRANSACTIONS_PER_SEED,
        objects: if is_tight { 90 } else { pick(&mut dice, &[4, 12, 60]) },
        object_bytes,
        write_bytes: if is_tight {
            object_bytes
        } else {
            pick(&mut dice, &[3_000, 40_000]).min(object_bytes)
        },
        clone_one_in: pick(&mut dice, &[0, 5, 20]),
        split_one_in: pick(&mut dice, &[0, 12]),
        reopen_one_in: 40,
        may_be_full: is_tight,
    };
    let below = setup.below;
    in_world(below, seed, move |core| async move {
        let device = MemoryDevice::with_geometry("model", setup.devices.all());
        let mut host = OnDevice { core, setup, device, spilled: false, moved_back: false };
        let tally = random(&mut host, seed, shape).await;
        let devices = &host.setup.devices;
        Sum {
            tally,
            seeds: 1,
            seeds_with_db: devices.db.is_some().into(),
            seeds_with_wal: devices.wal.is_some().into(),
            seeds_that_spilled: host.spilled.into(),
            seeds_that_moved_back: host.moved_back.into(),
            seeds_with_merged_free_list: (host.setup.free_list == FreeList::Merge).into(),
        }
    })
}

/// Larger than what is swept.
fn setup(dice: &mut RandomStream, is_tight: bool) -> Setup {
    let base = simulated();
    let mut geometry = base.devices.main.clone();
    geometry.size = (2 << 20) + (64 << 10) + (if is_tight { 8 } else { pick(dice, &[8, 14, 34]) } << 20);
    geometry.block_size = pick(dice, &[512, 4096]);
    let options = Options {
        deferred_partial_max: pick(dice, &[0, 4096, 16 << 10]),
        deferred_whole_max: pick(dice, &[0, 16 << 10]),
        deferred_batch_bytes: pick(dice, &[1, 64 << 10]),
        overlay_bytes_max: pick(dice, &[16 << 10, 128 << 10]),
        cache_bytes_max: pick(dice, &[1, 1 << 20]),
        data_cache_bytes_max: pick(dice, &[0, 24 << 10, 1 << 20, 64 << 20]),
        cache_written: dice.one_in(2),
        cache_policy: pick(dice, &[CachePolicy::TwoQueues, CachePolicy::Lru]),
        groups_in_flight: pick(dice, &[1, 4]),
        large_write_bytes: pick(dice, &[0, 64 << 10]),
        discard: dice.one_in(2),
        shard_span: pick(dice, &[32 << 10, 128 << 10]),
        inline_bytes_max: pick(dice, &[0, 512, 4096]),
        checksum: pick(dice, &ChecksumKind::ALL),
        checksum_chunk: ChunkBounds {
            min: pick(dice, &[None, None, Some(8 << 10), Some(64 << 10)]),
            max: pick(dice, &[None, Some(16 << 10)]),
        },
        compression: Compression {
            mode: pick(dice, &CompressionMode::ALL),
            algorithm: pick(dice, &Algorithm::ALL),
            blob_bytes_max: pick(dice, &[8, 24, 64, 256]) << 10,
            ..Compression::default()
        },
        ..base.options
    };
    let kv_bytes = 2 << 20;
    let journal_bytes = pick(dice, &[256 << 10, 1 << 20]);
    let kind = dice.below(10);
    let logs = journal_bytes + PG_LOG_BYTES + 2 * FAST_UNIT;
    let keys = pick(dice, &[FAST_UNIT, 2 * FAST_UNIT, 512 << 10, 8 << 20]);
    let devices = Devices {
        main: geometry,
        db: matches!(kind, 0..=3).then_some(logs + keys),
        wal: matches!(kind, 2..=4).then_some(logs),
    };
    // Units that are not to be had on a full device, so that keys get blocks.
    let unit = if is_tight { pick(dice, &[4096, 64 << 10]) } else { 4096 };
    Setup {
        devices,
        unit,
        log_bytes_min: base.log_bytes_min.max(unit.into()),
        free_list: pick(dice, &FreeList::ALL),
        journal_bytes,
        pg_log_bytes: PG_LOG_BYTES,
        kv_bytes,
        low_water: kv_bytes / 4,
        lend: 128 << 10,
        options,
        ..base
    }
}

fn pick<T: Copy>(dice: &mut RandomStream, choices: &[T]) -> T {
    choices[usize::try_from(dice.below(choices.len() as u64)).unwrap_or(0)]
}

/// Makes stores on a device in memory.
struct OnDevice {
    core: Core,
    setup: Setup,
    device: MemoryDevice,
    spilled: bool,
    moved_back: bool,
}

impl OnDevice {
    async fn open(&self) -> Rc<dyn ObjectStore> {
        match mount(&self.core, &self.setup, &Views::plain(&self.setup.devices, &self.device)).await {
            Ok(mounted) => Rc::new(mounted.engine),
            Err(error) => panic!("{error}"),
        }
    }
}

impl Host for OnDevice {
    fn fresh(&mut self) -> LocalBoxFuture<'_, Rc<dyn ObjectStore>> {
        Box::pin(async move {
            if let Err(error) =
                format(&self.core, &self.setup, &Views::plain(&self.setup.devices, &self.device)).await
            {
                panic!("{error}");
            }
            self.open().await
        })
    }

    fn reopen(&mut self, store: Rc<dyn ObjectStore>) -> LocalBoxFuture<'_, Rc<dyn ObjectStore>> {
        Box::pin(async move {
            self.spilled |= store.stats().spilled > 0;
            self.core.sleep(REST).await;
            let counters = store.stats().counters;
            self.moved_back |= counters.iter().any(|(name, count)| *name == "moved_back_bytes" && *count > 0);
            if let Err(error) = store.close().await {
                panic!("close: {error}");
            }
            self.open().await
        })
    }
}
