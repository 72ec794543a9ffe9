//! Names of the flags of the OSD map, and of OSDs' states. Pure.

use wire::osdmap::{MapFlags, OsdState, PoolFlags};

//= ceph 16.2 osdmap: names of the cluster's flags, in the order of their bits
const MAP_FLAGS: [(MapFlags, &str); 18] = [
    (MapFlags::NEARFULL, "nearfull"),
    (MapFlags::FULL, "full"),
    (MapFlags::PAUSERD, "pauserd"),
    (MapFlags::PAUSEWR, "pausewr"),
    (MapFlags::PAUSEREC, "pauserec"),
    (MapFlags::NOUP, "noup"),
    (MapFlags::NODOWN, "nodown"),
    (MapFlags::NOOUT, "noout"),
    (MapFlags::NOIN, "noin"),
    (MapFlags::NOBACKFILL, "nobackfill"),
    (MapFlags::NORECOVER, "norecover"),
    (MapFlags::NOSCRUB, "noscrub"),
    (MapFlags::NODEEP_SCRUB, "nodeep-scrub"),
    (MapFlags::NOTIERAGENT, "notieragent"),
    (MapFlags::NOREBALANCE, "norebalance"),
    (MapFlags::SORTBITWISE, "sortbitwise"),
    (MapFlags::RECOVERY_DELETES, "recovery_deletes"),
    (MapFlags::PURGED_SNAPDIRS, "purged_snapdirs"),
];
const MAP_FLAGS_LAST: [(MapFlags, &str); 2] =
    [(MapFlags::NOSNAPTRIM, "nosnaptrim"), (MapFlags::PGLOG_HARDLIMIT, "pglog_hardlimit")];

//= ceph 16.2 osdmap: names of the pools' flags, in the order of their bits
const POOL_FLAGS: [(PoolFlags, &str); 17] = [
    (PoolFlags::HASHPSPOOL, "hashpspool"),
    (PoolFlags::FULL, "full"),
    (PoolFlags::EC_OVERWRITES, "ec_overwrites"),
    (PoolFlags::INCOMPLETE_CLONES, "incomplete_clones"),
    (PoolFlags::NODELETE, "nodelete"),
    (PoolFlags::NOPGCHANGE, "nopgchange"),
    (PoolFlags::NOSIZECHANGE, "nosizechange"),
    (PoolFlags::WRITE_FADVISE_DONTNEED, "write_fadvise_dontneed"),
    (PoolFlags::NOSCRUB, "noscrub"),
    (PoolFlags::NODEEP_SCRUB, "nodeep-scrub"),
    (PoolFlags::FULL_QUOTA, "full_quota"),
    (PoolFlags::NEARFULL, "nearfull"),
    (PoolFlags::BACKFILLFULL, "backfillfull"),
    (PoolFlags::SELFMANAGED_SNAPS, "selfmanaged_snaps"),
    (PoolFlags::POOL_SNAPS, "pool_snaps"),
    (PoolFlags::CREATING, "creating"),
    (PoolFlags::EIO, "eio"),
];

//= ceph 16.2 osdmap: names of an OSD's state bits
const OSD_STATES: [(OsdState, &str); 9] = [
    (OsdState::EXISTS, "exists"),
    (OsdState::UP, "up"),
    (OsdState::AUTO_OUT, "autoout"),
    (OsdState::NEW, "new"),
    (OsdState::FULL, "full"),
    (OsdState::NEAR_FULL, "nearfull"),
    (OsdState::BACKFILL_FULL, "backfillfull"),
    (OsdState::DESTROYED, "destroyed"),
    (OsdState::STOP, "stop"),
];

/// Names of the flags that are set.
pub fn names(flags: MapFlags) -> Vec<&'static str> {
    let all = MAP_FLAGS.iter().chain(&MAP_FLAGS_LAST);
    all.filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect()
}

/// The flag of a name.
pub fn named(name: &str) -> Option<MapFlags> {
    if name == "pause" {
        return Some(MapFlags(MapFlags::PAUSERD.0 | MapFlags::PAUSEWR.0));
    }
    MAP_FLAGS.iter().chain(&MAP_FLAGS_LAST).find(|(_, other)| *other == name).map(|(flag, _)| *flag)
}

/// Names of a pool's flags, separated by commas.
pub fn pool_names(flags: PoolFlags) -> String {
    let set = POOL_FLAGS.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(",")
}

/// Names of an OSD's state bits.
pub fn state_names(state: OsdState) -> Vec<&'static str> {
    OSD_STATES.iter().filter(|(bit, _)| state.contains(*bit)).map(|(_, name)| *name).collect()
}
