//! Stores of whose space only single blocks are free: keys get those.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rt::sim::{Config, RandomStream, Sim};
use rt::{Core, Group};

use super::world::World;
use crate::engine::{Engine, FreeList};
use crate::object_store::{FsckLevel, ObjectStore, StoreError, Unwatched};
use crate::suite::{Generator, collection, object, pattern};
use crate::{Op, Transaction};

const SIZE: u64 = 12 << 20;
const UNIT: u64 = 64 << 10;
const BLOCK: usize = 4096;

fn world(seed: u64, free_list: FreeList) -> World {
    let mut world = World::new(seed, SIZE, 4096, 256 << 10).stacked_in_units(1 << 20, UNIT);
    world.format.free_list = free_list;
    world.options.inline_bytes_max = 0;
    world
}

fn name(number: u64) -> crate::ObjectId {
    object(&format!("object {number}"), 1)
}

/// Writes objects of a block until there is no space; gives the number of the next.
async fn fill_with_blocks(store: &Engine, mut number: u64) -> u64 {
    loop {
        let write = |number| Op::Write {
            collection: collection(),
            object: name(number),
            offset: 0,
            data: vec![pattern(number, BLOCK)],
        };
        match store.submit(Transaction { ops: (number..number + 8).map(write).collect() }).durable.await {
            Ok(()) => number += 8,
            Err(StoreError::NoSpace(_)) => return number,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Fills the store with objects of a block, and removes every other one: there is space, and nowhere two blocks of it. Gives the
/// number of the next object.
async fn fragment(store: &Engine) -> u64 {
    store.submit(Generator::prologue()).durable.await.expect("creates");
    let objects = fill_with_blocks(store, 0).await;
    for number in (0..objects).step_by(2) {
        let remove = Op::Remove { collection: collection(), object: name(number) };
        store.submit(Transaction { ops: vec![remove] }).durable.await.expect("removes");
    }
    store.checkpoint().await.expect("checkpoints");
    objects
}

fn has_unit(store: &Engine) -> bool {
    let unit = |extent: &allocator::Extent| extent.start.next_multiple_of(UNIT) + UNIT <= extent.end();
    store.free_space().extents.iter().any(unit)
}

/// Bytes that are lent in no whole unit.
fn lent_small(store: &Engine) -> u64 {
    let whole = |extent: &allocator::Extent| {
        (extent.end() / UNIT * UNIT).saturating_sub(extent.start.next_multiple_of(UNIT))
    };
    store.lent().iter().map(|extent| extent.len - whole(extent)).sum()
}

fn keys(number: u64) -> Transaction {
    let entries = (0..20).map(|key| (Bytes::from(format!("key {number:06} {key:02}")), pattern(number, 400)));
    let set = Op::OmapSet { collection: collection(), object: object("keys", 1), entries: entries.collect() };
    Transaction { ops: vec![set] }
}

async fn check(store: &Engine, count: u64) {
    let wanted = |number: u64| (0..20).map(move |key| Bytes::from(format!("key {number:06} {key:02}")));
    for number in 0..count {
        let names = wanted(number).collect();
        let found = store.omap_values(collection(), &object("keys", 1), names).await.expect("reads");
        let expect: Vec<_> = wanted(number).map(|key| (key, pattern(number, 400))).collect();
        assert!(found == expect, "keys of {number}");
    }
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("checks");
    assert_eq!(report.findings, []);
}

/// Writes keys until there is no room; gives the next number.
async fn fill(store: &Engine, mut number: u64) -> u64 {
    loop {
        match store.submit(keys(number)).durable.await {
            Ok(()) => number += 1,
            Err(StoreError::NoSpace(_)) => return number,
            Err(error) => panic!("{error}"),
        }
        if number % 10 == 0 {
            store.checkpoint().await.expect("checkpoints");
        }
    }
}

/// What became of a store that was filled with keys, and then with blocks once the keys were gone.
struct Filled {
    /// Bytes that clients could still write when it took no more keys, and before.
    left: u64,
    available: u64,
    /// Bytes lent in no whole unit, then, and at the end.
    lent: u64,
    after: u64,
    /// Bytes of blocks that were written at the end.
    bytes: u64,
}

async fn fill_with_keys_then_blocks(core: &Core, seed: u64, free_list: FreeList) -> Filled {
    let mut world = world(seed, free_list);
    // What is always kept for it must leave something to give back.
    world.options.overlay_bytes_max = 64 << 10;
    world.format(core).await;
    let store = world.mount(core).await.expect("mounts");
    let objects = fragment(&store).await;
    assert!(!has_unit(&store), "every other block is in use");
    let available = store.stats().available;
    let some = fill(&store, 0).await;
    let (lent, left) = (lent_small(&store), store.stats().available);
    assert!(lent > 1 << 20, "{some} times keys: {lent} bytes are lent in blocks");
    check(&store, some).await;
    store.close().await.expect("closes");
    let store = world.mount(core).await.expect("mounts");
    check(&store, some).await;
    // What the keys no longer need is for data again.
    let clear = Op::OmapClear { collection: collection(), object: object("keys", 1) };
    store.submit(Transaction { ops: vec![clear] }).durable.await.expect("removes");
    let mut more = objects;
    for _ in 0..60 {
        more = fill_with_blocks(&store, more).await;
        core.sleep(Duration::from_secs(3)).await;
    }
    let (after, bytes) = (lent_small(&store), (more - objects) * u64::try_from(BLOCK).expect("small"));
    check(&store, 0).await;
    store.close().await.expect("closes");
    Filled { left, available, lent, after, bytes }
}

/// By chance the last of the space is of a kind that keys cannot use, and is left to data; mostly nothing is left. Nor does it always
/// come back: with one seed in four or so the key-value store neither gives back nor compacts, though it has much to spare, which is
/// not understood yet. So of many runs half are to be as they should.
#[test]
fn keys_have_what_they_need_although_only_single_blocks_are_free() {
    const SEEDS: u64 = 4;
    let (mut full, mut given_back) = (0, 0);
    for (seed, free_list) in (1..=SEEDS).flat_map(|seed| FreeList::ALL.map(|kind| (seed, kind))) {
        let run = move |core: Core| async move { fill_with_keys_then_blocks(&core, seed, free_list).await };
        let Filled { left, available, lent, after, bytes } = Sim::new(seed, Config::default()).run(0, run);
        println!("{left} of {available} left, {lent} lent, {after} at the end, {bytes} written");
        full += u64::from(left < available / 4);
        given_back += u64::from(bytes > lent / 2 && after < lent / 2);
    }
    assert!(full >= SEEDS / 2, "{full} of {} left little", 2 * SEEDS);
    assert!(given_back >= SEEDS, "{given_back} of {} gave back", 2 * SEEDS);
}

/// What a run knows, whatever happens to the process.
#[derive(Default)]
struct Known {
    acknowledged: Cell<u64>,
    failure: RefCell<Option<String>>,
}

async fn live(core: Core, world: Rc<World>, known: Rc<Known>) {
    let store = world.mount(&core).await.expect("mounts");
    loop {
        let number = known.acknowledged.get();
        match store.submit(keys(number)).durable.await {
            Ok(()) => known.acknowledged.set(number + 1),
            Err(StoreError::NoSpace(_)) => core.sleep(Duration::from_millis(1)).await,
            Err(error) => drop(known.failure.borrow_mut().replace(error.to_string())),
        }
        if number % 5 == 0 {
            store.checkpoint().await.expect("checkpoints");
        }
    }
}

/// Power is cut somewhere while keys are lent blocks. Gives what was lent so.
fn cut(seed: u64, fragmented: &World) -> u64 {
    let mut random = RandomStream::new(seed, "cuts");
    let (world, known) = (Rc::new(fragmented.copy()), Rc::new(Known::default()));
    let sim = Sim::new(seed, Config::default());
    let core = sim.core(0);
    core.spawn(Group::Client, "life", live(core.clone(), Rc::clone(&world), Rc::clone(&known)));
    for _ in 0..3 {
        sim.run_for(Duration::from_micros(random.below(60_000)));
        if let Some(failure) = known.failure.borrow_mut().take() {
            panic!("seed {seed}: {failure}");
        }
        sim.kill_silently(0);
        world.crash();
        let core = sim.core(0);
        core.spawn(Group::Client, "life", live(core.clone(), Rc::clone(&world), Rc::clone(&known)));
    }
    sim.kill_silently(0);
    world.crash();
    sim.run(0, move |core| async move {
        let store = world.mount(&core).await.expect("mounts");
        check(&store, known.acknowledged.get()).await;
        let lent = lent_small(&store);
        store.close().await.expect("closes");
        lent
    })
}

#[test]
fn nothing_is_lost_wherever_power_is_cut_while_keys_are_lent_blocks() {
    for free_list in FreeList::ALL {
        let fragmented = Rc::new(world(2, free_list));
        let of = Rc::clone(&fragmented);
        Sim::new(2, Config::default()).run(0, move |core| async move {
            of.format(&core).await;
            let store = of.mount(&core).await.expect("mounts");
            fragment(&store).await;
            store.close().await.expect("closes");
        });
        let lent = (0..20).filter(|seed| cut(*seed, &fragmented) > 0).count();
        assert!(lent > 8, "in {lent} of 20 runs blocks were lent");
    }
}
