//! `status`, `health`, `df`: the cluster at a glance.

use serde_json::{Map, Value, json};
use wire::types::PoolId;

use super::shared;
use crate::commands::{Argument, Command, Module, Outcome, Refusal, Reply, Request};
use crate::crush_view;
use crate::health::{Health, is_active};
use crate::live::SpaceUse;
use crate::render::{Align, Table, bytes, count, number, since, timestamp};
use crate::version::RELEASE_NAME;
use crate::view::View;

const DETAIL: Argument = Argument::choice("detail", "detail").optional();

pub const COMMANDS: &[Command] = &[
    Command::read("status", Module::Mon, &[], "show the state of the cluster", status),
    Command::read("health", Module::Mon, &[DETAIL], "show what is wrong", health),
    Command::read("df", Module::Mon, &[DETAIL], "show the use of space by class and by pool", df),
];

fn status(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::formatted(request, || status_text(view), || status_value(view)).into())
}

fn health(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let detail = request.text("detail")?.is_some();
    let health = Health::of(view);
    Ok(Reply::formatted(request, || health.text(detail), || health.value(detail)).into())
}

/// The text of `ceph -s`, which ends as Ceph's does: sections end with a line of one blank.
fn status_text(view: &View<'_>) -> String {
    let health = Health::of(view);
    let mut lines = vec!["  cluster:".to_owned(), format!("    id:     {}", view.state.fsid)];
    lines.push(format!("    health: {}", health.status()));
    lines.extend(health.checks().map(|(_, check)| format!("            {}", check.summary)));
    lines.extend([" ".to_owned(), "  services:".to_owned()]);
    let names = view.ranks();
    let age = since(view.seconds_since(view.live.monitor.leading_since));
    lines.push(format!("    mon: {} daemons, quorum {} (age {age})", names.len(), names.join(",")));
    lines.push("    mgr: no daemons active".to_owned());
    lines.push(format!("    osd: {}", osd_line(view)));
    lines.extend([" ".to_owned(), "  data:".to_owned()]);
    let totals = Totals::of(view);
    lines.push(format!("    pools:   {} pools, {} pgs", totals.pools, view.live.pg_map.len()));
    lines.push(format!("    objects: {} objects, {}", count(totals.objects), bytes(totals.bytes)));
    lines.push(format!("    usage:   {}", usage(totals.space)));
    lines.extend(pg_lines(view));
    let rates = view.live.reports.rates(view.now, None);
    let io = shared::traffic_text(rates);
    if !io.is_empty() {
        lines.extend([" ".to_owned(), "  io:".to_owned(), format!("    client:   {io}")]);
    }
    lines.push(" ".to_owned());
    lines.join("\n") + "\n"
}

fn pg_lines(view: &View<'_>) -> Vec<String> {
    let states = view.pg_states();
    let width = states.iter().map(|(_, number)| number.to_string().len()).max().unwrap_or(0);
    let mut lines: Vec<String> = Vec::new();
    let idle: usize = states.iter().filter(|(state, _)| !is_active(state)).map(|(_, number)| number).sum();
    if idle > 0 {
        let share = 100.0 * ratio(idle as u64, view.live.pg_map.len() as u64);
        lines.push(format!("{share:.3}% pgs not active"));
    }
    lines.extend(states.iter().map(|(state, number)| format!("{number:>width$} {state}")));
    let label = |index: usize| if index == 0 { "    pgs:     " } else { "             " };
    let lines: Vec<String> = lines.iter().enumerate().map(|(index, line)| format!("{}{line}", label(index))).collect();
    if lines.is_empty() { vec!["    pgs:     ".to_owned()] } else { lines }
}

/// What `osd stat` and `status` say about OSDs.
pub fn osd_line(view: &View<'_>) -> String {
    let map = view.osd_map();
    let (all, up, in_) = shared::osd_counts(map);
    let ages = |stamp| format!(" (since {})", since(view.seconds_since(stamp)));
    let up_since = if up > 0 { ages(map.last_up_change) } else { String::new() };
    let in_since = if in_ > 0 { ages(map.last_in_change) } else { String::new() };
    format!("{all} osds: {up} up{up_since}, {in_} in{in_since}")
}

/// `880 MiB used, 17 GiB / 18 GiB avail`.
pub fn usage(space: SpaceUse) -> String {
    format!("{} used, {} / {} avail", bytes(space.used()), bytes(space.available), bytes(space.total))
}

/// Sums over the whole cluster.
pub struct Totals {
    pub pools: usize,
    pub objects: u64,
    pub bytes: u64,
    pub space: SpaceUse,
}

impl Totals {
    pub fn of(view: &View<'_>) -> Self {
        let map = view.osd_map();
        let used = view.live.reports.pools(map.pools.keys().copied());
        Self {
            pools: map.pools.len(),
            objects: used.objects,
            bytes: used.bytes,
            space: view.live.reports.space(),
        }
    }
}

fn status_value(view: &View<'_>) -> Value {
    let map = view.osd_map();
    let (all, up, in_) = shared::osd_counts(map);
    let totals = Totals::of(view);
    let states: Vec<Value> = (view.pg_states().iter())
        .map(|(state, number)| json!({"state_name": state, "count": number}))
        .collect();
    let mut pgmap = json!({
        "pgs_by_state": states,
        "num_pgs": view.live.pg_map.len(),
        "num_pools": totals.pools,
        "num_objects": totals.objects,
        "data_bytes": totals.bytes,
        "bytes_used": totals.space.used(),
        "bytes_avail": totals.space.available,
        "bytes_total": totals.space.total,
    });
    if let Value::Object(pgmap) = &mut pgmap {
        pgmap.extend(shared::traffic_value(view.live.reports.rates(view.now, None)));
    }
    let ranks: Vec<usize> = (0..view.ranks().len()).collect();
    json!({
        "fsid": view.state.fsid.to_string(),
        "health": Health::of(view).value(false),
        "election_epoch": shared::ELECTION_EPOCH,
        "quorum": ranks,
        "quorum_names": view.ranks(),
        "quorum_age": view.seconds_since(view.live.monitor.leading_since),
        "monmap": {
            "epoch": view.state.mon_map.as_ref().map_or(0, |map| map.epoch.0),
            "min_mon_release_name": RELEASE_NAME,
            "num_mons": view.ranks().len(),
        },
        "osdmap": {
            "epoch": map.epoch.0,
            "num_osds": all,
            "num_up_osds": up,
            "osd_up_since": map.last_up_change.seconds,
            "num_in_osds": in_,
            "osd_in_since": map.last_in_change.seconds,
            "num_remapped_pgs": 0,
        },
        "pgmap": pgmap,
        "fsmap": {"epoch": 1, "by_rank": [], "up:standby": 0},
        "mgrmap": {"available": false, "num_standbys": 0, "modules": [], "services": {}},
        "servicemap": {"epoch": 1, "modified": timestamp(map.created), "services": {}},
        "progress_events": {},
    })
}

/// The use of one pool, as `df` shows it.
struct PoolRow {
    id: PoolId,
    name: String,
    pg_num: u32,
    stored: u64,
    omap: u64,
    objects: u64,
    used: u64,
    max_available: u64,
    share: f64,
    quota_objects: u64,
    quota_bytes: u64,
    io: crate::live::IoCounters,
}

fn pool_rows(view: &View<'_>) -> Vec<PoolRow> {
    let map = view.osd_map();
    let row = |(id, pool): (&PoolId, &wire::osdmap::Pool)| {
        let held = view.live.reports.pool(*id);
        let used = held.allocated + held.omap_bytes;
        let max_available = shared::pool_room(view, pool);
        PoolRow {
            id: *id,
            name: map.pool_names.get(id).cloned().unwrap_or_default(),
            pg_num: pool.pg_num,
            stored: held.bytes,
            omap: held.omap_bytes,
            objects: held.objects,
            used,
            max_available,
            share: ratio(used, used + max_available),
            quota_objects: pool.quota_max_objects,
            quota_bytes: pool.quota_max_bytes,
            io: held.io,
        }
    };
    map.pools.iter().map(row).collect()
}

/// Space by device class, of OSDs that reported.
fn by_class(view: &View<'_>) -> Vec<(String, SpaceUse)> {
    let crush = &view.osd_map().crush;
    let mut classes = std::collections::BTreeMap::<String, SpaceUse>::new();
    for (osd, report) in view.live.reports.iter() {
        *classes.entry(crush_view::class_of(crush, osd).unwrap_or_default()).or_default() += report.space;
    }
    classes.into_iter().collect()
}

fn df(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let detail = request.text("detail")?.is_some();
    Ok(Reply::formatted(request, || df_text(view, detail), || df_value(view, detail)).into())
}

fn df_text(view: &View<'_>, detail: bool) -> String {
    use Align::{Left, Right};
    let mut raw = Table::new(&[
        ("CLASS", Left),
        ("SIZE", Right),
        ("AVAIL", Right),
        ("USED", Right),
        ("RAW USED", Right),
        ("%RAW USED", Right),
    ]);
    let mut line = |name: String, space: SpaceUse| {
        let used = bytes(space.used());
        let share = format!("{:.2}", space.ratio() * 100.0);
        raw.row([name, bytes(space.total), bytes(space.available), used.clone(), used, share]);
    };
    by_class(view).into_iter().for_each(|(class, space)| line(class, space));
    line("TOTAL".to_owned(), view.live.reports.space());
    let pools = if detail { pools_detail(view) } else { pools_brief(view) };
    format!("--- RAW STORAGE ---\n{} \n--- POOLS ---\n{}", raw.render(), pools.render())
}

fn percent(share: f64) -> String {
    if share * 100.0 < 0.005 { "0".to_owned() } else { format!("{:.2}", share * 100.0) }
}

fn pools_brief(view: &View<'_>) -> Table {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("POOL", Left),
        ("ID", Right),
        ("PGS", Right),
        ("STORED", Right),
        ("OBJECTS", Right),
        ("USED", Right),
        ("%USED", Right),
        ("MAX AVAIL", Right),
    ]);
    for row in pool_rows(view) {
        table.row([
            row.name,
            row.id.to_string(),
            row.pg_num.to_string(),
            bytes(row.stored + row.omap),
            count(row.objects),
            bytes(row.used),
            percent(row.share),
            bytes(row.max_available),
        ]);
    }
    table
}

fn pools_detail(view: &View<'_>) -> Table {
    use Align::{Left, Right};
    let titles = [
        "ID", "PGS", "STORED", "(DATA)", "(OMAP)", "OBJECTS", "USED", "(DATA)", "(OMAP)", "%USED", "MAX AVAIL",
        "QUOTA OBJECTS", "QUOTA BYTES", "DIRTY", "USED COMPR", "UNDER COMPR",
    ];
    let columns: Vec<_> = [("POOL", Left)].into_iter().chain(titles.map(|title| (title, Right))).collect();
    let mut table = Table::new(&columns);
    let quota = |limit: u64, text: String| if limit == 0 { "N/A".to_owned() } else { text };
    for row in pool_rows(view) {
        table.row([
            row.name,
            row.id.to_string(),
            row.pg_num.to_string(),
            bytes(row.stored + row.omap),
            bytes(row.stored),
            bytes(row.omap),
            count(row.objects),
            bytes(row.used),
            bytes(row.used - row.omap),
            bytes(row.omap),
            percent(row.share),
            bytes(row.max_available),
            quota(row.quota_objects, count(row.quota_objects)),
            quota(row.quota_bytes, bytes(row.quota_bytes)),
            "N/A".to_owned(),
            bytes(0),
            bytes(0),
        ]);
    }
    table
}

fn df_value(view: &View<'_>, detail: bool) -> Value {
    let space_value = |space: SpaceUse| {
        let mut value = Map::new();
        value.insert("total_bytes".into(), space.total.into());
        value.insert("total_avail_bytes".into(), space.available.into());
        value.insert("total_used_bytes".into(), space.used().into());
        value.insert("total_used_raw_bytes".into(), space.used().into());
        value.insert("total_used_raw_ratio".into(), number(space.ratio()));
        value
    };
    let mut stats = space_value(view.live.reports.space());
    let reporting = view.live.reports.iter().count();
    for key in ["num_osds", "num_per_pool_osds", "num_per_pool_omap_osds"] {
        stats.insert(key.into(), reporting.into());
    }
    let classes: Map<String, Value> =
        by_class(view).into_iter().map(|(class, space)| (class, space_value(space).into())).collect();
    let pools: Vec<Value> = pool_rows(view).iter().map(|row| pool_value(row, detail)).collect();
    json!({"stats": stats, "stats_by_class": classes, "pools": pools})
}

fn pool_value(row: &PoolRow, detail: bool) -> Value {
    let mut stats = Map::new();
    let mut put = |key: &str, value: Value| stats.insert(key.to_owned(), value);
    put("stored", (row.stored + row.omap).into());
    if detail {
        put("stored_data", row.stored.into());
        put("stored_omap", row.omap.into());
    }
    put("objects", row.objects.into());
    put("kb_used", row.used.div_ceil(1024).into());
    put("bytes_used", row.used.into());
    if detail {
        put("data_bytes_used", (row.used - row.omap).into());
        put("omap_bytes_used", row.omap.into());
    }
    put("percent_used", number(row.share));
    put("max_avail", row.max_available.into());
    if detail {
        put("quota_objects", row.quota_objects.into());
        put("quota_bytes", row.quota_bytes.into());
        put("dirty", 0.into());
        put("rd", row.io.reads.into());
        put("rd_bytes", row.io.read_bytes.into());
        put("wr", row.io.writes.into());
        put("wr_bytes", row.io.write_bytes.into());
        put("compress_bytes_used", 0.into());
        put("compress_under_bytes", 0.into());
        put("stored_raw", (row.stored + row.omap).into());
        put("avail_raw", row.max_available.into());
    }
    json!({"name": row.name, "id": row.id, "stats": stats})
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
