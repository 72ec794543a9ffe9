//! [`BitmapAllocator`]: a hierarchical bitmap with a next-fit cursor.
//!
//! Level 0 has a bit per block. Level 1 summarises each page of 32 Ki blocks: per power of two, which lines of eight words
//! have an aligned free piece of that size; one [`BitTree`] per power of two knows which pages have one. So finding a piece
//! costs at most two lines of each of two pages and one climb of a tree, whatever the size and age of the device.
//! Invariants: trees, counters and number of free runs always equal what a scan of level 0 would give.

use std::cell::Cell;

use crate::extent::Extent;
use crate::limits::{
    BLOCK_BYTES_MIN, BLOCKS_MAX, LINE_WORDS, LONG_RUN_BLOCKS, LONG_RUN_TRIES, LONG_RUN_TRIES_PER_REQUEST,
    PAGE_BLOCKS, PAGE_BYTES, PAGE_WORDS, UNIT_BLOCKS_MAX,
};
use crate::page::BitmapPage;
use crate::seam::{AllocError, AllocResult, Allocator, Page, Request, Work, check_range, check_request};
use crate::tree::BitTree;
use crate::word::{ORDERS, run_starts};

/// See the module.
#[derive(Clone, Debug)]
pub struct BitmapAllocator {
    block_size: u64,
    blocks: u64,
    pages: Vec<BitmapPage>,
    /// `by_class[c]`: pages with a word of class above `c`, that is, with an aligned free piece of `2^c` blocks.
    by_class: [BitTree; ORDERS],
    /// Pages that are not wholly in use but not wholly free either, or wholly in use: where a used block is.
    not_full: BitTree,
    dirty: BitTree,
    dirty_count: u64,
    free: u64,
    runs: u64,
    cursor: u64,
    touched: Cell<u64>,
    work: Work,
}

impl BitmapAllocator {
    /// A space of `capacity` bytes (rounded down to blocks), all in use, with all pages clean. `block_size` is a
    /// power of two of at least [`BLOCK_BYTES_MIN`]; the space has at least one block and at most [`BLOCKS_MAX`].
    pub fn new(capacity: u64, block_size: u64) -> Self {
        assert!(block_size.is_power_of_two() && block_size >= BLOCK_BYTES_MIN, "block size {block_size}");
        let blocks = capacity / block_size;
        assert!((1..=BLOCKS_MAX).contains(&blocks), "{blocks} blocks are outside the limits");
        let pages = blocks.div_ceil(PAGE_BLOCKS) as usize;
        let mut not_full = BitTree::new(pages);
        (0..pages).for_each(|page| not_full.insert(page));
        Self {
            block_size,
            blocks,
            pages: vec![BitmapPage::used(); pages],
            by_class: std::array::from_fn(|_| BitTree::new(pages)),
            not_full,
            dirty: BitTree::new(pages),
            dirty_count: 0,
            free: 0,
            runs: 0,
            cursor: 0,
            touched: Cell::new(0),
            work: Work::default(),
        }
    }

    /// As [`BitmapAllocator::new`], all free.
    pub fn new_free(capacity: u64, block_size: u64) -> Self {
        let mut new = Self::new(capacity, block_size);
        new.set_range(0, new.blocks, true);
        new
    }

    /// The space becomes larger; what is new is in use. It shrinks never.
    pub fn grow(&mut self, capacity: u64) {
        let blocks = capacity / self.block_size;
        assert!((self.blocks..=BLOCKS_MAX).contains(&blocks), "{blocks} blocks instead of {}", self.blocks);
        let (before, pages) = (self.pages.len(), blocks.div_ceil(PAGE_BLOCKS) as usize);
        self.blocks = blocks;
        self.pages.resize(pages, BitmapPage::used());
        for tree in self.by_class.iter_mut().chain([&mut self.not_full, &mut self.dirty]) {
            tree.grow(pages);
        }
        (before..pages).for_each(|page| self.not_full.insert(page));
    }

    /// Upper bound of the words one allocation of `blocks` in at most `extents_max` pieces may touch: some 90 for each piece
    /// and, from [`LONG_RUN_BLOCKS`] on, some 50 for each of [`LONG_RUN_TRIES_PER_REQUEST`] runs, and as many times the words
    /// that hold so many blocks.
    pub fn words_bound(&self, blocks: u64, extents_max: usize) -> u64 {
        let find = self.words_to_find();
        let whole = blocks / 64 + 2;
        // Whether it fits where the last one ended, a look at every order, one find, the run around it; and its change, with
        // the lines around the first and last word.
        let piece = whole + ORDERS as u64 + find + 2 * whole + 2 * LINE_WORDS as u64 + 4;
        let pieces = (extents_max as u64).min(blocks).saturating_add(1);
        let tries = if blocks < LONG_RUN_BLOCKS { 0 } else { LONG_RUN_TRIES_PER_REQUEST as u64 };
        tries * (find + 2 * whole) + pieces.saturating_mul(piece) + 2 * whole
    }

    /// Most words that finding one piece touches: two lines of each of two pages, and a climb up and down a tree.
    fn words_to_find(&self) -> u64 {
        1 + 2 * (1 + 2 * LINE_WORDS as u64) + 2 * self.dirty.height() as u64
    }

    /// Counts the words touched from now on.
    pub(crate) fn start_counting(&self) {
        self.touched.set(0);
    }

    /// Words touched since counting was started.
    pub(crate) fn counted(&self) -> u64 {
        self.touched.get()
    }

    pub(crate) fn touch(&self, words: u64) {
        self.touched.set(self.touched.get() + words);
    }

    /// The word of level 0 that holds `block`.
    fn word_at(&self, block: u64) -> u64 {
        let page = &self.pages[(block / PAGE_BLOCKS) as usize];
        page.word((block % PAGE_BLOCKS / 64) as usize)
    }

    fn is_free(&self, block: u64) -> bool {
        block < self.blocks && self.word_at(block) >> (block % 64) & 1 == 1
    }

    /// How many blocks from `from` on are in the wanted state, at most `limit`.
    pub(crate) fn run_right(&self, from: u64, limit: u64, free: bool) -> u64 {
        let end = from.saturating_add(limit).min(self.blocks);
        let mut at = from;
        while at < end {
            let page = &self.pages[(at / PAGE_BLOCKS) as usize];
            self.touch(1);
            if page.is_uniform() {
                if page.is_all_free() != free {
                    break;
                }
                at = (at / PAGE_BLOCKS + 1) * PAGE_BLOCKS;
                continue;
            }
            let word = page.word((at % PAGE_BLOCKS / 64) as usize);
            let word = if free { word } else { !word } >> (at % 64);
            let ones = u64::from(word.trailing_ones()).min(64 - at % 64);
            at += ones;
            if !at.is_multiple_of(64) || ones == 0 {
                break;
            }
        }
        at.min(end).saturating_sub(from)
    }

    /// How many blocks just before `to` are free, at most `limit`.
    pub(crate) fn run_left(&self, to: u64, limit: u64) -> u64 {
        let start = to.saturating_sub(limit);
        let mut at = to;
        while at > start {
            self.touch(1);
            let used_bits = 64 - ((at - 1) % 64 + 1);
            let word = self.word_at(at - 1) << used_bits;
            let ones = u64::from(word.leading_ones()).min(64 - used_bits);
            at -= ones;
            if ones == 0 || !at.is_multiple_of(64) {
                break;
            }
        }
        to - at.max(start)
    }

    /// First aligned free piece of `2^order` blocks at or after `from`, going round once.
    fn find(&self, order: usize, from: u64) -> Option<u64> {
        self.touch(1);
        if self.by_class[order].is_empty() {
            return None;
        }
        let from = if from < self.blocks { from } else { 0 };
        let first = (from / PAGE_BLOCKS) as usize;
        let mut touched = 0;
        let mut found = None;
        if self.by_class[order].contains(first) {
            found = self.pages[first]
                .find(order, from % PAGE_BLOCKS, &mut touched)
                .map(|block| first as u64 * PAGE_BLOCKS + block);
        }
        if found.is_none() {
            touched += 2 * self.by_class[order].height() as u64;
            let page = self.by_class[order].next(first + 1).or_else(|| self.by_class[order].next(0));
            found = page.and_then(|page| {
                let block = self.pages[page].find(order, 0, &mut touched);
                assert!(block.is_some(), "the summary promised a piece of order {order} in page {page}");
                block.map(|block| page as u64 * PAGE_BLOCKS + block)
            });
        }
        self.touch(touched);
        found
    }

    /// The free run around a piece found, aligned to the unit and at most `wanted` long.
    fn widen(&self, block: u64, wanted: u64, unit: u64) -> (u64, u64) {
        let left = self.run_left(block, wanted) / unit * unit;
        let start = block - left;
        let len = left + self.run_right(block, wanted - left.min(wanted), true);
        (start, len.min(wanted) / unit * unit)
    }

    /// Whether so many blocks can be taken from there on.
    pub(crate) fn fits_at(&self, from: u64, wanted: u64, unit: u64) -> bool {
        from.is_multiple_of(unit) && self.run_right(from, wanted, true) == wanted
    }

    /// The first run in `from..end`, which lies in one page, that begins with a free word: its start and length up to `end`.
    pub(crate) fn next_whole_word(&self, from: u64, end: u64) -> Option<(u64, u64)> {
        let end = end.min(self.blocks);
        let base = from / PAGE_BLOCKS * PAGE_BLOCKS;
        let page = self.pages.get((from / PAGE_BLOCKS) as usize).filter(|_| from < end)?;
        let start = base + page.find(ORDERS - 1, from - base, &mut 0)?;
        Some((start, self.run_right(start, end - start, true)))
    }

    /// Where to take up to `wanted` blocks from: at `from` if they fit there, else the first run that fits them
    /// all, else the largest piece that a bounded search finds.
    ///
    /// `tries` is how many long runs the request may still look at.
    pub(crate) fn pick(&self, wanted: u64, unit: u64, from: u64, tries: &mut usize) -> Option<(u64, u64)> {
        if self.fits_at(from, wanted, unit) {
            return Some((from, wanted));
        }
        let unit_order = unit.trailing_zeros() as usize;
        let fitting_order = wanted.next_power_of_two().trailing_zeros() as usize;
        if fitting_order >= ORDERS {
            let long = self.pick_long(wanted, unit, from, tries);
            if long.is_some() {
                return long;
            }
        }
        for order in (unit_order..ORDERS.min(fitting_order + 1)).rev() {
            if let Some(block) = self.find(order, from) {
                return Some(self.widen(block, wanted, unit));
            }
        }
        None
    }

    /// For more than a word's worth: the longest of the first few runs that hold a whole word.
    fn pick_long(&self, wanted: u64, unit: u64, from: u64, tries: &mut usize) -> Option<(u64, u64)> {
        let mut best: Option<(u64, u64)> = None;
        let mut at = from;
        for _ in 0..LONG_RUN_TRIES.min(*tries) {
            *tries -= 1;
            let Some(block) = self.find(ORDERS - 1, at) else { break };
            let (start, len) = self.widen(block, wanted, unit);
            if best.is_none_or(|(_, longest)| len > longest) {
                best = Some((start, len));
            }
            if len == wanted {
                break;
            }
            at = (start + len).max(block + UNIT_BLOCKS_MAX);
        }
        best
    }

    /// Flips blocks that are all in the opposite state, keeping every counter.
    fn set_range(&mut self, start: u64, len: u64, free: bool) {
        let end = start + len;
        let before = start > 0 && self.is_free(start - 1);
        let after = self.is_free(end);
        let joined = u64::from(before) + u64::from(after);
        if free {
            self.runs = self.runs + 1 - joined;
            self.free += len;
        } else {
            self.runs = self.runs + joined - 1;
            self.free -= len;
        }
        let mut at = start;
        while at < end {
            let index = (at / PAGE_BLOCKS) as usize;
            let base = index as u64 * PAGE_BLOCKS;
            let stop = (base + PAGE_BLOCKS).min(end);
            let was = self.pages[index].class();
            let touched = self.pages[index].set(at - base, stop - base, free);
            self.touch(touched);
            self.summarise(index, was);
            self.make_dirty(index);
            at = stop;
        }
    }

    fn summarise(&mut self, index: usize, was: usize) {
        let class = self.pages[index].class();
        for order in class..was {
            self.by_class[order].remove(index);
        }
        for order in was..class {
            self.by_class[order].insert(index);
        }
        if self.pages[index].is_all_free() {
            self.not_full.remove(index);
        } else {
            self.not_full.insert(index);
        }
    }

    fn make_dirty(&mut self, index: usize) {
        if !self.dirty.contains(index) {
            self.dirty.insert(index);
            self.dirty_count += 1;
        }
    }

    pub(crate) fn to_blocks(&self, what: &'static str, extent: Extent) -> AllocResult<(u64, u64)> {
        check_range(what, extent, self.capacity(), self.block_size)?;
        Ok((extent.start / self.block_size, extent.len / self.block_size))
    }

    fn to_extent(&self, start: u64, len: u64) -> Extent {
        Extent::new(start * self.block_size, len * self.block_size)
    }

    fn page_index(&self, index: u64) -> AllocResult<usize> {
        let pages = self.pages.len() as u64;
        usize::try_from(index).ok().filter(|at| *at < self.pages.len()).ok_or(AllocError::BadPage {
            index,
            pages,
            reason: "no such page",
        })
    }

    /// Free runs that begin in a page, and in the first block after it.
    fn run_starts_around(&self, index: usize) -> u64 {
        let base = index as u64 * PAGE_BLOCKS;
        let mut before = base > 0 && self.is_free(base - 1);
        let mut starts = 0;
        for at in 0..PAGE_WORDS {
            let word = self.pages[index].word(at);
            starts += run_starts(word, before);
            before = word >> 63 == 1;
        }
        starts + u64::from(!before && self.is_free(base + PAGE_BLOCKS))
    }

    /// Allocates pieces that `pick` chooses: of so many blocks at most, in this unit, from there on if it does not matter
    /// where, looking at so many long runs. What it gives is free, aligned to the unit, not empty and not longer than asked for.
    pub(crate) fn allocate_by(
        &mut self,
        request: &Request,
        out: &mut Vec<Extent>,
        mut pick: impl FnMut(&Self, u64, u64, u64, &mut usize) -> Option<(u64, u64)>,
    ) -> AllocResult<()> {
        let (wanted, unit) = check_request(request, self.block_size)?;
        if wanted > self.free {
            return Err(AllocError::NoSpace { wanted: request.len, available: self.free_bytes() });
        }
        self.start_counting();
        let mut at = request.hint.map_or(self.cursor, |hint| hint / self.block_size);
        let mut remaining = wanted;
        let mut tries = LONG_RUN_TRIES_PER_REQUEST;
        let mut taken: Vec<(u64, u64)> = Vec::new();
        while remaining > 0 {
            let picked = pick(self, remaining, unit, at, &mut tries);
            let joins =
                picked.is_some_and(|(start, _)| taken.last().is_some_and(|last| last.0 + last.1 == start));
            let Some((start, len)) = picked.filter(|_| joins || taken.len() < request.extents_max) else {
                self.roll_back(&taken);
                return Err(AllocError::Fragmented {
                    wanted: request.len,
                    unit: request.unit,
                    extents_max: request.extents_max,
                    free: self.free_bytes(),
                });
            };
            assert!(len > 0 && len <= remaining, "picked {len} of {remaining} blocks");
            self.set_range(start, len, false);
            match taken.last_mut().filter(|_| joins) {
                Some(last) => last.1 += len,
                None => taken.push((start, len)),
            }
            remaining -= len;
            at = start + len;
        }
        self.cursor = if at < self.blocks { at } else { 0 };
        out.extend(taken.iter().map(|(start, len)| self.to_extent(*start, *len)));
        self.work.allocations += 1;
        self.work.words += self.touched.get();
        self.work.words_max = self.work.words_max.max(self.touched.get());
        Ok(())
    }

    /// Undoes the extents that a failing request had taken.
    fn roll_back(&mut self, taken: &[(u64, u64)]) {
        for (start, len) in taken {
            self.set_range(*start, *len, true);
        }
    }
}

impl Allocator for BitmapAllocator {
    fn block_size(&self) -> u64 {
        self.block_size
    }

    fn capacity(&self) -> u64 {
        self.blocks * self.block_size
    }

    fn free_bytes(&self) -> u64 {
        self.free * self.block_size
    }

    fn free_runs(&self) -> u64 {
        self.runs
    }

    fn allocate(&mut self, request: &Request, out: &mut Vec<Extent>) -> AllocResult<()> {
        self.allocate_by(request, out, Self::pick)
    }

    fn release(&mut self, extent: Extent) -> AllocResult<()> {
        let (start, len) = self.to_blocks("release", extent)?;
        if self.run_right(start, len, false) != len {
            return Err(AllocError::NotUsed(extent));
        }
        self.set_range(start, len, true);
        Ok(())
    }

    fn mark_used(&mut self, extent: Extent) -> AllocResult<()> {
        let (start, len) = self.to_blocks("mark used", extent)?;
        if self.run_right(start, len, true) != len {
            return Err(AllocError::NotFree(extent));
        }
        self.set_range(start, len, false);
        Ok(())
    }

    fn next_free(&self, from: u64) -> Option<Extent> {
        let from = from.div_ceil(self.block_size);
        if from >= self.blocks {
            return None;
        }
        // `find` goes round; a hit before `from` means that there is none after it.
        let start = self.find(0, from).filter(|start| *start >= from)?;
        Some(self.to_extent(start, self.run_right(start, self.blocks, true)))
    }

    fn next_used(&self, from: u64) -> Option<Extent> {
        let mut from = from.div_ceil(self.block_size);
        while from < self.blocks {
            let page = self.not_full.next((from / PAGE_BLOCKS) as usize)? as u64;
            from = from.max(page * PAGE_BLOCKS);
            let to_page_end = (page + 1) * PAGE_BLOCKS - from;
            let free = self.run_right(from, to_page_end, true);
            from += free;
            if free < to_page_end && from < self.blocks {
                let start = from;
                return Some(self.to_extent(start, self.run_right(start, self.blocks, false)));
            }
        }
        None
    }

    fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    fn page(&self, index: u64) -> AllocResult<Page> {
        Ok(self.pages[self.page_index(index)?].to_bytes())
    }

    fn load_page(&mut self, index: u64, page: &[u8; PAGE_BYTES]) -> AllocResult<()> {
        let at = self.page_index(index)?;
        let new = BitmapPage::from_bytes(page);
        let inside = self.blocks - index * PAGE_BLOCKS;
        if inside < PAGE_BLOCKS && new.find(0, inside, &mut 0).is_some() {
            return Err(AllocError::BadPage {
                index,
                pages: self.pages(),
                reason: "free blocks past the end",
            });
        }
        let starts_before = self.run_starts_around(at);
        let was = self.pages[at].class();
        self.free = self.free + new.free_blocks() - self.pages[at].free_blocks();
        self.pages[at] = new;
        self.summarise(at, was);
        self.runs = self.runs + self.run_starts_around(at) - starts_before;
        if self.dirty.contains(at) {
            self.dirty.remove(at);
            self.dirty_count -= 1;
        }
        Ok(())
    }

    fn dirty_pages(&self) -> u64 {
        self.dirty_count
    }

    fn take_dirty_pages(&mut self) -> Vec<(u64, Page)> {
        let mut taken = Vec::new();
        let mut from = 0;
        while let Some(index) = self.dirty.next(from) {
            taken.push((index as u64, self.pages[index].to_bytes()));
            self.dirty.remove(index);
            from = index + 1;
        }
        self.dirty_count = 0;
        taken
    }

    fn mark_dirty(&mut self, index: u64) -> AllocResult<()> {
        let index = self.page_index(index)?;
        self.make_dirty(index);
        Ok(())
    }

    fn work(&self) -> Work {
        self.work
    }

    fn memory_bytes(&self) -> usize {
        self.pages.iter().map(BitmapPage::memory).sum::<usize>()
            + self.pages.capacity() * size_of::<BitmapPage>()
            + self.by_class.iter().map(BitTree::memory).sum::<usize>()
            + self.not_full.memory()
            + self.dirty.memory()
    }
}
