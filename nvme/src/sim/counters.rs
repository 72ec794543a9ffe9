//! What went to a simulated disk, in all and by region. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::limits::IMAGE_PAGE_BYTES;

/// Counts of I/Os as submitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Discards.
    pub discards: u64,
    /// Flushes; of the whole disk only, a region has none.
    pub flushes: u64,
    /// Bytes of the reads.
    pub bytes_read: u64,
    /// Bytes of the writes.
    pub bytes_written: u64,
    /// Writes and discards submitted while an overlapping one was in flight, whose result is undefined: a mistake of
    /// the caller unless it does not care for the overlap.
    pub racing_writes: u64,
    /// Reads submitted while an overlapping write was in flight, or the other way round.
    pub racing_reads: u64,
}

/// A named range with counts of its own: an I/O counts where it starts.
#[derive(Clone, Debug)]
pub struct Region {
    /// As given.
    pub name: &'static str,
    /// Bytes.
    pub range: Range<u64>,
    /// Counts since the region was named.
    pub counters: Counters,
    /// Pages of the disk's memory that were written at least once.
    pub(super) pages: BTreeSet<u64>,
}

impl Region {
    /// Bytes of the disk, in pages of 4 KiB, that were written at least once since the region was named.
    pub fn distinct_bytes_written(&self) -> u64 {
        (self.pages.len() * IMAGE_PAGE_BYTES) as u64
    }
}

/// The counts of a disk.
#[derive(Default)]
pub(super) struct Books {
    pub all: Counters,
    pub regions: Vec<Region>,
}

impl Books {
    /// Adds an I/O at `offset` to every account it belongs to.
    pub fn enter(&mut self, offset: u64, add: impl Fn(&mut Counters)) {
        add(&mut self.all);
        for region in &mut self.regions {
            if region.range.contains(&offset) {
                add(&mut region.counters);
            }
        }
    }

    /// Notes that a write goes to these bytes.
    pub fn note_written(&mut self, offset: u64, len: u64) {
        let page = IMAGE_PAGE_BYTES as u64;
        for region in self.regions.iter_mut().filter(|region| region.range.contains(&offset)) {
            region.pages.extend(offset / page..(offset + len).div_ceil(page));
        }
    }
}
