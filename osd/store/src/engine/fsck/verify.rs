//! Reading every byte of an object against its checksum: as it is when its turn comes.

use std::collections::BTreeMap;

use super::super::blocks::Wanted;
use super::super::load::Loaded;
use super::Check;
use crate::checksum::ChecksumKind;
use crate::keys::{self, ObjectKey};
use crate::object_store::{FsckSeverity, Remedy, StoreError, StoreResult};
use crate::shard::{Place, Shard};
use crate::types::{AccessHints, ObjectId};

/// Blocks read at a time.
const BLOCKS_AT_ONCE: u64 = 64;

impl Check {
    /// Reads the data of all objects. Of keys and values it needs those of a page at a time, so no longer is anything kept for it.
    pub(super) async fn data(&mut self) -> StoreResult<()> {
        let total = self.report.objects;
        let (mut range, mut objects) = (Some(keys::all_objects()), 0);
        self.pin = None;
        while let Some(page) = self.page(&mut range).await? {
            for (key, _) in page {
                // The walk over the keys told of those that are not right.
                match keys::parse_object(&key) {
                    Ok(ObjectKey::Onode(_)) => {
                        objects += 1;
                        self.watch.progress(total + objects, 2 * total);
                    }
                    Ok(ObjectKey::Shard(of, number)) => {
                        if let Ok(ObjectKey::Onode(name)) = keys::parse_object(&of) {
                            self.verify(&name, number).await?;
                        }
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Reads a shard, as far as it is still there.
    async fn verify(&mut self, name: &ObjectId, number: u32) -> StoreResult<()> {
        let mut from = Some(0);
        while let Some(at) = from.filter(|_| !self.is_cut) {
            let before = self.report.bytes_verified;
            from = match self.verify_some(name, number, at).await {
                Ok(next) => next,
                Err(error @ StoreError::Down(_)) => return Err(error),
                Err(error) => {
                    // Of what the walk over the keys could not decode it told.
                    if !self.undecoded.contains(name) {
                        let detail = format!("shard {number} of {name}, byte {at}: {error}");
                        self.find(FsckSeverity::Fatal, Remedy::None, "unreadable", detail);
                    }
                    None
                }
            };
            self.pause(self.report.bytes_verified - before).await;
        }
        Ok(())
    }

    /// Reads some of the shard's blocks that hold bytes from an offset on; gives where to go on.
    async fn verify_some(&mut self, name: &ObjectId, number: u32, from: u64) -> StoreResult<Option<u64>> {
        let Some((some, next)) = self.read_some(name, number, from, BLOCKS_AT_ONCE).await? else {
            return Ok(None);
        };
        match some {
            Ok(verified) => self.report.bytes_verified += verified,
            // One by one, so that each bad block is named and the others count.
            Err(_) => {
                let mut at = from;
                while next.is_none_or(|next| at < next) {
                    let Some((one, after)) = self.read_some(name, number, at, 1).await? else { break };
                    match one {
                        Ok(verified) => self.report.bytes_verified += verified,
                        Err(detail) => self.find(FsckSeverity::Fatal, Remedy::None, "checksum", detail),
                    }
                    match after {
                        Some(after) => at = after,
                        None => break,
                    }
                }
            }
        }
        Ok(next)
    }

    /// Reads up to `most` of the shard's blocks from an offset of the object on, and tells where to go on. Gives the bytes that
    /// were verified, or what is wrong.
    async fn read_some(
        &mut self,
        name: &ObjectId,
        number: u32,
        from: u64,
        most: u64,
    ) -> StoreResult<Option<(Result<u64, String>, Option<u64>)>> {
        let block = self.inner.block;
        loop {
            let loaded =
                self.inner.load(name, |onode| onode.shards.within(number..=number).collect()).await?;
            let Some(shard) = loaded.shards.get(&number) else { return Ok(None) };
            let (some, next) = places_from(shard, from, most, block);
            let Some(first) = some.first() else { return Ok(None) };
            // The device's own errors name neither the object nor the place in the store.
            let place = format!("{name}, byte {}, block at {:#x}", first.logical, first.address);
            let mut wanted = Wanted::default();
            some.iter().for_each(|place| wanted.add(shard, *place, block));
            if let Some(writing) = self.inner.blocked_by_write(&wanted.places) {
                drop::<Loaded>(loaded);
                writing.wait().await;
                continue;
            }
            let is_verified = |place: &&Place| place.checksum.kind() != ChecksumKind::None;
            let blocks = |place: &Place| u64::from(place.chunk_blocks);
            let verified: u64 = wanted.places.iter().filter(is_verified).map(blocks).sum();
            let read = self.inner.read_blocks(name, &wanted, AccessHints::VERIFY).await;
            // That the store goes down says nothing of the block.
            self.inner.check_open()?;
            let read = read.map_err(|error| format!("{place}: {error}"));
            return Ok(Some((read.map(|_| verified * block), next)));
        }
    }
}

/// The blocks of a shard that hold bytes from an offset of the object on, so many at most; and the offset of the next one. A
/// compressed blob is one, and so are blocks under one checksum.
fn places_from(shard: &Shard, from: u64, most: u64, block: u64) -> (Vec<Place>, Option<u64>) {
    // Every block is used by a piece, some by two.
    let mut places: BTreeMap<u64, Place> = BTreeMap::new();
    for (at, piece) in shard.pieces.iter() {
        let (first, last) = piece.blocks(block);
        let numbers = (first..=last).filter_map(|number| u64::try_from(number).ok());
        let found = numbers.filter_map(|number| shard.block_of(*at, piece, number, block));
        for place in found {
            places.entry(place.chunk).or_insert(place);
        }
    }
    let mut places: Vec<Place> = places.into_values().filter(|place| place.logical >= from).collect();
    places.sort_by_key(|place| place.logical);
    let count = usize::try_from(most).unwrap_or(usize::MAX).min(places.len());
    let next = places.get(count).map(|place| place.logical);
    places.truncate(count);
    (places, next)
}
