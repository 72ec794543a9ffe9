//! One record of the log: a header, the payload, zeroes up to the alignment.
//!
//! Invariant: a record is accepted only as the successor of the one before it — next index, chained checksum, same
//! generation, an epoch that does not go back. Pure.

use super::LogIndex;
use crate::limits::LOG_ENTRY_BYTES_MAX;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 48;

const MAGIC: u32 = u32::from_le_bytes(*b"SPMR");
const CRC_OFFSET: usize = 44;

/// The fields before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the payload.
    pub len: usize,
    /// Position in the log.
    pub index: LogIndex,
    /// Opening of the log in which it was written.
    pub epoch: u64,
    /// Generation of the slot.
    pub generation: u64,
    /// Checksum of the record before.
    pub previous_crc: u32,
    /// Checksum of the log's salt, this header and its payload.
    pub crc: u32,
}

/// Bytes that a record with a payload of `len` takes on the device.
pub fn record_bytes(len: usize, align: u64) -> u64 {
    u64::try_from(HEADER_BYTES + len).unwrap_or(u64::MAX).next_multiple_of(align)
}

/// What a record is written with besides its payload.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// See [`Header::index`].
    pub index: LogIndex,
    /// See [`Header::epoch`].
    pub epoch: u64,
    /// See [`Header::generation`].
    pub generation: u64,
    /// See [`Header::previous_crc`].
    pub previous_crc: u32,
    /// See [`Superblock::salt`](super::superblock::Superblock::salt).
    pub salt: u64,
}

/// Writes a record to the start of `out`, whose other bytes are zero, and returns its checksum.
pub fn encode(out: &mut [u8], place: Place, payload: &[u8]) -> u32 {
    assert!(payload.len() <= LOG_ENTRY_BYTES_MAX, "the caller bounds an entry");
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    out[4..8].copy_from_slice(&len.to_le_bytes());
    out[8..16].copy_from_slice(&place.index.0.to_le_bytes());
    out[16..24].copy_from_slice(&place.epoch.to_le_bytes());
    out[24..32].copy_from_slice(&place.generation.to_le_bytes());
    out[32..36].copy_from_slice(&place.previous_crc.to_le_bytes());
    out[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(payload);
    let crc = checksum(place.salt, &out[..CRC_OFFSET], payload);
    out[CRC_OFFSET..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Reads a header; `None` if there is none, or its length is out of bounds. The payload is not looked at.
pub fn decode_header(bytes: &[u8]) -> Option<Header> {
    let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let word = |offset: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[offset..offset + 4]);
        u32::from_le_bytes(word)
    };
    let double = |offset: usize| u64::from(word(offset)) | u64::from(word(offset + 4)) << 32;
    let len = usize::try_from(word(4)).ok()?;
    (word(0) == MAGIC && len <= LOG_ENTRY_BYTES_MAX).then(|| Header {
        len,
        index: LogIndex(double(8)),
        epoch: double(16),
        generation: double(24),
        previous_crc: word(32),
        crc: word(CRC_OFFSET),
    })
}

/// Whether the record at the start of `bytes` is whole. `header` was read from there.
pub fn is_whole(header: &Header, salt: u64, bytes: &[u8]) -> bool {
    bytes
        .get(HEADER_BYTES..HEADER_BYTES + header.len)
        .is_some_and(|payload| checksum(salt, &bytes[..CRC_OFFSET], payload) == header.crc)
}

fn checksum(salt: u64, header: &[u8], payload: &[u8]) -> u32 {
    let seed = crc32c::crc32c(&salt.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seed, header), payload)
}
