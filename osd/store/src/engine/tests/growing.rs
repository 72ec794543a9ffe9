//! Stores on devices that become larger, between two mounts and while they are open; and power that is cut meanwhile.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bluefs::kv::KvOp;
use bytes::Bytes;
use rt::sim::{Config, RandomStream, Sim};
use rt::{Core, Group};

use super::repair::plant;
use super::world::World;
use crate::codec::Encoder;
use crate::devices::Role;
use crate::engine::{Engine, FreeList, OpenError, RepairOptions};
use crate::keys;
use crate::object_store::{DeviceGrowth, FsckLevel, ObjectStore, StoreError, Unwatched};
use crate::suite::{Generator, collection, join, object, pattern};
use crate::{Op, Transaction};

const SMALL: u64 = 16 << 20;
const LARGE: u64 = 40 << 20;
/// Bytes of each part.
const SMALL_PART: u64 = 2 << 20;
const LARGE_PART: u64 = 5 << 20;
/// Bytes of one object.
const OBJECT: usize = 100_000;

/// Of the whole stack, with a free list of this kind.
fn world(seed: u64, free_list: FreeList) -> World {
    let mut world = World::new(seed, SMALL, 4096, 256 << 10).stacked(2 << 20);
    world.format.free_list = free_list;
    world
}

fn write(number: u64) -> Transaction {
    let name = object(&format!("object {number}"), 1);
    let data = vec![pattern(number, OBJECT)];
    Transaction { ops: vec![Op::Write { collection: collection(), object: name, offset: 0, data }] }
}

/// Writes objects until there is no space; gives the next number.
async fn fill(store: &Engine, mut number: u64) -> u64 {
    loop {
        match store.submit(write(number)).durable.await {
            Ok(()) => number += 1,
            Err(StoreError::NoSpace(_)) => return number,
            Err(error) => panic!("{error}"),
        }
    }
}

fn growth(role: Role, before: u64, bytes: u64) -> DeviceGrowth {
    DeviceGrowth { role, before, bytes }
}

async fn check(store: &Engine, objects: u64) {
    for number in 0..objects {
        let name = object(&format!("object {number}"), 1);
        let data = store.read(collection(), &name, 0, u64::MAX).await.expect("reads");
        assert!(join(data) == pattern(number, OBJECT), "object {number}");
    }
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("checks");
    assert_eq!(report.findings, []);
}

#[test]
fn a_store_is_as_large_as_its_device_from_the_next_mount_on() {
    for free_list in FreeList::ALL {
        Sim::new(1, Config::default()).run(0, move |core| async move {
            let world = world(1, free_list);
            world.format(&core).await;
            let store = world.mount(&core).await.expect("mounts");
            store.submit(Generator::prologue()).durable.await.expect("creates");
            let some = fill(&store, 0).await;
            assert_eq!(store.stats().total, SMALL);
            store.close().await.expect("closes");
            world.disk.grow(LARGE);
            let view = world.device(&core);
            assert_eq!(Engine::superblock(&*view).await.expect("reads").window, SMALL);
            let looking = world.mount_on(&core, view, true).await.expect("mounts to look");
            assert_eq!(looking.stats().total, SMALL);
            looking.close().await.expect("closes");
            let store = world.mount(&core).await.expect("mounts");
            assert_eq!(store.stats().total, LARGE);
            check(&store, some).await;
            let more = fill(&store, some).await;
            assert!(more > 2 * some, "{more} objects instead of {some}");
            check(&store, more).await;
            store.close().await.expect("closes");
            // By what is stored, without and with more growth.
            for size in [LARGE, LARGE + 4096, LARGE + (1 << 20)] {
                world.disk.grow(size);
                let store = world.mount(&core).await.expect("mounts");
                assert_eq!(store.stats().total, size);
                check(&store, more).await;
                store.close().await.expect("closes");
            }
        });
    }
}

#[test]
fn a_store_that_is_repaired_on_a_larger_device_opens() {
    for free_list in FreeList::ALL {
        Sim::new(1, Config::default()).run(0, move |core| async move {
            let world = world(1, free_list);
            world.format(&core).await;
            let store = world.mount(&core).await.expect("mounts");
            store.submit(Generator::prologue()).durable.await.expect("creates");
            let some = fill(&store, 0).await;
            store.close().await.expect("closes");
            world.disk.grow(LARGE);
            let mut operand = Encoder::new();
            (0..8).for_each(|_| operand.i64(3));
            let wrong = KvOp::Merge(keys::statistics(collection().pool), operand.into_bytes());
            plant(&world, &core, vec![wrong]).await;
            let report = world.repair(&core, RepairOptions::default()).await.expect("repairs");
            assert_eq!(report.repaired.len(), 1, "{report:?}");
            let store = world.mount(&core).await.expect("mounts");
            assert_eq!(store.stats().total, LARGE);
            check(&store, some).await;
            let more = fill(&store, some).await;
            assert!(more > 2 * some, "{more} objects instead of {some}");
            check(&store, more).await;
            store.close().await.expect("closes");
        });
    }
}

#[test]
fn a_device_that_is_smaller_than_the_store_is_refused() {
    Sim::new(1, Config::default()).run(0, |core| async move {
        let world = world(1, FreeList::Pages);
        world.format(&core).await;
        let image = world.disk.image();
        world.disk.grow(LARGE);
        world.mount(&core).await.expect("mounts").close().await.expect("closes");
        let grown = world.disk.image();
        let device = |image| {
            let geometry = nvme::MemoryDevice::default_geometry(SMALL);
            nvme::MemoryDevice::from_image("disk", geometry, image)
        };
        Engine::superblock(&device(image)).await.expect("it was not larger then");
        let refused = Engine::superblock(&device(grown)).await;
        assert!(
            matches!(refused, Err(OpenError::SizeChanged { expected: LARGE, found: SMALL, .. })),
            "{refused:?}"
        );
    });
}

#[test]
fn a_full_store_goes_on_when_its_device_grows() {
    for free_list in FreeList::ALL {
        Sim::new(2, Config::default()).run(0, move |core| async move {
            let world = world(2, free_list);
            world.format(&core).await;
            let store = world.mount(&core).await.expect("mounts");
            store.submit(Generator::prologue()).durable.await.expect("creates");
            let some = fill(&store, 0).await;
            assert_eq!(store.grow().await, Ok(vec![growth(Role::Main, SMALL, SMALL)]), "nothing has grown");
            world.disk.grow(LARGE);
            let before = store.stats();
            assert_eq!(store.grow().await, Ok(vec![growth(Role::Main, SMALL, LARGE)]));
            let after = store.stats();
            assert_eq!((before.total, after.total), (SMALL, LARGE));
            assert!(after.available > before.available + (LARGE - SMALL) / 10 * 9, "{after:?}");
            let more = fill(&store, some).await;
            assert!(more > 2 * some, "{more} objects instead of {some}");
            check(&store, more).await;
            // Keys have what they need of it: many, in space that is lent.
            let keys = |n: u64| (n * 200..n * 200 + 200).map(|key| Bytes::from(format!("key {key:08}")));
            let remove = |number: u64| Op::Remove {
                collection: collection(),
                object: object(&format!("object {number}"), 1),
            };
            for number in some..more {
                store.submit(Transaction { ops: vec![remove(number)] }).durable.await.expect("removes");
            }
            for n in 0..60 {
                let entries = keys(n).map(|key| (key, pattern(n, 100))).collect();
                let set = Op::OmapSet { collection: collection(), object: object("keys", 1), entries };
                store.submit(Transaction { ops: vec![set] }).durable.await.expect("there is room for keys");
            }
            store.close().await.expect("closes");
            let store = world.mount(&core).await.expect("mounts");
            check(&store, some).await;
            store.close().await.expect("closes");
        });
    }
}

/// What a run knows, whatever happens to the process.
#[derive(Default)]
struct Known {
    acknowledged: Cell<u64>,
    grown: Cell<bool>,
    failure: RefCell<Option<String>>,
}

async fn live(core: Core, world: Rc<World>, known: Rc<Known>, seed: u64) {
    let mut random = RandomStream::new(seed, "growing");
    let store = Rc::new(world.mount(&core).await.expect("mounts"));
    let (of, told) = (Rc::clone(&store), Rc::clone(&known));
    let (wait, disk, size) = (random.below(20_000), world.disk.clone(), LARGE + random.below(64) * 4096);
    let core_of = core.clone();
    core.spawn(Group::Client, "growing", async move {
        core_of.sleep(Duration::from_micros(wait)).await;
        disk.grow(size);
        match of.grow().await {
            Ok(grown) if grown[0].bytes == size && of.stats().total == size => told.grown.set(true),
            other => drop(told.failure.borrow_mut().replace(format!("{other:?}"))),
        }
    });
    loop {
        let number = known.acknowledged.get();
        if number > 300 {
            core.sleep(Duration::from_millis(1)).await;
            continue;
        }
        match store.submit(write(number)).durable.await {
            Ok(()) => known.acknowledged.set(number + 1),
            Err(StoreError::NoSpace(_)) if !known.grown.get() => {
                core.sleep(Duration::from_micros(200)).await;
            }
            Err(error) => drop(known.failure.borrow_mut().replace(error.to_string())),
        }
        if random.one_in(20) {
            store.checkpoint().await.expect("checkpoints");
        }
    }
}

/// Power is cut somewhere around the growth, under load. True if that was before the growth was told of.
fn cut(seed: u64) -> bool {
    let mut random = RandomStream::new(seed, "cuts");
    let mut world = world(seed, FreeList::ALL[usize::from(seed % 2 == 1)]);
    if seed % 3 == 0 {
        world = world.with_parts(seed, &Role::BESIDE, 2 << 20);
    }
    let world = Rc::new(world);
    let known = Rc::new(Known::default());
    let sim = Sim::new(seed, Config::default());
    let of = Rc::clone(&world);
    sim.run(0, move |core| async move {
        of.format(&core).await;
        let store = of.mount(&core).await.expect("mounts");
        store.submit(Generator::prologue()).durable.await.expect("creates");
        store.close().await.expect("closes");
    });
    let core = sim.core(0);
    core.spawn(Group::Client, "life", live(core.clone(), Rc::clone(&world), Rc::clone(&known), seed));
    while world.disk.to_memory().geometry().size == SMALL {
        sim.run_for(Duration::from_micros(100));
    }
    sim.run_for(Duration::from_micros(random.below(12_000)));
    if let Some(failure) = known.failure.borrow_mut().take() {
        panic!("seed {seed}: {failure}");
    }
    let was_open = !known.grown.get();
    sim.kill_silently(0);
    if random.one_in(4) {
        world.end_process()
    } else {
        world.crash()
    }
    sim.run(0, move |core| async move {
        let size = world.disk.to_memory().geometry().size;
        let store = world.mount(&core).await.expect("mounts");
        assert_eq!(store.stats().total, size);
        check(&store, known.acknowledged.get()).await;
        fill(&store, 1000).await;
        store.close().await.expect("closes");
        let store = world.mount(&core).await.expect("mounts");
        check(&store, known.acknowledged.get()).await;
        store.close().await.expect("closes");
    });
    was_open
}

#[test]
fn nothing_is_lost_wherever_power_is_cut_while_a_device_is_taken_up() {
    let open = (0..40).filter(|seed| cut(*seed)).count();
    assert!((8..=36).contains(&open), "{open} of 40 were cut in the middle");
}

/// Power is cut in the mount that finds the device larger, and in the one after it.
fn cut_mount(seed: u64) -> bool {
    let mut random = RandomStream::new(seed, "cuts of mounts");
    let world = Rc::new(world(seed, FreeList::ALL[usize::from(seed % 2 == 1)]));
    let sim = Sim::new(seed, Config::default());
    let of = Rc::clone(&world);
    sim.run(0, move |core| async move {
        of.format(&core).await;
        let store = of.mount(&core).await.expect("mounts");
        store.submit(Generator::prologue()).durable.await.expect("creates");
        for number in 0..20 {
            store.submit(write(number)).durable.await.expect("writes");
        }
        if seed % 4 < 2 {
            store.close().await.expect("closes");
        }
    });
    let mut in_mount = false;
    for _ in 0..2 {
        sim.kill_silently(0);
        world.crash();
        world.disk.grow(world.disk.to_memory().geometry().size + (3 << 20));
        let (of, mounted) = (Rc::clone(&world), Rc::new(Cell::new(false)));
        let told = Rc::clone(&mounted);
        let core = sim.core(0);
        core.clone().spawn(Group::Client, "life", async move {
            let store = of.mount(&core).await.expect("mounts");
            told.set(true);
            for number in 20.. {
                // Until power is cut.
                drop(store.submit(write(number)).durable.await);
            }
        });
        sim.run_for(Duration::from_micros(random.below(12_000)));
        in_mount |= !mounted.get();
    }
    sim.kill_silently(0);
    world.crash();
    sim.run(0, move |core| async move {
        let store = world.mount(&core).await.expect("mounts");
        assert_eq!(store.stats().total, SMALL + (6 << 20));
        check(&store, 20).await;
        store.close().await.expect("closes");
    });
    in_mount
}

#[test]
fn nothing_is_lost_wherever_power_is_cut_in_a_mount_of_a_larger_device() {
    let open = (0..40).filter(|seed| cut_mount(*seed)).count();
    assert!((8..=39).contains(&open), "{open} of 40 were cut in the middle");
}

#[test]
fn keys_have_a_larger_part_from_the_next_mount_on() {
    Sim::new(5, Config::default()).run(0, |core| async move {
        let world = world(5, FreeList::Pages).with_parts(5, &Role::BESIDE, 2 << 20);
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mounts");
        store.submit(Generator::prologue()).durable.await.expect("creates");
        store.submit(write(0)).durable.await.expect("writes");
        let before = store.stats().fast;
        store.close().await.expect("closes");
        for (_, disk) in &world.parts {
            disk.as_ref().expect("a part").grow(5 << 20);
        }
        for role in Role::BESIDE {
            let grown = Engine::grow_part(&*world.device(&core), role, 5 << 20).await.expect("grows");
            assert_eq!(grown.parts.get(role).map(|part| part.len), Some(5 << 20));
            let again = Engine::grow_part(&*world.device(&core), role, 5 << 20).await.expect("has grown");
            assert_eq!(again, grown);
        }
        let store = world.mount(&core).await.expect("mounts");
        assert_eq!(store.stats().fast, before + (3 << 20));
        check(&store, 1).await;
        store.close().await.expect("closes");
    });
}

/// A store with these parts, on devices that have become larger behind its back.
async fn with_larger_parts(core: &Core, roles: &[Role]) -> (World, Rc<Engine>) {
    let world = world(6, FreeList::Pages).with_parts(6, roles, SMALL_PART);
    world.format(core).await;
    let store = world.mount(core).await.expect("mounts");
    store.submit(Generator::prologue()).durable.await.expect("creates");
    for number in 0..20 {
        store.submit(write(number)).durable.await.expect("writes");
    }
    world.disk.grow(LARGE);
    world.parts.iter().filter_map(|(_, disk)| disk.as_ref()).for_each(|disk| disk.grow(LARGE_PART));
    (world, Rc::new(store))
}

#[test]
fn a_store_takes_up_all_its_larger_devices_while_it_is_open() {
    for roles in [&Role::BESIDE[..], &[Role::Db], &[Role::Wal]] {
        Sim::new(6, Config::default()).run(0, move |core| async move {
            let (world, store) = with_larger_parts(&core, roles).await;
            let before = store.stats();
            let mut expect = vec![growth(Role::Main, SMALL, LARGE)];
            expect.extend(roles.iter().map(|role| growth(*role, SMALL_PART, LARGE_PART)));
            assert_eq!(store.grow().await.as_ref(), Ok(&expect));
            expect.iter_mut().for_each(|device| device.before = device.bytes);
            assert_eq!(store.grow().await.as_ref(), Ok(&expect), "nothing has grown since");
            let gained = if roles.contains(&Role::Db) { LARGE_PART - SMALL_PART } else { 0 };
            assert_eq!((store.stats().total, store.stats().fast), (LARGE, before.fast + gained));
            // Keys go there at once: more of them than there was room for.
            for n in 0..20 {
                let key =
                    |key: u64| (Bytes::from(format!("key {n:02} {key:08}")), pattern(n * 50 + key, 2000));
                let entries = (0..50).map(key).collect();
                let set = Op::OmapSet { collection: collection(), object: object("keys", 1), entries };
                store.submit(Transaction { ops: vec![set] }).durable.await.expect("writes");
            }
            store.checkpoint().await.expect("checkpoints");
            let after = store.stats();
            assert!(gained == 0 || after.fast - after.fast_available > before.fast, "{after:?}");
            check(&store, 20).await;
            store.close().await.expect("closes");
            let store = world.mount(&core).await.expect("mounts");
            assert_eq!((store.stats().total, store.stats().fast), (LARGE, before.fast + gained));
            check(&store, 20).await;
            store.close().await.expect("closes");
        });
    }
}

/// Power is cut before write number `number` of those that take up three larger devices comes down; false if there are not so
/// many.
fn cut_before_write(number: u64, is_torn: bool) -> bool {
    let (sim, known) = (Sim::new(7, Config::default()), Rc::new(RefCell::new(None)));
    let told = Rc::clone(&known);
    sim.run(0, move |core| async move {
        *told.borrow_mut() = Some(with_larger_parts(&core, &Role::BESIDE).await);
    });
    let (world, store) = known.borrow_mut().take().expect("it ran");
    let writes = |world: &World| world.disks().map(|disk| disk.counters().writes).sum::<u64>();
    let (first, grown) = (writes(&world), Rc::new(Cell::new(false)));
    let told = Rc::clone(&grown);
    let fast_before = store.stats().fast;
    sim.core(0).spawn(Group::Client, "growing", async move {
        store.grow().await.expect("grows");
        told.set(true);
        std::future::pending::<()>().await;
    });
    while writes(&world) - first < number && !grown.get() {
        sim.run_for(Duration::from_micros(1));
    }
    let is_all = grown.get();
    sim.kill_silently(0);
    if is_torn {
        world.crash()
    } else {
        world.end_process()
    }
    sim.run(0, move |core| async move {
        // Once more, so that what this mount makes of it is durable, too.
        for _ in 0..2 {
            let store = world.mount(&core).await.expect("mounts");
            let stats = store.stats();
            assert_eq!(stats.total, LARGE);
            let has = [fast_before, fast_before + LARGE_PART - SMALL_PART];
            assert!(stats.fast == has[1] || stats.fast == has[0] && !is_all, "{stats:?}");
            check(&store, 20).await;
            store.close().await.expect("closes");
        }
        let store = world.mount(&core).await.expect("mounts");
        let grown = store.grow().await.expect("grows");
        assert!(grown[1..].iter().all(|part| part.bytes == LARGE_PART), "{grown:?}");
        assert_eq!(store.stats().fast, fast_before + LARGE_PART - SMALL_PART);
        check(&store, 20).await;
        store.close().await.expect("closes");
    });
    !is_all
}

#[test]
fn nothing_is_lost_before_which_write_ever_power_is_cut_while_larger_devices_are_taken_up() {
    for is_torn in [true, false] {
        let writes = (0..200).take_while(|number| cut_before_write(*number, is_torn)).count();
        assert!((10..200).contains(&writes), "{writes} writes");
    }
}
