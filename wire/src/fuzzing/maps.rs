//! Maps: whatever decodes can be mapped with and changed, without a panic and in bounded time.

use bytes::Bytes;

use crate::codec::{Reader, Wire, decode_exact, encode_to_bytes};
use crate::crc::{SEED, crc32c};
use crate::fuzzing::values::value;
use crate::osdmap::{Incremental, OsdMap};
use crate::placement::{Mapping, ObjectName, map, map_pg};
use crate::types::PgId;

const POOLS_MAX: usize = 3;

/// A map, and where it puts a few placement groups and an object of its pools.
pub fn placement(input: &[u8]) {
    let Ok(osdmap) = OsdMap::decode(&mut Reader::new("fuzz", Bytes::copy_from_slice(input))) else {
        return;
    };
    for (pool, found) in osdmap.pools.iter().take(POOLS_MAX) {
        for seed in [0, found.pg_num / 2, found.pg_num.wrapping_sub(1), u32::MAX] {
            check(&osdmap, &map_pg(&osdmap, PgId::new(*pool, seed)));
        }
        let object = ObjectName { name: &input[..input.len().min(40)], ..ObjectName::default() };
        match map(&osdmap, *pool, object) {
            Some(mapping) => check(&osdmap, &mapping.at),
            None => panic!("pool {pool} is in the map"),
        }
    }
}

fn check(osdmap: &OsdMap, mapping: &Mapping) {
    let real = |osd: &&i32| **osd >= 0 && **osd != crate::crush::ITEM_NONE;
    for osd in mapping.up.iter().filter(real) {
        assert!(osdmap.is_up(*osd), "osd.{osd} is in an up set");
    }
}

/// A map and a change of it: u32 length of the map, map, change.
pub fn apply(input: &[u8]) {
    let (length, rest) = input.split_at(input.len().min(4));
    let length = length.iter().rev().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
    let (old, change) = rest.split_at(length.min(rest.len()));
    apply_change(old, change);
}

fn apply_change(old: &[u8], change: &[u8]) {
    let old = OsdMap::decode(&mut Reader::new("fuzz", Bytes::copy_from_slice(old)));
    let change = Incremental::decode(&mut Reader::new("fuzz", Bytes::copy_from_slice(change)));
    let (Ok(old), Ok(change)) = (old, change) else {
        return;
    };
    if let Ok(new) = old.apply(&change) {
        let encoded = encode_to_bytes(&new);
        match decode_exact::<OsdMap>("fuzz", encoded.clone()) {
            Ok(again) => assert_eq!(encode_to_bytes(&again), encoded),
            Err(error) => panic!("a changed map cannot be read: {error}"),
        }
    }
}

/// A map whose length and checksum are put right first, so that damage gets past them.
pub fn sealed_map(input: &[u8]) {
    let map = seal(input, 0);
    value::<OsdMap>(&map);
    let Ok(osdmap) = OsdMap::decode(&mut Reader::new("fuzz", Bytes::from(map))) else {
        return;
    };
    // One placement group, as the input says: mapping all takes a hundred times as long as decoding.
    let choice = input.last().copied().unwrap_or_default();
    if let Some((pool, _)) = osdmap.pools.iter().nth(usize::from(choice) % POOLS_MAX) {
        check(&osdmap, &map_pg(&osdmap, PgId::new(*pool, choice.into())));
    }
}

/// A change whose length and checksum are put right first.
pub fn sealed_increment(input: &[u8]) {
    value::<Incremental>(&seal(input, RESULT_CHECKSUM_BYTES));
}

/// As [`apply`], with the lengths and checksums of both put right first.
pub fn sealed_apply(input: &[u8]) {
    let (length, rest) = input.split_at(input.len().min(4));
    let length = length.iter().rev().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
    let (old, change) = rest.split_at(length.min(rest.len()));
    apply_change(&seal(old, 0), &seal(change, RESULT_CHECKSUM_BYTES));
}

/// An increment's own checksum is followed by that of the map it leads to.
const RESULT_CHECKSUM_BYTES: usize = 4;
/// Versions and length.
const ENVELOPE_BYTES: usize = 6;
const CHECKSUM_BYTES: usize = 4;

/// Puts the outer length right, and the checksum that ends `after` bytes before the end.
fn seal(input: &[u8], after: usize) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let Some(checksum_at) = bytes.len().checked_sub(after + CHECKSUM_BYTES) else { return bytes };
    let Some(length) = checksum_at.checked_sub(ENVELOPE_BYTES).and(bytes.len().checked_sub(ENVELOPE_BYTES))
    else {
        return bytes;
    };
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    bytes[2..ENVELOPE_BYTES].copy_from_slice(&length.to_le_bytes());
    let (covered, rest) = bytes.split_at_mut(checksum_at);
    let (checksum, tail) = rest.split_at_mut(CHECKSUM_BYTES);
    checksum.copy_from_slice(&crc32c(crc32c(SEED, covered), tail).to_le_bytes());
    bytes
}
