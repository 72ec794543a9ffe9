//! Checksums that came with the data of a transaction, and were verified where it came in: who writes the same bytes need not pass
//! over them again. Pure.

use bytes::Bytes;

use crate::limits;
use crate::transaction::{Op, Transaction};

/// Crc32c of the blocks of what a transaction's only write has.
#[derive(Clone, Debug, Default)]
pub struct KnownSums {
    data: Bytes,
    /// As many as `data` has blocks, or none.
    sums: Box<[u32]>,
}

impl KnownSums {
    /// Of this transaction; see [`crate::BlockSums`].
    pub fn new(transaction: &Transaction, sums: &[u32]) -> Self {
        let mut writes = transaction.ops.iter().filter_map(|op| match op {
            Op::Write { data, .. } => Some(data.as_slice()),
            _ => None,
        });
        let (Some([data]), None) = (writes.next(), writes.next()) else { return Self::default() };
        match sums.len() == data.len() / BLOCK && data.len().is_multiple_of(BLOCK) {
            true => Self { data: data.clone(), sums: sums.into() },
            false => Self::default(),
        }
    }

    /// Of `bytes`, if they are one of the blocks themselves and not only like it.
    pub fn of(&self, bytes: &[u8]) -> Option<u32> {
        let at = bytes.as_ptr().addr().checked_sub(self.data.as_ptr().addr())?;
        let is_block = bytes.len() == BLOCK && at.is_multiple_of(BLOCK);
        self.sums.get(at / BLOCK).copied().filter(|_| is_block)
    }
}

const BLOCK: usize = limits::BLOCK as usize;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{collection, object};

    #[test]
    fn blocks_are_known_by_where_they_are() {
        let data = Bytes::from(vec![7; 3 * BLOCK]);
        let write = |data: &Bytes| Op::Write {
            collection: collection(),
            object: object("a", 1),
            offset: 100,
            data: vec![data.clone()],
        };
        let one = Transaction { ops: vec![write(&data)] };
        let known = KnownSums::new(&one, &[1, 2, 3]);
        assert_eq!(known.of(&data[BLOCK..2 * BLOCK]), Some(2));
        assert_eq!(known.of(&data[2 * BLOCK..]), Some(3));
        assert_eq!(known.of(&data[1..=BLOCK]), None, "not one of the blocks");
        assert_eq!(known.of(&data[..BLOCK - 1]), None, "not all of it");
        assert_eq!(known.of(&data.to_vec()[..BLOCK]), None, "the same bytes elsewhere");
        assert_eq!(KnownSums::new(&one, &[1, 2]).of(&data[..BLOCK]), None, "not of all blocks");
        let two = Transaction { ops: vec![write(&data), write(&data)] };
        assert_eq!(KnownSums::new(&two, &[1, 2, 3]).of(&data[..BLOCK]), None, "of which write?");
    }
}
