//! Sessions with a monitor in the simulator: what clients and OSDs ask, and what they are told when.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{FSID, MON, Peer, make, mon_address, osd_addrs, osd_uuid, spawn, start, world};
use rt::Core;
use serde_json::{Value, json};
use wire::codec::decode_exact;
use wire::msg::{
    Body, Command, GetPoolStats, MonGetMap, MonGetVersion, OsdBeacon, OsdBoot, Ping, PoolOp, PoolOpKind,
    StatFs,
};
use wire::msgr2::Data;
use wire::osdmap::OsdMap;
use wire::types::{Epoch, SnapId};

const CLIENT: u16 = 2;
const SOON: Duration = Duration::from_secs(2);

/// Runs a test against a new cluster.
fn with_monitor<F: Future<Output = ()> + 'static>(test: impl FnOnce(Core) -> F) {
    let (sim, disk) = world(1);
    make(&sim, &disk);
    spawn(&sim, &disk);
    sim.run(CLIENT, test);
}

fn pool_op(op: PoolOpKind, pool: u32, name: &str) -> PoolOp {
    PoolOp { version: 0, fsid: FSID, pool, op, snap: SnapId(0), name: name.into(), crush_rule: -1 }
}

async fn osd_map_of(peer: &mut Peer) -> OsdMap {
    let Some(Body::OsdMapMessage(message)) = peer.receive().await else { panic!("no map") };
    let (_, bytes) = message.full.into_iter().next().unwrap();
    decode_exact("osd map", bytes).unwrap()
}

#[test]
fn a_client_starts_as_librados_does() {
    with_monitor(|core| async move {
        let mut peer = Peer::client(&core).await;
        assert!(peer.global_id() >= 4100);
        peer.send(MonGetMap).await;
        let Some(Body::MonMapMessage(map)) = peer.receive().await else { panic!("no map") };
        let map: wire::msg::MonMap = decode_exact("monmap", map.map).unwrap();
        assert_eq!(map.mons["a"].addrs.msgr2().unwrap().socket_addr(), Some(mon_address()));
        peer.subscribe("config", 0, false).await;
        assert!(
            matches!(peer.receive().await, Some(Body::ConfigMessage(config)) if config.options.is_empty())
        );
        peer.subscribe("monmap", 0, false).await;
        assert!(matches!(peer.receive().await, Some(Body::MonMapMessage(_))));
        peer.subscribe("mgrmap", 0, false).await;
        assert!(matches!(peer.receive().await, Some(Body::MgrMap(map)) if !map.available));
        peer.subscribe("osdmap", 0, true).await;
        let map = osd_map_of(&mut peer).await;
        assert_eq!((map.epoch, map.fsid, map.osds.len()), (Epoch(1), FSID, 2));
        peer.send(Ping { text: None }).await;
        assert!(matches!(peer.receive().await, Some(Body::Ping(Ping { text: Some(_) }))));
        assert!(peer.receive_soon(SOON).await.is_none(), "nothing that was not asked for");
    });
}

#[test]
fn a_request_for_a_later_map_waits_for_it_and_is_answered_once() {
    with_monitor(|core| async move {
        let mut watcher = Peer::client(&core).await;
        watcher.subscribe("osdmap", 2, true).await;
        assert!(watcher.receive_soon(SOON).await.is_none());
        let mut peer = Peer::client(&core).await;
        for pool in ["a", "b", "c"] {
            peer.command(json!({"prefix": "osd pool create", "pool": pool, "pg_num": 1})).await;
        }
        let Some(Body::OsdMapMessage(message)) = watcher.receive().await else { panic!("no map") };
        assert_eq!(message.incrementals.keys().next(), Some(&Epoch(2)));
        assert!(watcher.receive_soon(SOON).await.is_none(), "once is once");
        peer.send(MonGetVersion { handle: 77, what: "osdmap".into() }).await;
        let Some(Body::MonGetVersionReply(reply)) = peer.receive().await else { panic!("no version") };
        assert_eq!((reply.handle, reply.version, reply.oldest), (77, 4, 1));
    });
}

#[test]
fn a_standing_subscription_gets_every_map_in_order() {
    with_monitor(|core| async move {
        let mut watcher = Peer::client(&core).await;
        watcher.subscribe("osdmap", 1, false).await;
        let mut map = osd_map_of(&mut watcher).await;
        let mut peer = Peer::client(&core).await;
        // More than fit into one message, in one go.
        for number in 0..50 {
            let key = if number % 2 == 0 { "osd set" } else { "osd unset" };
            peer.command(json!({"prefix": key, "key": "noout"})).await;
        }
        while map.epoch < Epoch(51) {
            let Some(Body::OsdMapMessage(message)) = watcher.receive().await else { panic!("no map") };
            assert!(message.incrementals.len() <= 40);
            for (epoch, bytes) in message.incrementals {
                assert_eq!(epoch, map.epoch.next());
                map = map.apply(&decode_exact("increment", bytes).unwrap()).unwrap();
            }
        }
        // A late one starts with increments too, in pieces.
        watcher.subscribe("osdmap", 2, false).await;
        let Some(Body::OsdMapMessage(first)) = watcher.receive().await else { panic!("no map") };
        let Some(Body::OsdMapMessage(second)) = watcher.receive().await else { panic!("no map") };
        assert_eq!((first.incrementals.len(), second.incrementals.len()), (40, 10));
    });
}

#[test]
fn options_reach_whom_they_are_for() {
    with_monitor(|core| async move {
        let mut watcher = Peer::client(&core).await;
        watcher.subscribe("config", 0, false).await;
        assert!(watcher.receive().await.is_some());
        let mut peer = Peer::client(&core).await;
        let set =
            |who: &str, value: &str| json!({"prefix": "config set", "who": who, "name": "x", "value": value});
        peer.command(set("osd", "1")).await;
        peer.command(set("client", "2")).await;
        let Some(Body::ConfigMessage(config)) = watcher.receive().await else { panic!("no options") };
        assert_eq!(config.options, BTreeMap::from([("x".to_owned(), "2".to_owned())]));
        assert!(watcher.receive_soon(SOON).await.is_none(), "the OSDs' are not for clients");
    });
}

#[test]
fn pools_and_snapshots_by_message() {
    with_monitor(|core| async move {
        let mut peer = Peer::client(&core).await;
        let mut expect = async |op: PoolOp, result: i32| {
            peer.send(op).await;
            let Some(Body::PoolOpReply(reply)) = peer.receive().await else { panic!("no reply") };
            assert_eq!(reply.result, result);
            reply
        };
        let made = expect(pool_op(PoolOpKind::CREATE, 0, "p"), 0).await;
        assert_eq!(made.epoch, Epoch(2), "the epoch that shows the pool");
        expect(pool_op(PoolOpKind::CREATE, 0, "p"), -17).await;
        expect(pool_op(PoolOpKind::DELETE, 9, ""), -2).await;
        expect(pool_op(PoolOpKind::DELETE, 1, ""), -1).await;
        expect(pool_op(PoolOpKind::CHANGE_AUID, 1, ""), -95).await;
        let before = expect(pool_op(PoolOpKind::CREATE, 0, "q"), 0).await.epoch;
        for kind in [PoolOpKind::CREATE_SNAP, PoolOpKind::CREATE_UNMANAGED_SNAP] {
            let refused = expect(pool_op(kind, 1, "s"), -95).await;
            assert_eq!((refused.epoch, refused.output), (before, None), "nothing was changed");
            expect(pool_op(kind, 9, "s"), -2).await;
        }
        expect(pool_op(PoolOpKind::DELETE_SNAP, 2, "s"), -2).await;
        // Of what is not there it is known that it is gone.
        let remove = PoolOp { snap: SnapId(2), ..pool_op(PoolOpKind::DELETE_UNMANAGED_SNAP, 1, "") };
        expect(remove, 0).await;
        peer.send(GetPoolStats { version: 0, fsid: FSID, pools: vec!["p".into(), "nosuch".into()] }).await;
        let Some(Body::GetPoolStatsReply(stats)) = peer.receive().await else { panic!("no reply") };
        assert_eq!(stats.pools.keys().collect::<Vec<_>>(), ["p"]);
        peer.send(StatFs { version: 0, fsid: FSID, pool: None }).await;
        assert!(matches!(peer.receive().await, Some(Body::StatFsReply(_))));
    });
}

#[test]
fn tell_answers_on_its_own_connection() {
    with_monitor(|core| async move {
        let mut peer = Peer::client(&core).await;
        let mut tell = async |command: Value| {
            peer.send(Command { fsid: FSID, command: vec![command.to_string()], input: Data::new() }).await;
            let Some(Body::CommandReply(reply)) = peer.receive().await else { panic!("no reply") };
            reply
        };
        assert_eq!(tell(json!({"prefix": "version"})).await.result, 0);
        assert_eq!(tell(json!({"prefix": "nosuch"})).await.result, -22);
        let set = json!({"prefix": "config set", "var": "mon_allow_pool_delete", "val": ["true"]});
        assert_eq!(tell(set).await.result, 0);
        let got =
            tell(json!({"prefix": "config get", "var": "mon_allow_pool_delete", "format": "json"})).await;
        assert_eq!(got.output.to_bytes(), r#"{"mon_allow_pool_delete":"true"}"#);
        // Another cluster's command ends the session.
        let fsid = uuid::Uuid::from_u128(99);
        peer.send(Command { fsid, command: vec!["{}".into()], input: Data::new() }).await;
        assert!(peer.receive().await.is_none());
    });
}

#[test]
fn requests_of_another_cluster_end_the_session() {
    with_monitor(|core| async move {
        let fsid = uuid::Uuid::from_u128(99);
        let mut peer = Peer::client(&core).await;
        peer.send(PoolOp { fsid, ..pool_op(PoolOpKind::CREATE, 0, "p") }).await;
        assert!(peer.receive().await.is_none());
        let mut peer = Peer::client(&core).await;
        peer.send(StatFs { version: 0, fsid, pool: None }).await;
        assert!(peer.receive().await.is_none());
        let mut peer = Peer::client(&core).await;
        let pools = peer.command(json!({"prefix": "osd pool ls", "format": "json"})).await;
        assert_eq!(pools, "[]");
    });
}

fn boot(id: i32) -> OsdBoot {
    OsdBoot {
        fsid: FSID,
        osd: id,
        uuid: osd_uuid(id),
        epoch: Epoch(0),
        public_addrs: osd_addrs(id),
        metadata: BTreeMap::new(),
    }
}

async fn is_up(peer: &mut Peer, id: i32) -> bool {
    let dump = peer.command(json!({"prefix": "osd dump", "format": "json"})).await;
    let dump: Value = serde_json::from_slice(&dump).unwrap();
    dump["osds"][usize::try_from(id).unwrap()]["up"] == 1
}

#[test]
fn an_osd_is_up_while_it_is_heard() {
    with_monitor(|core| async move {
        let mut client = Peer::client(&core).await;
        let mut osd = Peer::osd(&core, 0).await;
        osd.subscribe("osdmap", 0, false).await;
        assert!(osd.receive().await.is_some());
        osd.send(boot(0)).await;
        let Some(Body::OsdMapMessage(_)) = osd.receive().await else { panic!("no map") };
        assert!(is_up(&mut client, 0).await && !is_up(&mut client, 1).await);
        // Beacons keep it up, silence does not.
        for _ in 0..10 {
            core.sleep(Duration::from_secs(5)).await;
            osd.send(OsdBeacon { osd: 0, epoch: Epoch(2), oldest_needed: Epoch(2) }).await;
        }
        assert!(is_up(&mut client, 0).await);
        core.sleep(Duration::from_secs(30)).await;
        assert!(!is_up(&mut client, 0).await);
        // It boots again on the same session, and the end of the session takes it down at once.
        osd.send(boot(0)).await;
        core.sleep(Duration::from_secs(1)).await;
        assert!(is_up(&mut client, 0).await);
        drop(osd);
        core.sleep(Duration::from_secs(1)).await;
        assert!(!is_up(&mut client, 0).await);
        // A second session of the same OSD is not hurt by the end of the first.
        let mut old = Peer::osd(&core, 1).await;
        old.send(boot(1)).await;
        let mut new = Peer::osd(&core, 1).await;
        new.send(OsdBoot { public_addrs: osd_addrs(7), ..boot(1) }).await;
        core.sleep(Duration::from_secs(1)).await;
        drop(old);
        core.sleep(Duration::from_secs(1)).await;
        assert!(is_up(&mut client, 1).await);
        // A client cannot speak for an OSD, nor one OSD for another.
        client.send(boot(0)).await;
        assert!(client.receive().await.is_none());
        new.send(OsdBeacon { osd: 0, epoch: Epoch(2), oldest_needed: Epoch(2) }).await;
        assert!(new.receive().await.is_none());
    });
}

#[test]
fn an_osd_that_comes_back_elsewhere_is_down_for_an_epoch() {
    with_monitor(|core| async move {
        let mut old = Peer::osd(&core, 1).await;
        old.send(boot(1)).await;
        core.sleep(Duration::from_secs(1)).await;
        let mut client = Peer::client(&core).await;
        client.subscribe("osdmap", 0, false).await;
        let mut map = osd_map_of(&mut client).await;
        assert!(map.is_up(1));
        let mut new = Peer::osd(&core, 1).await;
        new.send(OsdBoot { public_addrs: osd_addrs(7), ..boot(1) }).await;
        let mut seen = Vec::new();
        while !(map.is_up(1) && map.osd(1).unwrap().client_addrs == osd_addrs(7)) {
            let Some(Body::OsdMapMessage(maps)) = client.receive().await else { panic!("no map") };
            for bytes in maps.incrementals.into_values() {
                map = map.apply(&decode_exact("increment", bytes).unwrap()).unwrap();
                seen.push(map.is_up(1));
            }
        }
        assert_eq!(seen, [false, true], "clients must see that it was gone");
        // Saying the same again changes nothing.
        new.send(OsdBoot { public_addrs: osd_addrs(7), ..boot(1) }).await;
        assert!(client.receive_soon(Duration::from_secs(1)).await.is_none());
    });
}

#[test]
fn an_osd_that_is_up_stays_so_over_a_restart_of_the_monitor() {
    let (sim, disk) = world(3);
    make(&sim, &disk);
    spawn(&sim, &disk);
    sim.run(CLIENT, |core| async move {
        let mut osd = Peer::osd(&core, 0).await;
        osd.send(boot(0)).await;
        core.sleep(Duration::from_secs(1)).await;
        // Kept open until the monitor is gone.
        std::mem::forget(osd);
    });
    sim.kill(MON);
    disk.crash();
    spawn(&sim, &disk);
    sim.run(CLIENT, |core| async move {
        let mut osd = Peer::osd(&core, 0).await;
        for _ in 0..10 {
            osd.send(OsdBeacon { osd: 0, epoch: Epoch(2), oldest_needed: Epoch(2) }).await;
            core.sleep(Duration::from_secs(5)).await;
        }
        let mut client = Peer::client(&core).await;
        assert!(is_up(&mut client, 0).await);
        drop(osd);
        core.sleep(Duration::from_secs(1)).await;
        assert!(!is_up(&mut client, 0).await, "the session was tied to it by its beacons");
    });
}

#[test]
fn garbage_and_half_open_connections_do_no_harm() {
    let (sim, disk) = world(4);
    make(&sim, &disk);
    spawn(&sim, &disk);
    sim.run(CLIENT, |core| async move {
        let mut held = Vec::new();
        for number in 0..20_u64 {
            let mut stream = core.connect(mon_address()).await.unwrap();
            let garbage: Vec<u8> = (0..number * 50).map(|_| core.random_u64() as u8).collect();
            let mut chunk = if number % 2 == 0 {
                b"ceph v2\n\x10\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()
            } else {
                Vec::new()
            };
            chunk.extend(garbage);
            if !chunk.is_empty() {
                drop(stream.writer.write_all(vec![chunk.into()]).await);
            }
            held.push(stream);
        }
        core.sleep(Duration::from_secs(1)).await;
        let mut peer = Peer::client(&core).await;
        peer.command(json!({"prefix": "status"})).await;
        // Those that never finish their handshake are closed.
        core.sleep(Duration::from_secs(11)).await;
        for stream in &mut held {
            while let Ok(chunk) = stream.reader.read().await {
                if chunk.is_empty() {
                    break;
                }
            }
        }
        peer.command(json!({"prefix": "status"})).await;
    });
}

#[test]
fn a_failed_log_stops_the_monitor_with_the_reason() {
    let (sim, disk) = world(5);
    make(&sim, &disk);
    let broken = disk.clone();
    let failed = std::rc::Rc::new(std::cell::RefCell::new(String::new()));
    let seen = failed.clone();
    let core = sim.core(MON);
    core.clone().spawn(rt::Group::Client, "mon", async move {
        let handle = start(core, disk).await.unwrap();
        *seen.borrow_mut() = handle.failed().await.to_string();
    });
    sim.run(CLIENT, |core| async move {
        core.sleep(Duration::from_secs(1)).await;
        let mut peer = Peer::client(&core).await;
        peer.command(json!({"prefix": "osd set", "key": "noout"})).await;
        broken.fail_writes(0..16 << 20);
        let answer = peer.try_command(json!({"prefix": "osd unset", "key": "noout"})).await;
        assert!(answer.is_none(), "nothing is promised that is not durable");
        core.sleep(Duration::from_secs(1)).await;
    });
    assert!(failed.borrow().contains("write of"), "{}", failed.borrow());
}
