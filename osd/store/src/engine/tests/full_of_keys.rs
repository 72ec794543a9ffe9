//! Tiny devices filled with keys: whatever is refused for want of room, the store stays up, removals go on, a crash at
//! any moment loses nothing acknowledged, and the room comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rt::Core;
use rt::sim::{Config, RandomStream, Sim};

use super::world::World;
use crate::engine::Engine;
use crate::object_store::{FsckLevel, ObjectStore, StoreError, StoreResult, Unwatched};
use crate::suite::{Generator, collection, object, pattern};
use crate::{ObjectId, Op, Transaction};

/// Objects in use.
const OBJECTS: u64 = 24;

/// What each object must show: its omap, of what was acknowledged; and what may be there too, because the answer to it
/// was not awaited.
#[derive(Default)]
struct Oracle {
    keys: BTreeMap<u64, BTreeMap<Bytes, usize>>,
    unsure: BTreeSet<u64>,
}

struct Run {
    oracle: Oracle,
    dice: RandomStream,
    refused: u64,
    taken: u64,
    removed: u64,
}

fn name(number: u64) -> ObjectId {
    object(&format!("keys-{number}"), u32::try_from(number).expect("few"))
}

async fn commit(store: &Engine, ops: Vec<Op>) -> StoreResult<()> {
    store.submit(Transaction { ops }).durable.await
}

impl Run {
    /// A change of an object that grows the store, or now and then one that shrinks it.
    async fn step(&mut self, store: &Engine, shrink_one_in: u64) {
        let number = self.dice.below(OBJECTS);
        if self.dice.one_in(shrink_one_in) {
            return self.remove(store, number).await;
        }
        let count = self.dice.between(1, 12);
        let len = usize::try_from(self.dice.between(10, 900)).expect("small");
        let key = |n: u64| Bytes::from(format!("{n:04}"));
        let entries: BTreeMap<Bytes, Bytes> =
            (0..count).map(|_| (key(self.dice.below(400)), pattern(self.dice.below(1000), len))).collect();
        let set = Op::OmapSet { collection: collection(), object: name(number), entries: entries.clone() };
        let data = Op::Write {
            collection: collection(),
            object: name(number),
            offset: 0,
            data: vec![pattern(number, usize::try_from(self.dice.between(1, 9000)).expect("small"))],
        };
        let ops = if self.dice.one_in(3) { vec![set, data] } else { vec![set] };
        match commit(store, ops).await {
            Ok(()) => {
                let known = self.oracle.keys.entry(number).or_default();
                known.extend(entries.into_iter().map(|(key, value)| (key, value.len())));
                self.taken += 1;
            }
            Err(StoreError::NoSpace(_)) => self.refused += 1,
            Err(other) => panic!("a full store fails: {other}"),
        }
    }

    async fn remove(&mut self, store: &Engine, number: u64) {
        if self.oracle.keys.remove(&number).is_none() && !self.oracle.unsure.contains(&number) {
            return;
        }
        let removed =
            commit(store, vec![Op::Remove { collection: collection(), object: name(number) }]).await;
        match removed {
            Ok(()) => self.removed += 1,
            Err(StoreError::NotFound(_)) if self.oracle.unsure.contains(&number) => {}
            Err(other) => panic!("removing always works: {other}"),
        }
        self.oracle.unsure.remove(&number);
    }

    /// Writes until nothing more is taken.
    async fn fill(&mut self, store: &Engine) {
        let mut in_a_row = 0;
        for _ in 0..20_000 {
            let before = self.refused;
            self.step(store, 200).await;
            in_a_row = if self.refused > before { in_a_row + 1 } else { 0 };
            if in_a_row == 8 {
                return;
            }
        }
        panic!("the store never fills: {} taken, {:?}", self.taken, store.stats());
    }

    /// No checkpoint ever found less room than it was promised.
    fn check_promise(store: &Engine) {
        let counters = store.stats().counters;
        let retries = counters.iter().find(|(name, _)| *name == "kv_full_retries").expect("a counter").1;
        assert_eq!(retries, 0, "a checkpoint found no room");
    }

    async fn check(&mut self, store: &Engine) {
        let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
        assert_eq!(report.findings, vec![]);
        for (number, keys) in &self.oracle.keys {
            if self.oracle.unsure.contains(number) {
                continue;
            }
            let page = store.omap_scan(collection(), &name(*number), None, Bytes::new(), 10_000, usize::MAX);
            let found: BTreeMap<Bytes, usize> = page
                .await
                .expect("scan")
                .entries
                .into_iter()
                .map(|(key, value)| (key, value.len()))
                .collect();
            assert_eq!(&found, keys, "object {number}");
        }
    }
}

async fn mount(core: &Core, world: &World) -> Rc<Engine> {
    let store = Rc::new(world.mount(core).await.expect("mount"));
    if store.collections().await.expect("collections").is_empty() {
        store.submit(Generator::prologue()).durable.await.expect("create");
    }
    store
}

/// Fills, crashes at any moment while it is full, comes up, removes, and fills again.
fn run(seed: u64) -> (u64, u64) {
    let mut dice = RandomStream::new(seed, "full of keys");
    let sim = Sim::new(seed, Config::default());
    let size = dice.between(3, 6) << 20;
    let kv = [512 << 10, 1 << 20][usize::try_from(dice.below(2)).expect("small")];
    let mut world = World::new(seed, size, 4096, dice.between(48, 128) << 10).stacked(kv);
    world.options.overlay_bytes_max = dice.between(32, 256) << 10;
    world.options.reserve_bytes = 128 << 10;
    let world = Rc::new(world);
    sim.run(0, |core| {
        let world = Rc::clone(&world);
        async move { world.format(&core).await }
    });
    let run = Run { oracle: Oracle::default(), dice, refused: 0, taken: 0, removed: 0 };
    let run = Rc::new(hand::Hand::new(run));
    for round in 0..4 {
        // A life that fills up and is killed in the middle of whatever it does then.
        let (filling, done) = (Rc::clone(&run), Rc::new(std::cell::Cell::new(false)));
        let (below, full) = (Rc::clone(&world), Rc::clone(&done));
        sim.core(0).clone().spawn(rt::Group::Client, "fill", {
            let core = sim.core(0);
            async move {
                let store = mount(&core, &below).await;
                let mut run = filling.take();
                run.check(&store).await;
                run.fill(&store).await;
                Run::check_promise(&store);
                filling.put(run);
                full.set(true);
                // Goes on, unheard, until it is killed.
                for number in (0..u64::MAX).map(|n| n % OBJECTS / 4 * 4) {
                    let mut run = filling.take();
                    run.oracle.unsure.insert(number);
                    filling.put(run);
                    let entries = BTreeMap::from([(Bytes::from_static(b"late"), pattern(number, 500))]);
                    let set = Op::OmapSet { collection: collection(), object: name(number), entries };
                    drop(commit(&store, vec![set]).await);
                }
            }
        });
        while !done.get() {
            sim.run_for(Duration::from_millis(1));
        }
        let mut shared = run.take();
        let more = shared.dice.below(40_000);
        run.put(shared);
        sim.run_for(Duration::from_micros(more));
        sim.kill_silently(0);
        if round % 2 == 0 {
            world.disk.crash();
        } else {
            world.disk.end_process();
        }
        // The next life removes most, and can write as much again.
        let (again, below) = (Rc::clone(&run), Rc::clone(&world));
        sim.run(0, |core| async move {
            let mut run = again.take();
            let store = mount(&core, &below).await;
            run.check(&store).await;
            for number in 0..OBJECTS {
                run.remove(&store, number).await;
            }
            run.check(&store).await;
            // What was removed is compacted away by itself.
            core.sleep(Duration::from_secs(3)).await;
            let (before, refused) = (run.taken, run.refused);
            for _ in 0..40 {
                run.step(&store, u64::MAX).await;
            }
            assert!(run.taken > before + 10, "{} refused after removals", run.refused - refused);
            Run::check_promise(&store);
            store.close().await.expect("close");
            again.put(run);
        });
    }
    let shared = run.take();
    (shared.taken, shared.refused)
}

/// A value that is with one user at a time.
mod hand {
    use std::cell::Cell;

    pub struct Hand<T>(Cell<Option<T>>);

    impl<T> Hand<T> {
        pub fn new(value: T) -> Self {
            Self(Cell::new(Some(value)))
        }
        pub fn take(&self) -> T {
            self.0.take().expect("nobody else has it")
        }
        pub fn put(&self, value: T) {
            self.0.set(Some(value));
        }
    }
}

/// Seeds that found something once. 17: removals refused, since old views kept the files that a compaction replaced.
const FOUND: [u64; 1] = [17];

#[test]
fn a_store_full_of_keys_stays_up_and_room_comes_back() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seeds: Vec<u64> = match number("STORE_SEED") {
        Some(first) => (first..first + number("STORE_SEEDS").unwrap_or(3)).collect(),
        None => (0..number("STORE_SEEDS").unwrap_or(3)).chain(FOUND).collect(),
    };
    for seed in seeds {
        let (taken, refused) = run(seed);
        println!("seed {seed}: {taken} taken, {refused} refused");
        assert!(taken > 100 && refused > 8, "seed {seed}: {taken} taken, {refused} refused");
    }
}
