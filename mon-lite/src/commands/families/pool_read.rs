//! `osd pool ls|get|get-quota|stats`: questions about pools.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use wire::osdmap::{OsdMap, Pool, PoolFlags, PoolOption};
use wire::types::PoolId;

use super::pool_options;
use super::shared::{named_pool, traffic_text, traffic_value};
use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::osd_flags;
use crate::render::{bytes, count, number, timestamp};
use crate::view::View;
use wire::Errno;

const POOL: Argument = Argument::new("pool", Kind::PoolName);
const POOL_NAME: Argument = Argument::new("pool_name", Kind::PoolName).optional();
const DETAIL: Argument = Argument::choice("detail", "detail").optional();
const VAR: Argument = Argument::choice(
    "var",
    "size|min_size|pg_num|pgp_num|crush_rule|hashpspool|nodelete|nopgchange|nosizechange|write_fadvise_dontneed|\
     noscrub|nodeep-scrub|use_gmt_hitset|fast_read|pg_autoscale_mode|bulk|erasure_code_profile|scrub_min_interval|\
     scrub_max_interval|deep_scrub_interval|recovery_priority|recovery_op_priority|scrub_priority|compression_mode|\
     compression_algorithm|compression_required_ratio|compression_max_blob_size|compression_min_blob_size|csum_type|\
     csum_max_block|csum_min_block|fingerprint_algorithm|pg_num_min|target_size_bytes|target_size_ratio|\
     pg_autoscale_bias|dedup_tier|dedup_chunk_algorithm|dedup_cdc_chunk_size|all",
);

const fn read(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::read(prefix, Module::Osd, arguments, help, handler)
}

pub const COMMANDS: &[Command] = &[
    read("osd pool ls", &[DETAIL], "list pools", list),
    read("osd pool get", &[POOL, VAR], "show a setting of a pool, or all", get),
    read("osd pool get-quota", &[POOL], "show the limits of a pool", get_quota),
    read("osd pool stats", &[POOL_NAME], "show what is going on in pools", stats),
    read("osd pool autoscale-status", &[], "show how pools' PGs would be scaled", autoscale_status),
];

fn list(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    if request.text("detail")?.is_some() {
        let text = || map.pools.keys().map(|id| pool_line(map, *id) + "\n").collect::<String>() + "\n";
        let value = || map.pools.keys().map(|id| pool_value(map, *id, "pool_id")).collect();
        return Ok(Reply::formatted(request, text, value).into());
    }
    let text = || map.pool_names.values().map(|name| format!("{name}\n")).collect();
    Ok(Reply::formatted(request, text, || map.pool_names.values().cloned().collect()).into())
}

fn autoscale_name(mode: u8) -> &'static str {
    match mode {
        1 => "warn",
        2 => "on",
        _ => "off",
    }
}

fn kind_name(pool: &Pool) -> &'static str {
    if pool.kind == Pool::ERASURE { "erasure" } else { "replicated" }
}

/// The line of a pool in `osd dump` and `osd pool ls detail`.
pub fn pool_line(map: &OsdMap, id: PoolId) -> String {
    let (Some(pool), Some(name)) = (map.pools.get(&id), map.pool_names.get(&id)) else {
        return String::new();
    };
    let mut line = format!(
        "pool {id} '{name}' {} size {} min_size {} crush_rule {} object_hash rjenkins pg_num {} pgp_num {} \
         autoscale_mode {} last_change {}",
        kind_name(pool),
        pool.size,
        pool.min_size,
        pool.crush_rule,
        pool.pg_num,
        pool.pgp_num,
        autoscale_name(pool.pg_autoscale_mode),
        pool.last_change,
    );
    // Writing to a string cannot fail.
    let _ = write!(line, " flags {}", osd_flags::pool_names(pool.flags));
    if pool.quota_max_bytes > 0 {
        let _ = write!(line, " max_bytes {}", pool.quota_max_bytes);
    }
    if pool.quota_max_objects > 0 {
        let _ = write!(line, " max_objects {}", pool.quota_max_objects);
    }
    let _ = write!(line, " stripe_width {}", pool.stripe_width);
    if pool.expected_num_objects > 0 {
        let _ = write!(line, " expected_num_objects {}", pool.expected_num_objects);
    }
    for (key, option) in &pool.options {
        let _ = write!(line, " {} {}", pool_options::name_of(*key), option_text(option));
    }
    if !pool.applications.is_empty() {
        let names: Vec<&str> = pool.applications.keys().map(String::as_str).collect();
        let _ = write!(line, " application {}", names.join(","));
    }
    for (snap, info) in &pool.snaps {
        let _ = write!(line, "\n\tsnap {snap} '{}' {}", info.name, timestamp(info.stamp));
    }
    line
}

fn option_text(option: &PoolOption) -> String {
    match option {
        PoolOption::Text(text) => text.clone(),
        PoolOption::Integer(value) => value.to_string(),
        PoolOption::Float(bits) => bits.get().to_string(),
    }
}

fn option_value(option: &PoolOption) -> Value {
    match option {
        PoolOption::Text(text) => text.clone().into(),
        PoolOption::Integer(value) => (*value).into(),
        PoolOption::Float(bits) => number(bits.get()),
    }
}

/// A pool for programs. `osd dump` calls the id `pool`, `osd pool ls detail` calls it `pool_id`.
pub fn pool_value(map: &OsdMap, id: PoolId, id_key: &str) -> Value {
    let Some(pool) = map.pools.get(&id) else { return Value::Null };
    let mut value = Map::new();
    let mut put = |key: &str, entry: Value| value.insert(key.to_owned(), entry);
    put(id_key, id.into());
    put("pool_name", map.pool_names.get(&id).cloned().unwrap_or_default().into());
    put("create_time", timestamp(pool.create_time).into());
    put("flags", pool.flags.0.into());
    put("flags_names", osd_flags::pool_names(pool.flags).into());
    put("type", pool.kind.into());
    put("size", pool.size.into());
    put("min_size", pool.min_size.into());
    put("crush_rule", pool.crush_rule.into());
    put("peering_crush_bucket_count", 0.into());
    put("peering_crush_bucket_target", 0.into());
    put("peering_crush_bucket_barrier", 0.into());
    put("peering_crush_bucket_mandatory_member", i32::MAX.into());
    put("object_hash", pool.object_hash.into());
    put("pg_autoscale_mode", autoscale_name(pool.pg_autoscale_mode).into());
    put("pg_num", pool.pg_num.into());
    put("pg_placement_num", pool.pgp_num.into());
    put("pg_placement_num_target", pool.pgp_num_target.into());
    put("pg_num_target", pool.pg_num_target.into());
    put("pg_num_pending", pool.pg_num_pending.into());
    put("last_pg_merge_meta", merge_value(pool));
    put("last_change", pool.last_change.to_string().into());
    put("last_force_op_resend", pool.last_force_op_resend.to_string().into());
    put("last_force_op_resend_prenautilus", pool.last_force_op_resend_prenautilus.to_string().into());
    put("last_force_op_resend_preluminous", pool.last_force_op_resend_preluminous.to_string().into());
    put("auid", pool.auid.into());
    let pool_snaps = pool.flags.contains(PoolFlags::POOL_SNAPS);
    put("snap_mode", if pool_snaps { "pool" } else { "selfmanaged" }.into());
    put("snap_seq", pool.snap_seq.into());
    put("snap_epoch", pool.snap_epoch.0.into());
    let snap = |(id, info): (&u64, &wire::osdmap::PoolSnapshot)| json!({"snapid": id, "stamp": timestamp(info.stamp), "name": info.name});
    put("pool_snaps", pool.snaps.iter().map(snap).collect());
    put("removed_snaps", "[]".into());
    put("quota_max_bytes", pool.quota_max_bytes.into());
    put("quota_max_objects", pool.quota_max_objects.into());
    put("tiers", pool.tiers.iter().copied().collect());
    put("tier_of", pool.tier_of.into());
    put("read_tier", pool.read_tier.into());
    put("write_tier", pool.write_tier.into());
    put("cache_mode", "none".into());
    put("target_max_bytes", pool.target_max_bytes.into());
    put("target_max_objects", pool.target_max_objects.into());
    put("cache_target_dirty_ratio_micro", pool.cache_target_dirty_ratio_micro.into());
    put("cache_target_dirty_high_ratio_micro", pool.cache_target_dirty_high_ratio_micro.into());
    put("cache_target_full_ratio_micro", pool.cache_target_full_ratio_micro.into());
    put("cache_min_flush_age", pool.cache_min_flush_age.into());
    put("cache_min_evict_age", pool.cache_min_evict_age.into());
    put("erasure_code_profile", pool.erasure_code_profile.clone().into());
    put("hit_set_params", json!({"type": "none"}));
    put("hit_set_period", pool.hit_set_period.into());
    put("hit_set_count", pool.hit_set_count.into());
    put("use_gmt_hitset", pool.use_gmt_hitset.into());
    put("min_read_recency_for_promote", pool.min_read_recency_for_promote.into());
    put("min_write_recency_for_promote", pool.min_write_recency_for_promote.into());
    put("hit_set_grade_decay_rate", pool.hit_set_grade_decay_rate.into());
    put("hit_set_search_last_n", pool.hit_set_search_last_n.into());
    put("grade_table", json!([]));
    put("stripe_width", pool.stripe_width.into());
    put("expected_num_objects", pool.expected_num_objects.into());
    put("fast_read", pool.fast_read.into());
    let options =
        pool.options.iter().map(|(key, option)| (pool_options::name_of(*key), option_value(option)));
    put("options", Value::Object(options.collect()));
    put("application_metadata", json!(pool.applications));
    value.into()
}

fn merge_value(pool: &Pool) -> Value {
    json!({
        "source_pgid": pool.last_merge_source.to_string(),
        "ready_epoch": pool.last_merge_ready_epoch.0,
        "last_epoch_started": pool.last_merge_epoch_started.0,
        "last_epoch_clean": pool.last_merge_epoch_clean.0,
        "source_version": pool.last_merge_source_version.to_string(),
        "target_version": pool.last_merge_target_version.to_string(),
    })
}

/// Settings that every pool has, in the order of `osd pool get … all`: text for people and value for programs.
fn settings(map: &OsdMap, pool: &Pool) -> Vec<(&'static str, String, Value)> {
    let rule = map.crush.rule_names.get(&i32::from(pool.crush_rule)).cloned().unwrap_or_default();
    let flag = |name, bit| {
        let set = pool.flags.contains(bit);
        (name, set.to_string(), Value::from(set))
    };
    let plain = |name, value: u32| (name, value.to_string(), Value::from(value));
    let mode = autoscale_name(pool.pg_autoscale_mode);
    vec![
        plain("size", pool.size.into()),
        plain("min_size", pool.min_size.into()),
        plain("pg_num", pool.pg_num),
        plain("pgp_num", pool.pgp_num),
        ("crush_rule", rule.clone(), rule.into()),
        flag("hashpspool", PoolFlags::HASHPSPOOL),
        flag("nodelete", PoolFlags::NODELETE),
        flag("nopgchange", PoolFlags::NOPGCHANGE),
        flag("nosizechange", PoolFlags::NOSIZECHANGE),
        flag("write_fadvise_dontneed", PoolFlags::WRITE_FADVISE_DONTNEED),
        flag("noscrub", PoolFlags::NOSCRUB),
        flag("nodeep-scrub", PoolFlags::NODEEP_SCRUB),
        ("use_gmt_hitset", u8::from(pool.use_gmt_hitset).to_string(), pool.use_gmt_hitset.into()),
        ("fast_read", u8::from(pool.fast_read).to_string(), u8::from(pool.fast_read).into()),
        ("pg_autoscale_mode", mode.to_owned(), mode.into()),
        ("bulk", "false".to_owned(), false.into()),
    ]
}

fn get(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let (id, pool) = named_pool(map, request, "pool")?;
    let var = request.need_text("var")?;
    let mut all = settings(map, pool);
    all.extend(pool.options.iter().filter_map(|(key, option)| {
        let name = pool_options::static_name(*key)?;
        Some(match pool_options::value_name(*key, option) {
            Some(value) => (name, value.to_owned(), value.into()),
            None => (name, option_text(option), option_value(option)),
        })
    }));
    if var == "erasure_code_profile" {
        let text = "erasure_code_profile is a setting of erasure-coded pools only";
        return Err(Refusal::new(Errno::EACCES, text));
    }
    let chosen: Vec<_> = all.into_iter().filter(|(name, ..)| var == "all" || *name == var).collect();
    if chosen.is_empty() && var != "all" {
        return Err(match pool_options::key_of(&var) {
            Some(_) => Refusal::new(
                Errno::ENOENT,
                format!("option '{var}' is not set on pool '{}'", request.need_text("pool")?),
            ),
            None => Refusal::new(Errno::EINVAL, format!("unrecognized variable '{var}'")),
        });
    }
    let name = request.need_text("pool")?;
    let text = || chosen.iter().map(|(name, text, _)| format!("{name}: {text}\n")).collect();
    let value = || {
        let mut value = Map::new();
        value.insert("pool".into(), name.clone().into());
        value.insert("pool_id".into(), id.into());
        value.extend(chosen.iter().map(|(name, _, value)| ((*name).to_owned(), value.clone())));
        value.into()
    };
    Ok(Reply::formatted(request, text, value).into())
}

fn get_quota(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (id, pool) = named_pool(view.osd_map(), request, "pool")?;
    let name = request.need_text("pool")?;
    let used = view.live.reports.pool(id);
    let text = || {
        let limit = |limit: u64, text: String| if limit == 0 { "N/A".to_owned() } else { text };
        let objects = limit(pool.quota_max_objects, format!("{} objects", count(pool.quota_max_objects)));
        let space = limit(pool.quota_max_bytes, bytes(pool.quota_max_bytes));
        format!("quotas for pool '{name}':\n  max objects: {objects}\n  max bytes  : {space}\n")
    };
    let value = || {
        json!({
            "pool_name": name,
            "pool_id": id,
            "quota_max_objects": pool.quota_max_objects,
            "current_num_objects": used.objects,
            "quota_max_bytes": pool.quota_max_bytes,
            "current_num_bytes": used.bytes,
        })
    };
    Ok(Reply::formatted(request, text, value).into())
}

fn stats(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let only = match request.text("pool_name")? {
        Some(_) => Some(named_pool(map, request, "pool_name")?.0),
        None => None,
    };
    let pools = || map.pool_names.iter().filter(|(id, _)| only.is_none_or(|only| only == **id));
    let rates = |id: &PoolId| view.live.reports.rates(view.now, Some(*id));
    let text = || {
        let one = |(id, name): (&PoolId, &String)| {
            let traffic = traffic_text(rates(id));
            let line = if traffic.is_empty() {
                "nothing is going on".to_owned()
            } else {
                format!("client io {traffic}")
            };
            format!("pool {name} id {id}\n  {line}\n\n")
        };
        pools().map(one).collect()
    };
    let value = || {
        let one = |(id, name): (&PoolId, &String)| {
            json!({
                "pool_name": name,
                "pool_id": id,
                "recovery": {},
                "recovery_rate": {},
                "client_io_rate": traffic_value(rates(id)),
            })
        };
        pools().map(one).collect()
    };
    Ok(Reply::formatted(request, text, value).into())
}

/// No pool is scaled, so there is nothing to show.
fn autoscale_status(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::formatted(request, String::new, || json!([])).into())
}
