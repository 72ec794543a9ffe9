//! Names and small values of the object store.

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;

use crate::check::mask;
use crate::checksum::ChecksumKind;
use crate::compression::{Compressibility, Compression};
use crate::limits;

/// A collection: the objects of one placement group, or the store's meta objects.
///
/// It holds the objects of `pool` whose hash, masked to its lowest `bits` bits, equals `seed`. So a placement group
/// splits by changing `bits`, and its objects are one contiguous range in [`ObjectId`]'s order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionId {
    /// Pool, or [`CollectionId::META`]'s −1.
    pub pool: i64,
    /// Placement seed.
    pub seed: u32,
}

impl CollectionId {
    /// Where the OSD keeps its superblock and maps.
    pub const META: Self = Self { pool: -1, seed: 0 };

    /// Whether objects of this hash are its, if it has so many bits.
    pub fn has_hash(self, bits: u8, hash: u32) -> bool {
        hash & mask(bits) == self.seed
    }

    /// Whether some object could belong to it and to another one, each with its bits.
    pub fn overlaps(self, bits: u8, other: Self, other_bits: u8) -> bool {
        let shared = mask(bits.min(other_bits));
        self.pool == other.pool && self.seed & shared == other.seed & shared
    }
}

/// An object's full name. `Ord` is enumeration order: pool, bit-reversed hash, namespace, effective key
/// (`key`, or `name` if that is empty), name, snap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// Pool.
    pub pool: i64,
    /// Placement hash of the name.
    pub hash: u32,
    /// Namespace, empty for the default one.
    pub namespace: Bytes,
    /// Locator key, empty if none.
    pub key: Bytes,
    /// Name; any bytes, not empty.
    pub name: Bytes,
    /// Snapshot id, or [`ObjectId::HEAD`].
    pub snap: u64,
}

impl ObjectId {
    /// `snap` of the writable object.
    pub const HEAD: u64 = u64::MAX - 1;

    /// The same in memory of its own: names that came over the network are parts of long buffers.
    pub fn owned(&self) -> Self {
        let own = |text: &Bytes| if text.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(text) };
        Self { namespace: own(&self.namespace), key: own(&self.key), name: own(&self.name), ..self.clone() }
    }

    /// The key if there is one, else the name.
    pub fn effective_key(&self) -> &Bytes {
        if self.key.is_empty() { &self.name } else { &self.key }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of pool {}", String::from_utf8_lossy(&self.name), self.pool)?;
        if !self.namespace.is_empty() {
            write!(f, ", namespace {:?}", String::from_utf8_lossy(&self.namespace))?;
        }
        if !self.key.is_empty() {
            write!(f, ", key {:?}", String::from_utf8_lossy(&self.key))?;
        }
        if self.snap != Self::HEAD {
            write!(f, ", snapshot {:#x}", self.snap)?;
        }
        Ok(())
    }
}

impl Ord for ObjectId {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.pool, self.hash.reverse_bits())
            .cmp(&(other.pool, other.hash.reverse_bits()))
            .then_with(|| self.namespace.cmp(&other.namespace))
            .then_with(|| self.effective_key().cmp(other.effective_key()))
            .then_with(|| self.name.cmp(&other.name))
            .then_with(|| self.snap.cmp(&other.snap))
            .then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for ObjectId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectStat {
    /// Logical size, bytes.
    pub size: u64,
    /// Bytes of device space allocated to its data.
    pub allocated: u64,
    /// Of these, bytes of compressed data.
    pub compressed: u64,
    /// What a client said of its data.
    pub hints: Hints,
}

/// Position in a placement group's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogVersion {
    /// Map epoch.
    pub epoch: u32,
    /// Counter within the placement group.
    pub version: u64,
}

/// What a pool wants of the store, where it differs from the store's own choice. It holds for what is written from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolOptions {
    /// What protects blocks.
    pub checksum: Option<ChecksumKind>,
    /// How much is under one checksum.
    pub checksum_chunk: ChunkBounds,
    /// What is compressed, and how.
    pub compression: Option<Compression>,
}

/// How many bytes of new data are under one checksum, where a pool says it. Powers of two count, from the block up to
/// `limits::CHECKSUM_CHUNK_BYTES_MAX`; the smallest no more than the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkBounds {
    /// Whatever was said of the object; the block if not given.
    pub min: Option<u64>,
    /// Where a client said that an object is read from lower offsets to higher ones and not changed; as much as there may be
    /// if not given.
    pub max: Option<u64>,
}

impl ChunkBounds {
    /// With the other's where it gives none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { min: self.min.or(other.min), max: self.max.or(other.max) }
    }

    /// What they are for an object, bytes.
    pub fn bytes(self, hints: Hints, block: u64) -> u64 {
        let most = limits::CHECKSUM_CHUNK_BYTES_MAX.max(block);
        let largest = self.max.unwrap_or(most);
        let wanted = if hints.is_streamed { largest } else { self.min.unwrap_or(block).min(largest) };
        let power = wanted.checked_ilog2().map_or(0, |log| 1 << log);
        power.clamp(block, most)
    }
}

/// What a client said of an object's data. All of it is advice, and kept with the object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Whether it compresses.
    pub compression: Compressibility,
    /// It is read from lower offsets to higher ones, and appended to at most.
    pub is_streamed: bool,
}

impl Hints {
    /// Bit of [`Self::number`].
    const STREAMED: u8 = 4;

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map_while(Self::from_number)
    }

    /// Their number in exports.
    pub fn number(self) -> u8 {
        self.compression.number() | if self.is_streamed { Self::STREAMED } else { 0 }
    }

    /// Those with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        let compression = Compressibility::from_number(number & !Self::STREAMED)?;
        Some(Self { compression, is_streamed: number & Self::STREAMED != 0 })
    }
}

impl From<Compressibility> for Hints {
    fn from(compression: Compressibility) -> Self {
        Self { compression, ..Self::default() }
    }
}

/// What a pool uses in this store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Objects.
    pub objects: i64,
    /// Logical bytes (sum of sizes).
    pub bytes: i64,
    /// Bytes of device space allocated to data.
    pub allocated: i64,
    /// Bytes written by clients and stored (without holes).
    pub stored: i64,
    /// Omap keys.
    pub omap_keys: i64,
    /// Bytes of omap keys and values.
    pub omap_bytes: i64,
    /// Bytes of device space of compressed data. What clones share counts for each of them, but once in [`Self::allocated`].
    pub compressed: i64,
    /// Of [`Self::stored`], what is stored compressed.
    pub compressed_original: i64,
}

impl PoolStats {
    /// How many fields there are.
    pub const FIELDS: usize = 8;
    /// How many there were before there was compression.
    pub const FIELDS_PLAIN: usize = 6;

    /// The fields in the order in which they are stored.
    pub fn to_array(&self) -> [i64; Self::FIELDS] {
        let Self {
            objects,
            bytes,
            allocated,
            stored,
            omap_keys,
            omap_bytes,
            compressed,
            compressed_original,
        } = *self;
        [objects, bytes, allocated, stored, omap_keys, omap_bytes, compressed, compressed_original]
    }

    /// See [`Self::to_array`].
    pub fn from_array(fields: [i64; Self::FIELDS]) -> Self {
        let [objects, bytes, allocated, stored, omap_keys, omap_bytes, compressed, compressed_original] =
            fields;
        Self { objects, bytes, allocated, stored, omap_keys, omap_bytes, compressed, compressed_original }
    }

    /// Field by field, wrapping as the key-value store's merge does.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let (mut sum, other) = (self.to_array(), other.to_array());
        for (a, b) in sum.iter_mut().zip(other) {
            *a = a.wrapping_add(b);
        }
        Self::from_array(sum)
    }

    /// Field by field, wrapping.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&Self::from_array(other.to_array().map(i64::wrapping_neg)))
    }
}

/// What a client says of how it uses data. All of it is advice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessHints {
    /// Whether it will need it again.
    pub keep: Keep,
    /// In which order it reads.
    pub pattern: Pattern,
    /// Blocks come from the device, so that they are verified, and stay no longer in memory than the read takes.
    pub verifies: bool,
}

/// See [`AccessHints`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// It did not say.
    #[default]
    Usual,
    /// It will.
    Long,
    /// It will not.
    Not,
}

/// See [`AccessHints`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pattern {
    /// It did not say.
    #[default]
    Unknown,
    /// From lower offsets to higher ones.
    Sequential,
    /// In none.
    Random,
}

impl AccessHints {
    /// Of a read that looks whether what is stored can be read.
    pub const VERIFY: Self = Self { keep: Keep::Not, pattern: Pattern::Unknown, verifies: true };
    /// Of a read of what a client that goes on like that reads next.
    pub const AHEAD: Self = Self { keep: Keep::Usual, pattern: Pattern::Sequential, verifies: false };

    /// Whether what is read is worth that something else goes from memory for it.
    pub fn is_worth_room(&self) -> bool {
        self.keep == Keep::Long || self.pattern == Pattern::Sequential
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_a_power_of_two_within_bounds() {
        let check = |min, max, expected: [u64; 2]| {
            let bytes = [false, true].map(|is_streamed| {
                ChunkBounds { min, max }.bytes(Hints { is_streamed, ..Hints::default() }, 4096)
            });
            assert_eq!(bytes, expected, "{min:?} to {max:?}");
        };
        check(None, None, [4096, 64 << 10]);
        check(None, Some(16 << 10), [4096, 16 << 10]);
        check(Some(8 << 10), None, [8 << 10, 64 << 10]);
        check(Some(32 << 10), Some(8 << 10), [8 << 10, 8 << 10]);
        check(Some(20_000), Some(40_000), [16 << 10, 32 << 10]);
        check(Some(1), Some(0), [4096, 4096]);
        check(Some(u64::MAX), Some(u64::MAX), [64 << 10, 64 << 10]);
        let streamed = Hints { is_streamed: true, ..Hints::default() };
        assert_eq!(ChunkBounds::default().bytes(streamed, 128 << 10), 128 << 10, "a block is not divided");
    }

    #[test]
    fn hints_have_numbers() {
        let numbers: Vec<u8> = Hints::all().map(Hints::number).collect();
        assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn collections_that_share_hashes_overlap() {
        let of = |seed| CollectionId { pool: 1, seed };
        assert!(of(7).overlaps(3, of(7), 3) && of(7).overlaps(3, of(3), 2) && of(7).overlaps(3, of(0), 0));
        assert!(of(3).overlaps(2, of(7), 3));
        assert!(!of(7).overlaps(3, of(6), 3) && !of(7).overlaps(3, of(1), 2));
        assert!(!of(7).overlaps(3, CollectionId { pool: 2, seed: 7 }, 3), "of another pool");
        assert!(of(7).has_hash(3, 0xf) && !of(7).has_hash(3, 0xe) && of(0).has_hash(0, 5));
    }
}
