//! A full device, failing devices, damage: bad luck that must not become worse.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use nvme::Fate;
use rt::sim::{Config, Sim};
use rt::{Core, Group};

use super::world::World;
use crate::engine::Engine;
use crate::object_store::{FsckLevel, ObjectStore, StoreError, StoreResult, Unwatched};
use crate::suite::{Generator, collection, join, object, pattern};
use crate::superblock::Superblock;
use crate::types::{CollectionId, LogVersion};
use crate::{ObjectId, Op, Transaction, limits};

fn in_a_world(seed: u64, world: World, test: impl AsyncFn(Core, Rc<World>) + 'static) {
    let sim = Sim::new(seed, Config::default());
    let world = Rc::new(world);
    sim.run(0, |core| async move {
        world.format(&core).await;
        test(core, world).await;
    });
}

async fn commit(store: &Engine, ops: Vec<Op>) -> StoreResult<()> {
    store.submit(Transaction { ops }).durable.await
}

async fn mount(core: &Core, world: &World) -> Engine {
    let store = world.mount(core).await.expect("mount");
    if store.collections().await.expect("collections").is_empty() {
        store.submit(Generator::prologue()).durable.await.expect("create");
    }
    store
}

fn write(name: &ObjectId, offset: u64, data: Bytes) -> Op {
    Op::Write { collection: collection(), object: name.clone(), offset, data: vec![data] }
}

async fn fsck(store: &Engine) {
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    assert_eq!(report.findings, vec![]);
}

async fn fill(store: &Engine) -> u32 {
    let mut number = 0;
    loop {
        let name = object(&format!("fill-{number}"), number);
        match commit(store, vec![write(&name, 0, pattern(number.into(), 30_000))]).await {
            Ok(()) => number += 1,
            Err(StoreError::NoSpace(_)) => return number,
            Err(other) => panic!("object {number}: {other}"),
        }
        assert!(number < 1000, "the device never fills");
    }
}

async fn full_device(core: Core, world: Rc<World>) {
    let mut store = mount(&core, &world).await;
    for round in 0..3 {
        let count = fill(&store).await;
        assert!(count > 10);
        fsck(&store).await;
        let late =
            commit(&store, vec![Op::Touch { collection: collection(), object: object("late", 9) }]).await;
        assert!(late.is_ok() || matches!(late, Err(StoreError::NoSpace(_))), "{late:?}");
        if round == 1 {
            store.close().await.expect("close");
            store = mount(&core, &world).await;
        }
        let data = store.read(collection(), &object("fill-3", 3), 0, u64::MAX).await.expect("read");
        assert!(join(data) == pattern(3, 30_000), "what was written before stays");
        for number in 0..count {
            let name = object(&format!("fill-{number}"), number);
            let ops = vec![Op::Remove { collection: collection(), object: name }];
            commit(&store, ops).await.expect("removing works on a full device");
        }
        fsck(&store).await;
    }
    store.close().await.expect("close");
}

#[test]
fn a_full_device_refuses_writes_and_allows_removals() {
    in_a_world(1, World::new(1, 2 << 20, 4096, 64 << 10), full_device);
    let mut discarding = World::new(1, 2 << 20, 4096, 64 << 10);
    discarding.options.discard = true;
    in_a_world(2, discarding, full_device);
}

#[test]
fn clones_can_be_removed_from_a_full_device() {
    let mut world = World::new(6, 5 << 20, 4096, 64 << 10).stacked(1 << 20);
    world.options.reserve_bytes = 512 << 10;
    in_a_world(6, world, async |core, world| {
        let store = mount(&core, &world).await;
        let head = |number: u32| object(&format!("head-{number}"), 1000 + number);
        let snap = |number| ObjectId { snap: 1, ..head(number) };
        for number in 0..4 {
            let data = vec![pattern(number.into(), 60_000)];
            let write = Op::Write { collection: collection(), object: head(number), offset: 0, data };
            let clone = Op::Clone { collection: collection(), object: head(number), target: snap(number) };
            commit(&store, vec![write]).await.expect("write");
            commit(&store, vec![clone]).await.expect("clone");
        }
        fill(&store).await;
        // And of keys.
        let entries =
            |number: u32| BTreeMap::from([(Bytes::from(format!("{number}")), pattern(number.into(), 900))]);
        let set =
            |number| Op::OmapSet { collection: collection(), object: head(0), entries: entries(number) };
        let mut refused = 0;
        for number in 0..100_000 {
            let result = commit(&store, vec![set(number)]).await;
            assert!(matches!(result, Ok(()) | Err(StoreError::NoSpace(_))), "{result:?}");
            refused += u32::from(result.is_err());
            if refused == 3 {
                break;
            }
        }
        assert_eq!(refused, 3, "the keys never fill it");
        let before = store.stats().allocated;
        // The first of two gives no data space back, and is possible all the same.
        for number in 0..4 {
            let first = if number % 2 == 0 { head(number) } else { snap(number) };
            commit(&store, vec![Op::Remove { collection: collection(), object: first }])
                .await
                .expect("remove");
        }
        assert_eq!(store.stats().allocated, before);
        fsck(&store).await;
        for number in 0..4 {
            let last = if number % 2 == 0 { snap(number) } else { head(number) };
            let data = store.read(collection(), &last, 0, u64::MAX).await.expect("read");
            assert!(join(data) == pattern(number.into(), 60_000));
            commit(&store, vec![Op::Remove { collection: collection(), object: last }])
                .await
                .expect("remove");
        }
        assert_eq!(store.stats().allocated, before - 4 * 61_440);
        fsck(&store).await;
        store.close().await.expect("close");
    });
}

#[test]
fn a_full_device_with_everything_on_it() {
    let mut world = World::new(1, 5 << 20, 4096, 64 << 10).stacked(1 << 20);
    world.options.reserve_bytes = 512 << 10;
    in_a_world(3, world, full_device);
}

#[test]
fn the_key_value_store_is_lent_what_it_needs() {
    let world = World::new(4, 8 << 20, 4096, 64 << 10).stacked(512 << 10);
    in_a_world(4, world, async |core, world| {
        let mut store = mount(&core, &world).await;
        let name = object("omap", 1);
        for round in 0..40u32 {
            let key = |n: u32| Bytes::from(format!("key {round} {n}"));
            let entries: BTreeMap<_, _> = (0..20).map(|n| (key(n), pattern(n.into(), 1000))).collect();
            let set = Op::OmapSet { collection: collection(), object: name.clone(), entries };
            commit(&store, vec![set]).await.expect("set");
            if round % 10 == 9 {
                fsck(&store).await;
                store.close().await.expect("close");
                store = mount(&core, &world).await;
            }
        }
        fsck(&store).await;
        let page = store.omap_scan(collection(), &name, None, Bytes::new(), 10_000, usize::MAX).await;
        assert_eq!(page.expect("scan").entries.len(), 800);
        store.close().await.expect("close");
    });
}

#[test]
fn an_unreadable_block_is_an_error_for_that_object_only() {
    in_a_world(5, World::new(5, 4 << 20, 4096, 64 << 10), async |core, world| {
        let store = mount(&core, &world).await;
        let (good, bad) = (object("good", 1), object("bad", 2));
        commit(&store, vec![write(&bad, 0, pattern(1, 8192))]).await.expect("write");
        commit(&store, vec![write(&good, 0, pattern(2, 8192))]).await.expect("write");
        let superblock = Engine::superblock(&*world.device(&core)).await.expect("superblock");
        world.disk.break_blocks(superblock.kv.end()..superblock.kv.end() + 4096);
        let broken = store.read(collection(), &bad, 0, 10).await;
        assert!(matches!(broken, Err(StoreError::Io(_))), "{broken:?}");
        assert!(store.read(collection(), &bad, 4096, 10).await.is_ok(), "its other block is fine");
        let fine = store.read(collection(), &good, 0, u64::MAX).await.expect("read");
        assert!(join(fine) == pattern(2, 8192));
        let partial = commit(&store, vec![write(&bad, 5, Bytes::from_static(b"x"))]).await;
        assert!(matches!(partial, Err(StoreError::Io(_))), "{partial:?}");
        commit(&store, vec![write(&bad, 0, pattern(3, 8192))]).await.expect("whole blocks need no read");
        fsck(&store).await;
        store.close().await.expect("close");
    });
}

#[test]
fn data_lost_on_its_way_to_an_unreadable_block_is_lost_like_any() {
    in_a_world(11, World::new(11, 4 << 20, 4096, 64 << 10), async |core, world| {
        let store = mount(&core, &world).await;
        let (old, new) = (object("old", 1), object("new", 2));
        commit(&store, vec![write(&old, 0, pattern(1, 8192))]).await.expect("write");
        let superblock = Engine::superblock(&*world.device(&core)).await.expect("superblock");
        let free = superblock.kv.end() + 8192..superblock.window - 4096;
        world.disk.break_blocks(free.clone());
        let submitted = store.submit(Transaction { ops: vec![write(&new, 0, pattern(2, 8192))] });
        submitted.readable.await.expect("readable");
        // The record is there, its data is not, and what was there before cannot be read.
        world.disk.crash_with(|write| if free.contains(&write.offset) { Fate::Lost } else { Fate::Kept });
        drop(store);
        let store = world.mount(&core).await.expect("mount");
        let kept = store.read(collection(), &old, 0, u64::MAX).await.expect("read");
        assert!(join(kept) == pattern(1, 8192));
        let lost = store.stat(collection(), &new).await;
        assert!(matches!(lost, Err(StoreError::NotFound(_))), "{lost:?}");
        fsck(&store).await;
        store.close().await.expect("close");
    });
}

#[test]
fn a_mount_builds_on_nothing_that_is_only_in_the_cache() {
    for seed in 0..30 {
        in_a_world(seed, World::new(seed, 4 << 20, 4096, 64 << 10), async |core, world| {
            let store = mount(&core, &world).await;
            let superblock = Engine::superblock(&*world.device(&core)).await.expect("superblock");
            let copies = Superblock::places(superblock.window, superblock.block.into());
            let ops = vec![write(&object("name", 1), 0, pattern(1, 100))];
            store.submit(Transaction { ops }).readable.await.expect("readable");
            core.sleep(Duration::from_micros(core.random_u64() % 300)).await;
            world.disk.end_process();
            drop(store);
            // The next process dies when, of all that is not durable, the disk will keep nothing but its superblock.
            let (next, here) = (core.clone(), Rc::clone(&world));
            drop(core.spawn(Group::Client, "mount", async move { drop(here.mount(&next).await) }));
            while !copies.iter().any(|at| world.disk.is_unsettled(&(*at..at + 4096))) {
                core.sleep(Duration::from_micros(1)).await;
            }
            let is_superblock = |write: &nvme::UnsettledWrite| copies.contains(&write.offset);
            world.disk.crash_with(|write| if is_superblock(write) { Fate::Kept } else { Fate::Lost });
            world.mount(&core).await.expect("mount").close().await.expect("close");
        });
    }
}

#[test]
fn a_failed_flush_takes_the_store_down_and_nothing_is_acknowledged() {
    in_a_world(6, World::new(6, 4 << 20, 4096, 64 << 10), async |core, world| {
        let store = mount(&core, &world).await;
        let name = object("name", 1);
        world.disk.fail_next_flush();
        let down = commit(&store, vec![write(&name, 0, pattern(1, 100))]).await;
        assert!(matches!(down, Err(StoreError::Down(_))), "{down:?}");
        let later = commit(&store, vec![write(&name, 0, pattern(1, 100))]).await;
        assert!(matches!(later, Err(StoreError::Down(_))), "{later:?}");
        let read = store.read(collection(), &name, 0, 1).await;
        assert!(matches!(read, Err(StoreError::Down(_))), "{read:?}");
        let closed = store.close().await;
        assert!(matches!(closed, Err(StoreError::Down(_))), "{closed:?}");
    });
}

#[test]
fn a_failed_write_takes_the_store_down() {
    in_a_world(7, World::new(7, 4 << 20, 4096, 64 << 10), async |core, world| {
        let store = mount(&core, &world).await;
        let superblock = Engine::superblock(&*world.device(&core)).await.expect("superblock");
        world.disk.fail_writes(superblock.kv.end()..superblock.window);
        let down = commit(&store, vec![write(&object("name", 1), 0, pattern(1, 5000))]).await;
        assert!(matches!(down, Err(StoreError::Down(_))), "{down:?}");
    });
}

#[test]
fn damage_in_the_journal_below_what_was_durable_is_no_crash() {
    in_a_world(8, World::new(8, 4 << 20, 4096, 256 << 10), async |core, world| {
        let store = mount(&core, &world).await;
        for number in 0..10 {
            commit(&store, vec![write(&object("name", 1), number, pattern(1, 100))]).await.expect("write");
        }
        // Killed while the journal holds everything: the second of its groups rots.
        drop(store);
        let superblock = Engine::superblock(&*world.device(&core)).await.expect("superblock");
        world.disk.corrupt(superblock.journal.start + 4096 + 80, 1);
        let refused = world.mount(&core).await.err().map(|error| error.to_string());
        assert!(refused.as_ref().is_some_and(|text| text.contains("although it was durable")), "{refused:?}");
        world.disk.corrupt(superblock.journal.start + 4096 + 80, 1);
        let store = world.mount(&core).await.expect("mount");
        fsck(&store).await;
        store.close().await.expect("close");
    });
}

#[test]
fn opening_says_what_is_wrong() {
    let sim = Sim::new(9, Config::default());
    let world = Rc::new(World::new(9, 4 << 20, 4096, 64 << 10));
    sim.run(0, |core| async move {
        let text = |result: crate::OpenResult<Engine>| result.err().expect("refused").to_string();
        let blank = text(world.mount(&core).await);
        assert!(blank.contains("holds no store"), "{blank}");
        let tiny = World::new(9, 64 << 10, 4096, 64 << 10);
        let small = Engine::format(&*tiny.device(&core), &tiny.format).await.expect_err("too small");
        assert!(small.to_string().contains("at least"), "{small}");
        world.format(&core).await;
        world.disk.corrupt(100, 1);
        world.mount(&core).await.expect("the second copy is enough").close().await.expect("close");
        for place in [100, (4 << 20) - 4096 + 100] {
            world.disk.corrupt(place, 1);
        }
        let corrupt = text(world.mount(&core).await);
        assert!(corrupt.contains("holds no store"), "{corrupt}");
    });
}

#[test]
fn an_onode_changed_many_times_reaches_the_key_value_store_once() {
    in_a_world(10, World::new(10, 4 << 20, 4096, 256 << 10), async |core, world| {
        let store = mount(&core, &world).await;
        store.checkpoint().await.expect("checkpoint");
        let count = |name: &str| {
            let counters = store.stats().counters;
            counters.iter().find(|(of, _)| *of == name).expect("a counter").1
        };
        let before = count("checkpoint_bytes");
        let name = object("hot", 1);
        for value in 0..100u64 {
            let attrs = BTreeMap::from([(Bytes::from_static(b"a"), pattern(value, 1000))]);
            let set = Op::SetAttrs { collection: collection(), object: name.clone(), attrs };
            commit(&store, vec![set]).await.expect("set");
        }
        store.checkpoint().await.expect("checkpoint");
        assert!(count("checkpoint_bytes") - before < 3 * 2000, "{}", count("checkpoint_bytes") - before);
        store.close().await.expect("close");
    });
}

#[test]
fn one_flush_serves_many_at_depth_and_none_waits_at_depth_one() {
    in_a_world(11, World::new(11, 16 << 20, 4096, 1 << 20), async |core, world| {
        let store = mount(&core, &world).await;
        let flushes = || store.stats().counters.iter().find(|(of, _)| *of == "flushes").expect("a counter").1;
        let name = |n: u32| object(&format!("n{n}"), n);
        let before = flushes();
        for n in 0..20 {
            commit(&store, vec![write(&name(n), 0, pattern(1, 4096))]).await.expect("write");
        }
        let alone = flushes() - before;
        assert!((20..=22).contains(&alone), "{alone} flushes for 20 writes one after another");
        let before = flushes();
        let submit = |n| store.submit(Transaction { ops: vec![write(&name(n), 0, pattern(2, 4096))] });
        let all: Vec<_> = (0..200).map(submit).collect();
        for one in all {
            one.durable.await.expect("durable");
        }
        let together = flushes() - before;
        assert!(together < 100, "{together} flushes for 200 writes at once");
        store.close().await.expect("close");
    });
}

/// Many collections whose logs do not all fit the region at the length that the options ask for.
async fn short_log(core: Core, world: Rc<World>) {
    let mut store = mount(&core, &world).await;
    let ids: Vec<CollectionId> = (0..16).map(|seed| CollectionId { pool: 8, seed }).collect();
    let create = ids.iter().map(|id| Op::CreateCollection { collection: *id, bits: 4 }).collect();
    commit(&store, create).await.expect("create");
    for version in 1..=200 {
        let entry = Bytes::from(vec![7; 150]);
        let version = LogVersion { epoch: 1, version };
        let append = |id: &CollectionId| Op::LogAppend { collection: *id, version, entry: entry.clone() };
        commit(&store, ids.iter().map(append).collect()).await.expect("the oldest entries make room");
        if version.version % 70 == 0 {
            store.close().await.expect("close");
            store = world.mount(&core).await.expect("mount");
        }
    }
    for id in ids {
        let log = store.log(id).await.expect("log");
        assert!(log.len() >= limits::PG_LOG_ENTRIES_FLOOR, "{} entries", log.len());
        assert_eq!(log.last().map(|(version, _)| version.version), Some(200));
    }
}

#[test]
fn a_log_region_that_is_short_shortens_logs_and_refuses_nothing() {
    in_a_world(3, World::new(3, 32 << 20, 4096, 64 << 10), short_log);
}

/// One busy collection and room for what the options ask for.
async fn long_log(core: Core, world: Rc<World>) {
    let mut store = mount(&core, &world).await;
    let id = CollectionId { pool: 8, seed: 0 };
    commit(&store, vec![Op::CreateCollection { collection: id, bits: 0 }]).await.expect("create");
    let append = |version| Op::LogAppend {
        collection: id,
        version: LogVersion { epoch: 1, version },
        entry: Bytes::from(vec![7; 20]),
    };
    let mut next = 1;
    for _ in 0..100 {
        commit(&store, (next..next + 90).map(append).collect()).await.expect("append");
        next += 90;
        if next % 20 == 1 {
            store.close().await.expect("close");
            store = world.mount(&core).await.expect("mount");
        }
        let log = store.log(id).await.expect("log");
        let all = usize::try_from(next - 1).expect("few");
        assert!(log.len() >= limits::PG_LOG_ENTRIES_WANTED.min(all), "{} of {all} entries", log.len());
        assert!(log.len() <= limits::PG_LOG_ENTRIES_MAX);
    }
}

#[test]
fn a_log_region_that_is_long_enough_keeps_what_is_wanted() {
    let mut world = World::new(4, 32 << 20, 4096, 256 << 10);
    world.format.pg_log_bytes = 2 << 20;
    in_a_world(4, world, long_log);
}
