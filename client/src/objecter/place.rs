//! Where a request belongs, as of a map. Pure.

use std::collections::BTreeMap;
use std::rc::Rc;

use wire::osdmap::{MapFlags, OsdMap, PoolFlags};
use wire::placement::{Mapping, NO_OSD, map_pg};
use wire::types::{Epoch, PgId, ShardPgId};

use crate::request::{Request, Target};

/// Where a request belongs. When any of it changes, the request is sent again: the OSD may have forgotten or refused
/// it, and knows it again if it has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// To whom it goes.
    pub osd: i32,
    pub pg: ShardPgId,
    pub hash: u32,
    /// None for a daemon.
    at: Option<Rc<Mapping>>,
    pg_num: u32,
    force_resend: Epoch,
}

/// What a map says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Located {
    /// It goes here.
    At(Place),
    /// Nobody serves it now, or the cluster wants clients to wait.
    Wait,
    /// There is no such pool in this map.
    NoPool,
    /// The daemon it is for is not up.
    Dead(i32),
}

/// Where groups are as of one map, computed when first asked for. At most one entry per group of the map.
#[derive(Debug, Default)]
pub(super) struct GroupPlaces(BTreeMap<PgId, Rc<Mapping>>);

impl GroupPlaces {
    /// There is another map.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What `map`, the same since [`Self::clear`], says of a request.
    pub fn locate(&mut self, map: &OsdMap, request: &Request) -> Located {
        let (pool_id, hash) = match &request.target {
            Target::Osd(osd) if !map.is_up(*osd) => return Located::Dead(*osd),
            Target::Osd(osd) => return Located::At(Place::daemon(*osd)),
            Target::Object { locator, name } => {
                let Some(pool) = map.pools.get(&locator.pool) else { return Located::NoPool };
                (locator.pool, pool.hash_object(name, &locator.key, &locator.nspace))
            }
            Target::Group { pool, hash, .. } => (*pool, *hash),
        };
        let Some(pool) = map.pools.get(&pool_id) else { return Located::NoPool };
        let full = map.flags.contains(MapFlags::FULL) || pool.flags.contains(PoolFlags::FULL);
        let paused = if request.may_write() {
            map.flags.contains(MapFlags::PAUSEWR) || (full && !request.ignores_full())
        } else {
            map.flags.contains(MapFlags::PAUSERD)
        };
        let pg = pool.pg_of_hash(pool_id, hash);
        let at = self.0.entry(pg).or_insert_with(|| Rc::new(map_pg(map, pg)));
        if paused || at.acting_primary == NO_OSD {
            return Located::Wait;
        }
        let shard = if pool.closes_holes() {
            -1
        } else {
            let position = at.acting.iter().position(|&osd| osd == at.acting_primary);
            position.and_then(|position| i8::try_from(position).ok()).unwrap_or(-1)
        };
        let is_group = matches!(request.target, Target::Group { .. });
        Located::At(Place {
            osd: at.acting_primary,
            pg: ShardPgId { pg, shard },
            // A group is addressed by itself, wherever in it a listing is.
            hash: if is_group { pg.seed } else { hash },
            at: Some(at.clone()),
            pg_num: pool.pg_num,
            force_resend: pool.last_force_op_resend,
        })
    }
}

impl Place {
    fn daemon(osd: i32) -> Self {
        Self {
            osd,
            pg: ShardPgId::replicated(PgId::new(-1, 0)),
            hash: 0,
            at: None,
            pg_num: 0,
            force_resend: Epoch(0),
        }
    }
}
