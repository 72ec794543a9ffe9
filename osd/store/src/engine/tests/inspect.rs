//! What is told of objects' metadata is what they are.

use bytes::Bytes;
use rt::sim::{Config, Sim};

use super::world::World;
use crate::engine::Engine;
use crate::object_store::{ObjectStore, StoreError};
use crate::suite::{Generator, collection, object, pattern};
use crate::{Op, Transaction};

async fn commit(store: &Engine, ops: Vec<Op>) {
    store.submit(Transaction { ops }).durable.await.expect("commits");
}

fn write(name: &str, offset: u64, len: usize) -> Op {
    let data = vec![pattern(offset, len)];
    Op::Write { collection: collection(), object: object(name, 1), offset, data }
}

#[test]
fn an_object_is_told_whole_and_all_of_them_are_counted() {
    Sim::new(1, Config::default()).run(0, |core| async move {
        let mut world = World::new(1, 16 << 20, 4096, 64 << 10);
        world.options.inline_bytes_max = 512;
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mounts");
        commit(&store, Generator::prologue().ops).await;
        commit(&store, vec![write("small", 10, 100)]).await;
        commit(&store, vec![write("large", 0, 20_000)]).await;
        commit(&store, vec![write("large", 1 << 20, 5000)]).await;
        let entries = (0..10u8).map(|key| (Bytes::from(vec![key; 10]), Bytes::from(vec![0; 90]))).collect();
        commit(&store, vec![Op::OmapSet { collection: collection(), object: object("small", 1), entries }])
            .await;

        let small = store.dump(collection(), &object("small", 1)).await.expect("is there");
        assert_eq!((small.onode.size, small.onode.allocated, small.onode.omap_keys), (110, 0, 10));
        let inline: Vec<_> = small.shards[&0].inline.iter().map(|(at, bytes)| (*at, bytes.len())).collect();
        assert_eq!((inline, small.shards.len()), (vec![(10, 100)], 1));

        let large = store.dump(collection(), &object("large", 1)).await.expect("is there");
        assert_eq!(large.onode.shards, large.shards.keys().copied().collect());
        assert_eq!(large.shards.values().map(|shard| shard.allocated(4096)).sum::<u64>(), 7 * 4096);
        assert!(large.shares.is_empty());
        let (before, _) = (store.histogram(|_| true).await.expect("counts"), ());
        assert_eq!((before.objects.count(), before.objects.sum()), (2, 110 + (1 << 20) + 5000));
        assert_eq!((before.extents.count(), before.extents.sum()), (2, 25_000));
        assert_eq!((before.blobs.sum(), before.inline.sum()), (7 * 4096, 100));
        assert_eq!((before.omap_keys.sum(), before.omap_bytes.sum()), (10, 1000));

        // A block in the middle moves: the run is in three pieces, and the clone keeps the old one.
        let clone = object("clone", 1);
        commit(
            &store,
            vec![Op::Clone { collection: collection(), object: object("large", 1), target: clone.clone() }],
        )
        .await;
        commit(&store, vec![write("large", 8192, 4096)]).await;
        let large = store.dump(collection(), &object("large", 1)).await.expect("is there");
        let shared: Vec<_> = large.shares.values().flat_map(|share| share.uses.iter().copied()).collect();
        assert_eq!(shared, [2, 2, 1, 2, 2, 2, 2], "one block is only the clone's");
        let after = store.histogram(|pool| pool == collection().pool).await.expect("counts");
        assert_eq!((after.extents.count(), after.extents.sum()), (4 + 2, 2 * 25_000));
        assert_eq!(
            store.histogram(|pool| pool != collection().pool).await.expect("counts"),
            Default::default()
        );

        let missing = store.dump(collection(), &object("none", 1)).await;
        assert!(matches!(missing, Err(StoreError::NotFound(_))), "{missing:?}");
        store.close().await.expect("closes");
    });
}
