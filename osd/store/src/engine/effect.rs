//! The one moment in which a transaction takes effect: its record gets a number, its items change everything in
//! memory, and it joins the journal's queue. Nothing is awaited here.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use allocator::Extent;
use smallvec::SmallVec;

use super::apply::Mode;
use super::assemble::{Assembled, ToKeep};
use super::cache::Block;
use super::layout::{self, WrittenShard};
use super::plan::{Plan, PlannedObject};
use super::sharing::{self, Moment};
use super::state::Inner;
use super::writer::{Queued, Waiter};
use crate::checksum::{ChecksumKind, Checksums};
use crate::fault::Planted;
use crate::journal::format;
use crate::journal::item::{Deferred, Item};
use crate::keys;
use crate::shard::{Blob, Shard};
use crate::types::{Keep, PoolStats};

/// Range tombstones in the overlay at which a checkpoint is made.
const RANGES_MAX: usize = 256;

/// An object's shards after the transaction; none where a shard is gone.
pub type NewShards = BTreeMap<u32, Option<Shard>>;

impl Inner {
    /// See the module. `reserved` is journal space for the record.
    pub fn take_effect(
        &self,
        mut plan: Plan,
        mut assembled: Assembled,
        data_done: Rc<Cell<bool>>,
        reserved: u64,
        waiter: Option<Waiter>,
    ) {
        let record = self.journal.borrow_mut().number();
        let mut items = std::mem::take(&mut plan.collections);
        items.reserve(8 + plan.log.len());
        let mut freed = Vec::new();
        let mut statistics: BTreeMap<i64, PoolStats> = BTreeMap::new();
        let mut shards: SmallVec<[NewShards; 1]> = SmallVec::with_capacity(plan.objects.len());
        for (index, object) in plan.objects.iter().enumerate() {
            shards.push(self.new_shards(object, index, &assembled, record, &mut freed));
        }
        self.counters.leftovers_moved.add(plan.moves.into());
        self.renew_kept(&assembled);
        if let Some(shares) = &plan.shares {
            let checkpointed = self.journal.borrow().checkpointed();
            let moment = Moment { record, checkpointed, block: self.block, fault: self.options.fault };
            let settled = sharing::settle(&plan.objects, &mut shards, shares, moment);
            freed = settled.freed;
            items.extend(settled.items);
            self.counters.shares_begun.add(settled.begun);
            self.counters.shares_ended.add(settled.ended);
            for (pool, bytes) in settled.allocated {
                statistics.entry(pool).or_default().allocated += bytes;
            }
        }
        for (object, shards) in plan.objects.iter_mut().zip(shards) {
            self.count_shards(object, &shards);
            self.object_items(object, &shards, &mut items);
            let stats = statistics.entry(object.object.pool).or_default();
            let of = |onode: Option<&crate::onode::Onode>| onode.map(|o| o.statistics()).unwrap_or_default();
            *stats = stats.plus(&of(object.staged.now.as_ref())).minus(&of(object.staged.base.as_deref()));
            self.keep_in_cache(object, shards);
        }
        let to_keep = std::mem::take(&mut assembled.to_keep);
        let changed = statistics.into_iter().filter(|(_, delta)| *delta != PoolStats::default());
        items.extend(changed.map(|(pool, delta)| Item::Statistics(pool, delta)));
        for taken in assembled.taken.drain(..) {
            items.extend(taken.commit().into_iter().map(Item::Allocate));
        }
        items.extend(merge(freed).into_iter().map(Item::Free));
        items.extend(assembled.in_flight.drain(..).map(|(extent, sum)| Item::InFlight(extent, sum)));
        for block in assembled.in_place.drain(..) {
            let Some(object) = plan.objects.get(block.object) else { continue };
            items.push(Item::Deferred(Deferred {
                onode: object.staged.key.clone(),
                shard: block.shard,
                birth: block.birth,
                address: block.address,
                payload: block.payload,
            }));
        }
        items.append(&mut plan.log);
        if plan.draws_omap_id {
            items.push(Item::NextOmapId(self.next_omap_id.get()));
        }
        self.commit_items(record, &items, data_done, reserved, waiter);
        self.keep_blocks(record, plan.keep, to_keep);
    }

    /// Applies a record's items and queues it. `record` was numbered in the same moment.
    pub fn commit_items(
        &self,
        record: u64,
        items: &[Item],
        data_done: Rc<Cell<bool>>,
        reserved: u64,
        mut waiter: Option<Waiter>,
    ) {
        if let Err(error) = self.apply(record, items, Mode::Live) {
            panic!("a record that was just made cannot be applied: {error}");
        }
        self.counters.records.add(1);
        let bytes = format::encode_record(items);
        if let Some(waiter) = &mut waiter {
            self.count_stage(&self.counters.stage_effect_ns, &mut waiter.at);
        }
        let journal_full = {
            let mut journal = self.journal.borrow_mut();
            journal.push(Queued { record, bytes, reserved, data_done, waiter });
            journal.used() > journal.size() / 2
        };
        let overlay_full = self.overlay.active_bytes() > self.options.overlay_bytes_max / 2
            || self.overlay.active_ranges() > RANGES_MAX;
        let changes_full = self.space.active_change_bytes() > self.options.space_change_bytes_max / 2;
        if journal_full || overlay_full || changes_full {
            self.checkpoint_wanted.notify_one();
        }
        if !self.reaps.borrow().is_empty() {
            self.reap_wanted.notify_one();
        }
    }

    fn new_shards(
        &self,
        object: &PlannedObject,
        index: usize,
        assembled: &Assembled,
        record: u64,
        freed: &mut Vec<Extent>,
    ) -> NewShards {
        let staged = &object.staged;
        let mut shards: NewShards = BTreeMap::new();
        for (number, shard) in staged.dropped() {
            freed.extend(shard.extents(self.block));
            shards.insert(number, None);
        }
        for (number, content) in &staged.contents {
            let nothing = WrittenShard::default();
            let written = assembled.written.get(&(index, *number)).unwrap_or(&nothing);
            let (mut shard, gone) = layout::new_shard(content, written, record, self.block);
            if self.options.fault.is(Planted::EmptyBlobKept) {
                for extent in &gone {
                    let checksums = Checksums::new(ChecksumKind::Crc32c);
                    let empty = Blob { birth: record, share: None, packed: None, checksums };
                    shard.blobs.insert(extent.start, empty);
                }
            }
            freed.extend(gone);
            shards.insert(*number, (!shard.is_empty()).then_some(shard));
        }
        shards
    }

    /// Counts in the onode what its shards are now.
    fn count_shards(&self, object: &mut PlannedObject, shards: &NewShards) {
        let staged = &mut object.staged;
        let base = staged.base.as_ref().filter(|_| !staged.replaced);
        let Some(onode) = staged.now.as_mut() else { return };
        let mut numbers = base.map(|onode| onode.shards.clone()).unwrap_or_default();
        for (number, shard) in shards {
            match shard {
                Some(_) => numbers.insert(*number),
                None => numbers.remove(*number),
            }
        }
        onode.shards = numbers;
        let mut sums = object.elsewhere;
        for (number, shard) in shards {
            let Some(shard) = shard else { continue };
            self.counters.shards_inline.add((!shard.inline.is_empty()).into());
            self.counters.shards_beyond_first.add((*number > 0).into());
            for (sum, bytes) in sums.iter_mut().zip(shard.counts(self.block)) {
                *sum += bytes;
            }
        }
        onode.set_counts(sums);
    }

    fn object_items(&self, object: &PlannedObject, shards: &NewShards, items: &mut Vec<Item>) {
        let staged = &object.staged;
        let key = &staged.key;
        match (&staged.now, &staged.base) {
            (Some(onode), base) => {
                if base.as_deref() != Some(onode) {
                    items.push(Item::Put(key.clone(), onode.encode(key)));
                }
            }
            (None, Some(_)) => items.push(Item::Delete(key.clone())),
            (None, None) => {}
        }
        for (number, shard) in shards {
            let shard_key = keys::shard(key, *number);
            match shard {
                Some(shard) => items.push(Item::Put(shard_key, shard.encode(self.block))),
                None if staged.base.as_ref().is_some_and(|onode| onode.shards.contains(*number)) => {
                    items.push(Item::Delete(shard_key));
                }
                None => {}
            }
        }
        items.extend(staged.omap_items());
    }

    /// What stays of chunks that are cut has checksums of its own from now on, also in memory.
    fn renew_kept(&self, assembled: &Assembled) {
        let mut blocks = self.blocks.borrow_mut();
        for split in assembled.written.values().flat_map(|written| &written.splits) {
            let mut is_damaged = false;
            for (address, checksum) in split.own(self.block) {
                is_damaged |= !checksum.is_known();
                blocks.renew(address, checksum);
            }
            self.counters.chunks_split.add(1);
            self.counters.chunks_damaged.add(is_damaged.into());
        }
    }

    /// Keeps written blocks, which are the newest state from now on.
    pub(super) fn keep_blocks(&self, record: u64, keep: Keep, to_keep: Vec<ToKeep>) {
        let mut blocks = self.blocks.borrow_mut();
        for (address, birth, checksum, data) in to_keep {
            let block = Block { birth: birth.unwrap_or(record), checksum, data };
            blocks.put(address, block, keep == Keep::Long);
        }
    }

    fn keep_in_cache(&self, object: &mut PlannedObject, shards: NewShards) {
        let mut cache = self.cache.borrow_mut();
        let key = &object.staged.key;
        cache.changed(key);
        if object.staged.replaced || object.staged.now.is_none() {
            cache.remove(key);
        }
        let Some(onode) = object.staged.now.take() else { return };
        let shards = shards.into_iter().map(|(number, shard)| (number, shard.map(Rc::new)));
        cache.put_changed(key, Rc::new(onode), shards);
    }
}

/// Sorts and joins adjacent extents.
pub fn merge(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.sort_unstable();
    let mut merged: Vec<Extent> = Vec::new();
    for extent in extents {
        match merged.last_mut() {
            Some(last) if last.end() == extent.start => last.len += extent.len,
            _ => merged.push(extent),
        }
    }
    merged
}
