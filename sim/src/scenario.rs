//! What a seed stands for: the size of the cluster, its disks and network, the load, and how often what fails. Pure.

use std::time::Duration;

use bluefs::kv::SimKvOptions;
use rt::sim::{Config, Link, RandomStream};
use store::{Algorithm, Compression, CompressionMode, FreeList};

/// Least and most that a slow I/O takes longer: several times what a group takes to become durable.
pub const DISK_SLOW: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(30));

/// Sizes and rates of one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// OSDs, each on a disk of its own.
    pub osds: u16,
    /// Clients.
    pub clients: u16,
    /// What the run must reach, or it counts as failed.
    pub floors: Floors,
    /// Bytes of an OSD's disk.
    pub disk_bytes: u64,
    /// Bytes of a block of it.
    pub block_bytes: u32,
    /// Bytes of a disk for keys, and for the journal if that has none of its own.
    pub db_bytes: Option<u64>,
    /// Bytes of a disk for the journal.
    pub wal_bytes: Option<u64>,
    /// Bytes of a block of these.
    pub part_block_bytes: u32,
    /// These have a volatile cache.
    pub part_volatile_cache: bool,
    /// The log of the key-value store's file system is written anew now and then.
    pub compacts_log: bool,
    /// How stores keep their free list.
    pub free_list: FreeList,
    /// Bytes that the key-value store owns from the start; it borrows more when it needs more.
    pub kv_bytes: u64,
    /// Allocation unit of the file system below it, bytes: it may be lent smaller pieces.
    pub fs_unit: u64,
    /// It borrows, and likes to have ahead, this part of what it owned at the start.
    pub kv_lend_share: u64,
    /// How the key-value store behaves.
    pub kv: SimKvOptions,
    /// Bytes of its journal.
    pub journal_bytes: u64,
    /// Bytes of the placement groups' log.
    pub pg_log_bytes: u64,
    /// Bytes of changes that are in no checkpoint yet.
    pub overlay_bytes_max: u64,
    /// Bytes of clean onodes and shards.
    pub cache_bytes_max: u64,
    /// Freed space is discarded before it is used again.
    pub discard: bool,
    /// Data of more than this is written before its record joins a group.
    pub large_write_bytes: u64,
    /// Deferred payload is written in place when there is so much of it.
    pub deferred_batch_bytes: u64,
    /// Groups on their way at once.
    pub groups_in_flight: usize,
    /// Logical bytes of one shard of an extent map.
    pub shard_span: u32,
    /// What is compressed.
    pub compression: Compression,
    /// Objects of at most so many bytes are kept among the keys.
    pub inline_bytes_max: u64,
    /// A mistake that OSDs are to make.
    #[cfg(feature = "planted")]
    pub planted: Option<crate::Planted>,
    /// Clients write more than fits, so that requests may be refused for want of space.
    pub tight: bool,
    /// Blocks of data go bad while OSDs run.
    pub disks_go_bad: bool,
    /// I/Os of the disks, in a million, that take up to [`DISK_SLOW`] longer.
    pub disk_slow_ppm: u32,
    /// Reads of them that do, besides.
    pub disk_slow_read_ppm: u32,
    /// Somebody reads objects of the stores beside the daemons, as scrubbing would: in no order with the clients.
    pub bystander: bool,
    /// The disks held a store before this one is made.
    pub disks_used_before: bool,
    /// Names in use, of each client.
    pub objects: usize,
    /// Largest object, bytes.
    pub object_bytes_max: usize,
    /// Requests a client has in flight.
    pub depth: usize,
    /// Placement groups of the pool.
    pub pg_num: u32,
    /// Deferred writes as on a rotating disk.
    pub rotational: bool,
    /// Disks have a volatile cache.
    pub volatile_cache: bool,
    /// Time between two faults, least and most.
    pub fault_every: (Duration, Duration),
    /// The network.
    pub network: Config,
}

/// What a run must have done before it may end; one that cannot reach it within [`Floors::operations_max`] fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floors {
    /// Requests of the clients in all.
    pub operations: u64,
    /// Crashes of OSDs.
    pub crashes: u64,
    /// Of those, while a journal that is not empty was being replayed.
    pub crashes_in_replay: u64,
    /// Times that each OSD's journal went around.
    pub journal_wraps: u64,
    /// Bytes of data that each OSD wrote to space that had held data before, in thousandths of its space for data.
    pub reuse_permille: u64,
    /// The run gives up after so many requests.
    pub operations_max: u64,
}

impl Default for Floors {
    fn default() -> Self {
        Self {
            operations: 500,
            crashes: 5,
            crashes_in_replay: 1,
            journal_wraps: 3,
            reuse_permille: 500,
            operations_max: 50_000,
        }
    }
}

impl Scenario {
    /// The scenario of a seed.
    pub fn new(seed: u64, floors: Floors, trace: bool) -> Self {
        let mut dice = RandomStream::new(seed, "scenario");
        let disk_mib = dice.between(8, 11);
        let network = Config {
            link: Link {
                delay_min: Duration::from_micros(10),
                delay_max: Duration::from_micros(dice.between(50, 2_000)),
                slow_ppm: pick(&mut dice, &[0, 1_000, 20_000]),
                slow_max: Duration::from_millis(dice.between(5, 200)),
                reset_ppm: pick(&mut dice, &[0, 0, 200, 2_000]),
                flip_ppm: pick(&mut dice, &[0, 0, 100, 1_000]),
            },
            wall_clock_jump_every: Duration::from_secs(dice.below(3) * 5),
            trace,
            ..Config::default()
        };
        let tight = dice.one_in(4);
        let disks_go_bad = dice.one_in(3);
        let (osds, clients) = (small(dice.between(1, 3)), small(dice.between(1, 2)));
        let objects = u64::from(osds) * dice.between(8, 16) * if tight { 5 } else { 2 };
        let block_bytes = pick(&mut dice, &[4096, 4096, 512]);
        // A stream of their own, so that the seeds of before differ in nothing else.
        let mut part_dice = RandomStream::new(seed, "parts");
        let (db_bytes, wal_bytes) = parts(&mut part_dice);
        let kv_bytes = pick(&mut dice, &[384, 512, 1024, 2048]) << 10;
        Self {
            seed,
            osds,
            clients,
            floors,
            disk_bytes: disk_mib << 20,
            block_bytes,
            db_bytes,
            wal_bytes,
            part_block_bytes: pick(&mut part_dice, &[block_bytes, 512, 4096]),
            part_volatile_cache: !part_dice.one_in(4),
            compacts_log: part_dice.one_in(2),
            free_list: pick(&mut part_dice, &FreeList::ALL),
            kv_bytes,
            fs_unit: fs_unit(&mut RandomStream::new(seed, "units"), kv_bytes),
            kv_lend_share: pick(&mut dice, &[4, 16, 16]),
            kv: SimKvOptions {
                memtable_bytes: pick(&mut dice, &[8 << 10, 64 << 10]),
                spontaneous_one_in: pick(&mut dice, &[4, 16]),
                runs_max: pick(&mut dice, &[1, 2, 4]),
                delay_max: Duration::from_micros(pick(&mut dice, &[200, 200, 3_000, 15_000])),
            },
            journal_bytes: pick(&mut dice, &[48, 64]) << 10,
            pg_log_bytes: pick(&mut dice, &[256, 512]) << 10,
            overlay_bytes_max: pick(&mut dice, &[64, 256, 1024]) << 10,
            cache_bytes_max: pick(&mut dice, &[16, 64, 1024]) << 10,
            discard: dice.one_in(2),
            large_write_bytes: pick(&mut dice, &[16, 64]) << 10,
            deferred_batch_bytes: pick(&mut dice, &[1, 4 << 10, 32 << 10]),
            groups_in_flight: pick(&mut dice, &[1, 2, 4]),
            shard_span: pick(&mut dice, &[32, 128]) << 10,
            #[cfg(feature = "planted")]
            planted: None,
            tight,
            disks_go_bad,
            disk_slow_ppm: pick(&mut dice, &[0, 0, 20_000]),
            disk_slow_read_ppm: pick(&mut dice, &[0, 20_000, 200_000]),
            bystander: dice.one_in(3),
            disks_used_before: dice.one_in(3),
            objects: usize::from(small(objects / u64::from(clients))),
            object_bytes_max: if tight { 256 << 10 } else { pick(&mut dice, &[64 << 10, 128 << 10]) },
            // The more in flight, the more outcomes are possible where each request may have been refused.
            depth: usize::from(small(dice.between(1, if tight || disks_go_bad { 5 } else { 12 }))),
            pg_num: u32::from(osds) * pick(&mut dice, &[1, 4, 7, 8]),
            rotational: dice.one_in(3),
            volatile_cache: !dice.one_in(8),
            fault_every: (Duration::from_millis(5), Duration::from_millis(dice.between(100, 1_500))),
            network,
            // Last, so that the seeds of before differ in nothing else.
            compression: compression(&mut dice),
            inline_bytes_max: pick(&mut dice, &[0, 1024, 4096]),
        }
    }

    /// With a mistake planted.
    #[cfg(feature = "planted")]
    pub fn with_planted(self, planted: crate::Planted) -> Self {
        Self { planted: Some(planted), ..self }
    }
}

/// Most bytes that journal and log of placement groups take of a disk that may have them, with what the disk begins with.
const LOGS_BYTES_MAX: u64 = 640 << 10;

/// Bytes of the disks for keys and for the journal: none in half of the runs. Most of those for keys are so small that some
/// spill to the main one.
fn parts(dice: &mut RandomStream) -> (Option<u64>, Option<u64>) {
    let kind = dice.below(10);
    let keys = pick(dice, &[64, 128, 256, 1024]) << 10;
    let db = matches!(kind, 0..=3).then_some(LOGS_BYTES_MAX + keys);
    let wal = matches!(kind, 2..=4).then_some(LOGS_BYTES_MAX);
    (db, wal)
}

/// A block in half of the runs, else what is soon not to be had any more on a disk that is in use.
fn fs_unit(dice: &mut RandomStream, kv_bytes: u64) -> u64 {
    let largest = if kv_bytes < 1 << 20 { 16 << 10 } else { 64 << 10 };
    pick(dice, &[4096, 4096, 16 << 10, largest])
}

/// Everything is compressed, in one run of three.
fn compression(dice: &mut RandomStream) -> Compression {
    let mode = pick(dice, &[CompressionMode::None, CompressionMode::None, CompressionMode::Force]);
    let blob_bytes_max = pick(dice, &[16, 24, 64]) << 10;
    Compression { mode, algorithm: pick(dice, &Algorithm::ALL), blob_bytes_max, ..Compression::default() }
}

fn pick<T: Copy>(dice: &mut RandomStream, choices: &[T]) -> T {
    choices[usize::try_from(dice.below(choices.len() as u64)).unwrap_or(0)]
}

fn small(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
