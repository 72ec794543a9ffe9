//! Commands that show something and change nothing.

use serde_json::{Map, Value, json};

use crate::limits::SHOWN_OPS_MAX;
use crate::osd::Osd;
use crate::{memory, report};

/// The version, in Ceph's terms.
pub fn version() -> Value {
    json!({ "version": env!("CARGO_PKG_VERSION"), "release": "pacific", "release_type": "stable" })
}

/// The state of the OSD.
pub fn status(osd: &Osd) -> Value {
    let (connections, half_open) = osd.connection_counts();
    json!({
        "cluster_fsid": osd.config.fsid.to_string(),
        "osd_fsid": osd.config.osd_uuid.to_string(),
        "whoami": osd.config.whoami,
        "state": if osd.is_up() { "active" } else { "booting" },
        "oldest_map": osd.maps.epoch().0,
        "newest_map": osd.maps.epoch().0,
        "num_pgs": osd.all_groups().len(),
        "num_connections": connections,
        "num_half_open": half_open,
        "store_full": osd.store_full.get(),
    })
}

/// All counters.
pub fn counters(osd: &Osd) -> Value {
    let counted = &osd.counters;
    let (mut reads, mut read_bytes, mut writes, mut write_bytes, mut contexts) = (0, 0, 0, 0, 0);
    for group in osd.all_groups() {
        let io = group.io();
        reads += io.reads;
        read_bytes += io.read_bytes;
        writes += io.writes;
        write_bytes += io.write_bytes;
        contexts += group.contexts();
    }
    let stats = osd.store.stats();
    let mut of_store: Map<String, Value> =
        stats.counters.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
    for (name, value) in [
        ("total_bytes", stats.total),
        ("available_bytes", stats.available),
        ("allocated_bytes", stats.allocated),
        ("stored_bytes", stats.stored),
        ("omap_bytes", stats.omap),
        ("metadata_bytes", stats.metadata),
        ("free_pieces", stats.free_pieces),
        ("fragmentation_permille", stats.fragmentation_permille),
    ] {
        of_store.insert(name.to_owned(), value.into());
    }
    let (read_latency, write_latency) = osd.tracker.latencies();
    let (read_stages, write_stages) = osd.tracker.stages();
    json!({
        "osd": {
            "op": counted.requests.get(),
            "op_reply": counted.replies.get(),
            "op_dropped": counted.dropped.get(),
            "op_wip": osd.tracker.in_flight(),
            "op_r": reads,
            "op_r_latency": read_latency,
            "op_r_out_bytes": read_bytes,
            "op_w": writes,
            "op_w_latency": write_latency,
            "op_w_in_bytes": write_bytes,
            "object_ctx_cache_total": contexts,
            "map_messages": counted.maps.get(),
            "scrubbed_objects": counted.scrubbed_objects.get(),
            "scrubbed_bytes": counted.scrubbed_bytes.get(),
            "scrub_errors": counted.scrub_errors.get(),
            "fscks": counted.fscks.get(),
            "fsck_errors": counted.fsck_errors.get(),
            "numpg": osd.all_groups().len(),
            "connections": counted.connections.get(),
            "connections_refused": counted.connections_refused.get(),
        },
        "throttle-osd_requests": {
            "val": osd.requests.total() - osd.requests.free(),
            "max": osd.requests.total(),
            "waiting": osd.requests.waiting(),
        },
        "throttle-osd_request_bytes": {
            "val": osd.request_bytes.total() - osd.request_bytes.free(),
            "max": osd.request_bytes.total(),
            "waiting": osd.request_bytes.waiting(),
        },
        "stages_r": read_stages,
        "stages_w": write_stages,
        "store": of_store,
        "memory": memory::counters(osd, &stats.memory),
    })
}

/// Blocked clients, by the map in force.
pub fn blocklist(osd: &Osd) -> Value {
    let map = osd.maps.current();
    let entries = map.blocklist.0.iter();
    entries.map(|(addr, until)| json!({ "addr": format!("{addr:?}"), "until": until.to_string() })).collect()
}

/// Placement groups.
pub fn groups(osd: &Osd) -> Value {
    let one = |group: std::rc::Rc<crate::placement_group::PlacementGroup>| {
        let info = group.with_group(|group| *group.info());
        json!({
            "pgid": group.id().to_string(),
            "state": report::state(osd, &group),
            "same_primary_since": group.serving_since().map(|epoch| epoch.0),
            "last_update": info.last_update.to_string(),
            "last_user_version": info.last_user_version,
            "created": info.created.0,
        })
    };
    osd.all_groups().into_iter().map(one).collect()
}

/// Pools with groups here.
pub fn pools(osd: &Osd) -> Value {
    let pools: std::collections::BTreeSet<i64> =
        osd.all_groups().iter().map(|group| group.id().pool).collect();
    json!({ "mapped_pools": pools })
}

/// Connections.
pub fn sessions(osd: &Osd) -> Value {
    let sessions = osd.all_sessions();
    let one = |session: &std::rc::Rc<crate::session::Session>| {
        json!({
            "entity": session.entity().to_string(),
            "addrs": format!("{:?}", session.peer_addrs()),
            "requests_in_progress": session.requests_in_progress(),
            "state": session.link.state_text(),
        })
    };
    sessions.iter().take(SHOWN_OPS_MAX).map(one).collect()
}
