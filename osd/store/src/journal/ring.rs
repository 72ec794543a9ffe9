//! Where groups lie: positions count from the store's beginning and wrap around the journal's region. Pure.

use bytes::{Bytes, BytesMut};

/// Up to two pieces of the region that a group covers: place within the region, and length.
pub type Pieces = [Option<(u64, u64)>; 2];

/// The pieces of `len` bytes from `position` in a ring of `size` bytes; `len` ≤ `size`.
pub fn pieces(position: u64, len: u64, size: u64) -> Pieces {
    assert!(len <= size, "a group of {len} bytes in a journal of {size}");
    let place = position % size;
    let first = len.min(size - place);
    [Some((place, first)), (len > first).then_some((0, len - first))]
}

/// The whole region in memory, as replay reads it.
#[derive(Clone, Debug)]
pub struct Ring {
    bytes: Bytes,
}

impl Ring {
    /// Wraps the region's bytes.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Bytes of the region.
    pub fn size(&self) -> u64 {
        crate::check::length(&self.bytes)
    }

    /// `len` bytes from `position`; none if the ring is shorter than that.
    pub fn read(&self, position: u64, len: u64) -> Option<Bytes> {
        if len > self.size() {
            return None;
        }
        let [first, second] = pieces(position, len, self.size());
        let slice = |piece: (u64, u64)| {
            let start = usize::try_from(piece.0).ok()?;
            let end = start.checked_add(usize::try_from(piece.1).ok()?)?;
            (end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
        };
        let first = slice(first?)?;
        let Some(second) = second else { return Some(first) };
        let second = slice(second)?;
        let mut joined = BytesMut::with_capacity(first.len() + second.len());
        joined.extend_from_slice(&first);
        joined.extend_from_slice(&second);
        Some(joined.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps() {
        assert_eq!(pieces(0, 10, 10), [Some((0, 10)), None]);
        assert_eq!(pieces(108, 5, 10), [Some((8, 2)), Some((0, 3))]);
        let ring = Ring::new(Bytes::from_static(b"0123456789"));
        assert_eq!(ring.read(27, 5), Some(Bytes::from_static(b"78901")));
        assert_eq!(ring.read(0, 11), None);
    }
}
