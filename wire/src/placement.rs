//! Placement: from an object's name to its PG and the OSDs that hold it.
//!
//! Pure and total: any map that decodes, any name.

use crate::crush::{ITEM_NONE, Input, do_rule};
use crate::hash::crush_hash2;
use crate::osdmap::{AFFINITY_DEFAULT, OsdMap, Pool, WEIGHT_IN};
use crate::types::{PgId, PoolId};

/// No OSD, as a primary.
pub const NO_OSD: i32 = -1;

/// Where a PG is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// What CRUSH and the operator's exceptions give, of what is up. Holes are [`ITEM_NONE`], in
    /// erasure-coded pools only.
    pub up: Vec<i32>,
    /// First of the up set, by affinity; [`NO_OSD`] if there is none.
    pub up_primary: i32,
    /// Who serves: the up set, unless the map says otherwise for a time.
    pub acting: Vec<i32>,
    /// To whom clients talk; [`NO_OSD`] if there is none.
    pub acting_primary: i32,
}

impl Mapping {
    fn nowhere() -> Self {
        Self { up: Vec::new(), up_primary: NO_OSD, acting: Vec::new(), acting_primary: NO_OSD }
    }
}

/// An object's name within a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectName<'a> {
    /// Name.
    pub name: &'a [u8],
    /// Locator key, which is hashed in place of the name if not empty.
    pub key: &'a [u8],
    /// Namespace.
    pub nspace: &'a [u8],
}

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMapping {
    /// Hash of its name.
    pub hash: u32,
    /// Its PG.
    pub pg: PgId,
    /// Where the PG is.
    pub at: Mapping,
}

/// Where an object of a pool is; none if there is no such pool.
pub fn map(osdmap: &OsdMap, pool: PoolId, object: ObjectName<'_>) -> Option<ObjectMapping> {
    let found = osdmap.pools.get(&pool)?;
    let hash = found.hash_object(object.name, object.key, object.nspace);
    let pg = found.pg_of_hash(pool, hash);
    Some(ObjectMapping { hash, pg, at: map_pg(osdmap, pg) })
}

/// Where a PG is; nowhere if its pool does not exist or has fewer PGs.
pub fn map_pg(osdmap: &OsdMap, pg: PgId) -> Mapping {
    let Some(pool) = osdmap.pools.get(&pg.pool).filter(|pool| pg.seed < pool.pg_num) else {
        return Mapping::nowhere();
    };
    let seed = pool.placement_seed(pg);
    let mut up = raw_set(osdmap, pool, pg, seed);
    apply_upmap(osdmap, pg, &mut up);
    drop_or_hole(pool, &mut up, |osd| osdmap.is_up(osd));
    let up_primary = pick_primary(osdmap, pool, seed, &mut up);
    let mut acting = osdmap.pg_temp.get(&pg).cloned().unwrap_or_default();
    drop_or_hole(pool, &mut acting, |osd| osdmap.is_up(osd));
    let temporary = !acting.is_empty();
    if !temporary {
        acting.clone_from(&up);
    }
    let acting_primary = match osdmap.primary_temp.get(&pg) {
        Some(&primary) => primary,
        None if temporary => first_of(&acting),
        None => up_primary,
    };
    Mapping { up, up_primary, acting, acting_primary }
}

/// What CRUSH gives, without OSDs that do not exist.
fn raw_set(osdmap: &OsdMap, pool: &Pool, pg: PgId, seed: u32) -> Vec<i32> {
    let Some(rule) = osdmap.crush.find_rule(pool.crush_rule, pool.kind, pool.size) else {
        return Vec::new();
    };
    let weights: Vec<u32> = osdmap.osds.iter().map(|osd| osd.weight).collect();
    let input = Input {
        x: seed,
        result_max: usize::from(pool.size),
        weights: &weights,
        choose_args: osdmap.crush.choose_args_of(pg.pool),
    };
    let mut raw = do_rule(&osdmap.crush, rule, input);
    drop_or_hole(pool, &mut raw, |osd| osdmap.exists(osd));
    raw
}

/// Takes out what is not wanted: closing the hole, or leaving one where positions matter.
fn drop_or_hole(pool: &Pool, osds: &mut Vec<i32>, wanted: impl Fn(i32) -> bool) {
    if pool.closes_holes() {
        osds.retain(|&osd| wanted(osd));
    } else {
        osds.iter_mut().filter(|osd| !wanted(**osd)).for_each(|osd| *osd = ITEM_NONE);
    }
}

/// The operator's exceptions.
fn apply_upmap(osdmap: &OsdMap, pg: PgId, raw: &mut Vec<i32>) {
    let is_out = |osd: i32| osd != ITEM_NONE && osdmap.osd(osd).is_some_and(|osd| osd.weight == 0);
    if let Some(set) = osdmap.pg_upmap.get(&pg) {
        if set.iter().any(|&osd| is_out(osd)) {
            return;
        }
        raw.clone_from(set);
    }
    for &(from, to) in osdmap.pg_upmap_items.get(&pg).into_iter().flatten() {
        if raw.contains(&to) || is_out(to) {
            continue;
        }
        if let Some(place) = raw.iter_mut().find(|osd| **osd == from) {
            *place = to;
        }
    }
}

/// First OSD of the set that its affinity does not pass over; moved to the front where positions do not matter.
fn pick_primary(osdmap: &OsdMap, pool: &Pool, seed: u32, up: &mut [i32]) -> i32 {
    let declines = |osd: i32| {
        let affinity = osdmap.affinity(osd);
        affinity < AFFINITY_DEFAULT && crush_hash2(seed, osd.cast_unsigned()) >> 16 >= affinity
    };
    let mut candidates = (0..up.len()).filter(|&index| up[index] != ITEM_NONE);
    let Some(first) = candidates.clone().next() else { return NO_OSD };
    // If all decline, the first one has to.
    let index = candidates.find(|&index| !declines(up[index])).unwrap_or(first);
    let primary = up[index];
    if pool.closes_holes() {
        up[..=index].rotate_right(1);
    }
    primary
}

fn first_of(osds: &[i32]) -> i32 {
    osds.iter().copied().find(|&osd| osd != ITEM_NONE).unwrap_or(NO_OSD)
}

/// The part of the hash space that a PG holds, as bit-reversed hashes `start..end`. `end` may be 2^32.
///
/// Listings and the stores' object order go by the reversed hash, in which a PG's objects are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReversedRange {
    /// First reversed hash.
    pub start: u32,
    /// One past the last.
    pub end: u64,
}

impl ReversedRange {
    /// The range of the PG `seed` in a pool of `pg_num` PGs.
    pub fn of_pg(seed: u32, pg_num: u32) -> Self {
        // PGs split one at a time: those of the lower half that were split already have one more bit.
        let bits = match u32::BITS - pg_num.leading_zeros() {
            0 | 1 => 0,
            p if seed & ((1 << (p - 1)) - 1) < pg_num & ((1 << (p - 1)) - 1) => p,
            p => p - 1,
        };
        let start = seed.reverse_bits();
        let last = start | u32::MAX.checked_shr(bits).unwrap_or(0);
        Self { start, end: u64::from(last) + 1 }
    }

    /// Whether the object hash is in the range.
    pub fn contains(&self, hash: u32) -> bool {
        let reversed = hash.reverse_bits();
        reversed >= self.start && u64::from(reversed) < self.end
    }
}

const _: () = assert!(WEIGHT_IN == crate::crush::WEIGHT_ONE, "OSD weights go to CRUSH as they are");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::stable_mod;

    #[test]
    fn ranges_partition_the_hash_space_and_agree_with_stable_mod() {
        for pg_num in 1..70 {
            let mut ranges: Vec<_> = (0..pg_num).map(|seed| ReversedRange::of_pg(seed, pg_num)).collect();
            for hash in (0..2000u32).map(|i| i.wrapping_mul(2_654_435_761)).chain([0, u32::MAX]) {
                let seed = usize::try_from(stable_mod(hash, pg_num)).unwrap();
                assert!(ranges[seed].contains(hash), "{hash:#x} of {pg_num}");
            }
            ranges.sort_by_key(|range| range.start);
            let mut end = 0;
            for range in ranges {
                assert_eq!(u64::from(range.start), end, "{pg_num}");
                end = range.end;
            }
            assert_eq!(end, 1 << 32);
        }
    }
}
