//! Listing the objects of a placement group in hash order, page by page.
//!
//! Invariant: a page's handle is where the next page starts, in this group or, at its end, in the one that follows.

use bytes::Bytes;
use store::ObjectId;
use wire::codec::encode_to_bytes;
use wire::msg::{ListedObject, Op, OpArgs, PgListReply, pg_list_cursor};
use wire::types::{HObject, PgId, SnapId};

use crate::execute::Output;
use crate::limits::LIST_ENTRIES_MAX;
use wire::Errno;

/// Namespace that stands for all of them. //= ceph 16.2 librados: LIBRADOS_ALL_NSPACES
pub const ALL_NAMESPACES: &[u8] = b"\x01";

/// Result of the page that ends a group.
pub const END_OF_GROUP: i32 = 1;

/// How many low hash bits the objects of a group share, in a pool of `group_count` groups.
pub fn hash_bits(seed: u32, group_count: u32) -> u8 {
    if group_count <= 1 {
        return 0;
    }
    // For a power of two no seed is "long", so all groups share one bit less than the count has.
    let bits = u32::BITS - group_count.leading_zeros();
    let half = 1u32 << (bits - 1);
    let long = seed % half < group_count % half;
    u8::try_from(if long { bits } else { bits - 1 }).unwrap_or(u8::MAX)
}

/// The part of the bit-reversed hash space that a group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRange {
    group: PgId,
    /// First bit-reversed hash.
    start: u32,
    /// First bit-reversed hash after it; `None` at the end of the space.
    end: Option<u32>,
}

impl GroupRange {
    /// The range of a group whose objects share `bits` low hash bits.
    pub fn new(group: PgId, bits: u8) -> Self {
        let start = group.seed.reverse_bits();
        let last = start | u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
        Self { group, start, end: last.checked_add(1) }
    }

    /// How much of the range lies before objects of a hash, in thousandths.
    pub fn permille_before(&self, hash: u32) -> u64 {
        let start = u64::from(self.start);
        let width = self.end.map_or(1 << 32, u64::from) - start;
        u64::from(hash.reverse_bits()).saturating_sub(start).min(width) * 1000 / width
    }

    /// The place before all objects of the group.
    pub fn start(&self) -> HObject {
        HObject::hash_start(self.group.pool, self.start)
    }

    /// The place where the next group begins.
    pub fn end(&self) -> HObject {
        match self.end {
            Some(end) => HObject { snap: SnapId::HEAD, ..HObject::hash_start(self.group.pool, end) },
            None => HObject::maximum(),
        }
    }

    fn contains_hash(&self, reversed: u32) -> bool {
        reversed >= self.start && self.end.is_none_or(|end| reversed < end)
    }
}

/// A page asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Where to start; `None` for the group's first object.
    pub from: Option<ObjectId>,
    /// Most entries.
    pub max: usize,
    /// Only this namespace; `None` for all.
    pub namespace: Option<Bytes>,
}

impl ListQuery {
    /// Decodes the op. `namespace` is the request's.
    pub fn decode(op: &Op, namespace: &Bytes, range: &GroupRange) -> Result<Self, Errno> {
        let OpArgs::PgList { count, .. } = op.args() else { return Err(Errno::EINVAL) };
        let cursor = pg_list_cursor(op.data.to_bytes()).map_err(|_malformed| Errno::EINVAL)?;
        let from = if cursor == HObject::minimum() {
            None
        } else {
            let within = !cursor.max
                && cursor.pool == range.group.pool
                && range.contains_hash(cursor.hash.reverse_bits());
            if !within {
                return Err(Errno::EINVAL);
            }
            Some(from_hobject(cursor))
        };
        let max = usize::try_from(count).unwrap_or(usize::MAX).clamp(1, LIST_ENTRIES_MAX);
        let namespace = (namespace != ALL_NAMESPACES).then(|| namespace.clone());
        Ok(Self { from, max, namespace })
    }

    /// Whether the object belongs on the page.
    pub fn wants(&self, object: &ObjectId) -> bool {
        object.snap == ObjectId::HEAD
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == object.namespace)
    }
}

/// The reply: `entries`, and `next` or the end of the group.
pub fn encode_page(entries: &[ObjectId], next: Option<&ObjectId>, range: &GroupRange) -> Output {
    let handle = next.map_or_else(|| range.end(), to_hobject);
    let objects = entries
        .iter()
        .map(|object| ListedObject {
            nspace: object.namespace.clone(),
            object: object.name.clone(),
            key: object.key.clone(),
        })
        .collect();
    Output::bytes(encode_to_bytes(&PgListReply { handle, objects }))
}

fn from_hobject(object: HObject) -> ObjectId {
    ObjectId {
        pool: object.pool,
        hash: object.hash,
        namespace: object.nspace,
        key: object.key,
        name: object.oid,
        snap: object.snap.0,
    }
}

fn to_hobject(object: &ObjectId) -> HObject {
    HObject {
        key: object.key.clone(),
        oid: object.name.clone(),
        snap: SnapId(object.snap),
        hash: object.hash,
        max: false,
        nspace: object.namespace.clone(),
        pool: object.pool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_how_much_of_the_hashes_lies_before() {
        let of = |seed, bits, hash| GroupRange::new(PgId::new(1, seed), bits).permille_before(hash);
        assert_eq!(
            [of(0, 0, 0), of(0, 0, 1), of(0, 0, u32::MAX)],
            [0, 500, 999],
            "the lowest bit counts most"
        );
        assert_eq!((of(3, 2, 3), of(3, 2, 7), of(5, 32, 5)), (0, 500, 0));
    }

    #[test]
    fn groups_tile_the_hash_space() {
        for group_count in 1..70u32 {
            let mut ranges: Vec<(u64, u64)> = (0..group_count)
                .map(|seed| {
                    let range = GroupRange::new(PgId::new(1, seed), hash_bits(seed, group_count));
                    (u64::from(range.start), range.end.map_or(1 << 32, u64::from))
                })
                .collect();
            ranges.sort_unstable();
            let mut at = 0;
            for (start, end) in ranges {
                assert_eq!(start, at, "pg_num {group_count}");
                at = end;
            }
            assert_eq!(at, 1 << 32, "pg_num {group_count}");
        }
    }
}
