//! What clients see of a running OSD.

mod cluster;

use std::rc::Rc;
use std::time::Duration;

use cluster::client::{op, read, write};
use cluster::late_store::LateStore;
use cluster::{Client, POOL, start, until, with_monitor, with_osd, within};
use store::{Keep, MemStore, ObjectStore, Pattern, StoreError};
use wire::msg::{Op, OpArgs, OpCode, OpFlags, RequestFlags, Severity};
use wire::osdmap::PoolFlags;
use wire::types::{Epoch, HObject, PgId, ShardPgId, SnapId, UTime};

const MIB: u64 = 1 << 20;
const SHORT: Duration = Duration::from_millis(500);

fn memory() -> Rc<dyn ObjectStore> {
    Rc::new(MemStore::new(256 * MIB))
}

#[test]
fn put_get_stat_list_remove() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        for number in 0..40 {
            let reply = client.run(&format!("o{number}"), vec![write(OpCode::WRITE_FULL, 0, b"hello")]).await;
            assert_eq!((reply.result, reply.results), (0, vec![0]));
            assert_ne!(reply.replay_version.version, 0);
            assert_eq!(reply.user_version, reply.replay_version.version);
        }
        assert_eq!(client.read("o7").await, Ok(b"hello".to_vec()));
        assert_eq!(client.read("absent").await, Err(-2));
        let namespaced = client.request_in("space", "o7", vec![write(OpCode::WRITE, 2, b"x")]);
        assert_eq!(client.ask(&namespaced).await.result, 0);
        for count in [1, 3, 1024] {
            let mut names: Vec<String> =
                client.list("", count).await.into_iter().map(|(_, name)| name).collect();
            names.sort();
            let mut expected: Vec<String> = (0..40).map(|number| format!("o{number}")).collect();
            expected.sort();
            assert_eq!(names, expected, "pages of {count}");
            assert_eq!(client.list("space", count).await, [("space".to_owned(), "o7".to_owned())]);
            assert_eq!(client.list("\x01", count).await.len(), 41);
        }
        assert_eq!(client.run("o7", vec![op(OpCode::DELETE)]).await.result, 0);
        assert_eq!(client.read("o7").await, Err(-2));
        assert_eq!(client.list("", 1024).await.len(), 39);
        let outside = client.list_request(3, &HObject::hash_start(POOL, 0), 10, "");
        assert_eq!(client.ask(&outside).await.result, -22);
    });
}

#[test]
fn replies_look_like_real_ones() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        client.run("x", vec![write(OpCode::WRITE_FULL, 0, b"0123456789")]).await;
        let mut request = client.request(
            "x",
            vec![Op::new(OpCode::READ, OpArgs::extent(8, 100), bytes::Bytes::new()), op(OpCode::STAT)],
        );
        request.flags = request.flags.with(RequestFlags(0x40_0000));
        let reply = client.ask(&request).await;
        assert_eq!(reply.flags, 0x40_0015);
        assert_eq!(reply.ops[0].args(), OpArgs::extent(8, 2));
        assert_eq!(reply.ops[0].data.to_bytes(), b"89"[..]);
        assert_eq!(reply.ops[1].data.len(), 16);
        assert_eq!((reply.attempt, reply.pg, &reply.object[..]), (0, request.pg.pg, &b"x"[..]));
        // Refused before execution: no ACK.
        request.snap = SnapId::DIR;
        let reply = client.ask(&request).await;
        assert_eq!((reply.result, reply.flags, reply.results), (-22, 0x40_0014, vec![0, 0]));
    });
}

#[test]
fn no_answer_leaves_before_what_it_shows_is_durable() {
    let store = Rc::new(LateStore::new(MemStore::new(64 * MIB)));
    with_osd(store.clone(), async move |world| {
        let client = world.client(4100).await;
        client.run("old", vec![write(OpCode::WRITE, 0, b"old")]).await;
        store.hold();
        let held = [
            client.send(&client.request("x", vec![write(OpCode::WRITE, 0, b"new")])),
            client.send(&client.request("x", vec![read()])),
            client.send(&client.request("old", vec![op(OpCode::DELETE)])),
            client.send(&client.request("old", vec![read()])),
            client.send(&client.request("x", vec![op(OpCode::GETXATTRS)])),
        ];
        // The listing keeps no order with them, so it comes when they are under way.
        client.listen(SHORT).await;
        let seed = client.request("x", vec![]).pg.pg.seed;
        let listing = client.send(&client.list_request(seed, &HObject::minimum(), 10, ""));
        let free = client.send(&client.request("other", vec![read()]));
        client.listen(SHORT).await;
        assert!(client.reply_to(free).is_some(), "an object nobody writes is read at once");
        for tid in held.into_iter().chain([listing]) {
            assert!(client.reply_to(tid).is_none(), "request {tid} was answered too early");
        }
        store.release();
        assert_eq!(client.wait(held[0]).await.result, 0);
        assert_eq!(client.wait(held[1]).await.ops[0].data.to_bytes(), b"new"[..]);
        assert_eq!(client.wait(held[2]).await.result, 0);
        assert_eq!(client.wait(held[3]).await.result, -2);
        client.wait(held[4]).await;
        assert_eq!(client.wait(listing).await.result, 1);
    });
}

#[test]
fn requests_on_one_object_run_in_order() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        let mut sent = Vec::new();
        for number in 0..200u8 {
            let name = format!("o{}", number % 3);
            sent.push((client.send(&client.request(&name, vec![write(OpCode::APPEND, 0, &[number])])), None));
            sent.push((client.send(&client.request(&name, vec![read()])), Some(number)));
        }
        for (tid, number) in sent {
            let reply = client.wait(tid).await;
            if let Some(number) = number {
                let expected: Vec<u8> = (0..=number).filter(|one| one % 3 == number % 3).collect();
                assert_eq!(reply.ops[0].data.to_bytes(), expected);
            }
        }
    });
}

#[test]
fn a_request_sent_again_is_answered_and_not_repeated() {
    let store = Rc::new(LateStore::new(MemStore::new(64 * MIB)));
    with_osd(store.clone(), async move |world| {
        let client = world.client(4100).await;
        let append = client.request("x", vec![write(OpCode::APPEND, 0, b"ab")]);
        let first = client.ask(&append).await;
        let failed = client.ask(&client.request("y", vec![op(OpCode::DELETE)])).await;
        assert_eq!(failed.result, -2);
        // The same client on a new connection, with the same numbers.
        client.pump.close();
        let again = world.client(4100).await;
        let repeated = again.ask(&append).await;
        assert_eq!(
            (repeated.result, repeated.replay_version, repeated.user_version),
            (0, first.replay_version, first.user_version)
        );
        assert_eq!(again.ask(&again.request("y", vec![op(OpCode::DELETE)])).await.result, -2);
        again.start_at(100);
        assert_eq!(again.read("x").await, Ok(b"ab".to_vec()));
        // Sent again while the first is not durable: both wait, it happens once.
        store.hold();
        again.start_at(200);
        let one = again.send(&again.request("x", vec![write(OpCode::APPEND, 0, b"c")]));
        again.start_at(200);
        let two = again.send(&again.request("x", vec![write(OpCode::APPEND, 0, b"c")]));
        assert_eq!(one, two);
        again.listen(SHORT).await;
        assert!(again.reply_to(one).is_none());
        store.release();
        let versions = (again.wait(one).await.replay_version, again.wait(one).await.replay_version);
        assert_eq!(versions.0, versions.1);
        assert_eq!(again.read("x").await, Ok(b"abc".to_vec()));
        // Another client may use the same numbers.
        let other = world.client(4200).await;
        other.ask(&append).await;
        assert_eq!(again.read("x").await, Ok(b"abcab".to_vec()));
    });
}

#[test]
fn maps_go_to_clients_that_are_behind_and_are_waited_for_when_ahead() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        client.run("x", vec![write(OpCode::WRITE, 0, b"a")]).await;
        assert_eq!(client.told_epoch(), None);
        world.monitor.change(|draft| draft.osds[1].xinfo.old_weight = 1);
        let newest = world.monitor.map().epoch;
        until(&world.core, "the map came", || world.osd.osd().maps.epoch() == newest).await;
        // Served although it is behind, because nothing changed for the group; and told once.
        assert_eq!(client.read("x").await, Ok(b"a".to_vec()));
        assert_eq!(client.told_epoch(), Some(newest));
        assert_eq!(client.told.borrow()[0].incrementals.keys().collect::<Vec<_>>(), [&newest]);
        client.read("x").await.expect("still there");
        assert_eq!(client.told.borrow().len(), 1);
        // Ahead: waits until the map comes, and so do those behind it.
        world.monitor.set_mute(true);
        world.monitor.change(|draft| draft.osds[1].xinfo.old_weight = 2);
        *client.map.borrow_mut() = world.monitor.map();
        let tids = [
            client.send(&client.request("x", vec![read()])),
            client.send(&client.request("y", vec![read()])),
        ];
        client.listen(SHORT).await;
        assert!(tids.iter().all(|tid| client.reply_to(*tid).is_none()));
        world.monitor.set_mute(false);
        assert_eq!(client.wait(tids[0]).await.epoch, world.monitor.map().epoch);
        assert_eq!(client.wait(tids[1]).await.result, -2);
    });
}

#[test]
fn what_is_not_here_is_dropped_and_its_sender_told_of_newer_maps() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        world.monitor.change(|draft| draft.osds[1].xinfo.old_weight = 1);
        let newest = world.monitor.map().epoch;
        until(&world.core, "the map came", || world.osd.osd().maps.epoch() == newest).await;
        let mut wrong_hash = client.request("x", vec![read()]);
        wrong_hash.hash ^= 1;
        let mut wrong_pool = client.request("x", vec![read()]);
        wrong_pool.pg = ShardPgId::replicated(PgId::new(9, 0));
        let mut wrong_group = client.request("x", vec![read()]);
        wrong_group.pg = ShardPgId::replicated(PgId::new(POOL, 4000));
        let tids = [&wrong_hash, &wrong_pool, &wrong_group].map(|request| client.send(request));
        client.listen(SHORT).await;
        assert!(tids.iter().all(|tid| client.reply_to(*tid).is_none()));
        assert_eq!(client.told_epoch(), Some(newest));
        assert_eq!(client.read("x").await, Err(-2));
    });
}

#[test]
fn a_client_that_must_resend_is_left_to_it() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        world.monitor.change(|draft| {
            let next = draft.epoch;
            draft.pools.get_mut(&POOL).expect("the pool").last_force_op_resend = next;
        });
        let newest = world.monitor.map().epoch;
        until(&world.core, "the map came", || world.osd.osd().maps.epoch() == newest).await;
        let old = client.send(&client.request("x", vec![read()]));
        client.listen(SHORT).await;
        assert!(client.reply_to(old).is_none());
        *client.map.borrow_mut() = world.monitor.map();
        assert_eq!(client.read("x").await, Err(-2));
    });
}

#[test]
fn blocked_clients_are_refused() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        client.run("x", vec![write(OpCode::WRITE, 0, b"a")]).await;
        world.monitor.change(|draft| {
            let blocked = wire::types::Addr::any("10.0.0.1:0".parse().expect("an address"), 4101);
            draft.blocklist.0.insert(blocked, UTime { seconds: u32::MAX, nanoseconds: 0 });
        });
        let newest = world.monitor.map().epoch;
        until(&world.core, "the map came", || world.osd.osd().maps.epoch() == newest).await;
        assert_eq!(client.read("x").await, Err(-108));
        assert_eq!(world.client(4200).await.read("x").await, Ok(b"a".to_vec()));
    });
}

#[test]
fn a_full_store_refuses_growth_and_nothing_else() {
    let store = Rc::new(LateStore::new(MemStore::new(64 * MIB)));
    with_osd(store.clone(), async move |world| {
        let client = world.client(4100).await;
        client.run("x", vec![write(OpCode::WRITE, 0, b"0123")]).await;
        store.available.set(Some(MIB));
        until(&world.core, "it is noticed", || world.osd.osd().store_full.get()).await;
        assert_eq!(client.run("y", vec![write(OpCode::WRITE, 0, b"a")]).await.result, -28);
        assert_eq!(client.run("x", vec![write(OpCode::APPEND, 0, b"a")]).await.result, -28);
        assert_eq!(client.run("x", vec![write(OpCode::WRITE, 0, b"9")]).await.result, 0);
        assert_eq!(client.read("x").await, Ok(b"9123".to_vec()));
        let mut forced = client.request("y", vec![write(OpCode::WRITE, 0, b"a")]);
        forced.flags = forced.flags.with(RequestFlags::FULL_FORCE);
        assert_eq!(client.ask(&forced).await.result, 0);
        assert_eq!(client.run("x", vec![op(OpCode::DELETE)]).await.result, 0);
        store.available.set(None);
        until(&world.core, "it is noticed", || !world.osd.osd().store_full.get()).await;
        assert_eq!(client.run("z", vec![write(OpCode::WRITE, 0, b"a")]).await.result, 0);
    });
}

#[test]
fn a_write_refused_for_want_of_space_stays_refused_when_it_is_sent_again() {
    let store = Rc::new(LateStore::new(MemStore::new(64 * MIB)));
    with_osd(store.clone(), async move |world| {
        let client = world.client(4100).await;
        let no_space = || StoreError::NoSpace("test".into());
        let append = || write(OpCode::APPEND, 0, b"a");
        // By the store itself, then by the OSD that sees it nearly full; each time another request follows at once.
        for full in [false, true] {
            store.available.set(full.then_some(MIB));
            until(&world.core, "it is noticed", || world.osd.osd().store_full.get() == full).await;
            if !full {
                store.refuse.borrow_mut().push_back(no_space());
            }
            let refused = client.send(&client.request("x", vec![append()]));
            let taken = client.run("x", vec![write(OpCode::WRITE_FULL, 0, b"")]).await;
            assert_eq!((client.wait(refused).await.result, taken.result), (-28, 0));
            // There is room again and the connection breaks before the answer came: applied now, the append would
            // come after a request that the client sent later.
            store.available.set(None);
            until(&world.core, "it is noticed", || !world.osd.osd().store_full.get()).await;
            client.start_at(refused);
            assert_eq!(client.run("x", vec![append()]).await.result, -28);
            client.start_at(refused + 10);
            assert_eq!(client.read("x").await, Ok(Vec::new()));
        }
        // If not even that can be noted, nothing is: the request may be tried again, and others go on.
        store.refuse.borrow_mut().extend([no_space(), no_space()]);
        let refused = client.send(&client.request("x", vec![append()]));
        assert_eq!(client.wait(refused).await.result, -28);
        client.start_at(refused);
        assert_eq!(client.run("x", vec![append()]).await.result, 0);
        assert_eq!(client.read("x").await, Ok(b"a".to_vec()));
    });
}

#[test]
fn the_monitor_is_told_while_the_store_refuses_for_want_of_space() {
    let store = Rc::new(LateStore::new(MemStore::new(64 * MIB)));
    with_osd(store.clone(), async move |world| {
        let client = world.client(4100).await;
        until(&world.core, "all is well", || world.monitor.alerts() == Some(Vec::new())).await;
        store.refuse.borrow_mut().push_back(StoreError::NoSpace("no room for keys".into()));
        assert_eq!(client.run("x", vec![write(OpCode::APPEND, 0, b"a")]).await.result, -28);
        let told = || world.monitor.alerts().is_some_and(|alerts| alerts.len() == 1);
        until(&world.core, "it is told", told).await;
        let alert = world.monitor.alerts().and_then(|alerts| alerts.first().cloned()).expect("one");
        assert_eq!((alert.code.as_str(), alert.severity), ("OSD_STORE_FULL", Severity::Error));
        assert!(alert.text.contains("full") && alert.text.contains("no room for keys"), "{alert:?}");
        // Another monitor, or the same after a restart, is told too.
        world.monitor.forget_alerts();
        world.monitor.drop_sessions();
        until(&world.core, "it is told again", told).await;
        world.core.sleep(Duration::from_secs(60)).await;
        until(&world.core, "it is over", || world.monitor.alerts() == Some(Vec::new())).await;
    });
}

#[test]
fn a_full_pool_holds_growth_back_unless_asked_for_an_error() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        client.run("x", vec![write(OpCode::WRITE, 0, b"0123")]).await;
        let set = |flags: PoolFlags| {
            world.monitor.change(move |draft| {
                let pool = draft.pools.get_mut(&POOL).expect("the pool");
                pool.flags = PoolFlags(PoolFlags::HASHPSPOOL.0 | flags.0);
            });
            let newest = world.monitor.map().epoch;
            *client.map.borrow_mut() = world.monitor.map();
            newest
        };
        let newest = set(PoolFlags::FULL);
        until(&world.core, "the map came", || world.osd.osd().maps.epoch() == newest).await;
        let mut growing = client.request("x", vec![write(OpCode::APPEND, 0, b"a")]);
        let silent = client.send(&growing);
        client.listen(SHORT).await;
        assert!(client.reply_to(silent).is_none());
        growing.flags = growing.flags.with(RequestFlags::FULL_TRY);
        assert_eq!(client.ask(&growing).await.result, -28);
        set(PoolFlags(PoolFlags::FULL.0 | PoolFlags::FULL_QUOTA.0));
        assert_eq!(
            client
                .ask(&{
                    let mut request = client.request("x", vec![write(OpCode::APPEND, 0, b"a")]);
                    request.flags = request.flags.with(RequestFlags::FULL_TRY);
                    request
                })
                .await
                .result,
            -122
        );
        assert_eq!(client.run("x", vec![op(OpCode::DELETE)]).await.result, 0);
    });
}

#[test]
fn a_client_that_sends_too_much_is_not_read() {
    let store = Rc::new(LateStore::new(MemStore::new(64 * MIB)));
    with_osd(store.clone(), async move |world| {
        let client = world.client(4100).await;
        store.hold();
        let tids: Vec<u64> = (0..1000)
            .map(|number| {
                client.send(&client.request(&format!("o{number}"), vec![write(OpCode::WRITE, 0, &[7; 1000])]))
            })
            .collect();
        client.listen(SHORT).await;
        assert_eq!(world.osd.osd().tracker.in_flight(), 256);
        // Others are served meanwhile.
        let other = world.client(4200).await;
        assert_eq!(other.read("nothing").await, Err(-2));
        store.release();
        for tid in tids {
            assert_eq!(client.wait(tid).await.result, 0);
        }
    });
}

#[test]
fn the_largest_object_can_be_read_at_once() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        let last = 128 * MIB - 1;
        assert_eq!(client.run("x", vec![write(OpCode::WRITE, last, b"z")]).await.result, 0);
        let all = Op::new(OpCode::READ, OpArgs::extent(0, 128 * MIB), bytes::Bytes::new());
        let reply = client.run("x", vec![all.clone()]).await;
        assert_eq!((reply.result, reply.ops[0].data.len() as u64), (0, 128 * MIB));
        assert_eq!(client.run("x", vec![all.clone(), all]).await.result, -90);
        assert_eq!(client.read("nothing").await, Err(-2));
    });
}

#[test]
fn a_failed_store_ends_everything_and_answers_nothing() {
    let store = Rc::new(LateStore::new(MemStore::new(64 * MIB)));
    with_osd(store.clone(), async move |world| {
        let client = world.client(4100).await;
        store.refuse.borrow_mut().push_back(StoreError::Down("the device burnt".into()));
        let tid = client.send(&client.request("x", vec![write(OpCode::WRITE, 0, b"a")]));
        within(&world.core, client.pump.closed.wait()).await;
        assert!(client.reply_to(tid).is_none());
        assert!(within(&world.core, world.osd.failed()).await.contains("burnt"));
        within(&world.core, world.osd.stop()).await;
    });
}

#[test]
fn a_store_that_fails_late_leaves_nobody_waiting() {
    let store = Rc::new(LateStore::new(MemStore::new(64 * MIB)));
    with_osd(store.clone(), async move |world| {
        let client = world.client(4100).await;
        store.hold();
        let mut tids = Vec::new();
        for number in 0..20 {
            let name = format!("o{}", number % 3);
            tids.push(client.send(&client.request(&name, vec![write(OpCode::WRITE, 0, b"a")])));
            tids.push(client.send(&client.request(&name, vec![read()])));
        }
        client.listen(SHORT).await;
        let seed = client.request("o0", vec![]).pg.pg.seed;
        tids.push(client.send(&client.list_request(seed, &HObject::minimum(), 10, "")));
        client.listen(SHORT).await;
        store.doom.replace(Some(StoreError::Down("the device burnt".into())));
        store.release();
        within(&world.core, client.pump.closed.wait()).await;
        assert!(tids.iter().all(|tid| client.reply_to(*tid).is_none()));
        within(&world.core, world.osd.stop()).await;
        assert_eq!(world.osd.osd().tracker.in_flight(), 0);
    });
}

#[test]
fn deleted_pools_are_emptied() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        for number in 0..300 {
            client.run(&format!("o{number}"), vec![write(OpCode::WRITE, 0, b"a")]).await;
        }
        until(&world.core, "statistics came", || {
            world
                .monitor
                .stats()
                .is_some_and(|stats| stats.pools.get(&POOL).is_some_and(|p| p.objects == 300))
        })
        .await;
        let ahead = client.request("o1", vec![read()]);
        world.monitor.change(|draft| {
            draft.pools.remove(&POOL);
            draft.pool_names.remove(&POOL);
        });
        let newest = world.monitor.map().epoch;
        until(&world.core, "the map came", || world.osd.osd().maps.epoch() == newest).await;
        let tid = client.send(&ahead);
        client.listen(SHORT).await;
        assert!(client.reply_to(tid).is_none());
        assert_eq!(client.told_epoch(), Some(newest));
        for _ in 0..1000 {
            if world.store.collections().await.expect("collections").len() == 1 {
                return;
            }
            world.core.sleep(Duration::from_millis(10)).await;
        }
        panic!("the collections are still there");
    });
}

#[test]
fn a_restarted_osd_has_its_data_and_remembers_its_requests() {
    with_monitor(3, async |core, monitor| {
        let store = Rc::new(MemStore::new(64 * MIB));
        let osd = start(&core, 0, store.clone()).await.expect("starts");
        within(&core, osd.up()).await;
        let client = Client::connect(&core, &monitor, &osd.address(), 4100).await;
        let append = client.request("x", vec![write(OpCode::APPEND, 0, b"ab")]);
        let first = client.ask(&append).await;
        let before = osd.osd().maps.epoch();
        within(&core, osd.stop()).await;

        let osd = start(&core, 0, Rc::new(store.reopen())).await.expect("starts again");
        assert_eq!(osd.osd().maps.epoch(), before);
        within(&core, osd.up()).await;
        assert!(osd.osd().maps.epoch() > before);
        let client = Client::connect(&core, &monitor, &osd.address(), 4100).await;
        let mut append = append;
        append.epoch = osd.osd().maps.epoch();
        assert_eq!(client.ask(&append).await.replay_version, first.replay_version);
        assert_eq!(client.read("x").await, Ok(b"ab".to_vec()));
        within(&core, osd.stop()).await;

        // Another's store is refused.
        let mut other = cluster::config(0);
        other.osd_uuid = uuid::Uuid::from_u128(5);
        let refused = osd::Osd::start(core.clone(), Rc::new(store.reopen()), other).await;
        assert!(refused.is_err_and(|error| error.to_string().contains("belongs to osd.0")));
    });
}

#[test]
fn an_osd_that_the_map_calls_down_asks_to_be_up_again() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        client.run("x", vec![write(OpCode::WRITE, 0, b"a")]).await;
        let boots = world.monitor.boots();
        world.monitor.change(|draft| {
            let osd = &mut draft.osds[0];
            osd.state = osd.state.without(wire::osdmap::OsdState::UP);
        });
        until(&world.core, "it booted again", || world.monitor.boots() > boots).await;
        within(&world.core, world.osd.up()).await;
        *client.map.borrow_mut() = world.monitor.map();
        assert_eq!(client.read("x").await, Ok(b"a".to_vec()));
        // And it finds its monitor again.
        world.monitor.drop_sessions();
        world.core.sleep(Duration::from_secs(2)).await;
        world.monitor.change(|draft| draft.osds[1].xinfo.old_weight = 1);
        let newest = world.monitor.map().epoch;
        until(&world.core, "the map came", || world.osd.osd().maps.epoch() == newest).await;
    });
}

#[test]
fn maps_with_gaps_are_made_up_for() {
    with_osd(memory(), async |world| {
        world.monitor.set_mute(true);
        for number in 0..60 {
            world.monitor.change(|draft| draft.osds[1].xinfo.old_weight = number);
        }
        let behind = world.client(4100).await;
        behind.map.borrow_mut().epoch = world.osd.osd().maps.epoch();
        world.monitor.set_mute(false);
        let newest = world.monitor.map().epoch;
        until(&world.core, "the maps came", || world.osd.osd().maps.epoch() == newest).await;
        // More than fits one message of increments: the whole map.
        behind.read("x").await.expect_err("not there");
        assert_eq!(behind.told.borrow()[0].full.keys().collect::<Vec<_>>(), [&newest]);
        assert!(newest > Epoch(60));
    });
}

#[test]
fn commands_are_answered() {
    with_osd(memory(), async |world| {
        let client = world.client(4100).await;
        client.run("x", vec![write(OpCode::WRITE, 0, b"a")]).await;
        let tell = async |prefix: &str| client.tell(serde_json::json!({ "prefix": prefix })).await;
        let (result, _, table) = tell("get_command_descriptions").await;
        assert_eq!(result, 0);
        assert!(table.as_object().is_some_and(|all| all.len() > 10));
        assert_eq!(tell("version").await.2["release"], "pacific");
        assert_eq!(tell("status").await.2["state"], "active");
        assert_eq!(tell("perf dump").await.2["osd"]["op_w"], 1);
        assert_eq!(tell("dump_ops_in_flight").await.2["num_ops"], 0);
        assert_eq!(tell("dump_historic_ops").await.2["num_ops"], 1);
        assert_eq!(tell("dump_pgs").await.2.as_array().map(Vec::len), Some(8));
        assert_eq!(tell("sessions").await.2[0]["entity"], "client.4100");
        let (result, status, _) = tell("make tea").await;
        assert_eq!((result, status.as_str()), (-22, "unknown command prefix make tea"));
        let set = client
            .tell(
                serde_json::json!({ "prefix": "config set", "var": "osd_failsafe_full_ratio", "val": ["0"] }),
            )
            .await;
        assert_eq!(set.0, 0);
        assert_eq!(client.run("y", vec![write(OpCode::WRITE, 0, b"a")]).await.result, -28);
        let get =
            client.tell(serde_json::json!({ "prefix": "config get", "var": "osd_failsafe_full_ratio" }));
        assert_eq!(get.await.2["osd_failsafe_full_ratio"], "0");
        client.tell(serde_json::json!({ "prefix": "config unset", "var": "osd_failsafe_full_ratio" })).await;
        assert_eq!(client.run("y", vec![write(OpCode::WRITE, 0, b"a")]).await.result, 0);
        let refused = client.tell(
            serde_json::json!({ "prefix": "config set", "var": "osd_failsafe_full_ratio", "val": "2" }),
        );
        assert_eq!(refused.await.0, -22);
        let bench =
            client.tell(serde_json::json!({ "prefix": "bench", "count": 1 << 20, "size": "65536" })).await;
        assert_eq!((bench.0, bench.2["bytes_written"].clone()), (0, (1 << 20).into()));
    });
}

#[test]
fn one_seed_gives_one_history() {
    let run = || {
        with_monitor(11, async |core, monitor| {
            let osd = start(&core, 0, memory()).await.expect("starts");
            within(&core, osd.up()).await;
            let client = Client::connect(&core, &monitor, &osd.address(), 4100).await;
            for number in 0..50 {
                client
                    .send(&client.request(&format!("o{}", number % 7), vec![write(OpCode::APPEND, 0, b"x")]));
            }
            client.listen(SHORT).await;
            within(&core, osd.stop()).await;
        })
    };
    assert_eq!(run(), run());
}

#[test]
fn a_group_whose_import_was_cut_off_is_not_served() {
    with_monitor(7, async |core, monitor| {
        let store = Rc::new(MemStore::new(64 * MIB));
        let osd = start(&core, 0, store.clone()).await.expect("starts");
        within(&core, osd.up()).await;
        Client::connect(&core, &monitor, &osd.address(), 4100).await;
        within(&core, osd.stop()).await;
        let store = store.reopen();
        let collections = store.collections().await.expect("lists");
        let (collection, ..) = *collections.iter().find(|(one, ..)| one.pool == POOL).expect("a group");
        let value = bytes::Bytes::new();
        let ops = vec![store::Op::SetCollectionMeta { collection, value }];
        store.submit(store::Transaction { ops }).durable.await.expect("taken");
        let refused = start(&core, 0, Rc::new(store)).await.err().expect("it does not start").to_string();
        let group = format!("{POOL}.{:x}", collection.seed);
        assert!(refused.contains(&group) && refused.contains("remove-pg"), "{refused}");
    });
}

#[test]
fn what_clients_say_of_their_data_reaches_the_store() {
    let store = Rc::new(LateStore::new(MemStore::new(64 * MIB)));
    with_osd(store.clone(), async move |world| {
        let client = world.client(4100).await;
        let with = |op: Op, flags: OpFlags| op.with_flags(flags);
        store.hints.take();
        let data = |offset| write(OpCode::WRITE, offset, b"data");
        client.run("x", vec![data(0), with(data(10), OpFlags::FADVISE_WILL_NEED)]).await;
        client.run("x", vec![with(data(0), OpFlags::FADVISE_DONT_NEED)]).await;
        client.run("x", vec![data(0)]).await;
        client.run("x", vec![with(read(), OpFlags::FADVISE_SEQUENTIAL)]).await;
        client
            .run("x", vec![with(read(), OpFlags::FADVISE_RANDOM), with(read(), OpFlags::FADVISE_NO_CACHE)])
            .await;
        client.run("x", vec![read()]).await;
        let (reads, writes) = store.hints.take();
        let keeps: Vec<Keep> = writes.iter().map(|hints| hints.keep).collect();
        assert_eq!(keeps, [Keep::Long, Keep::Not, Keep::Usual]);
        let said: Vec<_> = reads.iter().map(|hints| (hints.keep, hints.pattern)).collect();
        let usual = Keep::Usual;
        let expected = [
            (usual, Pattern::Sequential),
            (usual, Pattern::Random),
            (Keep::Not, Pattern::Unknown),
            (usual, Pattern::Unknown),
        ];
        assert_eq!(said, expected);
    });
}

#[test]
fn memory_is_told_and_its_target_changes_while_the_osd_runs() {
    let store = Rc::new(LateStore::new(MemStore::new(64 * MIB)));
    with_osd(store.clone(), async move |world| {
        let client = world.client(4100).await;
        let target = || store.target.get().map(|target| target.bytes);
        assert_eq!(target(), None, "without a bound by default");
        let set = async |value: &str| {
            let command =
                serde_json::json!({ "prefix": "config set", "var": "osd_memory_target", "val": value });
            client.tell(command).await
        };
        assert_eq!((set("1000000000").await.0, target()), (0, Some(1_000_000_000)));
        assert!(store.target.get().is_some_and(|target| target.above > 0 && target.sharers == 1));
        store.target_min.set(500_000_000);
        let (result, why, _) = set("1000").await;
        assert_eq!((result, why.as_str(), target()), (-22, "the least is more", Some(1_000_000_000)));
        assert_eq!(set("much").await.0, -22);
        let command = serde_json::json!({ "prefix": "config get", "var": "osd_memory_target" });
        assert_eq!(client.tell(command).await.2["osd_memory_target"], "1000000000");
        let dump = client.tell(serde_json::json!({ "prefix": "dump_mempools" })).await.2;
        assert!(dump["mempool"]["total"]["bytes"].is_u64(), "{dump}");
        assert!(dump["mempool"]["by_pool"]["buffer_anon"]["items"].is_u64(), "{dump}");
        let counters = client.tell(serde_json::json!({ "prefix": "perf dump" })).await.2;
        assert_eq!(counters["memory"]["target_bytes"], 1_000_000_000, "{counters}");
        client.tell(serde_json::json!({ "prefix": "config unset", "var": "osd_memory_target" })).await;
        assert_eq!(target(), None);
    });
}
