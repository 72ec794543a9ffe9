//! Statistics of pools and stores.

use crate::codec::{DecodeResult, Reader, Wire, Writer};

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident, $text:literal, $version:literal, $compat:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Wire for $name {
            const BYTES_MIN: usize = 6 $(+ size_of::<$type>())*;
            fn encode(&self, w: &mut Writer) {
                w.env($version, $compat, |w| { $(w.put(&self.$field);)* });
            }
            fn decode(r: &mut Reader) -> DecodeResult<Self> {
                r.env($text, $version, |r, version| {
                    if version < $version {
                        let expected = concat!($text, " version ", $version, " or newer");
                        return Err(r.error(expected, version.to_string()));
                    }
                    Ok(Self { $($field: r.get()?,)* })
                })
            }
        }

        impl $name {
            /// Field by field, saturating.
            pub fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}

counters! {
    /// `stat_sum`: what is in a pool or placement group, and what was done to it. Counts of objects unless
    /// named otherwise.
    StatSum, "stat_sum", 20, 14 {
        /// Logical bytes.
        bytes: i64,
        /// Objects, clones included.
        objects: i64,
        /// Snapshot clones.
        clones: i64,
        /// Copies that there should be.
        copies: i64,
        /// Missing on the primary.
        missing_on_primary: i64,
        /// With too few copies.
        degraded: i64,
        /// With no copy known.
        unfound: i64,
        /// Read operations.
        reads: i64,
        /// KiB read.
        reads_kb: i64,
        /// Write operations.
        writes: i64,
        /// KiB written.
        writes_kb: i64,
        /// Errors found by scrubbing.
        scrub_errors: i64,
        /// Recovered so far.
        recovered: i64,
        /// Bytes recovered so far.
        bytes_recovered: i64,
        /// Omap keys recovered so far.
        keys_recovered: i64,
        /// Of `scrub_errors`, in metadata.
        shallow_scrub_errors: i64,
        /// Of `scrub_errors`, in data.
        deep_scrub_errors: i64,
        /// Not flushed (cache tiers).
        dirty: i64,
        /// Deleted heads with clones.
        whiteouts: i64,
        /// With omap.
        omap: i64,
        /// Hit set archives (cache tiers).
        hit_set_archive: i64,
        /// In the wrong place.
        misplaced: i64,
        /// Bytes of hit set archives (cache tiers).
        bytes_hit_set_archive: i64,
        /// Flushes (cache tiers).
        flush: i64,
        /// KiB flushed (cache tiers).
        flush_kb: i64,
        /// Evictions (cache tiers).
        evict: i64,
        /// KiB evicted (cache tiers).
        evict_kb: i64,
        /// Promotions (cache tiers).
        promote: i64,
        /// Cache tiers.
        flush_mode_high: i32,
        /// Cache tiers.
        flush_mode_low: i32,
        /// Cache tiers.
        evict_mode_some: i32,
        /// Cache tiers.
        evict_mode_full: i32,
        /// Pinned (cache tiers).
        pinned: i64,
        /// Missing anywhere.
        missing: i64,
        /// In the snapset format of long ago.
        legacy_snapsets: i64,
        /// With too much omap.
        large_omap_objects: i64,
        /// With a manifest.
        manifest: i64,
        /// Bytes of omap, as last counted.
        omap_bytes: i64,
        /// Keys of omap, as last counted.
        omap_keys: i64,
        /// Repaired by scrubbing.
        repaired: i64,
    }
}

counters! {
    /// `store_statfs`: space of a store, or of a pool in it. Bytes.
    StoreStatfs, "store_statfs", 1, 1 {
        /// All.
        total: i64,
        /// Free.
        available: i64,
        /// Set aside by the store.
        internally_reserved: i64,
        /// Allocated to data.
        allocated: i64,
        /// Written by users.
        data_stored: i64,
        /// After compression.
        data_compressed: i64,
        /// Allocated to compressed data.
        compressed_allocated: i64,
        /// Before compression.
        compressed_original: i64,
        /// Used by omap.
        omap_allocated: i64,
        /// Used by the store's own metadata.
        internal_metadata: i64,
    }
}

/// `pool_stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStat {
    /// Contents and activity.
    pub sum: StatSum,
    /// Entries in the logs of the pool's placement groups.
    pub log_size: i64,
    /// Of them, on disk.
    pub ondisk_log_size: i64,
    /// Sum of the sizes of the up sets.
    pub up: i32,
    /// Sum of the sizes of the acting sets.
    pub acting: i32,
    /// Space used in the stores.
    pub store: StoreStatfs,
    /// How many stores reported.
    pub stores: i32,
}

impl Wire for PoolStat {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(7, 5, |w| {
            w.env(2, 2, |w| {
                w.put(&self.sum);
                // Statistics by category; there have been none for a decade.
                w.u32(0);
            });
            w.s64(self.log_size);
            w.s64(self.ondisk_log_size);
            w.s32(self.up);
            w.s32(self.acting);
            w.put(&self.store);
            w.s32(self.stores);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("pool_stat", 7, |r, version| {
            if version < 7 {
                return Err(r.error("pool_stat version 7 or newer", version.to_string()));
            }
            Ok(Self {
                sum: r.env("object_stat_collection", 2, |r, _| r.get())?,
                log_size: r.s64()?,
                ondisk_log_size: r.s64()?,
                up: r.s32()?,
                acting: r.s32()?,
                store: r.get()?,
                stores: r.s32()?,
            })
        })
    }
}
