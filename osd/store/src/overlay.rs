//! The overlay: changes that are in the journal but not yet in the key-value store, in generations.
//!
//! Invariants: every change has a number, ascending; a [`Pin`] sees the changes up to its number and the view of the
//! key-value store that goes with its generations, whatever happens meanwhile; a version goes only when no pin can
//! see it any more, a generation only when it is in the key-value store and unpinned. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use bluefs::kv::{ENTRY_BYTES, KvOp, KvResult, KvStore, KvView, ScanLimit, ScanPage};
use bytes::Bytes;
use smallvec::SmallVec;

use crate::check::length;
use crate::fault::{Fault, Planted};

/// See the module.
pub struct Overlay {
    view: RefCell<KvView>,
    /// Being written to the key-value store.
    frozen: RefCell<Option<Rc<Generation>>>,
    /// Takes changes.
    active: RefCell<Rc<Generation>>,
    number: Cell<u64>,
    pins: Rc<RefCell<BTreeMap<u64, u32>>>,
    fault: Fault,
}

/// Changes between two checkpoints.
#[derive(Default)]
pub struct Generation {
    entries: RefCell<BTreeMap<Bytes, SmallVec<[Version; 1]>>>,
    ranges: RefCell<Vec<RangeTombstone>>,
    bytes: Cell<u64>,
}

struct Version {
    number: u64,
    /// None is a tombstone.
    value: Option<Bytes>,
}

struct RangeTombstone {
    start: Bytes,
    end: Bytes,
    number: u64,
}

/// What a generation knows about a key.
enum Found {
    Value(Option<Bytes>),
    Below,
}

/// A consistent state of everything, held while a read runs.
pub struct Pin {
    view: KvView,
    /// Newest first.
    generations: SmallVec<[Rc<Generation>; 2]>,
    number: u64,
    pins: Rc<RefCell<BTreeMap<u64, u32>>>,
}

impl Overlay {
    /// Nothing over `view`.
    pub fn new(view: KvView, fault: Fault) -> Self {
        Self {
            view: RefCell::new(view),
            frozen: RefCell::default(),
            active: RefCell::default(),
            number: Cell::new(0),
            pins: Rc::default(),
            fault,
        }
    }

    /// The present state.
    pub fn pin(&self) -> Pin {
        let mut generations = SmallVec::new();
        generations.push(Rc::clone(&self.active.borrow()));
        generations.extend(self.frozen.borrow().as_ref().map(Rc::clone));
        let number = self.number.get();
        *self.pins.borrow_mut().entry(number).or_default() += 1;
        Pin { view: self.view.borrow().clone(), generations, number, pins: Rc::clone(&self.pins) }
    }

    /// Sets a key.
    pub fn put(&self, key: Bytes, value: Bytes) {
        self.change(key, Some(value));
    }

    /// Removes a key.
    pub fn delete(&self, key: Bytes) {
        self.change(key, None);
    }

    /// Removes the keys of `[start, end)`.
    pub fn delete_range(&self, start: Bytes, end: Bytes) {
        let number = self.next_number();
        let active = self.active.borrow();
        active.grow(length(&start) + length(&end) + ENTRY_BYTES);
        active.ranges.borrow_mut().push(RangeTombstone { start, end, number });
    }

    /// Looks at the key-value store through a newer view, so that it need not keep what only the old one shows.
    pub fn renew(&self, view: KvView) {
        *self.view.borrow_mut() = view;
    }

    /// Bytes held by the generations that take changes or are being checkpointed, an entry with [`ENTRY_BYTES`] beside
    /// its key and value: at least what [`KvOp::bytes`] says of the batches they become.
    pub fn bytes(&self) -> u64 {
        let frozen = self.frozen.borrow().as_ref().map_or(0, |frozen| frozen.bytes.get());
        self.active.borrow().bytes.get() + frozen
    }

    /// Bytes that the next freeze would take.
    pub fn active_bytes(&self) -> u64 {
        self.active.borrow().bytes.get()
    }

    /// Range tombstones that the next freeze would take: each lookup looks at all of them.
    pub fn active_ranges(&self) -> usize {
        self.active.borrow().ranges.borrow().len()
    }

    /// Starts a new generation; gives the changes of the one before as a batch: absolute values, each key once.
    pub fn freeze(&self) -> Vec<KvOp> {
        assert!(self.frozen.borrow().is_none(), "one checkpoint at a time");
        let frozen = self.active.replace(Rc::default());
        let ops = frozen.batch();
        *self.frozen.borrow_mut() = Some(frozen);
        ops
    }

    /// Whether somebody looks at a state: its view may be older than the present one.
    pub fn is_pinned(&self) -> bool {
        !self.pins.borrow().is_empty()
    }

    /// The frozen generation is in the key-value store, which now has this view.
    pub fn release(&self, view: KvView) {
        *self.view.borrow_mut() = view;
        let Some(frozen) = self.frozen.borrow_mut().take() else { return };
        if self.fault.is(Planted::OverlayEntryDroppedWhilePinned) {
            frozen.entries.borrow_mut().clear();
        }
    }

    fn change(&self, key: Bytes, value: Option<Bytes>) {
        let number = self.next_number();
        let active = self.active.borrow();
        let mut entries = active.entries.borrow_mut();
        active.grow(length(value.as_deref().unwrap_or_default()));
        let versions = entries.entry(key.clone()).or_insert_with(|| {
            active.grow(length(&key) + ENTRY_BYTES);
            SmallVec::new()
        });
        versions.push(Version { number, value });
        self.prune(&active, versions);
    }

    /// Drops versions that were replaced before any pin could see them.
    fn prune(&self, generation: &Generation, versions: &mut SmallVec<[Version; 1]>) {
        let pins = self.pins.borrow();
        let mut kept: SmallVec<[Version; 1]> = SmallVec::new();
        let mut old = versions.drain(..).peekable();
        while let Some(version) = old.next() {
            let seen = match old.peek() {
                Some(next) => pins.range(version.number..next.number).next().is_some(),
                None => true,
            };
            if seen {
                kept.push(version);
            } else {
                generation.shrink(length(version.value.as_deref().unwrap_or_default()));
            }
        }
        drop(old);
        *versions = kept;
    }

    fn next_number(&self) -> u64 {
        self.number.set(self.number.get() + 1);
        self.number.get()
    }
}

impl Generation {
    fn grow(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn shrink(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }

    fn find(&self, key: &Bytes, number: u64) -> Found {
        let entries = self.entries.borrow();
        let version = entries.get(key).and_then(|versions| latest(versions, number));
        let range = self.range_over(key, number);
        match version {
            Some(version) if range.is_none_or(|range| version.number > range) => {
                Found::Value(version.value.clone())
            }
            None if range.is_none() => Found::Below,
            _ => Found::Value(None),
        }
    }

    /// Number of the last range tombstone over `key`.
    fn range_over(&self, key: &Bytes, number: u64) -> Option<u64> {
        let ranges = self.ranges.borrow();
        let over =
            ranges.iter().filter(|range| range.number <= number && range.start <= *key && *key < range.end);
        over.map(|range| range.number).max()
    }

    /// Adds what this generation says about the keys of the range to `changes`, over what is there.
    fn overlay(&self, start: &Bytes, end: &Bytes, number: u64, changes: &mut BTreeMap<Bytes, Option<Bytes>>) {
        let ranges = self.ranges.borrow();
        for range in ranges.iter().filter(|range| range.number <= number) {
            for (key, value) in changes.iter_mut() {
                if range.start <= *key && *key < range.end {
                    *value = None;
                }
            }
        }
        drop(ranges);
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end.clone()) };
        if !end.is_empty() && start >= end {
            return;
        }
        let entries = self.entries.borrow();
        for (key, _) in entries.range((Bound::Included(start.clone()), upper)) {
            if let Found::Value(value) = self.find(key, number) {
                changes.insert(key.clone(), value);
            }
        }
    }

    /// Ranges first, then every key that was set or removed after the last range over it.
    fn batch(&self) -> Vec<KvOp> {
        let ranges = self.ranges.borrow();
        let mut ops: Vec<KvOp> =
            ranges.iter().map(|range| KvOp::DeleteRange(range.start.clone(), range.end.clone())).collect();
        for (key, versions) in self.entries.borrow().iter() {
            let Some(last) = versions.last() else { continue };
            if self.range_over(key, u64::MAX).is_some_and(|range| range > last.number) {
                continue;
            }
            ops.push(match &last.value {
                Some(value) => KvOp::Put(key.clone(), value.clone()),
                None => KvOp::Delete(key.clone()),
            });
        }
        ops
    }
}

fn latest(versions: &[Version], number: u64) -> Option<&Version> {
    versions.iter().rev().find(|version| version.number <= number)
}

impl Pin {
    /// What the generations know about a key without asking the key-value store: `Some(None)` is a removal.
    pub fn local(&self, key: &Bytes) -> Option<Option<Bytes>> {
        self.generations.iter().find_map(|generation| match generation.find(key, self.number) {
            Found::Value(value) => Some(value),
            Found::Below => None,
        })
    }

    /// Values of `keys`, in their order.
    pub async fn get(&self, kv: &dyn KvStore, keys: Vec<Bytes>) -> KvResult<Vec<Option<Bytes>>> {
        let mut values: Vec<Option<Bytes>> = vec![None; keys.len()];
        let (mut missing, mut places) = (Vec::new(), Vec::new());
        for (place, key) in keys.into_iter().enumerate() {
            match self.local(&key) {
                Some(value) => values[place] = value,
                None => {
                    places.push(place);
                    missing.push(key);
                }
            }
        }
        if missing.is_empty() {
            return Ok(values);
        }
        let found = kv.get(&self.view, missing).await?;
        for (place, value) in places.into_iter().zip(found) {
            values[place] = value;
        }
        Ok(values)
    }

    /// Ascending entries of `[start, end)`, up to `limit`; at least one if there is one. An empty `end` means no
    /// upper bound.
    pub async fn scan(
        &self,
        kv: &dyn KvStore,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> KvResult<ScanPage> {
        let mut out = ScanPage::default();
        let (mut cursor, mut bytes) = (start, 0);
        loop {
            let page = kv.scan(&self.view, cursor.clone(), end.clone(), limit).await?;
            // Only as far as this page reaches is the key-value store's content known.
            let (reach, more) = match page.entries.last() {
                Some((last, _)) if page.more => (crate::keys::after(last), true),
                _ => (end.clone(), false),
            };
            let mut merged: BTreeMap<Bytes, Option<Bytes>> =
                page.entries.into_iter().map(|(key, value)| (key, Some(value))).collect();
            for generation in self.generations.iter().rev() {
                generation.overlay(&cursor, &reach, self.number, &mut merged);
            }
            for (key, value) in merged {
                let Some(value) = value else { continue };
                if out.entries.len() >= limit.keys.max(1) || (bytes > 0 && bytes >= limit.bytes) {
                    out.more = true;
                    return Ok(out);
                }
                bytes += key.len() + value.len();
                out.entries.push((key, value));
            }
            if !more {
                return Ok(out);
            }
            cursor = reach;
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.borrow_mut();
        if let Some(count) = pins.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.number);
            }
        }
    }
}
