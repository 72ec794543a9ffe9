//! `mon …`: the monitor map.

use serde_json::{Value, json};
use wire::codec::encode_to_bytes;
use wire::msg::{MonInfo, MonMap};
use wire::types::Epoch;

use super::shared::ELECTION_EPOCH;
use crate::commands::{Argument, Command, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::render::{addrvec, first_addr, timestamp, timestamp_z};
use crate::version::{self, RELEASE_NAME};
use crate::view::View;
use wire::Errno;

/// Persistent features of the monitors, by name.
pub const FEATURES: [&str; 8] =
    ["kraken", "luminous", "mimic", "osdmap-prune", "nautilus", "octopus", "pacific", "elector-pinging"];

const EPOCH: Argument = Argument::new("epoch", Kind::Int).optional().range("0");
const ID: Argument = Argument::new("id", Kind::String).optional();
const IDS: Argument = Argument::new("ids", Kind::String).many();
const PROPERTY: Argument = Argument::new("property", Kind::String);

pub const COMMANDS: &[Command] = &[
    Command::read("mon dump", Module::Mon, &[EPOCH], "show the monitor map", dump),
    Command::read("mon stat", Module::Mon, &[], "summarise the monitors", stat),
    Command::read("mon getmap", Module::Mon, &[EPOCH], "get the monitor map in its binary form", getmap),
    Command::read("mon metadata", Module::Mon, &[ID], "show what a monitor says of itself", metadata),
    Command::read(
        "mon count-metadata",
        Module::Mon,
        &[PROPERTY],
        "count monitors by a property",
        count_metadata,
    ),
    Command::read("mon feature ls", Module::Mon, &[], "list the features of the monitor map", feature_ls),
    Command::read("mon ok-to-stop", Module::Mon, &[IDS], "tell whether monitors can be stopped", ok_to_stop),
];

fn map_of<'a>(view: &View<'a>, request: &Request) -> Result<&'a MonMap, Refusal> {
    let map = view.mon_map()?;
    match request.int("epoch")? {
        Some(epoch) if epoch != i64::from(map.epoch.0) => {
            let text = format!("only epoch {} of the monitor map is kept", map.epoch);
            Err(Refusal::new(Errno::ENOENT, text))
        }
        _ => Ok(map),
    }
}

fn by_rank(map: &MonMap) -> impl Iterator<Item = (usize, &MonInfo)> {
    map.ranks.iter().enumerate().filter_map(|(rank, name)| Some((rank, map.mons.get(name)?)))
}

/// The monitor map for programs.
pub fn monmap_value(view: &View<'_>) -> Value {
    let Some(map) = &view.state.mon_map else { return Value::Null };
    let one = |(rank, info): (usize, &MonInfo)| {
        let addr = first_addr(&info.addrs);
        json!({
            "rank": rank,
            "name": info.name,
            "public_addrs": addrvec(&info.addrs),
            "addr": addr,
            "public_addr": addr,
            "priority": info.priority,
            "weight": info.weight,
            "crush_location": "{}",
        })
    };
    // Two keys end in a colon and a blank in Ceph; programs look for exactly those.
    json!({
        "epoch": map.epoch.0,
        "fsid": map.fsid.to_string(),
        "modified": timestamp_z(map.last_changed),
        "created": timestamp_z(map.created),
        "min_mon_release": map.min_mon_release,
        "min_mon_release_name": RELEASE_NAME,
        "election_strategy": map.election_strategy,
        "disallowed_leaders: ": "",
        "stretch_mode": map.stretch_mode,
        "tiebreaker_mon": map.tiebreaker,
        "removed_ranks: ": "",
        "features": {"persistent": FEATURES, "optional": []},
        "mons": by_rank(map).map(one).collect::<Vec<_>>(),
    })
}

fn dump(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = map_of(view, request)?;
    let text = || {
        let mut lines = vec![
            format!("epoch {}", map.epoch),
            format!("fsid {}", map.fsid),
            format!("last_changed {}", timestamp(map.last_changed)),
            format!("created {}", timestamp(map.created)),
            format!("min_mon_release {} ({RELEASE_NAME})", map.min_mon_release),
            format!("election_strategy: {}", map.election_strategy),
        ];
        lines.extend(by_rank(map).map(|(rank, info)| format!("{rank}: {} mon.{}", info.addrs, info.name)));
        lines.join("\n") + "\n"
    };
    let value = || {
        let mut value = monmap_value(view);
        if let Value::Object(object) = &mut value {
            object.insert("quorum".into(), (0..map.ranks.len()).collect());
        }
        value
    };
    Ok(Reply::formatted(request, text, value)
        .with_status(format!("dumped monmap epoch {}", map.epoch))
        .into())
}

fn stat(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.mon_map()?;
    let leader = map.ranks.first().cloned().unwrap_or_default();
    let text = || {
        let all: Vec<String> =
            by_rank(map).map(|(_, info)| format!("{}={}", info.name, info.addrs)).collect();
        let ranks: Vec<String> = (0..map.ranks.len()).map(|rank| rank.to_string()).collect();
        format!(
            "e{}: {} mons at {{{}}} removed_ranks: {{}}, election epoch {ELECTION_EPOCH}, leader 0 {leader}, quorum {} {}\n",
            map.epoch,
            map.ranks.len(),
            all.join(","),
            ranks.join(","),
            map.ranks.join(","),
        )
    };
    let quorum =
        || by_rank(map).map(|(rank, info)| json!({"rank": rank, "name": info.name})).collect::<Vec<_>>();
    let value = || {
        json!({
            "epoch": map.epoch.0,
            "min_mon_release_name": RELEASE_NAME,
            "num_mons": map.ranks.len(),
            "leader": leader,
            "quorum": quorum(),
        })
    };
    Ok(Reply::formatted(request, text, value).into())
}

fn getmap(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = map_of(view, request)?;
    let Epoch(epoch) = map.epoch;
    Ok(Reply::output(encode_to_bytes(map)).with_status(format!("got monmap epoch {epoch}")).into())
}

fn metadata_of(view: &View<'_>, info: &MonInfo) -> Value {
    json!({
        "name": info.name,
        "addrs": info.addrs.to_string(),
        "ceph_release": RELEASE_NAME,
        "ceph_version": version::TEXT,
        "ceph_version_short": env!("CARGO_PKG_VERSION"),
        "hostname": view.live.monitor.hostname,
    })
}

fn metadata(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.mon_map()?;
    let Some(name) = request.text("id")? else {
        let all: Vec<Value> = by_rank(map).map(|(_, info)| metadata_of(view, info)).collect();
        return Ok(Reply::value(request, &all.into()).into());
    };
    let info =
        map.mons.get(&name).ok_or_else(|| Refusal::new(Errno::ENOENT, format!("there is no mon.{name}")))?;
    Ok(Reply::value(request, &metadata_of(view, info)).into())
}

fn count_metadata(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let property = request.need_text("property")?;
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for (_, info) in by_rank(view.mon_map()?) {
        let value = metadata_of(view, info).get(&property).and_then(Value::as_str).map(str::to_owned);
        *counts.entry(value.unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
    }
    Ok(Reply::value(request, &json!(counts)).into())
}

fn feature_ls(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let list = FEATURES.join(",");
    let text = || {
        format!(
            "all features\n\tsupported: [{list}]\n\tpersistent: [{list}]\n\
             on current monmap (epoch n/a)\n\tpersistent: [{list}]\n\trequired: [{list}]\n"
        )
    };
    let value = || {
        json!({
            "all": {"supported": FEATURES, "persistent": FEATURES},
            "monmap": {"persistent": FEATURES, "optional": [], "required": FEATURES},
        })
    };
    Ok(Reply::formatted(request, text, value).into())
}

fn ok_to_stop(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.mon_map()?;
    let ids = request.list("ids")?;
    if ids.iter().any(|id| map.mons.contains_key(id)) {
        return Err(Refusal::new(
            Errno::EBUSY,
            "the cluster has one monitor and would stand still without it",
        ));
    }
    Ok(Reply::status("no monitor of the cluster is among these").into())
}
