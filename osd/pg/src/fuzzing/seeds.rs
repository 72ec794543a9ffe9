//! Sound test cases to start from.

use bytes::Bytes;
use store::ObjectId;
use wire::codec::{Writer, encode_to_bytes};
use wire::msg::{Op, OpArgs, OpCode, OsdOp, Payload, RequestFlags};
use wire::types::{
    EVersion, EntityName, Epoch, HObject, ObjectLocator, PgId, RequestId, ShardPgId, SnapId, UTime,
};

use crate::{GroupInfo, LogEntry, LogKind, ObjectInfo, OpReturn};

/// Test cases that the entry of this name takes; none for some.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "pg_object_info" => vec![info().encode().to_vec()],
        "pg_log_entry" => vec![log_entry(1).encode().to_vec()],
        "pg_group_info" => vec![group_info().encode().to_vec()],
        "pg_group_open" => {
            let parts = [group_info().encode(), log_entry(1).encode(), log_entry(2).encode()];
            vec![parts.iter().flat_map(|part| [&[length(part)][..], part].concat()).collect()]
        }
        "pg_list_query" => {
            let cursor = HObject {
                oid: Bytes::from_static(b"name"),
                hash: 0x1000_0001,
                snap: SnapId::HEAD,
                ..HObject::hash_start(1, 0)
            };
            [cursor, HObject::minimum(), HObject::maximum()]
                .map(|cursor| [&[1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &encode_to_bytes(&cursor)].concat())
                .into()
        }
        // Requests of a few ops each: flags, number of ops, ops.
        "pg_history" => vec![
            vec![
                1, 3, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 8, 0, 2, 0, 1, 3, 7, 7, 7, 2, 2, 9, 9, 18, 0, 3, 2, 8, 8,
            ],
            (0..200u8).map(|number| number.wrapping_mul(37)).collect(),
        ],
        "pg_request" => {
            // The outputs of the large ones are too many to be returned.
            let returned = requests().take(1).map(|ops| message(RequestFlags::RETURN_VECTOR, ops));
            requests().map(|ops| message(RequestFlags::default(), ops)).chain(returned).collect()
        }
        _ => Vec::new(),
    }
}

fn length(bytes: &Bytes) -> u8 {
    u8::try_from(bytes.len()).unwrap_or(u8::MAX)
}

fn info() -> ObjectInfo {
    ObjectInfo { user_version: 5, truncate_seq: 2, truncate_size: 4096, ..ObjectInfo::default() }
}

fn group_info() -> GroupInfo {
    GroupInfo { created: Epoch(2), last_update: EVersion::new(Epoch(3), 7), last_user_version: 9 }
}

fn log_entry(version: u64) -> LogEntry {
    LogEntry {
        kind: LogKind::Modify,
        version: EVersion::new(Epoch(3), version),
        user_version: version,
        last_user_version: version,
        reqid: RequestId { name: EntityName::client(4100), incarnation: 0, tid: version },
        mtime: UTime { seconds: 5, nanoseconds: 6 },
        result: 0,
        returns: vec![OpReturn { value: 1, data: Bytes::from_static(b"out") }],
        object: ObjectId {
            pool: 1,
            hash: 7,
            namespace: Bytes::from_static(b"n"),
            key: Bytes::new(),
            name: Bytes::from_static(b"name"),
            snap: ObjectId::HEAD,
        },
    }
}

/// Elements of a large collection: enough for three levels of a tree.
const MANY: u32 = 96;

/// Ops of one request each.
fn requests() -> impl Iterator<Item = Vec<Op>> {
    let read = Op::new(OpCode::READ, OpArgs::extent(0, 1000), Bytes::new());
    let few = vec![
        Op::new(OpCode::WRITE, OpArgs::extent(3, 5), Bytes::from_static(b"bytes")),
        attr(OpCode::SETXATTR, 1),
        omap(OpCode::OMAP_SET_VALUES, [1], true),
        attr(OpCode::CMPXATTR, 1),
        omap_range(OpCode::OMAP_GET_KEYS),
        read.clone(),
    ];
    // Changes that meet each other, then what they left.
    let scattered = (0..MANY)
        .rev()
        .map(|n| Op::new(OpCode::WRITE, OpArgs::extent(u64::from(8 * n), 5), Bytes::from_static(b"bytes")));
    let holes = (0..MANY)
        .step_by(3)
        .map(|n| Op::new(OpCode::ZERO, OpArgs::extent(u64::from(8 * n), 9), Bytes::new()));
    let ends = [OpCode::TRUNCATE, OpCode::SPARSE_READ, OpCode::STAT, OpCode::DELETE]
        .map(|code| Op::new(code, OpArgs::extent(100, 300), Bytes::new()));
    let data = scattered.chain(holes).chain([read]).chain(ends).collect();
    let attrs = (0..MANY)
        .map(|n| attr(OpCode::SETXATTR, n))
        .chain((0..MANY).filter(|n| n % 8 != 0).map(|n| attr(OpCode::RMXATTR, n)))
        .chain([attr(OpCode::GETXATTR, 8), attr(OpCode::GETXATTRS, 8)])
        .collect();
    let odd = || (0..MANY).map(|n| 2 * n + 1);
    let omap = vec![
        omap(OpCode::OMAP_SET_VALUES, odd(), true),
        omap(OpCode::OMAP_SET_VALUES, (0..MANY).map(|n| 2 * n), true),
        omap(OpCode::OMAP_REMOVE_KEYS, odd().filter(|n| n % 16 != 1), false),
        omap(OpCode::OMAP_GET_VALUES_BY_KEYS, odd(), false),
        omap_range(OpCode::OMAP_GET_KEYS),
        omap_range(OpCode::OMAP_GET_VALUES),
        omap_range(OpCode::OMAP_REMOVE_KEY_RANGE),
        omap_range(OpCode::OMAP_GET_VALUES),
        Op::new(OpCode::OMAP_SET_HEADER, OpArgs::NONE, Bytes::from_static(b"header")),
        Op::new(OpCode::OMAP_GET_HEADER, OpArgs::NONE, Bytes::new()),
        Op::new(OpCode::OMAP_CLEAR, OpArgs::NONE, Bytes::new()),
    ];
    [few, data, attrs, omap].into_iter()
}

fn attr(code: OpCode, n: u32) -> Op {
    let args = OpArgs::Xattr { name_length: 3, value_length: 2, compare_op: 1, compare_mode: 1 };
    Op::new(code, args, Bytes::from(format!("{n:03}10")))
}

/// An op on these keys, with a value each if `valued`.
fn omap(code: OpCode, keys: impl IntoIterator<Item = u32>, valued: bool) -> Op {
    let keys: Vec<u32> = keys.into_iter().collect();
    let mut w = Writer::new();
    w.count(keys.len());
    for key in keys {
        w.blob(format!("{key:03}").as_bytes());
        if valued {
            w.blob(b"v");
        }
    }
    Op::new(code, OpArgs::NONE, w.finish())
}

/// An op on the keys from `040` on: 20 of them, or those below `060`.
fn omap_range(code: OpCode) -> Op {
    let mut w = Writer::new();
    w.blob(b"040");
    match code {
        OpCode::OMAP_REMOVE_KEY_RANGE => w.blob(b"060"),
        _ => w.u64(20),
    }
    if code == OpCode::OMAP_GET_VALUES {
        w.blob(b"0");
    }
    Op::new(code, OpArgs::NONE, w.finish())
}

fn message(flags: RequestFlags, ops: Vec<Op>) -> Vec<u8> {
    let request = OsdOp {
        pg: ShardPgId::replicated(PgId::new(1, 0)),
        hash: 7,
        epoch: Epoch(3),
        flags,
        id: RequestId::default(),
        client_incarnation: 0,
        mtime: UTime::default(),
        locator: ObjectLocator::pool(1),
        object: Bytes::from_static(b"x"),
        ops,
        snap: SnapId::HEAD,
        snap_seq: SnapId(0),
        snaps: Vec::new(),
        attempt: 0,
        features: Default::default(),
    };
    wire::fuzzing::payload_input(&request.to_message(7))
}
