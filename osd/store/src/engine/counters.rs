//! What the store did since it was opened, by name.

use std::cell::Cell;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One cell per count; see the fields.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Count,)+
        }

        impl Counters {
            /// All counts, ascending by name.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                let mut all = vec![$((stringify!($name), self.$name.get()),)+];
                all.sort_unstable();
                all
            }
        }
    };
}

/// A count.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.set(self.0.get() + amount);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

counters! {
    /// Transactions that took effect.
    transactions,
    /// Transactions refused.
    transactions_refused,
    /// Transactions that took the way of usual overwrites.
    overwrites_short,
    /// Blocks with whose data a checksum came.
    blocks_summed_before,
    /// Nanoseconds that transactions waited for those before them on their collections, all together; so are the next.
    stage_turn_ns,
    /// … loaded the metadata that they change.
    stage_load_ns,
    /// … read blocks of which a part stays.
    stage_read_ns,
    /// … were compressed.
    stage_compress_ns,
    /// … waited for room in the journal and the key-value store, and for space.
    stage_admit_ns,
    /// … were turned into blocks and records; large ones until their data was written.
    stage_effect_ns,
    /// … waited, readable already, for their group to be durable.
    stage_durable_ns,
    /// Nanoseconds that writes of groups took.
    group_write_ns,
    /// Nanoseconds that flushes for groups took.
    flush_ns,
    /// Records written, internal ones included.
    records,
    /// Journal groups written.
    groups,
    /// Groups without a record.
    groups_bare,
    /// Bytes of data written to new space.
    data_bytes_written,
    /// Bytes of journal written, padding included.
    journal_bytes_written,
    /// Bytes of deferred payload written in place.
    deferred_bytes_written,
    /// Bytes of the placement groups' log written.
    pg_log_bytes_written,
    /// Bytes of superblocks written.
    superblock_bytes_written,
    /// Bytes of keys and values given to the key-value store by checkpoints.
    checkpoint_bytes,
    /// Checkpoints.
    checkpoints,
    /// Device flushes.
    flushes,
    /// Blobs that were compressed.
    compress_accepted,
    /// Runs of blocks that were written as they came, because compressing them saved too little or left no space for it in
    /// one piece.
    compress_rejected,
    /// Transactions that moved what was left of compressed blobs out of them.
    leftovers_moved,
    /// Shards written with the object's bytes in them.
    shards_inline,
    /// Shards written beside the first one of their object.
    shards_beyond_first,
    /// Blocks written by deferral.
    deferred_blocks,
    /// Deferred blocks that a later payload made needless.
    deferred_coalesced,
    /// Bytes read from the device for clients.
    data_bytes_read,
    /// Blocks read in order to overwrite a part of them.
    blocks_read_to_modify,
    /// Checksums that did not match what was read at first.
    checksum_mismatches,
    /// Blocks that could not be read and that a copy had.
    blocks_healed,
    /// Chunks, which are blocks under one checksum, of which a part changed or went.
    chunks_split,
    /// Of these, those of which something stays that nothing verifies: they did not match, or could not be read.
    chunks_damaged,
    /// Onodes and shards found in memory.
    cache_hits,
    /// Onodes and shards fetched from the key-value store.
    cache_misses,
    /// Blocks read ahead of what was asked for.
    read_ahead_blocks,
    /// Bytes that moved to be in fewer pieces.
    defragmented_bytes,
    /// Pieces that they were in.
    defragmented_from,
    /// Pieces that they are in now.
    defragmented_to,
    /// Bytes that moved out of windows that were being cleared.
    cleared_moved_bytes,
    /// Bytes of windows that were cleared: each is one run of free space.
    cleared_bytes,
    /// Blobs that became shared.
    shares_begun,
    /// Blobs that are one object's alone again, or gone.
    shares_ended,
    /// Omaps whose entries were removed in the background.
    omaps_reaped,
    /// Bytes of space given back for use.
    released_bytes,
    /// Tasks spawned: the hand-offs within the core.
    tasks,
    /// Times the journal went around its ring.
    journal_wraps,
    /// Groups that the last mount replayed.
    replayed_groups,
    /// Records that the last mount replayed.
    replayed_records,
    /// Groups at the end of the chain that the last mount left out because their data was not there.
    replay_truncated_groups,
    /// Deferred blocks that the last mount found still to be written in place.
    replay_deferred_blocks,
    /// Deferred blocks that the last mount left out because their blob is gone.
    replay_deferred_foreign,
    /// Transactions that waited for journal or overlay space.
    admission_waits,
    /// Transactions that waited for room in the key-value store.
    kv_room_waits,
    /// Times the key-value store was asked again because it had no space for a checkpoint.
    kv_full_retries,
    /// Times that more memory was held than the target although the caches were as small as they can be.
    memory_short,
    /// Transactions that waited for that to end.
    memory_waits,
    /// Bytes lent to the key-value store's file system.
    lent_bytes,
    /// Bytes that came back from it.
    returned_bytes,
    /// Bytes of its files that had spilled to the main device and moved back to the fast one.
    moved_back_bytes,
}
