//! A target for memory sizes the caches, is refused if it is too small, and lets writers wait.

use std::rc::Rc;
use std::time::Duration;

use rt::Core;
use rt::sim::{Config, Sim};

use super::world::World;
use crate::engine::{Engine, Options};
use crate::memory::MemoryTarget;
use crate::object_store::{ObjectStore, StoreError};
use crate::suite::{Generator, collection, object, pattern};
use crate::{Op, Transaction};

const MIB: u64 = 1 << 20;

fn with_store(test: impl AsyncFn(Core, Engine) + 'static) {
    let sim = Sim::new(1, Config::default());
    let mut world = World::new(1, 8 << 20, 4096, 256 << 10);
    let options = Options { cache_bytes_max: 3 * MIB, data_cache_bytes_max: 5 * MIB, ..Options::default() };
    world.options = options.within_memory(64 * MIB);
    let world = Rc::new(world);
    sim.run(0, |core| async move {
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        test(core, store).await;
    });
}

fn target(mib: u64) -> Option<MemoryTarget> {
    Some(MemoryTarget { bytes: mib * MIB, above: MIB, sharers: 1 })
}

fn sizes(store: &Engine) -> (u64, u64) {
    (store.inner.cache.borrow().bytes_max(), store.inner.blocks.borrow().bytes_max())
}

#[test]
fn caches_follow_the_target() {
    with_store(async |core, store| {
        assert_eq!(sizes(&store), (3 * MIB, 5 * MIB));
        let error = store.set_memory_target(target(1)).expect_err("too little");
        assert!(matches!(&error, StoreError::Invalid(why) if why.contains("the least is")), "{error}");
        assert_eq!(sizes(&store), (3 * MIB, 5 * MIB), "nothing changed");
        store.set_memory_target(target(200)).expect("enough");
        core.sleep(Duration::from_secs(20)).await;
        let (onodes, data) = sizes(&store);
        assert!(onodes > 20 * MIB && data > 50 * MIB && onodes + data < 180 * MIB, "{onodes} and {data}");
        store.set_memory_target(target(100)).expect("enough");
        core.sleep(Duration::from_secs(1)).await;
        let less = sizes(&store);
        assert!(less.0 < onodes && less.1 < data && less.0 + less.1 < 90 * MIB, "{less:?}");
        store.set_memory_target(None).expect("no target");
        assert_eq!(sizes(&store), (3 * MIB, 5 * MIB));
        store.close().await.expect("close");
    });
}

#[test]
fn who_writes_waits_while_memory_is_short_but_not_for_ever() {
    with_store(async |core, store| {
        let write = || {
            let (collection, data) = (collection(), vec![pattern(1, 4096)]);
            let ops = vec![Op::Write { collection, object: object("name", 1), offset: 0, data }];
            store.submit(Transaction { ops }).durable
        };
        let timed = async |expect: std::ops::Range<u64>| {
            let before = core.now();
            write().await.expect("write");
            let took = (core.now().0 - before.0) / 1_000_000;
            assert!(expect.contains(&took), "{took} ms");
        };
        timed(0..100).await;
        store.inner.memory_short.set(true);
        timed(2000..2600).await;
        assert_eq!(store.inner.counters.memory_waits.get(), 1);
        // A look finds that nothing is short, and lets those go that wait.
        store.set_memory_target(target(200)).expect("enough");
        store.inner.memory_short.set(true);
        timed(0..600).await;
        assert!(!store.inner.memory_short.get());
        store.close().await.expect("close");
    });
}
