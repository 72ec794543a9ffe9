//! The usual write in fewer steps: whole blocks of one shard go to new space, of an object that is in memory, with its attributes and
//! an entry of the log; a block device's image is written like that all day. It needs none of what a transaction may need otherwise,
//! so it stages and plans nothing, and takes a third less of instructions and time.
//!
//! What it does is what the general way ([`super::plan`] and what follows) would do, to the byte; a test holds the two against each
//! other. Whatever is not usual takes the general way, also what turns out not to be while this one waits.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use allocator::{Class, HybridAllocator, Request, Reservation};
use bluefs::kv::ENTRY_BYTES;
use bytes::Bytes;
use rt::Nanos;
use smallvec::SmallVec;

use super::admit::{Admitted, Demand};
use super::assemble::Buffers;
use super::effect::merge;
use super::pg_log::ENTRY_OVERHEAD;
use super::plan::{ITEM_BYTES, subtract};
use super::stage_object::{PART_BYTES, owned};
use super::state::Inner;
use super::writer::Waiter;
use crate::check::{self, length};
use crate::checksum::{self, Checksum};
use crate::fault::Planted;
use crate::journal::item::Item;
use crate::keys;
use crate::limits;
use crate::object_store::StoreResult;
use crate::onode::{Onode, SHARD_NUMBER_BYTES_MAX};
use crate::shard::{Blob, Counts, NewBlock, Piece, SHARD_BYTES_MAX, Shard};
use crate::transaction::{Op, Transaction};
use crate::types::{AccessHints, CollectionId, LogVersion, ObjectId, PoolStats};

/// Mistakes that are made in the general way only.
const MISTAKES_ELSEWHERE: [Planted; 3] =
    [Planted::EmptyBlobKept, Planted::ChecksumOfStaleBlock, Planted::StaleLoadTaken];

/// A transaction that writes one object's data, sets its attributes, and appends to its collection's log.
pub struct Overwrite<'a> {
    collection: CollectionId,
    object: &'a ObjectId,
    offset: u64,
    data: &'a Bytes,
    /// See [`crate::BlockSums`].
    sums: &'a [u32],
    attrs: Option<&'a BTreeMap<Bytes, Bytes>>,
    log: Option<(LogVersion, &'a Bytes)>,
}

/// What it changes, as it is, and what it takes.
struct Ready {
    key: Bytes,
    base: Rc<Onode>,
    /// As it will be, but for what its shards count.
    now: Onode,
    number: u32,
    shard: Rc<Shard>,
    /// What the onode counts outside of the shard.
    elsewhere: Counts,
    demand: Demand,
}

/// How it goes on: it is done, or takes the general way.
pub type Way = ControlFlow<StoreResult<()>>;

impl<'a> Overwrite<'a> {
    /// What the transaction does, if it does no more than that.
    pub fn of(transaction: &'a Transaction, sums: &'a [u32]) -> Option<Self> {
        let (mut write, mut attrs, mut log) = (None, None, None);
        for op in &transaction.ops {
            match op {
                Op::Write { collection, object, offset, data } if write.is_none() => {
                    let [data] = data.as_slice() else { return None };
                    write = Some((*collection, object, *offset, data));
                }
                Op::SetAttrs { collection, object, attrs: set } if attrs.is_none() => {
                    attrs = Some((*collection, object, set));
                }
                Op::LogAppend { collection, version, entry } if log.is_none() => {
                    log = Some((*collection, *version, entry));
                }
                _ => return None,
            }
        }
        let (collection, object, offset, data) = write?;
        let is_same = attrs.is_none_or(|(id, name, _)| id == collection && name == object)
            && log.is_none_or(|(id, ..)| id == collection);
        let attrs = attrs.map(|(_, _, attrs)| attrs);
        let log = log.map(|(_, version, entry)| (version, entry));
        is_same.then_some(Self { collection, object, offset, data, sums, attrs, log })
    }

    fn end(&self) -> u64 {
        self.offset + length(self.data)
    }
}

impl Inner {
    /// Does it now, if all is as usual and nothing has to be waited for: not even a task is made for it then. Whether it did; if
    /// so it is readable, and the waiter in the queue.
    pub fn overwrite_at_once(
        self: &Rc<Self>,
        transaction: &Transaction,
        hints: AccessHints,
        sums: &[u32],
        waiter: &mut Option<Waiter>,
    ) -> bool {
        let Some(op) = Overwrite::of(transaction, sums) else { return false };
        if self.memory_short.get() || !self.sequencer.is_free(op.collection) {
            return false;
        }
        let Some(ready) = self.look(&op) else { return false };
        // What is given back first tells nobody.
        let Ok(reservation) = self.space.space.reserve(length(op.data), Class::Ordinary) else {
            return false;
        };
        let Some(admitted) = self.admit_now(ready.demand) else { return false };
        self.overwrite_now(&op, ready, hints, (admitted, reservation), waiter).is_break()
    }

    /// Does it, if all is as usual.
    pub async fn overwrite(
        self: &Rc<Self>,
        op: Overwrite<'_>,
        hints: AccessHints,
        waiter: &mut Option<Waiter>,
        at: &mut Nanos,
    ) -> Way {
        let Some(ready) = self.look(&op) else { return Way::Continue(()) };
        self.count_stage(&self.counters.stage_load_ns, at);
        let admitted = self.admit(ready.demand, Duration::ZERO).await;
        self.count_stage(&self.counters.stage_admit_ns, at);
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return Way::Break(Err(error)),
        };
        // Others on the collection wait for their turn; but what is in memory may have gone, the space been taken, and the pool
        // may want something else.
        let is_newest =
            self.cache.borrow().peek(&ready.key).is_some_and(|onode| Rc::ptr_eq(onode, &ready.base));
        let is_usual = is_newest && self.chunk_bytes(op.object.pool, ready.base.hints) == self.block;
        let reservation = self.space.space.reserve(length(op.data), Class::Ordinary);
        let (true, Ok(reservation)) = (is_usual, reservation) else { return Way::Continue(()) };
        waiter.iter_mut().for_each(|waiter| waiter.at = *at);
        self.overwrite_now(&op, ready, hints, (admitted, reservation), waiter)
    }

    /// What it changes, if all of it is in memory and usual.
    fn look(&self, op: &Overwrite) -> Option<Ready> {
        let (block, options) = (self.block, &self.options);
        let (len, end) = (length(op.data), op.end());
        let is_usual = len > 0
            && (op.offset | len).is_multiple_of(block)
            && len <= options.large_write_bytes
            && options.deferred_whole_max < block
            && options.short_overwrites
            && !MISTAKES_ELSEWHERE.into_iter().any(|planted| options.fault.is(planted))
            && op.collection != CollectionId::META;
        if !is_usual {
            return None;
        }
        {
            let collections = self.collections.borrow();
            let collection = collections.get(&op.collection)?;
            check::check_member(op.collection, collection.bits, op.object).ok()?;
            let last = collection.log.back().map(|(version, _)| *version);
            if op.log.is_some_and(|(version, _)| last.is_some_and(|last| last >= version)) {
                return None;
            }
        }
        let pool = op.object.pool;
        let key = keys::onode(op.object);
        let base = self.cache.borrow().peek(&key).cloned()?;
        let span = u64::from(base.shard_span);
        let number = u32::try_from(op.offset / span).ok()?;
        let is_in_one = (end - 1) / span == u64::from(number);
        // What little there is at the beginning of an object may go into its shard.
        let is_inline = number == 0 && end <= options.inline_bytes_max.min(limits::INLINE_BYTES_MAX);
        let is_squeezed = len > block && self.compression(pool).mode.wants(base.hints.compression);
        if !is_in_one || is_inline || is_squeezed || self.chunk_bytes(pool, base.hints) != block {
            return None;
        }
        let shard = match base.shards.contains(number) {
            true => self.cache.borrow().shard(&key, number)?,
            false => Rc::default(),
        };
        let is_usual =
            |blob: &Blob| blob.share.is_none() && blob.packed.is_none() && !blob.checksums.is_chunked();
        if !shard.inline.is_empty() || !shard.blobs.values().all(is_usual) {
            return None;
        }
        let mut now = (*base).clone();
        now.size = now.size.max(end);
        for (name, value) in op.attrs.into_iter().flatten() {
            now.attrs.set(name, owned(value), owned);
        }
        check::check_attrs(now.attrs.iter()).ok()?;
        now.shards.insert(number);
        let elsewhere = subtract(base.counts(), shard.counts(block))?;
        let demand = self.overwrite_demand(op, &key, &now, &shard);
        Some(Ready { key, base, now, number, shard, elsewhere, demand })
    }

    /// See [`super::plan`]: at least what it takes.
    fn overwrite_demand(&self, op: &Overwrite, key: &Bytes, now: &Onode, shard: &Shard) -> Demand {
        let blocks = length(op.data) / self.block;
        let base_blocks: usize = shard.blobs.values().map(|blob| blob.checksums.len()).sum();
        // What is before the write, and behind it, in as many pieces as it touches blocks; the write's are whole blocks.
        let touched =
            |from: u64, to: u64| if from < to { (to - 1) / self.block - from / self.block + 1 } else { 0 };
        let kept = |(at, piece): &(u64, Piece)| {
            let end = at + u64::from(piece.len);
            touched(*at, end.min(op.offset)) + touched((*at).max(op.end()), end)
        };
        let parts = shard.pieces.iter().map(kept).sum::<u64>() + blocks;
        let parts_bytes = parts * PART_BYTES as u64;
        let onode = now.encoded_bytes_max() + SHARD_NUMBER_BYTES_MAX;
        let fixed = 2 * (key.len() + 8) + onode + SHARD_BYTES_MAX;
        let log = op.log.map_or(0, |(_, entry)| entry.len() + 24 + ITEM_BYTES);
        let items = 3 + 2 * index(blocks) + base_blocks;
        Demand {
            record_bytes: fixed + index(parts_bytes) + log + items * ITEM_BYTES + 96,
            log_bytes: op.log.map_or(0, |(_, entry)| length(entry) + ENTRY_OVERHEAD),
            kv_bytes: wide(fixed) + parts_bytes + 2 * ENTRY_BYTES,
            // A block that is written was in one block at most.
            blocks: 2 * blocks,
            class: Class::Ordinary,
        }
    }

    /// Everything from the space that it takes to the record in the queue. Nothing is awaited.
    fn overwrite_now(
        self: &Rc<Self>,
        op: &Overwrite,
        ready: Ready,
        hints: AccessHints,
        (admitted, mut reservation): (Admitted, Reservation<HybridAllocator>),
        waiter: &mut Option<Waiter>,
    ) -> Way {
        let Ready { key, base, mut now, number, shard, elsewhere, .. } = ready;
        let len = length(op.data);
        let extents_max = index(len / self.block).min(allocator::limits::REQUEST_EXTENTS_MAX);
        let request = Request { len, unit: self.block, extents_max, hint: None };
        let Ok(taken) = reservation.take(&request) else { return Way::Continue(()) };
        let (pool, block) = (op.object.pool, index(self.block));
        let kind = self.checksum_kind(pool);
        let are_summed = self.block == limits::BLOCK && op.sums.len() == op.data.len() / block;
        let mut sums = op.sums.iter().filter(|_| are_summed);
        let mut buffers = Buffers::new(taken.extents());
        let mut new: SmallVec<[NewBlock; 16]> = SmallVec::new();
        let mut to_keep = Vec::new();
        for (logical, data) in (op.offset..).step_by(block).zip(op.data.chunks_exact(block)) {
            let (address, memory) = buffers.next(block);
            memory.copy_from_slice(data);
            let known = sums.next().and_then(|sum| Checksum::of_crc32c(kind, *sum));
            let checksum = known.unwrap_or_else(|| Checksum::of(kind, memory));
            self.counters.blocks_summed_before.add(known.is_some().into());
            new.push((address, checksum));
            if self.keeps_written(hints.keep, || shard.place(logical, self.block)) {
                to_keep.push((address, None, checksum, Bytes::copy_from_slice(memory)));
            }
        }
        let buffers = buffers.into_runs();
        let mut in_flight: Vec<Item> = Vec::with_capacity(buffers.len());
        in_flight
            .extend(buffers.iter().map(|(extent, data)| Item::InFlight(*extent, checksum::of_extent(data))));
        let data_done = self.write_data(buffers);
        let reserved = admitted.spend();
        let record = self.journal.borrow_mut().number();
        // A use counts once, whichever way it goes.
        drop(self.cache.borrow_mut().onode(&key));
        // Whoever reads it at the moment has it as it was; if nobody does, it is changed where it is.
        let mut shard = self.cache.borrow_mut().take_shard(&key, number).unwrap_or(shard);
        let freed = Rc::make_mut(&mut shard).overwrite(op.offset, &new, record, self.block);
        self.counters.overwrites_short.add(1);
        self.counters.cache_hits.add(1 + u64::from(base.shards.contains(number)));
        self.counters.shards_beyond_first.add((number > 0).into());
        let mut counts = elsewhere;
        counts.iter_mut().zip(shard.counts(self.block)).for_each(|(sum, bytes)| *sum += bytes);
        now.set_counts(counts);
        let mut items = Vec::with_capacity(6 + in_flight.len());
        if now != *base {
            items.push(Item::Put(key.clone(), now.encode(&key)));
        }
        items.push(Item::Put(keys::shard(&key, number), shard.encode(self.block)));
        let delta = now.statistics().minus(&base.statistics());
        if delta != PoolStats::default() {
            items.push(Item::Statistics(pool, delta));
        }
        items.extend(taken.commit().into_iter().map(Item::Allocate));
        items.extend(merge(freed).into_iter().map(Item::Free));
        items.append(&mut in_flight);
        items.extend(op.log.map(|(version, entry)| Item::LogEntry(op.collection, version, entry.clone())));
        {
            let mut cache = self.cache.borrow_mut();
            cache.changed(&key);
            cache.put_changed(&key, Rc::new(now), std::iter::once((number, Some(shard))));
        }
        self.commit_items(record, &items, data_done, reserved, waiter.take());
        self.keep_blocks(record, hints.keep, to_keep);
        self.gather();
        Way::Break(Ok(()))
    }
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
