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
/// Bytes that are on their way at once.
const BATCH_BYTES: u64 = 256 << 10;
/// After so many windows of which nothing could move there are no holes any more.
const STUCK_MAX: usize = 8;

/// How often, and after what, it is looked whether what moved is free.
const SETTLE_TRIES: usize = 8;
const SETTLE_PAUSE: Duration = Duration::from_millis(10);

/// A run.
struct Clearing {
    inner: Rc<Inner>,
    watch: Rc<dyn Watch>,
    report: ClearReport,
    /// Windows in which there is something that cannot move.
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
        for window in WINDOWS {
            run.barren.clear();
            for _ in 0..PASSES_MAX {
                if !run.pass(window).await? || run.is_cut {
                    break;
                }
            }
        }
        drop(turn);
        run.report.is_whole = !run.is_cut;
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
        let (mut windows, barren) = (owned.by_window, self.barren.len());
        for (index, used) in chosen {
            let movable: u64 = windows.get(&index).into_iter().flatten().map(|owner| owner.len).sum();
            if movable < used {
                windows.remove(&index);
                self.barren.insert(index);
            }
        }
        let cleared = self.clear(window, windows).await?;
        Ok(cleared > 0 || self.barren.len() > barren)
    }

    /// Moves what lies in windows to elsewhere; how many are free then.
    async fn clear(&mut self, window: u64, windows: Owned) -> StoreResult<u64> {
        if windows.is_empty() {
            return Ok(0);
        }
        let inner = Rc::clone(&self.inner);
        inner.space.raise_fence(window, windows.keys().copied().collect());
        let fenced = Fenced(Rc::clone(&inner));
        let (count, mut stuck, mut emptied) = (u64::try_from(windows.len()).unwrap_or(u64::MAX), 0, 0);
        for (done, owners) in (0..).zip(windows.into_values()) {
            self.watch.progress(done, count);
            let wanted: u64 = owners.iter().map(|owner| owner.len).sum();
            let moved = self.move_away(owners).await?;
            stuck = if moved == 0 { stuck + 1 } else { 0 };
            emptied += u64::from(moved >= wanted);
            // A writer that found no space has dropped it.
            self.is_cut |= inner.space.with_fence(|_| ()).is_none();
            if self.is_cut || stuck == STUCK_MAX {
                break;
            }
        }
        let mut cleared = 0;
        for _ in 0..SETTLE_TRIES {
            // What they leave is free once the journal says so, and nobody reads it.
            inner.settle_frees().await?;
            cleared = inner.space.with_fence(Fence::whole).unwrap_or(0);
            if cleared >= emptied {
                break;
            }
            inner.core.sleep(SETTLE_PAUSE).await;
        }
        drop(fenced);
        inner.counters.cleared_bytes.add(cleared * window);
        self.report.windows += cleared;
        self.report.bytes += cleared * window;
        Ok(cleared)
    }

    /// Moves these, a few at a time; how many bytes did.
    async fn move_away(&mut self, owners: Vec<Owner>) -> StoreResult<u64> {
        let counted = &Rc::clone(&self.inner).counters.cleared_moved_bytes;
        let before = counted.get();
        let mut owners = owners.into_iter().peekable();
        while owners.peek().is_some() && !self.is_cut {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while bytes < BATCH_BYTES
                && let Some(Owner { object, offset, len }) = owners.next()
            {
                bytes += len;
                let Some(collection) = self.inner.collection_of(&object) else { continue };
                let object = object.as_ref().clone();
                let op = Op::Defragment { collection, object, offset, len };
                batch.push(self.inner.submit(Transaction { ops: vec![op] }, Default::default()));
            }
            for submitted in batch {
                // With any other error it is gone, cannot be read, or found no hole, and stays as it is.
                if let Err(error @ StoreError::Down(_)) = submitted.durable.await {
                    return Err(error);
                }
            }
            // It was read and written.
            self.pause(2 * bytes).await;
        }
        let moved = counted.get() - before;
        self.report.moved_bytes += moved;
        Ok(moved)
    }

    async fn pause(&mut self, bytes: u64) {
        self.is_cut |= !self.watch.pause(bytes).await;
    }
}
