//! Windows that are mostly free become free altogether, beside clients and whatever power does meanwhile; what others share, what is
//! compressed and what cannot be read stays; and nobody lacks space because of it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use allocator::{Class, Extent};
use bytes::Bytes;
use rt::LocalBoxFuture;

use super::defragment::{content, counter, cut, is_clean, open, run, submit, write};
use crate::engine::{Engine, FreeList};
use crate::object_store::{ClearReport, ObjectStore, Unwatched, Watch};
use crate::suite::{collection, half_noise, object, pattern};
use crate::{Compression, CompressionMode, ObjectId, Op, PoolOptions, StoreError, StoreResult, Transaction};

/// What the file system of the key-value store wants in one piece.
const LOAN: u64 = 64 << 10;

fn name(number: u32) -> ObjectId {
    object(&format!("small-{number}"), number)
}

async fn try_submit(store: &Engine, op: Op) -> StoreResult<()> {
    store.submit(Transaction { ops: vec![op] }).durable.await
}

/// Objects of a block each until there is no space, without those that `goes` names; how many there were.
async fn scatter(store: &Engine, goes: impl Fn(u32) -> bool) -> u32 {
    scatter_of(store, |number| pattern(number, 4096), goes).await
}

/// As [`scatter`], with data of any length.
async fn scatter_of(store: &Engine, data: impl Fn(u64) -> Bytes, goes: impl Fn(u32) -> bool) -> u32 {
    let mut count = 0;
    loop {
        match try_submit(store, write(name(count), 0, data(count.into()))).await {
            Ok(()) => count += 1,
            Err(StoreError::NoSpace(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    for number in (0..count).filter(|number| goes(*number)) {
        submit(store, Op::Remove { collection: collection(), object: name(number) }).await;
    }
    store.checkpoint().await.expect("checkpoint");
    count
}

/// Free windows of 64 KiB.
fn loans(store: &Engine) -> u64 {
    let aligned =
        |extent: &Extent| (extent.end() / LOAN).saturating_sub(extent.start.next_multiple_of(LOAN) / LOAN);
    store.free_space().extents.iter().map(aligned).sum()
}

async fn clear(store: &Engine) -> ClearReport {
    store.clear_space(Rc::new(Unwatched)).await.expect("clear")
}

#[test]
fn where_no_loan_fits_there_is_room_for_many_afterwards() {
    run(async |core, world| {
        let store = open(&core, &world).await;
        scatter(&store, |number| number % 2 == 0).await;
        assert_eq!(loans(&store), 0, "every other block is in use");
        let (before, score) = (content(&store).await, store.stats().fragmentation_permille);
        let (free, available) = (store.stats().free_pieces, store.stats().available);
        let report = clear(&store).await;
        assert!(report.is_whole && report.bytes > 1 << 20, "{report:?}");
        assert!(report.moved_bytes <= report.bytes, "{report:?}");
        assert!(loans(&store) >= report.bytes / LOAN, "{} {report:?}", loans(&store));
        let after = store.stats();
        assert!(after.fragmentation_permille * 2 < score, "{} of {score}", after.fragmentation_permille);
        assert!(after.free_pieces * 2 < free, "{} of {free}", after.free_pieces);
        assert_eq!(after.available, available);
        let counted = ["cleared_bytes", "cleared_moved_bytes", "defragmented_bytes"];
        assert_eq!(counted.map(|name| counter(&store, name)), [report.bytes, report.moved_bytes, 0]);
        assert_eq!(content(&store).await, before);
        is_clean(&store).await;
        // There is nothing left to do.
        let again = clear(&store).await;
        assert!(again.is_whole && again.moved_bytes * 20 < report.moved_bytes, "{again:?}");
        store.close().await.expect("close");
        let store = world.mount(&core).await.expect("mount");
        assert_eq!(content(&store).await, before);
        assert!(loans(&store) >= report.bytes / LOAN);
    });
}

#[test]
fn where_data_is_compressed_what_moves_is_not() {
    run(async |core, world| {
        let store = open(&core, &world).await;
        scatter_of(&store, |number| half_noise(number, 16 << 10), |number| number % 2 == 0).await;
        let before = content(&store).await;
        let compression = Compression { mode: CompressionMode::Force, ..Compression::default() };
        store.set_pool_options(7, PoolOptions { compression: Some(compression), ..PoolOptions::default() });
        let report = clear(&store).await;
        assert!(report.is_whole && report.bytes > 1 << 20 && report.moved_bytes > 0, "{report:?}");
        assert!(report.moved_bytes <= report.bytes, "{report:?}");
        let counted = ["cleared_moved_bytes", "compress_accepted", "compress_rejected"];
        assert_eq!(counted.map(|name| counter(&store, name)), [report.moved_bytes, 0, 0]);
        assert_eq!(content(&store).await, before);
        is_clean(&store).await;
        store.close().await.expect("close");
    });
}

#[test]
fn what_cannot_move_keeps_its_window() {
    run(async |core, world| {
        let store = open(&core, &world).await;
        let [shared, packed] = [object("shared", 1), object("packed", 2)];
        submit(&store, write(shared.clone(), 0, pattern(1, 8192))).await;
        let target = ObjectId { snap: 3, ..shared.clone() };
        submit(&store, Op::Clone { collection: collection(), object: shared.clone(), target }).await;
        let compression = Compression { mode: CompressionMode::Force, ..Compression::default() };
        store.set_pool_options(7, PoolOptions { compression: Some(compression), ..PoolOptions::default() });
        submit(&store, write(packed.clone(), 0, half_noise(5, 16 << 10))).await;
        store.set_pool_options(7, PoolOptions::default());
        let count = scatter(&store, |number| number % 3 != 0).await;
        let places = async |name: &ObjectId| store.block_places(collection(), name).await.expect("places");
        let before = (places(&shared).await, places(&packed).await);
        // One that cannot be read, in a window that would be cleared otherwise.
        let damaged = name(count / 3 * 3 / 2 / 3 * 3);
        let [place] = &places(&damaged).await[..] else { panic!("one block") };
        world.disk.corrupt(place.address + 9, 1);
        let report = clear(&store).await;
        assert!(report.is_whole && report.windows > 10, "{report:?}");
        assert_eq!((places(&shared).await, places(&packed).await), before);
        assert_eq!(places(&damaged).await, [place.clone()]);
        let read = store.read(collection(), &damaged, 0, 10).await;
        assert!(matches!(read, Err(StoreError::Io(_))), "{read:?}");
        store.close().await.expect("close");
    });
}

#[test]
fn the_fence_falls_where_a_write_finds_no_space() {
    run(async |core, world| {
        let store = open(&core, &world).await;
        scatter(&store, |number| number % 2 == 0).await;
        let space = &store.inner.space;
        let (available, told) = (space.space.available(Class::Ordinary), store.stats().available);
        let windows = store.inner.window() / LOAN;
        space.raise_fence(LOAN, (windows / 4..windows / 2).collect::<BTreeSet<_>>());
        let fenced = space.fenced_bytes();
        assert!(fenced > available / 8, "{fenced} of {available}");
        assert_eq!(space.space.available(Class::Ordinary), available - fenced);
        assert_eq!(store.stats().available, told, "it is nobody's for long");
        for number in 0..=(available - fenced) / LOAN {
            submit(&store, write(object("large", 1), number * LOAN, pattern(number, LOAN as usize))).await;
        }
        assert_eq!(space.fenced_bytes(), 0);
        is_clean(&store).await;
        store.close().await.expect("close");
    });
}

/// Ends what it watches after so many pauses.
struct Impatient(Cell<u64>);

impl Watch for Impatient {
    fn pause(&self, _bytes: u64) -> LocalBoxFuture<'static, bool> {
        self.0.set(self.0.get().saturating_sub(1));
        Box::pin(std::future::ready(self.0.get() > 0))
    }
}

#[test]
fn it_can_be_ended_at_any_step_and_holds_nothing_then() {
    run(async |core, world| {
        let store = open(&core, &world).await;
        scatter(&store, |number| number % 2 == 0).await;
        let before = content(&store).await;
        let mut pauses = 1;
        while !store.clear_space(Rc::new(Impatient(Cell::new(pauses)))).await.expect("clear").is_whole {
            assert_eq!(store.inner.space.fenced_bytes(), 0);
            pauses += 3;
        }
        assert!(pauses > 10, "{pauses}");
        // One that is dropped, too.
        drop(store.clear_space(Rc::new(Unwatched)));
        assert_eq!(content(&store).await, before);
        is_clean(&store).await;
        store.close().await.expect("close");
    });
}

#[test]
fn power_may_be_cut_at_any_write() {
    let mut cuts = 0;
    for free_list in FreeList::ALL {
        for crash in 0..4 {
            let prepare = async |store: &Engine| {
                for number in 0..64 {
                    submit(store, write(name(number), 0, pattern(number.into(), 4096))).await;
                }
                for number in (0..64).filter(|number| number % 3 != 0) {
                    submit(store, Op::Remove { collection: collection(), object: name(number) }).await;
                }
            };
            let act = async |store: &Engine| {
                let report = clear(store).await;
                assert!(report.windows > 0, "{report:?}");
                store.checkpoint().await.expect("checkpoint");
            };
            cuts += (1..).take_while(|at| cut((free_list, *at, crash), prepare, act)).count();
        }
    }
    println!("{cuts} cuts");
    assert!(cuts >= 100, "{cuts}");
}
