//! Objects in many pieces move to where they are in few, beside clients and whatever power does meanwhile; what others share, what
//! is compressed, what cannot be read and what has no better place stays.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use rt::sim::{Config, Sim};
use rt::{Core, Group};

use super::history::{ObjectDump, dump_object};
use super::world::World;
use crate::engine::{Engine, FreeList};
use crate::object_store::{Fragments, FsckLevel, ObjectStore, Unwatched};
use crate::suite::{Generator, collection, half_noise, join, object, pattern};
use crate::{Compression, CompressionMode, ObjectId, Op, PoolOptions, StoreError, Transaction};

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 24;

pub async fn submit(store: &Engine, op: Op) {
    store.submit(Transaction { ops: vec![op] }).durable.await.expect("done");
}

pub fn write(object: ObjectId, offset: u64, data: Bytes) -> Op {
    Op::Write { collection: collection(), object, offset, data: vec![data] }
}

fn defragment(object: ObjectId) -> Op {
    Op::Defragment { collection: collection(), object, offset: 0, len: 1 << 20 }
}

async fn fragments(store: &Engine, object: &ObjectId) -> Fragments {
    store.fragments(collection(), object, 0, u64::MAX).await.expect("fragments")
}

pub fn counter(store: &Engine, wanted: &str) -> u64 {
    store.stats().counters.iter().find(|(name, _)| *name == wanted).expect("a counter").1
}

/// The objects of a store.
pub async fn content(store: &Engine) -> BTreeMap<ObjectId, ObjectDump> {
    let (names, _) = store.list(collection(), None, 1000).await.expect("list");
    let mut content = BTreeMap::new();
    for name in names {
        content.insert(name.clone(), dump_object(store, collection(), name).await.expect("an object"));
    }
    content
}

pub async fn is_clean(store: &Engine) {
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    assert_eq!(report.findings, []);
}

/// Two objects that were written in turns, a block at a time, so that neither has two blocks side by side.
async fn torn(store: &Engine) -> [ObjectId; 2] {
    let names = [object("torn", 1), object("other", 2)];
    for number in 0..BLOCKS {
        for (salt, name) in (100..).zip(&names) {
            submit(store, write(name.clone(), number * BLOCK, pattern(salt + number, 4096))).await;
        }
    }
    names
}

pub fn world(free_list: FreeList) -> World {
    let mut world = World::new(1, 8 << 20, 4096, 128 << 10);
    world.format.free_list = free_list;
    world.options.shard_span = 32 << 10;
    world
}

pub fn run<T: 'static>(main: impl AsyncFnOnce(Core, World) -> T + 'static) -> T {
    Sim::new(1, Config::default()).run(0, |core| async move { main(core, world(FreeList::Pages)).await })
}

pub async fn open(core: &Core, world: &World) -> Engine {
    world.format(core).await;
    let store = world.mount(core).await.expect("mount");
    store.submit(Generator::prologue()).durable.await.expect("create");
    store
}

#[test]
fn many_pieces_become_one_and_nothing_else_changes() {
    run(async |core, world| {
        let store = open(&core, &world).await;
        let [name, other] = torn(&store).await;
        let (before, free) = (content(&store).await, store.stats().free_pieces);
        let bytes = BLOCKS * BLOCK;
        assert_eq!(fragments(&store, &name).await, Fragments { bytes, pieces: BLOCKS, islands: 0 });
        submit(&store, defragment(name.clone())).await;
        assert_eq!(fragments(&store, &name).await, Fragments { bytes, pieces: 1, islands: 0 });
        assert_eq!(fragments(&store, &other).await.pieces, BLOCKS, "nobody asked for that");
        submit(&store, defragment(other.clone())).await;
        assert_eq!(fragments(&store, &other).await.pieces, 1);
        assert_eq!(content(&store).await, before);
        store.checkpoint().await.expect("checkpoint");
        assert!(store.stats().free_pieces <= free + 2, "{:?}", store.stats().free_pieces);
        let counted = ["defragmented_bytes", "defragmented_from", "defragmented_to"];
        assert_eq!(counted.map(|name| counter(&store, name)), [2 * bytes, 2 * BLOCKS, 2]);
        // In one piece already, it stays where it is.
        let places = store.block_places(collection(), &name).await.expect("places");
        submit(&store, defragment(name.clone())).await;
        assert_eq!(store.block_places(collection(), &name).await.expect("places"), places);
        is_clean(&store).await;
        store.close().await.expect("close");
        let store = world.mount(&core).await.expect("mount");
        assert_eq!(content(&store).await, before);
        let gone = Op::Defragment { collection: collection(), object: object("gone", 3), offset: 0, len: 1 };
        let refused = store.submit(Transaction { ops: vec![gone] }).readable.await;
        assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
    });
}

#[test]
fn only_the_range_moves_and_a_write_in_the_same_transaction_counts() {
    run(async |core, world| {
        let store = open(&core, &world).await;
        let [name, _] = torn(&store).await;
        let range =
            |offset, len| Op::Defragment { collection: collection(), object: name.clone(), offset, len };
        submit(&store, range(2 * BLOCK + 5, 3 * BLOCK)).await;
        assert_eq!(fragments(&store, &name).await.pieces, BLOCKS - 3, "blocks 2 to 5 are one piece");
        let mut expected = join(store.read(collection(), &name, 0, u64::MAX).await.expect("read"));
        let new = pattern(7, 5000);
        expected[10_000..15_000].copy_from_slice(&new);
        let ops = vec![write(name.clone(), 10_000, new), range(0, 1 << 20)];
        store.submit(Transaction { ops }).durable.await.expect("both");
        assert_eq!(join(store.read(collection(), &name, 0, u64::MAX).await.expect("read")), expected);
        // The two blocks that were written in part stay where they are.
        assert!(fragments(&store, &name).await.pieces <= 4);
        is_clean(&store).await;
    });
}

#[test]
fn islands_go_and_free_space_is_in_fewer_pieces() {
    run(async |core, world| {
        let store = open(&core, &world).await;
        let name = |number: u32| object(&format!("small-{number}"), number);
        for number in 0..30 {
            submit(&store, write(name(number), 0, pattern(number.into(), 4096))).await;
        }
        for number in (0..30).filter(|number| number % 3 != 1) {
            submit(&store, Op::Remove { collection: collection(), object: name(number) }).await;
        }
        store.checkpoint().await.expect("checkpoint");
        let (pieces, score) = (store.stats().free_pieces, store.stats().fragmentation_permille);
        assert!(pieces >= 9 && score > 0, "{pieces} {score}");
        assert_eq!(fragments(&store, &name(4)).await, Fragments { bytes: BLOCK, pieces: 1, islands: 1 });
        let before = content(&store).await;
        for number in (0..30).filter(|number| number % 3 == 1) {
            submit(&store, defragment(name(number))).await;
            store.checkpoint().await.expect("checkpoint");
        }
        assert!(store.stats().free_pieces * 2 < pieces, "{} of {pieces}", store.stats().free_pieces);
        assert!(store.stats().fragmentation_permille < score);
        assert_eq!(content(&store).await, before);
        is_clean(&store).await;
    });
}

#[test]
fn what_is_shared_or_compressed_or_unreadable_or_has_no_better_place_stays() {
    run(async |core, world| {
        let store = open(&core, &world).await;
        let [shared, damaged] = torn(&store).await;
        let target = ObjectId { snap: 3, ..shared.clone() };
        submit(&store, Op::Clone { collection: collection(), object: shared.clone(), target }).await;
        let compression = Compression { mode: CompressionMode::Force, ..Compression::default() };
        store.set_pool_options(7, PoolOptions { compression: Some(compression), ..PoolOptions::default() });
        let packed = object("packed", 4);
        submit(&store, write(packed.clone(), 0, half_noise(5, 96 << 10))).await;
        store.set_pool_options(7, PoolOptions::default());
        let places = async |name: &ObjectId| store.block_places(collection(), name).await.expect("places");
        for name in [&shared, &packed] {
            let before = places(name).await;
            assert_eq!(fragments(&store, name).await, Fragments::default(), "{name}");
            submit(&store, defragment(name.clone())).await;
            assert_eq!(places(name).await, before, "{name}");
        }
        // A block of it is damaged on the disk.
        let before = places(&damaged).await;
        world.disk.corrupt(before[5].address + 9, 1);
        submit(&store, defragment(damaged.clone())).await;
        assert_eq!(places(&damaged).await, before);
        let read = store.read(collection(), &damaged, 5 * BLOCK, 10).await;
        assert!(matches!(read, Err(StoreError::Io(_))), "{read:?}");
        store.read(collection(), &damaged, 6 * BLOCK, 10).await.expect("the others can be read");
        store.close().await.expect("close");
    });
}

/// A client that writes an object over and over, all of it with the number of the write.
async fn busy(store: Rc<Engine>, submitted: Rc<Cell<u64>>, acknowledged: Rc<Cell<u64>>) {
    loop {
        let number = submitted.get() + 1;
        submitted.set(number);
        let data = Bytes::from(number.to_le_bytes().repeat(2000));
        let written = store.submit(Transaction { ops: vec![write(object("busy", 9), 0, data)] });
        // Beside it, so that records of both are in one group.
        drop(store.submit(Transaction { ops: vec![defragment(object("busy", 9))] }).readable.await);
        if written.durable.await.is_err() {
            return;
        }
        acknowledged.set(number);
    }
}

/// Cuts power at write `at` of what `act` does beside a client with what `prepare` made, and which must not change what is stored;
/// false if that was over before.
pub fn cut(
    (free_list, at, crash): (FreeList, u64, u64),
    prepare: impl AsyncFnOnce(&Engine) + 'static,
    act: impl AsyncFnOnce(&Engine) + 'static,
) -> bool {
    let sim = Sim::new(at << 8 | crash, Config::default());
    let torn_world = Rc::new(world(free_list).stacked(1 << 20));
    let world = Rc::clone(&torn_world);
    let before = sim.run(0, move |core| async move {
        let store = open(&core, &world).await;
        prepare(&store).await;
        submit(&store, write(object("busy", 9), 0, Bytes::from(0u64.to_le_bytes().repeat(2000)))).await;
        let mut before = content(&store).await;
        before.remove(&object("busy", 9));
        store.close().await.expect("close");
        before
    });
    let core = sim.core(0);
    let (submitted, acknowledged, done) =
        (Rc::<Cell<u64>>::default(), Rc::<Cell<u64>>::default(), Rc::<Cell<bool>>::default());
    let begun = Rc::<Cell<u64>>::default();
    {
        let (world, begun, done) = (Rc::clone(&torn_world), Rc::clone(&begun), Rc::clone(&done));
        let numbers = (Rc::clone(&submitted), Rc::clone(&acknowledged));
        core.clone().spawn(Group::Client, "defragments", async move {
            let store = Rc::new(world.mount(&core).await.expect("mount"));
            core.spawn(Group::Client, "busy", busy(Rc::clone(&store), numbers.0, numbers.1));
            begun.set(world.disk.counters().writes);
            act(&store).await;
            done.set(true);
        });
    }
    while !done.get() && (begun.get() == 0 || torn_world.disk.counters().writes < begun.get() + at) {
        assert!(sim.step(), "it makes progress");
    }
    if done.get() {
        return false;
    }
    for _ in 0..crash * 5 {
        sim.step();
    }
    sim.kill_silently(0);
    if crash % 4 == 3 {
        torn_world.end_process()
    } else {
        torn_world.crash()
    }
    let (submitted, acknowledged) = (submitted.get(), acknowledged.get());
    let after = Rc::clone(&torn_world);
    sim.run(0, move |core| async move {
        let store = after.mount(&core).await.expect("mount");
        is_clean(&store).await;
        let mut found = content(&store).await;
        let data = found.remove(&object("busy", 9)).expect("it is there").data;
        let number = u64::from_le_bytes(data[..8].try_into().expect("eight"));
        assert_eq!(data, number.to_le_bytes().repeat(2000), "of one write");
        assert!((acknowledged..=submitted).contains(&number), "{number}: {acknowledged} to {submitted}");
        assert_eq!(found, before, "cut at write {at}, crash {crash}");
        store.close().await.expect("close");
    });
    let counters = torn_world.disk.counters();
    assert_eq!((counters.racing_writes, counters.racing_reads), (0, 0));
    true
}

#[test]
fn power_may_be_cut_at_any_write() {
    let mut cuts = 0;
    for free_list in FreeList::ALL {
        for crash in 0..4 {
            let prepare = async |store: &Engine| drop(torn(store).await);
            let act = async |store: &Engine| {
                for name in [object("torn", 1), object("other", 2)] {
                    submit(store, defragment(name)).await;
                    store.checkpoint().await.expect("checkpoint");
                }
            };
            cuts += (1..).take_while(|at| cut((free_list, *at, crash), prepare, act)).count();
        }
    }
    println!("{cuts} cuts");
    assert!(cuts >= 100, "{cuts}");
}
