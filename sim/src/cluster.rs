//! The simulated cluster: which host runs what, and how it starts, dies and starts again.
//!
//! Host 0 is the monitor; OSDs and clients follow. Each OSD and the monitor have disks that outlive them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use bluefs::fs::{FsError, LocalBlueFs, Machine};
use mon_lite::limits::LOG_SUPERBLOCK_SPACING;
use mon_lite::osd_life::NewOsd;
use mon_lite::{MkfsOptions, MonConfig, Monitor};
use nvme::SimDisk;
use osd::{Osd, OsdConfig, OsdHandle};
use rt::sim::{Sim, address};
use rt::{Core, Group};
use store::{Engine, FsckLevel, ObjectStore};
use uuid::Uuid;

use crate::bystander;
use crate::client_life::Shared;
use crate::disks::{self, Disks};
use crate::fs_owners;
use crate::node_store::{self, NodeStore, Opened, Regions, Stage};
use crate::run::nanos;
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
/// A copy of the superblock of its log is within so many bytes.
const MON_BLOCK: u64 = 4096;
/// Longest time between two logs of a file system that are written for no reason.
const LOG_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A monitor or OSD that cannot start is tried again after this.
const RETRY: Duration = Duration::from_millis(200);

/// Where a task says how it went.
pub type Outcome = Rc<RefCell<Option<Result<(), String>>>>;

/// One OSD's part that outlives it.
pub struct Node {
    /// Its disks, and what its store is made of.
    pub parts: NodeStore,
    /// Where what is on the disks.
    pub regions: Regions,
    /// The store of its present life.
    pub store: Rc<RefCell<Option<Rc<Engine>>>>,
    /// The file system below the store of its present life.
    pub fs: Rc<RefCell<Option<LocalBlueFs>>>,
    /// The daemon of its present life.
    pub daemon: Rc<RefCell<Option<Rc<OsdHandle>>>>,
    /// A disk was told to fail, so the daemon may, and a new life is due.
    pub may_fail: Rc<Cell<bool>>,
    /// Blocks of data damaged on its main disk while it ran, by their address in the slice. Some may be well again.
    pub damaged: Rc<RefCell<BTreeSet<u64>>>,
    /// Counters of lives that ended, by name.
    past: RefCell<BTreeMap<&'static str, u64>>,
}

impl Node {
    /// What it is doing.
    pub fn stage(&self) -> Stage {
        self.parts.stage.get()
    }

    /// One of the store's counters, over all lives.
    pub fn counter(&self, name: &str) -> u64 {
        let of = |counters: &[(&'static str, u64)]| {
            counters.iter().find(|(other, _)| *other == name).map_or(0, |(_, value)| *value)
        };
        let present = self.store.borrow().as_ref().map_or(0, |store| of(&store.stats().counters));
        present + self.past.borrow().get(name).copied().unwrap_or(0)
    }

    /// Times that its journal went around.
    pub fn journal_wraps(&self) -> u64 {
        self.counter("journal_bytes_written") / self.parts.scenario.journal_bytes
    }

    /// Bytes of data that went to space which had held data before, in thousandths of the space for data.
    pub fn reuse_permille(&self) -> u64 {
        let regions = self.parts.disks.main().regions();
        let distinct = regions.first().map_or(0, nvme::sim::Region::distinct_bytes_written);
        let reused = self.counter("data_bytes_written").saturating_sub(distinct);
        reused * 1000 / self.regions.data().len
    }

    /// Whether keys are on the main disk now although there is one for them.
    pub fn has_spilled(&self) -> bool {
        self.with_fs(|machine| machine.stats().spilled_bytes > 0).unwrap_or(false)
    }

    /// Looks at the file system below the store; none if there is none now.
    pub fn with_fs<T>(&self, look: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        self.fs.borrow().as_ref()?.with(|machine| Ok(look(machine))).ok()
    }

    /// Checkpoints that the store of its present life made.
    pub fn checkpoints(&self) -> u64 {
        let past = self.past.borrow().get("checkpoints").copied().unwrap_or(0);
        self.counter("checkpoints") - past
    }

    /// Adds the running store's counters to those of past lives, and forgets the store.
    fn end_life(&self) {
        self.daemon.take();
        self.fs.take();
        let Some(store) = self.store.take() else { return };
        let mut past = self.past.borrow_mut();
        for (name, value) in store.stats().counters {
            *past.entry(name).or_default() += value;
        }
    }
}

/// The cluster.
pub struct Cluster {
    scenario: Rc<Scenario>,
    fsid: Uuid,
    /// The monitor's disk.
    pub mon_disk: SimDisk,
    /// OSDs by id.
    pub nodes: Vec<Node>,
    shared: Rc<Shared>,
}

impl Cluster {
    /// Disks without stores.
    pub fn new(scenario: &Rc<Scenario>, shared: Rc<Shared>) -> Result<Self, String> {
        let fsid = Uuid::from_u128(u128::from(scenario.seed) << 64 | 0xc1);
        let nodes = (0..scenario.osds)
            .map(|osd| {
                let parts = NodeStore {
                    disks: Disks::new(scenario, &format!("osd.{osd}")),
                    uuid: Rc::new(Cell::new(Uuid::from_u128(0x0506_0000 + u128::from(osd)))),
                    fsid,
                    scenario: scenario.clone(),
                    stage: Rc::default(),
                };
                let regions = Regions::of(&parts)?;
                let data = regions.data();
                parts.disks.main().count_region("data", data.start..data.end());
                Ok(Node {
                    parts,
                    regions,
                    store: Rc::default(),
                    fs: Rc::default(),
                    daemon: Rc::default(),
                    may_fail: Rc::default(),
                    damaged: Rc::default(),
                    past: RefCell::default(),
                })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self {
            fsid,
            mon_disk: SimDisk::new(disks::config(scenario, "mon.a", MON_DISK_BYTES), scenario.seed),
            nodes,
            scenario: scenario.clone(),
            shared,
        })
    }

    /// The copies of the superblock of the monitor's log.
    pub fn mon_superblocks() -> [Range<u64>; 2] {
        [0, LOG_SUPERBLOCK_SPACING].map(|start| start..start + MON_BLOCK)
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

    /// Makes the monitor's store, in a task of its host; says in `done` how it went.
    pub fn make_mon(&self, sim: &Sim, done: Outcome) {
        let core = sim.core(MON_HOST);
        let device: Rc<dyn nvme::BlockDevice> = Rc::new(self.mon_disk.open(&core));
        let options =
            MkfsOptions { fsid: self.fsid, name: "a".into(), osds: self.new_osds(), overwrite: true };
        drop(core.clone().spawn(Group::Client, "mkfs of the monitor", async move {
            let made = mon_lite::mkfs(&core, device, options).await;
            done.replace(Some(made.map_err(|error| format!("mkfs of the monitor: {error}"))));
        }));
    }

    /// Makes an OSD's store, of a new identity, in a task of its host; says in `done` how it went.
    pub fn make_osd(&self, sim: &Sim, osd: usize, done: Outcome) {
        let core = sim.core(Self::osd_host(osd));
        let parts = self.nodes[osd].parts.clone();
        parts.uuid.set(Uuid::from_u128(core.random_u64().into()));
        drop(core.clone().spawn(Group::Client, "mkfs of an OSD", async move {
            let made = node_store::make(&core, &parts).await;
            done.replace(Some(made.map_err(|error| format!("mkfs of osd.{osd}: {error}"))));
        }));
    }

    /// Brings the monitor to life.
    pub fn start_mon(&self, sim: &Sim) {
        let core = sim.core(MON_HOST);
        let device: Rc<dyn nvme::BlockDevice> = Rc::new(self.mon_disk.open(&core));
        let config =
            MonConfig { fsid: self.fsid, name: "a".into(), hostname: "mon".into(), listen: self.monitor() };
        let shared = self.shared.clone();
        drop(core.clone().spawn(Group::Client, "mon", async move {
            match Monitor::start(core, device, config).await {
                Ok(handle) => {
                    let error = handle.failed().await;
                    shared.fail(format!("the monitor failed: {error}"));
                }
                Err(error) => shared.fail(format!("the monitor does not start: {error}")),
            }
        }));
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
            parts: node.parts.clone(),
            store: node.store.clone(),
            fs: node.fs.clone(),
            daemon: node.daemon.clone(),
            may_fail: node.may_fail.clone(),
            damaged: node.damaged.clone(),
            config: OsdConfig {
                whoami: i32::try_from(osd).unwrap_or(i32::MAX),
                fsid: self.fsid,
                osd_uuid: node.parts.uuid.get(),
                monitors: vec![self.monitor()],
                listen: address(Self::osd_host(osd), OSD_PORT),
                metadata: BTreeMap::from([("hostname".to_owned(), format!("node{osd}"))]),
                memory_sharers: 1,
                options: BTreeMap::new(),
            },
            shared: self.shared.clone(),
        };
        drop(core.spawn(Group::Client, "osd", life.run()));
    }

    /// Stops an OSD in good order, in a task of its host; its stage says when it is down.
    pub fn stop_osd(&self, sim: &Sim, osd: usize) {
        let node = &self.nodes[osd];
        self.look_at_upkeep(osd);
        let (Some(store), Some(daemon)) = (node.store.borrow().clone(), node.daemon.take()) else { return };
        let core = sim.core(Self::osd_host(osd));
        let (stage, shared, may_fail) =
            (node.parts.stage.clone(), self.shared.clone(), node.may_fail.clone());
        stage.set(Stage::Close);
        drop(core.spawn(Group::Client, "stop", async move {
            daemon.stop().await;
            match store.close().await {
                Ok(()) => stage.set(Stage::Down),
                Err(_) if may_fail.get() => {}
                Err(error) => shared.fail(format!("osd.{osd} does not close its store: {error}")),
            }
        }));
    }

    /// Power loss of an OSD's host, or only its process dies. Gives what it was doing.
    pub fn crash_osd(&self, sim: &Sim, osd: usize, power: bool) -> Stage {
        let node = &self.nodes[osd];
        self.look_at_upkeep(osd);
        node.end_life();
        sim.kill(Self::osd_host(osd));
        if power {
            node.parts.disks.crash();
        } else {
            node.parts.disks.end_process();
        }
        node.may_fail.set(false);
        node.parts.stage.take()
    }

    /// What scrubs and checks of the present life of an OSD found, nothing if nothing was damaged; and what was defragmented.
    fn look_at_upkeep(&self, osd: usize) {
        let node = &self.nodes[osd];
        let Some(daemon) = node.daemon.borrow().clone() else { return };
        let counters = &daemon.osd().counters;
        self.shared.counts.borrow_mut().objects_scrubbed += counters.scrubbed_objects.get();
        let errors = counters.scrub_errors.get();
        if errors > 0 && node.damaged.borrow().is_empty() {
            self.shared
                .fail(format!("osd.{osd}: scrubs found {errors} objects unreadable, and none is damaged"));
        }
        self.shared.counts.borrow_mut().stores_checked += counters.fscks.get();
        let counted = daemon.osd().store.stats().counters;
        let of = |wanted| counted.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, bytes)| *bytes);
        self.shared.counts.borrow_mut().defragmented_bytes += of("defragmented_bytes");
        self.shared.counts.borrow_mut().cleared_moved_bytes += of("cleared_moved_bytes");
        let errors = counters.fsck_errors.get();
        self.shared.counts.borrow_mut().damage_found += errors;
        // A check that goes on when a disk was told to fail cannot read what is there.
        if errors > 0 && node.damaged.borrow().is_empty() && !node.may_fail.get() {
            self.shared.fail(format!("osd.{osd}: fsck found {errors} problems beside its clients"));
        }
    }

    fn new_osds(&self) -> Vec<NewOsd> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(osd, node)| NewOsd {
                id: i32::try_from(osd).unwrap_or(i32::MAX),
                uuid: node.parts.uuid.get(),
                host: format!("node{osd}"),
                device: format!("node{osd}-disk"),
                class: "ssd".into(),
                size_bytes: self.scenario.disk_bytes,
            })
            .collect()
    }
}

/// Writes the log of the key-value store's file system anew, now and then in the midst of everything: by itself it is seldom
/// full. Until that file system fails, or its host dies.
async fn compact(core: Core, fs: LocalBlueFs) {
    loop {
        core.sleep(Duration::from_nanos(core.random_u64() % nanos(LOG_PAUSE_MAX))).await;
        match fs.compact().await {
            Ok(()) | Err(FsError::NoSpace { .. }) => {}
            // Whoever uses it will tell.
            Err(_) => return,
        }
    }
}

struct OsdLife {
    core: Core,
    parts: NodeStore,
    store: Rc<RefCell<Option<Rc<Engine>>>>,
    fs: Rc<RefCell<Option<LocalBlueFs>>>,
    daemon: Rc<RefCell<Option<Rc<OsdHandle>>>>,
    may_fail: Rc<Cell<bool>>,
    damaged: Rc<RefCell<BTreeSet<u64>>>,
    config: OsdConfig,
    shared: Rc<Shared>,
}

impl OsdLife {
    async fn run(self) {
        let whoami = self.config.whoami;
        let failed = |what: String| {
            if !self.may_fail.get() {
                self.shared.fail(format!("osd.{whoami} {what}"));
            }
        };
        let store = match node_store::open(&self.core, &self.parts).await {
            Ok(Opened { engine, fs }) => {
                if self.parts.scenario.compacts_log {
                    drop(self.core.spawn(Group::Background, "log", compact(self.core.clone(), fs.clone())));
                }
                let (shared, looks) = (self.shared.clone(), fs_owners::watch(self.core.clone(), fs.clone()));
                drop(self.core.spawn(Group::Background, "watch", async move {
                    let problem = looks.await;
                    shared.fail(format!("osd.{whoami}: {problem}"));
                }));
                *self.fs.borrow_mut() = Some(fs);
                engine
            }
            Err(error) => return failed(format!("does not open its store: {error}")),
        };
        *self.store.borrow_mut() = Some(store.clone());
        if self.parts.scenario.bystander {
            let failed = {
                let (shared, may_fail) = (self.shared.clone(), self.may_fail.clone());
                move |what: String| {
                    if !may_fail.get() {
                        shared.fail(format!("osd.{whoami}: {what}"));
                    }
                }
            };
            let reads = bystander::run(self.core.clone(), store.clone(), self.damaged.clone(), failed);
            drop(self.core.spawn(Group::Background, "bystander", reads));
        }
        loop {
            match Osd::start(self.core.clone(), store.clone(), self.config.clone()).await {
                Ok(handle) => {
                    let handle = Rc::new(handle);
                    #[cfg(feature = "planted")]
                    if let Some(crate::Planted::Osd(planted)) = self.parts.scenario.planted {
                        handle.plant(planted);
                    }
                    *self.daemon.borrow_mut() = Some(handle.clone());
                    // Every life scrubs what it finds, checks its store and defragments it, beside its clients.
                    let osd = handle.osd();
                    osd.all_groups().iter().for_each(|group| osd.scrubs.want(group.id()));
                    osd.checks.want(FsckLevel::Deep);
                    osd.clears.want();
                    osd.defrags.want(u64::MAX);
                    let reason = handle.failed().await;
                    return failed(format!("failed: {reason}"));
                }
                // The port of the former life may still be taken.
                Err(osd::StartError::Listen { .. }) => self.core.sleep(RETRY).await,
                Err(error) => return failed(format!("does not start: {error}")),
            }
        }
    }
}
