//! Ending and accounting: closing the store, and its statistics.

use std::rc::Rc;

use allocator::{Allocator, Class};

use super::state::{Inner, Purpose};
use crate::object_store::{StoreError, StoreResult, StoreStats};
use crate::types::PoolStats;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a thousand")]
fn permille(part: f64) -> u64 {
    (part.clamp(0.0, 1.0) * 1000.0).round() as u64
}

impl Inner {
    /// See the seam: finishes what was submitted, makes a checkpoint, seals the tail, lets go of the device.
    pub async fn close(self: Rc<Self>) -> StoreResult<()> {
        let first = !self.gate.is_closing();
        self.gate.close().await;
        let closed = self.background.close();
        self.wake_all();
        closed.await;
        if first && self.purpose != Purpose::Look && self.check_up().is_ok() {
            self.finish().await?;
        }
        let closed = self.kv.close().await.map_err(|error| StoreError::Io(error.to_string()));
        self.check_up()?;
        if first { closed } else { Ok(()) }
    }

    fn all_counters(&self) -> Vec<(&'static str, u64)> {
        let mut all = self.counters.list();
        let (hits, misses, came_back) = self.blocks.borrow().uses();
        all.extend([
            ("data_cache_hits", hits),
            ("data_cache_misses", misses),
            ("data_cache_came_back", came_back),
            ("cache_came_back", self.cache.borrow().came_back()),
            ("kv_ranges_compacted", self.kv.stats().ranges_compacted),
        ]);
        all.sort_unstable();
        all
    }

    async fn finish(self: &Rc<Self>) -> StoreResult<()> {
        if self.checkpoint_is_due()
            && let Err(error) = self.checkpoint().await
        {
            self.fail(format!("the last checkpoint failed: {error}"));
            return Err(error);
        }
        while self.journal.borrow().wants_seal() {
            self.check_up()?;
            self.journal.borrow_mut().want_bare(0);
            self.pump();
            if self.journal.borrow().is_idle() {
                break;
            }
            self.progress.notified().await;
        }
        // A discard that is still under way could hit what the next one to open the device writes there.
        while !self.journal.borrow().is_idle() || self.space.is_discarding() {
            self.check_up()?;
            self.progress.notified().await;
        }
        self.check_up()
    }

    /// See the seam.
    pub fn stats(&self) -> StoreStats {
        let pools = self.pools.borrow();
        let sum =
            |field: fn(&PoolStats) -> i64| u64::try_from(pools.values().map(field).sum::<i64>()).unwrap_or(0);
        let back = self.space.pending_bytes() + self.space.fenced_bytes();
        let free = self.space.space.with(Allocator::free_bytes) + back;
        // What is lent and holds nothing counts: keys may have it, and what can be spared comes back for data.
        let kv = self.kv.stats();
        let lent = self.space.lent().iter().map(|extent| extent.len).sum();
        let available = self.space.space.available(Class::Ordinary)
            + back
            + kv.free_bytes.saturating_sub(kv.fast_free_bytes).min(lent);
        let allocated = sum(|pool| pool.allocated);
        let (free_pieces, fragmentation) =
            self.space.space.with(|allocator| (allocator.free_runs(), allocator.fragmentation()));
        let window = self.window();
        StoreStats {
            total: window,
            available: if self.kv_is_short() { 0 } else { available },
            allocated,
            stored: sum(|pool| pool.stored),
            omap: sum(|pool| pool.omap_bytes),
            metadata: window.saturating_sub(free).saturating_sub(allocated),
            fast: kv.fast_bytes,
            fast_available: kv.fast_free_bytes,
            spilled: kv.spilled_bytes,
            free_pieces,
            fragmentation_permille: permille(fragmentation),
            counters: self.all_counters(),
            memory: self.memory(),
        }
    }
}
