//! The slice's superblock: who it belongs to, where its regions are, and the mount epoch. Pure; two copies on the
//! device, of which the valid one with the higher generation counts, written in turn so that one is always whole.

use allocator::Extent;
use bytes::Bytes;
use nvme::joined::member_base;
use uuid::Uuid;

use crate::FreeList;
use crate::codec::{DecodeError, DecodeResult, Decoder, Encoder};
use crate::devices::Parts;

const MAGIC: u64 = u64::from_le_bytes(*b"SPIRSLIC");
const VERSION: u16 = 1;
/// Bytes that a superblock takes; the rest of its block is zero.
pub const SUPERBLOCK_BYTES: usize = 512;

/// More than any counter reaches in the life of a device, and far from where adding overflows.
const COUNTER_MAX: u64 = 1 << 62;

/// Read-only compatible features that this version knows: unknown ones allow only reading. Compatible ones need no
/// list, since any version may ignore them.
pub const RO_COMPAT_KNOWN: u64 = 0;
/// Incompatible features that this version knows: unknown ones forbid everything.
pub const INCOMPAT_KNOWN: u64 =
    INCOMPAT_MOUNT | INCOMPAT_MERGED_FREE_LIST | INCOMPAT_PARTS | INCOMPAT_GROWN | INCOMPAT_LABEL_KEYS;
/// Those of them that every mount sets, because it may write what they stand for.
pub const INCOMPAT_MOUNT: u64 = INCOMPAT_RETURNS
    | INCOMPAT_SHARES
    | INCOMPAT_CHECKSUMS
    | INCOMPAT_COMPRESSION
    | INCOMPAT_INLINE
    | INCOMPAT_COMPACT_SHARDS
    | INCOMPAT_SHORT_RECORDS
    | INCOMPAT_CHUNKS;

/// Incompatible: the journal may hold items that say that lent space came back.
pub const INCOMPAT_RETURNS: u64 = 1;
/// Incompatible: objects may share blobs.
pub const INCOMPAT_SHARES: u64 = 2;
/// Incompatible: blobs may have other checksums than crc32c.
pub const INCOMPAT_CHECKSUMS: u64 = 4;
/// Incompatible: blobs may be compressed, and onodes and statistics may tell of it.
pub const INCOMPAT_COMPRESSION: u64 = 8;
/// Incompatible: shards may have the bytes of small objects themselves.
pub const INCOMPAT_INLINE: u64 = 16;
/// Incompatible: values of shards may be of version 3.
pub const INCOMPAT_COMPACT_SHARDS: u64 = 32;
/// Incompatible: values of onodes may be of version 4, and items of records of the kinds from 15 on.
pub const INCOMPAT_SHORT_RECORDS: u64 = 64;
/// Incompatible: changes are merged into the free list, in chunks. Set when a store is formatted so.
pub const INCOMPAT_MERGED_FREE_LIST: u64 = 256;
/// Incompatible: the store has parts on other devices, which the superblock names.
pub const INCOMPAT_PARTS: u64 = 512;

/// Incompatible: the window is larger than when the store was formatted, and the superblock tells what it was then.
pub const INCOMPAT_GROWN: u64 = 1024;

/// Incompatible, of labels: there are keys that operators set.
pub const INCOMPAT_LABEL_KEYS: u64 = 2048;

/// Incompatible: several blocks may be under one checksum, and onodes may say of an object that it is streamed.
pub const INCOMPAT_CHUNKS: u64 = 4096;

/// Feature bits of a superblock or label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Any version may ignore these.
    pub compat: u64,
    /// A version that does not know one of these must not write.
    pub ro_compat: u64,
    /// A version that does not know one of these must not even read.
    pub incompat: u64,
}

impl Features {
    /// What may be done here: an error if nothing, else whether writing is allowed.
    pub fn check(&self) -> Result<bool, u64> {
        let unknown = self.incompat & !INCOMPAT_KNOWN;
        if unknown != 0 {
            return Err(unknown);
        }
        Ok(self.ro_compat & !RO_COMPAT_KNOWN == 0)
    }

    pub(crate) fn encode(&self, e: &mut Encoder) {
        e.u64(self.compat);
        e.u64(self.ro_compat);
        e.u64(self.incompat);
    }

    pub(crate) fn decode(d: &mut Decoder) -> DecodeResult<Self> {
        Ok(Self {
            compat: d.u64("compatible features")?,
            ro_compat: d.u64("read-only compatible features")?,
            incompat: d.u64("incompatible features")?,
        })
    }
}

/// See the module. Addresses are within the slice's window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Counts the writes.
    pub generation: u64,
    /// See [`Features`].
    pub features: Features,
    /// Names this store; made when it was formatted, and part of the journal's first checksum.
    pub store: Uuid,
    /// Bytes of the window.
    pub window: u64,
    /// What they were when the store was formatted. More than that has a feature bit.
    pub formatted: u64,
    /// Unit of allocation and checksums, bytes.
    pub block: u32,
    /// Unit of journal writes, bytes.
    pub journal_block: u32,
    /// Counts the mounts. Groups from `epoch_start` on carry exactly this epoch, those before a lower one.
    pub epoch: u64,
    /// Number of the first group that this epoch writes. All groups below it are durable and were verified.
    pub epoch_start: u64,
    /// Key that the slice's data is encrypted with; 0, none, in this version.
    pub key_id: u64,
    /// Parts on other devices. They have a feature bit.
    pub parts: Parts,
    /// Journal: on the part for it, or in the window.
    pub journal: Extent,
    /// Log of the placement groups, behind it.
    pub pg_log: Extent,
    /// What the key-value store's file system owns from the start.
    pub kv: Extent,
}

impl Superblock {
    /// The bytes of a copy, without padding.
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::with_capacity(SUPERBLOCK_BYTES);
        e.u64(MAGIC);
        e.u16(VERSION);
        e.u64(self.generation);
        self.features.encode(&mut e);
        e.raw(self.store.as_bytes());
        e.u64(self.window);
        e.u32(self.block);
        e.u32(self.journal_block);
        e.u64(self.epoch);
        e.u64(self.epoch_start);
        e.u64(self.key_id);
        for region in [self.journal, self.pg_log, self.kv] {
            e.u64(region.start);
            e.u64(region.len);
        }
        if self.features.incompat & INCOMPAT_PARTS != 0 {
            self.parts.encode(&mut e);
        }
        if self.features.incompat & INCOMPAT_GROWN != 0 {
            e.u64(self.formatted);
        }
        e.u32(crc32c::crc32c(e.as_slice()));
        e.finish()
    }

    /// Reads a copy.
    pub fn decode(bytes: Bytes) -> DecodeResult<Self> {
        let mut d = Decoder::new(bytes.clone());
        let magic = d.u64("magic")?;
        if magic != MAGIC {
            return d.invalid("magic", 0, magic);
        }
        let version = d.u16("version of a superblock")?;
        if version != VERSION {
            return d.invalid("version of a superblock", 8, version.into());
        }
        let generation = d.u64("generation")?;
        let features = Features::decode(&mut d)?;
        let mut store = [0; 16];
        store.copy_from_slice(&d.raw(16, "store uuid")?);
        let (window, block, journal_block) =
            (d.u64("window")?, d.u32("block size")?, d.u32("journal block size")?);
        let (epoch, epoch_start, key_id) = (d.u64("epoch")?, d.u64("start of epoch")?, d.u64("key id")?);
        let mut region = || -> DecodeResult<Extent> {
            let at = d.at();
            let (start, len) = (d.u64("region")?, d.u64("region")?);
            Extent::checked(start, len).ok_or(DecodeError::Value { what: "region", at, value: start })
        };
        let (journal, pg_log, kv) = (region()?, region()?, region()?);
        let has_parts = features.incompat & INCOMPAT_PARTS != 0;
        let parts = if has_parts { Parts::decode(&mut d)? } else { Parts::default() };
        let has_grown = features.incompat & INCOMPAT_GROWN != 0;
        let formatted = if has_grown { d.u64("window when formatted")? } else { window };
        for (region, parts) in [(journal, parts), (pg_log, parts), (kv, Parts::default())] {
            if !parts.has_place(region, window) {
                return d.invalid("region", 0, region.start);
            }
        }
        let end = d.at();
        let stored = d.u32("checksum")?;
        if stored != crc32c::crc32c(bytes.get(..end).unwrap_or_default()) {
            return d.invalid("checksum", end, stored.into());
        }
        let blocks_valid = window < member_base(1)
            && block.is_power_of_two()
            && journal_block.is_power_of_two()
            && journal_block >= 512
            && block >= journal_block
            && u64::from(block) <= window / 2
            && formatted <= window
            && formatted.is_multiple_of(block.into());
        if !blocks_valid {
            return d.invalid("window or block size", 0, block.into());
        }
        for counter in [generation, epoch, epoch_start] {
            if counter > COUNTER_MAX {
                return d.invalid("counter", 0, counter);
            }
        }
        Ok(Self {
            generation,
            features,
            store: Uuid::from_bytes(store),
            window,
            formatted,
            block,
            journal_block,
            epoch,
            epoch_start,
            key_id,
            parts,
            journal,
            pg_log,
            kv,
        })
    }

    /// How the free list is kept.
    pub fn free_list(&self) -> FreeList {
        match self.features.incompat & INCOMPAT_MERGED_FREE_LIST {
            0 => FreeList::Pages,
            _ => FreeList::Merge,
        }
    }

    /// Sets the parts and their feature bit, and with them where the journal and the placement groups' log are: in the same
    /// place of one device or another.
    pub fn set_parts(&mut self, parts: Parts) {
        self.parts = parts;
        self.features.incompat &= !INCOMPAT_PARTS;
        self.features.incompat |= if parts.is_empty() { 0 } else { INCOMPAT_PARTS };
        let base = member_base(parts.journal_role().slot());
        self.journal.start = base + u64::from(self.block);
        self.pg_log.start = self.journal.end();
    }

    /// Takes over what the window has become.
    pub fn grow(&mut self, window: u64) {
        assert!(window >= self.window, "a window of {} bytes becomes one of {window}", self.window);
        self.window = window;
        self.features.incompat |= if window > self.formatted { INCOMPAT_GROWN } else { 0 };
    }

    /// Where the copies are: the first block of the window and the last.
    pub fn places(window: u64, block: u64) -> [u64; 2] {
        [0, window - block]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Part;

    fn sample() -> Superblock {
        Superblock {
            generation: 3,
            features: Features { compat: 1, ro_compat: 0, incompat: 0 },
            store: Uuid::from_u128(77),
            window: 1 << 30,
            formatted: 1 << 30,
            block: 4096,
            journal_block: 512,
            epoch: 9,
            epoch_start: 1000,
            key_id: 0,
            parts: Parts::default(),
            journal: Extent::new(4096, 1 << 20),
            pg_log: Extent::new(2 << 20, 1 << 20),
            kv: Extent::new(4 << 20, 8 << 20),
        }
    }

    #[test]
    fn round_trips_and_notices_every_flipped_bit() {
        round_trips(&sample());
        let part = |id, len| Some(Part { id: Uuid::from_u128(id), len });
        for parts in [
            Parts { db: part(1, 64 << 20), wal: None },
            Parts { db: None, wal: part(2, 4 << 20) },
            Parts { db: part(1, 64 << 20), wal: part(2, 4 << 20) },
        ] {
            let mut superblock = sample();
            superblock.set_parts(parts);
            assert_ne!(superblock.journal, sample().journal);
            round_trips(&superblock);
            superblock.set_parts(Parts::default());
            assert_eq!(superblock.features, sample().features);
            // A region on a part that is not there, or too small for it.
            superblock.set_parts(parts);
            superblock.parts = Parts { db: part(1, 1 << 20), wal: part(2, 1 << 20) };
            assert!(Superblock::decode(Bytes::from(superblock.encode())).is_err());
        }
    }

    fn round_trips(superblock: &Superblock) {
        let bytes = superblock.encode();
        assert!(bytes.len() <= SUPERBLOCK_BYTES);
        assert_eq!(Superblock::decode(Bytes::from(bytes.clone())).as_ref(), Ok(superblock));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(Superblock::decode(Bytes::from(damaged)).is_err());
            }
            assert!(Superblock::decode(Bytes::copy_from_slice(&bytes[..at])).is_err());
        }
    }

    #[test]
    fn unknown_features_forbid_what_they_say() {
        let features = |compat, ro_compat, incompat| Features { compat, ro_compat, incompat }.check();
        assert_eq!(features(1 << 40, 0, 0), Ok(true));
        assert_eq!(features(0, 1 << 40, 0), Ok(false));
        assert_eq!(features(0, 0, 1 << 40), Err(1 << 40));
    }

    #[test]
    fn a_window_that_grew_round_trips() {
        let mut superblock = sample();
        superblock.grow(1 << 30);
        assert_eq!(superblock, sample(), "as large as it was");
        superblock.grow((1 << 30) + (1 << 20));
        round_trips(&superblock);
        superblock.set_parts(Parts { db: Some(Part { id: Uuid::from_u128(1), len: 64 << 20 }), wal: None });
        round_trips(&superblock);
        superblock.formatted = superblock.window + 4096;
        assert!(Superblock::decode(Bytes::from(superblock.encode())).is_err());
    }
}
