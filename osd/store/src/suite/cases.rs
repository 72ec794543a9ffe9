//! One function per promise.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use super::{Host, collection, commit, join, object, pattern};
use crate::{
    CollectionId, LogVersion, ObjectId, ObjectStore, Op, PoolStats, StoreError, Transaction, limits,
};

fn text(value: &'static str) -> Bytes {
    Bytes::from_static(value.as_bytes())
}

fn map(entries: &[(&'static str, &'static str)]) -> BTreeMap<Bytes, Bytes> {
    entries.iter().map(|(key, value)| (text(key), text(value))).collect()
}

async fn with_collection(host: &mut dyn Host) -> Rc<dyn ObjectStore> {
    let store = host.fresh().await;
    let created = commit(&store, vec![Op::CreateCollection { collection: collection(), bits: 8 }]).await;
    assert_eq!(created, Ok(()));
    store
}

fn write(name: &ObjectId, offset: u64, data: Bytes) -> Op {
    Op::Write { collection: collection(), object: name.clone(), offset, data: vec![data] }
}

async fn read_all(store: &Rc<dyn ObjectStore>, name: &ObjectId) -> Vec<u8> {
    join(store.read(collection(), name, 0, u64::MAX).await.expect("read"))
}

fn not_found<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
}

pub(super) async fn collections(host: &mut dyn Host) {
    let store = host.fresh().await;
    assert_eq!(store.collections().await, Ok(vec![]));
    let id = collection();
    let create = Op::CreateCollection { collection: id, bits: 8 };
    commit(&store, vec![create.clone()]).await.expect("create");
    let again = commit(&store, vec![create]).await;
    assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
    commit(&store, vec![Op::SetCollectionMeta { collection: id, value: text("info") }]).await.expect("meta");
    commit(&store, vec![Op::CreateCollection { collection: CollectionId::META, bits: 0 }])
        .await
        .expect("meta");
    let all = vec![(CollectionId::META, 0, Bytes::new()), (id, 8, text("info"))];
    assert_eq!(store.collections().await, Ok(all.clone()));
    let store = host.reopen(store).await;
    assert_eq!(store.collections().await, Ok(all));

    let name = object("a", 1);
    commit(&store, vec![Op::Touch { collection: id, object: name.clone() }]).await.expect("touch");
    let full = commit(&store, vec![Op::RemoveCollection { collection: id }]).await;
    assert!(matches!(full, Err(StoreError::NotEmpty(_))), "{full:?}");
    let both =
        vec![Op::Remove { collection: id, object: name.clone() }, Op::RemoveCollection { collection: id }];
    commit(&store, both).await.expect("remove");
    not_found(store.list(id, None, 10).await);
    not_found(store.log(id).await);
    not_found(commit(&store, vec![Op::Touch { collection: id, object: name }]).await);
    not_found(commit(&store, vec![Op::RemoveCollection { collection: id }]).await);
    let wide = commit(&store, vec![Op::CreateCollection { collection: id, bits: 3 }]).await;
    assert!(matches!(wide, Err(StoreError::Invalid(_))), "{wide:?}");

    // No object may belong to two.
    let create = |seed, bits| Op::CreateCollection { collection: CollectionId { seed, ..id }, bits };
    commit(&store, vec![create(1, 2)]).await.expect("create");
    for (seed, bits) in [(0, 0), (5, 3), (0x11, 8)] {
        let overlapping = commit(&store, vec![create(seed, bits)]).await;
        assert!(matches!(overlapping, Err(StoreError::Invalid(_))), "{seed} of {bits} bits: {overlapping:?}");
    }
    let twice = commit(&store, vec![create(3, 2), create(7, 3)]).await;
    assert!(matches!(twice, Err(StoreError::Invalid(_))), "{twice:?}");
    let parent = Op::RemoveCollection { collection: CollectionId { seed: 1, ..id } };
    commit(&store, vec![parent, create(1, 3), create(5, 3), create(3, 2)])
        .await
        .expect("a split of an empty one");
}

pub(super) async fn removal_of_a_collection_looks_at_all_of_it(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let names = [object("a", 1), object("b", 2), object("c", 3)];
    let remove = |name: &ObjectId| Op::Remove { collection: collection(), object: name.clone() };
    commit(&store, names.iter().map(|name| write(name, 0, pattern(1, 10))).collect()).await.expect("fill");
    let store = host.reopen(store).await;
    let gone = Op::RemoveCollection { collection: collection() };
    for some in 0..names.len() {
        let mut ops: Vec<Op> = names.iter().take(some).map(remove).collect();
        ops.push(gone.clone());
        let refused = commit(&store, ops).await;
        assert!(matches!(refused, Err(StoreError::NotEmpty(_))), "{some} of them removed: {refused:?}");
    }
    assert_eq!(store.list(collection(), None, 10).await.map(|(found, _)| found.len()), Ok(3));
    let all = names.iter().map(remove).chain([gone]).collect();
    commit(&store, all).await.expect("all of it goes");
    assert_eq!(host.reopen(store).await.collections().await, Ok(vec![]));
}

pub(super) async fn the_last_hash(host: &mut dyn Host) {
    let store = host.fresh().await;
    for (pool, seed, bits) in [(7, 0, 0), (8, 3, 2), (-1, 0, 0), (i64::MAX, 0, 0)] {
        let collection = CollectionId { pool, seed };
        let last = ObjectId { pool, hash: u32::MAX, ..object("last", 0) };
        let create = Op::CreateCollection { collection, bits };
        let touch = Op::Touch { collection, object: last.clone() };
        commit(&store, vec![create, touch]).await.expect("create");
        assert_eq!(store.list(collection, None, 10).await, Ok((vec![last.clone()], None)), "pool {pool}");
        assert_eq!(store.list(collection, Some(last.clone()), 1).await, Ok((vec![last.clone()], None)));
        let refused = commit(&store, vec![Op::RemoveCollection { collection }]).await;
        assert!(matches!(refused, Err(StoreError::NotEmpty(_))), "pool {pool}: {refused:?}");
    }
}

fn invalid<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Invalid(_))), "{result:?}");
}

/// The halves of the suite's collection: objects of even places, and of odd ones.
fn halves() -> (CollectionId, CollectionId) {
    let lower = collection();
    (lower, CollectionId { seed: lower.seed | 1 << 8, ..lower })
}

fn split() -> Op {
    let (lower, upper) = halves();
    Op::SplitCollection { collection: lower, bits: 9, target: upper }
}

fn merge() -> Op {
    let (lower, upper) = halves();
    Op::MergeCollection { collection: upper, bits: 8, target: lower }
}

pub(super) async fn collections_split_and_merge(host: &mut dyn Host) {
    let mut store = with_collection(host).await;
    let (lower, upper) = halves();
    let (even, odd) = (object("even", 4), object("odd", 5));
    let version = |version| LogVersion { epoch: 1, version };
    let entry = |collection, n| Op::LogAppend { collection, version: version(n), entry: text("entry") };
    let filled = vec![
        write(&even, 0, pattern(1, 9000)),
        write(&odd, 0, pattern(2, 9000)),
        Op::Clone { collection: lower, object: odd.clone(), target: ObjectId { snap: 3, ..odd.clone() } },
        Op::SetAttrs { collection: lower, object: odd.clone(), attrs: map(&[("a", "1")]) },
        Op::OmapSet { collection: lower, object: odd.clone(), entries: map(&[("k", "v")]) },
        Op::SetCollectionMeta { collection: lower, value: text("info") },
        entry(lower, 1),
    ];
    commit(&store, filled).await.expect("fill");
    let statistics = store.pool_stats();

    // What is no half, or none of this collection.
    let wrong = |bits, target| Op::SplitCollection { collection: lower, bits, target };
    for (bits, target) in [
        (9, lower),
        (9, CollectionId { seed: upper.seed | 1 << 10, ..upper }),
        (9, CollectionId { pool: 8, ..upper }),
        (10, CollectionId { seed: lower.seed | 1 << 9, ..lower }),
        (8, CollectionId { seed: lower.seed | 1 << 7, ..lower }),
        (0, upper),
        (33, upper),
    ] {
        invalid(commit(&store, vec![wrong(bits, target)]).await);
    }
    not_found(commit(&store, vec![merge()]).await);
    // A part that is refused leaves all as it was, and the new half is known to have objects.
    let emptied = commit(&store, vec![split(), Op::RemoveCollection { collection: upper }]).await;
    assert!(matches!(emptied, Err(StoreError::NotEmpty(_))), "{emptied:?}");
    assert_eq!(store.collections().await, Ok(vec![(lower, 8, text("info"))]));

    let more = vec![
        split(),
        Op::SetCollectionMeta { collection: upper, value: text("half") },
        Op::Write { collection: upper, object: odd.clone(), offset: 100, data: vec![pattern(3, 50)] },
        entry(upper, 1),
    ];
    commit(&store, more).await.expect("split");
    let mut expect = pattern(2, 9000).to_vec();
    expect[100..150].copy_from_slice(&pattern(3, 50));
    for _ in 0..2 {
        let all = vec![(lower, 9, text("info")), (upper, 9, text("half"))];
        assert_eq!(store.collections().await, Ok(all));
        assert_eq!(store.list(lower, None, 10).await, Ok((vec![even.clone()], None)));
        let both = vec![ObjectId { snap: 3, ..odd.clone() }, odd.clone()];
        assert_eq!(store.list(upper, None, 10).await, Ok((both, None)));
        assert_eq!(join(store.read(upper, &odd, 0, u64::MAX).await.expect("read")), expect);
        assert_eq!(store.attrs(upper, &odd).await, Ok(vec![(text("a"), text("1"))]));
        assert_eq!(store.omap_values(upper, &odd, vec![text("k")]).await, Ok(vec![(text("k"), text("v"))]));
        assert_eq!(store.log(lower).await, Ok(vec![(version(1), text("entry"))]));
        assert_eq!(store.log(upper).await, Ok(vec![(version(1), text("entry"))]));
        not_found(store.stat(lower, &odd).await);
        not_found(store.stat(upper, &even).await);
        store = host.reopen(store).await;
    }
    invalid(commit(&store, vec![Op::Touch { collection: lower, object: odd.clone() }]).await);
    let again = commit(&store, vec![split()]).await;
    assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
    let create = Op::CreateCollection { collection: CollectionId { seed: 0x2a, ..lower }, bits: 8 };
    assert!(commit(&store, vec![create]).await.is_err());

    commit(&store, vec![merge(), write(&odd, 0, pattern(2, 9000)), entry(lower, 2)]).await.expect("merge");
    for _ in 0..2 {
        assert_eq!(store.collections().await, Ok(vec![(lower, 8, text("info"))]));
        let (names, _) = store.list(lower, None, 10).await.expect("list");
        assert_eq!(names, [even.clone(), ObjectId { snap: 3, ..odd.clone() }, odd.clone()]);
        assert_eq!(read_all(&store, &odd).await, pattern(2, 9000));
        assert_eq!(store.log(lower).await.map(|log| log.len()), Ok(2));
        not_found(store.log(upper).await);
        store = host.reopen(store).await;
    }
    let (before, after) = (statistics.first().expect("pool").1, store.pool_stats()[0].1);
    // What the two shared is each one's own now.
    let rest = |stats: PoolStats| PoolStats { allocated: 0, ..stats };
    assert_eq!(rest(after), rest(before));
    assert!(after.allocated >= before.allocated, "{after:?}, before {before:?}");

    // Split, emptied and gone in one transaction; and so what is left of both.
    let remove = |collection, object: &ObjectId| Op::Remove { collection, object: object.clone() };
    let half = vec![
        split(),
        remove(upper, &odd),
        remove(upper, &ObjectId { snap: 3, ..odd.clone() }),
        Op::RemoveCollection { collection: upper },
    ];
    commit(&store, half).await.expect("half of it goes");
    assert_eq!(store.collections().await, Ok(vec![(lower, 9, text("info"))]));
    invalid(commit(&store, vec![Op::Touch { collection: lower, object: odd }]).await);
    let all = vec![
        Op::CreateCollection { collection: upper, bits: 9 },
        merge(),
        remove(lower, &even),
        Op::RemoveCollection { collection: lower },
    ];
    commit(&store, all).await.expect("all of it goes");
    assert_eq!(host.reopen(store).await.collections().await, Ok(vec![]));
}

pub(super) async fn collections_at_the_same_time(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let (lower, upper) = halves();
    let odd = object("odd", 5);
    // Each sees what was submitted before it, though they are of two collections.
    let touch = |collection| Op::Touch { collection, object: odd.clone() };
    let all = [vec![touch(lower)], vec![split()], vec![touch(upper)], vec![merge()], vec![touch(lower)]];
    let submitted = all.map(|ops| store.submit(Transaction { ops }).durable);
    for (number, durable) in submitted.into_iter().enumerate() {
        assert_eq!(durable.await, Ok(()), "transaction {number}");
    }
    // Of those that overlap, one.
    let create = |pool, seed, bits| {
        let collection = CollectionId { pool, seed };
        store.submit(Transaction { ops: vec![Op::CreateCollection { collection, bits }] }).durable
    };
    for pool in 20..40 {
        let submitted = [create(pool, 0, 0), create(pool, 1, 1), create(pool, 3, 2), create(pool, 7, 3)];
        let mut made = 0;
        for durable in submitted {
            match durable.await {
                Ok(()) => made += 1,
                refused => invalid(refused),
            }
        }
        assert_eq!(made, 1, "pool {pool}");
    }
}

pub(super) async fn clones(host: &mut dyn Host) {
    let mut store = with_collection(host).await;
    let id = collection();
    let head = object("head", 1);
    let snap = |snap| ObjectId { snap, ..head.clone() };
    let clone =
        |target: &ObjectId| Op::Clone { collection: id, object: head.clone(), target: target.clone() };
    not_found(commit(&store, vec![clone(&snap(1))]).await);
    for wrong in [head.clone(), object("head", 2)] {
        let refused = commit(&store, vec![clone(&wrong)]).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    let filled = vec![
        write(&head, 0, pattern(1, 200_000)),
        Op::SetAttrs { collection: id, object: head.clone(), attrs: map(&[("a", "1")]) },
        Op::OmapSet { collection: id, object: head.clone(), entries: map(&[("k", "v"), ("l", "w")]) },
        Op::OmapSetHeader { collection: id, object: head.clone(), header: text("header") },
    ];
    commit(&store, filled).await.expect("fill");
    commit(&store, vec![clone(&snap(1))]).await.expect("clone");
    // As a write to an object with a new snapshot is: a clone, then the change; what is cloned was changed before.
    let changed = vec![
        write(&head, 4000, pattern(2, 9000)),
        Op::OmapRemove { collection: id, object: head.clone(), keys: vec![text("k")] },
        Op::OmapSet { collection: id, object: head.clone(), entries: map(&[("m", "x")]) },
        clone(&snap(2)),
        write(&head, 100_000, pattern(3, 10)),
        Op::OmapClear { collection: id, object: head.clone() },
        Op::Truncate { collection: id, object: head.clone(), size: 150_000 },
    ];
    commit(&store, changed).await.expect("clone and change");
    let one = pattern(1, 200_000).to_vec();
    let two = [&one[..4000], &pattern(2, 9000), &one[13_000..]].concat();
    let three = [&two[..100_000], &pattern(3, 10), &two[100_010..150_000]].concat();
    type Expected<'a> = (ObjectId, &'a [u8], &'a [(&'static str, &'static str)]);
    let check = async |store: &Rc<dyn ObjectStore>, objects: &[Expected]| {
        for (name, data, entries) in objects {
            assert!(read_all(store, name).await == *data, "data of {name}");
            let omap = store.omap_scan(id, name, None, Bytes::new(), 10, 1000).await.expect("omap");
            let expect: Vec<_> = entries.iter().map(|(key, value)| (text(key), text(value))).collect();
            assert_eq!(omap.entries, expect, "omap of {name}");
            let header = if entries.is_empty() { "" } else { "header" };
            assert_eq!(store.omap_header(id, name).await, Ok(text(header)));
            assert_eq!(store.attrs(id, name).await, Ok(vec![(text("a"), text("1"))]));
            assert_eq!(store.stat(id, name).await.map(|stat| stat.size), Ok(data.len() as u64));
        }
    };
    let first: Expected = (snap(1), &one, &[("k", "v"), ("l", "w")]);
    let second: Expected = (snap(2), &two, &[("l", "w"), ("m", "x")]);
    for _ in 0..2 {
        check(&store, &[first.clone(), second.clone(), (head.clone(), &three, &[])]).await;
        store = host.reopen(store).await;
    }
    // A clone takes the place of what was there, here of what it was cloned from.
    let back = Op::Clone { collection: id, object: snap(1), target: head.clone() };
    let remove = |name: &ObjectId| Op::Remove { collection: id, object: name.clone() };
    commit(&store, vec![back, remove(&snap(1))]).await.expect("roll back");
    not_found(store.stat(id, &snap(1)).await);
    check(&store, &[(head.clone(), &one, &[("k", "v"), ("l", "w")]), second.clone()]).await;
    commit(&store, vec![remove(&head)]).await.expect("remove");
    store = host.reopen(store).await;
    check(&store, &[second]).await;
    commit(&store, vec![remove(&snap(2))]).await.expect("remove");
    assert_eq!(store.pool_stats(), vec![]);
}

pub(super) async fn clone_ranges(host: &mut dyn Host) {
    let mut store = with_collection(host).await;
    let id = collection();
    let head = object("head", 1);
    let other = ObjectId { snap: 1, ..head.clone() };
    let range = |object: &ObjectId, offset: u64, len: u64, target: &ObjectId, target_offset: u64| {
        let (object, target) = (object.clone(), target.clone());
        Op::CloneRange { collection: id, object, offset, len, target, target_offset }
    };
    not_found(commit(&store, vec![range(&head, 0, 1, &other, 0)]).await);
    let filled = vec![
        write(&head, 0, pattern(1, 300_000)),
        Op::Zero { collection: id, object: head.clone(), offset: 50_000, len: 20_000 },
    ];
    commit(&store, filled).await.expect("fill");
    for (offset, len, target) in
        [(0, 300_001, &other), (300_001, 0, &other), (u64::MAX, 2, &other), (0, 1, &object("head", 2))]
    {
        let refused = commit(&store, vec![range(&head, offset, len, target, 0)]).await;
        assert!(refused.is_err(), "{offset}~{len} to {target}");
    }
    not_found(store.stat(id, &other).await);
    let mut source = pattern(1, 300_000).to_vec();
    source[50_000..70_000].fill(0);
    let mut expect: Vec<u8> = Vec::new();
    // Nothing, whole blocks, the rest behind them, parts, over what is there, elsewhere, over a hole and behind one.
    let ranges = [
        (0, 0, 0),
        (4096, 8192, 4096),
        (12_288, 120_000, 12_288),
        (5000, 100, 5000),
        (40_000, 40_000, 40_000),
        (0, 300_000, 0),
        (100_000, 70_000, 3),
        (8192, 40_960, 131_072 - 4096),
        (299_999, 1, 400_000),
        (60_000, 100, 60_000),
    ];
    for (offset, len, target_offset) in ranges {
        commit(&store, vec![range(&head, offset, len, &other, target_offset)]).await.expect("clone a range");
        let [from, to, count] =
            [offset, target_offset, len].map(|bytes| usize::try_from(bytes).expect("small"));
        expect.resize(expect.len().max(to + count), 0);
        expect[to..to + count].copy_from_slice(&source[from..from + count]);
        assert!(read_all(&store, &other).await == expect, "{offset}~{len} to {target_offset}");
        assert!(read_all(&store, &head).await == source, "{offset}~{len} to {target_offset}");
    }
    assert_eq!(store.extents(id, &other, 60_000, 100).await, Ok(vec![]), "a hole stays one");
    store = host.reopen(store).await;
    assert!(read_all(&store, &other).await == expect);
    // Within an object, the two ranges overlapping; what was changed and cloned before in the same transaction.
    let ops = vec![
        write(&head, 10_000, pattern(2, 30_000)),
        range(&head, 4096, 100_000, &head, 8192),
        range(&head, 8192, 100_000, &other, 8192),
        write(&head, 9000, pattern(3, 10)),
        range(&other, 8000, 9000, &head, 200_000),
        Op::Remove { collection: id, object: other.clone() },
        range(&head, 0, 20_000, &other, 0),
    ];
    commit(&store, ops).await.expect("change and clone");
    source[10_000..40_000].copy_from_slice(&pattern(2, 30_000));
    let moved = source[4096..104_096].to_vec();
    source[8192..108_192].copy_from_slice(&moved);
    expect[8192..108_192].copy_from_slice(&source[8192..108_192]);
    source[9000..9010].copy_from_slice(&pattern(3, 10));
    source[200_000..209_000].copy_from_slice(&expect[8000..17_000]);
    for _ in 0..2 {
        assert!(read_all(&store, &head).await == source);
        assert!(read_all(&store, &other).await == source[..20_000]);
        store = host.reopen(store).await;
    }
    for name in [head, other] {
        commit(&store, vec![Op::Remove { collection: id, object: name }]).await.expect("remove");
    }
    assert_eq!(store.pool_stats(), vec![]);
}

pub(super) async fn write_and_read(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let name = object("data", 1);
    not_found(store.read(collection(), &name, 0, 1).await);
    not_found(store.stat(collection(), &name).await);
    let mut expect: Vec<u8> = Vec::new();
    // Whole blocks, parts of one, across shards, beyond the end with a hole, over a hole, inside.
    let writes: [(usize, usize); 12] = [
        (0, 4096),
        (4096, 8192),
        (100, 10),
        (4090, 20),
        (12288, 1),
        (20000, 5000),
        (16384, 3616),
        (131_000, 300),
        (262_144, 131_072),
        (0, 200_000),
        (65_536, 65_537),
        (131_071, 2),
    ];
    for (salt, (offset, len)) in writes.into_iter().enumerate() {
        let data = pattern(u64::try_from(salt).unwrap_or(0), len);
        expect.resize(expect.len().max(offset + len), 0);
        expect[offset..offset + len].copy_from_slice(&data);
        commit(&store, vec![write(&name, offset as u64, data)]).await.expect("write");
        assert!(read_all(&store, &name).await == expect, "after write {salt}");
    }
    for (offset, len) in [(0, 1), (1, 5000), (131_070, 4), (12_289, 4000), (390_000, 10_000), (400_000, 5)] {
        let end = expect.len().min(offset + len);
        let part = join(store.read(collection(), &name, offset as u64, len as u64).await.expect("read"));
        assert!(part == expect.get(offset..end).unwrap_or_default(), "part at {offset}");
    }
    let many = Op::Write {
        collection: collection(),
        object: name.clone(),
        offset: 5000,
        data: vec![pattern(90, 1), Bytes::new(), pattern(91, 4096), pattern(92, 77)],
    };
    expect[5000..5001].copy_from_slice(&pattern(90, 1));
    expect[5001..9097].copy_from_slice(&pattern(91, 4096));
    expect[9097..9174].copy_from_slice(&pattern(92, 77));
    commit(&store, vec![many]).await.expect("write in chunks");
    let store = host.reopen(store).await;
    assert!(read_all(&store, &name).await == expect);
    let empty = object("empty", 2);
    commit(&store, vec![write(&empty, 77, Bytes::new())]).await.expect("empty write");
    assert_eq!(store.stat(collection(), &empty).await.map(|s| (s.size, s.allocated)), Ok((0, 0)));
    assert!(read_all(&store, &empty).await.is_empty());
}

pub(super) async fn zero_and_truncate(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let nothing = |object: ObjectId, offset| Op::Zero { collection: collection(), object, offset, len: 0 };
    let (some, none) = (object("some", 9), object("none", 10));
    commit(&store, vec![write(&some, 0, pattern(1, 10)), nothing(some.clone(), 5000)]).await.expect("zero");
    commit(&store, vec![nothing(none.clone(), 5000)]).await.expect("zero");
    assert_eq!(store.stat(collection(), &some).await.map(|stat| stat.size), Ok(10));
    assert_eq!(store.stat(collection(), &none).await.map(|stat| stat.size), Ok(0), "it was made");
    let name = object("holes", 1);
    let id = collection();
    let mut expect = pattern(1, 300_000).to_vec();
    commit(&store, vec![write(&name, 0, Bytes::from(expect.clone()))]).await.expect("write");
    for (offset, len) in [(10, 20), (4000, 9000), (131_000, 100_000), (299_999, 1)] {
        let zero = Op::Zero { collection: id, object: name.clone(), offset: offset as u64, len: len as u64 };
        commit(&store, vec![zero]).await.expect("zero");
        expect[offset..offset + len].fill(0);
        assert!(read_all(&store, &name).await == expect, "after zero at {offset}");
    }
    let extents = store.extents(id, &name, 5, 20).await.expect("extents");
    assert_eq!(extents, vec![(5, 5)]);
    let extents = store.extents(id, &name, 0, u64::MAX).await.expect("extents");
    assert_eq!(extents, vec![(0, 10), (30, 3970), (13_000, 118_000), (231_000, 68_999)]);
    let truncate = |size| Op::Truncate { collection: id, object: name.clone(), size };
    // What was cut off must not come back when the object grows again.
    commit(&store, vec![truncate(50_001)]).await.expect("truncate");
    commit(&store, vec![truncate(60_000)]).await.expect("grow");
    expect.resize(50_001, 0);
    expect.resize(60_000, 0);
    assert!(read_all(&store, &name).await == expect);
    let grow = Op::Zero { collection: id, object: name.clone(), offset: 70_000, len: 1 };
    commit(&store, vec![grow]).await.expect("zero beyond the end");
    expect.resize(70_001, 0);
    let store = host.reopen(store).await;
    assert!(read_all(&store, &name).await == expect);
    commit(&store, vec![write(&name, 50_500, text("x"))]).await.expect("write in the hole");
    expect[50_500] = b'x';
    assert!(read_all(&store, &name).await == expect);
    commit(&store, vec![truncate(0)]).await.expect("truncate");
    assert_eq!(store.stat(id, &name).await.map(|s| (s.size, s.allocated)), Ok((0, 0)));
}

pub(super) async fn attributes(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let (id, name) = (collection(), object("attrs", 3));
    not_found(store.attrs(id, &name).await);
    let set = |attrs| Op::SetAttrs { collection: id, object: name.clone(), attrs };
    let remove = |attr| Op::RemoveAttr { collection: id, object: name.clone(), name: text(attr) };
    not_found(commit(&store, vec![remove("a")]).await);
    commit(&store, vec![set(map(&[("b", "2"), ("a", "1"), ("c", "")]))]).await.expect("set");
    commit(&store, vec![set(map(&[("a", "one")])), remove("b"), remove("nothing")]).await.expect("change");
    let store = host.reopen(store).await;
    let expect = vec![(text("a"), text("one")), (text("c"), Bytes::new())];
    assert_eq!(store.attrs(id, &name).await, Ok(expect));
    assert_eq!(store.stat(id, &name).await.map(|s| s.size), Ok(0));
    // As large as they may be, all together.
    let large = object("large", 8);
    let values: BTreeMap<Bytes, Bytes> =
        [("a", 10_000), ("b", 25_000), ("c", 30_000)].map(|(name, len)| (text(name), pattern(1, len))).into();
    let set = Op::SetAttrs { collection: collection(), object: large.clone(), attrs: values.clone() };
    commit(&store, vec![set]).await.expect("set");
    let store = host.reopen(store).await;
    assert_eq!(store.attrs(collection(), &large).await, Ok(values.into_iter().collect()));
}

pub(super) async fn omap(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let (id, name) = (collection(), object("omap", 3));
    not_found(store.omap_header(id, &name).await);
    let set = |entries| Op::OmapSet { collection: id, object: name.clone(), entries };
    let clear = Op::OmapClear { collection: id, object: name.clone() };
    not_found(commit(&store, vec![clear.clone()]).await);
    commit(&store, vec![set(map(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("", "empty key")]))])
        .await
        .expect("set");
    let header = Op::OmapSetHeader { collection: id, object: name.clone(), header: text("head") };
    commit(&store, vec![header]).await.expect("header");
    let remove = Op::OmapRemove { collection: id, object: name.clone(), keys: vec![text("b"), text("no")] };
    let range =
        Op::OmapRemoveRange { collection: id, object: name.clone(), first: text("c"), end: text("d") };
    commit(&store, vec![remove, range.clone()]).await.expect("remove");
    let entries = |page: crate::OmapPage| page.entries;
    let scan = || store.omap_scan(id, &name, None, Bytes::new(), 100, 1 << 20);
    let expect = vec![(Bytes::new(), text("empty key")), (text("a"), text("1")), (text("d"), text("4"))];
    assert_eq!(scan().await.map(entries), Ok(expect.clone()));
    let values = store.omap_values(id, &name, vec![text("d"), text("b"), text("a")]).await;
    assert_eq!(values, Ok(vec![(text("a"), text("1")), (text("d"), text("4"))]));
    // A key set after its range was removed in the same transaction stays.
    commit(&store, vec![range, set(map(&[("c", "again")]))]).await.expect("range, then set");
    let store = host.reopen(store).await;
    assert_eq!(store.omap_header(id, &name).await, Ok(text("head")));
    let values = store.omap_values(id, &name, vec![text("c")]).await;
    assert_eq!(values, Ok(vec![(text("c"), text("again"))]));
    commit(&store, vec![clear, set(map(&[("z", "26")]))]).await.expect("clear, then set");
    let page = store.omap_scan(id, &name, None, Bytes::new(), 100, 1 << 20).await;
    assert_eq!(page.map(entries), Ok(vec![(text("z"), text("26"))]));
    assert_eq!(store.omap_header(id, &name).await, Ok(Bytes::new()));
    // A new object of the same name begins with nothing.
    let both = vec![
        Op::Remove { collection: id, object: name.clone() },
        Op::Touch { collection: id, object: name.clone() },
    ];
    commit(&store, both).await.expect("remove and create");
    let page = store.omap_scan(id, &name, None, Bytes::new(), 100, 1 << 20).await;
    assert_eq!(page.map(entries), Ok(vec![]));
}

pub(super) async fn omap_pages(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let (id, name) = (collection(), object("pages", 3));
    let key = |i: u32| Bytes::from(format!("{}{i:04}", if i < 50 { "p" } else { "q" }));
    let entries: BTreeMap<_, _> = (0..120).map(|i| (key(i), pattern(u64::from(i), 10))).collect();
    let set = Op::OmapSet { collection: id, object: name.clone(), entries: entries.clone() };
    commit(&store, vec![set]).await.expect("set");
    for (prefix, max, max_bytes) in [("", 7, 1 << 20), ("p", 7, 1 << 20), ("q", 50, 31), ("r", 5, 5)] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.omap_scan(id, &name, after, text(prefix), max, max_bytes).await.expect("scan");
            assert!(page.entries.len() <= max);
            after = page.entries.last().map(|(key, _)| key.clone());
            found.extend(page.entries);
            if !page.more {
                break;
            }
            assert!(after.is_some(), "a page with more to come is not empty");
        }
        let expect: Vec<_> = entries.iter().filter(|(k, _)| k.starts_with(prefix.as_bytes())).collect();
        assert!(found.iter().map(|(k, v)| (k, v)).eq(expect), "prefix {prefix:?}");
    }
}

pub(super) async fn listing(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let id = collection();
    let mut names = Vec::new();
    for i in 0..40 {
        let mut name = object(&format!("n{}", i % 7), i / 3);
        if i % 5 == 0 {
            name.namespace = text("space");
        }
        if i % 4 == 0 {
            name.key = text("key");
        }
        if i % 3 == 1 {
            name.snap = u64::from(i);
        }
        names.push(name);
    }
    // Zero bytes and prefixes in names must not confuse the order.
    names.extend(["a", "a\0", "a\0b", "ab", "\0", "\u{ff}"].map(|name| object(name, 77)));
    names.sort();
    names.dedup();
    for name in names.iter().rev() {
        commit(&store, vec![Op::Touch { collection: id, object: name.clone() }]).await.expect("touch");
    }
    commit(&store, vec![write(&names[4], 0, pattern(4, 400_000))]).await.expect("write");
    let store = host.reopen(store).await;
    for max in [1, 3, 1000] {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let (page, next) = store.list(id, from, max).await.expect("list");
            assert!(page.len() <= max);
            found.extend(page);
            from = next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(found, names, "pages of {max}");
    }
    let (page, next) = store.list(id, Some(names[5].clone()), 2).await.expect("list");
    assert_eq!((page, next), (names[5..7].to_vec(), Some(names[7].clone())));
}

pub(super) async fn failed_transactions_do_nothing(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let (id, name, other) = (collection(), object("kept", 1), object("absent", 2));
    commit(&store, vec![write(&name, 0, text("before"))]).await.expect("write");
    let statistics = store.pool_stats();
    let failing = vec![
        write(&name, 0, text("after!")),
        Op::SetAttrs { collection: id, object: name.clone(), attrs: map(&[("a", "1")]) },
        Op::OmapSet { collection: id, object: name.clone(), entries: map(&[("k", "v")]) },
        Op::LogAppend { collection: id, version: LogVersion { epoch: 1, version: 1 }, entry: text("entry") },
        Op::Touch { collection: id, object: object("new", 9) },
        Op::Remove { collection: id, object: other },
    ];
    not_found(commit(&store, failing).await);
    let store = host.reopen(store).await;
    assert_eq!(read_all(&store, &name).await, b"before");
    assert_eq!(store.attrs(id, &name).await, Ok(vec![]));
    assert_eq!(store.log(id).await, Ok(vec![]));
    assert_eq!(store.list(id, None, 10).await, Ok((vec![name], None)));
    assert_eq!(store.pool_stats(), statistics);
}

pub(super) async fn compound(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let (id, name) = (collection(), object("all", 1));
    let ops = vec![
        write(&name, 0, pattern(1, 10_000)),
        Op::Truncate { collection: id, object: name.clone(), size: 5000 },
        write(&name, 4500, pattern(2, 1000)),
        Op::Zero { collection: id, object: name.clone(), offset: 4096, len: 100 },
        Op::Remove { collection: id, object: name.clone() },
        write(&name, 10, pattern(3, 9000)),
        write(&name, 4000, pattern(4, 100)),
        Op::OmapSet { collection: id, object: name.clone(), entries: map(&[("a", "1"), ("b", "2")]) },
        Op::OmapRemoveRange { collection: id, object: name.clone(), first: text("a"), end: text("b") },
    ];
    commit(&store, ops).await.expect("compound");
    let mut expect = vec![0; 9010];
    expect[10..].copy_from_slice(&pattern(3, 9000));
    expect[4000..4100].copy_from_slice(&pattern(4, 100));
    assert!(read_all(&store, &name).await == expect);
    let store = host.reopen(store).await;
    assert!(read_all(&store, &name).await == expect);
    let stat = store.stat(id, &name).await.expect("stat");
    assert_eq!(stat.size, 9010);
    let values = store.omap_values(id, &name, vec![text("a"), text("b")]).await;
    assert_eq!(values, Ok(vec![(text("b"), text("2"))]));
}

pub(super) async fn limits(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let id = collection();
    let name = object("limits", 1);
    let too_large = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::TooLarge(_))), "{result:?}");
    };
    too_large(commit(&store, vec![write(&name, u64::MAX, text("x"))]).await);
    let truncate = Op::Truncate { collection: id, object: name.clone(), size: u64::MAX };
    too_large(commit(&store, vec![truncate]).await);
    let zero = Op::Zero { collection: id, object: name.clone(), offset: 1, len: u64::MAX };
    too_large(commit(&store, vec![zero]).await);
    let long = "n".repeat(limits::NAME_BYTES_MAX + 1);
    too_large(commit(&store, vec![Op::Touch { collection: id, object: object(&long, 1) }]).await);
    let longest = object(&long[1..], 1);
    commit(&store, vec![Op::Touch { collection: id, object: longest }]).await.expect("longest name");
    let attrs: BTreeMap<_, _> =
        (0..17u8).map(|i| (Bytes::copy_from_slice(&[i]), pattern(1, limits::ATTRS_BYTES_MAX / 16))).collect();
    too_large(commit(&store, vec![Op::SetAttrs { collection: id, object: name.clone(), attrs }]).await);
    let stranger = ObjectId { hash: 1, ..name.clone() };
    let outside = commit(&store, vec![Op::Touch { collection: id, object: stranger }]).await;
    assert!(matches!(outside, Err(StoreError::Invalid(_))), "{outside:?}");
    let nameless = ObjectId { name: Bytes::new(), ..name };
    let empty = commit(&store, vec![Op::Touch { collection: id, object: nameless }]).await;
    assert!(matches!(empty, Err(StoreError::Invalid(_))), "{empty:?}");
}

pub(super) async fn log(host: &mut dyn Host) {
    let mut store = with_collection(host).await;
    let id = collection();
    let entry = |i: u64| (LogVersion { epoch: 3, version: i }, pattern(i, 40));
    let total = 3 * limits::PG_LOG_ENTRIES_MIN as u64;
    for i in 1..=total {
        let (version, bytes) = entry(i);
        let append = Op::LogAppend { collection: id, version, entry: bytes };
        commit(&store, vec![append.clone()]).await.expect("append");
        if i % 100 == 0 {
            let again = commit(&store, vec![append]).await;
            assert!(matches!(again, Err(StoreError::Invalid(_))), "{again:?}");
            store = host.reopen(store).await;
        }
    }
    let kept = store.log(id).await.expect("log");
    assert!(kept.len() >= limits::PG_LOG_ENTRIES_MIN && kept.len() <= limits::PG_LOG_ENTRIES_MAX);
    let first = total + 1 - kept.len() as u64;
    assert!(
        kept.into_iter().eq((first..=total).map(entry)),
        "the log is the newest part of what was appended"
    );
    let restart = vec![
        Op::RemoveCollection { collection: id },
        Op::CreateCollection { collection: id, bits: 8 },
        Op::LogAppend { collection: id, version: LogVersion { epoch: 1, version: 1 }, entry: text("new") },
    ];
    commit(&store, restart).await.expect("remove and create");
    let store = host.reopen(store).await;
    assert_eq!(store.log(id).await, Ok(vec![(LogVersion { epoch: 1, version: 1 }, text("new"))]));
}

pub(super) async fn pool_statistics(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let (id, name) = (collection(), object("counted", 1));
    assert_eq!(store.pool_stats(), vec![]);
    let ops = vec![
        write(&name, 100, pattern(1, 5000)),
        Op::OmapSet { collection: id, object: name.clone(), entries: map(&[("a", "12"), ("bb", "3")]) },
        Op::Touch { collection: id, object: object("other", 2) },
    ];
    commit(&store, ops).await.expect("write");
    let change = vec![
        Op::OmapSet { collection: id, object: name.clone(), entries: map(&[("a", "1")]) },
        Op::OmapRemove { collection: id, object: name.clone(), keys: vec![text("bb"), text("no")] },
        Op::Truncate { collection: id, object: name.clone(), size: 10_000 },
    ];
    commit(&store, change).await.expect("change");
    let expect = PoolStats {
        objects: 2,
        bytes: 10_000,
        allocated: 8192,
        stored: 5000,
        omap_keys: 1,
        omap_bytes: 2,
        ..PoolStats::default()
    };
    assert_eq!(store.pool_stats(), vec![(7, expect)]);
    let store = host.reopen(store).await;
    assert_eq!(store.pool_stats(), vec![(7, expect)]);
    assert_eq!(store.stats().allocated, 8192);
    assert!(store.stats().available < store.stats().total);
    let remove = |name| Op::Remove { collection: id, object: name };
    commit(&store, vec![remove(name), remove(object("other", 2))]).await.expect("remove");
    assert_eq!(store.pool_stats(), vec![], "a pool without anything is not reported");
}

pub(super) async fn many_in_flight(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let (id, name) = (collection(), object("hot", 1));
    let mut submitted = Vec::new();
    let mut expect = vec![0u8; 40_000];
    for i in 0..64u32 {
        let offset = (i as usize * 7919) % 30_000;
        let data = pattern(u64::from(i), 1 + (i as usize * 131) % 9000);
        expect[offset..offset + data.len()].copy_from_slice(&data);
        let entries = BTreeMap::from([(text("n"), Bytes::copy_from_slice(&i.to_le_bytes()))]);
        let ops = vec![
            write(&name, offset as u64, data),
            Op::OmapSet { collection: id, object: name.clone(), entries },
        ];
        submitted.push(store.submit(Transaction { ops }));
    }
    let last = submitted.pop().expect("one");
    last.durable.await.expect("durable");
    let stat = store.stat(id, &name).await.expect("stat");
    expect.truncate(usize::try_from(stat.size).expect("small"));
    assert!(read_all(&store, &name).await == expect, "transactions apply in the order of submission");
    for one in submitted {
        // Whatever was submitted before is durable too, in any order of asking.
        one.durable.await.expect("durable");
        one.readable.await.expect("readable");
    }
    let store = host.reopen(store).await;
    assert!(read_all(&store, &name).await == expect);
}

pub(super) async fn close_refuses(host: &mut dyn Host) {
    let store = with_collection(host).await;
    let (id, name) = (collection(), object("late", 1));
    let pending = store.submit(Transaction { ops: vec![write(&name, 0, text("in time"))] });
    store.close().await.expect("close");
    pending.durable.await.expect("what was submitted before is finished");
    let late = commit(&store, vec![write(&name, 0, text("late"))]).await;
    assert!(matches!(late, Err(StoreError::Down(_))), "{late:?}");
    let read = store.read(id, &name, 0, 1).await;
    assert!(matches!(read, Err(StoreError::Down(_))), "{read:?}");
    store.close().await.expect("closing twice is fine");
}
