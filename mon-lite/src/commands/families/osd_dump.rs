//! `osd dump` and what lists parts of it: the whole OSD map, as text and for programs.

use serde_json::{Map, Value, json};
use wire::osdmap::{Osd, OsdMap};
use wire::types::{IntervalSet, PoolId};

use super::pool_read::{pool_line, pool_value};
use super::shared::{lossy, map_at_epoch, osd_ids};
use crate::commands::{Argument, Command, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::osd_flags;
use crate::render::{addrvec, bare, first_addr, number, timestamp};
use crate::view::View;

const EPOCH: Argument = Argument::new("epoch", Kind::Int).optional().range("0");

pub const COMMANDS: &[Command] =
    &[Command::read("osd dump", Module::Osd, &[EPOCH], "show the OSD map", dump)];

/// Name of a release of Ceph by its number.
pub fn release_name(number: u8) -> &'static str {
    match number {
        10 => "jewel",
        11 => "kraken",
        12 => "luminous",
        13 => "mimic",
        14 => "nautilus",
        15 => "octopus",
        16 => "pacific",
        17 => "quincy",
        _ => "unknown",
    }
}

fn dump(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = map_at_epoch(view, request)?;
    Ok(Reply::formatted(request, || dump_text(&map), || dump_value(&map)).into())
}

fn dump_text(map: &OsdMap) -> String {
    let ratio = |ratio: wire::osdmap::Ratio| ratio.get().to_string();
    let mut lines = vec![
        format!("epoch {}", map.epoch),
        format!("fsid {}", map.fsid),
        format!("created {}", timestamp(map.created)),
        format!("modified {}", timestamp(map.modified)),
        format!("flags {}", osd_flags::names(map.flags).join(",")),
        format!("crush_version {}", map.crush_version),
        format!("full_ratio {}", ratio(map.full_ratio)),
        format!("backfillfull_ratio {}", ratio(map.backfillfull_ratio)),
        format!("nearfull_ratio {}", ratio(map.nearfull_ratio)),
        format!("require_min_compat_client {}", release_name(map.require_min_compat_client)),
        "min_compat_client jewel".to_owned(),
        format!("require_osd_release {}", release_name(map.require_osd_release)),
        "stretch_mode_enabled false".to_owned(),
    ];
    lines.extend(map.pools.keys().map(|id| pool_line(map, *id)));
    lines.push(format!("max_osd {}", map.osds.len()));
    lines.extend(osd_ids(map).map(|id| osd_line(map, id)));
    let blocked = map.blocklist.0.iter();
    lines.extend(
        blocked.map(|(addr, until)| format!("blocklist {} expires {}", bare(addr), timestamp(*until))),
    );
    lines.join("\n") + "\n"
}

/// The line of an OSD.
pub fn osd_line(map: &OsdMap, id: i32) -> String {
    let Some(osd) = map.osd(id) else { return String::new() };
    let info = osd.info;
    format!(
        "osd.{id} {:4} {:3} weight {} up_from {} up_thru {} down_at {} last_clean_interval [{},{}) {} {} {} {}",
        if osd.is_up() { "up" } else { "down" },
        if osd.is_in() { "in" } else { "out" },
        number(lossy(u64::from(osd.weight)) / 65536.0),
        info.up_from,
        info.up_thru,
        info.down_at,
        info.last_clean_begin,
        info.last_clean_end,
        osd.client_addrs,
        osd.cluster_addrs,
        osd_flags::state_names(osd.state).join(","),
        osd.uuid,
    )
}

/// An OSD for programs.
pub fn osd_value(map: &OsdMap, id: i32) -> Value {
    let Some(osd) = map.osd(id) else { return Value::Null };
    let mut value = Map::new();
    let mut put = |key: &str, entry: Value| value.insert(key.to_owned(), entry);
    put("osd", id.into());
    put("uuid", osd.uuid.to_string().into());
    put("up", u8::from(osd.is_up()).into());
    put("in", u8::from(osd.is_in()).into());
    put("weight", number(f64::from(osd.weight) / 65536.0));
    put("primary_affinity", number(f64::from(map.affinity(id)) / 65536.0));
    put("last_clean_begin", osd.info.last_clean_begin.0.into());
    put("last_clean_end", osd.info.last_clean_end.0.into());
    put("up_from", osd.info.up_from.0.into());
    put("up_thru", osd.info.up_thru.0.into());
    put("down_at", osd.info.down_at.0.into());
    put("lost_at", osd.info.lost_at.0.into());
    let addrs = [
        ("public", &osd.client_addrs),
        ("cluster", &osd.cluster_addrs),
        ("heartbeat_back", &osd.heartbeat_back_addrs),
        ("heartbeat_front", &osd.heartbeat_front_addrs),
    ];
    for (name, addrs) in addrs {
        put(&format!("{name}_addrs"), addrvec(addrs));
    }
    for (name, addrs) in addrs {
        put(&format!("{name}_addr"), first_addr(addrs).into());
    }
    put("state", json!(osd_flags::state_names(osd.state)));
    value.into()
}

fn xinfo_value(id: i32, osd: &Osd) -> Value {
    json!({
        "osd": id,
        "down_stamp": timestamp(osd.xinfo.down_stamp),
        "laggy_probability": number(f64::from(osd.xinfo.laggy_probability) / f64::from(u32::MAX)),
        "laggy_interval": osd.xinfo.laggy_interval,
        "features": osd.xinfo.features.0,
        "old_weight": osd.xinfo.old_weight,
        "last_purged_snaps_scrub": timestamp(osd.xinfo.last_purged_snaps_scrub),
        "dead_epoch": osd.xinfo.dead_epoch.0,
    })
}

fn snaps_value(snaps: &std::collections::BTreeMap<PoolId, IntervalSet>) -> Value {
    let ranges = |set: &IntervalSet| -> Value {
        set.iter().map(|(begin, length)| json!({"begin": begin, "length": length})).collect()
    };
    snaps.iter().map(|(pool, set)| json!({"pool": pool, "snaps": ranges(set)})).collect()
}

fn dump_value(map: &OsdMap) -> Value {
    let ratio = |ratio: wire::osdmap::Ratio| number(f64::from(ratio.get()));
    let mut flags = osd_flags::names(map.flags);
    let flag_text = flags.join(",");
    flags.sort_unstable();
    let pools: Vec<Value> = map.pools.keys().map(|id| pool_value(map, *id, "pool")).collect();
    let osds = || (0..).zip(&map.osds).filter(|(_, osd)| osd.exists());
    let blocklist: Map<String, Value> =
        map.blocklist.0.iter().map(|(addr, until)| (bare(addr), timestamp(*until).into())).collect();
    let pg_temp: Vec<Value> =
        map.pg_temp.iter().map(|(pg, osds)| json!({"pgid": pg.to_string(), "osds": osds})).collect();
    let upmap: Vec<Value> =
        map.pg_upmap.iter().map(|(pg, osds)| json!({"pgid": pg.to_string(), "osds": osds})).collect();
    json!({
        "epoch": map.epoch.0,
        "fsid": map.fsid.to_string(),
        "created": timestamp(map.created),
        "modified": timestamp(map.modified),
        "last_up_change": timestamp(map.last_up_change),
        "last_in_change": timestamp(map.last_in_change),
        "flags": flag_text,
        "flags_num": map.flags.0,
        "flags_set": flags,
        "crush_version": map.crush_version,
        "full_ratio": ratio(map.full_ratio),
        "backfillfull_ratio": ratio(map.backfillfull_ratio),
        "nearfull_ratio": ratio(map.nearfull_ratio),
        "cluster_snapshot": map.cluster_snapshot,
        "pool_max": map.pool_max,
        "max_osd": map.osds.len(),
        "require_min_compat_client": release_name(map.require_min_compat_client),
        "min_compat_client": "jewel",
        "require_osd_release": release_name(map.require_osd_release),
        "pools": pools,
        "osds": osds().map(|(id, _)| osd_value(map, id)).collect::<Vec<_>>(),
        "osd_xinfo": osds().map(|(id, osd)| xinfo_value(id, osd)).collect::<Vec<_>>(),
        "pg_upmap": upmap,
        "pg_upmap_items": [],
        "pg_temp": pg_temp,
        "primary_temp": [],
        "blocklist": blocklist,
        "range_blocklist": {},
        "erasure_code_profiles": map.erasure_code_profiles,
        "removed_snaps_queue": snaps_value(&map.removed_snaps_queue),
        "new_removed_snaps": snaps_value(&map.new_removed_snaps),
        "new_purged_snaps": snaps_value(&map.new_purged_snaps),
        "crush_node_flags": {},
        "device_class_flags": {},
        "stretch_mode": {
            "stretch_mode_enabled": false,
            "stretch_bucket_count": 0,
            "degraded_stretch_mode": 0,
            "recovering_stretch_mode": 0,
            "stretch_mode_bucket": 0,
        },
    })
}
