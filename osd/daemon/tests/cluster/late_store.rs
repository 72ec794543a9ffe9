//! A memory store on which nothing becomes durable until the test says so, and on which transactions can be refused.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use rt::LocalBoxFuture;
use rt::sync::Event;
use store::{
    AccessHints, BlockSums, CollectionId, FsckLevel, FsckReport, LogVersion, MemStore, MemoryTarget,
    ObjectId, ObjectStat, ObjectStore, OmapPage, Outcome, PoolOptions, PoolStats, StoreError, StoreResult,
    StoreStats, Submitted, Summed, Transaction, Watch,
};

/// The store.
pub struct LateStore {
    inner: MemStore,
    /// Writes wait for this to become durable.
    pub gate: RefCell<Rc<Event>>,
    /// Each of the next transactions is refused with one of these.
    pub refuse: RefCell<VecDeque<StoreError>>,
    /// What was held fails with this when it is released.
    pub doom: Rc<RefCell<Option<StoreError>>>,
    /// What `stats` tells is available; all if none.
    pub available: Cell<Option<u64>>,
    /// What was said of data that was read, and that was written.
    pub hints: RefCell<(Vec<AccessHints>, Vec<AccessHints>)>,
    /// What it was told to take of memory; less than this is refused.
    pub target: Cell<Option<MemoryTarget>>,
    pub target_min: Cell<u64>,
}

impl LateStore {
    /// A store that is not late yet.
    pub fn new(inner: MemStore) -> Self {
        let gate = Rc::new(Event::default());
        gate.set();
        Self {
            inner,
            gate: RefCell::new(gate),
            refuse: RefCell::default(),
            doom: Rc::default(),
            available: Cell::new(None),
            hints: RefCell::default(),
            target: Cell::new(None),
            target_min: Cell::new(0),
        }
    }

    /// From now on nothing becomes durable.
    pub fn hold(&self) {
        self.gate.replace(Rc::new(Event::default()));
    }

    /// Everything held becomes durable, and what comes.
    pub fn release(&self) {
        self.gate.borrow().set();
    }
}

impl ObjectStore for LateStore {
    fn submit_with(&self, transaction: Transaction, hints: AccessHints, sums: BlockSums) -> Submitted {
        self.hints.borrow_mut().1.push(hints);
        if let Some(error) = self.refuse.borrow_mut().pop_front() {
            let (a, b) = (error.clone(), error);
            return Submitted { readable: Outcome::Known(Err(a)), durable: Outcome::Known(Err(b)) };
        }
        let (gate, doom) = (self.gate.borrow().clone(), self.doom.clone());
        let submitted = self.inner.submit_with(transaction, hints, sums);
        let durable = submitted.durable;
        Submitted {
            readable: submitted.readable,
            durable: Outcome::Later(Box::pin(async move {
                gate.wait().await;
                let doomed = doom.borrow().clone();
                match doomed {
                    Some(error) => Err(error),
                    None => durable.await,
                }
            })),
        }
    }

    fn read_with(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
        hints: AccessHints,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<Bytes>>> {
        self.hints.borrow_mut().0.push(hints);
        self.inner.read_with(collection, object, offset, len, hints)
    }

    fn read_summed(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
        hints: AccessHints,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<Summed>>> {
        // As if the store had verified all of it as one.
        let read = self.read_with(collection, object, offset, len, hints);
        Box::pin(async move {
            Ok(read.await?.into_iter().map(|bytes| (bytes.clone(), Some(crc32c::crc32c(&bytes)))).collect())
        })
    }

    fn extents(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(u64, u64)>>> {
        self.inner.extents(collection, object, offset, len)
    }

    fn stat(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<ObjectStat>> {
        self.inner.stat(collection, object)
    }

    fn attrs(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(Bytes, Bytes)>>> {
        self.inner.attrs(collection, object)
    }

    fn omap_header(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<Bytes>> {
        self.inner.omap_header(collection, object)
    }

    fn omap_values(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        keys: Vec<Bytes>,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(Bytes, Bytes)>>> {
        self.inner.omap_values(collection, object, keys)
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
        self.inner.omap_scan(collection, object, start_after, prefix, max, max_bytes)
    }

    fn list(
        &self,
        collection: CollectionId,
        from: Option<ObjectId>,
        max: usize,
    ) -> LocalBoxFuture<'static, StoreResult<(Vec<ObjectId>, Option<ObjectId>)>> {
        self.inner.list(collection, from, max)
    }

    fn collections(&self) -> LocalBoxFuture<'static, StoreResult<Vec<(CollectionId, u8, Bytes)>>> {
        self.inner.collections()
    }

    fn log(
        &self,
        collection: CollectionId,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(LogVersion, Bytes)>>> {
        self.inner.log(collection)
    }

    fn set_memory_target(&self, target: Option<MemoryTarget>) -> StoreResult<()> {
        if target.is_some_and(|target| target.bytes < self.target_min.get()) {
            return Err(StoreError::Invalid("the least is more".to_owned()));
        }
        self.target.set(target);
        Ok(())
    }

    fn stats(&self) -> StoreStats {
        let stats = self.inner.stats();
        StoreStats { available: self.available.get().unwrap_or(stats.available), ..stats }
    }

    fn set_pool_options(&self, pool: i64, options: PoolOptions) {
        self.inner.set_pool_options(pool, options);
    }

    fn pool_stats(&self) -> Vec<(i64, PoolStats)> {
        self.inner.pool_stats()
    }

    fn fsck(
        &self,
        level: FsckLevel,
        watch: Rc<dyn Watch>,
    ) -> LocalBoxFuture<'static, StoreResult<FsckReport>> {
        self.inner.fsck(level, watch)
    }

    fn close(&self) -> LocalBoxFuture<'static, StoreResult<()>> {
        self.inner.close()
    }
}
