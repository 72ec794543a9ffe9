//! Sound test cases to start from.

mod large;

use std::collections::BTreeMap;

use wire::codec::{Wire, encode_to_bytes};
use wire::msg::{
    Log, LogEntry, LogPriority, OsdStatfs, OsdStats, PoolOp, PoolOpKind, PoolReport, StoreStatfs,
};
use wire::types::{AddrVec, AuthName, EntityName, Epoch, SnapId};

use super::cluster::{FSID, NOW, boot, small_cluster};
use crate::state::{Change, Entry, MapFull};

/// Test cases that the entry of this name takes; none for some.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "mon_log_superblock" | "mon_log_record" => crate::log::fuzzing::seeds(name),
        "mon_entry" => vec![encoded(&entry())],
        "mon_state" => std::iter::once(small_cluster()).chain(large::states()).map(|state| encoded(&state)).collect(),
        "mon_state_apply" => vec![encoded(&entry()), encoded(&next_map())],
        "mon_command_json" => [
            r#" {"prefix":"osd pool create","pool":"other","pg_num":"16","pool_type":"replicated","format":"json"}"#,
            r#" {"prefix":"osd pool set","pool":"rbd","var":"size","val":"2"}"#,
            r#" {"prefix":"config set","who":"osd.1","name":"x y","value":"z"}"#,
            r#"!{"prefix":"mon_status","format":"json-pretty"}"#,
        ]
        .into_iter()
        .map(|text| text.as_bytes().to_vec())
        .chain(super::commands::samples())
        .chain(super::commands::variations_as_json())
        .collect(),
        "mon_commands" => super::commands::variations(),
        "mon_pool_op" => [PoolOpKind::CREATE, PoolOpKind::CREATE_SNAP, PoolOpKind::CREATE_UNMANAGED_SNAP]
            .map(|op| front(&PoolOp { version: 1, fsid: FSID, pool: 1, op, snap: SnapId(1), name: "s".into(), crush_rule: -1 }))
            .into(),
        "mon_osd_boot" => vec![encoded(&boot(1)), encoded(&boot(3))],
        "mon_osd_stats" => {
            let few = [1, 2].map(|osd| encoded(&stats(osd, 1))).concat();
            let many = [1, 2].map(|osd| encoded(&stats(osd, large::MANY))).concat();
            vec![few, many]
        }
        "mon_log_message" => vec![front(&Log { fsid: FSID, version: 0, entries: vec![line()] })],
        _ => Vec::new(),
    }
}

fn encoded<T: Wire>(value: &T) -> Vec<u8> {
    encode_to_bytes(value).to_vec()
}

fn front<P: wire::msg::Payload>(payload: &P) -> Vec<u8> {
    payload.to_message(7).front.to_vec()
}

fn line() -> LogEntry {
    LogEntry {
        name: AuthName::default(),
        rank: EntityName::client(1),
        addrs: AddrVec::default(),
        stamp: NOW,
        seq: 1,
        priority: LogPriority::INFO,
        text: "a line".to_owned(),
        channel: "cluster".to_owned(),
    }
}

fn entry() -> Entry {
    let metadata = BTreeMap::from([("hostname".to_owned(), "h".to_owned())]);
    let changes = vec![
        Change::Log(line()),
        Change::ConfigKey { key: "key".into(), value: Some("value".into()) },
        Change::GlobalIds { next: 9000 },
        Change::OsdMetadata { osd: 1, metadata: Some(metadata) },
    ];
    Entry { time: NOW, changes }
}

/// The next epoch of the small cluster's OSD map.
fn next_map() -> Entry {
    let change = small_cluster().osd_maps.edit::<MapFull>(NOW, |map| {
        map.pools.values_mut().for_each(|pool| pool.quota_max_objects = 5);
        Ok(())
    });
    match change {
        Ok(change) => Entry { time: NOW, changes: vec![change] },
        Err(full) => panic!("{full}"),
    }
}

fn stats(osd: i32, pools: i32) -> OsdStats {
    let store = StoreStatfs { total: 8 << 30, available: 7 << 30, ..StoreStatfs::default() };
    OsdStats {
        osd,
        epoch: Epoch(3),
        seq: 1,
        statfs: OsdStatfs { store, shared_available: 0 },
        pools: (1..=pools).map(|pool| (pool.into(), pool_report())).collect(),
        pgs: BTreeMap::new(),
    }
}

fn pool_report() -> PoolReport {
    PoolReport {
        objects: 1,
        bytes: 4096,
        allocated: 4096,
        stored: 4096,
        compressed: 0,
        compressed_original: 0,
        omap_keys: 0,
        omap_bytes: 0,
        reads: 5,
        reads_kb: 20,
        writes: 6,
        writes_kb: 24,
    }
}
