//! The placement groups of this OSD as the maps come: loaded, created, served, removed.
//!
//! Invariants: a map is in force only once its groups exist in the store, so that a client that knows the map finds
//! them; only groups of pools that the map once had and has no more are removed. Lives on one core.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use rt::Group as TaskGroup;
use store::{CollectionId, Op, StoreError, Transaction};
use wire::codec::{DecodeError, decode_exact};
use wire::msg::OsdMapMessage;
use wire::osdmap::{ApplyError, Incremental, OsdMap};
use wire::placement;
use wire::types::{Epoch, PgId};

use crate::limits::{CREATIONS_PER_TRANSACTION, MAPPINGS_PER_TURN};
use crate::osd::{Osd, StartError};
use crate::placement_group::PlacementGroup;
use crate::pool_options;
use crate::superblock;

/// Why a map was not taken.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// It is another cluster's.
    #[error("a map of cluster {found}, not of {own}")]
    Cluster {
        /// Ours.
        own: uuid::Uuid,
        /// The map's.
        found: uuid::Uuid,
    },
    /// It cannot be read.
    #[error("a map that cannot be read: {0}")]
    Content(#[from] DecodeError),
    /// It does not follow ours.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Applying it gave something else than its sender has.
    #[error("epoch {epoch} has checksum {got:#010x} here and {expected:#010x} at its sender")]
    Checksum {
        /// Epoch.
        epoch: Epoch,
        /// The sender's.
        expected: u32,
        /// Ours.
        got: u32,
    },
    /// The store is down.
    #[error("the store is down: {0}")]
    Down(String),
}

/// Loads the groups that the store has.
pub async fn load(osd: &Rc<Osd>) -> Result<(), StartError> {
    let collections = osd.store.collections().await.map_err(superblock::SuperblockError::from)?;
    let map = osd.maps.current();
    for (collection, bits, meta) in collections {
        if collection == CollectionId::META {
            continue;
        }
        let pg = PgId::new(collection.pool, collection.seed);
        let broken = |reason: String| StartError::Group { pg, reason };
        if meta.is_empty() {
            let hint =
                format!("'spirula store remove-pg {pg}' finishes the removal, then it can be imported");
            return Err(broken(format!("its import or its removal was cut off: {hint}")));
        }
        let log = osd.store.log(collection).await.map_err(|error| broken(error.to_string()))?;
        let group = pg::Group::open(pg, meta, log).map_err(|error| broken(error.to_string()))?;
        osd.add_group(PlacementGroup::new(osd.core.clone(), osd.store.clone(), group, bits));
    }
    remove_deleted(osd, &map);
    Ok(())
}

/// Takes the maps of a message that follow ours. False if some between ours and them are missing.
pub async fn take_maps(osd: &Rc<Osd>, message: OsdMapMessage) -> Result<bool, MapError> {
    if message.fsid != osd.config.fsid {
        return Err(MapError::Cluster { own: osd.config.fsid, found: message.fsid });
    }
    loop {
        let current = osd.maps.current();
        let next = current.epoch.next();
        if let Some(bytes) = message.incrementals.get(&next).filter(|_| current.epoch != Epoch(0)) {
            let increment: Incremental = decode_exact("increment", bytes.clone())?;
            let map = current.apply(&increment)?;
            let (full, got) = map.encode_with_crc();
            if got != increment.full_crc {
                return Err(MapError::Checksum { epoch: next, expected: increment.full_crc, got });
            }
            adopt(osd, map, full, Some(bytes.clone())).await?;
        } else if let Some((_, full)) = message.full.range(next..).next_back() {
            let map = decode_exact("osd map", full.clone())?;
            adopt(osd, map, full.clone(), None).await?;
        } else {
            let last = message.incrementals.keys().chain(message.full.keys()).max();
            return Ok(last.is_none_or(|last| *last <= current.epoch));
        }
    }
}

/// Puts a map in force.
async fn adopt(osd: &Rc<Osd>, map: OsdMap, full: Bytes, increment: Option<Bytes>) -> Result<(), MapError> {
    submit(osd, superblock::remember(map.epoch, full.clone(), increment.clone())).await?;
    let up = osd.is_up_in(&map);
    let served = if up { served_here(osd, &map).await } else { BTreeSet::new() };
    create_missing(osd, &map, &served).await?;
    // From here on nothing waits: groups, map and state change together.
    // An OSD that just came up serves what it had when its clients learned where it is.
    let came_up = up && !osd.up.is_set();
    let up_from = map.osd(osd.config.whoami).map_or(map.epoch, |me| me.info.up_from);
    let since = if came_up { up_from } else { map.epoch };
    for (&id, pool) in &map.pools {
        osd.store.set_pool_options(id, pool_options::wanted(osd.config.whoami, id, pool));
    }
    for group in osd.all_groups() {
        if served.contains(&group.id()) {
            group.start_serving(since);
        } else {
            group.stop_serving();
        }
    }
    osd.scrubs.look_again();
    let map = Rc::new(map);
    osd.maps.install(map.clone(), full, increment);
    osd.counters.maps.set(osd.counters.maps.get() + 1);
    if up {
        osd.up.set();
    } else {
        osd.up.reset();
    }
    remove_deleted(osd, &map);
    Ok(())
}

/// The groups that this OSD leads by the map.
async fn served_here(osd: &Osd, map: &OsdMap) -> BTreeSet<PgId> {
    let mut served = BTreeSet::new();
    let mut turn = 0;
    for (&id, pool) in &map.pools {
        if pool.size != 1 {
            // Nobody else would have what this OSD acknowledges.
            log::warn!("osd.{}: pool {id} has size {}, only 1 is served", osd.config.whoami, pool.size);
            continue;
        }
        for seed in 0..pool.pg_num {
            let pg = PgId::new(id, seed);
            if placement::map_pg(map, pg).acting_primary == osd.config.whoami {
                served.insert(pg);
            }
            turn += 1;
            if turn % MAPPINGS_PER_TURN == 0 {
                osd.core.yield_now().await;
            }
        }
    }
    served
}

async fn create_missing(osd: &Rc<Osd>, map: &OsdMap, served: &BTreeSet<PgId>) -> Result<(), MapError> {
    let mut missing = Vec::new();
    for &pg in served {
        let Some(pool) = map.pools.get(&pg.pool) else { continue };
        if osd.group(pg).is_none() {
            missing.push((pg, pg::hash_bits(pg.seed, pool.pg_num)));
        }
    }
    for some in missing.chunks(CREATIONS_PER_TRANSACTION) {
        let mut transaction = Transaction::default();
        let mut groups = Vec::new();
        for &(pg, bits) in some {
            let (group, creation) = pg::Group::create(pg, bits, map.epoch);
            transaction.ops.extend(creation.ops);
            groups.push(PlacementGroup::new(osd.core.clone(), osd.store.clone(), group, bits));
        }
        submit(osd, transaction).await?;
        groups.into_iter().for_each(|group| osd.add_group(group));
    }
    Ok(())
}

/// Starts the removal of groups whose pool the map had once and has no more.
fn remove_deleted(osd: &Rc<Osd>, map: &OsdMap) {
    for group in osd.all_groups() {
        let pool = group.id().pool;
        if map.pools.contains_key(&pool) || pool > i64::from(map.pool_max) {
            continue;
        }
        group.stop_serving();
        osd.take_group(group.id());
        osd.spawn(TaskGroup::Background, "remove group", move |osd| async move {
            if let Err(error) = remove(&osd, &group).await {
                log::error!("osd.{}: removing pg {}: {error}", osd.config.whoami, group.id());
            }
        });
    }
}

/// Removes a group's objects, a few at a time, then its collection. What is left when the OSD stops goes on at the
/// next start.
async fn remove(osd: &Osd, group: &PlacementGroup) -> Result<(), MapError> {
    let collection = group.collection();
    let goes_on = || !osd.is_stopping() && !osd.has_failed();
    store::remove_objects(&*osd.store, collection, goes_on).await.map_err(down)?;
    match goes_on() {
        true => {
            let mut ops = osd.scrubs.forget(group.id());
            ops.push(Op::RemoveCollection { collection });
            submit(osd, Transaction { ops }).await
        }
        false => Ok(()),
    }
}

/// Submits and waits until it can be read. A store that refuses these has failed: they do not grow what clients fill.
async fn submit(osd: &Osd, transaction: Transaction) -> Result<(), MapError> {
    osd.store.submit(transaction).readable.await.map_err(down)
}

fn down(error: StoreError) -> MapError {
    MapError::Down(error.to_string())
}
