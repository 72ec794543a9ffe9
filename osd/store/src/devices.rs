//! The devices of a store beside its main one: one for the key-value store's files (*db*), one for the journal (*wal*).
//!
//! The store sees one joined device; each of its *parts*, a run of bytes of such a device, begins with a block that says
//! whose it is and in which mount it was last used. The superblock on the main device names its parts. So one that is
//! missing, another store's, or an older copy is refused before anything is written. Pure but for reading and writing
//! these blocks.

use allocator::Extent;
use bytes::Bytes;
use nvme::joined::{member_base, member_of};
use nvme::{BlockDevice, DeviceError, DmaBuf};
use uuid::Uuid;

use crate::codec::{DecodeResult, Decoder, Encoder};
use crate::superblock::Superblock;

const MAGIC: u64 = u64::from_le_bytes(*b"SPIRPART");
const VERSION: u16 = 1;
/// Alignment of the key-value store's space on a db part, bytes.
const FAST_UNIT: u64 = 64 << 10;

/// What a device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Objects, and whatever has no device of its own.
    Main,
    /// Files of the key-value store, and the journal if there is no `Wal`.
    Db,
    /// The journal and the log of the placement groups.
    Wal,
}

impl Role {
    /// Those beside the main device.
    pub const BESIDE: [Self; 2] = [Self::Db, Self::Wal];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "block",
            Self::Db => "db",
            Self::Wal => "wal",
        }
    }

    /// Its slot of the joined device.
    pub fn slot(self) -> usize {
        match self {
            Self::Main => 0,
            Self::Db => 1,
            Self::Wal => 2,
        }
    }
}

/// A part that belongs to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its identity.
    pub id: Uuid,
    /// Bytes of it that are the store's.
    pub len: u64,
}

impl Part {
    /// What it is on a device that has `bytes` for it now, of which it takes whole blocks; never less than it was.
    pub(crate) fn grown(self, bytes: u64, block: u64) -> Self {
        Self { len: self.len.max(bytes / block * block), ..self }
    }
}

/// The parts of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// For keys.
    pub db: Option<Part>,
    /// For the journal.
    pub wal: Option<Part>,
}

impl Parts {
    /// The part of a role.
    pub fn get(&self, role: Role) -> Option<Part> {
        match role {
            Role::Main => None,
            Role::Db => self.db,
            Role::Wal => self.wal,
        }
    }

    /// Sets the part of a role beside the main one.
    pub fn set(&mut self, role: Role, part: Option<Part>) {
        match role {
            Role::Main => {}
            Role::Db => self.db = part,
            Role::Wal => self.wal = part,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.db.is_none() && self.wal.is_none()
    }

    /// Where the journal is.
    pub fn journal_role(&self) -> Role {
        match (self.wal, self.db) {
            (Some(_), _) => Role::Wal,
            (None, Some(_)) => Role::Db,
            (None, None) => Role::Main,
        }
    }

    /// Bytes of a part that the journal and the placement groups' log may take, its first block included. Both have the same
    /// place on every device, also where they are not, so that they can move.
    pub fn logs_end(superblock: &Superblock) -> u64 {
        u64::from(superblock.block) + superblock.journal.len + superblock.pg_log.len
    }

    /// Whether an extent lies in a part or, if it is an address of the main device, below `window`.
    pub fn has_place(&self, extent: Extent, window: u64) -> bool {
        let (slot, start) = member_of(extent.start);
        let size = match slot {
            0 => Some(window),
            1 => self.db.map(|part| part.len),
            2 => self.wal.map(|part| part.len),
            _ => None,
        };
        start.checked_add(extent.len).is_some_and(|end| size.is_some_and(|size| end <= size))
    }

    pub(crate) fn encode(&self, e: &mut Encoder) {
        for part in [self.db, self.wal] {
            let part = part.unwrap_or(Part { id: Uuid::nil(), len: 0 });
            e.raw(part.id.as_bytes());
            e.u64(part.len);
        }
    }

    pub(crate) fn decode(d: &mut Decoder) -> DecodeResult<Self> {
        let mut part = || -> DecodeResult<Option<Part>> {
            let id = uuid(d, "part")?;
            let len = d.u64("bytes of a part")?;
            if (len == 0) != id.is_nil() || len >= member_base(1) {
                return d.invalid("bytes of a part", 0, len);
            }
            Ok((len > 0).then_some(Part { id, len }))
        };
        Ok(Self { db: part()?, wal: part()? })
    }
}

impl Superblock {
    /// The key-value store's own space on a db part, as an address of the joined device; none if there is no such part.
    pub fn fast(&self) -> Option<Extent> {
        let part = self.parts.db?;
        let start = Parts::logs_end(self).next_multiple_of(FAST_UNIT);
        let len = part.len.saturating_sub(start) / FAST_UNIT * FAST_UNIT;
        (len > 0).then(|| Extent::new(member_base(Role::Db.slot()) + start, len))
    }

    /// Least bytes of a part of this role.
    pub fn part_bytes_min(&self, role: Role) -> u64 {
        let logs = Parts::logs_end(self);
        match role {
            Role::Main => self.window,
            Role::Db => logs.next_multiple_of(FAST_UNIT) + FAST_UNIT,
            Role::Wal => logs,
        }
    }
}

/// What the first block of a part says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHeader {
    /// Its store.
    pub store: Uuid,
    /// What it is for.
    pub role: Role,
    /// Its identity.
    pub id: Uuid,
    /// The mount that used it last; that of the superblock, or one more if that mount did not get so far.
    pub epoch: u64,
}

impl PartHeader {
    /// The bytes, without padding: fewer than a device writes as one.
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::with_capacity(128);
        e.u64(MAGIC);
        e.u16(VERSION);
        e.raw(self.store.as_bytes());
        e.u8(u8::try_from(self.role.slot()).unwrap_or(u8::MAX));
        e.raw(self.id.as_bytes());
        e.u64(self.epoch);
        e.u32(crc32c::crc32c(e.as_slice()));
        e.finish()
    }

    /// Reads that of the part that `device` is; an error says what is there instead.
    pub async fn read(device: &dyn BlockDevice, block: u64) -> Result<Self, String> {
        let buffer = DmaBuf::zeroed(usize::try_from(block).unwrap_or(usize::MAX));
        let read = device.read(0, buffer).await.map_err(|error| error.to_string())?;
        Self::decode(read.freeze()).map_err(|error| error.to_string())
    }

    /// Reads them.
    pub fn decode(bytes: Bytes) -> DecodeResult<Self> {
        let mut d = Decoder::new(bytes.clone());
        let magic = d.u64("magic of a part")?;
        if magic != MAGIC {
            return d.invalid("magic of a part", 0, magic);
        }
        let version = d.u16("version of a part")?;
        if version != VERSION {
            return d.invalid("version of a part", 8, version.into());
        }
        let store = uuid(&mut d, "store uuid")?;
        let slot = d.u8("role of a part")?;
        let Some(role) = Role::BESIDE.into_iter().find(|role| role.slot() == usize::from(slot)) else {
            return d.invalid("role of a part", 26, slot.into());
        };
        let id = uuid(&mut d, "part")?;
        let epoch = d.u64("mount epoch")?;
        let end = d.at();
        let stored = d.u32("checksum")?;
        if stored != crc32c::crc32c(bytes.get(..end).unwrap_or_default()) {
            return d.invalid("checksum", end, stored.into());
        }
        Ok(Self { store, role, id, epoch })
    }
}

fn uuid(d: &mut Decoder, what: &'static str) -> DecodeResult<Uuid> {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&d.raw(16, what)?);
    Ok(Uuid::from_bytes(bytes))
}

/// Why a store's parts are not those that it needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum PartError {
    #[error("the store on {device} has a {role} device, which is not given, or is smaller than it was")]
    Missing { device: String, role: &'static str },
    #[error("the {role} device of the store on {device} is blank, damaged, or not one of ours: {reason}")]
    NotOurs { device: String, role: &'static str, reason: String },
    #[error(
        "the {role} device given for the store on {device} is another: it says {found}, expected {expected}"
    )]
    Foreign { device: String, role: &'static str, expected: String, found: String },
    #[error(
        "the {role} device given for the store on {device} is of another time: it was last used by mount {found}, the \
         store by mount {expected}; one of them is an older copy, and starting with it would lose data"
    )]
    Stale { device: String, role: &'static str, expected: u64, found: u64 },
    #[error("{role} needs at least {need} bytes for the store on {device}, and has {len}")]
    TooSmall { device: String, role: &'static str, len: u64, need: u64 },
    #[error("the store on {device} has a {role} device already")]
    Present { device: String, role: &'static str },
    #[error("the store on {device} has no {role} device")]
    Absent { device: String, role: &'static str },
    #[error(
        "what is to be the {role} device of the store on {device} is its {other} device: give another one"
    )]
    InUse { device: String, role: &'static str, other: &'static str },
    #[error("{role} has blocks of {block_size} bytes, and the store on {device} was made for {most} at most")]
    Blocks { device: String, role: &'static str, block_size: u32, most: u32 },
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Checks that the joined device has the parts that the superblock names, each as it was left.
pub async fn check(device: &dyn BlockDevice, superblock: &Superblock) -> Result<(), PartError> {
    for role in Role::BESIDE {
        let Some(part) = superblock.parts.get(role) else { continue };
        let (device_name, role_name) = (device.name().to_owned(), role.name());
        let block = u64::from(superblock.block);
        let base = member_base(role.slot());
        let read = |at: u64| device.read(at, DmaBuf::zeroed(usize::try_from(block).unwrap_or(usize::MAX)));
        // The last block, too: nothing of it may be missing.
        match read(base + (part.len / block).saturating_sub(1) * block).await {
            Err(DeviceError::Range { .. }) => {
                return Err(PartError::Missing { device: device_name, role: role_name });
            }
            // Whoever wants those bytes will tell.
            Ok(_) | Err(DeviceError::Io { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let header = PartHeader::decode(read(base).await?.freeze()).map_err(|error| PartError::NotOurs {
            device: device_name.clone(),
            role: role_name,
            reason: error.to_string(),
        })?;
        if (header.store, header.role, header.id) != (superblock.store, role, part.id) {
            return Err(PartError::Foreign {
                device: device_name,
                role: role_name,
                expected: format!("{} {} of store {}", role_name, part.id, superblock.store),
                found: format!("{} {} of store {}", header.role.name(), header.id, header.store),
            });
        }
        if header.epoch != superblock.epoch && header.epoch != superblock.epoch + 1 {
            return Err(PartError::Stale {
                device: device_name,
                role: role_name,
                expected: superblock.epoch,
                found: header.epoch,
            });
        }
    }
    Ok(())
}

/// Makes durable that the superblock's mount uses the parts: before the superblock says so itself, for a part that was
/// used since is never taken for an older one.
pub async fn write_headers(device: &dyn BlockDevice, superblock: &Superblock) -> Result<u64, DeviceError> {
    let mut written = 0;
    for role in Role::BESIDE {
        let Some(part) = superblock.parts.get(role) else { continue };
        written += write_header(device, member_base(role.slot()), superblock, role, part).await?;
    }
    if written > 0 {
        device.flush().await?;
    }
    Ok(written)
}

/// Writes the block that a part begins with at `place` of a device; gives its bytes. Not durable yet.
pub async fn write_header(
    device: &dyn BlockDevice,
    place: u64,
    superblock: &Superblock,
    role: Role,
    part: Part,
) -> Result<u64, DeviceError> {
    let header = PartHeader { store: superblock.store, role, id: part.id, epoch: superblock.epoch };
    let block = usize::try_from(superblock.block).unwrap_or(usize::MAX);
    device.write(place, DmaBuf::from_slice_padded(&header.encode(), block)).await?;
    Ok(superblock.block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_round_trips_and_notices_every_flipped_bit() {
        let header =
            PartHeader { store: Uuid::from_u128(5), role: Role::Wal, id: Uuid::from_u128(6), epoch: 7 };
        let bytes = header.encode();
        assert!(bytes.len() <= 512, "a device writes it whole or not at all");
        assert_eq!(PartHeader::decode(Bytes::from(bytes.clone())), Ok(header));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(PartHeader::decode(Bytes::from(damaged)).is_err());
            assert!(PartHeader::decode(Bytes::copy_from_slice(&bytes[..at])).is_err());
        }
    }
}
