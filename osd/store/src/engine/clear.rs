//! Clearing windows of the device: where a window is mostly free, what lies in it moves to holes elsewhere, so that free space is in
//! long runs again. Every pass chooses windows from the bitmap, finds whose blocks are in them by one walk over the objects, puts a
//! fence around the windows, and moves those blocks by [`Op::Defragment`]. Whatever stops it leaves a store like any other.
//!
//! Only windows are chosen of which at least half is free, and no more than the holes of the others take: a byte is moved for
//! every byte of a long run at most, and each pass leaves fewer windows that are free in part.

mod choice;
mod owners;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use allocator::Class;

use super::fence::Fence;
use super::state::Inner;
use crate::object_store::{ClearReport, StoreError, StoreResult, Watch};
use crate::transaction::{Op, Transaction};
use crate::types::ObjectId;

use choice::{choose, survey};
use owners::{Owned, Owner};

/// Bytes of a window: first long ones, then shorter ones where there are none of these. The last is what the key-value store's file
/// system needs in one piece.
const WINDOWS: [u64; 3] = [1 << 20, 256 << 10, 64 << 10];
/// Passes over the windows of one length.
const PASSES_MAX: usize = 16;
/// The part of what is available that the fence may hold back.
const FENCE_DIVISOR: u64 = 4;
/// Blocks that one pass moves at most: each may be an entry in the list of owners.
const MOVED_BLOCKS_MAX: u64 = 32 << 10;
/// Bytes that move at once.
const STEP_BYTES: u64 = 256 << 10;
/// A move counts as one of so many bytes at least: to read, write and commit a single block takes the core as long, and blocks that lie
/// scattered would be moved in bursts that clients wait behind.
const MOVE_COST_BYTES: u64 = 64 << 10;
/// After so many windows of which not even a block found a hole there are none any more.
const STUCK_MAX: usize = 8;

/// How often, and after what, it is looked whether what moved is free.
const SETTLE_TRIES: usize = 8;
const SETTLE_PAUSE: Duration = Duration::from_millis(10);

/// A run.
struct Clearing {
    inner: Rc<Inner>,
    watch: Rc<dyn Watch>,
    report: ClearReport,
    /// Windows that did not come free: mostly there is something in them that cannot move.
    barren: BTreeSet<u64>,
    /// It ends early.
    is_cut: bool,
}

/// Drops the fence, also if the run itself is dropped.
struct Fenced(Rc<Inner>);

impl Drop for Fenced {
    fn drop(&mut self) {
        if self.0.space.drop_fence() {
            self.0.progress.notify_all();
        }
    }
}

impl Inner {
    /// See the seam.
    pub async fn clear_space(self: Rc<Self>, watch: Rc<dyn Watch>) -> StoreResult<ClearReport> {
        self.check_open()?;
        let turn = self.clearing.acquire(1).await;
        let (inner, report) = (Rc::clone(&self), ClearReport::default());
        let mut run = Clearing { inner, watch, report, barren: BTreeSet::new(), is_cut: false };
        let mut is_whole = true;
        for window in WINDOWS {
            run.barren.clear();
            let mut passes = 0;
            while passes < PASSES_MAX && run.pass(window).await? {
                passes += 1;
            }
            // The last of them cleared something, and another might.
            is_whole &= passes < PASSES_MAX;
        }
        drop(turn);
        run.report.is_whole = is_whole && !run.is_cut;
        Ok(run.report)
    }
}

impl Clearing {
    /// Looks once for windows of this length, and clears them; whether to look again.
    async fn pass(&mut self, window: u64) -> StoreResult<bool> {
        if self.is_cut {
            return Ok(false);
        }
        let inner = Rc::clone(&self.inner);
        inner.check_open()?;
        let found = survey(&inner, window, &self.barren).await;
        let fenced_max = inner.space.space.available(Class::Ordinary) / FENCE_DIVISOR;
        let chosen = choose(found, window, fenced_max, MOVED_BLOCKS_MAX * inner.block);
        if chosen.is_empty() {
            return Ok(false);
        }
        self.report.passes += 1;
        let Some(owned) = self.owners(window, &chosen).await? else { return Ok(false) };
        let mut windows = owned.by_window;
        for (index, used) in chosen {
            let movable: u64 = windows.get(&index).into_iter().flatten().map(|owner| owner.len).sum();
            if movable < used {
                windows.remove(&index);
                self.barren.insert(index);
            }
        }
        Ok(self.clear(window, windows).await? > 0 && !self.is_cut)
    }

    /// Moves what lies in windows to elsewhere; how many are free then.
    async fn clear(&mut self, window: u64, mut windows: Owned) -> StoreResult<u64> {
        let inner = Rc::clone(&self.inner);
        // Less may be available than when they were chosen. The others have their turn in another pass.
        let fits = inner.space.space.available(Class::Ordinary) / FENCE_DIVISOR / window;
        if let Some(beyond) = windows.keys().nth(usize::try_from(fits).unwrap_or(usize::MAX)).copied() {
            drop(windows.split_off(&beyond));
        }
        if windows.is_empty() {
            return Ok(0);
        }
        let indexes: BTreeSet<u64> = windows.keys().copied().collect();
        inner.space.raise_fence(window, indexes.clone());
        let fenced = Fenced(Rc::clone(&inner));
        let (count, mut stuck, mut emptied) = (wide(windows.len()), 0, 0);
        for (done, owners) in (0..).zip(windows.into_values()) {
            self.watch.progress(done, count);
            let wanted: u64 = owners.iter().map(|owner| owner.len).sum();
            let (moved, is_stuck) = self.move_away(owners).await?;
            stuck += usize::from(is_stuck);
            emptied += u64::from(moved >= wanted);
            if self.is_cut || stuck == STUCK_MAX {
                break;
            }
        }
        let mut whole = BTreeSet::new();
        for _ in 0..SETTLE_TRIES {
            // What they leave is free once the journal says so, and nobody reads it.
            inner.settle_frees().await?;
            whole = inner.space.with_fence(Fence::whole).unwrap_or_default();
            if wide(whole.len()) >= emptied {
                break;
            }
            inner.core.sleep(SETTLE_PAUSE).await;
        }
        drop(fenced);
        self.barren.extend(indexes.difference(&whole));
        let cleared = wide(whole.len());
        inner.counters.cleared_bytes.add(cleared * window);
        self.report.windows += cleared;
        self.report.bytes += cleared * window;
        Ok(cleared)
    }

    /// Moves these, one after the other, so that clients of a collection wait for one at most; how many bytes did, and whether it
    /// ended as not even a block found a hole.
    async fn move_away(&mut self, owners: Vec<Owner>) -> StoreResult<(u64, bool)> {
        let inner = Rc::clone(&self.inner);
        let before = inner.counters.cleared_moved_bytes.get();
        let is_stuck = self.move_owners(owners).await?;
        let moved = inner.counters.cleared_moved_bytes.get() - before;
        self.report.moved_bytes += moved;
        Ok((moved, is_stuck))
    }

    async fn move_owners(&mut self, owners: Vec<Owner>) -> StoreResult<bool> {
        let inner = Rc::clone(&self.inner);
        // What found holes so far.
        let mut most = STEP_BYTES;
        for Owner { object, offset, len } in owners {
            let (mut at, end) = (offset, offset + len);
            while at < end {
                if self.is_cut {
                    return Ok(false);
                }
                let len = most.min(end - at);
                self.move_range(&object, at, len).await?;
                match inner.space.refused() {
                    Some(refused) if refused <= inner.block => return Ok(true),
                    Some(_) if len > inner.block => most = (len / 2).next_multiple_of(inner.block),
                    _ => at += len,
                }
            }
        }
        Ok(false)
    }

    async fn move_range(&mut self, object: &ObjectId, offset: u64, len: u64) -> StoreResult<()> {
        let Some(collection) = self.inner.collection_of(object) else { return Ok(()) };
        let op = Op::Defragment { collection, object: object.clone(), offset, len };
        let submitted =
            self.inner.submit(Transaction { ops: vec![op] }, Default::default(), Default::default());
        // With any other error it is gone, cannot be read, or found no hole, and stays as it is. Before it is asked what is free
        // all of them are durable.
        if let Err(error @ StoreError::Down(_)) = submitted.readable.await {
            return Err(error);
        }
        // A writer that found no space has dropped it.
        self.is_cut |= self.inner.space.with_fence(|_| ()).is_none();
        // It was read and written.
        self.pause(2 * len.max(MOVE_COST_BYTES)).await;
        Ok(())
    }

    async fn pause(&mut self, bytes: u64) {
        self.is_cut |= !self.watch.pause(bytes).await;
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
