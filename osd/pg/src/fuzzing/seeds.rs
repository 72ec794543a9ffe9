//! Sound test cases to start from.

use bytes::Bytes;
use store::ObjectId;
use wire::codec::encode_to_bytes;
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
        "pg_request" => vec![message(RequestFlags::default()), message(RequestFlags::RETURN_VECTOR)],
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

fn message(flags: RequestFlags) -> Vec<u8> {
    let args = OpArgs::Xattr { name_length: 1, value_length: 2, compare_op: 1, compare_mode: 1 };
    let ops = vec![
        Op::new(OpCode::WRITE, OpArgs::extent(3, 5), Bytes::from_static(b"bytes")),
        Op::new(OpCode::SETXATTR, args, Bytes::from_static(b"a10")),
        Op::new(
            OpCode::OMAP_SET_VALUES,
            OpArgs::NONE,
            Bytes::from_static(b"\x01\0\0\0\x01\0\0\0k\x01\0\0\0v"),
        ),
        Op::new(OpCode::CMPXATTR, args, Bytes::from_static(b"a10")),
        Op::new(OpCode::OMAP_GET_KEYS, OpArgs::NONE, Bytes::from_static(&[0; 12])),
        Op::new(OpCode::READ, OpArgs::extent(0, 100), Bytes::new()),
    ];
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
