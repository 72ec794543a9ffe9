//! What can be told about an open store.

use bluefs::fs::FsStats;

/// One column family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyReport {
    /// Its name.
    pub name: &'static str,
    /// RocksDB's estimate.
    pub keys_estimated: u64,
    /// In memory, bytes.
    pub memtable_bytes: u64,
    /// In sorted files, bytes.
    pub file_bytes: u64,
    /// To be rewritten before the levels are in shape, bytes.
    pub compaction_pending_bytes: u64,
}

/// The whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RocksReport {
    /// In order of their creation.
    pub families: Vec<FamilyReport>,
    /// Blocks, indexes and filters in memory, bytes.
    pub block_cache_bytes: u64,
    /// Memtables being persisted.
    pub flushes_running: u64,
    /// Compactions running.
    pub compactions_running: u64,
    /// Failures of RocksDB's threads; any is final.
    pub background_errors: u64,
    /// RocksDB's own table of levels and stalls.
    pub text: String,
    /// BlueFS below.
    pub fs: FsStats,
}
