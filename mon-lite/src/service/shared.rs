//! What the tasks of one monitor share, and how they change the replicated state. Lives on the monitor's core.
//!
//! Invariant: the state changes only in the committer, by applying committed entries.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rt::sync::{Event, Gate, OneSender, QueueReceiver, QueueSender, Watch, oneshot, queue};
use rt::{Core, Nanos, Seldom};
use wire::codec::encode_to_bytes;
use wire::msg::{LogEntry, LogPriority, MonMap};
use wire::types::{Addr, AddrVec, AuthName, EntityKind, EntityName, Epoch, UTime};

use super::global_ids::GlobalIds;
use super::osd_sessions::OsdSessions;
use super::{MonConfig, MonError, wall_clock};
use crate::limits::{BAD_PEERS_LOGGED, BAD_PEERS_SECONDS, PGS_PER_TURN, PROPOSALS_MAX};
use crate::live::{Live, Monitor, PgMap};
use crate::state::{Change, Effects, State, cluster_log};
use crate::view::View;

/// The monitor is stopping, or its log failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutDown;

/// What is decided when its turn has come.
pub type Decide = Box<dyn FnOnce(&View<'_>) -> Vec<Change>>;

/// A decision that waits for its turn.
pub struct Proposal {
    /// Decides over the state as it will be then.
    pub decide: Decide,
    /// Told the epoch of the OSD map once the decision is committed.
    pub done: OneSender<Epoch>,
}

/// One monitor.
pub struct Shared {
    pub core: Core,
    pub config: MonConfig,
    pub addrs: AddrVec,
    pub state: RefCell<State>,
    pub live: RefCell<Live>,
    /// Counts changes of the state; sessions look for news when it grows.
    pub revision: Watch<u64>,
    pub gate: Gate,
    pub global_ids: GlobalIds,
    pub osd_sessions: RefCell<OsdSessions>,
    pub sessions: Cell<usize>,
    pub connections: Cell<u64>,
    /// Bounds the log of peers that break the protocol or the limits.
    bad_peers: Seldom,
    proposals: QueueSender<Proposal>,
    failure: RefCell<Option<MonError>>,
    stopped: Event,
}

impl Shared {
    pub fn new(
        core: Core,
        config: MonConfig,
        address: SocketAddr,
        state: State,
    ) -> (Rc<Self>, QueueReceiver<Proposal>) {
        let (sender, receiver) = queue(PROPOSALS_MAX);
        let addrs = AddrVec::from(Addr::msgr2(address, 0));
        let monitor = Monitor {
            name: config.name.clone(),
            hostname: config.hostname.clone(),
            addrs: addrs.clone(),
            leading_since: wall_clock(&core),
        };
        let shared = Self {
            live: RefCell::new(Live { monitor, ..Live::default() }),
            global_ids: GlobalIds::new(state.next_global_id),
            osd_sessions: RefCell::new(OsdSessions::new(core.now())),
            revision: Watch::new(0),
            gate: Gate::default(),
            sessions: Cell::new(0),
            connections: Cell::new(0),
            bad_peers: Seldom::new(BAD_PEERS_LOGGED, Duration::from_secs(BAD_PEERS_SECONDS)),
            proposals: sender,
            failure: RefCell::new(None),
            stopped: Event::default(),
            state: RefCell::new(state),
            addrs,
            config,
            core,
        };
        (Rc::new(shared), receiver)
    }

    pub fn now(&self) -> UTime {
        wall_clock(&self.core)
    }

    pub fn monotonic(&self) -> Nanos {
        self.core.now()
    }

    /// Logs what a peer did wrong, unless that happens all the time.
    pub fn blame(&self, peer: &str, what: &dyn std::fmt::Display) {
        if let Some(more) = self.bad_peers.admit(self.core.now()) {
            log::warn!("mon.{}: {peer} is closed: {what}{more}", self.config.name);
        }
    }

    /// Runs `look` on the state as committed.
    pub fn view<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        let (state, live) = (self.state.borrow(), self.live.borrow());
        look(&View { state: &state, live: &live, now: self.now() })
    }

    /// Decides in turn, commits what was decided, and gives the decision's answer with the OSD map's epoch then.
    pub async fn propose<T: 'static>(
        &self,
        decide: impl FnOnce(&View<'_>) -> (Vec<Change>, T) + 'static,
    ) -> Result<(T, Epoch), ShutDown> {
        let answer = Rc::new(Cell::new(None));
        let give = answer.clone();
        let decide = move |view: &View<'_>| {
            let (changes, value) = decide(view);
            give.set(Some(value));
            changes
        };
        let (done, committed) = oneshot();
        let proposal = Proposal { decide: Box::new(decide), done };
        self.proposals.send(proposal).await.map_err(|_| ShutDown)?;
        let epoch = committed.await.map_err(|_| ShutDown)?;
        answer.take().map(|value| (value, epoch)).ok_or(ShutDown)
    }

    /// Commits changes that need no decision.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), ShutDown> {
        self.propose(move |_| (changes, ())).await.map(|_| ())
    }

    /// Writes a line into the cluster log as this monitor. Lost if the monitor is stopping.
    pub async fn log(&self, priority: LogPriority, text: String) {
        let (name, addrs, now) = (self.config.name.clone(), self.addrs.clone(), self.now());
        let decided =
            self.propose(move |view| (vec![log_change(view, &name, addrs, now, priority, text)], ())).await;
        if decided.is_err() {
            log::debug!("a line for the cluster log was lost in stopping");
        }
    }

    /// Puts this monitor's address into the monitor map.
    pub async fn announce(&self) -> Result<(), ShutDown> {
        let (fsid, name, addrs, now) =
            (self.config.fsid, self.config.name.clone(), self.addrs.clone(), self.now());
        self.propose(move |view| {
            let next = match &view.state.mon_map {
                None => crate::state::first_mon_map(fsid, &name, addrs.clone(), now),
                Some(map) if map.mons.get(&name).is_some_and(|info| info.addrs == addrs) => {
                    return (Vec::new(), ());
                }
                Some(map) => with_address(map.clone(), &name, addrs.clone(), now),
            };
            let text = format!("mon.{name} is at {addrs}, epoch {} of the monitor map", next.epoch);
            let line = log_change(view, &name, addrs, now, LogPriority::INFO, text);
            (vec![Change::MonMap(encode_to_bytes(&next)), line], ())
        })
        .await
        .map(|_| ())
    }

    /// Tells everybody about a committed entry.
    pub fn publish(&self, effects: Effects) {
        if effects != Effects::default() {
            let next = *self.revision.borrow() + 1;
            self.revision.set(next);
        }
    }

    /// Brings the map of PGs up to the newest OSD map, giving other tasks turns.
    pub async fn refresh_pg_map(&self) {
        let map = self.state.borrow().osd_maps.newest().clone();
        if self.live.borrow().pg_map.epoch() == map.epoch {
            return;
        }
        let mut mappings = std::collections::BTreeMap::new();
        for (number, pg) in PgMap::ids(&map).into_iter().enumerate() {
            mappings.insert(pg, wire::placement::map_pg(&map, pg));
            if number % PGS_PER_TURN == PGS_PER_TURN - 1 {
                self.core.yield_now().await;
            }
        }
        let mut live = self.live.borrow_mut();
        // Another task may have done the same for a later epoch meanwhile.
        if live.pg_map.epoch() < map.epoch {
            live.pg_map = PgMap::new(map.epoch, mappings);
        }
    }

    /// The log failed: nothing can be promised any more.
    pub fn fail(&self, error: MonError) {
        log::error!("mon.{} stops: {error}", self.config.name);
        *self.failure.borrow_mut() = Some(error);
        drop(self.gate.close());
    }

    pub fn set_stopped(&self) {
        self.stopped.set();
    }

    pub async fn stopped(&self) {
        self.stopped.wait().await;
    }

    /// Why the monitor stopped; to be asked once.
    pub fn why_stopped(&self, _: ShutDown) -> MonError {
        let device = self.config.name.clone();
        let stopped = MonError::Log(crate::log::LogError::Interrupted { device });
        self.failure.borrow_mut().take().unwrap_or(stopped)
    }
}

fn log_change(
    view: &View<'_>,
    name: &str,
    addrs: AddrVec,
    now: UTime,
    priority: LogPriority,
    text: String,
) -> Change {
    Change::Log(cluster_log::bounded(LogEntry {
        name: AuthName { kind: EntityKind::MON, id: name.to_owned() },
        rank: EntityName::new(EntityKind::MON, 0),
        addrs,
        stamp: now,
        seq: view.state.cluster_log.version() + 1,
        priority,
        text,
        channel: "cluster".to_owned(),
    }))
}

fn with_address(mut map: MonMap, name: &str, addrs: AddrVec, now: UTime) -> MonMap {
    map.epoch = map.epoch.next();
    map.last_changed = now;
    let info = map.mons.entry(name.to_owned()).or_default();
    info.name = name.to_owned();
    info.addrs = addrs;
    if !map.ranks.iter().any(|other| other == name) {
        map.ranks.push(name.to_owned());
    }
    map
}
