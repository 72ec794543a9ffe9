//! Transactions gather in groups: on the fastest device as many as are on their way together, and none waits alone.

use std::rc::Rc;

use futures_util::future::join_all;
use nvme::{BlockDevice, MemoryDevice};
use rt::Core;
use rt::sim::{Config, Sim};

use super::world::World;
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
