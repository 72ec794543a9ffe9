//! Object names in Ceph's sort order, and locators.

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::types::PoolId;

/// Snapshot id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SnapId(pub u64);

impl SnapId {
    /// The head: the object as it is now.
    pub const HEAD: Self = Self(u64::MAX - 1);
    /// The set of an object's clones, for listing them.
    pub const DIR: Self = Self(u64::MAX);
    /// Largest id of a real snapshot.
    pub const MAX: Self = Self(u64::MAX - 2);
}

impl fmt::Display for SnapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::HEAD => f.write_str("head"),
            Self::DIR => f.write_str("snapdir"),
            Self(id) => write!(f, "{id:x}"),
        }
    }
}

impl fmt::Debug for SnapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Wire for SnapId {
    const BYTES_MIN: usize = 8;
    fn encode(&self, w: &mut Writer) {
        w.u64(self.0);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.u64().map(Self)
    }
}

/// `hobject`: an object, or a place between objects, in hash order.
///
/// Names are bytes, not text: clients may use any. Decoded names are copies, so an `HObject` may be kept
/// without keeping the message it came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HObject {
    /// Locator key; empty if it equals `oid` or there is none.
    pub key: Bytes,
    /// Name.
    pub oid: Bytes,
    /// Head, or a clone's id.
    pub snap: SnapId,
    /// Placement hash of the name (or key) and namespace.
    pub hash: u32,
    /// Whether this is the place after every object.
    pub max: bool,
    /// Namespace.
    pub nspace: Bytes,
    /// Pool.
    pub pool: PoolId,
}

impl HObject {
    /// The place before every object.
    pub const fn minimum() -> Self {
        Self {
            key: Bytes::new(),
            oid: Bytes::new(),
            snap: SnapId(0),
            hash: 0,
            max: false,
            nspace: Bytes::new(),
            pool: i64::MIN,
        }
    }

    /// The place after every object.
    pub fn maximum() -> Self {
        Self { max: true, ..Self::minimum() }
    }

    /// The place before every object whose bit-reversed hash is `reversed_hash` or more.
    pub fn hash_start(pool: PoolId, reversed_hash: u32) -> Self {
        Self { pool, hash: reversed_hash.reverse_bits(), ..Self::minimum() }
    }

    /// What an object sorts by after its hash and namespace: its locator key if it has one.
    pub fn effective_key(&self) -> &Bytes {
        if self.key.is_empty() { &self.oid } else { &self.key }
    }
}

/// All that is compared, in order. Two maxima are equal whatever their fields, but fields of a maximum are
/// always empty, so this agrees with `Eq`.
impl Ord for HObject {
    fn cmp(&self, other: &Self) -> Ordering {
        //= ceph 16.2 hobject_t: max flag, pool, reversed hash, nspace, effective key, oid, snap
        (self.max.cmp(&other.max))
            .then_with(|| self.pool.cmp(&other.pool))
            .then_with(|| self.hash.reverse_bits().cmp(&other.hash.reverse_bits()))
            .then_with(|| self.nspace.cmp(&other.nspace))
            .then_with(|| self.effective_key().cmp(other.effective_key()))
            .then_with(|| self.oid.cmp(&other.oid))
            .then_with(|| self.snap.cmp(&other.snap))
            // Only a key that spells out the name is left; peers must not send one, and the order must
            // agree with `Eq` all the same.
            .then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for HObject {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Wire for HObject {
    const BYTES_MIN: usize = 6 + 3 * 4 + 8 + 4 + 1 + 8;
    fn encode(&self, w: &mut Writer) {
        w.env(4, 3, |w| {
            w.blob(&self.key);
            w.blob(&self.oid);
            w.put(&self.snap);
            w.u32(self.hash);
            w.bool(self.max);
            w.blob(&self.nspace);
            w.s64(self.pool);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("hobject", 4, |r, version| {
            if version < 4 {
                return Err(r.error("hobject version 4 or newer", version.to_string()));
            }
            Ok(Self {
                key: r.name()?,
                oid: r.name()?,
                snap: r.get()?,
                hash: r.u32()?,
                max: r.bool()?,
                nspace: r.name()?,
                pool: r.s64()?,
            })
        })
    }
}

/// `oloc`: where an object is looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectLocator {
    /// Pool.
    pub pool: PoolId,
    /// Hashed instead of the name if not empty.
    pub key: Bytes,
    /// Namespace.
    pub nspace: Bytes,
    /// Explicit hash; −1 for none.
    pub hash: i64,
}

impl ObjectLocator {
    /// The default namespace of a pool, without a key.
    pub fn pool(pool: PoolId) -> Self {
        Self { pool, key: Bytes::new(), nspace: Bytes::new(), hash: -1 }
    }
}

impl Wire for ObjectLocator {
    const BYTES_MIN: usize = 6 + 8 + 4 + 4 + 4 + 8;
    fn encode(&self, w: &mut Writer) {
        // Readers before version 6 do not know the hash, so one that matters must lock them out.
        let compat = if self.hash == -1 { 3 } else { 6 };
        w.env(6, compat, |w| {
            w.s64(self.pool);
            w.s32(-1);
            w.blob(&self.key);
            w.blob(&self.nspace);
            w.s64(self.hash);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("object locator", 6, |r, version| {
            if version < 6 {
                return Err(r.error("object locator version 6 or newer", version.to_string()));
            }
            let pool = r.s64()?;
            r.skip(4)?;
            Ok(Self { pool, key: r.name()?, nspace: r.name()?, hash: r.s64()? })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(
        pool: PoolId,
        hash: u32,
        nspace: &'static str,
        key: &'static str,
        oid: &'static str,
    ) -> HObject {
        HObject {
            key: key.into(),
            oid: oid.into(),
            snap: SnapId::HEAD,
            hash,
            max: false,
            nspace: nspace.into(),
            pool,
        }
    }

    #[test]
    fn sorts_as_ceph_does() {
        let mut clone = object(1, 1, "n", "", "b");
        clone.snap = SnapId(4);
        let ascending = [
            HObject::minimum(),
            object(-1, 0xffff_ffff, "", "", "z"),
            HObject::hash_start(1, 0),
            object(1, 0, "", "", "a"),
            object(1, 0x8000_0000, "", "", "a"),
            object(1, 0x4000_0000, "", "", "a"),
            object(1, 1, "", "", "z"),
            object(1, 1, "n", "", "a"),
            clone,
            object(1, 1, "n", "", "b"),
            object(1, 1, "n", "b", "c"),
            object(1, 1, "n", "c", "a"),
            object(2, 0, "", "", "a"),
            HObject::maximum(),
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} against {b:?}");
            }
        }
    }
}
