//! Making increments: a monitor drafts the next map freely, and the step between the two is computed.
//!
//! Invariant: the increment of a [`Step`], applied to the old map, gives exactly the step's map, and carries its
//! checksum. What an increment cannot say, it says by carrying the whole map.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::incremental::Incremental;
use super::map::OsdMap;
use super::osd::{AFFINITY_DEFAULT, Osd, OsdState};
use crate::codec::encode_to_bytes;
use crate::types::UTime;

/// A step from one map to the next.
#[derive(Debug, Clone)]
pub struct Step {
    /// What changes.
    pub incremental: Incremental,
    /// The next map.
    pub map: OsdMap,
    /// The next map, encoded.
    pub full: Bytes,
}

impl OsdMap {
    /// A draft of the next map: this one, an epoch later, without what is of one epoch only.
    pub fn draft_next(&self, modified: UTime) -> Self {
        let mut draft = self.clone();
        draft.epoch = self.epoch.next();
        draft.modified = modified;
        draft.new_removed_snaps.clear();
        draft.new_purged_snaps.clear();
        draft.cluster_snapshot.clear();
        draft
    }
}

impl Step {
    /// The step from `old` to `draft`, which [`OsdMap::draft_next`] of `old` began.
    ///
    /// Some fields follow from others and are set here whatever the draft says: a pool's last change, when an OSD
    /// went up or down, the queue of removed snapshots, the version of the CRUSH map.
    ///
    /// Panics if `draft` is not of the epoch after `old`'s.
    pub fn between(old: &OsdMap, draft: OsdMap) -> Self {
        assert!(draft.epoch == old.epoch.next(), "the draft is of the next epoch");
        let mut incremental = difference(old, &draft);
        let map = match old.apply(&incremental) {
            Ok(applied) if applied == with_derived(&draft, old, &applied) => applied,
            _ => {
                incremental = Incremental {
                    fsid: draft.fsid,
                    epoch: draft.epoch,
                    modified: draft.modified,
                    full_map: encode_to_bytes(&draft),
                    ..Incremental::default()
                };
                draft
            }
        };
        let (full, crc) = map.encode_with_crc();
        incremental.full_crc = crc;
        Self { incremental, map, full }
    }

    /// The step, computed by applying an increment that was put together by hand.
    pub fn apply(old: &OsdMap, mut incremental: Incremental) -> Result<Self, super::ApplyError> {
        let map = old.apply(&incremental)?;
        let (full, crc) = map.encode_with_crc();
        incremental.full_crc = crc;
        Ok(Self { incremental, map, full })
    }
}

/// The draft with the fields that follow from others as in `applied`.
fn with_derived(draft: &OsdMap, old: &OsdMap, applied: &OsdMap) -> OsdMap {
    let mut wanted = draft.clone();
    for (id, pool) in &mut wanted.pools {
        if let Some(applied) = applied.pools.get(id) {
            pool.last_change = applied.last_change;
        }
    }
    let pairs = wanted.osds.iter_mut().zip(&applied.osds);
    for (index, (osd, applied)) in pairs.enumerate() {
        let was_up = old.osds.get(index).is_some_and(Osd::is_up);
        if osd.is_up() != was_up || osd.info.up_from != applied.info.up_from {
            osd.info.up_from = applied.info.up_from;
            osd.info.down_at = applied.info.down_at;
            osd.xinfo.down_stamp = applied.xinfo.down_stamp;
        }
    }
    wanted.removed_snaps_queue.clone_from(&applied.removed_snaps_queue);
    wanted.crush_version = applied.crush_version;
    wanted.cluster_snapshot_epoch = applied.cluster_snapshot_epoch;
    if wanted.primary_affinity.is_empty() && applied.primary_affinity.iter().all(|&a| a == AFFINITY_DEFAULT) {
        wanted.primary_affinity.clone_from(&applied.primary_affinity);
    }
    wanted
}

fn difference(old: &OsdMap, new: &OsdMap) -> Incremental {
    let mut inc = Incremental {
        fsid: new.fsid,
        epoch: new.epoch,
        modified: new.modified,
        cluster_snapshot: new.cluster_snapshot.clone(),
        new_removed_snaps: new.new_removed_snaps.clone(),
        new_purged_snaps: new.new_purged_snaps.clone(),
        ..Incremental::default()
    };
    difference_of_pools(old, new, &mut inc);
    if old.osds.len() != new.osds.len() {
        inc.new_max_osd = i32::try_from(new.osds.len()).unwrap_or(i32::MAX);
    }
    let nobody = Osd::default();
    for (index, osd) in new.osds.iter().enumerate() {
        let id = i32::try_from(index).unwrap_or(i32::MAX);
        difference_of_osd(id, old.osds.get(index).unwrap_or(&nobody), osd, &mut inc);
        if old.affinity(id) != new.affinity(id) {
            inc.new_primary_affinity.insert(id, new.affinity(id));
        }
    }
    difference_of_placement(old, new, &mut inc);
    difference_of_rest(old, new, &mut inc);
    inc
}

fn difference_of_pools(old: &OsdMap, new: &OsdMap, inc: &mut Incremental) {
    if old.pool_max != new.pool_max {
        inc.new_pool_max = i64::from(new.pool_max);
    }
    inc.new_pools = changed(&old.pools, &new.pools);
    inc.new_pool_names = changed(&old.pool_names, &new.pool_names);
    inc.old_pools = gone(&old.pools, &new.pools).collect();
    inc.new_erasure_code_profiles = changed(&old.erasure_code_profiles, &new.erasure_code_profiles);
    inc.old_erasure_code_profiles = gone(&old.erasure_code_profiles, &new.erasure_code_profiles).collect();
}

fn difference_of_osd(id: i32, old: &Osd, new: &Osd, inc: &mut Incremental) {
    let mut state = old.state;
    if old.weight != new.weight {
        inc.new_weight.insert(id, new.weight);
        if new.weight != 0 {
            state = state.without(OsdState::AUTO_OUT | OsdState::NEW) | OsdState::EXISTS;
        }
    }
    let moved = old.client_addrs != new.client_addrs
        || old.heartbeat_back_addrs != new.heartbeat_back_addrs
        || old.heartbeat_front_addrs != new.heartbeat_front_addrs;
    let boots = new.is_up() && (!old.is_up() || moved);
    if boots {
        inc.new_up_client.insert(id, new.client_addrs.clone());
        inc.new_heartbeat_back_up.insert(id, new.heartbeat_back_addrs.clone());
        inc.new_heartbeat_front_up.insert(id, new.heartbeat_front_addrs.clone());
        state = state | OsdState::EXISTS | OsdState::UP;
    }
    let mut flip = state ^ new.state;
    if boots {
        flip = flip.without(OsdState::EXISTS | OsdState::UP);
    }
    if flip != OsdState::NONE {
        inc.new_state.insert(id, flip);
    }
    if !new.exists() && old.exists() {
        // Giving the id up resets the rest.
        return;
    }
    if old.cluster_addrs != new.cluster_addrs {
        inc.new_up_cluster.insert(id, new.cluster_addrs.clone());
    }
    if old.info.up_thru != new.info.up_thru {
        inc.new_up_thru.insert(id, new.info.up_thru);
    }
    let clean = (new.info.last_clean_begin, new.info.last_clean_end);
    if (old.info.last_clean_begin, old.info.last_clean_end) != clean {
        inc.new_last_clean_interval.insert(id, clean);
    }
    if old.info.lost_at != new.info.lost_at {
        inc.new_lost.insert(id, new.info.lost_at);
    }
    if old.uuid != new.uuid {
        inc.new_uuid.insert(id, new.uuid);
    }
    let mut xinfo = new.xinfo;
    let goes_down = old.is_up() && !new.is_up();
    if goes_down {
        xinfo.down_stamp = inc.modified;
    }
    let mut follows = old.xinfo;
    if goes_down {
        follows.down_stamp = inc.modified;
    }
    if inc.new_weight.get(&id).is_some_and(|&weight| weight != 0) {
        follows.old_weight = 0;
    }
    if follows != xinfo {
        inc.new_xinfo.insert(id, xinfo);
    }
}

fn difference_of_placement(old: &OsdMap, new: &OsdMap, inc: &mut Incremental) {
    inc.new_pg_temp = changed(&old.pg_temp, &new.pg_temp);
    inc.new_pg_temp.extend(gone(&old.pg_temp, &new.pg_temp).map(|pg| (pg, Vec::new())));
    inc.new_primary_temp = changed(&old.primary_temp, &new.primary_temp);
    inc.new_primary_temp.extend(gone(&old.primary_temp, &new.primary_temp).map(|pg| (pg, -1)));
    inc.new_pg_upmap = changed(&old.pg_upmap, &new.pg_upmap);
    inc.old_pg_upmap = gone(&old.pg_upmap, &new.pg_upmap).collect();
    inc.new_pg_upmap_items = changed(&old.pg_upmap_items, &new.pg_upmap_items);
    inc.old_pg_upmap_items = gone(&old.pg_upmap_items, &new.pg_upmap_items).collect();
}

fn difference_of_rest(old: &OsdMap, new: &OsdMap, inc: &mut Incremental) {
    if old.flags != new.flags {
        inc.new_flags = i32::try_from(new.flags.0).unwrap_or(-1);
    }
    if !Arc::ptr_eq(&old.crush, &new.crush) && old.crush != new.crush {
        inc.crush = encode_to_bytes(&*new.crush);
    }
    inc.new_blocklist.0 = changed(&old.blocklist.0, &new.blocklist.0);
    inc.old_blocklist = gone(&old.blocklist.0, &new.blocklist.0).collect();
    for (field, old, new) in [
        (&mut inc.new_nearfull_ratio, old.nearfull_ratio, new.nearfull_ratio),
        (&mut inc.new_full_ratio, old.full_ratio, new.full_ratio),
        (&mut inc.new_backfillfull_ratio, old.backfillfull_ratio, new.backfillfull_ratio),
    ] {
        if old != new {
            *field = new;
        }
    }
    if old.require_min_compat_client != new.require_min_compat_client {
        inc.new_require_min_compat_client = new.require_min_compat_client;
    }
    if old.require_osd_release != new.require_osd_release {
        inc.new_require_osd_release = new.require_osd_release;
    }
    inc.new_crush_node_flags = changed(&old.crush_node_flags, &new.crush_node_flags);
    inc.new_crush_node_flags.extend(gone(&old.crush_node_flags, &new.crush_node_flags).map(|item| (item, 0)));
    inc.new_device_class_flags = changed(&old.device_class_flags, &new.device_class_flags);
    inc.new_device_class_flags
        .extend(gone(&old.device_class_flags, &new.device_class_flags).map(|class| (class, 0)));
    if old.last_up_change != new.last_up_change {
        inc.new_last_up_change = new.last_up_change;
    }
    if old.last_in_change != new.last_in_change {
        inc.new_last_in_change = new.last_in_change;
    }
}

/// Entries of `new` that are not the same in `old`.
fn changed<K: Ord + Clone, V: PartialEq + Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> BTreeMap<K, V> {
    let differs = |(key, value): &(&K, &V)| old.get(*key) != Some(*value);
    new.iter().filter(differs).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Keys of `old` that are not in `new`.
fn gone<'a, K: Ord + Clone, V>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = K> + 'a {
    old.keys().filter(|key| !new.contains_key(key)).cloned()
}
