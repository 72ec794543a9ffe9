//! [`MemKv`]: the memory oracle. An ordered map of versions, everything done when the call returns.
//!
//! It keeps what is durable apart, and the batches since, so that a test can ask for every state a crash may leave.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::ready;
use std::ops::Bound;
use std::rc::Rc;

use bytes::Bytes;
use rt::LocalBoxFuture;

use crate::kv::{
    KvBatch, KvError, KvOp, KvResult, KvStats, KvStore, KvView, ScanLimit, ScanPage, merge, merge_operator,
};

/// Versions of a key, oldest first; `None` is a deletion.
type Versions = Vec<(u64, Option<Bytes>)>;

/// See the module. Clones are handles on the same store.
#[derive(Clone, Default)]
pub struct MemKv {
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<Bytes, Versions>,
    /// Of keys and of all versions of their values.
    bytes: u64,
    batches: u64,
    /// How many views hold each state.
    pins: BTreeMap<u64, usize>,
    durable: BTreeMap<Bytes, Bytes>,
    since: Vec<KvBatch>,
    closed: Cell<bool>,
}

/// What a [`KvView`] of this store holds.
struct Pin {
    state: Rc<RefCell<State>>,
    at: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        if let Some(count) = state.pins.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.at);
            }
        }
    }
}

impl MemKv {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store after a crash that kept `batches` of those applied since the last flush.
    pub fn after_crash(&self, batches: usize) -> Self {
        let state = self.state.borrow();
        let survived = Self::new();
        {
            let mut new = survived.state.borrow_mut();
            new.durable = state.durable.clone();
            for (key, value) in &state.durable {
                new.set(key.clone(), Some(value.clone()));
            }
            for batch in &state.since[..batches] {
                new.apply(batch);
            }
            new.persist();
        }
        survived
    }

    /// Batches applied since the last flush: a crash may keep any number of the first of them.
    pub fn unflushed(&self) -> usize {
        self.state.borrow().since.len()
    }

    /// Everything, as the newest view shows it.
    pub fn contents(&self) -> BTreeMap<Bytes, Bytes> {
        let state = self.state.borrow();
        let newest = |versions: &Versions| versions.last().and_then(|(_, value)| value.clone());
        state.keys.iter().filter_map(|(key, versions)| Some((key.clone(), newest(versions)?))).collect()
    }

    fn pin(&self) -> KvView {
        let at = self.state.borrow().batches;
        *self.state.borrow_mut().pins.entry(at).or_default() += 1;
        KvView::new(Rc::new(Pin { state: Rc::clone(&self.state), at }))
    }

    fn read<T>(&self, view: &KvView, look: impl FnOnce(&State, u64) -> T) -> KvResult<T> {
        let Some(pin) = view.get::<Pin>() else { panic!("a view of another store") };
        let state = self.state.borrow();
        state.check_open()?;
        Ok(look(&state, pin.at))
    }
}

impl State {
    fn check_open(&self) -> KvResult<()> {
        if self.closed.get() {
            return Err(KvError::Closed("closed".to_owned()));
        }
        Ok(())
    }

    fn apply(&mut self, batch: &KvBatch) {
        self.batches += 1;
        for op in &batch.ops {
            match op {
                KvOp::Put(key, value) => self.set(key.clone(), Some(value.clone())),
                KvOp::Delete(key) => self.set(key.clone(), None),
                KvOp::DeleteRange(start, end) => {
                    if start >= end {
                        continue;
                    }
                    for key in self.range(start, end).map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                        self.set(key, None);
                    }
                }
                KvOp::Merge(key, operand) => {
                    let Some(operator) = merge_operator(key) else {
                        panic!("a merge on a key whose prefix has no operator: {key:?}")
                    };
                    let value = self.at(key, u64::MAX);
                    self.set(key.clone(), Some(merge(operator, value.as_deref(), operand)));
                }
            }
        }
    }

    fn range(&self, start: &Bytes, end: &Bytes) -> impl Iterator<Item = (&Bytes, &Versions)> {
        let end = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end.clone()) };
        let empty = matches!(&end, Bound::Excluded(end) if end <= start);
        let bounds = if empty {
            (Bound::Included(start.clone()), Bound::Excluded(start.clone()))
        } else {
            (Bound::Included(start.clone()), end)
        };
        self.keys.range(bounds)
    }

    /// Adds a version and drops those that no view can see any more.
    fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        let at = self.batches;
        let oldest = self.pins.keys().next().copied().unwrap_or(at);
        let bytes_of = |value: &Option<Bytes>| value.as_ref().map_or(0, |value| value.len() as u64);
        let versions = self.keys.entry(key.clone()).or_insert_with(|| {
            self.bytes += key.len() as u64;
            Versions::new()
        });
        self.bytes += bytes_of(&value);
        versions.push((at, value));
        let seen_by_oldest = versions.iter().rposition(|(version, _)| *version <= oldest).unwrap_or(0);
        self.bytes -= versions.drain(..seen_by_oldest).map(|(_, value)| bytes_of(&value)).sum::<u64>();
        if matches!(versions[..], [(_, None)]) {
            self.keys.remove(&key);
            self.bytes -= key.len() as u64;
        }
    }

    fn at(&self, key: &Bytes, view: u64) -> Option<Bytes> {
        let versions = self.keys.get(key)?;
        versions.iter().rev().find(|(version, _)| *version <= view).and_then(|(_, value)| value.clone())
    }

    fn persist(&mut self) {
        let newest = |versions: &Versions| versions.last().and_then(|(_, value)| value.clone());
        self.durable = self.keys.iter().filter_map(|(key, all)| Some((key.clone(), newest(all)?))).collect();
        self.since.clear();
    }
}

impl KvStore for MemKv {
    fn view(&self) -> KvView {
        self.pin()
    }

    fn apply(&self, batch: KvBatch) -> LocalBoxFuture<'static, KvResult<KvView>> {
        let mut state = self.state.borrow_mut();
        let open = state.check_open();
        if open.is_ok() {
            state.apply(&batch);
            state.since.push(batch);
        }
        drop(state);
        Box::pin(ready(open.map(|()| self.pin())))
    }

    fn flush(&self) -> LocalBoxFuture<'static, KvResult<()>> {
        let mut state = self.state.borrow_mut();
        let open = state.check_open();
        if open.is_ok() {
            state.persist();
        }
        Box::pin(ready(open))
    }

    fn get(&self, view: &KvView, keys: Vec<Bytes>) -> LocalBoxFuture<'static, KvResult<Vec<Option<Bytes>>>> {
        Box::pin(ready(self.read(view, |state, at| keys.iter().map(|key| state.at(key, at)).collect())))
    }

    fn scan(
        &self,
        view: &KvView,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> LocalBoxFuture<'static, KvResult<ScanPage>> {
        let page = self.read(view, |state, at| {
            let mut page = ScanPage::default();
            let mut bytes = 0;
            for (key, _) in state.range(&start, &end) {
                let Some(value) = state.at(key, at) else { continue };
                if limit.is_reached(page.entries.len(), bytes) {
                    page.more = true;
                    break;
                }
                bytes += key.len() + value.len();
                page.entries.push((key.clone(), value));
            }
            page
        });
        Box::pin(ready(page))
    }

    fn stats(&self) -> KvStats {
        KvStats { memory_bytes: self.state.borrow().bytes, ..KvStats::default() }
    }

    fn close(&self) -> LocalBoxFuture<'static, KvResult<()>> {
        self.state.borrow().closed.set(true);
        Box::pin(ready(Ok(())))
    }
}
