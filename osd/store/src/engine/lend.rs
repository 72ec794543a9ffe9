//! Lending space to the key-value store's file system, and taking it back.
//!
//! A loan is taken from the allocator, journalled as lent, durable, and only then handed over. It comes back the other way
//! around: the file system forgets it durably, and only then it is journalled as returned, and free as what any record
//! frees. So after a crash what is lent holds everything that the file system may believe to own. What is lent and unknown
//! to the file system, because a crash came between, is *forgotten*: it is handed over again, or returned, first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use allocator::{Allocator, Class, Extent, HybridAllocator, Request, Taken};
use bluefs::fs::limits::GIVE_BACK_EXTENTS_MAX;
use bluefs::fs::{SpaceRequests, SpaceWish};
use rt::{Group, Nanos};

use super::effect::merge;
use super::free_list::Places;
use super::kv_room::Kept;
use super::state::Inner;
use super::writer::CHECKPOINT_BLOCKS;
use crate::fault::Planted;
use crate::journal::item::Item;
use crate::object_store::{StoreError, StoreResult};

/// Most extents of one loan.
const EXTENTS_MAX: usize = 16;
/// Of one in pieces that are smaller than the file system's unit.
const SMALL_EXTENTS_MAX: usize = 64;
/// Most extents of one record that takes space back: it fits what the journal keeps for such, in its smallest blocks too.
const RETURNS_MAX: usize = GIVE_BACK_EXTENTS_MAX;
/// How often lent space that nobody needs is looked for.
const RETURN_PAUSE: Duration = Duration::from_secs(2);
/// How much of what spilled to the main device moves back to the fast one at a time, bytes.
const MOVE_BYTES: u64 = 16 << 20;
/// How often the key-value store compacts at most so that something can come back: that may rewrite all of it.
const COMPACT_PAUSE: Duration = Duration::from_secs(30);
/// Data space is short below this part of the window: then all that can be spared comes back.
const SHORT_DIVISOR: u64 = 8;
/// Below this part there is as good as none.
const FULL_DIVISOR: u64 = 64;
/// Otherwise what exceeds twice this part of the window, in steps of it.
const LARGE_DIVISOR: u64 = 32;

/// How it stands with lending.
#[derive(Debug, Default)]
pub struct Loans {
    /// Lent, and not known to the file system: a crash, or a full journal, came between.
    forgotten: RefCell<Vec<Extent>>,
    /// Questions are answered.
    serving: Cell<bool>,
    /// Space is on its way back.
    returning: Cell<bool>,
    /// When it was last asked to compact so that something can come back.
    compacted: Cell<Option<Nanos>>,
}

impl Loans {
    /// Bytes that are lent and not known to the file system, and not on their way either.
    #[cfg(test)]
    pub fn forgotten(&self) -> u64 {
        self.forgotten.borrow().iter().map(|extent| extent.len).sum()
    }
}

/// What became of an attempt to take space back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// So many bytes are on their way to be free.
    Bytes(u64),
    /// Others are at it, or a checkpoint must end first: look again when something has happened.
    Later,
    /// There is nothing.
    Nothing,
}

impl Inner {
    /// Answers requests from now on. `owned` is what the file system has, `unit` the alignment that it needs.
    pub fn serve_space(
        self: &Rc<Self>,
        requests: SpaceRequests,
        owned: &[Extent],
        unit: u64,
    ) -> StoreResult<()> {
        self.check_owned(owned).inspect_err(|error| self.fail(error.to_string()))?;
        // Lent, or on its way back, before a crash that it forgot: it gets them first.
        if !self.options.fault.is(Planted::ForgottenLoanLost) {
            let forgotten = without(&self.space.lent(), &merge(owned.to_vec()));
            *self.loans.forgotten.borrow_mut() = forgotten;
        }
        self.loans.serving.set(true);
        self.keep_kv_room();
        self.spawn(Group::Commit, "lending", Rc::clone(self).lend_when_wanted(requests, unit));
        self.kv.begin_compacting();
        self.spawn(Group::Background, "returning", Rc::clone(self).return_when_spare());
        Ok(())
    }

    /// An error if the file system has what was never lent to it, or came back: two owners.
    pub fn check_owned(&self, owned: &[Extent]) -> StoreResult<()> {
        match self.not_lent(owned).first() {
            None => Ok(()),
            Some(foreign) => Err(StoreError::Io(format!(
                "the key-value store's file system has {foreign}, which is not lent to it"
            ))),
        }
    }

    /// What the file system has and was never lent to it. It has a place from the beginning, and one on a fast device.
    pub fn not_lent(&self, owned: &[Extent]) -> Vec<Extent> {
        let mut known = self.space.lent();
        let superblock = self.superblock.borrow();
        known.push(superblock.kv);
        known.extend(superblock.fast());
        without(&merge(owned.to_vec()), &merge(known))
    }

    async fn lend_when_wanted(self: Rc<Self>, requests: SpaceRequests, unit: u64) {
        while let Some(wish) = requests.next().await {
            let forgotten = self.loans.forgotten.take();
            if !forgotten.is_empty() {
                requests.grant(forgotten);
                continue;
            }
            match self.lend(&wish, unit).await {
                Ok(extents) if !extents.is_empty() => requests.grant(extents),
                Ok(_) => requests.deny(),
                Err(error) => {
                    // A store that is down said so.
                    if self.check_up().is_ok() {
                        log::warn!("no space is lent to the key-value store: {error}");
                    }
                    requests.deny();
                }
            }
        }
    }

    /// Takes up to what is wished for lending, from the reserve too if removals need it; durable when done. Nothing if there is
    /// nothing, or the store closes: what the last checkpoint needs was promised to it, and a record about a loan would be
    /// left to replay.
    async fn lend(self: &Rc<Self>, wish: &SpaceWish, unit: u64) -> StoreResult<Vec<Extent>> {
        self.check_up()?;
        if self.background.is_closing() {
            return Ok(Vec::new());
        }
        let taken = self.take_for_loan(wish, unit);
        self.nothing_to_lend.set(taken.is_none());
        let Some((taken, kept)) = taken else { return Ok(Vec::new()) };
        let items: Vec<Item> = taken.extents().iter().map(|extent| Item::Lend(*extent)).collect();
        let Some(need) = self.reserve_for_loan(&items).await? else { return Ok(Vec::new()) };
        let extents = taken.commit();
        let record = self.journal.borrow_mut().number();
        self.commit_items(record, &items, Rc::new(Cell::new(true)), need, None);
        drop(kept);
        self.pump();
        if !self.options.fault.is(Planted::LentBeforeDurable) {
            self.wait_durable(record).await?;
        }
        self.counters.lent_bytes.add(extents.iter().map(|extent| extent.len).sum());
        debug_assert!(self.space.space.with(Allocator::free_bytes) <= self.window());
        Ok(extents)
    }

    /// In units, as many as there are; else in those of the file system; else in blocks, if it takes such. A loan of blocks
    /// changes the free list in more places than it brings room for, until a checkpoint has stored them: it must fit what was
    /// promised already.
    fn take_for_loan(
        self: &Rc<Self>,
        wish: &SpaceWish,
        unit: u64,
    ) -> Option<(Taken<HybridAllocator>, Option<Kept>)> {
        let own = wish.unit.max(self.block);
        let whole = |unit: u64| self.take_in(wish.bytes.next_multiple_of(unit), unit, unit, EXTENTS_MAX);
        if let Some(whole) = whole(unit.max(own)).or_else(|| whole(own)) {
            return Some((whole, None));
        }
        // Of less than a unit in all no file could be made.
        let block = self.block;
        let least = own.min(block * u64::try_from(SMALL_EXTENTS_MAX).unwrap_or(u64::MAX / block));
        let small = wish.small_bytes.min(wish.bytes.next_multiple_of(own)) / block * block;
        let small = self.take_in(small, least, block, SMALL_EXTENTS_MAX)?;
        let kept = self.keep_for_loans(Places::touched(small.extents(), self.block));
        self.kv_keeps_promises().then_some((small, Some(kept)))
    }

    /// So much of the space, or half and half again down to the least, in that unit.
    fn take_in(
        &self,
        mut want: u64,
        least: u64,
        unit: u64,
        extents_max: usize,
    ) -> Option<Taken<HybridAllocator>> {
        let class = if self.kv_reserve_is_short() { Class::Reclaim } else { Class::Ordinary };
        while want >= least {
            let request = Request { len: want, unit, extents_max, hint: None };
            let reserved = self.space.space.reserve(want, class);
            match reserved.and_then(|mut reservation| reservation.take(&request)) {
                Ok(taken) => return Some(taken),
                // It may be what is being cleared.
                Err(_) if self.space.drop_fence() => {}
                Err(_) if want == least => break,
                Err(_) => want = (want / 2 / unit * unit).max(least),
            }
        }
        None
    }

    /// Reserves journal space for a record about loans; none if only a checkpoint that waits for room could make some, or
    /// the store closes.
    async fn reserve_for_loan(&self, items: &[Item]) -> StoreResult<Option<u64>> {
        let need = self.journal.borrow().need(items.iter().map(Item::encoded_bytes_max).sum());
        // A running checkpoint has had its bare group when it comes to writing keys.
        let keep = || if self.checkpointing.get() { 1 } else { CHECKPOINT_BLOCKS };
        while !self.journal.borrow_mut().reserve(need, keep()) {
            // A checkpoint that waits for this very space cannot make room: then there is nothing to lend.
            if self.checkpointing.get() || self.background.is_closing() {
                return Ok(None);
            }
            self.checkpoint_wanted.notify_one();
            self.progress.notified().await;
            self.check_up()?;
        }
        Ok(Some(need))
    }

    /// Takes back what is spare, now and then, until the store closes.
    async fn return_when_spare(self: Rc<Self>) {
        let Some(pass) = self.background.enter() else { return };
        while !self.background.is_closing() && self.check_up().is_ok() {
            rt::sync::select(self.core.sleep(RETURN_PAUSE), pass.closing()).await;
            if !self.checkpointing.get() {
                self.renew_view();
            }
            self.move_spilled_back().await;
            let bytes = self.worth_returning();
            if bytes == 0 || self.background.is_closing() {
                continue;
            }
            if let Err(error) = self.return_space(bytes).await
                && self.check_up().is_ok()
            {
                log::warn!("no space comes back from the key-value store: {error}");
            }
        }
        drop(pass);
    }

    /// What spilled from the fast device goes back to it, as far as that has room again.
    async fn move_spilled_back(&self) {
        if self.kv.stats().spilled_bytes == 0 || self.background.is_closing() {
            return;
        }
        match self.kv.move_back(MOVE_BYTES).await {
            Ok(moved) => self.counters.moved_back_bytes.add(moved),
            Err(error) => drop(self.kv_failed(&error)),
        }
    }

    /// How much should come back: all that can if data is short of space, else what is a lot.
    fn worth_returning(&self) -> u64 {
        let spare = self.kv.stats().spare_bytes;
        let window = self.window();
        let is_short = self.space.space.available(Class::Ordinary) < window / SHORT_DIVISOR;
        let keep = if is_short { 0 } else { 2 * window / LARGE_DIVISOR };
        // With nothing to spare, but no space for data either, it is asked all the same: it may compact.
        let least = if self.data_is_full() { self.block } else { 0 };
        spare.saturating_sub(keep).min(window / LARGE_DIVISOR).max(least)
    }

    fn data_is_full(&self) -> bool {
        self.space.space.available(Class::Ordinary) < self.window() / FULL_DIVISOR
    }

    /// Takes back up to `bytes` of what is lent and not needed.
    pub async fn return_space(self: &Rc<Self>, bytes: u64) -> StoreResult<Returned> {
        if !self.loans.serving.get() || self.space.lent_count() == 0 || bytes == 0 {
            return Ok(Returned::Nothing);
        }
        if self.loans.returning.replace(true) {
            return Ok(Returned::Later);
        }
        let returned = self.take_back(bytes).await;
        self.loans.returning.set(false);
        self.progress.notify_all();
        if let Ok(Returned::Bytes(bytes)) = returned {
            self.counters.returned_bytes.add(bytes);
        }
        returned
    }

    async fn take_back(self: &Rc<Self>, bytes: u64) -> StoreResult<Returned> {
        let mut back = self.loans.forgotten.take();
        // Until its records take effect, or there are none.
        let mut kept = self.keep_for_loans(Places::touched(&back, self.block));
        if back.is_empty() {
            let extents = u64::try_from(RETURNS_MAX).unwrap_or(u64::MAX);
            kept = self.keep_for_loans(Places::of_extents(extents, bytes, self.block));
            self.kv_room.set_giving_back(bytes);
            let compact = self.take_turn_to_compact();
            let given = self.kv.give_back(bytes, self.kv_kept(), compact, self.space.lent()).await;
            self.kv_room.set_giving_back(0);
            back = given.map_err(|error| self.kv_failed(&error))?;
        }
        let mut returned = 0;
        while !back.is_empty() {
            let rest = back.split_off(back.len().min(RETURNS_MAX));
            let items: Vec<Item> = back.iter().map(|extent| Item::Return(*extent)).collect();
            let Some(need) = self.reserve_for_loan(&items).await? else {
                if !self.options.fault.is(Planted::ReturnDropped) {
                    self.loans.forgotten.borrow_mut().extend(back.into_iter().chain(rest));
                }
                return Ok(if returned > 0 { Returned::Bytes(returned) } else { Returned::Later });
            };
            let record = self.journal.borrow_mut().number();
            self.commit_items(record, &items, Rc::new(Cell::new(true)), need, None);
            self.pump();
            returned += back.iter().map(|extent| extent.len).sum::<u64>();
            back = rest;
        }
        drop(kept);
        Ok(if returned > 0 { Returned::Bytes(returned) } else { Returned::Nothing })
    }

    /// Whether the key-value store should compact because data has no space left: not if it did so lately.
    fn take_turn_to_compact(&self) -> bool {
        let now = self.core.now();
        let last = self.loans.compacted.get();
        let waited = last.is_none_or(|last| Duration::from_nanos(now.0 - last.0) >= COMPACT_PAUSE);
        let may = waited && self.data_is_full();
        if may {
            self.loans.compacted.set(Some(now));
        }
        may
    }
}

/// What of `all` is in none of `others`; both ascending and without overlaps.
fn without(all: &[Extent], others: &[Extent]) -> Vec<Extent> {
    let mut left = Vec::new();
    let mut at = 0;
    for extent in all {
        let mut start = extent.start;
        while let Some(other) = others.get(at).filter(|other| other.start < extent.end()) {
            if other.start > start {
                left.push(Extent::new(start, other.start - start));
            }
            start = start.max(other.end());
            if other.end() > extent.end() {
                // It may reach into the next one.
                break;
            }
            at += 1;
        }
        if start < extent.end() {
            left.push(Extent::new(start, extent.end() - start));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_without_others() {
        let extents = |list: &[(u64, u64)]| -> Vec<Extent> {
            list.iter().map(|(start, len)| Extent::new(*start, *len)).collect()
        };
        let check = |all: &[(u64, u64)], others: &[(u64, u64)], expect: &[(u64, u64)]| {
            assert_eq!(without(&extents(all), &extents(others)), extents(expect));
        };
        check(&[(10, 10)], &[], &[(10, 10)]);
        check(&[(10, 10)], &[(0, 40)], &[]);
        check(&[(10, 10), (30, 10)], &[(0, 12), (15, 1), (35, 10)], &[(12, 3), (16, 4), (30, 5)]);
        check(&[(10, 10), (20, 10), (40, 5)], &[(2, 3), (15, 10), (50, 1)], &[(10, 5), (25, 5), (40, 5)]);
    }
}
