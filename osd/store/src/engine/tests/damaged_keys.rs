//! What the check says about keys that contradict each other.

use std::collections::BTreeMap;

use bluefs::kv::{KvBatch, KvOp};
use bytes::Bytes;
use rt::Core;
use rt::sim::{Config, Sim};

use super::world::{Below, World};
use crate::engine::checkpoint::CheckpointRecord;
use crate::object_store::{FsckLevel, ObjectStore};
use crate::suite::{Generator, collection, object};
use crate::{Op, Transaction, keys};

/// What the check finds in a store with one omap, of id 1, after `damage` was done to its keys.
fn findings(damage: impl FnOnce(BTreeMap<Bytes, Bytes>) -> KvOp + 'static) -> Vec<&'static str> {
    Sim::new(1, Config::default()).run(0, |core: Core| async move {
        let world = World::new(1, 2 << 20, 4096, 64 << 10);
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        let entries = BTreeMap::from([(Bytes::from_static(b"key"), Bytes::from_static(b"value"))]);
        let set = Op::OmapSet { collection: collection(), object: object("name", 1), entries };
        store.submit(Transaction { ops: vec![set] }).durable.await.expect("set");
        store.close().await.expect("close");

        let Below::Plain(kv) = &world.below else { panic!("a plain store") };
        let kv = kv.open(&core);
        let checkpoint = kv.get(&kv.view(), vec![keys::CHECKPOINT]).await.expect("get").remove(0);
        let known = BTreeMap::from([(keys::CHECKPOINT, checkpoint.expect("a checkpoint"))]);
        kv.apply(KvBatch { ops: vec![damage(known)] }).await.expect("apply");
        let store = world.mount_on(&core, world.device(&core), true).await.expect("mount");
        let report = store.fsck(FsckLevel::Deep, Box::new(|_, _| {})).await.expect("fsck");
        store.close().await.expect("close");
        report.findings.into_iter().map(|finding| finding.kind).collect()
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
