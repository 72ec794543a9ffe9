//! Every bound of this crate, with the relations between them.

/// Bytes of one serialised bitmap page; also how many bytes of level 0 one page of the bitmap holds.
pub const PAGE_BYTES: usize = 4096;

/// Blocks that one bitmap page describes: 128 MiB of 4 KiB blocks.
pub const PAGE_BLOCKS: u64 = 8 * 4096;

/// 64-bit words of level 0 in a page.
pub const PAGE_WORDS: usize = PAGE_BYTES / 8;

/// Words that a bit of a page's summary stands for: a line of the processor's cache.
pub const LINE_WORDS: usize = 8;

/// Largest allocation unit in blocks: one word of level 0. Alignment above that is the caller's, by allocating
/// from an allocator with larger blocks.
pub const UNIT_BLOCKS_MAX: u64 = 64;

/// Smallest block, bytes.
pub const BLOCK_BYTES_MIN: u64 = 512;

/// Most blocks one allocator may describe: 2^36 (256 TiB of 4 KiB blocks). Keeps every index within `usize` and
/// the summary trees at four levels.
pub const BLOCKS_MAX: u64 = 1 << 36;

/// How many free runs of 64 blocks and more a request for a longer one looks at before it settles for the
/// longest seen. Bounds the search; more would find longer runs on aged disks and cost more per allocation.
pub const LONG_RUN_TRIES: usize = 8;

/// How many runs all pieces of one request together look at so. After that it takes the next piece that it finds, so a request
/// for much costs little more than its pieces, however broken the space is.
pub const LONG_RUN_TRIES_PER_REQUEST: usize = 64;

/// Shortest run, and request, for which the hybrid allocator keeps, and looks at, hints: blocks.
pub const LONG_RUN_BLOCKS: u64 = 64;

/// Kinds of long runs by length, doubling: up to 2,048 blocks, and longer ones.
pub const LONG_RUN_ORDERS: usize = 6;

/// Hints of each kind on small devices; on larger ones a hint for every eight pages, so 56 KB for a TiB.
pub const LONG_RUNS_PER_BIN_MIN: usize = 64;

/// How many runs of about the wanted length the btree allocator looks at for one that is aligned, before it takes one that
/// is long enough in any case.
pub const BEST_FIT_TRIES: usize = 4;

/// Most zones that may be open at once; each allocation looks at all that are.
pub const OPEN_ZONES_MAX: usize = 128;

/// Longest single allocation, bytes; bounds the work of one call.
pub const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// Most extents one request may ask for.
pub const REQUEST_EXTENTS_MAX: usize = 1 << 16;

const _: () = assert!(PAGE_BLOCKS == (PAGE_WORDS as u64) * 64);
const _: () = assert!(PAGE_WORDS == 64 * LINE_WORDS);
const _: () = assert!(UNIT_BLOCKS_MAX == 64);
const _: () = assert!(PAGE_BLOCKS.is_multiple_of(UNIT_BLOCKS_MAX));
