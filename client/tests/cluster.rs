//! The client against a fake cluster in the simulated world.
#![allow(clippy::unwrap_used, reason = "a test")]

mod fake;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use client::{ALL_NAMESPACES, Client, ClientConfig, Creation, Error, ObjectOperation};
use fake::{CLIENT_HOST, Cluster, MON_HOST, OSD_HOST, connect, names};
use rt::Nanos;
use rt::sim::{Config, Sim, address};
use wire::Errno;
use wire::osdmap::{OsdState, PoolFlags};

fn run<F: Future<Output = ()> + 'static>(osds: u16, pg_num: u32, test: impl Fn(rt::Core, Cluster) -> F) {
    for seed in 0..8 {
        let sim = Sim::new(seed, Config::default());
        let cluster = Cluster::start(&sim, osds, pg_num);
        sim.run(CLIENT_HOST, |core| test(core, cluster.clone()));
    }
}

#[test]
fn objects_are_written_read_and_removed() {
    run(3, 8, |core, cluster| async move {
        let client = connect(&core, &cluster).await;
        assert!(client.global_id() > 4000);
        let pool = client.pool("data").await.unwrap();
        assert_eq!(pool.read("a", 0, 0).await.unwrap_err().errno(), Some(Errno::ENOENT));
        let first = pool.write_full("a", "hello world").await.unwrap();
        let second = pool.write("a", 6, "there").await.unwrap();
        assert!(second > first);
        pool.append("a", "!").await.unwrap();
        assert_eq!(pool.read("a", 0, 0).await.unwrap(), "hello there!");
        assert_eq!(pool.read("a", 6, 3).await.unwrap(), "the");
        assert_eq!(pool.stat("a").await.unwrap().size, 12);
        pool.set_xattr("a", b"colour", b"red").await.unwrap();
        assert_eq!(pool.get_xattr("a", b"colour").await.unwrap(), "red");
        let refused = pool.get_xattr("a", b"shape").await.unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::ENODATA));
        assert_eq!(refused.to_string(), "GETXATTR on 'a' in pool 1, at GETXATTR: ENODATA");
        let entries: BTreeMap<Bytes, Bytes> = [("k1".into(), "v1".into()), ("k2".into(), "v2".into())].into();
        pool.set_omap("a", &entries).await.unwrap();
        let page = pool.omap("a", b"", 1).await.unwrap();
        assert_eq!((page.entries.len(), page.more), (1, true));
        let page = pool.omap("a", b"k1", 9).await.unwrap();
        assert_eq!((page.entries.get(&b"k2"[..]).unwrap(), page.more), (&Bytes::from("v2"), false));
        let exclusive = pool.create("a", Creation::Exclusive).await.unwrap_err();
        assert_eq!(exclusive.errno(), Some(Errno::EEXIST));
        pool.remove("a").await.unwrap();
        assert!(pool.stat("a").await.is_err());
        // All or nothing, with a result for each op.
        let mut compound = ObjectOperation::new();
        compound.write_full("x".into());
        compound.assert_version(99);
        assert_eq!(pool.operate("b", compound).await.unwrap_err().errno(), Some(Errno::EOVERFLOW));
        assert!(cluster.data("b").is_none());
        pool.write_full("b", "xyz").await.unwrap();
        let mut compound = ObjectOperation::new();
        let stat = compound.stat();
        let data = compound.read(1, 0);
        let missing = compound.get_xattr(b"none");
        compound.allow_failure();
        let reply = pool.operate("b", compound).await.unwrap();
        assert_eq!(reply.get(&stat).unwrap().size, 3);
        assert_eq!(reply.get(&data).unwrap(), "yz");
        assert_eq!(reply.get(&missing).unwrap_err().errno(), Some(Errno::ENODATA));
    });
}

#[test]
fn listings_visit_all_groups_and_namespaces() {
    run(3, 12, |core, cluster| async move {
        let client = connect(&core, &cluster).await;
        let pool = client.pool("data").await.unwrap();
        let other = pool.with_namespace("other");
        for i in 0..40 {
            pool.write_full(format!("o{i}"), "x").await.unwrap();
        }
        for i in 0..7 {
            other.with_key("together").write_full(format!("n{i}"), "x").await.unwrap();
        }
        assert_eq!(names(&pool.list().collect().await.unwrap()).len(), 40);
        let listed = other.list().collect().await.unwrap();
        assert_eq!((listed.len(), &listed[0].key), (7, &Bytes::from("together")));
        let all = pool.with_namespace(ALL_NAMESPACES).list().collect().await.unwrap();
        assert_eq!((all.len(), names(&all).len()), (47, 47));
        // A cursor continues where it was taken.
        let mut lister = pool.list();
        let mut seen = lister.next_page().await.unwrap().unwrap();
        let cursor = lister.cursor().clone();
        let mut again = pool.list();
        again.seek(cursor);
        seen.extend(again.collect().await.unwrap());
        assert_eq!((seen.len(), names(&seen).len()), (40, 40));
    });
}

#[test]
fn a_listing_survives_a_split() {
    run(3, 4, |core, cluster| async move {
        let client = connect(&core, &cluster).await;
        let pool = client.pool("data").await.unwrap();
        for i in 0..40 {
            pool.write_full(format!("o{i}"), "x").await.unwrap();
        }
        let mut lister = pool.list();
        let mut seen = Vec::new();
        for pg_num in 5..12 {
            seen.extend(lister.next_page().await.unwrap().unwrap());
            cluster.change(|map| map.pools.get_mut(&1).unwrap().pg_num = pg_num);
        }
        seen.extend(lister.collect().await.unwrap());
        assert_eq!((seen.len(), names(&seen).len()), (40, 40));
    });
}

#[test]
fn a_monitor_that_answers_is_found() {
    for seed in 0..8 {
        let sim = Sim::new(seed, Config::default());
        let cluster = Cluster::start(&sim, 1, 1);
        // One host refuses, one takes the connection and says nothing.
        let mute = sim.core(4);
        let mut listener = mute.listen(address(4, 3300)).unwrap();
        drop(mute.spawn(rt::Group::Client, "mute", async move {
            let mut streams = Vec::new();
            while let Ok(stream) = listener.accept().await {
                streams.push(stream);
            }
        }));
        drop(sim.core(3));
        let mut config = cluster.config();
        config.monitors = vec![address(3, 3300), address(4, 3300), address(MON_HOST, 3300)];
        sim.run(CLIENT_HOST, |core| async move {
            let client = Client::connect(&core, config).await.unwrap();
            client.pool("data").await.unwrap().write_full("a", "b").await.unwrap();
            assert!(core.now() < Nanos(20_000_000_000), "{:?}", core.now());
            assert_eq!(client.monmap().unwrap().mons.len(), 1);
        });
    }
}

#[test]
fn without_a_monitor_the_time_runs_out() {
    let sim = Sim::new(1, Config::default());
    drop(sim.core(3));
    let mut config = ClientConfig::new(vec![address(3, 3300)]);
    config.timeout = Some(Duration::from_secs(5));
    sim.run(CLIENT_HOST, |core| async move {
        let error = Client::connect(&core, config).await.map(drop).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ETIMEDOUT));
        assert_eq!(core.now().0 / 1_000_000_000, 5);
    });
    assert!(Client::connect(&sim.core(9), ClientConfig::new(Vec::new())).now_or_never().unwrap().is_err());
}

use futures_util::FutureExt;

/// Appends from several tasks while connections are reset, OSDs and the monitor are killed and placement changes:
/// each is done exactly once, and each task's in its order.
fn storm(seed: u64) -> (u64, u64, u64) {
    let sim = Sim::new(seed, Config::default());
    let cluster = Cluster::start(&sim, 3, 8);
    cluster.0.borrow_mut().delay_us = 300;
    let random = std::rc::Rc::new(std::cell::RefCell::new(sim.random_stream("faults")));
    for fault in 0..40u64 {
        let (cluster, random) = (cluster.clone(), random.clone());
        sim.at(Nanos((5 + fault * 7) * 1_000_000), move |sim| {
            let mut random = random.borrow_mut();
            let osd = u16::try_from(random.below(3)).unwrap();
            match random.below(6) {
                0..=2 => sim.reset_connections(CLIENT_HOST, OSD_HOST + osd),
                3 => sim.reset_connections(CLIENT_HOST, MON_HOST),
                4 => {
                    cluster.0.borrow_mut().in_flight = 1000;
                    sim.kill(OSD_HOST + osd);
                    cluster.restart_osd(sim, osd);
                }
                _ => {
                    let weight = if random.below(2) == 0 { 0 } else { 0x1_0000 };
                    cluster.change(|map| map.osds[usize::from(osd)].weight = weight);
                }
            }
        });
    }
    // In the end all are in again: the storm must pass.
    let healed = cluster.clone();
    sim.at(Nanos(300_000_000), move |_| {
        healed.change(|map| map.osds.iter_mut().for_each(|osd| osd.weight = 0x1_0000));
    });
    let expected = sim.run(CLIENT_HOST, |core| {
        let cluster = cluster.clone();
        async move {
            let client = connect(&core, &cluster).await;
            let pool = client.pool("data").await.unwrap();
            let tasks = (0..6).map(|task| {
                let pool = pool.clone();
                async move {
                    for i in 0..40u32 {
                        pool.append(format!("t{task}"), format!("{i},")).await.unwrap();
                    }
                }
            });
            futures_util::future::join_all(tasks).await;
            let expected: String = (0..40).map(|i| format!("{i},")).collect();
            for task in 0..6 {
                let data = pool.read(format!("t{task}"), 0, 0).await.unwrap();
                assert_eq!(data, expected);
            }
            expected
        }
    });
    for task in 0..6 {
        assert_eq!(cluster.data(&format!("t{task}")).unwrap(), expected.as_bytes());
    }
    let state = cluster.0.borrow();
    (sim.hash(), state.retries, state.duplicates)
}

#[test]
fn every_write_is_done_once_in_a_storm_of_faults() {
    let (mut retries, mut duplicates) = (0, 0);
    for seed in 0..12 {
        let (hash, more_retries, more_duplicates) = storm(seed);
        retries += more_retries;
        duplicates += more_duplicates;
        if seed < 2 {
            assert_eq!(storm(seed).0, hash, "seed {seed}: the same seed gives the same history");
        }
    }
    assert!(retries > 20 && duplicates > 0, "{retries} {duplicates}: the storm was none");
}

#[test]
fn requests_follow_the_map() {
    run(2, 8, |core, cluster| async move {
        let client = connect(&core, &cluster).await;
        let pool = client.pool("data").await.unwrap();
        // Swallowed by an OSD that then is found down: the other one gets them.
        cluster.0.borrow_mut().mute = true;
        let writes = (0..16).map(|i| pool.write_full(format!("o{i}"), "x"));
        let writes = futures_util::future::join_all(writes);
        let change = async {
            core.sleep(Duration::from_millis(50)).await;
            cluster.0.borrow_mut().mute = false;
            cluster.change(|map| map.osds[0].state = OsdState::EXISTS);
            core.sleep(Duration::from_millis(50)).await;
            cluster.change(|map| {
                map.osds[0].state = OsdState::EXISTS | OsdState::UP;
                map.osds[0].weight = 0;
                map.osds[0].client_addrs = fake::osd_addr(0).into();
                map.pools.get_mut(&1).unwrap().last_force_op_resend = map.epoch;
            });
        };
        let (results, ()) = futures_util::future::join(writes, change).await;
        assert!(results.iter().all(Result::is_ok));
    });
}

#[test]
fn full_pools_and_pauses_hold_writes_back() {
    run(1, 4, |core, cluster| async move {
        let client = connect(&core, &cluster).await;
        let pool = client.pool("data").await.unwrap();
        pool.write_full("a", "1").await.unwrap();
        let set_full = |full: bool| {
            cluster.change(|map| {
                let flags = &mut map.pools.get_mut(&1).unwrap().flags;
                *flags = if full { flags.with(PoolFlags::FULL) } else { flags.without(PoolFlags::FULL) };
            });
        };
        set_full(true);
        client.wait_for_latest_map().await.unwrap();
        let held = rt::sync::timeout(&core, Duration::from_secs(1), pool.write_full("a", "2")).await;
        assert!(held.is_err());
        assert_eq!(pool.read("a", 0, 0).await.unwrap(), "1");
        let mut forced = ObjectOperation::new();
        forced.write_full("3".into()).try_when_full();
        pool.operate("a", forced).await.unwrap();
        let release = async {
            core.sleep(Duration::from_millis(10)).await;
            set_full(false);
        };
        let (written, ()) = futures_util::future::join(pool.write_full("a", "4"), release).await;
        written.unwrap();
        // The one whose caller went away was not sent later.
        assert_eq!(cluster.data("a").unwrap(), b"4");
    });
}

#[test]
fn back_offs_and_eagain_are_waited_out() {
    run(2, 4, |core, cluster| async move {
        let client = connect(&core, &cluster).await;
        let pool = client.pool("data").await.unwrap();
        cluster.0.borrow_mut().try_again = 3;
        pool.append("a", "1").await.unwrap();
        cluster.0.borrow_mut().backoff = true;
        let appends = (0..5).map(|i| pool.append(format!("b{i}"), "1"));
        let appends = futures_util::future::join_all(appends);
        let end = async {
            core.sleep(Duration::from_millis(20)).await;
            let held = cluster.0.borrow().received;
            // Nothing is sent into a back-off.
            core.sleep(Duration::from_secs(3)).await;
            assert_eq!(cluster.0.borrow().received, held);
            cluster.end_backoff();
        };
        let (results, ()) = futures_util::future::join(appends, end).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!((cluster.data("a").unwrap(), cluster.data("b3").unwrap()), (b"1".to_vec(), b"1".to_vec()));
    });
}

#[test]
fn no_more_is_in_flight_than_allowed() {
    run(1, 4, |core, cluster| async move {
        cluster.0.borrow_mut().delay_us = 1000;
        let config = ClientConfig { ops_in_flight: 5, bytes_in_flight: 1000, ..cluster.config() };
        let client = Client::connect(&core, config).await.unwrap();
        let pool = client.pool("data").await.unwrap();
        let writes = (0..50).map(|i| pool.write_full(format!("o{i}"), vec![0; 10]));
        futures_util::future::join_all(writes).await;
        assert_eq!(std::mem::take(&mut cluster.0.borrow_mut().in_flight_max), 5);
        let writes = (0..10).map(|i| pool.write_full(format!("o{i}"), vec![0; 400]));
        futures_util::future::join_all(writes).await;
        assert_eq!(std::mem::take(&mut cluster.0.borrow_mut().in_flight_max), 2);
        // More than the whole allowance goes alone.
        let writes = (0..3).map(|i| pool.write_full(format!("o{i}"), vec![0; 4000]));
        assert!(futures_util::future::join_all(writes).await.iter().all(Result::is_ok));
        assert_eq!(cluster.0.borrow().in_flight_max, 1);
    });
}

#[test]
fn time_runs_out_for_requests_without_an_answer() {
    run(1, 4, |core, cluster| async move {
        let config = ClientConfig { timeout: Some(Duration::from_secs(3)), ..cluster.config() };
        let client = Client::connect(&core, config).await.unwrap();
        let pool = client.pool("data").await.unwrap();
        cluster.0.borrow_mut().mute = true;
        let started = core.now();
        let error = pool.write_full("a", "x").await.unwrap_err();
        assert!(error.outcome_is_unknown());
        assert_eq!(
            error.to_string(),
            "WRITE_FULL on 'a' in pool 1: no answer within 3s; whether it was done is not known"
        );
        assert!((3_000_000_000..3_100_000_000).contains(&(core.now().0 - started.0)));
    });
}

#[test]
fn a_peer_that_vanished_silently_is_noticed() {
    for seed in 0..4 {
        let sim = Sim::new(seed, Config::default());
        let cluster = Cluster::start(&sim, 1, 4);
        let killed = cluster.clone();
        sim.at(Nanos(50_000_000), move |sim| {
            // Packets are lost rather than answered with a reset, then the host is back.
            sim.cut(CLIENT_HOST, OSD_HOST);
            sim.kill_silently(OSD_HOST);
            let killed = killed.clone();
            sim.at(Nanos(60_000_000_000), move |sim| {
                killed.restart_osd(sim, 0);
                sim.heal();
            });
        });
        sim.run(CLIENT_HOST, |core| async move {
            let client = connect(&core, &cluster).await;
            let pool = client.pool("data").await.unwrap();
            pool.append("a", "1").await.unwrap();
            core.sleep(Duration::from_millis(100)).await;
            pool.append("a", "2").await.unwrap();
            assert_eq!(cluster.data("a").unwrap(), b"12");
            assert!(core.now() < Nanos(80_000_000_000));
        });
    }
}

#[test]
fn pools_come_and_go() {
    run(2, 4, |core, cluster| async move {
        let client = connect(&core, &cluster).await;
        assert_eq!(client.pool("new").await.map(drop), Err(Error::NoSuchPool("new".into())));
        let pool = client.create_pool("new").await.unwrap();
        pool.write_full("a", "x").await.unwrap();
        let again = client.create_pool("new").await.map(drop).unwrap_err();
        assert_eq!(again.errno(), Some(Errno::EEXIST));
        client.delete_pool("new").await.unwrap();
        let gone = pool.read("a", 0, 0).await.unwrap_err();
        assert_eq!(gone.to_string(), "READ on 'a' in pool 2: pool 2 does not exist any more");
        // A pool that the cluster has and this client has not heard of yet.
        assert_eq!(client.pool_by_id(3).stat("a").await.unwrap_err().errno(), Some(Errno::ENOENT));
        assert_eq!(client.delete_pool("new").await, Err(Error::NoSuchPool("new".into())));
    });
}

#[test]
fn commands_reach_monitors_and_daemons() {
    run(2, 4, |core, cluster| async move {
        let client = connect(&core, &cluster).await;
        let done = client.mon_command("{\"prefix\":\"status\"}", "in".into()).await.unwrap();
        assert_eq!(done.output, "in");
        let refused = client.mon_command("{\"prefix\":\"dance\"}", Bytes::new()).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "monitor refused command {\"prefix\":\"dance\"}: EINVAL: command not known"
        );
        let done = client.osd_command(1, "{\"prefix\":\"version\"}", "in".into()).await.unwrap();
        assert_eq!(done.output, "in");
        let refused = client.osd_command(1, "{\"prefix\":\"dance\"}", Bytes::new()).await.unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::EINVAL));
        assert_eq!(client.osd_command(7, "{}", Bytes::new()).await, Err(Error::OsdDown(7)));
    });
}

#[test]
fn after_shut_down_nothing_waits() {
    run(1, 4, |core, cluster| async move {
        let client = connect(&core, &cluster).await;
        let pool = client.pool("data").await.unwrap();
        cluster.0.borrow_mut().mute = true;
        let stop = async {
            core.sleep(Duration::from_millis(5)).await;
            client.shut_down();
        };
        let (written, ()) = futures_util::future::join(pool.write_full("a", "x"), stop).await;
        assert_eq!(written, Err(Error::ShutDown));
        assert_eq!(pool.read("a", 0, 0).await, Err(Error::ShutDown));
        assert_eq!(client.wait_for_latest_map().await, Err(Error::ShutDown));
    });
    // Dropping the last handle ends all tasks.
    let sim = Sim::new(1, Config::default());
    let cluster = Cluster::start(&sim, 1, 4);
    sim.run(CLIENT_HOST, |core| async move {
        let client = connect(&core, &cluster).await;
        client.pool("data").await.unwrap().write_full("a", "x").await.unwrap();
    });
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.tasks(CLIENT_HOST), 0);
}
