//! Every bound of BlueFS, with the relations between them.

/// Bytes of a superblock copy; on devices with larger blocks, one block.
pub const SUPERBLOCK_BYTES: usize = 4096;

/// Extents the log may be made of; the superblock holds them.
pub const LOG_EXTENTS_MAX: usize = 64;

/// Largest log, bytes: bounds what a mount reads and keeps in memory.
pub const LOG_BYTES_MAX: u64 = 256 << 20;

/// A new log is this many times its snapshot (within its bounds), so that compaction writes at most a third of
/// what was logged since the last one.
pub const LOG_PER_SNAPSHOT: u64 = 4;

/// Payload of one group of log records, bytes. More than this at once is logged by compaction.
pub const GROUP_BYTES_MAX: usize = 1 << 20;

/// Most files.
pub const FILES_MAX: usize = 1 << 20;

/// Most directories.
pub const DIRECTORIES_MAX: usize = 1024;

/// Longest directory or file name, bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Most extents of one file.
pub const FILE_EXTENTS_MAX: usize = 1 << 16;

/// Extents that one log record holds at most; longer lists take several records.
pub const RECORD_EXTENTS_MAX: usize = 1024;

/// Largest file, bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 40;

/// Most lent extents.
pub const SPACES_MAX: usize = 1 << 17;

/// Most of the least pieces that are lent although they are smaller than the allocation unit.
pub const SMALL_PIECES_MAX: u64 = 1 << 16;

/// Least of these pieces, bytes; on devices with larger blocks, a block.
pub const SMALL_UNIT: u64 = 4096;

/// Extents that are given back at once.
pub const GIVE_BACK_EXTENTS_MAX: usize = 16;

/// Granules of what is given back that are given back together if they are free together, before others are.
pub const GRANULES_LONG: u64 = 16;

/// Appended bytes that are collected before they go to the device, unless somebody asks earlier.
pub const WRITE_CHUNK_BYTES: usize = 512 << 10;

/// Largest read served at once, bytes.
pub const READ_BYTES_MAX: usize = 64 << 20;

/// Bytes of a file that move from one space to the other at once.
pub const MOVE_BYTES: u64 = 4 << 20;

/// Of the fast space, this part stays free for what is new when files move back to it.
pub const MOVE_KEEPS_SHARE: u64 = 16;

/// Smallest log, bytes, unless formatted otherwise.
pub const LOG_BYTES_MIN_DEFAULT: u64 = 1 << 20;

/// Largest "smallest log", bytes.
pub const LOG_BYTES_MIN_MAX: u64 = LOG_BYTES_MAX / 4;

/// Largest allocation unit, bytes.
pub const ALLOC_UNIT_MAX: u32 = 64 << 20;

/// Allocation unit, bytes, unless formatted otherwise.
pub const ALLOC_UNIT_DEFAULT: u32 = 64 << 10;

const _: () = assert!(SUPERBLOCK_BYTES >= 176 + LOG_EXTENTS_MAX * 16);
const _: () = assert!(2 * SMALL_PIECES_MAX <= SPACES_MAX as u64);
const _: () = assert!(MOVE_BYTES.is_multiple_of(WRITE_CHUNK_BYTES as u64));
const _: () = assert!(RECORD_EXTENTS_MAX * 16 + 64 < GROUP_BYTES_MAX);
const _: () = assert!(NAME_BYTES_MAX <= u8::MAX as usize);
