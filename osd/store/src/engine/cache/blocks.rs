//! Blocks of data that were read or written, as they are on the device, each verified when it came.
//!
//! Invariants: a block is that of the newest state, or its owner is gone. In place it changes only by deferred payloads,
//! and the moment such a payload takes effect replaces it here; a block that is freed goes at once, and one that is found
//! later by somebody else at the same address has another birth. So nothing here is older or newer than what a read of the
//! device, with what is deferred, would give.

use bytes::Bytes;

use super::hash::Spread;
use super::queues::{CachePolicy, Queues};
use crate::checksum::Checksum;
use crate::shard::Place;

/// See the module.
pub struct BlockCache {
    queues: Queues<u64, Block, Spread>,
    /// Bytes of a block.
    block: u64,
    hits: u64,
    misses: u64,
}

/// A block that was verified.
pub struct Block {
    /// Birth of the blob that it belongs to.
    pub birth: u64,
    /// What it was verified against.
    pub checksum: Checksum,
    /// Its bytes, in memory of their own: a part of a longer buffer would keep all of that, and the ring's are few.
    pub data: Bytes,
}

/// What a block takes beside its bytes once somebody else holds it, too.
const COUNT_BYTES: u64 = 32;

impl BlockCache {
    /// Empty, for up to `bytes_max` bytes of blocks of `block` bytes.
    pub fn new(policy: CachePolicy, bytes_max: u64, block: u64) -> Self {
        Self { queues: Queues::new(policy, bytes_max, Spread::default()), block, hits: 0, misses: 0 }
    }

    /// The block at a place of the newest state.
    pub fn get(&mut self, place: &Place) -> Option<Bytes> {
        let found =
            self.queues.get(&place.address).filter(|block| block.is(place)).map(|block| block.data.clone());
        match &found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }

    /// Whether the block is here.
    pub fn has(&self, place: &Place) -> bool {
        self.queues.peek(&place.address).is_some_and(|block| block.is(place))
    }

    /// Whether a block that was read, or those under one checksum from an address on, are to be kept, which means to copy them:
    /// see [`Queues::admits`].
    pub fn admits(&mut self, address: u64) -> bool {
        self.queues.admits(&address, self.block + COUNT_BYTES)
    }

    /// Keeps a block. `is_hot`: it will be needed again.
    pub fn put(&mut self, address: u64, block: Block, is_hot: bool) {
        self.queues.insert(address, block, self.block + COUNT_BYTES, is_hot);
    }

    /// The block at `address` changes in place. If it was here, the new one is, where the old one was.
    pub fn replace(&mut self, address: u64, data: &Bytes) {
        if let Some(block) = self.queues.peek_mut(&address) {
            (block.checksum, block.data) = (Checksum::of(block.checksum.kind(), data), data.clone());
        }
    }

    /// Keeps a block that came with one that was wanted: that it was here before does not tell that it is used.
    pub fn put_beside(&mut self, address: u64, block: Block) {
        self.forget(address);
        self.put(address, block, false);
    }

    /// The block at `address` stays as it is, under another checksum. If that is not known it goes: nothing says what it is.
    pub fn renew(&mut self, address: u64, checksum: Checksum) {
        if !checksum.is_known() {
            self.forget(address);
        } else if let Some(block) = self.queues.peek_mut(&address) {
            block.checksum = checksum;
        }
    }

    /// Forgets the block at an address.
    pub fn forget(&mut self, address: u64) {
        drop(self.queues.remove(&address));
    }

    /// Whether there is nothing to forget.
    pub fn is_blank(&self) -> bool {
        self.queues.is_blank()
    }

    /// Blocks, and bytes of memory.
    pub fn held(&self) -> (u64, u64) {
        (self.queues.len(), self.queues.bytes())
    }

    /// Blocks that were found, those that were not, and of these those that more memory would have had.
    pub fn uses(&self) -> (u64, u64, u64) {
        (self.hits, self.misses, self.queues.came_back())
    }

    /// Bytes that there may be.
    pub fn bytes_max(&self) -> u64 {
        self.queues.bytes_max()
    }

    /// See [`Queues::set_bytes_max`].
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.queues.set_bytes_max(bytes_max);
    }

    /// See [`Queues::trim`].
    pub fn trim(&mut self, most: usize) -> bool {
        self.queues.trim(most)
    }
}

impl Block {
    fn is(&self, place: &Place) -> bool {
        place.checksum.is_known() && self.birth == place.birth && self.checksum == place.checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::ChecksumKind;

    const B: u64 = 4096;

    fn cache() -> BlockCache {
        BlockCache::new(CachePolicy::Lru, 4 * 2 * B, B)
    }

    fn block(checksum: Checksum) -> Block {
        Block { birth: 1, checksum, data: Bytes::from_static(&[1; 4096]) }
    }

    #[test]
    fn nothing_is_kept_under_an_unknown_checksum() {
        let unknown = Checksum::unknown(ChecksumKind::Crc32c);
        let place = Place {
            blob: B,
            index: 0,
            address: B,
            checksum: unknown,
            chunk: B,
            chunk_blocks: 1,
            birth: 1,
            is_shared: false,
            is_packed: false,
            logical: 0,
        };
        let mut cache = cache();
        cache.put(B, block(unknown), false);
        assert!(!cache.has(&place) && cache.get(&place).is_none());
        let known = Checksum::of(ChecksumKind::Crc32c, &[1; 4096]);
        cache.put(B, block(known), false);
        assert!(cache.has(&Place { checksum: known, ..place }));
        cache.renew(B, unknown);
        assert!(cache.is_blank());
    }

    #[test]
    fn what_comes_beside_does_not_count_as_used_again() {
        let mut cache = cache();
        let known = || block(Checksum::of(ChecksumKind::Crc32c, &[1; 4096]));
        (0..8).for_each(|number| cache.put(number * B, known(), false));
        let (kept, _) = cache.held();
        assert!(kept > 0 && kept < 8, "some went: {kept} are left");
        cache.put_beside((7 - kept) * B, known());
        assert_eq!(cache.uses().2, 0);
        cache.put((8 - kept) * B, known(), false);
        assert_eq!(cache.uses().2, 1, "this one was wanted");
    }
}
