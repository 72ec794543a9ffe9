//! A shard of the extent map: blobs, which own device space and checksums, and pieces, which say which bytes of the
//! object lie where in a blob.
//!
//! Invariants ([`Shard::validate`]): pieces do not overlap and stay in the shard's span; a piece keeps its offset
//! within the block, so a logical block lives in at most one block of one blob; every block of a blob is used by a
//! piece, and for one logical block; blocks under one checksum hold consecutive blocks of the object; blobs of one object do not overlap on the device.
//! Writes are cut at shard borders, so no blob spans shards.
//! A shared blob's blocks may be other objects' too; [`crate::share`] counts who uses them, and nobody writes them.
//! What little there is at the beginning of an object may be in its first shard itself, which then has neither blobs nor pieces.
//! A compressed blob is read as a whole and never written again: its blocks are used until no piece refers to any of them.

mod change;
mod codec;
mod overwrite;
mod place;
mod validate;

pub(crate) use codec::VALUE_OF_VERSION_1;
pub use overwrite::NewBlock;
pub use place::Place;

use allocator::Extent;
use bytes::Bytes;

use crate::checksum::Checksums;
use crate::compression::Algorithm;
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

    /// At least the length of [`Self::encode`].
    pub fn encoded_bytes_max(&self) -> usize {
        let blobs: usize =
            self.blobs.values().map(|blob| BLOB_BYTES_MAX + blob.checksums.stored().len()).sum();
        let inline: usize = self.inline.values().map(|bytes| INLINE_PART_BYTES + bytes.len()).sum();
        SHARD_BYTES_MAX + blobs + self.pieces.len() * PIECE_BYTES_MAX + inline
    }

    /// Bytes of memory, for the cache.
    pub fn memory_bytes(&self) -> u64 {
        let checksums: usize = self.blobs.values().map(|blob| blob.checksums.heap_bytes()).sum();
        let inline: usize = self.inline.values().map(|bytes| bytes.len() + 24).sum();
        let lists = self.blobs.memory_bytes() + self.pieces.memory_bytes() + self.inline.memory_bytes();
        wide(size_of::<Self>() + 24 + checksums + inline + lists)
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

    /// The crc32c of a block's bytes as clients see them, if it has one of its own.
    pub fn crc32c(&self, number: u64) -> Option<u32> {
        let chunk = self.checksums.get(index(number)).filter(|_| self.packed.is_none())?;
        chunk.checksum.crc32c().filter(|_| chunk.blocks == 1)
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
mod tests;
