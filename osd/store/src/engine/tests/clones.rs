//! Clones share space: how much of it, for how long, and what a crash leaves.

use std::rc::Rc;

use bytes::Bytes;
use rt::Core;
use rt::sim::{Config, Sim};

use super::world::World;
use crate::engine::Engine;
use crate::fault::{Fault, Planted};
use crate::object_store::{FsckLevel, ObjectStore, StoreError, StoreResult, Unwatched};
use crate::suite::{Generator, collection, join, object, pattern};
use crate::{ObjectId, Op, Transaction};

const BYTES: u64 = 512 << 10;

fn with_store(test: impl AsyncFn(Core, Rc<World>, Engine) + 'static) {
    with_fault(Fault::default(), test);
}

fn with_fault(fault: Fault, test: impl AsyncFn(Core, Rc<World>, Engine) + 'static) {
    let sim = Sim::new(1, Config::default());
    let mut world = World::new(1, 8 << 20, 4096, 256 << 10);
    world.options.shard_span = 128 << 10;
    world.options.fault = fault;
    // Nothing deferred goes in place unless a checkpoint wants it.
    world.options.deferred_batch_bytes = 1 << 30;
    let world = Rc::new(world);
    sim.run(0, |core| async move {
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        test(core, Rc::clone(&world), store).await;
    });
}

async fn commit(store: &Engine, ops: Vec<Op>) -> StoreResult<()> {
    store.submit(Transaction { ops }).durable.await
}

async fn fsck(store: &Engine) {
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    assert_eq!(report.findings, vec![]);
}

fn head() -> ObjectId {
    object("head", 1)
}

fn snap(snap: u64) -> ObjectId {
    ObjectId { snap, ..head() }
}

fn write(name: &ObjectId, offset: u64, data: Bytes) -> Op {
    Op::Write { collection: collection(), object: name.clone(), offset, data: vec![data] }
}

fn clone(object: &ObjectId, target: &ObjectId) -> Op {
    Op::Clone { collection: collection(), object: object.clone(), target: target.clone() }
}

fn remove(object: &ObjectId) -> Op {
    Op::Remove { collection: collection(), object: object.clone() }
}

async fn read(store: &Engine, name: &ObjectId) -> Vec<u8> {
    join(store.read(collection(), name, 0, u64::MAX).await.expect("read"))
}

fn counter(store: &Engine, name: &str) -> u64 {
    store.stats().counters.iter().find(|(other, _)| *other == name).map(|(_, value)| *value).expect("counter")
}

#[test]
fn a_clone_costs_no_data_and_space_comes_back_with_the_last_of_them() {
    with_store(async |_, _, store| {
        commit(&store, vec![write(&head(), 0, pattern(1, BYTES as usize))]).await.expect("write");
        let written = counter(&store, "data_bytes_written");
        for number in 1..=3 {
            commit(&store, vec![clone(&head(), &snap(number))]).await.expect("clone");
        }
        assert_eq!(counter(&store, "data_bytes_written"), written, "nothing was copied");
        assert_eq!(store.stats().allocated, BYTES, "all share the same space");
        let stat = store.stat(collection(), &snap(2)).await.expect("stat");
        assert_eq!((stat.size, stat.allocated), (BYTES, BYTES));
        fsck(&store).await;

        commit(&store, vec![write(&head(), 8192, pattern(2, 4096))]).await.expect("overwrite");
        commit(&store, vec![write(&head(), 100_000, pattern(3, 7))]).await.expect("overwrite a part");
        assert_eq!(store.stats().allocated, BYTES + 2 * 4096, "what changed is the object's own");
        assert_eq!(counter(&store, "deferred_blocks"), 0);
        for number in [2, 1] {
            commit(&store, vec![remove(&snap(number))]).await.expect("remove");
            assert_eq!(store.stats().allocated, BYTES + 2 * 4096, "another clone has it");
        }
        fsck(&store).await;
        commit(&store, vec![remove(&snap(3))]).await.expect("remove");
        assert_eq!(store.stats().allocated, BYTES, "two blocks were only the clone's");
        fsck(&store).await;
        commit(&store, vec![remove(&head())]).await.expect("remove");
        assert_eq!((store.stats().allocated, store.pool_stats()), (0, vec![]));
        assert_eq!(counter(&store, "shares_begun"), counter(&store, "shares_ended"));
        fsck(&store).await;
    });
}

fn clone_range(object: &ObjectId, offset: u64, len: u64, target: &ObjectId, target_offset: u64) -> Op {
    let (object, target) = (object.clone(), target.clone());
    Op::CloneRange { collection: collection(), object, offset, len, target, target_offset }
}

#[test]
fn a_range_shares_the_blocks_that_do_not_move_and_copies_the_rest() {
    with_store(async |_, _, store| {
        commit(&store, vec![write(&head(), 0, pattern(1, BYTES as usize))]).await.expect("write");
        commit(&store, vec![write(&snap(1), 0, pattern(2, BYTES as usize))]).await.expect("write");
        let written = async |ops: Vec<Op>| {
            let before = counter(&store, "data_bytes_written");
            commit(&store, ops).await.expect("commit");
            fsck(&store).await;
            counter(&store, "data_bytes_written") - before
        };
        let mut one = pattern(1, BYTES as usize).to_vec();
        let mut two = pattern(2, BYTES as usize).to_vec();

        // Over two shards; blocks of which the target keeps a part are written, the others are the source's.
        let copied = written(vec![clone_range(&head(), 100_000, 100_000, &snap(1), 100_000)]).await;
        assert_eq!(copied, 2 * 4096, "one at each end");
        assert_eq!(store.stats().allocated, 2 * BYTES - 100_000 / 4096 * 4096 + 4096);
        two[100_000..200_000].copy_from_slice(&one[100_000..200_000]);
        assert!(read(&store, &snap(1)).await == two);
        // The same again changes nothing but those.
        let copied = written(vec![clone_range(&head(), 100_000, 100_000, &snap(1), 100_000)]).await;
        assert_eq!(copied, 2 * 4096);
        assert!(read(&store, &snap(1)).await == two);
        // It moves, so all of it is copied; within an object as well.
        assert_eq!(written(vec![clone_range(&head(), 0, 8192, &snap(1), 4096)]).await, 8192);
        assert_eq!(written(vec![clone_range(&head(), 0, 8192, &head(), 0)]).await, 8192);
        two[4096..12_288].copy_from_slice(&one[..8192]);
        assert!(read(&store, &head()).await == one && read(&store, &snap(1)).await == two);
        // To the end of the source, beyond which the target has nothing.
        let ops = vec![
            Op::Truncate { collection: collection(), object: head(), size: BYTES - 100 },
            Op::Truncate { collection: collection(), object: snap(1), size: 300_000 },
            clone_range(&head(), 303_104, BYTES - 100 - 303_104, &snap(1), 303_104),
        ];
        assert_eq!(written(ops).await, 0, "nothing is left of the last block");
        one.truncate(BYTES as usize - 100);
        two.truncate(300_000);
        two.resize(303_104, 0);
        two.extend_from_slice(&one[303_104..]);
        assert!(read(&store, &snap(1)).await == two);

        // A block that had bytes of its own until then, and of which a part changes.
        let ops = vec![
            Op::Zero { collection: collection(), object: snap(1), offset: 204_800, len: 4096 },
            clone_range(&head(), 205_000, 3896, &snap(1), 205_000),
            write(&snap(1), 206_000, pattern(4, 7)),
        ];
        assert_eq!(written(ops).await, 4096);
        two[204_800..205_000].fill(0);
        two[205_000..208_896].copy_from_slice(&one[205_000..208_896]);
        two[206_000..206_007].copy_from_slice(&pattern(4, 7));
        assert!(read(&store, &snap(1)).await == two);

        // What is shared is not written where it is, by neither of them.
        for (name, data) in [(head(), &mut one), (snap(1), &mut two)] {
            commit(&store, vec![write(&name, 150_000, pattern(3, 7))]).await.expect("overwrite");
            data[150_000..150_007].copy_from_slice(&pattern(3, 7));
        }
        assert!(read(&store, &head()).await == one && read(&store, &snap(1)).await == two);
        assert_eq!(counter(&store, "deferred_blocks"), 0);
        fsck(&store).await;
        commit(&store, vec![remove(&head())]).await.expect("remove");
        assert!(read(&store, &snap(1)).await == two);
        fsck(&store).await;
        commit(&store, vec![remove(&snap(1))]).await.expect("remove");
        assert_eq!((store.stats().allocated, store.pool_stats()), (0, vec![]));
        assert_eq!(counter(&store, "shares_begun"), counter(&store, "shares_ended"));
        fsck(&store).await;
    });
}

#[test]
fn a_deferred_payload_goes_where_a_range_was_cloned_from_and_to() {
    with_store(async |core, world, store| {
        commit(&store, vec![write(&head(), 0, pattern(1, 100_000))]).await.expect("write");
        commit(&store, vec![write(&head(), 20_000, pattern(2, 100))]).await.expect("overwrite");
        assert_eq!(counter(&store, "deferred_blocks"), 0, "it is still in the journal only");
        // The payload is not in its place yet; the object that it names is gone when the journal is replayed.
        let ops = vec![clone_range(&head(), 16_384, 8192, &snap(1), 16_384)];
        commit(&store, ops).await.expect("clone a range");
        commit(&store, vec![clone_range(&head(), 19_999, 102, &snap(2), 1)]).await.expect("copy a range");
        commit(&store, vec![remove(&head())]).await.expect("remove");
        let mut expect = pattern(1, 100_000).to_vec();
        expect[20_000..20_100].copy_from_slice(&pattern(2, 100));
        let check = async |store: &Engine| {
            let zeroes = vec![0; 16_384];
            assert!(read(store, &snap(1)).await == [&zeroes[..], &expect[16_384..24_576]].concat());
            assert!(read(store, &snap(2)).await == [&[0][..], &expect[19_999..20_101]].concat());
        };
        check(&store).await;
        drop(store);
        let store = world.mount(&core).await.expect("mount");
        assert_eq!(counter(&store, "replay_deferred_blocks"), 1);
        check(&store).await;
        fsck(&store).await;
        store.close().await.expect("close");
    });
}

#[test]
fn removing_a_clone_of_which_every_second_block_is_shared_fits_its_record() {
    const BLOCKS: u64 = 2048;
    let sim = Sim::new(1, Config::default());
    for block_size in [512, 4096] {
        let world = World::new(1, 64 << 20, block_size, 4 << 20);
        sim.run(0, |core| async move {
            world.format(&core).await;
            let store = world.mount(&core).await.expect("mount");
            store.submit(Generator::prologue()).durable.await.expect("create");
            let write_every = async |step: u64, salt: u64| {
                for number in (0..BLOCKS).step_by(usize::try_from(step).expect("small")) {
                    let op = write(&head(), number * 4096, pattern(salt + number, 4096));
                    store.submit(Transaction { ops: vec![op] }).readable.await.expect("write");
                }
            };
            let whole = pattern(9, usize::try_from(BLOCKS).expect("small") * 4096);
            commit(&store, vec![write(&head(), 0, whole)]).await.expect("write");
            commit(&store, vec![clone(&head(), &snap(1))]).await.expect("clone");
            write_every(2, 100).await;
            commit(&store, vec![remove(&snap(1))]).await.expect("remove");
            fsck(&store).await;
            // One that is gone when its clone is there: all its blobs begin to be shared.
            write_every(3, 200).await;
            commit(&store, vec![clone(&head(), &snap(2)), remove(&head())]).await.expect("rename");
            commit(&store, vec![clone(&snap(2), &head()), remove(&snap(2))]).await.expect("and back");
            fsck(&store).await;
            commit(&store, vec![remove(&head())]).await.expect("remove");
            assert_eq!(store.stats().allocated, 0);
            store.close().await.expect("close");
        });
    }
}

#[test]
fn what_no_record_takes_is_refused_or_goes_into_several() {
    const CLONES: u64 = 63;
    with_store(async |_, _, store| {
        let whole = pattern(9, usize::try_from(BYTES).expect("small"));
        commit(&store, vec![write(&head(), 0, whole)]).await.expect("write");
        let all = (1..=16_000).map(|number| clone(&head(), &snap(number))).collect();
        let refused = commit(&store, all).await;
        assert!(matches!(refused, Err(StoreError::TooLarge(_))), "{refused:?}");
        for number in 1..=CLONES {
            commit(&store, vec![clone(&head(), &snap(number))]).await.expect("clone");
        }
        let all = (1..=CLONES).map(|number| remove(&snap(number))).collect();
        let refused = commit(&store, all).await;
        assert!(matches!(refused, Err(StoreError::TooLarge(_))), "{refused:?}");
        let removed = crate::remove_objects(&store, collection(), || true).await;
        assert_eq!(removed, Ok(CLONES + 1));
        assert_eq!((store.stats().allocated, store.pool_stats()), (0, vec![]));
        fsck(&store).await;
    });
}

#[test]
fn a_blob_that_one_object_has_alone_again_is_written_in_place_after_a_checkpoint() {
    with_store(async |core, world, store| {
        commit(&store, vec![write(&head(), 0, pattern(1, 128 << 10))]).await.expect("write");
        commit(&store, vec![clone(&head(), &snap(1))]).await.expect("clone");
        commit(&store, vec![remove(&snap(1))]).await.expect("remove");
        commit(&store, vec![write(&head(), 5000, pattern(2, 7))]).await.expect("write a part");
        assert_eq!(counter(&store, "shares_ended"), 0, "payloads in the journal may need it");
        store.close().await.expect("close");

        let store = world.mount(&core).await.expect("mount");
        // The first change finds the blob shared, and, after a checkpoint of this mount, makes it the object's own.
        store.checkpoint().await.expect("checkpoint");
        commit(&store, vec![write(&head(), 9000, pattern(3, 7))]).await.expect("write a part");
        assert_eq!(counter(&store, "shares_ended"), 1);
        let written = counter(&store, "data_bytes_written");
        commit(&store, vec![write(&head(), 20_000, pattern(4, 7))]).await.expect("write a part");
        assert_eq!(counter(&store, "data_bytes_written"), written, "deferred");
        fsck(&store).await;
        store.close().await.expect("close");
    });
}

#[test]
fn a_deferred_payload_reaches_the_clone_of_an_object_that_is_gone() {
    let mistake = Fault::planted(Planted::DeferredOfSharedDropped);
    for (renamed, fault) in
        [(false, Fault::default()), (true, Fault::default()), (false, mistake), (true, mistake)]
    {
        with_fault(fault, async move |core, world, store| {
            commit(&store, vec![write(&head(), 0, pattern(1, 128 << 10))]).await.expect("write");
            store.checkpoint().await.expect("checkpoint");
            commit(&store, vec![write(&head(), 5000, pattern(2, 7))]).await.expect("write a part");
            if renamed {
                commit(&store, vec![clone(&head(), &snap(1)), remove(&head())]).await.expect("rename");
            } else {
                commit(&store, vec![clone(&head(), &snap(1))]).await.expect("clone");
                commit(&store, vec![remove(&head())]).await.expect("remove");
                commit(&store, vec![write(&snap(1), 70_000, pattern(3, 7))]).await.expect("write a part");
            }
            let expect = read(&store, &snap(1)).await;
            assert_eq!(counter(&store, "deferred_blocks"), 0, "it is still in the journal only");
            drop(store);

            let store = world.mount(&core).await.expect("mount");
            let found = store.read(collection(), &snap(1), 0, u64::MAX).await;
            if fault == mistake {
                assert!(matches!(found, Err(StoreError::Io(_))), "the mistake is noticed");
            } else {
                assert_eq!(counter(&store, "replay_deferred_blocks"), 1);
                assert!(found.is_ok_and(|found| join(found) == expect));
                fsck(&store).await;
            }
            store.close().await.expect("close");
        });
    }
}
