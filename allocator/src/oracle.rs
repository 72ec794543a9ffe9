//! [`ExtentAllocator`]: the memory oracle, an ordered map of free runs. Simple enough to be believed, not fast.

use std::collections::{BTreeMap, BTreeSet};

use crate::extent::Extent;
use crate::limits::{PAGE_BLOCKS, PAGE_BYTES};
use crate::seam::{AllocError, AllocResult, Allocator, Page, Request, Work, check_range, check_request};

/// First-fit over a map from start to length of the free runs; all in bytes.
#[derive(Clone, Debug)]
pub struct ExtentAllocator {
    block_size: u64,
    capacity: u64,
    free: BTreeMap<u64, u64>,
    dirty: BTreeSet<u64>,
    work: Work,
}

impl ExtentAllocator {
    /// A space of `capacity` bytes, all in use.
    pub fn new(capacity: u64, block_size: u64) -> Self {
        assert!(
            block_size.is_power_of_two() && capacity >= block_size,
            "{capacity} in blocks of {block_size}"
        );
        let capacity = capacity / block_size * block_size;
        Self { block_size, capacity, free: BTreeMap::new(), dirty: BTreeSet::new(), work: Work::default() }
    }

    fn page_len(&self) -> u64 {
        PAGE_BLOCKS * self.block_size
    }

    fn is_all_free(&self, extent: Extent) -> bool {
        self.free.range(..=extent.start).next_back().is_some_and(|(start, len)| start + len >= extent.end())
    }

    fn is_all_used(&self, extent: Extent) -> bool {
        self.next_free(extent.start).is_none_or(|free| free.start >= extent.end())
    }

    fn dirty_range(&mut self, extent: Extent) {
        let first = extent.start / self.page_len();
        let last = (extent.end() - 1) / self.page_len();
        self.dirty.extend(first..=last);
    }

    fn take(&mut self, extent: Extent) {
        let Some((start, len)) =
            self.free.range(..=extent.start).next_back().map(|(start, len)| (*start, *len))
        else {
            unreachable!("the caller checked that it is free")
        };
        self.free.remove(&start);
        if start < extent.start {
            self.free.insert(start, extent.start - start);
        }
        if extent.end() < start + len {
            self.free.insert(extent.end(), start + len - extent.end());
        }
        self.dirty_range(extent);
    }

    fn give(&mut self, extent: Extent) {
        let (mut start, mut end) = (extent.start, extent.end());
        if let Some((before, len)) = self.free.range(..start).next_back().map(|(s, l)| (*s, *l))
            && before + len == start
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(len) = self.free.remove(&end) {
            end += len;
        }
        self.free.insert(start, end - start);
        self.dirty_range(extent);
    }

    /// Largest free piece aligned to the unit, the lowest of equals.
    fn largest(&self, unit: u64) -> Option<Extent> {
        let aligned = self.free.iter().filter_map(|(start, len)| {
            let first = start.next_multiple_of(unit);
            let end = (start + len) / unit * unit;
            (first < end).then(|| Extent::new(first, end - first))
        });
        aligned.reduce(|best, next| if next.len > best.len { next } else { best })
    }
}

impl Allocator for ExtentAllocator {
    fn block_size(&self) -> u64 {
        self.block_size
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn free_bytes(&self) -> u64 {
        self.free.values().sum()
    }

    fn free_runs(&self) -> u64 {
        self.free.len() as u64
    }

    fn allocate(&mut self, request: &Request, out: &mut Vec<Extent>) -> AllocResult<()> {
        check_request(request, self.block_size)?;
        if request.len > self.free_bytes() {
            return Err(AllocError::NoSpace { wanted: request.len, available: self.free_bytes() });
        }
        let before = self.clone();
        let mut taken = Vec::new();
        let mut remaining = request.len;
        while remaining > 0 {
            let piece = self.largest(request.unit).filter(|_| taken.len() < request.extents_max);
            let Some(piece) = piece else {
                let free = before.free_bytes();
                *self = before;
                let Request { len: wanted, unit, extents_max, .. } = *request;
                return Err(AllocError::Fragmented { wanted, unit, extents_max, free });
            };
            let piece = Extent::new(piece.start, piece.len.min(remaining));
            self.take(piece);
            remaining -= piece.len;
            taken.push(piece);
        }
        self.work.allocations += 1;
        out.extend(taken);
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
        if !self.is_all_free(extent) {
            return Err(AllocError::NotFree(extent));
        }
        self.take(extent);
        Ok(())
    }

    fn next_free(&self, from: u64) -> Option<Extent> {
        let from = from.next_multiple_of(self.block_size);
        let before = self.free.range(..=from).next_back().map(|(start, len)| (*start, start + len));
        if let Some((_, end)) = before.filter(|(_, end)| *end > from) {
            return Some(Extent::new(from, end - from));
        }
        self.free.range(from..).next().map(|(start, len)| Extent::new(*start, *len))
    }

    fn next_used(&self, from: u64) -> Option<Extent> {
        let mut from = from.next_multiple_of(self.block_size);
        let free = self.next_free(from);
        if let Some(free) = free.filter(|free| free.start == from) {
            from = free.end();
        }
        if from >= self.capacity {
            return None;
        }
        let end = self.next_free(from).map_or(self.capacity, |free| free.start);
        Some(Extent::new(from, end - from))
    }

    fn pages(&self) -> u64 {
        self.capacity.div_ceil(self.page_len())
    }

    fn page(&self, index: u64) -> AllocResult<Page> {
        if index >= self.pages() {
            return Err(AllocError::BadPage { index, pages: self.pages(), reason: "no such page" });
        }
        let mut page = Box::new([0; PAGE_BYTES]);
        for block in 0..PAGE_BLOCKS {
            let start = index * self.page_len() + block * self.block_size;
            if self.is_all_free(Extent::new(start, self.block_size)) {
                page[(block / 8) as usize] |= 1 << (block % 8);
            }
        }
        Ok(page)
    }

    fn load_page(&mut self, index: u64, page: &[u8; PAGE_BYTES]) -> AllocResult<()> {
        let pages = self.pages();
        if index >= pages {
            return Err(AllocError::BadPage { index, pages, reason: "no such page" });
        }
        let is_free = |block: u64| page[(block / 8) as usize] >> (block % 8) & 1 == 1;
        let extent =
            |block: u64| Extent::new(index * self.page_len() + block * self.block_size, self.block_size);
        if (0..PAGE_BLOCKS).any(|block| is_free(block) && extent(block).end() > self.capacity) {
            return Err(AllocError::BadPage { index, pages, reason: "free blocks past the end" });
        }
        let inside = (0..PAGE_BLOCKS).map(|block| (extent(block), is_free(block)));
        let inside: Vec<_> = inside.filter(|(extent, _)| extent.end() <= self.capacity).collect();
        for (extent, free) in inside {
            match (self.is_all_free(extent), free) {
                (true, false) => self.take(extent),
                (false, true) => self.give(extent),
                _ => {}
            }
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
        if index >= self.pages() {
            return Err(AllocError::BadPage { index, pages: self.pages(), reason: "no such page" });
        }
        self.dirty.insert(index);
        Ok(())
    }

    fn work(&self) -> Work {
        self.work
    }

    /// Nearly, see the btree allocator.
    fn memory_bytes(&self) -> usize {
        (self.free.len() * size_of::<(u64, u64)>() + self.dirty.len() * size_of::<u64>()) * 3 / 2
    }
}
