//! What the map says of one pool.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use crate::hash::{crush_hash2, hash_object, linux_name_hash, rjenkins_name_hash, stable_mod};
use crate::types::{EVersion, Epoch, IntervalSet, PgId, PoolId, UTime};

const HASH_LINUX: u8 = 1;

/// A pool. Fields that only cache tiering and other abandoned features use are kept as they come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the rest of the fields have Ceph's names and no use here")]
pub struct Pool {
    /// 1 replicated, 3 erasure-coded.
    pub kind: u8,
    /// Copies, or data and coding chunks.
    pub size: u8,
    /// Ruleset in CRUSH.
    pub crush_rule: u8,
    /// Hash of object names: 2 rjenkins, 1 linux.
    pub object_hash: u8,
    /// Number of PGs.
    pub pg_num: u32,
    /// Number of PGs as far as placement is concerned.
    pub pgp_num: u32,
    /// Epoch of the last change.
    pub last_change: Epoch,
    /// Highest snapshot id given or removed.
    pub snap_seq: u64,
    /// Epoch of the last change of the snapshots.
    pub snap_epoch: Epoch,
    /// Pool snapshots by id.
    pub snaps: BTreeMap<u64, PoolSnapshot>,
    pub removed_snaps: IntervalSet,
    pub auid: u64,
    /// See [`PoolFlags`].
    pub flags: PoolFlags,
    pub crash_replay_interval: u32,
    /// Fewest copies with which the pool serves.
    pub min_size: u8,
    /// Most bytes; 0 for no limit.
    pub quota_max_bytes: u64,
    /// Most objects; 0 for no limit.
    pub quota_max_objects: u64,
    pub tiers: BTreeSet<u64>,
    pub tier_of: i64,
    pub cache_mode: u8,
    pub read_tier: i64,
    pub write_tier: i64,
    pub properties: BTreeMap<String, String>,
    /// Parameters of hit sets, encoded; one zero byte for none.
    pub hit_set_parameters: Bytes,
    pub hit_set_period: u32,
    pub hit_set_count: u32,
    /// Data bytes of a stripe of an erasure-coded pool.
    pub stripe_width: u32,
    pub target_max_bytes: u64,
    pub target_max_objects: u64,
    pub cache_target_dirty_ratio_micro: u32,
    pub cache_target_full_ratio_micro: u32,
    pub cache_min_flush_age: u32,
    pub cache_min_evict_age: u32,
    /// Profile of an erasure-coded pool.
    pub erasure_code_profile: String,
    pub last_force_op_resend_preluminous: Epoch,
    pub min_read_recency_for_promote: u32,
    pub expected_num_objects: u64,
    pub cache_target_dirty_high_ratio_micro: u32,
    pub min_write_recency_for_promote: u32,
    pub use_gmt_hitset: bool,
    pub fast_read: bool,
    pub hit_set_grade_decay_rate: u32,
    pub hit_set_search_last_n: u32,
    /// Options set by the operator, by Ceph's key number.
    pub options: BTreeMap<i32, PoolOption>,
    pub last_force_op_resend_prenautilus: Epoch,
    /// What the pool is for, with values that the applications keep.
    pub applications: BTreeMap<String, BTreeMap<String, String>>,
    /// When it was made.
    pub create_time: UTime,
    /// Where `pg_num` is going.
    pub pg_num_target: u32,
    /// Where `pgp_num` is going.
    pub pgp_num_target: u32,
    /// `pg_num` once a merge is done.
    pub pg_num_pending: u32,
    /// Epoch after which clients resend what they sent before.
    pub last_force_op_resend: Epoch,
    /// 0 off, 1 warn, 2 on.
    pub pg_autoscale_mode: u8,
    pub last_merge_source: PgId,
    pub last_merge_ready_epoch: Epoch,
    pub last_merge_epoch_started: Epoch,
    pub last_merge_epoch_clean: Epoch,
    pub last_merge_source_version: EVersion,
    pub last_merge_target_version: EVersion,
}

/// Flags of a pool. Bits we do not know are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PoolFlags(pub u64);

impl PoolFlags {
    //= ceph 16.2 osdmap: pool flags
    /// Placement seeds are hashed with the pool's id; always set.
    pub const HASHPSPOOL: Self = Self(1 << 0);
    /// No more growth.
    pub const FULL: Self = Self(1 << 1);
    /// Erasure-coded, with overwrites.
    pub const EC_OVERWRITES: Self = Self(1 << 2);
    /// Clones may be missing.
    pub const INCOMPLETE_CLONES: Self = Self(1 << 3);
    /// May not be deleted.
    pub const NODELETE: Self = Self(1 << 4);
    /// pg_num may not change.
    pub const NOPGCHANGE: Self = Self(1 << 5);
    /// size may not change.
    pub const NOSIZECHANGE: Self = Self(1 << 6);
    /// Written data need not be cached.
    pub const WRITE_FADVISE_DONTNEED: Self = Self(1 << 7);
    /// No scrub.
    pub const NOSCRUB: Self = Self(1 << 8);
    /// No deep scrub.
    pub const NODEEP_SCRUB: Self = Self(1 << 9);
    /// Full because of its quota.
    pub const FULL_QUOTA: Self = Self(1 << 10);
    /// Nearly full.
    pub const NEARFULL: Self = Self(1 << 11);
    /// Too full for backfill.
    pub const BACKFILLFULL: Self = Self(1 << 12);
    /// Snapshots are the clients'.
    pub const SELFMANAGED_SNAPS: Self = Self(1 << 13);
    /// Snapshots are the pool's.
    pub const POOL_SNAPS: Self = Self(1 << 14);
    /// Its PGs are being made.
    pub const CREATING: Self = Self(1 << 15);
    /// Every operation fails.
    pub const EIO: Self = Self(1 << 16);

    /// Whether all of `bits` are set.
    pub const fn contains(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// With `bits` set.
    pub const fn with(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// With `bits` cleared.
    pub const fn without(self, bits: Self) -> Self {
        Self(self.0 & !bits.0)
    }
}

/// A snapshot of a whole pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolSnapshot {
    /// Its id.
    pub id: u64,
    /// When it was taken.
    pub stamp: UTime,
    /// Its name.
    pub name: String,
}

/// Value of a pool option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolOption {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(FloatBits),
}

/// A 64-bit float kept as its bits, so that maps compare exactly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FloatBits(pub u64);

impl FloatBits {
    /// From a number.
    pub fn new(value: f64) -> Self {
        Self(value.to_bits())
    }

    /// As a number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl fmt::Debug for FloatBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Pool {
    /// Pool type of replicated pools.
    pub const REPLICATED: u8 = 1;
    /// Pool type of erasure-coded pools.
    pub const ERASURE: u8 = 3;

    /// Option: when data is compressed.
    pub const OPTION_COMPRESSION_MODE: i32 = 6;
    /// Seconds after which its groups are scrubbed again.
    pub const OPTION_DEEP_SCRUB_INTERVAL: i32 = 2;
    /// Option: how.
    pub const OPTION_COMPRESSION_ALGORITHM: i32 = 7;
    /// Option: to what part of its size at most.
    pub const OPTION_COMPRESSION_REQUIRED_RATIO: i32 = 8;
    /// Option: most bytes that are compressed together.
    pub const OPTION_COMPRESSION_MAX_BLOB_SIZE: i32 = 9;
    /// Option: fewest bytes that are compressed.
    pub const OPTION_COMPRESSION_MIN_BLOB_SIZE: i32 = 10;
    /// Number of the option that says what protects blocks.
    pub const OPTION_CSUM_TYPE: i32 = 11;
    /// Option: most bytes under one checksum.
    pub const OPTION_CSUM_MAX_BLOCK: i32 = 12;
    /// Option: fewest bytes under one checksum.
    pub const OPTION_CSUM_MIN_BLOCK: i32 = 13;

    /// The value of an option that is a whole number, if it is set.
    pub fn integer_option(&self, key: i32) -> Option<i64> {
        match self.options.get(&key) {
            Some(PoolOption::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// The value of an option that is a text, if it is set.
    pub fn text_option(&self, key: i32) -> Option<&str> {
        match self.options.get(&key) {
            Some(PoolOption::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The value of an option that is a number, if it is set.
    pub fn float_option(&self, key: i32) -> Option<f64> {
        match self.options.get(&key) {
            Some(PoolOption::Float(bits)) => Some(bits.get()),
            _ => None,
        }
    }

    /// A replicated pool with Ceph's defaults for the rest.
    pub fn replicated(pg_num: u32, size: u8, min_size: u8, crush_rule: u8, create_time: UTime) -> Self {
        Self {
            kind: Self::REPLICATED,
            size,
            crush_rule,
            object_hash: 2,
            pg_num,
            pgp_num: pg_num,
            last_change: Epoch(0),
            snap_seq: 0,
            snap_epoch: Epoch(0),
            snaps: BTreeMap::new(),
            removed_snaps: IntervalSet::new(),
            auid: 0,
            flags: PoolFlags::HASHPSPOOL,
            crash_replay_interval: 0,
            min_size,
            quota_max_bytes: 0,
            quota_max_objects: 0,
            tiers: BTreeSet::new(),
            tier_of: -1,
            cache_mode: 0,
            read_tier: -1,
            write_tier: -1,
            properties: BTreeMap::new(),
            hit_set_parameters: Bytes::from_static(&[0]),
            hit_set_period: 0,
            hit_set_count: 0,
            stripe_width: 0,
            target_max_bytes: 0,
            target_max_objects: 0,
            cache_target_dirty_ratio_micro: 400_000,
            cache_target_full_ratio_micro: 800_000,
            cache_min_flush_age: 0,
            cache_min_evict_age: 0,
            erasure_code_profile: String::new(),
            last_force_op_resend_preluminous: Epoch(0),
            min_read_recency_for_promote: 0,
            expected_num_objects: 0,
            cache_target_dirty_high_ratio_micro: 600_000,
            min_write_recency_for_promote: 0,
            use_gmt_hitset: true,
            fast_read: false,
            hit_set_grade_decay_rate: 0,
            hit_set_search_last_n: 0,
            options: BTreeMap::new(),
            last_force_op_resend_prenautilus: Epoch(0),
            applications: BTreeMap::new(),
            create_time,
            pg_num_target: pg_num,
            pgp_num_target: pg_num,
            pg_num_pending: pg_num,
            last_force_op_resend: Epoch(0),
            pg_autoscale_mode: 0,
            last_merge_source: PgId::default(),
            last_merge_ready_epoch: Epoch(0),
            last_merge_epoch_started: Epoch(0),
            last_merge_epoch_clean: Epoch(0),
            last_merge_source_version: EVersion::default(),
            last_merge_target_version: EVersion::default(),
        }
    }

    /// Whether holes in a PG's set are closed; otherwise positions matter.
    pub fn closes_holes(&self) -> bool {
        self.kind == Self::REPLICATED
    }

    /// Hash of an object: of its locator key if it has one, else of its name, within its namespace.
    pub fn hash_object(&self, name: &[u8], key: &[u8], nspace: &[u8]) -> u32 {
        let hash = match self.object_hash {
            HASH_LINUX => linux_name_hash,
            // Decoders refuse others.
            _ => rjenkins_name_hash,
        };
        hash_object(hash, name, key, nspace)
    }

    /// The PG of an object hash.
    pub fn pg_of_hash(&self, pool: PoolId, hash: u32) -> PgId {
        PgId::new(pool, stable_mod(hash, self.pg_num))
    }

    /// The number that CRUSH maps for a PG.
    pub fn placement_seed(&self, pg: PgId) -> u32 {
        let seed = stable_mod(pg.seed, self.pgp_num);
        // Only the low half of a pool id takes part.
        let [a, b, c, d, ..] = pg.pool.to_le_bytes();
        let pool = u32::from_le_bytes([a, b, c, d]);
        if self.flags.contains(PoolFlags::HASHPSPOOL) {
            crush_hash2(seed, pool)
        } else {
            seed.wrapping_add(pool)
        }
    }
}
