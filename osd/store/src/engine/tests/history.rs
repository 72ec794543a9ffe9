//! What a client knows: which transactions were submitted, which acknowledged, and what the store may show after a
//! crash: for each collection the state after some prefix of the submitted that holds all acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::limits;
use crate::object_store::{ObjectStore, StoreResult};
use crate::suite::{join, with_space_of};
use crate::{CollectionId, LogVersion, MemStore, ObjectId, ObjectStat, Op, Transaction};

/// Everything that can be read of one collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    pub objects: Vec<ObjectDump>,
    pub log: Vec<(LogVersion, Bytes)>,
}

/// Everything that can be read of one object.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectDump {
    pub name: ObjectId,
    pub stat: ObjectStat,
    pub data: Vec<u8>,
    pub extents: Vec<(u64, u64)>,
    pub attrs: Vec<(Bytes, Bytes)>,
    pub header: Bytes,
    pub omap: Vec<(Bytes, Bytes)>,
}

impl std::fmt::Debug for ObjectDump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = crc32c::crc32c(&self.data);
        write!(
            f,
            "{:?}: {} bytes ({sum:08x}), {} omap keys",
            self.name.name,
            self.data.len(),
            self.omap.len()
        )
    }
}

impl Dump {
    /// Takes the store's word where only it can know.
    fn take_space_of(&mut self, found: &Self) {
        let known: BTreeMap<_, _> = found.objects.iter().map(|object| (&object.name, object.stat)).collect();
        for object in &mut self.objects {
            if let Some(stat) = known.get(&object.name) {
                object.stat = with_space_of(object.stat, stat, &object.extents);
            }
        }
    }

    /// The first object in which two differ.
    fn difference(&self, other: &Self) -> String {
        let mine: BTreeMap<_, _> = self.objects.iter().map(|object| (&object.name, object)).collect();
        let others: BTreeMap<_, _> = other.objects.iter().map(|object| (&object.name, object)).collect();
        let names: BTreeSet<_> = mine.keys().chain(others.keys()).collect();
        let differing = names.into_iter().find(|name| mine.get(*name) != others.get(*name));
        differing.map_or_else(String::new, |name| {
            let tell =
                |object: Option<&&ObjectDump>| object.map(|object| format!("{object:?} {:?}", object.stat));
            format!("{:?}, expected {:?}", tell(mine.get(name)), tell(others.get(name)))
        })
    }
}

/// Reads it all.
pub async fn dump(store: &dyn ObjectStore, id: CollectionId) -> Dump {
    let (names, more) = store.list(id, None, limits::LIST_MAX).await.expect("list");
    assert_eq!(more, None);
    let mut objects = Vec::new();
    for name in names {
        objects.push(dump_object(store, id, name).await.expect("an object"));
    }
    let mut log = store.log(id).await.expect("log");
    log.drain(..log.len().saturating_sub(limits::PG_LOG_ENTRIES_MIN));
    Dump { objects, log }
}

/// Reads all of an object.
pub async fn dump_object(
    store: &dyn ObjectStore,
    id: CollectionId,
    name: ObjectId,
) -> StoreResult<ObjectDump> {
    let omap = store.omap_scan(id, &name, None, Bytes::new(), limits::LIST_MAX, usize::MAX).await?;
    Ok(ObjectDump {
        stat: store.stat(id, &name).await?,
        data: join(store.read(id, &name, 0, u64::MAX).await?),
        extents: store.extents(id, &name, 0, u64::MAX).await?,
        attrs: store.attrs(id, &name).await?,
        header: store.omap_header(id, &name).await?,
        omap: omap.entries,
        name,
    })
}

/// The transactions of one collection.
pub struct Track {
    pub id: CollectionId,
    /// As it is after the transactions that are durable for sure.
    base: MemStore,
    /// After all submitted.
    pub current: MemStore,
    submitted: Vec<Transaction>,
    acknowledged: usize,
}

impl Track {
    /// A collection that was just created, durably.
    pub fn new(id: CollectionId, bits: u8) -> Self {
        let base = MemStore::new(1 << 40);
        let ops = vec![Op::CreateCollection { collection: id, bits }];
        base.apply(&Transaction { ops }).expect("create");
        Self { id, current: base.fork(), base, submitted: Vec::new(), acknowledged: 0 }
    }

    /// Whether the transaction will be accepted; if so it counts as submitted, and its number is given.
    pub fn submit(&mut self, transaction: &Transaction) -> Option<usize> {
        self.current.apply(transaction).ok()?;
        self.submitted.push(transaction.clone());
        Some(self.submitted.len())
    }

    /// Transaction `number` and all before it are durable.
    pub fn acknowledge(&mut self, number: usize) {
        self.acknowledged = self.acknowledged.max(number);
    }

    /// Finds which prefix the store shows after a crash, and goes on from there.
    pub async fn resolve(&mut self, store: &dyn ObjectStore) -> Result<usize, String> {
        let found = dump(store, self.id).await;
        let state = self.base.fork();
        let mut nearest = None;
        let mut difference = String::new();
        for (number, next) in self.submitted.clone().iter().map(Some).chain([None]).enumerate() {
            let mut expect = dump(&state, self.id).await;
            expect.take_space_of(&found);
            if number >= self.acknowledged && expect == found {
                self.base = state.fork();
                self.current = state;
                let gone = self.submitted.len() - number;
                self.submitted.clear();
                self.acknowledged = 0;
                return Ok(gone);
            }
            if expect == found {
                nearest = Some(number);
            }
            if number == self.acknowledged {
                difference = found.difference(&expect);
            }
            if let Some(next) = next {
                state.apply(next).expect("accepted before");
            }
        }
        Err(format!(
            "collection {:?} is in no state it may be in: {} submitted, {} acknowledged, it shows prefix {nearest:?}; it \
             differs from what was acknowledged in {difference}",
            self.id,
            self.submitted.len(),
            self.acknowledged
        ))
    }
}
