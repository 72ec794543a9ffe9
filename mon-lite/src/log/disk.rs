//! [`DiskLog`]: a log of one monitor on a block device.
//!
//! Invariant: the device always holds a superblock whose slot contains a whole snapshot and, chained to it, every
//! entry that was ever reported committed since. Two slots take turns, so nothing valid is overwritten before its
//! successor is durable. Lives on the monitor's core.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use nvme::{BlockDevice, DmaBuf};
use rt::LocalBoxFuture;

use super::superblock::{SUPERBLOCK_BYTES, Superblock, SuperblockFault};
use super::{Committed, LogError, LogIdentity, LogIndex, ReplicatedLog, record, recovery};
use crate::limits::{
    LOG_ALIGN_MIN, LOG_DEVICE_BYTES_MAX, LOG_DEVICE_BYTES_MIN, LOG_ENTRY_BYTES_MAX, LOG_SNAPSHOT_AFTER_BYTES,
    MON_NAME_BYTES_MAX,
};

/// How to format a device.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// Whose log it will be.
    pub identity: LogIdentity,
    /// Random bits, different each time.
    pub salt: u64,
    /// Format even if the device holds something.
    pub overwrite: bool,
}

/// A replicated log with a quorum of one, durable on a block device.
pub struct DiskLog {
    device: Rc<dyn BlockDevice>,
    superblock: Superblock,
    /// The copy that is written second, because it is the better one if only one is good.
    copy_written_last: u64,
    /// Where the next record goes, from the slot's start.
    position: u64,
    last_index: LogIndex,
    last_crc: u32,
    unread: VecDeque<Committed>,
    broken: Option<LogError>,
}

impl DiskLog {
    /// Writes an empty log onto `device`. Refuses one that is not blank unless told to.
    pub async fn format(device: &Rc<dyn BlockDevice>, options: FormatOptions) -> Result<(), LogError> {
        let superblock = initial_superblock(device.as_ref(), &options)?;
        if !options.overwrite {
            refuse_used(device.as_ref()).await?;
        }
        write_superblock(device.as_ref(), &superblock, 1).await
    }

    /// Opens the log of `expected`, replays it, and makes a new epoch durable.
    pub async fn open(device: Rc<dyn BlockDevice>, expected: &LogIdentity) -> Result<Self, LogError> {
        let found = recovery::read_superblock(device.as_ref()).await?;
        recovery::check_superblock(device.as_ref(), &found.superblock, expected)?;
        let replayed = recovery::replay(device.as_ref(), &found.superblock).await?;
        let mut log = Self {
            position: replayed.position,
            last_index: replayed.last_index,
            last_crc: replayed.last_crc,
            unread: replayed.committed,
            copy_written_last: found.copy,
            superblock: found.superblock,
            device,
            broken: None,
        };
        // The epoch is durable before the first record that carries it, so a record of an earlier opening that never
        // became part of the log cannot follow a new one, whatever their checksums.
        log.superblock.epoch += 1;
        log.superblock.sealed_through = log.last_index;
        log.store_superblock().await?;
        Ok(log)
    }

    /// Whose log it is.
    pub fn identity(&self) -> &LogIdentity {
        &self.superblock.identity
    }

    /// How many times [`ReplicatedLog::next_committed`] answers at once.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    async fn append(&mut self, payload: Bytes) -> Result<LogIndex, LogError> {
        self.refuse_broken()?;
        if payload.len() > LOG_ENTRY_BYTES_MAX {
            return Err(LogError::TooLarge { len: payload.len(), max: LOG_ENTRY_BYTES_MAX });
        }
        let align = self.superblock.align;
        let len = record::record_bytes(payload.len(), align);
        let capacity = self.superblock.slot_bytes();
        if self.position + len > capacity {
            return Err(LogError::Full {
                device: self.device.name().to_owned(),
                used: self.position,
                capacity,
            });
        }
        let index = self.last_index.next();
        let mut buf = DmaBuf::zeroed(usize_of(len));
        let place = record::Place {
            index,
            epoch: self.superblock.epoch,
            generation: self.superblock.generation,
            previous_crc: self.last_crc,
            salt: self.superblock.salt,
        };
        let crc = record::encode(&mut buf, place, &payload);
        let offset = self.superblock.slot_offset() + self.position;
        self.guarded(async |log| {
            log.device.write(offset, buf).await?;
            log.device.flush().await?;
            Ok(())
        })
        .await?;
        self.position += len;
        self.last_index = index;
        self.last_crc = crc;
        self.unread.push_back(Committed::Entry { index, payload });
        Ok(index)
    }

    async fn install_snapshot(&mut self, through: LogIndex, state: Bytes) -> Result<(), LogError> {
        self.refuse_broken()?;
        assert_eq!(through, self.last_index, "a snapshot covers exactly what was yielded");
        assert!(self.unread.is_empty(), "a snapshot covers exactly what was yielded");
        let next = Superblock {
            generation: self.superblock.generation + 1,
            snapshot_len: u64::try_from(state.len()).unwrap_or(u64::MAX),
            snapshot_through: through,
            snapshot_crc: crc32c::crc32c(&state),
            sealed_through: through,
            ..self.superblock.clone()
        };
        // At least half of a slot stays free for records, so that a log with a snapshot can always go on.
        let capacity = next.slot_bytes() / 2;
        if next.snapshot_len > capacity {
            let device = self.device.name().to_owned();
            return Err(LogError::Full { device, used: next.snapshot_len, capacity });
        }
        let align = usize_of(next.align);
        self.guarded(async |log| {
            if !state.is_empty() {
                let buf = DmaBuf::from_slice_padded(&state, align);
                log.device.write(next.slot_offset(), buf).await?;
            }
            log.superblock = next;
            log.position = log.superblock.records_offset();
            log.last_crc = log.superblock.chain_seed();
            log.store_superblock().await
        })
        .await
    }

    /// Runs `work` so that the log is broken if it fails, or if its future is dropped half-way.
    async fn guarded<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        self.broken = Some(LogError::Interrupted { device: self.device.name().to_owned() });
        let result = work(self).await;
        self.broken = result.as_ref().err().cloned();
        result
    }

    fn refuse_broken(&self) -> Result<(), LogError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    async fn store_superblock(&mut self) -> Result<(), LogError> {
        self.superblock.sequence += 1;
        write_superblock(self.device.as_ref(), &self.superblock, self.copy_written_last).await
    }
}

impl ReplicatedLog for DiskLog {
    fn propose(&mut self, payload: Bytes) -> LocalBoxFuture<'_, Result<LogIndex, LogError>> {
        Box::pin(self.append(payload))
    }

    fn next_committed(&mut self) -> LocalBoxFuture<'_, Result<Committed, LogError>> {
        Box::pin(async {
            match self.unread.pop_front() {
                Some(committed) => Ok(committed),
                // A quorum of one commits nothing but what this monitor proposes, and `propose` borrows the log.
                None => std::future::pending().await,
            }
        })
    }

    fn committed_index(&self) -> LogIndex {
        self.last_index
    }

    fn snapshot_due(&self) -> bool {
        let start = self.superblock.records_offset();
        let room = self.superblock.slot_bytes() - start;
        self.position - start >= LOG_SNAPSHOT_AFTER_BYTES.min(room / 2)
    }

    fn truncate(&mut self, through: LogIndex, state: Bytes) -> LocalBoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.install_snapshot(through, state))
    }

    fn seal(&mut self) -> LocalBoxFuture<'_, Result<(), LogError>> {
        Box::pin(async {
            self.refuse_broken()?;
            if self.superblock.sealed_through == self.last_index {
                return Ok(());
            }
            self.superblock.sealed_through = self.last_index;
            self.guarded(async |log| log.store_superblock().await).await
        })
    }
}

fn initial_superblock(device: &dyn BlockDevice, options: &FormatOptions) -> Result<Superblock, LogError> {
    let geometry = device.geometry();
    let unfit = |why: String| LogError::Geometry { device: device.name().to_owned(), why };
    if geometry.size < LOG_DEVICE_BYTES_MIN {
        return Err(unfit(format!("{} bytes are less than {LOG_DEVICE_BYTES_MIN}", geometry.size)));
    }
    if options.identity.name.len() > MON_NAME_BYTES_MAX {
        return Err(unfit(format!("the monitor's name is longer than {MON_NAME_BYTES_MAX} bytes")));
    }
    Ok(Superblock {
        align: LOG_ALIGN_MIN.max(u64::from(geometry.block_size)),
        identity: options.identity.clone(),
        compat: 0,
        ro_compat: 0,
        incompat: 0,
        device_bytes: geometry.size.min(LOG_DEVICE_BYTES_MAX),
        sequence: 1,
        epoch: 0,
        generation: 0,
        snapshot_len: 0,
        snapshot_through: LogIndex(0),
        snapshot_crc: 0,
        sealed_through: LogIndex(0),
        key_id: 0,
        salt: options.salt,
    })
}

async fn refuse_used(device: &dyn BlockDevice) -> Result<(), LogError> {
    for copy in 0..2 {
        let buf = DmaBuf::zeroed(usize_of(superblock_io_bytes(device)));
        let bytes = device.read(Superblock::copy_offset(copy), buf).await?;
        let what = match Superblock::decode(&bytes) {
            Ok(found) => {
                format!("a log of monitor {} of cluster {}", found.identity.name, found.identity.fsid)
            }
            Err(SuperblockFault::Magic) if bytes.iter().all(|byte| *byte == 0) => continue,
            Err(SuperblockFault::Magic) => "unknown data".to_owned(),
            Err(fault) => fault.to_string(),
        };
        return Err(LogError::InUse { device: device.name().to_owned(), what });
    }
    Ok(())
}

/// Writes both copies, the one that is not `last` first. Everything completed before is durable before either.
async fn write_superblock(
    device: &dyn BlockDevice,
    superblock: &Superblock,
    last: u64,
) -> Result<(), LogError> {
    device.flush().await?;
    let encoded = superblock.encode();
    for copy in [1 - last, last] {
        let buf = DmaBuf::from_slice_padded(&encoded, usize_of(superblock_io_bytes(device)));
        device.write(Superblock::copy_offset(copy), buf).await?;
        device.flush().await?;
    }
    Ok(())
}

/// Bytes of one read or write of a superblock copy.
pub(super) fn superblock_io_bytes(device: &dyn BlockDevice) -> u64 {
    u64::from(device.geometry().block_size).max(SUPERBLOCK_BYTES as u64)
}

/// A length that was bounded by the device's used bytes, which fit any address space we run in.
pub(super) fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
