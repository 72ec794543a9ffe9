//! Transactions drawn from a seed, and a run that compares a store with the oracle on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::rc::Rc;

use bytes::Bytes;

use super::{Host, compare, compare_object, half_noise, object, pattern};
use crate::object_store::{FsckLevel, Unwatched};
use crate::{
    CollectionId, Hints, LogVersion, MemStore, ObjectId, ObjectStore, Op, StoreError, StoreResult,
    Transaction, limits,
};

/// Bits of the collections.
const BITS: u8 = 8;

/// The half of a collection that has a name of its own.
fn upper_half(collection: CollectionId) -> CollectionId {
    CollectionId { seed: collection.seed | 1 << BITS, ..collection }
}

/// What a random run looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Transactions.
    pub steps: u32,
    /// Distinct object names; few make collisions likely.
    pub objects: u32,
    /// Largest object, bytes.
    pub object_bytes: u64,
    /// Largest single write, bytes.
    pub write_bytes: u64,
    /// One op in so many clones an object or works on a clone's name, 0 for none.
    pub clone_one_in: u32,
    /// One transaction in so many splits a collection, or merges its halves; 0 for none.
    pub split_one_in: u32,
    /// One step in so many closes and opens the store, 0 for never.
    pub reopen_one_in: u32,
    /// The store may refuse a transaction for want of space.
    pub may_be_full: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            steps: 100,
            objects: 12,
            object_bytes: 300_000,
            write_bytes: 40_000,
            clone_one_in: 8,
            split_one_in: 0,
            reopen_one_in: 20,
            may_be_full: false,
        }
    }
}

/// Draws transactions. The same seed and calls give the same sequence.
pub struct Generator {
    state: u64,
    shape: Shape,
    salt: u64,
    version: u64,
    /// Collections that are in halves.
    halved: BTreeSet<CollectionId>,
}

impl Generator {
    /// Starts from a seed.
    pub fn new(seed: u64, shape: Shape) -> Self {
        Self {
            state: seed.wrapping_mul(2).wrapping_add(0x1405_7b7e_f767_814f),
            shape,
            salt: seed << 32,
            version: 0,
            halved: BTreeSet::new(),
        }
    }

    /// Uniform below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // PCG-like: enough to draw cases, and the same on every machine.
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let x = self.state ^ (self.state >> 32);
        (x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16) % bound.max(1)
    }

    /// One of the two collections the sequence works on.
    pub fn collection(&mut self) -> CollectionId {
        CollectionId { pool: 7, seed: if self.below(3) == 0 { 0x2b } else { 0x2a } }
    }

    /// The transactions that create the collections.
    pub fn prologue() -> Transaction {
        let create = |seed| Op::CreateCollection { collection: CollectionId { pool: 7, seed }, bits: BITS };
        Transaction { ops: vec![create(0x2a), create(0x2b)] }
    }

    /// The next transaction: one to four ops on one collection or its halves, now and then with a log entry.
    pub fn transaction(&mut self) -> Transaction {
        let collection = self.collection();
        if self.shape.split_one_in > 0 && self.below(self.shape.split_one_in.into()) == 0 {
            return Transaction { ops: vec![self.split_or_merge(collection)] };
        }
        if self.below(5) == 0 {
            return Transaction { ops: self.image_write(collection) };
        }
        let count = 1 + self.below(4) * self.below(2);
        let mut ops: Vec<Op> = (0..count).map(|_| self.op(collection)).collect();
        if self.below(2) == 0 {
            self.version += 1;
            let version = LogVersion { epoch: 1, version: self.version };
            let len = self.size(200);
            ops.push(Op::LogAppend { collection, version, entry: self.data(len) });
        }
        Transaction { ops }
    }

    /// As the image of a block device is written all day: whole blocks, an attribute, an entry of the log, in any order.
    fn image_write(&mut self, collection: CollectionId) -> Vec<Op> {
        let object = self.name(collection);
        let collection = self.home(collection, &object);
        let len = 4096 * usize::try_from(1 + self.below(3)).unwrap_or(1);
        let offset = self.offset(u64::try_from(len).unwrap_or(0)) & !4095;
        let data = vec![self.data(len)];
        let attrs = BTreeMap::from([(Bytes::from_static(b"attr0"), self.data(60))]);
        self.version += 1;
        let version = LogVersion { epoch: 1, version: self.version };
        let mut ops = vec![
            Op::Write { collection, object: object.clone(), offset, data },
            Op::SetAttrs { collection, object, attrs },
            Op::LogAppend { collection, version, entry: self.data(100) },
        ];
        ops.rotate_left(usize::try_from(self.below(3)).unwrap_or(0));
        ops
    }

    fn split_or_merge(&mut self, collection: CollectionId) -> Op {
        let upper = upper_half(collection);
        if self.halved.remove(&collection) {
            return Op::MergeCollection { collection: upper, bits: BITS, target: collection };
        }
        self.halved.insert(collection);
        Op::SplitCollection { collection, bits: BITS + 1, target: upper }
    }

    /// A transaction of its was refused, which it took for done.
    fn took_nothing(&mut self, transaction: &Transaction) {
        match transaction.ops.first() {
            Some(Op::SplitCollection { collection, .. }) => {
                self.halved.remove(collection);
            }
            Some(Op::MergeCollection { target, .. }) => {
                self.halved.insert(*target);
            }
            _ => {}
        }
    }

    /// Where an object of a collection is, which may be in halves.
    fn home(&self, collection: CollectionId, object: &ObjectId) -> CollectionId {
        let upper = upper_half(collection);
        let is_there = self.halved.contains(&collection) && upper.has_hash(BITS + 1, object.hash);
        if is_there { upper } else { collection }
    }

    fn name(&mut self, collection: CollectionId) -> ObjectId {
        let number = u32::try_from(self.below(u64::from(self.shape.objects))).unwrap_or(0);
        let mut name = object(&format!("object-{number}"), number * 3);
        name.hash = (name.hash & !0xff) | collection.seed;
        if self.shape.split_one_in > 0 && number.is_multiple_of(2) {
            name.hash |= upper_half(collection).seed;
        }
        if self.clones() {
            name.snap = self.below(3);
        }
        name
    }

    fn clones(&mut self) -> bool {
        self.shape.clone_one_in > 0 && self.below(self.shape.clone_one_in.into()) == 0
    }

    fn size(&mut self, max: u64) -> usize {
        let max = match self.below(4) {
            0 => max.min(100),
            1 => max.min(9000),
            _ => max,
        };
        usize::try_from(self.below(max) + 1).unwrap_or(1)
    }

    /// Every second compresses to a half or so.
    fn data(&mut self, len: usize) -> Bytes {
        self.salt += 1;
        if self.salt.is_multiple_of(2) {
            return pattern(self.salt, len);
        }
        half_noise(self.salt, len)
    }

    fn offset(&mut self, len: u64) -> u64 {
        let room = self.shape.object_bytes.saturating_sub(len).max(1);
        let offset = self.below(room);
        if self.below(3) == 0 { offset & !4095 } else { offset }
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(format!("key-{:02}", self.below(40)))
    }

    /// Mostly to the same place, and mostly small enough that the object has so much.
    fn clone_range(&mut self, collection: CollectionId, object: ObjectId, target: ObjectId) -> Op {
        let len = u64::try_from(self.size(self.shape.object_bytes / 4)).unwrap_or(1);
        let (offset, elsewhere) = (self.offset(4 * len), self.offset(len));
        let target_offset = if self.below(3) == 0 { elsewhere } else { offset };
        let target = if self.below(8) == 0 { object.clone() } else { target };
        Op::CloneRange { collection, object, offset, len, target, target_offset }
    }

    fn op(&mut self, collection: CollectionId) -> Op {
        let object = self.name(collection);
        let collection = self.home(collection, &object);
        if self.clones() {
            let snap = if object.snap == ObjectId::HEAD { self.below(3) } else { ObjectId::HEAD };
            let target = ObjectId { snap, ..object.clone() };
            if self.below(2) == 0 {
                return self.clone_range(collection, object, target);
            }
            return Op::Clone { collection, object, target };
        }
        match self.below(20) {
            0..=8 => {
                let mut len = self.size(self.shape.write_bytes);
                if self.below(3) == 0 {
                    len = len.next_multiple_of(4096);
                }
                let data = self.data(len);
                let offset = self.offset(u64::try_from(len).unwrap_or(0));
                let data = match self.below(3) {
                    0 => vec![data],
                    1 => vec![Bytes::new(), data],
                    _ => vec![data.slice(..len / 3), data.slice(len / 3..)],
                };
                Op::Write { collection, object, offset, data }
            }
            9 if self.below(3) == 0 => {
                Op::Defragment { collection, object, offset: 0, len: self.shape.object_bytes }
            }
            9 => {
                let len = u64::try_from(self.size(self.shape.write_bytes)).unwrap_or(1);
                Op::Zero { collection, object, offset: self.offset(len), len }
            }
            10 => Op::Truncate { collection, object, size: self.offset(0) },
            11 | 12 => Op::Remove { collection, object },
            13 => {
                let mut attrs = BTreeMap::new();
                let len = self.size(60);
                attrs.insert(Bytes::from(format!("attr{}", self.below(5))), self.data(len));
                Op::SetAttrs { collection, object, attrs }
            }
            14 if self.below(3) == 0 => Op::SetHints {
                collection,
                object,
                hints: Hints::from_number(u8::try_from(self.below(8)).unwrap_or(0)).unwrap_or_default(),
            },
            14 => Op::RemoveAttr { collection, object, name: Bytes::from(format!("attr{}", self.below(5))) },
            15 | 16 => {
                let mut entries = BTreeMap::new();
                for _ in 0..=self.below(5) {
                    let (key, len) = (self.key(), self.size(100));
                    entries.insert(key, self.data(len));
                }
                Op::OmapSet { collection, object, entries }
            }
            17 => Op::OmapRemove { collection, object, keys: vec![self.key(), self.key()] },
            18 => Op::OmapRemoveRange { collection, object, first: self.key(), end: self.key() },
            _ if self.below(2) == 0 => Op::OmapClear { collection, object },
            _ => Op::OmapSetHeader { collection, object, header: self.data(9) },
        }
    }
}

/// What a random run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Transactions submitted.
    pub transactions: u64,
    /// Ops in them.
    pub operations: u64,
    /// Ops by name.
    pub kinds: BTreeMap<String, u64>,
    /// Transactions that both refused.
    pub refused: u64,
    /// Transactions that the store refused for want of space, or because they are too large for it.
    pub refused_for_space: u64,
    /// Times the store was closed and opened.
    pub reopened: u64,
    /// Objects compared right after a transaction.
    pub objects_compared: u64,
}

impl Tally {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.transactions += other.transactions;
        self.operations += other.operations;
        self.refused += other.refused;
        self.refused_for_space += other.refused_for_space;
        self.reopened += other.reopened;
        self.objects_compared += other.objects_compared;
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind.clone()).or_default() += count;
        }
    }

    fn count(&mut self, transaction: &Transaction) {
        self.transactions += 1;
        for op in &transaction.ops {
            self.operations += 1;
            *self.kinds.entry(kind(op)).or_default() += 1;
        }
    }
}

/// The name of an op's kind, as its Debug begins: what follows may be megabytes in hexadecimal.
pub fn kind(op: &Op) -> String {
    struct First(String);
    impl fmt::Write for First {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.push_str(text);
            Err(fmt::Error)
        }
    }
    let mut first = First(String::new());
    // It is stopped after the first piece, which is the name.
    let _stopped = write!(first, "{op:?}");
    first.0
}

/// Removes everything: that is possible on a full store, and makes room for as much as any transaction wrote.
async fn empty(store: &Rc<dyn ObjectStore>, oracle: &MemStore) {
    for (collection, ..) in oracle.collections().await.expect("collections") {
        let (names, _) = oracle.list(collection, None, limits::LIST_MAX).await.expect("list");
        for object in names {
            let ops = vec![Op::Remove { collection, object }];
            store.submit(Transaction { ops }).durable.await.expect("a removal on a full store");
        }
    }
    let collection = Generator::prologue().collections().next().expect("a collection");
    let object = ObjectId { hash: collection.seed, ..object("last", 0) };
    let data = vec![pattern(1, 100_000)];
    let bits = store.collections().await.expect("collections");
    let ops = vec![Op::Write { collection, object, offset: 0, data }];
    let written = store.submit(Transaction { ops }).durable.await;
    assert_eq!(written, Ok(()), "an empty store has room: {:?}, {bits:?}", store.stats());
}

/// Runs `shape.steps` random transactions and compares with the oracle on the way and at the end.
pub async fn random(host: &mut dyn Host, seed: u64, shape: Shape) -> Tally {
    let mut store = host.fresh().await;
    let oracle = MemStore::new(1 << 40);
    let mut generator = Generator::new(seed, shape);
    let mut tally = Tally::default();
    oracle.apply(&Generator::prologue()).expect("collections");
    store.submit(Generator::prologue()).durable.await.expect("collections");
    let mut in_flight = Vec::new();
    for step in 0..shape.steps {
        let transaction = generator.transaction();
        tally.count(&transaction);
        let submitted = store.submit(transaction.clone());
        // What has no space the oracle must not take either, so then each is waited for.
        if !shape.may_be_full && generator.below(3) == 0 {
            tally.refused += u64::from(oracle.apply(&transaction).is_err());
            in_flight.push(submitted.durable);
            continue;
        }
        let found = submitted.readable.await;
        if shape.may_be_full && matches!(found, Err(StoreError::NoSpace(_) | StoreError::TooLarge(_))) {
            tally.refused_for_space += 1;
            generator.took_nothing(&transaction);
        } else {
            let expect = oracle.apply(&transaction);
            tally.refused += u64::from(expect.is_err());
            let kind = |result: &StoreResult<()>| result.as_ref().err().map(std::mem::discriminant);
            let is_same = kind(&found) == kind(&expect);
            assert!(is_same, "seed {seed} step {step}: {found:?}, oracle {expect:?}: {transaction:?}");
        }
        for op in &transaction.ops {
            for object in op.object().into_iter().chain(op.target()) {
                compare_object(&store, &oracle, op.collection(), object).await;
                tally.objects_compared += 1;
            }
        }
        in_flight.push(submitted.durable);
        if shape.reopen_one_in > 0 && generator.below(u64::from(shape.reopen_one_in)) == 0 {
            for durable in in_flight.drain(..) {
                // A refused transaction says so here too; the comparison above checked which are.
                let _refused = durable.await.is_err();
            }
            store = host.reopen(store).await;
            tally.reopened += 1;
            compare(&store, &oracle).await;
        }
    }
    for durable in in_flight {
        let _refused = durable.await.is_err();
    }
    let store = host.reopen(store).await;
    compare(&store, &oracle).await;
    if shape.may_be_full {
        empty(&store, &oracle).await;
    }
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    assert_eq!(report.findings, [], "seed {seed}");
    store.close().await.expect("close");
    tally
}
