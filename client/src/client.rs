//! The client: a handle on a cluster, and the shell that pumps the machines behind it.
//!
//! Invariant: whatever happens goes through [`Inner::pump`], which lets the machines decide and does what they say,
//! without awaiting in between. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use rt::sync::{Notify, OneReceiver, OneSender, Permit, Semaphore, Watch, oneshot, select};
use rt::{Core, Group, Nanos};
use wire::msg::{MonGetVersionReply, MonMap, OsdMapMessage, Payload};
use wire::msgr2::Message;
use wire::msgr2::auth::Claim;
use wire::osdmap::OsdMap;
use wire::types::{Addr, AuthName, EntityKind, Epoch, UTime};

use crate::error::{Error, Result};
use crate::limits::{BYTES_IN_FLIGHT, MON_REQUESTS_MAX, OPS_IN_FLIGHT, OSD_CONNECT_TIMEOUT};
use crate::link::{Call, Link, LinkId, LinkIds, LinkOwner};
use crate::maps::{Followed, follow};
use crate::monitor::{MonAction, Monitor};
use crate::objecter::{Action, Objecter};
use crate::request::{Outcome, Request};

/// How to reach a cluster, and how much to ask of it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Addresses of monitors, at least one; the others are learned.
    pub monitors: Vec<SocketAddr>,
    /// Name, as in `client.admin`.
    pub name: String,
    /// What the monitors are told of where we run.
    pub hostname: String,
    /// Most operations in flight; more wait.
    pub ops_in_flight: u64,
    /// Most bytes of payload in flight; more wait.
    pub bytes_in_flight: u64,
    /// How long a call may take; none to wait for ever, as stock clients do.
    pub timeout: Option<Duration>,
}

impl ClientConfig {
    /// The defaults, for a cluster with these monitors.
    pub fn new(monitors: Vec<SocketAddr>) -> Self {
        Self {
            monitors,
            name: "admin".into(),
            hostname: String::new(),
            ops_in_flight: OPS_IN_FLIGHT,
            bytes_in_flight: BYTES_IN_FLIGHT,
            timeout: None,
        }
    }
}

/// A handle on a cluster; clones share it. When the last is dropped, everything ends.
#[derive(Clone)]
pub struct Client {
    inner: Rc<Inner>,
}

/// What a client is made of.
pub(crate) struct Inner {
    core: Core,
    config: ClientConfig,
    nonce: u32,
    ops: Semaphore,
    bytes: Semaphore,
    mon_requests: Semaphore,
    state: RefCell<State>,
    map: Watch<Option<Arc<OsdMap>>>,
    /// Wakes the timer task when it would sleep too long.
    timer: Rc<Notify>,
    /// Until when the timer task sleeps.
    armed: Cell<Nanos>,
}

struct State {
    monitor: Monitor,
    mon_actions: Vec<MonAction>,
    objecter: Objecter,
    links: BTreeMap<LinkId, Which>,
    op_waiters: BTreeMap<u64, OpWaiter>,
    mon_waiters: BTreeMap<u64, MonWaiter>,
    shut_down: bool,
}

/// A link and to whom it goes.
struct Which {
    link: Link,
    daemon: Daemon,
}

/// A daemon we talk to.
#[derive(Clone, Copy, Debug)]
enum Daemon {
    Monitor,
    Osd(i32),
}

impl Daemon {
    fn kind(self) -> EntityKind {
        match self {
            Self::Monitor => EntityKind::MON,
            Self::Osd(_) => EntityKind::OSD,
        }
    }
}

struct OpWaiter {
    sender: OneSender<Result<Outcome>>,
    /// Given back when the operation is done, not when its caller loses interest.
    _permits: [Permit; 2],
}

enum MonWaiter {
    Caller(OneSender<Result<Message>>),
    /// The objecter asked for the newest epoch.
    Latest,
}

impl Client {
    /// Connects: finds a monitor and gets the OSD map.
    pub async fn connect(core: &Core, config: ClientConfig) -> Result<Self> {
        if config.monitors.is_empty() {
            let reason = "no monitor's address is given".to_owned();
            return Err(Error::Unexpected { what: "connecting".into(), reason });
        }
        let inner = Inner::start(core.clone(), config);
        let client = Self { inner };
        client.within("connecting to the cluster", client.wait_for_epoch_for_ever(Epoch(0))).await?;
        Ok(client)
    }

    /// The OSD map known at the moment.
    pub fn osdmap(&self) -> Arc<OsdMap> {
        match &*self.inner.map.borrow() {
            Some(map) => map.clone(),
            None => unreachable!("a connected client has a map"),
        }
    }

    /// Cluster-wide id of this client, by which OSDs know its requests.
    pub fn global_id(&self) -> u64 {
        self.inner.state.borrow().monitor.global_id()
    }

    /// The monitors, as far as they said.
    pub fn monmap(&self) -> Option<MonMap> {
        self.inner.state.borrow().monitor.monmap().cloned()
    }

    /// The core it lives on.
    pub fn core(&self) -> &Core {
        &self.inner.core
    }

    /// Waits until the map is of this epoch or a later one.
    pub async fn wait_for_epoch(&self, epoch: Epoch) -> Result<Arc<OsdMap>> {
        self.within("waiting for an OSD map", self.wait_for_epoch_for_ever(epoch)).await
    }

    /// Asks the monitor for its newest map and waits until it is here.
    pub async fn wait_for_latest_map(&self) -> Result<Arc<OsdMap>> {
        let what = "asking for the newest OSD map";
        let waiting = async {
            let answer = self.start_mon_request(|monitor| monitor.request_version("osdmap"))?;
            let reply = answered::<MonGetVersionReply>(what, answer.wait().await?)?;
            let epoch = u32::try_from(reply.version).unwrap_or(u32::MAX);
            self.wait_for_epoch_for_ever(Epoch(epoch)).await
        };
        self.within(what, waiting).await
    }

    /// Ends everything: calls that wait get an error. The cluster may still do what they asked.
    pub fn shut_down(&self) {
        self.inner.shut_down();
    }

    /// Asks the monitor and understands its answer.
    pub(crate) async fn ask_monitor<A: Payload>(&self, what: &str, body: &impl Payload) -> Result<A> {
        let waiting = async {
            let _permit = self.inner.mon_requests.acquire(1).await;
            let answer = self.start_mon_request(|monitor| monitor.request(body))?;
            answered(what, answer.wait().await?)
        };
        self.within(what, waiting).await
    }

    /// Hands a request to an OSD, whoever that is now, and waits for the outcome.
    pub(crate) async fn ask_osd(&self, request: Rc<Request>) -> Result<Outcome> {
        let started = self.inner.core.now();
        let limit = self.inner.config.timeout;
        let bytes = request.payload_bytes();
        let permits = async { [self.inner.ops.acquire(1).await, self.inner.bytes.acquire(bytes).await] };
        let permits = match limit {
            None => permits.await,
            Some(limit) => rt::sync::timeout(&self.inner.core, limit, permits)
                .await
                .map_err(|_| Error::TimedOut { what: request.to_string(), limit })?,
        };
        let (sender, receiver) = oneshot();
        let tid = {
            let mut state = self.inner.state.borrow_mut();
            if state.shut_down {
                return Err(Error::ShutDown);
            }
            let now = self.inner.core.now();
            let waited = Duration::from_nanos(now.0.saturating_sub(started.0));
            let left = limit.map(|limit| limit.saturating_sub(waited));
            let tid = state.objecter.submit(request, left, now);
            state.op_waiters.insert(tid, OpWaiter { sender, _permits: permits });
            tid
        };
        self.inner.pump();
        let forget = Forget { inner: Rc::downgrade(&self.inner), which: Forgotten::Op(tid) };
        let outcome = receiver.await.unwrap_or(Err(Error::ShutDown));
        drop(forget);
        outcome
    }

    /// Gives up after the configured time.
    async fn within<T>(&self, what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(limit) = self.inner.config.timeout else { return call.await };
        match rt::sync::timeout(&self.inner.core, limit, call).await {
            Ok(result) => result,
            Err(_) => Err(Error::TimedOut { what: what.to_owned(), limit }),
        }
    }

    async fn wait_for_epoch_for_ever(&self, epoch: Epoch) -> Result<Arc<OsdMap>> {
        let mut watcher = self.inner.map.watch();
        loop {
            if self.inner.state.borrow().shut_down {
                return Err(Error::ShutDown);
            }
            if let Some(map) = &*self.inner.map.borrow()
                && map.epoch >= epoch
            {
                return Ok(map.clone());
            }
            watcher.changed().await.map_err(|_| Error::ShutDown)?;
        }
    }

    fn start_mon_request(
        &self,
        start: impl FnOnce(&mut Monitor) -> (u64, Option<MonAction>),
    ) -> Result<MonAnswer> {
        let (sender, receiver) = oneshot();
        let tid = {
            let mut state = self.inner.state.borrow_mut();
            if state.shut_down {
                return Err(Error::ShutDown);
            }
            let (tid, action) = start(&mut state.monitor);
            state.mon_actions.extend(action);
            state.mon_waiters.insert(tid, MonWaiter::Caller(sender));
            tid
        };
        self.inner.pump();
        let forget = Forget { inner: Rc::downgrade(&self.inner), which: Forgotten::Mon(tid) };
        Ok(MonAnswer { receiver, _forget: forget })
    }
}

/// Understands an answer of the monitor.
fn answered<A: Payload>(what: &str, message: Message) -> Result<A> {
    A::from_message(&message)
        .map_err(|error| Error::Unexpected { what: what.to_owned(), reason: error.to_string() })
}

struct MonAnswer {
    receiver: OneReceiver<Result<Message>>,
    _forget: Forget,
}

impl MonAnswer {
    async fn wait(self) -> Result<Message> {
        self.receiver.await.unwrap_or(Err(Error::ShutDown))
    }
}

/// Forgets a request whose caller does not wait any more.
struct Forget {
    inner: Weak<Inner>,
    which: Forgotten,
}

enum Forgotten {
    Op(u64),
    Mon(u64),
}

impl Drop for Forget {
    fn drop(&mut self) {
        let Some(inner) = self.inner.upgrade() else { return };
        let mut state = inner.state.borrow_mut();
        match self.which {
            Forgotten::Op(tid) => {
                // The permits go back after the state is released: they may wake others.
                if let Some(waiter) = state.op_waiters.remove(&tid) {
                    state.objecter.forget(tid);
                    drop(state);
                    drop(waiter);
                }
            }
            Forgotten::Mon(tid) => {
                if state.mon_waiters.remove(&tid).is_some() {
                    state.monitor.forget(tid);
                }
            }
        }
    }
}

impl Inner {
    fn start(core: Core, config: ClientConfig) -> Rc<Self> {
        let links = LinkIds::default();
        let candidates = config.monitors.iter().map(|&socket| Addr::msgr2(socket, 0)).collect();
        let monitor = Monitor::new(candidates, core.random_u64(), config.hostname.clone(), links.clone());
        let [a, b, c, d, ..] = core.random_u64().to_le_bytes();
        let state = State {
            monitor,
            mon_actions: Vec::new(),
            objecter: Objecter::new(links),
            links: BTreeMap::new(),
            op_waiters: BTreeMap::new(),
            mon_waiters: BTreeMap::new(),
            shut_down: false,
        };
        let inner = Rc::new(Self {
            nonce: u32::from_le_bytes([a, b, c, d]).max(1),
            ops: Semaphore::new(config.ops_in_flight.max(1)),
            bytes: Semaphore::new(config.bytes_in_flight.max(1)),
            mon_requests: Semaphore::new(u64::try_from(MON_REQUESTS_MAX).unwrap_or(1)),
            state: RefCell::new(state),
            map: Watch::new(None),
            timer: Rc::default(),
            armed: Cell::new(Nanos(0)),
            core: core.clone(),
            config,
        });
        let timers = run_timers(core.clone(), Rc::downgrade(&inner), inner.timer.clone());
        drop(core.spawn(Group::Client, "client timers", timers));
        inner
    }

    /// Does what the machines want until they want nothing more.
    fn pump(self: &Rc<Self>) {
        loop {
            let (mon_actions, actions) = {
                let mut state = self.state.borrow_mut();
                (std::mem::take(&mut state.mon_actions), state.objecter.take_actions())
            };
            if mon_actions.is_empty() && actions.is_empty() {
                break;
            }
            for action in mon_actions {
                self.apply_mon(action);
            }
            for action in actions {
                self.apply(action);
            }
        }
        if self.deadline() < self.armed.get() {
            self.timer.notify_one();
        }
    }

    fn deadline(&self) -> Nanos {
        let state = self.state.borrow();
        let monitor = state.monitor.deadline();
        state.objecter.deadline().map_or(monitor, |objecter| objecter.min(monitor))
    }

    fn tick(self: &Rc<Self>) {
        let now = self.core.now();
        {
            let mut state = self.state.borrow_mut();
            let actions = state.monitor.tick(now);
            state.mon_actions.extend(actions);
            state.objecter.tick(now);
        }
        self.pump();
    }

    fn apply_mon(self: &Rc<Self>, action: MonAction) {
        match action {
            MonAction::Open { link, target, limit } => self.open(link, target, Daemon::Monitor, limit),
            MonAction::Close(link) => self.close(link),
            MonAction::Send(link, message) => self.send(link, message),
            MonAction::Keepalive(link) => self.keepalive(link),
            MonAction::OsdMap(link, message) => self.follow(Some(link), &message),
            MonAction::Answered { tid, answer } => self.mon_answered(tid, answer),
        }
    }

    fn apply(self: &Rc<Self>, action: Action) {
        match action {
            Action::Open { osd, link, target } => {
                self.open(link, target, Daemon::Osd(osd), OSD_CONNECT_TIMEOUT);
            }
            Action::Close(link) => self.close(link),
            Action::Send(link, message) => self.send(link, message),
            Action::Keepalive(link) => self.keepalive(link),
            Action::OsdMap(message) => self.follow(None, &message),
            Action::Done { tid, outcome } => {
                let waiter = self.state.borrow_mut().op_waiters.remove(&tid);
                if let Some(waiter) = waiter {
                    // A caller that does not wait any more does not want to know.
                    let _ = waiter.sender.send(Ok(outcome));
                }
            }
            Action::RenewMap => {
                let mut state = self.state.borrow_mut();
                let action = state.monitor.renew_osdmap();
                state.mon_actions.extend(action);
            }
            Action::AskLatest => {
                let mut state = self.state.borrow_mut();
                let (tid, action) = state.monitor.request_version("osdmap");
                state.mon_actions.extend(action);
                state.mon_waiters.insert(tid, MonWaiter::Latest);
            }
        }
    }

    fn open(self: &Rc<Self>, id: LinkId, target: Addr, daemon: Daemon, limit: Duration) {
        let name = AuthName { kind: EntityKind::CLIENT, id: self.config.name.clone() };
        let mut state = self.state.borrow_mut();
        let claim = Claim { name, global_id: state.monitor.global_id() };
        let call = Call { id, target, kind: daemon.kind(), claim, nonce: self.nonce, limit };
        let owner = Rc::new(Owner { inner: Rc::downgrade(self), daemon });
        state.links.insert(id, Which { link: Link::open(&self.core, call, owner), daemon });
    }

    fn close(&self, link: LinkId) {
        let closed = self.state.borrow_mut().links.remove(&link);
        drop(closed);
    }

    /// A link that cannot take a message is of no use any more: its machine then sends everything again.
    fn send(self: &Rc<Self>, link: LinkId, message: Message) {
        let failed = {
            let state = self.state.borrow();
            let Some(which) = state.links.get(&link) else { return };
            which.link.send(message).err().map(|error| (which.daemon, error))
        };
        if let Some((daemon, error)) = failed {
            log::warn!("{daemon:?}: {error}; closing the connection");
            self.close(link);
            self.state.borrow_mut().closed(link, daemon, self.core.now());
        }
    }

    fn keepalive(&self, link: LinkId) {
        if let Some(which) = self.state.borrow().links.get(&link) {
            which.link.keepalive(UTime::from_nanoseconds(self.core.wall_clock().0));
        }
    }

    /// Takes maps from the monitor on link `from`, or from an OSD.
    fn follow(&self, from: Option<LinkId>, message: &OsdMapMessage) {
        let current = self.map.borrow().clone();
        match follow(current.as_ref(), message) {
            Followed::Nothing => {}
            Followed::Newer(map) => {
                {
                    let mut state = self.state.borrow_mut();
                    state.monitor.have_osdmap(map.epoch.0);
                    state.objecter.have_map(map.clone(), self.core.now());
                }
                self.map.set(Some(map));
            }
            Followed::NeedFull(reason) => {
                log::warn!("maps are of no use, asking for a full one: {reason}");
                let mut state = self.state.borrow_mut();
                let action = state.monitor.need_full_osdmap();
                state.mon_actions.extend(action);
            }
            Followed::Useless(reason) => {
                log::warn!("maps are of no use: {reason}");
                // An OSD's maps are an extra; a monitor without maps is none.
                if let Some(link) = from {
                    let mut state = self.state.borrow_mut();
                    let actions = state.monitor.distrust(link, self.core.now());
                    state.mon_actions.extend(actions);
                }
            }
        }
    }

    fn mon_answered(&self, tid: u64, answer: Message) {
        let waiter = self.state.borrow_mut().mon_waiters.remove(&tid);
        match waiter {
            Some(MonWaiter::Caller(sender)) => {
                // A caller that does not wait any more does not want to know.
                let _ = sender.send(Ok(answer));
            }
            Some(MonWaiter::Latest) => {
                // What is not understood here was understood by the machine; only its type may be another.
                let epoch = MonGetVersionReply::from_message(&answer).map_or(u64::MAX, |reply| reply.version);
                let epoch = Epoch(u32::try_from(epoch).unwrap_or(u32::MAX));
                self.state.borrow_mut().objecter.latest_is(epoch, self.core.now());
            }
            None => {}
        }
    }

    fn shut_down(&self) {
        let ended = {
            let mut state = self.state.borrow_mut();
            state.shut_down = true;
            state.objecter.shut_down();
            let links = std::mem::take(&mut state.links);
            (links, std::mem::take(&mut state.op_waiters), std::mem::take(&mut state.mon_waiters))
        };
        drop(ended);
        // Those who wait for a map look again, and see that there will be none.
        let map = self.map.borrow().clone();
        self.map.set(map);
        self.timer.notify_one();
    }
}

impl State {
    fn closed(&mut self, link: LinkId, daemon: Daemon, now: Nanos) {
        match daemon {
            Daemon::Monitor => self.monitor.closed(link, now),
            Daemon::Osd(osd) => self.objecter.closed(osd, link, now),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.timer.notify_one();
    }
}

/// Ticks the machines when they want it, until the client is gone.
async fn run_timers(core: Core, inner: Weak<Inner>, timer: Rc<Notify>) {
    loop {
        let deadline = {
            let Some(inner) = inner.upgrade() else { return };
            if inner.state.borrow().shut_down {
                return;
            }
            let deadline = inner.deadline();
            inner.armed.set(deadline);
            deadline
        };
        // Even when it is late, others get a turn before the next tick.
        core.yield_now().await;
        select(core.sleep_until(deadline), timer.notified()).await;
        let Some(inner) = inner.upgrade() else { return };
        if !inner.state.borrow().shut_down {
            inner.tick();
        }
    }
}

/// Where a link reports. Does not keep the client alive.
struct Owner {
    inner: Weak<Inner>,
    daemon: Daemon,
}

impl Owner {
    fn with(&self, event: impl FnOnce(&mut State, Nanos)) {
        let Some(inner) = self.inner.upgrade() else { return };
        let now = inner.core.now();
        {
            let mut state = inner.state.borrow_mut();
            if state.shut_down {
                return;
            }
            event(&mut state, now);
        }
        inner.pump();
    }
}

impl LinkOwner for Owner {
    fn connected(&self, link: LinkId, global_id: u64) {
        self.with(|state, now| match self.daemon {
            Daemon::Monitor => {
                let actions = state.monitor.connected(link, global_id, now);
                state.mon_actions.extend(actions);
            }
            Daemon::Osd(osd) => state.objecter.connected(osd, link, now),
        });
    }

    fn message(&self, link: LinkId, message: Message) {
        self.with(|state, now| match self.daemon {
            Daemon::Monitor => {
                let actions = state.monitor.message(link, message, now);
                state.mon_actions.extend(actions);
            }
            Daemon::Osd(osd) => state.objecter.message(osd, link, &message, now),
        });
    }

    fn alive(&self, link: LinkId) {
        self.with(|state, now| match self.daemon {
            Daemon::Monitor => state.monitor.alive(link, now),
            Daemon::Osd(osd) => state.objecter.alive(osd, link, now),
        });
    }

    fn closed(&self, link: LinkId, reason: String) {
        log::debug!("connection closed: {reason}");
        let mut gone = None;
        self.with(|state, now| {
            gone = state.links.remove(&link);
            state.closed(link, self.daemon, now);
        });
        drop(gone);
    }
}
