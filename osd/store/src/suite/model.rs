//! Comparing a store with the oracle: everything that can be read.

use std::rc::Rc;

use bytes::Bytes;

use super::join;
use crate::{CollectionId, MemStore, ObjectId, ObjectStat, ObjectStore, PoolStats, limits};

/// Panics unless `store` shows exactly what `oracle` holds.
pub async fn compare(store: &Rc<dyn ObjectStore>, oracle: &MemStore) {
    let collections = oracle.collections().await.expect("collections");
    assert_eq!(store.collections().await.as_ref(), Ok(&collections));
    for (id, _, _) in collections {
        let (names, _) = oracle.list(id, None, limits::LIST_MAX).await.expect("list");
        let (found, more) = store.list(id, None, limits::LIST_MAX).await.expect("list");
        assert_eq!((&found, more), (&names, None), "objects of {id:?}");
        for name in &names {
            compare_object(store, oracle, id, name).await;
        }
        let (log, expect) = (store.log(id).await.expect("log"), oracle.log(id).await.expect("log"));
        let common = log.len().min(expect.len());
        assert!(common >= limits::PG_LOG_ENTRIES_MIN.min(expect.len()), "log of {id:?} is too short");
        assert_eq!(log[log.len() - common..], expect[expect.len() - common..], "log of {id:?}");
    }
    compare_pools(&store.pool_stats(), &oracle.pool_stats());
}

/// Panics unless the statistics are the oracle's. A store may share the space of clones and compress, which the oracle does
/// not.
fn compare_pools(found: &[(i64, PoolStats)], expect: &[(i64, PoolStats)]) {
    for ((_, found), (pool, expect)) in found.iter().zip(expect) {
        // A compressed blob stays whole until nothing of it is used.
        let plain = found.allocated - found.compressed;
        assert!(plain <= expect.allocated, "pool {pool}: {found:?}, expected at most {expect:?}");
    }
    let others = |all: &[(i64, PoolStats)]| -> Vec<(i64, PoolStats)> {
        let data =
            |stats: &PoolStats| PoolStats { allocated: 0, compressed: 0, compressed_original: 0, ..*stats };
        all.iter().map(|(pool, stats)| (*pool, data(stats))).collect()
    };
    assert_eq!(others(found), others(expect), "statistics of the pools");
}

/// What the oracle expects, with the store's own word on space where only the store can know it: how much compressed data
/// takes, and whether the first block is kept among the keys. `extents` are the object's.
pub fn with_space_of(expect: ObjectStat, found: &ObjectStat, extents: &[(u64, u64)]) -> ObjectStat {
    let is_inline = may_be_inline(extents) && found.allocated + limits::BLOCK == expect.allocated;
    if found.compressed > 0 || is_inline {
        return ObjectStat { allocated: found.allocated, compressed: found.compressed, ..expect };
    }
    expect
}

/// Whether all that is in the first shard, however short shards are, is little enough to be kept among the keys.
pub fn may_be_inline(extents: &[(u64, u64)]) -> bool {
    let first = extents.iter().take_while(|(at, _)| *at < limits::SHARD_SPAN_MIN.into());
    first.last().is_some_and(|(at, len)| at + len <= limits::INLINE_BYTES_MAX)
}

/// Panics unless `store` shows this object as `oracle` does.
pub async fn compare_object(
    store: &Rc<dyn ObjectStore>,
    oracle: &MemStore,
    id: CollectionId,
    name: &ObjectId,
) {
    let expect = oracle.stat(id, name).await;
    assert_eq!(store.stat(id, name).await.is_ok(), expect.is_ok(), "existence of {name:?}");
    if expect.is_err() {
        return;
    }
    let found = store.stat(id, name).await.expect("stat");
    let extents = oracle.extents(id, name, 0, u64::MAX).await.expect("extents");
    let expect = expect.map(|stat| with_space_of(stat, &found, &extents));
    assert_eq!(Ok(found), expect, "stat of {name:?}");
    let expect = join(oracle.read(id, name, 0, u64::MAX).await.expect("read"));
    let found = join(store.read(id, name, 0, u64::MAX).await.expect("read"));
    if found != expect {
        let at = found.iter().zip(&expect).position(|(a, b)| a != b);
        panic!(
            "data of {name:?}: {} bytes, expected {}, first difference at {at:?}",
            found.len(),
            expect.len()
        );
    }
    let whole = (0, u64::MAX);
    let expect = oracle.extents(id, name, whole.0, whole.1).await;
    assert_eq!(store.extents(id, name, whole.0, whole.1).await, expect, "extents of {name:?}");
    assert_eq!(store.attrs(id, name).await, oracle.attrs(id, name).await, "attributes of {name:?}");
    assert_eq!(store.omap_header(id, name).await, oracle.omap_header(id, name).await, "header of {name:?}");
    let expect = oracle.omap_scan(id, name, None, Bytes::new(), limits::LIST_MAX, usize::MAX).await;
    let found = store.omap_scan(id, name, None, Bytes::new(), limits::LIST_MAX, usize::MAX).await;
    assert_eq!(found, expect, "omap of {name:?}");
}
