//! Device space: what is free, what is promised, what is freed but not yet free, and the bitmap of the last checkpoint.
//!
//! Invariant: an extent freed by record N returns to the allocator only once a durable record says
//! `durable_through` ≥ N, no read that may see it runs, and no deferred write to it is outstanding. The *shadow* is the
//! bitmap as of the last checkpoint's record, to which each checkpoint applies the changes of its generation: so the
//! pages it stores are exactly the state at its position, whatever was withheld in memory then. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use allocator::limits::PAGE_BLOCKS;
use allocator::{AllocResult, Allocator, BitmapAllocator, Extent, HybridAllocator, Page, Space};

use super::effect::merge;
use crate::fault::{Fault, Planted};

/// A change of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Now used.
    Use(Extent),
    /// Now free.
    Free(Extent),
}

impl Change {
    fn apply(self, bitmap: &mut BitmapAllocator) {
        let applied = match self {
            Self::Use(extent) => bitmap.mark_used(extent),
            Self::Free(extent) => bitmap.release(extent),
        };
        assert!(applied.is_ok(), "the records' space changes fit the bitmap: {applied:?}");
    }
}

/// Changes in order, and the pages of the bitmap that they are in.
#[derive(Debug, Default)]
struct Changes {
    all: Vec<Change>,
    /// A bit for each page.
    pages: Vec<u64>,
    page_count: u64,
}

impl Changes {
    /// `page_bytes`: of space that a page describes.
    fn push(&mut self, change: Change, page_bytes: u64) {
        let (Change::Use(extent) | Change::Free(extent)) = change;
        for page in extent.start / page_bytes..extent.end().div_ceil(page_bytes) {
            let (word, bit) = (usize::try_from(page / 64).unwrap_or(usize::MAX), 1 << (page % 64));
            if self.pages.len() <= word {
                self.pages.resize(word + 1, 0);
            }
            self.page_count += u64::from(self.pages[word] & bit == 0);
            self.pages[word] |= bit;
        }
        self.all.push(change);
    }
}

/// See the module.
pub struct SpaceBook {
    /// What can be allocated.
    pub space: Space<HybridAllocator>,
    shadow: RefCell<BitmapAllocator>,
    changes: RefCell<Changes>,
    /// Those of the generation being checkpointed.
    frozen: RefCell<Changes>,
    withheld: RefCell<BTreeMap<u64, Vec<Extent>>>,
    withheld_bytes: Cell<u64>,
    /// Allowed by the journal; waits for reads older than the mark and for deferred writes.
    ready: RefCell<Vec<(u64, Extent)>>,
    /// The device is being told that it is unused; not free before it knows.
    discarding_bytes: Cell<u64>,
    /// Lent to the key-value store's file system, ascending.
    lent: RefCell<Vec<Extent>>,
    fault: Fault,
}

impl SpaceBook {
    /// Starts from the bitmap at the checkpoint, with nothing changed since.
    pub fn new(shadow: BitmapAllocator, reserve: u64, lent: Vec<Extent>, fault: Fault) -> Self {
        Self {
            space: Space::new(shadow.clone().into(), reserve),
            shadow: RefCell::new(shadow),
            changes: RefCell::default(),
            frozen: RefCell::default(),
            withheld: RefCell::default(),
            withheld_bytes: Cell::new(0),
            ready: RefCell::default(),
            discarding_bytes: Cell::new(0),
            lent: RefCell::new(merge(lent)),
            fault,
        }
    }

    /// Replays a change: at mount everything before it is durable and nobody reads, so freed is free.
    pub fn replay(&self, change: Change) -> AllocResult<()> {
        self.space.with_mut(|allocator| match change {
            Change::Use(extent) => allocator.mark_used(extent),
            Change::Free(extent) => allocator.release(extent),
        })?;
        self.note(change);
        Ok(())
    }

    /// Notes that `extent`, taken from the allocator before, belongs to somebody.
    pub fn used(&self, extent: Extent) {
        self.note(Change::Use(extent));
    }

    /// Notes that record `record` freed `extent`.
    pub fn freed(&self, record: u64, extent: Extent) {
        self.note(Change::Free(extent));
        if self.fault.is(Planted::FreedSpaceReusedEarly) {
            return self.give_back(extent);
        }
        self.withheld.borrow_mut().entry(record).or_default().push(extent);
        self.withheld_bytes.set(self.withheld_bytes.get() + extent.len);
    }

    /// Notes that `extent` is lent.
    pub fn lend(&self, extent: Extent) {
        let mut lent = self.lent.borrow_mut();
        lent.push(extent);
        *lent = merge(std::mem::take(&mut *lent));
    }

    /// Notes that `extent` is not lent any more. False, and nothing changed, if not all of it was.
    pub fn take_lent(&self, extent: Extent) -> bool {
        let mut lent = self.lent.borrow_mut();
        let Some(at) = lent.iter().position(|around| around.contains(&extent)) else { return false };
        let around = lent.remove(at);
        let before = Extent::new(around.start, extent.start - around.start);
        let after = Extent::new(extent.end(), around.end() - extent.end());
        lent.splice(at..at, [before, after].into_iter().filter(|piece| piece.len > 0));
        true
    }

    /// What is lent, ascending.
    pub fn lent(&self) -> Vec<Extent> {
        self.lent.borrow().clone()
    }

    /// How many extents are lent.
    pub fn lent_count(&self) -> u64 {
        u64::try_from(self.lent.borrow().len()).unwrap_or(u64::MAX)
    }

    /// Bytes that are freed and not yet free.
    pub fn pending_bytes(&self) -> u64 {
        let ready = self.ready.borrow().iter().map(|(_, extent)| extent.len).sum::<u64>();
        self.withheld_bytes.get() + ready + self.discarding_bytes.get()
    }

    /// Notes that extents taken by [`Self::take_ready`] are being discarded.
    pub fn discarding(&self, extents: &[Extent]) {
        let bytes = extents.iter().map(|extent| extent.len).sum::<u64>();
        self.discarding_bytes.set(self.discarding_bytes.get() + bytes);
    }

    /// Returns an extent whose discard ended to the allocator.
    pub fn discarded(&self, extent: Extent) {
        self.discarding_bytes.set(self.discarding_bytes.get() - extent.len);
        self.give_back(extent);
    }

    /// Whether discards are under way.
    pub fn is_discarding(&self) -> bool {
        self.discarding_bytes.get() > 0
    }

    /// The journal allows what records up to `record` freed. `mark` separates the reads that may see it.
    pub fn allow(&self, record: u64, mark: u64) {
        let mut withheld = self.withheld.borrow_mut();
        let later = withheld.split_off(&(record + 1));
        let allowed = std::mem::replace(&mut *withheld, later);
        for extent in allowed.into_values().flatten() {
            self.withheld_bytes.set(self.withheld_bytes.get() - extent.len);
            self.ready.borrow_mut().push((mark, extent));
        }
    }

    /// Takes the extents for which `free` says that nothing stands in the way any more.
    pub fn take_ready(&self, free: impl Fn(u64, Extent) -> bool) -> Vec<Extent> {
        let mut taken = Vec::new();
        self.ready.borrow_mut().retain(|(mark, extent)| {
            let go = free(*mark, *extent);
            if go {
                taken.push(*extent);
            }
            !go
        });
        taken
    }

    /// Returns an extent to the allocator.
    pub fn give_back(&self, extent: Extent) {
        let released = self.space.release(&[extent]);
        assert!(released.is_ok(), "freed space is in use until now: {released:?}");
    }

    fn note(&self, change: Change) {
        let page_bytes = PAGE_BLOCKS * self.shadow.borrow().block_size();
        self.changes.borrow_mut().push(change, page_bytes);
    }

    /// Starts a new generation of changes. The one before was checkpointed.
    pub fn freeze(&self) {
        let changes = std::mem::take(&mut *self.changes.borrow_mut());
        let before = self.frozen.replace(changes);
        assert!(before.all.is_empty(), "{} changes of an earlier generation", before.all.len());
    }

    /// Pages of the whole bitmap.
    pub fn pages(&self) -> u64 {
        self.shadow.borrow().pages()
    }

    /// Most pages that checkpoints of the changes so far store, if changes in `more` blocks, each perhaps in a page of its
    /// own, are added.
    pub fn pages_max(&self, more: u64) -> u64 {
        let next = self.changes.borrow().page_count.saturating_add(more).min(self.pages());
        self.frozen.borrow().page_count + next
    }

    /// Applies the frozen generation's changes to the shadow and gives the pages to store.
    pub fn checkpoint(&self) -> Vec<(u64, Page)> {
        let mut shadow = self.shadow.borrow_mut();
        for change in self.frozen.take().all {
            change.apply(&mut shadow);
        }
        shadow.take_dirty_pages()
    }

    /// Bytes used as of the last checkpoint.
    pub fn shadow_used(&self) -> u64 {
        let shadow = self.shadow.borrow();
        shadow.capacity() - shadow.free_bytes()
    }

    /// The bitmap with every change so far, whether checkpointed or not.
    pub fn current(&self) -> BitmapAllocator {
        let mut current = self.shadow.borrow().clone();
        for change in self.frozen.borrow().all.iter().chain(&self.changes.borrow().all) {
            change.apply(&mut current);
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use allocator::{Class, Request};

    use super::*;

    #[test]
    fn loans_join_and_come_back_in_parts() {
        let loan = [Extent::new(0, 4096), Extent::new(8192, 4096)];
        let bitmap = BitmapAllocator::new_free(1 << 20, 4096);
        let book = SpaceBook::new(bitmap, 0, loan.to_vec(), Fault::default());
        book.lend(Extent::new(4096, 4096));
        assert_eq!(book.lent(), vec![Extent::new(0, 12_288)]);
        assert!(!book.take_lent(Extent::new(8192, 8192)), "not all of it is lent");
        assert!(book.take_lent(Extent::new(4096, 4096)));
        assert_eq!(book.lent(), loan);
        assert!(book.take_lent(loan[0]) && !book.take_lent(loan[0]));
        assert_eq!(book.lent(), loan[1..]);
    }

    #[test]
    fn freed_space_waits_for_its_record_and_its_readers() {
        let book = SpaceBook::new(BitmapAllocator::new_free(1 << 20, 4096), 0, vec![], Fault::default());
        let mut reservation = book.space.reserve(8192, Class::Ordinary).expect("room");
        let request = Request { len: 8192, unit: 4096, extents_max: 8, hint: None };
        let extents = reservation.take(&request).expect("room").commit();
        extents.iter().for_each(|extent| book.used(*extent));
        book.freed(7, extents[0]);
        let free = || book.space.available(Class::Ordinary);
        let before = free();
        book.allow(6, 1);
        assert!(book.take_ready(|_, _| true).is_empty());
        book.allow(7, 2);
        assert!(book.take_ready(|mark, _| mark < 2).is_empty(), "a reader is older");
        let ready = book.take_ready(|_, _| true);
        assert_eq!(ready, extents);
        assert_eq!(free(), before);
        ready.into_iter().for_each(|extent| book.give_back(extent));
        assert_eq!(free(), before + 8192);
        assert_eq!(book.pending_bytes(), 0);
        book.freeze();
        let pages = book.checkpoint();
        assert!(pages.len() <= 1);
        assert_eq!(book.shadow_used(), 0);
    }
}
