//! Space: what has an owner, against what the allocator and the free list say.

use allocator::limits::{PAGE_BLOCKS, PAGE_BYTES};
use allocator::{Allocator, BitmapAllocator, Extent};

use super::super::flips::Flips;
use super::super::free_list;
use super::super::open::{self, OpenError, OpenResult};
use super::Check;
use crate::limits;
use crate::object_store::{FsckSeverity, Remedy, StoreResult};
use crate::superblock::Superblock;

/// Pages of the bitmap that are copied before others have their turn.
const PAGES_AT_ONCE: usize = 16;

impl Check {
    /// What belongs to no object.
    pub(super) fn claim_regions(&mut self) {
        let superblock = self.inner.superblock.borrow().clone();
        let block = self.inner.block;
        let places = Superblock::places(self.window, block).map(|place| Extent::new(place, block));
        // Their place is kept although they may be on another device.
        let logs = Extent::new(block, superblock.journal.len + superblock.pg_log.len);
        self.regions.push(logs);
        self.regions.extend(places);
        self.regions.extend(Some(superblock.kv).filter(|kv| kv.len > 0));
        self.regions.extend(self.inner.space.lent());
        for region in self.regions.clone() {
            self.claim(region, || "a region of the store".to_owned());
        }
    }

    /// Copies the bitmap as it was when the check began, in steps.
    pub(super) async fn copy_bitmap(&mut self) {
        let Some(since) = self.since.take() else { return };
        let pages: Vec<u64> = (0..self.bitmap.pages()).collect();
        for (step, some) in pages.chunks(PAGES_AT_ONCE).enumerate() {
            if step > 0 {
                self.inner.core.yield_now().await;
            }
            self.inner.space.pages_before(some, &mut since.borrow_mut(), self.window, |index, page| {
                let loaded = self.bitmap.load_page(index, page);
                assert!(loaded.is_ok(), "a page of a bitmap as large: {loaded:?}");
            });
        }
    }

    pub(super) fn claim(&mut self, extent: Extent, owner: impl Fn() -> String) {
        let Err(error) = self.rebuilt.mark_used(extent) else { return };
        let detail = format!("{extent} of {}: {error}", owner());
        self.find(FsckSeverity::Fatal, Remedy::Discard, "extent-overlap", detail);
        if self.discards() {
            self.contested.push(extent);
        }
        // What of it nobody else has is its.
        let step = usize::try_from(self.inner.block).unwrap_or(usize::MAX);
        for address in (extent.start..extent.end().min(self.window)).step_by(step) {
            // Used, or outside: that was told.
            drop(self.rebuilt.mark_used(Extent::new(address, self.inner.block)));
        }
    }

    pub(super) async fn compare_bitmaps(&mut self) {
        for extent in self.only_in(&self.rebuilt, &self.bitmap).await {
            let detail = format!("{extent} is used and marked free");
            self.find(FsckSeverity::Fatal, Remedy::Repair, "extent-not-allocated", detail);
        }
        for extent in self.only_in(&self.bitmap, &self.rebuilt).await {
            let detail = format!("{extent} is marked used by nobody");
            self.find(FsckSeverity::Warning, Remedy::Repair, "extent-leak", detail);
        }
    }

    /// What is stored, the last record that it holds, and the window that it is of, which may have grown since.
    pub(super) async fn stored_free_list(&self) -> OpenResult<(BitmapAllocator, u64, u64)> {
        let pin = self.pin();
        let (device, kv, view) = (&*self.inner.device, &self.inner.kv, pin.view());
        let checkpoint = open::read_checkpoint(device, kv, view).await?;
        // It may have grown since it was mounted.
        let superblock = Superblock { window: self.window, ..self.inner.superblock.borrow().clone() };
        let (record, of) = checkpoint.map_or((0, superblock.window), |checkpoint| {
            (checkpoint.end.record, checkpoint.window_of(&superblock))
        });
        let mut stored = free_list::read(device, kv, view, &superblock, of).await?;
        if superblock.window > of {
            stored.grow(superblock.window);
            stored.release(free_list::gained(of, superblock.window, self.inner.block)).map_err(|error| {
                OpenError::Corrupt { device: device.name().to_owned(), reason: error.to_string() }
            })?;
        }
        Ok((stored, record, of))
    }

    /// That what is stored, with the changes since, is what the allocator has.
    pub(super) async fn free_list(&mut self) -> StoreResult<()> {
        let (mut stored, record, _) = match self.stored_free_list().await {
            Ok(stored) => stored,
            Err(OpenError::Kv(error)) => return Err(self.inner.kv_failed(&error)),
            Err(error) => {
                self.find(FsckSeverity::Fatal, Remedy::Repair, "free-list", error.to_string());
                return Ok(());
            }
        };
        let none = Flips::new(self.inner.block);
        let (frozen, later) = std::mem::replace(&mut self.changes, (None, none));
        // A view may show a checkpoint that its maker has not heard of yet.
        let frozen = frozen.filter(|frozen| frozen.record > record).map(|frozen| frozen.flips);
        for changes in frozen.into_iter().chain([later]) {
            if let Err(error) = changes.apply(&mut stored) {
                self.find(FsckSeverity::Fatal, Remedy::Repair, "free-list", error.to_string());
            }
        }
        for extent in self.only_in(&stored, &self.bitmap).await {
            let detail = format!("{extent} can be allocated although the free list says that it is used");
            self.find(FsckSeverity::Fatal, Remedy::Repair, "allocator", detail);
        }
        for extent in self.only_in(&self.bitmap, &stored).await {
            let detail = format!("{extent} is free, but cannot be allocated");
            self.find(FsckSeverity::Warning, Remedy::Repair, "allocator", detail);
        }
        Ok(())
    }

    /// What is used in `a` and free in `b`, which are of the same space: ascending, and no more than can be told of. Others
    /// have their turn after each page.
    pub(super) async fn only_in(&self, a: &BitmapAllocator, b: &BitmapAllocator) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        for index in 0..a.pages() {
            let (Ok(of_a), Ok(of_b)) = (a.page(index), b.page(index)) else {
                panic!("page {index} is in both bitmaps")
            };
            add_differences(index, &of_a, &of_b, self.inner.block, &mut extents);
            if extents.len() > limits::FSCK_FINDINGS_MAX {
                break;
            }
            self.inner.core.yield_now().await;
        }
        extents
    }
}

/// Adds what is used in page `index` of one bitmap and free in that of another.
fn add_differences(
    index: u64,
    a: &[u8; PAGE_BYTES],
    b: &[u8; PAGE_BYTES],
    block: u64,
    extents: &mut Vec<Extent>,
) {
    if a == b {
        return;
    }
    let first = index * PAGE_BLOCKS;
    for (number, (a, b)) in (first..).step_by(8).zip(a.iter().zip(b)) {
        // A bit is set in a page if the block is free.
        let differ = !a & b;
        for bit in (0..8).filter(|bit| differ >> bit & 1 == 1) {
            let start = (number + bit) * block;
            match extents.last_mut() {
                Some(last) if last.end() == start => last.len += block,
                _ => extents.push(Extent::new(start, block)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 4096;

    #[test]
    fn differences() {
        let blocks = 2 * PAGE_BLOCKS;
        let bitmap = |used: &[(u64, u64)]| {
            let mut bitmap = BitmapAllocator::new_free(blocks * BLOCK, BLOCK);
            for (start, len) in used {
                bitmap.mark_used(Extent::new(start * BLOCK, len * BLOCK)).expect("free until now");
            }
            bitmap
        };
        let check = |a: &[(u64, u64)], b: &[(u64, u64)], expect: &[(u64, u64)]| {
            let (a, b) = (bitmap(a), bitmap(b));
            let mut found = Vec::new();
            for index in 0..2 {
                let page = |bitmap: &BitmapAllocator| bitmap.page(index).expect("a page");
                add_differences(index, &page(&a), &page(&b), BLOCK, &mut found);
            }
            let found: Vec<_> =
                found.iter().map(|extent| (extent.start / BLOCK, extent.len / BLOCK)).collect();
            assert_eq!(found, expect);
        };
        check(&[(0, 10)], &[], &[(0, 10)]);
        check(&[(0, 10)], &[(0, 10)], &[]);
        check(&[(0, 10), (20, 10)], &[(5, 20)], &[(0, 5), (25, 5)]);
        check(&[(10, 10)], &[(0, 12), (14, 2), (18, 50)], &[(12, 2), (16, 2)]);
        check(&[(0, 4), (6, 4)], &[(4, 2)], &[(0, 4), (6, 4)]);
        check(
            &[(PAGE_BLOCKS - 3, 6)],
            &[(PAGE_BLOCKS - 2, 1)],
            &[(PAGE_BLOCKS - 3, 1), (PAGE_BLOCKS - 1, 4)],
        );
    }
}
