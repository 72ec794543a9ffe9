//! Types against Ceph's own encodings of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic here is a failed test")]

mod common;

use std::fmt::Debug;

use common::{hex, load};
use wire::codec::{Reader, Wire, Writer, decode_exact, encode_to_bytes};
use wire::msg::{
    CloneInfo, ListSnapsReply, ListWatchersReply, LogEntry, MgrMap, MonMap, PgListReply, PoolStat, StatSum,
    WatchItem,
};
use wire::types::{Addr, AddrVec, EntityName, HObject, ObjectLocator, PgId, RequestId, UTime};

/// Every instance decodes without leftover and is reproduced; those of a release whose encoding differs from
/// 16.2's are only decoded.
fn check<T: Wire + Debug>(name: &str) {
    let vector = load(&format!("types/{name}.json"));
    let instances = vector["instances"].as_array().unwrap();
    assert!(!instances.is_empty());
    for instance in instances {
        let bytes = hex(&instance["hex"]);
        let value: T = decode_exact("vector", bytes.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let release = common::text(&vector["pacific"]);
        let sources = instance["sources"].as_array().unwrap();
        if release == "both" || sources.iter().any(|source| source == release) {
            assert_eq!(encode_to_bytes(&value), bytes, "{name}: {value:?}");
        }
    }
}

#[test]
fn every_instance_is_reproduced() {
    check::<Addr>("entity_addr_t");
    check::<AddrVec>("entity_addrvec_t");
    check::<(EntityName, Addr)>("entity_inst_t");
    check::<EntityName>("entity_name_t");
    check::<HObject>("hobject_t");
    check::<ObjectLocator>("object_locator_t");
    check::<PgId>("pg_t");
    check::<RequestId>("osd_reqid_t");
    check::<UTime>("utime_t");
    check::<uuid::Uuid>("uuid_d");
    check::<CloneInfo>("clone_info");
    check::<ListSnapsReply>("obj_list_snap_response_t");
    check::<ListWatchersReply>("obj_list_watch_response_t");
    check::<WatchItem>("watch_item_t");
    check::<LogEntry>("LogEntry");
    check::<MgrMap>("MgrMap");
    check::<MonMap>("MonMap");
    check::<PgListReply>("pg_nls_response_t");
    check::<PoolStat>("pool_stat_t");
    check::<StatSum>("object_stat_sum_t");
    check::<Redirect>("request_redirect_t");
}

/// A redirect as it stands in a reply.
#[derive(Debug)]
struct Redirect(wire::msg::Redirect);

impl Wire for Redirect {
    fn encode(&self, w: &mut Writer) {
        self.0.encode(w);
    }
    fn decode(r: &mut Reader) -> wire::codec::DecodeResult<Self> {
        r.get().map(Self)
    }
}

#[test]
fn fields_mean_what_ceph_says() {
    let vector = load("types/hobject_t.json");
    for instance in vector["instances"].as_array().unwrap() {
        let json = &instance["json"];
        let object: HObject = decode_exact("hobject", hex(&instance["hex"])).unwrap();
        assert_eq!(object.oid, common::text(&json["oid"]));
        assert_eq!(object.key, common::text(&json["key"]));
        assert_eq!(object.nspace, common::text(&json["namespace"]));
        assert_eq!(object.pool, common::int::<i64>(&json["pool"]));
        assert_eq!(object.hash, common::int::<u32>(&json["hash"]));
        assert_eq!(object.snap.0.cast_signed(), common::int::<i64>(&json["snapid"]));
        assert_eq!(u8::from(object.max), common::int::<u8>(&json["max"]));
    }
    let vector = load("types/object_stat_sum_t.json");
    for instance in vector["instances"].as_array().unwrap() {
        let json = &instance["json"];
        let sum: StatSum = decode_exact("stat_sum", hex(&instance["hex"])).unwrap();
        for (field, name) in [
            (sum.bytes, "num_bytes"),
            (sum.objects, "num_objects"),
            (sum.reads, "num_read"),
            (sum.reads_kb, "num_read_kb"),
            (sum.writes, "num_write"),
            (sum.writes_kb, "num_write_kb"),
            (sum.whiteouts, "num_whiteouts"),
            (sum.omap, "num_objects_omap"),
            (sum.misplaced, "num_objects_misplaced"),
            (sum.large_omap_objects, "num_large_omap_objects"),
            (sum.omap_bytes, "num_omap_bytes"),
            (sum.omap_keys, "num_omap_keys"),
            (sum.repaired, "num_objects_repaired"),
        ] {
            assert_eq!(field, common::int::<i64>(&json[name]), "{name}");
        }
    }
}
