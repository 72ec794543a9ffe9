//! Space: what has an owner, against what the allocator and the free list say.

use allocator::{Allocator, BitmapAllocator, Extent};

use super::super::flips::Flips;
use super::super::free_list;
use super::super::open::{self, OpenError, OpenResult};
use super::Check;
use crate::object_store::{FsckSeverity, StoreResult};
use crate::superblock::Superblock;

impl Check {
    /// What belongs to no object.
    pub(super) fn regions(&mut self) {
        let superblock = &self.inner.superblock;
        let block = self.inner.block;
        let places = Superblock::places(superblock.window, block).map(|place| Extent::new(place, block));
        // Their place is kept although they may be on another device.
        let logs = Extent::new(block, superblock.journal.len + superblock.pg_log.len);
        let mut regions = vec![logs];
        regions.extend(places);
        regions.extend(Some(superblock.kv).filter(|kv| kv.len > 0));
        regions.extend(self.inner.space.lent());
        for region in regions {
            self.claim(region, || "a region of the store".to_owned());
        }
    }

    pub(super) fn claim(&mut self, extent: Extent, owner: impl Fn() -> String) {
        if let Err(error) = self.rebuilt.mark_used(extent) {
            self.find(FsckSeverity::Fatal, "extent-overlap", format!("{extent} of {}: {error}", owner()));
        }
    }

    pub(super) fn compare_bitmaps(&mut self) {
        let (should, is) = (self.rebuilt.used_extents(), self.bitmap.used_extents());
        for extent in difference(&should, &is) {
            self.find(
                FsckSeverity::Fatal,
                "extent-not-allocated",
                format!("{extent} is used and marked free"),
            );
        }
        for extent in difference(&is, &should) {
            self.find(FsckSeverity::Warning, "extent-leak", format!("{extent} is marked used by nobody"));
        }
    }

    /// What is stored, and the last record that it holds.
    pub(super) async fn stored_free_list(&self) -> OpenResult<(BitmapAllocator, u64)> {
        let (device, kv, view) = (&*self.inner.device, &self.inner.kv, self.pin.view());
        let record =
            open::read_checkpoint(device, kv, view).await?.map_or(0, |checkpoint| checkpoint.end.record);
        let stored = free_list::read(device, kv, view, &self.inner.superblock).await?;
        Ok((stored, record))
    }

    /// That what is stored, with the changes since, is what the allocator has.
    pub(super) async fn free_list(&mut self) -> StoreResult<()> {
        let (mut stored, record) = match self.stored_free_list().await {
            Ok(stored) => stored,
            Err(OpenError::Kv(error)) => return Err(self.inner.kv_failed(&error)),
            Err(error) => {
                self.find(FsckSeverity::Fatal, "free-list", error.to_string());
                return Ok(());
            }
        };
        let none = Flips::new(self.inner.block);
        let (frozen, later) = std::mem::replace(&mut self.changes, (None, none));
        // A view may show a checkpoint that its maker has not heard of yet.
        let frozen = frozen.filter(|frozen| frozen.record > record).map(|frozen| frozen.flips);
        for changes in frozen.into_iter().chain([later]) {
            if let Err(error) = changes.apply(&mut stored) {
                self.find(FsckSeverity::Fatal, "free-list", error.to_string());
            }
        }
        let (is, should) = (stored.used_extents(), self.bitmap.used_extents());
        for extent in difference(&is, &should) {
            let detail = format!("{extent} can be allocated although the free list says that it is used");
            self.find(FsckSeverity::Fatal, "allocator", detail);
        }
        for extent in difference(&should, &is) {
            let detail = format!("{extent} is free, but cannot be allocated");
            self.find(FsckSeverity::Warning, "allocator", detail);
        }
        Ok(())
    }
}

/// What is in `a` and not in `b`; both ascending and without overlaps.
fn difference(a: &[Extent], b: &[Extent]) -> Vec<Extent> {
    let mut out = Vec::new();
    let mut others = b.iter().peekable();
    for extent in a {
        let mut start = extent.start;
        while let Some(other) = others.peek() {
            if other.end() <= start {
                others.next();
                continue;
            }
            if other.start >= extent.end() {
                break;
            }
            if other.start > start {
                out.push(Extent::new(start, other.start - start));
            }
            start = other.end();
            if start >= extent.end() {
                break;
            }
        }
        if start < extent.end() {
            out.push(Extent::new(start, extent.end() - start));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        let e = |list: &[(u64, u64)]| list.iter().map(|(s, l)| Extent::new(*s, *l)).collect::<Vec<_>>();
        let check = |a: &[(u64, u64)], b: &[(u64, u64)], expect: &[(u64, u64)]| {
            assert_eq!(difference(&e(a), &e(b)), e(expect));
        };
        check(&[(0, 10)], &[], &[(0, 10)]);
        check(&[(0, 10)], &[(0, 10)], &[]);
        check(&[(0, 10), (20, 10)], &[(5, 20)], &[(0, 5), (25, 5)]);
        check(&[(10, 10)], &[(0, 12), (14, 2), (18, 50)], &[(12, 2), (16, 2)]);
        check(&[(0, 4), (6, 4)], &[(4, 2)], &[(0, 4), (6, 4)]);
    }
}
