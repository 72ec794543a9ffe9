//! Checksums of blocks: the kinds that a pool may choose from, and the row of them that a blob holds.

use std::fmt;
use std::ops::Range;

use smallvec::SmallVec;
use xxhash_rust::xxh32::xxh32;
use xxhash_rust::xxh64::xxh64;

/// What protects a block. Numbers and names are Ceph's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumKind {
    /// Nothing: damage is not noticed.
    None,
    /// 4 bytes.
    Xxhash32,
    /// 8 bytes.
    Xxhash64,
    /// 4 bytes.
    #[default]
    Crc32c,
    /// The low 2 bytes of it: one damaged block in 65,536 is not noticed.
    Crc32c16,
    /// The low byte of it: one damaged block in 256 is not noticed.
    Crc32c8,
}

use ChecksumKind::{Crc32c, Crc32c8, Crc32c16, None as Nothing, Xxhash32, Xxhash64};

impl ChecksumKind {
    /// All of them.
    pub const ALL: [Self; 6] = [Nothing, Xxhash32, Xxhash64, Crc32c, Crc32c16, Crc32c8];
    /// Bytes that a checksum takes at most.
    pub const BYTES_MAX: usize = 8;

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        (1..).zip(Self::ALL).find(|(other, _)| *other == number).map(|(_, kind)| kind)
    }

    /// Its number in the OSD map and on the device.
    pub fn number(self) -> u8 {
        match self {
            Nothing => 1,
            Xxhash32 => 2,
            Xxhash64 => 3,
            Crc32c => 4,
            Crc32c16 => 5,
            Crc32c8 => 6,
        }
    }

    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Nothing => "none",
            Xxhash32 => "xxhash32",
            Xxhash64 => "xxhash64",
            Crc32c => "crc32c",
            Crc32c16 => "crc32c_16",
            Crc32c8 => "crc32c_8",
        }
    }

    /// Bytes that a checksum takes.
    pub fn bytes(self) -> usize {
        match self {
            Nothing => 0,
            Xxhash64 => 8,
            Xxhash32 | Crc32c => 4,
            Crc32c16 => 2,
            Crc32c8 => 1,
        }
    }
}

/// A block's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    kind: ChecksumKind,
    value: u64,
}

impl Checksum {
    /// That of `block`.
    pub fn of(kind: ChecksumKind, block: &[u8]) -> Self {
        let crc = || u64::from(crc32c::crc32c(block));
        let value = match kind {
            Nothing => 0,
            Xxhash32 => xxh32(block, 0).into(),
            Xxhash64 => xxh64(block, 0),
            Crc32c => crc(),
            Crc32c16 => crc() & 0xffff,
            Crc32c8 => crc() & 0xff,
        };
        Self { kind, value }
    }

    /// Whether the block can be the one that it was made of.
    pub fn matches(self, block: &[u8]) -> bool {
        self == Self::of(self.kind, block)
    }

    /// Its kind.
    pub fn kind(self) -> ChecksumKind {
        self.kind
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = 2 + 2 * self.kind.bytes();
        write!(f, "{} {:#0digits$x}", self.kind.name(), self.value)
    }
}

/// The checksums of a blob's blocks, as they are stored: little-endian, one after the other. Few, since random overwrites
/// make blobs of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    kind: ChecksumKind,
    len: u32,
    stored: SmallVec<[u8; 16]>,
}

impl Checksums {
    /// None yet.
    pub fn new(kind: ChecksumKind) -> Self {
        Self { kind, len: 0, stored: SmallVec::new() }
    }

    /// Those of these blocks.
    pub fn of_blocks<'a>(kind: ChecksumKind, blocks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut checksums = Self::new(kind);
        blocks.into_iter().for_each(|block| checksums.push(Checksum::of(kind, block)));
        checksums
    }

    /// Those of `len` blocks as stored; none if that is not their length.
    pub fn from_stored(kind: ChecksumKind, len: u32, stored: &[u8]) -> Option<Self> {
        let bytes = usize::try_from(len).ok()?.checked_mul(kind.bytes())?;
        (bytes == stored.len()).then(|| Self { kind, len, stored: SmallVec::from_slice(stored) })
    }

    /// As they are stored.
    pub fn stored(&self) -> &[u8] {
        &self.stored
    }

    /// Of which kind all are.
    pub fn kind(&self) -> ChecksumKind {
        self.kind
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

    /// That of a block, if there is such a block.
    pub fn get(&self, index: usize) -> Option<Checksum> {
        if index >= self.len() {
            return None;
        }
        let mut value = [0; 8];
        value[..self.kind.bytes()].copy_from_slice(&self.stored[self.place(index)]);
        Some(Checksum { kind: self.kind, value: u64::from_le_bytes(value) })
    }

    /// Replaces that of a block that there is.
    pub fn set(&mut self, index: usize, checksum: Checksum) {
        assert_eq!(checksum.kind, self.kind, "a blob's checksums are of one kind");
        let place = self.place(index);
        self.stored[place].copy_from_slice(&checksum.value.to_le_bytes()[..self.kind.bytes()]);
    }

    /// That of one more block.
    pub fn push(&mut self, checksum: Checksum) {
        assert_eq!(checksum.kind, self.kind, "a blob's checksums are of one kind");
        self.stored.extend_from_slice(&checksum.value.to_le_bytes()[..self.kind.bytes()]);
        self.len += 1;
    }

    /// Those of some of the blocks.
    pub fn slice(&self, blocks: Range<usize>) -> Self {
        let stored = &self.stored[self.place(blocks.start).start..self.place(blocks.end).start];
        let Ok(len) = u32::try_from(blocks.len()) else { panic!("{blocks:?} of {} blocks", self.len) };
        Self { kind: self.kind, len, stored: SmallVec::from_slice(stored) }
    }

    fn place(&self, index: usize) -> Range<usize> {
        let bytes = self.kind.bytes();
        index * bytes..(index + 1) * bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &[u8] = b"123456789";

    #[test]
    fn each_kind_gives_the_published_values() {
        let of = |kind| Checksum::of(kind, DATA).to_string();
        assert_eq!(of(Nothing), "none 0x0");
        assert_eq!(of(Crc32c), "crc32c 0xe3069283");
        assert_eq!(of(Crc32c16), "crc32c_16 0x9283");
        assert_eq!(of(Crc32c8), "crc32c_8 0x83");
        assert_eq!(of(Xxhash32), "xxhash32 0x937bad67");
        assert_eq!(of(Xxhash64), "xxhash64 0x8cb841db40e6ae83");
        for (number, kind) in (1..).zip(ChecksumKind::ALL) {
            assert_eq!((ChecksumKind::from_number(number), kind.number()), (Some(kind), number));
        }
        assert_eq!(ChecksumKind::from_number(0), None);
    }

    #[test]
    fn damage_is_noticed_but_where_nothing_protects() {
        for kind in ChecksumKind::ALL {
            let checksum = Checksum::of(kind, DATA);
            assert!(checksum.matches(DATA));
            assert_eq!(checksum.matches(b"123456780"), kind == Nothing);
        }
    }

    #[test]
    fn rows_are_cut_changed_and_stored() {
        for kind in ChecksumKind::ALL {
            let of = |byte: u8| Checksum::of(kind, &[byte]);
            let mut row = Checksums::new(kind);
            (0..5).for_each(|byte| row.push(of(byte)));
            row.set(2, of(9));
            assert_eq!((row.get(1), row.get(2), row.get(5)), (Some(of(1)), Some(of(9)), None));
            let cut = row.slice(2..4);
            assert_eq!((cut.len(), cut.get(0), cut.get(1)), (2, Some(of(9)), Some(of(3))));
            assert!(row.slice(5..5).is_empty());
            assert_eq!(row.stored().len(), 5 * kind.bytes());
            assert_eq!(Checksums::from_stored(kind, 5, row.stored()), Some(row.clone()));
            assert_eq!(Checksums::from_stored(kind, 4, row.stored()).is_some(), kind == Nothing);
        }
    }
}
