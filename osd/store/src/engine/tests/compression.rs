//! What is compressed, how much space it takes, what is left of it after overwriting, and how damage shows.

use std::rc::Rc;

use bytes::Bytes;
use rt::Core;
use rt::sim::{Config, Sim};

use super::world::World;
use crate::compression::{Algorithm, Compressibility, Compression, CompressionMode};
use crate::engine::Engine;
use crate::object_store::{FsckLevel, ObjectStore, StoreError, Unwatched};
use crate::suite::{Generator, collection, join, object, pattern};
use crate::types::{PoolOptions, PoolStats};
use crate::{ObjectId, Op, Transaction};

const BLOCK: u64 = 4096;
const SPAN: u64 = 128 << 10;

fn with_store(test: impl AsyncFn(Core, Rc<World>, Engine) + 'static) {
    let sim = Sim::new(1, Config::default());
    let mut world = World::new(1, 16 << 20, 4096, 256 << 10);
    world.options.shard_span = 128 << 10;
    world.options.compression = Compression { mode: CompressionMode::Force, ..Compression::default() };
    // Less than what is compressed here takes.
    world.options.reserve_bytes = 8 * BLOCK;
    let world = Rc::new(world);
    sim.run(0, |core| async move {
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        test(core, Rc::clone(&world), store).await;
    });
}

fn name() -> ObjectId {
    object("name", 1)
}

/// Compresses to less than a tenth.
fn text(salt: u64, len: u64) -> Bytes {
    let word = pattern(salt, 50);
    word.iter().copied().cycle().take(usize::try_from(len).expect("small")).collect()
}

/// Does not.
fn noise(salt: u64, len: u64) -> Bytes {
    pattern(salt, usize::try_from(len).expect("small"))
}

async fn commit(store: &Engine, ops: Vec<Op>) {
    store.submit(Transaction { ops }).durable.await.expect("commit");
}

async fn write(store: &Engine, name: &ObjectId, offset: u64, data: Bytes) {
    commit(
        store,
        vec![Op::Write { collection: collection(), object: name.clone(), offset, data: vec![data] }],
    )
    .await;
}

async fn read(store: &Engine, name: &ObjectId) -> Vec<u8> {
    join(store.read(collection(), name, 0, u64::MAX).await.expect("read"))
}

async fn findings(store: &Engine) -> Vec<String> {
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    report.findings.into_iter().map(|finding| format!("{}: {}", finding.kind, finding.detail)).collect()
}

fn pool(store: &Engine) -> PoolStats {
    store.pool_stats().first().map(|(_, stats)| *stats).unwrap_or_default()
}

fn counter(store: &Engine, name: &str) -> u64 {
    store.stats().counters.iter().find(|(other, _)| *other == name).map(|(_, value)| *value).expect("counter")
}

#[test]
fn data_takes_the_space_of_what_it_becomes_and_is_told_apart() {
    with_store(async |core, world, store| {
        let whole = text(1, 2 * SPAN);
        write(&store, &name(), 0, whole.clone()).await;
        let stats = pool(&store);
        assert_eq!((stats.stored, stats.compressed_original), (2 * SPAN as i64, 2 * SPAN as i64));
        assert!(stats.allocated < SPAN as i64 / 4, "{stats:?}");
        assert_eq!(stats.allocated, stats.compressed);
        assert_eq!(counter(&store, "data_bytes_written"), store.stats().allocated);
        assert_eq!(counter(&store, "compress_accepted"), 4, "64 KiB each");
        assert!(read(&store, &name()).await == whole);
        let part = store.read(collection(), &name(), SPAN - 100, 300).await.expect("read");
        assert!(join(part) == whole[SPAN as usize - 100..SPAN as usize + 200]);

        // Noise stays as it is, and so does what is too short.
        write(&store, &object("noise", 2), 0, noise(2, SPAN)).await;
        write(&store, &object("short", 3), 0, text(3, BLOCK)).await;
        assert_eq!(pool(&store).compressed, stats.compressed);
        assert_eq!(pool(&store).allocated, stats.allocated + (SPAN + BLOCK) as i64);
        assert_eq!((counter(&store, "compress_accepted"), counter(&store, "compress_rejected")), (4, 2));
        assert_eq!(findings(&store).await, Vec::<String>::new());
        let before = pool(&store);
        store.close().await.expect("close");
        let store = world.mount(&core).await.expect("mount");
        assert_eq!(pool(&store), before);
        assert!(read(&store, &name()).await == whole);
        commit(&store, vec![Op::Remove { collection: collection(), object: name() }]).await;
        assert_eq!((pool(&store).compressed, pool(&store).allocated), (0, (SPAN + BLOCK) as i64));
        assert_eq!(findings(&store).await, Vec::<String>::new());
    });
}

#[test]
fn overwriting_never_leaves_more_behind_than_the_rest_would_take_by_itself() {
    with_store(async |_, _, store| {
        // Half of each block is noise, so 16 blocks become some 9.
        let half: Bytes = (0..16).flat_map(|n| [noise(n, 2048), text(n, 2048)].concat()).collect();
        write(&store, &name(), 0, half.clone()).await;
        let packed = pool(&store).compressed / BLOCK as i64;
        assert!((8..=11).contains(&packed), "{packed} blocks");
        // From now on nothing is compressed, what moves out of the blob neither.
        let compression = Some(Compression::default());
        store.set_pool_options(collection().pool, PoolOptions { compression, ..PoolOptions::default() });
        let mut expect = half.to_vec();
        for number in 0..16_u64 {
            // A part of a block, so that the rest of it must be had from the compressed blob.
            let at = number * BLOCK + 1000;
            write(&store, &name(), at, noise(100 + number, 500)).await;
            expect[at as usize..at as usize + 500].copy_from_slice(&noise(100 + number, 500));
            assert!(read(&store, &name()).await == expect, "after {number}");
            let left = 15 - number as i64;
            let stats = pool(&store);
            let is_kept = left > packed;
            assert_eq!(
                stats.compressed,
                if is_kept { packed * BLOCK as i64 } else { 0 },
                "{left} blocks left"
            );
            assert_eq!(stats.compressed_original, if is_kept { left * BLOCK as i64 } else { 0 });
            assert_eq!(stats.allocated, if is_kept { number as i64 + 1 + packed } else { 16 } * BLOCK as i64);
        }
        assert_eq!(findings(&store).await, Vec::<String>::new());
    });
}

#[test]
fn clones_share_compressed_blobs() {
    with_store(async |_, _, store| {
        let head = name();
        let snap = ObjectId { snap: 1, ..name() };
        write(&store, &head, 0, text(1, SPAN)).await;
        let packed = pool(&store).compressed;
        commit(
            &store,
            vec![Op::Clone { collection: collection(), object: head.clone(), target: snap.clone() }],
        )
        .await;
        assert_eq!((pool(&store).allocated, pool(&store).compressed), (packed, 2 * packed));
        write(&store, &head, 0, noise(2, SPAN - BLOCK)).await;
        let expect = [noise(2, SPAN - BLOCK), text(1, SPAN).slice(SPAN as usize - BLOCK as usize..)].concat();
        assert!(read(&store, &head).await == expect);
        assert!(read(&store, &snap).await == text(1, SPAN));
        assert_eq!(findings(&store).await, Vec::<String>::new());
        commit(&store, vec![Op::Remove { collection: collection(), object: snap }]).await;
        assert!(read(&store, &head).await == expect);
        assert_eq!(findings(&store).await, Vec::<String>::new());
        commit(&store, vec![Op::Remove { collection: collection(), object: head }]).await;
        assert_eq!(store.pool_stats(), vec![]);
        assert_eq!(findings(&store).await, Vec::<String>::new());
    });
}

#[test]
fn clones_of_compressed_blobs_change_together() {
    with_store(async |_, _, store| {
        let (head, snap) = (name(), ObjectId { snap: 1, ..name() });
        write(&store, &head, 0, text(1, SPAN)).await;
        let clone = Op::Clone { collection: collection(), object: head.clone(), target: snap.clone() };
        commit(&store, vec![clone]).await;
        // Of each another block is had from the same blob, of which a part stays.
        let part = |object: &ObjectId, block: u64| Op::Write {
            collection: collection(),
            object: object.clone(),
            offset: block * BLOCK + 10,
            data: vec![noise(block, 5)],
        };
        commit(&store, vec![part(&head, 3), part(&snap, 5)]).await;
        commit(&store, vec![part(&snap, 2), part(&head, 9), part(&snap, 12)]).await;
        for (object, blocks) in [(&head, &[3, 9][..]), (&snap, &[5, 2, 12])] {
            let mut expect = text(1, SPAN).to_vec();
            for block in blocks {
                let at = (block * BLOCK + 10) as usize;
                expect[at..at + 5].copy_from_slice(&noise(*block, 5));
            }
            assert!(read(&store, object).await == expect, "{object}");
        }
        assert_eq!(findings(&store).await, Vec::<String>::new());
    });
}

#[test]
fn hints_are_kept_and_the_pool_decides_what_they_are_worth() {
    with_store(async |core, world, store| {
        let hint = |hint: Compressibility| Op::SetHints {
            collection: collection(),
            object: name(),
            hints: hint.into(),
        };
        let choose = |store: &Engine, mode| {
            let compression =
                Some(Compression { mode, algorithm: Algorithm::Zstd, ..Compression::default() });
            store.set_pool_options(collection().pool, PoolOptions { compression, ..PoolOptions::default() });
        };
        choose(&store, CompressionMode::Passive);
        write(&store, &name(), 0, text(1, SPAN)).await;
        assert_eq!(pool(&store).compressed, 0, "nobody said that it compresses");
        commit(&store, vec![hint(Compressibility::Compressible)]).await;
        store.close().await.expect("close");
        let store = world.mount(&core).await.expect("mount");
        choose(&store, CompressionMode::Passive);
        assert_eq!(
            store.stat(collection(), &name()).await.expect("stat").hints,
            Compressibility::Compressible.into()
        );
        write(&store, &name(), 0, text(2, SPAN)).await;
        assert!(pool(&store).compressed > 0);
        choose(&store, CompressionMode::Aggressive);
        commit(&store, vec![hint(Compressibility::Incompressible)]).await;
        write(&store, &name(), 0, text(3, SPAN)).await;
        assert_eq!(pool(&store).compressed, 0, "a client said that it does not compress");
        choose(&store, CompressionMode::Force);
        write(&store, &name(), 0, text(4, SPAN)).await;
        assert!(pool(&store).compressed > 0);
        assert!(read(&store, &name()).await == text(4, SPAN));
    });
}

#[test]
fn a_compressed_blob_goes_in_one_piece_or_as_it_came() {
    with_store(async |_, _, store| {
        // Until it is full, and then every second block of half of it free.
        let fill = async |prefix: &str, from: u64| {
            let mut number = from;
            loop {
                let object = object(&format!("{prefix}{number}"), 1);
                let op = Op::Write {
                    collection: collection(),
                    object,
                    offset: 0,
                    data: vec![noise(number, BLOCK)],
                };
                match store.submit(Transaction { ops: vec![op] }).durable.await {
                    Ok(()) => number += 1,
                    Err(StoreError::NoSpace(_)) => return number,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let count = fill("block", 0).await;
        for number in (0..count / 2).step_by(2) {
            let object = object(&format!("block{number}"), 1);
            commit(&store, vec![Op::Remove { collection: collection(), object }]).await;
        }
        // Some 9 blocks compressed, which no free space takes in one piece.
        let half: Bytes = (0..16).flat_map(|n| [noise(n, 2048), text(n, 2048)].concat()).collect();
        write(&store, &name(), 0, half.clone()).await;
        assert_eq!((pool(&store).compressed, counter(&store, "compress_rejected")), (0, 1));
        assert!(read(&store, &name()).await == half);
        assert_eq!(findings(&store).await, Vec::<String>::new());
    });
}

#[test]
fn damage_in_a_compressed_blob_is_named_and_nothing_of_it_is_served() {
    with_store(async |_, world, store| {
        write(&store, &name(), 0, text(1, SPAN)).await;
        let places = store.block_places(collection(), &name()).await.expect("places");
        let second = places.iter().find(|place| place.offset == 64 << 10).expect("a second blob").address;
        world.disk.corrupt(second + 10, 4);
        assert!(store.read(collection(), &name(), 0, 64 << 10).await.is_ok(), "the first blob is whole");
        for offset in [64 << 10, SPAN - 1] {
            let error = store.read(collection(), &name(), offset, 1).await.expect_err("damaged");
            let text = error.to_string();
            assert!(matches!(error, StoreError::Io(_)) && text.contains("wrong checksum"), "{text}");
        }
        let op = Op::Write {
            collection: collection(),
            object: name(),
            offset: SPAN - 50,
            data: vec![text(2, 10)],
        };
        let refused = store.submit(Transaction { ops: vec![op] }).readable.await;
        assert!(
            matches!(refused, Err(StoreError::Io(_))),
            "a part of what cannot be read would stay: {refused:?}"
        );
        let found = findings(&store).await;
        assert!(matches!(&found[..], [one] if one.starts_with("checksum: ")), "{found:?}");
        // Who writes all of it needs nothing of what was there.
        write(&store, &name(), 64 << 10, text(3, SPAN - (64 << 10))).await;
        assert_eq!(findings(&store).await, Vec::<String>::new());
    });
}

#[test]
fn what_would_only_move_stays_where_it_cannot_be_read_or_has_nowhere_to_go() {
    with_store(async |_, world, store| {
        let half: Bytes = (0..16).flat_map(|n| [noise(n, 2048), text(n, 2048)].concat()).collect();
        write(&store, &name(), 0, half.clone()).await;
        let packed = pool(&store).compressed;
        // Taken away, and more than the rest would take is kept: nothing was written.
        commit(&store, vec![Op::Truncate { collection: collection(), object: name(), size: 2 * BLOCK }])
            .await;
        assert_eq!(pool(&store).compressed, packed);
        let place = store.block_places(collection(), &name()).await.expect("places").remove(0);
        assert!(place.is_packed);
        world.disk.corrupt(place.address + 10, 4);
        write(&store, &name(), 64 << 10, noise(50, BLOCK)).await;
        assert_eq!(pool(&store).compressed, packed, "what cannot be read does not move");
        world.disk.corrupt(place.address + 10, 4);
        write(&store, &name(), 68 << 10, noise(51, BLOCK)).await;
        assert_eq!(pool(&store).compressed, 0, "it moves with the next write");
        let expect =
            [&half[..2 * BLOCK as usize], &vec![0; 56 << 10], &noise(50, BLOCK), &noise(51, BLOCK)].concat();
        assert!(read(&store, &name()).await == expect);
        assert_eq!(findings(&store).await, Vec::<String>::new());

        // Again, with a device on which only the write itself has room.
        write(&store, &name(), 0, half.clone()).await;
        commit(&store, vec![Op::Truncate { collection: collection(), object: name(), size: 3 * BLOCK }])
            .await;
        let mut number = 0;
        loop {
            let object = object(&format!("block{number}"), 1);
            let op =
                Op::Write { collection: collection(), object, offset: 0, data: vec![noise(number, BLOCK)] };
            match store.submit(Transaction { ops: vec![op] }).durable.await {
                Ok(()) => number += 1,
                Err(StoreError::NoSpace(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        commit(&store, vec![Op::Remove { collection: collection(), object: object("block7", 1) }]).await;
        let packed = pool(&store).compressed;
        assert!(packed > 0);
        write(&store, &name(), 32 << 10, noise(60, BLOCK)).await;
        assert_eq!(pool(&store).compressed, packed, "it has nowhere to go");
        assert!(read(&store, &name()).await[..3 * BLOCK as usize] == half[..3 * BLOCK as usize]);
        assert_eq!(findings(&store).await, Vec::<String>::new());
    });
}
