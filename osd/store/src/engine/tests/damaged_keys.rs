//! What the check says about keys that contradict each other.

use std::rc::Rc;

use std::collections::BTreeMap;

use bluefs::kv::{KvBatch, KvOp};
use bytes::Bytes;
use rt::Core;
use rt::sim::{Config, Sim};
use smallvec::SmallVec;

use super::world::{Below, World};
use crate::engine::Engine;
use crate::engine::checkpoint::CheckpointRecord;
use crate::object_store::{FsckLevel, ObjectStore, StoreError, Unwatched};
use crate::onode::Onode;
use crate::shard::{Piece, Shard};
use crate::share::Share;
use crate::suite::{Generator, collection, object};
use crate::{ObjectId, Op, Transaction, keys};

const BLOCK: u64 = 4096;

/// What the check finds in a store with one omap, of id 1, after `damage` was done to its keys.
fn findings(damage: impl FnOnce(BTreeMap<Bytes, Bytes>) -> KvOp + 'static) -> Vec<&'static str> {
    all_findings(vec![], move |known| vec![damage(known)])
}

/// The same for one with which more was done before, and several keys.
fn all_findings(
    more: Vec<Op>,
    damage: impl FnOnce(BTreeMap<Bytes, Bytes>) -> Vec<KvOp> + 'static,
) -> Vec<&'static str> {
    let check = async |store: &Engine| store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    let report = after(more, damage, true, async move |store| check(store).await);
    report.findings.into_iter().map(|finding| finding.kind).collect()
}

/// Does something with a store of one object of 8192 bytes and one omap after `damage` was done to its keys, of which it is
/// told the checkpoint, the object's onode and its shard.
fn after<T: 'static>(
    more: Vec<Op>,
    damage: impl FnOnce(BTreeMap<Bytes, Bytes>) -> Vec<KvOp> + 'static,
    read_only: bool,
    then: impl AsyncFnOnce(&Engine) -> T + 'static,
) -> T {
    Sim::new(1, Config::default()).run(0, |core: Core| async move {
        let world = World::new(1, 2 << 20, 4096, 64 << 10);
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        let entries = BTreeMap::from([(Bytes::from_static(b"key"), Bytes::from_static(b"value"))]);
        let set = Op::OmapSet { collection: collection(), object: object("name", 1), entries };
        let data = vec![Bytes::from(vec![7; 8192])];
        let write = Op::Write { collection: collection(), object: object("name", 1), offset: 0, data };
        store.submit(Transaction { ops: vec![set, write] }).durable.await.expect("set");
        store.submit(Transaction { ops: more }).durable.await.expect("more");
        store.close().await.expect("close");

        let Below::Plain(kv) = &world.below else { panic!("a plain store") };
        let kv = kv.open(&core);
        let wanted = vec![keys::CHECKPOINT, onode_key(), shard_key()];
        let values = kv.get(&kv.view(), wanted.clone()).await.expect("get");
        let known = wanted.into_iter().zip(values.into_iter().map(|value| value.expect("a value"))).collect();
        kv.apply(KvBatch { ops: damage(known) }).await.expect("apply");
        let store = world.mount_on(&core, world.device(&core), read_only).await.expect("mount");
        let result = then(&store).await;
        store.close().await.expect("close");
        result
    })
}

fn onode_key() -> Bytes {
    keys::onode(&object("name", 1))
}

fn shard_key() -> Bytes {
    keys::shard(&onode_key(), 0)
}

fn shard(known: &BTreeMap<Bytes, Bytes>) -> Shard {
    Shard::decode(known[&shard_key()].clone(), 0, 128 << 10, BLOCK).expect("a shard")
}

/// The shard with its blob somewhere else.
fn moved(shard: &Shard, to: u64) -> Shard {
    let blob = shard.blobs.values().next().expect("a blob").clone();
    let piece = *shard.pieces.values().next().expect("a piece");
    Shard {
        blobs: [(to, blob)].into(),
        pieces: [(0, Piece { blob: to, ..piece })].into(),
        ..Shard::default()
    }
}

#[test]
fn space_that_is_used_and_free_or_used_by_nobody_is_found() {
    let found = all_findings(vec![], |known| {
        let shard = shard(&known);
        let (address, _) = shard.blobs.iter().next().expect("a blob");
        vec![KvOp::Put(shard_key(), moved(&shard, address + 64 * BLOCK).encode(BLOCK))]
    });
    // Each block of the two, of which nothing was ever written where it is now said to be.
    assert_eq!(found, ["extent-not-allocated", "extent-leak", "checksum", "checksum"]);
}

#[test]
fn space_of_two_objects_is_found() {
    let other = object("other", 2);
    let data = vec![Bytes::from(vec![7; 8192])];
    let write = Op::Write { collection: collection(), object: other.clone(), offset: 0, data };
    let found = all_findings(vec![write], move |known| {
        let key = keys::shard(&keys::onode(&other), 0);
        vec![KvOp::Put(key, known[&shard_key()].clone())]
    });
    assert_eq!(found, ["extent-overlap", "extent-leak"]);
}

#[test]
fn an_omap_of_nobody_is_found() {
    assert_eq!(
        findings(|_| KvOp::Put(keys::omap_entry(1 << 40, b"key"), Bytes::new())),
        ["omap-without-owner"]
    );
}

#[test]
fn wrong_counts_of_sharing_are_found() {
    let clone = || {
        let target = ObjectId { snap: 1, ..object("name", 1) };
        vec![Op::Clone { collection: collection(), object: object("name", 1), target }]
    };
    let share_key = |known: &BTreeMap<Bytes, Bytes>| {
        let shard = shard(known);
        let blob = shard.blobs.values().next().expect("a blob");
        keys::share(blob.birth, blob.share.expect("a shared one"))
    };
    assert_eq!(all_findings(clone(), |_| vec![]), [""; 0]);
    let counted = |pool: i64, uses: [u32; 2]| {
        move |known: BTreeMap<Bytes, Bytes>| {
            let share = Share { pool, since: 1, uses: SmallVec::from_slice(&uses) };
            vec![KvOp::Put(share_key(&known), share.encode())]
        }
    };
    assert_eq!(all_findings(clone(), counted(7, [2, 2])), [""; 0], "as it is");
    assert_eq!(all_findings(clone(), counted(7, [2, 3])), ["share-uses"]);
    assert_eq!(all_findings(clone(), counted(7, [1, 2])), ["share-uses"]);
    assert_eq!(
        all_findings(clone(), counted(8, [2, 2])),
        ["share-pool", "share-pool", "pool-statistics", "pool-statistics"]
    );
    let gone = all_findings(clone(), move |known| vec![KvOp::Delete(share_key(&known))]);
    assert_eq!(gone, ["share-missing", "share-missing", "extent-leak", "pool-statistics"]);
    let unreadable =
        move |known: BTreeMap<Bytes, Bytes>| vec![KvOp::Put(share_key(&known), Bytes::from_static(b"?"))];
    assert_eq!(
        all_findings(clone(), unreadable),
        ["share", "share-missing", "share-missing", "extent-leak", "pool-statistics"]
    );
}

#[test]
fn an_omap_in_use_that_is_to_be_removed_is_found() {
    assert_eq!(findings(|_| KvOp::Put(keys::reap(1), Bytes::new())), ["omap-removed"]);
    assert_eq!(findings(|_| KvOp::Put(keys::reap(77), Bytes::new())), [""; 0], "nobody uses that one");
}

#[test]
fn an_omap_id_that_will_be_given_out_again_is_found() {
    let damage = |known: BTreeMap<Bytes, Bytes>| {
        let mut record = CheckpointRecord::decode(known[&keys::CHECKPOINT].clone()).expect("a checkpoint");
        assert!(record.next_omap_id > 1);
        record.next_omap_id = 1;
        KvOp::Put(keys::CHECKPOINT, record.encode())
    };
    assert_eq!(findings(damage), ["omap-id"]);
}

#[test]
fn an_omap_key_that_cannot_be_read_is_found() {
    assert_eq!(findings(|_| KvOp::Put(Bytes::from_static(b"Mxy"), Bytes::new())), ["key"]);
}

#[test]
fn an_omap_that_its_onode_counts_too_little_of_is_not_changed() {
    let damage = |known: BTreeMap<Bytes, Bytes>| {
        let name = object("name", 1);
        let key = keys::onode(&name);
        let onode = Onode::decode(known[&key].clone(), &key, &name).expect("an onode");
        assert!(onode.omap_keys > 0, "it has an omap: {onode:?}");
        KvOp::Put(key.clone(), Onode { omap_keys: 0, omap_bytes: 0, ..onode }.encode(&key))
    };
    let refused = after(
        vec![],
        move |known| vec![damage(known)],
        false,
        async |store| {
            let (first, end) = (Bytes::new(), Bytes::from_static(&[0xff]));
            let range =
                Op::OmapRemoveRange { collection: collection(), object: object("name", 1), first, end };
            store.submit(Transaction { ops: vec![range] }).readable.await
        },
    );
    assert!(matches!(&refused, Err(StoreError::Io(reason)) if reason.contains("fsck")), "{refused:?}");
}

#[test]
fn an_onode_that_counts_too_little_is_found_and_its_object_not_written() {
    let damage = |known: BTreeMap<Bytes, Bytes>| {
        let key = keys::onode(&object("name", 1));
        let onode = Onode::decode(known[&key].clone(), &key, &object("name", 1)).expect("an onode");
        assert_eq!(onode.counts(), [8192, 8192, 0, 0, 0]);
        let value = Onode { stored: 4096, ..onode }.encode(&key);
        KvOp::Put(key, value)
    };
    assert_eq!(findings(damage), ["object-statistics", "pool-statistics"]);
    let refused = after(
        vec![],
        move |known| vec![damage(known)],
        false,
        async |store| {
            let data = vec![Bytes::from_static(b"new")];
            let write = Op::Write { collection: collection(), object: object("name", 1), offset: 0, data };
            store.submit(Transaction { ops: vec![write] }).readable.await
        },
    );
    assert!(matches!(refused, Err(StoreError::Io(_))), "{refused:?}");
}
