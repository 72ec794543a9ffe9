//! The session with a monitor: hunting for one that answers, subscriptions, requests. A plain machine.
//!
//! Invariant: every request is answered once; it is sent again on each new connection until then, so monitors must
//! take repetitions. Subscriptions are renewed on each new connection.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rt::Nanos;
use wire::codec::decode_exact;
use wire::msg::{
    MonGetVersion, MonGetVersionReply, MonMap, MonMapMessage, MonSubscribe, OsdMapMessage, Payload,
    Subscription,
};
use wire::msgr2::Message;
use wire::types::Addr;

use crate::limits::{
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MON_HUNT_BACKOFF_MAX, MON_HUNT_TIMEOUT, RECONNECT_DELAY_MAX,
    RECONNECT_DELAY_MIN,
};
use crate::link::{LinkId, LinkIds};
use crate::time::{after, doubled};

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MonAction {
    /// Call this monitor; give up after `limit`.
    Open { link: LinkId, target: Addr, limit: Duration },
    /// Drop the link.
    Close(LinkId),
    /// Send a message.
    Send(LinkId, Message),
    /// Ask for a sign of life.
    Keepalive(LinkId),
    /// A request was answered.
    Answered { tid: u64, answer: Message },
    /// Maps came.
    OsdMap(OsdMapMessage),
}

const OSDMAP: &str = "osdmap";
const MONMAP: &str = "monmap";

/// The machine.
#[derive(Debug)]
pub(crate) struct Monitor {
    links: LinkIds,
    hostname: String,
    candidates: Vec<Addr>,
    /// Index of the candidate to call next.
    next: usize,
    /// Calls that failed since one succeeded.
    failures: u32,
    state: State,
    subscriptions: BTreeMap<String, Subscription>,
    requests: BTreeMap<u64, Message>,
    last_tid: u64,
    global_id: u64,
    monmap: Option<MonMap>,
}

#[derive(Debug)]
enum State {
    /// Call at this time.
    Pausing {
        until: Nanos,
    },
    Calling {
        link: LinkId,
        since: Nanos,
    },
    Open {
        link: LinkId,
        heard: Nanos,
        asked: Nanos,
    },
}

impl Monitor {
    /// A machine that knows these monitors. `first` chooses the one to call first.
    pub fn new(candidates: Vec<Addr>, first: u64, hostname: String, links: LinkIds) -> Self {
        assert!(!candidates.is_empty(), "a monitor's address is needed");
        let count = u64::try_from(candidates.len()).unwrap_or(1);
        let next = usize::try_from(first % count).unwrap_or(0);
        let latest = |once| Subscription { start: 0, once };
        Self {
            links,
            hostname,
            candidates,
            next,
            failures: 0,
            state: State::Pausing { until: Nanos(0) },
            subscriptions: [(MONMAP.into(), latest(false)), (OSDMAP.into(), latest(false))].into(),
            requests: BTreeMap::new(),
            last_tid: 0,
            global_id: 0,
            monmap: None,
        }
    }

    /// The cluster-wide id that a monitor gave; 0 before.
    pub fn global_id(&self) -> u64 {
        self.global_id
    }

    /// The newest map of the monitors.
    pub fn monmap(&self) -> Option<&MonMap> {
        self.monmap.as_ref()
    }

    /// When [`Self::tick`] is to be called next.
    pub fn deadline(&self) -> Nanos {
        match self.state {
            State::Pausing { until } => until,
            State::Calling { since, .. } => after(since, self.hunt_timeout()),
            State::Open { heard, asked, .. } => {
                after(asked, KEEPALIVE_INTERVAL).min(after(heard, KEEPALIVE_TIMEOUT))
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Nanos) -> Vec<MonAction> {
        match self.state {
            State::Pausing { until } if until <= now => {
                let target = self.candidates[self.next % self.candidates.len()];
                let link = self.links.next();
                self.state = State::Calling { link, since: now };
                let limit = self.hunt_timeout();
                vec![MonAction::Open { link, target, limit }]
            }
            State::Calling { link, since } if after(since, self.hunt_timeout()) <= now => {
                self.give_up(link, now)
            }
            State::Open { link, heard, .. } if after(heard, KEEPALIVE_TIMEOUT) <= now => {
                self.give_up(link, now)
            }
            State::Open { link, ref mut asked, .. } if after(*asked, KEEPALIVE_INTERVAL) <= now => {
                *asked = now;
                vec![MonAction::Keepalive(link)]
            }
            _ => Vec::new(),
        }
    }

    /// The handshake on a link is over.
    pub fn connected(&mut self, link: LinkId, global_id: u64, now: Nanos) -> Vec<MonAction> {
        if !self.is_current(link) {
            return Vec::new();
        }
        self.state = State::Open { link, heard: now, asked: now };
        self.failures = 0;
        self.global_id = global_id;
        let mut actions = vec![self.subscribe(link, self.subscriptions.clone())];
        actions.extend(self.requests.values().map(|request| MonAction::Send(link, request.clone())));
        actions
    }

    /// A link is gone.
    pub fn closed(&mut self, link: LinkId, now: Nanos) {
        if self.is_current(link) {
            self.pause(now);
        }
    }

    /// The monitor is alive.
    pub fn alive(&mut self, link: LinkId, now: Nanos) {
        if let State::Open { link: current, heard, .. } = &mut self.state
            && *current == link
        {
            *heard = now;
        }
    }

    /// A message came. What cannot be understood closes the link: the next monitor may do better.
    pub fn message(&mut self, link: LinkId, message: Message, now: Nanos) -> Vec<MonAction> {
        if !self.is_current(link) {
            return Vec::new();
        }
        self.alive(link, now);
        match self.understand(message) {
            Ok(actions) => actions,
            Err(reason) => {
                log::warn!("monitor's message is not understood: {reason}");
                self.give_up(link, now)
            }
        }
    }

    /// Sends a request, now or when there is a monitor to send it to; the answer has the same tid.
    pub fn request(&mut self, body: &impl Payload) -> (u64, Option<MonAction>) {
        self.last_tid += 1;
        let tid = self.last_tid;
        (tid, self.start(tid, body.to_message(tid)))
    }

    /// Asks for the newest version of a map.
    pub fn request_version(&mut self, what: &str) -> (u64, Option<MonAction>) {
        self.last_tid += 1;
        let tid = self.last_tid;
        let message = MonGetVersion { handle: tid, what: what.into() }.to_message(tid);
        (tid, self.start(tid, message))
    }

    /// Forgets a request.
    pub fn forget(&mut self, tid: u64) {
        self.requests.remove(&tid);
    }

    /// The OSD map of this epoch is known: the next subscription starts after it.
    pub fn have_osdmap(&mut self, epoch: u32) {
        if let Some(subscription) = self.subscriptions.get_mut(OSDMAP) {
            subscription.start = u64::from(epoch) + 1;
        }
    }

    /// What came of maps was of no use: ask for a full one.
    pub fn need_full_osdmap(&mut self) -> Option<MonAction> {
        self.resubscribe_osdmap(0)
    }

    /// Maps may have been missed: ask again for what follows the one known.
    pub fn renew_osdmap(&mut self) -> Option<MonAction> {
        let start = self.subscriptions.get(OSDMAP).map_or(0, |subscription| subscription.start);
        self.resubscribe_osdmap(start)
    }

    fn resubscribe_osdmap(&mut self, start: u64) -> Option<MonAction> {
        let subscription = Subscription { start, once: false };
        self.subscriptions.insert(OSDMAP.into(), subscription);
        let State::Open { link, .. } = self.state else { return None };
        Some(self.subscribe(link, [(OSDMAP.into(), subscription)].into()))
    }

    fn subscribe(&self, link: LinkId, what: BTreeMap<String, Subscription>) -> MonAction {
        let subscribe = MonSubscribe { what, hostname: self.hostname.clone() };
        MonAction::Send(link, subscribe.to_message(0))
    }

    fn start(&mut self, tid: u64, message: Message) -> Option<MonAction> {
        self.requests.insert(tid, message.clone());
        let State::Open { link, .. } = self.state else { return None };
        Some(MonAction::Send(link, message))
    }

    fn understand(&mut self, message: Message) -> Result<Vec<MonAction>, String> {
        let kind = message.header.kind;
        if kind == OsdMapMessage::KIND {
            let maps = OsdMapMessage::from_message(&message).map_err(|error| error.to_string())?;
            return Ok(vec![MonAction::OsdMap(maps)]);
        }
        if kind == MonMapMessage::KIND {
            let outer = MonMapMessage::from_message(&message).map_err(|error| error.to_string())?;
            self.have_monmap(outer.map)?;
            return Ok(Vec::new());
        }
        // The reply to a version request is recognized by its handle.
        let tid = if kind == MonGetVersionReply::KIND {
            MonGetVersionReply::from_message(&message).map_err(|error| error.to_string())?.handle
        } else {
            message.header.tid
        };
        match self.requests.remove(&tid) {
            Some(_) => Ok(vec![MonAction::Answered { tid, answer: message }]),
            None => {
                log::trace!("monitor's message of type {kind:#x} is not asked for");
                Ok(Vec::new())
            }
        }
    }

    fn have_monmap(&mut self, bytes: Bytes) -> Result<(), String> {
        let map: MonMap = decode_exact("monmap", bytes).map_err(|error| error.to_string())?;
        let addrs: Vec<Addr> = map.mons.values().filter_map(|mon| mon.addrs.msgr2().copied()).collect();
        if !addrs.is_empty() {
            self.candidates = addrs;
        }
        if let Some(subscription) = self.subscriptions.get_mut(MONMAP) {
            subscription.start = u64::from(map.epoch.0) + 1;
        }
        self.monmap = Some(map);
        Ok(())
    }

    fn is_current(&self, link: LinkId) -> bool {
        match self.state {
            State::Pausing { .. } => false,
            State::Calling { link: current, .. } | State::Open { link: current, .. } => current == link,
        }
    }

    fn give_up(&mut self, link: LinkId, now: Nanos) -> Vec<MonAction> {
        self.pause(now);
        vec![MonAction::Close(link)]
    }

    /// Goes on to the next monitor; waits longer the more have failed.
    fn pause(&mut self, now: Nanos) {
        self.next = self.next.wrapping_add(1);
        let delay = doubled(RECONNECT_DELAY_MIN, self.failures, RECONNECT_DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Pausing { until: after(now, delay) };
    }

    /// Grows with each round through all monitors.
    fn hunt_timeout(&self) -> Duration {
        let rounds = usize::try_from(self.failures).unwrap_or(usize::MAX) / self.candidates.len();
        let factor = u32::try_from(rounds).unwrap_or(u32::MAX).saturating_add(1).min(MON_HUNT_BACKOFF_MAX);
        MON_HUNT_TIMEOUT * factor
    }
}
