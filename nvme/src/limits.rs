//! Every limit of the crate, with the relations between them.

/// Smallest and largest block size a device may have, bytes.
pub const BLOCK_SIZE_MIN: u32 = 512;
/// See [`BLOCK_SIZE_MIN`].
pub const BLOCK_SIZE_MAX: u32 = 65536;

/// Bytes of one page of an in-memory image: what one write of a block costs in memory at most.
pub(crate) const IMAGE_PAGE_BYTES: usize = 4096;
/// Pages of one chunk of an in-memory image: what a snapshot shares as one.
pub(crate) const IMAGE_CHUNK_PAGES: usize = 256;

/// Largest I/O that the memory and simulated backends take as one unless told otherwise, bytes.
pub(crate) const MEMORY_IO_MAX: u32 = 1 << 20;

/// Bytes of writes that one recording holds.
pub const RECORDING_BYTES_MAX: u64 = 2 << 30;

const _: () = assert!(BLOCK_SIZE_MIN.is_power_of_two() && BLOCK_SIZE_MAX.is_power_of_two());
const _: () = assert!(IMAGE_PAGE_BYTES.is_power_of_two() && IMAGE_PAGE_BYTES >= BLOCK_SIZE_MIN as usize);
