//! The row of checksums that a blob holds. Mostly each is of one block. What is read from lower offsets to higher ones and not
//! changed has *chunks*: several blocks, one behind the other, under one checksum.
//!
//! A chunk is read, verified and replaced as a whole. Whoever takes a part of it away has checksums of what stays: of each
//! block its own, taken of what was verified. If that cannot be verified, the blocks that stay have an unknown checksum: a new one
//! would make damage look sound.

use std::ops::Range;

use smallvec::SmallVec;

use super::kinds::{Checksum, ChecksumKind};

/// Most blocks of a chunk: what a byte holds beside 0.
pub const CHUNK_BLOCKS_MAX: usize = 255;

/// The checksums of a blob's blocks, as they are stored. Without chunks: those of the blocks, one after the other. With
/// chunks, of each of them: a byte that says how many blocks it has, and its checksum; or 0 for one block whose checksum is
/// unknown. Few, since random overwrites make blobs of one block.
///
/// There is one form for each row: chunks are there only if one of them is of several blocks or unknown.
#[derive(Debug, PartialEq, Eq)]
pub struct Checksums {
    kind: ChecksumKind,
    is_chunked: bool,
    len: u32,
    stored: SmallVec<[u8; 16]>,
}

impl Clone for Checksums {
    fn clone(&self) -> Self {
        // At once; that of a `SmallVec` goes byte by byte.
        Self { stored: SmallVec::from_slice(&self.stored), ..*self }
    }
}

/// A checksum in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The first block that it is of.
    pub first: usize,
    /// How many blocks it is of.
    pub blocks: usize,
    /// It.
    pub checksum: Checksum,
}

impl Chunk {
    /// The blocks that it is of.
    pub fn range(&self) -> Range<usize> {
        self.first..self.first + self.blocks
    }
}

impl Checksums {
    /// None yet.
    pub fn new(kind: ChecksumKind) -> Self {
        Self { kind, is_chunked: false, len: 0, stored: SmallVec::new() }
    }

    /// Those of these blocks.
    pub fn of_blocks<'a>(kind: ChecksumKind, blocks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut checksums = Self::new(kind);
        blocks.into_iter().for_each(|block| checksums.push(Checksum::of(kind, block), 1));
        checksums
    }

    /// Those of `len` blocks as stored, without chunks; none if that is not their length.
    pub fn from_stored(kind: ChecksumKind, len: u32, stored: &[u8]) -> Option<Self> {
        let bytes = usize::try_from(len).ok()?.checked_mul(kind.bytes())?;
        let stored = (bytes == stored.len()).then(|| SmallVec::from_slice(stored))?;
        Some(Self { kind, is_chunked: false, len, stored })
    }

    /// As they are stored.
    pub fn stored(&self) -> &[u8] {
        &self.stored
    }

    /// Of which kind all are.
    pub fn kind(&self) -> ChecksumKind {
        self.kind
    }

    /// Whether there are chunks.
    pub fn is_chunked(&self) -> bool {
        self.is_chunked
    }

    /// Bytes of memory beside this.
    pub fn heap_bytes(&self) -> usize {
        if self.stored.spilled() { self.stored.capacity() } else { 0 }
    }

    /// Blocks.
    pub fn len(&self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX)
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, ascending.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let (mut first, mut at) = (0, 0);
        std::iter::from_fn(move || {
            if first >= self.len() {
                return None;
            }
            let (blocks, checksum, next) = self.at(at);
            let chunk = Chunk { first, blocks, checksum };
            (first, at) = (first + blocks, next);
            Some(chunk)
        })
    }

    /// The one that a block is under, if there is such a block.
    pub fn get(&self, index: usize) -> Option<Chunk> {
        if self.is_chunked {
            return self.chunks().find(|chunk| chunk.range().contains(&index));
        }
        if index >= self.len() {
            return None;
        }
        let (blocks, checksum, _) = self.at(index * self.kind.bytes());
        Some(Chunk { first: index, blocks, checksum })
    }

    /// The one that begins at a byte: how many blocks it is of, itself, and where the next one begins.
    fn at(&self, byte: usize) -> (usize, Checksum, usize) {
        let (blocks, start) = match self.is_chunked {
            true if self.stored[byte] == 0 => return (1, Checksum::unknown(self.kind), byte + 1),
            true => (usize::from(self.stored[byte]), byte + 1),
            false => (1, byte),
        };
        let end = start + self.kind.bytes();
        (blocks, Checksum::from_stored(self.kind, &self.stored[start..end]), end)
    }

    /// That of `blocks` more blocks: at least one, at most [`CHUNK_BLOCKS_MAX`].
    pub fn push(&mut self, checksum: Checksum, blocks: usize) {
        assert_eq!(checksum.kind(), self.kind, "a blob's checksums are of one kind");
        let (Ok(count @ 1..), Some(len)) = (
            u8::try_from(blocks),
            u32::try_from(blocks).ok().and_then(|blocks| self.len.checked_add(blocks)),
        ) else {
            panic!("{blocks} blocks under one checksum, behind {}", self.len)
        };
        let stored = checksum.stored();
        if !self.is_chunked && (count > 1 || stored.is_none()) {
            let singles: Vec<Chunk> = self.chunks().collect();
            *self = Self { is_chunked: true, ..Self::new(self.kind) };
            singles.iter().for_each(|chunk| self.push(chunk.checksum, chunk.blocks));
        }
        match stored {
            Some(value) => {
                self.stored.extend(self.is_chunked.then_some(count));
                self.stored.extend_from_slice(&value[..self.kind.bytes()]);
            }
            None => {
                assert_eq!(count, 1, "each block whose checksum is unknown stands by itself");
                self.stored.push(0);
            }
        }
        self.len = len;
    }

    /// Replaces that of a block that has one of its own.
    pub fn set(&mut self, index: usize, checksum: Checksum) {
        assert_eq!(checksum.kind(), self.kind, "a blob's checksums are of one kind");
        if self.is_chunked {
            let chunk = self.get(index).filter(|chunk| chunk.blocks == 1);
            assert!(chunk.is_some(), "block {index} has no checksum of its own: {self:?}");
            return self.rebuild(|chunk| {
                let checksum = if chunk.first == index { checksum } else { chunk.checksum };
                [(checksum, chunk.blocks)]
            });
        }
        let (Some(value), bytes) = (checksum.stored(), self.kind.bytes()) else {
            panic!("a block that is written has a checksum")
        };
        self.stored[index * bytes..(index + 1) * bytes].copy_from_slice(&value[..bytes]);
    }

    /// Gives the blocks under the checksum that begins at `first` one each: of those that are named, ascending, this one; of the
    /// others an unknown one, as they go or get a new one.
    pub fn split(&mut self, first: usize, own: &[(usize, Checksum)]) {
        let unknown = Checksum::unknown(self.kind);
        self.rebuild(|chunk| {
            if chunk.first != first {
                return smallvec::smallvec![(chunk.checksum, chunk.blocks)];
            }
            let of = |index| own.binary_search_by_key(&index, |(index, _)| *index).ok().map(|at| own[at].1);
            let blocks = chunk.range().map(|index| (of(index).unwrap_or(unknown), 1));
            blocks.collect::<SmallVec<[(Checksum, usize); 1]>>()
        });
    }

    /// Those of some of the blocks, of which no chunk is cut.
    pub fn slice(&self, blocks: Range<usize>) -> Self {
        let mut slice = Self::new(self.kind);
        if self.is_chunked {
            let within = self.chunks().skip_while(|chunk| chunk.first < blocks.start);
            let within = within.take_while(|chunk| chunk.range().end <= blocks.end);
            within.for_each(|chunk| slice.push(chunk.checksum, chunk.blocks));
            assert_eq!(slice.len(), blocks.len(), "{blocks:?} cuts a chunk of {self:?}");
            return slice;
        }
        let bytes = self.kind.bytes();
        let Ok(len) = u32::try_from(blocks.len()) else { panic!("{blocks:?} of {} blocks", self.len) };
        (slice.len, slice.stored) =
            (len, SmallVec::from_slice(&self.stored[blocks.start * bytes..blocks.end * bytes]));
        slice
    }

    fn rebuild<I: IntoIterator<Item = (Checksum, usize)>>(&mut self, each: impl Fn(Chunk) -> I) {
        let mut row = Self::new(self.kind);
        self.chunks().flat_map(each).for_each(|(checksum, blocks)| row.push(checksum, blocks));
        *self = row;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ChecksumKind, byte: u8) -> Checksum {
        Checksum::of(kind, &[byte])
    }

    #[test]
    fn rows_are_cut_changed_and_stored() {
        for kind in ChecksumKind::ALL {
            let of = |byte: u8| of(kind, byte);
            let mut row = Checksums::new(kind);
            (0..5).for_each(|byte| row.push(of(byte), 1));
            row.set(2, of(9));
            let get = |row: &Checksums, index| row.get(index).map(|chunk| chunk.checksum);
            assert_eq!((get(&row, 1), get(&row, 2), get(&row, 5)), (Some(of(1)), Some(of(9)), None));
            let cut = row.slice(2..4);
            assert_eq!((cut.len(), get(&cut, 0), get(&cut, 1)), (2, Some(of(9)), Some(of(3))));
            assert!(row.slice(5..5).is_empty());
            assert_eq!(row.stored().len(), 5 * kind.bytes());
            assert_eq!(Checksums::from_stored(kind, 5, row.stored()), Some(row.clone()));
            assert_eq!(Checksums::from_stored(kind, 4, row.stored()).is_some(), kind == ChecksumKind::None);
        }
    }

    #[test]
    fn chunks_are_found_split_and_cut() {
        for kind in ChecksumKind::ALL.into_iter().filter(|kind| *kind != ChecksumKind::None) {
            let of = |byte: u8| of(kind, byte);
            let mut row = Checksums::new(kind);
            [(0, 1), (1, 4), (5, 1), (6, 16)].iter().for_each(|(byte, blocks)| row.push(of(*byte), *blocks));
            assert!(row.is_chunked());
            assert_eq!((row.len(), row.stored().len()), (22, 4 * (1 + kind.bytes())));
            let chunk = |first, blocks, byte| Some(Chunk { first, blocks, checksum: of(byte) });
            let expected =
                [(0, chunk(0, 1, 0)), (1, chunk(1, 4, 1)), (4, chunk(1, 4, 1)), (21, chunk(6, 16, 6))];
            for (index, expected) in expected {
                assert_eq!(row.get(index), expected, "{index}");
            }
            assert_eq!(row.get(22), None);
            assert_eq!(row.slice(1..6).chunks().map(|chunk| chunk.blocks).collect::<Vec<_>>(), [4, 1]);

            let whole = row.clone();
            row.split(1, &[(1, of(10)), (4, of(13))]);
            row.set(2, of(11));
            let unknown = Checksum::unknown(kind);
            let first: Vec<Checksum> = row.chunks().take(6).map(|chunk| chunk.checksum).collect();
            assert_eq!(first, [of(0), of(10), of(11), unknown, of(13), of(5)]);
            row.set(3, of(12));
            let plain = row.slice(0..6);
            assert!(!plain.is_chunked() && row.is_chunked());
            assert_eq!(plain.stored().len(), 6 * kind.bytes());
            assert_ne!(row, whole);
        }
    }

    #[test]
    #[should_panic(expected = "cuts a chunk")]
    fn a_chunk_is_not_cut() {
        let mut row = Checksums::new(ChecksumKind::Crc32c);
        row.push(of(ChecksumKind::Crc32c, 1), 4);
        drop(row.slice(1..4));
    }
}
