//! The daemon: its parts, its life from start to stop, and what they all need from each other.
//!
//! Invariants: every task holds a pass of the gate, so `stop` returns when nothing of this OSD runs any more; once the
//! store failed, nothing is answered. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use rt::sync::{Event, Gate, Pass, Semaphore};
use rt::{Core, Group, Seldom};
use store::ObjectStore;
use wire::msgr2::{ConnectionId, SessionTable};
use wire::osdmap::OsdMap;
use wire::types::{Addr, AddrVec, Epoch, PgId};

use crate::answer::Room;
use crate::config::{Options, OsdConfig};
use crate::fault::Fault;
use crate::handle::OsdHandle;
use crate::limits::{self, REQUESTS_MAX};
use crate::maps::Maps;
use crate::placement_group::PlacementGroup;
use crate::session::Session;
use crate::superblock::{self, Identity, SuperblockError};
use crate::tracker::Tracker;
use crate::{clear, defrag, fsck, groups, listener, memory, monitor, requests, scrub, space};

/// Why an OSD does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store is not usable.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// A placement group is not readable.
    #[error("placement group {pg}: {reason}")]
    Group {
        /// Which.
        pg: PgId,
        /// Why.
        reason: String,
    },
    /// It may not take as much memory as it needs.
    #[error("{reason}")]
    Memory {
        /// Why.
        reason: String,
    },
    /// It cannot listen.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

/// Things counted since start.
#[derive(Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counters {
    pub connections: Cell<u64>,
    pub connections_refused: Cell<u64>,
    pub requests: Cell<u64>,
    pub replies: Cell<u64>,
    pub dropped: Cell<u64>,
    pub maps: Cell<u64>,
    pub scrubbed_objects: Cell<u64>,
    pub scrubbed_bytes: Cell<u64>,
    pub scrub_errors: Cell<u64>,
    pub fscks: Cell<u64>,
    pub fsck_errors: Cell<u64>,
}

/// The daemon's state.
pub struct Osd {
    /// Its core.
    pub core: Core,
    /// What it was told at start.
    pub config: OsdConfig,
    /// Options.
    pub options: Options,
    /// Its store.
    pub store: Rc<dyn ObjectStore>,
    /// Its published addresses.
    pub addrs: AddrVec,
    /// The map in force.
    pub maps: Maps,
    /// Requests in progress.
    pub tracker: Tracker,
    /// Things counted.
    pub counters: Counters,
    /// Bounds the log of peers that break the protocol or the limits.
    pub bad_peers: Seldom,
    /// Bounds the log of monitors that cannot be reached or are not ours.
    pub bad_monitors: Seldom,
    /// Room for requests.
    pub requests: Semaphore,
    /// Room for their bytes.
    pub request_bytes: Semaphore,
    /// Whether the store is nearly full, as last looked at.
    pub store_full: Cell<bool>,
    /// What the store refused because it is.
    pub space_refusals: space::Refusals,
    /// What scrubbing found.
    pub scrubs: scrub::Scrubs,
    /// Checks of the store.
    pub checks: fsck::Checks,
    /// Defragmenting.
    pub defrags: defrag::Defrags,
    /// Clearing space.
    pub clears: clear::Clears,
    /// The monitor is asked for newer maps when this is set.
    pub map_wanted: Event,
    /// Set when the OSD is up in the map in force.
    pub up: Event,
    groups: RefCell<BTreeMap<PgId, Rc<PlacementGroup>>>,
    pub(crate) sessions: RefCell<BTreeMap<ConnectionId, Rc<Session>>>,
    pub(crate) table: RefCell<SessionTable>,
    pub(crate) next_connection: Cell<u64>,
    pub(crate) half_open: Cell<usize>,
    pub(crate) gate: Gate,
    pub(crate) failure: RefCell<Option<String>>,
    pub(crate) failed: Event,
    pub(crate) fault: Fault,
}

impl Osd {
    /// Starts an OSD on a store, which may be empty: loads its groups, listens, and reports to the monitor. It serves
    /// requests from when the map says that it is up.
    pub async fn start(
        core: Core,
        store: Rc<dyn ObjectStore>,
        config: OsdConfig,
    ) -> Result<OsdHandle, StartError> {
        let identity = Identity { fsid: config.fsid, whoami: config.whoami, osd_uuid: config.osd_uuid };
        let remembered = superblock::open(&*store, identity).await?;
        let listen = |error| StartError::Listen { address: config.listen, error };
        let accepting = core.listen(config.listen).map_err(listen)?;
        // Nonces tell this process from an earlier one on the same port; 0 is for monitors.
        let nonce = (core.random_u64() as u32).max(1);
        let addrs = AddrVec(vec![Addr::msgr2(accepting.local_addr(), nonce)]);
        let options = Options::new(&config.options);
        let target = memory::parse(&options.get(memory::TARGET_OPTION).unwrap_or_default());
        let request_bytes =
            memory::request_bytes_max(target.map_err(|reason| StartError::Memory { reason })?);
        let osd = Rc::new(Self {
            options,
            maps: Maps::new(remembered.map, remembered.full, remembered.increments),
            tracker: Tracker::default(),
            counters: Counters::default(),
            bad_peers: Seldom::new(limits::BAD_PEERS_LOGGED, limits::BAD_PEERS_PERIOD),
            bad_monitors: Seldom::new(1, limits::BAD_MONITORS_PERIOD),
            requests: Semaphore::new(REQUESTS_MAX),
            request_bytes: Semaphore::new(request_bytes),
            store_full: Cell::new(false),
            space_refusals: space::Refusals::default(),
            scrubs: scrub::Scrubs::default(),
            checks: fsck::Checks::default(),
            defrags: defrag::Defrags::default(),
            clears: clear::Clears::default(),
            map_wanted: Event::default(),
            up: Event::default(),
            groups: RefCell::default(),
            sessions: RefCell::default(),
            table: RefCell::new(SessionTable::new()),
            next_connection: Cell::new(1),
            half_open: Cell::new(0),
            gate: Gate::default(),
            failure: RefCell::new(None),
            failed: Event::default(),
            fault: Fault::default(),
            core,
            config,
            store,
            addrs,
        });
        memory::apply(&osd).map_err(|reason| StartError::Memory { reason })?;
        groups::load(&osd).await?;
        scrub::load(&osd).await.map_err(SuperblockError::from)?;
        osd.spawn(Group::Client, "listener", move |osd| listener::accept_loop(osd, accepting));
        osd.spawn(Group::Background, "watch connections", listener::watch_loop);
        osd.spawn(Group::Background, "watch space", space::watch_loop);
        osd.spawn(Group::Background, "scrub", scrub::scrub_loop);
        osd.spawn(Group::Background, "fsck", fsck::check_loop);
        osd.spawn(Group::Background, "defrag", defrag::defrag_loop);
        osd.spawn(Group::Client, "monitor session", monitor::session_loop);
        Ok(OsdHandle { osd })
    }

    /// Starts a task of this OSD; none once it is stopping.
    pub fn spawn<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        group: Group,
        name: &'static str,
        task: impl FnOnce(Rc<Self>) -> F,
    ) {
        if let Some(pass) = self.enter() {
            let future = task(self.clone());
            drop(self.core.spawn(group, name, async move {
                future.await;
                drop(pass);
            }));
        }
    }

    /// Permission to start a task, which must hold it until its end; none once the OSD is stopping.
    pub fn enter(&self) -> Option<Pass> {
        self.gate.enter()
    }

    /// Waits until the OSD is stopping.
    pub async fn stopping(&self) {
        self.gate.closing().await;
    }

    /// Whether it is.
    pub fn is_stopping(&self) -> bool {
        self.gate.is_closing()
    }

    /// Logs what a peer did wrong, unless that happens all the time.
    pub fn blame(&self, peer: &str, what: &dyn std::fmt::Display) {
        if let Some(more) = self.bad_peers.admit(self.core.now()) {
            log::warn!("osd.{}: {peer} is closed: {what}{more}", self.config.whoami);
        }
    }

    /// It cannot go on, usually because the store is gone: closes everything. What was not answered will not be.
    pub fn fail(&self, reason: &str) {
        if self.failure.borrow().is_some() {
            return;
        }
        log::error!("osd.{} is down: {reason}", self.config.whoami);
        self.failure.replace(Some(reason.to_owned()));
        self.failed.set();
        self.groups.borrow().values().for_each(|group| group.abandon());
        self.close_all_sessions();
    }

    /// Whether the store is gone.
    pub fn has_failed(&self) -> bool {
        self.failed.is_set()
    }

    /// Whether a map says that this OSD is up at this very address.
    pub fn is_up_in(&self, map: &OsdMap) -> bool {
        map.is_up(self.config.whoami)
            && map.osd(self.config.whoami).is_some_and(|osd| osd.client_addrs == self.addrs)
    }

    /// Whether the map in force says so.
    pub fn is_up(&self) -> bool {
        self.up.is_set() && !self.has_failed()
    }

    /// Room for growth in a pool.
    pub fn room(&self, pool: i64) -> Room {
        if self.store_full.get() { Room::StoreFull } else { requests::pool_room(&self.maps.current(), pool) }
    }

    /// A newer map than ours exists.
    pub fn want_map(&self, epoch: Epoch) {
        log::debug!("osd.{}: epoch {epoch} is wanted, {} is here", self.config.whoami, self.maps.epoch());
        self.map_wanted.set();
    }

    // Placement groups.

    /// A group of which this OSD has the collection.
    pub fn group(&self, pg: PgId) -> Option<Rc<PlacementGroup>> {
        self.groups.borrow().get(&pg).cloned()
    }

    /// All of them, ascending.
    pub fn all_groups(&self) -> Vec<Rc<PlacementGroup>> {
        self.groups.borrow().values().cloned().collect()
    }

    /// Adds one.
    pub fn add_group(&self, group: PlacementGroup) {
        let old = self.groups.borrow_mut().insert(group.id(), Rc::new(group));
        assert!(old.is_none(), "invariant: a group is added once");
    }

    /// Takes one out; nobody finds it any more.
    pub fn take_group(&self, pg: PgId) -> Option<Rc<PlacementGroup>> {
        self.groups.borrow_mut().remove(&pg)
    }
}
