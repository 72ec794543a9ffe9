//! The monitors' map.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::types::{AddrVec, Epoch, UTime};

/// `monmap`: which monitors there are, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonMap {
    /// Cluster.
    pub fsid: Uuid,
    /// Epoch.
    pub epoch: Epoch,
    /// When it last changed.
    pub last_changed: UTime,
    /// When the cluster was made.
    pub created: UTime,
    /// Features that every monitor must have for ever.
    pub persistent_features: u64,
    /// Features that every monitor must have now.
    pub optional_features: u64,
    /// By name.
    pub mons: BTreeMap<String, MonInfo>,
    /// Names by rank.
    pub ranks: Vec<String>,
    /// Oldest release allowed: 16 is Pacific.
    pub min_mon_release: u8,
    /// Ranks that were removed lately.
    pub removed_ranks: BTreeSet<u32>,
    /// 1 is the classic one.
    pub election_strategy: u8,
    /// Names that may not lead.
    pub disallowed_leaders: BTreeSet<String>,
    /// Two sites and a tiebreaker.
    pub stretch_mode: bool,
    /// Its name.
    pub tiebreaker: String,
    /// Sites marked down.
    pub stretch_marked_down: BTreeSet<String>,
}

/// `mon_info`: one monitor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonInfo {
    /// Name.
    pub name: String,
    /// Where it listens.
    pub addrs: AddrVec,
    /// Clients prefer lower ones.
    pub priority: u16,
    /// Among equal priorities.
    pub weight: u16,
    /// Place in the CRUSH hierarchy.
    pub crush_location: BTreeMap<String, String>,
}

impl MonMap {
    /// The persistent features of release 16.
    pub const PERSISTENT_FEATURES: u64 = 0xff;
    /// Release 16.
    pub const RELEASE_PACIFIC: u8 = 16;
    /// The classic election strategy.
    pub const ELECTION_CLASSIC: u8 = 1;
}

impl Wire for MonMap {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(9, 6, |w| {
            w.put(&self.fsid);
            w.put(&self.epoch);
            w.put(&self.last_changed);
            w.put(&self.created);
            w.env(1, 1, |w| w.u64(self.persistent_features));
            w.env(1, 1, |w| w.u64(self.optional_features));
            w.map(&self.mons);
            w.list(&self.ranks);
            w.u8(self.min_mon_release);
            w.set(&self.removed_ranks);
            w.u8(self.election_strategy);
            w.set(&self.disallowed_leaders);
            w.bool(self.stretch_mode);
            w.str(&self.tiebreaker);
            w.set(&self.stretch_marked_down);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("monmap", 9, |r, version| {
            if version < 7 {
                return Err(r.error("monmap version 7 or newer", version.to_string()));
            }
            let mut map = Self {
                fsid: r.get()?,
                epoch: r.get()?,
                last_changed: r.get()?,
                created: r.get()?,
                persistent_features: r.env("mon features", 1, |r, _| r.u64())?,
                optional_features: r.env("mon features", 1, |r, _| r.u64())?,
                mons: r.map()?,
                ranks: r.list()?,
                min_mon_release: r.u8()?,
                removed_ranks: BTreeSet::new(),
                election_strategy: Self::ELECTION_CLASSIC,
                disallowed_leaders: BTreeSet::new(),
                stretch_mode: false,
                tiebreaker: String::new(),
                stretch_marked_down: BTreeSet::new(),
            };
            if version >= 8 {
                map.removed_ranks = r.get()?;
                map.election_strategy = r.u8()?;
                map.disallowed_leaders = r.get()?;
            }
            if version >= 9 {
                map.stretch_mode = r.bool()?;
                map.tiebreaker = r.str()?;
                map.stretch_marked_down = r.get()?;
            }
            Ok(map)
        })
    }
}

impl Wire for MonInfo {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(5, 1, |w| {
            w.str(&self.name);
            w.put(&self.addrs);
            w.u16(self.priority);
            w.u16(self.weight);
            w.map(&self.crush_location);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("mon_info", 5, |r, version| {
            let mut info = Self {
                name: r.str()?,
                addrs: r.get()?,
                priority: if version >= 2 { r.u16()? } else { 0 },
                ..Self::default()
            };
            if version >= 4 {
                info.weight = r.u16()?;
            }
            if version >= 5 {
                info.crush_location = r.get()?;
            }
            Ok(info)
        })
    }
}
