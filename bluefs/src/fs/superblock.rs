//! [`Superblock`]: where the log is. Two copies; each replaced only when the other is good on its own.

use std::cmp::Ordering;

use allocator::Extent;
use allocator::limits::BLOCKS_MAX;
use uuid::Uuid;

use crate::fs::codec::{Decoder, Encoder};
use crate::fs::error::{FsError, FsResult};
use crate::fs::limits::{
    ALLOC_UNIT_MAX, LOG_BYTES_MAX, LOG_BYTES_MIN_MAX, LOG_EXTENTS_MAX, SMALL_PIECES_MAX, SMALL_UNIT,
    SUPERBLOCK_BYTES,
};

const MAGIC: u64 = u64::from_le_bytes(*b"spBlueFS");
const VERSION: u32 = 1;
/// Where the checksum stands; it is computed with these bytes as zero.
const CRC_AT: usize = 12;

/// Feature bits this version knows.
const KNOWN_READ_ONLY: u64 = 0;
const KNOWN_INCOMPATIBLE: u64 = INCOMPATIBLE_FAST | INCOMPATIBLE_SMALL;

/// Incompatible: there is a fast space beside the main one, and the log may have moves of files' extents.
pub const INCOMPATIBLE_FAST: u64 = 1;

/// Incompatible: space of the main device may be lent, and files may have extents, in pieces smaller than the allocation unit.
pub const INCOMPATIBLE_SMALL: u64 = 2;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The file system's identity.
    pub uuid: Uuid,
    /// Counts the logs; the copy with the higher one holds.
    pub generation: u64,
    /// Feature bits an older version may ignore.
    pub features_compatible: u64,
    /// Feature bits an older version may ignore if it only reads.
    pub features_read_only: u64,
    /// Feature bits an older version must refuse.
    pub features_incompatible: u64,
    /// Unit of I/O, bytes.
    pub block_size: u32,
    /// Unit of allocation, bytes; a multiple of the block size.
    pub alloc_unit: u32,
    /// Smallest log, bytes.
    pub log_bytes_min: u64,
    /// Bytes of the device when formatted; every extent lies below.
    pub device_size: u64,
    /// Stamp of every group of the present log.
    pub log_id: u64,
    /// Bytes of the log that are the snapshot: a mismatch there is corruption, never a torn tail.
    pub snapshot_bytes: u64,
    /// Fast space on another device, wholly lent; every extent lies in it or below `device_size`. It has a feature bit.
    pub fast: Option<Extent>,
    /// Where the log is, in order.
    pub log: Vec<Extent>,
    /// Reserved for encryption at rest; zero means none.
    pub key_id: u128,
}

impl Superblock {
    /// The bytes of one copy: [`SUPERBLOCK_BYTES`], or a block if that is larger.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u64(MAGIC);
        out.u32(VERSION);
        out.u32(0);
        out.bytes.extend(self.uuid.as_bytes());
        out.u64(self.generation);
        out.u64(self.features_compatible);
        out.u64(self.features_read_only);
        out.u64(self.features_incompatible);
        out.u32(self.block_size);
        out.u32(self.alloc_unit);
        out.u64(self.log_bytes_min);
        out.u64(self.device_size);
        out.u64(self.log_id);
        out.u64(self.snapshot_bytes);
        out.bytes.extend(self.key_id.to_le_bytes());
        out.extents(&self.log);
        self.fast.iter().for_each(|extent| out.extent(*extent));
        out.bytes.resize(SUPERBLOCK_BYTES, 0);
        let crc = crc32c::crc32c(&out.bytes);
        out.bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out.bytes
    }

    /// `None` if these are not our bytes at all.
    fn decode(bytes: &[u8]) -> FsResult<Option<Self>> {
        let Some(bytes) = bytes.get(..SUPERBLOCK_BYTES) else {
            return Err(FsError::corrupt("a superblock copy is cut short"));
        };
        let mut from = Decoder::new(bytes);
        if from.u64()? != MAGIC {
            return Ok(None);
        }
        let (version, crc) = (from.u32()?, from.u32()?);
        let mut zeroed = bytes.to_vec();
        zeroed[CRC_AT..CRC_AT + 4].fill(0);
        let found = crc32c::crc32c(&zeroed);
        if found != crc {
            return Err(FsError::corrupt(format!("superblock checksum {found:#x}, expected {crc:#x}")));
        }
        if version != VERSION {
            return Err(FsError::Unsupported { what: format!("superblock version {version}") });
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(from.take(16)?);
        let mut superblock = Self {
            uuid: Uuid::from_bytes(uuid),
            generation: from.u64()?,
            features_compatible: from.u64()?,
            features_read_only: from.u64()?,
            features_incompatible: from.u64()?,
            block_size: from.u32()?,
            alloc_unit: from.u32()?,
            log_bytes_min: from.u64()?,
            device_size: from.u64()?,
            log_id: from.u64()?,
            snapshot_bytes: from.u64()?,
            key_id: from.u128()?,
            log: from.extents(LOG_EXTENTS_MAX)?,
            fast: None,
        };
        if superblock.features_incompatible & INCOMPATIBLE_FAST != 0 {
            superblock.fast = Some(from.extent()?);
        }
        superblock.check()?;
        Ok(Some(superblock))
    }

    /// The copy that holds and which one it is, from the two reads: the first of [`Superblock::candidates`].
    pub fn choose(copies: [FsResult<Vec<u8>>; 2], offsets: [u64; 2]) -> FsResult<(Self, usize)> {
        let mut candidates = Self::candidates(copies, offsets)?;
        Ok(candidates.swap_remove(0))
    }

    /// Copies that are whole and which they are, the newest first; at least one. An unreadable or damaged copy is tolerated:
    /// whenever the log has moved on, both copies were durable first. So if there are two of different generations, the
    /// newer is of a log that nothing was added to yet, and the older tells the same.
    pub fn candidates(copies: [FsResult<Vec<u8>>; 2], offsets: [u64; 2]) -> FsResult<Vec<(Self, usize)>> {
        let mut whole: Vec<(Self, usize)> = Vec::new();
        let mut problem = None;
        for (index, copy) in copies.into_iter().enumerate() {
            match copy.and_then(|bytes| Self::decode(&bytes)) {
                Ok(Some(found)) => {
                    let other = whole.first().map(|(other, _)| other);
                    if let Some(other) = other.filter(|other| other.uuid != found.uuid) {
                        return Err(FsError::corrupt(format!(
                            "superblocks of {} and {}",
                            other.uuid, found.uuid
                        )));
                    }
                    match other.map(|other| other.generation.cmp(&found.generation)) {
                        Some(Ordering::Less) => whole.insert(0, (found, index)),
                        Some(Ordering::Greater) | None => whole.push((found, index)),
                        Some(Ordering::Equal) => {}
                    }
                }
                Ok(None) => {}
                Err(error) => problem = Some(error),
            }
        }
        match (whole.is_empty(), problem) {
            (false, _) => Ok(whole),
            (true, Some(problem)) => Err(problem),
            (true, None) => Err(FsError::NotFormatted { offsets }),
        }
    }

    /// Sets the fast space and its feature bit.
    pub(crate) fn set_fast(&mut self, fast: Option<Extent>) {
        self.fast = fast;
        self.features_incompatible &= !INCOMPATIBLE_FAST;
        self.features_incompatible |= if fast.is_some() { INCOMPATIBLE_FAST } else { 0 };
    }

    /// Whether an extent may be the fast space: beyond the main device, in whole units, not too many.
    pub(crate) fn may_be_fast(&self, extent: Extent) -> bool {
        let unit = u64::from(self.alloc_unit.max(1));
        extent.start >= self.device_size
            && extent.start.is_multiple_of(unit)
            && extent.len.is_multiple_of(unit)
            && extent.len / unit <= BLOCKS_MAX
    }

    /// Allows pieces smaller than the allocation unit, if that is larger than the least there could be.
    pub(crate) fn allow_small(&mut self) {
        if u64::from(self.alloc_unit) > self.small_unit() {
            self.features_incompatible |= INCOMPATIBLE_SMALL;
        }
    }

    /// What pieces are multiples of, and aligned to, that are smaller than the allocation unit; bytes.
    pub(crate) fn small_unit(&self) -> u64 {
        SMALL_UNIT.max(self.block_size.into())
    }

    /// How much space is lent at most in such pieces: as many of the least ones as an allocation unit has bytes. So even if
    /// each is lent, and in a file, by itself, a snapshot of all that takes about half of the log that can always be made of
    /// single units.
    pub(crate) fn small_bytes_max(&self) -> u64 {
        let is_allowed = self.features_incompatible & INCOMPATIBLE_SMALL != 0;
        let pieces = if is_allowed { u64::from(self.alloc_unit).min(SMALL_PIECES_MAX) } else { 0 };
        pieces * self.small_unit()
    }

    /// Whether space may be lent so: in whole units, or as a piece without one.
    pub(crate) fn may_be_lent(&self, extent: Extent) -> bool {
        let unit = u64::from(self.alloc_unit);
        let is_aligned = |unit: u64| extent.start.is_multiple_of(unit) && extent.len.is_multiple_of(unit);
        let is_small = self.small_bytes_max() > 0
            && is_aligned(self.small_unit())
            && extent.start.next_multiple_of(unit).saturating_add(unit) > extent.end();
        is_aligned(unit) || is_small
    }

    /// Whether an extent is where space may be.
    pub(crate) fn has_place(&self, extent: &Extent) -> bool {
        extent.end() <= self.device_size || self.fast.is_some_and(|fast| fast.contains(extent))
    }

    /// Bytes of the whole log.
    pub fn log_bytes(&self) -> u64 {
        self.log.iter().map(|extent| extent.len).sum()
    }

    /// Whether a mount that writes must refuse.
    pub fn is_read_only(&self) -> bool {
        self.features_read_only & !KNOWN_READ_ONLY != 0
    }

    fn check(&self) -> FsResult<()> {
        let unknown = self.features_incompatible & !KNOWN_INCOMPATIBLE;
        if unknown != 0 || self.key_id != 0 {
            return Err(FsError::Unsupported {
                what: format!("features {unknown:#x}, key {:#x}", self.key_id),
            });
        }
        let block_size = self.block_size;
        let geometry_ok = block_size.is_power_of_two()
            && (512..=65536).contains(&block_size)
            && self.alloc_unit.is_power_of_two()
            && self.alloc_unit >= block_size
            && self.alloc_unit <= ALLOC_UNIT_MAX
            && self.device_size / u64::from(self.alloc_unit) <= BLOCKS_MAX
            && self.log_bytes_min <= LOG_BYTES_MIN_MAX;
        let fast_ok = self.fast.is_none_or(|fast| self.may_be_fast(fast));
        let log_ok = !self.log.is_empty()
            && self.log.iter().all(|extent| {
                self.has_place(extent)
                    && extent.start.is_multiple_of(u64::from(self.alloc_unit))
                    && extent.len.is_multiple_of(u64::from(self.alloc_unit))
                    && extent.len <= LOG_BYTES_MAX
            });
        if !geometry_ok
            || !fast_ok
            || !log_ok
            || self.log_bytes() > LOG_BYTES_MAX
            || self.snapshot_bytes > self.log_bytes()
        {
            return Err(FsError::corrupt(format!("superblock fields: {self:?}")));
        }
        Ok(())
    }
}
