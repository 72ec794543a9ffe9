//! The log: what is written is remembered, across restarts, and bounded.

#![expect(clippy::expect_used, reason = "tests")]

mod world;

use pg::limits::DUPLICATES_MIN;
use pg::{Group, LogEntry, LogKind, OpReturn};
use wire::msg::{OpCode as O, RequestFlags};
use wire::types::{EVersion, Epoch};
use world::{World, attr, extent, now, op, write};

#[test]
fn writes_are_recognized_again_even_after_a_restart() {
    let mut world = World::new();
    let good = world.request("x", &[write(O::APPEND, 0, b"ab")]);
    let bad = world.request("y", &[op(O::DELETE)]);
    let mut vector = world.request("x", &[write(O::APPEND, 0, b"c"), extent(O::READ, 0, 0)]);
    vector.flags = RequestFlags::RETURN_VECTOR;
    let idle = world.request("z", &[extent(O::TRUNCATE, 0, 0)]);
    let replies: Vec<_> = [&good, &bad, &vector, &idle].map(|request| world.serve(request)).into();
    let unseen = world.request("x", &[write(O::APPEND, 0, b"ab")]);
    for round in 0..2 {
        for (request, reply) in [&good, &bad, &vector, &idle].into_iter().zip(&replies) {
            let recorded = world.group.duplicate(request).expect("remembered");
            assert_eq!(recorded.result, reply.result, "round {round}");
            assert_eq!(recorded.version, reply.versions.replay);
            assert_eq!(recorded.user_version, reply.versions.user);
        }
        let returns = &world.group.duplicate(&vector).expect("remembered").returns;
        assert_eq!(returns[1], OpReturn { value: 0, data: "abc".into() });
        assert!(world.group.duplicate(&unseen).is_none());
        let info = *world.group.info();
        world = world.restart();
        assert_eq!(*world.group.info(), info);
    }
    assert_eq!(world.serve(&unseen).versions.replay.version, 5);
}

#[test]
fn reads_are_not_logged() {
    let mut world = World::new();
    world.run("x", &[op(O::CREATE)]);
    let read = world.request("x", &[op(O::STAT)]);
    world.serve(&read);
    assert!(world.group.duplicate(&read).is_none());
    assert_eq!(world.group.info().last_update, EVersion::new(world::EPOCH, 1));
}

#[test]
fn a_request_the_store_refused_is_forgotten() {
    let mut world = World::new();
    let request = world.request("x", &[op(O::CREATE)]);
    world.serve(&request);
    world.group.forget(&request);
    assert!(world.group.duplicate(&request).is_none());
}

#[test]
fn enough_writes_are_remembered_and_no_more() {
    let mut world = World::new();
    let mut requests = Vec::new();
    for _ in 0..DUPLICATES_MIN + 10 {
        let request = world.request("x", &[attr(O::SETXATTR, "a", b"", (0, 0))]);
        world.serve(&request);
        requests.push(request);
    }
    assert!(requests[..10].iter().all(|request| world.group.duplicate(request).is_none()));
    assert!(requests[10..].iter().all(|request| world.group.duplicate(request).is_some()));
}

#[test]
fn versions_do_not_go_back_when_the_epoch_does() {
    let mut world = World::new();
    world.run("x", &[op(O::CREATE)]);
    let request = world.request("x", &[op(O::CREATE)]);
    let collection = world.group.collection();
    let before = now(pg::load_state(&*world.store, collection, &request.object)).expect("readable");
    let view = pg::ObjectView::new(world.store.clone(), collection, request.object.clone(), before);
    let mut execution = now(pg::execute(&request, view)).expect("up");
    let sealed = world.group.seal(Epoch(3), &request, &mut execution, before).expect("a write");
    assert_eq!(sealed.versions.replay, EVersion::new(world::EPOCH, 2));
}

#[test]
fn entries_survive_encoding_and_garbage_is_refused() {
    let mut world = World::new();
    let request = world.request("x", &[op(O::CREATE)]);
    let entry = LogEntry {
        kind: LogKind::Modify,
        version: EVersion::new(Epoch(4), 9),
        user_version: 8,
        last_user_version: 9,
        reqid: request.reqid,
        mtime: request.mtime,
        result: -5,
        returns: vec![OpReturn { value: 42, data: "x".into() }],
        object: request.object.clone(),
    };
    let bytes = entry.encode();
    assert_eq!(LogEntry::decode(bytes.clone()).expect("as written"), entry);
    for cut in 0..bytes.len() {
        assert!(LogEntry::decode(bytes.slice(..cut)).is_err());
    }
    assert!(Group::open(world.group.id(), "garbage".into(), Vec::new()).is_err());
}
