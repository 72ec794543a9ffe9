//! What stays of chunks, which are blocks under one checksum, of which a repair takes a part away.

use std::collections::BTreeMap;

use super::super::load::Unread;
use super::{Check, Lost};
use crate::checksum::Checksum;
use crate::object_store::{StoreError, StoreResult};
use crate::shard::Shard;
use crate::types::{AccessHints, ObjectId};

impl Check {
    /// Drops the blocks of a shard that no piece uses any more. What stays of a chunk gets checksums of its own, unknown ones
    /// if it cannot be read: that is lost.
    pub(super) async fn trim(&mut self, name: &ObjectId, shard: &mut Shard) -> StoreResult<()> {
        let block = self.inner.block;
        for (blob, chunk, stays) in shard.cut_chunks(block) {
            let number = |index: usize| u64::try_from(index).unwrap_or(u64::MAX);
            let address = |index| blob + number(index) * block;
            let kind = chunk.checksum.kind();
            let place =
                shard.pieces.iter().filter(|(_, piece)| piece.blob == blob).find_map(|(at, piece)| {
                    let (first, last) = piece.blocks(block);
                    let index = stays.iter().find(|index| (first..=last).contains(index))?;
                    shard.block_of(*at, piece, number(*index), block)
                });
            let Some(place) = place else { panic!("no piece uses the blob at {blob:#x}: {shard:?}") };
            let read = match place.chunk(block).end() <= self.window {
                true => self.inner.read_verified(name, &[place], AccessHints::VERIFY).await,
                false => {
                    let problem = format!("{} is not on the device", place.chunk(block));
                    Err(Unread::Failed(StoreError::Io(problem)))
                }
            };
            let read = match read {
                Ok(read) => read,
                Err(Unread::Failed(error @ StoreError::Down(_))) => return Err(error),
                Err(error) => {
                    let (from, error) = (place.chunk_logical(), error.into_error());
                    for index in &stays {
                        let at = from + number(index - chunk.first) * block;
                        self.lose(name, Lost::Bytes { from: at, to: at + block }, error.to_string());
                    }
                    BTreeMap::new()
                }
            };
            let of = |index: usize| match read.get(&address(index)) {
                Some(block) => Checksum::of(kind, block),
                None => Checksum::unknown(kind),
            };
            let own: Vec<_> = stays.iter().map(|index| (*index, of(*index))).collect();
            if let Some((_, blob)) = shard.blobs.position(blob).and_then(|at| shard.blobs.at_mut(at)) {
                blob.checksums.split(chunk.first, &own);
            }
        }
        shard.trim(block);
        Ok(())
    }
}
