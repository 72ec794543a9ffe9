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
    OsdMap(LinkId, OsdMapMessage),
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
        // Only a monitor that says something sensible is a success.
        match self.understand(link, message) {
            Ok(actions) => {
                self.failures = 0;
                actions
            }
            Err(reason) => {
                log::warn!("monitor's message is not understood: {reason}");
                self.give_up(link, now)
            }
        }
    }

    /// What this monitor sends is of no use: tries the next one.
    pub fn distrust(&mut self, link: LinkId, now: Nanos) -> Vec<MonAction> {
        if self.is_current(link) { self.give_up(link, now) } else { Vec::new() }
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

    fn understand(&mut self, link: LinkId, message: Message) -> Result<Vec<MonAction>, String> {
        let kind = message.header.kind;
        if kind == OsdMapMessage::KIND {
            let maps = OsdMapMessage::from_message(&message).map_err(|error| error.to_string())?;
            return Ok(vec![MonAction::OsdMap(link, maps)]);
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

#[cfg(test)]
mod tests {
    use wire::msg::{StatFs, StatFsReply};

    use super::*;

    fn machine(monitors: u16) -> Monitor {
        let addrs = (0..monitors).map(|i| Addr::msgr2(([127, 0, 0, 1], 3300 + i).into(), 0)).collect();
        Monitor::new(addrs, 0, "here".into(), LinkIds::default())
    }

    fn called(actions: &[MonAction]) -> (LinkId, Addr) {
        match actions {
            [MonAction::Open { link, target, .. }] => (*link, *target),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_monitors_are_tried_ever_more_patiently() {
        let mut monitor = machine(3);
        let mut now = Nanos(0);
        let mut targets = Vec::new();
        let mut waits = Vec::new();
        for _ in 0..9 {
            now = now.max(monitor.deadline());
            let (link, target) = called(&monitor.tick(now));
            targets.push(target.socket_addr().unwrap().port());
            let started = now;
            now = monitor.deadline();
            waits.push((now.0 - started.0) / 1_000_000_000);
            assert_eq!(monitor.tick(now), [MonAction::Close(link)]);
        }
        assert_eq!(targets, [3300, 3301, 3302].repeat(3));
        assert_eq!(waits, [3, 3, 3, 6, 6, 6, 9, 9, 9]);
    }

    #[test]
    fn requests_and_subscriptions_survive_a_change_of_monitor() {
        let mut monitor = machine(2);
        let now = Nanos(1);
        let ask = StatFs { version: 0, fsid: Default::default(), pool: None };
        let (tid, action) = monitor.request(&ask);
        assert_eq!(action, None, "there is nobody to ask yet");
        let (first, _) = called(&monitor.tick(now));
        let kinds = |actions: &[MonAction]| -> Vec<u16> {
            let kind = |action: &MonAction| match action {
                MonAction::Send(_, message) => message.header.kind,
                other => panic!("{other:?}"),
            };
            actions.iter().map(kind).collect()
        };
        assert_eq!(kinds(&monitor.connected(first, 4711, now)), [MonSubscribe::KIND, StatFs::KIND]);
        assert_eq!(monitor.global_id(), 4711);
        monitor.have_osdmap(17);
        monitor.closed(first, now);
        let now = monitor.deadline();
        let (second, _) = called(&monitor.tick(now));
        let actions = monitor.connected(second, 4711, now);
        assert_eq!(kinds(&actions), [MonSubscribe::KIND, StatFs::KIND]);
        let MonAction::Send(_, subscribe) = &actions[0] else { panic!() };
        let subscribe = MonSubscribe::from_message(subscribe).unwrap();
        assert_eq!(subscribe.what["osdmap"], Subscription { start: 18, once: false });
        // The answer is taken once, and only from the monitor of the moment.
        let answer = StatFsReply {
            fsid: Default::default(),
            version: 0,
            total_kb: 1,
            used_kb: 1,
            available_kb: 0,
            objects: 0,
        };
        let answer = answer.to_message(tid);
        assert_eq!(monitor.message(first, answer.clone(), now), []);
        let answered = MonAction::Answered { tid, answer: answer.clone() };
        assert_eq!(monitor.message(second, answer.clone(), now), [answered]);
        assert_eq!(monitor.message(second, answer, now), []);
    }

    #[test]
    fn a_silent_monitor_is_asked_then_left() {
        let mut monitor = machine(1);
        let (link, _) = called(&monitor.tick(Nanos(1)));
        monitor.connected(link, 1, Nanos(1));
        let mut asked = 0;
        loop {
            match monitor.tick(monitor.deadline()).as_slice() {
                [MonAction::Keepalive(_)] => asked += 1,
                [MonAction::Close(closed)] => break assert_eq!(*closed, link),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(asked, 2);
    }
}
