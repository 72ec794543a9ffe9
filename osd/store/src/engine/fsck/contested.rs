//! Blocks that several claim. If what cannot be right may go, one keeps each block, and the others lose the bytes that they
//! say are there: a region of the store keeps it, else one whose checksum matches what is there, else the last that was born.

use std::collections::{BTreeMap, BTreeSet};

use allocator::Extent;
use bytes::Bytes;

use super::{Check, Lost};
use crate::checksum::Chunk;
use crate::keys::{self, ObjectKey};
use crate::object_store::StoreResult;
use crate::onode::Onode;
use crate::shard::{Blob, Place, Shard};
use crate::types::{AccessHints, ObjectId};

/// Most contested blocks of which one repair takes care; further ones are another's.
const BLOCKS_MAX: usize = 1 << 16;

/// A shard of an object.
type ShardId = (Bytes, u32);

/// Who has a block: one shard, or all that share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Shard(ShardId),
    Share(u64, u64),
}

/// That a shard uses a block.
struct Claim {
    owner: Owner,
    shard: ShardId,
    birth: u64,
    /// What is there is what the shard says.
    matches: bool,
}

impl Check {
    /// Decides who keeps what was claimed twice, if anything else is as it should be.
    pub(super) async fn judge_contested(&mut self) -> StoreResult<()> {
        if self.contested.is_empty() || !self.discards() || !self.nothing_changes() {
            return Ok(());
        }
        let block = self.inner.block;
        let step = usize::try_from(block).unwrap_or(usize::MAX);
        let contested = std::mem::take(&mut self.contested);
        let addresses = contested.iter().flat_map(|extent| (extent.start..extent.end()).step_by(step));
        let addresses: BTreeSet<u64> = addresses.take(BLOCKS_MAX).collect();
        let claims = self.claims(&addresses).await?;
        let mut cuts: BTreeMap<ShardId, BTreeSet<u64>> = BTreeMap::new();
        for (address, claims) in claims {
            let extent = Extent::new(address, block);
            let nobody =
                self.regions.iter().any(|region| region.overlaps(&extent)) || extent.end() > self.window;
            let winner = if nobody { None } else { winner(&claims) };
            for claim in claims.iter().filter(|claim| winner != Some(&claim.owner)) {
                cuts.entry(claim.shard.clone()).or_default().insert(address);
            }
        }
        let mut cuts = cuts.into_iter().peekable();
        while let Some(((key, _), _)) = cuts.peek() {
            let key = key.clone();
            let of_one = std::iter::from_fn(|| cuts.next_if(|((other, _), _)| *other == key));
            let of_one: Vec<_> = of_one.map(|((_, number), addresses)| (number, addresses)).collect();
            self.cut(key, of_one).await?;
        }
        Ok(())
    }

    /// Who claims these blocks.
    async fn claims(&mut self, addresses: &BTreeSet<u64>) -> StoreResult<BTreeMap<u64, Vec<Claim>>> {
        let block = self.inner.block;
        let mut claims: BTreeMap<u64, Vec<Claim>> = BTreeMap::new();
        let mut range = Some(keys::all_objects());
        let mut open: Option<(Bytes, Onode)> = None;
        while let Some(page) = self.page(&mut range).await? {
            for (key, value) in page {
                match keys::parse_object(&key) {
                    Ok(ObjectKey::Onode(name)) => {
                        open = Onode::decode(value, &key, &name).ok().map(|onode| (key, onode));
                    }
                    Ok(ObjectKey::Shard(of, number)) => {
                        let Some((_, onode)) = open.as_ref().filter(|(key, _)| *key == of) else { continue };
                        let shard = Shard::decode(value, number, onode.shard_span, block).unwrap_or_default();
                        for (start, blob) in shard.blobs.iter() {
                            for place in stored_places(*start, blob, block) {
                                if !addresses.contains(&place.address) {
                                    continue;
                                }
                                let matches = self.matches(&onode.object, place).await;
                                let shard = (of.clone(), number);
                                let owner = match blob.share {
                                    Some(share) => Owner::Share(blob.birth, share),
                                    None => Owner::Shard(shard.clone()),
                                };
                                let claim = Claim { owner, shard, birth: blob.birth, matches };
                                claims.entry(place.address).or_default().push(claim);
                            }
                        }
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(claims)
    }

    async fn matches(&self, object: &ObjectId, place: Place) -> bool {
        let is_inside = place.chunk(self.inner.block).end() <= self.window;
        is_inside && self.inner.read_stored(object, &[place], AccessHints::VERIFY).await.is_ok()
    }

    /// An object loses what these of its shards have in these blocks.
    async fn cut(&mut self, key: Bytes, cuts: Vec<(u32, BTreeSet<u64>)>) -> StoreResult<()> {
        let block = self.inner.block;
        let value = self.known(&key).await?;
        let onode = match keys::parse_object(&key) {
            Ok(ObjectKey::Onode(name)) => Onode::decode(value, &key, &name),
            other => panic!("{} was an onode's key before, now {other:?}", key.escape_ascii()),
        };
        let Ok(mut onode) = onode else { panic!("{} was read before", key.escape_ascii()) };
        let mut was_cut = false;
        for (number, addresses) in cuts {
            let shard_key = keys::shard(&key, number);
            let shard = Shard::decode(self.known(&shard_key).await?, number, onode.shard_span, block);
            let Ok(mut shard) = shard else { panic!("shard {number} of {} was read before", onode.object) };
            let gone = shard.forget_blocks(&addresses, block);
            if !self.trim(&onode.object, &mut shard).await? {
                continue;
            }
            was_cut = true;
            for (at, len) in gone {
                let lost = Lost::Bytes { from: at, to: at + len };
                self.lose(&onode.object, lost, "others have its blocks");
            }
            let detail = format!("{} loses {} blocks of shard {number}", onode.object, addresses.len());
            self.fix("extent-overlap", detail, []);
            if shard.is_empty() {
                onode.shards.remove(number);
            }
            self.change(shard_key, (!shard.is_empty()).then(|| shard.encode(block)));
        }
        // What it counts follows when it is looked at again.
        if was_cut {
            let value = onode.encode(&key);
            self.change(key, Some(value));
        }
        Ok(())
    }

    /// The value of a key that was read before.
    async fn known(&self, key: &Bytes) -> StoreResult<Bytes> {
        let values = self.pin().get(&*self.inner.kv, vec![key.clone()]).await;
        let value = values.map_err(|error| self.inner.kv_failed(&error))?.pop().flatten();
        Ok(value.unwrap_or_default())
    }
}

/// Each block of a blob as it is stored.
fn stored_places(start: u64, blob: &Blob, block: u64) -> impl Iterator<Item = Place> {
    let addresses = (start..).step_by(usize::try_from(block).unwrap_or(usize::MAX));
    addresses.zip(0..blob.checksums.len()).filter_map(move |(address, index)| {
        let Chunk { first, blocks, checksum } = blob.checksums.get(index)?;
        Some(Place {
            blob: start,
            index,
            address,
            checksum,
            chunk: start + u64::try_from(first).unwrap_or(u64::MAX) * block,
            chunk_blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
            birth: blob.birth,
            is_shared: blob.share.is_some(),
            is_packed: blob.packed.is_some(),
            logical: 0,
        })
    })
}

fn winner(claims: &[Claim]) -> Option<&Owner> {
    claims.iter().rev().max_by_key(|claim| (claim.matches, claim.birth)).map(|claim| &claim.owner)
}
