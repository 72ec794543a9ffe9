//! Mounting: from what is on the device to an open store. May crash anywhere, any number of times.
//!
//! Order: flush, so that what is read is durable → read superblock, checkpoint, bitmap, log and journal → find the
//! chain and verify data that was in flight → make the next mount epoch durable, which fixes where the chain ended for
//! all later mounts → compute the final state in memory → only then queue deferred payloads whose blob still owns its
//! block. So nothing that a later replay would verify is overwritten before the superblock says that it need not be.

use std::cell::{Cell, RefCell};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use allocator::{BitmapAllocator, Extent};
use bluefs::kv::{KvStore, ScanLimit};
use bytes::Bytes;
use nvme::{BlockDevice, DeviceError, DmaBuf};
use rt::Core;
use rt::sync::{Gate, Notify, Semaphore};

use super::apply::{Mode, decode_collection};
use super::cache::{BlockCache, Cache};
use super::checkpoint::CheckpointRecord;
use super::counters::Counters;
use super::deferred::Deferred;
use super::free_list;
use super::kv_room::KvRoom;
use super::lend::Loans;
use super::open::{self, FromKv, OpenError, OpenResult};
use super::options::Options;
use super::pg_log::{self, LogChange, PgLog, Window};
use super::sequencer::Sequencer;
use super::space::SpaceBook;
use super::state::{Collection, Inner, Pending, Purpose};
use super::traffic::Traffic;
use super::writer::{Begin, GroupEnd, Writer};
use crate::checksum;
use crate::codec::DecodeError;
use crate::devices;
use crate::fault::Planted;
use crate::journal::format;
use crate::journal::item::Item;
use crate::journal::ring::Ring;
use crate::journal::scan::{self, Group, Start};
use crate::keys::{self, ObjectKey};
use crate::limits;
use crate::object_store::StoreError;
use crate::onode::Onode;
use crate::overlay::Overlay;
use crate::shard::Shard;
use crate::share::Share;
use crate::superblock::{INCOMPAT_MOUNT, Superblock};
use crate::types::{CollectionId, PoolStats};

/// Keys and values.
type Entries = Vec<(Bytes, Bytes)>;

/// Shares of one birth are few: the blobs that one record wrote.
const SHARES_PAGE: ScanLimit = ScanLimit { keys: 256, bytes: 1 << 20 };

/// Opens what is on the device.
pub async fn mount(
    core: Core,
    device: Rc<dyn BlockDevice>,
    kv: Rc<dyn KvStore>,
    options: Options,
    purpose: Purpose,
) -> OpenResult<Rc<Inner>> {
    let writes = purpose != Purpose::Look;
    if writes {
        // A process that was killed leaves completed writes in the device's cache; what we read must be durable.
        device.flush().await?;
    }
    let (mut superblock, writable) = open::read_superblock(&*device).await?;
    if !writable && writes {
        let unknown = superblock.features.ro_compat;
        return Err(OpenError::Features { device: device.name().to_owned(), unknown });
    }
    let options = options.within_journal(superblock.journal.len);
    let view = kv.view();
    let from_kv = open::read_kv(&*device, &kv, &view, &superblock).await?;
    let checkpoint = from_kv.checkpoint.clone().unwrap_or_else(|| fresh(&superblock));
    let start = Start {
        store: superblock.store,
        position: checkpoint.end.position,
        group: checkpoint.end.group + 1,
        previous: checkpoint.end.checksum,
        record: checkpoint.end.record + 1,
        epoch: superblock.epoch,
        epoch_start: superblock.epoch_start,
        block: superblock.journal_block.into(),
    };
    let ring = Ring::new(open::read_region(&*device, superblock.journal).await?);
    let name = || device.name().to_owned();
    let mut groups = scan::scan(&ring, &start, options.fault)
        .map_err(|error| OpenError::Journal { device: name(), error })?;
    let truncated = if options.fault.is(Planted::DataNotVerified) {
        0
    } else {
        verify(&*device, &mut groups, &start, u64::from(superblock.block)).await?
    };
    let log = Ring::new(open::read_region(&*device, superblock.pg_log).await?);
    let log_changes = pg_log::read(&log, checkpoint.log, superblock.block.into())
        .map_err(|error| OpenError::Corrupt { device: name(), reason: format!("log: {error}") })?;

    let counters = Counters::default();
    let end = groups.last().map_or(checkpoint.end, |group| GroupEnd {
        group: group.header.group,
        record: group.header.first_record + u64::from(group.header.records) - 1,
        position: group.end,
        checksum: group.checksum,
    });
    if writes {
        superblock.generation += 1;
        superblock.epoch += 1;
        superblock.features.incompat |= INCOMPAT_MOUNT;
        superblock.epoch_start = end.group + 1;
        counters.superblock_bytes_written.add(devices::write_headers(&*device, &superblock).await?);
        counters.superblock_bytes_written.add(open::write_superblock(&*device, &mut superblock).await?);
        counters.flushes.add(2);
    }
    counters.replay_truncated_groups.add(truncated);
    let FromKv { free_list, collections, statistics, reaps, .. } = from_kv;
    let (bitmap, problem) = match free_list {
        Ok(bitmap) => (bitmap, None),
        // It is rebuilt. Until then nothing is allocated.
        Err(OpenError::Corrupt { reason, .. }) if purpose == Purpose::Repair => {
            let of = checkpoint.window_of(&superblock);
            let window = if free_list::is_window(of, &superblock) { of } else { superblock.window };
            (open::empty_bitmap(&superblock, window), Some(reason))
        }
        Err(error) => return Err(error),
    };
    let inner = build(core, device, kv, options, purpose, superblock, &checkpoint, bitmap, end, counters);
    inner.free_list_problem.replace(problem);
    let corrupt = |reason: String| OpenError::Corrupt { device: inner.device.name().to_owned(), reason };
    // What the window has grown by since the checkpoint, or with this mount.
    inner.space.grow(inner.superblock.borrow().window);
    load(&inner, collections, statistics, reaps, log_changes).map_err(|error| corrupt(error.to_string()))?;
    inner.replay(groups).await.map_err(|error| corrupt(error.to_string()))?;
    // The window in the ring and the journal together may hold more than was kept in memory before the crash.
    inner.make_log_room(0);
    if purpose == Purpose::Serve {
        inner.start();
    }
    Ok(inner)
}

/// What a store without a checkpoint begins with.
fn fresh(superblock: &Superblock) -> CheckpointRecord {
    let bitmap = open::empty_bitmap(superblock, superblock.window);
    let checksum = format::first_previous(superblock.store);
    CheckpointRecord {
        end: GroupEnd { group: 0, record: 0, position: 0, checksum },
        next_omap_id: 1,
        log: Window { tail: 0, head: 0 },
        used: allocator::Allocator::capacity(&bitmap) - allocator::Allocator::free_bytes(&bitmap),
        window: Some(superblock.window).filter(|window| *window != superblock.formatted),
        lent: Vec::new(),
    }
}

/// Cuts the chain before the first group whose data is not what was written. Only groups above the last that is known
/// to be durable are looked at: below, space may have been reused. Gives how many groups were cut off.
async fn verify(
    device: &dyn BlockDevice,
    groups: &mut Vec<Group>,
    start: &Start,
    block: u64,
) -> OpenResult<u64> {
    let durable = scan::durable_through(groups, start);
    for index in 0..groups.len() {
        let Some(group) = groups.get(index) else { break };
        if group.header.group <= durable {
            continue;
        }
        for item in group.records.iter().flatten() {
            if let Item::InFlight(extent, expected) = item
                && !extent_matches(device, *extent, *expected, block).await?
            {
                let cut = groups.len() - index;
                groups.truncate(index);
                return Ok(u64::try_from(cut).unwrap_or(u64::MAX));
            }
        }
    }
    Ok(0)
}

async fn extent_matches(
    device: &dyn BlockDevice,
    extent: Extent,
    expected: u32,
    block: u64,
) -> OpenResult<bool> {
    let fits = extent.end() <= device.geometry().size
        && extent.start.is_multiple_of(block)
        && extent.len.is_multiple_of(block);
    if !fits {
        let reason = format!("the journal names data at {extent}, which is not on the device");
        return Err(OpenError::Corrupt { device: device.name().to_owned(), reason });
    }
    // Twice: what is cut off here is lost, and the bytes may only have been damaged on their way.
    for _ in 0..2 {
        let buffer = DmaBuf::zeroed(usize::try_from(extent.len).unwrap_or(usize::MAX));
        match device.read(extent.start, buffer).await {
            Ok(data) if checksum::of_extent(&data) == expected => return Ok(true),
            Ok(_) => {}
            // Not what was written either: a block stays unreadable if the write that would have replaced it was lost.
            Err(error @ DeviceError::Io { .. }) => log::warn!("data of the journal's last groups: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

#[expect(clippy::too_many_arguments, reason = "called once, with what mount found")]
fn build(
    core: Core,
    device: Rc<dyn BlockDevice>,
    kv: Rc<dyn KvStore>,
    options: Options,
    purpose: Purpose,
    superblock: Superblock,
    checkpoint: &CheckpointRecord,
    bitmap: BitmapAllocator,
    end: GroupEnd,
    counters: Counters,
) -> Rc<Inner> {
    let begin = Begin {
        store: superblock.store,
        size: superblock.journal.len,
        block: superblock.journal_block.into(),
        epoch: superblock.epoch,
        tail: checkpoint.end.position,
        head: end.position,
        group: end.group + 1,
        previous: end.checksum,
        record: end.record + 1,
        group_bytes_max: options.group_bytes_max,
        in_flight_max: options.groups_in_flight,
        fault: options.fault,
    };
    let block = u64::from(superblock.block);
    let fault = options.fault;
    Rc::new(Inner {
        overlay: Overlay::new(kv.view(), fault),
        cache: RefCell::new(Cache::new(options.cache_policy, options.cache_bytes_max, core.random_u64())),
        blocks: RefCell::new(BlockCache::new(options.cache_policy, options.data_cache_bytes_max, block)),
        space: SpaceBook::new(
            bitmap,
            superblock.free_list(),
            options.reserve_bytes,
            checkpoint.lent.clone(),
            fault,
        ),
        traffic: Traffic::default(),
        journal: RefCell::new(Writer::new(begin)),
        deferred: Deferred::new(block),
        deferred_unflushed: Cell::new(false),
        sequencer: Sequencer::default(),
        collections: RefCell::default(),
        collections_version: Cell::default(),
        pool_options: RefCell::default(),
        pools: RefCell::default(),
        pg_log: RefCell::new(PgLog::new(superblock.pg_log, block, checkpoint.log)),
        pending: RefCell::new(Pending::default()),
        next_omap_id: Cell::new(checkpoint.next_omap_id),
        reaps: RefCell::new(VecDeque::new()),
        admission: Semaphore::new(1),
        progress: Notify::default(),
        group_wanted: Notify::default(),
        executing: Cell::new(0),
        gathering: Cell::new(false),
        checkpoint_wanted: Notify::default(),
        seal_wanted: Notify::default(),
        reap_wanted: Notify::default(),
        checkpoints: Cell::new(0),
        checkpointing: Cell::new(false),
        kv_room: KvRoom::default(),
        budget: RefCell::default(),
        memory_short: Cell::new(false),
        memory_wanted: Notify::default(),
        kv_cache_bytes: Cell::new(0),
        kv_misses_seen: Cell::new(0),
        kv_came_back: Cell::new(0),
        read_aheads: Cell::new(0),
        loans: Loans::default(),
        nothing_to_lend: Cell::new(false),
        copies: RefCell::default(),
        healing: RefCell::default(),
        read_errors: rt::Seldom::new(limits::READ_ERRORS_LOGGED.0, limits::READ_ERRORS_LOGGED.1),
        gate: Gate::default(),
        background: Gate::default(),
        down: RefCell::default(),
        growing: Semaphore::new(1),
        clearing: Semaphore::new(1),
        core,
        counters,
        device,
        kv,
        options,
        superblock: RefCell::new(superblock),
        block,
        purpose,
        free_list_problem: RefCell::default(),
    })
}

/// Takes over what the checkpoint holds beside the overlay.
fn load(
    inner: &Inner,
    stored: Entries,
    statistics: Entries,
    reaps: Entries,
    log: Vec<LogChange>,
) -> Result<(), crate::codec::DecodeError> {
    let mut collections: BTreeMap<CollectionId, Collection> = BTreeMap::new();
    for (key, value) in stored {
        let (bits, meta) = decode_collection(value)?;
        let collection = Collection { bits, meta, ..Collection::default() };
        collections.insert(keys::parse_collection(&key)?, collection);
    }
    let mut pg_log = inner.pg_log.borrow_mut();
    for change in log {
        match change {
            LogChange::Entry(id, version, entry) => {
                if let Some(collection) = collections.get_mut(&id) {
                    pg_log.append(collection, version, entry, inner.options.pg_log_entries);
                }
            }
            LogChange::Drop(id) => {
                if let Some(collection) = collections.get_mut(&id) {
                    pg_log.clear(collection);
                }
            }
        }
    }
    drop(pg_log);
    *inner.collections.borrow_mut() = collections;
    let mut pools = inner.pools.borrow_mut();
    for (key, value) in statistics {
        let mut d = crate::codec::Decoder::new(value);
        let mut array = [0; PoolStats::FIELDS];
        // A pool that nothing was written to since there is compression has fewer.
        let fields =
            if d.left() == 8 * PoolStats::FIELDS_PLAIN { PoolStats::FIELDS_PLAIN } else { PoolStats::FIELDS };
        for field in &mut array[..fields] {
            *field = d.i64("statistics")?;
        }
        let stats = PoolStats::from_array(array);
        if stats != PoolStats::default() {
            pools.insert(keys::parse_statistics(&key)?, stats);
        }
    }
    for (key, _) in reaps {
        inner.reaps.borrow_mut().push_back(keys::parse_reap(&key)?);
    }
    Ok(())
}

/// Why replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A record.
    #[error(transparent)]
    Apply(#[from] super::apply::ApplyError),
    /// A shard that a deferred payload belongs to.
    #[error(transparent)]
    Store(#[from] crate::object_store::StoreError),
}

impl Inner {
    /// Whether, in the final state, objects share a block that was born so. Its object may have gone since the payload
    /// was deferred, and left it to a clone.
    ///
    /// `known` has the shares of those births that were asked for before, by address.
    async fn is_shared_block(
        &self,
        address: u64,
        birth: u64,
        known: &mut BTreeMap<u64, BTreeMap<u64, Share>>,
    ) -> crate::StoreResult<bool> {
        if self.options.fault.is(Planted::DeferredOfSharedDropped) {
            return Ok(false);
        }
        let shares = match known.entry(birth) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.shares_of(birth).await?),
        };
        let nearest = shares.range(..=address).next_back();
        Ok(nearest.is_some_and(|(start, share)| share.has((address - start) / self.block)))
    }

    /// What is shared of the blobs that were born so.
    async fn shares_of(&self, birth: u64) -> crate::StoreResult<BTreeMap<u64, Share>> {
        let (mut from, end) = (keys::share(birth, 0), keys::after(&keys::share(birth, u64::MAX)));
        let mut shares = BTreeMap::new();
        let pin = self.overlay.pin();
        loop {
            let page = pin.scan(&*self.kv, from, end.clone(), SHARES_PAGE).await;
            let page = page.map_err(|error| self.kv_failed(&error))?;
            for (key, value) in &page.entries {
                let share =
                    keys::parse_share(key).and_then(|(_, start)| Ok((start, Share::decode(value.clone())?)));
                let (start, share) = share.map_err(|error| self.corrupt("share", key, &error))?;
                shares.insert(start, share);
            }
            match page.entries.last().filter(|_| page.more) {
                Some((last, _)) => from = keys::after(last),
                None => return Ok(shares),
            }
        }
    }

    /// Applies the chain: first everything, then the deferred payloads that still have an owner.
    async fn replay(&self, groups: Vec<Group>) -> Result<(), ReplayError> {
        let mut deferred = Vec::new();
        for group in groups {
            self.counters.replayed_groups.add(1);
            let numbers = group.header.first_record..;
            for (record, items) in numbers.zip(group.records) {
                self.counters.replayed_records.add(1);
                self.apply(record, &items, Mode::Replay)?;
                for item in items {
                    match item {
                        Item::Deferred(payload) => deferred.push((record, payload)),
                        Item::Statistics(..) if self.options.fault.is(Planted::MergeAppliedTwiceOnReplay) => {
                            self.apply(record, &[item], Mode::Replay)?;
                        }
                        _ => {}
                    }
                }
            }
        }
        let step = usize::try_from(self.block).unwrap_or(usize::MAX);
        let mut shares = BTreeMap::new();
        for (record, payload) in deferred {
            let shard = match self.final_shard(&payload.onode, payload.shard).await {
                // Nobody can read what it describes either.
                Err(StoreError::Io(reason)) if self.purpose == Purpose::Repair => {
                    log::warn!("what the journal has for it is dropped: {reason}");
                    None
                }
                shard => shard?,
            };
            for (at, start) in (payload.address..).step_by(step).zip((0..payload.payload.len()).step_by(step))
            {
                let end = (start + step).min(payload.payload.len());
                let is_own = shard.as_ref().is_some_and(|shard| shard.owns(at, payload.birth, self.block));
                let owned = is_own || self.is_shared_block(at, payload.birth, &mut shares).await?;
                if owned || self.options.fault.is(Planted::DeferredAppliedToForeignRange) {
                    self.deferred.add(record, at, &payload.payload.slice(start..end));
                    self.counters.replay_deferred_blocks.add(1);
                } else {
                    self.counters.replay_deferred_foreign.add(1);
                }
            }
        }
        Ok(())
    }

    async fn final_shard(&self, onode: &Bytes, number: u32) -> crate::StoreResult<Option<Shard>> {
        let shard_key = keys::shard(onode, number);
        let values = self.fetch(vec![onode.clone(), shard_key.clone()]).await?;
        let mut values = values.into_iter();
        let (Some(Some(value)), Some(Some(shard))) = (values.next(), values.next()) else { return Ok(None) };
        let object = match keys::parse_object(onode) {
            Ok(ObjectKey::Onode(object)) => object,
            Ok(ObjectKey::Shard(..)) => {
                let error = DecodeError::Value { what: "key of an onode", at: 0, value: 0 };
                return Err(self.corrupt("deferred payload", onode, &error));
            }
            Err(error) => return Err(self.corrupt("deferred payload", onode, &error)),
        };
        let found = Onode::decode(value, onode, &object);
        let found = found.map_err(|error| self.corrupt("onode", onode, &error))?;
        let shard = Shard::decode(shard, number, found.shard_span, self.block)
            .map_err(|error| self.corrupt("extent map", &shard_key, &error))?;
        Ok(Some(shard))
    }
}
