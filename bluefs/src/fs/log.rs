//! Groups of log records: their frame, and reading a log back. Pure.
//!
//! A group is durable before the next is written, and a log is written by one mount only. So a log is: a snapshot,
//! then whole groups, then at most one torn group, then anything. If a valid group of this log lies behind an
//! invalid one, the invalid one *was* durable: that is corruption, and reported as such.
//!
//! A torn group has blocks of whatever was in its place before, mostly of an earlier log. So its checksum is a hash
//! that is not linear: to a crc, two versions of a block whose difference has the crc 0 are the same.

use twox_hash::XxHash3_64;

use crate::fs::codec::{Decoder, Encoder};
use crate::fs::error::{FsError, FsResult};
use crate::fs::limits::GROUP_BYTES_MAX;
use crate::fs::record::Record;

const MAGIC: u64 = u64::from_le_bytes(*b"spBlueLg");
/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 32;
const CHECKSUM_AT: usize = 28;

/// Frames `payload` as group `seq` of log `log_id`, padded to blocks.
pub(crate) fn encode_group(log_id: u64, seq: u64, payload: &[u8], block_size: usize) -> Vec<u8> {
    assert!(payload.len() <= GROUP_BYTES_MAX, "a group of {} bytes", payload.len());
    let mut out = Encoder::default();
    out.u64(MAGIC);
    out.u64(log_id);
    out.u64(seq);
    out.u32(payload.len() as u32);
    let checksum = checksum(&out.bytes, payload);
    out.u32(checksum);
    out.bytes.extend(payload);
    let padded = out.bytes.len().next_multiple_of(block_size);
    out.bytes.resize(padded, 0);
    out.bytes
}

/// XXH3 of the payload, seeded with that of the header before it, folded.
fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let hash = XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(header), payload);
    (hash ^ hash >> 32) as u32
}

/// Bytes on the device of a group with a payload of `payload` bytes.
pub(crate) fn group_bytes(payload: usize, block_size: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(block_size)
}

/// The group at the front of `bytes`, if it is whole and of this log: its number and payload.
fn decode_group(bytes: &[u8], log_id: u64) -> Option<(u64, &[u8])> {
    let mut from = Decoder::new(bytes);
    let (magic, id, seq) = (from.u64().ok()?, from.u64().ok()?, from.u64().ok()?);
    let (len, stored) = (from.u32().ok()? as usize, from.u32().ok()?);
    if magic != MAGIC || id != log_id || len > GROUP_BYTES_MAX {
        return None;
    }
    let payload = from.take(len).ok()?;
    (checksum(&bytes[..CHECKSUM_AT], payload) == stored).then_some((seq, payload))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::record::Ino;

    const BLOCK: usize = 512;

    /// What is on devices stays readable: a value of another implementation.
    #[test]
    fn the_checksum_is_that_of_xxh3() {
        let payload: Vec<u8> = (0..5000u32).map(|at| (at * 7 + 3) as u8).collect();
        let hash = 0x62f0_b464_8ce2_e717_u64;
        assert_eq!(checksum(b"header", &payload), (hash ^ hash >> 32) as u32);
    }

    /// Two names of one length and one crc32c, wherever they stand: the crc is linear, so among 33 letters that may
    /// each be one of two, some can be exchanged without a trace.
    fn names_alike() -> (String, String) {
        let base = "a".repeat(64);
        let effect = |at: usize| {
            let mut changed = base.clone().into_bytes();
            changed[at] ^= 1;
            crc32c::crc32c(&changed) ^ crc32c::crc32c(base.as_bytes())
        };
        // Rows of (what is left of the effect, the letters that make it), each with a leading bit of its own.
        let mut rows: Vec<(u32, u64)> = Vec::new();
        for at in 0..base.len() {
            let (mut left, mut letters) = (effect(at), 1 << at);
            for (row, of) in &rows {
                if left & (1 << row.ilog2()) != 0 {
                    (left, letters) = (left ^ row, letters ^ of);
                }
            }
            if left != 0 {
                rows.push((left, letters));
                continue;
            }
            let change = |(at, letter): (usize, char)| if letters >> at & 1 == 1 { '`' } else { letter };
            return (base.clone(), base.chars().enumerate().map(change).collect());
        }
        unreachable!("33 letters have a dependency")
    }

    /// Records that fill the first block, and one with `name` beyond it.
    fn payload(name: &str) -> Vec<u8> {
        let file =
            |ino, name: &str| Record::FileCreate { ino: Ino(ino), dir: "db".into(), name: name.into() };
        let filler: Vec<Record> = (0..30).map(|ino| file(ino, &format!("{ino:06}.sst"))).collect();
        Record::encode_all(filler.iter().chain([&file(99, name)]))
    }

    #[test]
    fn a_block_of_an_earlier_log_does_not_complete_a_torn_group() {
        let (old_name, new_name) = names_alike();
        assert_ne!(old_name, new_name);
        assert_eq!(crc32c::crc32c(old_name.as_bytes()), crc32c::crc32c(new_name.as_bytes()));
        let old = encode_group(1, 0, &payload(&old_name), BLOCK);
        let new = encode_group(2, 0, &payload(&new_name), BLOCK);
        assert!(new.len() >= 2 * BLOCK && new.len() == old.len());
        assert_eq!(replay(&new, 2, 0, BLOCK).unwrap().groups, 1);
        for written in 1..new.len() / BLOCK {
            let torn = [&new[..written * BLOCK], &old[written * BLOCK..]].concat();
            if torn != new {
                assert_eq!(replay(&torn, 2, 0, BLOCK).unwrap(), Replayed::default(), "{written} blocks");
            }
        }
    }

    #[test]
    fn groups_of_another_log_or_number_do_not_join() {
        let group = |log, seq| encode_group(log, seq, &payload("name"), BLOCK);
        let groups = |log: &[u8]| replay(log, 7, 0, BLOCK).map(|replayed| replayed.groups);
        assert_eq!(groups(&[group(7, 0), group(7, 1)].concat()).unwrap(), 2);
        assert_eq!(groups(&[group(7, 0), group(8, 1)].concat()).unwrap(), 1, "an earlier life");
        assert_eq!(groups(&[group(7, 1), vec![0; 512]].concat()).unwrap(), 0, "another place");
        assert!(groups(&[group(7, 0), group(8, 1), group(7, 2)].concat()).is_err(), "it had been durable");
    }
}
