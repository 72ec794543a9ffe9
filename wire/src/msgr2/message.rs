//! A message as it travels: header, front, middle, data.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::crc::{BLOCK_BYTES, BlockChecksums, SEED, combine, crc32c};

/// Length of the header segment.
pub const MESSAGE_HEADER_BYTES: usize = 41;

/// Priorities that stock daemons use; they only matter to the receiver's scheduling.
pub mod priority {
    /// OSD operations of clients.
    pub const OSD_OP: u16 = 63;
    /// Most messages.
    pub const DEFAULT: u16 = 127;
    /// Replies of monitors.
    pub const HIGH: u16 = 196;
}

/// Flags of the header; the same in every message of stock peers.
const FLAGS: u8 = 3;

/// What the sender of a message fills in; sequence numbers belong to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageHeader {
    /// Correlates requests and replies.
    pub tid: u64,
    /// Message type.
    pub kind: u16,
    /// For the receiver's scheduling.
    pub priority: u16,
    /// Version of the front's encoding.
    pub version: u16,
    /// Oldest decoder version that can read it.
    pub compat_version: u16,
    /// Low 16 bits of the data's offset in its object.
    pub data_offset: u16,
}

/// The header segment: [`MessageHeader`] and what the connection adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireHeader {
    /// Number of the message on its session.
    pub seq: u64,
    /// Last number received from the other side.
    pub ack_seq: u64,
    /// The sender's part.
    pub header: MessageHeader,
}

impl WireHeader {
    /// As sent: one goes with each message, so it takes no memory of its own.
    pub fn bytes(&self) -> [u8; MESSAGE_HEADER_BYTES] {
        let MessageHeader { tid, kind, priority, version, compat_version, data_offset } = self.header;
        let mut bytes = [0; MESSAGE_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.seq.to_le_bytes());
        bytes[8..16].copy_from_slice(&tid.to_le_bytes());
        bytes[16..18].copy_from_slice(&kind.to_le_bytes());
        bytes[18..20].copy_from_slice(&priority.to_le_bytes());
        bytes[20..22].copy_from_slice(&version.to_le_bytes());
        // No padding before the data.
        bytes[26..28].copy_from_slice(&data_offset.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.ack_seq.to_le_bytes());
        bytes[36] = FLAGS;
        bytes[37..39].copy_from_slice(&compat_version.to_le_bytes());
        bytes
    }
}

impl Wire for WireHeader {
    const BYTES_MIN: usize = MESSAGE_HEADER_BYTES;
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.bytes());
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.within("message header", |r| {
            let seq = r.u64()?;
            let tid = r.u64()?;
            let kind = r.u16()?;
            let priority = r.u16()?;
            let version = r.u16()?;
            let padding = r.u32()?;
            if padding != 0 {
                return Err(r.error("no padding before the data", padding.to_string()));
            }
            let data_offset = r.u16()?;
            let ack_seq = r.u64()?;
            r.skip(1)?;
            let compat_version = r.u16()?;
            r.skip(2)?;
            let header = MessageHeader { tid, kind, priority, version, compat_version, data_offset };
            Ok(Self { seq, ack_seq, header })
        })
    }
}

/// A message. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Type, versions, correlation.
    pub header: MessageHeader,
    /// The encoded fields.
    pub front: Bytes,
    /// Always empty in the protocols spoken here.
    pub middle: Bytes,
    /// Payload.
    pub data: Data,
}

/// The data segment: received in one piece, or put together from parts that are sent in place. Carries the
/// checksums that were computed from these very bytes on their way, so that nobody has to pass over them
/// again.
#[derive(Debug, Clone, Default)]
pub struct Data {
    parts: SmallVec<[Bytes; 1]>,
    length: usize,
    /// Checksum of all parts if each part's is known.
    whole: Option<u32>,
    blocks: BlockChecksums,
}

impl Data {
    /// No data.
    pub fn new() -> Self {
        Self { whole: Some(SEED), ..Self::default() }
    }

    /// Data as received, with its blocks' checksums.
    pub(crate) fn received(bytes: Bytes, blocks: BlockChecksums) -> Self {
        Self { blocks, ..Self::from(bytes) }
    }

    /// Appends a part.
    pub fn push(&mut self, bytes: Bytes) {
        self.append(bytes, None);
    }

    /// Appends a part whose checksum (with [`SEED`]) was computed from `bytes` just now. A stored checksum
    /// may be given only after it was compared with the bytes.
    pub fn push_with_checksum(&mut self, bytes: Bytes, checksum: u32) {
        self.append(bytes, Some(checksum));
    }

    /// Appends all parts of `other`, and what is known of their checksum.
    pub fn append_data(&mut self, other: &Data) {
        let known = self.whole.zip(other.whole);
        let whole = known.map(|(whole, of_other)| combine(whole, of_other, other.length as u64));
        other.parts.iter().for_each(|part| self.append_unsummed(part.clone()));
        self.whole = whole;
    }

    /// The bytes from `start` on, `length` of them, not copied if they lie in one part; with the checksums of
    /// the blocks that they contain whole, if `start` is at the start of a block. Panics when they are not
    /// there.
    pub fn slice(&self, start: usize, length: usize) -> Self {
        let end = start + length;
        assert!(end <= self.length, "invariant: bytes {start}..{end} of {} are sliced", self.length);
        let bytes = match self.parts.as_slice() {
            [only] => only.slice(start..end),
            _ => self.to_bytes().slice(start..end),
        };
        let mut slice = Self::from(bytes);
        if start.is_multiple_of(BLOCK_BYTES) {
            // The last block counts if it is whole, or cut short by the end of all data.
            let last = if end == self.length { end.div_ceil(BLOCK_BYTES) } else { end / BLOCK_BYTES };
            slice.blocks = self.blocks.get(start / BLOCK_BYTES..last).unwrap_or_default().into();
        }
        slice
    }

    fn append(&mut self, bytes: Bytes, checksum: Option<u32>) {
        if bytes.is_empty() {
            return;
        }
        // Hashed now rather than later, so that what is known of the others is not lost.
        self.whole = self.whole.map(|whole| match checksum {
            Some(part) => combine(whole, part, bytes.len() as u64),
            None => crc32c(whole, &bytes),
        });
        self.append_unsummed(bytes);
    }

    fn append_unsummed(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        self.blocks.clear();
        self.parts.push(bytes);
    }

    /// Bytes in all parts.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The parts in order; none is empty.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// All bytes as one buffer; copies only when there are several parts.
    pub fn to_bytes(&self) -> Bytes {
        match self.parts.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            parts => {
                let mut joined = Vec::with_capacity(self.length);
                parts.iter().for_each(|part| joined.extend_from_slice(part));
                joined.into()
            }
        }
    }

    /// Of received data, the checksums (with [`SEED`]) of its blocks of [`crate::crc::BLOCK_BYTES`], counted
    /// from its start, the last perhaps short. Empty for data put together here.
    pub fn block_checksums(&self) -> &[u32] {
        &self.blocks
    }

    /// The checksum of all bytes with [`SEED`].
    pub fn checksum(&self) -> u32 {
        match self.whole {
            Some(whole) => whole,
            None => self.parts.iter().fold(SEED, |crc, part| crc32c(crc, part)),
        }
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        let length = bytes.len();
        let parts = if length == 0 { SmallVec::new() } else { SmallVec::from_buf([bytes]) };
        Self { parts, length, whole: (length == 0).then_some(SEED), blocks: BlockChecksums::new() }
    }
}

/// Equal when the bytes are, however they are divided.
impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Data {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_keep_the_checksums_of_their_blocks() {
        let bytes: Bytes = (0..10_000u32).map(|i| i as u8).collect();
        let mut hasher = crate::crc::BlockHasher::new();
        hasher.update(&bytes);
        let data = Data::received(bytes.clone(), hasher.finish().0);
        for (start, length, blocks) in [
            (0, 10_000, 3),
            (0, 4096, 1),
            (0, 5000, 1),
            (4096, 5904, 2),
            (8192, 100, 0),
            (1, 9999, 0),
            (0, 0, 0),
        ] {
            let slice = data.slice(start, length);
            assert_eq!(slice.to_bytes(), bytes.slice(start..start + length));
            let expected: Vec<u32> =
                slice.to_bytes().chunks(BLOCK_BYTES).take(blocks).map(|b| crc32c(SEED, b)).collect();
            assert_eq!(slice.block_checksums(), expected, "{start}+{length}");
        }
    }

    #[test]
    fn checksum_is_that_of_the_joined_parts() {
        let parts: Vec<Bytes> =
            [10usize, 4096, 100, 0, 9000].iter().map(|n| vec![*n as u8; *n].into()).collect();
        let whole = crc32c(SEED, &parts.concat());
        for known in 0..1 << parts.len() {
            let mut data = Data::new();
            for (index, part) in parts.iter().enumerate() {
                if known & 1 << index != 0 {
                    data.push_with_checksum(part.clone(), crc32c(SEED, part));
                } else {
                    data.push(part.clone());
                }
            }
            assert_eq!(data.whole, Some(whole), "nothing is left to be hashed");
            assert_eq!(data.checksum(), whole);
            assert_eq!(data.to_bytes(), parts.concat());
            assert_eq!(data.parts().len(), 4);
            // As one of several in a message, which has all of them one after the other.
            let mut message = Data::new();
            for one in [&data, &Data::new(), &data] {
                message.append_data(one);
            }
            assert_eq!(message.whole, Some(crc32c(SEED, &[parts.concat(), parts.concat()].concat())));
            assert_eq!(message.parts().len(), 8);
            let mut unknown = Data::new();
            unknown.append_data(&Data::from(parts.concat()));
            assert_eq!((unknown.whole, unknown.checksum()), (None, whole));
        }
    }
}
