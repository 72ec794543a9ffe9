//! Moving what lies in many pieces to where it lies in few. It is a transaction like others: what moves is read and verified,
//! written to new space and swapped in when the transaction takes effect, in its turn among those of the collection. Left alone
//! is what others may share, and what is compressed: a blob of it is in one piece already.
//!
//! A piece with free space on both sides is an *island*: where it goes, two pieces of free space become one. What lies in a window
//! that is being cleared ([`super::clear`]) moves in the same way, wherever else there is a hole for it.

use std::rc::Rc;

use allocator::{Allocator, Extent, HybridAllocator, Request, Reservation, Taken};

use super::plan::Plan;
use super::state::Inner;
use crate::object_store::{Fragments, StoreError, StoreResult};
use crate::shard::Shard;
use crate::types::{CollectionId, ObjectId};

/// What moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// To be in fewer pieces.
    Defragmented {
        /// Bytes.
        bytes: u64,
        /// Pieces before.
        from: u64,
        /// Pieces now.
        to: u64,
    },
    /// So many bytes, out of what is being cleared.
    Cleared(u64),
}

impl Inner {
    /// Takes the new space of a plan, `bytes` of it, and tells what of the plan only moves there; an error if that is no better
    /// place for it.
    pub fn take_new_space(
        &self,
        plan: &Plan,
        bytes: u64,
        reservation: &mut Reservation<HybridAllocator>,
    ) -> StoreResult<(Taken<HybridAllocator>, Option<Moved>)> {
        let full = |error: allocator::AllocError| StoreError::NoSpace(error.to_string());
        let layouts = plan.objects.iter().flat_map(|object| object.layouts.values());
        let moves = layouts.flat_map(|layout| layout.blocks.iter().filter(|changed| changed.moves));
        let pieces = pieces(moves.filter_map(|changed| changed.place).map(|place| place.address), self.block);
        let moving: u64 = pieces.iter().map(|piece| piece.len).sum();
        let leaves = |piece: &Extent| self.space.with_fence(|fence| fence.has(piece)) == Some(true);
        if moving > 0 && moving == bytes && pieces.iter().all(leaves) {
            let no_hole = || StoreError::NoSpace(format!("{bytes} bytes fit no hole elsewhere"));
            let holes = self.space.holes(bytes).ok_or_else(no_hole)?;
            return Ok((reservation.take_these(&holes).map_err(full)?, Some(Moved::Cleared(bytes))));
        }
        let extents_max = usize::try_from(bytes / self.block).unwrap_or(usize::MAX);
        let request = Request {
            len: bytes,
            unit: self.block,
            extents_max: extents_max.min(allocator::limits::REQUEST_EXTENTS_MAX),
            hint: None,
        };
        let taken = reservation.take(&request).map_err(full)?;
        if pieces.is_empty() {
            return Ok((taken, None));
        }
        let (from, to) = (pieces.len(), taken.extents().len());
        if to >= from + self.islands(&pieces) {
            let problem = format!("{from} pieces would become {to}: there is no better space");
            return Err(StoreError::NoSpace(problem));
        }
        Ok((taken, Some(Moved::Defragmented { bytes: moving, from: wide(from), to: wide(to) })))
    }

    /// Counts what moved.
    pub fn count_moved(&self, moved: Moved) {
        match moved {
            Moved::Defragmented { bytes, from, to } => {
                self.counters.defragmented_bytes.add(bytes);
                self.counters.defragmented_from.add(from);
                self.counters.defragmented_to.add(to);
            }
            Moved::Cleared(bytes) => self.counters.cleared_moved_bytes.add(bytes),
        }
    }

    /// See the seam.
    pub async fn fragments(
        self: Rc<Self>,
        collection: CollectionId,
        object: ObjectId,
        offset: u64,
        len: u64,
    ) -> StoreResult<Fragments> {
        self.check_open()?;
        self.check_member(collection, &object)?;
        let loaded = self.load_range(&object, offset, len).await?;
        loaded.existing(&object)?;
        let shards = loaded.shards.values();
        let addresses =
            shards.flat_map(|shard| addresses(shard, offset, offset.saturating_add(len), self.block));
        let pieces = pieces(addresses, self.block);
        Ok(Fragments {
            bytes: pieces.iter().map(|piece| piece.len).sum(),
            pieces: wide(pieces.len()),
            islands: wide(self.islands(&pieces)),
        })
    }

    /// How many of these have free space on both sides.
    fn islands(&self, pieces: &[Extent]) -> usize {
        self.space.space.with(|allocator| {
            let bitmap = allocator.bitmap();
            let is_free = |address: u64| bitmap.next_free(address).is_some_and(|free| free.start <= address);
            let is_island = |piece: &&Extent| {
                let before = piece.start.checked_sub(self.block);
                before.is_some_and(is_free) && is_free(piece.end())
            };
            pieces.iter().filter(is_island).count()
        })
    }
}

/// Where the blocks of a range of an object lie that can move, in the object's order.
fn addresses(shard: &Shard, from: u64, to: u64, block: u64) -> Vec<u64> {
    let mut addresses = Vec::new();
    for (at, piece) in shard.pieces.iter().filter(|(at, piece)| *at < to && at + u64::from(piece.len) > from)
    {
        let (first, last) = piece.blocks(block);
        let numbers = (first..=last).filter_map(|number| u64::try_from(number).ok());
        let places = numbers.filter_map(|number| shard.block_of(*at, piece, number, block));
        let places = places.filter(|place| !place.is_shared && !place.is_packed);
        // A block with a hole in it is in two pieces of the shard.
        for place in places.filter(|place| place.logical < to && place.logical + block > from) {
            if addresses.last() != Some(&place.address) {
                addresses.push(place.address);
            }
        }
    }
    addresses
}

/// Blocks that lie one behind the other as one.
fn pieces(addresses: impl Iterator<Item = u64>, block: u64) -> Vec<Extent> {
    let mut pieces: Vec<Extent> = Vec::new();
    for address in addresses {
        match pieces.last_mut() {
            Some(last) if last.end() == address => last.len += block,
            _ => pieces.push(Extent::new(address, block)),
        }
    }
    pieces
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
