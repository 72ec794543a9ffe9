//! Checksums of blocks, and the kinds that a pool may choose from.

use std::fmt;
use std::hash::Hasher;

use twox_hash::{XxHash32, XxHash64};

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

/// The checksum of a block, or of several that lie one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    kind: ChecksumKind,
    /// If not, nothing matches it.
    is_known: bool,
    value: u64,
}

impl Checksum {
    /// That of `block`.
    pub fn of(kind: ChecksumKind, block: &[u8]) -> Self {
        Self::of_all(kind, [block])
    }

    /// That of a block with this crc32c, if it is of that kind or a part of it.
    pub fn of_crc32c(kind: ChecksumKind, crc32c: u32) -> Option<Self> {
        let mut summing = Summing::new(kind);
        summing.begin_with(crc32c).then(|| summing.sum())
    }

    /// That of these blocks together.
    pub fn of_all<'a>(kind: ChecksumKind, blocks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut summing = Summing::new(kind);
        blocks.into_iter().for_each(|block| summing.add(block));
        summing.sum()
    }

    /// That of a block whose content nobody knows any more: it was damaged, or another one under the same checksum was, when
    /// that one was replaced.
    pub fn unknown(kind: ChecksumKind) -> Self {
        Self { kind, is_known: false, value: 0 }
    }

    /// Whether the block can be the one that it was made of.
    pub fn matches(self, block: &[u8]) -> bool {
        self.matches_all([block])
    }

    /// Whether these blocks together can be those that it was made of.
    pub fn matches_all<'a>(self, blocks: impl IntoIterator<Item = &'a [u8]>) -> bool {
        self.is_known && self == Self::of_all(self.kind, blocks)
    }

    /// Whether anything can match it.
    pub fn is_known(self) -> bool {
        self.is_known
    }

    /// It, if it is a whole crc32c and known.
    pub fn crc32c(self) -> Option<u32> {
        (self.is_known && self.kind == Crc32c).then(|| u32::try_from(self.value).ok())?
    }

    /// Its kind.
    pub fn kind(self) -> ChecksumKind {
        self.kind
    }

    /// As it is stored, little-endian, with zeroes behind what its kind takes; none if it is not known.
    pub(super) fn stored(self) -> Option<[u8; ChecksumKind::BYTES_MAX]> {
        self.is_known.then(|| self.value.to_le_bytes())
    }

    /// The one that is stored so.
    pub(crate) fn from_stored(kind: ChecksumKind, stored: &[u8]) -> Self {
        let mut value = [0; ChecksumKind::BYTES_MAX];
        value[..kind.bytes()].copy_from_slice(stored);
        Self { kind, is_known: true, value: u64::from_le_bytes(value) }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, value, digits) = (self.kind.name(), self.value, 2 + 2 * self.kind.bytes());
        if !self.is_known {
            return write!(f, "{name} unknown since a block under the same checksum was replaced");
        }
        write!(f, "{name} {value:#0digits$x}")
    }
}

/// A checksum being taken of blocks as they come.
pub struct Summing {
    kind: ChecksumKind,
    state: State,
}

enum State {
    Nothing,
    Crc32c(u32),
    Xxhash32(XxHash32),
    Xxhash64(XxHash64),
}

impl Summing {
    /// Of nothing yet.
    pub fn new(kind: ChecksumKind) -> Self {
        let state = match kind {
            Nothing => State::Nothing,
            Xxhash32 => State::Xxhash32(XxHash32::with_seed(0)),
            Xxhash64 => State::Xxhash64(XxHash64::with_seed(0)),
            Crc32c | Crc32c16 | Crc32c8 => State::Crc32c(0),
        };
        Self { kind, state }
    }

    /// Begins with a block with this crc32c, if it is of that kind; nothing was added before.
    pub fn begin_with(&mut self, crc32c: u32) -> bool {
        let State::Crc32c(crc) = &mut self.state else { return false };
        *crc = crc32c;
        true
    }

    /// Of this block, too.
    pub fn add(&mut self, block: &[u8]) {
        match &mut self.state {
            State::Nothing => {}
            State::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, block),
            State::Xxhash32(hash) => hash.write(block),
            State::Xxhash64(hash) => hash.write(block),
        }
    }

    /// That of all that came.
    pub fn sum(&self) -> Checksum {
        let whole = match &self.state {
            State::Nothing => 0,
            State::Crc32c(crc) => u64::from(*crc),
            State::Xxhash32(hash) => hash.finish(),
            State::Xxhash64(hash) => hash.finish(),
        };
        let value = match self.kind {
            Crc32c16 => whole & 0xffff,
            Crc32c8 => whole & 0xff,
            _ => whole,
        };
        Checksum { kind: self.kind, is_known: true, value }
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
    fn blocks_may_come_one_by_one() {
        for kind in ChecksumKind::ALL {
            let parts = [&DATA[..2], &DATA[2..2], &DATA[2..]];
            let checksum = Checksum::of_all(kind, parts);
            assert_eq!(checksum, Checksum::of(kind, DATA));
            assert!(checksum.matches_all(parts));
            assert!(!Checksum::unknown(kind).matches(DATA));
        }
    }
}
