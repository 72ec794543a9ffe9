//! Maps: whatever decodes can be mapped with and changed, without a panic and in bounded time.

use bytes::Bytes;

use crate::codec::{Reader, Wire, decode_exact, encode_to_bytes};
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
