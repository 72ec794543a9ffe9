//! [`Place`]: where a block of an object lives.

use allocator::Extent;

use super::{Piece, Shard, index, narrow, wide};
use crate::checksum::{Checksum, Chunk};

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

impl Shard {
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
