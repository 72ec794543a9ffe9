//! Where every PG is, computed from one epoch of the OSD map.
//!
//! Invariant: belongs to exactly one epoch; sums count every PG once. Host view of one monitor.

use std::collections::BTreeMap;

use wire::osdmap::OsdMap;
use wire::placement::{Mapping, map_pg};
use wire::types::{Epoch, PgId};

/// All PGs of an epoch.
#[derive(Clone, Debug, Default)]
pub struct PgMap {
    epoch: Epoch,
    mappings: BTreeMap<PgId, Mapping>,
}

impl PgMap {
    /// The PGs that `map` has, to be placed one after the other.
    pub fn ids(map: &OsdMap) -> Vec<PgId> {
        let of_pool = |(&pool, seeds): (&i64, u32)| (0..seeds).map(move |seed| PgId::new(pool, seed));
        map.pools.iter().map(|(id, pool)| (id, pool.pg_num)).flat_map(of_pool).collect()
    }

    /// The map of an epoch from its mappings.
    pub fn new(epoch: Epoch, mappings: BTreeMap<PgId, Mapping>) -> Self {
        Self { epoch, mappings }
    }

    /// The whole map at once, for tests and small clusters.
    pub fn of(map: &OsdMap) -> Self {
        Self::new(map.epoch, Self::ids(map).into_iter().map(|pg| (pg, map_pg(map, pg))).collect())
    }

    /// Epoch of the OSD map it was computed from.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// All PGs in order.
    pub fn iter(&self) -> impl Iterator<Item = (PgId, &Mapping)> {
        self.mappings.iter().map(|(pg, mapping)| (*pg, mapping))
    }

    /// One PG.
    pub fn get(&self, pg: PgId) -> Option<&Mapping> {
        self.mappings.get(&pg)
    }

    /// Number of PGs.
    pub fn len(&self) -> usize {
        self.mappings.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }

    /// Number of PGs on an OSD.
    pub fn on_osd(&self, osd: i32) -> usize {
        self.mappings.values().filter(|mapping| mapping.acting.contains(&osd)).count()
    }
}
