//! [`Memtable`]: changes in order of their sequence numbers, not yet in a run. And what the newest first versions
//! of a key amount to, for memtables and runs alike.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::kv::{KvBatch, KvOp, merge, merge_operator};

/// What one change did to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put(Bytes),
    Delete,
    Merge(Bytes),
}

/// A deleted range `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RangeDelete {
    pub(super) seq: u64,
    pub(super) start: Bytes,
    pub(super) end: Bytes,
}

impl RangeDelete {
    fn covers(&self, key: &[u8]) -> bool {
        self.start <= key && key < self.end.as_ref()
    }
}

/// The highest sequence number, of those up to `at`, whose range covers `key`; 0 if none.
pub(super) fn cover(ranges: &[RangeDelete], key: &[u8], at: u64) -> u64 {
    let covering = ranges.iter().filter(|range| range.seq <= at && range.covers(key));
    covering.map(|range| range.seq).max().unwrap_or(0)
}

/// Changes of one key, fed newest first, until the value is known.
#[derive(Default)]
pub(super) struct Resolving {
    operands: Vec<Bytes>,
    base: Option<Option<Bytes>>,
}

impl Resolving {
    pub(super) fn is_done(&self) -> bool {
        self.base.is_some()
    }

    pub(super) fn feed(&mut self, change: &Change) {
        assert!(!self.is_done(), "older changes do not matter");
        match change {
            Change::Put(value) => self.base = Some(Some(value.clone())),
            Change::Delete => self.base = Some(None),
            Change::Merge(operand) => self.operands.push(operand.clone()),
        }
    }

    /// Everything older was deleted.
    pub(super) fn end(&mut self) {
        self.base.get_or_insert(None);
    }

    /// The value, when nothing older exists.
    pub(super) fn value(self, key: &[u8]) -> Option<Bytes> {
        let mut value = self.base.flatten();
        for operand in self.operands.iter().rev() {
            let Some(operator) = merge_operator(key) else { unreachable!("checked when it was applied") };
            value = Some(merge(operator, value.as_deref(), operand));
        }
        value
    }
}

/// See the module. Immutable once a newer one takes its place; until then only appended to.
#[derive(Default)]
pub(super) struct Memtable {
    changes: RefCell<BTreeMap<(Bytes, Reverse<u64>), Change>>,
    ranges: RefCell<Vec<RangeDelete>>,
    bytes: Cell<usize>,
    last: Cell<u64>,
}

impl Memtable {
    /// Adds a batch whose changes get the numbers after `seq`; gives the last.
    pub(super) fn insert(&self, batch: KvBatch, mut seq: u64) -> u64 {
        let mut changes = self.changes.borrow_mut();
        self.last.set(seq + batch.ops.len() as u64);
        for op in batch.ops {
            seq += 1;
            let (key, change) = match op {
                KvOp::Put(key, value) => (key, Change::Put(value)),
                KvOp::Delete(key) => (key, Change::Delete),
                KvOp::Merge(key, operand) => {
                    assert!(merge_operator(&key).is_some(), "a merge on a key without an operator: {key:?}");
                    (key, Change::Merge(operand))
                }
                KvOp::DeleteRange(start, end) => {
                    self.bytes.set(self.bytes.get() + start.len() + end.len() + 32);
                    self.ranges.borrow_mut().push(RangeDelete { seq, start, end });
                    continue;
                }
            };
            let value = match &change {
                Change::Put(value) | Change::Merge(value) => value.len(),
                Change::Delete => 0,
            };
            self.bytes.set(self.bytes.get() + key.len() + value + 32);
            changes.insert((key, Reverse(seq)), change);
        }
        seq
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.last.get()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.get() == 0
    }

    /// Feeds what this table knows about `key` at `at`.
    pub(super) fn resolve(&self, key: &Bytes, at: u64, into: &mut Resolving) {
        let cover = cover(&self.ranges.borrow(), key, at);
        let changes = self.changes.borrow();
        for ((_, Reverse(seq)), change) in
            changes.range((key.clone(), Reverse(at))..=(key.clone(), Reverse(0)))
        {
            if *seq < cover || into.is_done() {
                break;
            }
            into.feed(change);
        }
        if cover > 0 {
            into.end();
        }
    }

    /// The first key at or after `from` that has a change.
    pub(super) fn next_key(&self, from: &Bytes) -> Option<Bytes> {
        let from = Bound::Included((from.clone(), Reverse(u64::MAX)));
        self.changes.borrow().range((from, Bound::Unbounded)).next().map(|((key, _), _)| key.clone())
    }

    /// What a run of this table holds: per key the changes that matter to older runs, newest first, and all ranges.
    pub(super) fn condensed(&self) -> (Vec<(Bytes, u64, Change)>, Vec<RangeDelete>) {
        let ranges = self.ranges.borrow();
        let changes = self.changes.borrow();
        let mut entries: Vec<(Bytes, u64, Change)> = Vec::new();
        let mut settled: Option<Bytes> = None;
        for ((key, Reverse(seq)), change) in changes.iter() {
            if settled.as_ref() == Some(key) {
                continue;
            }
            let cover = cover(&ranges, key, u64::MAX);
            if *seq < cover {
                settled = Some(key.clone());
                continue;
            }
            if !matches!(change, Change::Merge(_)) {
                settled = Some(key.clone());
            }
            entries.push((key.clone(), *seq, change.clone()));
        }
        (entries, ranges.clone())
    }
}
