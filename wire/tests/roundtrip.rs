//! Values made up from nothing come back from their encoding unchanged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic here is a failed test")]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use uuid::Uuid;
use wire::codec::{Wire, decode_exact, encode_to_bytes};
use wire::msg::{
    Alert, Backoff, BackoffStep, Body, GetConfig, LogAck, MonInfo, MonMap, MonSubscribeAck, Op, OpArgs,
    OpCode, OpFlags, OsdAlert, OsdBeacon, OsdBoot, OsdMapMessage, OsdOp, OsdOpReply, OsdStatfs, OsdStats,
    PgReport, PoolReport, Redirect, RequestFlags, Severity, StoreStatfs, decode_message,
};
use wire::msgr2::Data;
use wire::types::{
    Addr, AddrVec, AuthName, EVersion, EntityKind, EntityName, Epoch, Features, HObject, ObjectLocator, PgId,
    RequestId, ShardPgId, SnapId, SocketBytes, UTime,
};

fn name() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,10}"
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn addr() -> impl Strategy<Value = Addr> {
    let socket = prop_oneof![
        Just(SocketBytes::Absent),
        Just(SocketBytes::Unspecified),
        any::<std::net::SocketAddrV4>().prop_map(SocketBytes::V4),
        any::<std::net::SocketAddrV6>().prop_map(SocketBytes::V6),
    ];
    (0u32..6, any::<u32>(), socket).prop_map(|(kind, nonce, socket)| Addr {
        kind: wire::types::AddrKind(kind),
        nonce,
        socket,
    })
}

fn addrs() -> impl Strategy<Value = AddrVec> {
    vec(addr(), 0..3).prop_map(AddrVec)
}

fn pg() -> impl Strategy<Value = PgId> {
    (any::<i64>(), any::<u32>()).prop_map(|(pool, seed)| PgId { pool, seed })
}

fn eversion() -> impl Strategy<Value = EVersion> {
    (any::<u32>(), any::<u64>()).prop_map(|(epoch, version)| EVersion::new(Epoch(epoch), version))
}

fn object() -> impl Strategy<Value = HObject> {
    (name(), name(), any::<u64>(), any::<u32>(), any::<bool>(), name(), any::<i64>()).prop_map(
        |(key, oid, snap, hash, max, nspace, pool)| HObject {
            key,
            oid,
            snap: SnapId(snap),
            hash,
            max,
            nspace,
            pool,
        },
    )
}

fn locator() -> impl Strategy<Value = ObjectLocator> {
    (any::<i64>(), name(), name(), any::<i64>()).prop_map(|(pool, key, nspace, hash)| ObjectLocator {
        pool,
        key,
        nspace,
        hash,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        any::<(u64, u64)>().prop_map(|(offset, length)| (OpCode::WRITE, OpArgs::extent(offset, length))),
        any::<u64>().prop_map(|snap| (OpCode::ROLLBACK, OpArgs::Snap { snap: SnapId(snap) })),
        any::<(u32, u32, u8)>().prop_map(|(name_length, value_length, compare_op)| (
            OpCode::CMPXATTR,
            OpArgs::Xattr { name_length, value_length, compare_op, compare_mode: 1 }
        )),
        (any::<u16>(), any::<[u8; 28]>()).prop_map(|(code, raw)| (OpCode(code | 0xf000), OpArgs::Raw(raw))),
    ];
    (kind, any::<u32>(), vec(any::<u8>(), 0..5000))
        .prop_map(|((code, args), flags, data)| Op::new(code, args, data).with_flags(OpFlags(flags)))
}

fn request() -> impl Strategy<Value = OsdOp> {
    let id = any::<(u8, i64, i32, u64)>().prop_map(|(kind, number, incarnation, tid)| RequestId {
        name: EntityName::new(EntityKind(kind), number),
        incarnation,
        tid,
    });
    let first = (pg(), any::<(i8, u32, u32, u32, u32)>(), id, any::<(u32, u32)>(), locator(), name());
    let second = (vec(op(), 0..5), any::<(u64, u64)>(), vec(any::<u64>(), 0..4), any::<(i32, u64)>());
    (first, second).prop_map(|((pg, numbers, id, mtime, locator, object), (ops, snap, snaps, last))| OsdOp {
        pg: ShardPgId { pg, shard: numbers.0 },
        hash: numbers.1,
        epoch: Epoch(numbers.2),
        flags: RequestFlags(numbers.3),
        id,
        client_incarnation: numbers.4,
        mtime: UTime { seconds: mtime.0, nanoseconds: mtime.1 },
        locator,
        object,
        ops,
        snap: SnapId(snap.0),
        snap_seq: SnapId(snap.1),
        snaps: snaps.into_iter().map(SnapId).collect(),
        attempt: last.0,
        features: Features(last.1),
    })
}

fn reply() -> impl Strategy<Value = OsdOpReply> {
    let redirect = proptest::option::of((locator(), name()));
    (request(), any::<(i32, bool)>(), vec(any::<i32>(), 5), eversion(), any::<u64>(), redirect).prop_map(
        |(request, (result, executed), results, version, user_version, redirect)| {
            let mut reply = OsdOpReply::to_request(&request, result, executed, Epoch(3));
            reply.set_versions(version, user_version);
            for ((op, sent), (slot, value)) in
                reply.ops.iter_mut().zip(&request.ops).zip(reply.results.iter_mut().zip(results))
            {
                op.data = sent.data.clone();
                *slot = value;
            }
            reply.redirect = redirect.map(|(locator, object)| Redirect { locator, object });
            reply
        },
    )
}

fn stats() -> impl Strategy<Value = OsdStats> {
    let pool = any::<[i64; 12]>().prop_map(|n| PoolReport {
        objects: n[0],
        bytes: n[1],
        allocated: n[2],
        stored: n[3],
        omap_keys: n[4],
        omap_bytes: n[5],
        reads: n[6],
        reads_kb: n[7],
        writes: n[8],
        writes_kb: n[9],
        compressed: n[10],
        compressed_original: n[11],
    });
    let report = (text(), any::<(i64, i64, u64, u32)>()).prop_map(|(state, n)| PgReport {
        state,
        objects: n.0,
        bytes: n.1,
        version: n.2,
        version_epoch: Epoch(n.3),
    });
    (
        any::<(i32, u32, u64)>(),
        any::<[i64; 3]>(),
        btree_map(any::<i64>(), pool, 0..4),
        btree_map(pg(), report, 0..4),
    )
        .prop_map(|((osd, epoch, seq), n, pools, pgs)| OsdStats {
            osd,
            epoch: Epoch(epoch),
            seq,
            statfs: OsdStatfs {
                store: StoreStatfs { total: n[0], available: n[1], ..StoreStatfs::default() },
                shared_available: n[2],
            },
            pools,
            pgs,
        })
}

fn body() -> impl Strategy<Value = Body> {
    let metadata = btree_map(text(), text(), 0..4);
    let alert = (text(), any::<bool>(), text()).prop_map(|(code, error, text)| Alert {
        code,
        severity: if error { Severity::Error } else { Severity::Warning },
        text,
    });
    let maps = || btree_map(any::<u32>().prop_map(Epoch), name(), 0..3);
    prop_oneof![
        request().prop_map(Body::from),
        reply().prop_map(Body::from),
        stats().prop_map(Body::from),
        (uuid(), uuid(), any::<(i32, u32)>(), addrs(), metadata).prop_map(
            |(fsid, uuid, (osd, epoch), public_addrs, metadata)| {
                OsdBoot { fsid, osd, uuid, epoch: Epoch(epoch), public_addrs, metadata }.into()
            }
        ),
        any::<(i32, u32, u32)>().prop_map(|(osd, epoch, oldest)| {
            OsdBeacon { osd, epoch: Epoch(epoch), oldest_needed: Epoch(oldest) }.into()
        }),
        (any::<i32>(), vec(alert, 0..4)).prop_map(|(osd, alerts)| OsdAlert { osd, alerts }.into()),
        (pg(), any::<(u32, u8, u64)>(), object(), object()).prop_map(|(pg, n, begin, end)| {
            let pg = ShardPgId::replicated(pg);
            Backoff { pg, epoch: Epoch(n.0), step: BackoffStep(n.1), id: n.2, begin, end }.into()
        }),
        (text(), text(), text()).prop_map(|(id, host, device_class)| {
            GetConfig { name: AuthName { kind: EntityKind::OSD, id }, host, device_class }.into()
        }),
        (uuid(), any::<u64>(), text())
            .prop_map(|(fsid, last, channel)| LogAck { fsid, last, channel }.into()),
        (uuid(), any::<u32>()).prop_map(|(fsid, n)| MonSubscribeAck { interval_seconds: n, fsid }.into()),
        (uuid(), maps(), maps(), any::<[u32; 3]>()).prop_map(|(fsid, incrementals, full, n)| {
            let [oldest, newest, trim_lower_bound] = n.map(Epoch);
            OsdMapMessage { fsid, incrementals, full, oldest, newest, trim_lower_bound }.into()
        }),
    ]
}

fn monmap() -> impl Strategy<Value = MonMap> {
    let info = (text(), addrs(), any::<(u16, u16)>(), btree_map(text(), text(), 0..2)).prop_map(
        |(name, addrs, (priority, weight), crush_location)| MonInfo {
            name,
            addrs,
            priority,
            weight,
            crush_location,
        },
    );
    (uuid(), any::<(u32, u8, bool)>(), btree_map(text(), info, 0..3)).prop_map(
        |(fsid, (epoch, release, stretch_mode), mons)| MonMap {
            fsid,
            epoch: Epoch(epoch),
            last_changed: UTime::from_nanoseconds(1_700_000_000_123_456_789),
            created: UTime::default(),
            persistent_features: MonMap::PERSISTENT_FEATURES,
            optional_features: 0,
            ranks: mons.keys().cloned().collect(),
            mons,
            min_mon_release: release,
            removed_ranks: [3].into(),
            election_strategy: MonMap::ELECTION_CLASSIC,
            disallowed_leaders: ["x".to_owned()].into(),
            stretch_mode,
            tiebreaker: "t".into(),
            stretch_marked_down: Default::default(),
        },
    )
}

fn round_trips<T: Wire + PartialEq + std::fmt::Debug>(value: T) -> Result<(), TestCaseError> {
    let bytes = encode_to_bytes(&value);
    prop_assert!(bytes.len() >= T::BYTES_MIN);
    prop_assert_eq!(decode_exact::<T>("value", bytes), Ok(value));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_round_trip(body in body(), tid: u64) {
        let message = body.to_message(tid);
        prop_assert_eq!(message.header.tid, tid);
        prop_assert_eq!(decode_message(&message), Ok(body));
    }

    #[test]
    fn values_round_trip(addr in addr(), addrs in addrs(), object in object(), map in monmap()) {
        round_trips(addr)?;
        round_trips(addrs)?;
        round_trips(object)?;
        round_trips(map)?;
    }
}

/// Our daemons of different versions talk to each other: this encoding may grow, not change.
#[test]
fn our_own_messages_keep_their_encoding() {
    let boot = OsdBoot {
        fsid: Uuid::from_u128(1),
        osd: 2,
        uuid: Uuid::from_u128(3),
        epoch: Epoch(4),
        public_addrs: Addr::msgr2("127.0.0.1:6800".parse().unwrap(), 5).into(),
        metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
    };
    let message = Body::from(boot).to_message(1);
    assert_eq!(message.header.kind, 0x7f00);
    let hex: String = message.front.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = "01015e000000".to_owned()
        + "00000000000000000000000000000001"
        + "02000000"
        + "00000000000000000000000000000003"
        + "04000000"
        + "02010000000101011c000000020000000500000010000000"
        + "02001a907f0000010000000000000000"
        + "01000000010000006b0100000076";
    assert_eq!(hex, expected);
    assert_eq!(message.data, Data::new());
}

#[test]
fn a_report_of_before_there_was_compression_is_taken() {
    let report = PoolReport {
        objects: 1,
        bytes: 2,
        allocated: 3,
        stored: 4,
        omap_keys: 5,
        omap_bytes: 6,
        reads: 7,
        reads_kb: 8,
        writes: 9,
        writes_kb: 10,
        compressed: 11,
        compressed_original: 12,
    };
    let bytes = encode_to_bytes(&report).to_vec();
    assert_eq!(bytes[..2], [2, 1]);
    let mut old = vec![1, 1];
    old.extend(80u32.to_le_bytes());
    old.extend(&bytes[6..86]);
    let expect = PoolReport { compressed: 0, compressed_original: 0, ..report };
    assert_eq!(decode_exact::<PoolReport>("report", old.into()), Ok(expect));
}
