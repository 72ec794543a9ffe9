//! Listing pages and cursors.

#![expect(clippy::expect_used, reason = "tests")]

mod world;

use bytes::Bytes;
use pg::{GroupRange, ListQuery, encode_page, hash_bits};
use store::ObjectId;
use wire::Errno;
use wire::codec::{Reader, Writer, encode_to_bytes};
use wire::msg::{Op, OpArgs, OpCode};
use wire::types::{HObject, PgId, SnapId};
use world::{object, op};

fn page_op(cursor: &HObject, count: u64) -> Op {
    Op::new(OpCode::PGNLS, OpArgs::PgList { count, start_epoch: 27 }, encode_to_bytes(cursor))
}

#[test]
fn cursors_must_lie_in_the_group() {
    // Group 1.2 of 8: reversed hashes from 0x40000000 to 0x5fffffff.
    let range = GroupRange::new(PgId::new(1, 2), hash_bits(2, 8));
    let decode = |cursor: &HObject| ListQuery::decode(&page_op(cursor, 10), &Bytes::new(), &range);
    let first = decode(&HObject::minimum()).expect("the start");
    assert_eq!((first.from, first.max, first.namespace), (None, 10, Some(Bytes::new())));
    assert!(decode(&range.start()).expect("the group's start").from.is_some());
    assert!(decode(&HObject::hash_start(1, 0x5fff_ffff)).is_ok());
    for outside in [
        HObject::hash_start(1, 0x3fff_ffff),
        HObject::hash_start(1, 0x6000_0000),
        HObject::hash_start(2, 0x4000_0000),
        HObject::maximum(),
        range.end(),
    ] {
        assert_eq!(decode(&outside), Err(Errno::EINVAL), "{outside:?}");
    }
    assert_eq!(ListQuery::decode(&op(OpCode::PGNLS), &Bytes::new(), &range), Err(Errno::EINVAL));
}

#[test]
fn namespaces_select_and_one_means_all() {
    let range = GroupRange::new(PgId::new(1, 0), 0);
    let query = |namespace: &'static str| {
        ListQuery::decode(&page_op(&HObject::minimum(), u64::MAX), &namespace.into(), &range).expect("valid")
    };
    let named = ObjectId { namespace: "n".into(), ..object("x") };
    let clone = ObjectId { snap: 4, ..object("x") };
    assert!(query("").wants(&object("x")) && !query("").wants(&named));
    assert!(query("n").wants(&named) && !query("n").wants(&object("x")));
    assert!(query("\x01").wants(&named) && query("\x01").wants(&object("x")));
    assert!(!query("\x01").wants(&clone));
    assert_eq!(query("").max, pg::limits::LIST_ENTRIES_MAX);
}

/// Bytes of real pages: an empty group 1.4 of 8 (handle: the start of 1.2) and the last group's.
#[test]
fn pages_are_encoded_as_real_ones() {
    let group = |seed| GroupRange::new(PgId::new(1, seed), hash_bits(seed, 8));
    let empty = encode_page(&[], None, &group(4));
    let mut w = Writer::new();
    w.env(1, 1, |w| {
        w.put(&HObject { snap: SnapId::HEAD, ..HObject::hash_start(1, 0x4000_0000) });
        w.u32(0);
    });
    assert_eq!(empty.data.concat(), w.finish());
    let last = encode_page(&[object("x")], None, &group(7));
    let mut r = Reader::new("page", last.data.concat().into());
    let handle: HObject = r.env("page", 1, |r, _| r.get()).expect("a page");
    assert_eq!(handle, HObject::maximum());
    let next = object("next");
    let more = encode_page(&[object("x")], Some(&next), &group(7));
    let mut r = Reader::new("page", more.data.concat().into());
    let handle: HObject = r.env("page", 1, |r, _| r.get()).expect("a page");
    assert_eq!((handle.oid, handle.hash, handle.snap), ("next".into(), 7, SnapId::HEAD));
}
