//! Several blocks under one checksum: of objects that are read from lower offsets to higher ones and not changed. Damage of any
//! of them is found whichever is read; what stays of them when a part changes is never taken for sound without a look.

use std::rc::Rc;

use bytes::Bytes;
use rt::Core;
use rt::sim::{Config, Sim};

use super::healing::Bad;
use super::world::World;
use crate::checksum::ChecksumKind;
use crate::engine::Engine;
use crate::object_store::{FsckLevel, ObjectStore, StoreError, Unwatched};
use crate::suite::{Generator, collection, join, object, pattern};
use crate::types::{AccessHints, ChunkBounds, Hints, Keep, Pattern, PoolOptions};
use crate::{ObjectId, Op, Transaction};

const BLOCK: u64 = 4096;
/// Of a shard, which is one chunk if it is written at once.
const BLOCKS: u64 = 16;

fn name() -> ObjectId {
    object("streamed", 1)
}

fn write(offset: u64, data: Bytes) -> Op {
    Op::Write { collection: collection(), object: name(), offset, data: vec![data] }
}

fn zero(offset: u64, len: u64) -> Op {
    Op::Zero { collection: collection(), object: name(), offset, len }
}

fn truncate(size: u64) -> Op {
    Op::Truncate { collection: collection(), object: name(), size }
}

fn streamed(object: ObjectId) -> Op {
    let hints = Hints { is_streamed: true, ..Hints::default() };
    Op::SetHints { collection: collection(), object, hints }
}

fn bytes(salt: u64, blocks: u64) -> Bytes {
    pattern(salt, usize::try_from(blocks * BLOCK).expect("small"))
}

async fn commit(store: &Engine, ops: Vec<Op>) {
    store.submit(Transaction { ops }).durable.await.expect("commit");
}

async fn read(store: &Engine, offset: u64, len: u64) -> Result<Vec<u8>, StoreError> {
    store.read(collection(), &name(), offset, len).await.map(join).map(|data| data.to_vec())
}

fn counter(store: &Engine, wanted: &str) -> u64 {
    store.stats().counters.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, value)| *value)
}

async fn findings(store: &Engine) -> Vec<String> {
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    report.findings.into_iter().map(|finding| finding.detail).collect()
}

/// Addresses of the object's blocks.
async fn places(store: &Engine) -> Vec<u64> {
    let places = store.block_places(collection(), &name()).await.expect("places");
    places.into_iter().map(|place| place.address).collect()
}

/// A new store.
async fn fresh(core: &Core, world: &World) -> Engine {
    world.format(core).await;
    let store = world.mount(core).await.expect("mount");
    store.submit(Generator::prologue()).durable.await.expect("create");
    store
}

fn in_world<F: Future<Output = ()> + 'static>(test: impl FnOnce(Core, World) -> F + 'static) {
    let world = World::new(1, 16 << 20, 4096, 256 << 10);
    Sim::new(1, Config::default()).run(0, move |core| test(core, world));
}

#[test]
fn a_bit_that_flips_in_any_block_is_found_whichever_part_is_read() {
    in_world(|core, world| async move {
        let store = fresh(&core, &world).await;
        let kinds = ChecksumKind::ALL.into_iter().filter(|kind| *kind != ChecksumKind::None);
        for (salt, kind) in (1..).zip(kinds) {
            store.set_pool_options(
                collection().pool,
                PoolOptions { checksum: Some(kind), ..PoolOptions::default() },
            );
            let data = bytes(salt, BLOCKS);
            commit(&store, vec![truncate(0), streamed(name()), write(0, data.clone())]).await;
            for (number, address) in (0..).zip(places(&store).await) {
                let (at, bit) = (address + 11 * (number + 1), 1 << (number % 8));
                world.disk.corrupt(at, bit);
                for other in [0, (number + 1) % BLOCKS, number, BLOCKS - 1] {
                    let found = read(&store, other * BLOCK + 7, 30).await;
                    let Err(StoreError::Io(problem)) = found else { panic!("{kind:?} {number}: {found:?}") };
                    let says = format!("16 blocks: expected {} 0x", kind.name());
                    assert!(problem.contains(&says), "{problem}");
                }
                assert_eq!(findings(&store).await.len(), 1, "one of them, whatever it has");
                world.disk.corrupt(at, bit);
                assert_eq!(read(&store, number * BLOCK, BLOCK).await.as_deref(), Ok(part(&data, number, 1)));
            }
            assert_eq!(findings(&store).await, Vec::<String>::new());
        }
        assert_eq!(counter(&store, "chunks_split"), 0);
        store.close().await.expect("close");
    });
}

fn part(data: &[u8], first: u64, blocks: u64) -> &[u8] {
    let at = |block: u64| usize::try_from(block * BLOCK).expect("small").min(data.len());
    &data[at(first)..at(first + blocks)]
}

/// Of each way to take a part of a chunk away: what stays is as it was, is not written, and is protected block by block.
#[test]
fn what_stays_has_checksums_of_its_own() {
    let ways: [(&str, Vec<Op>, u64); 8] = [
        ("a part of a block", vec![write(3 * BLOCK + 5, Bytes::from_static(b"new"))], 0),
        ("a whole block", vec![write(3 * BLOCK, bytes(9, 1))], 1),
        ("the first blocks", vec![write(0, bytes(9, 5))], 5),
        ("blocks and parts", vec![write(2 * BLOCK + 9, bytes(9, 3))], 2),
        ("a hole", vec![zero(4 * BLOCK + 1, 3 * BLOCK)], 0),
        ("the end", vec![truncate(5 * BLOCK + 77)], 0),
        ("all but the last", vec![zero(0, 15 * BLOCK)], 0),
        ("twice", vec![write(BLOCK, bytes(9, 1)), truncate(9 * BLOCK), write(7 * BLOCK, bytes(8, 1))], 2),
    ];
    for (what, ops, new_blocks) in ways {
        in_world(move |core, world| async move {
            let store = fresh(&core, &world).await;
            let before = bytes(1, BLOCKS);
            commit(&store, vec![streamed(name()), write(0, before.clone())]).await;
            let old = places(&store).await;
            let written = counter(&store, "data_bytes_written");
            let mut expect = before.to_vec();
            for op in &ops {
                let at = |offset: &u64| usize::try_from(*offset).expect("small");
                match op {
                    Op::Write { offset, data, .. } => {
                        expect[at(offset)..at(offset) + data[0].len()].copy_from_slice(&data[0]);
                    }
                    Op::Zero { offset, len, .. } => expect[at(offset)..at(offset) + at(len)].fill(0),
                    Op::Truncate { size, .. } => expect.truncate(at(size)),
                    _ => panic!("{op:?}"),
                }
            }
            commit(&store, ops).await;
            assert_eq!(counter(&store, "chunks_split"), 1, "{what}");
            let fresh = counter(&store, "data_bytes_written") - written;
            assert_eq!(fresh, new_blocks * BLOCK, "{what}: what stays is not written");
            assert!(read(&store, 0, 1 << 20).await.is_ok_and(|found| found == expect), "{what}");
            assert_eq!(findings(&store).await, Vec::<String>::new(), "{what}");
            store.close().await.expect("close");
            let store = world.mount(&core).await.expect("mount");
            assert!(read(&store, 0, 1 << 20).await.is_ok_and(|found| found == expect), "{what}");
            let now = store.block_places(collection(), &name()).await.expect("places");
            for place in now.iter().filter(|place| old.contains(&place.address)) {
                world.disk.corrupt(place.address + 1, 1);
                for other in &now {
                    let found = read(&store, other.offset, BLOCK).await;
                    assert_eq!(found.is_err(), other == place, "{what}: {place:?}, {other:?}");
                }
                world.disk.corrupt(place.address + 1, 1);
            }
            store.close().await.expect("close");
        });
    }
}

/// A chunk that does not match is not made to match by changing a part of it.
#[test]
fn damage_is_never_taken_for_sound() {
    // Which block is damaged, what is done, and what can be read afterwards.
    let ways: [(u64, Vec<Op>, std::ops::Range<u64>); 5] = [
        (3, vec![write(10 * BLOCK, bytes(9, 1))], 10..11),
        (3, vec![write(3 * BLOCK, bytes(9, 2))], 3..5),
        (3, vec![truncate(6 * BLOCK)], 0..0),
        (12, vec![truncate(6 * BLOCK)], 0..0),
        (3, vec![zero(2 * BLOCK, 4 * BLOCK)], 2..6),
    ];
    for (damaged, ops, sound) in ways {
        in_world(move |core, world| async move {
            let store = fresh(&core, &world).await;
            commit(&store, vec![streamed(name()), write(0, bytes(1, BLOCKS))]).await;
            let address = places(&store).await[usize::try_from(damaged).expect("small")];
            world.disk.corrupt(address, 8);
            commit(&store, ops.clone()).await;
            assert_eq!((counter(&store, "chunks_split"), counter(&store, "chunks_damaged")), (1, 1));
            store.close().await.expect("close");
            let store = world.mount(&core).await.expect("mount");
            let size = store.stat(collection(), &name()).await.expect("stat").size;
            for number in 0..size / BLOCK {
                let found = read(&store, number * BLOCK, BLOCK).await;
                assert_eq!(found.is_ok(), sound.contains(&number), "{ops:?}, block {number}: {found:?}");
            }
            let bad = size / BLOCK - (sound.end - sound.start).min(size / BLOCK);
            assert_eq!(findings(&store).await.len() as u64, bad, "{ops:?}");
            // Its owner says again what it holds, block by block where nobody knows what was there.
            let problem = read(&store, 0, size).await.expect_err("not all of it");
            assert!(problem.to_string().contains("unknown since"), "{problem}");
            let part = store.submit(Transaction { ops: vec![write(5, bytes(2, 1))] }).durable.await;
            assert_eq!(part.is_ok(), sound.contains(&0), "a part of it stays, which cannot be read");
            commit(&store, vec![write(0, bytes(3, size / BLOCK))]).await;
            assert!(read(&store, 0, size).await.is_ok_and(|found| found == bytes(3, size / BLOCK)));
            assert_eq!(findings(&store).await, Vec::<String>::new());
            store.close().await.expect("close");
        });
    }
}

/// Sectors that the device cannot read: what would replace a block, or cut it off, if it had a checksum of its own does so.
#[test]
fn what_the_device_cannot_read_is_overwritten_and_cut_off() {
    let ways: [(Vec<Op>, std::ops::Range<u64>); 4] = [
        (vec![truncate(6 * BLOCK)], 0..0),
        (vec![write(0, bytes(2, 1))], 0..1),
        (vec![write(7 * BLOCK, bytes(2, 1))], 7..8),
        (vec![zero(7 * BLOCK, BLOCK)], 7..8),
    ];
    for (ops, sound) in ways {
        in_world(move |core, world| async move {
            world.format(&core).await;
            let at = Rc::default();
            let device = Bad { below: world.device(&core), at: Rc::clone(&at), fails: true };
            let store = world.mount_on(&core, Rc::new(device), false).await.expect("mount");
            store.submit(Generator::prologue()).durable.await.expect("create");
            commit(&store, vec![streamed(name()), write(0, bytes(1, BLOCKS))]).await;
            at.borrow_mut().insert(places(&store).await[7]);
            // A part of a block stays, which nobody knows.
            let part = vec![write(2 * BLOCK + 5, Bytes::from_static(b"new"))];
            let part = store.submit(Transaction { ops: part }).durable.await;
            assert!(
                matches!(&part, Err(StoreError::Io(reason)) if reason.contains("media error")),
                "{part:?}"
            );
            assert_eq!((counter(&store, "chunks_split"), counter(&store, "chunks_damaged")), (0, 0));
            commit(&store, ops.clone()).await;
            assert_eq!((counter(&store, "chunks_split"), counter(&store, "chunks_damaged")), (1, 1));
            let size = store.stat(collection(), &name()).await.expect("stat").size;
            for number in 0..size / BLOCK {
                let found = read(&store, number * BLOCK, BLOCK).await;
                assert_eq!(found.is_ok(), sound.contains(&number), "{ops:?}, block {number}: {found:?}");
            }
            // It reads them again, and nothing tells whether what it reads was written.
            at.borrow_mut().clear();
            let problem = read(&store, 0, size).await.expect_err("not all of it");
            assert!(problem.to_string().contains("unknown since"), "{problem}");
            commit(&store, vec![write(0, bytes(3, size / BLOCK))]).await;
            assert!(read(&store, 0, size).await.is_ok_and(|found| found == bytes(3, size / BLOCK)));
            assert_eq!(findings(&store).await, Vec::<String>::new());
            store.close().await.expect("close");
        });
    }
}

/// Of a chunk that is damaged on the device, what is in memory was verified: only the rest has an unknown checksum.
#[test]
fn what_is_in_memory_is_known_although_the_chunk_is_damaged() {
    let mut world = World::new(1, 16 << 20, 4096, 256 << 10);
    world.options.data_cache_bytes_max = 1 << 20;
    Sim::new(1, Config::default()).run(0, move |core| async move {
        let store = fresh(&core, &world).await;
        let mut data = bytes(1, BLOCKS).to_vec();
        commit(&store, vec![streamed(name()), write(0, Bytes::from(data.clone()))]).await;
        assert!(read(&store, 0, 1).await.is_ok(), "all of it is in memory");
        let forgets = AccessHints { keep: Keep::Not, ..AccessHints::default() };
        let some = store.read_with(collection(), &name(), 8 * BLOCK, 4 * BLOCK, forgets).await;
        assert!(some.is_ok(), "but for these from now on");
        world.disk.corrupt(places(&store).await[9] + 3, 1);
        commit(&store, vec![write(2 * BLOCK, bytes(2, 1))]).await;
        data[2 * 4096..3 * 4096].copy_from_slice(&bytes(2, 1));
        assert_eq!((counter(&store, "chunks_split"), counter(&store, "chunks_damaged")), (1, 1));
        for hints in [AccessHints::default(), AccessHints::VERIFY] {
            for number in 0..BLOCKS {
                let found = store.read_with(collection(), &name(), number * BLOCK, BLOCK, hints).await;
                let is_right = found.is_ok_and(|found| join(found) == part(&data, number, 1));
                assert_eq!(is_right, !(8..12).contains(&number), "block {number}");
            }
        }
        assert_eq!(findings(&store).await.len(), 4);
        store.close().await.expect("close");
    });
}

/// What is in memory was verified with the others under its checksum, and stays there under its own.
#[test]
fn what_is_in_memory_stays_there() {
    let mut world = World::new(1, 16 << 20, 4096, 256 << 10);
    world.options.data_cache_bytes_max = 1 << 20;
    Sim::new(1, Config::default()).run(0, move |core| async move {
        let store = fresh(&core, &world).await;
        let mut data = bytes(1, BLOCKS).to_vec();
        commit(&store, vec![streamed(name()), write(0, Bytes::from(data.clone()))]).await;
        assert!(read(&store, 5 * BLOCK, 1).await.is_ok());
        let from_device = counter(&store, "data_bytes_read");
        assert_eq!(from_device, BLOCKS * BLOCK, "all of it, for one byte");
        commit(&store, vec![write(2 * BLOCK, bytes(2, 1)), write(9 * BLOCK + 1, Bytes::from_static(b"x"))])
            .await;
        data[2 * 4096..3 * 4096].copy_from_slice(&bytes(2, 1));
        data[9 * 4096 + 1] = b'x';
        assert!(read(&store, 0, 1 << 20).await.is_ok_and(|found| found == data));
        assert_eq!(counter(&store, "data_bytes_read"), from_device);
        // Verified on the device, it is the same.
        let verified = store.read_with(collection(), &name(), 0, 1 << 20, AccessHints::VERIFY).await;
        assert!(verified.map(join).is_ok_and(|found| found == data));
        store.close().await.expect("close");
    });
}

#[test]
fn a_pool_bounds_what_is_under_one_checksum() {
    in_world(|core, world| async move {
        let store = fresh(&core, &world).await;
        let check = async |bounds: ChunkBounds, hints: Hints, expected: &[usize]| {
            let options = PoolOptions { checksum_chunk: bounds, ..PoolOptions::default() };
            store.set_pool_options(collection().pool, options);
            let hint = Op::SetHints { collection: collection(), object: name(), hints };
            // Not from the beginning of a chunk on.
            commit(&store, vec![truncate(0), hint, write(2 * BLOCK, bytes(1, 9))]).await;
            let dump = store.dump(collection(), &name()).await.expect("dump");
            let blobs = dump.shards.values().flat_map(|shard| shard.blobs.values());
            let blocks = blobs.flat_map(|blob| blob.checksums.chunks().map(|chunk| chunk.blocks));
            assert_eq!(blocks.collect::<Vec<_>>(), expected, "{bounds:?} {hints:?}");
        };
        let streamed = Hints { is_streamed: true, ..Hints::default() };
        let bounds = |min, max| ChunkBounds { min, max };
        check(bounds(None, None), Hints::default(), &[1; 9]).await;
        check(bounds(None, None), streamed, &[9]).await;
        check(bounds(None, Some(16 << 10)), streamed, &[2, 4, 3]).await;
        check(bounds(Some(8 << 10), None), Hints::default(), &[2, 2, 2, 2, 1]).await;
        let none = PoolOptions { checksum: Some(ChecksumKind::None), ..PoolOptions::default() };
        store.set_pool_options(collection().pool, none);
        commit(&store, vec![write(0, bytes(1, BLOCKS))]).await;
        let dump = store.dump(collection(), &name()).await.expect("dump");
        assert!(dump.shards[&0].blobs.values().all(|blob| !blob.checksums.is_chunked()));
        store.close().await.expect("close");
    });
}

/// What is appended to a block that is not whole cuts nothing, and reads nothing but that block.
#[test]
fn appends_cut_no_chunk() {
    in_world(|core, world| async move {
        let store = fresh(&core, &world).await;
        let data = bytes(1, BLOCKS);
        commit(&store, vec![streamed(name())]).await;
        let (mut at, step) = (0, 3 * BLOCK + 700);
        while at < BLOCKS * BLOCK {
            let end = (at + step).min(BLOCKS * BLOCK);
            let range = usize::try_from(at).expect("small")..usize::try_from(end).expect("small");
            commit(&store, vec![write(at, data.slice(range))]).await;
            at = end;
        }
        assert_eq!(counter(&store, "chunks_split"), 0);
        assert!(counter(&store, "data_bytes_read") <= 5 * BLOCK, "each last block once");
        let dump = store.dump(collection(), &name()).await.expect("dump");
        let blobs = dump.shards.values().flat_map(|shard| shard.blobs.values());
        let chunks: usize = blobs.map(|blob| blob.checksums.chunks().count()).sum();
        assert!(chunks < 12, "{chunks} for 16 blocks");
        assert!(read(&store, 0, 1 << 20).await.is_ok_and(|found| found == data));
        assert_eq!(findings(&store).await, Vec::<String>::new());
        store.close().await.expect("close");
    });
}

/// Clones share chunks whole; each object cuts its own.
#[test]
fn clones_share_chunks_and_cut_their_own() {
    in_world(|core, world| async move {
        let store = fresh(&core, &world).await;
        let data = bytes(1, BLOCKS);
        let other = ObjectId { snap: 5, ..name() };
        let range = |offset, len| Op::CloneRange {
            collection: collection(),
            object: name(),
            offset,
            len,
            target: other.clone(),
            target_offset: offset,
        };
        let read_other = async || {
            let found = store.read(collection(), &other, 0, 1 << 20).await;
            found.map(join).map(|data| data.to_vec())
        };
        commit(&store, vec![streamed(name()), write(0, data.clone())]).await;
        let chunks = async |object: &ObjectId| {
            let dump = store.dump(collection(), object).await.expect("dump");
            let blobs = dump.shards.values().flat_map(|shard| shard.blobs.values());
            let all: Vec<_> =
                blobs.flat_map(|blob| blob.checksums.chunks().map(|chunk| chunk.blocks)).collect();
            all
        };
        // All of a chunk is shared; again, nothing changes.
        for _ in 0..2 {
            let written = counter(&store, "data_bytes_written");
            commit(&store, vec![range(0, BLOCKS * BLOCK)]).await;
            assert_eq!(counter(&store, "data_bytes_written"), written);
            assert_eq!((chunks(&name()).await, chunks(&other).await), (vec![16], vec![16]));
        }
        // One of them changes it, and the other has it as it was.
        let at = |offset| Op::Write {
            collection: collection(),
            object: other.clone(),
            offset,
            data: vec![bytes(7, 1)],
        };
        commit(&store, vec![at(4 * BLOCK)]).await;
        assert_eq!((chunks(&name()).await, chunks(&other).await), (vec![16], vec![1; 16]));
        let mut expect = data.to_vec();
        expect[4 * 4096..5 * 4096].copy_from_slice(&bytes(7, 1));
        assert!(read_other().await.is_ok_and(|found| found == expect));
        // Of some of it, with parts of blocks that it keeps: one block is read as one, and as one of sixteen.
        commit(&store, vec![range(3 * BLOCK + 100, 5 * BLOCK)]).await;
        let back = |data: &Bytes| data[3 * 4096 + 100..8 * 4096 + 100].to_vec();
        expect.splice(3 * 4096 + 100..8 * 4096 + 100, back(&data));
        assert!(read_other().await.is_ok_and(|found| found == expect));
        // Back again: what it does not have as single blocks is copied.
        let written = counter(&store, "data_bytes_written");
        commit(&store, vec![range(0, BLOCKS * BLOCK)]).await;
        assert!(counter(&store, "data_bytes_written") > written);
        assert!(read_other().await.is_ok_and(|found| found == data));
        // A part of a chunk is copied.
        let remove = Op::Remove { collection: collection(), object: other.clone() };
        commit(&store, vec![remove, range(BLOCK + 3, 5 * BLOCK)]).await;
        assert_eq!(chunks(&name()).await, [16]);
        assert!(read_other().await.is_ok_and(|found| found[4099..] == data[4099..6 * 4096 + 3]));
        // The source changes while it is cloned.
        let remove = Op::Remove { collection: collection(), object: other.clone() };
        let clone = Op::Clone { collection: collection(), object: name(), target: other.clone() };
        commit(&store, vec![remove, clone, write(8 * BLOCK, bytes(9, 1))]).await;
        assert_eq!((chunks(&name()).await, chunks(&other).await), (vec![1; 16], vec![16]));
        assert!(read_other().await.is_ok_and(|found| found == data));
        assert_eq!(findings(&store).await, Vec::<String>::new());
        store.close().await.expect("close");
        let store = world.mount(&core).await.expect("mount");
        assert_eq!(findings(&store).await, Vec::<String>::new());
        store.close().await.expect("close");
    });
}

/// A range of pieces is moved together: to new space, and so into chunks again.
#[test]
fn what_moves_is_under_few_checksums_again() {
    in_world(|core, world| async move {
        let store = fresh(&core, &world).await;
        commit(&store, vec![streamed(name())]).await;
        let other = object("other", 2);
        for block in 0..BLOCKS {
            let beside = Op::Write {
                collection: collection(),
                object: other.clone(),
                offset: block * BLOCK,
                data: vec![bytes(2, 1)],
            };
            commit(&store, vec![write(block * BLOCK, bytes(block, 1))]).await;
            commit(&store, vec![beside]).await;
        }
        let defragment =
            |offset, len| Op::Defragment { collection: collection(), object: name(), offset, len };
        commit(&store, vec![defragment(0, BLOCKS * BLOCK)]).await;
        let dump = store.dump(collection(), &name()).await.expect("dump");
        let blobs = dump.shards.values().flat_map(|shard| shard.blobs.values());
        let chunks: usize = blobs.map(|blob| blob.checksums.chunks().count()).sum();
        assert!(chunks < 4, "{chunks}");
        for block in 0..BLOCKS {
            assert_eq!(read(&store, block * BLOCK, BLOCK).await.as_deref(), Ok(&bytes(block, 1)[..]));
        }
        assert_eq!(findings(&store).await, Vec::<String>::new());
        store.close().await.expect("close");
    });
}

/// A block that is read brings all of its chunk. A full cache, which most of what is new passes, must not have it read again for
/// every block.
#[test]
fn blocks_read_in_order_bring_their_chunks_through_a_full_cache_twice_at_most() {
    let mut world = World::new(1, 16 << 20, 4096, 256 << 10);
    world.options.data_cache_bytes_max = 1 << 20;
    world.options.read_ahead_bytes = 0;
    Sim::new(1, Config::default()).run(0, move |core| async move {
        let store = fresh(&core, &world).await;
        let (chunks, other) = (8, object("plain", 1));
        let data = bytes(1, chunks * BLOCKS);
        commit(&store, vec![streamed(name()), write(0, data.clone())]).await;
        let plain = Op::Write {
            collection: collection(),
            object: other.clone(),
            offset: 0,
            data: vec![bytes(2, 500)],
        };
        commit(&store, vec![plain]).await;
        store.read(collection(), &other, 0, 500 * BLOCK).await.expect("fills the cache");
        for (pattern, most) in [(Pattern::Unknown, 2), (Pattern::Sequential, 1)] {
            let hints = AccessHints { pattern, ..AccessHints::default() };
            let before = counter(&store, "data_bytes_read");
            for number in 0..chunks * BLOCKS {
                let read = store.read_with(collection(), &name(), number * BLOCK, BLOCK, hints).await;
                assert_eq!(read.map(join).as_deref(), Ok(part(&data, number, 1)));
            }
            let chunks_read = (counter(&store, "data_bytes_read") - before) / (BLOCKS * BLOCK);
            assert!(chunks_read <= most * chunks, "{pattern:?}: {chunks_read} for {chunks}");
            // What comes now drives them out.
            let passing = AccessHints { keep: Keep::Long, ..AccessHints::default() };
            store.read_with(collection(), &other, 0, 500 * BLOCK, passing).await.expect("fills the cache");
        }
        store.close().await.expect("close");
    });
}
