//! Applying an increment: a new map from an old one, or an error and nothing changed.

use std::collections::BTreeMap;

use thiserror::Error;

use super::codec::decode_crush;
use super::incremental::{Incremental, NO_RELEASE};
use super::map::{MapFlags, OsdMap, Ratio};
use super::osd::{AFFINITY_DEFAULT, Osd, OsdState};
use crate::codec::{DecodeError, decode_exact};
use crate::limits::OSDS_MAX;
use crate::types::{Epoch, IntervalSet};

/// Why an increment cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// It does not follow the map.
    #[error("increment to epoch {found} does not follow epoch {current}")]
    Epoch {
        /// The map's.
        current: Epoch,
        /// The increment's.
        found: Epoch,
    },
    /// It is another cluster's.
    #[error("increment of cluster {found} for a map of cluster {own}")]
    Cluster {
        /// The map's.
        own: uuid::Uuid,
        /// The increment's.
        found: uuid::Uuid,
    },
    /// It names an OSD above the map's end.
    #[error("increment names osd.{osd}, the map has ids below {end}")]
    NoSuchOsd {
        /// The OSD.
        osd: i32,
        /// Number of OSD ids.
        end: usize,
    },
    /// It asks for more OSD ids than we can hold.
    #[error("increment asks for {0} OSD ids, at most {OSDS_MAX} are possible")]
    TooManyOsds(i32),
    /// The full map or the CRUSH map inside is broken.
    #[error("increment carries a broken map: {0}")]
    Content(#[from] DecodeError),
}

impl OsdMap {
    /// The map of the next epoch.
    pub fn apply(&self, inc: &Incremental) -> Result<Self, ApplyError> {
        if self.epoch.0.checked_add(1) != Some(inc.epoch.0) {
            return Err(ApplyError::Epoch { current: self.epoch, found: inc.epoch });
        }
        if inc.epoch.0 > 1 && inc.fsid != self.fsid {
            return Err(ApplyError::Cluster { own: self.fsid, found: inc.fsid });
        }
        if !inc.full_map.is_empty() {
            return Ok(decode_exact("osd map", inc.full_map.clone())?);
        }
        let mut map = self.clone();
        map.fsid = inc.fsid;
        map.epoch = inc.epoch;
        map.modified = inc.modified;
        if let Ok(flags) = u32::try_from(inc.new_flags) {
            map.flags = MapFlags(flags);
        }
        if inc.new_max_osd >= 0 {
            map.resize(inc.new_max_osd)?;
        }
        map.apply_pools(inc);
        map.apply_snaps(inc);
        map.apply_osds(inc)?;
        map.apply_placement(inc);
        map.apply_rest(inc)?;
        Ok(map)
    }

    fn resize(&mut self, end: i32) -> Result<(), ApplyError> {
        let wanted = usize::try_from(end).ok().filter(|&end| end <= OSDS_MAX);
        let end = wanted.ok_or(ApplyError::TooManyOsds(end))?;
        self.osds.resize(end, Osd::default());
        if !self.primary_affinity.is_empty() {
            self.primary_affinity.resize(end, AFFINITY_DEFAULT);
        }
        Ok(())
    }

    fn osd_mut(&mut self, osd: i32) -> Result<&mut Osd, ApplyError> {
        let end = self.osds.len();
        let found = usize::try_from(osd).ok().and_then(|index| self.osds.get_mut(index));
        found.ok_or(ApplyError::NoSuchOsd { osd, end })
    }

    fn apply_pools(&mut self, inc: &Incremental) {
        if inc.new_pool_max != -1 {
            self.pool_max = i32::try_from(inc.new_pool_max).unwrap_or(i32::MAX);
        }
        for (&id, pool) in &inc.new_pools {
            let mut pool = pool.clone();
            pool.last_change = inc.epoch;
            self.pools.insert(id, pool);
        }
        self.pool_names.extend(inc.new_pool_names.clone());
        for id in &inc.old_pools {
            self.pools.remove(id);
            self.pool_names.remove(id);
        }
        for profile in &inc.old_erasure_code_profiles {
            self.erasure_code_profiles.remove(profile);
        }
        self.erasure_code_profiles.extend(inc.new_erasure_code_profiles.clone());
    }

    fn apply_snaps(&mut self, inc: &Incremental) {
        self.new_removed_snaps = inc.new_removed_snaps.clone();
        self.new_purged_snaps = inc.new_purged_snaps.clone();
        for (&pool, snaps) in &inc.new_removed_snaps {
            let queue = self.removed_snaps_queue.entry(pool).or_default();
            snaps.iter().for_each(|(start, length)| queue.insert(start, length));
        }
        for (pool, snaps) in &inc.new_purged_snaps {
            if let Some(queue) = self.removed_snaps_queue.get_mut(pool) {
                snaps.iter().for_each(|(start, length)| queue.remove(start, length));
            }
            if self.removed_snaps_queue.get(pool).is_some_and(IntervalSet::is_empty) {
                self.removed_snaps_queue.remove(pool);
            }
        }
    }

    fn apply_osds(&mut self, inc: &Incremental) -> Result<(), ApplyError> {
        for (&osd, &weight) in &inc.new_weight {
            let osd = self.osd_mut(osd)?;
            osd.weight = weight;
            if weight != 0 {
                //= ceph 16.2 osdmap: an OSD marked in exists, and is neither new nor automatically out any more
                osd.state = osd.state.without(OsdState::AUTO_OUT | OsdState::NEW) | OsdState::EXISTS;
                osd.xinfo.old_weight = 0;
            }
        }
        for (&osd, &affinity) in &inc.new_primary_affinity {
            self.osd_mut(osd)?;
            self.set_affinity(osd, affinity);
        }
        for (&osd, &flip) in &inc.new_state {
            self.flip_state(osd, flip, inc)?;
        }
        for (&id, addrs) in &inc.new_up_client {
            let osd = self.osd_mut(id)?;
            osd.state = osd.state | OsdState::EXISTS | OsdState::UP;
            osd.client_addrs = addrs.clone();
            osd.heartbeat_back_addrs = inc.new_heartbeat_back_up.get(&id).cloned().unwrap_or_default();
            osd.heartbeat_front_addrs = inc.new_heartbeat_front_up.get(&id).cloned().unwrap_or_default();
            osd.info.up_from = inc.epoch;
        }
        for (&osd, addrs) in &inc.new_up_cluster {
            self.osd_mut(osd)?.cluster_addrs = addrs.clone();
        }
        for (&osd, &epoch) in &inc.new_up_thru {
            self.osd_mut(osd)?.info.up_thru = epoch;
        }
        for (&osd, &(begin, end)) in &inc.new_last_clean_interval {
            let info = &mut self.osd_mut(osd)?.info;
            (info.last_clean_begin, info.last_clean_end) = (begin, end);
        }
        for (&osd, &epoch) in &inc.new_lost {
            self.osd_mut(osd)?.info.lost_at = epoch;
        }
        for (&osd, &xinfo) in &inc.new_xinfo {
            self.osd_mut(osd)?.xinfo = xinfo;
        }
        for (&osd, &uuid) in &inc.new_uuid {
            self.osd_mut(osd)?.uuid = uuid;
        }
        Ok(())
    }

    fn flip_state(&mut self, id: i32, flip: OsdState, inc: &Incremental) -> Result<(), ApplyError> {
        let flip = if flip == OsdState::NONE { OsdState::UP } else { flip };
        let osd = self.osd_mut(id)?;
        if (osd.state & flip).contains(OsdState::UP) {
            osd.info.down_at = inc.epoch;
            osd.xinfo.down_stamp = inc.modified;
        }
        if !(osd.state & flip).contains(OsdState::EXISTS) {
            osd.state = osd.state ^ flip;
            return Ok(());
        }
        //= ceph 16.2 osdmap: an id that is given up keeps its weight only
        *osd = Osd { weight: osd.weight, ..Osd::default() };
        if !self.primary_affinity.is_empty() {
            self.set_affinity(id, AFFINITY_DEFAULT);
        }
        Ok(())
    }

    fn set_affinity(&mut self, osd: i32, affinity: u32) {
        self.primary_affinity.resize(self.osds.len(), AFFINITY_DEFAULT);
        if let Some(place) = usize::try_from(osd).ok().and_then(|index| self.primary_affinity.get_mut(index))
        {
            *place = affinity;
        }
    }

    fn apply_placement(&mut self, inc: &Incremental) {
        for (&pg, osds) in &inc.new_pg_temp {
            set_or_remove(&mut self.pg_temp, pg, (!osds.is_empty()).then(|| osds.clone()));
        }
        for (&pg, &primary) in &inc.new_primary_temp {
            set_or_remove(&mut self.primary_temp, pg, (primary != -1).then_some(primary));
        }
        self.pg_upmap.extend(inc.new_pg_upmap.clone());
        for pg in &inc.old_pg_upmap {
            self.pg_upmap.remove(pg);
        }
        self.pg_upmap_items.extend(inc.new_pg_upmap_items.clone());
        for pg in &inc.old_pg_upmap_items {
            self.pg_upmap_items.remove(pg);
        }
    }

    fn apply_rest(&mut self, inc: &Incremental) -> Result<(), ApplyError> {
        self.blocklist.0.extend(inc.new_blocklist.0.clone());
        for addr in &inc.old_blocklist {
            self.blocklist.0.remove(addr);
        }
        self.cluster_snapshot.clone_from(&inc.cluster_snapshot);
        self.cluster_snapshot_epoch = if inc.cluster_snapshot.is_empty() { Epoch(0) } else { inc.epoch };
        for (own, new) in [
            (&mut self.nearfull_ratio, inc.new_nearfull_ratio),
            (&mut self.full_ratio, inc.new_full_ratio),
            (&mut self.backfillfull_ratio, inc.new_backfillfull_ratio),
        ] {
            set_ratio(own, new);
        }
        if inc.new_require_min_compat_client != NO_RELEASE {
            self.require_min_compat_client = inc.new_require_min_compat_client;
        }
        if inc.new_require_osd_release != NO_RELEASE {
            self.require_osd_release = inc.new_require_osd_release;
        }
        for (&item, &flags) in &inc.new_crush_node_flags {
            set_or_remove(&mut self.crush_node_flags, item, (flags != 0).then_some(flags));
        }
        for (&class, &flags) in &inc.new_device_class_flags {
            set_or_remove(&mut self.device_class_flags, class, (flags != 0).then_some(flags));
        }
        if inc.new_last_up_change != Default::default() {
            self.last_up_change = inc.new_last_up_change;
        }
        if inc.new_last_in_change != Default::default() {
            self.last_in_change = inc.new_last_in_change;
        }
        if !inc.crush.is_empty() {
            self.crush = decode_crush(inc.crush.clone())?;
            self.crush_version = self.crush_version.wrapping_add(1);
        }
        Ok(())
    }
}

fn set_ratio(own: &mut Ratio, new: Ratio) {
    if new.get() >= 0.0 {
        *own = new;
    }
}

fn set_or_remove<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
