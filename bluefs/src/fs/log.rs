//! Groups of log records: their frame, and reading a log back. Pure.
//!
//! A group is durable before the next is written, and a log is written by one mount only. So a log is: a snapshot,
//! then whole groups, then at most one torn group, then anything. If a valid group of this log lies behind an
//! invalid one, the invalid one *was* durable: that is corruption, and reported as such.

use crate::fs::codec::{Decoder, Encoder};
use crate::fs::error::{FsError, FsResult};
use crate::fs::limits::GROUP_BYTES_MAX;
use crate::fs::record::Record;

const MAGIC: u64 = u64::from_le_bytes(*b"spBlueLg");
/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 32;
const CRC_AT: usize = 28;

/// Frames `payload` as group `seq` of log `log_id`, padded to blocks.
pub(crate) fn encode_group(log_id: u64, seq: u64, payload: &[u8], block_size: usize) -> Vec<u8> {
    assert!(payload.len() <= GROUP_BYTES_MAX, "a group of {} bytes", payload.len());
    let mut out = Encoder::default();
    out.u64(MAGIC);
    out.u64(log_id);
    out.u64(seq);
    out.u32(payload.len() as u32);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out.bytes), payload);
    out.u32(crc);
    out.bytes.extend(payload);
    let padded = out.bytes.len().next_multiple_of(block_size);
    out.bytes.resize(padded, 0);
    out.bytes
}

/// Bytes on the device of a group with a payload of `payload` bytes.
pub(crate) fn group_bytes(payload: usize, block_size: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(block_size)
}

/// The group at the front of `bytes`, if it is whole and of this log: its number and payload.
fn decode_group(bytes: &[u8], log_id: u64) -> Option<(u64, &[u8])> {
    let mut from = Decoder::new(bytes);
    let (magic, id, seq) = (from.u64().ok()?, from.u64().ok()?, from.u64().ok()?);
    let (len, crc) = (from.u32().ok()? as usize, from.u32().ok()?);
    if magic != MAGIC || id != log_id || len > GROUP_BYTES_MAX {
        return None;
    }
    let payload = from.take(len).ok()?;
    let found = crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), payload);
    (found == crc).then_some((seq, payload))
}

/// What a log held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    pub(crate) records: Vec<Record>,
    /// Groups, the snapshot's included.
    pub(crate) groups: u64,
    /// Bytes up to the end of the last whole group.
    pub(crate) bytes: u64,
}

/// Reads a log whose first `snapshot_bytes` are the snapshot.
pub(crate) fn replay(log: &[u8], log_id: u64, snapshot_bytes: u64, block_size: usize) -> FsResult<Replayed> {
    let mut out = Replayed::default();
    let mut at = 0_usize;
    while let Some((seq, payload)) = log.get(at..).and_then(|rest| decode_group(rest, log_id)) {
        if seq != out.groups {
            break;
        }
        out.records.extend(Record::decode_all(payload)?);
        out.groups += 1;
        at += group_bytes(payload.len(), block_size);
        out.bytes = at as u64;
    }
    if out.bytes < snapshot_bytes {
        let what = format!("log {log_id:#x}: its snapshot of {snapshot_bytes} bytes is damaged at {at}");
        return Err(FsError::Corrupt { what });
    }
    let mut later = at + block_size;
    while let Some(rest) = log.get(later..) {
        if let Some((seq, _)) = decode_group(rest, log_id) {
            let what =
                format!("log {log_id:#x}: group {} at {at} is damaged, but group {seq} follows", out.groups);
            return Err(FsError::Corrupt { what });
        }
        later += block_size;
    }
    Ok(out)
}
