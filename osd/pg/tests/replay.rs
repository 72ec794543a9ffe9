//! Recorded requests of stock clients, run here, and compared with what stock OSDs answered.
//!
//! Left out is what this crate does not do yet (object classes, watches, snapshots) and, from then on, the objects
//! that it concerns.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pg::{GroupRange, ListQuery, Request, encode_page, hash_bits};
use serde_json::Value;
use store::{MemStore, ObjectId, ObjectStore};
use wire::msg::{Op, OpArgs, OpCode, OsdOp, OsdOpReply, Payload, RequestFlags};
use wire::msgr2::{Data, Message, MessageHeader};
use wire::types::{EntityName, PgId, SnapId};
use world::{World, now};

/// Groups of the pool that was recorded.
fn group_count(capture: &str) -> u32 {
    if matches!(capture, "python_ops" | "capi_ops") { 8 } else { 16 }
}

/// One request and its reply.
struct Exchange {
    what: String,
    capture: String,
    tid: u64,
    op: OsdOp,
    reply: OsdOpReply,
}

#[test]
fn answers_as_stock_osds_do() {
    let mut player = Player::default();
    let (mut compared, mut left_out) = (0, 0);
    for line in include_str!("traffic/osd_ops.jsonl").lines() {
        if player.play(&exchange(line)) { compared += 1 } else { left_out += 1 }
    }
    // So that a change of the rules above cannot quietly leave everything out.
    assert!(compared >= 150, "{compared} compared, {left_out} left out");
}

#[derive(Default)]
struct Player {
    worlds: BTreeMap<(String, PgId), World>,
    /// Objects whose state depends on what is not done here.
    unknown: BTreeSet<(String, PgId, Bytes)>,
    /// Versions of objects in the recording and here.
    versions: BTreeMap<(String, PgId, u64), u64>,
    /// The newest pair of each object.
    newest: BTreeMap<(String, PgId, Bytes), (u64, u64)>,
}

impl Player {
    /// Plays one exchange; whether it could be compared.
    fn play(&mut self, exchange: &Exchange) -> bool {
        let (op, pg) = (&exchange.op, exchange.op.pg.pg);
        let object = (exchange.capture.clone(), pg, op.object.clone());
        let left_out = |op: &Op| match op.code {
            OpCode::WATCH | OpCode::NOTIFY | OpCode::NOTIFY_ACK | OpCode::ROLLBACK => true,
            // Stock OSDs have more classes.
            OpCode::CALL => pg::Method::of(op).is_err() && exchange.reply.result != -95,
            _ => false,
        };
        let unsupported = op.ops.iter().any(left_out)
            || !op.snaps.is_empty()
            || !(op.snap == SnapId::HEAD || op.snap == SnapId::DIR);
        if unsupported || self.unknown.contains(&object) {
            self.unknown.insert(object);
            return false;
        }
        let world = self.worlds.entry((exchange.capture.clone(), pg)).or_insert_with(|| {
            World::of(MemStore::new(1 << 30), pg, hash_bits(pg.seed, group_count(&exchange.capture)))
        });
        let mut request = request(exchange);
        if let Some(&(theirs, ours)) = self.newest.get(&object) {
            request.ops.iter_mut().for_each(|op| translate_version(op, theirs, ours));
        }
        if op.ops.iter().any(|op| op.code.is_pg_op()) {
            let complete =
                !self.unknown.iter().any(|(capture, of, _)| *capture == exchange.capture && *of == pg);
            return complete && list(world, exchange, &request);
        }
        let answer = world.serve(&request);
        let what = &exchange.what;
        assert_eq!(answer.result, exchange.reply.result, "{what}");
        assert_eq!(answer.values, exchange.reply.results, "{what}");
        let outputs: Vec<Vec<u8>> = exchange.reply.ops.iter().map(|op| op.data.to_bytes().to_vec()).collect();
        assert_eq!(answer.data, outputs, "{what}");
        self.compare_versions(exchange, &answer);
        true
    }

    /// The group's history differs by what was left out, so versions are compared by what they stand for.
    fn compare_versions(&mut self, exchange: &Exchange, answer: &world::Reply) {
        let (what, reply, ours) = (&exchange.what, &exchange.reply, answer.versions);
        assert_eq!(ours.replay.version == 0, reply.replay_version.version == 0, "{what}");
        let of_group = reply.result == -2 && reply.replay_version.version != 0;
        assert_eq!(ours.user == 0, reply.user_version == 0 || of_group && ours.user == 0, "{what}");
        if reply.user_version == 0 || of_group {
            return;
        }
        let pg = exchange.op.pg.pg;
        let object = (exchange.capture.clone(), pg, exchange.op.object.clone());
        self.newest.insert(object, (reply.user_version, ours.user));
        let key = (exchange.capture.clone(), pg, reply.user_version);
        assert_eq!(*self.versions.entry(key).or_insert(ours.user), ours.user, "{what}");
        let same_as_replay = reply.bad_replay_version.version == reply.replay_version.version;
        assert_eq!(ours.bad_replay.version == ours.replay.version, same_as_replay, "{what}");
    }
}

/// A version that the client asserts, as far from the object's here as it was in the recording.
fn translate_version(op: &mut Op, theirs: u64, ours: u64) {
    if let OpArgs::AssertVersion { version } = op.args()
        && version != 0
    {
        let version = (version + ours).saturating_sub(theirs);
        *op = Op::new(op.code, OpArgs::AssertVersion { version }, op.data.clone());
    }
}

fn list(world: &World, exchange: &Exchange, request: &Request) -> bool {
    let bits = hash_bits(exchange.op.pg.pg.seed, group_count(&exchange.capture));
    let range = GroupRange::new(exchange.op.pg.pg, bits);
    let query = ListQuery::decode(&request.ops[0], &request.object.namespace, &range).expect("a cursor");
    let (all, next) =
        now(world.store.list(world.group.collection(), query.from.clone(), 1000)).expect("a listing");
    let entries: Vec<ObjectId> = all.into_iter().filter(|object| query.wants(object)).collect();
    let page = encode_page(&entries, next.as_ref(), &range);
    assert_eq!(page.data.concat(), exchange.reply.ops[0].data.to_bytes(), "{}", exchange.what);
    assert_eq!(exchange.reply.result, pg::END_OF_GROUP);
    true
}

fn request(exchange: &Exchange) -> Request {
    let op = &exchange.op;
    let target = op.target();
    Request {
        reqid: op.request_id(EntityName::client(4100), exchange.tid),
        caller: world::caller(4100),
        object: ObjectId {
            pool: target.pool,
            hash: target.hash,
            namespace: target.nspace,
            key: target.key,
            name: target.oid,
            snap: ObjectId::HEAD,
        },
        snap: op.snap,
        snap_seq: op.snap_seq,
        snaps: op.snaps.clone(),
        flags: RequestFlags(op.flags.0),
        mtime: op.mtime,
        ops: op.ops.clone(),
    }
}

fn exchange(line: &str) -> Exchange {
    let value: Value = serde_json::from_str(line).expect("JSON");
    let text = |key: &str| value[key].as_str().expect("a text").to_owned();
    let tid = value["tid"].as_u64().expect("a number");
    let capture = text("capture");
    let op = OsdOp::from_message(&message::<OsdOp>(tid, &text("op"), &text("data"))).expect("a request");
    let reply = OsdOpReply::from_message(&message::<OsdOpReply>(tid, &text("reply"), &text("output")))
        .expect("a reply");
    let codes: Vec<OpCode> = op.ops.iter().map(|op| op.code).collect();
    let what = format!("{capture} {tid}: {codes:?} on {:?}", op.object);
    Exchange { what, capture, tid, op, reply }
}

fn message<T: Payload>(tid: u64, front: &str, data: &str) -> Message {
    let header = MessageHeader {
        tid,
        kind: T::KIND,
        priority: 0,
        version: T::VERSION,
        compat_version: T::COMPAT,
        data_offset: 0,
    };
    Message { header, front: unhex(front), middle: Bytes::new(), data: Data::from(unhex(data)) }
}

fn unhex(text: &str) -> Bytes {
    let digit = |c: u8| char::from(c).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
