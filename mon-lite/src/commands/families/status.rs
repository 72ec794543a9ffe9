//! `status` and `health`: the cluster at a glance.

use serde_json::{Value, json};

use super::shared::{self, ratio};
use crate::commands::{Argument, Command, Module, Outcome, Refusal, Reply, Request};
use crate::health::{Health, is_active};
use crate::live::SpaceUse;
use crate::render::{bytes, count, since, timestamp};
use crate::version::RELEASE_NAME;
use crate::view::View;

const DETAIL: Argument = Argument::choice("detail", "detail").optional();

pub const COMMANDS: &[Command] = &[
    Command::read("status", Module::Mon, &[], "show the state of the cluster", status),
    Command::read("health", Module::Mon, &[DETAIL], "show what is wrong", health),
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
    let lines: Vec<String> =
        lines.iter().enumerate().map(|(index, line)| format!("{}{line}", label(index))).collect();
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
