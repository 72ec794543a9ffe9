//! [`Extent`]: a range of bytes on a device.

use std::fmt;

/// `len` bytes from `start`. Never empty in an allocator's answers; its end never overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

impl Extent {
    /// `len` bytes from `start`. Their sum must not overflow: use [`Extent::checked`] on input.
    pub fn new(start: u64, len: u64) -> Self {
        let Some(extent) = Self::checked(start, len) else {
            panic!("an extent of {len} bytes at {start:#x} overflows")
        };
        extent
    }

    /// As [`Extent::new`], for values that came from outside.
    pub fn checked(start: u64, len: u64) -> Option<Self> {
        start.checked_add(len).map(|_| Self { start, len })
    }

    /// The byte after the last.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Whether any byte is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// Whether all of `other` is in this.
    pub fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}~{:#x}", self.start, self.len)
    }
}
