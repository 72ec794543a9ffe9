//! Checkpoints: the overlay's generation, statistics, bitmap pages and the journal position go to the key-value store
//! as one batch of absolute values; then the journal is trimmed.
//!
//! Order: records durable → their deferred payloads in place and flushed, the placement groups' log appended and
//! flushed → batch applied → batch flushed → journal trimmed. The batch may become durable as soon as it is
//! applied, so everything it relies on is durable before.

use std::rc::Rc;
use std::time::Duration;

use allocator::{Class, Extent};
use bluefs::kv::{Compact, ENTRY_BYTES, KvBatch, KvError, KvOp, KvResult};
use bytes::Bytes;
use nvme::DmaBuf;
use rt::Group;

use super::admit::Demand;
use super::free_list::{self, Replacement};
use super::options::FreeList;
use super::pg_log::Window;
use super::state::{Inner, Pending};
use super::writer::GroupEnd;
use crate::check::length;
use crate::codec::{DecodeResult, Decoder, Encoder};
use crate::fault::Planted;
use crate::journal::ring;
use crate::keys;
use crate::object_store::{StoreError, StoreResult};
use crate::superblock::Superblock;

/// The window is that of the formatting.
const VERSION: u8 = 1;
/// It is another.
const VERSION_GROWN: u8 = 2;
/// Longest write to the placement groups' log.
const LOG_WRITE_BYTES_MAX: u64 = 1 << 20;
/// How often, and after how long, a full key-value store is asked again: half a minute.
const FULL_TRIES_MAX: u32 = 1500;
/// See [`FULL_TRIES_MAX`].
const FULL_PAUSE: Duration = Duration::from_millis(20);
/// How often one that was refused space gets a checkpoint if there is something for it.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// What the checkpoint says about the rest of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// The last group it holds, and where the journal goes on.
    pub end: GroupEnd,
    /// No omap id from here on was used.
    pub next_omap_id: u64,
    /// Window of the placement groups' log.
    pub log: Window,
    /// Bytes used according to the bitmap: a check on its pages.
    pub used: u64,
    /// Bytes of the window that the bitmap is of, if it is not as it was formatted.
    pub window: Option<u64>,
    /// Space lent to the key-value store's file system.
    pub lent: Vec<Extent>,
}

impl CheckpointRecord {
    /// The value stored under [`keys::CHECKPOINT`].
    pub fn encode(&self) -> Bytes {
        let mut e = Encoder::new();
        e.u8(self.window.map_or(VERSION, |_| VERSION_GROWN));
        e.u64(self.end.group);
        e.u64(self.end.record);
        e.u64(self.end.position);
        e.u32(self.end.checksum);
        e.u64(self.next_omap_id);
        e.u64(self.log.tail);
        e.u64(self.log.head);
        e.u64(self.used);
        self.window.into_iter().for_each(|window| e.u64(window));
        e.count(self.lent.len());
        for extent in &self.lent {
            e.u64(extent.start);
            e.u64(extent.len);
        }
        e.into_bytes()
    }

    /// Reads the value.
    pub fn decode(value: Bytes) -> DecodeResult<Self> {
        let mut d = Decoder::new(value);
        let version = d.u8("version of a checkpoint")?;
        if version != VERSION && version != VERSION_GROWN {
            return d.invalid("version of a checkpoint", 0, version.into());
        }
        let end = GroupEnd {
            group: d.u64("group")?,
            record: d.u64("record")?,
            position: d.u64("position")?,
            checksum: d.u32("checksum")?,
        };
        let next_omap_id = d.u64("omap id")?;
        let log = Window { tail: d.u64("log tail")?, head: d.u64("log head")? };
        let used = d.u64("used bytes")?;
        let window = (version == VERSION_GROWN).then(|| d.u64("window of the bitmap")).transpose()?;
        let mut lent = Vec::new();
        for _ in 0..d.count(16, "lent extents")? {
            let (start, len) = (d.u64("lent extent")?, d.u64("lent extent")?);
            let Some(extent) = Extent::checked(start, len) else {
                return d.invalid("lent extent", d.at(), start);
            };
            lent.push(extent);
        }
        d.end("checkpoint")?;
        Ok(Self { end, next_omap_id, log, used, window, lent })
    }

    /// Bytes of the window that the bitmap is of.
    pub fn window_of(&self, superblock: &Superblock) -> u64 {
        self.window.unwrap_or(superblock.formatted)
    }
}

impl Inner {
    /// Makes checkpoints when they are wanted, until the store closes.
    pub async fn checkpoint_when_wanted(self: Rc<Self>) {
        let Some(pass) = self.background.enter() else { return };
        while !self.background.is_closing() && self.check_up().is_ok() {
            let wanted = rt::sync::select(self.checkpoint_wanted.notified(), self.removals_wait());
            rt::sync::select(Box::pin(wanted), pass.closing()).await;
            if self.background.is_closing() || !self.checkpoint_is_due() {
                continue;
            }
            if let Err(error) = self.checkpoint().await {
                self.fail(format!("the checkpoint failed: {error}"));
            }
        }
        drop(pass);
    }

    /// Ends when a checkpoint may pass removals on to a key-value store that was refused space.
    async fn removals_wait(&self) {
        loop {
            self.core.sleep(SHORT_PAUSE).await;
            if self.nothing_to_lend.get() && self.overlay.active_bytes() > 0 {
                return;
            }
        }
    }

    /// Whether a checkpoint would give back something.
    pub fn checkpoint_is_due(&self) -> bool {
        self.journal.borrow().used() > 0 || self.overlay.active_bytes() > 0
    }

    /// Makes one checkpoint of everything that took effect before the call.
    pub async fn checkpoint(self: &Rc<Self>) -> StoreResult<()> {
        self.checkpoint_with(None).await
    }

    /// The same; what a repair found to be free takes the place of what the records say.
    pub async fn checkpoint_with(self: &Rc<Self>, replaced: Option<Replacement>) -> StoreResult<()> {
        assert!(!self.checkpointing.replace(true), "one checkpoint at a time");
        // Who waits for journal space to record a loan must not wait for this checkpoint, which may wait for the loan.
        self.progress.notify_all();
        let result = self.make_checkpoint(replaced).await;
        self.checkpointing.set(false);
        self.progress.notify_all();
        result
    }

    async fn make_checkpoint(self: &Rc<Self>, replaced: Option<Replacement>) -> StoreResult<()> {
        let record = self.journal.borrow().last_record();
        // Everything of one moment: between two records.
        let ops = self.overlay.freeze();
        self.space.freeze(record);
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        let (chunk, log) = self.pg_log.borrow().chunk(&pending.log, &self.collections.borrow());
        let (next_omap_id, lent) = (self.next_omap_id.get(), self.space.lent());
        self.journal.borrow_mut().cut_after(record);
        self.pump();

        self.wait_durable(record).await?;
        while self.deferred.any_up_to(record) {
            self.wait_overwritable(record, 0).await?;
            self.write_deferred().await;
            self.check_up()?;
        }
        let log_written = chunk.is_some();
        if let Some((position, bytes)) = chunk {
            self.write_log(position, &bytes).await?;
        }
        if log_written || self.deferred_unflushed.get() {
            self.flush_device().await?;
        }

        let Some(end) = self.journal.borrow().end_at(record) else {
            panic!("record {record} is durable, so a group ends there")
        };
        let mut batch = batch(ops, pending);
        let (used, window) = match (&replaced, self.superblock.borrow().free_list()) {
            (Some(replaced), _) => {
                batch.ops.extend(replaced.ops(end.position, &self.superblock.borrow()));
                (replaced.used(), self.window())
            }
            (None, FreeList::Pages) => self.space.frozen_pages(|page, bits| {
                batch.ops.extend(free_list::page_ops(end.position, page, bits));
            }),
            (None, FreeList::Merge) => self.space.frozen_flips(|page, flips| {
                batch.ops.extend(free_list::flip_ops(page, flips));
            }),
        };
        let window = Some(window).filter(|window| *window != self.superblock.borrow().formatted);
        let state = CheckpointRecord { end, next_omap_id, log, used, window, lent };
        batch.ops.push(KvOp::Put(keys::CHECKPOINT, state.encode()));
        self.counters.checkpoint_bytes.add(batch.ops.iter().map(op_bytes).sum());
        let bytes = batch.bytes();
        // Until then the overlay and the space's changes count it.
        let view = self.retry_while_full(bytes, async || self.kv.apply(batch.clone()).await).await?;
        self.kv_room.set_unflushed(bytes);
        self.overlay.release(view);
        self.space.settle();
        if self.options.fault.is(Planted::JournalTrimmedEarly) {
            self.journal.borrow_mut().trim(end);
            self.pump();
        }
        self.retry_while_full(bytes, async || self.kv.flush().await).await?;
        self.kv_room.set_unflushed(0);

        self.journal.borrow_mut().trim(end);
        self.pg_log.borrow_mut().advance(log);
        self.checkpoints.set(self.checkpoints.get() + 1);
        self.counters.checkpoints.add(1);
        self.overwriting_allowed();
        self.progress.notify_all();
        self.pump();
        Ok(())
    }

    /// What was admitted fits, so full is a mistake of somebody's reckoning; but the last word only when nothing makes
    /// room: not the lender, not a compaction, not the removals that go on meanwhile. Nothing grows until then.
    async fn retry_while_full<T>(&self, bytes: u64, call: impl AsyncFn() -> KvResult<T>) -> StoreResult<T> {
        let mut tries = 0;
        let result = loop {
            match call().await {
                Err(KvError::Full(reason)) if tries < FULL_TRIES_MAX => {
                    if tries == 0 {
                        log::warn!("a checkpoint waits for room in the key-value store: {reason}");
                    }
                    tries += 1;
                    self.counters.kv_full_retries.add(1);
                    self.kv_room.set_waiting(true);
                    self.progress.notify_all();
                    // If that fails, the next call says why.
                    drop(self.kv.make_headroom(bytes, Compact::IfAny).await);
                    self.core.sleep(FULL_PAUSE).await;
                    self.check_up()?;
                }
                result => break result.map_err(|error| StoreError::Io(error.to_string())),
            }
        };
        self.kv_room.set_waiting(false);
        result
    }

    async fn write_log(&self, position: u64, bytes: &[u8]) -> StoreResult<()> {
        let region = self.pg_log.borrow().region();
        let mut at = 0;
        for (place, len) in ring::pieces(position, length(bytes), region.len).into_iter().flatten() {
            let mut done = 0;
            while done < len {
                let some = (len - done).min(LOG_WRITE_BYTES_MAX);
                let end = at + usize::try_from(some).unwrap_or(usize::MAX);
                let buffer = DmaBuf::from_slice_padded(&bytes[at..end], 1);
                let written = self.device.write(region.start + place + done, buffer).await;
                written.map_err(|error| StoreError::Io(error.to_string()))?;
                at = end;
                done += some;
            }
        }
        self.counters.pg_log_bytes_written.add(length(bytes));
        Ok(())
    }

    /// Flushes everything that completed, if the device needs that.
    pub async fn flush_device(&self) -> StoreResult<()> {
        self.deferred_unflushed.set(false);
        if !self.device.geometry().volatile_cache {
            return Ok(());
        }
        self.counters.flushes.add(1);
        self.device.flush().await.map_err(|error| StoreError::Io(error.to_string()))
    }

    /// Removes the entries of omaps that nobody uses any more, until the store closes.
    pub async fn reap_when_wanted(self: Rc<Self>) {
        let Some(pass) = self.background.enter() else { return };
        while !self.background.is_closing() && self.check_up().is_ok() {
            let next = self.reaps.borrow().front().copied();
            let Some(id) = next else {
                rt::sync::select(self.reap_wanted.notified(), pass.closing()).await;
                continue;
            };
            match rt::sync::select(Box::pin(self.reap(id)), pass.closing()).await {
                rt::sync::Either::Left(Ok(())) => self.counters.omaps_reaped.add(1),
                rt::sync::Either::Left(Err(StoreError::NoSpace(reason))) => {
                    log::debug!("omap {id} is not reaped yet: {reason}");
                    rt::sync::select(self.core.sleep(SHORT_PAUSE), pass.closing()).await;
                }
                rt::sync::Either::Left(Err(error)) => {
                    log::warn!("omap {id} is not reaped: {error}");
                    break;
                }
                rt::sync::Either::Right(()) => {}
            }
        }
        drop(pass);
    }

    async fn reap(self: &Rc<Self>, id: u64) -> StoreResult<()> {
        let (start, end) = keys::omap_whole(id);
        let items = vec![
            crate::journal::item::Item::DeleteRange(start, end),
            crate::journal::item::Item::Delete(keys::reap(id)),
        ];
        let record_bytes = items.iter().map(crate::journal::item::Item::encoded_bytes_max).sum();
        let kv_bytes = u64::try_from(record_bytes).unwrap_or(u64::MAX / 4) + 2 * ENTRY_BYTES;
        let class = Class::Reclaim;
        let admitted = self
            .admit(Demand { record_bytes, log_bytes: 0, kv_bytes, blocks: 0, class }, Duration::ZERO)
            .await?;
        let record = self.journal.borrow_mut().number();
        self.commit_items(record, &items, Rc::new(std::cell::Cell::new(true)), admitted.spend(), None);
        self.pump();
        Ok(())
    }

    /// Starts the tasks that run while the store is open.
    pub fn start(self: &Rc<Self>) {
        self.spawn(Group::Client, "grouping", Rc::clone(self).build_when_wanted());
        self.spawn(Group::Commit, "checkpoints", Rc::clone(self).checkpoint_when_wanted());
        self.spawn(Group::Background, "seal", Rc::clone(self).seal_when_idle());
        self.spawn(Group::Background, "memory", Rc::clone(self).watch_memory());
        self.spawn(Group::Background, "omap reaper", Rc::clone(self).reap_when_wanted());
    }
}

/// The overlay's changes and the statistics.
fn batch(mut ops: Vec<KvOp>, pending: Pending) -> KvBatch {
    for (pool, delta) in pending.statistics {
        let mut operand = Encoder::with_capacity(48);
        delta.to_array().into_iter().for_each(|value| operand.i64(value));
        ops.push(KvOp::Merge(keys::statistics(pool), operand.into_bytes()));
    }
    KvBatch { ops }
}

fn op_bytes(op: &KvOp) -> u64 {
    match op {
        KvOp::Put(key, value) | KvOp::Merge(key, value) | KvOp::DeleteRange(key, value) => {
            length(key) + length(value)
        }
        KvOp::Delete(key) => length(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_round_trips() {
        let record = CheckpointRecord {
            end: GroupEnd { group: 1, record: 2, position: 3, checksum: 4 },
            next_omap_id: 5,
            log: Window { tail: 6, head: 7 },
            used: 8,
            window: None,
            lent: vec![Extent::new(9, 10), Extent::new(100, 10)],
        };
        for record in [record.clone(), CheckpointRecord { window: Some(11), ..record }] {
            let value = record.encode();
            assert_eq!(CheckpointRecord::decode(value.clone()), Ok(record));
            for len in 0..value.len() {
                assert!(CheckpointRecord::decode(value.slice(..len)).is_err());
            }
        }
    }
}
