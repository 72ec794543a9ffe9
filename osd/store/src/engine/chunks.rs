//! Which of the blocks that go to new space get one checksum together: those that lie one behind the other both in the object
//! and on the device, cut at multiples of the chunk's size in the object. A block that the object ends within has one of its own, so
//! that what is appended to it cuts no chunk.

use bytes::Bytes;

use crate::checksum::{Checksum, ChecksumKind, Summing};

/// New blocks under one checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Where the first one goes.
    pub address: u64,
    /// How many there are.
    pub blocks: usize,
    /// Of all of them.
    pub checksum: Checksum,
}

/// Gathers the new blocks of a shard.
pub struct Gathering {
    kind: ChecksumKind,
    chunk_bytes: u64,
    block: u64,
    /// Where the object ends.
    size: u64,
    open: Option<Open>,
}

struct Open {
    address: u64,
    /// Where the next one would be in the object and on the device.
    next: (u64, u64),
    blocks: usize,
    sum: Summing,
    to_keep: Vec<(u64, Bytes)>,
}

/// Blocks that were gathered; with those to be kept in memory, by address.
pub type Gathered = (Fresh, Vec<(u64, Bytes)>);

impl Gathering {
    /// Of blocks of `block` bytes of an object of `size` bytes, for checksums of up to `chunk_bytes`.
    pub fn new(kind: ChecksumKind, chunk_bytes: u64, block: u64, size: u64) -> Self {
        Self { kind, chunk_bytes, block, size, open: None }
    }

    /// Takes the next block, which begins at `logical` in the object, has this crc32c if that is known, and is to be kept in memory or
    /// not; gives those before it, if it is not to be under one checksum with them.
    pub fn add(
        &mut self,
        logical: u64,
        address: u64,
        block: &[u8],
        crc32c: Option<u32>,
        to_keep: Option<Bytes>,
    ) -> Option<Gathered> {
        let is_whole = logical + self.block <= self.size;
        let follows = |open: &Open| {
            open.next == (logical, address) && !logical.is_multiple_of(self.chunk_bytes) && is_whole
        };
        let ended = if self.open.as_ref().is_some_and(follows) { None } else { self.end() };
        let open = self.open.get_or_insert_with(|| Open {
            address,
            next: (logical, address),
            blocks: 0,
            sum: Summing::new(self.kind),
            to_keep: Vec::new(),
        });
        let is_known = open.blocks == 0 && crc32c.is_some_and(|crc32c| open.sum.begin_with(crc32c));
        if !is_known {
            open.sum.add(block);
        }
        open.blocks += 1;
        open.next = (logical + self.block, address + self.block);
        open.to_keep.extend(to_keep.map(|bytes| (address, bytes)));
        ended
    }

    /// Those that are not given yet.
    pub fn end(&mut self) -> Option<Gathered> {
        let Open { address, blocks, sum, to_keep, .. } = self.open.take()?;
        Some((Fresh { address, blocks, checksum: sum.sum() }, to_keep))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: u64 = 4096;

    #[test]
    fn blocks_are_gathered_as_long_as_they_follow() {
        let check_size = |size: u64, chunk: u64, blocks: &[(u64, u64)], expected: &[(u64, usize)]| {
            let mut gathering = Gathering::new(ChecksumKind::Crc32c, chunk * B, B, size);
            let content = |n: u64| vec![u8::try_from(n).expect("small"); 4096];
            let add = |(logical, address): &(u64, u64)| {
                let block = content(*address);
                // Known of every other one.
                let crc32c = address.is_multiple_of(2).then(|| crc32c::crc32c(&block));
                gathering.add(logical * B, address * B, &block, crc32c, Some(Bytes::new()))
            };
            let mut found: Vec<Gathered> = blocks.iter().filter_map(add).collect();
            found.extend(gathering.end());
            let chunks: Vec<_> = found.iter().map(|(fresh, _)| (fresh.address / B, fresh.blocks)).collect();
            assert_eq!(chunks, expected);
            for (fresh, kept) in found {
                let first = fresh.address / B;
                let all: Vec<Vec<u8>> = (0..fresh.blocks as u64).map(|n| content(first + n)).collect();
                assert!(fresh.checksum.matches(&all.concat()));
                assert_eq!(kept.len(), fresh.blocks);
            }
        };
        let check = |chunk, blocks: &[_], expected: &[_]| check_size(100 * B, chunk, blocks, expected);
        check(1, &[(0, 50), (1, 51)], &[(50, 1), (51, 1)]);
        check(4, &[(0, 50), (1, 51), (2, 52), (3, 53), (4, 54)], &[(50, 4), (54, 1)]);
        check(4, &[(2, 50), (3, 51), (4, 52), (5, 53)], &[(50, 2), (52, 2)]);
        check(4, &[(0, 50), (1, 60), (2, 61)], &[(50, 1), (60, 2)]);
        check(4, &[(0, 50), (2, 51), (3, 52)], &[(50, 1), (51, 2)]);
        check(4, &[], &[]);
        check_size(3 * B, 4, &[(0, 50), (1, 51), (2, 52)], &[(50, 3)]);
        check_size(3 * B - 1, 4, &[(0, 50), (1, 51), (2, 52)], &[(50, 2), (52, 1)]);
        check_size(2 * B + 1, 4, &[(1, 51), (2, 52)], &[(51, 1), (52, 1)]);
    }
}
