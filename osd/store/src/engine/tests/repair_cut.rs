//! Power is cut at every write of a repair, or now and then where its keys are not on the disk, and everything that is not durable is kept, lost or torn: another repair then ends
//! what the first one began, and what was not given up is as it was.

use std::collections::BTreeSet;
use std::rc::Rc;

use bluefs::kv::KvOp;
use nvme::SimDisk;
use rt::sim::{Config, Sim};
use rt::{Core, Group};

use super::repair::{self, ALL, Content, Damage, Loses, look, others};
use super::world::{Below, World};
use crate::devices::Role;
use crate::engine::{FreeList, RepairOptions, RepairReport};

/// What happens between two cuts where keys are not on the disk.
const STEPS: u64 = 12;

/// Where the keys of the store are.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a key-value store that may lose what is not flushed.
    Beside,
    /// On BlueFS, on the disk.
    Disk,
    /// On BlueFS, which begins on a fast disk and has grown beyond it.
    Spilled,
}

fn world(place: Place, free_list: FreeList) -> World {
    let world = repair::world(free_list);
    match place {
        Place::Beside => world,
        Place::Disk => world.stacked(1 << 20),
        Place::Spilled => world.stacked(256 << 10).with_parts(1, &Role::BESIDE, 448 << 10),
    }
}

/// Damage that can be planted together: each in a place of its own.
fn planted(names: &[&str]) -> Vec<&'static Damage> {
    let named = |name: &&str| ALL.iter().find(|damage| damage.name == *name).expect("a kind of damage");
    names.iter().map(named).collect()
}

fn writes(world: &World) -> u64 {
    world.disks().map(|disk| disk.counters().writes).sum()
}

/// Cuts a repair at each write, `crashes` times each. Gives how many cuts there were, and after how many of them nothing was
/// left to repair.
fn cut_everywhere(
    place: Place,
    free_list: FreeList,
    damage: &'static [&'static str],
    crashes: u64,
) -> (u64, u64) {
    let damage = planted(damage);
    let how = RepairOptions { discards: damage.iter().any(|damage| damage.loses != Loses::Nothing) };
    let (damaged, before) = Sim::new(1, Config::default()).run(0, move |core: Core| async move {
        let world = world(place, free_list);
        repair::populate(&world, &core).await;
        let (_, before) = look(&world, &core).await.expect("it opens");
        let known = repair::known(&world, &core).await;
        let ops: Vec<KvOp> = damage.iter().flat_map(|damage| (damage.plant)(&known)).collect();
        repair::plant(&world, &core, ops).await;
        (world, before)
    });
    let (mut cuts, mut ended) = (0, 0);
    for at in 1.. {
        for crash in 0..crashes {
            match cut(&damaged.copy(), how, at, crash, &before) {
                Some(was_left) => ended += u64::from(!was_left),
                None => return (cuts, ended),
            }
            cuts += 1;
        }
    }
    (cuts, ended)
}

/// Cuts a repair at its write `at`; none if it was over before, else whether that left something to repair.
fn cut(world: &World, how: RepairOptions, at: u64, crash: u64, before: &Content) -> Option<bool> {
    let sim = Sim::new(at << 8 | crash, Config::default());
    let begun = writes(world);
    let first = world.clone();
    let core = sim.core(0);
    let done = Rc::new(std::cell::Cell::new(false));
    let ended = Rc::clone(&done);
    core.clone().spawn(Group::Client, "repair", async move {
        first.repair(&core, how).await.expect("the first repair");
        ended.set(true);
    });
    let on_disk = matches!(world.below, Below::Stacked(_));
    let mut steps = 0;
    while if on_disk { writes(world) < begun + at } else { steps < at * STEPS } && !done.get() {
        assert!(sim.step(), "the repair makes progress");
        steps += 1;
    }
    if done.get() {
        return None;
    }
    // Somewhere between this write and the next.
    for _ in 0..crash * 3 {
        sim.step();
    }
    sim.kill_silently(0);
    if crash % 4 == 3 {
        world.end_process()
    } else {
        world.crash()
    }
    if let Below::Plain(kv) = &world.below {
        kv.crash(usize::try_from((at + crash) % kv.choices() as u64).expect("small"));
    }
    let (second, before) = (world.clone(), before.clone());
    let (report, findings, after): (RepairReport, _, _) = sim.run(0, move |core: Core| async move {
        let report = second.repair(&core, how).await.expect("the second repair");
        let (findings, after) = look(&second, &core).await.expect("it opens");
        (report, findings, after)
    });
    assert_eq!(findings, BTreeSet::new(), "cut at write {at}, crash {crash}: {report:?}");
    let (after, before) = match how.discards {
        true => (others(after), others(before)),
        false => (after, before),
    };
    assert_eq!(after, before, "cut at write {at}, crash {crash}");
    for disk in world.disks().map(SimDisk::counters) {
        assert_eq!((disk.racing_writes, disk.racing_reads), (0, 0));
    }
    Some(!report.repaired.is_empty())
}

const LOSES_NOTHING: &[&str] = &[
    "space of an object is marked free",
    "a share counts too few uses",
    "nobody has an omap",
    "an onode counts other bytes",
    "a pool's statistics are wrong",
    "nobody has a shard",
];
const FREE_LIST: &[&str] = &["the free list is garbage", "a share is gone"];
const DISCARDS: &[&str] =
    &["space that nobody has is marked used", "a shard is garbage", "a key of an omap cannot be read"];

#[test]
fn a_repair_that_is_cut_at_any_write_can_be_repeated() {
    let (mut cuts, mut ended) = (0, 0);
    for free_list in FreeList::ALL {
        for place in [Place::Beside, Place::Disk, Place::Spilled] {
            for damage in [LOSES_NOTHING, FREE_LIST, DISCARDS] {
                let (more, of_these) = cut_everywhere(place, free_list, damage, 4);
                assert!(of_these > 0 && of_these < more, "{place:?} {free_list:?}: {of_these} of {more}");
                (cuts, ended) = (cuts + more, ended + of_these);
            }
        }
    }
    println!("{cuts} cuts, {ended} of them after the repair was durable");
    assert!(cuts >= 480, "{cuts}");
}
