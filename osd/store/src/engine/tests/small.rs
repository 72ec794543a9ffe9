//! Small objects that are kept among the keys: when they are, when they leave, and that nobody sees the difference.

use std::rc::Rc;

use bytes::Bytes;
use rt::Core;
use rt::sim::{Config, Sim};

use super::world::World;
use crate::engine::Engine;
use crate::object_store::{FsckLevel, ObjectStore, StoreError, Unwatched};
use crate::suite::{Generator, collection, join, object, pattern};
use crate::types::PoolStats;
use crate::{ObjectId, Op, Transaction};

const BLOCK: i64 = 4096;
const MOST: usize = 1000;

fn with_store(test: impl AsyncFn(Core, Rc<World>, Engine) + 'static) {
    let sim = Sim::new(1, Config::default());
    let mut world = World::new(1, 16 << 20, 4096, 256 << 10);
    world.options.inline_bytes_max = MOST as u64;
    let world = Rc::new(world);
    sim.run(0, |core| async move {
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        test(core, Rc::clone(&world), store).await;
    });
}

fn name() -> ObjectId {
    object("name", 1)
}

fn write(offset: u64, data: Bytes) -> Op {
    Op::Write { collection: collection(), object: name(), offset, data: vec![data] }
}

fn truncate(size: u64) -> Op {
    Op::Truncate { collection: collection(), object: name(), size }
}

async fn commit(store: &Engine, ops: Vec<Op>) {
    store.submit(Transaction { ops }).durable.await.expect("commit");
}

async fn read(store: &Engine, name: &ObjectId) -> Vec<u8> {
    join(store.read(collection(), name, 0, u64::MAX).await.expect("read"))
}

async fn is_sound(store: &Engine) {
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    assert_eq!(report.findings, []);
}

fn pool(store: &Engine) -> PoolStats {
    store.pool_stats().first().map(|(_, stats)| *stats).unwrap_or_default()
}

fn counter(store: &Engine, name: &str) -> u64 {
    store.stats().counters.iter().find(|(other, _)| *other == name).map(|(_, value)| *value).expect("counter")
}

#[test]
fn what_is_small_takes_no_block_until_it_grows() {
    with_store(async |core, world, store| {
        commit(&store, vec![write(0, pattern(1, 500))]).await;
        commit(&store, vec![write(100, pattern(2, 50)), write(500, pattern(3, 100))]).await;
        let mut expect = [&pattern(1, 500)[..], &pattern(3, 100)].concat();
        expect[100..150].copy_from_slice(&pattern(2, 50));
        assert_eq!(read(&store, &name()).await, expect);
        let stats = pool(&store);
        assert_eq!((stats.stored, stats.bytes, stats.allocated), (600, 600, 0));
        assert_eq!(counter(&store, "data_bytes_written"), 0);
        assert_eq!(store.block_places(collection(), &name()).await, Ok(vec![]));
        is_sound(&store).await;
        store.close().await.expect("close");
        let store = world.mount(&core).await.expect("mount");
        assert_eq!(read(&store, &name()).await, expect);
        assert_eq!(join(store.read(collection(), &name(), 590, 100).await.expect("read")), expect[590..]);

        // Too large, and a part of it is enough of a change to move all.
        let more = pattern(4, MOST - 600 + 1);
        commit(&store, vec![write(600, more.clone())]).await;
        expect.extend_from_slice(&more);
        assert_eq!(read(&store, &name()).await, expect);
        assert_eq!((pool(&store).stored, pool(&store).allocated), (MOST as i64 + 1, BLOCK));
        is_sound(&store).await;
        // What is on the device stays there until it is written whole.
        commit(&store, vec![truncate(200), write(50, pattern(5, 10))]).await;
        expect.truncate(200);
        expect[50..60].copy_from_slice(&pattern(5, 10));
        assert_eq!(read(&store, &name()).await, expect);
        assert_eq!(pool(&store).allocated, BLOCK);
        commit(&store, vec![truncate(0), write(0, pattern(6, MOST))]).await;
        assert_eq!(read(&store, &name()).await, pattern(6, MOST));
        assert_eq!((pool(&store).stored, pool(&store).allocated), (MOST as i64, 0));
        is_sound(&store).await;
        commit(&store, vec![Op::Remove { collection: collection(), object: name() }]).await;
        assert_eq!(store.pool_stats(), []);
    });
}

#[test]
fn taking_away_needs_no_block() {
    with_store(async |_, _, store| {
        commit(&store, vec![write(0, pattern(1, 500)), truncate(1 << 20)]).await;
        commit(&store, vec![write(700_000, pattern(2, 5000))]).await;
        let mut number = 0;
        loop {
            let object = object(&format!("block{number}"), 1);
            let data = vec![pattern(number, 4096)];
            let op = Op::Write { collection: collection(), object, offset: 0, data };
            match store.submit(Transaction { ops: vec![op] }).durable.await {
                Ok(()) => number += 1,
                Err(StoreError::NoSpace(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        let before = pool(&store).allocated;
        commit(&store, vec![Op::Zero { collection: collection(), object: name(), offset: 10, len: 5 }]).await;
        commit(&store, vec![truncate(800_000)]).await;
        commit(&store, vec![truncate(65_536)]).await;
        let mut expect = pattern(1, 500).to_vec();
        expect[10..15].fill(0);
        expect.resize(65_536, 0);
        assert_eq!(read(&store, &name()).await, expect);
        assert_eq!(pool(&store).allocated, before - 3 * BLOCK, "the 5000 bytes");
        is_sound(&store).await;
    });
}

#[test]
fn what_was_small_is_so_with_a_lower_bound_until_more_is_written() {
    let sim = Sim::new(1, Config::default());
    let mut world = World::new(1, 16 << 20, 4096, 256 << 10);
    world.options.inline_bytes_max = MOST as u64;
    sim.run(0, |core| async move {
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        commit(&store, vec![write(0, pattern(1, MOST))]).await;
        store.close().await.expect("close");
        world.options.inline_bytes_max = 100;
        let store = world.mount(&core).await.expect("mount");
        commit(&store, vec![truncate(MOST as u64 - 1)]).await;
        assert_eq!(pool(&store).allocated, 0);
        commit(&store, vec![write(MOST as u64 - 1, pattern(2, 2))]).await;
        assert_eq!(pool(&store).allocated, BLOCK);
        is_sound(&store).await;
    });
}

#[test]
fn holes_stay_holes() {
    with_store(async |core, world, store| {
        commit(&store, vec![write(10, pattern(1, 10)), write(30, pattern(2, 10)), write(40, pattern(3, 5))])
            .await;
        commit(&store, vec![Op::Zero { collection: collection(), object: name(), offset: 12, len: 3 }]).await;
        let ranges = vec![(10, 2), (15, 5), (30, 15)];
        let mut expect = vec![0; 45];
        expect[10..20].copy_from_slice(&pattern(1, 10));
        expect[12..15].fill(0);
        expect[30..40].copy_from_slice(&pattern(2, 10));
        expect[40..].copy_from_slice(&pattern(3, 5));
        commit(&store, vec![truncate(100)]).await;
        expect.resize(100, 0);
        store.close().await.expect("close");
        let store = world.mount(&core).await.expect("mount");
        assert_eq!(store.extents(collection(), &name(), 0, u64::MAX).await, Ok(ranges));
        assert_eq!(store.extents(collection(), &name(), 16, 15).await, Ok(vec![(16, 4), (30, 1)]));
        assert_eq!(read(&store, &name()).await, expect);
        assert_eq!((pool(&store).stored, pool(&store).allocated), (22, 0));
        is_sound(&store).await;
    });
}

#[test]
fn clones_have_bytes_of_their_own() {
    with_store(async |_, _, store| {
        let snap = ObjectId { snap: 1, ..name() };
        let clone =
            |object: ObjectId, target: ObjectId| Op::Clone { collection: collection(), object, target };
        commit(&store, vec![write(0, pattern(1, 300))]).await;
        commit(&store, vec![clone(name(), snap.clone())]).await;
        commit(&store, vec![write(0, pattern(2, 100))]).await;
        assert_eq!(read(&store, &snap).await, pattern(1, 300));
        assert_eq!(read(&store, &name()).await, [&pattern(2, 100)[..], &pattern(1, 300)[100..]].concat());
        assert_eq!((pool(&store).stored, pool(&store).allocated), (600, 0));
        // Grown and cloned in one transaction, and back to what was there before.
        commit(&store, vec![write(300, pattern(3, MOST)), clone(name(), ObjectId { snap: 2, ..name() })])
            .await;
        assert_eq!(pool(&store).allocated, 2 * BLOCK, "what is new is each one's own");
        commit(&store, vec![clone(snap.clone(), name())]).await;
        assert_eq!(read(&store, &name()).await, pattern(1, 300));
        assert_eq!(pool(&store).allocated, BLOCK);
        is_sound(&store).await;
    });
}
