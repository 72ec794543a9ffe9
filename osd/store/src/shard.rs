//! A shard of the extent map: blobs, which own device space and checksums, and pieces, which say which bytes of the
//! object lie where in a blob.
//!
//! Invariants ([`Shard::validate`]): pieces do not overlap and stay in the shard's span; a piece keeps its offset
//! within the block, so a logical block lives in at most one block of one blob; every block of a blob is used by a
//! piece; blocks under one checksum hold consecutive blocks of the object; blobs of one object do not overlap on the device.
//! Writes are cut at shard borders, so no blob spans shards.
//! A shared blob's blocks may be other objects' too; [`crate::share`] counts who uses them, and nobody writes them.
//! What little there is at the beginning of an object may be in its first shard itself, which then has neither blobs nor pieces.
//! A compressed blob is read as a whole and never written again: its blocks are used until no piece refers to any of them.

mod codec;

pub(crate) use codec::VALUE_OF_VERSION_1;

use std::collections::BTreeSet;

use allocator::Extent;
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::checksum::{Checksum, Checksums, Chunk};
use crate::compression::Algorithm;
use crate::limits::{CHECKSUM_CHUNK_BYTES_MAX, INLINE_BYTES_MAX};
use crate::sorted::Sorted;

/// Bytes that a shard takes beside blobs and pieces.
pub const SHARD_BYTES_MAX: usize = 24;
/// Bytes that a blob takes beside its checksums.
pub const BLOB_BYTES_MAX: usize = 46;
/// Bytes that a piece takes.
pub const PIECE_BYTES_MAX: usize = 30;

/// Bytes that inline bytes take beside themselves.
const INLINE_PART_BYTES: usize = 14;

/// See [`Shard::counts`].
pub type Counts = [u64; 5];

/// A mark per block of a shard of usual size.
type Marks = SmallVec<[bool; 64]>;

/// Device space with its checksums. Blobs are keyed by the address of their first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Number of the record that allocated the space. With the address it identifies the owner of a block for ever:
    /// space that was freed and allocated again has another birth.
    pub birth: u64,
    /// Of its blocks.
    pub checksums: Checksums,
    /// Other objects may use the blocks: their uses are counted from this address on.
    pub share: Option<u64>,
    /// How what the blocks hold is compressed.
    pub packed: Option<Packed>,
}

/// What a compressed blob holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// How it was compressed.
    pub algorithm: Algorithm,
    /// Blocks before it was compressed: pieces refer to these. More than are stored.
    pub raw_blocks: u32,
    /// Bytes of it in the blob's blocks; zeroes follow.
    pub bytes: u32,
}

/// Bytes of the object within a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes.
    pub len: u32,
    /// Address of the blob.
    pub blob: u64,
    /// Where in the blob, before it was compressed.
    pub blob_offset: u32,
}

/// Where one block of the object lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address of the blob.
    pub blob: u64,
    /// Which of its blocks, before it was compressed.
    pub index: usize,
    /// Address of the block; of a compressed blob's first one.
    pub address: u64,
    /// The checksum of what is there, and of what else is under it.
    pub checksum: Checksum,
    /// Address of the first block that is under it.
    pub chunk: u64,
    /// How many are.
    pub chunk_blocks: u32,
    /// Birth of the blob.
    pub birth: u64,
    /// The blob is shared.
    pub is_shared: bool,
    /// The blob is compressed.
    pub is_packed: bool,
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
    /// The bytes themselves, by logical offset in the object; none if there are pieces.
    pub inline: Sorted<Bytes>,
}

impl Shard {
    /// Holds nothing.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.inline.is_empty()
    }

    /// Where bytes are, in the object: offsets and lengths, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let inline = self.inline.iter().map(|(at, bytes)| (*at, wide(bytes.len())));
        self.pieces.iter().map(|(at, piece)| (*at, u64::from(piece.len))).chain(inline)
    }

    /// Bytes written and not removed.
    pub fn stored(&self) -> u64 {
        self.ranges().map(|(_, len)| len).sum()
    }

    /// Bytes that it has itself.
    pub fn inline_bytes(&self) -> u64 {
        self.inline.values().map(|bytes| wide(bytes.len())).sum()
    }

    /// Where the last of the bytes that it has itself ends; 0 if it has none.
    pub fn inline_end(&self) -> u64 {
        self.inline.iter().last().map_or(0, |(at, bytes)| at + wide(bytes.len()))
    }

    /// Bytes of device space owned.
    pub fn allocated(&self, block: u64) -> u64 {
        self.blobs.values().map(|blob| blob.bytes(block)).sum()
    }

    /// Of [`Self::allocated`], what is shared.
    pub fn shared(&self, block: u64) -> u64 {
        self.blobs.values().filter(|blob| blob.share.is_some()).map(|blob| blob.bytes(block)).sum()
    }

    /// Bytes stored, allocated, shared, and of compressed blobs on the device and before.
    pub fn counts(&self, block: u64) -> Counts {
        let packed = |blob: &&Blob| blob.packed.is_some();
        if !self.blobs.values().any(|blob| packed(&blob)) {
            return [self.stored(), self.allocated(block), self.shared(block), 0, 0];
        }
        let compressed = self.blobs.values().filter(packed).map(|blob| blob.bytes(block)).sum();
        let pieces =
            self.pieces.values().filter(|piece| self.blobs.get(piece.blob).as_ref().is_some_and(packed));
        let original = pieces.map(|piece| u64::from(piece.len)).sum();
        [self.stored(), self.allocated(block), self.shared(block), compressed, original]
    }

    /// Bytes of the checksums of compressed blobs, which stay whole however little of them is used.
    pub fn packed_checksum_bytes(&self) -> usize {
        let packed = self.blobs.values().filter(|blob| blob.packed.is_some());
        packed.map(|blob| blob.checksums.stored().len()).sum()
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
        let index = usize::try_from(number).ok().filter(|index| *index < found.raw_blocks())?;
        let logical = (at + number * block).saturating_sub(piece.blob_offset.into());
        let (birth, is_shared, is_packed) = (found.birth, found.share.is_some(), found.packed.is_some());
        let (address, stored) = if is_packed { (blob, 0) } else { (blob + number * block, index) };
        let Chunk { first, blocks, checksum } = found.checksums.get(stored)?;
        let (chunk, chunk_blocks) = (blob + wide(first) * block, narrow(wide(blocks)));
        Some(Place {
            blob,
            index,
            address,
            checksum,
            chunk,
            chunk_blocks,
            birth,
            is_shared,
            is_packed,
            logical,
        })
    }

    /// Whether a blob born by `birth` owns the block at `address`.
    pub fn owns(&self, address: u64, birth: u64, block: u64) -> bool {
        let Some((start, blob)) = self.blobs.at_or_below(address) else { return false };
        blob.birth == birth && address < start + blob.bytes(block)
    }

    /// Drops blocks that no piece uses, cutting blobs where a block goes from the middle; gives what became free. If a block
    /// stays that is under one checksum with one that goes, it has one of its own before.
    pub fn trim(&mut self, block: u64) -> Vec<Extent> {
        let (used, firsts) = self.used_blocks(block);
        if used.iter().all(|used| *used) {
            return Vec::new();
        }
        let (mut freed, mut cut) = (Vec::new(), Vec::new());
        let mut firsts = firsts.into_iter();
        self.blobs.retain(|address, blob| {
            let first = firsts.next().unwrap_or(used.len());
            let row = &used[first..first + blob.raw_blocks()];
            if row.iter().all(|used| *used) || blob.packed.is_some() && row.contains(&true) {
                return true;
            }
            if blob.packed.is_some() {
                freed.push(Extent { start: address, len: blob.bytes(block) });
                return false;
            }
            for run in runs(row) {
                let start = address + wide(run.start) * block;
                if run.used {
                    let checksums = blob.checksums.slice(run.start..run.end);
                    cut.push((start, Blob { checksums, ..*blob }));
                } else {
                    freed.push(Extent { start, len: wide(run.end - run.start) * block });
                }
            }
            false
        });
        let was_cut = !cut.is_empty();
        for (start, blob) in cut {
            self.blobs.insert(start, blob);
        }
        if was_cut {
            for piece in self.pieces.values_mut() {
                // Offsets in compressed blobs are not on the device, and these were not cut.
                if self.blobs.get(piece.blob).is_some_and(|blob| blob.packed.is_some()) {
                    continue;
                }
                let absolute = piece.blob + u64::from(piece.blob_offset);
                let Some((start, _)) = self.blobs.at_or_below(absolute) else { continue };
                piece.blob = start;
                piece.blob_offset = narrow(absolute - start);
            }
        }
        freed
    }

    /// Chunks of which pieces use some blocks, but not all: by blob, and first block, with those that are used.
    pub fn cut_chunks(&self, block: u64) -> Vec<(u64, Chunk, Vec<usize>)> {
        let (used, firsts) = self.used_blocks(block);
        let mut cut = Vec::new();
        for ((address, blob), first) in self.blobs.iter().zip(firsts) {
            for chunk in blob.checksums.chunks().filter(|chunk| chunk.blocks > 1) {
                let stays: Vec<usize> = chunk.range().filter(|index| used[first + index]).collect();
                if !stays.is_empty() && stays.len() < chunk.blocks {
                    cut.push((*address, chunk, stays));
                }
            }
        }
        cut
    }

    /// Which blocks of which blob a piece uses: all blobs' blocks, before they were compressed, in one row, and where in it
    /// each blob's begin.
    fn used_blocks(&self, block: u64) -> (Marks, SmallVec<[usize; 64]>) {
        let mut total = 0;
        let count = |blob: &Blob| {
            total += blob.raw_blocks();
            total - blob.raw_blocks()
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

    /// Forgets the bytes of `[from, to)`; gives what was there: offsets and lengths. [`Self::trim`] is to follow.
    pub fn punch(&mut self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let lost = |at: u64, len: u64| (at.max(from), (at + len).min(to));
        let all = self.ranges().map(|(at, len)| lost(at, len)).filter(|(from, to)| from < to);
        let all: Vec<(u64, u64)> = all.map(|(from, to)| (from, to - from)).collect();
        for (at, piece) in std::mem::take(&mut self.pieces) {
            let end = at + u64::from(piece.len);
            let (lost_from, lost_to) = lost(at, piece.len.into());
            if lost_from >= lost_to {
                self.pieces.insert(at, piece);
                continue;
            }
            if at < lost_from {
                self.pieces.insert(at, Piece { len: narrow(lost_from - at), ..piece });
            }
            if lost_to < end {
                let blob_offset = piece.blob_offset + narrow(lost_to - at);
                self.pieces.insert(lost_to, Piece { len: narrow(end - lost_to), blob_offset, ..piece });
            }
        }
        for (at, bytes) in std::mem::take(&mut self.inline) {
            let (lost_from, lost_to) = lost(at, wide(bytes.len()));
            if lost_from >= lost_to {
                self.inline.insert(at, bytes);
                continue;
            }
            let (before, after) = (bytes.slice(..index(lost_from - at)), bytes.slice(index(lost_to - at)..));
            let kept = [(at, before), (lost_to, after)].into_iter().filter(|(_, bytes)| !bytes.is_empty());
            kept.for_each(|(at, bytes)| drop(self.inline.insert(at, bytes)));
        }
        all
    }

    /// Forgets what lies in the blocks at these addresses, of a compressed blob all that it has; gives what was there.
    /// [`Self::trim`] is to follow.
    pub fn forget_blocks(&mut self, addresses: &BTreeSet<u64>, block: u64) -> Vec<(u64, u64)> {
        let mut ranges = Vec::new();
        for (at, piece) in self.pieces.iter() {
            let Some(blob) = self.blobs.get(piece.blob) else { continue };
            let end = at + u64::from(piece.len);
            if blob.packed.is_some() {
                let stored = piece.blob..piece.blob + blob.bytes(block);
                ranges.extend(addresses.range(stored).next().map(|_| (*at, end)));
                continue;
            }
            let start = piece.blob + u64::from(piece.blob_offset);
            for address in addresses.range(start / block * block..start + u64::from(piece.len)) {
                // Where the piece has this block, in the object.
                let (from, to) = (at + address.saturating_sub(start), at + (address + block - start));
                ranges.push((from, to.min(end)));
            }
        }
        ranges.into_iter().flat_map(|(from, to)| self.punch(from, to)).collect()
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

    /// At least the length of [`Self::encode`].
    pub fn encoded_bytes_max(&self) -> usize {
        let blobs: usize =
            self.blobs.values().map(|blob| BLOB_BYTES_MAX + blob.checksums.stored().len()).sum();
        let inline: usize = self.inline.values().map(|bytes| INLINE_PART_BYTES + bytes.len()).sum();
        SHARD_BYTES_MAX + blobs + self.pieces.len() * PIECE_BYTES_MAX + inline
    }

    /// Checks the invariants; tells which one is broken.
    pub fn validate(&self, number: u32, span: u32, block: u64) -> Result<(), &'static str> {
        if !self.inline.is_empty() {
            return self.validate_inline(number, span);
        }
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
            let most = CHECKSUM_CHUNK_BYTES_MAX / block;
            let too_many = |chunk: Chunk| chunk.blocks > 1 && wide(chunk.blocks) > most;
            if blob.checksums.is_chunked() && blob.checksums.chunks().any(too_many) {
                return Err("too many blocks are under one checksum");
            }
            if let Some(problem) = blob.packed.and_then(|packed| packed.problem(blob, span, block)) {
                return Err(problem);
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
            if last >= blob.raw_blocks() {
                return Err("a piece leaves its blob");
            }
            let first_block = (at / block, (piece.blob, first));
            if last_block.is_some_and(|(logical, place)| logical == first_block.0 && place != first_block.1) {
                return Err("a block of the object lives in two places");
            }
            last_block = Some(((logical_end - 1) / block, (piece.blob, last)));
        }
        let (used, firsts) = self.used_blocks(block);
        for (blob, first) in self.blobs.values().zip(firsts) {
            let mut row = used[first..first + blob.raw_blocks()].iter();
            let is_used = if blob.packed.is_some() { row.any(|used| *used) } else { row.all(|used| *used) };
            if !is_used {
                return Err("a block of a blob is not used");
            }
        }
        self.validate_chunks(block)
    }

    /// Checks that what is under one checksum lies in the object as it does on the device. Every block is used.
    fn validate_chunks(&self, block: u64) -> Result<(), &'static str> {
        if !self.blobs.values().any(|blob| blob.checksums.is_chunked()) {
            return Ok(());
        }
        // By address, where in the object a block that a piece begins or goes on with is.
        let mut logical: Sorted<u64> = Sorted::default();
        for (at, piece) in self
            .pieces
            .iter()
            .filter(|(_, piece)| self.blobs.get(piece.blob).is_some_and(|blob| blob.checksums.is_chunked()))
        {
            let (first, last) = piece.blocks(block);
            for number in first..=last {
                let address = piece.blob + wide(number) * block;
                logical.insert(address, at / block + wide(number - first));
            }
        }
        for (address, blob) in self.blobs.iter() {
            for chunk in blob.checksums.chunks().filter(|chunk| chunk.blocks > 1) {
                let mut blocks = chunk.range().map(|index| logical.get(address + wide(index) * block));
                let Some(Some(first)) = blocks.next() else { return Err("a block of a chunk is not used") };
                if !blocks.zip(first + 1..).all(|(found, expected)| found == Some(&expected)) {
                    return Err("blocks under one checksum are not consecutive in the object");
                }
            }
        }
        Ok(())
    }

    fn validate_inline(&self, number: u32, span: u32) -> Result<(), &'static str> {
        let start = u64::from(number) * u64::from(span);
        let mut end = start;
        for (at, bytes) in self.inline.iter() {
            if bytes.is_empty() || *at < end {
                return Err("inline bytes are none or overlap");
            }
            end = at.saturating_add(wide(bytes.len()));
        }
        if !self.pieces.is_empty() || !self.blobs.is_empty() {
            return Err("there are blobs or pieces beside inline bytes");
        }
        if self.inline.is_empty() || end > start + u64::from(span) || end > INLINE_BYTES_MAX {
            return Err("inline bytes are none or too many");
        }
        Ok(())
    }

    /// Bytes of memory, for the cache.
    pub fn memory_bytes(&self) -> u64 {
        let checksums: usize = self.blobs.values().map(|blob| blob.checksums.heap_bytes()).sum();
        let inline: usize = self.inline.values().map(|bytes| bytes.len() + 24).sum();
        let lists = self.blobs.memory_bytes() + self.pieces.memory_bytes() + self.inline.memory_bytes();
        wide(size_of::<Self>() + 24 + checksums + inline + lists)
    }
}

impl Packed {
    /// What is impossible about it.
    fn problem(&self, blob: &Blob, span: u32, block: u64) -> Option<&'static str> {
        let (raw, bytes) = (u64::from(self.raw_blocks) * block, u64::from(self.bytes));
        if blob.checksums.is_chunked() {
            return Some("a compressed blob has blocks under one checksum");
        }
        if raw > span.into() || raw <= blob.bytes(block) {
            return Some("a compressed blob leaves its shard or saves nothing");
        }
        (bytes.div_ceil(block) != wide(blob.checksums.len()))
            .then_some("a compressed blob has another length")
    }
}

impl Blob {
    /// Blocks that pieces may refer to.
    pub fn raw_blocks(&self) -> usize {
        self.packed.map_or(self.checksums.len(), |packed| index(packed.raw_blocks.into()))
    }

    /// Length on the device.
    pub fn bytes(&self, block: u64) -> u64 {
        wide(self.checksums.len()) * block
    }
}

impl Place {
    /// What is under its checksum.
    pub fn chunk(&self, block: u64) -> Extent {
        Extent::new(self.chunk, u64::from(self.chunk_blocks) * block)
    }

    /// Where what is under its checksum begins in the object.
    pub fn chunk_logical(&self) -> u64 {
        self.logical.saturating_sub(self.address - self.chunk)
    }

    /// Each block that is under its checksum.
    pub fn chunk_places(self, block: u64) -> impl Iterator<Item = Self> {
        let (first, logical) =
            (self.index - index((self.address - self.chunk) / block), self.chunk_logical());
        (0..self.chunk_blocks).map(move |number| {
            let offset = u64::from(number) * block;
            let (address, logical) = (self.chunk + offset, logical + offset);
            Self { index: first + index(number.into()), address, logical, ..self }
        })
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
    use crate::checksum::ChecksumKind;

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
                (
                    40 * B,
                    Blob { birth: 5, checksums: row([&[1], &[2], &[3], &[4]]), share: None, packed: None },
                ),
                (80 * B, Blob { birth: 6, checksums: row([&[9]]), share: None, packed: None }),
            ]),
            pieces: Sorted::from([
                (0, Piece { len: 4 * 4096, blob: 40 * B, blob_offset: 0 }),
                (5 * B + 10, Piece { len: 90, blob: 80 * B, blob_offset: 10 }),
                (5 * B + 200, Piece { len: 5, blob: 80 * B, blob_offset: 200 }),
            ]),
            ..Shard::default()
        }
    }

    #[test]
    fn round_trips_and_refuses_what_breaks_an_invariant() {
        let shard = sample();
        let value = shard.encode(B);
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

    /// Two blocks under one checksum, one by itself, one whose checksum is unknown.
    fn chunked() -> Shard {
        let mut checksums = Checksums::new(ChecksumKind::Crc32c);
        checksums.push(one(1), 2);
        checksums.push(one(2), 1);
        checksums.push(Checksum::unknown(ChecksumKind::Crc32c), 1);
        let mut shard = sample();
        let (_, blob) = shard.blobs.at_mut(0).expect("there are two");
        blob.checksums = checksums;
        shard
    }

    #[test]
    fn several_blocks_may_be_under_one_checksum() {
        for share in [None, Some(38 * B)] {
            let mut shard = chunked();
            shard.blobs.at_mut(0).expect("there are two").1.share = share;
            assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
            let value = shard.encode(B);
            assert!(value.len() < sample().encode(B).len() && value.len() <= shard.encoded_bytes_max());
            assert_eq!(Shard::decode(value.clone(), 0, 128 << 10, B), Ok(shard.clone()));
            for len in 0..value.len() {
                assert!(Shard::decode(value.slice(..len), 0, 128 << 10, B).is_err());
            }
            for at in 0..value.len() {
                let mut damaged = value.to_vec();
                damaged[at] ^= 0x11;
                // Never panics; what it accepts obeys the invariants, and is what it would be written as.
                if let Ok(found) = Shard::decode(Bytes::from(damaged), 0, 128 << 10, B) {
                    let again = Shard::decode(found.encode(B), 0, 128 << 10, B);
                    assert_eq!((found.validate(0, 128 << 10, B), again), (Ok(()), Ok(found)));
                }
            }
            let place = shard.place(B, B).expect("mapped");
            assert_eq!((place.address, place.index, place.checksum), (41 * B, 1, one(1)));
            assert_eq!((place.chunk(B), place.chunk_logical()), (Extent::new(40 * B, 2 * B), 0));
            let all: Vec<_> = place.chunk_places(B).collect();
            assert_eq!(
                all.iter().map(|place| (place.address, place.logical)).collect::<Vec<_>>(),
                [(40 * B, 0), (41 * B, B)]
            );
            assert_eq!((all[1], all[0].index), (place, 0));
        }
    }

    #[test]
    fn impossible_chunks_are_refused() {
        let with = |change: &dyn Fn(&mut Shard)| {
            let mut shard = chunked();
            change(&mut shard);
            Shard::decode(shard.encode(B), 0, 128 << 10, B)
        };
        assert!(with(&|_| {}).is_ok());
        // One that is longer than any may be.
        let mut long = Checksums::new(ChecksumKind::Crc32c);
        long.push(one(1), 17);
        let blob = Blob { birth: 5, checksums: long, share: None, packed: None };
        let shard = Shard {
            blobs: Sorted::from([(40 * B, blob)]),
            pieces: Sorted::from([(0, Piece { len: 17 * 4096, blob: 40 * B, blob_offset: 0 })]),
            ..Shard::default()
        };
        assert_eq!(shard.validate(0, 128 << 10, B), Err("too many blocks are under one checksum"));
        // One whose second block is elsewhere in the object.
        let apart = with(&|shard| {
            let piece = |blob_offset, len| Piece { len, blob: 40 * B, blob_offset };
            let rest = [(0, piece(0, 4096)), (2 * B, piece(8192, 8192)), (8 * B, piece(4096, 4096))];
            let last = shard.pieces.iter().skip(1).map(|(at, piece)| (*at, *piece)).collect::<Vec<_>>();
            shard.pieces = rest.into_iter().chain(last).collect();
        });
        assert!(apart.is_err(), "{apart:?}");
        // Single blocks that pretend to be chunks, more blocks than there are, and none to protect them.
        let value = chunked().encode(B).to_vec();
        let row = chunked().blobs.at(0).expect("there are two").1.checksums.clone();
        let at =
            value.windows(row.stored().len()).position(|bytes| bytes == row.stored()).expect("it is there");
        for wrong in [1, 3, 5, 255] {
            let mut value = value.clone();
            value[at] = wrong;
            assert!(Shard::decode(Bytes::from(value), 0, 128 << 10, B).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cut_chunk_is_split_first() {
        let mut shard = chunked();
        assert_eq!(shard.cut_chunks(B), []);
        assert_eq!(shard.punch(B, 2 * B), [(B, B)]);
        let chunk = Chunk { first: 0, blocks: 2, checksum: one(1) };
        assert_eq!(shard.cut_chunks(B), [(40 * B, chunk, vec![0])]);
        shard.blobs.at_mut(0).expect("there are two").1.checksums.split(0, &[(0, one(7))]);
        assert_eq!(shard.trim(B), [Extent::new(41 * B, B)]);
        assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
        assert_eq!(shard.place(0, B).map(|place| place.checksum), Some(one(7)));
        assert_eq!(shard.place(2 * B, B).map(|place| place.checksum), Some(one(2)));
    }

    #[test]
    fn what_is_punched_out_is_a_hole_and_its_blocks_are_free() {
        // Of the blobs: blocks of pieces, and 10 to 100 and 200 to 205 of another block.
        let check = |from: u64, to: u64, lost: &[(u64, u64)], left: &[(u64, u64)], blocks: u64| {
            let mut shard = sample();
            assert_eq!(shard.punch(from, to), lost);
            shard.trim(B);
            assert_eq!(shard.ranges().collect::<Vec<_>>(), left);
            assert_eq!((shard.validate(0, 128 << 10, B), shard.allocated(B)), (Ok(()), blocks * B));
        };
        let (first, second) = ((5 * B + 10, 90), (5 * B + 200, 5));
        check(0, u64::MAX, &[(0, 4 * B), first, second], &[], 0);
        check(4 * B, 5 * B, &[], &[(0, 4 * B), first, second], 5);
        check(B, 2 * B, &[(B, B)], &[(0, B), (2 * B, 2 * B), first, second], 4);
        check(B + 1, 2 * B, &[(B + 1, B - 1)], &[(0, B + 1), (2 * B, 2 * B), first, second], 5);
        check(
            5 * B + 20,
            5 * B + 203,
            &[(5 * B + 20, 80), (second.0, 3)],
            &[(0, 4 * B), (first.0, 10), (5 * B + 203, 2)],
            5,
        );

        let inline = |parts: &[(u64, &'static [u8])]| Shard {
            inline: parts.iter().map(|(at, bytes)| (*at, Bytes::from_static(bytes))).collect(),
            ..Shard::default()
        };
        let mut shard = inline(&[(0, b"abcdef"), (100, b"xyz")]);
        assert_eq!(shard.punch(2, 101), [(2, 4), (100, 1)]);
        assert_eq!(shard, inline(&[(0, b"ab"), (101, b"yz")]));
    }

    #[test]
    fn blocks_that_are_forgotten_take_with_them_what_they_hold() {
        let check = |addresses: &[u64], lost: &[(u64, u64)]| {
            let mut shard = sample();
            let addresses = addresses.iter().map(|block| block * B).collect();
            assert_eq!(shard.forget_blocks(&addresses, B), lost);
            shard.trim(B);
            assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
            assert!(
                shard
                    .blobs
                    .iter()
                    .all(|(at, blob)| addresses.range(*at..*at + blob.bytes(B)).next().is_none())
            );
        };
        check(&[39, 44, 81], &[]);
        check(&[42], &[(2 * B, B)]);
        check(&[40, 43], &[(0, B), (3 * B, B)]);
        check(&[80], &[(5 * B + 10, 90), (5 * B + 200, 5)]);
        // Of a compressed blob nothing is left without one of its blocks.
        let packed = Packed { algorithm: Algorithm::Snappy, raw_blocks: 4, bytes: 5000 };
        let blob = Blob { birth: 5, checksums: row([&[1], &[2]]), share: None, packed: Some(packed) };
        let piece = |blob_offset| Piece { len: 4096, blob: 40 * B, blob_offset };
        let mut shard = Shard {
            blobs: Sorted::from([(40 * B, blob)]),
            pieces: Sorted::from([(0, piece(0)), (3 * B, piece(3 * 4096))]),
            ..Shard::default()
        };
        assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
        assert_eq!(shard.forget_blocks(&BTreeSet::from([41 * B]), B), [(0, B), (3 * B, B)]);
        shard.trim(B);
        assert!(shard.is_empty() && shard.blobs.is_empty());
    }

    #[test]
    fn a_shard_may_have_the_bytes_themselves() {
        let bytes = |len: usize| Bytes::from(vec![7; len]);
        let shard =
            |parts: Vec<(u64, Bytes)>| Shard { inline: parts.into_iter().collect(), ..Shard::default() };
        let sound = shard(vec![(10, bytes(300)), (310, bytes(1)), (4000, bytes(96))]);
        let value = sound.encode(B);
        assert!(value.len() <= sound.encoded_bytes_max());
        assert_eq!(Shard::decode(value.clone(), 0, 128 << 10, B).as_ref(), Ok(&sound));
        assert_eq!((sound.counts(B), sound.is_empty(), sound.place(0, B)), ([397, 0, 0, 0, 0], false, None));
        assert_eq!(sound.ranges().collect::<Vec<_>>(), [(10, 300), (310, 1), (4000, 96)]);
        assert!(Shard::decode(value.clone(), 1, 128 << 10, B).is_err(), "another shard's value");
        for len in 0..value.len() {
            assert!(Shard::decode(value.slice(..len), 0, 128 << 10, B).is_err());
        }
        let wrong = [vec![(4000, bytes(97))], vec![(10, bytes(0))], vec![(10, bytes(5)), (14, bytes(5))]];
        for parts in wrong {
            let wrong = shard(parts);
            assert!(Shard::decode(wrong.encode(B), 0, 128 << 10, B).is_err(), "{wrong:?}");
        }
        assert!(Shard::decode(Bytes::from_static(&[2, 0, 0, 0, 0]), 0, 128 << 10, B).is_err(), "none");
        let both = Shard { inline: sound.inline.clone(), ..sample() };
        assert!(both.validate(0, 128 << 10, B).is_err());
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

    fn compressed() -> Shard {
        let packed = Some(Packed { algorithm: Algorithm::Lz4, raw_blocks: 8, bytes: 5000 });
        Shard {
            blobs: Sorted::from([
                (40 * B, Blob { birth: 5, checksums: row([&[1], &[2]]), share: None, packed }),
                (80 * B, Blob { birth: 6, checksums: row([&[9]]), share: None, packed: None }),
            ]),
            pieces: Sorted::from([
                (0, Piece { len: 2 * 4096, blob: 40 * B, blob_offset: 0 }),
                (2 * B, Piece { len: 4096, blob: 80 * B, blob_offset: 0 }),
                (3 * B, Piece { len: 5 * 4096 - 7, blob: 40 * B, blob_offset: 3 * 4096 }),
            ]),
            ..Shard::default()
        }
    }

    #[test]
    fn a_compressed_blob_is_there_as_long_as_something_refers_to_it() {
        let mut shard = compressed();
        let value = shard.encode(B);
        assert!(value.len() <= shard.encoded_bytes_max());
        assert_eq!(Shard::decode(value, 0, 128 << 10, B).as_ref(), Ok(&shard));
        assert_eq!(shard.counts(B), [8 * B - 7, 3 * B, 0, 2 * B, 7 * B - 7]);
        let place = shard.place(7 * B, B).expect("mapped");
        assert_eq!((place.address, place.index, place.is_packed), (40 * B, 7, true));
        assert_eq!(shard.place(8 * B, B), None);
        assert!(shard.owns(41 * B, 5, B) && !shard.owns(42 * B, 5, B));
        shard.pieces.remove(0);
        assert_eq!(shard.trim(B), []);
        assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
        // A blob that is cut right behind it, where the compressed one's offsets would lead.
        shard
            .blobs
            .insert(42 * B, Blob { birth: 7, checksums: row([&[4], &[5]]), share: None, packed: None });
        shard.pieces.insert(9 * B, Piece { len: 4096, blob: 42 * B, blob_offset: 0 });
        let before = shard.pieces.get(3 * B).copied();
        assert_eq!(shard.trim(B), [Extent { start: 43 * B, len: B }]);
        assert_eq!(shard.pieces.get(3 * B).copied(), before);
        shard.pieces.remove(3 * B);
        assert_eq!(shard.trim(B), [Extent { start: 40 * B, len: 2 * B }]);
        assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
    }

    #[test]
    fn impossible_compressed_blobs_are_refused() {
        let with = |raw_blocks, bytes| {
            let mut shard = compressed();
            let Some((_, blob)) = shard.blobs.at_mut(0) else { panic!("there is one") };
            blob.packed = Some(Packed { algorithm: Algorithm::Lz4, raw_blocks, bytes });
            shard.validate(0, 128 << 10, B)
        };
        assert_eq!(with(8, 4097), Ok(()));
        for (raw_blocks, bytes) in [(8, 4096), (8, 8193), (8, 0), (2, 5000), (7, 5000), (33, 5000)] {
            assert!(with(raw_blocks, bytes).is_err(), "{raw_blocks} blocks, {bytes} bytes");
        }
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
