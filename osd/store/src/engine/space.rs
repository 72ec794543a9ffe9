//! Device space: what is free, what is promised, what is freed but not yet free, and what changed since the last checkpoint.
//!
//! Invariant: an extent freed by record N returns to the allocator only once a durable record says
//! `durable_through` ≥ N, no read that may see it runs, and no deferred write to it is outstanding. The allocator's is the
//! only bitmap. What the records say differs from it by what is freed and not yet free, and by what is taken and in no
//! record yet; what a checkpoint says differs from that by the changes of later records. All of these are flips of bits, so
//! the pages that a checkpoint stores follow from the allocator's, exactly as of its record. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::{Rc, Weak};

use allocator::limits::{PAGE_BLOCKS, PAGE_BYTES};
use allocator::{AllocResult, Allocator, BitmapAllocator, Extent, HybridAllocator, Space};

use super::effect::merge;
use super::fence::Fence;
use super::flips::{FLIP_BYTES, Flips, STEP, clear_from};
use super::free_list::{self, Places};
use super::options::FreeList;
use crate::fault::{Fault, Planted};

/// A change of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Now used.
    Use(Extent),
    /// Now free.
    Free(Extent),
}

/// Changes that a checkpoint is made of.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// The last record that they are from.
    pub record: u64,
    /// The changes since the checkpoint before.
    pub flips: Flips,
    /// Bytes used as of the record.
    pub used: u64,
    /// Bytes of the window then.
    pub window: u64,
}

/// See the module.
pub struct SpaceBook {
    /// What can be allocated.
    pub space: Space<HybridAllocator>,
    /// What checkpoints store of it.
    stored: FreeList,
    /// Bytes used as of the last record.
    used: Cell<u64>,
    changes: RefCell<Flips>,
    /// Those of the generation being checkpointed.
    frozen: RefCell<Option<Frozen>>,
    /// Freed by which record, ascending.
    withheld: RefCell<VecDeque<(u64, Extent)>>,
    withheld_bytes: Cell<u64>,
    /// Allowed by the journal; waits for reads older than the mark and for deferred writes.
    ready: RefCell<Vec<(u64, Extent)>>,
    /// The device is being told that they are unused; not free before it knows.
    discarding: RefCell<VecDeque<Extent>>,
    /// Lent to the key-value store's file system, ascending.
    lent: RefCell<Vec<Extent>>,
    /// Around what is being cleared.
    fence: RefCell<Option<Fence>>,
    /// What has changed since somebody began to follow.
    followers: RefCell<Vec<Weak<RefCell<Flips>>>>,
    fault: Fault,
}

impl SpaceBook {
    /// Starts from the bitmap at the checkpoint, with nothing changed since.
    pub fn new(
        bitmap: BitmapAllocator,
        stored: FreeList,
        reserve: u64,
        lent: Vec<Extent>,
        fault: Fault,
    ) -> Self {
        let (block, used) = (bitmap.block_size(), bitmap.capacity() - bitmap.free_bytes());
        Self {
            space: Space::new(bitmap.into(), reserve),
            stored,
            used: Cell::new(used),
            changes: RefCell::new(Flips::new(block)),
            frozen: RefCell::default(),
            withheld: RefCell::default(),
            withheld_bytes: Cell::new(0),
            ready: RefCell::default(),
            discarding: RefCell::default(),
            lent: RefCell::new(merge(lent)),
            fence: RefCell::default(),
            followers: RefCell::default(),
            fault,
        }
    }

    /// Bytes of the window.
    pub fn window(&self) -> u64 {
        self.space.with(Allocator::capacity)
    }

    /// The window has become larger, durably. What is stored of the free list follows from the window, but for the page in
    /// which it ended.
    pub fn grow(&self, window: u64) {
        let (before, block) = (self.window(), self.block());
        if window == before {
            return;
        }
        let gained = free_list::gained(before, window, block);
        let freed = self.space.with_mut(|allocator| {
            allocator.grow(window);
            allocator.release(gained)
        });
        assert!(freed.is_ok(), "what was behind the window was nobody's: {freed:?}");
        self.changes.borrow_mut().touch(gained.start / block / PAGE_BLOCKS);
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
        let mut withheld = self.withheld.borrow_mut();
        assert!(
            withheld.back().is_none_or(|(last, _)| *last <= record),
            "records take effect in their order"
        );
        if withheld.len() == withheld.capacity() {
            withheld.reserve_exact(STEP);
        }
        withheld.push_back((record, extent));
        self.withheld_bytes.set(self.withheld_bytes.get() + extent.len);
    }

    /// Notes that `extent` is lent.
    pub fn lend(&self, extent: Extent) {
        let mut lent = self.lent.borrow_mut();
        let at = lent.partition_point(|other| other.start < extent.start);
        let touches = |before: Option<&Extent>, after: Option<&Extent>| {
            before.zip(after).is_some_and(|(before, after)| before.end() == after.start)
        };
        let joins_before = at > 0 && touches(lent.get(at - 1), Some(&extent));
        let joins_after = touches(Some(&extent), lent.get(at));
        let (first, last) = (at - usize::from(joins_before), at + usize::from(joins_after));
        let start = lent.get(first).filter(|_| joins_before).map_or(extent.start, |before| before.start);
        let end = lent.get(at).filter(|_| joins_after).map_or(extent.end(), Extent::end);
        lent.splice(first..last, [Extent::new(start, end - start)]);
    }

    /// Notes that `extent` is not lent any more. False, and nothing changed, if not all of it was.
    pub fn take_lent(&self, extent: Extent) -> bool {
        let mut lent = self.lent.borrow_mut();
        let after = lent.partition_point(|around| around.start <= extent.start);
        let Some(at) = after.checked_sub(1).filter(|at| lent[*at].contains(&extent)) else { return false };
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
        let discarding = self.discarding.borrow().iter().map(|extent| extent.len).sum::<u64>();
        self.withheld_bytes.get() + ready + discarding
    }

    /// Notes that extents taken by [`Self::take_ready`] are being discarded.
    pub fn discarding(&self, extents: &[Extent]) {
        self.discarding.borrow_mut().extend(extents);
    }

    /// Returns an extent whose discard ended to the allocator.
    pub fn discarded(&self, extent: Extent) {
        let mut discarding = self.discarding.borrow_mut();
        // Mostly the first: they end as they began.
        let at = discarding.iter().position(|other| *other == extent);
        assert!(at.is_some(), "{extent} was being discarded");
        at.map(|at| discarding.remove(at));
        drop(discarding);
        self.give_back(extent);
    }

    /// Whether discards are under way.
    pub fn is_discarding(&self) -> bool {
        !self.discarding.borrow().is_empty()
    }

    /// The journal allows what records up to `record` freed. `mark` separates the reads that may see it.
    pub fn allow(&self, record: u64, mark: u64) {
        let mut withheld = self.withheld.borrow_mut();
        while let Some((_, extent)) = withheld.pop_front_if(|(freed_by, _)| *freed_by <= record) {
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
        if let Some(fence) = &mut *self.fence.borrow_mut() {
            fence.absorb(&self.space, extent);
        }
    }

    /// Windows of so many bytes are being cleared from now on: those with these numbers.
    pub fn raise_fence(&self, window: u64, windows: BTreeSet<u64>) {
        *self.fence.borrow_mut() = Some(Fence::new(&self.space, window, windows));
    }

    /// Nothing is being cleared any more: what the fence took is free. False if there was none.
    pub fn drop_fence(&self) -> bool {
        self.fence.take().is_some()
    }

    /// Asks the fence, if there is one.
    pub fn with_fence<T>(&self, ask: impl FnOnce(&Fence) -> T) -> Option<T> {
        self.fence.borrow().as_ref().map(ask)
    }

    /// Bytes that are free and taken by the fence.
    pub fn fenced_bytes(&self) -> u64 {
        self.with_fence(Fence::bytes).unwrap_or(0)
    }

    /// See [`Fence::take_refused`].
    pub fn refused(&self) -> Option<u64> {
        self.fence.borrow_mut().as_mut().and_then(Fence::take_refused)
    }

    /// Where `len` bytes can go that leave what is being cleared; see [`Fence::holes`].
    pub fn holes(&self, len: u64) -> Option<Vec<Extent>> {
        let mut fence = self.fence.borrow_mut();
        fence.as_mut().and_then(|fence| self.space.with(|allocator| fence.holes(allocator, len)))
    }

    fn note(&self, change: Change) {
        let (Change::Use(extent) | Change::Free(extent)) = change;
        self.used.set(match change {
            Change::Use(_) => self.used.get() + extent.len,
            Change::Free(_) => self.used.get() - extent.len,
        });
        for since in self.followers.borrow().iter().filter_map(Weak::upgrade) {
            since.borrow_mut().push(extent);
        }
        if matches!(change, Change::Use(_)) || !self.fault.is(Planted::FreedMissingInFreeList) {
            self.changes.borrow_mut().push(extent);
        }
    }

    /// Starts a new generation of changes; those so far, up to `record`, are for a checkpoint.
    pub fn freeze(&self, record: u64) {
        self.check();
        let next = Flips::new(self.block());
        let mut flips = self.changes.replace(next);
        flips.sort();
        let (used, window) = (self.used.get(), self.window());
        let before = self.frozen.replace(Some(Frozen { record, flips, used, window }));
        assert!(before.is_none(), "one checkpoint at a time");
    }

    /// Gives the pages that the frozen generation changed, as of its record, and the bytes used and those of the window then.
    pub fn frozen_pages(&self, mut page: impl FnMut(u64, &[u8; PAGE_BYTES])) -> (u64, u64) {
        let frozen = self.frozen.borrow();
        let Some(frozen) = &*frozen else { panic!("there is a frozen generation until it is settled") };
        let (mut later, mut pending) = (self.changes.borrow_mut(), Flips::new(self.block()));
        self.pending().into_iter().for_each(|extent| pending.push(extent));
        later.sort();
        pending.sort();
        for index in frozen.flips.pages() {
            let mut bits = self.page(index);
            pending.flip_page(index, &mut bits);
            later.flip_page(index, &mut bits);
            self.without_growth(index, frozen.window, &mut bits);
            page(index, &bits);
        }
        (frozen.used, frozen.window)
    }

    /// Gives what the frozen generation flipped, page by page, and the bytes used and those of the window as of its record.
    pub fn frozen_flips(&self, mut page: impl FnMut(u64, &[u8; PAGE_BYTES])) -> (u64, u64) {
        let frozen = self.frozen.borrow();
        let Some(frozen) = &*frozen else { panic!("there is a frozen generation until it is settled") };
        for index in frozen.flips.pages() {
            let mut flips = [0; PAGE_BYTES];
            frozen.flips.flip_page(index, &mut flips);
            page(index, &flips);
        }
        (frozen.used, frozen.window)
    }

    /// The frozen generation is in the key-value store.
    pub fn settle(&self) {
        self.frozen.replace(None);
    }

    /// The changes that the key-value store does not have, of the generation being checkpointed and of the one after.
    pub fn generations(&self) -> (Option<Frozen>, Flips) {
        (self.frozen.borrow().clone(), self.changes.borrow().clone())
    }

    /// Bytes of memory that changes take until checkpoints have them.
    pub fn change_bytes(&self) -> u64 {
        let frozen = self.frozen.borrow().as_ref().map_or(0, |frozen| frozen.flips.count());
        let withheld = self.withheld.borrow().len() * size_of::<(u64, Extent)>();
        frozen * FLIP_BYTES + self.active_change_bytes() + u64::try_from(withheld).unwrap_or(u64::MAX / 4)
    }

    /// Those that the next freeze would take.
    pub fn active_change_bytes(&self) -> u64 {
        self.changes.borrow().count() * FLIP_BYTES
    }

    /// Most bytes that the key-value store is given for the free list in one checkpoint.
    pub fn stored_bytes_max(&self) -> u64 {
        self.stored.cost(self.space.with(Allocator::pages), u64::MAX)
    }

    /// Most bytes that it is given in checkpoints of the changes so far, if changes in `more` places are added.
    pub fn stored_bytes(&self, more: Places) -> u64 {
        let next = self.changes.borrow();
        let pages = next.page_count().saturating_add(more.pages).min(self.space.with(Allocator::pages));
        let chunks = next.chunk_count().saturating_add(more.chunks);
        let cost = |frozen: &Frozen| self.stored.cost(frozen.flips.page_count(), frozen.flips.chunk_count());
        self.frozen.borrow().as_ref().map_or(0, cost) + self.stored.cost(pages, chunks)
    }

    /// What changes from now on, for [`Self::pages_before`]; as long as the caller keeps it.
    pub fn follow(&self) -> Rc<RefCell<Flips>> {
        let since = Rc::new(RefCell::new(Flips::new(self.block())));
        let mut followers = self.followers.borrow_mut();
        followers.retain(|other| other.strong_count() > 0);
        followers.push(Rc::downgrade(&since));
        since
    }

    /// Gives pages of the bitmap as the records had it when `since` began, with a window of so many bytes: without what is freed
    /// and not yet free, or taken and not yet used.
    pub fn pages_before(
        &self,
        pages: &[u64],
        since: &mut Flips,
        window: u64,
        mut page: impl FnMut(u64, &[u8; PAGE_BYTES]),
    ) {
        let (Some(first), Some(last)) = (pages.iter().min(), pages.iter().max()) else { return };
        let page_bytes = PAGE_BLOCKS * self.block();
        let step = Extent::new(first * page_bytes, (last + 1 - first) * page_bytes);
        let mut pending = Flips::new(self.block());
        // There may be many, and few of them matter here.
        let near = self.pending().into_iter().filter(|extent| extent.overlaps(&step));
        near.for_each(|extent| pending.push(extent));
        pending.sort();
        since.sort();
        for index in pages.iter().copied() {
            let mut bits = self.page(index);
            pending.flip_page(index, &mut bits);
            since.flip_page(index, &mut bits);
            self.without_growth(index, window, &mut bits);
            page(index, &bits);
        }
    }

    fn page(&self, index: u64) -> Box<[u8; PAGE_BYTES]> {
        let bits = self.space.with(|allocator| allocator.page(index));
        let Ok(bits) = bits else { panic!("what changed is in the space: {bits:?}") };
        bits
    }

    /// Takes out of a page what the window has grown by since it had so many bytes.
    fn without_growth(&self, index: u64, window: u64, bits: &mut [u8; PAGE_BYTES]) {
        let end = window / self.block() - u64::from(self.window() > window);
        clear_from(bits, end.saturating_sub(index * PAGE_BLOCKS));
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> u64 {
        let marked = self.withheld.borrow().capacity() + self.ready.borrow().capacity();
        // A node of a tree is at least half full.
        let extents = self.discarding.borrow().capacity()
            + self.lent.borrow().capacity()
            + 2 * self.space.taken().len();
        let bytes = self.space.with(Allocator::memory_bytes)
            + self.changes.borrow().memory_bytes()
            + self.frozen.borrow().as_ref().map_or(0, |frozen| frozen.flips.memory_bytes())
            + extents * size_of::<Extent>()
            + marked * size_of::<(u64, Extent)>();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// What the allocator has in use and the records have not.
    fn pending(&self) -> Vec<Extent> {
        let mut pending = self.space.taken();
        pending.extend(self.withheld.borrow().iter().map(|(_, extent)| extent));
        pending.extend(self.ready.borrow().iter().map(|(_, extent)| extent));
        pending.extend(self.discarding.borrow().iter());
        pending
    }

    /// That nothing is missing and nothing twice.
    fn check(&self) {
        let taken = self.space.taken().iter().map(|extent| extent.len).sum::<u64>();
        let (free, capacity) = self.space.with(|allocator| (allocator.free_bytes(), allocator.capacity()));
        let (all, used) = (free + self.pending_bytes() + taken, self.used.get());
        assert!(all + used == capacity, "{all} bytes are free or will be, {used} of {capacity} used");
    }

    fn block(&self) -> u64 {
        self.space.with(Allocator::block_size)
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
        let book = SpaceBook::new(bitmap, FreeList::Pages, 0, loan.to_vec(), Fault::default());
        book.lend(Extent::new(4096, 4096));
        assert_eq!(book.lent(), vec![Extent::new(0, 12_288)]);
        assert!(!book.take_lent(Extent::new(8192, 8192)), "not all of it is lent");
        assert!(book.take_lent(Extent::new(4096, 4096)));
        assert_eq!(book.lent(), loan);
        assert!(book.take_lent(loan[0]) && !book.take_lent(loan[0]));
        assert_eq!(book.lent(), loan[1..]);
    }

    /// The worst that there can be on a device of a TiB: every page of the bitmap in pieces, every hint there, and as many
    /// changes as there may be, of both generations; once all of them withheld, once none.
    #[test]
    fn memory_per_tib_is_at_most_35_mb() {
        const TIB: u64 = 1 << 40;
        let mut bitmap = BitmapAllocator::new(TIB, 4096);
        for index in 0..bitmap.pages() {
            let mut page = [0x55; PAGE_BYTES];
            // A run of each kind that there are hints of.
            for (start, len) in [(0, 8), (100, 16), (200, 32), (300, 64), (500, 128), (1000, 2000)] {
                page[start..start + len].fill(0xff);
            }
            bitmap.load_page(index, &page).expect("a page");
        }
        let geometry = nvme::Geometry { size: TIB, ..nvme::SimDiskConfig::new("disk", 1 << 30).geometry };
        let most = crate::engine::Options::for_device(&geometry).space_change_bytes_max;
        for free in [false, true] {
            let book = SpaceBook::new(bitmap.clone(), FreeList::Pages, 0, vec![], Fault::default());
            let blocks: Vec<u64> = bitmap.free_extents().iter().map(|extent| extent.start).collect();
            let mut blocks = blocks.iter().cycle().step_by(997).map(|start| Extent::new(*start, 4096));
            let mut frozen = false;
            let mut record = 0;
            while book.change_bytes() < most {
                let extent = blocks.next().expect("endless");
                record += 1;
                if free {
                    // As if it had been in use before.
                    book.used.set(book.used.get() + extent.len);
                    book.freed(record, extent);
                } else {
                    book.used(extent);
                }
                if !frozen && book.change_bytes() > most / 2 {
                    frozen = true;
                    let flips = book.changes.replace(Flips::new(4096));
                    book.frozen.replace(Some(Frozen { record, flips, used: 0, window: TIB }));
                }
            }
            let bytes = book.memory_bytes();
            assert!((34_000_000..=35_000_000).contains(&bytes), "{bytes} bytes, withheld: {free}");
        }
    }

    #[test]
    fn a_window_that_grows_while_pages_are_stored_is_not_in_them() {
        const WINDOW: u64 = 300 * 4096;
        let mut bitmap = BitmapAllocator::new_free(WINDOW, 4096);
        bitmap.mark_used(Extent::new(WINDOW - 4096, 4096)).expect("free");
        let book = SpaceBook::new(bitmap, FreeList::Pages, 0, vec![], Fault::default());
        book.replay(Change::Use(Extent::new(0, 4096))).expect("free");
        book.freeze(1);
        book.grow(2 * WINDOW);
        let read = |window: u64| {
            let mut stored = BitmapAllocator::new(window, 4096);
            let told =
                book.frozen_pages(|index, page| stored.load_page(index, page).expect("fits the window"));
            (stored.free_extents(), told)
        };
        assert_eq!(read(WINDOW), (vec![Extent::new(4096, WINDOW - 8192)], (8192, WINDOW)));
        book.settle();
        book.freeze(2);
        assert_eq!(read(2 * WINDOW), (vec![Extent::new(4096, 2 * WINDOW - 8192)], (8192, 2 * WINDOW)));
    }

    #[test]
    fn pages_are_as_they_were_whatever_changed_since() {
        const WINDOW: u64 = 300 * 4096;
        let mut bitmap = BitmapAllocator::new_free(WINDOW, 4096);
        bitmap.mark_used(Extent::new(WINDOW - 4096, 4096)).expect("free");
        let book = SpaceBook::new(bitmap, FreeList::Pages, 0, vec![], Fault::default());
        let take = |start: u64, blocks: u64| {
            let mut reservation = book.space.reserve(blocks * 4096, Class::Ordinary).expect("room");
            reservation.take_these(&[Extent::new(start * 4096, blocks * 4096)]).expect("free")
        };
        let record = |taken: allocator::Taken<HybridAllocator>| {
            taken.commit().into_iter().for_each(|extent| book.used(extent));
        };
        record(take(0, 8));
        book.freed(1, Extent::new(4096, 4096));
        let before_that = take(20, 2);
        let since = book.follow();
        let read = || {
            let mut then = BitmapAllocator::new(WINDOW, 4096);
            book.pages_before(&[0], &mut since.borrow_mut(), WINDOW, |index, page| {
                then.load_page(index, page).expect("fits the window");
            });
            then.free_extents()
        };
        let free = |start: u64, end: u64| Extent::new(start * 4096, (end - start) * 4096);
        let then = [free(1, 2), free(8, 299)];
        assert_eq!(read(), then);
        record(before_that);
        record(take(30, 5));
        book.freed(2, Extent::new(0, 4096));
        book.freed(3, Extent::new(31 * 4096, 4096));
        book.allow(1, 1);
        book.take_ready(|_, _| true).into_iter().for_each(|extent| book.give_back(extent));
        record(take(1, 1));
        book.grow(2 * WINDOW);
        let _later = take(310, 3);
        assert_eq!(read(), then);
        drop(since);
        drop(book.follow());
        assert_eq!(book.followers.borrow().len(), 1, "who has gone is not told");
    }

    #[test]
    fn freed_space_waits_for_its_record_and_its_readers() {
        let bitmap = BitmapAllocator::new_free(1 << 20, 4096);
        let book = SpaceBook::new(bitmap, FreeList::Pages, 0, vec![], Fault::default());
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
        book.freeze(7);
        let mut pages = 0;
        let (used, _) = book.frozen_pages(|_, page| {
            pages += 1;
            assert!(page[..32].iter().all(|byte| *byte == 0xff), "all is free as of record 7");
        });
        assert_eq!((pages, used), (1, 0));
        let (used, _) = book.frozen_flips(|_, flips| assert_eq!(*flips, [0; PAGE_BYTES], "used and freed"));
        assert_eq!(used, 0);
    }
}
