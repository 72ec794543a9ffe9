//! Reading a log back: superblock, snapshot, then records until the chain ends.
//!
//! Invariant: only the record that was being written at a crash may be missing or torn. Damage anywhere before it,
//! seen because a later record is whole or because the superblock says that the log reached further, is an error and
//! never a shorter log. Lives on the monitor's core.

use std::collections::VecDeque;

use bytes::Bytes;
use nvme::{BlockDevice, DmaBuf};

use super::disk::{superblock_io_bytes, usize_of};
use super::record::{self, Header};
use super::superblock::{INCOMPAT_KNOWN, Superblock};
use super::{Committed, LogError, LogIdentity, LogIndex};
use crate::limits::{LOG_ENTRY_BYTES_MAX, LOG_READ_BYTES};

/// The newest usable superblock.
pub struct Found {
    pub superblock: Superblock,
    /// The copy it came from.
    pub copy: u64,
}

/// A log read back.
pub struct Replayed {
    /// Where the next record goes, from the slot's start.
    pub position: u64,
    pub last_index: LogIndex,
    pub last_crc: u32,
    pub committed: VecDeque<Committed>,
}

/// Reads both copies and takes the newer. A copy that cannot be read counts as damaged.
pub async fn read_superblock(device: &dyn BlockDevice) -> Result<Found, LogError> {
    let mut best: Option<Found> = None;
    let mut faults = Vec::new();
    for copy in 0..2 {
        let buf = DmaBuf::zeroed(usize_of(superblock_io_bytes(device)));
        let bytes = match device.read(Superblock::copy_offset(copy), buf).await {
            Ok(bytes) => bytes,
            Err(error) => {
                faults.push(format!("copy {copy}: {error}"));
                continue;
            }
        };
        match Superblock::decode(&bytes) {
            Ok(found) if best.as_ref().is_none_or(|best| found.sequence > best.superblock.sequence) => {
                best = Some(Found { superblock: found, copy });
            }
            Ok(_) => {}
            Err(fault) => faults.push(format!("copy {copy}: {fault}")),
        }
    }
    if let (Some(_), false) = (&best, faults.is_empty()) {
        log::warn!("monitor log on {}: going on with one superblock, {}", device.name(), faults.join(", "));
    }
    best.ok_or_else(|| LogError::NotFormatted { device: device.name().to_owned(), why: faults.join(", ") })
}

/// Refuses a log that is another's, of a later version, or that does not fit the device.
pub fn check_superblock(
    device: &dyn BlockDevice,
    superblock: &Superblock,
    expected: &LogIdentity,
) -> Result<(), LogError> {
    let name = || device.name().to_owned();
    let features = superblock.incompat & !INCOMPAT_KNOWN | superblock.ro_compat;
    if features != 0 || superblock.key_id != 0 {
        return Err(LogError::Incompatible { device: name(), features });
    }
    let foreign =
        |what, found: String, expected: String| LogError::Foreign { device: name(), what, found, expected };
    if superblock.identity.fsid != expected.fsid {
        return Err(foreign("cluster", superblock.identity.fsid.to_string(), expected.fsid.to_string()));
    }
    if superblock.identity.name != expected.name {
        return Err(foreign("monitor", superblock.identity.name.clone(), expected.name.clone()));
    }
    let geometry = device.geometry();
    if geometry.size < superblock.device_bytes {
        let why = format!("it was formatted for {} bytes and has {}", superblock.device_bytes, geometry.size);
        return Err(LogError::Geometry { device: name(), why });
    }
    if !superblock.align.is_multiple_of(u64::from(geometry.block_size)) {
        let why = format!(
            "it is aligned to {} bytes and the blocks have {}",
            superblock.align, geometry.block_size
        );
        return Err(LogError::Geometry { device: name(), why });
    }
    Ok(())
}

/// Reads the snapshot and the records of the current slot.
pub async fn replay(device: &dyn BlockDevice, superblock: &Superblock) -> Result<Replayed, LogError> {
    let mut replayed = Replayed {
        position: superblock.records_offset(),
        last_index: superblock.snapshot_through,
        last_crc: superblock.chain_seed(),
        committed: VecDeque::new(),
    };
    if superblock.generation > 0 {
        let state = read_snapshot(device, superblock).await?;
        replayed.committed.push_back(Committed::Snapshot { through: superblock.snapshot_through, state });
    }
    let mut window = Window::new(device, superblock);
    let mut epoch_min = 0;
    loop {
        let Some((header, payload)) = window.record_at(replayed.position).await? else { break };
        let follows = header.index == replayed.last_index.next()
            && header.previous_crc == replayed.last_crc
            && (epoch_min..=superblock.epoch).contains(&header.epoch);
        if !follows {
            break;
        }
        epoch_min = header.epoch;
        replayed.position += record::record_bytes(header.len, superblock.align);
        replayed.last_index = header.index;
        replayed.last_crc = header.crc;
        replayed.committed.push_back(Committed::Entry { index: header.index, payload });
    }
    refuse_lost_records(device, superblock, &mut window, &replayed).await?;
    Ok(replayed)
}

async fn read_snapshot(device: &dyn BlockDevice, superblock: &Superblock) -> Result<Bytes, LogError> {
    if superblock.snapshot_len == 0 {
        return Ok(Bytes::new());
    }
    let buf = DmaBuf::zeroed(usize_of(superblock.records_offset()));
    let state = device.read(superblock.slot_offset(), buf).await?.freeze();
    let state = state.slice(..usize_of(superblock.snapshot_len));
    if crc32c::crc32c(&state) != superblock.snapshot_crc {
        let what = format!("the snapshot through entry {} has a bad checksum", superblock.snapshot_through.0);
        return Err(LogError::Corrupt { device: device.name().to_owned(), what });
    }
    Ok(state)
}

/// Looks for evidence that the chain ended before the log did.
async fn refuse_lost_records(
    device: &dyn BlockDevice,
    superblock: &Superblock,
    window: &mut Window<'_>,
    replayed: &Replayed,
) -> Result<(), LogError> {
    let corrupt = |what| Err(LogError::Corrupt { device: device.name().to_owned(), what });
    let last = replayed.last_index.0;
    if replayed.last_index < superblock.sealed_through {
        return corrupt(format!("it reached entry {} but ends after {last}", superblock.sealed_through.0));
    }
    // Records are written one at a time, so whatever follows a torn one was never written in this generation. A
    // damaged one is at most a record long, so its successor begins within that distance.
    let reach = record::record_bytes(LOG_ENTRY_BYTES_MAX, superblock.align);
    let end = superblock.slot_bytes().min(replayed.position + reach + superblock.align);
    let mut position = replayed.position + superblock.align;
    while position < end {
        let later = window.record_at(position).await?.filter(|(header, _)| {
            header.generation == superblock.generation && header.index > replayed.last_index.next()
        });
        if let Some((header, _)) = later {
            return corrupt(format!("entry {} is whole but the one after {last} is not", header.index.0));
        }
        position += superblock.align;
    }
    Ok(())
}

/// Reads the current slot in pieces of [`LOG_READ_BYTES`].
struct Window<'a> {
    device: &'a dyn BlockDevice,
    superblock: &'a Superblock,
    /// Where `bytes` begins, from the slot's start.
    start: u64,
    bytes: Bytes,
}

impl<'a> Window<'a> {
    fn new(device: &'a dyn BlockDevice, superblock: &'a Superblock) -> Self {
        Self { device, superblock, start: 0, bytes: Bytes::new() }
    }

    /// The record at `position`, if a whole one of this generation is there.
    async fn record_at(&mut self, position: u64) -> Result<Option<(Header, Bytes)>, LogError> {
        if position + self.superblock.align > self.superblock.slot_bytes() {
            return Ok(None);
        }
        let first = self.bytes(position, self.superblock.align).await?;
        let Some(header) = record::decode_header(&first) else { return Ok(None) };
        let len = record::record_bytes(header.len, self.superblock.align);
        if header.generation != self.superblock.generation || position + len > self.superblock.slot_bytes() {
            return Ok(None);
        }
        let bytes = self.bytes(position, len).await?;
        if !record::is_whole(&header, self.superblock.salt, &bytes) {
            return Ok(None);
        }
        // Copied, so that a small payload that lives on does not hold the whole window.
        let payload = Bytes::copy_from_slice(&bytes[record::HEADER_BYTES..record::HEADER_BYTES + header.len]);
        Ok(Some((header, payload)))
    }

    /// `len` bytes at `position`, both aligned and within the slot.
    async fn bytes(&mut self, position: u64, len: u64) -> Result<Bytes, LogError> {
        let held = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        if position < self.start || position + len > self.start + held {
            let wanted = len.max(LOG_READ_BYTES).min(self.superblock.slot_bytes() - position);
            let buf = DmaBuf::zeroed(usize_of(wanted));
            let offset = self.superblock.slot_offset() + position;
            self.bytes = self.device.read(offset, buf).await?.freeze();
            self.start = position;
        }
        let from = usize_of(position - self.start);
        Ok(self.bytes.slice(from..from + usize_of(len)))
    }
}
