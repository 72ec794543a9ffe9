//! The replicated state of the monitor: maps, configuration, cluster log.
//!
//! Invariant: a pure function of the entries of the log, equal on every monitor; [`State::apply`] is its only
//! change. Cluster view.

mod change;
pub mod cluster_log;
pub mod config;
mod osd_maps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;
use wire::codec::{DecodeError, DecodeResult, Reader, Wire, Writer, decode_exact};
use wire::msg::{MonInfo, MonMap};
use wire::osdmap::ApplyError;
use wire::types::{AddrVec, Epoch, UTime};

pub use change::{Change, Entry};
pub use cluster_log::ClusterLog;
pub use config::ConfigDb;
pub use osd_maps::{MapFull, OsdMaps};

use crate::limits::GLOBAL_ID_FIRST;

/// Everything the monitors agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The cluster.
    pub fsid: Uuid,
    /// The monitors; none before the cluster was made.
    pub mon_map: Option<MonMap>,
    /// The OSDs and pools.
    pub osd_maps: OsdMaps,
    /// Options.
    pub config: ConfigDb,
    /// The store behind `ceph config-key`.
    pub config_keys: BTreeMap<String, Bytes>,
    /// The cluster log.
    pub cluster_log: ClusterLog,
    /// First global id that was certainly not given out.
    pub next_global_id: u64,
    /// What each OSD said of itself when it booted last.
    pub osd_metadata: BTreeMap<i32, BTreeMap<String, String>>,
}

/// An entry or a snapshot that cannot be applied: the log is damaged, or another version wrote it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StateError {
    /// Not understood.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The OSD map's increment does not follow.
    #[error("osd map: {0}")]
    OsdMap(#[from] ApplyError),
    /// The monitor map's epoch does not follow.
    #[error("monitor map: epoch {got} does not follow {current}")]
    MonMap {
        /// Current epoch.
        current: Epoch,
        /// The new one.
        got: Epoch,
    },
    /// Of another cluster.
    #[error("it belongs to cluster {got}, not {expected}")]
    Fsid {
        /// Of the log.
        expected: Uuid,
        /// Of the entry.
        got: Uuid,
    },
}

/// Which parts an entry changed, so that subscribers of those are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Effects {
    pub osd_map: bool,
    pub mon_map: bool,
    pub config: bool,
    pub cluster_log: bool,
}

impl Effects {
    /// Everything.
    pub const ALL: Self = Self { osd_map: true, mon_map: true, config: true, cluster_log: true };
}

impl std::ops::BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        self.osd_map |= other.osd_map;
        self.mon_map |= other.mon_map;
        self.config |= other.config;
        self.cluster_log |= other.cluster_log;
    }
}

impl State {
    /// The state before the first entry.
    pub fn new(fsid: Uuid) -> Self {
        Self {
            fsid,
            mon_map: None,
            osd_maps: OsdMaps::default(),
            config: ConfigDb::default(),
            config_keys: BTreeMap::new(),
            cluster_log: ClusterLog::default(),
            next_global_id: GLOBAL_ID_FIRST,
            osd_metadata: BTreeMap::new(),
        }
    }

    /// Applies an encoded [`Entry`].
    pub fn apply_bytes(&mut self, payload: Bytes) -> Result<Effects, StateError> {
        self.apply(&decode_exact::<Entry>("log entry of the monitor", payload)?)
    }

    /// Applies an entry.
    pub fn apply(&mut self, entry: &Entry) -> Result<Effects, StateError> {
        let mut effects = Effects::default();
        for change in &entry.changes {
            self.apply_change(change, &mut effects)?;
        }
        Ok(effects)
    }

    fn apply_change(&mut self, change: &Change, effects: &mut Effects) -> Result<(), StateError> {
        match change {
            Change::OsdMap(incremental) => {
                self.osd_maps.apply(incremental.clone())?;
                effects.osd_map = true;
            }
            Change::MonMap(bytes) => {
                self.apply_mon_map(decode_exact("monitor map", bytes.clone())?)?;
                effects.mon_map = true;
            }
            Change::Config { section, name, value } => {
                self.config.set(section.clone(), name.clone(), value.clone());
                effects.config = true;
            }
            Change::ConfigKey { key, value } => {
                match value {
                    Some(value) => self.config_keys.insert(key.clone(), Bytes::copy_from_slice(value)),
                    None => self.config_keys.remove(key),
                };
            }
            Change::Log(entry) => {
                self.cluster_log.add(entry.clone());
                effects.cluster_log = true;
            }
            Change::GlobalIds { next } => self.next_global_id = self.next_global_id.max(*next),
            Change::OsdMetadata { osd, metadata } => {
                match metadata {
                    Some(metadata) => self.osd_metadata.insert(*osd, metadata.clone()),
                    None => self.osd_metadata.remove(osd),
                };
            }
        }
        Ok(())
    }

    fn apply_mon_map(&mut self, next: MonMap) -> Result<(), StateError> {
        if next.fsid != self.fsid {
            return Err(StateError::Fsid { expected: self.fsid, got: next.fsid });
        }
        let current = self.mon_map.as_ref().map_or(Epoch(0), |map| map.epoch);
        if next.epoch != current.next() {
            return Err(StateError::MonMap { current, got: next.epoch });
        }
        self.mon_map = Some(next);
        Ok(())
    }
}

/// The first monitor map of a cluster.
pub fn first_mon_map(fsid: Uuid, name: &str, addrs: AddrVec, now: UTime) -> MonMap {
    let info = MonInfo { name: name.to_owned(), addrs, ..MonInfo::default() };
    MonMap {
        fsid,
        epoch: Epoch(1),
        last_changed: now,
        created: now,
        persistent_features: MonMap::PERSISTENT_FEATURES,
        optional_features: 0,
        mons: [(name.to_owned(), info)].into(),
        ranks: vec![name.to_owned()],
        min_mon_release: MonMap::RELEASE_PACIFIC,
        removed_ranks: Default::default(),
        election_strategy: MonMap::ELECTION_CLASSIC,
        disallowed_leaders: Default::default(),
        stretch_mode: false,
        tiebreaker: String::new(),
        stretch_marked_down: Default::default(),
    }
}

/// A snapshot.
impl Wire for State {
    const BYTES_MIN: usize = 6 + 16;

    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.fsid);
            w.put(&self.mon_map);
            w.put(&self.osd_maps);
            w.put(&self.config);
            w.put(&self.config_keys);
            w.put(&self.cluster_log);
            w.u64(self.next_global_id);
            w.put(&self.osd_metadata);
        });
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("snapshot of the monitor", 1, |r, _| {
            Ok(Self {
                fsid: r.get()?,
                mon_map: r.get()?,
                osd_maps: r.get()?,
                config: r.get()?,
                config_keys: r.map_with(8, String::decode, Reader::name)?,
                cluster_log: r.get()?,
                next_global_id: r.u64()?,
                osd_metadata: r.get()?,
            })
        })
    }
}
