//! The free list in both forms: what is stored says what is free, and what is wrong with it is noticed.

use std::cell::Cell;
use std::rc::Rc;

use bluefs::kv::{KvBatch, KvOp, KvResult, KvStats, KvStore, KvView, ScanLimit, ScanPage};
use bytes::Bytes;
use rt::sim::{Config, Sim};
use rt::{Core, LocalBoxFuture};

use super::world::{Below, World};
use crate::engine::free_list::{decode_chunk, encode_chunk};
use crate::engine::{Engine, FreeList};
use crate::keys;
use crate::object_store::{FsckLevel, ObjectStore, Unwatched};
use crate::suite::{Generator, collection, object};
use crate::superblock::INCOMPAT_MERGED_FREE_LIST;
use crate::{Op, Transaction};

fn world(free_list: FreeList) -> World {
    let mut world = World::new(1, 8 << 20, 4096, 64 << 10);
    world.format.free_list = free_list;
    world
}

async fn write(store: &Engine, number: u32, blocks: usize) {
    let data = vec![Bytes::from(vec![number.to_le_bytes()[0]; blocks * 4096])];
    let name = object(&number.to_string(), number);
    let op = Op::Write { collection: collection(), object: name, offset: 0, data };
    store.submit(Transaction { ops: vec![op] }).durable.await.expect("write");
}

async fn remove(store: &Engine, number: u32) {
    let op = Op::Remove { collection: collection(), object: object(&number.to_string(), number) };
    store.submit(Transaction { ops: vec![op] }).durable.await.expect("remove");
}

async fn findings(store: &Engine) -> Vec<&'static str> {
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    report.findings.into_iter().map(|finding| finding.kind).collect()
}

/// Objects come and go over several checkpoints.
async fn use_space(store: &Engine) {
    store.submit(Generator::prologue()).durable.await.expect("create");
    for round in 0..4_u32 {
        for number in 0..6 {
            write(store, number + round, 1 + usize::try_from(number * 3 + round).expect("small")).await;
        }
        assert_eq!(findings(store).await, [""; 0], "with changes of round {round} since the last checkpoint");
        store.checkpoint().await.expect("checkpoint");
        remove(store, round).await;
        assert_eq!(findings(store).await, [""; 0], "after the checkpoint of round {round}");
    }
}

#[test]
fn both_forms_say_the_same_over_checkpoints_and_mounts() {
    let free = FreeList::ALL.map(|free_list| {
        Sim::new(1, Config::default()).run(0, |core: Core| async move {
            let world = world(free_list);
            world.format(&core).await;
            let store = world.mount(&core).await.expect("mount");
            use_space(&store).await;
            store.close().await.expect("close");
            let superblock = Engine::superblock(&*world.device(&core)).await.expect("a superblock");
            let bit = superblock.features.incompat & INCOMPAT_MERGED_FREE_LIST;
            assert_eq!((superblock.free_list(), bit != 0), (free_list, free_list == FreeList::Merge));
            let store = world.mount(&core).await.expect("mount");
            assert_eq!(findings(&store).await, [""; 0]);
            let free = store.free_space().extents;
            store.close().await.expect("close");
            free
        })
    });
    assert!(free[0].len() > 3, "it is in pieces: {:?}", free[0]);
    assert_eq!(free[0], free[1]);
}

/// What a mount says after the chunks were changed.
fn after_damage(
    damage: impl Fn(Vec<(Bytes, Bytes)>) -> Vec<KvOp> + 'static,
) -> Result<Vec<&'static str>, String> {
    Sim::new(1, Config::default()).run(0, |core: Core| async move {
        let world = world(FreeList::Merge);
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        use_space(&store).await;
        store.close().await.expect("close");
        let Below::Plain(kv) = &world.below else { panic!("a plain store") };
        let kv = kv.open(&core);
        let (mut start, end) = keys::all_bitmap_chunks();
        let mut chunks = Vec::new();
        loop {
            let limit = ScanLimit { keys: 1000, bytes: 1 << 20 };
            let page = kv.scan(&kv.view(), start, end.clone(), limit).await.expect("scan");
            chunks.extend(page.entries);
            let Some((last, _)) = chunks.last().filter(|_| page.more) else { break };
            start = keys::after(last);
        }
        kv.apply(KvBatch { ops: damage(chunks) }).await.expect("apply");
        let store =
            world.mount_on(&core, world.device(&core), true).await.map_err(|error| error.to_string())?;
        let found = findings(&store).await;
        store.close().await.expect("close");
        Ok(found)
    })
}

#[test]
fn a_chunk_that_is_damaged_or_gone_is_noticed_by_the_mount() {
    let refused = after_damage(|chunks| {
        let (key, value) = chunks[0].clone();
        let mut damaged = value.to_vec();
        damaged[20] ^= 4;
        vec![KvOp::Put(key, Bytes::from(damaged))]
    });
    assert!(refused.as_ref().is_err_and(|error| error.contains("checksum of a bitmap chunk")), "{refused:?}");
    let refused = after_damage(|chunks| vec![KvOp::Delete(chunks[0].0.clone())]);
    assert!(refused.as_ref().is_err_and(|error| error.contains("the checkpoint says")), "{refused:?}");
    let refused = after_damage(|_| vec![KvOp::Put(keys::bitmap_chunk(1 << 40), encode_chunk(&[0; 64]))]);
    assert!(refused.as_ref().is_err_and(|error| error.contains("no such page")), "{refused:?}");
}

#[test]
fn a_chunk_that_names_other_blocks_is_found_by_the_check() {
    let found = after_damage(|chunks| {
        let (key, value) = chunks.last().expect("a chunk").clone();
        let mut bits = decode_chunk(value).expect("a chunk");
        // As many are used as before, but one of them is another.
        let used = bits.iter().position(|byte| *byte != 0).expect("something is used");
        bits[used] &= bits[used] - 1;
        bits[63] ^= 0x80;
        vec![KvOp::Put(key, encode_chunk(&bits))]
    });
    assert_eq!(found, Ok(vec!["extent-not-allocated", "extent-leak"]));
}

/// A key-value store that loses one batch's changes of the free list.
struct Forgetful {
    below: Rc<dyn KvStore>,
    forgets: Rc<Cell<bool>>,
}

impl KvStore for Forgetful {
    fn view(&self) -> KvView {
        self.below.view()
    }

    fn apply(&self, mut batch: KvBatch) -> LocalBoxFuture<'static, KvResult<KvView>> {
        let is_free_list =
            |op: &KvOp| matches!(op, KvOp::Put(key, _) | KvOp::Merge(key, _) if key[0] == b'B');
        if batch.ops.iter().any(is_free_list) && self.forgets.replace(false) {
            batch.ops.retain(|op| !is_free_list(op));
        }
        self.below.apply(batch)
    }

    fn flush(&self) -> LocalBoxFuture<'static, KvResult<()>> {
        self.below.flush()
    }

    fn get(&self, view: &KvView, keys: Vec<Bytes>) -> LocalBoxFuture<'static, KvResult<Vec<Option<Bytes>>>> {
        self.below.get(view, keys)
    }

    fn scan(
        &self,
        view: &KvView,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> LocalBoxFuture<'static, KvResult<ScanPage>> {
        self.below.scan(view, start, end, limit)
    }

    fn stats(&self) -> KvStats {
        self.below.stats()
    }

    fn close(&self) -> LocalBoxFuture<'static, KvResult<()>> {
        self.below.close()
    }
}

#[test]
fn what_is_stored_and_not_what_the_allocator_has_is_found_while_the_store_is_open() {
    for free_list in FreeList::ALL {
        let found = Sim::new(1, Config::default()).run(0, |core: Core| async move {
            let world = world(free_list);
            world.format(&core).await;
            let Below::Plain(kv) = &world.below else { panic!("a plain store") };
            let forgets = Rc::new(Cell::new(false));
            let kv = Rc::new(Forgetful { below: kv.open(&core), forgets: Rc::clone(&forgets) });
            let options = world.options.clone();
            let store = Engine::mount(core.clone(), world.device(&core), kv, options).await.expect("mount");
            use_space(&store).await;
            store.checkpoint().await.expect("checkpoint");
            forgets.set(true);
            write(&store, 100, 3).await;
            store.checkpoint().await.expect("checkpoint");
            assert!(!forgets.get(), "a checkpoint was made without it");
            let found = findings(&store).await;
            store.close().await.expect("close");
            found
        });
        assert_eq!(found, ["allocator"], "{free_list:?}");
    }
}
