//! Stores with parts on other devices: one that is missing, somebody else's, or older than the store is refused, and
//! nothing is written to any device.

use std::rc::Rc;

use nvme::{BlockDevice, MemoryDevice, SimDisk, SimDiskConfig};
use rt::Core;
use rt::sim::{Config, RandomStream, Sim};
use uuid::Uuid;

use super::world::World;
use crate::devices::{PartError, Role};
use crate::engine::{Engine, OpenError};
use crate::journal::scan::ScanError;
use crate::object_store::{FsckLevel, ObjectStore, Unwatched};
use crate::suite::{Generator, collection, object};
use crate::{Op, Transaction};

const PART: u64 = 2 << 20;

fn world(seed: u64, roles: &[Role]) -> World {
    World::new(seed, 16 << 20, 4096, 64 << 10).with_parts(seed, roles, PART).stacked(2 << 20)
}

async fn write(store: &Engine, byte: u8) {
    let data = vec![bytes::Bytes::from(vec![byte; 20_000])];
    let op = Op::Write { collection: collection(), object: object("a", 1), offset: 0, data };
    store.submit(Transaction { ops: vec![op] }).durable.await.expect("writes");
}

/// A life that writes and closes.
async fn live(core: &Core, world: &World, byte: u8) {
    let store = world.mount(core).await.expect("mounts");
    if byte == 1 {
        store.submit(Generator::prologue()).durable.await.expect("creates");
    }
    write(&store, byte).await;
    store.close().await.expect("closes");
}

fn writes(world: &World) -> Vec<u64> {
    world.disks().map(|disk| disk.counters().writes).collect()
}

/// Both ways in refuse it, before anything is written.
async fn refused(core: &Core, world: &World, is_it: impl Fn(&PartError) -> bool) {
    let before = writes(world);
    let device = world.device(core);
    for result in [
        Engine::superblock(&*device).await.map(drop),
        Engine::mount(
            core.clone(),
            Rc::clone(&device),
            Rc::new(bluefs::kv::MemKv::new()),
            world.options.clone(),
        )
        .await
        .map(drop),
    ] {
        match result {
            Err(OpenError::Part(error)) => assert!(is_it(&error), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(writes(world), before);
}

#[test]
fn a_part_that_is_not_the_store_s_own_newest_is_refused() {
    for role in Role::BESIDE {
        Sim::new(1, Config::default()).run(0, move |core| async move {
            let (mut world, other) = (world(1, &[role]), world(2, &[role]));
            for world in [&world, &other] {
                world.format(&core).await;
                live(&core, world, 1).await;
            }
            let at = role.slot() - 1;
            let older = world.parts[at].1.clone().map(|disk| disk.copy());
            live(&core, &world, 2).await;
            let own = world.parts[at].1.take();
            refused(&core, &world, |error| matches!(error, PartError::Missing { .. })).await;
            world.parts[at].1 = other.parts[at].1.clone();
            refused(&core, &world, |error| matches!(error, PartError::Foreign { .. })).await;
            world.parts[at].1 = older;
            refused(&core, &world, |error| matches!(error, PartError::Stale { .. })).await;
            world.parts[at].1 = own.as_ref().map(|disk| disk.copy());
            if let Some(disk) = &world.parts[at].1 {
                disk.corrupt(40, 1);
            }
            refused(&core, &world, |error| matches!(error, PartError::NotOurs { .. })).await;
            world.parts[at].1 = own;
            live(&core, &world, 3).await;
        });
    }
}

#[test]
fn a_main_device_that_is_older_than_its_journal_is_refused() {
    Sim::new(1, Config::default()).run(0, move |core| async move {
        let mut world = world(1, &[Role::Wal]);
        world.format(&core).await;
        live(&core, &world, 1).await;
        let older = world.disk.copy();
        // The header of the wal part is one mount ahead of it, as if that had been interrupted.
        live(&core, &world, 2).await;
        let newest = std::mem::replace(&mut world.disk, older);
        let before = writes(&world);
        let refused = world.mount(&core).await.map(drop);
        assert!(
            matches!(
                &refused,
                Err(OpenError::Journal { error: ScanError::Older { epoch: 1, found: 2 }, .. })
            ),
            "{refused:?}"
        );
        assert_eq!(writes(&world)[1], before[1], "the journal is as it was");
        world.disk = newest;
        live(&core, &world, 3).await;
    });
}

#[test]
fn blocks_of_a_part_may_be_larger_than_the_main_device_s() {
    for role in Role::BESIDE {
        Sim::new(1, Config::default()).run(0, move |core| async move {
            let mut world =
                World::new(1, 16 << 20, 512, 64 << 10).with_parts(1, &[role], PART).stacked(2 << 20);
            world.parts[role.slot() - 1].1 = Some(SimDisk::new(SimDiskConfig::new(role.name(), PART), 1));
            assert_eq!(world.device(&core).geometry().block_size, 4096);
            world.format(&core).await;
            let main: Rc<dyn BlockDevice> = Rc::new(world.disk.open(&core));
            Engine::main_superblock(&*main).await.expect("reads");
            live(&core, &world, 1).await;
            live(&core, &world, 2).await;
            if role == Role::Wal {
                // What is left has smaller blocks than the journal was made for.
                Engine::remove_part(&*world.device(&core), role).await.expect("goes");
                world.parts[role.slot() - 1].1 = None;
                assert_eq!(world.device(&core).geometry().block_size, 512);
                live(&core, &world, 3).await;
            }
        });
    }
}

#[test]
fn a_part_in_use_is_not_added_as_another() {
    for role in Role::BESIDE {
        Sim::new(1, Config::default()).run(0, move |core| async move {
            let world = world(1, &[role]);
            world.format(&core).await;
            live(&core, &world, 1).await;
            let other = if role == Role::Db { Role::Wal } else { Role::Db };
            let part = world.parts[role.slot() - 1].1.as_ref().map(|disk| disk.open(&core)).expect("a part");
            let before = writes(&world);
            let added = Engine::add_part(&*world.device(&core), &part, other, Uuid::from_u128(9)).await;
            assert!(matches!(&added, Err(OpenError::Part(PartError::InUse { .. }))), "{added:?}");
            assert_eq!(writes(&world), before);
            live(&core, &world, 2).await;
        });
    }
}

#[test]
fn journal_and_keys_are_on_their_own_devices() {
    for (roles, journal) in [(&[Role::Db][..], 1), (&[Role::Wal], 2), (&[Role::Db, Role::Wal], 2)] {
        Sim::new(3, Config::default()).run(0, move |core| async move {
            let world = world(3, roles);
            world.format(&core).await;
            let superblock = Engine::superblock(&*world.device(&core)).await.expect("reads");
            let regions = [superblock.journal, superblock.pg_log];
            assert!(regions.iter().all(|region| nvme::joined::member_of(region.start).0 == journal));
            assert_eq!(superblock.fast().is_some(), roles.contains(&Role::Db));
            // Where the journal would be on the main device.
            world.disk.count_region("logs", 4096..4096 + superblock.journal.len + superblock.pg_log.len);
            live(&core, &world, 1).await;
            let regions = world.disk.regions();
            assert_eq!(regions.iter().map(|region| region.counters.writes).sum::<u64>(), 0);
            let store = world.mount(&core).await.expect("mounts");
            let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("checks");
            assert_eq!(report.findings, []);
            let stats = store.stats();
            assert_eq!(stats.fast > 0, roles.contains(&Role::Db));
            assert!(stats.fast_available < stats.fast || stats.fast == 0);
            store.close().await.expect("closes");
        });
    }
}

#[test]
fn a_part_must_have_room_for_what_it_is_for() {
    Sim::new(4, Config::default()).run(0, |core| async move {
        for role in Role::BESIDE {
            let world = World::new(4, 16 << 20, 4096, 64 << 10).with_parts(4, &[role], 128 << 10);
            let made = Engine::format(&*world.device(&core), &world.format).await;
            let is_small =
                matches!(&made, Err(OpenError::Part(PartError::TooSmall { role: name, .. })) if *name == role.name());
            assert!(is_small, "{made:?}");
        }
    });
}

/// A store that crashed gets a part, crashes in the middle of that, too, and has everything.
fn add(seed: u64, role: Role) -> bool {
    let mut random = RandomStream::new(seed, "adding a part");
    let mut world = World::new(seed, 16 << 20, 4096, 64 << 10).stacked(2 << 20);
    world.parts[role.slot() - 1].1 = Some(SimDisk::new(SimDiskConfig::new(role.name(), PART), seed));
    let world = Rc::new(world);
    let sim = Sim::new(seed, Config::default());
    let of = Rc::clone(&world);
    sim.run(0, move |core| async move {
        of.format(&core).await;
        live(&core, &of, 1).await;
        let store = of.mount(&core).await.expect("mounts");
        write(&store, 2).await;
    });
    sim.kill_silently(0);
    world.crash();
    let part =
        move |core: &Core, world: &World| world.parts[role.slot() - 1].1.as_ref().map(|disk| disk.open(core));
    let of = Rc::clone(&world);
    let core = sim.core(0);
    core.clone().spawn(rt::Group::Client, "adding", async move {
        let device = of.device(&core);
        if let Some(part) = part(&core, &of) {
            // Cut off in the middle.
            drop(Engine::add_part(&*device, &part, role, Uuid::from_u128(9)).await);
        }
    });
    sim.run_for(std::time::Duration::from_micros(random.below(9_000)));
    sim.kill_silently(0);
    world.crash();
    sim.run(0, move |core| async move {
        let device = world.device(&core);
        let superblock = Engine::superblock(&*device).await.expect("reads");
        let was_added = superblock.parts.get(role).is_some();
        if !was_added {
            let part = part(&core, &world).expect("a disk");
            let added = Engine::add_part(&*device, &part, role, Uuid::from_u128(10)).await.expect("adds");
            assert_ne!(added.journal, superblock.journal);
        }
        let again = Engine::add_part(&*device, &MemoryDevice::new(PART), role, Uuid::from_u128(11)).await;
        assert!(matches!(again, Err(OpenError::Part(PartError::Present { .. }))), "{again:?}");
        let store = world.mount(&core).await.expect("mounts");
        let data = store.read(collection(), &object("a", 1), 0, u64::MAX).await.expect("reads");
        assert!(crate::suite::join(data)[..] == [2; 20_000]);
        let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("checks");
        assert_eq!(report.findings, []);
        assert_eq!(store.stats().fast > 0, role == Role::Db);
        store.close().await.expect("closes");
        live(&core, &world, 3).await;
        was_added
    })
}

#[test]
fn a_part_is_added_whole_or_not_at_all() {
    for role in Role::BESIDE {
        let added = (0..40).filter(|seed| add(*seed, role)).count();
        assert!((5..=35).contains(&added), "{added} of 40 were in time");
    }
}
