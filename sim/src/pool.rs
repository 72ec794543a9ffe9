//! The pool that the load uses, and names in it: such that every OSD has work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rt::sim::Sim;
use wire::osdmap::OsdMap;
use wire::placement::{self, ObjectName};

use crate::cluster::Cluster;
use crate::scenario::Scenario;

/// A refused command is given again after this.
const RETRY: Duration = Duration::from_millis(100);
/// Pools made until one uses every OSD.
const POOLS_MAX: u32 = 20;
/// Host of the one who makes the pool.
const ADMIN: usize = 500;

/// Where the pool's objects are.
pub struct Placed {
    /// Name of the pool.
    pub pool: String,
    /// Its id.
    pub id: i64,
    map: Arc<OsdMap>,
}

/// Makes pools until one has placement groups on every OSD; each has more of them than the last.
pub fn make(sim: &Sim, cluster: &Cluster, scenario: &Scenario) -> Placed {
    let (monitor, pg_num, osds) = (cluster.monitor(), scenario.pg_num, scenario.osds);
    sim.run(Cluster::client_host(ADMIN), |core| async move {
        let client = loop {
            match client::Client::connect(&core, client::ClientConfig::new(vec![monitor])).await {
                Ok(client) => break client,
                Err(_) => core.sleep(RETRY).await,
            }
        };
        for number in 0.. {
            let pool = format!("load{number}");
            let command = serde_json::json!({
                "prefix": "osd pool create", "pool": pool, "pg_num": pg_num + number * u32::from(osds),
            });
            while client.mon_command(&command.to_string(), bytes::Bytes::new()).await.is_err() {
                core.sleep(RETRY).await;
            }
            // Where groups are is known once every OSD is up.
            let (map, id) = loop {
                let map = client.wait_for_latest_map().await;
                if let (Ok(map), Ok(found)) = (map, client.pool(&pool).await)
                    && (0..i32::from(osds)).all(|osd| map.is_up(osd))
                {
                    break (map, found.id());
                }
                core.sleep(RETRY).await;
            };
            let placed = Placed { pool, map, id };
            if placed.osds().len() == usize::from(osds) || number >= POOLS_MAX {
                return placed;
            }
        }
        unreachable!("the loop ends by returning")
    })
}

impl Placed {
    fn osds(&self) -> BTreeSet<i32> {
        let groups = self.map.pools.get(&self.id).map_or(0, |pool| pool.pg_num);
        (0..groups)
            .map(|seed| placement::map_pg(&self.map, wire::types::PgId::new(self.id, seed)).acting_primary)
            .collect()
    }

    /// So many names for a client with their OSDs, no other client's, spread evenly. Some are unusual.
    pub fn names(&self, client: u16, count: usize, osds: u16) -> Vec<(String, usize)> {
        let mut names = Vec::new();
        let wanted: Vec<i32> = self.osds().into_iter().filter(|osd| *osd < i32::from(osds)).collect();
        assert!(!wanted.is_empty(), "a pool has placement groups");
        for index in 0_usize.. {
            if names.len() >= count {
                break;
            }
            let name = match index % 7 {
                0 => format!("client{client} with spaces {index}"),
                1 => format!("client{client}-größe-{index}-✓"),
                2 => format!("client{client}{}-{index}", "-long".repeat(30)),
                _ => format!("client{client}-{index:04}"),
            };
            let object = ObjectName { name: name.as_bytes(), ..ObjectName::default() };
            let at = placement::map(&self.map, self.id, object).map(|mapping| mapping.at.acting_primary);
            let turn = wanted.get(names.len() % wanted.len()).copied();
            if let Some(osd) = turn.filter(|turn| at == Some(*turn)) {
                names.push((name, usize::try_from(osd).unwrap_or(usize::MAX)));
            }
        }
        names
    }
}
