//! Asks a cluster, ours or Ceph's, for everything the client can do, and compares what comes back.
//!
//! `cargo run -p client --example check -- 127.0.0.1:3300 POOL`
#![allow(clippy::unwrap_used, reason = "a check that fails should stop at once")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use client::{ALL_NAMESPACES, Client, ClientConfig, Comparison, Creation, ObjectOperation, Pool};
use rt::{Core, CoreId};
use wire::Errno;

fn main() {
    env_logger::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [monitor, pool] = arguments.as_slice() else {
        eprintln!("usage: check MONITOR_ADDRESS POOL");
        std::process::exit(2);
    };
    let mut config = ClientConfig::new(vec![monitor.parse().unwrap()]);
    config.timeout = Some(Duration::from_secs(30));
    let pool = pool.clone();
    let checked = rt::uring::run(CoreId(0), &Default::default(), |core| check(core, config, pool));
    checked.unwrap().unwrap();
    println!("all as expected");
}

async fn check(core: Core, config: ClientConfig, name: String) -> client::Result<()> {
    let cluster = Client::connect(&core, config).await?;
    println!(
        "client.{} of {}, OSD map {}",
        cluster.global_id(),
        cluster.osdmap().fsid,
        cluster.osdmap().epoch
    );
    let pool = cluster.pool(&name).await?;
    bytes_of_objects(&pool).await?;
    attributes_and_omap(&pool).await?;
    compounds(&pool).await?;
    listings(&pool).await?;
    let space = cluster.cluster_space().await?;
    println!("{} KiB of {} KiB used", space.used_kb, space.total_kb);
    // A cluster of Ceph without a manager knows of none.
    println!("statistics of {} pools", cluster.pool_stats(&[&name]).await?.pools.len());
    let status = cluster.mon_command("{\"prefix\":\"osd stat\"}", Bytes::new()).await?;
    println!("{}", String::from_utf8_lossy(&status.output).trim());
    assert_eq!(
        cluster.mon_command("{\"prefix\":\"dance\"}", Bytes::new()).await.unwrap_err().errno(),
        Some(Errno::EINVAL)
    );
    let version = cluster.osd_command(0, "{\"prefix\":\"version\"}", Bytes::new()).await?;
    println!("osd.0: {}", String::from_utf8_lossy(&version.output).trim().replace('\n', " "));
    let made = cluster.create_pool("client-check").await?;
    made.write_full("a", "x").await?;
    cluster.delete_pool("client-check").await?;
    assert_eq!(made.read("a", 0, 0).await.unwrap_err().errno(), Some(Errno::ENOENT));
    speed(&core, &pool).await
}

async fn bytes_of_objects(pool: &Pool) -> client::Result<()> {
    let _ = pool.remove("bytes").await;
    assert_eq!(pool.stat("bytes").await.unwrap_err().errno(), Some(Errno::ENOENT));
    pool.create("bytes", Creation::Exclusive).await?;
    assert_eq!(pool.create("bytes", Creation::Exclusive).await.unwrap_err().errno(), Some(Errno::EEXIST));
    let big: Bytes = (0..4 << 20).map(|i: u32| i.to_le_bytes()[1]).collect();
    pool.write_full("bytes", big.clone()).await?;
    assert_eq!(pool.read("bytes", 0, 0).await?, big);
    pool.write("bytes", 5, "hello").await?;
    pool.append("bytes", "end").await?;
    assert_eq!(pool.stat("bytes").await?.size, (4 << 20) + 3);
    assert_eq!(pool.read("bytes", 5, 5).await?, "hello");
    pool.truncate("bytes", 100).await?;
    pool.zero("bytes", 5, 5).await?;
    assert_eq!(pool.read("bytes", 4, 7).await?, &[big[4], 0, 0, 0, 0, 0, big[10]][..]);
    let mut sparse = ObjectOperation::new();
    let slot = sparse.sparse_read(0, 1000);
    let found = pool.operate("bytes", sparse).await?.get(&slot)?;
    assert_eq!(found.extents.values().sum::<u64>(), u64::try_from(found.data.len()).unwrap());
    let mut same = ObjectOperation::new();
    same.write_same(0, 12, "abc".into());
    pool.operate("bytes", same).await?;
    assert_eq!(pool.read("bytes", 0, 12).await?, "abcabcabcabc");
    let mut compare = ObjectOperation::new();
    compare.compare_extent(0, "abcX".into());
    assert_eq!(pool.operate("bytes", compare).await.unwrap_err().errno(), Errno::from_code(-4095 - 3));
    pool.remove("bytes").await
}

async fn attributes_and_omap(pool: &Pool) -> client::Result<()> {
    pool.write_full("attrs", "x").await?;
    pool.set_xattr("attrs", b"colour", b"red").await?;
    pool.set_xattr("attrs", b"number", b"17").await?;
    assert_eq!(pool.get_xattr("attrs", b"colour").await?, "red");
    assert_eq!(pool.get_xattrs("attrs").await?.len(), 2);
    assert_eq!(pool.get_xattr("attrs", b"none").await.unwrap_err().errno(), Some(Errno::ENODATA));
    let mut compare = ObjectOperation::new();
    compare.compare_xattr(b"colour", Comparison::Equal, b"red");
    assert_eq!(pool.operate("attrs", compare).await?.result, 1);
    let mut compare = ObjectOperation::new();
    compare.compare_xattr_number(b"number", Comparison::Less, 17);
    assert_eq!(pool.operate("attrs", compare).await.unwrap_err().errno(), Some(Errno::ECANCELED));
    pool.remove_xattr("attrs", b"colour").await?;
    let mut clear = ObjectOperation::new();
    clear.clear_omap().set_omap_header("head".into());
    pool.operate("attrs", clear).await?;
    let entries: BTreeMap<Bytes, Bytes> =
        (0..20).map(|i| (format!("key{i:02}").into(), format!("value{i}").into())).collect();
    pool.set_omap("attrs", &entries).await?;
    let page = pool.omap("attrs", b"key04", 3).await?;
    assert_eq!(
        (page.entries.keys().next().unwrap(), page.entries.len(), page.more),
        (&Bytes::from("key05"), 3, true)
    );
    let mut read = ObjectOperation::new();
    let header = read.omap_header();
    let keys = read.omap_keys(b"", 100);
    let two = read.omap_values_by_keys(&["key01".into(), "none".into()].into());
    let reply = pool.operate("attrs", read).await?;
    assert_eq!(reply.get(&header)?, "head");
    assert_eq!(reply.get(&keys)?.entries, entries.keys().cloned().collect::<BTreeSet<_>>());
    assert_eq!(reply.get(&two)?.len(), 1);
    let mut compare = ObjectOperation::new();
    compare.compare_omap(&[("key01".into(), ("value1".into(), Comparison::Equal))].into());
    pool.operate("attrs", compare).await?;
    pool.remove_omap_keys("attrs", &["key00".into()].into()).await?;
    let mut range = ObjectOperation::new();
    range.remove_omap_range(b"key01", b"key19");
    pool.operate("attrs", range).await?;
    assert_eq!(pool.omap("attrs", b"", 100).await?.entries.len(), 1);
    pool.remove("attrs").await
}

async fn compounds(pool: &Pool) -> client::Result<()> {
    let version = pool.write_full("compound", "one").await?;
    let mut guarded = ObjectOperation::new();
    guarded.assert_version(version).append(", two".into()).set_xattr(b"a", b"b");
    guarded.set_alloc_hint(1 << 20, 4096, 0);
    let newer = pool.operate("compound", guarded.clone()).await?.version;
    assert!(newer > version);
    assert_eq!(pool.operate("compound", guarded).await.unwrap_err().errno(), Some(Errno::ERANGE));
    let mut several = ObjectOperation::new();
    let stat = several.stat();
    let missing = several.get_xattr(b"missing");
    several.allow_failure();
    let data = several.read(5, 0);
    let reply = pool.operate("compound", several).await?;
    assert_eq!(reply.get(&stat)?.size, 8);
    assert_eq!(reply.get(&missing).unwrap_err().errno(), Some(Errno::ENODATA));
    assert_eq!(reply.get(&data)?, "two");
    let mut failing = ObjectOperation::new();
    failing.write_full("lost".into()).compare_xattr(b"a", Comparison::Equal, b"c");
    assert_eq!(pool.operate("compound", failing).await.unwrap_err().errno(), Some(Errno::ECANCELED));
    assert_eq!(pool.read("compound", 0, 0).await?, "one, two");
    pool.remove("compound").await
}

async fn listings(pool: &Pool) -> client::Result<()> {
    let space = pool.with_namespace("listing");
    let keyed = space.with_key("key");
    let names: BTreeSet<Bytes> = (0..50).map(|i| format!("object {i} \u{e4}").into()).collect();
    for name in &names {
        space.write_full(name.clone(), "x").await?;
    }
    keyed.write_full("keyed", "x").await?;
    let listed = space.list().collect().await?;
    let found: BTreeSet<Bytes> =
        listed.iter().filter(|o| o.key.is_empty()).map(|o| o.object.clone()).collect();
    assert_eq!((found, listed.len()), (names.clone(), 51));
    assert!(listed.iter().any(|object| object.key == "key" && object.object == "keyed"));
    assert!(pool.with_namespace(ALL_NAMESPACES).list().collect().await?.len() >= 51);
    assert!(pool.list().collect().await?.iter().all(|object| object.nspace.is_empty()));
    for name in names {
        space.remove(name).await?;
    }
    keyed.remove("keyed").await?;
    assert!(space.list().collect().await?.is_empty());
    Ok(())
}

async fn speed(core: &Core, pool: &Pool) -> client::Result<()> {
    let data = Bytes::from(vec![7; 4096]);
    let started = core.now();
    let writers = (0..32).map(|writer| {
        let (pool, data) = (pool.clone(), data.clone());
        async move {
            for round in 0..100 {
                pool.write_full(format!("speed{writer}.{round}"), data.clone()).await?;
            }
            client::Result::Ok(())
        }
    });
    for result in futures_util::future::join_all(writers).await {
        result?;
    }
    let seconds = (core.now().0 - started.0) as f64 / 1e9;
    println!("{:.0} writes of 4 KiB per second, 32 in flight", 3200.0 / seconds);
    for writer in 0..32 {
        for round in 0..100 {
            pool.remove(format!("speed{writer}.{round}")).await?;
        }
    }
    Ok(())
}
