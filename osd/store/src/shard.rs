//! A shard of the extent map: blobs, which own device space and checksums, and pieces, which say which bytes of the
//! object lie where in a blob.
//!
//! Invariants ([`Shard::validate`]): pieces do not overlap and stay in the shard's span; a piece keeps its offset
//! within the block, so a logical block lives in at most one block of one blob; every block of a blob is used by a
//! piece; blobs of one object do not overlap on the device. Writes are cut at shard borders, so no blob spans shards.
//! A shared blob's blocks may be other objects' too; [`crate::share`] counts who uses them, and nobody writes them.

use allocator::Extent;
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::checksum::{Checksum, ChecksumKind, Checksums};
use crate::codec::{DecodeResult, Decoder, Encoder};
use crate::sorted::Sorted;

const VERSION: u8 = 1;
/// Kind of a blob: one extent, uncompressed, a checksum per block. The upper four bits are the number of the checksums'
/// kind, 0 for crc32c.
const PLAIN: u8 = 1;
/// The same, shared.
const SHARED: u8 = 2;
/// Where the kind of the checksums is.
const CHECKSUM_SHIFT: u32 = 4;

/// A mark per block of a shard of usual size.
type Marks = SmallVec<[bool; 64]>;

/// Device space with its checksums. Blobs are keyed by the address of their first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Number of the record that allocated the space. With the address it identifies the owner of a block for ever:
    /// space that was freed and allocated again has another birth.
    pub birth: u64,
    /// Of each block.
    pub checksums: Checksums,
    /// Other objects may use the blocks: their uses are counted from this address on.
    pub share: Option<u64>,
}

/// Bytes of the object within a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes.
    pub len: u32,
    /// Address of the blob.
    pub blob: u64,
    /// Where in the blob.
    pub blob_offset: u32,
}

/// Where one block of the object lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address of the blob.
    pub blob: u64,
    /// Which of its blocks.
    pub index: usize,
    /// Address of the block.
    pub address: u64,
    /// Its checksum.
    pub checksum: Checksum,
    /// Birth of the blob.
    pub birth: u64,
    /// The blob is shared.
    pub is_shared: bool,
    /// Where in the object its first byte is, for messages.
    pub logical: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// By address.
    pub blobs: Sorted<Blob>,
    /// By logical offset in the object.
    pub pieces: Sorted<Piece>,
}

impl Shard {
    /// Holds nothing.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes written and not removed.
    pub fn stored(&self) -> u64 {
        self.pieces.values().map(|piece| u64::from(piece.len)).sum()
    }

    /// Bytes of device space owned.
    pub fn allocated(&self, block: u64) -> u64 {
        self.blobs.values().map(|blob| blob.bytes(block)).sum()
    }

    /// Of [`Self::allocated`], what is shared.
    pub fn shared(&self, block: u64) -> u64 {
        self.blobs.values().filter(|blob| blob.share.is_some()).map(|blob| blob.bytes(block)).sum()
    }

    /// Bytes stored, allocated and shared.
    pub fn counts(&self, block: u64) -> [u64; 3] {
        [self.stored(), self.allocated(block), self.shared(block)]
    }

    /// Whether a blob is shared.
    pub fn shares(&self) -> bool {
        self.blobs.values().any(|blob| blob.share.is_some())
    }

    /// The device space owned, ascending.
    pub fn extents(&self, block: u64) -> impl Iterator<Item = Extent> {
        self.blobs.iter().map(move |(address, blob)| Extent { start: *address, len: blob.bytes(block) })
    }

    /// Where the logical block that begins at `logical` lives; none in a hole.
    pub fn place(&self, logical: u64, block: u64) -> Option<Place> {
        let (at, piece) = match self.pieces.at_or_below(logical) {
            Some((at, piece)) if at + u64::from(piece.len) > logical => (at, piece),
            _ => self.pieces.range(logical..logical + block).first().map(|(at, piece)| (*at, piece))?,
        };
        // The offset within the block is kept, so rounding down finds the block on both sides.
        let in_blob = (u64::from(piece.blob_offset) + logical.saturating_sub(at)) / block * block;
        self.block_of(at, piece, in_blob / block, block)
    }

    /// Block `number` of the blob of the piece at `at`.
    pub fn block_of(&self, at: u64, piece: &Piece, number: u64, block: u64) -> Option<Place> {
        let blob = piece.blob;
        let found = self.blobs.get(blob)?;
        let index = usize::try_from(number).ok()?;
        let checksum = found.checksums.get(index)?;
        let logical = (at + number * block).saturating_sub(piece.blob_offset.into());
        let (birth, is_shared) = (found.birth, found.share.is_some());
        Some(Place { blob, index, address: blob + number * block, checksum, birth, is_shared, logical })
    }

    /// Whether a blob born by `birth` owns the block at `address`.
    pub fn owns(&self, address: u64, birth: u64, block: u64) -> bool {
        let Some((start, blob)) = self.blobs.at_or_below(address) else { return false };
        blob.birth == birth && address < start + blob.bytes(block)
    }

    /// Drops blocks that no piece uses, cutting blobs where a block goes from the middle; gives what became free.
    pub fn trim(&mut self, block: u64) -> Vec<Extent> {
        let (used, firsts) = self.used_blocks(block);
        if used.iter().all(|used| *used) {
            return Vec::new();
        }
        let mut freed = Vec::new();
        let mut was_cut = false;
        let mut blobs = Sorted::with_capacity(self.blobs.len() + 1);
        for ((address, blob), first) in std::mem::take(&mut self.blobs).into_iter().zip(firsts) {
            let row = &used[first..first + blob.checksums.len()];
            if row.iter().all(|used| *used) {
                blobs.insert(address, blob);
                continue;
            }
            for run in runs(row) {
                let start = address + wide(run.start) * block;
                if run.used {
                    let checksums = blob.checksums.slice(run.start..run.end);
                    blobs.insert(start, Blob { birth: blob.birth, checksums, share: blob.share });
                    was_cut = true;
                } else {
                    freed.push(Extent { start, len: wide(run.end - run.start) * block });
                }
            }
        }
        self.blobs = blobs;
        if was_cut {
            for piece in self.pieces.values_mut() {
                let absolute = piece.blob + u64::from(piece.blob_offset);
                let Some((start, _)) = self.blobs.at_or_below(absolute) else { continue };
                piece.blob = start;
                piece.blob_offset = narrow(absolute - start);
            }
        }
        freed
    }

    /// Which blocks of which blob a piece uses: all blobs' blocks in one row, and where in it each blob's begin.
    fn used_blocks(&self, block: u64) -> (Marks, SmallVec<[usize; 64]>) {
        let mut total = 0;
        let count = |blob: &Blob| {
            total += blob.checksums.len();
            total - blob.checksums.len()
        };
        let firsts: SmallVec<[usize; 64]> = self.blobs.values().map(count).collect();
        let mut used: Marks = smallvec![false; total];
        for piece in self.pieces.values() {
            let Some(position) = self.blobs.position(piece.blob) else {
                panic!("a piece refers to no blob: {piece:?}")
            };
            let (first, last) = piece.blocks(block);
            used[firsts[position] + first..=firsts[position] + last].fill(true);
        }
        (used, firsts)
    }

    /// Adds a piece behind all others; joins it with the last one if it continues that in the object and in the blob.
    pub fn append(&mut self, at: u64, piece: Piece) {
        if let Some((last_at, last)) = self.pieces.last_mut()
            && last_at + u64::from(last.len) == at
            && last.blob == piece.blob
            && last.blob_offset + last.len == piece.blob_offset
        {
            last.len += piece.len;
            return;
        }
        self.pieces.insert(at, piece);
    }

    /// Joins pieces that continue each other in the object and in the blob.
    pub fn join(&mut self) {
        std::mem::take(&mut self.pieces).into_iter().for_each(|(at, piece)| self.append(at, piece));
    }

    /// The value stored under its key.
    pub fn encode(&self) -> Bytes {
        let mut e = Encoder::with_capacity(self.encoded_bytes_max());
        e.u8(VERSION);
        e.count(self.blobs.len());
        for (address, blob) in self.blobs.iter() {
            e.u8(blob.kind());
            e.varint(*address);
            e.varint(blob.birth);
            if let Some(share) = blob.share {
                e.varint(share);
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

    /// At least the length of [`Self::encode`].
    pub fn encoded_bytes_max(&self) -> usize {
        let blobs: usize = self.blobs.values().map(|blob| 35 + blob.checksums.stored().len()).sum();
        9 + blobs + self.pieces.len() * 30
    }

    /// Reads a value and checks it against the invariants for shard `number` of `span` bytes.
    pub fn decode(value: Bytes, number: u32, span: u32, block: u64) -> DecodeResult<Self> {
        let mut d = Decoder::new(value);
        let version = d.u8("version of a shard")?;
        if version != VERSION {
            return d.invalid("version of a shard", 0, version.into());
        }
        let mut shard = Self::default();
        let mut order = Vec::new();
        for _ in 0..d.count(7, "blobs")? {
            let kind = d.u8("kind of a blob")?;
            let Some((is_shared, checksum)) = parse_kind(kind) else {
                return d.invalid("kind of a blob", d.at(), kind.into());
            };
            let address = d.varint("address of a blob")?;
            let birth = d.varint("birth of a blob")?;
            let share = is_shared.then(|| d.varint("share of a blob")).transpose()?;
            let count = d.u32("checksums")?;
            if u64::from(count) * block > span.into() {
                return d.invalid("checksums", d.at(), count.into());
            }
            let stored = d.raw(index(count.into()) * checksum.bytes(), "checksums")?;
            let Some(checksums) = Checksums::from_stored(checksum, count, &stored) else {
                return d.invalid("checksums", d.at(), count.into());
            };
            order.push(address);
            shard.blobs.insert(address, Blob { birth, checksums, share });
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

    /// Checks the invariants; tells which one is broken.
    pub fn validate(&self, number: u32, span: u32, block: u64) -> Result<(), &'static str> {
        let start = u64::from(number) * u64::from(span);
        let end = start + u64::from(span);
        let mut device_end = 0;
        for (address, blob) in self.blobs.iter() {
            let Some(blob_end) = address.checked_add(blob.bytes(block)) else {
                return Err("a blob reaches beyond any device");
            };
            if blob.checksums.is_empty() || !address.is_multiple_of(block) || *address < device_end {
                return Err("blobs are empty, not aligned or overlap");
            }
            if blob.share.is_some_and(|share| share > *address || !share.is_multiple_of(block)) {
                return Err("a blob's share does not begin before it");
            }
            device_end = blob_end;
        }
        let mut logical_end = start;
        let mut last_block = None;
        for (at, piece) in self.pieces.iter() {
            let Some(blob) = self.blobs.get(piece.blob) else { return Err("a piece refers to no blob") };
            if piece.len == 0 || *at < logical_end || at.saturating_add(piece.len.into()) > end {
                return Err("pieces are empty, overlap or leave the shard");
            }
            logical_end = at + u64::from(piece.len);
            if at % block != u64::from(piece.blob_offset) % block {
                return Err("a piece has another offset in its block than in the object's");
            }
            let (first, last) = piece.blocks(block);
            if last >= blob.checksums.len() {
                return Err("a piece leaves its blob");
            }
            let first_block = (at / block, (piece.blob, first));
            if last_block.is_some_and(|(logical, place)| logical == first_block.0 && place != first_block.1) {
                return Err("a block of the object lives in two places");
            }
            last_block = Some(((logical_end - 1) / block, (piece.blob, last)));
        }
        if self.used_blocks(block).0.iter().any(|used| !used) {
            return Err("a block of a blob is not used");
        }
        Ok(())
    }

    /// Bytes of memory, for the cache.
    pub fn memory_bytes(&self) -> u64 {
        wide(self.encoded_bytes_max()) + 64
    }
}

/// Whether a blob of this kind is shared, and what its checksums are.
fn parse_kind(kind: u8) -> Option<(bool, ChecksumKind)> {
    let checksum = match kind >> CHECKSUM_SHIFT {
        0 => ChecksumKind::Crc32c,
        number => ChecksumKind::from_number(number).filter(|kind| *kind != ChecksumKind::Crc32c)?,
    };
    let is_shared = match kind & ((1 << CHECKSUM_SHIFT) - 1) {
        PLAIN => false,
        SHARED => true,
        _ => return None,
    };
    Some((is_shared, checksum))
}

impl Blob {
    fn kind(&self) -> u8 {
        let checksum = match self.checksums.kind() {
            ChecksumKind::Crc32c => 0,
            other => other.number(),
        };
        checksum << CHECKSUM_SHIFT | if self.share.is_some() { SHARED } else { PLAIN }
    }

    /// Length on the device.
    pub fn bytes(&self, block: u64) -> u64 {
        wide(self.checksums.len()) * block
    }
}

impl Piece {
    /// First and last block of the blob that the piece touches.
    pub fn blocks(&self, block: u64) -> (usize, usize) {
        let first = u64::from(self.blob_offset) / block;
        let last = (u64::from(self.blob_offset) + u64::from(self.len.max(1)) - 1) / block;
        (index(first), index(last))
    }
}

struct Run {
    start: usize,
    end: usize,
    used: bool,
}

fn runs(blocks: &[bool]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, used) in blocks.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.used == *used => run.end = at + 1,
            _ => runs.push(Run { start: at, end: at + 1, used: *used }),
        }
    }
    runs
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn narrow(value: u64) -> u32 {
    let Ok(value) = u32::try_from(value) else { panic!("{value} bytes within a blob exceed a shard") };
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: u64 = 4096;

    fn one(fill: u8) -> Checksum {
        Checksum::of(ChecksumKind::Crc32c, &[fill])
    }

    fn row<const N: usize>(blocks: [&[u8]; N]) -> Checksums {
        Checksums::of_blocks(ChecksumKind::Crc32c, blocks)
    }

    fn sample() -> Shard {
        Shard {
            blobs: Sorted::from([
                (40 * B, Blob { birth: 5, checksums: row([&[1], &[2], &[3], &[4]]), share: None }),
                (80 * B, Blob { birth: 6, checksums: row([&[9]]), share: None }),
            ]),
            pieces: Sorted::from([
                (0, Piece { len: 4 * 4096, blob: 40 * B, blob_offset: 0 }),
                (5 * B + 10, Piece { len: 90, blob: 80 * B, blob_offset: 10 }),
                (5 * B + 200, Piece { len: 5, blob: 80 * B, blob_offset: 200 }),
            ]),
        }
    }

    #[test]
    fn round_trips_and_refuses_what_breaks_an_invariant() {
        let shard = sample();
        let value = shard.encode();
        assert!(value.len() <= shard.encoded_bytes_max());
        assert_eq!(Shard::decode(value.clone(), 0, 128 << 10, B), Ok(shard));
        assert!(Shard::decode(value.clone(), 1, 128 << 10, B).is_err(), "another shard's value");
        for len in 0..value.len() {
            assert!(Shard::decode(value.slice(..len), 0, 128 << 10, B).is_err());
        }
        for at in 0..value.len() {
            let mut damaged = value.to_vec();
            damaged[at] ^= 0x11;
            // Never panics; what it accepts obeys the invariants.
            if let Ok(found) = Shard::decode(Bytes::from(damaged), 0, 128 << 10, B) {
                assert_eq!(found.validate(0, 128 << 10, B), Ok(()));
            }
        }
    }

    #[test]
    fn finds_the_place_of_a_block() {
        let shard = sample();
        let place = shard.place(2 * B, B).expect("mapped");
        assert_eq!((place.address, place.checksum, place.birth), (42 * B, one(3), 5));
        let place = shard.place(5 * B, B).expect("a block that begins with a hole");
        assert_eq!((place.address, place.checksum), (80 * B, one(9)));
        assert_eq!(shard.place(4 * B, B), None);
        assert_eq!(shard.place(6 * B, B), None);
        assert!(shard.owns(43 * B, 5, B) && !shard.owns(43 * B, 6, B) && !shard.owns(44 * B, 5, B));
    }

    #[test]
    fn trimming_cuts_a_blob_in_the_middle() {
        let mut shard = sample();
        shard.pieces.insert(0, Piece { len: 100, blob: 40 * B, blob_offset: 0 });
        shard.pieces.insert(3 * B + 7, Piece { len: 20, blob: 40 * B, blob_offset: 3 * 4096 + 7 });
        shard.pieces.remove(5 * B + 200);
        let freed = shard.trim(B);
        assert_eq!(freed, vec![Extent { start: 41 * B, len: 2 * B }]);
        assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
        assert_eq!(shard.place(3 * B, B).map(|p| (p.address, p.checksum)), Some((43 * B, one(4))));
        assert_eq!(shard.allocated(B), 3 * B);
        shard.pieces = Sorted::default();
        assert_eq!(shard.trim(B).iter().map(|e| e.len).sum::<u64>(), 3 * B);
        assert!(shard.blobs.is_empty());
    }
}
