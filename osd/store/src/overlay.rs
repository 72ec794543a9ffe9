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

/// Keys that a scan asks the key-value store for at most if those before were hidden.
const HIDDEN_KEYS_MAX: usize = 1024;

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

    /// Keys and bytes of memory.
    pub fn held(&self) -> (u64, u64) {
        let keys = |generation: &Generation| generation.entries.borrow().len();
        let frozen = self.frozen.borrow().as_ref().map_or(0, |frozen| keys(frozen));
        (u64::try_from(keys(&self.active.borrow()) + frozen).unwrap_or(u64::MAX), self.bytes())
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
        active.grow(value_bytes(value.as_ref()));
        let new = Version { number, value };
        let key_bytes = length(&key);
        let versions = entries.entry(key).or_insert_with(|| {
            active.grow(key_bytes + ENTRY_BYTES);
            SmallVec::new()
        });
        // Drops versions that were replaced before any pin could see them, mostly the only one.
        let pins = self.pins.borrow();
        let is_seen = |old: u64, next: u64| pins.range(old..next).next().is_some();
        if let [old] = versions.as_mut_slice()
            && !is_seen(old.number, number)
        {
            active.shrink(value_bytes(old.value.as_ref()));
            *old = new;
            return;
        }
        versions.push(new);
        let numbers: SmallVec<[u64; 2]> = versions.iter().skip(1).map(|version| version.number).collect();
        let mut next = numbers.into_iter();
        versions.retain(|version| {
            let is_kept = next.next().is_none_or(|next| is_seen(version.number, next));
            active.shrink(if is_kept { 0 } else { value_bytes(version.value.as_ref()) });
            is_kept
        });
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

    /// Where a range tombstone over `key` ends.
    fn end_over(&self, key: &Bytes, number: u64) -> Option<Bytes> {
        let ranges = self.ranges.borrow();
        let over =
            ranges.iter().filter(|range| range.number <= number && range.start <= *key && *key < range.end);
        over.map(|range| &range.end).max().cloned()
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

fn value_bytes(value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| length(value))
}

fn latest(versions: &[Version], number: u64) -> Option<&Version> {
    versions.iter().rev().find(|version| version.number <= number)
}

impl Pin {
    /// What was in the key-value store at that moment.
    pub fn view(&self) -> &KvView {
        &self.view
    }

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
        let (mut out, mut cursor, mut page_keys) = (ScanPage::default(), start, limit.keys);
        loop {
            let below = self.below_ranges(cursor.clone());
            let page = match end.is_empty() || below < end {
                true => {
                    kv.scan(&self.view, below, end.clone(), ScanLimit { keys: page_keys, ..limit }).await?
                }
                false => ScanPage::default(),
            };
            // Only as far as this page reaches is the key-value store's content known.
            let reach = page.entries.last().filter(|_| page.more).map(|(last, _)| crate::keys::after(last));
            // Where much was removed, and is still in the store, more is asked for at a time.
            page_keys = page_keys.saturating_mul(2).min(limit.keys.max(HIDDEN_KEYS_MAX));
            let is_full = self.merge(page.entries, &cursor, reach.as_ref().unwrap_or(&end), limit, &mut out);
            match reach {
                Some(reach) if !is_full => cursor = reach,
                _ => return Ok(out),
            }
        }
    }

    /// The first key from `key` on that no range tombstone hides in the key-value store: there may be millions under one.
    fn below_ranges(&self, mut key: Bytes) -> Bytes {
        let over = |key: &Bytes| {
            self.generations.iter().filter_map(|generation| generation.end_over(key, self.number)).max()
        };
        while let Some(end) = over(&key) {
            key = end;
        }
        key
    }

    /// Adds the entries of `[start, end)` to `out`, with what the key-value store has of them; whether there are more than
    /// go into it. Of what does not go into it only removed keys are looked at.
    fn merge(
        &self,
        stored: Vec<(Bytes, Bytes)>,
        start: &Bytes,
        end: &Bytes,
        limit: ScanLimit,
        out: &mut ScanPage,
    ) -> bool {
        if !end.is_empty() && start >= end {
            return false;
        }
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end.clone()) };
        let bounds = (Bound::Included(start.clone()), upper);
        let changes: SmallVec<[_; 2]> =
            self.generations.iter().map(|generation| generation.entries.borrow()).collect();
        let mut changed: SmallVec<[_; 2]> = changes
            .iter()
            .map(|entries| entries.range(bounds.clone()).map(|(key, _)| key).peekable())
            .collect();
        let mut stored = stored.into_iter().peekable();
        let mut bytes: usize = out.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        loop {
            let first = changed.iter_mut().filter_map(|keys| keys.peek().copied()).min();
            let below = stored.peek().map(|(key, _)| key);
            let Some(key) = first.into_iter().chain(below).min().cloned() else { return false };
            let value = stored.next_if(|(other, _)| *other == key).map(|(_, value)| value);
            for keys in &mut changed {
                let _same = keys.next_if(|other| **other == key);
            }
            let Some(value) = self.local(&key).unwrap_or(value) else { continue };
            if limit.is_reached(out.entries.len(), bytes) {
                out.more = true;
                return true;
            }
            bytes += key.len() + value.len();
            out.entries.push((key, value));
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

#[cfg(test)]
mod tests {
    use bluefs::kv::{KvBatch, KvError, KvStats, MemKv};
    use rt::LocalBoxFuture;
    use rt::sim::{Config, Sim};

    use super::*;

    /// Counts the entries that scans give.
    struct Counting {
        below: MemKv,
        entries: Cell<u64>,
    }

    impl KvStore for Counting {
        fn view(&self) -> KvView {
            self.below.view()
        }
        fn apply(&self, batch: KvBatch) -> LocalBoxFuture<'static, KvResult<KvView>> {
            self.below.apply(batch)
        }
        fn flush(&self) -> LocalBoxFuture<'static, KvResult<()>> {
            self.below.flush()
        }
        fn get(&self, _: &KvView, _: Vec<Bytes>) -> LocalBoxFuture<'static, KvResult<Vec<Option<Bytes>>>> {
            Box::pin(std::future::ready(Err(KvError::Closed("only scans".into()))))
        }
        fn scan(
            &self,
            view: &KvView,
            start: Bytes,
            end: Bytes,
            limit: ScanLimit,
        ) -> LocalBoxFuture<'static, KvResult<ScanPage>> {
            let page = self.below.scan(view, start, end, limit);
            let page = futures_util::FutureExt::now_or_never(page).expect("in memory");
            let count = page.as_ref().map_or(0, |page| page.entries.len());
            self.entries.set(self.entries.get() + u64::try_from(count).expect("small"));
            Box::pin(std::future::ready(page))
        }
        fn stats(&self) -> KvStats {
            self.below.stats()
        }
        fn close(&self) -> LocalBoxFuture<'static, KvResult<()>> {
            self.below.close()
        }
    }

    fn key(number: u64) -> Bytes {
        Bytes::from(format!("M{number:06}"))
    }

    fn with_keys(count: u64, test: impl AsyncFn(Counting, Overlay) + 'static) {
        let sim = Sim::new(1, Config::default());
        sim.run(0, move |_| async move {
            let kv = Counting { below: MemKv::new(), entries: Cell::new(0) };
            let ops = (0..count).map(|number| KvOp::Put(key(number), key(number))).collect();
            let view = kv.apply(KvBatch { ops }).await.expect("apply");
            test(kv, Overlay::new(view, Fault::default())).await;
        });
    }

    #[test]
    fn a_scan_looks_at_nothing_that_a_range_hides_and_at_no_more_changes_than_it_takes() {
        with_keys(10_000, async |kv, overlay| {
            overlay.delete_range(key(10), key(5000));
            overlay.delete_range(key(4990), key(9990));
            (9000..9010).for_each(|number| overlay.put(key(number), Bytes::from_static(b"new")));
            let limit = ScanLimit { keys: 4, bytes: 1 << 20 };
            let scan = async |start: u64| {
                kv.entries.set(0);
                let page = overlay.pin().scan(&kv, key(start), Bytes::new(), limit).await.expect("scan");
                let keys: Vec<Bytes> = page.entries.into_iter().map(|(key, _)| key).collect();
                (keys, page.more, kv.entries.get())
            };
            let keys = |numbers: std::ops::Range<u64>| numbers.map(key).collect::<Vec<_>>();
            assert_eq!(scan(6).await, (keys(6..10), true, 22), "these, eight hidden ones, what is behind");
            assert_eq!(scan(11).await, (keys(9000..9004), true, 4));
            assert_eq!(scan(9008).await, ([keys(9008..9010), keys(9990..9992)].concat(), true, 4));
            assert_eq!(scan(9997).await, (keys(9997..10_000), false, 3));
        });
    }

    #[test]
    fn scans_and_lookups_see_what_a_map_would() {
        with_keys(60, async |kv, overlay| {
            let mut model: BTreeMap<Bytes, Bytes> =
                (0..60).map(|number| (key(number), key(number))).collect();
            let mut state = 1u64;
            let mut below = |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % bound
            };
            let mut pinned: Vec<(Pin, BTreeMap<Bytes, Bytes>)> = Vec::new();
            for step in 0..3000u64 {
                let at = key(below(80));
                match below(12) {
                    0 | 1 => {
                        let end = key(below(80));
                        overlay.delete_range(at.clone(), end.clone());
                        model.retain(|key, _| *key < at || *key >= end);
                    }
                    2..=4 => {
                        overlay.delete(at.clone());
                        model.remove(&at);
                    }
                    _ => {
                        let value = Bytes::from(step.to_string());
                        overlay.put(at.clone(), value.clone());
                        model.insert(at, value);
                    }
                }
                if below(40) == 0 {
                    pinned.push((overlay.pin(), model.clone()));
                }
                if below(30) == 0 {
                    let ops = overlay.freeze();
                    let view = kv.apply(KvBatch { ops }).await.expect("apply");
                    overlay.release(view);
                }
                pinned.drain(..pinned.len().saturating_sub(3));
                let now = (overlay.pin(), model.clone());
                for (pin, model) in pinned.iter().chain([&now]) {
                    let (start, end) = (key(below(80)), key(below(80)));
                    let limit = ScanLimit { keys: usize::try_from(below(9)).expect("small") + 1, bytes: 60 };
                    let page = pin.scan(&kv, start.clone(), end.clone(), limit).await.expect("scan");
                    let upto = |key: &Bytes| *key >= start && *key < end;
                    let wanted: Vec<_> = model.iter().filter(|(key, _)| upto(key)).collect();
                    let found: Vec<_> = page.entries.iter().map(|(key, value)| (key, value)).collect();
                    assert_eq!(found, wanted[..found.len()], "step {step}");
                    assert_eq!(page.more, found.len() < wanted.len(), "step {step}");
                    assert!(!page.more || !found.is_empty(), "step {step}");
                }
            }
        });
    }
}
