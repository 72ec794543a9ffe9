//! The superblock of a log: what it is, whose it is, and where its current slot begins.
//!
//! Invariant: a superblock is written only when everything it points to is durable. Pure.

use uuid::Uuid;

use crate::limits::{LOG_ALIGN_MIN, LOG_SLOTS_START, LOG_SUPERBLOCK_SPACING, MON_NAME_BYTES_MAX};

use super::{LogIdentity, LogIndex};

/// Bytes of a superblock: the smallest unit that every device writes whole.
pub const SUPERBLOCK_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"SPIRMONL";
const VERSION: u32 = 1;
const CRC_OFFSET: usize = SUPERBLOCK_BYTES - 4;
const NAME_OFFSET: usize = 128;
const SALT_OFFSET: usize = 192;

/// More than anything counted here reaches in the life of a device, and far from where adding overflows.
const COUNTER_MAX: u64 = 1 << 62;

const _: () = assert!(NAME_OFFSET + 1 + MON_NAME_BYTES_MAX <= SALT_OFFSET);

/// Incompatible features that this version knows.
pub const INCOMPAT_KNOWN: u64 = 0;

/// One copy of the superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Alignment of slots, snapshots and records, bytes.
    pub align: u64,
    /// Cluster and monitor.
    pub identity: LogIdentity,
    /// Features a reader or writer may not know.
    pub compat: u64,
    /// Features only a writer must know.
    pub ro_compat: u64,
    /// Features everyone must know.
    pub incompat: u64,
    /// Bytes of the device that the log uses.
    pub device_bytes: u64,
    /// Counts superblock writes; of two valid copies the higher is the newer.
    pub sequence: u64,
    /// Counts openings; records carry it.
    pub epoch: u64,
    /// Counts snapshots; slot `generation % 2` is current.
    pub generation: u64,
    /// Bytes of the snapshot at the start of the slot; 0 for none.
    pub snapshot_len: u64,
    /// Last entry in the snapshot.
    pub snapshot_through: LogIndex,
    /// crc32c of the snapshot's bytes.
    pub snapshot_crc: u32,
    /// Entries up to here were durable when this was written.
    pub sealed_through: LogIndex,
    /// Key that encrypts the log; 0 for none. No other value is known yet.
    pub key_id: u64,
    /// Random bits of this formatting, so that records of an earlier life of the device never pass.
    pub salt: u64,
}

/// Why a copy is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockFault {
    /// Something else, or nothing, is there.
    #[error("no superblock")]
    Magic,
    /// Torn or damaged.
    #[error("a superblock with a bad checksum")]
    Checksum,
    /// A later format.
    #[error("a superblock of format version {0}")]
    Version(u32),
    /// The checksum is right but the fields make no sense.
    #[error("a superblock with an impossible {0}")]
    Field(&'static str),
}

impl Superblock {
    /// Offset of copy 0 or 1 on the device.
    pub fn copy_offset(copy: u64) -> u64 {
        copy * LOG_SUPERBLOCK_SPACING
    }

    /// Bytes of each of the two slots.
    pub fn slot_bytes(&self) -> u64 {
        let half = (self.device_bytes - LOG_SLOTS_START) / 2;
        half - half % self.align
    }

    /// Where the current slot begins on the device.
    pub fn slot_offset(&self) -> u64 {
        LOG_SLOTS_START + (self.generation % 2) * self.slot_bytes()
    }

    /// Where the records begin, counted from the slot's start.
    pub fn records_offset(&self) -> u64 {
        self.snapshot_len.next_multiple_of(self.align)
    }

    /// What the first record of this generation is chained to.
    pub fn chain_seed(&self) -> u32 {
        let mut seed = crc32c::crc32c(self.identity.fsid.as_bytes());
        seed = crc32c::crc32c_append(seed, &self.salt.to_le_bytes());
        seed = crc32c::crc32c_append(seed, &self.generation.to_le_bytes());
        seed = crc32c::crc32c_append(seed, &self.snapshot_through.0.to_le_bytes());
        crc32c::crc32c_append(seed, &self.snapshot_crc.to_le_bytes())
    }

    /// The on-disk form.
    pub fn encode(&self) -> [u8; SUPERBLOCK_BYTES] {
        let name = self.identity.name.as_bytes();
        assert!(name.len() <= MON_NAME_BYTES_MAX, "the name was checked when the log was formatted");
        let mut out = [0u8; SUPERBLOCK_BYTES];
        let mut put = |offset: usize, bytes: &[u8]| out[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(16, self.identity.fsid.as_bytes());
        for (offset, value) in [
            (32, self.compat),
            (40, self.ro_compat),
            (48, self.incompat),
            (56, self.device_bytes),
            (64, self.sequence),
            (72, self.epoch),
            (80, self.generation),
            (88, self.snapshot_len),
            (96, self.snapshot_through.0),
            (104, self.sealed_through.0),
            (112, self.key_id),
            (120, self.align),
            (SALT_OFFSET, self.salt),
        ] {
            put(offset, &value.to_le_bytes());
        }
        put(12, &self.snapshot_crc.to_le_bytes());
        put(NAME_OFFSET, &[u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        put(NAME_OFFSET + 1, name);
        let crc = crc32c::crc32c(&out[..CRC_OFFSET]);
        out[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a copy; `bytes` are the first [`SUPERBLOCK_BYTES`] or more at its offset.
    pub fn decode(bytes: &[u8]) -> Result<Self, SuperblockFault> {
        let bytes: &[u8; SUPERBLOCK_BYTES] = bytes.first_chunk().ok_or(SuperblockFault::Magic)?;
        if bytes[..8] != MAGIC {
            return Err(SuperblockFault::Magic);
        }
        if u32_at(bytes, CRC_OFFSET) != crc32c::crc32c(&bytes[..CRC_OFFSET]) {
            return Err(SuperblockFault::Checksum);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(SuperblockFault::Version(version));
        }
        let name_len = usize::from(bytes[NAME_OFFSET]);
        if name_len > MON_NAME_BYTES_MAX {
            return Err(SuperblockFault::Field("name"));
        }
        let name = std::str::from_utf8(&bytes[NAME_OFFSET + 1..NAME_OFFSET + 1 + name_len])
            .map_err(|_| SuperblockFault::Field("name"))?;
        let mut fsid = [0; 16];
        fsid.copy_from_slice(&bytes[16..32]);
        let this = Self {
            align: u64_at(bytes, 120),
            identity: LogIdentity { fsid: Uuid::from_bytes(fsid), name: name.to_owned() },
            compat: u64_at(bytes, 32),
            ro_compat: u64_at(bytes, 40),
            incompat: u64_at(bytes, 48),
            device_bytes: u64_at(bytes, 56),
            sequence: u64_at(bytes, 64),
            epoch: u64_at(bytes, 72),
            generation: u64_at(bytes, 80),
            snapshot_len: u64_at(bytes, 88),
            snapshot_through: LogIndex(u64_at(bytes, 96)),
            snapshot_crc: u32_at(bytes, 12),
            sealed_through: LogIndex(u64_at(bytes, 104)),
            key_id: u64_at(bytes, 112),
            salt: u64_at(bytes, SALT_OFFSET),
        };
        this.check()?;
        Ok(this)
    }

    fn check(&self) -> Result<(), SuperblockFault> {
        if !self.align.is_power_of_two() || !(LOG_ALIGN_MIN..=LOG_SUPERBLOCK_SPACING).contains(&self.align) {
            return Err(SuperblockFault::Field("alignment"));
        }
        if !(crate::limits::LOG_DEVICE_BYTES_MIN..=crate::limits::LOG_DEVICE_BYTES_MAX)
            .contains(&self.device_bytes)
        {
            return Err(SuperblockFault::Field("device size"));
        }
        if self.snapshot_len > self.slot_bytes() {
            return Err(SuperblockFault::Field("snapshot length"));
        }
        if self.sealed_through < self.snapshot_through {
            return Err(SuperblockFault::Field("seal"));
        }
        let counters = [self.sequence, self.epoch, self.generation, self.sealed_through.0];
        if counters.into_iter().any(|counter| counter > COUNTER_MAX) {
            return Err(SuperblockFault::Field("counter"));
        }
        Ok(())
    }
}

fn u32_at(bytes: &[u8; SUPERBLOCK_BYTES], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8; SUPERBLOCK_BYTES], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}
