//! [`EngineTarget`]: the engine alone, as placement groups use it: each write has the object's info and an entry of the group's
//! log beside its data, and is durable when it is done.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use store::{CollectionId, Engine, LogVersion, ObjectId, ObjectStore, Op, StoreError, Transaction};

use crate::content::Content;
use crate::counted::Written;
use crate::meter::{Party, Spent, process_cpu, thread_cpu};
use crate::target::{Target, TargetError};

/// Bytes of a placement group's log entry and of an object's info, as `pg` writes them.
const LOG_ENTRY_BYTES: usize = 150;
const INFO_BYTES: usize = 60;
const POOL: i64 = 1;

/// What is stored, and how it is cut.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Objects.
    pub objects: u64,
    /// Bytes of each.
    pub object_bytes: u64,
    /// Bytes of an operation; a divisor of these.
    pub block_bytes: u64,
    /// Placement groups; rounded up to a power of two.
    pub groups: u32,
}

/// See the module. Neighbouring blocks are in different objects only where an object ends.
pub struct EngineTarget {
    engine: Rc<Engine>,
    shape: Shape,
    objects: Vec<(CollectionId, ObjectId)>,
    /// Newest entry of each group's log.
    versions: RefCell<BTreeMap<CollectionId, u64>>,
    written: Written,
}

impl EngineTarget {
    /// Makes the groups; objects come into being when they are written.
    pub async fn new(engine: Rc<Engine>, shape: Shape, written: Written) -> Result<Self, TargetError> {
        let groups = shape.groups.max(1).next_power_of_two();
        let bits = u8::try_from(groups.trailing_zeros()).unwrap_or(0);
        let collection = |seed| CollectionId { pool: POOL, seed };
        let make = (0..groups).map(|seed| Op::CreateCollection { collection: collection(seed), bits });
        let made = engine.submit(Transaction { ops: make.collect() }).durable.await;
        made.map_err(|error| TargetError::new("the placement groups", error))?;
        let object = |number: u64| {
            let hash = u32::try_from(number).unwrap_or(u32::MAX);
            (collection(hash % groups), object(hash, number))
        };
        let objects = (0..shape.objects).map(object).collect();
        Ok(Self { engine, shape, objects, versions: RefCell::default(), written })
    }

    fn locate(&self, position: u64) -> (&(CollectionId, ObjectId), u64) {
        let blocks = self.shape.object_bytes / self.shape.block_bytes;
        (&self.objects[(position / blocks) as usize], position % blocks * self.shape.block_bytes)
    }

    fn failed(&self, op: &str, position: u64, error: &StoreError) -> TargetError {
        TargetError::new(format!("{op} of {}", self.place(position)), error)
    }

    /// What a placement group asks for when a client writes.
    fn transaction(&self, position: u64, data: Bytes) -> Transaction {
        let ((collection, object), offset) = self.locate(position);
        let (collection, object) = (*collection, object.clone());
        let version = {
            let mut versions = self.versions.borrow_mut();
            let version = versions.entry(collection).or_default();
            *version += 1;
            LogVersion { epoch: 1, version: *version }
        };
        let info = Bytes::from([version.version.to_le_bytes().as_slice(), &[0; INFO_BYTES]].concat());
        let attrs = BTreeMap::from([(Bytes::from_static(b"_"), info)]);
        Transaction {
            ops: vec![
                Op::Write { collection, object: object.clone(), offset, data: vec![data] },
                Op::SetAttrs { collection, object, attrs },
                Op::LogAppend { collection, version, entry: Bytes::from(vec![7; LOG_ENTRY_BYTES]) },
            ],
        }
    }
}

impl Target for EngineTarget {
    fn positions(&self) -> u64 {
        self.shape.objects * (self.shape.object_bytes / self.shape.block_bytes)
    }

    fn place(&self, position: u64) -> String {
        let ((_, object), offset) = self.locate(position);
        format!("object '{}' at byte {offset}", object.name.escape_ascii())
    }

    async fn read(&self, position: u64, wanted: bool) -> Result<Bytes, TargetError> {
        let ((collection, object), offset) = self.locate(position);
        let read = self.engine.read(*collection, object, offset, self.shape.block_bytes).await;
        let parts = read.map_err(|error| self.failed("the read", position, &error))?;
        let length: usize = parts.iter().map(Bytes::len).sum();
        if length as u64 != self.shape.block_bytes {
            let why = format!("{length} bytes came instead of {}; was it filled?", self.shape.block_bytes);
            return Err(TargetError::new(format!("the read of {}", self.place(position)), why));
        }
        Ok(if wanted { joined(parts) } else { Bytes::new() })
    }

    async fn write(&self, position: u64, content: Content) -> Result<(), TargetError> {
        let submitted = self.engine.submit(self.transaction(position, content.bytes()));
        let failed = |error: StoreError| self.failed("the write", position, &error);
        submitted.readable.await.map_err(failed)?;
        submitted.durable.await.map_err(failed)
    }

    async fn spent(&self) -> Result<Vec<Party>, TargetError> {
        let others = process_cpu().saturating_sub(thread_cpu());
        Ok(vec![Party::new(
            "other threads, which run RocksDB",
            Spent { cpu: Some(others), ..Spent::default() },
        )])
    }

    async fn device_bytes(&self) -> Result<Option<u64>, TargetError> {
        Ok(Some(self.written.bytes()))
    }
}

fn joined(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.pop().unwrap_or_default();
    }
    let mut all = BytesMut::new();
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all.freeze()
}

fn object(hash: u32, number: u64) -> ObjectId {
    ObjectId {
        pool: POOL,
        hash,
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::from(format!("object-{number}")),
        snap: ObjectId::HEAD,
    }
}
