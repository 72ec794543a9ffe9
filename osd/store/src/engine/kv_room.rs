//! Room in the key-value store: what is promised of it, and what is done when it does not do.
//!
//! Invariant: what is in the overlay, what checkpoints add to it and what was admitted never exceeds what the key-value
//! store is sure to take (`KvStats::headroom_bytes`), so a checkpoint always finds room. A part of that only removals
//! and what the service depends on may use: they are possible on a full device, and what they give back, their
//! tombstones included, is room again once it was compacted. Lives on one core.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use allocator::{Class, limits::PAGE_BYTES};
use bluefs::kv::{self, ENTRY_BYTES};
use rt::sync::{Either, select};

use super::admit::Demand;
use super::state::Inner;
use crate::object_store::{StoreError, StoreResult};

/// Bytes of a page of the bitmap in both its copies.
const PAGE_COST: u64 = 2 * (PAGE_BYTES as u64 + 32 + ENTRY_BYTES);
/// Bytes that any checkpoint adds.
const CHECKPOINT_COST: u64 = 1024;
/// Bytes that it adds for each pool: the statistics.
const POOL_COST: u64 = 64 + ENTRY_BYTES;
/// Bytes that it adds for each lent extent.
const LENT_COST: u64 = 16;
/// Checkpoints that there may be before the key-value store tells anew: the one under way, and the next.
const CHECKPOINTS: u64 = 2;
/// Flushes that the reserve pays for.
const RESERVE_FLUSHES: u64 = 4;
/// How long an ordinary transaction waits for a compaction.
const COMPACTION_WAIT: Duration = Duration::from_secs(5);
/// How long it waits for the reaper each time.
const REAP_PAUSE: Duration = Duration::from_millis(5);
/// Room that an ordinary transaction needs at least, bytes, for the store to count as not full.
const LEAST_BYTES: u64 = 4096;

/// Changes on their way to the key-value store that the overlay does not hold.
#[derive(Debug, Default)]
pub struct KvRoom {
    admitted: Cell<u64>,
    unflushed: Cell<u64>,
    /// A checkpoint waits for room.
    waiting: Cell<bool>,
    /// Bytes that may be given back at this moment, so what the key-value store tells may be too much by that.
    giving_back: Cell<u64>,
}

impl KvRoom {
    /// Gives an admission's part back.
    pub fn unreserve(&self, bytes: u64) {
        self.admitted.set(self.admitted.get() - bytes);
    }

    /// A batch of so many bytes is given over; none once it is flushed.
    pub fn set_unflushed(&self, bytes: u64) {
        self.unflushed.set(bytes);
    }

    /// Up to so many bytes are given back from now on. False if some are already.
    pub fn begin_giving_back(&self, bytes: u64) -> bool {
        let first = self.giving_back.get() == 0;
        if first {
            self.giving_back.set(bytes);
        }
        first
    }

    /// They are, and the key-value store has told what headroom is left.
    pub fn end_giving_back(&self) {
        self.giving_back.set(0);
    }

    /// Whether a checkpoint waits for room: nothing may grow meanwhile.
    pub fn set_waiting(&self, waiting: bool) {
        self.waiting.set(waiting);
    }
}

impl Inner {
    /// Has the key-value store keep what it needs ahead, from now on.
    pub fn keep_kv_room(&self) {
        let most = self.options.overlay_bytes_max + self.kv_checkpoints() + self.kv_reserve();
        self.kv.keep_headroom(most);
    }

    /// Promises a record room; gives how much, or none if there is not enough.
    pub(super) fn reserve_kv_room(&self, demand: &Demand) -> Option<u64> {
        if demand.kv_bytes == 0 && demand.extents == 0 {
            return Some(0);
        }
        let bytes = self.kv_demand(demand);
        if self.kv_missing(bytes, demand.class) > 0 {
            return None;
        }
        self.kv_room.admitted.set(self.kv_room.admitted.get() + bytes);
        Some(bytes)
    }

    /// Tries to make room for a record that has `waited` for it so far. An error if nothing helped.
    pub(super) async fn make_kv_room(self: &Rc<Self>, demand: &Demand, waited: Duration) -> StoreResult<()> {
        let bytes = self.kv_demand(demand);
        let missing = |this: &Self| this.kv_missing(bytes, demand.class);
        let before = missing(self);
        self.counters.kv_room_waits.add(1);
        // A checkpoint pays for what is in the overlay, mostly with less than was promised. What others add is theirs.
        let last = self.checkpoints.get() + CHECKPOINTS;
        while self.checkpoints.get() < last && (self.checkpointing.get() || self.overlay.active_bytes() > 0) {
            if self.kv_room.waiting.get() && demand.class == Class::Ordinary {
                return Err(self.kv_full());
            }
            self.check_up()?;
            self.checkpoint_wanted.notify_one();
            self.progress.notified().await;
            if missing(self) == 0 {
                return Ok(());
            }
        }
        self.renew_view();
        let wanted = self.kv_committed() + bytes + self.kv_reserve_for(demand.class);
        // What was removed may still have to be compacted away. Whoever removes waits for that; who grows does for a
        // while, since others of its group wait behind it.
        let made = self.kv.make_headroom(wanted, true);
        let patience = async {
            match demand.class {
                Class::Ordinary => self.core.sleep(COMPACTION_WAIT).await,
                Class::Reclaim => std::future::pending().await,
            }
        };
        if let Either::Left(made) = select(made, Box::pin(patience)).await {
            made.map_err(|error| self.kv_failed(&error))?;
        }
        self.check_up()?;
        let after = missing(self);
        // Omaps whose removal is acknowledged are yet to be removed: that gives room.
        let coming = !self.reaps.borrow().is_empty() || self.overlay.active_ranges() > 0;
        if after > 0 && after >= before && coming && waited < COMPACTION_WAIT {
            self.core.sleep(REAP_PAUSE).await;
            return Ok(());
        }
        if after == 0 || after < before { Ok(()) } else { Err(self.kv_full()) }
    }

    /// Lets the key-value store drop what only the view shows that reads of the past used.
    pub(super) fn renew_view(&self) {
        self.overlay.renew(self.kv.view());
    }

    /// Whether the reserve itself is short: then it may be lent what is kept for removals.
    pub fn kv_reserve_is_short(&self) -> bool {
        self.kv_missing(0, Class::Ordinary) > 0
    }

    /// Whether the key-value store has no room for anything that grows, and none to be had.
    pub fn kv_is_short(&self) -> bool {
        self.nothing_to_lend.get() && self.kv_missing(LEAST_BYTES, Class::Ordinary) > 0
    }

    fn kv_full(&self) -> StoreError {
        let problem = "the key-value store has no room to grow; only removals are possible";
        StoreError::NoSpace(problem.to_owned())
    }

    fn kv_demand(&self, demand: &Demand) -> u64 {
        let pages = self.space.pages_max(demand.extents) - self.space.pages_max(0);
        demand.kv_bytes + pages * PAGE_COST
    }

    /// By how much the headroom is too small for `bytes` more of that class.
    fn kv_missing(&self, bytes: u64, class: Class) -> u64 {
        let Some(headroom) = self.kv.stats().headroom_bytes else { return 0 };
        let going = kv::headroom(self.kv_room.giving_back.get().next_multiple_of(4096), 0, 0);
        let sure = headroom.saturating_sub(going);
        (self.kv_committed() + bytes + self.kv_reserve_for(class)).saturating_sub(sure)
    }

    fn kv_reserve_for(&self, class: Class) -> u64 {
        if class == Class::Ordinary { self.kv_reserve() } else { 0 }
    }

    fn kv_reserve(&self) -> u64 {
        self.options.kv_reserve() + RESERVE_FLUSHES * self.kv.stats().flush_bytes
    }

    /// Headroom that must stay whatever is given back.
    pub(super) fn kv_promised(&self) -> u64 {
        self.kv_committed() + self.kv_reserve()
    }

    /// What the key-value store must take for sure.
    fn kv_committed(&self) -> u64 {
        let room = &self.kv_room;
        self.overlay.bytes() + room.unflushed.get() + room.admitted.get() + self.kv_checkpoints()
    }

    /// What checkpoints add to the overlay's content.
    fn kv_checkpoints(&self) -> u64 {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX / 1024);
        let each = CHECKPOINT_COST
            + count(self.pools.borrow().len()) * POOL_COST
            + self.space.lent_count() * LENT_COST
            + self.kv.stats().flush_bytes;
        CHECKPOINTS * (each + self.space.pages_max(0) * PAGE_COST)
    }
}
