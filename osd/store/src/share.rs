//! Who uses the blocks of what was one blob, once objects share it. Stored beside the objects, because no object alone
//! knows when a block is free.
//!
//! Invariants: a block that no object uses is free; one that is used is used by as many shards as counted; the blobs
//! of those shards say that they are shared, and where the count begins.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::codec::{DecodeResult, Decoder, Encoder};

const VERSION: u8 = 1;
/// More than objects can be, and a few more do not overflow.
const USES_MAX: u32 = 1 << 31;

/// Uses of each block, from the blob's birth and address on, which are the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Pool of the objects, whose statistics count the space.
    pub pool: i64,
    /// Record since which the blob is shared.
    pub since: u64,
    /// Uses of each block; 0 for one that was freed.
    pub uses: SmallVec<[u32; 32]>,
}

impl Share {
    /// Blocks in use.
    pub fn blocks(&self) -> u64 {
        u64::try_from(self.uses.iter().filter(|uses| **uses > 0).count()).unwrap_or(u64::MAX)
    }

    /// Whether an object uses the block.
    pub fn has(&self, number: u64) -> bool {
        usize::try_from(number).is_ok_and(|number| self.uses.get(number).is_some_and(|uses| *uses > 0))
    }

    /// The value stored under its key.
    pub fn encode(&self) -> Bytes {
        let mut e = Encoder::with_capacity(self.encoded_bytes_max());
        e.u8(VERSION);
        e.i64(self.pool);
        e.varint(self.since);
        e.count(self.uses.len());
        self.uses.iter().for_each(|uses| e.varint((*uses).into()));
        e.into_bytes()
    }

    /// At least the length of [`Self::encode`].
    pub fn encoded_bytes_max(&self) -> usize {
        Self::bytes_max(self.uses.len())
    }

    /// At least the length of one with so many blocks.
    pub fn bytes_max(blocks: usize) -> usize {
        23 + 5 * blocks
    }

    /// Reads a value.
    pub fn decode(value: Bytes) -> DecodeResult<Self> {
        let mut d = Decoder::new(value);
        let version = d.u8("version of a share")?;
        if version != VERSION {
            return d.invalid("version of a share", 0, version.into());
        }
        let pool = d.i64("pool of a share")?;
        let since = d.varint("first record of a share")?;
        let mut uses = SmallVec::new();
        for _ in 0..d.count(1, "blocks of a share")? {
            let count = d.varint("uses of a block")?;
            match u32::try_from(count) {
                Ok(count) if count <= USES_MAX => uses.push(count),
                _ => return d.invalid("uses of a block", d.at(), count),
            }
        }
        d.end("share")?;
        Ok(Self { pool, since, uses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let share = Share { pool: -1, since: 9, uses: SmallVec::from_slice(&[2, 0, 1, 700_000, USES_MAX]) };
        let value = share.encode();
        assert!(value.len() <= share.encoded_bytes_max());
        assert_eq!(Share::decode(value.clone()), Ok(share.clone()));
        for len in 0..value.len() {
            assert!(Share::decode(value.slice(..len)).is_err());
        }
        assert_eq!((share.blocks(), share.has(0), share.has(1), share.has(5)), (4, true, false, false));
    }
}
