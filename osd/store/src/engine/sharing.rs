//! What a transaction does to shared space: which of the blobs it touches are shared afterwards, how often their blocks
//! are used, and which blocks nobody uses any more. Pure.
//!
//! A blob is shared once another object than the one that wrote it uses a block of it. It stops being shared when each of
//! its blocks is used at most once, and by an object that the transaction writes anyway: nobody else's shard would have
//! to change. But not before a checkpoint: deferred payloads from before it was shared name the object that wrote them,
//! and only the share tells a replay that the block is still in use.

use std::collections::{BTreeMap, BTreeSet};

use allocator::Extent;
use smallvec::{SmallVec, smallvec};

use super::content::Content;
use super::effect::NewShards;
use super::plan::PlannedObject;
use crate::fault::{Fault, Planted};
use crate::journal::item::Item;
use crate::keys;
use crate::shard::{Blob, Shard};
use crate::share::Share;

/// Shares by birth and address.
pub type Shares = BTreeMap<(u64, u64), Share>;

/// What changes besides the shards.
#[derive(Default)]
pub struct Settled {
    /// Shares that are new, changed or gone.
    pub items: Vec<Item>,
    /// Blocks that nobody uses any more.
    pub freed: Vec<Extent>,
    /// Bytes that shares use more than before, by pool.
    pub allocated: BTreeMap<i64, i64>,
    /// Blobs that are shared from now on.
    pub begun: u64,
    /// Blobs that are one object's alone again, or gone.
    pub ended: u64,
}

/// What was one blob when it was written.
struct Origin {
    pool: i64,
    /// None if it was one object's alone.
    share: Option<Share>,
    /// Uses of each block by the transaction's shards, before and after.
    uses: SmallVec<[(u32, u32); 32]>,
    /// A clone that the transaction makes uses some.
    is_cloned: bool,
}

/// The circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Number of the transaction's record, which is the birth of what it wrote.
    pub record: u64,
    /// No replay looks at this record and those before it any more.
    pub checkpointed: u64,
    /// Bytes.
    pub block: u64,
    /// See [`Fault`].
    pub fault: Fault,
}

/// Whether a transaction touches shared space or begins to share some.
pub fn touches_shares(objects: &[PlannedObject]) -> bool {
    objects.iter().any(|object| {
        let staged = &object.staged;
        staged.contents.values().any(|content| content.is_copied || content.base.shares())
            || staged.dropped().any(|(_, shard)| shard.shares())
    })
}

/// Whether a transaction makes a clone.
pub fn makes_clones(objects: &[PlannedObject]) -> bool {
    objects.iter().any(|object| object.staged.contents.values().any(|content| content.is_copied))
}

/// See the module. `shards` are the objects' new shards, whose blobs are marked.
pub fn settle(
    objects: &[PlannedObject],
    shards: &mut [NewShards],
    shares: &Shares,
    moment: Moment,
) -> Settled {
    let block = moment.block;
    let mut origins: BTreeMap<(u64, u64), Origin> = BTreeMap::new();
    for object in objects {
        let own = object.staged.contents.values().filter_map(|content| content.own());
        let dropped = object.staged.dropped().map(|(_, shard)| shard.as_ref());
        for (address, blob) in own.chain(dropped).flat_map(|shard: &Shard| shard.blobs.iter()) {
            let id = (blob.birth, blob.share.unwrap_or(*address));
            let origin = origins.entry(id).or_insert_with(|| {
                let share = blob.share.map(|_| match shares.get(&id) {
                    Some(share) => share.clone(),
                    None => panic!("the share at {:#x} of birth {} was not loaded", id.1, id.0),
                });
                let blocks = share.as_ref().map_or(blob.checksums.len(), |share| share.uses.len());
                Origin { pool: object.object.pool, share, uses: smallvec![(0, 0); blocks], is_cloned: false }
            });
            blocks_of(origin, id.1, *address, blob, block).for_each(|uses| uses.0 += 1);
        }
    }
    for (address, blob, is_clone) in old_blobs(objects, shards, moment) {
        let (id, origin) = origin_of(&mut origins, address, blob);
        origin.is_cloned |= is_clone;
        blocks_of(origin, id.1, address, blob, block).for_each(|uses| uses.1 += 1);
    }
    let mut settled = Settled::default();
    let mut is_shared: BTreeMap<(u64, u64), bool> = BTreeMap::new();
    for (id, origin) in &origins {
        is_shared.insert(*id, settled.origin(*id, origin, moment));
    }
    for (address, blob, _) in old_blobs(objects, shards, moment) {
        let (id, _) = origin_of(&mut origins, address, blob);
        blob.share = is_shared.get(&id).copied().unwrap_or_default().then_some(id.1);
    }
    settled
}

impl Settled {
    /// Settles one blob; says whether it is shared from now on.
    fn origin(&mut self, (birth, start): (u64, u64), origin: &Origin, moment: Moment) -> bool {
        let block = moment.block;
        let mut now: SmallVec<[u32; 32]> = SmallVec::with_capacity(origin.uses.len());
        let mut is_elsewhere = false;
        for (number, (before, after)) in origin.uses.iter().enumerate() {
            let old = origin.share.as_ref().map_or(*before, |share| share.uses[number]);
            let Some(elsewhere) = old.checked_sub(*before) else {
                panic!(
                    "block {number} of the blob at {start:#x} is counted {old} times and used {before} times"
                )
            };
            is_elsewhere |= elsewhere > 0;
            now.push(elsewhere + after);
            let freed_early = moment.fault.is(Planted::SharedFreedByOne) && old > 1 && elsewhere + after == 1;
            if (old > 0 && elsewhere + after == 0) || freed_early {
                let address = start + u64::try_from(number).unwrap_or(u64::MAX) * block;
                self.freed.push(Extent::new(address, block));
            }
        }
        let since = origin.share.as_ref().map_or(moment.record, |share| share.since);
        let is_wanted = is_elsewhere || now.iter().any(|uses| *uses > 1) || since > moment.checkpointed;
        let is_shared =
            is_wanted && (origin.share.is_some() || origin.is_cloned) && now.iter().any(|uses| *uses > 0);
        let key = keys::share(birth, start);
        let share = is_shared.then(|| Share { pool: origin.pool, since, uses: now });
        let blocks =
            |share: Option<&Share>| i64::try_from(share.map_or(0, Share::blocks) * block).unwrap_or(i64::MAX);
        let more = blocks(share.as_ref()) - blocks(origin.share.as_ref());
        *self.allocated.entry(origin.pool).or_default() += more;
        self.begun += u64::from(is_shared && origin.share.is_none());
        self.ended += u64::from(!is_shared && origin.share.is_some());
        match (share, &origin.share) {
            (Some(new), Some(old)) if new == *old => {}
            (Some(new), _) => self.items.push(Item::Put(key, new.encode())),
            (None, Some(_)) => self.items.push(Item::Delete(key)),
            (None, None) => {}
        }
        is_shared
    }
}

/// At least the bytes of key and value of each share that a transaction may write.
pub fn items_max(objects: &[PlannedObject], shares: &Shares) -> Vec<usize> {
    let mut values: Vec<usize> = shares.values().map(Share::encoded_bytes_max).collect();
    if makes_clones(objects) {
        // What is cloned may have been removed or replaced since, in the same transaction.
        let shards = objects.iter().flat_map(|object| {
            let own = object.staged.contents.values().filter_map(Content::own);
            own.chain(object.staged.dropped().map(|(_, shard)| shard.as_ref()))
        });
        let new = shards.flat_map(|shard: &Shard| shard.blobs.values()).filter(|blob| blob.share.is_none());
        values.extend(new.map(|blob| Share::bytes_max(blob.checksums.len())));
    }
    values.into_iter().map(|value| keys::SHARE_BYTES + value).collect()
}

/// An error, with the address of a blob, if shards that are loaded and shares do not fit: a share counts fewer uses than
/// there are, or two blobs claim the same space.
pub fn check<'a>(shards: impl Iterator<Item = &'a Shard>, shares: &Shares, block: u64) -> Result<(), u64> {
    let mut left: BTreeMap<(u64, u64), SmallVec<[u32; 32]>> =
        shares.iter().map(|(id, share)| (*id, share.uses.clone())).collect();
    let mut alone: BTreeSet<(u64, u64)> = BTreeSet::new();
    for (address, blob) in shards.flat_map(|shard| shard.blobs.iter()) {
        let Some(start) = blob.share else {
            let below = shares.range(..=(blob.birth, *address)).next_back();
            let is_shared = below.is_some_and(|((birth, start), share)| {
                *birth == blob.birth
                    && usize::try_from((address - start) / block).is_ok_and(|n| n < share.uses.len())
            });
            if is_shared || !alone.insert((blob.birth, *address)) {
                return Err(*address);
            }
            continue;
        };
        let first = usize::try_from((address - start) / block).unwrap_or(usize::MAX);
        let end = first.saturating_add(blob.checksums.len());
        let uses = left.get_mut(&(blob.birth, start)).and_then(|uses| uses.get_mut(first..end));
        for count in uses.ok_or(*address)? {
            *count = count.checked_sub(1).ok_or(*address)?;
        }
    }
    Ok(())
}

/// Blobs that the transaction did not write, and whether they are new to the shard: a clone's.
fn old_blobs<'a>(
    objects: &'a [PlannedObject],
    shards: &'a mut [NewShards],
    moment: Moment,
) -> impl Iterator<Item = (u64, &'a mut Blob, bool)> {
    objects.iter().zip(shards).flat_map(move |(object, shards)| {
        shards.iter_mut().flat_map(move |(number, shard)| {
            let content = object.staged.contents.get(number).filter(|content| content.borrows());
            let is_clone = move |at: u64, blob: &Blob| {
                let own = content.map(|content| content.own());
                own.is_some_and(|own| own.is_none_or(|own| !own.owns(at, blob.birth, moment.block)))
            };
            let blobs = shard.iter_mut().flat_map(|shard| shard.blobs.iter_mut());
            let old = blobs.filter(move |(_, blob)| blob.birth != moment.record);
            old.map(move |(at, blob)| {
                let is_clone = is_clone(at, blob);
                (at, blob, is_clone)
            })
        })
    })
}

fn origin_of<'a>(
    origins: &'a mut BTreeMap<(u64, u64), Origin>,
    address: u64,
    blob: &Blob,
) -> ((u64, u64), &'a mut Origin) {
    let start = blob.share.unwrap_or(address);
    match origins.range_mut(..=(blob.birth, start)).next_back() {
        Some((id, origin)) if id.0 == blob.birth => (*id, origin),
        _ => panic!("the blob at {address:#x} of birth {} was nobody's", blob.birth),
    }
}

/// The counts of a blob's blocks.
fn blocks_of<'a>(
    origin: &'a mut Origin,
    start: u64,
    address: u64,
    blob: &Blob,
    block: u64,
) -> impl Iterator<Item = &'a mut (u32, u32)> {
    let first = usize::try_from((address - start) / block).unwrap_or(usize::MAX);
    origin.uses[first..first + blob.checksums.len()].iter_mut()
}
