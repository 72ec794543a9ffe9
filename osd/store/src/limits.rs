//! Every limit of the store, with the relations between them checked at compile time.

use std::time::Duration;

use crate::checksum::CHUNK_BLOCKS_MAX;

/// Smallest unit of allocation and of checksums, bytes. A device with larger blocks raises it to its block size.
pub const BLOCK: u64 = 4096;
/// Most bytes under one checksum, if they are several blocks: all of them are read for any, and they are in one shard.
pub const CHECKSUM_CHUNK_BYTES_MAX: u64 = 64 << 10;
/// Largest object by default, bytes. An option of the store may raise it up to [`OBJECT_BYTES_HARD_MAX`].
pub const OBJECT_BYTES_MAX: u64 = 128 << 20;
/// Largest object any option can allow, bytes: shard numbers stay within 32 bits and transactions within memory.
pub const OBJECT_BYTES_HARD_MAX: u64 = 1 << 40;
/// Bytes of an object that one shard of its extent map describes, at least and at most.
pub const SHARD_SPAN_MIN: u32 = 32 << 10;
/// See [`SHARD_SPAN_MIN`].
pub const SHARD_SPAN_MAX: u32 = 4 << 20;
/// How many of an object's first bytes may be kept among the keys instead of in blocks.
pub const INLINE_BYTES_MAX: u64 = 4096;
/// Longest object name and locator key, bytes.
pub const NAME_BYTES_MAX: usize = 2048;
/// Longest namespace, bytes.
pub const NAMESPACE_BYTES_MAX: usize = 256;
/// Longest attribute name, bytes.
pub const ATTR_NAME_BYTES_MAX: usize = 256;
/// Names and values of all attributes of one object, bytes: they are part of the onode, which one record rewrites.
pub const ATTRS_BYTES_MAX: usize = 64 << 10;
/// Most attributes of one object.
pub const ATTRS_MAX: usize = 1024;
/// Longest omap key, bytes.
pub const OMAP_KEY_BYTES_MAX: usize = 16 << 10;
/// Longest omap value or header, bytes.
pub const OMAP_VALUE_BYTES_MAX: usize = 8 << 20;
/// Longest metadata of a collection, bytes.
pub const COLLECTION_META_BYTES_MAX: usize = 1 << 20;
/// Longest entry of a placement group's log, bytes.
pub const LOG_ENTRY_BYTES_MAX: usize = 16 << 10;
/// Most operations of one transaction.
pub const TRANSACTION_OPS_MAX: usize = 16 << 10;
/// Payload of one transaction (data, attributes, omap, names), bytes.
pub const TRANSACTION_BYTES_MAX: u64 = (128 << 20) + (1 << 20);
/// Longest frame of an export, bytes: the largest omap value with its key and object fits.
pub const EXPORT_FRAME_BYTES_MAX: usize = 16 << 20;
/// Entries of a placement group's log that any store keeps per collection as long as its log's region has room.
pub const PG_LOG_ENTRIES_MIN: usize = 128;
/// Entries that the engine keeps per collection by default: by them requests that are sent again after a crash are
/// known, and of one group as many may be unanswered as its clients have in flight.
//= ceph 16.2 osd_pg_log_dups_tracked
pub const PG_LOG_ENTRIES_WANTED: usize = 3000;
/// Entries that it keeps per collection when the region is short; when these do not fit, writes are refused.
pub const PG_LOG_ENTRIES_FLOOR: usize = 8;
/// Most entries a store keeps per collection in memory: it forgets down to what it is to keep when it reaches this.
pub const PG_LOG_ENTRIES_MAX: usize = 4096;
/// Read errors logged, and in what time; more are counted.
pub const READ_ERRORS_LOGGED: (u64, Duration) = (10, Duration::from_secs(10));
/// Reads ahead of what was asked for that may be under way.
pub const READ_AHEADS_MAX: u32 = 16;
/// Most findings of one check; the last one then says that there are more.
pub const FSCK_FINDINGS_MAX: usize = 1000;
/// Bytes of keys and values that one repair changes at most: they are one batch.
pub const REPAIR_BYTES_MAX: usize = 256 << 20;
/// Objects and ranges that one repair gives up at most: each is told by name.
pub const REPAIR_LOSSES_MAX: usize = 100_000;
/// Most objects one `list` returns, and most entries of one omap page.
pub const LIST_MAX: usize = 16 << 10;

const _: () = assert!(BLOCK.is_power_of_two() && CHECKSUM_CHUNK_BYTES_MAX.is_power_of_two());
const _: () = assert!(CHECKSUM_CHUNK_BYTES_MAX / BLOCK <= CHUNK_BLOCKS_MAX as u64);
const _: () = assert!(OBJECT_BYTES_MAX <= OBJECT_BYTES_HARD_MAX && OBJECT_BYTES_MAX < TRANSACTION_BYTES_MAX);
const _: () = assert!(OMAP_VALUE_BYTES_MAX + OMAP_KEY_BYTES_MAX + (1 << 20) < EXPORT_FRAME_BYTES_MAX);
const _: () = assert!(INLINE_BYTES_MAX <= SHARD_SPAN_MIN as u64 && SHARD_SPAN_MIN <= SHARD_SPAN_MAX);
const _: () = assert!(PG_LOG_ENTRIES_FLOOR < PG_LOG_ENTRIES_MIN);
const _: () = assert!(PG_LOG_ENTRIES_MIN < PG_LOG_ENTRIES_WANTED);
const _: () = assert!(PG_LOG_ENTRIES_WANTED < PG_LOG_ENTRIES_MAX);
const _: () = assert!(ATTR_NAME_BYTES_MAX < ATTRS_BYTES_MAX);
