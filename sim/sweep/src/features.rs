//! What a life must have done to be worth a sweep: every feature of the store left a trace in a counter.

use store::ChecksumKind;

use crate::life::Totals;
use crate::stack::Setup;

/// Counter, the least that is worth it over a workload of three rounds, and the feature.
const ALWAYS: [(&str, u64, &str); 21] = [
    ("shards_beyond_first", 3, "extent maps of several shards"),
    ("blocks_read_to_modify", 10, "overwriting parts of blocks"),
    ("deferred_blocks", 10, "deferred writes"),
    ("shares_begun", 3, "clones and clones of ranges"),
    ("shares_ended", 1, "blobs that are one object's alone again"),
    ("compress_accepted", 5, "compression"),
    ("leftovers_moved", 1, "what is left of compressed blobs moving out of them"),
    ("omaps_reaped", 3, "omaps removed as ranges"),
    ("journal_wraps", 3, "the journal going around"),
    ("groups_bare", 3, "groups that seal"),
    ("checkpoints", 8, "checkpoints"),
    ("pg_log_bytes_written", 64 << 10, "the log of placement groups"),
    ("superblock_bytes_written", 3 * 8192, "superblocks"),
    ("released_bytes", 256 << 10, "space used again"),
    ("lent_bytes", 64 << 10, "space lent to the key-value store"),
    ("fs_groups", 30, "the log of BlueFS"),
    ("fs_compactions", 4, "a log of BlueFS written anew beside those of mounts"),
    ("fs_files_removed", 3, "compaction of the key-value store"),
    ("data_bytes_written", 1 << 20, "new space"),
    ("transactions", 100, "transactions"),
    ("cache_misses", 1, "metadata read again"),
];

/// The same of setups with a device for keys.
const WITH_DB: [(&str, u64, &str); 2] = [
    ("fs_spilled_bytes", 4096, "keys that spill to the main device"),
    ("moved_back_bytes", 4096, "keys that move back"),
];

/// Where what is small is kept among the keys.
const WITH_INLINE: (&str, u64, &str) = ("shards_inline", 3, "small objects among the keys");

/// Where whole blocks are not deferred.
const WITHOUT_WHOLE_DEFERRED: (&str, u64, &str) = ("overwrites_short", 20, "the way of usual overwrites");

/// Where checksums protect what is written.
const WITH_CHECKSUMS: (&str, u64, &str) = ("chunks_split", 10, "several blocks under one checksum");

/// The features that a life of the whole workload did not touch, or too little; one line each.
pub fn untouched(setup: &Setup, totals: &Totals) -> Vec<String> {
    let beside = WITH_DB.into_iter().filter(|_| setup.devices.db.is_some());
    let inline = Some(WITH_INLINE).filter(|_| setup.options.inline_bytes_max > 0);
    let checksums = Some(WITH_CHECKSUMS).filter(|_| setup.options.checksum != ChecksumKind::None);
    let overwrites = Some(WITHOUT_WHOLE_DEFERRED).filter(|_| setup.options.deferred_whole_max == 0);
    let wanted = ALWAYS.into_iter().chain(beside).chain(inline).chain(checksums).chain(overwrites);
    let missed = wanted.filter_map(|(name, least, feature)| {
        let count = totals.counters.get(name).copied().unwrap_or_default();
        (count < least).then(|| format!("{feature}: {name} is {count}, at least {least} is worth a sweep"))
    });
    missed.collect()
}
