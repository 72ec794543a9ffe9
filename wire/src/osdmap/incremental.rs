//! One step from an epoch to the next.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;

use super::blocklist::Blocklist;
use super::codec::{MAP_COMPAT, MAP_VERSION};
use super::map::Ratio;
use super::osd::{OsdState, OsdXInfo};
use super::pool::Pool;
use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::crc::{SEED, crc32c};
use crate::types::{Addr, AddrVec, Epoch, Features, IntervalSet, PgId, PoolId, UTime};

const CLIENT_VERSION: u8 = 8;
const OSD_VERSION: u8 = 9;
/// "No change" of a release.
pub(super) const NO_RELEASE: u8 = 0xff;

/// What changes from one epoch to the next. The default changes nothing but the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incremental {
    /// The cluster.
    pub fsid: Uuid,
    /// The epoch it leads to.
    pub epoch: Epoch,
    /// When it was made.
    pub modified: UTime,
    /// Highest pool id ever given; -1 for no change.
    pub new_pool_max: i64,
    /// Cluster flags; -1 for no change.
    pub new_flags: i32,
    /// A whole map that replaces the old one; empty for none.
    pub full_map: Bytes,
    /// A new CRUSH map, encoded; empty for no change.
    pub crush: Bytes,
    /// Number of OSD ids; -1 for no change.
    pub new_max_osd: i32,
    /// New and changed pools.
    pub new_pools: BTreeMap<PoolId, Pool>,
    /// New and changed pool names.
    pub new_pool_names: BTreeMap<PoolId, String>,
    /// Pools that go.
    pub old_pools: BTreeSet<PoolId>,
    /// OSDs that come up, and where clients reach them.
    pub new_up_client: BTreeMap<i32, AddrVec>,
    /// State bits to flip; none at all means [`OsdState::UP`].
    pub new_state: BTreeMap<i32, OsdState>,
    /// Weights, 16.16.
    pub new_weight: BTreeMap<i32, u32>,
    /// Temporary acting sets; an empty one ends it.
    pub new_pg_temp: BTreeMap<PgId, Vec<i32>>,
    /// Temporary primaries; -1 ends it.
    pub new_primary_temp: BTreeMap<PgId, i32>,
    /// Primary affinities, 16.16.
    pub new_primary_affinity: BTreeMap<i32, u32>,
    /// New and changed profiles.
    pub new_erasure_code_profiles: BTreeMap<String, BTreeMap<String, String>>,
    /// Profiles that go.
    pub old_erasure_code_profiles: Vec<String>,
    /// New and changed placements by hand.
    pub new_pg_upmap: BTreeMap<PgId, Vec<i32>>,
    /// Placements by hand that end.
    pub old_pg_upmap: BTreeSet<PgId>,
    /// New and changed replacements by hand.
    pub new_pg_upmap_items: BTreeMap<PgId, Vec<(i32, i32)>>,
    /// Replacements by hand that end.
    pub old_pg_upmap_items: BTreeSet<PgId>,
    /// Snapshots removed.
    pub new_removed_snaps: BTreeMap<PoolId, IntervalSet>,
    /// Snapshots found purged everywhere.
    pub new_purged_snaps: BTreeMap<PoolId, IntervalSet>,
    /// When an OSD went up or down; zero for no change.
    pub new_last_up_change: UTime,
    /// When an OSD went in or out; zero for no change.
    pub new_last_in_change: UTime,
    /// Heartbeat addresses of the OSDs in `new_up_client`, cluster network.
    pub new_heartbeat_back_up: BTreeMap<i32, AddrVec>,
    /// OSDs known alive at an epoch.
    pub new_up_thru: BTreeMap<i32, Epoch>,
    /// Intervals that ended cleanly.
    pub new_last_clean_interval: BTreeMap<i32, (Epoch, Epoch)>,
    /// OSDs declared lost.
    pub new_lost: BTreeMap<i32, Epoch>,
    /// New blocklist entries.
    pub new_blocklist: Blocklist,
    /// Blocklist entries that go.
    pub old_blocklist: Vec<Addr>,
    /// Cluster addresses of OSDs that come up.
    pub new_up_cluster: BTreeMap<i32, AddrVec>,
    /// Name of the cluster snapshot.
    pub cluster_snapshot: String,
    /// Identities of stores.
    pub new_uuid: BTreeMap<i32, Uuid>,
    /// Statistics.
    pub new_xinfo: BTreeMap<i32, OsdXInfo>,
    /// Heartbeat addresses of the OSDs in `new_up_client`, clients' network.
    pub new_heartbeat_front_up: BTreeMap<i32, AddrVec>,
    /// Features for which `full_crc` was computed.
    pub encode_features: Features,
    /// New nearfull ratio; below 0 for no change.
    pub new_nearfull_ratio: Ratio,
    /// New full ratio; below 0 for no change.
    pub new_full_ratio: Ratio,
    /// New backfillfull ratio; below 0 for no change.
    pub new_backfillfull_ratio: Ratio,
    /// Oldest release of clients; 0xff for no change.
    pub new_require_min_compat_client: u8,
    /// Oldest release of OSDs; 0xff for no change.
    pub new_require_osd_release: u8,
    /// State bits below a CRUSH item; 0 ends them.
    pub new_crush_node_flags: BTreeMap<i32, u32>,
    /// State bits of a device class; 0 ends them.
    pub new_device_class_flags: BTreeMap<i32, u32>,
    /// Checksum at the end of the resulting full map.
    pub full_crc: u32,
}

impl Default for Incremental {
    fn default() -> Self {
        Self {
            fsid: Uuid::nil(),
            epoch: Epoch(0),
            modified: UTime::default(),
            new_pool_max: -1,
            new_flags: -1,
            full_map: Bytes::new(),
            crush: Bytes::new(),
            new_max_osd: -1,
            new_pools: BTreeMap::new(),
            new_pool_names: BTreeMap::new(),
            old_pools: BTreeSet::new(),
            new_up_client: BTreeMap::new(),
            new_state: BTreeMap::new(),
            new_weight: BTreeMap::new(),
            new_pg_temp: BTreeMap::new(),
            new_primary_temp: BTreeMap::new(),
            new_primary_affinity: BTreeMap::new(),
            new_erasure_code_profiles: BTreeMap::new(),
            old_erasure_code_profiles: Vec::new(),
            new_pg_upmap: BTreeMap::new(),
            old_pg_upmap: BTreeSet::new(),
            new_pg_upmap_items: BTreeMap::new(),
            old_pg_upmap_items: BTreeSet::new(),
            new_removed_snaps: BTreeMap::new(),
            new_purged_snaps: BTreeMap::new(),
            new_last_up_change: UTime::default(),
            new_last_in_change: UTime::default(),
            new_heartbeat_back_up: BTreeMap::new(),
            new_up_thru: BTreeMap::new(),
            new_last_clean_interval: BTreeMap::new(),
            new_lost: BTreeMap::new(),
            new_blocklist: Blocklist::default(),
            old_blocklist: Vec::new(),
            new_up_cluster: BTreeMap::new(),
            cluster_snapshot: String::new(),
            new_uuid: BTreeMap::new(),
            new_xinfo: BTreeMap::new(),
            new_heartbeat_front_up: BTreeMap::new(),
            encode_features: Features::PACIFIC,
            new_nearfull_ratio: Ratio::new(-1.0),
            new_full_ratio: Ratio::new(-1.0),
            new_backfillfull_ratio: Ratio::new(-1.0),
            new_require_min_compat_client: NO_RELEASE,
            new_require_osd_release: NO_RELEASE,
            new_crush_node_flags: BTreeMap::new(),
            new_device_class_flags: BTreeMap::new(),
            full_crc: 0,
        }
    }
}

impl Wire for Incremental {
    const BYTES_MIN: usize = 200;

    /// The increment's own checksum covers all of its encoding but itself.
    fn encode(&self, w: &mut Writer) {
        let start = w.len();
        let mut crc_at = 0;
        w.env(MAP_VERSION, MAP_COMPAT, |w| {
            w.env(CLIENT_VERSION, 1, |w| self.encode_client(w));
            w.env(OSD_VERSION, 1, |w| self.encode_osd(w));
            crc_at = w.len();
            w.u32(0);
            w.u32(self.full_crc);
        });
        let before = crc32c(SEED, &w.as_slice()[start..crc_at]);
        let crc = crc32c(before, &self.full_crc.to_le_bytes());
        w.patch_u32(crc_at, crc);
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        let mut covered = r.clone();
        let start = r.offset();
        r.env("osd map increment", MAP_VERSION, |r, version| {
            if version < MAP_VERSION {
                return Err(r.error(format!("version {MAP_VERSION} or newer"), version.to_string()));
            }
            let mut inc = Self::default();
            r.env("increment for clients", CLIENT_VERSION, |r, version| {
                if version < CLIENT_VERSION {
                    return Err(r.error(format!("version {CLIENT_VERSION} or newer"), version.to_string()));
                }
                inc.decode_client(r)
            })?;
            r.env("increment for osds", OSD_VERSION, |r, version| {
                if version < OSD_VERSION {
                    return Err(r.error(format!("version {OSD_VERSION} or newer"), version.to_string()));
                }
                inc.decode_osd(r)
            })?;
            let before = crc32c(SEED, covered.raw(r.offset() - start)?);
            let stored = r.u32()?;
            let after = r.rest();
            let computed = crc32c(before, &after);
            if stored != computed {
                return Err(r.error(format!("checksum {computed:#010x}"), format!("{stored:#010x}")));
            }
            inc.full_crc = Reader::new("osd map increment", after).u32()?;
            Ok(inc)
        })
    }
}

impl Incremental {
    fn encode_client(&self, w: &mut Writer) {
        w.put(&self.fsid);
        w.put(&self.epoch);
        w.put(&self.modified);
        w.s64(self.new_pool_max);
        w.s32(self.new_flags);
        w.blob(&self.full_map);
        w.blob(&self.crush);
        w.s32(self.new_max_osd);
        w.map(&self.new_pools);
        w.map(&self.new_pool_names);
        w.set(&self.old_pools);
        w.map(&self.new_up_client);
        w.map(&self.new_state);
        w.map(&self.new_weight);
        w.map(&self.new_pg_temp);
        w.map(&self.new_primary_temp);
        w.map(&self.new_primary_affinity);
        w.map(&self.new_erasure_code_profiles);
        w.list(&self.old_erasure_code_profiles);
        w.map(&self.new_pg_upmap);
        w.set(&self.old_pg_upmap);
        w.map(&self.new_pg_upmap_items);
        w.set(&self.old_pg_upmap_items);
        w.map(&self.new_removed_snaps);
        w.map(&self.new_purged_snaps);
        w.put(&self.new_last_up_change);
        w.put(&self.new_last_in_change);
    }

    fn decode_client(&mut self, r: &mut Reader) -> DecodeResult<()> {
        self.fsid = r.get()?;
        self.epoch = r.get()?;
        self.modified = r.get()?;
        self.new_pool_max = r.s64()?;
        self.new_flags = r.s32()?;
        self.full_map = r.blob()?;
        self.crush = r.blob()?;
        self.new_max_osd = r.s32()?;
        self.new_pools = r.map()?;
        self.new_pool_names = r.map()?;
        self.old_pools = r.set()?;
        self.new_up_client = r.map()?;
        self.new_state = r.map()?;
        self.new_weight = r.map()?;
        self.new_pg_temp = r.map()?;
        self.new_primary_temp = r.map()?;
        self.new_primary_affinity = r.map()?;
        self.new_erasure_code_profiles = r.map()?;
        self.old_erasure_code_profiles = r.list()?;
        self.new_pg_upmap = r.map()?;
        self.old_pg_upmap = r.set()?;
        self.new_pg_upmap_items = r.map()?;
        self.old_pg_upmap_items = r.set()?;
        self.new_removed_snaps = r.map()?;
        self.new_purged_snaps = r.map()?;
        self.new_last_up_change = r.get()?;
        self.new_last_in_change = r.get()?;
        Ok(())
    }

    fn encode_osd(&self, w: &mut Writer) {
        w.map(&self.new_heartbeat_back_up);
        w.map(&self.new_up_thru);
        w.map(&self.new_last_clean_interval);
        w.map(&self.new_lost);
        w.put(&self.new_blocklist);
        w.list(&self.old_blocklist);
        w.map(&self.new_up_cluster);
        w.str(&self.cluster_snapshot);
        w.map(&self.new_uuid);
        w.map(&self.new_xinfo);
        w.map(&self.new_heartbeat_front_up);
        w.put(&self.encode_features);
        w.put(&self.new_nearfull_ratio);
        w.put(&self.new_full_ratio);
        w.put(&self.new_backfillfull_ratio);
        w.u8(self.new_require_min_compat_client);
        w.u8(self.new_require_osd_release);
        w.map(&self.new_crush_node_flags);
        w.map(&self.new_device_class_flags);
    }

    fn decode_osd(&mut self, r: &mut Reader) -> DecodeResult<()> {
        self.new_heartbeat_back_up = r.map()?;
        self.new_up_thru = r.map()?;
        self.new_last_clean_interval = r.map()?;
        self.new_lost = r.map()?;
        self.new_blocklist = r.get()?;
        self.old_blocklist = r.list()?;
        self.new_up_cluster = r.map()?;
        self.cluster_snapshot = r.str()?;
        self.new_uuid = r.map()?;
        self.new_xinfo = r.map()?;
        self.new_heartbeat_front_up = r.map()?;
        self.encode_features = r.get()?;
        self.new_nearfull_ratio = r.get()?;
        self.new_full_ratio = r.get()?;
        self.new_backfillfull_ratio = r.get()?;
        self.new_require_min_compat_client = r.u8()?;
        self.new_require_osd_release = r.u8()?;
        self.new_crush_node_flags = r.map()?;
        self.new_device_class_flags = r.map()?;
        Ok(())
    }
}
