//! [`HybridAllocator`]: a bitmap for what is true, and hints of long runs for long requests.
//!
//! Short requests are the bitmap's, at its cost. A request of a word's worth of blocks and more first tries runs that
//! were long when they came about, of the shortest kind that is long enough, and so finds on an aged device what a bounded
//! search of the bitmap passes by. What a hint promises is looked up in the bitmap before it is used.

use crate::bitmap::BitmapAllocator;
use crate::extent::Extent;
use crate::limits::{
    LONG_RUN_BLOCKS, LONG_RUN_ORDERS, LONG_RUN_TRIES, LONG_RUN_TRIES_PER_REQUEST, LONG_RUNS_PER_BIN_MIN,
    PAGE_BLOCKS, PAGE_BYTES,
};
use crate::long_runs::LongRuns;
use crate::seam::{AllocError, AllocResult, Allocator, Page, Request, Work};

/// How far from what is released a run is measured, blocks: the length from which longer ones are all in one bin.
const MEASURED_MAX: u64 = LONG_RUN_BLOCKS << (LONG_RUN_ORDERS - 1);

/// See the module.
#[derive(Clone, Debug)]
pub struct HybridAllocator {
    bitmap: BitmapAllocator,
    long: LongRuns,
}

impl HybridAllocator {
    /// As [`BitmapAllocator::new`].
    pub fn new(capacity: u64, block_size: u64) -> Self {
        Self::from(BitmapAllocator::new(capacity, block_size))
    }

    /// As [`BitmapAllocator::new_free`].
    pub fn new_free(capacity: u64, block_size: u64) -> Self {
        Self::from(BitmapAllocator::new_free(capacity, block_size))
    }

    /// What is free and what is not, without the hints.
    pub fn bitmap(&self) -> &BitmapAllocator {
        &self.bitmap
    }

    /// As [`BitmapAllocator::grow`].
    pub fn grow(&mut self, capacity: u64) {
        self.bitmap.grow(capacity);
        self.long.keep_up_to(per_bin(self.bitmap.pages()));
    }

    /// Upper bound of the words one allocation of `blocks` in at most `extents_max` pieces may touch.
    pub fn words_bound(&self, blocks: u64, extents_max: usize) -> u64 {
        let hint = (blocks + MEASURED_MAX) / 64 + 2;
        let tries = if blocks < LONG_RUN_BLOCKS { 0 } else { LONG_RUN_TRIES_PER_REQUEST as u64 };
        self.bitmap.words_bound(blocks, extents_max) + tries * hint
    }

    /// Notes the long runs of a page.
    fn note_page(&mut self, index: u64) {
        let (mut at, end) = (index * PAGE_BLOCKS, (index + 1) * PAGE_BLOCKS);
        while let Some((start, len)) = self.bitmap.next_whole_word(at, end) {
            // It begins somewhere in the word before.
            let before = self.bitmap.run_left(start, (start - at).min(LONG_RUN_BLOCKS));
            self.long.note(start - before, before + len);
            at = start + len;
        }
    }

    /// Notes what became free, with what it joined.
    fn note_release(&mut self, start: u64, blocks: u64) {
        let before = self.bitmap.run_left(start, MEASURED_MAX);
        let after = self.bitmap.run_right(start + blocks, MEASURED_MAX, true);
        self.long.grew(start - before, before + blocks + after, before.max(after));
    }
}

impl From<BitmapAllocator> for HybridAllocator {
    fn from(bitmap: BitmapAllocator) -> Self {
        let pages = bitmap.pages();
        let mut new = Self { bitmap, long: LongRuns::new(per_bin(pages)) };
        (0..pages).for_each(|index| new.note_page(index));
        new
    }
}

/// How many hints of each kind there may be.
fn per_bin(pages: u64) -> usize {
    usize::try_from(pages / 8).unwrap_or(usize::MAX).max(LONG_RUNS_PER_BIN_MIN)
}

/// From where to take up to `wanted` blocks, more than a word's worth: from `at` on if they fit there; else from a hinted
/// run that has them all; else the longest piece among the first few that the bitmap and the hints name. `tries` is how
/// many runs the request may still look at.
fn pick_long(
    bitmap: &BitmapAllocator,
    long: &mut LongRuns,
    wanted: u64,
    unit: u64,
    at: u64,
    tries: &mut usize,
) -> Option<(u64, u64)> {
    if bitmap.fits_at(at, wanted, unit) {
        return Some((at, wanted));
    }
    let mut shorter = [(0, 0); LONG_RUN_TRIES];
    let mut fits = None;
    for tried in shorter.iter_mut().take(*tries) {
        let Some(hint) = long.take(wanted) else { break };
        *tries -= 1;
        let (start, free) = look(bitmap, hint, wanted, unit);
        if free >= wanted {
            long.note(start + wanted, free - wanted);
            fits = Some((start, wanted));
            break;
        }
        *tried = (start, free);
    }
    // Only now, so that none is tried twice.
    shorter.iter().for_each(|(start, free)| long.note(*start, *free));
    if fits.is_some() {
        return fits;
    }
    let found = bitmap.pick(wanted, unit, at, tries)?;
    if found.1 == wanted || *tries == 0 {
        return Some(found);
    }
    *tries -= 1;
    let hinted = long.take_longest().map(|hint| look(bitmap, hint, wanted, unit));
    match hinted.map(|(start, free)| (start, free.min(wanted) / unit * unit)) {
        Some((start, len)) if len > found.1 => Some((start, len)),
        Some((start, len)) => {
            long.note(start, len);
            Some(found)
        }
        None => Some(found),
    }
}

/// Where the hinted run's first unit begins, and how many blocks are free from there on, as far as it matters.
fn look(bitmap: &BitmapAllocator, hint: u64, wanted: u64, unit: u64) -> (u64, u64) {
    let start = hint.next_multiple_of(unit);
    (start, bitmap.run_right(start, wanted + MEASURED_MAX, true))
}

impl Allocator for HybridAllocator {
    fn block_size(&self) -> u64 {
        self.bitmap.block_size()
    }

    fn capacity(&self) -> u64 {
        self.bitmap.capacity()
    }

    fn free_bytes(&self) -> u64 {
        self.bitmap.free_bytes()
    }

    fn free_runs(&self) -> u64 {
        self.bitmap.free_runs()
    }

    fn allocate(&mut self, request: &Request, out: &mut Vec<Extent>) -> AllocResult<()> {
        let long = &mut self.long;
        self.bitmap.allocate_by(request, out, |bitmap, wanted, unit, at, tries| {
            if wanted < LONG_RUN_BLOCKS {
                bitmap.pick(wanted, unit, at, tries)
            } else {
                pick_long(bitmap, long, wanted, unit, at, tries)
            }
        })
    }

    fn release(&mut self, extent: Extent) -> AllocResult<()> {
        self.bitmap.release(extent)?;
        let (start, blocks) = self.bitmap.to_blocks("release", extent)?;
        self.note_release(start, blocks);
        Ok(())
    }

    fn mark_used(&mut self, extent: Extent) -> AllocResult<()> {
        self.bitmap.mark_used(extent)
    }

    fn next_free(&self, from: u64) -> Option<Extent> {
        self.bitmap.next_free(from)
    }

    fn next_used(&self, from: u64) -> Option<Extent> {
        self.bitmap.next_used(from)
    }

    fn pages(&self) -> u64 {
        self.bitmap.pages()
    }

    fn page(&self, index: u64) -> AllocResult<Page> {
        self.bitmap.page(index)
    }

    fn load_page(&mut self, index: u64, page: &[u8; PAGE_BYTES]) -> Result<(), AllocError> {
        self.bitmap.load_page(index, page)?;
        self.note_page(index);
        Ok(())
    }

    fn dirty_pages(&self) -> u64 {
        self.bitmap.dirty_pages()
    }

    fn take_dirty_pages(&mut self) -> Vec<(u64, Page)> {
        self.bitmap.take_dirty_pages()
    }

    fn mark_dirty(&mut self, index: u64) -> AllocResult<()> {
        self.bitmap.mark_dirty(index)
    }

    fn work(&self) -> Work {
        self.bitmap.work()
    }

    fn memory_bytes(&self) -> usize {
        self.bitmap.memory_bytes() + self.long.memory()
    }
}
