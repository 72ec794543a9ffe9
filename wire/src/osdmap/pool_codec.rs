//! Encoding of a pool, version 29.

use bytes::Bytes;

use super::pool::{FloatBits, Pool, PoolFlags, PoolOption, PoolSnapshot};
use crate::codec::{DecodeResult, Reader, Wire, Writer};

const VERSION: u8 = 29;
const COMPAT: u8 = 5;

impl Wire for Pool {
    const BYTES_MIN: usize = 300;

    fn encode(&self, w: &mut Writer) {
        w.env(VERSION, COMPAT, |w| {
            w.u8(self.kind);
            w.u8(self.size);
            w.u8(self.crush_rule);
            w.u8(self.object_hash);
            w.u32(self.pg_num);
            w.u32(self.pgp_num);
            // Numbers of localized PGs, which are gone.
            w.u32(0);
            w.u32(0);
            w.put(&self.last_change);
            w.u64(self.snap_seq);
            w.put(&self.snap_epoch);
            w.map(&self.snaps);
            w.put(&self.removed_snaps);
            w.u64(self.auid);
            w.u64(self.flags.0);
            w.u32(self.crash_replay_interval);
            w.u8(self.min_size);
            w.u64(self.quota_max_bytes);
            w.u64(self.quota_max_objects);
            w.set(&self.tiers);
            w.s64(self.tier_of);
            w.u8(self.cache_mode);
            w.s64(self.read_tier);
            w.s64(self.write_tier);
            w.map(&self.properties);
            w.env(1, 1, |w| w.raw(&self.hit_set_parameters));
            w.u32(self.hit_set_period);
            w.u32(self.hit_set_count);
            w.u32(self.stripe_width);
            w.u64(self.target_max_bytes);
            w.u64(self.target_max_objects);
            w.u32(self.cache_target_dirty_ratio_micro);
            w.u32(self.cache_target_full_ratio_micro);
            w.u32(self.cache_min_flush_age);
            w.u32(self.cache_min_evict_age);
            w.str(&self.erasure_code_profile);
            w.put(&self.last_force_op_resend_preluminous);
            w.u32(self.min_read_recency_for_promote);
            w.u64(self.expected_num_objects);
            w.u32(self.cache_target_dirty_high_ratio_micro);
            w.u32(self.min_write_recency_for_promote);
            w.bool(self.use_gmt_hitset);
            w.bool(self.fast_read);
            w.u32(self.hit_set_grade_decay_rate);
            w.u32(self.hit_set_search_last_n);
            w.env(2, 1, |w| w.map(&self.options));
            w.put(&self.last_force_op_resend_prenautilus);
            w.map(&self.applications);
            w.put(&self.create_time);
            w.u32(self.pg_num_target);
            w.u32(self.pgp_num_target);
            w.u32(self.pg_num_pending);
            // Two epochs of shrinking pg_num, no longer used.
            w.u32(0);
            w.u32(0);
            w.put(&self.last_force_op_resend);
            w.u8(self.pg_autoscale_mode);
            w.env(1, 1, |w| {
                w.put(&self.last_merge_source);
                w.put(&self.last_merge_ready_epoch);
                w.put(&self.last_merge_epoch_started);
                w.put(&self.last_merge_epoch_clean);
                w.put(&self.last_merge_source_version);
                w.put(&self.last_merge_target_version);
            });
        });
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("pool", VERSION, |r, version| {
            if version < VERSION {
                return Err(r.error(format!("version {VERSION} or newer"), version.to_string()));
            }
            decode_fields(r)
        })
    }
}

fn decode_fields(r: &mut Reader) -> DecodeResult<Pool> {
    let (kind, size, crush_rule, object_hash) = (r.u8()?, r.u8()?, r.u8()?, r.u8()?);
    let (pg_num, pgp_num) = (r.u32()?, r.u32()?);
    r.skip(8)?;
    let mut pool = Pool::replicated(pg_num, size, 0, crush_rule, Default::default());
    pool.kind = kind;
    pool.object_hash = object_hash;
    pool.pgp_num = pgp_num;
    pool.last_change = r.get()?;
    pool.snap_seq = r.u64()?;
    pool.snap_epoch = r.get()?;
    pool.snaps = r.map()?;
    pool.removed_snaps = r.get()?;
    pool.auid = r.u64()?;
    pool.flags = PoolFlags(r.u64()?);
    pool.crash_replay_interval = r.u32()?;
    pool.min_size = r.u8()?;
    pool.quota_max_bytes = r.u64()?;
    pool.quota_max_objects = r.u64()?;
    pool.tiers = r.set()?;
    pool.tier_of = r.s64()?;
    pool.cache_mode = r.u8()?;
    pool.read_tier = r.s64()?;
    pool.write_tier = r.s64()?;
    pool.properties = r.map()?;
    pool.hit_set_parameters = r.env("hit set parameters", 1, |r, _| Ok(Bytes::copy_from_slice(&r.rest())))?;
    pool.hit_set_period = r.u32()?;
    pool.hit_set_count = r.u32()?;
    pool.stripe_width = r.u32()?;
    pool.target_max_bytes = r.u64()?;
    pool.target_max_objects = r.u64()?;
    pool.cache_target_dirty_ratio_micro = r.u32()?;
    pool.cache_target_full_ratio_micro = r.u32()?;
    pool.cache_min_flush_age = r.u32()?;
    pool.cache_min_evict_age = r.u32()?;
    pool.erasure_code_profile = r.str()?;
    pool.last_force_op_resend_preluminous = r.get()?;
    pool.min_read_recency_for_promote = r.u32()?;
    pool.expected_num_objects = r.u64()?;
    pool.cache_target_dirty_high_ratio_micro = r.u32()?;
    pool.min_write_recency_for_promote = r.u32()?;
    pool.use_gmt_hitset = r.bool()?;
    pool.fast_read = r.bool()?;
    pool.hit_set_grade_decay_rate = r.u32()?;
    pool.hit_set_search_last_n = r.u32()?;
    pool.options = r.env("pool options", 2, |r, _| r.map())?;
    pool.last_force_op_resend_prenautilus = r.get()?;
    pool.applications = r.map()?;
    pool.create_time = r.get()?;
    pool.pg_num_target = r.u32()?;
    pool.pgp_num_target = r.u32()?;
    pool.pg_num_pending = r.u32()?;
    r.skip(8)?;
    pool.last_force_op_resend = r.get()?;
    pool.pg_autoscale_mode = r.u8()?;
    r.env("pool merge", 1, |r, _| {
        pool.last_merge_source = r.get()?;
        pool.last_merge_ready_epoch = r.get()?;
        pool.last_merge_epoch_started = r.get()?;
        pool.last_merge_epoch_clean = r.get()?;
        pool.last_merge_source_version = r.get()?;
        pool.last_merge_target_version = r.get()?;
        Ok(())
    })?;
    Ok(pool)
}

impl Wire for PoolSnapshot {
    const BYTES_MIN: usize = 6 + 8 + 8 + 4;

    fn encode(&self, w: &mut Writer) {
        w.env(2, 2, |w| {
            w.u64(self.id);
            w.put(&self.stamp);
            w.str(&self.name);
        });
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("pool snapshot", 2, |r, _| Ok(Self { id: r.u64()?, stamp: r.get()?, name: r.str()? }))
    }
}

const OPTION_TEXT: i32 = 0;
const OPTION_INTEGER: i32 = 1;
const OPTION_FLOAT: i32 = 2;

impl Wire for PoolOption {
    const BYTES_MIN: usize = 8;

    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Text(text) => {
                w.s32(OPTION_TEXT);
                w.str(text);
            }
            Self::Integer(value) => {
                w.s32(OPTION_INTEGER);
                w.s64(*value);
            }
            Self::Float(value) => {
                w.s32(OPTION_FLOAT);
                w.u64(value.0);
            }
        }
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        match r.s32()? {
            OPTION_TEXT => Ok(Self::Text(r.str()?)),
            OPTION_INTEGER => Ok(Self::Integer(r.s64()?)),
            OPTION_FLOAT => Ok(Self::Float(FloatBits(r.u64()?))),
            other => Err(r.error("a pool option of type 0, 1 or 2", other.to_string())),
        }
    }
}
