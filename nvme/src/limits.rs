//! Every limit of the crate, with the relations between them.

use std::time::Duration;

/// Smallest and largest block size a device may have, bytes.
pub const BLOCK_SIZE_MIN: u32 = 512;
/// See [`BLOCK_SIZE_MIN`].
pub const BLOCK_SIZE_MAX: u32 = 65536;

/// Slots of one size in the pool of buffers that a core registers with its ring.
#[derive(Clone, Copy, Debug)]
pub struct PoolClass {
    /// Bytes of a slot.
    pub slot_bytes: usize,
    /// How many there are.
    pub slots: usize,
}

/// The pool of a core: blocks, and what a small object or a journal group takes. Below half of what Debian lets a
/// user lock into memory.
pub const POOL_CLASSES: [PoolClass; 2] =
    [PoolClass { slot_bytes: 4096, slots: 384 }, PoolClass { slot_bytes: 65536, slots: 32 }];

/// Bytes of one page of an in-memory image: what one write of a block costs in memory at most.
pub(crate) const IMAGE_PAGE_BYTES: usize = 4096;
/// Pages of one chunk of an in-memory image: what a snapshot shares as one.
pub(crate) const IMAGE_CHUNK_PAGES: usize = 256;

/// Largest I/O that the memory and simulated backends take as one unless told otherwise, bytes.
pub(crate) const MEMORY_IO_MAX: u32 = 1 << 20;

/// Block size of a regular file, bytes, unless its file system needs more: a page, whatever the disk below has.
pub const FILE_BLOCK_SIZE: u32 = 4096;

/// Largest I/O that goes to the system as one, bytes: what one request of the block layer holds in single pages.
pub const URING_IO_MAX: u32 = 1 << 20;

/// How long opening waits for a holder that cannot be found, and is therefore likely to be on its way out.
pub const OPEN_WAIT: Duration = Duration::from_secs(5);

/// Pause between two attempts.
pub(crate) const OPEN_WAIT_STEP: Duration = Duration::from_millis(5);

/// Entries of a polled ring, and so I/Os in flight on it; more wait for room.
pub const POLLED_RING_ENTRIES: u32 = 1024;

/// Longest I/O that is polled for, bytes: what a longer one saves is little of what it costs.
pub const POLLED_IO_MAX: u64 = 64 << 10;

/// How long a device is given to answer when polling is tried, and to finish what is in flight when its core ends.
pub const POLLED_WAIT: Duration = Duration::from_secs(5);

/// Bytes at the front of a device in which somebody's data is looked for; it is blank only if all are zero.
pub const PROBE_HEAD_BYTES: u64 = 1 << 20;

/// Bytes at its end in which signatures are looked for.
pub const PROBE_TAIL_BYTES: u64 = 1 << 20;

/// Bytes of writes that one recording holds.
pub const RECORDING_BYTES_MAX: u64 = 2 << 30;

/// Most devices that are joined to one.
pub const MEMBERS_MAX: usize = 3;

/// An address on a joined device has the member's slot from this bit on: each has 64 PiB of addresses.
pub const MEMBER_SHIFT: u32 = 56;

const _: () = assert!(BLOCK_SIZE_MIN.is_power_of_two() && BLOCK_SIZE_MAX.is_power_of_two());
const _: () = assert!(IMAGE_PAGE_BYTES.is_power_of_two() && IMAGE_PAGE_BYTES >= BLOCK_SIZE_MIN as usize);
const _: () = assert!(FILE_BLOCK_SIZE >= BLOCK_SIZE_MIN && FILE_BLOCK_SIZE <= BLOCK_SIZE_MAX);
const _: () = assert!(URING_IO_MAX >= BLOCK_SIZE_MAX);
const _: () = assert!(POOL_CLASSES[0].slot_bytes < POOL_CLASSES[1].slot_bytes);
const _: () = assert!(
    POOL_CLASSES[0].slot_bytes * POOL_CLASSES[0].slots + POOL_CLASSES[1].slot_bytes * POOL_CLASSES[1].slots
        < 4 << 20
);
