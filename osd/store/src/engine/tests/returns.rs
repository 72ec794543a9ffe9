//! Space lent to the key-value store comes back when keys are gone: at rest, when data needs it, and over crashes at any
//! moment of its way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bluefs::kv::Compact;
use bytes::Bytes;
use rt::sim::{Config, RandomStream, Sim};
use rt::{Core, Group};

use super::world::World;
use crate::engine::Engine;
use crate::engine::lend::Returned;
use crate::fault::{Fault, Planted};
use crate::object_store::{FsckLevel, ObjectStore, StoreError, StoreResult, Unwatched};
use crate::suite::{Generator, collection, object, pattern};
use crate::{Op, Transaction};

const OBJECTS: u32 = 12;

fn world(seed: u64, unit: u64) -> World {
    let mut world = World::new(seed, 6 << 20, 4096, 64 << 10).stacked_in_units(512 << 10, unit);
    world.options.overlay_bytes_max = 64 << 10;
    world.options.reserve_bytes = 128 << 10;
    world
}

async fn mount(core: &Core, world: &World) -> Rc<Engine> {
    let store = Rc::new(world.mount(core).await.expect("mount"));
    if store.collections().await.expect("collections").is_empty() {
        store.submit(Generator::prologue()).durable.await.expect("create");
    }
    store
}

async fn commit(store: &Engine, op: Op) -> StoreResult<()> {
    store.submit(Transaction { ops: vec![op] }).durable.await
}

fn count(store: &Engine, name: &str) -> u64 {
    store.stats().counters.iter().find(|(of, _)| *of == name).expect("a counter").1
}

/// Keys until there is no room for more.
async fn fill_with_keys(store: &Engine) -> u32 {
    for number in 0..4000 {
        let name = object(&format!("keys-{}", number % OBJECTS), number % OBJECTS);
        let key = |n: u64| Bytes::from(format!("{number} {n}"));
        let entries: BTreeMap<_, _> = (0..8).map(|n| (key(n), pattern(n, 900))).collect();
        match commit(store, Op::OmapSet { collection: collection(), object: name, entries }).await {
            Ok(()) => {}
            Err(StoreError::NoSpace(_)) => return number,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it never fills");
}

async fn remove(store: &Engine, name: &str, number: u32) {
    let remove = Op::Remove { collection: collection(), object: object(name, number) };
    match commit(store, remove).await {
        Ok(()) | Err(StoreError::NotFound(_)) => {}
        Err(other) => panic!("removing always works: {other}"),
    }
}

/// Data until there is no room for more; gives the bytes.
async fn fill_with_data(store: &Engine) -> u64 {
    for number in 0..1000 {
        let data = vec![pattern(number.into(), 30_000)];
        let name = object(&format!("data-{number}"), number);
        match commit(store, Op::Write { collection: collection(), object: name, offset: 0, data }).await {
            Ok(()) => {}
            Err(StoreError::NoSpace(_)) => return u64::from(number) * 32_768,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it never fills");
}

async fn fsck(store: &Engine) {
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    assert_eq!(report.findings, vec![]);
}

#[test]
fn data_gets_the_space_that_keys_had() {
    for unit in [4096, 16 << 10, 64 << 10] {
        data_gets_the_space_of_keys(unit);
    }
}

fn data_gets_the_space_of_keys(unit: u64) {
    let sim = Sim::new(1, Config::default());
    let world = Rc::new(world(1, unit));
    sim.run(0, |core| async move {
        world.format(&core).await;
        let store = mount(&core, &world).await;
        let before = fill_with_data(&store).await;
        for number in 0..200 {
            remove(&store, &format!("data-{number}"), number).await;
        }
        assert!(fill_with_keys(&store).await > 50);
        let lent = count(&store, "lent_bytes");
        for number in 0..OBJECTS {
            remove(&store, &format!("keys-{number}"), number).await;
        }
        core.sleep(Duration::from_secs(20)).await;
        fsck(&store).await;
        // The first refusal has the rest compacted, and what that gives is taken.
        fill_with_data(&store).await;
        core.sleep(Duration::from_secs(60)).await;
        let after = fill_with_data(&store).await;
        let returned = count(&store, "returned_bytes");
        assert!(returned > lent / 4, "units of {unit}: {returned} of {lent} bytes came back");
        let lent = count(&store, "lent_bytes") - count(&store, "returned_bytes");
        assert!(
            after + (512 << 10) > before,
            "units of {unit}: {after} bytes of data, {before} before there were keys, {lent} lent"
        );
        fsck(&store).await;
        store.close().await.expect("close");
        let store = mount(&core, &world).await;
        fsck(&store).await;
        store.close().await.expect("close");
    });
}

/// What the lives of one seed share.
#[derive(Default)]
struct Shared {
    returning: Cell<bool>,
    returned: Cell<u64>,
    store: RefCell<Option<Rc<Engine>>>,
}

async fn life(core: Core, world: Rc<World>, shared: Rc<Shared>) {
    let store = mount(&core, &world).await;
    fsck(&store).await;
    *shared.store.borrow_mut() = Some(Rc::clone(&store));
    fill_with_keys(&store).await;
    for number in 0..OBJECTS {
        remove(&store, &format!("keys-{number}"), number).await;
    }
    while count(&store, "returned_bytes") == 0 {
        core.sleep(Duration::from_micros(200)).await;
        if store.kv_spare() > 0 {
            shared.returning.set(true);
        }
    }
    shared.returning.set(true);
    core.sleep(Duration::from_secs(3600)).await;
}

#[test]
fn a_crash_on_the_way_back_leaves_one_owner() {
    let count_of = |name: &str, usual| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let first: u64 = count_of("STORE_SEED", 0);
    let mut returned = 0;
    for seed in first..first + count_of("STORE_SEEDS", 4) {
        let mut dice = RandomStream::new(seed, "returns");
        let sim = Sim::new(seed, Config::default());
        let world = Rc::new(world(seed, 4096));
        sim.run(0, |core| {
            let world = Rc::clone(&world);
            async move { world.format(&core).await }
        });
        let shared = Rc::new(Shared::default());
        for _ in 0..6 {
            shared.returning.set(false);
            let core = sim.core(0);
            core.spawn(Group::Client, "life", life(core.clone(), Rc::clone(&world), Rc::clone(&shared)));
            let mut waited = 0;
            while !shared.returning.get() {
                sim.run_for(Duration::from_millis(1));
                waited += 1;
                assert!(waited < 200_000, "seed {seed}: nothing comes back");
            }
            // The look for spare space comes every two seconds.
            sim.run_for(Duration::from_micros(dice.below(3_000_000)));
            if let Some(store) = shared.store.borrow_mut().take() {
                shared.returned.set(shared.returned.get() + count(&store, "returned_bytes"));
            }
            sim.kill_silently(0);
            if dice.one_in(3) {
                world.disk.end_process();
            } else {
                world.disk.crash();
            }
        }
        returned += shared.returned.get();
        sim.run(0, |core| async move {
            let store = mount(&core, &world).await;
            fsck(&store).await;
            store.close().await.expect("close");
        });
    }
    assert!(returned > 0, "nothing came back");
}

/// Space that came back from the file system while the journal had no room for its record, as a checkpoint was being made.
/// Gives what is lent and unknown to the file system then, and after the next look.
fn on_a_full_journal(fault: Fault) -> (u64, u64) {
    let mut world = world(11, 4096);
    world.options.fault = fault;
    Sim::new(11, Config::default()).run(0, |core| async move {
        world.format(&core).await;
        let store = mount(&core, &world).await;
        fill_with_keys(&store).await;
        for number in 0..OBJECTS {
            remove(&store, &format!("keys-{number}"), number).await;
        }
        let inner = &store.inner;
        while store.kv_spare() < 64 << 10 {
            store.checkpoint().await.expect("checkpoints");
            inner.kv.make_headroom(u64::MAX, Compact::IfAny).await.expect("compacts");
            core.sleep(Duration::from_millis(100)).await;
        }
        let lent = |store: &Engine| store.lent().iter().map(|extent| extent.len).sum::<u64>();
        let before = lent(&store);
        // All of the journal is somebody's, and the checkpoint that will make room has begun.
        while inner.checkpointing.get() {
            core.sleep(Duration::from_millis(1)).await;
        }
        inner.checkpointing.set(true);
        let all = inner.journal.borrow().size() - inner.journal.borrow().used();
        assert!(inner.journal.borrow_mut().reserve(all, 0), "nothing else is under way");
        assert_eq!(inner.return_space(64 << 10).await, Ok(Returned::Later));
        assert_eq!(lent(&store), before, "it is not journalled");
        inner.journal.borrow_mut().unreserve(all);
        inner.checkpointing.set(false);
        let known = inner.loans.forgotten();
        let again = inner.return_space(4096).await.expect("returns");
        let returned = before - lent(&store);
        assert!(known == 0 || again == Returned::Bytes(known), "{again:?}");
        store.close().await.expect("closes");
        (known, returned)
    })
}

#[test]
fn what_comes_back_while_the_journal_is_full_is_not_lost() {
    let (known, returned) = on_a_full_journal(Fault::default());
    assert!(known > 0 && returned == known, "{known} bytes wait, {returned} came back");
    let (known, _) = on_a_full_journal(Fault::planted(Planted::ReturnDropped));
    assert_eq!(known, 0, "a store that drops it does not know of it");
}
