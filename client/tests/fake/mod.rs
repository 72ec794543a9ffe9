//! A cluster for tests: monitors and OSDs that speak the protocol through wire's accepting side, on hosts of a
//! simulated world. Their state is one value that the test holds, so that it survives kills and can be looked into.
#![allow(clippy::unwrap_used, dead_code, reason = "a test; each test binary uses some of it")]

mod mon;
mod osd;
mod serve;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use client::{Client, ClientConfig};
use rt::sim::{Sim, address};
use uuid::Uuid;
use wire::codec::encode_to_bytes;
use wire::crush::{CrushMap, Location, ReplicatedRule, TYPE_OSD, WEIGHT_ONE};
use wire::osdmap::{MapFlags, OsdMap, OsdState, Pool, Step};
use wire::placement::ReversedRange;
use wire::types::{Addr, Epoch, HObject, RequestId, SnapId, UTime};

pub use serve::Peer;

pub const MON_PORT: u16 = 3300;
pub const OSD_PORT: u16 = 6800;
pub const CLIENT_HOST: u16 = 1;
pub const MON_HOST: u16 = 2;
pub const OSD_HOST: u16 = 10;

/// A cluster.
#[derive(Clone)]
pub struct Cluster(pub Rc<RefCell<State>>);

#[derive(Default)]
pub struct State {
    pub fsid: Uuid,
    pub map: Arc<OsdMap>,
    pub full: BTreeMap<Epoch, Bytes>,
    pub incrementals: BTreeMap<Epoch, Bytes>,
    pub mons: Vec<u16>,
    pub subscribers: Vec<(Peer, u64)>,
    pub next_global_id: u64,
    pub objects: BTreeMap<HObject, Object>,
    /// Answers to writes, by which duplicates are known.
    pub answers: BTreeMap<RequestId, i32>,
    /// Duplicates seen.
    pub duplicates: u64,
    /// Requests received, with their attempts.
    pub received: u64,
    pub retries: u64,
    /// Answer so many requests with EAGAIN.
    pub try_again: u32,
    /// Swallow requests silently while set.
    pub mute: bool,
    /// Hold back requests on everything while set; peers that were told.
    pub backoff: bool,
    pub backed_off: Vec<(Peer, wire::msg::Backoff)>,
    pub in_flight: u64,
    pub in_flight_max: u64,
    /// Time an op takes.
    pub delay_us: u64,
    pub list_page: usize,
    pub poolops: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub data: Vec<u8>,
    pub xattrs: BTreeMap<Bytes, Bytes>,
    pub omap: BTreeMap<Bytes, Bytes>,
    pub version: u64,
}

impl Cluster {
    /// A cluster with one monitor and so many OSDs, running, with a pool `data` (id 1).
    pub fn start(sim: &Sim, osds: u16, pg_num: u32) -> Self {
        let cluster = Self(Rc::default());
        {
            let mut state = cluster.0.borrow_mut();
            state.fsid = Uuid::from_u128(7);
            state.mons = vec![MON_HOST];
            state.list_page = 3;
            state.next_global_id = 4000;
        }
        cluster.change(|map| {
            map.fsid = Uuid::from_u128(7);
            map.flags = MapFlags::NEW_CLUSTER;
            let mut crush = CrushMap::with_default_root();
            for osd in 0..osds {
                let name = format!("d{osd}");
                let location = Location { root: "default".into(), host: "h".into(), device: name };
                crush.place_osd(osd.into(), WEIGHT_ONE, "nvme", &location).unwrap();
                map.osds.push(Default::default());
                let entry = map.osds.last_mut().unwrap();
                entry.state = OsdState::EXISTS | OsdState::UP;
                entry.weight = WEIGHT_ONE;
                entry.client_addrs = osd_addr(osd).into();
            }
            let rule = ReplicatedRule {
                name: "r".into(),
                root: "default".into(),
                failure_domain: TYPE_OSD,
                class: None,
            };
            let rule = crush.add_replicated_rule(&rule).unwrap();
            map.crush = crush.into();
            map.pools.insert(1, Pool::replicated(pg_num, 1, 1, rule, UTime::default()));
            map.pool_names.insert(1, "data".into());
            map.pool_max = 1;
        });
        mon::start(sim, MON_HOST, &cluster);
        for osd in 0..osds {
            osd::start(sim, osd, &cluster);
        }
        cluster
    }

    /// Starts an OSD's host again after a kill.
    pub fn restart_osd(&self, sim: &Sim, osd: u16) {
        osd::start(sim, osd, self);
    }

    pub fn restart_mon(&self, sim: &Sim) {
        mon::start(sim, MON_HOST, self);
    }

    /// Makes the next map, and tells those who want to know.
    pub fn change(&self, change: impl FnOnce(&mut OsdMap)) {
        let mut state = self.0.borrow_mut();
        let mut draft = state.map.draft_next(UTime::default());
        change(&mut draft);
        let step = Step::between(&state.map, draft);
        state.full.insert(step.map.epoch, step.full.clone());
        state.incrementals.insert(step.map.epoch, encode_to_bytes(&step.incremental));
        state.map = Arc::new(step.map);
        drop(state);
        mon::push_maps(self);
    }

    /// What a client needs to connect.
    pub fn config(&self) -> ClientConfig {
        ClientConfig::new(vec![address(MON_HOST, MON_PORT)])
    }

    /// The content of an object.
    pub fn data(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.borrow();
        let found = state.objects.iter().find(|(id, _)| id.oid == name);
        found.map(|(_, object)| object.data.clone())
    }

    /// Lets the OSDs take requests again.
    pub fn end_backoff(&self) {
        let told = {
            let mut state = self.0.borrow_mut();
            state.backoff = false;
            std::mem::take(&mut state.backed_off)
        };
        for (peer, backoff) in told {
            let unblock = wire::msg::Backoff { step: wire::msg::BackoffStep::UNBLOCK, ..backoff };
            peer.send(&unblock, 0);
        }
    }
}

pub fn osd_addr(osd: u16) -> Addr {
    Addr::msgr2(address(OSD_HOST + osd, OSD_PORT), 1)
}

/// A client on its host.
pub async fn connect(core: &rt::Core, cluster: &Cluster) -> Client {
    Client::connect(core, cluster.config()).await.unwrap()
}

/// Objects of a listing: those of a placement group from a cursor on.
pub fn page_of(
    state: &State,
    pg_seed: u32,
    pool: i64,
    nspace: &[u8],
    from: &HObject,
) -> (Vec<HObject>, HObject, bool) {
    let range = ReversedRange::of_pg(pg_seed, state.map.pools[&pool].pg_num);
    let wanted = |id: &&HObject| {
        id.pool == pool
            && range.contains(id.hash)
            && (nspace == b"\x01" || id.nspace == nspace)
            && *id >= from
    };
    let mut all: Vec<HObject> = state.objects.keys().filter(wanted).cloned().collect();
    let rest = if all.len() > state.list_page { all.split_off(state.list_page) } else { Vec::new() };
    match rest.first() {
        Some(next) => (all, next.clone(), false),
        None => {
            let end = u32::try_from(range.end).ok();
            let end = end.map(|end| HObject { snap: SnapId::HEAD, ..HObject::hash_start(pool, end) });
            (all, end.unwrap_or_else(HObject::maximum), true)
        }
    }
}

/// The names in a set, for comparing listings.
pub fn names(listed: &[client::ListedObject]) -> BTreeSet<String> {
    let name = |object: &client::ListedObject| String::from_utf8(object.object.to_vec()).unwrap();
    listed.iter().map(name).collect()
}
