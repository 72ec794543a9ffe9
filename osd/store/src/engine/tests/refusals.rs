//! A store that has no room for keys refuses quickly, and what that costs does not grow with the number of refusals.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use rt::Core;
use rt::sim::{Config, Sim};

use super::world::World;
use crate::engine::Engine;
use crate::object_store::{ObjectStore, StoreError, StoreResult};
use crate::suite::{Generator, collection, object, pattern};
use crate::{ObjectId, Op, Transaction};

/// Objects with keys, of which the last few are removed one by one.
const OBJECTS: u64 = 400;

fn name(number: u64) -> ObjectId {
    object(&format!("keys-{}", number % OBJECTS), u32::try_from(number % OBJECTS).expect("few"))
}

async fn set(store: &Engine, number: u64, bytes: usize) -> StoreResult<()> {
    let key = Bytes::from(format!("{number:06}"));
    let entries = BTreeMap::from([(key, pattern(number, bytes))]);
    let op = Op::OmapSet { collection: collection(), object: name(number), entries };
    store.submit(Transaction { ops: vec![op] }).durable.await
}

async fn remove(store: &Engine, number: u64) {
    let op = Op::Remove { collection: collection(), object: name(number) };
    store.submit(Transaction { ops: vec![op] }).durable.await.expect("removing always works");
}

/// What refusals cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    compactions: u64,
    checkpoints: u64,
}

impl Cost {
    fn of(store: &Engine) -> Self {
        let counters = store.stats().counters;
        let count = |name: &str| counters.iter().find(|(of, _)| *of == name).expect("a counter").1;
        Self { compactions: store.inner.kv.stats().compactions, checkpoints: count("checkpoints") }
    }

    fn since(self, before: Self) -> Self {
        let compactions = self.compactions - before.compactions;
        Self { compactions, checkpoints: self.checkpoints - before.checkpoints }
    }
}

/// Small keys until none is taken any more; gives the number of the next.
async fn fill(store: &Engine, from: u64) -> u64 {
    let mut refused = 0;
    for number in from..20_000 {
        match set(store, number, 900).await {
            Ok(()) => refused = 0,
            Err(StoreError::NoSpace(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        if refused == 8 {
            return number;
        }
    }
    panic!("it never fills");
}

async fn full(core: &Core) -> (Rc<Engine>, u64) {
    let mut world = World::new(3, 4 << 20, 4096, 64 << 10).stacked(512 << 10);
    world.options.overlay_bytes_max = 64 << 10;
    world.options.reserve_bytes = 128 << 10;
    world.format(core).await;
    let store = Rc::new(world.mount(core).await.expect("mount"));
    store.submit(Generator::prologue()).durable.await.expect("create");
    let written = fill(&store, 0).await;
    // What is under way by then makes some room.
    core.sleep(Duration::from_secs(60)).await;
    let written = fill(&store, written).await;
    (store, written)
}

#[test]
fn refusals_cost_nothing_while_nothing_is_removed() {
    Sim::new(3, Config::default()).run(0, |core| async move {
        let (store, written) = full(&core).await;
        let before = Cost::of(&store);
        let began = core.now();
        for number in 0..500 {
            let refused = set(&store, written + number, 30_000).await;
            assert!(matches!(refused, Err(StoreError::NoSpace(_))), "{refused:?}");
        }
        let each = Duration::from_nanos((core.now().0 - began.0) / 500);
        assert!(each < Duration::from_millis(10), "a refusal takes {each:?}");
        let cost = Cost::of(&store).since(before);
        assert!(cost.compactions <= 1 && cost.checkpoints <= 2, "{cost:?} for 500 refusals");
        let before = Cost::of(&store);
        core.sleep(Duration::from_secs(600)).await;
        let idle = Cost::of(&store).since(before);
        assert!(idle.compactions == 0 && idle.checkpoints <= 1, "{idle:?} with nothing to do");
        store.close().await.expect("close");
    });
}

#[test]
fn few_removals_are_not_compacted_one_by_one() {
    Sim::new(3, Config::default()).run(0, |core| async move {
        let (store, written) = full(&core).await;
        let before = Cost::of(&store);
        let mut refused = 0;
        for number in 0..100 {
            if number % 10 == 0 {
                remove(&store, number / 10).await;
            }
            match set(&store, written + number, 30_000).await {
                Ok(()) => {}
                Err(StoreError::NoSpace(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        let cost = Cost::of(&store).since(before);
        println!("{refused} refused: {cost:?}");
        assert!(refused > 80 && cost.compactions <= 4, "{cost:?} for {refused} refusals");
        // Much is compacted at once, and what is removed makes room.
        for number in 10..OBJECTS / 2 {
            remove(&store, number).await;
        }
        core.sleep(Duration::from_secs(1)).await;
        for number in 0..20 {
            set(&store, number, 900).await.expect("there is room again");
        }
        store.close().await.expect("close");
    });
}

/// Some write, some remove, all at once: whoever waits for another's attempt is woken, and what is removed lets writes in.
#[test]
fn many_at_once_are_refused_or_served_and_none_waits_for_ever() {
    Sim::new(3, Config::default()).run(0, |core| async move {
        let (store, written) = full(&core).await;
        let (began, served, refused) = (core.now(), Cell::new(0), Cell::new(0));
        let writers = (0..12).map(|writer| {
            let (store, served, refused) = (&store, &served, &refused);
            async move {
                for round in 0..40 {
                    match set(store, written + 1000 * writer + round, 900).await {
                        Ok(()) => served.set(served.get() + 1),
                        Err(StoreError::NoSpace(_)) => refused.set(refused.get() + 1),
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        });
        let removals = async {
            for number in 0..OBJECTS / 2 {
                remove(&store, number).await;
            }
        };
        join(join_all(writers), removals).await;
        let took = Duration::from_nanos(core.now().0 - began.0);
        assert_eq!(served.get() + refused.get(), 12 * 40);
        assert!(took < Duration::from_secs(60), "{took:?}");
        // What refusals remember is over soon.
        core.sleep(Duration::from_secs(3)).await;
        for number in 0..20 {
            set(&store, written + 100_000 + number, 900).await.expect("half of the keys are gone");
        }
        store.close().await.expect("close");
    });
}
