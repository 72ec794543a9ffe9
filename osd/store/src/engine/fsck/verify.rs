//! Reading every byte of an object against its checksum.

use std::collections::BTreeMap;

use super::super::blocks::Wanted;
use super::Check;
use crate::checksum::ChecksumKind;
use crate::object_store::{FsckSeverity, Remedy};
use crate::shard::{Place, Shard};
use crate::types::{AccessHints, ObjectId};

/// Blocks read at a time.
const BLOCKS_AT_ONCE: usize = 64;

impl Check {
    pub(super) async fn verify(&mut self, name: &ObjectId, shard: &Shard) {
        let block = self.inner.block;
        // Every block is used by a piece, some by two.
        let mut places: BTreeMap<u64, Place> = BTreeMap::new();
        for (at, piece) in shard.pieces.iter() {
            let (first, last) = piece.blocks(block);
            let numbers = (first..=last).filter_map(|number| u64::try_from(number).ok());
            let found = numbers.filter_map(|number| shard.block_of(*at, piece, number, block));
            places.extend(found.map(|place| (place.address, place)));
        }
        let places: Vec<Place> = places.into_values().collect();
        let wanted = |some: &[Place]| {
            let mut wanted = Wanted::default();
            some.iter().for_each(|place| wanted.add(shard, *place, block));
            wanted
        };
        for some in places.chunks(BLOCKS_AT_ONCE) {
            let together = wanted(some);
            while let Some(writing) = self.inner.blocked_by_write(&together.places) {
                writing.wait().await;
            }
            if self.inner.read_blocks(name, &together, AccessHints::VERIFY).await.is_ok() {
                self.count_verified(&together);
                continue;
            }
            // One by one, so that each bad block is named and the others count.
            for place in some {
                let one = wanted(&[*place]);
                match self.inner.read_blocks(name, &one, AccessHints::VERIFY).await {
                    Ok(_) => self.count_verified(&one),
                    Err(error) => {
                        // The device's own errors name neither the object nor the place in the store.
                        let (byte, address) = (place.logical, place.address);
                        let detail = format!("{name}, byte {byte}, block at {address:#x}: {error}");
                        self.find(FsckSeverity::Fatal, Remedy::None, "checksum", detail);
                    }
                }
            }
        }
    }

    pub(super) fn count_verified(&mut self, wanted: &Wanted) {
        let verified = wanted.places.iter().filter(|place| place.checksum.kind() != ChecksumKind::None);
        self.report.bytes_verified += u64::try_from(verified.count()).unwrap_or(0) * self.inner.block;
    }
}
