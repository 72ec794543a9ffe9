//! The seam every allocator implements, with its contract. Lives on one core.

use crate::extent::Extent;
use crate::limits::PAGE_BYTES;

/// Bytes of one serialised bitmap page: bit `i % 8` of byte `i / 8` is set when block `i` of the page is free.
pub type Page = Box<[u8; PAGE_BYTES]>;

/// Result of an allocator's call.
pub type AllocResult<T> = Result<T, AllocError>;

/// Why a call was refused. The allocator is as it was before the call.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum AllocError {
    /// Less is free (and not reserved) than was asked for.
    #[error("{wanted} bytes of space are wanted, {available} are available")]
    NoSpace { wanted: u64, available: u64 },
    /// Enough is free, but not in so few pieces of that unit.
    #[error(
        "{wanted} bytes in units of {unit} do not fit in {extents_max} extents; {free} bytes are free in pieces"
    )]
    Fragmented { wanted: u64, unit: u64, extents_max: usize, free: u64 },
    /// Zero, not aligned, too long, or outside the space.
    #[error("{what}: {extent} does not fit a space of {capacity} bytes in blocks of {block_size}")]
    Range { what: &'static str, extent: Extent, capacity: u64, block_size: u64 },
    /// A unit or a number of extents outside the limits.
    #[error(
        "request of {len} bytes in units of {unit} and at most {extents_max} extents is outside the limits"
    )]
    Request { len: u64, unit: u64, extents_max: usize },
    /// Some of the range is free already.
    #[error("{0} is not all in use")]
    NotUsed(Extent),
    /// Some of the range is in use already.
    #[error("{0} is not all free")]
    NotFree(Extent),
    /// No such zone.
    #[error("zone {index} of {zones}")]
    NoZone { index: u64, zones: u64 },
    /// Something in it is in use.
    #[error("zone {index} has {alive} bytes in use")]
    ZoneAlive { index: u64, alive: u64 },
    /// Not aligned, before something in use, or behind the zone.
    #[error("write pointer {write} of zone {index} is not a block from {least} to {most}")]
    WritePointer { index: u64, write: u64, least: u64, most: u64 },
    /// A bitmap page that cannot belong to this space.
    #[error("bitmap page {index} of {pages}: {reason}")]
    BadPage { index: u64, pages: u64, reason: &'static str },
}

/// What to allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes; a multiple of `unit`.
    pub len: u64,
    /// Alignment and granule of every extent, bytes: a power of two times the block size, at most
    /// [`crate::limits::UNIT_BLOCKS_MAX`] blocks.
    pub unit: u64,
    /// Most extents the caller can take.
    pub extents_max: usize,
    /// Where to look first; the allocator's own cursor if absent.
    pub hint: Option<u64>,
}

/// Work done so far, so that the bound on the work can be tested and watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Successful calls of [`Allocator::allocate`].
    pub allocations: u64,
    /// Words of the bitmap looked at or changed by all calls of `allocate`.
    pub words: u64,
    /// The most by one call.
    pub words_max: u64,
}

/// Free and used ranges of one address space, in bytes aligned to a block.
///
/// Contract:
/// - Synchronous and deterministic: the same calls give the same answers.
/// - All or nothing: a call that fails changed nothing.
/// - Extents handed out are in use until released, never overlap, are aligned to the request's unit and never
///   empty; adjacent pieces are joined. Any part of what was handed out may be released, in any order.
/// - With `extents_max` ≥ units asked for, an allocation succeeds whenever so many aligned units are free; with
///   `unit == block_size` that is whenever enough is free. With fewer extents allowed it may fail although a
///   cleverer choice of pieces exists.
/// - Bounded: one allocation touches a number of words that depends on its length and `extents_max`, never on the
///   size or state of the space.
/// - A new allocator is all in use; its owner frees what it owns. A page is *dirty* when it may differ from what
///   was last taken or loaded, so a checkpoint of the dirty pages over the previous one is a full image.
pub trait Allocator {
    /// Bytes of a block; every extent is aligned to it.
    fn block_size(&self) -> u64;
    /// Bytes of the whole space.
    fn capacity(&self) -> u64;
    /// Bytes free.
    fn free_bytes(&self) -> u64;
    /// Number of maximal free runs. O(1).
    fn free_runs(&self) -> u64;
    /// Takes space and appends the extents to `out`.
    fn allocate(&mut self, request: &Request, out: &mut Vec<Extent>) -> AllocResult<()>;
    /// Gives space back.
    fn release(&mut self, extent: Extent) -> AllocResult<()>;
    /// Takes exactly this range, all of which must be free: for rebuilding from extents.
    fn mark_used(&mut self, extent: Extent) -> AllocResult<()>;
    /// Frees exactly this range, all of which must be in use: for rebuilding, and for space newly owned.
    fn mark_free(&mut self, extent: Extent) -> AllocResult<()> {
        self.release(extent)
    }
    /// The first free run, cut to what lies at or after `from`.
    fn next_free(&self, from: u64) -> Option<Extent>;
    /// The first run in use, cut to what lies at or after `from`.
    fn next_used(&self, from: u64) -> Option<Extent>;
    /// Number of bitmap pages.
    fn pages(&self) -> u64;
    /// A copy of one bitmap page.
    fn page(&self, index: u64) -> AllocResult<Page>;
    /// Replaces one page; it is clean afterwards. Blocks past the capacity must be in use in it.
    fn load_page(&mut self, index: u64, page: &[u8; PAGE_BYTES]) -> AllocResult<()>;
    /// How many pages are dirty.
    fn dirty_pages(&self) -> u64;
    /// Copies of all dirty pages in ascending order, which are clean afterwards.
    fn take_dirty_pages(&mut self) -> Vec<(u64, Page)>;
    /// Makes a page dirty again, because what was taken could not be stored.
    fn mark_dirty(&mut self, index: u64) -> AllocResult<()>;
    /// Work done so far.
    fn work(&self) -> Work;
    /// Bytes of memory held.
    fn memory_bytes(&self) -> usize;

    /// 0 when the free space is one run, 1 when no two free blocks are adjacent. O(1), always current.
    fn fragmentation(&self) -> f64 {
        let free_blocks = self.free_bytes() / self.block_size();
        if free_blocks < 2 {
            return 0.0;
        }
        (self.free_runs().saturating_sub(1)) as f64 / (free_blocks - 1) as f64
    }

    /// All free runs in ascending order.
    fn free_extents(&self) -> Vec<Extent> {
        collect(|from| self.next_free(from))
    }

    /// All runs in use in ascending order.
    fn used_extents(&self) -> Vec<Extent> {
        collect(|from| self.next_used(from))
    }
}

/// How far a zone is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneState {
    /// Nothing is written.
    Empty,
    /// Space is being taken from it.
    Open,
    /// Written in part, and not open.
    Closed,
    /// Written to its end.
    Full,
}

/// A zone. What is before its write pointer and not in use is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Where it is.
    pub extent: Extent,
    /// How far it is written.
    pub state: ZoneState,
    /// The write pointer: bytes from the zone's start.
    pub write: u64,
    /// Bytes in use.
    pub alive: u64,
}

impl Zone {
    /// Bytes that only a reset makes free.
    pub fn dead(&self) -> u64 {
        self.write - self.alive
    }
}

/// An allocator of a device with zones, each of which is written in ascending order and emptied as a whole.
///
/// What it does not promise of [`Allocator`]'s contract, and what it promises besides:
/// - Free is only what lies behind the write pointers. What is released is dead, neither free nor in use, until its zone is
///   reset; what is passed over to align a piece is dead as well. So an allocation may fail although much was released.
/// - Within a zone, space is handed out in ascending order; the caller writes it in that order.
/// - An allocation succeeds whenever enough is free only if its unit is the block: a zone's rest is tried for a larger unit
///   only if the zone is open, or no closed zone has more left.
/// - No more than [`Zones::open_max`] zones are open. One more is opened by closing that with the least left.
/// - [`Allocator::mark_free`] resets the zones in which it leaves nothing in use: space newly owned is empty.
/// - [`Allocator::mark_used`] moves a write pointer up if what it takes is behind it. A bitmap page has the blocks that are
///   not in use, dead or free. So a state can be rebuilt from extents, or pages, and the device's write pointers.
pub trait Zones: Allocator {
    /// Number of zones.
    fn zones(&self) -> u64;
    /// How one is.
    fn zone(&self, index: u64) -> AllocResult<Zone>;
    /// Most zones that are open at once.
    fn open_max(&self) -> usize;
    /// Empties a zone with nothing in use, which the caller resets on the device before anything is written to it.
    fn reset(&mut self, index: u64) -> AllocResult<()>;
    /// A zone's write pointer, bytes from its start, as the device has it: for rebuilding. The zone is not open afterwards.
    fn set_write_pointer(&mut self, index: u64, write: u64) -> AllocResult<()>;
    /// The zone to clean: of those that are not open, the one with the most dead bytes, the first of equals; none if nothing
    /// is dead. Always current, without looking at every zone.
    fn victim(&self) -> Option<u64>;
}

fn collect(next: impl Fn(u64) -> Option<Extent>) -> Vec<Extent> {
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(extent) = next(from) {
        from = extent.end();
        all.push(extent);
    }
    all
}

/// Refuses a request outside the limits; gives its length and unit in blocks.
pub(crate) fn check_request(request: &Request, block_size: u64) -> AllocResult<(u64, u64)> {
    use crate::limits::{REQUEST_BYTES_MAX, REQUEST_EXTENTS_MAX, UNIT_BLOCKS_MAX};
    let Request { len, unit, extents_max, .. } = *request;
    let good = unit.is_multiple_of(block_size)
        && (unit / block_size).is_power_of_two()
        && unit / block_size <= UNIT_BLOCKS_MAX
        && len > 0
        && len.is_multiple_of(unit)
        && len <= REQUEST_BYTES_MAX
        && (1..=REQUEST_EXTENTS_MAX).contains(&extents_max);
    if !good {
        return Err(AllocError::Request { len, unit, extents_max });
    }
    Ok((len / block_size, unit / block_size))
}

/// Refuses a range that is empty, not aligned or outside the space.
pub(crate) fn check_range(
    what: &'static str,
    extent: Extent,
    capacity: u64,
    block_size: u64,
) -> AllocResult<()> {
    let good = extent.len > 0
        && extent.start.is_multiple_of(block_size)
        && extent.len.is_multiple_of(block_size)
        && extent.start.checked_add(extent.len).is_some_and(|end| end <= capacity);
    if !good {
        return Err(AllocError::Range { what, extent, capacity, block_size });
    }
    Ok(())
}
