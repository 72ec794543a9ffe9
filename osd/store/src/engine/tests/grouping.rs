//! Transactions gather in groups: on the fastest device as many as are on their way together, and none waits alone.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use nvme::{BlockDevice, MemoryDevice, SimDisk, SimDiskConfig};
use rt::sim::{Config, Sim};
use rt::sync::oneshot;
use rt::{Core, Group};

use super::defragment::counter;
use super::world::World;
use crate::engine::Engine;
use crate::object_store::{ObjectStore, StoreError, Submitted};
use crate::suite::{Generator, collection, object, pattern};
use crate::{Op, Transaction};

const EACH: u32 = 20;

/// So many writers of a store on a device that answers at once, each of which waits for each of its writes: records for a group.
async fn records_for_a_group(core: Core, writers: u32) -> f64 {
    let world = World::new(1, 16 << 20, 4096, 1 << 20);
    let device: Rc<dyn BlockDevice> = Rc::new(MemoryDevice::new(16 << 20));
    world.format_on(&core, &*device).await;
    let store = world.mount_on(&core, device, false).await.expect("mount");
    store.submit(Generator::prologue()).durable.await.expect("create");
    let counted = || {
        let counters = store.stats().counters;
        let of = |name: &str| counters.iter().find(|(known, _)| *known == name).expect("a counter").1;
        (of("records"), of("groups") - of("groups_bare"))
    };
    let before = counted();
    let write = async |writer: u32| {
        for number in 0..EACH {
            let object = object(&format!("object-{writer}"), writer);
            let data = vec![pattern(number.into(), 4096)];
            let op = Op::Write { collection: collection(), object, offset: 0, data };
            store.submit(Transaction { ops: vec![op] }).durable.await.expect("write");
        }
    };
    join_all((0..writers).map(write)).await;
    let after = counted();
    store.close().await.expect("close");
    let (records, groups) = (after.0 - before.0, after.1 - before.1);
    assert!(records >= u64::from(writers * EACH), "{records}");
    records as f64 / groups as f64
}

/// Groups and tasks that so many usual overwrites make that are submitted by a task each, and how many took effect at once.
async fn overwrites_that_come_together(core: Core, writers: u32) -> (u64, u64, u32) {
    let world = World::new(1, 16 << 20, 4096, 1 << 20);
    let device: Rc<dyn BlockDevice> = Rc::new(MemoryDevice::new(16 << 20));
    world.format_on(&core, &*device).await;
    let store = Rc::new(world.mount_on(&core, device, false).await.expect("mount"));
    store.submit(Generator::prologue()).durable.await.expect("create");
    for writer in 0..writers {
        overwrite(&store, writer, 0).durable.await.expect("write");
    }
    core.sleep(Duration::from_secs(1)).await;
    let counted =
        |store: &Engine| (counter(store, "groups") - counter(store, "groups_bare"), counter(store, "tasks"));
    let before = counted(&store);
    let at_once = Rc::new(Cell::new(0));
    let all = (0..writers).map(|writer| {
        let (store, at_once, (told, done)) = (store.clone(), at_once.clone(), oneshot());
        core.spawn(Group::Client, "writer", async move {
            let mut submitted = overwrite(&store, writer, 1);
            let readable = (&mut submitted.readable).now_or_never();
            at_once.set(at_once.get() + u32::from(readable == Some(Ok(()))));
            submitted.durable.await.expect("write");
            told.send(()).expect("somebody waits");
        });
        done
    });
    join_all(all.collect::<Vec<_>>()).await;
    let after = counted(&store);
    store.close().await.expect("close");
    (after.0 - before.0, after.1 - before.1, at_once.get())
}

/// Writes a block of a writer's object; not at its beginning, where a little may be kept with the keys.
fn overwrite(store: &Engine, writer: u32, number: u64) -> Submitted {
    let (object, data) = (object(&format!("object-{writer}"), writer), vec![pattern(number, 4096)]);
    let op = Op::Write { collection: collection(), object, offset: 64 << 10, data };
    store.submit(Transaction { ops: vec![op] })
}

/// The usual overwrites take effect when they are submitted, and those that come together join a group all the same, though the
/// simulated core runs ready tasks in any order; none makes a task but for its data.
#[test]
fn overwrites_that_come_together_join_few_groups_without_tasks() {
    const WRITERS: u32 = 16;
    const SEEDS: u64 = 20;
    let mut all_groups = 0;
    for seed in 0..SEEDS {
        let sim = Sim::new(seed, Config::default());
        let run = async move |core| overwrites_that_come_together(core, WRITERS).await;
        let (groups, tasks, at_once) = sim.run(0, run);
        assert_eq!(at_once, WRITERS, "readable at once");
        // One for each one's data, and up to two for a group.
        assert!(tasks <= u64::from(WRITERS) + 2 * groups, "{tasks} tasks, {groups} groups");
        all_groups += groups;
    }
    println!("{all_groups} groups of {SEEDS} seeds");
    assert!(all_groups < 3 * SEEDS, "{all_groups} groups");
}

/// A disk on which a write takes 80 us and a flush 500, and what clients of a store on it see: how long a write takes, and flushes
/// for each.
async fn on_a_slow_disk(core: Core, writers: u32, each: u64) -> (Duration, f64) {
    let exactly = |micros| (Duration::from_micros(micros), Duration::from_micros(micros));
    let mut config = SimDiskConfig::new("disk", 64 << 20);
    config.latency.write = exactly(80);
    config.latency.flush = exactly(500);
    config.latency.per_mib = Duration::ZERO;
    let mut world = World::new(1, 64 << 20, 4096, 4 << 20);
    world.disk = SimDisk::new(config, 1);
    world.format(&core).await;
    let store = world.mount(&core).await.expect("mount");
    store.submit(Generator::prologue()).durable.await.expect("create");
    for writer in 0..writers {
        overwrite(&store, writer, 0).durable.await.expect("write");
    }
    let (flushes, since) = (counter(&store, "flushes"), core.now());
    let write = async |writer: u32| {
        for number in 1..=each {
            overwrite(&store, writer, number).durable.await.expect("write");
        }
    };
    join_all((0..writers).map(write)).await;
    let took = Duration::from_nanos((core.now().0 - since.0) / each);
    let flushes = counter(&store, "flushes") - flushes;
    store.close().await.expect("close");
    (took, flushes as f64 / (u64::from(writers) * each) as f64)
}

/// One at a time takes what the device takes, to the nanosecond: no timer and nobody else is waited for. Data and journal are
/// written at the same time. Of many at a time a flush makes many durable.
#[test]
fn a_write_waits_for_the_device_alone_and_many_share_a_flush() {
    // Polls take no time, and timers are not late.
    let exact =
        || Config { poll_cost_max: Duration::ZERO, timer_slack_max: Duration::ZERO, ..Config::default() };
    let sim = Sim::new(1, exact());
    let (took, flushes) = sim.run(0, async move |core| on_a_slow_disk(core, 1, 50).await);
    assert_eq!((took, flushes), (Duration::from_micros(580), 1.0));
    let sim = Sim::new(1, exact());
    let (took, flushes) = sim.run(0, async move |core| on_a_slow_disk(core, 32, 50).await);
    println!("32 writers: {took:?}, {flushes:.4} flushes for each");
    assert!(flushes <= 1.0 / 16.0, "{flushes} flushes for each write");
}

/// What took effect at once is finished by a close that comes right after, whether or not somebody still wants to know.
#[test]
fn a_close_finishes_what_took_effect_at_once() {
    let sim = Sim::new(1, Config::default());
    sim.run(0, async move |core| {
        let world = World::new(1, 16 << 20, 4096, 1 << 20);
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        for writer in 0..2 {
            overwrite(&store, writer, 0).durable.await.expect("write");
        }
        let (asked, dropped) = (overwrite(&store, 0, 1), overwrite(&store, 1, 2));
        drop(dropped);
        store.close().await.expect("close");
        asked.durable.await.expect("what was submitted before is finished");
        let store = world.mount(&core).await.expect("mount");
        for (writer, number) in [(0, 1), (1, 2)] {
            let object = object(&format!("object-{writer}"), writer);
            let read = store.read(collection(), &object, 64 << 10, 4096).await.expect("read").concat();
            assert!(read == pattern(number, 4096), "of writer {writer}");
        }
        store.close().await.expect("close");
    });
}

/// A device that fails: everybody is told who waits, in the queue or with a group on its way.
#[test]
fn a_failure_is_told_to_all_that_took_effect() {
    let sim = Sim::new(1, Config::default());
    sim.run(0, async move |core| {
        let world = World::new(1, 16 << 20, 4096, 1 << 20);
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        for writer in 0..3 {
            overwrite(&store, writer, 0).durable.await.expect("write");
        }
        let on_its_way = overwrite(&store, 0, 1);
        // Long enough for its group to be built, not for the device.
        for _ in 0..20 {
            core.yield_now().await;
        }
        let queued = [overwrite(&store, 1, 1), overwrite(&store, 2, 1)];
        store.inner.fail("as a test wants it".into());
        for submitted in std::iter::once(on_its_way).chain(queued) {
            assert_eq!(submitted.readable.await, Ok(()));
            assert!(matches!(submitted.durable.await, Err(StoreError::Down(_))));
        }
        let refused = overwrite(&store, 0, 2);
        assert!(matches!(refused.readable.await, Err(StoreError::Down(_))));
        assert!(matches!(refused.durable.await, Err(StoreError::Down(_))));
        drop(store.close().await);
    });
}

/// One that is submitted behind a transaction on its way does not overtake it.
#[test]
fn an_overwrite_does_not_overtake() {
    let sim = Sim::new(1, Config::default());
    sim.run(0, async move |core| {
        let world = World::new(1, 16 << 20, 4096, 1 << 20);
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        let write = |offset: u64, len: usize, byte: u8| {
            let data = vec![Bytes::from(vec![byte; len])];
            Op::Write { collection: collection(), object: object("one", 1), offset, data }
        };
        let submit = |op: Op| store.submit(Transaction { ops: vec![op] });
        submit(write(64 << 10, 8192, 1)).durable.await.expect("write");
        // A part of its blocks stays, so it goes the general way.
        let first = submit(write((64 << 10) + 100, 8000, 2));
        let mut second = submit(write(64 << 10, 4096, 3));
        assert!((&mut second.readable).now_or_never().is_none(), "it waits for its turn");
        second.durable.await.expect("write");
        first.durable.await.expect("write");
        let read = store.read(collection(), &object("one", 1), 64 << 10, 8192).await.expect("read").concat();
        assert!(read[..4096].iter().all(|byte| *byte == 3) && read[4096..8100].iter().all(|byte| *byte == 2));
        store.close().await.expect("close");
    });
}

#[test]
fn what_is_on_its_way_together_joins_one_group() {
    // Those of one collection take effect one a turn, and a group waits for eight.
    for (writers, least) in [(1, 1.0), (4, 2.5), (16, 5.0)] {
        let sim = Sim::new(1, Config::default());
        let found = sim.run(0, async move |core| records_for_a_group(core, writers).await);
        println!("{writers} writers: {found:.1} records for a group");
        assert!(found >= least, "{writers} writers: {found} records for a group");
    }
}
