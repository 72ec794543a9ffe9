//! The OSD map of one epoch.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::blocklist::Blocklist;
use super::osd::{AFFINITY_DEFAULT, Osd};
use super::pool::Pool;
use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::crush::CrushMap;
use crate::types::{Epoch, IntervalSet, PgId, PoolId, UTime};

/// The OSD map of one epoch. The default is the map before the first epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OsdMap {
    /// The cluster.
    pub fsid: Uuid,
    /// Version of this map.
    pub epoch: Epoch,
    /// When the cluster was made.
    pub created: UTime,
    /// When this epoch was made.
    pub modified: UTime,
    /// Pools by id.
    pub pools: BTreeMap<PoolId, Pool>,
    /// Names of the pools.
    pub pool_names: BTreeMap<PoolId, String>,
    /// Highest pool id ever given.
    pub pool_max: i32,
    /// Cluster-wide flags.
    pub flags: MapFlags,
    /// OSDs by id.
    pub osds: Vec<Osd>,
    /// Acting sets that differ from the computed ones for now.
    pub pg_temp: BTreeMap<PgId, Vec<i32>>,
    /// Primaries that differ from the computed ones for now.
    pub primary_temp: BTreeMap<PgId, i32>,
    /// How good a primary each OSD is, 16.16. Empty when all are [`AFFINITY_DEFAULT`].
    pub primary_affinity: Vec<u32>,
    /// The hierarchy and its rules; shared by the epochs between its changes.
    pub crush: Arc<CrushMap>,
    /// Counts changes of `crush`.
    pub crush_version: i32,
    /// Profiles of erasure-coded pools.
    pub erasure_code_profiles: BTreeMap<String, BTreeMap<String, String>>,
    /// Placement by hand: whole sets.
    pub pg_upmap: BTreeMap<PgId, Vec<i32>>,
    /// Placement by hand: replacements of one OSD by another.
    pub pg_upmap_items: BTreeMap<PgId, Vec<(i32, i32)>>,
    /// Snapshots removed in this epoch.
    pub new_removed_snaps: BTreeMap<PoolId, IntervalSet>,
    /// Snapshots found purged in this epoch.
    pub new_purged_snaps: BTreeMap<PoolId, IntervalSet>,
    /// When an OSD last went up or down.
    pub last_up_change: UTime,
    /// When an OSD last went in or out.
    pub last_in_change: UTime,
    /// Clients and daemons that may not do anything any more, and until when.
    pub blocklist: Blocklist,
    /// Epoch of the cluster snapshot, an abandoned feature.
    pub cluster_snapshot_epoch: Epoch,
    /// Name of the cluster snapshot.
    pub cluster_snapshot: String,
    /// Use at which an OSD is nearly full.
    pub nearfull_ratio: Ratio,
    /// Use at which an OSD takes no more writes.
    pub full_ratio: Ratio,
    /// Use at which an OSD takes no more backfill.
    pub backfillfull_ratio: Ratio,
    /// Oldest release of clients that may connect.
    pub require_min_compat_client: u8,
    /// Oldest release of OSDs that may boot.
    pub require_osd_release: u8,
    /// Snapshots that are removed but not purged yet.
    pub removed_snaps_queue: BTreeMap<PoolId, IntervalSet>,
    /// State bits for all OSDs below a CRUSH item.
    pub crush_node_flags: BTreeMap<i32, u32>,
    /// State bits for all OSDs of a device class.
    pub device_class_flags: BTreeMap<i32, u32>,
}

impl OsdMap {
    /// The OSD of this id, if the id is below the map's end.
    pub fn osd(&self, osd: i32) -> Option<&Osd> {
        self.osds.get(usize::try_from(osd).ok()?)
    }

    /// Whether the OSD exists.
    pub fn exists(&self, osd: i32) -> bool {
        self.osd(osd).is_some_and(Osd::exists)
    }

    /// Whether the OSD is up.
    pub fn is_up(&self, osd: i32) -> bool {
        self.osd(osd).is_some_and(Osd::is_up)
    }

    /// The OSD's primary affinity, 16.16.
    pub fn affinity(&self, osd: i32) -> u32 {
        let index = usize::try_from(osd).ok();
        index.and_then(|index| self.primary_affinity.get(index).copied()).unwrap_or(AFFINITY_DEFAULT)
    }

    /// Id of a pool by name.
    pub fn pool_id(&self, name: &str) -> Option<PoolId> {
        self.pool_names.iter().find(|(_, pool_name)| *pool_name == name).map(|(&id, _)| id)
    }
}

/// Flags of the whole cluster. Bits we do not know are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MapFlags(pub u32);

impl MapFlags {
    //= ceph 16.2 osdmap: cluster flags
    /// Nearly full (old clusters).
    pub const NEARFULL: Self = Self(1 << 0);
    /// Full (old clusters).
    pub const FULL: Self = Self(1 << 1);
    /// Reads wait.
    pub const PAUSERD: Self = Self(1 << 2);
    /// Writes wait.
    pub const PAUSEWR: Self = Self(1 << 3);
    /// Recovery waits.
    pub const PAUSEREC: Self = Self(1 << 4);
    /// OSDs may not be marked up.
    pub const NOUP: Self = Self(1 << 5);
    /// OSDs may not be marked down.
    pub const NODOWN: Self = Self(1 << 6);
    /// OSDs may not be marked out.
    pub const NOOUT: Self = Self(1 << 7);
    /// OSDs may not be marked in.
    pub const NOIN: Self = Self(1 << 8);
    /// No backfill.
    pub const NOBACKFILL: Self = Self(1 << 9);
    /// No recovery.
    pub const NORECOVER: Self = Self(1 << 10);
    /// No scrub.
    pub const NOSCRUB: Self = Self(1 << 11);
    /// No deep scrub.
    pub const NODEEP_SCRUB: Self = Self(1 << 12);
    /// No tier agent.
    pub const NOTIERAGENT: Self = Self(1 << 13);
    /// No rebalancing.
    pub const NOREBALANCE: Self = Self(1 << 14);
    /// Objects sort by reversed hash; listing relies on it.
    pub const SORTBITWISE: Self = Self(1 << 15);
    /// Deletes are recovered.
    pub const RECOVERY_DELETES: Self = Self(1 << 19);
    /// There are no snapshot directories any more.
    pub const PURGED_SNAPDIRS: Self = Self(1 << 20);
    /// No snapshot trimming.
    pub const NOSNAPTRIM: Self = Self(1 << 21);
    /// The length of PG logs is limited.
    pub const PGLOG_HARDLIMIT: Self = Self(1 << 22);
    /// What a new cluster of Ceph 16.2 has.
    pub const NEW_CLUSTER: Self = Self(
        Self::SORTBITWISE.0 | Self::RECOVERY_DELETES.0 | Self::PURGED_SNAPDIRS.0 | Self::PGLOG_HARDLIMIT.0,
    );

    /// Whether all of `bits` are set.
    pub const fn contains(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }
}

/// A ratio as the wire has it: a 32-bit float, kept as its bits so that maps compare exactly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ratio(u32);

impl Ratio {
    /// From a number.
    pub fn new(ratio: f32) -> Self {
        Self(ratio.to_bits())
    }

    /// As a number.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Wire for Ratio {
    const BYTES_MIN: usize = 4;
    fn encode(&self, w: &mut Writer) {
        w.u32(self.0);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.u32().map(Self)
    }
}
