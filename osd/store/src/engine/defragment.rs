//! Moving what lies in many pieces to where it lies in few. It is a transaction like others: what moves is read and verified,
//! written to new space and swapped in when the transaction takes effect, in its turn among those of the collection. Left alone
//! is what others may share, and what is compressed: a blob of it is in one piece already.
//!
//! A piece with free space on both sides is an *island*: where it goes, two pieces of free space become one.

use std::rc::Rc;

use allocator::{Allocator, Extent};

use super::plan::Plan;
use super::state::Inner;
use crate::object_store::{Fragments, StoreError, StoreResult};
use crate::shard::Shard;
use crate::types::{CollectionId, ObjectId};

/// What moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defragmented {
    /// Bytes.
    bytes: u64,
    /// Pieces before.
    from: u64,
    /// Pieces now.
    to: u64,
}

impl Inner {
    /// What of a plan only moves, if its new space is better; an error if it is not.
    pub fn defragments(&self, plan: &Plan, space: &[Extent]) -> StoreResult<Option<Defragmented>> {
        let layouts = plan.objects.iter().flat_map(|object| object.layouts.values());
        let moved = layouts.flat_map(|layout| layout.blocks.iter().filter(|changed| changed.moves));
        let pieces = pieces(moved.filter_map(|changed| changed.place).map(|place| place.address), self.block);
        if pieces.is_empty() {
            return Ok(None);
        }
        let worth = pieces.len() + self.islands(&pieces);
        if space.len() >= worth {
            return Err(StoreError::NoSpace(format!(
                "{} pieces would become {}: there is no better space",
                pieces.len(),
                space.len()
            )));
        }
        let bytes = pieces.iter().map(|piece| piece.len).sum();
        Ok(Some(Defragmented { bytes, from: wide(pieces.len()), to: wide(space.len()) }))
    }

    /// Counts what moved.
    pub fn count_defragmented(&self, defragmented: Defragmented) {
        self.counters.defragmented_bytes.add(defragmented.bytes);
        self.counters.defragmented_from.add(defragmented.from);
        self.counters.defragmented_to.add(defragmented.to);
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
