//! Room in the key-value store: what is promised of it, and what is done when it does not do.
//!
//! Invariant: what is in the overlay, what checkpoints add to it and what was admitted never exceeds what the key-value
//! store is sure to take (`KvStats::headroom_bytes`), so a checkpoint always finds room. A part of that only removals
//! and what the service depends on may use: they are possible on a full device, and what they give back, their
//! tombstones included, is room again once it was compacted. Lives on one core.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use allocator::Class;
use bluefs::kv::{self, Compact, ENTRY_BYTES};
use rt::Nanos;
use rt::sync::{Either, select};

use super::admit::Demand;
use super::attempts::Attempts;
use super::free_list::Places;
use super::state::Inner;
use crate::object_store::{StoreError, StoreResult};
use crate::types::PoolStats;

/// Bytes that any checkpoint adds.
const CHECKPOINT_COST: u64 = 1024;
/// Bytes that it adds for each pool: the statistics.
const POOL_COST: u64 = 8 * PoolStats::FIELDS as u64 + 16 + ENTRY_BYTES;
/// Bytes that it adds for each lent extent.
const LENT_COST: u64 = 16;
/// Checkpoints that there may be before the key-value store tells anew: the one under way, and the next.
const CHECKPOINTS: u64 = 2;
/// Flushes that the reserve pays for.
const RESERVE_FLUSHES: u64 = 4;
/// How long an ordinary transaction waits for a compaction.
const COMPACTION_WAIT: Duration = Duration::from_secs(10);
/// How long it waits for the reaper each time.
const REAP_PAUSE: Duration = Duration::from_millis(5);
/// Room that an ordinary transaction needs at least, for the store to count as not full.
const LEAST: Promise = Promise { bytes: 4096, places: Places { pages: 0, chunks: 0 } };

/// How long a record has waited for room, and for what.
#[derive(Debug)]
pub(super) struct Waiting {
    since: Nanos,
    for_reaps: bool,
}

impl Waiting {
    /// Since then.
    pub(super) fn since(since: Nanos) -> Self {
        Self { since, for_reaps: false }
    }

    /// How much longer an ordinary transaction may.
    fn patience(&self, now: Nanos) -> Duration {
        COMPACTION_WAIT.saturating_sub(Duration::from_nanos(now.0.saturating_sub(self.since.0)))
    }
}

/// What a record was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    bytes: u64,
    /// Places of the free list that a checkpoint may have to store.
    places: Places,
}

impl Promise {
    fn of(demand: &Demand) -> Self {
        Self { bytes: demand.kv_bytes, places: Places::of_blocks(demand.blocks) }
    }
}

/// Room that is kept for records about loans, which are not admitted. Given back on drop.
pub struct Kept {
    inner: Rc<Inner>,
    promise: Promise,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.inner.kv_room.unreserve(self.promise);
    }
}

/// Changes on their way to the key-value store that the overlay does not hold.
#[derive(Debug, Default)]
pub struct KvRoom {
    admitted: Cell<Promise>,
    unflushed: Cell<u64>,
    /// A checkpoint waits for room.
    waiting: Cell<bool>,
    /// What grows was refused for want of room, and there has not been any since.
    refused: Cell<bool>,
    /// A checkpoint alone gave no room: who holds a view for long is to let go of it, as it keeps what was removed.
    pub views_unwanted: Cell<bool>,
    pub(super) attempts: Attempts,
    /// Bytes that may be given back at this moment, so what the key-value store tells may be too much by that.
    giving_back: Cell<u64>,
}

impl KvRoom {
    fn reserve(&self, promise: Promise) {
        let Promise { bytes, places } = self.admitted.get();
        self.admitted.set(Promise { bytes: bytes + promise.bytes, places: places.with(promise.places) });
    }

    /// Gives an admission's part back.
    pub fn unreserve(&self, promise: Promise) {
        let Promise { bytes, places } = self.admitted.get();
        self.admitted.set(Promise { bytes: bytes - promise.bytes, places: places.without(promise.places) });
    }

    /// So many bytes that the overlay does not count are given over; none once they are flushed.
    pub fn set_unflushed(&self, bytes: u64) {
        self.unflushed.set(bytes);
    }

    /// Up to so many bytes are given back from now on; none once the key-value store has told what headroom is left.
    pub fn set_giving_back(&self, bytes: u64) {
        self.giving_back.set(bytes);
    }

    /// Whether a checkpoint waits for room: nothing may grow meanwhile.
    pub fn set_waiting(&self, waiting: bool) {
        self.waiting.set(waiting);
    }
}

impl Inner {
    /// Has the key-value store keep what it needs ahead, from now on: with every page of the bitmap in a checkpoint.
    pub fn keep_kv_room(&self) {
        let pages = self.space.stored_bytes_max();
        self.kv.keep_headroom(
            self.options.overlay_bytes_max + self.kv_checkpoints() + pages + self.kv_reserve(),
        );
    }

    /// Promises a record room; none if there is not enough, or nothing may grow.
    pub(super) fn reserve_kv_room(&self, demand: &Demand) -> Option<Promise> {
        let promise = Promise::of(demand);
        if promise == Promise::default() {
            return Some(promise);
        }
        let may_not = self.kv_room.waiting.get() && demand.class == Class::Ordinary;
        if may_not || self.kv_missing(promise, demand.class) > 0 {
            return None;
        }
        self.kv_room.reserve(promise);
        Some(promise)
    }

    /// Tries to make room for a record that waits for it. An error if nothing helped, or did lately.
    pub(super) async fn make_kv_room(
        self: &Rc<Self>,
        demand: &Demand,
        waiting: &mut Waiting,
    ) -> StoreResult<()> {
        if demand.class == Class::Reclaim {
            return self.try_to_make_kv_room(demand, waiting).await;
        }
        let room = &self.kv_room;
        if room.waiting.get() || room.attempts.are_in_vain(self.missing_for(demand), self.core.now()) {
            return Err(self.kv_full(demand));
        }
        let patience = waiting.patience(self.core.now());
        let Some(attempt) = room.attempts.begin(&self.progress, self.core.now()) else {
            if patience.is_zero() {
                return Err(self.kv_full(demand));
            }
            // It may help both.
            self.progress.notified().await;
            return self.check_up();
        };
        let made = self.try_to_make_kv_room(demand, waiting).await;
        match &made {
            Ok(()) => attempt.helped(),
            // Who had no time for all of it does not know.
            Err(StoreError::NoSpace(_)) if !patience.is_zero() => {
                attempt.was_in_vain(self.missing_for(demand), self.core.now());
            }
            Err(_) => {}
        }
        made
    }

    async fn try_to_make_kv_room(self: &Rc<Self>, demand: &Demand, waiting: &mut Waiting) -> StoreResult<()> {
        let promise = Promise::of(demand);
        let before = self.missing_for(demand);
        self.counters.kv_room_waits.add(1);
        // A checkpoint pays for what is in the overlay, mostly with less than was promised. What others add is theirs.
        let last = self.checkpoints.get() + CHECKPOINTS;
        while self.checkpoints.get() < last && (self.checkpointing.get() || self.overlay.active_bytes() > 0) {
            if self.kv_room.waiting.get() && demand.class == Class::Ordinary {
                return Err(self.kv_full(demand));
            }
            self.check_up()?;
            self.checkpoint_wanted.notify_one();
            self.progress.notified().await;
            if self.missing_for(demand) == 0 {
                return Ok(());
            }
        }
        self.kv_room.views_unwanted.set(true);
        self.renew_view();
        let wanted = self.kv_committed(promise) + self.kv_reserve_for(demand.class);
        // What was removed may still have to be compacted away. Whoever removes waits for that, however little it is; who grows
        // does for a while if it is much, since others of its group wait behind it.
        let compact = if demand.class == Class::Reclaim { Compact::IfAny } else { Compact::IfWorthIt };
        let made = async {
            self.kv.make_headroom(wanted, compact).await?;
            // The view of before keeps the files that the compaction replaced.
            self.renew_view();
            self.kv.make_headroom(wanted, Compact::Never).await
        };
        let patience = async {
            match demand.class {
                Class::Ordinary => self.core.sleep(waiting.patience(self.core.now())).await,
                Class::Reclaim => std::future::pending().await,
            }
        };
        if let Either::Left(made) = select(Box::pin(made), Box::pin(patience)).await {
            made.map_err(|error| self.kv_failed(&error))?;
        }
        self.check_up()?;
        let after = self.missing_for(demand);
        // Omaps whose removal is acknowledged are yet to be removed: that gives room. So does the end of reads whose views
        // keep what was compacted away.
        let reading = demand.class == Class::Reclaim && self.overlay.is_pinned();
        let coming = reading || !self.reaps.borrow().is_empty() || self.overlay.active_ranges() > 0;
        let patience = waiting.patience(self.core.now());
        let may_wait = coming && !patience.is_zero();
        if after > 0 && after >= before && may_wait && (demand.class == Class::Reclaim || !waiting.for_reaps)
        {
            waiting.for_reaps = true;
            self.wait_for_reaps(demand.class, patience).await;
            return Ok(());
        }
        let goes_on = after < before && (demand.class == Class::Reclaim || !patience.is_zero());
        if after == 0 || goes_on { Ok(()) } else { Err(self.kv_full(demand)) }
    }

    /// Waits for omaps that are yet to be removed: whoever removes looks again soon; who grows waits once, for those there are, so
    /// that he does not wait for what others go on to remove.
    async fn wait_for_reaps(&self, class: Class, most: Duration) {
        let since = self.core.now();
        let last = self.reaps.borrow().back().copied();
        loop {
            self.core.sleep(REAP_PAUSE).await;
            let waited = Duration::from_nanos(self.core.now().0 - since.0);
            let is_left = last.is_some_and(|last| self.reaps.borrow().contains(&last));
            if class == Class::Reclaim || !is_left || waited >= most {
                return;
            }
        }
    }

    fn missing_for(&self, demand: &Demand) -> u64 {
        self.kv_missing(Promise::of(demand), demand.class)
    }

    /// Lets go of a view that keeps what newer ones do not show: files, in stores whose views hold some.
    pub(super) fn renew_view(&self) {
        self.overlay.renew(self.kv.view());
    }

    /// Whether the reserve itself is short: then it may be lent what is kept for removals.
    pub fn kv_reserve_is_short(&self) -> bool {
        self.kv_missing(Promise::default(), Class::Ordinary) > 0
    }

    /// Whether the key-value store has no room for anything that grows: something was refused, so there was none to be had
    /// either, which only a transaction that waits for it can tell.
    pub fn kv_is_short(&self) -> bool {
        if self.kv_room.refused.get() && self.kv_missing(LEAST, Class::Ordinary) == 0 {
            self.kv_room.refused.set(false);
        }
        self.kv_room.refused.get()
    }

    fn kv_full(&self, demand: &Demand) -> StoreError {
        self.kv_room.refused.set(true);
        let promise = Promise::of(demand);
        let wanted = self.kv_committed(promise) + self.kv_reserve_for(demand.class);
        log::debug!(
            "room for {wanted} bytes of keys is wanted, {} are missing",
            self.kv_missing(promise, demand.class)
        );
        let problem = match demand.class {
            Class::Ordinary => "the key-value store has no room to grow; only removals are possible",
            Class::Reclaim => {
                "the key-value store has no room left, and what is kept for removals is used up"
            }
        };
        StoreError::NoSpace(problem.to_owned())
    }

    /// By how much the headroom is too small for `more` of that class.
    fn kv_missing(&self, more: Promise, class: Class) -> u64 {
        let Some(headroom) = self.kv.stats().headroom_bytes else { return 0 };
        let going = kv::headroom(self.kv_room.giving_back.get().next_multiple_of(4096), 0, 0);
        let sure = headroom.saturating_sub(going);
        (self.kv_committed(more) + self.kv_reserve_for(class)).saturating_sub(sure)
    }

    fn kv_reserve_for(&self, class: Class) -> u64 {
        if class == Class::Ordinary { self.kv_reserve() } else { 0 }
    }

    fn kv_reserve(&self) -> u64 {
        self.options.kv_reserve() + RESERVE_FLUSHES * self.kv.stats().flush_bytes
    }

    /// Keeps room for records about loans in so many places of the free list, until it is dropped, whether there is so much or
    /// not: what is given back leaves [`Self::kv_kept`].
    pub(super) fn keep_for_loans(self: &Rc<Self>, places: Places) -> Kept {
        let promise = Promise { bytes: 0, places };
        self.kv_room.reserve(promise);
        Kept { inner: Rc::clone(self), promise }
    }

    /// Headroom that must stay whatever is given back.
    pub(super) fn kv_kept(&self) -> u64 {
        self.kv_committed(Promise::default()) + self.kv_reserve()
    }

    /// Whether there is room for all that was promised, also of what is kept for removals.
    pub(super) fn kv_keeps_promises(&self) -> bool {
        self.kv_missing(Promise::default(), Class::Reclaim) == 0
    }

    /// What the key-value store must take for sure, with `more`.
    fn kv_committed(&self, more: Promise) -> u64 {
        let room = &self.kv_room;
        let admitted = room.admitted.get();
        self.overlay.bytes()
            + room.unflushed.get()
            + admitted.bytes
            + more.bytes
            + self.space.stored_bytes(admitted.places.with(more.places))
            + self.kv_checkpoints()
    }

    /// What checkpoints add beside the overlay's content and pages.
    fn kv_checkpoints(&self) -> u64 {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX / 1024);
        let each = CHECKPOINT_COST
            + count(self.pools.borrow().len()) * POOL_COST
            + self.space.lent_count() * LENT_COST
            + self.kv.stats().flush_bytes;
        CHECKPOINTS * each
    }
}
