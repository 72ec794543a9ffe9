//! [`BtreeAllocator`]: free runs in two ordered trees, by place and by length; best fit.
//!
//! The family of Ceph's AVL and btree allocators. It leaves the fewest and longest runs, and needs memory for each run,
//! without a bound that a device's size would give: what the others are measured against, and for small spaces.

use std::collections::{BTreeMap, BTreeSet};

use crate::extent::Extent;
use crate::limits::{BEST_FIT_TRIES, BLOCK_BYTES_MIN, PAGE_BLOCKS, PAGE_BYTES};
use crate::seam::{AllocError, AllocResult, Allocator, Page, Request, Work, check_range, check_request};

/// See the module. All in bytes.
#[derive(Clone, Debug)]
pub struct BtreeAllocator {
    block_size: u64,
    capacity: u64,
    by_start: BTreeMap<u64, u64>,
    /// (length, start) of each run.
    by_len: BTreeSet<(u64, u64)>,
    free: u64,
    dirty: BTreeSet<u64>,
    work: Work,
}

impl BtreeAllocator {
    /// A space of `capacity` bytes (rounded down to blocks), all in use.
    pub fn new(capacity: u64, block_size: u64) -> Self {
        assert!(block_size.is_power_of_two() && block_size >= BLOCK_BYTES_MIN, "block size {block_size}");
        let capacity = capacity / block_size * block_size;
        assert!(capacity > 0, "a space of no block");
        Self {
            block_size,
            capacity,
            by_start: BTreeMap::new(),
            by_len: BTreeSet::new(),
            free: 0,
            dirty: BTreeSet::new(),
            work: Work::default(),
        }
    }

    fn page_len(&self) -> u64 {
        PAGE_BLOCKS * self.block_size
    }

    fn insert(&mut self, start: u64, end: u64) {
        if start < end {
            self.by_start.insert(start, end - start);
            self.by_len.insert((end - start, start));
        }
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
    }

    /// The run that begins at or before a place.
    fn run_before(&self, at: u64) -> Option<(u64, u64)> {
        self.by_start.range(..=at).next_back().map(|(start, len)| (*start, *len))
    }

    fn is_all_used(&self, extent: Extent) -> bool {
        self.next_free(extent.start).is_none_or(|free| free.start >= extent.end())
    }

    fn check_page(&self, index: u64) -> AllocResult<()> {
        let pages = self.pages();
        if index < pages { Ok(()) } else { Err(AllocError::BadPage { index, pages, reason: "no such page" }) }
    }

    fn make_dirty(&mut self, extent: Extent) {
        let pages = extent.start / self.page_len()..=(extent.end() - 1) / self.page_len();
        self.dirty.extend(pages);
    }

    /// Takes what lies in the run (start, len).
    fn take(&mut self, (start, len): (u64, u64), extent: Extent) {
        self.remove(start, len);
        self.insert(start, extent.start);
        self.insert(extent.end(), start + len);
        self.free -= extent.len;
        self.make_dirty(extent);
    }

    /// Gives what is all in use.
    fn give(&mut self, extent: Extent) {
        let (mut start, mut end) = (extent.start, extent.end());
        if let Some((before, len)) = self.run_before(start).filter(|(before, len)| before + len == start) {
            self.remove(before, len);
            start = before;
        }
        if let Some(len) = self.by_start.get(&end).copied() {
            self.remove(end, len);
            end += len;
        }
        self.insert(start, end);
        self.free += extent.len;
        self.make_dirty(extent);
    }

    /// A run, as (start, length), and the part of it to take up to `wanted` bytes from: at the hint; else of the shortest
    /// run that has them; else of the longest run that has any unit, however many have none.
    fn pick(&self, wanted: u64, unit: u64, hint: Option<u64>) -> Option<((u64, u64), Extent)> {
        if let Some(at) = hint.map(|hint| hint / unit * unit)
            && let Some(run) = self.run_before(at)
            && run.0 + run.1 >= at.saturating_add(wanted)
        {
            return Some((run, Extent::new(at, wanted)));
        }
        let part = |&(len, start): &(u64, u64)| {
            let first = start.next_multiple_of(unit);
            let part = (start + len).saturating_sub(first).min(wanted) / unit * unit;
            (part > 0).then(|| ((start, len), Extent::new(first, part)))
        };
        // A run that is a unit longer than what is wanted has it, whatever its alignment.
        let sure = self.by_len.range((wanted + unit, 0)..).take(1);
        let mut fitting = self.by_len.range((wanted, 0)..).take(BEST_FIT_TRIES).chain(sure).filter_map(part);
        let fits = fitting.find(|(_, part)| part.len == wanted);
        fits.or_else(|| self.by_len.range((unit, 0)..).rev().find_map(part))
    }
}

impl Allocator for BtreeAllocator {
    fn block_size(&self) -> u64 {
        self.block_size
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn free_bytes(&self) -> u64 {
        self.free
    }

    fn free_runs(&self) -> u64 {
        self.by_start.len() as u64
    }

    fn allocate(&mut self, request: &Request, out: &mut Vec<Extent>) -> AllocResult<()> {
        check_request(request, self.block_size)?;
        let Request { len: wanted, unit, extents_max, hint } = *request;
        if wanted > self.free {
            return Err(AllocError::NoSpace { wanted, available: self.free });
        }
        let mut remaining = wanted;
        let mut taken: Vec<Extent> = Vec::new();
        while remaining > 0 {
            let picked = self.pick(remaining, unit, hint);
            let joins = |part: &Extent| taken.last().is_some_and(|last| last.end() == part.start);
            let allowed = picked.filter(|(_, part)| joins(part) || taken.len() < extents_max);
            let Some((run, part)) = allowed else {
                taken.into_iter().for_each(|part| self.give(part));
                return Err(AllocError::Fragmented { wanted, unit, extents_max, free: self.free });
            };
            match taken.last_mut().filter(|last| last.end() == part.start) {
                Some(last) => last.len += part.len,
                None => taken.push(part),
            }
            self.take(run, part);
            remaining -= part.len;
        }
        out.append(&mut taken);
        self.work.allocations += 1;
        Ok(())
    }

    fn release(&mut self, extent: Extent) -> AllocResult<()> {
        check_range("release", extent, self.capacity, self.block_size)?;
        if !self.is_all_used(extent) {
            return Err(AllocError::NotUsed(extent));
        }
        self.give(extent);
        Ok(())
    }

    fn mark_used(&mut self, extent: Extent) -> AllocResult<()> {
        check_range("mark used", extent, self.capacity, self.block_size)?;
        let run = self.run_before(extent.start).filter(|(start, len)| start + len >= extent.end());
        self.take(run.ok_or(AllocError::NotFree(extent))?, extent);
        Ok(())
    }

    fn next_free(&self, from: u64) -> Option<Extent> {
        let from = from.checked_next_multiple_of(self.block_size)?;
        if let Some((start, len)) = self.run_before(from).filter(|(start, len)| start + len > from) {
            return Some(Extent::new(from, start + len - from));
        }
        self.by_start.range(from..).next().map(|(start, len)| Extent::new(*start, *len))
    }

    fn next_used(&self, from: u64) -> Option<Extent> {
        let from = from.checked_next_multiple_of(self.block_size)?;
        let from = self.next_free(from).filter(|free| free.start == from).map_or(from, |free| free.end());
        let end = self.next_free(from).map_or(self.capacity, |free| free.start);
        (from < end).then(|| Extent::new(from, end - from))
    }

    fn pages(&self) -> u64 {
        self.capacity.div_ceil(self.page_len())
    }

    fn page(&self, index: u64) -> AllocResult<Page> {
        self.check_page(index)?;
        let (start, end) = (index * self.page_len(), (index + 1) * self.page_len());
        let mut page = Box::new([0; PAGE_BYTES]);
        let mut at = start;
        while let Some(free) = self.next_free(at).filter(|free| free.start < end) {
            at = free.end().min(end);
            for block in (free.start - start) / self.block_size..(at - start) / self.block_size {
                page[(block / 8) as usize] |= 1 << (block % 8);
            }
        }
        Ok(page)
    }

    fn load_page(&mut self, index: u64, page: &[u8; PAGE_BYTES]) -> AllocResult<()> {
        self.check_page(index)?;
        let (start, end) = (index * self.page_len(), (index + 1) * self.page_len());
        let is_free = |block: u64| page[(block / 8) as usize] >> (block % 8) & 1 == 1;
        let inside = (self.capacity.min(end) - start) / self.block_size;
        if (inside..PAGE_BLOCKS).any(is_free) {
            let reason = "free blocks past the end";
            return Err(AllocError::BadPage { index, pages: self.pages(), reason });
        }
        while let Some(free) = self.next_free(start).filter(|free| free.start < end)
            && let Some(run) = self.run_before(free.start)
        {
            self.take(run, Extent::new(free.start, free.end().min(end) - free.start));
        }
        let mut block = 0;
        while block < inside {
            let run = (block..inside).take_while(|block| is_free(*block)).count() as u64;
            if run > 0 {
                self.give(Extent::new(start + block * self.block_size, run * self.block_size));
            }
            block += run + 1;
        }
        self.dirty.remove(&index);
        Ok(())
    }

    fn dirty_pages(&self) -> u64 {
        self.dirty.len() as u64
    }

    fn take_dirty_pages(&mut self) -> Vec<(u64, Page)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().filter_map(|index| Some((index, self.page(index).ok()?))).collect()
    }

    fn mark_dirty(&mut self, index: u64) -> AllocResult<()> {
        self.check_page(index)?;
        self.dirty.insert(index);
        Ok(())
    }

    fn work(&self) -> Work {
        self.work
    }

    /// Nearly: nodes of the trees are at least half full, mostly two thirds.
    fn memory_bytes(&self) -> usize {
        let entries = self.by_start.len() + self.by_len.len();
        entries * size_of::<(u64, u64)>() * 3 / 2 + self.dirty.len() * size_of::<u64>() * 3 / 2
    }
}
