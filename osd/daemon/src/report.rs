//! What this OSD tells the monitor of itself, every few seconds and when it starts.
//!
//! Lives on one core.

use std::collections::BTreeMap;

use store::PoolStats;
use wire::msg::{OsdAlert, OsdBeacon, OsdBoot, OsdStatfs, OsdStats, PgReport, PoolReport, StoreStatfs};
use wire::types::PoolId;

use crate::osd::Osd;
use crate::placement_group::{IoCounters, PlacementGroup};
use crate::{fsck, scrub, space};

/// For `ceph versions` and `ceph osd metadata`.
const VERSION_TEXT: &str = concat!("spirula ", env!("CARGO_PKG_VERSION"), " (speaks ceph 16.2 pacific)");

/// Ready to serve.
pub fn boot(osd: &Osd) -> OsdBoot {
    let mut metadata = osd.config.metadata.clone();
    metadata.insert("ceph_version".to_owned(), VERSION_TEXT.to_owned());
    metadata.insert("ceph_version_short".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    OsdBoot {
        fsid: osd.config.fsid,
        osd: osd.config.whoami,
        uuid: osd.config.osd_uuid,
        epoch: osd.maps.epoch(),
        public_addrs: osd.addrs.clone(),
        metadata,
    }
}

/// Alive.
pub fn beacon(osd: &Osd) -> OsdBeacon {
    let epoch = osd.maps.epoch();
    OsdBeacon { osd: osd.config.whoami, epoch, oldest_needed: epoch }
}

/// All that the operator should know now.
pub fn alerts(osd: &Osd) -> OsdAlert {
    OsdAlert {
        osd: osd.config.whoami,
        alerts: [space::alert(osd), space::spillover(osd), scrub::alert(osd), fsck::alert(osd)]
            .into_iter()
            .flatten()
            .collect(),
    }
}

/// Space, pools, groups. `seq` ascends.
pub fn stats(osd: &Osd, seq: u64) -> OsdStats {
    let stats = osd.store.stats();
    let pools_used = osd.store.pool_stats();
    let compressed = pools_used.iter().fold(PoolStats::default(), |sum, (_, one)| sum.plus(one));
    let store = StoreStatfs {
        total: signed(stats.total),
        available: signed(stats.available),
        internally_reserved: 0,
        allocated: signed(stats.allocated),
        data_stored: signed(stats.stored),
        data_compressed: compressed.compressed,
        compressed_allocated: compressed.compressed,
        compressed_original: compressed.compressed_original,
        omap_allocated: signed(stats.omap),
        internal_metadata: signed(stats.metadata),
    };
    OsdStats {
        osd: osd.config.whoami,
        epoch: osd.maps.epoch(),
        seq,
        statfs: OsdStatfs { store, shared_available: 0 },
        pools: pools(osd),
        pgs: groups(osd),
    }
}

fn pools(osd: &Osd) -> BTreeMap<PoolId, PoolReport> {
    let mut io: BTreeMap<PoolId, IoCounters> = BTreeMap::new();
    for group in osd.all_groups() {
        let (of_pool, one) = (io.entry(group.id().pool).or_default(), group.io());
        of_pool.reads += one.reads;
        of_pool.read_bytes += one.read_bytes;
        of_pool.writes += one.writes;
        of_pool.write_bytes += one.write_bytes;
    }
    let used: BTreeMap<PoolId, _> = osd.store.pool_stats().into_iter().collect();
    io.into_iter()
        .map(|(pool, io)| {
            let used = used.get(&pool).copied().unwrap_or_default();
            let report = PoolReport {
                objects: used.objects,
                bytes: used.bytes,
                allocated: used.allocated,
                stored: used.stored,
                compressed: used.compressed,
                compressed_original: used.compressed_original,
                omap_keys: used.omap_keys,
                omap_bytes: used.omap_bytes,
                reads: signed(io.reads),
                reads_kb: signed(io.read_bytes / 1024),
                writes: signed(io.writes),
                writes_kb: signed(io.write_bytes / 1024),
            };
            (pool, report)
        })
        .collect()
}

/// State of a group, in Ceph's words.
pub fn state(osd: &Osd, group: &PlacementGroup) -> String {
    if group.serving_since().is_none() {
        return "stray".to_owned();
    }
    let mut state = "active+clean".to_owned();
    if osd.scrubs.is_running(group.id()) {
        state.push_str("+scrubbing+deep");
    }
    if osd.scrubs.errors(group.id()) > 0 {
        state.push_str("+inconsistent");
    }
    state
}

fn groups(osd: &Osd) -> BTreeMap<wire::types::PgId, PgReport> {
    let served = osd.all_groups().into_iter().filter(|group| group.serving_since().is_some());
    served
        .map(|group| {
            let last = group.with_group(|group| group.info().last_update);
            let report = PgReport {
                state: state(osd, &group),
                // The store counts by pool; nobody shows these numbers by group yet.
                objects: 0,
                bytes: 0,
                version: last.version,
                version_epoch: last.epoch,
            };
            (group.id(), report)
        })
        .collect()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
