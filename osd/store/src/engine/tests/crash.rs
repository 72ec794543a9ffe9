//! Random crashes: a store is killed between any two steps, mounted again, and must show, for each collection, a prefix
//! of what was submitted that holds all that was acknowledged; and fsck must be clean.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use nvme::SimDisk;
use rt::sim::{Config, RandomStream, Sim};
use rt::{Core, Group};

use super::history::Track;
use super::world::{Below, World};
use crate::devices::Role;
use crate::engine::{CachePolicy, Engine};
use crate::fault::Planted;
use crate::object_store::{FsckLevel, ObjectStore, Outcome, Unwatched};
use crate::suite::{Generator, Shape, collection, compare_object, join, object};
use crate::{
    Algorithm, ChecksumKind, ChunkBounds, CollectionId, Compression, CompressionMode, Op, PoolOptions,
    Transaction,
};

/// Where one object is always written as a whole, so that a read that mixes two states is noticed.
const UNIFORM: CollectionId = CollectionId { pool: 9, seed: 0 };
const UNIFORM_BYTES: usize = 30_000;
const UNIFORM_KEYS: u32 = 60;

/// How a run is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub lives: u32,
    /// Longest life in virtual time.
    pub life_max: Duration,
    pub fault: crate::fault::Fault,
    /// Keys and journal have disks of their own, and the keys' one is too small.
    pub spills: bool,
}

/// Counts over a run, to see that it did what it is for.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub counters: BTreeMap<&'static str, u64>,
    pub crashes_in_mount: u64,
    pub transactions_lost: u64,
}

/// What a life shares with the test around it.
struct Shared {
    tracks: Vec<RefCell<Track>>,
    uniform: RefCell<Uniform>,
    generator: RefCell<Generator>,
    mounted: Cell<bool>,
    store: RefCell<Option<Rc<Engine>>>,
    failure: RefCell<Option<String>>,
    tally: RefCell<Tally>,
}

#[derive(Default)]
struct Uniform {
    submitted: u64,
    acknowledged: u64,
}

/// Runs one seed; an error says what was found.
pub fn run(setup: &Setup) -> Result<Tally, String> {
    let mut random = RandomStream::new(setup.seed, "crash test");
    let sim = Sim::new(setup.seed, Config::default());
    let block_size = if random.one_in(2) { 512 } else { 4096 };
    // On the small disk freed space is used again at once; the data of all objects fills about a half.
    let small = random.one_in(2) && !setup.spills;
    let mut world = World::new(setup.seed, if small { 3 << 19 } else { 8 << 20 }, block_size, 64 << 10);
    if setup.spills || !small && random.one_in(2) {
        world = world.stacked(1 << 20);
    }
    // Half of the seeds have the journal, or keys, or both on disks of their own. The db is so small that keys spill.
    let roles: [&[Role]; 8] =
        [&[], &[Role::Db], &[], &[Role::Wal], &[], &[Role::Db, Role::Wal], &[], &[Role::Db]];
    let drawn = roles[usize::try_from(setup.seed / 2 % 8).unwrap_or(0)];
    let roles = if setup.spills { &Role::BESIDE } else { drawn };
    world = world.with_parts(setup.seed, roles, 512 << 10);
    world.options.fault = setup.fault;
    world.options.groups_in_flight = 1 + random.below(4) as usize;
    world.options.group_bytes_max = [4 << 10, 64 << 10][random.below(2) as usize];
    world.options.deferred_partial_max = [0, 4096, 16 << 10][random.below(3) as usize];
    world.options.deferred_whole_max = [0, 16 << 10][random.below(2) as usize];
    world.options.deferred_batch_bytes = [1, 32 << 10, 1 << 20][random.below(3) as usize];
    world.options.large_write_bytes = [8 << 10, 64 << 10][random.below(2) as usize];
    world.options.overlay_bytes_max = [24 << 10, 1 << 20][random.below(2) as usize];
    world.options.cache_bytes_max = [6 << 10, 1 << 20][random.below(2) as usize];
    world.options.data_cache_bytes_max = [0, 40 << 10, 1 << 20][usize::try_from(setup.seed % 3).unwrap_or(0)];
    world.options.cache_written = setup.seed % 5 < 2;
    if setup.seed % 7 < 2 {
        world.options.cache_policy = CachePolicy::Lru;
    }
    world.options.discard = random.one_in(2);
    world.options.space_change_bytes_max = [512, 512 << 10][usize::try_from(setup.seed / 2 % 2).unwrap_or(0)];
    world.options.inline_bytes_max = [0, 2000][usize::try_from(setup.seed % 2).unwrap_or(0)];
    if setup.fault.is(Planted::DeferredBeforeAllowed) {
        // It takes a crash just after a payload went to its place: as many of these as there can be.
        world.options.deferred_partial_max = 16 << 10;
        world.options.deferred_batch_bytes = 1;
    }
    let world = Rc::new(world);
    let object_bytes = if small { 50_000 } else { 100_000 };
    // Clones make most changes go to new space, so most seeds have none.
    let clone_one_in = [0, 30, 0, 0, 5][usize::try_from(setup.seed % 5).unwrap_or(0)];
    let shape = Shape { objects: 6, object_bytes, write_bytes: 20_000, clone_one_in, ..Shape::default() };
    let second = CollectionId { pool: 7, seed: 0x2b };
    let shared = Rc::new(Shared {
        tracks: vec![RefCell::new(Track::new(collection(), 8)), RefCell::new(Track::new(second, 8))],
        uniform: RefCell::default(),
        generator: RefCell::new(Generator::new(setup.seed, shape)),
        mounted: Cell::new(false),
        store: RefCell::default(),
        failure: RefCell::default(),
        tally: RefCell::default(),
    });
    sim.run(0, |core| prepare(core, Rc::clone(&world)));
    for _ in 0..setup.lives {
        shared.mounted.set(false);
        let core = sim.core(0);
        let life = live(core.clone(), Rc::clone(&world), Rc::clone(&shared));
        core.spawn(Group::Client, "life", life);
        let long = nanos(setup.life_max);
        if random.one_in(4) {
            // In the middle of mounting, or of the check after it.
            sim.run_for(Duration::from_nanos(random.below(long / 2)));
        } else {
            while !shared.mounted.get() && shared.failure.borrow().is_none() {
                sim.run_for(Duration::from_millis(1));
            }
            // Short lives leave what the life before had in flight beside what they wrote themselves.
            let longest = [long / 60, long / 20, long, long][random.below(4) as usize];
            let time = random.below(longest);
            sim.run_for(Duration::from_nanos(time));
        }
        if let Some(failure) = shared.failure.borrow_mut().take() {
            return Err(failure);
        }
        if let Some(store) = shared.store.borrow_mut().take() {
            tally(&store, &shared);
        }
        if !shared.mounted.get() {
            shared.tally.borrow_mut().crashes_in_mount += 1;
        }
        sim.kill_silently(0);
        if random.one_in(4) {
            world.end_process();
        } else {
            world.crash();
        }
        if let Below::Plain(kv) = &world.below {
            kv.crash(random.below(kv.choices() as u64) as usize);
        }
    }
    let found = sim.run(0, |core| finish(core, Rc::clone(&world), Rc::clone(&shared)));
    found?;
    sim.run(0, |core| damage(core, Rc::clone(&world), Rc::clone(&shared), random))?;
    for disk in world.disks().map(SimDisk::counters) {
        if disk.racing_writes > 0 || disk.racing_reads > 0 {
            return Err(format!("I/Os overlapped a write in flight: {disk:?}"));
        }
    }
    Ok(shared.tally.borrow().clone())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("short")
}

async fn prepare(core: Core, world: Rc<World>) {
    world.format(&core).await;
    let store = world.mount(&core).await.expect("mount");
    let create = Op::CreateCollection { collection: UNIFORM, bits: 0 };
    store.submit(Generator::prologue()).durable.await.expect("create");
    store.submit(Transaction { ops: vec![create] }).durable.await.expect("create");
    write_uniform(&store, 0).await.expect("write");
    store.close().await.expect("close");
}

fn write_uniform(store: &Engine, value: u64) -> Outcome {
    let name = uniform_name();
    let byte = value.to_le_bytes()[0];
    let key = |n: u32| Bytes::from(format!("key {n:03}"));
    let text = Bytes::from(value.to_string());
    let ops = vec![
        Op::Write {
            collection: UNIFORM,
            object: name.clone(),
            offset: 0,
            data: vec![Bytes::from(vec![byte; UNIFORM_BYTES])],
        },
        Op::OmapSet {
            collection: UNIFORM,
            object: name,
            entries: (0..UNIFORM_KEYS).map(|n| (key(n), text.clone())).collect(),
        },
    ];
    store.submit(Transaction { ops }).durable
}

fn uniform_name() -> crate::ObjectId {
    crate::ObjectId { pool: 9, ..object("uniform", 1) }
}

/// The number that the uniform object shows; an error if it shows more than one.
async fn read_uniform(store: &Engine) -> Result<u64, String> {
    let name = uniform_name();
    let page = store.omap_scan(UNIFORM, &name, None, Bytes::new(), 1000, usize::MAX).await;
    let entries = page.map_err(|error| error.to_string())?.entries;
    let values: std::collections::BTreeSet<_> = entries.iter().map(|(_, value)| value.clone()).collect();
    if entries.len() != UNIFORM_KEYS as usize || values.len() != 1 {
        return Err(format!("the omap shows {} keys and the values {values:?}", entries.len()));
    }
    let data = join(store.read(UNIFORM, &name, 0, u64::MAX).await.map_err(|error| error.to_string())?);
    if data.len() != UNIFORM_BYTES || data.iter().any(|byte| *byte != data[0]) {
        return Err("the data is of more than one write".to_owned());
    }
    let first = values.first().expect("one value");
    String::from_utf8_lossy(first).parse().map_err(|_| format!("value {first:?}"))
}

/// Mount and everything that must hold right after it.
async fn open_and_check(core: &Core, world: &World, shared: &Shared) -> Result<Rc<Engine>, String> {
    let store = world.mount(core).await.map_err(|error| format!("mount: {error}"))?;
    let store = Rc::new(store);
    check(&store, shared).await?;
    // Each life protects what it writes in another way, of those that let no damage pass. Some compress; what they write is
    // not written in place later.
    let kinds = [ChecksumKind::Crc32c, ChecksumKind::Xxhash32, ChecksumKind::Xxhash64];
    let number = usize::try_from(shared.uniform.borrow().acknowledged).unwrap_or(0);
    let kind = kinds[number % 3];
    let mode = if number % 3 == 2 { CompressionMode::Force } else { CompressionMode::None };
    let compression =
        Compression { mode, algorithm: Algorithm::ALL[number / 3 % 4], ..Compression::default() };
    // Single blocks or several, and what a life before wrote in another way is changed in part.
    let checksum_chunk = ChunkBounds { min: Some(4096 << (number / 2 % 5)), max: None };
    store.set_pool_options(
        collection().pool,
        PoolOptions { checksum: Some(kind), checksum_chunk, compression: Some(compression) },
    );
    Ok(store)
}

async fn check(store: &Rc<Engine>, shared: &Shared) -> Result<(), String> {
    // Unless the wrong length of a borrow matters to nobody: one life at a time looks at the tracks.
    #[expect(clippy::await_holding_refcell_ref, reason = "one task uses the tracks while it resolves")]
    for track in &shared.tracks {
        let lost = track.borrow_mut().resolve(&**store).await?;
        shared.tally.borrow_mut().transactions_lost += lost as u64;
    }
    let value = read_uniform(store).await?;
    {
        let mut uniform = shared.uniform.borrow_mut();
        if value < uniform.acknowledged || value > uniform.submitted {
            return Err(format!(
                "the uniform object shows {value}, acknowledged {}, submitted {}",
                uniform.acknowledged, uniform.submitted
            ));
        }
        (uniform.submitted, uniform.acknowledged) = (value, value);
    }
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.map_err(|error| error.to_string())?;
    if !report.findings.is_empty() {
        return Err(format!("fsck: {:?}", report.findings));
    }
    Ok(())
}

async fn live(core: Core, world: Rc<World>, shared: Rc<Shared>) {
    match open_and_check(&core, &world, &shared).await {
        Ok(store) => {
            shared.mounted.set(true);
            *shared.store.borrow_mut() = Some(Rc::clone(&store));
            drive(&core, &store, &shared).await;
        }
        Err(failure) => *shared.failure.borrow_mut() = Some(failure),
    }
}

async fn finish(core: Core, world: Rc<World>, shared: Rc<Shared>) -> Result<(), String> {
    let store = open_and_check(&core, &world, &shared).await?;
    tally(&store, &shared);
    store.close().await.map_err(|error| format!("close: {error}"))?;
    let store = open_and_check(&core, &world, &shared).await?;
    if store.stats().counters.iter().any(|(name, count)| *name == "replayed_records" && *count > 0) {
        return Err("a clean close left records to replay".to_owned());
    }
    store.close().await.map_err(|error| format!("second close: {error}"))
}

/// Flips bits on the disk while the store is open: a read gives the right bytes or an error, never others.
async fn damage(
    core: Core,
    world: Rc<World>,
    shared: Rc<Shared>,
    mut random: RandomStream,
) -> Result<(), String> {
    let store = world.mount(&core).await.map_err(|error| format!("mount: {error}"))?;
    let superblock = Engine::superblock(&*world.device(&core)).await.map_err(|error| error.to_string())?;
    let start = superblock.kv.end();
    if matches!(world.below, Below::Plain(_)) {
        for _ in 0..200 {
            let offset = random.between(start, superblock.window - 4097);
            world.disk.corrupt(offset, 1 << random.below(8));
        }
    }
    for track in &shared.tracks {
        let (id, oracle) = (track.borrow().id, track.borrow().current.fork());
        let (names, _) = oracle.list(id, None, 1000).await.expect("list");
        for name in names {
            let expect = join(oracle.read(id, &name, 0, u64::MAX).await.expect("read"));
            match store.read(id, &name, 0, u64::MAX).await {
                Ok(found) if join(found.clone()) != expect => {
                    return Err(format!("{name:?} gives wrong bytes on a damaged disk"));
                }
                Ok(_) | Err(crate::StoreError::Io(_)) => {}
                Err(other) => return Err(format!("{name:?} on a damaged disk: {other}")),
            }
        }
    }
    store.close().await.map_err(|error| format!("close: {error}"))
}

fn tally(store: &Engine, shared: &Shared) {
    let mut tally = shared.tally.borrow_mut();
    for (name, count) in store.stats().counters {
        *tally.counters.entry(name).or_default() += count;
    }
}

/// Submits transactions and reads until the life ends.
async fn drive(core: &Core, store: &Rc<Engine>, shared: &Rc<Shared>) {
    let failed = |failure: String| {
        shared.failure.borrow_mut().get_or_insert(failure);
    };
    {
        let (core, store, shared) = (core.clone(), Rc::clone(store), Rc::clone(shared));
        core.clone().spawn(Group::Client, "uniform reads", async move {
            loop {
                core.sleep(Duration::from_micros(core.random_u64() % 700)).await;
                if let Err(failure) = read_uniform(&store).await {
                    shared.failure.borrow_mut().get_or_insert(format!("a read saw: {failure}"));
                    return;
                }
            }
        });
    }
    if core.random_u64().is_multiple_of(3) {
        let (core, store, shared) = (core.clone(), Rc::clone(store), Rc::clone(shared));
        core.clone().spawn(Group::Client, "checks", async move {
            loop {
                core.sleep(Duration::from_micros(core.random_u64() % 5000)).await;
                let level = [FsckLevel::Metadata, FsckLevel::Deep][usize::from(core.random_u64() % 2 == 0)];
                let Ok(report) = store.fsck(level, Rc::new(Unwatched)).await else { return };
                if !report.findings.is_empty() {
                    let failure = format!("fsck beside clients: {:?}", report.findings);
                    shared.failure.borrow_mut().get_or_insert(failure);
                    return;
                }
            }
        });
    }
    if store.stats().fast > 0 {
        // More often than the store itself does.
        let (core, store) = (core.clone(), Rc::clone(store));
        core.clone().spawn(Group::Client, "moves", async move {
            loop {
                core.sleep(Duration::from_micros(core.random_u64() % 4000)).await;
                let Ok(moved) = store.inner.kv.move_back(64 << 10).await else { return };
                store.inner.counters.moved_back_bytes.add(moved);
            }
        });
    }
    let mut in_flight: VecDeque<(usize, usize, Outcome)> = VecDeque::new();
    let mut depth = 1;
    loop {
        let roll = core.random_u64();
        if roll.is_multiple_of(40) {
            depth = 1 + (roll / 64) % 12;
        }
        let transaction = shared.generator.borrow_mut().transaction();
        let index = usize::from(transaction.ops.first().map(Op::collection) != Some(collection()));
        let number = shared.tracks[index].borrow_mut().submit(&transaction);
        let submitted = store.submit(transaction);
        match number {
            Some(number) => in_flight.push_back((index, number, submitted.durable)),
            None => {
                if submitted.readable.await.is_ok() {
                    return failed("a transaction was accepted that the oracle refuses".into());
                }
            }
        }
        if roll.is_multiple_of(7) {
            let value = {
                let mut uniform = shared.uniform.borrow_mut();
                uniform.submitted += 1;
                uniform.submitted
            };
            let durable = write_uniform(store, value);
            in_flight.push_back((2, usize::try_from(value).expect("small"), durable));
        }
        while in_flight.len() as u64 > depth || (roll.is_multiple_of(31) && !in_flight.is_empty()) {
            let Some((index, number, durable)) = in_flight.pop_front() else { break };
            if let Err(error) = durable.await {
                return failed(format!("a transaction failed: {error}"));
            }
            match shared.tracks.get(index) {
                Some(track) => track.borrow_mut().acknowledge(number),
                None => {
                    let mut uniform = shared.uniform.borrow_mut();
                    uniform.acknowledged = uniform.acknowledged.max(number as u64);
                }
            }
        }
        if in_flight.is_empty() && roll.is_multiple_of(3) {
            let name = object("object-1", 3);
            let current = shared.tracks[0].borrow().current.fork();
            let store: Rc<dyn ObjectStore> = Rc::clone(store) as Rc<dyn ObjectStore>;
            compare_object(&store, &current, collection(), &name).await;
        }
        if roll.is_multiple_of(97) {
            // Long enough for the seal.
            core.sleep(Duration::from_millis(8)).await;
        }
    }
}

fn setup(seed: u64) -> Setup {
    let fault = crate::fault::Fault::default();
    Setup { seed, lives: 8, life_max: Duration::from_millis(60), fault, spills: false }
}

#[test]
fn nothing_is_lost_while_keys_spill_and_move_back() {
    let mut moved = 0;
    for seed in 0..24 {
        let setup = Setup { spills: true, ..setup(seed) };
        let tally = run(&setup).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        moved += tally.counters.get("moved_back_bytes").copied().unwrap_or(0);
    }
    assert!(moved > 256 << 10, "{moved}");
}

#[test]
fn nothing_acknowledged_is_lost() {
    let first: u64 = std::env::var("STORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::var("STORE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(20);
    let mut sum: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut in_mount, mut lost) = (0, 0);
    for seed in first..first + count {
        let tally = run(&setup(seed)).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        tally.counters.into_iter().for_each(|(name, count)| *sum.entry(name).or_default() += count);
        in_mount += tally.crashes_in_mount;
        lost += tally.transactions_lost;
    }
    println!("crashes in mount {in_mount}, transactions lost {lost}, {sum:#?}");
    assert!(in_mount > 0 && lost > 0);
    for name in ["replayed_records", "replay_truncated_groups", "replay_deferred_blocks"] {
        assert!(sum[name] > 0, "{name} never happened");
    }
}
