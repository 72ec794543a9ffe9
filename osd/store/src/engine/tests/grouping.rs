//! Transactions gather in groups: on the fastest device as many as are on their way together, and none waits alone.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use nvme::{BlockDevice, MemoryDevice};
use rt::sim::{Config, Sim};
use rt::sync::oneshot;
use rt::{Core, Group};

use super::world::World;
use crate::engine::Engine;
use crate::object_store::ObjectStore;
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

/// The usual overwrites take effect when they are submitted, and those that come together join one group all the same; none makes a
/// task for itself.
#[test]
fn overwrites_that_come_together_join_one_group_without_tasks() {
    const WRITERS: u32 = 16;
    let sim = Sim::new(1, Config::default());
    let (groups, tasks, at_once) = sim.run(0, async move |core| {
        let world = World::new(1, 16 << 20, 4096, 1 << 20);
        let device: Rc<dyn BlockDevice> = Rc::new(MemoryDevice::new(16 << 20));
        world.format_on(&core, &*device).await;
        let store = Rc::new(world.mount_on(&core, device, false).await.expect("mount"));
        store.submit(Generator::prologue()).durable.await.expect("create");
        let write = |store: &Engine, writer: u32, number: u64| {
            let data = vec![pattern(number, 4096)];
            let object = object(&format!("object-{writer}"), writer);
            // Not at the beginning, where a little may be kept with the keys.
            let op = Op::Write { collection: collection(), object, offset: 64 << 10, data };
            store.submit(Transaction { ops: vec![op] })
        };
        for writer in 0..WRITERS {
            write(&store, writer, 0).durable.await.expect("write");
        }
        let of = |store: &Engine, name: &str| {
            let counters = store.stats().counters;
            counters.into_iter().find(|(known, _)| *known == name).expect("a counter").1
        };
        let counted = |store: &Engine| (of(store, "groups") - of(store, "groups_bare"), of(store, "tasks"));
        core.sleep(Duration::from_secs(1)).await;
        let before = counted(&store);
        let at_once = Rc::new(Cell::new(0));
        let writers = (0..WRITERS).map(|writer| {
            let (store, at_once, (told, done)) = (store.clone(), at_once.clone(), oneshot());
            core.spawn(Group::Client, "writer", async move {
                let mut submitted = write(&store, writer, 1);
                let readable = (&mut submitted.readable).now_or_never();
                at_once.set(at_once.get() + u32::from(readable == Some(Ok(()))));
                submitted.durable.await.expect("write");
                told.send(()).expect("somebody waits");
            });
            done
        });
        join_all(writers.collect::<Vec<_>>()).await;
        let after = counted(&store);
        store.close().await.expect("close");
        (after.0 - before.0, after.1 - before.1, at_once.get())
    });
    assert_eq!(at_once, WRITERS, "readable at once");
    assert_eq!(groups, 1);
    // One for the data of each, and one or two for the group.
    assert!(tasks <= u64::from(WRITERS) + 2, "{tasks} tasks");
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
        // The first is read before it is modified, so it waits for the device.
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
