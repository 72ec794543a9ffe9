//! Stores whose keys or journal move to another device, or back to the main one, after a crash, and power that is cut in the
//! middle of that: either the old devices have everything or the new ones, and doing it again ends it.

use std::rc::Rc;

use std::time::Duration;

use allocator::Extent;
use bluefs::fs::{LocalBlueFs, MountOptions};
use bytes::Bytes;
use nvme::joined::member_base;
use nvme::{SimDisk, SimDiskConfig};
use rt::Core;
use rt::sim::{Config, RandomStream, Sim};
use uuid::Uuid;

use super::world::{World, kv_places};
use crate::devices::{PartError, Role};
use crate::engine::{Engine, OpenError};
use crate::object_store::{FsckLevel, ObjectStore, Unwatched};
use crate::suite::{Generator, collection, join, object, pattern};
use crate::{Op, Transaction};

const PART: u64 = 1 << 20;
const OBJECTS: u64 = 30;

/// What is done with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It moves to another device.
    Move(Role),
    /// What is on it moves to where that belongs without it.
    Remove(Role),
}

fn disk(role: Role, bytes: u64, seed: u64) -> SimDisk {
    SimDisk::new(SimDiskConfig::new(role.name(), bytes), seed)
}

async fn write(store: &Engine, salt: u64) {
    for number in 0..OBJECTS {
        let name = || object(&format!("object {number}"), 1);
        let data = vec![pattern(number + salt, 9000)];
        let entries = (0..20_u64).map(|key| (Bytes::from(format!("key {key}")), pattern(number + salt, 300)));
        let ops = vec![
            Op::Write { collection: collection(), object: name(), offset: 0, data },
            Op::OmapSet { collection: collection(), object: name(), entries: entries.collect() },
        ];
        store.submit(Transaction { ops }).durable.await.expect("writes");
    }
}

async fn check(store: &Engine, salt: u64) {
    for number in 0..OBJECTS {
        let name = object(&format!("object {number}"), 1);
        let data = store.read(collection(), &name, 0, u64::MAX).await.expect("reads");
        assert!(join(data) == pattern(number + salt, 9000), "object {number}");
        let page = store.omap_scan(collection(), &name, None, Bytes::new(), 100, usize::MAX).await;
        let entries = page.expect("scans").entries;
        assert!(
            entries.len() == 20 && entries.iter().all(|(_, value)| *value == pattern(number + salt, 300))
        );
    }
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("checks");
    assert_eq!(report.findings, []);
}

/// Where on the part for keys there are any.
async fn keys(core: &Core, world: &World) -> Vec<Extent> {
    let device = world.device(core);
    let superblock = Engine::superblock(&*device).await.expect("reads");
    let loaded = LocalBlueFs::load(&*device, kv_places(&superblock, 4096).0).await.expect("loads");
    let files = loaded.tree.files.values().flat_map(|inode| &inode.extents);
    files.chain(&loaded.superblock.log).copied().filter(|extent| extent.start >= member_base(1)).collect()
}

async fn leave(core: &Core, world: &World) {
    let device = world.device(core);
    let superblock = Engine::superblock(&*device).await.expect("reads");
    let (superblocks, _) = kv_places(&superblock, 4096);
    let nonce = core.random_u64();
    let options = MountOptions { superblocks, nonce, low_water: 0, lend: 0, fast: superblock.fast() };
    let fs = LocalBlueFs::mount(device, options, None).await.expect("mounts");
    fs.leave_fast().await.expect("leaves");
    assert_eq!((fs.stats().fast_bytes, fs.stats().spilled_bytes), (0, 0));
}

async fn change(core: &Core, world: &World, what: Change, to: &SimDisk, id: u128) -> Result<(), OpenError> {
    let device = world.device(core);
    match what {
        Change::Move(role) => {
            let keys = if role == Role::Db { keys(core, world).await } else { Vec::new() };
            Engine::move_part(&*device, &to.open(core), role, Uuid::from_u128(id), &keys).await?;
        }
        Change::Remove(role) => {
            if role == Role::Db {
                leave(core, world).await;
            }
            Engine::remove_part(&*device, role).await?;
        }
    }
    Ok(())
}

/// The devices that the store has now; true if it is those after the change.
async fn settle(core: &Core, world: &mut World, what: Change, to: &SimDisk, ids: &[u128]) -> bool {
    let main = world.disk.open(core);
    let parts = Engine::main_superblock(&main).await.expect("reads").parts;
    let (Change::Move(role) | Change::Remove(role)) = what;
    let part = parts.get(role);
    let is_done = match what {
        Change::Move(_) => ids.iter().any(|id| part.is_some_and(|part| part.id == Uuid::from_u128(*id))),
        Change::Remove(_) => part.is_none(),
    };
    if is_done {
        world.parts[role.slot() - 1].1 = Some(to.clone()).filter(|_| matches!(what, Change::Move(_)));
    }
    is_done
}

/// One store, changed and cut off; true if the change was in time.
fn cut(seed: u64, roles: &[Role], what: Change) -> bool {
    let mut random = RandomStream::new(seed, "leaving");
    let world = World::new(seed, 16 << 20, 4096, 64 << 10).with_parts(seed, roles, PART).stacked(2 << 20);
    let (Change::Move(role) | Change::Remove(role)) = what;
    let to = disk(role, PART + (random.below(3) << 16), seed + 1000);
    let sim = Sim::new(seed, Config::default());
    let of = world.clone();
    sim.run(0, move |core| async move {
        of.format(&core).await;
        let store = of.mount(&core).await.expect("mounts");
        store.submit(Generator::prologue()).durable.await.expect("creates");
        write(&store, 0).await;
        if seed % 2 == 0 {
            store.checkpoint().await.expect("checkpoints");
        }
        write(&store, 7).await;
        if seed % 3 == 0 {
            store.close().await.expect("closes");
        }
    });
    sim.kill_silently(0);
    let lose = |random: &mut RandomStream| {
        if random.one_in(4) {
            world.end_process()
        } else {
            world.crash()
        }
        to.crash();
    };
    lose(&mut random);
    let (of, target) = (world.clone(), to.clone());
    let core = sim.core(0);
    core.clone().spawn(rt::Group::Client, "changing", async move {
        change(&core, &of, what, &target, 5).await.expect("changes");
    });
    let longest = if what == Change::Remove(Role::Db) { 60_000 } else { 12_000 };
    sim.run_for(Duration::from_micros(random.below(longest)));
    sim.kill_silently(0);
    lose(&mut random);
    let mut world = world.clone();
    sim.run(0, move |core| async move {
        let was_done = settle(&core, &mut world, what, &to, &[5]).await;
        if seed % 2 == 0 {
            let store = world.mount(&core).await.expect("mounts");
            check(&store, 7).await;
            store.close().await.expect("closes");
        }
        if !was_done {
            change(&core, &world, what, &to, 6).await.expect("changes");
            assert!(settle(&core, &mut world, what, &to, &[5, 6]).await);
        } else if let Change::Remove(_) = what {
            let again = Engine::remove_part(&*world.device(&core), role).await;
            assert!(matches!(again, Err(OpenError::Part(PartError::Absent { .. }))), "{again:?}");
        }
        let store = world.mount(&core).await.expect("mounts");
        check(&store, 7).await;
        write(&store, 11).await;
        assert_eq!(store.stats().fast > 0, world.parts[0].1.is_some());
        store.close().await.expect("closes");
        let store = world.mount(&core).await.expect("mounts");
        check(&store, 11).await;
        store.close().await.expect("closes");
        was_done
    })
}

#[test]
fn parts_move_and_go_whole_or_not_at_all() {
    const BOTH: [Role; 2] = Role::BESIDE;
    for (roles, what) in [
        (&BOTH[..], Change::Move(Role::Db)),
        (&BOTH, Change::Move(Role::Wal)),
        (&BOTH, Change::Remove(Role::Db)),
        (&BOTH, Change::Remove(Role::Wal)),
        (&[Role::Db], Change::Move(Role::Db)),
        (&[Role::Db], Change::Remove(Role::Db)),
        (&[Role::Wal], Change::Remove(Role::Wal)),
    ] {
        let done = (0..24).filter(|seed| cut(*seed, roles, what)).count();
        assert!((2..=22).contains(&done), "{what:?} of {roles:?}: {done} of 24 were in time");
    }
}

#[test]
fn what_is_too_small_or_in_use_is_refused() {
    Sim::new(1, Config::default()).run(0, |core| async move {
        let world =
            World::new(1, 16 << 20, 4096, 64 << 10).with_parts(1, &Role::BESIDE, PART).stacked(2 << 20);
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mounts");
        store.submit(Generator::prologue()).durable.await.expect("creates");
        write(&store, 1).await;
        store.close().await.expect("closes");
        let before: Vec<u64> = world.disks().map(|disk| disk.counters().writes).collect();
        for (role, bytes) in [(Role::Db, PART - 4096), (Role::Wal, 256 << 10)] {
            let refused = change(&core, &world, Change::Move(role), &disk(role, bytes, 2), 5).await;
            assert!(matches!(&refused, Err(OpenError::Part(PartError::TooSmall { .. }))), "{refused:?}");
        }
        let wal = world.parts[1].1.clone().expect("a disk");
        let refused = change(&core, &world, Change::Move(Role::Db), &wal, 5).await;
        assert!(matches!(&refused, Err(OpenError::Part(PartError::InUse { .. }))), "{refused:?}");
        assert_eq!(before, world.disks().map(|disk| disk.counters().writes).collect::<Vec<_>>());
        check(&world.mount(&core).await.expect("mounts"), 1).await;
    });
}
