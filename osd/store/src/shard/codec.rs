//! A shard as the value under its key. Most of what changes in an object goes through here, into the journal and into the
//! key-value store, so it is made to be short: of an object that was overwritten block by block each block takes a dozen bytes.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::{Blob, Packed, Piece, Shard, index, wide};
use crate::checksum::{Checksum, ChecksumKind, Checksums};
use crate::codec::{DecodeResult, Decoder, Encoder, unzigzag, zigzag};
use crate::compression::Algorithm;
use crate::limits;
use crate::sorted::Sorted;

/// Blobs, then pieces. Not written any more.
const VERSION_BLOBS: u8 = 1;
/// Of a shard that has the bytes itself.
const VERSION_INLINE: u8 = 2;
/// Pieces, each blob with the first of its pieces.
const VERSION_PIECES: u8 = 3;
/// Kind of a blob: one extent, uncompressed, a checksum per block. The upper four bits are the number of the checksums'
/// kind, 0 for crc32c.
const PLAIN: u8 = 1;
/// The same, shared.
const SHARED: u8 = 2;
/// As [`PLAIN`], but compressed.
const PACKED: u8 = 3;
/// As [`SHARED`], but compressed.
const PACKED_SHARED: u8 = 4;
/// As [`PLAIN`], but with chunks: checksums of several blocks, or unknown ones.
const CHUNKED: u8 = 5;
/// As [`SHARED`], but with chunks.
const CHUNKED_SHARED: u8 = 6;
/// Where the kind of the checksums is.
const CHECKSUM_SHIFT: u32 = 4;

/// Of a piece: its blob was not told before.
const NEW: u8 = 1;
/// It begins where the one before it ends.
const ADJACENT: u8 = 2;
/// It is all of its blob.
const WHOLE: u8 = 4;
/// Of a new blob: it has one block on the device.
const ONE_BLOCK: u8 = 8;
/// Its kind is that of the blob told before it.
const SAME_KIND: u8 = 16;
/// Addresses are multiples of this.
const ADDRESS_UNIT: u64 = limits::BLOCK;

/// What is told of a blob is told by what differs from the one before.
struct Before {
    kind: u8,
    /// Where it ends, in units.
    end: u64,
}

impl Before {
    const NONE: Self = Self { kind: PLAIN, end: 0 };
}

impl Shard {
    /// The value stored under its key.
    pub fn encode(&self, block: u64) -> Bytes {
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
        e.u8(VERSION_PIECES);
        e.varint(wide(self.pieces.len()));
        let newest = self.blobs.values().map(|blob| blob.birth).max().unwrap_or(0);
        e.varint(newest);
        let mut numbers: SmallVec<[Option<u64>; 64]> = smallvec![None; self.blobs.len()];
        let mut told = 0;
        let mut before = Before::NONE;
        let mut end = 0;
        for (at, piece) in self.pieces.iter() {
            let found = self
                .blobs
                .position(piece.blob)
                .and_then(|position| Some((numbers.get_mut(position)?, self.blobs.at(position)?.1)));
            let Some((number, blob)) = found else { panic!("a piece refers to no blob: {piece:?}") };
            let is_whole = piece.blob_offset == 0 && u64::from(piece.len) == wide(blob.raw_blocks()) * block;
            let flags = if *at == end { ADJACENT } else { 0 } | if is_whole { WHOLE } else { 0 };
            match number {
                Some(number) => {
                    e.u8(flags);
                    e.varint(*number);
                }
                None => {
                    *number = Some(told);
                    told += 1;
                    before = blob.encode(&mut e, flags, piece.blob, newest, &before);
                }
            }
            if *at != end {
                e.varint(at.wrapping_sub(end));
            }
            if !is_whole {
                e.varint(piece.len.into());
                e.varint(piece.blob_offset.into());
            }
            end = at + u64::from(piece.len);
        }
        e.into_bytes()
    }

    /// Reads a value and checks it against the invariants for shard `number` of `span` bytes.
    pub fn decode(value: Bytes, number: u32, span: u32, block: u64) -> DecodeResult<Self> {
        let mut d = Decoder::new(value);
        let version = d.u8("version of a shard")?;
        let shard = match version {
            VERSION_BLOBS => Self::decode_blobs(&mut d, span, block)?,
            VERSION_PIECES => Self::decode_pieces(&mut d, span, block)?,
            VERSION_INLINE => {
                let mut inline = Sorted::default();
                for _ in 0..d.count(5, "inline bytes")? {
                    let at = d.varint("logical offset")?;
                    inline.insert(at, d.bytes("inline bytes")?);
                }
                Self { inline, ..Self::default() }
            }
            other => return d.invalid("version of a shard", 0, other.into()),
        };
        d.end("shard")?;
        let validated = match version {
            VERSION_INLINE => shard.validate_inline(number, span),
            _ => shard.validate(number, span, block),
        };
        match validated {
            Ok(()) => Ok(shard),
            Err(problem) => d.invalid(problem, 0, number.into()),
        }
    }

    fn decode_blobs(d: &mut Decoder, span: u32, block: u64) -> DecodeResult<Self> {
        let mut shard = Self::default();
        let mut order = Vec::new();
        let blobs = d.count(7, "blobs")?;
        // Each has a block of the object.
        if wide(blobs) * block > span.into() {
            return d.invalid("blobs", d.at(), wide(blobs));
        }
        for _ in 0..blobs {
            let kind = d.u8("kind of a blob")?;
            let address = d.varint("address of a blob")?;
            let birth = d.varint("birth of a blob")?;
            let parsed = parse_kind(d, kind)?;
            if parsed.is_chunked {
                return d.invalid("kind of a blob", d.at(), kind.into());
            }
            let share = parsed.is_shared.then(|| d.varint("share of a blob")).transpose()?;
            let packed = parsed.is_packed.then(|| Packed::decode(d)).transpose()?;
            let count = d.u32("checksums")?;
            let checksums = decode_checksums(d, parsed, count.into(), span, block)?;
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
        Ok(shard)
    }

    fn decode_pieces(d: &mut Decoder, span: u32, block: u64) -> DecodeResult<Self> {
        let mut shard = Self::default();
        let count = d.varint("pieces")?;
        let newest = d.varint("newest birth")?;
        let mut order: SmallVec<[u64; 64]> = SmallVec::new();
        let mut before = Before::NONE;
        let mut end: u64 = 0;
        for _ in 0..count {
            let flags = d.u8("piece")?;
            if flags & NEW == 0 && flags & !(ADJACENT | WHOLE) != 0 || flags >= SAME_KIND << 1 {
                return d.invalid("piece", d.at(), flags.into());
            }
            let address = if flags & NEW == 0 {
                let number = d.varint("blob of a piece")?;
                match usize::try_from(number).ok().and_then(|number| order.get(number)) {
                    Some(address) => *address,
                    None => return d.invalid("blob of a piece", d.at(), number),
                }
            } else {
                // Each has a block of the object.
                if wide(order.len() + 1) * block > span.into() {
                    return d.invalid("blobs", d.at(), wide(order.len()));
                }
                let (address, blob) = Blob::decode(d, flags, newest, &mut before, span, block)?;
                if shard.blobs.insert(address, blob).is_some() {
                    return d.invalid("address of a blob", d.at(), address);
                }
                order.push(address);
                address
            };
            let gap = if flags & ADJACENT != 0 { 0 } else { d.varint("logical offset")? };
            let (len, blob_offset) = match shard.blobs.get(address) {
                Some(blob) if flags & WHOLE != 0 => (wide(blob.raw_blocks()) * block, 0),
                _ => (d.varint("length of a piece")?, d.varint("offset in a blob")?),
            };
            let at = end.checked_add(gap);
            let fields = (at, u32::try_from(len), u32::try_from(blob_offset));
            let (Some(at), Ok(len), Ok(blob_offset)) = fields else {
                return d.invalid("piece", d.at(), gap);
            };
            let Some(next) = at.checked_add(len.into()) else { return d.invalid("piece", d.at(), at) };
            if shard.pieces.insert(at, Piece { len, blob: address, blob_offset }).is_some() {
                return d.invalid("piece", d.at(), at);
            }
            end = next;
        }
        Ok(shard)
    }
}

/// What the kind of a blob says.
#[derive(Clone, Copy)]
struct Kind {
    is_shared: bool,
    is_packed: bool,
    is_chunked: bool,
    checksum: ChecksumKind,
}

fn parse_kind(d: &Decoder, kind: u8) -> DecodeResult<Kind> {
    let checksum = match kind >> CHECKSUM_SHIFT {
        0 => Some(ChecksumKind::Crc32c),
        number => ChecksumKind::from_number(number).filter(|kind| *kind != ChecksumKind::Crc32c),
    };
    let (is_shared, is_packed, is_chunked) = match kind & ((1 << CHECKSUM_SHIFT) - 1) {
        PLAIN => (false, false, false),
        SHARED => (true, false, false),
        PACKED => (false, true, false),
        PACKED_SHARED => (true, true, false),
        CHUNKED => (false, false, true),
        CHUNKED_SHARED => (true, false, true),
        _ => return d.invalid("kind of a blob", d.at(), kind.into()),
    };
    match checksum {
        Some(ChecksumKind::None) if is_chunked => d.invalid("kind of a blob", d.at(), kind.into()),
        Some(checksum) => Ok(Kind { is_shared, is_packed, is_chunked, checksum }),
        None => d.invalid("kind of a blob", d.at(), kind.into()),
    }
}

fn decode_checksums(
    d: &mut Decoder,
    kind: Kind,
    count: u64,
    span: u32,
    block: u64,
) -> DecodeResult<Checksums> {
    let blocks = u32::try_from(count).ok().filter(|count| u64::from(*count) * block <= span.into());
    let Some(blocks) = blocks else { return d.invalid("checksums", d.at(), count) };
    if kind.is_chunked {
        return decode_chunks(d, kind.checksum, index(count));
    }
    let stored = d.raw(index(count) * kind.checksum.bytes(), "checksums")?;
    match Checksums::from_stored(kind.checksum, blocks, &stored) {
        Some(checksums) => Ok(checksums),
        None => d.invalid("checksums", d.at(), count),
    }
}

fn decode_chunks(d: &mut Decoder, kind: ChecksumKind, blocks: usize) -> DecodeResult<Checksums> {
    let mut row = Checksums::new(kind);
    while row.len() < blocks {
        let at = d.at();
        let count = d.u8("blocks under a checksum")?;
        let of = usize::from(count).max(1);
        if of > blocks - row.len() {
            return d.invalid("blocks under a checksum", at, count.into());
        }
        let checksum = match count {
            0 => Checksum::unknown(kind),
            _ => Checksum::from_stored(kind, &d.raw(kind.bytes(), "checksum")?),
        };
        row.push(checksum, of);
    }
    // Without one of several blocks it is to be of the other kind, or there were two values for the same shard.
    if row.is_chunked() { Ok(row) } else { d.invalid("checksums of single blocks", d.at(), wide(blocks)) }
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
    /// Writes the flags of its first piece, and it.
    fn encode(&self, e: &mut Encoder, flags: u8, address: u64, newest: u64, before: &Before) -> Before {
        let kind = self.kind();
        let is_one = self.checksums.len() == 1;
        let of_blob = if is_one { ONE_BLOCK } else { 0 } | if kind == before.kind { SAME_KIND } else { 0 };
        e.u8(flags | NEW | of_blob);
        if kind != before.kind {
            e.u8(kind);
        }
        let start = address / ADDRESS_UNIT;
        e.varint(zigzag(start.wrapping_sub(before.end).cast_signed()));
        e.varint(newest.wrapping_sub(self.birth));
        if let Some(share) = self.share {
            e.varint(address.wrapping_sub(share) / ADDRESS_UNIT);
        }
        if let Some(packed) = &self.packed {
            e.u8(packed.algorithm.number());
            e.varint(packed.raw_blocks.into());
            e.varint(packed.bytes.into());
        }
        if !is_one {
            e.varint(wide(self.checksums.len()));
        }
        e.raw(self.checksums.stored());
        Before { kind, end: start.wrapping_add(wide(self.checksums.len())) }
    }

    fn decode(
        d: &mut Decoder,
        flags: u8,
        newest: u64,
        before: &mut Before,
        span: u32,
        block: u64,
    ) -> DecodeResult<(u64, Self)> {
        let kind = if flags & SAME_KIND != 0 { before.kind } else { d.u8("kind of a blob")? };
        let parsed = parse_kind(d, kind)?;
        let start = before.end.wrapping_add_signed(unzigzag(d.varint("address of a blob")?));
        let age = d.varint("birth of a blob")?;
        let from_share = parsed.is_shared.then(|| d.varint("share of a blob")).transpose()?;
        let packed = parsed.is_packed.then(|| Packed::decode(d)).transpose()?;
        let count = if flags & ONE_BLOCK != 0 { 1 } else { d.varint("checksums")? };
        let checksums = decode_checksums(d, parsed, count, span, block)?;
        let Some(address) = start.checked_mul(ADDRESS_UNIT) else {
            return d.invalid("address of a blob", d.at(), start);
        };
        let birth = newest.checked_sub(age);
        let share = from_share.map(|units| address.checked_sub(units.checked_mul(ADDRESS_UNIT)?));
        let (Some(birth), None | Some(Some(_))) = (birth, share) else {
            return d.invalid("birth or share of a blob", d.at(), age);
        };
        *before = Before { kind, end: start.wrapping_add(count) };
        Ok((address, Self { birth, checksums, share: share.flatten(), packed }))
    }

    fn kind(&self) -> u8 {
        let checksum = match self.checksums.kind() {
            ChecksumKind::Crc32c => 0,
            other => other.number(),
        };
        let kind = match (self.share.is_some(), self.packed.is_some(), self.checksums.is_chunked()) {
            (false, false, false) => PLAIN,
            (true, false, false) => SHARED,
            (false, true, _) => PACKED,
            (true, true, _) => PACKED_SHARED,
            (false, false, true) => CHUNKED,
            (true, false, true) => CHUNKED_SHARED,
        };
        checksum << CHECKSUM_SHIFT | kind
    }
}

/// What version 1 made of two blobs and three pieces: for tests, and for fuzzing to begin with.
pub const VALUE_OF_VERSION_1: [u8; 66] = [
    0x01, 0x02, 0x00, 0x00, 0x00, 0x01, 0x80, 0x80, 0x0a, 0x05, 0x04, 0x00, 0x00, 0x00, 0x52, 0xd0, 0x16,
    0xa0, 0xa6, 0x23, 0x46, 0xb3, 0xa5, 0xa0, 0x2d, 0x41, 0x4e, 0xc4, 0xe7, 0x95, 0x01, 0x80, 0x80, 0x14,
    0x06, 0x01, 0x00, 0x00, 0x00, 0x9d, 0x88, 0xcf, 0x2a, 0x03, 0x00, 0x00, 0x00, 0x00, 0x80, 0x80, 0x01,
    0x00, 0x00, 0x8a, 0xa0, 0x01, 0x5a, 0x01, 0x0a, 0xc8, 0xa1, 0x01, 0x05, 0x01, 0xc8, 0x01,
];

#[cfg(test)]
mod tests {
    use super::*;

    const B: u64 = 4096;

    #[test]
    fn values_of_version_1_are_read() {
        let row = |blocks: &[u8]| {
            let mut row = Checksums::new(ChecksumKind::Crc32c);
            blocks.iter().for_each(|byte| row.push(Checksum::of(ChecksumKind::Crc32c, &[*byte]), 1));
            row
        };
        let blob = |birth, blocks: &[u8]| Blob { birth, checksums: row(blocks), share: None, packed: None };
        let piece = |len, blob, blob_offset| Piece { len, blob, blob_offset };
        let expected = Shard {
            blobs: Sorted::from([(40 * B, blob(5, &[1, 2, 3, 4])), (80 * B, blob(6, &[9]))]),
            pieces: Sorted::from([
                (0, piece(4 * 4096, 40 * B, 0)),
                (5 * B + 10, piece(90, 80 * B, 10)),
                (5 * B + 200, piece(5, 80 * B, 200)),
            ]),
            inline: Sorted::default(),
        };
        assert_eq!(Shard::decode(Bytes::from_static(&VALUE_OF_VERSION_1), 0, 128 << 10, B), Ok(expected));
    }

    #[test]
    fn a_block_that_lies_alone_takes_a_dozen_bytes() {
        let mut shard = Shard::default();
        // As after random overwrites on a device of a terabyte, a million records apart.
        for block in 0..32u64 {
            let address = (block * 0x9e37_79b9 % (1 << 28)) * B;
            let birth = 50_000_000 + block * 31_337 % 1_000_000;
            let checksums = Checksums::of_blocks(ChecksumKind::Crc32c, [&[7; 10][..]]);
            shard.blobs.insert(address, Blob { birth, checksums, share: None, packed: None });
            shard.pieces.insert(block * B, Piece { len: 4096, blob: address, blob_offset: 0 });
        }
        let value = shard.encode(B);
        assert_eq!(Shard::decode(value.clone(), 0, 128 << 10, B), Ok(shard));
        assert!(value.len() <= 12 * 32 + 8, "{} bytes", value.len());
    }

    #[test]
    fn numbers_near_zero_are_small() {
        for (value, expected) in [(0, 0), (-1, 1), (1, 2), (i64::MAX, u64::MAX - 1), (i64::MIN, u64::MAX)] {
            assert_eq!((zigzag(value), unzigzag(expected)), (expected, value));
        }
    }
}
