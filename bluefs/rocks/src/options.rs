//! [`RocksOptions`], and RocksDB's own options made from them.

use bluefs::fs::limits::ALLOC_UNIT_DEFAULT;
use bluefs::kv::{merge, merge_operator};
use rocksdb::statistics::StatsLevel;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, Env,
    InfoLogger, LogLevel, MergeOperands, Options, WriteBufferManager,
};

use crate::families::{FAMILIES, NODES};

/// Most files that one compaction below level 0 takes.
pub(crate) const COMPACTION_FILES: u64 = 8;

/// Allocation units that a sorted file has at least, where the device allows.
const UNITS_PER_FILE: u64 = 64;
/// What a flush and a compaction hold of what they read and write, bytes.
const BUFFERS_BYTES: u64 = 8 << 20;
/// Part of an index or of a filter that is read at once, bytes.
const META_BLOCK_BYTES: usize = 4 << 10;
/// Keys of an index of which one is stored as a whole.
const INDEX_KEYS_PER_RESTART: i32 = 16;
/// Smallest allocation unit, bytes.
const ALLOC_UNIT_LEAST: u64 = 4096;

/// Sizes. Everything else is fixed: one tuned configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// Directory in BlueFS.
    pub dir: String,
    /// Memtables of all families together are persisted at this size, bytes.
    pub memtable_bytes: usize,
    /// Cache of decompressed blocks, indexes and filters to begin with, bytes.
    pub block_cache_bytes: usize,
    /// Size of a sorted file, bytes.
    pub file_bytes: u64,
}

impl RocksOptions {
    /// For a device that may give the store about `space` bytes.
    pub fn for_space(space: u64) -> Self {
        let share = |divisor: u64, least: u64, most: u64| (space / divisor).clamp(least, most);
        let memtable_bytes = share(16, 256 << 10, 64 << 20);
        let file_bytes = share(32, 256 << 10, 32 << 20);
        Self {
            // The crate makes this directory in the real file system too, so it must be one that is there.
            dir: ".".to_owned(),
            memtable_bytes: memtable_bytes as usize,
            block_cache_bytes: share(16, 1 << 20, 256 << 20) as usize,
            file_bytes,
        }
    }

    /// With tables and a cache that leave most of so much memory to others.
    pub fn within_memory(self, bytes: u64) -> Self {
        let share =
            |divisor: u64, least: usize| usize::try_from(bytes / divisor).unwrap_or(usize::MAX).max(least);
        Self {
            memtable_bytes: self.memtable_bytes.min(share(32, 256 << 10)),
            block_cache_bytes: self.block_cache_bytes.min(share(16, 1 << 20)),
            ..self
        }
    }

    /// What is held beside the cache at worst, bytes: memtables that are written while others fill, and buffers of a flush and of
    /// a compaction.
    pub(crate) fn tables_bytes_max(&self) -> u64 {
        u64::try_from(2 * self.memtable_bytes).unwrap_or(u64::MAX) + BUFFERS_BYTES
    }

    /// What BlueFS should allocate for the store by, bytes: each file ends in a unit of its own, and a store of small
    /// files has many.
    pub fn alloc_unit(&self) -> u32 {
        let share = self.file_bytes / UNITS_PER_FILE;
        let most = u64::from(ALLOC_UNIT_DEFAULT);
        let unit = 1 << share.clamp(ALLOC_UNIT_LEAST, most).ilog2();
        unit.min(ALLOC_UNIT_DEFAULT)
    }

    /// Size at which a manifest is replaced by one that says what there is, bytes.
    pub(crate) fn manifest_bytes(&self) -> u64 {
        self.file_bytes.min(1 << 20)
    }

    pub(crate) fn database(&self, env: &Env, tables: &WriteBufferManager) -> Options {
        let mut options = Options::default();
        options.set_env(env);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // Batches span families, and there is no write-ahead log to make that whole again.
        options.set_atomic_flush(true);
        options.set_write_buffer_manager(tables);
        options.enable_statistics();
        options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
        options.set_max_background_jobs(2);
        options.set_avoid_unnecessary_blocking_io(true);
        options.set_max_open_files(512);
        options.set_max_manifest_file_size(self.manifest_bytes() as usize);
        options.set_writable_file_max_buffer_size(256 << 10);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_skip_stats_update_on_db_open(true);
        // What RocksDB has to say goes to our log, not to files on the device.
        options.set_log_level(LogLevel::Warn);
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, text| {
            log::log!(target: "rocksdb", to_log_level(level), "{}", text.trim_end());
        }));
        options
    }

    /// The cache of all families, for [`RocksOptions::families`]. What memtables take counts in it, too, so that both
    /// together are bounded by it.
    pub(crate) fn cache(&self) -> Cache {
        Cache::new_lru_cache(self.block_cache_bytes + self.memtable_bytes)
    }

    pub(crate) fn families(&self, env: &Env, cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
        let family = |name: &&str| ColumnFamilyDescriptor::new(*name, self.family(env, cache, name));
        FAMILIES.iter().map(family).collect()
    }

    fn family(&self, env: &Env, cache: &Cache, name: &str) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(cache);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_bloom_filter(10.0, false);
        // In parts: a whole one is hundreds of kilobytes, and would be read for one key where the cache is short. What says which
        // part is not pinned: it would be read of each file when the store is opened, and is soon in the cache.
        blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        blocks.set_partition_filters(true);
        blocks.set_metadata_block_size(META_BLOCK_BYTES);
        // Neighbours have most of their keys in common.
        blocks.set_index_block_restart_interval(INDEX_KEYS_PER_RESTART);
        blocks.set_pin_top_level_index_and_filter(false);
        blocks.set_format_version(5);
        // Object nodes are read one by one: small blocks decompress faster.
        blocks.set_block_size(if name == NODES { 4 << 10 } else { 16 << 10 });
        let mut options = Options::default();
        options.set_env(env);
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(self.memtable_bytes / 2);
        options.set_max_write_buffer_number(4);
        options.set_target_file_size_base(self.file_bytes);
        options.set_max_bytes_for_level_base(self.file_bytes * 4);
        // What one compaction may need is kept free, so it is bounded.
        options.set_max_compaction_bytes(self.file_bytes * COMPACTION_FILES);
        options.set_level_compaction_dynamic_level_bytes(true);
        // Until whoever opens the store has done so: one that was killed has something to go on with.
        options.set_disable_auto_compactions(true);
        options.set_merge_operator_associative("spirula", combine);
        options
    }
}

fn to_log_level(level: LogLevel) -> log::Level {
    match level {
        LogLevel::Fatal | LogLevel::Error => log::Level::Error,
        LogLevel::Warn => log::Level::Warn,
        _ => log::Level::Debug,
    }
}

/// The seam's operators as RocksDB's one. `None` makes the read fail: a merge on a key without operator cannot have
/// been written by this store.
fn combine(key: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let operator = merge_operator(key)?;
    let mut value = existing.map(<[u8]>::to_vec);
    for operand in operands {
        value = Some(merge(operator, value.as_deref(), operand).to_vec());
    }
    Some(value.unwrap_or_default())
}
