//! A shard as the value under its key.

use bytes::Bytes;

use super::{Blob, Packed, Piece, Shard, index, wide};
use crate::checksum::{ChecksumKind, Checksums};
use crate::codec::{DecodeResult, Decoder, Encoder};
use crate::compression::Algorithm;

const VERSION: u8 = 1;
/// Of a shard that has the bytes itself.
const VERSION_INLINE: u8 = 2;
/// Kind of a blob: one extent, uncompressed, a checksum per block. The upper four bits are the number of the checksums'
/// kind, 0 for crc32c.
const PLAIN: u8 = 1;
/// The same, shared.
const SHARED: u8 = 2;
/// As [`PLAIN`], but compressed.
const PACKED: u8 = 3;
/// As [`SHARED`], but compressed.
const PACKED_SHARED: u8 = 4;
/// Where the kind of the checksums is.
const CHECKSUM_SHIFT: u32 = 4;

impl Shard {
    /// The value stored under its key.
    pub fn encode(&self) -> Bytes {
        let mut e = Encoder::with_capacity(self.encoded_bytes_max());
        if !self.inline.is_empty() {
            e.u8(VERSION_INLINE);
            e.count(self.inline.len());
            for (at, bytes) in self.inline.iter() {
                e.varint(*at);
                e.bytes(bytes);
            }
            return e.into_bytes();
        }
        e.u8(VERSION);
        e.count(self.blobs.len());
        for (address, blob) in self.blobs.iter() {
            e.u8(blob.kind());
            e.varint(*address);
            e.varint(blob.birth);
            if let Some(share) = blob.share {
                e.varint(share);
            }
            if let Some(packed) = &blob.packed {
                e.u8(packed.algorithm.number());
                e.varint(packed.raw_blocks.into());
                e.varint(packed.bytes.into());
            }
            e.count(blob.checksums.len());
            e.raw(blob.checksums.stored());
        }
        e.count(self.pieces.len());
        for (at, piece) in self.pieces.iter() {
            let Some(number) = self.blobs.position(piece.blob) else {
                panic!("a piece refers to no blob: {piece:?}")
            };
            e.varint(*at);
            e.varint(piece.len.into());
            e.varint(wide(number));
            e.varint(piece.blob_offset.into());
        }
        e.into_bytes()
    }

    /// Reads a value and checks it against the invariants for shard `number` of `span` bytes.
    pub fn decode(value: Bytes, number: u32, span: u32, block: u64) -> DecodeResult<Self> {
        let mut d = Decoder::new(value);
        let version = d.u8("version of a shard")?;
        let mut shard = Self::default();
        match version {
            VERSION => {}
            VERSION_INLINE => {
                for _ in 0..d.count(5, "inline bytes")? {
                    let at = d.varint("logical offset")?;
                    shard.inline.insert(at, d.bytes("inline bytes")?);
                }
                d.end("shard")?;
                return match shard.validate_inline(number, span) {
                    Ok(()) => Ok(shard),
                    Err(problem) => d.invalid(problem, 0, number.into()),
                };
            }
            other => return d.invalid("version of a shard", 0, other.into()),
        }
        let mut order = Vec::new();
        let blobs = d.count(7, "blobs")?;
        // Each has a block of the object.
        if wide(blobs) * block > span.into() {
            return d.invalid("blobs", d.at(), wide(blobs));
        }
        for _ in 0..blobs {
            let kind = d.u8("kind of a blob")?;
            let Some((is_shared, is_packed, checksum)) = parse_kind(kind) else {
                return d.invalid("kind of a blob", d.at(), kind.into());
            };
            let address = d.varint("address of a blob")?;
            let birth = d.varint("birth of a blob")?;
            let share = is_shared.then(|| d.varint("share of a blob")).transpose()?;
            let packed = is_packed.then(|| Packed::decode(&mut d)).transpose()?;
            let count = d.u32("checksums")?;
            if u64::from(count) * block > span.into() {
                return d.invalid("checksums", d.at(), count.into());
            }
            let stored = d.raw(index(count.into()) * checksum.bytes(), "checksums")?;
            let Some(checksums) = Checksums::from_stored(checksum, count, &stored) else {
                return d.invalid("checksums", d.at(), count.into());
            };
            order.push(address);
            shard.blobs.insert(address, Blob { birth, checksums, share, packed });
        }
        for _ in 0..d.count(4, "pieces")? {
            let at = d.varint("logical offset")?;
            let len = d.varint("length of a piece")?;
            let blob_number = d.varint("blob of a piece")?;
            let blob_offset = d.varint("offset in a blob")?;
            let blob = usize::try_from(blob_number).ok().and_then(|number| order.get(number));
            let fields = (u32::try_from(len), blob, u32::try_from(blob_offset));
            let (Ok(len), Some(blob), Ok(blob_offset)) = fields else {
                return d.invalid("piece", d.at(), at);
            };
            shard.pieces.insert(at, Piece { len, blob: *blob, blob_offset });
        }
        d.end("shard")?;
        if let Err(problem) = shard.validate(number, span, block) {
            return d.invalid(problem, 0, number.into());
        }
        Ok(shard)
    }
}

/// Whether a blob of this kind is shared, whether it is compressed, and what its checksums are.
fn parse_kind(kind: u8) -> Option<(bool, bool, ChecksumKind)> {
    let checksum = match kind >> CHECKSUM_SHIFT {
        0 => ChecksumKind::Crc32c,
        number => ChecksumKind::from_number(number).filter(|kind| *kind != ChecksumKind::Crc32c)?,
    };
    let (is_shared, is_packed) = match kind & ((1 << CHECKSUM_SHIFT) - 1) {
        PLAIN => (false, false),
        SHARED => (true, false),
        PACKED => (false, true),
        PACKED_SHARED => (true, true),
        _ => return None,
    };
    Some((is_shared, is_packed, checksum))
}

impl Packed {
    fn decode(d: &mut Decoder) -> DecodeResult<Self> {
        let number = d.u8("algorithm of a blob")?;
        let Some(algorithm) = Algorithm::from_number(number) else {
            return d.invalid("algorithm of a blob", d.at(), number.into());
        };
        let (raw_blocks, bytes) = (d.varint("blocks of a blob")?, d.varint("bytes of a blob")?);
        match (u32::try_from(raw_blocks), u32::try_from(bytes)) {
            (Ok(raw_blocks), Ok(bytes)) => Ok(Self { algorithm, raw_blocks, bytes }),
            _ => d.invalid("blocks or bytes of a blob", d.at(), raw_blocks.max(bytes)),
        }
    }
}

impl Blob {
    fn kind(&self) -> u8 {
        let checksum = match self.checksums.kind() {
            ChecksumKind::Crc32c => 0,
            other => other.number(),
        };
        let kind = match (self.share.is_some(), self.packed.is_some()) {
            (false, false) => PLAIN,
            (true, false) => SHARED,
            (false, true) => PACKED,
            (true, true) => PACKED_SHARED,
        };
        checksum << CHECKSUM_SHIFT | kind
    }
}
