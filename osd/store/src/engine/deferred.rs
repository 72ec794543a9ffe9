//! Deferred payloads: blocks that are in the journal and not yet in place. Reads take them from here.
//!
//! Invariants: payloads of a block are in record order; a payload goes in place only when the journal allows
//! overwriting ([`super::commit`]) and reads that may see the old block have ended; one batch runs at a time, so no
//! two writes of a block overlap. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use allocator::Extent;
use bytes::Bytes;
use nvme::DmaBuf;
use rt::sync::Notify;

use super::commit::all_written;
use super::state::Inner;
use crate::fault::Planted;

/// See the module.
pub struct Deferred {
    block: u64,
    blocks: RefCell<BTreeMap<u64, VecDeque<(u64, Bytes)>>>,
    bytes: Cell<u64>,
    running: Cell<bool>,
    ended: Notify,
}

impl Deferred {
    /// None, for blocks of `block` bytes.
    pub fn new(block: u64) -> Self {
        Self {
            block,
            blocks: RefCell::default(),
            bytes: Cell::new(0),
            running: Cell::new(false),
            ended: Notify::default(),
        }
    }

    /// Adds whole blocks of a record.
    pub fn add(&self, record: u64, address: u64, payload: &Bytes) {
        let step = usize::try_from(self.block).unwrap_or(usize::MAX);
        let mut blocks = self.blocks.borrow_mut();
        for (at, start) in (address..).step_by(step).zip((0..payload.len()).step_by(step)) {
            let bytes = payload.slice(start..(start + step).min(payload.len()));
            blocks.entry(at).or_default().push_back((record, bytes));
            self.bytes.set(self.bytes.get() + self.block);
        }
    }

    /// The newest payload of a block.
    pub fn newest(&self, address: u64) -> Option<Bytes> {
        self.blocks.borrow().get(&address).and_then(|payloads| Some(payloads.back()?.1.clone()))
    }

    /// Whether a block of the extent has a payload outstanding.
    pub fn overlaps(&self, extent: Extent) -> bool {
        self.blocks.borrow().range(extent.start..extent.end()).next().is_some()
    }

    /// Whether a payload of a record up to `record` is outstanding.
    pub fn any_up_to(&self, record: u64) -> bool {
        self.blocks.borrow().values().any(|payloads| payloads.front().is_some_and(|(of, _)| *of <= record))
    }

    /// Bytes outstanding.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// The newest payload up to `record` of each block that has one, ascending by address.
    fn batch(&self, record: u64) -> Vec<(u64, u64, Bytes)> {
        let newest =
            |payloads: &VecDeque<(u64, Bytes)>| payloads.iter().rev().find(|(of, _)| *of <= record).cloned();
        let blocks = self.blocks.borrow();
        blocks
            .iter()
            .filter_map(|(address, payloads)| newest(payloads).map(|(of, p)| (*address, of, p)))
            .collect()
    }

    /// The payload of `record` and those before it are in place; gives how many that was.
    fn done(&self, address: u64, record: u64) -> u64 {
        let mut blocks = self.blocks.borrow_mut();
        let Some(payloads) = blocks.get_mut(&address) else { return 0 };
        let before = payloads.len();
        payloads.retain(|(of, _)| *of > record);
        let gone = u64::try_from(before - payloads.len()).unwrap_or(u64::MAX);
        if payloads.is_empty() {
            blocks.remove(&address);
        }
        self.bytes.set(self.bytes.get() - gone * self.block);
        gone
    }
}

/// Longest in-place write put together from adjacent blocks.
const RUN_BYTES_MAX: usize = 256 << 10;

impl Inner {
    /// Payloads of records up to this one may be written in place.
    pub fn in_place_up_to(&self) -> u64 {
        let journal = self.journal.borrow();
        let early = self.options.fault.is(Planted::DeferredBeforeAllowed);
        if early { journal.durable_record() } else { journal.overwritable() }
    }

    /// Writes in place what the journal allows by now. If a batch runs already, waits for it instead.
    pub async fn write_deferred(self: &Rc<Self>) {
        if self.deferred.running.replace(true) {
            while self.deferred.running.get() {
                self.deferred.ended.notified().await;
            }
            return;
        }
        let batch = self.deferred.batch(self.in_place_up_to());
        if !batch.is_empty() {
            // Reads that began before the payload came read the device; those after take it from here.
            self.traffic.wait_ended_before(self.traffic.mark()).await;
            // A store that went down meanwhile may not own the device any more; the journal has the payloads.
            if self.check_up().is_ok() {
                self.write_batch(batch).await;
            }
        }
        self.deferred.running.set(false);
        self.deferred.ended.notify_all();
        self.release_ready();
    }

    async fn write_batch(self: &Rc<Self>, batch: Vec<(u64, u64, Bytes)>) {
        let writes: Vec<_> = runs(&batch).into_iter().map(|(at, buf)| self.device.write(at, buf)).collect();
        let written = all_written(writes).await;
        self.deferred_unflushed.set(true);
        if let Err(error) = written {
            return self.fail(format!("a deferred write failed: {error}"));
        }
        for (address, record, payload) in batch {
            let gone = self.deferred.done(address, record);
            self.counters.deferred_blocks.add(1);
            self.counters.deferred_coalesced.add(gone.saturating_sub(1));
            self.counters.deferred_bytes_written.add(crate::check::length(&payload));
        }
    }
}

/// Adjacent blocks together, as (address, buffer).
fn runs(batch: &[(u64, u64, Bytes)]) -> Vec<(u64, DmaBuf)> {
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    for (address, _, payload) in batch {
        match runs.last_mut() {
            Some((start, bytes))
                if *start + crate::check::length(bytes) == *address && bytes.len() < RUN_BYTES_MAX =>
            {
                bytes.extend_from_slice(payload);
            }
            _ => runs.push((*address, payload.to_vec())),
        }
    }
    runs.into_iter().map(|(at, bytes)| (at, DmaBuf::from_slice_padded(&bytes, 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_payload_wins_and_older_ones_go_with_it() {
        let deferred = Deferred::new(4096);
        let bytes = |n: u8| Bytes::from(vec![n; 4096]);
        deferred.add(1, 8192, &Bytes::from([vec![1; 4096], vec![2; 4096]].concat()));
        deferred.add(2, 8192, &bytes(3));
        deferred.add(5, 8192, &bytes(4));
        assert_eq!(deferred.newest(8192), Some(bytes(4)));
        assert_eq!(deferred.newest(12_288), Some(bytes(2)));
        assert!(deferred.overlaps(Extent::new(0, 8193)) && !deferred.overlaps(Extent::new(16_384, 4096)));
        let batch = deferred.batch(3);
        assert_eq!(batch, [(8192, 2, bytes(3)), (12_288, 1, bytes(2))]);
        assert_eq!(runs(&batch).iter().map(|(at, buf)| (*at, buf.len())).collect::<Vec<_>>(), [(8192, 8192)]);
        assert_eq!(deferred.done(8192, 2), 2);
        assert!(deferred.any_up_to(1) && deferred.bytes() == 8192);
        assert_eq!(deferred.done(12_288, 1), 1);
        assert!(!deferred.any_up_to(4) && deferred.any_up_to(5));
    }
}
