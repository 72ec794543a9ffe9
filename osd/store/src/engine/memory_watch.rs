//! Keeps the store within its target: looks at what is held now and then, sizes the caches, and lets writers wait while
//! what is held beside them is too much.

use std::rc::Rc;
use std::time::Duration;

use super::budget::{Budget, Reading, Sizes};
use super::state::Inner;
use crate::memory::{MemoryKind, MemoryTarget};
use crate::object_store::{StoreError, StoreResult};

/// What is held is looked at this often.
const INTERVAL: Duration = Duration::from_millis(250);
/// Values that go before others have a turn.
const TRIMMED_PER_TURN: usize = 256;
/// A writer waits at most so long for memory, at a time.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the process holds for itself, and what is not worth counting, bytes for a store.
const UNCOUNTED_BYTES: u64 = 24 << 20;
/// Groups are built and encoded beside those that are on their way.
const GROUPS_BESIDE: u64 = 2;
/// What changes of keys take while they go to the key-value store: they are copied into its batch.
const OVERLAY_COPIES: u64 = 2;

impl Inner {
    /// See the seam.
    pub fn set_memory_target(&self, target: Option<MemoryTarget>) -> StoreResult<()> {
        let Some(target) = target else {
            *self.budget.borrow_mut() = None;
            self.memory_short.set(false);
            self.memory_wanted.notify_one();
            let (onodes, data) = (self.options.cache_bytes_max, self.options.data_cache_bytes_max);
            self.cache.borrow_mut().set_bytes_max(onodes);
            self.blocks.borrow_mut().set_bytes_max(data);
            return Ok(());
        };
        let fixed_max = self.fixed_max(&target);
        let least = Budget::least(fixed_max).max(self.opening_bytes());
        if target.bytes < least {
            return Err(StoreError::Invalid(format!(
                "a memory target of {} bytes is too little for this store: the least is {least}",
                target.bytes
            )));
        }
        let mut budget = self.budget.borrow_mut();
        match &mut *budget {
            Some((known, budget)) => {
                budget.set_target(target.bytes);
                *known = target;
            }
            None => {
                let new = Budget::new(target.bytes, fixed_max);
                self.resize_caches(new.sizes());
                *budget = Some((target, new));
            }
        }
        drop(budget);
        self.memory_wanted.notify_one();
        Ok(())
    }

    /// Looks until the store closes.
    pub async fn watch_memory(self: Rc<Self>) {
        let Some(pass) = self.background.enter() else { return };
        while !self.background.is_closing() && self.check_up().is_ok() {
            if self.budget.borrow().is_none() {
                rt::sync::select(self.memory_wanted.notified(), pass.closing()).await;
            }
            self.look_at_memory();
            self.trim_caches().await;
            rt::sync::select(self.core.sleep(INTERVAL), pass.closing()).await;
        }
        drop(pass);
    }

    fn look_at_memory(&self) {
        let mut budget = self.budget.borrow_mut();
        let Some((target, budget)) = &mut *budget else { return };
        let reading = self.reading(target);
        budget.adjust(&reading);
        self.resize_caches(budget.sizes());
        let is_short = budget.is_short(&reading);
        self.memory_short.set(is_short);
        if is_short {
            // What is in the overlay can be in the key-value store.
            self.counters.memory_short.add(1);
            self.checkpoint_wanted.notify_one();
        } else {
            self.progress.notify_all();
        }
    }

    /// Waits while more is held than may be, but not for ever: what is under way must end for it to become less.
    pub async fn wait_for_memory(&self) {
        let since = self.core.now();
        while self.memory_short.get() && self.check_up().is_ok() {
            let waited = Duration::from_nanos(self.core.now().0.saturating_sub(since.0));
            if waited >= PATIENCE {
                return;
            }
            self.counters.memory_waits.add(u64::from(waited.is_zero()));
            rt::sync::select(self.progress.notified(), self.core.sleep(INTERVAL)).await;
        }
    }

    fn reading(&self, target: &MemoryTarget) -> Reading {
        let (mut cached, mut fixed) = (0, 0);
        for used in self.memory() {
            match used.kind {
                MemoryKind::Onodes | MemoryKind::Data | MemoryKind::KvCache => cached += used.bytes,
                _ => fixed += used.bytes,
            }
        }
        let stats = self.kv.stats();
        let kv_is_full = stats.cache_bytes >= self.kv_cache_bytes.get() / 8 * 7;
        // Misses of a cache that has room are of what was never there.
        if kv_is_full {
            let before = self.kv_misses_seen.get();
            self.kv_came_back.set(self.kv_came_back.get() + stats.cache_misses.saturating_sub(before));
        }
        self.kv_misses_seen.set(stats.cache_misses);
        let came_back =
            [self.cache.borrow().came_back(), self.blocks.borrow().uses().2, self.kv_came_back.get()];
        let resident = self.core.resident_bytes().map(|bytes| bytes / target.sharers.max(1));
        Reading { resident, cached, fixed, fixed_max: self.fixed_max(target), came_back }
    }

    /// What it took to open the store, and takes the next time: both rings are read whole.
    fn opening_bytes(&self) -> u64 {
        let superblock = self.superblock.borrow();
        superblock.journal.len + superblock.pg_log.len + self.space.memory_bytes() + UNCOUNTED_BYTES
    }

    /// The most that may be held beside the caches.
    fn fixed_max(&self, target: &MemoryTarget) -> u64 {
        let options = &self.options;
        let groups = u64::try_from(options.groups_in_flight).unwrap_or(u64::MAX) + GROUPS_BESIDE;
        OVERLAY_COPIES * options.overlay_bytes_max
            + groups.saturating_mul(options.group_bytes_max)
            + 2 * options.deferred_batch_bytes
            + self.pg_log.borrow().budget()
            + self.space.memory_bytes()
            + self.kv.stats().tables_bytes_max
            + target.above
            + UNCOUNTED_BYTES
    }

    fn resize_caches(&self, sizes: Sizes) {
        let [onodes, data, kv] = sizes;
        self.cache.borrow_mut().set_bytes_max(onodes);
        self.blocks.borrow_mut().set_bytes_max(data);
        let before = self.kv_cache_bytes.get();
        if kv.abs_diff(before) > before / 16 || kv < before {
            self.kv_cache_bytes.set(kv);
            self.kv.set_cache_bytes(kv);
        }
    }

    async fn trim_caches(&self) {
        loop {
            let onodes = self.cache.borrow_mut().trim(TRIMMED_PER_TURN);
            let data = self.blocks.borrow_mut().trim(TRIMMED_PER_TURN);
            if onodes && data {
                return;
            }
            self.core.yield_now().await;
        }
    }
}
