//! Blocks that are kept in memory: they spare reads of the device and never show anything else than the device would.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use nvme::{SimDisk, SimDiskConfig};
use rt::sim::{Config, Sim};
use rt::{Core, Group};

use super::world::World;
use crate::checksum::ChecksumKind;
use crate::engine::{Engine, Options};
use crate::object_store::{FsckLevel, ObjectStore, StoreError, Unwatched};
use crate::suite::{Generator, collection, join, object, pattern};
use crate::types::{AccessHints, Keep, Pattern};
use crate::{BlockSums, ObjectId, Op, Transaction};

const BLOCK: usize = 4096;
const LONG: AccessHints = AccessHints { keep: Keep::Long, pattern: Pattern::Unknown, verifies: false };
const NOT: AccessHints = AccessHints { keep: Keep::Not, ..LONG };
const SEQUENTIAL: AccessHints =
    AccessHints { keep: Keep::Usual, pattern: Pattern::Sequential, verifies: false };

/// Runs a test on a store with a cache of so many blocks, on a disk of 8 MiB.
fn with_cache(blocks: u64, options: Options, test: impl AsyncFn(Core, Rc<World>, Engine) + 'static) {
    let sim = Sim::new(1, Config::default());
    let mut world = World::new(1, 8 << 20, 4096, 256 << 10);
    let mut disk = SimDiskConfig::new("disk", 8 << 20);
    disk.latency.read = (Duration::from_millis(1), Duration::from_millis(1));
    world.disk = SimDisk::new(disk, 1);
    world.options = Options { data_cache_bytes_max: blocks * 4500, ..options };
    let world = Rc::new(world);
    sim.run(0, |core| async move {
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        test(core, world, store).await;
    });
}

async fn write(store: &Engine, name: &ObjectId, offset: usize, data: Bytes, hints: AccessHints) {
    let offset = u64::try_from(offset).expect("small");
    let ops = vec![Op::Write { collection: collection(), object: name.clone(), offset, data: vec![data] }];
    store.submit_with(Transaction { ops }, hints, BlockSums::new()).durable.await.expect("write");
}

async fn read(store: &Engine, name: &ObjectId, offset: usize, len: usize, hints: AccessHints) -> Vec<u8> {
    let (offset, len) = (u64::try_from(offset).expect("small"), u64::try_from(len).expect("small"));
    join(store.read_with(collection(), name, offset, len, hints).await.expect("read"))
}

fn counter(store: &Engine, name: &str) -> u64 {
    store.stats().counters.into_iter().find(|(known, _)| *known == name).expect("a counter").1
}

/// Bytes that the device had to read for what is done.
async fn device_reads(store: &Engine, what: impl AsyncFnOnce()) -> u64 {
    let before = counter(store, "data_bytes_read");
    what().await;
    counter(store, "data_bytes_read") - before
}

#[test]
fn what_was_read_is_read_once_and_what_is_verified_is_read_again() {
    with_cache(100, Options::default(), async |_, world, store| {
        let name = object("name", 1);
        write(&store, &name, 0, pattern(1, 20 * BLOCK), AccessHints::default()).await;
        let read_all =
            async |hints| assert!(read(&store, &name, 0, 20 * BLOCK, hints).await == pattern(1, 20 * BLOCK));
        let all = 20 * BLOCK as u64;
        assert_eq!(device_reads(&store, async || read_all(AccessHints::default()).await).await, all);
        assert_eq!(device_reads(&store, async || read_all(AccessHints::default()).await).await, 0);
        assert_eq!(device_reads(&store, async || read_all(AccessHints::VERIFY).await).await, all);
        assert_eq!(device_reads(&store, async || read_all(NOT).await).await, 0, "and they go");
        assert_eq!(device_reads(&store, async || read_all(NOT).await).await, all, "and do not come back");
        assert_eq!(device_reads(&store, async || read_all(LONG).await).await, all);
        // Damage below what is in memory: who verifies finds it, others are served.
        let place = store.block_places(collection(), &name).await.expect("places")[3];
        world.disk.corrupt(place.address + 5, 1);
        read_all(AccessHints::default()).await;
        let verified = store.read_with(collection(), &name, 0, u64::MAX, AccessHints::VERIFY).await;
        assert!(matches!(verified, Err(StoreError::Io(_))), "{verified:?}");
        let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
        assert_eq!(report.findings.len(), 1, "{report:?}");
        store.close().await.expect("close");
    });
}

#[test]
fn blocks_that_change_are_replaced_and_written_ones_stay_if_that_is_wanted() {
    // Without checksums, so that an old block would be shown.
    let options =
        Options { checksum: ChecksumKind::None, deferred_whole_max: 16 << 10, ..Options::default() };
    with_cache(100, options, async |_, _, store| {
        let name = object("name", 1);
        let mut expect = pattern(1, 8 * BLOCK).to_vec();
        write(&store, &name, 0, pattern(1, 8 * BLOCK), LONG).await;
        let check = async |expect: &[u8]| {
            assert!(read(&store, &name, 0, 8 * BLOCK, AccessHints::default()).await == expect)
        };
        assert_eq!(
            device_reads(&store, async || check(&expect).await).await,
            0,
            "they were kept when written"
        );
        for (salt, at, len) in
            [(2, 100, 300), (3, BLOCK, BLOCK), (4, 2 * BLOCK - 10, 20), (5, 100, 300), (6, 0, 8 * BLOCK)]
        {
            write(&store, &name, at, pattern(salt, len), AccessHints::default()).await;
            expect[at..at + len].copy_from_slice(&pattern(salt, len));
            assert_eq!(device_reads(&store, async || check(&expect).await).await, 0, "write {salt}");
        }
        write(&store, &name, 0, pattern(7, 6 * BLOCK), NOT).await;
        expect[..6 * BLOCK].copy_from_slice(&pattern(7, 6 * BLOCK));
        assert_eq!(device_reads(&store, async || check(&expect).await).await, 6 * BLOCK as u64);
        store.close().await.expect("close");
    });
}

#[test]
fn a_read_that_a_deferred_write_overtakes_leaves_no_old_block() {
    let options = Options {
        checksum: ChecksumKind::None,
        deferred_whole_max: 16 << 10,
        deferred_batch_bytes: 1,
        ..Options::default()
    };
    with_cache(100, options, async |core, _, store| {
        let store = Rc::new(store);
        let name = object("name", 1);
        write(&store, &name, 0, pattern(1, BLOCK), NOT).await;
        for salt in 2..20 {
            let (reader, object) = (Rc::clone(&store), name.clone());
            let before = pattern(salt - 1, BLOCK);
            let slow = store.read_with(collection(), &object, 0, 4096, AccessHints::default());
            let (done_in, done) = rt::sync::oneshot();
            drop(core.spawn(Group::Client, "slow read", async move {
                assert!(join(slow.await.expect("read")) == before);
                drop(reader);
                assert!(done_in.send(()).is_ok());
            }));
            // The read asked the device by now, and the device takes longer than the write.
            core.sleep(Duration::from_micros(100)).await;
            write(&store, &name, 0, pattern(salt, BLOCK), AccessHints::default()).await;
            done.await.expect("read");
            // As much as it takes to write the payload in place.
            let nothing = Op::Touch { collection: collection(), object: object.clone() };
            for _ in 0..3 {
                store.submit(Transaction { ops: vec![nothing.clone()] }).durable.await.expect("touch");
                core.sleep(Duration::from_millis(20)).await;
            }
            assert!(
                read(&store, &name, 0, BLOCK, AccessHints::default()).await == pattern(salt, BLOCK),
                "write {salt}"
            );
            read(&store, &name, 0, BLOCK, NOT).await;
        }
        store.close().await.expect("close");
    });
}

#[test]
fn who_reads_sequentially_finds_what_comes_next_and_others_do_not() {
    let options = Options { read_ahead_bytes: 10 * BLOCK as u64, ..Options::default() };
    with_cache(100, options, async |core, _, store| {
        let name = object("name", 1);
        write(&store, &name, 0, pattern(1, 100 * BLOCK), AccessHints::default()).await;
        let step = async |at: usize, hints| {
            let data = read(&store, &name, at * BLOCK, BLOCK, hints).await;
            assert!(data == pattern(1, 100 * BLOCK)[at * BLOCK..(at + 1) * BLOCK]);
            core.sleep(Duration::from_millis(5)).await;
        };
        let random = AccessHints { pattern: Pattern::Random, ..SEQUENTIAL };
        assert_eq!(device_reads(&store, async || step(50, random).await).await, BLOCK as u64);
        for at in 0..30 {
            step(at, SEQUENTIAL).await;
        }
        let (ahead, misses) = (counter(&store, "read_ahead_blocks"), counter(&store, "data_cache_misses"));
        assert!((30..=40).contains(&ahead), "{ahead} blocks were read ahead");
        assert!(misses - ahead <= 2, "the first, and the one at 50: {misses}");
        // The end of the object is no place to read ahead from.
        step(99, SEQUENTIAL).await;
        assert_eq!(counter(&store, "read_ahead_blocks"), ahead);
        store.close().await.expect("close");
    });
}

#[test]
fn memory_is_bounded_and_counted_by_kind() {
    with_cache(10, Options { cache_bytes_max: 20_000, ..Options::default() }, async |_, _, store| {
        for number in 0..200 {
            let name = object("name", number);
            write(&store, &name, 0, pattern(1, BLOCK), AccessHints::default()).await;
            read(&store, &name, 0, BLOCK, AccessHints::default()).await;
        }
        let memory = store.stats().memory;
        let of = |name: &str| memory.iter().find(|entry| entry.kind.name() == name).expect("a kind");
        assert!(of("data").bytes <= 45_000 && of("data").items >= 8, "{memory:?}");
        assert!(of("onodes").bytes <= 20_000 && of("onodes").items >= 8, "{memory:?}");
        assert!(of("overlay").items > 0 && of("allocator").bytes > 0, "{memory:?}");
        store.close().await.expect("close");
    });
}

#[test]
fn space_that_is_used_again_shows_what_is_there_now() {
    // Without checksums, and much is kept, so that what a block was before would be shown.
    let options = Options { checksum: ChecksumKind::None, ..Options::default() };
    with_cache(2000, options, async |_, _, store| {
        let objects: Vec<ObjectId> = (0..7).map(|number| object("name", number)).collect();
        let mut salts = [0; 7];
        for (salt, which) in (1..400u64).zip((0..7).cycle()) {
            write(&store, &objects[which], 0, pattern(salt, 16 * BLOCK), AccessHints::default()).await;
            salts[which] = salt;
            for (name, salt) in objects.iter().zip(salts).filter(|(_, salt)| *salt > 0) {
                let found = read(&store, name, 0, 16 * BLOCK, AccessHints::default()).await;
                assert!(found == pattern(salt, 16 * BLOCK), "write {salt}");
            }
            if salt % 10 == 0 {
                let remove = Op::Remove { collection: collection(), object: objects[which].clone() };
                store.submit(Transaction { ops: vec![remove] }).durable.await.expect("remove");
                salts[which] = 0;
            }
        }
        assert!(counter(&store, "data_cache_hits") > 20_000);
        store.close().await.expect("close");
    });
}
