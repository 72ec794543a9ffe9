//! [`Database`]: an open RocksDB, and what is done with it. Everything here blocks and runs on foreign threads.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bluefs::fs::{BlueFs, Move};
use bluefs::kv::{
    Amount, Compact, Extent, KvBatch, KvError, KvOp, KvResult, KvStats, ScanLimit, ScanPage, Turns, granule,
    headroom, room_for,
};
use bytes::Bytes;
use rocksdb::statistics::Ticker;
use rocksdb::{
    BottommostLevelCompaction, Cache, ColumnFamily, CompactOptions, DB, ErrorKind, FlushOptions, Options,
    Range, ReadOptions, Snapshot, WaitForCompactOptions, WriteBatch, WriteBufferManager, WriteOptions,
};
use rt::Nanos;

use crate::env::bluefs_env;
use crate::families::{FAMILIES, REST, cut, family_of};
use crate::options::RocksOptions;
use crate::removed::{Removed, RemovedRanges};
use crate::report::{FamilyReport, RocksReport};
use crate::room::{Costs, Sorted, costs};

/// A flush or a compaction that finds no room, against all reckoning, waits so long for some: its failure is final.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Database {
    db: DB,
    /// Of this database: they have its counts.
    counted: Options,
    cache: Cache,
    tables: WriteBufferManager,
    fs: BlueFs,
    options: RocksOptions,
    /// When what was removed is compacted for space.
    turns: Mutex<Turns>,
    /// Compactions for space so far.
    compactions: AtomicU64,
    /// What was removed up to this sequence number was compacted while an older view may have kept it; 0 if none did.
    kept: AtomicU64,
    /// The next compaction is to drop that.
    drops_kept: AtomicBool,
    ranges: Mutex<RemovedRanges>,
    /// A compaction for space waits for the one under way.
    is_space_wanted: AtomicBool,
    /// Headroom to keep, bytes.
    wanted: AtomicU64,
}

/// A snapshot that keeps its database open.
pub(crate) struct HeldSnapshot {
    // Before the database, because fields are dropped in this order.
    snapshot: Snapshot<'static>,
    database: Arc<Database>,
}

/// What became of some batches, in their order, and the state after them.
pub(crate) struct Applied {
    pub(crate) results: Vec<KvResult<()>>,
    pub(crate) snapshot: Arc<HeldSnapshot>,
    pub(crate) stats: KvStats,
}

/// What is sure to fit, and what that was reckoned from.
struct Room {
    costs: Costs,
    /// Bytes free, with what a compaction under way has written.
    free: u64,
    headroom: u64,
    unit: u64,
    /// In sorted files.
    stored: Amount,
}

/// RocksDB's own unit of what it counts in a cache without keeping it there, bytes.
const CHARGE_BYTES: usize = 256 << 10;
/// Files of the last level that are compacted, with what lies above them, before other compactions have their turn.
const FILES_PER_TURN: usize = 16;

/// Units of headroom that so many files of a unit each cost, compacted once.
fn headroom_of_units(files: u64) -> u64 {
    (2 * files).div_ceil(4)
}

fn kv_error(error: rocksdb::Error) -> KvError {
    match error.kind() {
        ErrorKind::Corruption => KvError::Corrupt(error.into_string()),
        _ => KvError::Io(error.into_string()),
    }
}

impl Database {
    pub(crate) fn open(fs: BlueFs, options: RocksOptions) -> KvResult<Self> {
        fs.be_patient(PATIENCE);
        let env = bluefs_env(fs.clone())?;
        let cache = options.cache();
        // It does not stop writers: the engine admits no more than what is sure to fit.
        let tables = WriteBufferManager::new_write_buffer_manager_with_cache(
            options.memtable_bytes,
            false,
            cache.clone(),
        );
        let counted = options.database(&env, &tables);
        let families = options.families(&env, &cache);
        let db = DB::open_cf_descriptors(&counted, &options.dir, families).map_err(kv_error)?;
        let database = Self {
            db,
            counted,
            cache,
            tables,
            fs,
            options,
            turns: Mutex::default(),
            compactions: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            drops_kept: AtomicBool::new(false),
            ranges: Mutex::default(),
            is_space_wanted: AtomicBool::new(false),
            wanted: AtomicU64::new(0),
        };
        database.keep_room(0)?;
        Ok(database)
    }

    /// Applies batches in order. One that is refused does not stop those after it; an error does.
    pub(crate) fn apply(self: &Arc<Self>, batches: Vec<KvBatch>) -> Applied {
        let mut broken = None;
        let mut results = Vec::new();
        for batch in batches {
            let result = match &broken {
                Some(error) => Err(KvError::clone(error)),
                None => self.check_room(batch.bytes()).and_then(|()| self.write(batch)),
            };
            broken = broken.or(result.clone().err().filter(|error| !matches!(error, KvError::Full(_))));
            results.push(result);
        }
        Applied { results, snapshot: self.snapshot(), stats: self.stats() }
    }

    /// Refuses what RocksDB might not find room for, if nothing is to be had: running out inside it would be final.
    /// Whoever applies no more than the headroom is never refused; half of that is room for a batch while nothing else
    /// is applied, and compactions that need the rest wait.
    fn check_room(&self, bytes: u64) -> KvResult<()> {
        let room = self.room()?;
        let headroom = room.headroom;
        if bytes / 2 <= headroom {
            return Ok(());
        }
        self.keep_room_as(&room, bytes)?;
        if !self.fs.with(|machine| Ok(machine.is_refused())).map_err(fs_error)? {
            return Ok(());
        }
        Err(KvError::Full(format!("{bytes} bytes to apply, headroom of {headroom}, none to be had")))
    }

    fn write(&self, batch: KvBatch) -> KvResult<()> {
        let mut write = WriteBatch::default();
        let mut ranges = Vec::new();
        let mut deletes = 0;
        for op in batch.ops {
            match op {
                KvOp::Put(key, value) => write.put_cf(self.family(family_of(&key)), key, value),
                KvOp::Delete(key) => {
                    deletes += 1;
                    write.delete_cf(self.family(family_of(&key)), key);
                }
                KvOp::Merge(key, operand) => write.merge_cf(self.family(family_of(&key)), key, operand),
                // An empty end is no bound for a scan, but nothing at all for a deletion.
                KvOp::DeleteRange(_, end) if end.is_empty() => {}
                KvOp::DeleteRange(start, end) => {
                    for (family, from, to) in cut(&start, &end) {
                        write.delete_range_cf(self.family(family), &from, &to);
                        ranges.push((family, from, to));
                    }
                }
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(write, &options).map_err(kv_error)?;
        if deletes > 0 || !ranges.is_empty() {
            self.count_removed(deletes, &ranges);
        }
        self.with_ranges(|all| ranges.into_iter().for_each(|(family, from, to)| all.wrote(family, from, to)));
        Ok(())
    }

    /// Counts what is removed, once that matters.
    fn count_removed(&self, keys: u64, ranges: &[(&'static str, Bytes, Bytes)]) {
        let counts = self.with_turns(|turns| turns.counts());
        let within = |(family, from, to): &(&'static str, Bytes, Bytes)| -> u64 {
            let range = Range::new(from, to);
            self.db.get_approximate_sizes_cf(self.family(family), &[range]).into_iter().sum()
        };
        // Of a range without an end RocksDB does not tell.
        let bounded = ranges.iter().filter(|(_, _, to)| counts && !to.is_empty());
        let bytes = bounded.map(within).sum();
        self.with_turns(|turns| turns.removed(Amount { keys, bytes }));
    }

    fn with_turns<T>(&self, work: impl FnOnce(&mut Turns) -> T) -> T {
        // Nothing that is done with them panics half-way.
        work(&mut self.turns.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_ranges<T>(&self, work: impl FnOnce(&mut RemovedRanges) -> T) -> T {
        // Nothing that is done with them panics half-way.
        work(&mut self.ranges.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Compactions begin by themselves from now on, in every family, whatever one says: RocksDB takes the option before it writes a
    /// file of options, so an error is only of that.
    pub(crate) fn begin_compacting(&self) -> KvStats {
        for name in FAMILIES {
            let set = self.db.set_options_cf(self.family(name), &[("disable_auto_compactions", "false")]);
            if let Err(error) = set {
                log::warn!("the key-value store's options of {name:?} are not on the device: {error}");
            }
        }
        self.stats()
    }

    /// Keeps up to so many bytes of blocks in memory.
    pub(crate) fn set_cache_bytes(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.cache.clone().set_capacity(bytes.saturating_add(self.options.memtable_bytes));
    }

    /// Bytes of memtables, and of blocks in the cache.
    fn memory(&self) -> (u64, u64) {
        let tables = self.tables.get_usage();
        // What memtables take is in the cache by pieces of this size.
        let charged = tables.next_multiple_of(CHARGE_BYTES);
        let blocks = self.cache.get_usage().saturating_sub(charged);
        let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        (wide(tables), wide(blocks))
    }

    /// Makes durable what was written before.
    pub(crate) fn flush(&self) -> KvResult<KvStats> {
        let families: Vec<&ColumnFamily> = FAMILIES.iter().map(|name| self.family(name)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let ranges = self.with_ranges(RemovedRanges::flushing);
        self.db.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &options).map_err(kv_error)?;
        self.with_ranges(|all| all.flushed(ranges));
        self.check_background()?;
        self.keep_room(0)?;
        Ok(self.stats())
    }

    /// What is sure to fit now, and what it is reckoned from.
    fn room(&self) -> KvResult<Room> {
        // First what is free: should a compaction end in between, its inputs are taken for what it writes, and are free
        // soon.
        let measured = self.fs.with(|machine| {
            let unit = u64::from(machine.superblock().alloc_unit);
            Ok((unit, machine.room_ahead(), machine.allocated(&self.options.dir)))
        });
        let (unit, ahead, allocated) = measured.map_err(fs_error)?;
        let mut live = BTreeSet::new();
        let mut files = Vec::new();
        let mut stored = Amount::default();
        for file in self.db.live_files().map_err(kv_error)? {
            stored.keys += file.num_entries;
            stored.bytes += u64::try_from(file.size).unwrap_or_default();
            live.insert(file.name.trim_start_matches('/').to_owned());
            files.push(Sorted {
                family: file.column_family_name,
                level: file.level,
                bytes: u64::try_from(file.size).unwrap_or(u64::MAX / 2),
            });
        }
        // What a compaction writes now replaces what is live and counts; it is removed if the compaction fails.
        let sum = |wanted: &dyn Fn(&String) -> bool| -> u64 {
            allocated.iter().filter(|(name, _)| wanted(name)).map(|(_, bytes)| bytes).sum()
        };
        let passing = sum(&|name| name.ends_with(".sst") && !live.contains(name));
        let manifest = sum(&|name| name.starts_with("MANIFEST"));
        let free = ahead + passing;
        let base =
            |family: &str| i32::try_from(self.number(family, "rocksdb.base-level")).unwrap_or_default();
        let mut costs = costs(&files, base, self.options.file_bytes, unit);
        // It grows until it is replaced.
        costs.fixed += self.options.manifest_bytes().saturating_sub(manifest);
        Ok(Room { costs, free, headroom: headroom(free, costs.compaction, costs.fixed), unit, stored })
    }

    /// Has BlueFS keep room for so much headroom, or what is always wanted if that is more; a compaction leaves to
    /// flushes what they need of it. True while its lender has not answered.
    pub(crate) fn keep_room(&self, headroom: u64) -> KvResult<bool> {
        self.keep_room_as(&self.room()?, headroom)
    }

    fn keep_room_as(&self, room: &Room, headroom: u64) -> KvResult<bool> {
        let wanted = headroom.max(self.wanted.load(Ordering::Relaxed));
        let Costs { compaction, fixed } = room.costs;
        self.fs
            .with(|machine| {
                machine.set_aside(room_for(room.headroom / 2, 0, fixed));
                Ok(())
            })
            .and_then(|()| self.fs.keep_room(room_for(wanted, compaction, fixed)))
            .map_err(fs_error)
    }

    /// See the seam.
    pub(crate) fn give_back(
        &self,
        bytes: u64,
        keep: u64,
        among: &[Extent],
    ) -> KvResult<(Vec<Extent>, KvStats)> {
        let room = self.room()?;
        self.keep_room_as(&room, keep)?;
        let Costs { compaction, fixed } = room.costs;
        let keep = room_for(keep, compaction, fixed);
        let given = self.fs.give_back(bytes, granule(room.unit), keep, among).map_err(fs_error)?;
        Ok((given, self.stats()))
    }

    /// See the seam.
    pub(crate) fn move_back(&self, bytes: u64) -> KvResult<(u64, KvStats)> {
        let moved = self.fs.move_files(Move::IntoFast, bytes).map_err(fs_error)?;
        Ok((moved, self.stats()))
    }

    /// See the seam.
    pub(crate) fn grow(&self, device_bytes: u64) -> KvResult<KvStats> {
        self.fs.grow_device(device_bytes).map_err(fs_error)?;
        Ok(self.stats())
    }

    /// See the seam.
    pub(crate) fn grow_fast(&self, fast: Extent) -> KvResult<KvStats> {
        self.fs.grow_fast(fast).map_err(fs_error)?;
        Ok(self.stats())
    }

    /// Writes BlueFS's log anew if that is half full.
    pub(crate) fn rewrite_log(&self) -> KvResult<()> {
        self.fs.rewrite_log().map(drop).map_err(fs_error)
    }

    /// Wants so much headroom from now on.
    pub(crate) fn want(&self, headroom: u64) -> KvResult<KvStats> {
        self.wanted.store(headroom, Ordering::Relaxed);
        self.keep_room(headroom)?;
        Ok(self.stats())
    }

    /// Whether BlueFS's lender has not answered yet; its answer counts from then on.
    pub(crate) fn is_asking(&self) -> KvResult<bool> {
        self.fs.is_asking().map_err(fs_error)
    }

    /// Whether to compact: there is less headroom than wanted, or than is always wanted, and no more to be had; or whatever
    /// there is. See [`Turns`]. Once more when no view is left that kept what was removed.
    pub(crate) fn take_turn_to_compact(
        &self,
        wanted: Option<u64>,
        compact: Compact,
        now: Nanos,
    ) -> KvResult<bool> {
        if wanted.is_some() && !self.fs.with(|machine| Ok(machine.is_refused())).map_err(fs_error)? {
            return Ok(false);
        }
        let room = self.room()?;
        if wanted.is_some_and(|wanted| room.headroom >= wanted.max(self.wanted.load(Ordering::Relaxed))) {
            return Ok(false);
        }
        let kept = self.kept.load(Ordering::Relaxed);
        let is_free = kept > 0 && self.oldest_view() >= kept;
        if is_free {
            self.kept.store(0, Ordering::Relaxed);
            self.drops_kept.store(true, Ordering::Relaxed);
        }
        Ok(self.with_turns(|turns| {
            if is_free {
                turns.kept();
            }
            turns.take(compact, room.stored, now)
        }))
    }

    /// The sequence number of the oldest view.
    fn oldest_view(&self) -> u64 {
        match self.number(REST, "rocksdb.oldest-snapshot-sequence") {
            0 => u64::MAX,
            number => number,
        }
    }

    /// A failure of RocksDB's own threads, which may have happened long ago.
    pub(crate) fn check_background(&self) -> KvResult<()> {
        match self.number(REST, "rocksdb.background-errors") {
            0 => Ok(()),
            errors => Err(KvError::Io(format!("{errors} background errors of RocksDB"))),
        }
    }

    pub(crate) fn snapshot(self: &Arc<Self>) -> Arc<HeldSnapshot> {
        let snapshot: Snapshot<'_> = self.db.snapshot();
        // SAFETY: only the lifetime changes. The snapshot borrows the database, which the Arc beside it keeps in
        // place and alive until after the snapshot is dropped; neither ever leaves the HeldSnapshot.
        #[expect(unsafe_code, reason = "a snapshot beside the database it borrows")]
        let snapshot = unsafe { std::mem::transmute::<Snapshot<'_>, Snapshot<'static>>(snapshot) };
        Arc::new(HeldSnapshot { snapshot, database: Arc::clone(self) })
    }

    /// Waits for flushes and compactions under way to end, and starts no more.
    pub(crate) fn stop(&self) {
        self.db.cancel_all_background_work(true);
    }

    /// Ends compactions under way; there will be no more.
    pub(crate) fn cancel_compaction(&self) {
        self.db.cancel_all_background_work(false);
    }

    /// Compacts until there is nothing to compact. Each compaction excludes others, which would keep what they were chosen
    /// for, inputs of those before them included; and it is about a few files, so that others, which flushes may wait for,
    /// have their turn.
    pub(crate) fn compact(&self) -> KvResult<()> {
        let ranges = self.with_ranges(RemovedRanges::take_all);
        let now = self.db.latest_sequence_number();
        // It is in the last level by now, which is left alone otherwise.
        let last_level = match self.drops_kept.swap(false, Ordering::Relaxed) {
            true => BottommostLevelCompaction::ForceOptimized,
            false => BottommostLevelCompaction::IfHaveCompactionFilter,
        };
        for family in FAMILIES {
            self.compact_within(family, &Bytes::new(), &Bytes::new(), last_level)?;
        }
        let is_kept = self.oldest_view() < now;
        self.kept.store(if is_kept { now } else { 0 }, Ordering::Relaxed);
        let tombstones = ranges.iter().map(|range| range.tombstones).sum();
        self.with_ranges(|ranges| ranges.compacted_more(tombstones));
        self.compactions.fetch_add(1, Ordering::Relaxed);
        self.compacted()
    }

    /// A compaction that had its turn ended.
    pub(crate) fn end_turn(&self, now: Nanos) {
        self.with_turns(|turns| turns.end(now));
    }

    /// Whether so many ranges were removed that they are worth a compaction.
    pub(crate) fn has_ranges_to_compact(&self) -> bool {
        self.with_ranges(|ranges| ranges.are_many())
    }

    /// Compacts what was removed by ranges, as [`Self::compact`] does everything, so that seeks need not step over tombstones.
    pub(crate) fn compact_ranges(&self) -> KvResult<()> {
        let mut ranges = self.with_ranges(RemovedRanges::take).into_iter();
        while !self.is_space_wanted.load(Ordering::Relaxed) {
            let Some(Removed { family, from, to, tombstones }) = ranges.next() else { break };
            self.compact_within(family, &from, &to, BottommostLevelCompaction::IfHaveCompactionFilter)?;
            self.with_ranges(|ranges| ranges.compacted_more(tombstones));
        }
        self.with_ranges(|all| all.put_back(ranges.collect()));
        self.compacted()
    }

    /// Who compacts what was removed by ranges is to let somebody else have his turn, who needs the space.
    pub(crate) fn want_space(&self, is_wanted: bool) {
        self.is_space_wanted.store(is_wanted, Ordering::Relaxed);
    }

    /// Compacts a range of a family; an empty end has no bound.
    fn compact_within(
        &self,
        family: &str,
        from: &Bytes,
        to: &Bytes,
        last_level: BottommostLevelCompaction,
    ) -> KvResult<()> {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(true);
        options.set_bottommost_level_compaction(last_level);
        let is_inside = |cut: &Vec<u8>| cut[..] > from[..] && (to.is_empty() || cut[..] < to[..]);
        let cuts: Vec<_> = self.cuts(family)?.into_iter().filter(is_inside).collect();
        let mut from = Some(from.to_vec());
        for to in cuts.into_iter().chain([to.to_vec()]) {
            let bound = Some(&to[..]).filter(|to| !to.is_empty());
            self.db.compact_range_cf_opt(self.family(family), from.as_deref(), bound, &options);
            from = Some(to);
        }
        Ok(())
    }

    fn compacted(&self) -> KvResult<()> {
        self.db.wait_for_compact(&WaitForCompactOptions::default()).map_err(kv_error)?;
        self.check_background()?;
        self.keep_room(0).map(|_| ())
    }

    /// Keys that part a family into what lies above a few files of its last level each.
    fn cuts(&self, family: &str) -> KvResult<Vec<Vec<u8>>> {
        let files = self.db.live_files().map_err(kv_error)?;
        let of_family = || files.iter().filter(|file| file.column_family_name == family);
        let last = of_family().map(|file| file.level).max();
        let mut firsts: Vec<Vec<u8>> = of_family()
            .filter(|file| Some(file.level) == last)
            .filter_map(|file| file.start_key.clone())
            .collect();
        firsts.sort();
        Ok(firsts.into_iter().step_by(FILES_PER_TURN).skip(1).collect())
    }

    pub(crate) fn stats(&self) -> KvStats {
        let fs = self.fs.stats();
        let (memtables, cache_bytes) = self.memory();
        let wanted = self.wanted.load(Ordering::Relaxed);
        let spare =
            |room: &Room| room.free.saturating_sub(room_for(wanted, room.costs.compaction, room.costs.fixed));
        // A database that failed says so to whoever uses it next.
        let (headroom, unit, spare_bytes, free_bytes) =
            self.room().map_or((0, 0, 0, 0), |room| (room.headroom, room.unit, spare(&room), room.free));
        KvStats {
            device_bytes: fs.space_bytes - fs.free_bytes,
            memory_bytes: memtables + cache_bytes + fs.buffered_bytes,
            cache_bytes,
            tables_bytes_max: self.options.tables_bytes_max(),
            cache_misses: self.counted.get_ticker_count(Ticker::BlockCacheMiss),
            written_files: fs.written_files,
            written_log: fs.written_log,
            flushes: fs.flushes,
            headroom_bytes: Some(headroom),
            // A file of each family ends in a unit of its own; so it does after a compaction; and the manifest grows.
            flush_bytes: headroom_of_units(FAMILIES.len() as u64 + 1) * unit,
            spare_bytes,
            free_bytes,
            fast_bytes: fs.fast_bytes,
            fast_free_bytes: fs.fast_free_bytes,
            spilled_bytes: fs.spilled_bytes,
            ranges_compacted: self.with_ranges(|ranges| ranges.compacted()),
            compactions: self.compactions.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn report(&self) -> RocksReport {
        let family = |name: &&'static str| FamilyReport {
            name,
            keys_estimated: self.number(name, "rocksdb.estimate-num-keys"),
            memtable_bytes: self.number(name, "rocksdb.cur-size-all-mem-tables"),
            file_bytes: self.number(name, "rocksdb.total-sst-files-size"),
            compaction_pending_bytes: self.number(name, "rocksdb.estimate-pending-compaction-bytes"),
        };
        RocksReport {
            families: FAMILIES.iter().map(family).collect(),
            block_cache_bytes: self.number(REST, "rocksdb.block-cache-usage"),
            flushes_running: self.number(REST, "rocksdb.num-running-flushes"),
            compactions_running: self.number(REST, "rocksdb.num-running-compactions"),
            background_errors: self.number(REST, "rocksdb.background-errors"),
            text: self.db.property_value("rocksdb.stats").ok().flatten().unwrap_or_default(),
            fs: self.fs.stats(),
        }
    }

    /// A property of RocksDB; 0 if it does not have it.
    fn number(&self, family: &str, property: &str) -> u64 {
        self.db.property_int_value_cf(self.family(family), property).ok().flatten().unwrap_or(0)
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        let Some(family) = self.db.cf_handle(name) else {
            panic!("family {name} was opened with the database")
        };
        family
    }
}

fn fs_error(error: bluefs::fs::FsError) -> KvError {
    KvError::Io(error.to_string())
}

impl HeldSnapshot {
    fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options
    }

    pub(crate) fn get(&self, keys: Vec<Bytes>) -> KvResult<Vec<Option<Bytes>>> {
        let database = &self.database;
        let with_families = keys.iter().map(|key| (database.family(family_of(key)), key));
        let found = database.db.multi_get_cf_opt(with_families, &self.read_options());
        found.into_iter().map(|value| Ok(value.map_err(kv_error)?.map(Bytes::from))).collect()
    }

    pub(crate) fn scan(&self, start: Bytes, end: Bytes, limit: ScanLimit) -> KvResult<ScanPage> {
        let mut page = ScanPage::default();
        let mut bytes = 0;
        for (family, from, to) in cut(&start, &end) {
            let mut options = self.read_options();
            if !to.is_empty() {
                options.set_iterate_upper_bound(to.to_vec());
            }
            let mut at = self.database.db.raw_iterator_cf_opt(self.database.family(family), options);
            at.seek(&from);
            while let Some((key, value)) = at.item() {
                if limit.is_reached(page.entries.len(), bytes) {
                    page.more = true;
                    return Ok(page);
                }
                bytes += key.len() + value.len();
                page.entries.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                at.next();
            }
            at.status().map_err(kv_error)?;
        }
        Ok(page)
    }
}
