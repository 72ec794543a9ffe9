//! What stays of chunks, which are blocks under one checksum, of which a repair takes a part away.

use std::collections::BTreeMap;

use super::super::load::Unread;
use super::{Check, Lost};
use crate::checksum::Checksum;
use crate::object_store::{StoreError, StoreResult};
use crate::shard::{Place, Shard};
use crate::types::{AccessHints, ObjectId};

impl Check {
    /// Drops the blocks of a shard that no piece uses any more. What stays of a chunk gets checksums of its own, unknown ones
    /// if it does not match, or cannot be right where it is: that is lost. False if the device fails to read a chunk, which it may
    /// not do another time: then the shard is to stay as it was, and nothing is lost.
    pub(super) async fn trim(&mut self, name: &ObjectId, shard: &mut Shard) -> StoreResult<bool> {
        let block = self.inner.block;
        let mut lost = Vec::new();
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
            let read = match self.cannot_be_there(&place) {
                Some(problem) => Err(Unread::Damaged(StoreError::Io(problem))),
                None => self.inner.read_verified(name, &[place], AccessHints::VERIFY).await,
            };
            let read = match read {
                Ok(read) => read,
                Err(Unread::Damaged(error)) => {
                    let from = place.chunk_logical();
                    for index in &stays {
                        let at = from + number(index - chunk.first) * block;
                        lost.push((Lost::Bytes { from: at, to: at + block }, error.to_string()));
                    }
                    BTreeMap::new()
                }
                Err(Unread::Failed(error @ StoreError::Down(_))) => return Err(error),
                Err(error) => {
                    let (at, error) = (place.chunk_logical(), error.into_error());
                    log::error!(
                        "{name}, byte {at}: not repaired, as what would stay cannot be read: {error}; repair again once \
                         the device reads it, or write the object anew"
                    );
                    return Ok(false);
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
        lost.into_iter().for_each(|(bytes, reason)| self.lose(name, bytes, reason));
        Ok(true)
    }

    /// Why what is under a place's checksum cannot be where the shard says.
    fn cannot_be_there(&self, place: &Place) -> Option<String> {
        let chunk = place.chunk(self.inner.block);
        if chunk.end() > self.window {
            return Some(format!("{chunk} is not on the device"));
        }
        let region = self.regions.iter().find(|region| region.overlaps(&chunk))?;
        Some(format!("{chunk} is in {region}, which is the store's"))
    }
}
