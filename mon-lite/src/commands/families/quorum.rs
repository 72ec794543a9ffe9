//! The cluster as a whole: its id, its monitors' agreement, versions, features, nodes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use wire::types::{EntityKind, Features};

use super::mon::monmap_value;
use super::shared::{ELECTION_EPOCH, osd_ids};
use crate::commands::{Argument, Command, Module, Outcome, Refusal, Reply, Request};
use crate::version;
use crate::view::View;

const NODE_KIND: Argument = Argument::choice("type", "all|osd|mon|mds|mgr").optional();

pub const COMMANDS: &[Command] = &[
    Command::read("fsid", Module::Mon, &[], "show the id of the cluster", fsid),
    Command::read("quorum_status", Module::Mon, &[], "show which monitors agree", quorum_status),
    Command::read("versions", Module::Mon, &[], "count the versions of all daemons", versions),
    Command::read("mon versions", Module::Mon, &[], "count the versions of monitors", mon_versions),
    Command::read("osd versions", Module::Osd, &[], "count the versions of OSDs", osd_versions),
    Command::read("features", Module::Mon, &[], "count the features of all who are connected", features),
    Command::read("time-sync-status", Module::Mon, &[], "show how monitors' clocks differ", time_sync_status),
    Command::read("node ls", Module::Mon, &[NODE_KIND], "list daemons by host", node_ls),
];

fn fsid(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let fsid = view.state.fsid.to_string();
    Ok(Reply::formatted(request, || format!("{fsid}\n"), || json!({"fsid": fsid})).into())
}

fn quorum_status(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let names = view.ranks();
    let ranks: Vec<usize> = (0..names.len()).collect();
    let value = json!({
        "election_epoch": ELECTION_EPOCH,
        "quorum": ranks,
        "quorum_names": names,
        "quorum_leader_name": names.first(),
        "quorum_age": view.seconds_since(view.live.monitor.leading_since),
        "features": {"quorum_con": Features::PACIFIC.0.to_string(), "quorum_mon": super::mon::FEATURES},
        "monmap": monmap_value(view),
    });
    // One line, also for people, as they are used to.
    let text = value.to_string();
    Ok(Reply::formatted(request, || text.clone() + "\n", || value.clone()).into())
}

/// How many daemons run each version.
type Versions = BTreeMap<String, usize>;

fn mons(view: &View<'_>) -> Versions {
    [(version::TEXT.to_owned(), view.ranks().len())].into()
}

fn osds(view: &View<'_>) -> Versions {
    let map = view.osd_map();
    let mut versions = Versions::new();
    for osd in osd_ids(map).filter(|osd| map.is_up(*osd)) {
        let reported = view.state.osd_metadata.get(&osd).and_then(|metadata| metadata.get("ceph_version"));
        *versions.entry(reported.map_or_else(|| "unknown".to_owned(), Clone::clone)).or_default() += 1;
    }
    versions
}

fn versions(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (mons, osds) = (mons(view), osds(view));
    let mut overall = mons.clone();
    osds.iter().for_each(|(version, count)| *overall.entry(version.clone()).or_default() += count);
    let value = json!({"mon": mons, "mgr": {}, "osd": osds, "mds": {}, "overall": overall});
    Ok(Reply::value(request, &value).into())
}

fn mon_versions(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::value(request, &json!(mons(view))).into())
}

fn osd_versions(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::value(request, &json!(osds(view))).into())
}

fn features(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let mut groups: BTreeMap<(EntityKind, Features), u64> = view.live.sessions.clone();
    *groups.entry((EntityKind::MON, Features::PACIFIC)).or_default() += 1;
    let mut value = Map::new();
    for ((kind, features), count) in &groups {
        // The release that a set of features stands for; all that connect have those of Luminous.
        let row = json!({"features": format!("{:#x}", features.0), "release": "luminous", "num": count});
        match value.entry(kind.to_string()).or_insert_with(|| json!([])) {
            Value::Array(rows) => rows.push(row),
            _ => unreachable!("only arrays are inserted"),
        }
    }
    Ok(Reply::value(request, &value.into()).into())
}

fn time_sync_status(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let value = json!({"timechecks": {"epoch": ELECTION_EPOCH, "round": 0, "round_status": "finished"}});
    Ok(Reply::value(request, &value).into())
}

fn node_ls(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let kind = request.text("type")?.unwrap_or_else(|| "all".to_owned());
    let mut by_host: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for osd in osd_ids(view.osd_map()) {
        let host = view.state.osd_metadata.get(&osd).and_then(|metadata| metadata.get("hostname"));
        by_host.entry(host.cloned().unwrap_or_default()).or_default().push(osd);
    }
    let mons = json!({view.live.monitor.hostname.clone(): view.ranks()});
    let all = json!({"mon": mons, "osd": by_host, "mgr": {}, "mds": {}});
    let value = if kind == "all" { all } else { all.get(&kind).cloned().unwrap_or_else(|| json!({})) };
    Ok(Reply::value(request, &value).into())
}
