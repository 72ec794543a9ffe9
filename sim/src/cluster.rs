//! The simulated cluster: which host runs what, and how it starts, dies and starts again.
//!
//! Host 0 is the monitor; OSDs and clients follow. Each OSD and the monitor have a disk that outlives them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mon_lite::osd_life::NewOsd;
use mon_lite::{MkfsOptions, MonConfig, Monitor};
use nvme::{SimDisk, SimDiskConfig};
use osd::{Osd, OsdConfig};
use rt::sim::{Sim, address};
use rt::{Core, Group};
use store::ObjectStore;
use uuid::Uuid;

use crate::client_life::Shared;
use crate::node_store::{self, NodeStore};
use crate::scenario::Scenario;

/// Host of the monitor.
pub const MON_HOST: u16 = 0;
/// Host of the first OSD.
const OSD_HOST: u16 = 1;
/// Host of the first client.
const CLIENT_HOST: u16 = 100;
/// Port of the monitor.
const MON_PORT: u16 = 3300;
/// Port of an OSD.
const OSD_PORT: u16 = 6800;
const MON_DISK_BYTES: u64 = 16 << 20;
/// A monitor or OSD that cannot start is tried again after this.
const RETRY: Duration = Duration::from_millis(200);

/// One OSD's part that outlives it.
pub struct Node {
    /// Its disk.
    pub disk: SimDisk,
    /// Its identity.
    pub uuid: Uuid,
    /// It is opening its store.
    pub opening: Rc<Cell<bool>>,
    /// The store of its present life.
    pub store: Rc<RefCell<Option<Rc<dyn ObjectStore>>>>,
    /// Counters of lives that ended, by name.
    pub past: RefCell<BTreeMap<&'static str, u64>>,
    /// The store was made.
    made: Rc<Cell<bool>>,
}

impl Node {
    /// Its store was formatted.
    pub fn is_made(&self) -> bool {
        self.made.get()
    }
}

/// The cluster.
pub struct Cluster {
    scenario: Scenario,
    fsid: Uuid,
    mon_disk: SimDisk,
    mon_made: Rc<Cell<bool>>,
    /// OSDs by id.
    pub nodes: Vec<Node>,
    shared: Rc<Shared>,
}

impl Cluster {
    /// Blank disks.
    pub fn new(scenario: &Scenario, shared: Rc<Shared>) -> Self {
        let seed = scenario.seed;
        let disk = |name: &str, bytes: u64| {
            let mut config = SimDiskConfig::new(name, bytes);
            config.geometry.rotational = scenario.rotational;
            config.geometry.volatile_cache = scenario.volatile_cache;
            SimDisk::new(config, seed)
        };
        let nodes = (0..scenario.osds)
            .map(|osd| Node {
                disk: disk(&format!("osd.{osd}"), scenario.disk_bytes),
                uuid: Uuid::from_u128(0x0506_0000 + u128::from(osd)),
                opening: Rc::default(),
                store: Rc::default(),
                past: RefCell::default(),
                made: Rc::default(),
            })
            .collect();
        Self {
            fsid: Uuid::from_u128(u128::from(seed) << 64 | 0xc1),
            mon_disk: disk("mon.a", MON_DISK_BYTES),
            mon_made: Rc::default(),
            nodes,
            scenario: scenario.clone(),
            shared,
        }
    }

    /// Where the monitor listens.
    pub fn monitor(&self) -> SocketAddr {
        address(MON_HOST, MON_PORT)
    }

    /// Host of an OSD.
    pub fn osd_host(osd: usize) -> u16 {
        OSD_HOST + u16::try_from(osd).unwrap_or(u16::MAX)
    }

    /// Host of a client.
    pub fn client_host(client: usize) -> u16 {
        CLIENT_HOST + u16::try_from(client).unwrap_or(u16::MAX)
    }

    /// Brings the monitor to life.
    pub fn start_mon(&self, sim: &Sim) {
        let core = sim.core(MON_HOST);
        let life = MonLife {
            core: core.clone(),
            disk: self.mon_disk.clone(),
            made: self.mon_made.clone(),
            config: MonConfig {
                fsid: self.fsid,
                name: "a".into(),
                hostname: "mon".into(),
                listen: self.monitor(),
            },
            osds: self.new_osds(),
            shared: self.shared.clone(),
        };
        drop(core.spawn(Group::Client, "mon", life.run()));
    }

    /// Power loss of the monitor's host.
    pub fn crash_mon(&self, sim: &Sim) {
        sim.kill(MON_HOST);
        self.mon_disk.crash();
    }

    /// Brings an OSD to life.
    pub fn start_osd(&self, sim: &Sim, osd: usize) {
        let node = &self.nodes[osd];
        let core = sim.core(Self::osd_host(osd));
        let life = OsdLife {
            core: core.clone(),
            store: NodeStore {
                disk: node.disk.clone(),
                uuid: node.uuid,
                made: node.made.clone(),
                scenario: self.scenario.clone(),
            },
            opening: node.opening.clone(),
            running: node.store.clone(),
            config: OsdConfig {
                whoami: i32::try_from(osd).unwrap_or(i32::MAX),
                fsid: self.fsid,
                osd_uuid: node.uuid,
                monitors: vec![self.monitor()],
                listen: address(Self::osd_host(osd), OSD_PORT),
                metadata: BTreeMap::from([("hostname".to_owned(), format!("node{osd}"))]),
                options: BTreeMap::new(),
            },
            shared: self.shared.clone(),
        };
        drop(core.spawn(Group::Client, "osd", life.run()));
    }

    /// Power loss of an OSD's host, or, for one time in four, only its process dies. True if it was replaying.
    pub fn crash_osd(&self, sim: &Sim, osd: usize, power: bool) -> bool {
        let node = &self.nodes[osd];
        let replaying = node.opening.replace(false) && node.made.get();
        self.keep_counters(osd);
        sim.kill(Self::osd_host(osd));
        if power {
            node.disk.crash()
        } else {
            node.disk.end_process()
        }
        replaying
    }

    /// Adds the running store's counters to those of past lives, and forgets the store.
    pub fn keep_counters(&self, osd: usize) {
        let node = &self.nodes[osd];
        let Some(store) = node.store.take() else { return };
        let mut past = node.past.borrow_mut();
        for (name, value) in store.stats().counters {
            *past.entry(name).or_default() += value;
        }
    }

    fn new_osds(&self) -> Vec<NewOsd> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(osd, node)| NewOsd {
                id: i32::try_from(osd).unwrap_or(i32::MAX),
                uuid: node.uuid,
                host: format!("node{osd}"),
                device: format!("node{osd}-disk"),
                class: "ssd".into(),
                size_bytes: self.scenario.disk_bytes,
            })
            .collect()
    }
}

struct MonLife {
    core: Core,
    disk: SimDisk,
    made: Rc<Cell<bool>>,
    config: MonConfig,
    osds: Vec<NewOsd>,
    shared: Rc<Shared>,
}

impl MonLife {
    async fn run(self) {
        let device: Rc<dyn nvme::BlockDevice> = Rc::new(self.disk.open(&self.core));
        if !self.made.get() {
            let options = MkfsOptions {
                fsid: self.config.fsid,
                name: self.config.name.clone(),
                osds: self.osds.clone(),
                overwrite: true,
            };
            if let Err(error) = mon_lite::mkfs(&self.core, device.clone(), options).await {
                return self.shared.fail(format!("mkfs of the monitor: {error}"));
            }
            self.made.set(true);
        }
        match Monitor::start(self.core.clone(), device, self.config).await {
            Ok(handle) => {
                let error = handle.failed().await;
                self.shared.fail(format!("the monitor failed: {error}"));
            }
            Err(error) => self.shared.fail(format!("the monitor does not start: {error}")),
        }
    }
}

struct OsdLife {
    core: Core,
    store: NodeStore,
    opening: Rc<Cell<bool>>,
    running: Rc<RefCell<Option<Rc<dyn ObjectStore>>>>,
    config: OsdConfig,
    shared: Rc<Shared>,
}

impl OsdLife {
    async fn run(self) {
        let whoami = self.config.whoami;
        self.opening.set(true);
        let store = match node_store::open(&self.core, &self.store).await {
            Ok(store) => store,
            Err(error) => return self.shared.fail(format!("osd.{whoami} does not open its store: {error}")),
        };
        self.opening.set(false);
        *self.running.borrow_mut() = Some(store.clone());
        loop {
            match Osd::start(self.core.clone(), store.clone(), self.config.clone()).await {
                Ok(handle) => {
                    let reason = handle.failed().await;
                    return self.shared.fail(format!("osd.{whoami} failed: {reason}"));
                }
                // The port of the former life may still be taken.
                Err(osd::StartError::Listen { .. }) => self.core.sleep(RETRY).await,
                Err(error) => return self.shared.fail(format!("osd.{whoami} does not start: {error}")),
            }
        }
    }
}
