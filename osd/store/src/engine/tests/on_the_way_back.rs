//! Space on its way back to the allocator, and in-place writes on their way to the device: nobody who needs the space
//! is refused or left waiting meanwhile, and nothing reaches the device after the store let go of it.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use nvme::{SimDisk, SimDiskConfig};
use rt::sim::{Config, Sim};
use rt::{Core, Group};

use super::world::World;
use crate::engine::Engine;
use crate::object_store::{ObjectStore, StoreError, StoreResult};
use crate::suite::{Generator, collection, object, pattern};
use crate::{ObjectId, Op, Transaction};

fn in_a_world(seed: u64, world: World, test: impl AsyncFn(Core, Rc<World>) + 'static) {
    let sim = Sim::new(seed, Config::default());
    let world = Rc::new(world);
    sim.run(0, |core| async move {
        world.format(&core).await;
        test(core, world).await;
    });
}

async fn mount(core: &Core, world: &World) -> Engine {
    let store = world.mount(core).await.expect("mount");
    store.submit(Generator::prologue()).durable.await.expect("create");
    store
}

async fn commit(store: &Engine, op: Op) -> StoreResult<()> {
    store.submit(Transaction { ops: vec![op] }).durable.await
}

fn write(name: &ObjectId, data: Bytes) -> Op {
    Op::Write { collection: collection(), object: name.clone(), offset: 0, data: vec![data] }
}

fn remove(name: &ObjectId) -> Op {
    Op::Remove { collection: collection(), object: name.clone() }
}

async fn fill(store: &Engine) {
    for number in 0..1000u32 {
        match commit(store, write(&object(&format!("fill-{number}"), number), pattern(1, 30_000))).await {
            Ok(()) => {}
            Err(StoreError::NoSpace(_)) => return,
            Err(other) => panic!("object {number}: {other}"),
        }
    }
    panic!("the device never fills");
}

#[test]
fn space_that_is_being_discarded_is_waited_for() {
    let mut world = World::new(1, 2 << 20, 4096, 64 << 10);
    world.options.discard = true;
    in_a_world(1, world, async |core, world| {
        let store = mount(&core, &world).await;
        fill(&store).await;
        commit(&store, remove(&object("fill-0", 0))).await.expect("remove");
        commit(&store, write(&object("next", 1), pattern(2, 30_000))).await.expect("its space comes back");
        store.close().await.expect("close");
    });
}

#[test]
fn no_discard_is_under_way_when_the_store_is_closed() {
    for seed in 0..10 {
        let mut config = SimDiskConfig::new("disk", 2 << 20);
        config.latency.flush = (Duration::from_micros(1), Duration::from_micros(1));
        let mut world = World::new(seed, 2 << 20, 4096, 64 << 10);
        world.disk = SimDisk::new(config, seed);
        world.options.discard = true;
        in_a_world(seed, world, async |core, world| {
            let store = mount(&core, &world).await;
            let name = object("name", 1);
            commit(&store, write(&name, pattern(1, 30_000))).await.expect("write");
            commit(&store, remove(&name)).await.expect("remove");
            store.close().await.expect("close");
            assert!(world.disk.counters().discards > 0, "there was something to discard");
            let under_way = world.disk.unsettled().into_iter().filter(|write| !write.completed);
            assert_eq!(under_way.count(), 0, "whoever opens the device next may write there");
        });
    }
}

/// A store on a disk that reads slowly, in which whole blocks are deferred and written in place one by one.
fn deferring(seed: u64) -> World {
    let mut config = SimDiskConfig::new("disk", 8 << 20);
    config.latency.read = (Duration::from_millis(40), Duration::from_millis(40));
    let mut world = World::new(seed, 8 << 20, 4096, 1 << 20);
    world.disk = SimDisk::new(config, seed);
    world.options.deferred_whole_max = 4096;
    world.options.deferred_batch_bytes = 4096;
    world
}

/// Defers a block of `name`, and starts the batch that writes it, behind a read that takes its time.
async fn start_a_batch(core: &Core, store: &Engine, name: &ObjectId, read: &ObjectId) {
    commit(store, write(name, pattern(7, 4096))).await.expect("deferred");
    let slow = store.read(collection(), read, 0, 10);
    drop(core.spawn(Group::Client, "slow read", async move {
        slow.await.expect("read");
    }));
    rt::sync::yield_now().await;
    let nothing =
        Op::RemoveAttr { collection: collection(), object: name.clone(), name: Bytes::from_static(b"x") };
    commit(store, nothing).await.expect("a record that tells of the deferred one");
}

#[test]
fn space_under_a_deferred_write_comes_back_although_another_batch_runs() {
    in_a_world(2, deferring(2), async |core, world| {
        let store = mount(&core, &world).await;
        let (first, second, spare) = (object("first", 1), object("second", 2), object("spare", 3));
        commit(&store, write(&first, pattern(1, 4096))).await.expect("write");
        commit(&store, write(&second, pattern(2, 80_000))).await.expect("write");
        commit(&store, write(&spare, pattern(3, 12_000))).await.expect("write");
        fill(&store).await;
        commit(&store, remove(&spare)).await.expect("remove");
        store.checkpoint().await.expect("checkpoint");
        start_a_batch(&core, &store, &first, &object("fill-0", 0)).await;
        // The batch waits for the read. What is deferred now is not in it, and keeps its block until it is in place.
        commit(&store, write(&second, pattern(4, 4096))).await.expect("deferred");
        commit(&store, remove(&second)).await.expect("remove");
        let next = write(&object("next", 4), pattern(5, 70_000));
        commit(&store, next).await.expect("the space of the second object comes back");
        store.close().await.expect("close");
    });
}

#[test]
fn a_store_that_was_dropped_writes_nothing_in_place() {
    in_a_world(3, deferring(3), async |core, world| {
        let store = mount(&core, &world).await;
        let (first, other) = (object("first", 1), object("other", 2));
        commit(&store, write(&first, pattern(1, 4096))).await.expect("write");
        commit(&store, write(&other, pattern(2, 4096))).await.expect("write");
        start_a_batch(&core, &store, &first, &other).await;
        drop(store);
        let before = world.disk.counters().writes;
        core.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.disk.counters().writes, before, "somebody else may have opened the device");
    });
}
