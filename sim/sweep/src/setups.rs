//! The setups that are swept: small, so that everything wraps, grows and is used again within a workload.

use std::time::Duration;

use bluefs_rocks::RocksOptions;
use nvme::{Geometry, MemoryDevice};
use store::{Algorithm, ChecksumKind, Compression, CompressionMode, FreeList, Options};

use crate::stack::{Below, Setup};
use crate::views::Devices;

fn geometry(size: u64, block_size: u32) -> Geometry {
    Geometry {
        block_size,
        // Blocks tear.
        atomic_write_unit: 512,
        volatile_cache: true,
        ..MemoryDevice::default_geometry(size)
    }
}

/// Two segments between label and label: half for the key-value store and the rings, half for data, so that freed space
/// is soon used again.
const TWO_SEGMENTS: u64 = (2 << 20) + (1 << 20) + (64 << 10);

/// What journal and log of the placement groups take of a device beside the main one, with what it begins with.
const LOGS_BYTES: u64 = 192 << 10;
/// What keys have of a device of their own: too little, as half of it is for the log of BlueFS.
const FAST_BYTES: u64 = 128 << 10;

/// The simulated key-value store on a device of 4096-byte blocks.
pub fn simulated() -> Setup {
    Setup {
        below: Below::Simulated,
        devices: Devices::main(geometry(TWO_SEGMENTS, 4096)),
        identity: 1,
        slices: 1,
        slice: 0,
        free_list: FreeList::Pages,
        journal_bytes: 64 << 10,
        pg_log_bytes: 64 << 10,
        kv_bytes: 880 << 10,
        unit: 4096,
        log_bytes_min: 32 << 10,
        // More than there is: so that some is lent.
        low_water: 880 << 10,
        lend: 64 << 10,
        options: Options {
            reserve_bytes: 64 << 10,
            deferred_batch_bytes: 4 << 10,
            // The key-value store keeps room for several times this.
            overlay_bytes_max: 16 << 10,
            large_write_bytes: 24 << 10,
            compression: compression(Algorithm::Lz4),
            ..Options::default()
        },
        late_max: Duration::from_micros(120),
    }
}

/// Of what the workload says that it compresses, in several blobs.
fn compression(algorithm: Algorithm) -> Compression {
    Compression {
        mode: CompressionMode::Passive,
        algorithm,
        blob_bytes_max: 16 << 10,
        ..Compression::default()
    }
}

/// The same on one of 512-byte blocks that seeks: whole blocks are deferred too, and freed space is discarded. Changes are
/// merged into the free list.
pub fn small_blocks() -> Setup {
    let base = simulated();
    Setup {
        devices: Devices::main(geometry(TWO_SEGMENTS, 512)),
        free_list: FreeList::Merge,
        log_bytes_min: 16 << 10,
        options: Options {
            deferred_whole_max: 8 << 10,
            inline_bytes_max: 700,
            checksum: ChecksumKind::Xxhash64,
            deferred_batch_bytes: 1 << 20,
            groups_in_flight: 4,
            group_bytes_max: 8 << 10,
            cache_bytes_max: 1,
            data_cache_bytes_max: 24 << 10,
            cache_written: true,
            discard: true,
            ..base.options
        },
        ..base
    }
}

/// As [`simulated`], BlueFS's units larger than a block.
pub fn large_units() -> Setup {
    Setup { unit: 16 << 10, free_list: FreeList::Merge, ..simulated() }
}

/// As [`simulated`], keys and journal on a device of their own. It is too small for the keys: some spill to the main one, and
/// move back.
pub fn with_db() -> Setup {
    let base = simulated();
    Setup {
        devices: Devices { db: Some(LOGS_BYTES + FAST_BYTES), ..base.devices.clone() },
        low_water: base.low_water + FAST_BYTES,
        options: Options { checksum: ChecksumKind::Crc32c16, ..base.options },
        ..base
    }
}

/// As [`small_blocks`], keys on one device and the journal on another.
pub fn with_db_and_wal() -> Setup {
    let base = small_blocks();
    let (db, wal) = (Some(LOGS_BYTES + FAST_BYTES), Some(LOGS_BYTES));
    Setup {
        devices: Devices { db, wal, ..base.devices.clone() },
        low_water: base.low_water + FAST_BYTES,
        options: Options { checksum: ChecksumKind::Xxhash32, ..base.options },
        ..base
    }
}

/// RocksDB on the second of two slices, laid out as the daemon does.
pub fn rocks() -> Setup {
    let kv_bytes = 6 << 20;
    Setup {
        below: Below::RocksDb,
        devices: Devices::main(geometry(40 << 20, 4096)),
        identity: 1,
        slices: 2,
        slice: 1,
        free_list: FreeList::Merge,
        journal_bytes: 256 << 10,
        pg_log_bytes: 64 << 10,
        kv_bytes,
        unit: RocksOptions::for_space(kv_bytes).alloc_unit(),
        log_bytes_min: 64 << 10,
        // More than there is: so that some is lent.
        low_water: kv_bytes,
        lend: 1 << 20,
        options: Options {
            reserve_bytes: 1 << 20,
            deferred_batch_bytes: 16 << 10,
            overlay_bytes_max: 256 << 10,
            compression: compression(Algorithm::Zstd),
            inline_bytes_max: 700,
            checksum: ChecksumKind::Crc32c8,
            ..Options::default()
        },
        late_max: Duration::from_micros(200),
    }
}

/// As [`rocks`], keys and journal on a device of their own, and the free list in pages. As in [`with_db`], some keys spill.
pub fn rocks_with_db() -> Setup {
    let base = rocks();
    let logs_bytes = base.journal_bytes + base.pg_log_bytes;
    let fast_bytes = 384 << 10;
    let devices = Devices { db: Some(logs_bytes + fast_bytes), ..base.devices.clone() };
    // What tells torn data from whole is not the pool's checksum.
    let options = Options { checksum: ChecksumKind::None, ..base.options };
    Setup { devices, free_list: FreeList::Pages, low_water: base.low_water + fast_bytes, options, ..base }
}
