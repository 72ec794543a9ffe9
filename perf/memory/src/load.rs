//! Random operations of all kinds, closed loop, on more objects than memory holds.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use rt::Core;
use store::{
    AccessHints, BlockSums, CollectionId, Engine, Keep, LogVersion, ObjectId, ObjectStore, Op, Pattern,
    StoreError, StoreResult, Transaction,
};

/// Placement groups.
const GROUPS: u32 = 16;
const GROUP_BITS: u8 = 4;
const BLOCK: u64 = 4096;
/// Bytes of a log's entry.
const LOG_ENTRY_BYTES: usize = 150;

/// How long it goes on: until both are over.
#[derive(Clone, Copy)]
pub struct Length {
    /// Operations.
    pub operations: u64,
    /// Time.
    pub time: Duration,
}

/// See the module.
pub struct Load<'a> {
    core: &'a Core,
    engine: &'a Engine,
    objects: u32,
    /// Bytes of the largest.
    object_bytes: u64,
    payload: Bytes,
    version: Cell<u64>,
    done: Cell<u64>,
    refused: Cell<u64>,
}

impl<'a> Load<'a> {
    /// On up to so many objects of up to `object_bytes`.
    pub async fn new(
        core: &'a Core,
        engine: &'a Engine,
        objects: u32,
        object_bytes: u64,
    ) -> StoreResult<Self> {
        let make = (0..GROUPS)
            .map(|seed| Op::CreateCollection { collection: CollectionId { pool: 1, seed }, bits: GROUP_BITS })
            .collect();
        engine.submit(Transaction { ops: make }).durable.await?;
        let payload =
            (0..2 * object_bytes / 8).flat_map(|_| core.random_u64().to_le_bytes()).collect::<Vec<u8>>();
        let payload = Bytes::from(payload);
        let cells = (Cell::new(0), Cell::new(0), Cell::new(0));
        Ok(Self {
            core,
            engine,
            objects,
            object_bytes,
            payload,
            version: cells.0,
            done: cells.1,
            refused: cells.2,
        })
    }

    /// Operations done, and of them those refused for want of space.
    pub fn counts(&self) -> (u64, u64) {
        (self.done.get(), self.refused.get())
    }

    /// Runs.
    pub async fn run(&self, length: Length, depth: u16) -> StoreResult<()> {
        let since = self.core.now();
        let workers = (0..depth).map(|_| async {
            loop {
                let time = Duration::from_nanos(self.core.now().0.saturating_sub(since.0));
                if self.done.get() >= length.operations && time >= length.time {
                    return Ok(());
                }
                match self.one().await {
                    Ok(()) | Err(StoreError::NotFound(_)) => {}
                    Err(StoreError::NoSpace(_)) => self.refused.set(self.refused.get() + 1),
                    Err(error) => return Err(error),
                }
                self.done.set(self.done.get() + 1);
            }
        });
        try_join_all(workers).await.map(drop)
    }

    async fn one(&self) -> StoreResult<()> {
        let number = self.below(self.objects.into());
        let number = u32::try_from(number).unwrap_or(0);
        let collection = CollectionId { pool: 1, seed: number % GROUPS };
        let object = ObjectId {
            pool: 1,
            hash: number,
            namespace: Bytes::new(),
            key: Bytes::new(),
            name: Bytes::from(format!("object-{number}")),
            snap: ObjectId::HEAD,
        };
        let offset = self.below(self.object_bytes / BLOCK) * BLOCK;
        match self.below(100) {
            0..40 => {
                let len = [BLOCK, BLOCK, 4 * BLOCK, 32 * BLOCK][self.pick(4)];
                self.engine.read_with(collection, &object, offset, len, self.hints()).await.map(drop)
            }
            40..45 => self.engine.stat(collection, &object).await.map(drop),
            45..50 => {
                let page = self.engine.omap_scan(collection, &object, None, Bytes::new(), 100, 64 << 10);
                page.await.map(drop)
            }
            50..75 => {
                let len = [BLOCK, BLOCK, 1000, 16 * BLOCK][self.pick(4)];
                let data = vec![self.bytes(len.min(self.object_bytes - offset))];
                self.submit(collection, Op::Write { collection, object, offset, data }).await
            }
            75..80 => {
                let data = vec![self.bytes(self.below(self.object_bytes))];
                self.submit(collection, Op::Write { collection, object, offset: 0, data }).await
            }
            80..90 => {
                let key = |_| Bytes::from(format!("key-{}", self.below(1000)));
                let entries: BTreeMap<Bytes, Bytes> =
                    (0..10).map(key).map(|key| (key, self.bytes(self.below(300)))).collect();
                self.submit(collection, Op::OmapSet { collection, object, entries }).await
            }
            90..95 => {
                let attrs = BTreeMap::from([(Bytes::from_static(b"attr"), self.bytes(self.below(2000)))]);
                self.submit(collection, Op::SetAttrs { collection, object, attrs }).await
            }
            _ => self.submit(collection, Op::Remove { collection, object }).await,
        }
    }

    async fn submit(&self, collection: CollectionId, op: Op) -> StoreResult<()> {
        self.version.set(self.version.get() + 1);
        let version = LogVersion { epoch: 1, version: self.version.get() };
        let entry = Bytes::from(vec![7; LOG_ENTRY_BYTES]);
        let ops = vec![op, Op::LogAppend { collection, version, entry }];
        let submitted = self.engine.submit_with(Transaction { ops }, self.hints(), BlockSums::new());
        submitted.readable.await?;
        submitted.durable.await
    }

    fn hints(&self) -> AccessHints {
        let keep = [Keep::Usual, Keep::Usual, Keep::Usual, Keep::Long, Keep::Not][self.pick(5)];
        let pattern =
            [Pattern::Unknown, Pattern::Unknown, Pattern::Sequential, Pattern::Random][self.pick(4)];
        AccessHints { keep, pattern, verifies: self.below(100) == 0 }
    }

    /// Some of the payload, which does not compress.
    fn bytes(&self, len: u64) -> Bytes {
        let at = self.below(self.object_bytes);
        let index = |value: u64| usize::try_from(value).unwrap_or(0);
        self.payload.slice(index(at)..index(at + len.min(self.object_bytes)))
    }

    fn pick(&self, count: u64) -> usize {
        usize::try_from(self.below(count)).unwrap_or(0)
    }

    fn below(&self, limit: u64) -> u64 {
        self.core.random_u64() % limit.max(1)
    }
}
