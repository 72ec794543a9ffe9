//! A staged transaction laid out: where each changed block goes, and bounds on what it will take. Pure.

use std::collections::BTreeMap;

use allocator::Class;
use bluefs::kv::ENTRY_BYTES;

use super::admit::Demand;
use super::apply::encode_collection;
use super::blocks::Wanted;
use super::content::Content;
use super::cuts::Cut;
use super::known_sums::KnownSums;
use super::layout::{self, Layout, Policy};
use super::needs::Bases;
use super::pg_log::ENTRY_OVERHEAD;
use super::sharing::{self, Shares};
use super::stage::Stage;
use super::stage_object::{PART_BYTES, StagedObject};
use super::state::{Collection, Inner};
use crate::check::length;
use crate::journal::item::Item;
use crate::keys;
use crate::limits;
use crate::object_store::{StoreError, StoreResult};
use crate::onode::SHARD_NUMBER_BYTES_MAX;
use crate::shard::{Counts, SHARD_BYTES_MAX, Shard};
use crate::transaction::{Op, Transaction};
use crate::types::{CollectionId, Keep, ObjectId};

/// Bytes an item takes beside keys and values.
pub const ITEM_BYTES: usize = 32;

/// See the module.
pub struct Plan {
    /// Objects touched, in order.
    pub objects: Vec<PlannedObject>,
    /// Collections, as items.
    pub collections: Vec<Item>,
    /// The version of the set of collections, if one is created: it must not overlap any.
    pub collections_seen: Option<u64>,
    /// Log entries and removals, as items.
    pub log: Vec<Item>,
    /// Bytes of new space.
    pub fresh_bytes: u64,
    /// At least the bytes of the record.
    pub record_bytes: usize,
    /// At least the bytes that the key-value store is given of it, as it reckons them, the bitmap's pages left out.
    pub kv_bytes: u64,
    /// At least the blocks that it takes and frees.
    pub blocks: u64,
    /// Bytes of log entries.
    pub log_bytes: u64,
    /// It gives back at least as much space as it takes, or the service depends on it, so it may use the reserve.
    pub reclaims: bool,
    /// Some blocks are written only to move them out of compressed blobs.
    pub moves: bool,
    /// A new omap id was drawn.
    pub draws_omap_id: bool,
    /// Whether what it writes will be read.
    pub keep: Keep,
    /// What is known of what it writes.
    pub known: KnownSums,
    /// Who uses the shared space that it touches; none if it touches and makes none.
    pub shares: Option<Shares>,
}

impl Plan {
    /// What it may use.
    pub fn class(&self) -> Class {
        if self.reclaims { Class::Reclaim } else { Class::Ordinary }
    }

    /// What its record needs.
    pub fn demand(&self) -> Demand {
        Demand {
            record_bytes: self.record_bytes,
            log_bytes: self.log_bytes,
            kv_bytes: self.kv_bytes,
            blocks: self.blocks,
            class: self.class(),
        }
    }
}

/// An object of a plan.
pub struct PlannedObject {
    /// Its name.
    pub object: ObjectId,
    /// What becomes of it.
    pub staged: StagedObject,
    /// Its changed shards.
    pub layouts: BTreeMap<u32, Layout>,
    /// What the onode counts outside of these.
    pub elsewhere: Counts,
}

impl PlannedObject {
    /// What stays of chunks that are cut, to be read.
    pub fn cut_off(&self) -> impl Iterator<Item = &Cut> {
        self.layouts.values().flat_map(|layout| &layout.cuts)
    }

    /// Blocks of which a part stays, to be read.
    pub fn reads(&self, block: u64) -> Wanted {
        let mut wanted = Wanted::default();
        for (number, layout) in &self.layouts {
            let Some(content) = self.staged.contents.get(number) else { continue };
            layout.reads().for_each(|place| wanted.add(&content.base, place, block));
            content.foreign_places(block).for_each(|(shard, place)| wanted.add(shard, place, block));
        }
        wanted
    }
}

impl Inner {
    /// Stages and lays out a transaction. What little is left of compressed blobs moves out of them, if that is wanted.
    pub fn plan(&self, bases: &Bases, transaction: &Transaction, moves_leftovers: bool) -> StoreResult<Plan> {
        let collections = self.collections.borrow();
        let journal = self.journal.borrow().capacity();
        let mut stage =
            Stage::new(bases, &collections, &self.options, &self.next_omap_id, self.block, journal);
        stage.apply(transaction)?;
        let Stage { objects, changed, log, removes, .. } = stage;
        let creates = transaction.ops.iter().any(|op| matches!(op, Op::CreateCollection { .. }));
        let mut objects = objects.into_iter().collect::<Vec<_>>();
        let inline_max = self.options.inline_bytes_max.min(limits::INLINE_BYTES_MAX);
        objects.iter_mut().for_each(|(_, object)| object.choose_inline(inline_max));
        let contents = objects.iter().flat_map(|(_, object)| object.contents.values());
        let policy = Policy {
            block: self.block,
            partial_max: self.options.deferred_partial_max,
            whole_max: self.options.deferred_whole_max,
            moves_leftovers,
        };
        let mut layouts = layout::lay_out(contents, policy).into_iter();
        let objects: Vec<PlannedObject> = objects
            .into_iter()
            .map(|(object, staged)| {
                let layouts = staged.contents.keys().copied().zip(layouts.by_ref()).collect();
                let elsewhere = elsewhere(&object, &staged, self.block)?;
                Ok(PlannedObject { object, staged, layouts, elsewhere })
            })
            .collect::<StoreResult<_>>()?;
        let fresh_blocks: usize =
            objects.iter().flat_map(|o| o.layouts.values()).map(|layout| layout.fresh().count()).sum();
        let fresh_bytes = u64::try_from(fresh_blocks).unwrap_or(u64::MAX) * self.block;
        let freed: u64 = objects.iter().map(|object| self.freed_bytes(object)).sum();
        let shares = sharing::touches_shares(&objects).then(|| bases.shares.clone());
        // What others may use too need not come back.
        let freed_surely = if shares.is_some() { 0 } else { freed };
        let inline = |bytes: fn(&Content) -> u64| {
            let contents = objects.iter().flat_map(|object| object.staged.contents.values());
            contents.map(bytes).sum::<u64>()
        };
        let inline_before = inline(|content| content.own().map_or(0, Shard::inline_bytes));
        let grows = freed_surely + inline_before < fresh_bytes + inline(Content::inline_bytes);
        let shrinks = removes && !grows && !sharing::makes_clones(&objects);
        let collections: Vec<Item> = changed
            .into_iter()
            .map(|(id, change)| match change {
                Some((bits, meta)) => {
                    let value = encode_collection(&Collection { bits, meta, ..Collection::default() });
                    Item::Put(keys::collection(id), value)
                }
                None => Item::Delete(keys::collection(id)),
            })
            .collect();
        let mut plan = Plan {
            log_bytes: log.iter().map(log_bytes).sum(),
            log,
            fresh_bytes,
            record_bytes: 0,
            kv_bytes: 0,
            blocks: (fresh_bytes + freed) / self.block,
            moves: objects.iter().flat_map(|object| object.layouts.values()).any(|layout| layout.moves),
            reclaims: shrinks || transaction.ops.iter().all(is_upkeep),
            draws_omap_id: objects.iter().any(|object| object.staged.omap_is_fresh()),
            collections,
            collections_seen: creates.then(|| self.collections_version.get()),
            objects,
            keep: Keep::default(),
            known: KnownSums::default(),
            shares,
        };
        let items = plan.collections.iter().chain(&plan.log).map(Item::encoded_bytes_max).sum::<usize>();
        let objects: usize = plan.objects.iter().map(|object| self.record_bytes(object)).sum();
        // Space is allocated and described in pieces no smaller than a block; statistics and the omap id once.
        plan.record_bytes =
            items + objects + fresh_blocks * 2 * ITEM_BYTES + plan.objects.len() * 96 + ITEM_BYTES;
        let collections: u64 = plan.collections.iter().map(kv_bytes).sum();
        plan.kv_bytes = collections + plan.objects.iter().map(|object| self.kv_bytes(object)).sum::<u64>();
        if let Some(shares) = &plan.shares {
            for bytes in sharing::items_max(&plan.objects, shares) {
                plan.record_bytes += bytes + ITEM_BYTES;
                plan.kv_bytes += u64::try_from(bytes).unwrap_or(u64::MAX / 4) + ENTRY_BYTES;
            }
        }
        Ok(plan)
    }

    /// At least the bytes of an object's keys and values.
    fn kv_bytes(&self, object: &PlannedObject) -> u64 {
        let staged = &object.staged;
        let key = length(&staged.key) + 8 + ENTRY_BYTES;
        let onode = staged
            .now
            .as_ref()
            .map_or(0, |onode| onode.encoded_bytes_max() + staged.contents.len() * SHARD_NUMBER_BYTES_MAX);
        let mut bytes = key + u64::try_from(onode).unwrap_or(u64::MAX / 4);
        bytes += staged.omap_items().iter().map(kv_bytes).sum::<u64>();
        bytes += u64::try_from(staged.dropped().count()).unwrap_or(u64::MAX / 4) * key;
        for content in staged.contents.values() {
            let whole = u64::try_from(content.base.packed_checksum_bytes()).unwrap_or(u64::MAX / 4);
            bytes +=
                key + SHARD_BYTES_MAX as u64 + content.pieces_max(self.block) * PART_BYTES as u64 + whole;
            bytes += content.inline_bytes();
        }
        bytes
    }

    /// At least the bytes that an object's items take.
    fn record_bytes(&self, object: &PlannedObject) -> usize {
        let staged = &object.staged;
        let key = staged.key.len() + 8 + ITEM_BYTES;
        let onode = staged
            .now
            .as_ref()
            .map_or(0, |onode| onode.encoded_bytes_max() + staged.contents.len() * SHARD_NUMBER_BYTES_MAX);
        let mut bytes = key + onode + staged.omap_items().iter().map(Item::encoded_bytes_max).sum::<usize>();
        for (_, shard) in staged.dropped() {
            // Of a shared blob, each block may be the last use, or none.
            let frees = shard.blobs.values().map(|blob| blob.share.map_or(1, |_| blob.checksums.len()));
            bytes += key + frees.sum::<usize>() * ITEM_BYTES;
        }
        for (number, content) in &staged.contents {
            let parts = usize::try_from(content.pieces_max(self.block)).unwrap_or(usize::MAX);
            let base_blocks: usize = content.base.blobs.values().map(|blob| blob.checksums.len()).sum();
            // Worst case: every block a blob and every part of one a piece; every block of the base freed by itself.
            bytes += key + SHARD_BYTES_MAX + parts * PART_BYTES + base_blocks * ITEM_BYTES;
            bytes += content.base.packed_checksum_bytes();
            bytes += usize::try_from(content.inline_bytes()).unwrap_or(usize::MAX);
            let in_place = object.layouts.get(number).map_or(0, |layout| layout.in_place().count());
            bytes += in_place * (key + 2 * ITEM_BYTES + usize::try_from(self.block).unwrap_or(usize::MAX));
        }
        bytes
    }

    /// Bytes of space that an object gives back.
    fn freed_bytes(&self, object: &PlannedObject) -> u64 {
        let dropped: u64 = object.staged.dropped().map(|(_, shard)| shard.allocated(self.block)).sum();
        let mut freed = dropped;
        for (number, content) in &object.staged.contents {
            let layout = object.layouts.get(number).filter(|_| !content.borrows());
            let stay = layout.map_or(0, |layout| layout.stay(content, self.block));
            let own = content.own().map_or(0, |base| base.allocated(self.block));
            freed += own.saturating_sub(stay * self.block);
        }
        freed
    }
}

/// What an onode counts outside of the shards that the object's ops touch. An error if the onode and these
/// shards do not fit.
fn elsewhere(object: &ObjectId, staged: &StagedObject, block: u64) -> StoreResult<Counts> {
    let base = staged.base.as_ref().filter(|_| !staged.replaced);
    let whole = base.map_or(Counts::default(), |onode| onode.counts());
    let mut touched = Counts::default();
    for shard in staged.contents.values().filter_map(Content::own) {
        touched.iter_mut().zip(shard.counts(block)).for_each(|(sum, bytes)| *sum += bytes);
    }
    subtract(whole, touched).ok_or_else(|| {
        StoreError::Io(format!(
            "{object} is corrupt: its shards have more than its onode counts; fsck tells more"
        ))
    })
}

/// What is left of what an onode counts without some of its shards; none if they have more than it counts.
pub fn subtract(whole: Counts, shards: Counts) -> Option<Counts> {
    let mut left = whole;
    for (left, bytes) in left.iter_mut().zip(shards) {
        *left = left.checked_sub(bytes)?;
    }
    let [stored, allocated, shared, compressed, original] = left;
    (shared.max(compressed) <= allocated && original <= stored).then_some(left)
}

/// What a full device must not prevent, and clients cannot repeat at will: remembering maps, making and removing
/// groups, noting in a log that a request failed.
fn is_upkeep(op: &Op) -> bool {
    let makes_groups = matches!(
        op,
        Op::CreateCollection { .. }
            | Op::RemoveCollection { .. }
            | Op::SplitCollection { .. }
            | Op::MergeCollection { .. }
            | Op::SetCollectionMeta { .. }
            | Op::LogAppend { .. }
    );
    op.collection() == CollectionId::META || makes_groups
}

fn kv_bytes(item: &Item) -> u64 {
    match item {
        Item::Put(key, value) | Item::DeleteRange(key, value) => length(key) + length(value) + ENTRY_BYTES,
        Item::Delete(key) => length(key) + ENTRY_BYTES,
        _ => 0,
    }
}

fn log_bytes(item: &Item) -> u64 {
    match item {
        Item::LogEntry(_, _, entry) => length(entry) + ENTRY_OVERHEAD,
        _ => 0,
    }
}
