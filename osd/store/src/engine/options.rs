//! What a store can be told when it is formatted and when it is opened.

use std::time::Duration;

use uuid::Uuid;

use super::cache::CachePolicy;
use crate::checksum::ChecksumKind;
use crate::compression::Compression;
use crate::devices::Parts;
use crate::fault::Fault;
use crate::limits;
use crate::types::ChunkBounds;

/// How the free list is kept in the key-value store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FreeList {
    /// Pages of 32 Ki blocks, written as a whole, twice, when anything in them changed. Start-up reads the fewest keys.
    #[default]
    Pages,
    /// Chunks of 512 blocks into which changes are merged: writes fewer bytes where changes are far apart, as overwrites of
    /// a large device are.
    Merge,
}

impl FreeList {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pages, Self::Merge];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Merge => "merge",
        }
    }
}

/// What is fixed when a store is formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatOptions {
    /// Names the store for ever.
    pub store: Uuid,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Bytes of the placement groups' log.
    pub pg_log_bytes: u64,
    /// Bytes that the key-value store's file system owns from the start; 0 if it lives elsewhere.
    pub kv_bytes: u64,
    /// How the free list is kept.
    pub free_list: FreeList,
    /// Parts on other devices, which are joined to the one that is formatted.
    pub parts: Parts,
}

impl FormatOptions {
    /// Sizes that suit a window of `window` bytes.
    pub fn for_window(store: Uuid, window: u64) -> Self {
        let part =
            |divisor: u64, min: u64, max: u64| (window / divisor).clamp(min, max).next_multiple_of(1 << 16);
        Self {
            store,
            journal_bytes: part(64, 64 << 10, 64 << 20),
            pg_log_bytes: part(128, 256 << 10, 64 << 20),
            kv_bytes: part(16, 4 << 20, 1 << 30),
            free_list: FreeList::default(),
            parts: Parts::default(),
        }
    }
}

/// Deferred payload of a transaction is at most this part of the journal, for whole and for partial blocks each.
const JOURNAL_PER_DEFERRED: u64 = 8;
/// Bytes of the overlay per byte of the journal at most: what is in the one is in the other's records.
const OVERLAY_PER_JOURNAL: u64 = 4;
/// Part of the overlay's bound that the key-value store keeps room for beside it, for removals only.
const OVERLAY_PER_KV_RESERVE: u64 = 4;

/// Memory of changes of space, for devices of up to a TiB. With less, checkpoints would store the free list more often than
/// is worth it.
const SPACE_CHANGE_BYTES_MIN: u64 = 512 << 10;
/// Larger devices have a byte for so many of theirs, so half a MiB for each TiB: with the bitmap, 35 MB.
const SPACE_PER_CHANGE_BYTES: u64 = 2 << 20;
/// The overlay is at most this part of the memory that a store may take, but has as much as any device allows.
const MEMORY_PER_OVERLAY: u64 = 16;
/// See [`MEMORY_PER_OVERLAY`].
const OVERLAY_BYTES_MIN: u64 = 1 << 20;

/// What may differ from one opening to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Largest object, bytes.
    pub object_bytes_max: u64,
    /// Logical bytes of one shard of a new object's extent map.
    pub shard_span: u32,
    /// What an object holds is kept among the keys if it is all within its first so many bytes, and all of it was written then.
    pub inline_bytes_max: u64,
    /// Partly overwritten blocks are deferred if they are at most this many bytes in a transaction.
    pub deferred_partial_max: u64,
    /// Wholly overwritten blocks that exist are deferred if they are at most this many bytes in a transaction: for
    /// devices that seek.
    pub deferred_whole_max: u64,
    /// Bytes of deferred payload that wait before they are written in place.
    pub deferred_batch_bytes: u64,
    /// Data of more than this is written before its record joins a group.
    pub large_write_bytes: u64,
    /// Groups that may be on their way at once.
    pub groups_in_flight: usize,
    /// A group takes no further record beyond this.
    pub group_bytes_max: u64,
    /// Bytes of the overlay at which writers wait for a checkpoint; it starts at half of it.
    pub overlay_bytes_max: u64,
    /// Bytes of memory of extents that changed hands since the last checkpoint, eight for each and 24 more until what was
    /// freed may be used, at which writers wait for one; it starts at half of it.
    pub space_change_bytes_max: u64,
    /// Bytes of onodes and shards in memory.
    pub cache_bytes_max: u64,
    /// Bytes of blocks of data in memory.
    pub data_cache_bytes_max: u64,
    /// What both let go of first.
    pub cache_policy: CachePolicy,
    /// Blocks are kept in memory when they are written, too, whatever the client says. If not, those are that it says it will
    /// need, and those in whose place one was kept.
    //= ceph 16.2 bluestore_default_buffered_write
    pub cache_written: bool,
    /// What is read ahead for who reads sequentially, bytes; 0 for nothing.
    pub read_ahead_bytes: u64,
    /// The tail is sealed after this much idleness.
    pub seal_after: Duration,
    /// Bytes that only checkpoints and removals may use.
    pub reserve_bytes: u64,
    /// Freed space is discarded before it is used again.
    pub discard: bool,
    /// What protects the blocks of pools that do not say it themselves.
    pub checksum: ChecksumKind,
    /// How much is under one checksum, where pools do not say it themselves.
    pub checksum_chunk: ChunkBounds,
    /// What is compressed of the data of pools that do not say it themselves.
    pub compression: Compression,
    /// Entries of a collection's log that are kept at least, up to `limits::PG_LOG_ENTRIES_MAX`.
    pub pg_log_entries: usize,
    /// The usual overwrites take the way that is made for them; if not, the general one, which does the same, for tests to compare.
    pub short_overwrites: bool,
    /// A mistake for tests to find.
    pub fault: Fault,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            object_bytes_max: limits::OBJECT_BYTES_MAX,
            shard_span: SHARD_SPAN,
            inline_bytes_max: 0,
            deferred_partial_max: 16 << 10,
            deferred_whole_max: 0,
            deferred_batch_bytes: 1 << 20,
            large_write_bytes: 64 << 10,
            groups_in_flight: 2,
            group_bytes_max: 1 << 20,
            overlay_bytes_max: 64 << 20,
            space_change_bytes_max: SPACE_CHANGE_BYTES_MIN,
            cache_bytes_max: 64 << 20,
            data_cache_bytes_max: 64 << 20,
            cache_policy: CachePolicy::default(),
            cache_written: false,
            read_ahead_bytes: 256 << 10,
            seal_after: Duration::from_millis(5),
            reserve_bytes: 1 << 20,
            discard: false,
            checksum: ChecksumKind::default(),
            checksum_chunk: ChunkBounds::default(),
            compression: Compression::default(),
            pg_log_entries: limits::PG_LOG_ENTRIES_WANTED,
            short_overwrites: true,
            fault: Fault::default(),
        }
    }
}

/// Up to here an object costs fewer device bytes among the keys than in a block. Measured with the engine's bench, small
/// objects written over and over, keys and their compaction included: of 100 bytes 6.6 kB each instead of 10.8, of 512 bytes
/// 9.9 instead of 10.9, of 1024 bytes 14.8 instead of 10.9. The core's time is a third less throughout.
const INLINE_BYTES: u64 = 512;

/// A shard is written whole when a block of it changes, so a smaller one costs fewer device bytes and less CPU for small writes;
/// a larger one less of both for large writes. Measured by the engine's bench, `write_amplification`, at depth 32: 4 KiB over
/// random blocks 1.98 with 128 KiB, 1.74 with 64, 1.62 with 32; new objects of 4 MiB 1.021, 1.031, 1.044, and these take 1.8
/// times the CPU with 32 KiB that they take with 128.
const SHARD_SPAN: u32 = 64 << 10;

impl Options {
    /// What suits a device.
    pub fn for_device(geometry: &nvme::Geometry) -> Self {
        let overlay_bytes_max = (geometry.size / 128).clamp(1 << 20, 64 << 20);
        Self {
            deferred_whole_max: if geometry.rotational { 64 << 10 } else { 0 },
            overlay_bytes_max,
            inline_bytes_max: INLINE_BYTES,
            space_change_bytes_max: (geometry.size / SPACE_PER_CHANGE_BYTES).max(SPACE_CHANGE_BYTES_MIN),
            // What the key-value store keeps for removals is lent from here if it must be.
            reserve_bytes: (4 * overlay_bytes_max).min(geometry.size / 16),
            ..Self::default()
        }
    }

    /// With an overlay that leaves most of so much memory to other things.
    pub fn within_memory(self, bytes: u64) -> Self {
        let most = (bytes / MEMORY_PER_OVERLAY).max(OVERLAY_BYTES_MIN);
        Self { overlay_bytes_max: self.overlay_bytes_max.min(most), ..self }
    }

    /// With payloads that fit the journal several times, so that a record never outgrows a small one.
    pub(super) fn within_journal(self, journal_bytes: u64) -> Self {
        let most = journal_bytes / JOURNAL_PER_DEFERRED;
        Self {
            deferred_partial_max: self.deferred_partial_max.min(most),
            deferred_whole_max: self.deferred_whole_max.min(most),
            overlay_bytes_max: self.overlay_bytes_max.min(OVERLAY_PER_JOURNAL * journal_bytes),
            shard_span: self.shard_span.clamp(limits::SHARD_SPAN_MIN, limits::SHARD_SPAN_MAX),
            ..self
        }
    }

    /// Headroom of the key-value store that only removals and what the service depends on may use, bytes.
    pub(super) fn kv_reserve(&self) -> u64 {
        self.overlay_bytes_max / OVERLAY_PER_KV_RESERVE
    }
}
