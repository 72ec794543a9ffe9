//! What the check says about keys that contradict each other.

use std::collections::BTreeMap;

use bluefs::kv::{KvBatch, KvOp};
use bytes::Bytes;
use rt::Core;
use rt::sim::{Config, Sim};

use super::world::{Below, World};
use crate::engine::Engine;
use crate::engine::checkpoint::CheckpointRecord;
use crate::object_store::{FsckLevel, ObjectStore, StoreError};
use crate::onode::Onode;
use crate::suite::{Generator, collection, object};
use crate::{Op, Transaction, keys};

/// What the check finds in a store with one omap, of id 1, after `damage` was done to its keys.
fn findings(damage: impl FnOnce(BTreeMap<Bytes, Bytes>) -> KvOp + 'static) -> Vec<&'static str> {
    let check = async |store: &Engine| store.fsck(FsckLevel::Deep, Box::new(|_, _| {})).await.expect("fsck");
    let report = after(damage, true, async move |store| check(store).await);
    report.findings.into_iter().map(|finding| finding.kind).collect()
}

/// Does something with a store of one object of 8192 bytes and one omap after `damage` was done to its keys.
fn after<T: 'static>(
    damage: impl FnOnce(BTreeMap<Bytes, Bytes>) -> KvOp + 'static,
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
        store.close().await.expect("close");

        let Below::Plain(kv) = &world.below else { panic!("a plain store") };
        let kv = kv.open(&core);
        let wanted = vec![keys::CHECKPOINT, keys::onode(&object("name", 1))];
        let values = kv.get(&kv.view(), wanted.clone()).await.expect("get");
        let known = wanted.into_iter().zip(values.into_iter().map(|value| value.expect("a value"))).collect();
        kv.apply(KvBatch { ops: vec![damage(known)] }).await.expect("apply");
        let store = world.mount_on(&core, world.device(&core), read_only).await.expect("mount");
        let result = then(&store).await;
        store.close().await.expect("close");
        result
    })
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
fn an_onode_that_counts_too_little_is_found_and_its_object_not_written() {
    let damage = |known: BTreeMap<Bytes, Bytes>| {
        let key = keys::onode(&object("name", 1));
        let onode = Onode::decode(known[&key].clone()).expect("an onode");
        assert_eq!(onode.counts(), [8192, 8192, 0, 0, 0]);
        KvOp::Put(key, Onode { stored: 4096, ..onode }.encode())
    };
    assert_eq!(findings(damage), ["object-statistics", "pool-statistics"]);
    let refused = after(damage, false, async |store| {
        let data = vec![Bytes::from_static(b"new")];
        let write = Op::Write { collection: collection(), object: object("name", 1), offset: 0, data };
        store.submit(Transaction { ops: vec![write] }).readable.await
    });
    assert!(matches!(refused, Err(StoreError::Io(_))), "{refused:?}");
}
