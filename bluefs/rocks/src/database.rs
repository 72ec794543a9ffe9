//! [`Database`]: an open RocksDB, and what is done with it. Everything here blocks and runs on foreign threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bluefs::fs::BlueFs;
use bluefs::kv::{KvBatch, KvError, KvOp, KvResult, KvStats, ScanLimit, ScanPage};
use bytes::Bytes;
use rocksdb::{
    ColumnFamily, DB, ErrorKind, FlushOptions, ReadOptions, Snapshot, WaitForCompactOptions, WriteBatch,
    WriteOptions,
};

use crate::env::bluefs_env;
use crate::families::{FAMILIES, REST, cut, family_of};
use crate::options::{COMPACTION_FILES, RocksOptions};
use crate::report::{FamilyReport, RocksReport};

/// See the module.
pub(crate) struct Database {
    db: DB,
    fs: BlueFs,
    options: RocksOptions,
    /// Something was removed since everything was last compacted.
    removed: AtomicBool,
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

fn kv_error(error: rocksdb::Error) -> KvError {
    match error.kind() {
        ErrorKind::Corruption => KvError::Corrupt(error.into_string()),
        _ => KvError::Io(error.into_string()),
    }
}

impl Database {
    pub(crate) fn open(fs: BlueFs, options: RocksOptions) -> KvResult<Self> {
        let env = bluefs_env(fs.clone())?;
        let families = options.families(&env);
        let db =
            DB::open_cf_descriptors(&options.database(&env), &options.dir, families).map_err(kv_error)?;
        let database = Self { db, fs, options, removed: AtomicBool::new(true) };
        database.keep_room()?;
        Ok(database)
    }

    /// Applies batches in order. One that is refused does not stop those after it; an error does.
    pub(crate) fn apply(self: &Arc<Self>, batches: Vec<KvBatch>) -> Applied {
        let mut broken = None;
        let mut results = Vec::new();
        for batch in batches {
            let result = match &broken {
                Some(error) => Err(KvError::clone(error)),
                None => self.check_room().and_then(|()| self.write(batch)),
            };
            broken = broken.or(result.clone().err().filter(|error| !matches!(error, KvError::Full(_))));
            results.push(result);
        }
        Applied { results, snapshot: self.snapshot(), stats: self.stats() }
    }

    fn check_room(&self) -> KvResult<()> {
        let room = self.fs.with(|machine| Ok((machine.room(), machine.is_denied()))).map_err(fs_error)?;
        match room {
            (room, true) if room < self.options.room_min => {
                let least = self.options.room_min;
                Err(KvError::Full(format!("{room} bytes of room, {least} needed, none to be had")))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, batch: KvBatch) -> KvResult<()> {
        let mut write = WriteBatch::default();
        for op in batch.ops {
            match op {
                KvOp::Put(key, value) => write.put_cf(self.family(family_of(&key)), key, value),
                KvOp::Delete(key) => {
                    self.removed.store(true, Ordering::Relaxed);
                    write.delete_cf(self.family(family_of(&key)), key);
                }
                KvOp::Merge(key, operand) => write.merge_cf(self.family(family_of(&key)), key, operand),
                // An empty end is no bound for a scan, but nothing at all for a deletion.
                KvOp::DeleteRange(_, end) if end.is_empty() => {}
                KvOp::DeleteRange(start, end) => {
                    self.removed.store(true, Ordering::Relaxed);
                    for (family, from, to) in cut(&start, &end) {
                        write.delete_range_cf(self.family(family), from, to);
                    }
                }
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(write, &options).map_err(kv_error)
    }

    /// Makes durable what was written before.
    pub(crate) fn flush(&self) -> KvResult<KvStats> {
        let families: Vec<&ColumnFamily> = FAMILIES.iter().map(|name| self.family(name)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &options).map_err(kv_error)?;
        self.check_background()?;
        self.keep_room()?;
        Ok(self.stats())
    }

    /// Has BlueFS keep what may be needed until the next flush and by the next compaction: its input, written anew
    /// before the old is removed, is at most a family's level 0 with the level below, or so many files.
    fn keep_room(&self) -> KvResult<()> {
        let mut upper: BTreeMap<String, (u64, BTreeMap<i32, u64>)> = BTreeMap::new();
        for file in self.db.live_files().map_err(kv_error)? {
            let (level_0, below) = upper.entry(file.column_family_name).or_default();
            let bytes = if file.level == 0 { level_0 } else { below.entry(file.level).or_default() };
            *bytes += u64::try_from(file.size).unwrap_or(u64::MAX);
        }
        let first = |below: &BTreeMap<i32, u64>| below.values().next().copied().unwrap_or(0);
        let merged = upper.values().map(|(level_0, below)| level_0 + first(below)).max().unwrap_or(0);
        let compaction = merged.max(COMPACTION_FILES * self.options.file_bytes);
        // What is applied next is persisted once, and once more by a compaction.
        let wanted = self.options.room_min + compaction + 2 * self.options.batch_bytes_max;
        self.fs.keep_room(wanted).map_err(fs_error)?;
        Ok(())
    }

    /// Whether space is scarce and a compaction would give some back. Says so once for the same removals.
    pub(crate) fn should_compact(&self) -> bool {
        let is_refused = self.fs.with(|machine| Ok(machine.is_refused())).unwrap_or(false);
        is_refused && self.removed.swap(false, Ordering::Relaxed)
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

    /// Compacts until there is nothing to compact.
    pub(crate) fn compact(&self) -> KvResult<()> {
        for name in FAMILIES {
            self.db.compact_range_cf(self.family(name), None::<&[u8]>, None::<&[u8]>);
        }
        self.db.wait_for_compact(&WaitForCompactOptions::default()).map_err(kv_error)?;
        self.check_background()?;
        self.keep_room()
    }

    pub(crate) fn stats(&self) -> KvStats {
        let fs = self.fs.stats();
        let memtables = FAMILIES.iter().map(|name| self.number(name, "rocksdb.cur-size-all-mem-tables"));
        // A file system that failed says so to whoever uses it next.
        let room = self.fs.with(|machine| Ok((machine.is_short(), machine.spare())));
        let (is_short, spare_bytes) = room.unwrap_or_default();
        KvStats {
            device_bytes: fs.space_bytes - fs.free_bytes,
            memory_bytes: memtables.sum::<u64>()
                + self.number(REST, "rocksdb.block-cache-usage")
                + fs.buffered_bytes,
            written_files: fs.written_files,
            written_log: fs.written_log,
            flushes: fs.flushes,
            is_short,
            spare_bytes,
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
