//! [`MemStore`]: the object store as a few maps in memory. It is the oracle that the engine is compared with, so it is
//! written to be obviously right, and it accounts space as the engine does with blocks of [`limits::BLOCK`].
//!
//! Lives on one core. Nothing survives the process; `close` and a new handle from [`MemStore::reopen`] act as a restart.

mod object;
mod stage;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::ready;
use std::rc::Rc;

use bytes::Bytes;
use rt::LocalBoxFuture;

use crate::check;
use crate::limits;
use crate::object_store::{
    BlockSums, FsckLevel, FsckReport, ObjectStore, OmapPage, Outcome, StoreError, StoreResult, StoreStats,
    Submitted, Watch,
};
use crate::transaction::Transaction;
use crate::types::{AccessHints, CollectionId, LogVersion, ObjectId, ObjectStat, PoolOptions, PoolStats};

use object::MemObject;
use stage::Stage;

/// The memory implementation of [`ObjectStore`].
pub struct MemStore {
    state: Rc<RefCell<State>>,
    total: u64,
    object_bytes_max: u64,
    closed: Cell<bool>,
    transactions: Cell<u64>,
}

#[derive(Debug, Default)]
struct State {
    collections: BTreeMap<CollectionId, MemCollection>,
    objects: BTreeMap<ObjectId, MemObject>,
    pools: BTreeMap<i64, PoolStats>,
}

#[derive(Clone, Debug, Default)]
struct MemCollection {
    bits: u8,
    meta: Bytes,
    log: Vec<(LogVersion, Bytes)>,
}

impl MemStore {
    /// An empty store that has room for `total` bytes of data.
    pub fn new(total: u64) -> Self {
        Self {
            state: Rc::default(),
            total,
            object_bytes_max: limits::OBJECT_BYTES_MAX,
            closed: Cell::new(false),
            transactions: Cell::new(0),
        }
    }

    /// A new handle on the same content, as after a clean restart.
    pub fn reopen(&self) -> Self {
        Self {
            state: Rc::clone(&self.state),
            total: self.total,
            object_bytes_max: self.object_bytes_max,
            closed: Cell::new(false),
            transactions: Cell::new(0),
        }
    }

    /// A store with the same content that shares nothing with this one.
    pub fn fork(&self) -> Self {
        let fork = Self::new(self.total);
        {
            let (from, mut to) = (self.state.borrow(), fork.state.borrow_mut());
            to.collections = from.collections.clone();
            to.objects = from.objects.clone();
            to.pools = from.pools.clone();
        }
        fork
    }

    /// Applies the transaction at once: the whole of what `submit` does.
    pub fn apply(&self, transaction: &Transaction) -> StoreResult<()> {
        self.check_open()?;
        check::check_transaction(transaction, self.object_bytes_max)?;
        let mut state = self.state.borrow_mut();
        let mut stage = Stage::new(&state);
        for op in &transaction.ops {
            stage.apply(op)?;
        }
        let grows = stage.allocated_after() > stage.allocated_before();
        let change = stage.finish();
        let allocated = state.allocated().saturating_add_signed(change.allocated_delta());
        if grows && allocated > self.total {
            return Err(StoreError::NoSpace(format!("{allocated} bytes are needed, {} exist", self.total)));
        }
        change.commit(&mut state);
        self.transactions.set(self.transactions.get() + 1);
        Ok(())
    }

    fn check_open(&self) -> StoreResult<()> {
        if self.closed.get() { Err(StoreError::Down("closed".into())) } else { Ok(()) }
    }

    fn with_object<T: 'static>(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        f: impl FnOnce(&MemObject) -> T,
    ) -> LocalBoxFuture<'static, StoreResult<T>> {
        let result = self.check_open().and_then(|()| {
            let state = self.state.borrow();
            let found = state.objects.get(object).filter(|_| state.is_member(collection, object));
            found.map(f).ok_or_else(|| StoreError::NotFound(describe(object)))
        });
        Box::pin(ready(result))
    }
}

fn describe(object: &ObjectId) -> String {
    format!("object {:?} of pool {}", String::from_utf8_lossy(&object.name), object.pool)
}

impl State {
    fn is_member(&self, collection: CollectionId, object: &ObjectId) -> bool {
        let found = self.collections.get(&collection);
        found.is_some_and(|found| check::check_member(collection, found.bits, object).is_ok())
    }

    fn allocated(&self) -> u64 {
        let sum: i64 = self.pools.values().map(|pool| pool.allocated).sum();
        u64::try_from(sum).unwrap_or(0)
    }
}

impl ObjectStore for MemStore {
    fn submit_with(&self, transaction: Transaction, _: AccessHints, _: BlockSums) -> Submitted {
        let result = self.apply(&transaction);
        let durable = result.clone();
        Submitted {
            readable: Outcome::Known(result),
            // One turn later, so that a caller that mixes up the two is found out.
            durable: Outcome::Later(Box::pin(async move {
                rt::sync::yield_now().await;
                durable
            })),
        }
    }

    fn read_with(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
        _: AccessHints,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<Bytes>>> {
        self.with_object(collection, object, |o| o.read(offset, len))
    }

    fn extents(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(u64, u64)>>> {
        self.with_object(collection, object, |o| o.extents(offset, len))
    }

    fn stat(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<ObjectStat>> {
        self.with_object(collection, object, |o| ObjectStat {
            size: o.size,
            allocated: o.allocated(),
            compressed: 0,
            hints: o.hints,
        })
    }

    fn attrs(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(Bytes, Bytes)>>> {
        self.with_object(collection, object, |o| {
            o.attrs.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        })
    }

    fn omap_header(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<Bytes>> {
        self.with_object(collection, object, |o| o.omap_header.clone())
    }

    fn omap_values(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        mut keys: Vec<Bytes>,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(Bytes, Bytes)>>> {
        keys.sort();
        keys.dedup();
        self.with_object(collection, object, |o| {
            keys.into_iter().filter_map(|key| o.omap.get(&key).cloned().map(|value| (key, value))).collect()
        })
    }

    fn omap_scan(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        start_after: Option<Bytes>,
        prefix: Bytes,
        max: usize,
        max_bytes: usize,
    ) -> LocalBoxFuture<'static, StoreResult<OmapPage>> {
        self.with_object(collection, object, |o| o.omap_scan(start_after, &prefix, max, max_bytes))
    }

    fn list(
        &self,
        collection: CollectionId,
        from: Option<ObjectId>,
        max: usize,
    ) -> LocalBoxFuture<'static, StoreResult<(Vec<ObjectId>, Option<ObjectId>)>> {
        let result = self.check_open().and_then(|()| {
            let state = self.state.borrow();
            if !state.collections.contains_key(&collection) {
                return Err(StoreError::NotFound(format!("collection {collection:?}")));
            }
            let objects = state.objects.keys().filter(|name| state.is_member(collection, name));
            let mut names = objects.filter(|name| from.as_ref().is_none_or(|from| *name >= from));
            let page = names.by_ref().take(max.clamp(1, limits::LIST_MAX)).cloned().collect();
            Ok((page, names.next().cloned()))
        });
        Box::pin(ready(result))
    }

    fn collections(&self) -> LocalBoxFuture<'static, StoreResult<Vec<(CollectionId, u8, Bytes)>>> {
        let result = self.check_open().map(|()| {
            let state = self.state.borrow();
            state.collections.iter().map(|(id, c)| (*id, c.bits, c.meta.clone())).collect()
        });
        Box::pin(ready(result))
    }

    fn log(
        &self,
        collection: CollectionId,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(LogVersion, Bytes)>>> {
        let result = self.check_open().and_then(|()| {
            let state = self.state.borrow();
            let found = state.collections.get(&collection).map(|c| c.log.clone());
            found.ok_or_else(|| StoreError::NotFound(format!("collection {collection:?}")))
        });
        Box::pin(ready(result))
    }

    fn stats(&self) -> StoreStats {
        let state = self.state.borrow();
        let sum =
            |f: fn(&PoolStats) -> i64| u64::try_from(state.pools.values().map(f).sum::<i64>()).unwrap_or(0);
        let allocated = sum(|p| p.allocated);
        StoreStats {
            total: self.total,
            available: self.total.saturating_sub(allocated),
            allocated,
            stored: sum(|p| p.stored),
            omap: sum(|p| p.omap_bytes),
            metadata: 0,
            fast: 0,
            fast_available: 0,
            spilled: 0,
            free_pieces: 1,
            fragmentation_permille: 0,
            counters: vec![("transactions", self.transactions.get())],
            memory: Vec::new(),
        }
    }

    fn set_pool_options(&self, _pool: i64, _options: PoolOptions) {}

    fn pool_stats(&self) -> Vec<(i64, PoolStats)> {
        self.state.borrow().pools.iter().map(|(pool, stats)| (*pool, *stats)).collect()
    }

    fn fsck(
        &self,
        _level: FsckLevel,
        watch: Rc<dyn Watch>,
    ) -> LocalBoxFuture<'static, StoreResult<FsckReport>> {
        let objects = u64::try_from(self.state.borrow().objects.len()).unwrap_or(u64::MAX);
        watch.progress(objects, objects);
        let report = FsckReport { objects, is_whole: true, ..FsckReport::default() };
        Box::pin(ready(self.check_open().map(|()| report)))
    }

    fn close(&self) -> LocalBoxFuture<'static, StoreResult<()>> {
        self.closed.set(true);
        Box::pin(ready(Ok(())))
    }
}
