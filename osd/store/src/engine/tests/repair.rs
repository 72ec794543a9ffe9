//! Every kind of damage to keys and free list is repaired as far as that loses nothing, and given up where that was asked for:
//! afterwards the check is clean, what was not given up is as it was, and the store can be used.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use std::collections::{BTreeMap, BTreeSet};

use allocator::{Allocator, BitmapAllocator, Extent, Request};
use bluefs::kv::{KvBatch, KvOp, ScanLimit};
use bytes::Bytes;
use rt::Core;
use rt::sim::{Config, Sim};
use smallvec::SmallVec;

use super::healing::Bad;
use super::history::{ObjectDump, dump_object};
use super::world::World;
use crate::codec::Encoder;
use crate::engine::checkpoint::CheckpointRecord;
use crate::engine::free_list::{self, Replacement};
use crate::engine::{Engine, FreeList, Lost, RepairOptions, RepairReport};
use crate::journal::item::Item;
use crate::keys;
use crate::object_store::{FsckLevel, ObjectStore, Unwatched};
use crate::onode::Onode;
use crate::shard::Shard;
use crate::share::Share;
use crate::suite::{Generator, collection, half_noise, object, pattern};
use crate::types::PoolStats;
use crate::{Compression, CompressionMode, ObjectId, Op, PoolOptions, Transaction};

const BLOCK: u64 = 4096;
const SPAN: u64 = 64 << 10;

#[test]
fn a_journal_that_takes_back_what_was_not_lent_can_be_repaired() {
    Sim::new(1, Config::default()).run(0, |core| async move {
        let world = World::new(1, 8 << 20, 4096, 256 << 10);
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        let data = vec![pattern(1, 8192)];
        let op = Op::Write { collection: collection(), object: victim(), offset: 0, data };
        store.submit(Transaction { ops: vec![op] }).durable.await.expect("write");
        let before = dump_object(&store, collection(), victim()).await.expect("an object");
        let place = store.block_places(collection(), &victim()).await.expect("places")[0].address;
        // As a mistake would leave it: only in memory anybody knows of the loan.
        let extent = Extent::new(place, BLOCK);
        store.inner.space.lend(extent);
        let need = store.inner.journal.borrow().need(100);
        assert!(store.inner.journal.borrow_mut().reserve(need, 0));
        let record = store.inner.journal.borrow_mut().number();
        store.inner.commit_items(record, &[Item::Return(extent)], Rc::new(Cell::new(true)), need, None);
        store.inner.pump();
        store.inner.wait_durable(record).await.expect("durable");
        drop(store);
        world.end_process();
        let refused = world.mount(&core).await.err().expect("refused").to_string();
        assert!(refused.contains("takes back") && refused.contains("not lent"), "{refused}");
        world.repair(&core, RepairOptions::default()).await.expect("repaired");
        let store = world.mount(&core).await.expect("mount");
        assert_eq!(dump_object(&store, collection(), victim()).await.expect("an object"), before);
        let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
        assert_eq!(report.findings, []);
        store.close().await.expect("close");
    });
}

/// A store that was closed, and what its keys are.
pub struct Known {
    pub entries: BTreeMap<Bytes, Bytes>,
    free_list: FreeList,
    superblock: crate::superblock::Superblock,
    /// What the free list says.
    bitmap: BitmapAllocator,
}

/// The object that most damage is done to; `clone` shares with `cloned`, and all have an omap.
pub fn victim() -> ObjectId {
    object("victim", 1)
}

impl Known {
    fn onode_key(&self) -> Bytes {
        keys::onode(&victim())
    }

    fn shard_key(&self, number: u32) -> Bytes {
        keys::shard(&self.onode_key(), number)
    }

    fn onode(&self) -> Onode {
        let key = self.onode_key();
        Onode::decode(self.entries[&key].clone(), &key, &victim()).expect("an onode")
    }

    fn put(&self, onode: &Onode) -> KvOp {
        KvOp::Put(self.onode_key(), onode.encode(&self.onode_key()))
    }

    fn shard(&self, key: &Bytes, number: u32) -> Shard {
        let span = u32::try_from(SPAN).expect("small");
        Shard::decode(self.entries[key].clone(), number, span, BLOCK).expect("a shard")
    }

    fn share(&self) -> (Bytes, Share) {
        let (start, end) = keys::all_shares();
        let (key, value) = self.entries.range(start..end).next().expect("a share");
        (key.clone(), Share::decode(value.clone()).expect("a share"))
    }

    fn checkpoint(&self) -> CheckpointRecord {
        CheckpointRecord::decode(self.entries[&keys::CHECKPOINT].clone()).expect("a checkpoint")
    }

    /// The free list with something changed, as a checkpoint would have left it.
    fn with_free_list(&self, change: impl FnOnce(&mut BitmapAllocator)) -> Vec<KvOp> {
        let mut should = self.bitmap.clone();
        change(&mut should);
        let replacement = Replacement { stored: None, should };
        let mut checkpoint = self.checkpoint();
        checkpoint.used = replacement.used();
        let mut ops = replacement.ops(checkpoint.end.position, &self.superblock);
        ops.push(KvOp::Put(keys::CHECKPOINT, checkpoint.encode()));
        ops
    }

    /// The extents of the object's first shard.
    fn extents(&self) -> Vec<Extent> {
        self.shard(&self.shard_key(0), 0).extents(BLOCK).collect()
    }

    fn free_list_keys(&self) -> Vec<Bytes> {
        let ranges = match self.free_list {
            FreeList::Pages => vec![keys::all_bitmap_pages(0), keys::all_bitmap_pages(1)],
            FreeList::Merge => vec![keys::all_bitmap_chunks()],
        };
        let ranges = ranges.into_iter().map(|(start, end)| self.entries.range(start..end));
        ranges.flatten().map(|(key, _)| key.clone()).collect()
    }
}

/// Damage, and what is known of its repair.
pub struct Damage {
    pub name: &'static str,
    pub plant: fn(&Known) -> Vec<KvOp>,
    /// A kind of finding that tells of it; none if the store does not even open.
    finding: Option<&'static str>,
    /// What has to be given up: bytes of the victim, or objects.
    pub loses: Loses,
}

/// What a repair may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loses {
    Nothing,
    /// It needs leave to discard, and the victim may be another afterwards, or gone.
    Victim,
    /// It needs leave, but nobody loses anything.
    Nobody,
}

const GARBAGE: Bytes = Bytes::from_static(b"?");

pub const ALL: &[Damage] = &[
    Damage {
        name: "space that nobody has is marked used",
        finding: Some("extent-leak"),
        loses: Loses::Nothing,
        plant: |known| {
            known.with_free_list(|bitmap| {
                let request = Request { len: 3 * BLOCK, unit: BLOCK, extents_max: 3, hint: None };
                bitmap.allocate(&request, &mut Vec::new()).expect("room");
            })
        },
    },
    Damage {
        name: "space of an object is marked free",
        finding: Some("extent-not-allocated"),
        loses: Loses::Nothing,
        plant: |known| {
            let extents = known.extents();
            known.with_free_list(|bitmap| bitmap.release(extents[0]).expect("used"))
        },
    },
    Damage {
        name: "the free list is garbage",
        finding: None,
        loses: Loses::Nothing,
        plant: |known| known.free_list_keys().into_iter().map(|key| KvOp::Put(key, GARBAGE)).collect(),
    },
    Damage {
        name: "the free list is gone",
        finding: None,
        loses: Loses::Nothing,
        plant: |known| known.free_list_keys().into_iter().map(KvOp::Delete).collect(),
    },
    Damage {
        name: "a share counts too many uses",
        finding: Some("share-uses"),
        loses: Loses::Nothing,
        plant: |known| {
            let (key, mut share) = known.share();
            share.uses[0] += 3;
            vec![KvOp::Put(key, share.encode())]
        },
    },
    Damage {
        name: "a share counts too few uses",
        finding: Some("share-uses"),
        loses: Loses::Nothing,
        plant: |known| {
            let (key, mut share) = known.share();
            share.uses[1] -= 1;
            vec![KvOp::Put(key, share.encode())]
        },
    },
    Damage {
        name: "a share says that a block in use is free",
        finding: Some("share-uses"),
        loses: Loses::Nothing,
        plant: |known| {
            let (key, mut share) = known.share();
            share.uses[0] = 0;
            vec![KvOp::Put(key, share.encode())]
        },
    },
    Damage {
        name: "a share is gone",
        finding: Some("share-missing"),
        loses: Loses::Nothing,
        plant: |known| vec![KvOp::Delete(known.share().0)],
    },
    Damage {
        name: "a share is garbage",
        finding: Some("share"),
        loses: Loses::Nothing,
        plant: |known| vec![KvOp::Put(known.share().0, GARBAGE)],
    },
    Damage {
        name: "a share has another pool",
        finding: Some("share-pool"),
        loses: Loses::Nothing,
        plant: |known| {
            let (key, share) = known.share();
            vec![KvOp::Put(key, Share { pool: 99, ..share }.encode())]
        },
    },
    Damage {
        name: "nobody uses a share",
        finding: Some("share-uses"),
        loses: Loses::Nothing,
        plant: |known| {
            let free = known.bitmap.next_free(0).expect("free space");
            let share = Share { pool: 7, since: 1, uses: SmallVec::from_slice(&[1]) };
            vec![KvOp::Put(keys::share(1 << 40, free.start), share.encode())]
        },
    },
    Damage {
        name: "a share lies outside of the device",
        finding: Some("share"),
        loses: Loses::Nothing,
        plant: |known| {
            let share = Share { pool: 7, since: 1, uses: SmallVec::from_slice(&[1]) };
            vec![KvOp::Put(keys::share(1 << 40, known.superblock.window), share.encode())]
        },
    },
    Damage {
        name: "nobody has an omap",
        finding: Some("omap-without-owner"),
        loses: Loses::Nothing,
        plant: |_| {
            let entry = |id, key| KvOp::Put(keys::omap_entry(id, key), GARBAGE);
            vec![entry(1 << 40, b"a"), entry(1 << 40, b"b"), entry(u64::MAX, b"c")]
        },
    },
    Damage {
        name: "an omap in use is to be removed",
        finding: Some("omap-removed"),
        loses: Loses::Nothing,
        plant: |known| vec![KvOp::Put(keys::reap(known.onode().omap_id), Bytes::new())],
    },
    Damage {
        name: "an omap id would be given out again",
        finding: Some("omap-id"),
        loses: Loses::Nothing,
        plant: |known| {
            let checkpoint = CheckpointRecord { next_omap_id: 1, ..known.checkpoint() };
            vec![KvOp::Put(keys::CHECKPOINT, checkpoint.encode())]
        },
    },
    Damage {
        name: "an onode counts other omap keys",
        finding: Some("omap-statistics"),
        loses: Loses::Nothing,
        plant: |known| vec![known.put(&Onode { omap_keys: 77, ..known.onode() })],
    },
    Damage {
        name: "an onode counts other bytes",
        finding: Some("object-statistics"),
        loses: Loses::Nothing,
        plant: |known| {
            let onode = known.onode();
            let allocated = onode.allocated + BLOCK;
            vec![known.put(&Onode { allocated, ..onode })]
        },
    },
    Damage {
        name: "a pool's statistics are wrong",
        finding: Some("pool-statistics"),
        loses: Loses::Nothing,
        plant: |_| {
            let delta = PoolStats { objects: 3, bytes: -5, omap_bytes: 7, ..PoolStats::default() };
            let mut operand = Encoder::new();
            delta.to_array().into_iter().for_each(|value| operand.i64(value));
            vec![KvOp::Merge(keys::statistics(7), operand.into_bytes())]
        },
    },
    Damage {
        name: "nobody has a shard",
        finding: Some("shard-without-onode"),
        loses: Loses::Nothing,
        plant: |known| {
            let shard = known.entries[&known.shard_key(0)].clone();
            vec![KvOp::Put(keys::shard(&keys::onode(&object("nobody", 2)), 0), shard)]
        },
    },
    Damage {
        name: "an onode does not name a shard",
        finding: Some("shard-without-onode"),
        loses: Loses::Nothing,
        plant: |known| vec![KvOp::Put(known.shard_key(1000), GARBAGE)],
    },
    Damage {
        name: "an onode is garbage",
        finding: Some("onode"),
        loses: Loses::Victim,
        plant: |known| vec![KvOp::Put(known.onode_key(), GARBAGE)],
    },
    Damage {
        name: "an onode is another object's",
        finding: Some("onode"),
        loses: Loses::Victim,
        plant: |known| {
            let value = known.onode().encode(&keys::onode(&object("another", 9)));
            vec![KvOp::Put(known.onode_key(), value)]
        },
    },
    Damage {
        name: "a shard is garbage",
        finding: Some("shard"),
        loses: Loses::Victim,
        plant: |known| vec![KvOp::Put(known.shard_key(0), GARBAGE)],
    },
    Damage {
        name: "a shard is gone",
        finding: Some("shard-missing"),
        loses: Loses::Victim,
        plant: |known| vec![KvOp::Delete(known.shard_key(1))],
    },
    Damage {
        name: "data lies behind an object's end",
        finding: Some("data-beyond-size"),
        loses: Loses::Victim,
        plant: |known| vec![known.put(&Onode { size: SPAN + 5000, ..known.onode() })],
    },
    Damage {
        name: "an object claims what another one has",
        finding: Some("extent-overlap"),
        loses: Loses::Victim,
        plant: |known| {
            // As if an older state of the victim had come back: what it says of its blocks is not what is there.
            let other = known.shard(&keys::shard(&keys::onode(&object("other", 3)), 0), 0);
            let (address, blob) = other.blobs.iter().next().expect("a blob");
            let mut shard = known.shard(&known.shard_key(0), 0);
            let (own, mut mine) =
                shard.blobs.iter().map(|(at, blob)| (*at, blob.clone())).next().expect("a blob");
            shard.blobs.remove(own);
            mine.checksums = mine.checksums.slice(0..blob.checksums.len().min(mine.checksums.len()));
            let bytes = mine.bytes(BLOCK);
            shard.blobs.insert(*address, mine);
            let (at, mut piece) =
                shard.pieces.iter().map(|(at, piece)| (*at, *piece)).next().expect("a piece");
            (piece.blob, piece.len) = (*address, u32::try_from(bytes).expect("small"));
            shard.pieces = [(at, piece)].into();
            vec![KvOp::Put(known.shard_key(0), shard.encode(BLOCK))]
        },
    },
    Damage {
        name: "two objects have one omap",
        finding: Some("omap-shared"),
        loses: Loses::Victim,
        plant: |known| {
            // The first one keeps it.
            let name = object("compressed", 8);
            let key = keys::onode(&name);
            let other = Onode::decode(known.entries[&key].clone(), &key, &name);
            let omap_id = other.expect("an onode").omap_id;
            vec![known.put(&Onode { omap_id, ..known.onode() })]
        },
    },
    Damage {
        name: "a key of an object cannot be read",
        finding: Some("key"),
        loses: Loses::Nobody,
        plant: |_| vec![KvOp::Put(Bytes::from_static(b"O?"), GARBAGE)],
    },
    Damage {
        name: "a key of an omap cannot be read",
        finding: Some("key"),
        loses: Loses::Nobody,
        plant: |_| vec![KvOp::Put(Bytes::from_static(b"Mxy"), GARBAGE)],
    },
];

/// A closed store of several objects: shared, compressed, small, and with omaps.
pub async fn populate(world: &World, core: &Core) {
    world.format(core).await;
    let store = world.mount(core).await.expect("mount");
    store.submit(Generator::prologue()).durable.await.expect("create");
    let collection = collection();
    let put = |object: &ObjectId, data: Bytes| Op::Write {
        collection,
        object: object.clone(),
        offset: 0,
        data: vec![data],
    };
    let omap = |object: &ObjectId, count: u32| Op::OmapSet {
        collection,
        object: object.clone(),
        entries: (0..count).map(|n| (Bytes::from(format!("key{n}")), pattern(n.into(), 90))).collect(),
    };
    let names = [victim(), object("other", 3), object("cloned", 5)];
    for (salt, name) in (1..).zip(&names) {
        let ops = vec![put(name, pattern(salt, 150_000)), omap(name, 7)];
        store.submit(Transaction { ops }).durable.await.expect("write");
    }
    let target = ObjectId { snap: 4, ..names[2].clone() };
    let ops = vec![Op::Clone { collection, object: names[2].clone(), target }];
    store.submit(Transaction { ops }).durable.await.expect("clone");
    let ops = vec![put(&object("small", 7), pattern(9, 300)), omap(&object("small", 7), 1)];
    store.submit(Transaction { ops }).durable.await.expect("write");
    let compression = Compression { mode: CompressionMode::Force, ..Compression::default() };
    store.set_pool_options(7, PoolOptions { compression: Some(compression), ..PoolOptions::default() });
    let name = object("compressed", 8);
    let ops = vec![put(&name, half_noise(3, 140_000)), omap(&name, 2)];
    store.submit(Transaction { ops }).durable.await.expect("write");
    store.close().await.expect("close");
}

/// What its keys are.
pub async fn known(world: &World, core: &Core) -> Known {
    let device = world.device(core);
    let superblock = Engine::superblock(&*device).await.expect("a superblock");
    let kv = world.open_kv(core, &device).await.expect("open").kv;
    let bitmap = free_list::read(&*device, &kv, &kv.view(), &superblock, superblock.window)
        .await
        .expect("a free list");
    let mut entries = BTreeMap::new();
    let mut start = Bytes::new();
    loop {
        let limit = ScanLimit { keys: 1000, bytes: 1 << 20 };
        let page = kv.scan(&kv.view(), start, Bytes::new(), limit).await.expect("scan");
        let last = page.entries.last().filter(|_| page.more).map(|(key, _)| keys::after(key));
        entries.extend(page.entries);
        match last {
            Some(last) => start = last,
            None => break,
        }
    }
    kv.close().await.expect("close");
    Known { entries, free_list: world.format.free_list, superblock, bitmap }
}

/// Changes the keys of a closed store.
pub async fn plant(world: &World, core: &Core, ops: Vec<KvOp>) {
    let device = world.device(core);
    let kv = world.open_kv(core, &device).await.expect("open").kv;
    kv.apply(KvBatch { ops }).await.expect("apply");
    kv.flush().await.expect("flush");
    kv.close().await.expect("close");
}

/// The objects, and what can be read of them.
pub type Content = BTreeMap<ObjectId, Option<ObjectDump>>;

/// What the check finds, and everything that can be read.
pub async fn look(world: &World, core: &Core) -> Result<(BTreeSet<&'static str>, Content), String> {
    let store = world.mount_on(core, world.device(core), true).await.map_err(|error| error.to_string())?;
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    let findings = report.findings.iter().map(|finding| finding.kind).collect();
    let (names, _) = store.list(collection(), None, 1000).await.expect("list");
    let mut content = Content::new();
    for name in names {
        content.insert(name.clone(), dump_object(&store, collection(), name).await.ok());
    }
    store.close().await.expect("close");
    Ok((findings, content))
}

/// The store can be used: objects are written, one goes, and it is clean.
async fn use_it(world: &World, core: &Core) {
    let store = world.mount(core).await.expect("mount");
    for (salt, name) in (50..).zip([victim(), object("new", 6)]) {
        let data = vec![pattern(salt, 200_000)];
        let op = Op::Write { collection: collection(), object: name, offset: 0, data };
        store.submit(Transaction { ops: vec![op] }).durable.await.expect("write");
    }
    let op = Op::Remove { collection: collection(), object: object("cloned", 5) };
    store.submit(Transaction { ops: vec![op] }).durable.await.expect("remove");
    store.close().await.expect("close");
    let (findings, _) = look(world, core).await.expect("it opens");
    assert_eq!(findings, BTreeSet::new(), "after it was used");
}

pub fn world(free_list: FreeList) -> World {
    let mut world = World::new(1, 8 << 20, 4096, 64 << 10);
    world.format.free_list = free_list;
    world.options.inline_bytes_max = 512;
    world.options.shard_span = u32::try_from(SPAN).expect("small");
    world
}

/// Everything but the victim is as it was.
pub fn others(mut content: Content) -> Content {
    content.remove(&victim());
    content
}

async fn check(core: &Core, damage: &Damage, free_list: FreeList, chunk: Option<u64>) {
    let name = damage.name;
    let mut world = world(free_list);
    world.options.checksum_chunk.min = chunk;
    populate(&world, core).await;
    let (findings, before) = look(&world, core).await.expect("it opens");
    assert_eq!((findings, before.len()), (BTreeSet::new(), 6));
    let ops = (damage.plant)(&known(&world, core).await);
    plant(&world, core, ops).await;
    let damaged = look(&world, core).await;
    match (&damaged, damage.finding) {
        (Ok((findings, _)), Some(kind)) => assert!(findings.contains(kind), "{name}: {findings:?}"),
        (Err(error), None) => assert!(error.contains("is corrupt"), "{name}: {error}"),
        (other, kind) => panic!("{name}: {other:?}, expected {kind:?}"),
    }

    let mut report = world.repair(core, RepairOptions::default()).await.expect(name);
    assert_eq!(report.lost, [], "{name}: nothing is lost without leave");
    if damage.loses != Loses::Nothing {
        let (findings, content) = look(&world, core).await.expect(name);
        let kind = damage.finding.expect("it opens");
        assert!(findings.contains(kind), "{name} is left as it is: {findings:?}");
        assert_eq!(others(content), others(before.clone()), "{name}");
        report = world.repair(core, RepairOptions { discards: true }).await.expect(name);
    }
    assert!(!report.repaired.is_empty(), "{name}");
    let (findings, after) = look(&world, core).await.expect(name);
    assert_eq!(findings, BTreeSet::new(), "{name}: {report:?}");
    match damage.loses {
        Loses::Victim => {
            assert!(!report.lost.is_empty(), "{name}");
            assert!(report.lost.iter().all(|loss| loss.object == victim()), "{name}: {:?}", report.lost);
            assert_eq!(others(after), others(before), "{name}");
        }
        Loses::Nothing | Loses::Nobody => {
            assert_eq!(report.lost, [], "{name}");
            assert_eq!(after, before, "{name}");
        }
    }
    let again = world.repair(core, RepairOptions { discards: true }).await.expect(name);
    assert_eq!(again, RepairReport::default(), "{name}: there is nothing left to do");
    use_it(&world, core).await;
}

#[test]
fn every_kind_of_damage_is_repaired() {
    // With checksums of single blocks, and of four.
    for (free_list, chunk) in FreeList::ALL.into_iter().zip([None, Some(16 << 10)]) {
        for damage in ALL {
            Sim::new(1, Config::default()).run(0, |core: Core| async move {
                check(&core, damage, free_list, chunk).await;
            });
        }
    }
}

/// What the device fails to read it may read another time: a repair gives nothing of it up.
#[test]
fn a_chunk_that_the_device_fails_to_read_is_left_as_it_is() {
    Sim::new(1, Config::default()).run(0, |core: Core| async move {
        let mut world = world(FreeList::ALL[0]);
        world.options.checksum_chunk.min = Some(16 << 10);
        populate(&world, &core).await;
        let known = known(&world, &core).await;
        let behind = ALL.iter().find(|damage| damage.name == "data lies behind an object's end");
        plant(&world, &core, (behind.expect("a kind of damage").plant)(&known)).await;
        let place = known.shard(&known.shard_key(1), 1).place(SPAN, BLOCK).expect("a block");
        assert_eq!(place.chunk_blocks, 4);
        let at = Rc::new(RefCell::new(BTreeSet::from([place.address])));
        let bad = Bad { below: world.device(&core), at: Rc::clone(&at), fails: true };
        let how = RepairOptions { discards: true };
        let report = world.repair_on(&core, Rc::new(bad), how).await.expect("repaired");
        // The shard behind it goes, of which nothing would stay.
        let is_next = |lost: &Lost| matches!(lost, Lost::Bytes { from, .. } if *from == 2 * SPAN);
        assert!(report.lost.len() == 1 && report.lost.iter().all(|loss| is_next(&loss.lost)), "{report:?}");
        let (findings, _) = look(&world, &core).await.expect("it opens");
        assert_eq!(findings, BTreeSet::from(["data-beyond-size"]));

        let report = world.repair(&core, how).await.expect("repaired");
        let is_behind = |lost: &Lost| matches!(lost, Lost::Bytes { from, .. } if *from >= SPAN + 5000);
        assert!(!report.lost.is_empty(), "{report:?}");
        assert!(report.lost.iter().all(|loss| is_behind(&loss.lost)), "{report:?}");
        let (findings, _) = look(&world, &core).await.expect("it opens");
        assert_eq!(findings, BTreeSet::new());
    });
}

#[test]
fn space_that_the_file_system_has_and_nobody_lent_is_lent_again() {
    for free_list in FreeList::ALL {
        Sim::new(1, Config::default()).run(0, |core: Core| async move {
            let world = world(free_list).stacked(192 << 10);
            populate(&world, &core).await;
            let (_, before) = look(&world, &core).await.expect("it opens");
            let checkpoint = known(&world, &core).await.checkpoint();
            assert!(!checkpoint.lent.is_empty(), "the file system has grown");
            let forgotten = CheckpointRecord { lent: Vec::new(), ..checkpoint.clone() };
            plant(&world, &core, vec![KvOp::Put(keys::CHECKPOINT, forgotten.encode())]).await;
            let (findings, _) = look(&world, &core).await.expect("it opens");
            assert_eq!(findings, BTreeSet::from(["extent-leak"]));
            let report = world.repair(&core, RepairOptions::default()).await.expect("repaired");
            assert!(report.repaired.iter().all(|one| one.kind == "loan"), "{report:?}");
            let (findings, after) = look(&world, &core).await.expect("it opens");
            assert_eq!((findings, after), (BTreeSet::new(), before));
            use_it(&world, &core).await;
        });
    }
}
