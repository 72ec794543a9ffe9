//! What a placement group keeps on disk, and the cursor of a listing: encoding what was decoded is a fixed point.

use std::fmt::Debug;

use bytes::Bytes;
use store::LogVersion;
use wire::codec::DecodeResult;
use wire::msg::{Op, OpArgs, OpCode};
use wire::types::PgId;

use super::choices::Choices;
use crate::duplicates::Duplicates;
use crate::group::{Group, GroupInfo};
use crate::limits::{DUPLICATES_MIN, LIST_ENTRIES_MAX};
use crate::listing::{GroupRange, ListQuery, encode_page, hash_bits};
use crate::log_entry::LogEntry;
use crate::object_info::ObjectInfo;

fn fixed_point<T: Debug + PartialEq>(
    input: &[u8],
    decode: fn(Bytes) -> DecodeResult<T>,
    encode: fn(&T) -> Bytes,
) {
    let Ok(value) = decode(Bytes::copy_from_slice(input)) else {
        return;
    };
    let encoded = encode(&value);
    // What the first version had whole takes a byte of flags more, if all of it is there.
    assert!(encoded.len() <= input.len() + 1, "{} bytes became {}: {value:?}", input.len(), encoded.len());
    match decode(encoded) {
        Ok(again) => assert_eq!(again, value),
        Err(error) => panic!("{value:?} was encoded to something that is refused: {error}"),
    }
}

/// The attribute with an object's metadata.
pub(super) fn object_info(input: &[u8]) {
    fixed_point(input, ObjectInfo::decode, ObjectInfo::encode);
}

/// An entry of a group's log.
pub(super) fn log_entry(input: &[u8]) {
    fixed_point(input, LogEntry::decode, LogEntry::encode);
}

/// A collection's metadata.
pub(super) fn group_info(input: &[u8]) {
    fixed_point(input, GroupInfo::decode, GroupInfo::encode);
}

/// A stored group: its metadata and its log, each with its length before it.
pub(super) fn group_open(input: &[u8]) {
    let mut choices = Choices::new(input);
    let meta = choices.bytes();
    let mut log = Vec::new();
    while !choices.is_empty() {
        log.push((LogVersion { epoch: 1, version: log.len() as u64 }, choices.bytes()));
    }
    let entries: Vec<_> = log.iter().filter_map(|(_, bytes)| LogEntry::decode(bytes.clone()).ok()).collect();
    let Ok(group) = Group::open(PgId::new(1, 0), meta, log) else {
        return;
    };
    let mut duplicates = Duplicates::default();
    for entry in &entries {
        assert!(entry.version <= group.info().last_update);
        assert!(entry.last_user_version <= group.info().last_user_version);
        duplicates.insert(entry);
        assert!(duplicates.get(&entry.reqid).is_some_and(|recorded| recorded.version == entry.version));
    }
    assert!(duplicates.len() <= DUPLICATES_MIN.min(entries.len()));
}

/// A listing of a group of a pool: number of groups, group, then the cursor.
pub(super) fn list_query(input: &[u8]) {
    let mut choices = Choices::new(input);
    let group_count = u32::from(choices.byte()) + 1;
    let seed = u32::from(choices.byte()) % group_count;
    let count = choices.u64();
    let namespace = choices.bytes();
    let range = GroupRange::new(PgId::new(1, seed), hash_bits(seed, group_count));
    let query = |cursor: Bytes| {
        let op = Op::new(OpCode::PGNLS, OpArgs::PgList { count, start_epoch: 1 }, cursor);
        ListQuery::decode(&op, &namespace, &range)
    };
    let Ok(asked) = query(choices.rest()) else {
        return;
    };
    assert!((1..=LIST_ENTRIES_MAX).contains(&asked.max));
    // Where a page ends is where the next one of the same group starts.
    let Some(from) = asked.from else {
        return;
    };
    let page = encode_page(&[], Some(&from), &range).data.concat();
    let cursor = match wire::codec::decode_exact::<wire::msg::PgListReply>("page", page.into()) {
        Ok(page) => page.handle,
        Err(error) => panic!("a page cannot be read: {error}"),
    };
    assert_eq!(query(wire::codec::encode_to_bytes(&cursor)).map(|again| again.from), Ok(Some(from.clone())));
}
