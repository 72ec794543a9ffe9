//! Getting requests to the right OSD and answers back, whatever happens on the way. A plain machine.
//!
//! Invariants: a request has one tid for ever, by which the OSD knows it again; it is in flight on at most one link;
//! it is answered once. Requests on one placement group are sent, and sent again, in the order of their tids.

mod place;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rt::Nanos;
use wire::msg::{
    Backoff, BackoffStep, CommandReply, OsdMapMessage, OsdOp, OsdOpReply, Payload, RequestFlags,
};
use wire::msgr2::Message;
use wire::osdmap::OsdMap;
use wire::types::{Addr, Epoch, Features, ObjectLocator, RequestId, SnapId};

use crate::error::Error;
use crate::limits::{BACKOFFS_MAX, LAGGY_OP_AGE, TRY_AGAIN_DELAY};
use crate::link::{LinkId, LinkIds};
use crate::request::{Body, Outcome, Request, Target};
use crate::time::after;
use place::{GroupPlaces, Located, Place};
use session::{Session, SessionState};
use wire::Errno;

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Call this OSD.
    Open { osd: i32, link: LinkId, target: Addr },
    /// Drop the link.
    Close(LinkId),
    /// Send a message.
    Send(LinkId, Message),
    /// Ask for a sign of life.
    Keepalive(LinkId),
    /// A request is done.
    Done { tid: u64, outcome: Outcome },
    /// Maps came.
    OsdMap(OsdMapMessage),
    /// Maps may have been missed: ask the monitor.
    RenewMap,
    /// Ask the monitor for the newest epoch and tell [`Objecter::latest_is`].
    AskLatest,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Objecter {
    links: LinkIds,
    map: Option<Arc<OsdMap>>,
    pending: BTreeMap<u64, Pending>,
    sessions: BTreeMap<i32, Session>,
    timers: BTreeSet<(Nanos, Timer)>,
    last_tid: u64,
    /// Where groups are, as of the map.
    places: GroupPlaces,
    /// Tids whose pool is not in the map, and the epoch that has to be seen before that is believed.
    poolless: BTreeMap<u64, Option<Epoch>>,
    asking_latest: bool,
    sweeping: bool,
    renewed_at: Nanos,
    actions: Vec<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Send this request again.
    Retry(u64),
    /// This request's time is up.
    Expire(u64),
    /// Call this OSD again.
    Call(i32),
    /// Look at all sessions and requests.
    Sweep,
}

/// How often sessions are looked at while there are any.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Pending {
    request: Rc<Request>,
    /// Where it belongs, as of the map; none while that is not known or it has to wait.
    place: Option<Place>,
    /// How often it was sent.
    sends: i32,
    /// When it was sent on the session's present link.
    sent_at: Option<Nanos>,
    expires: Option<(Nanos, Duration)>,
    retry_at: Option<Nanos>,
}

impl Objecter {
    /// A machine without a map.
    pub fn new(links: LinkIds) -> Self {
        Self {
            links,
            map: None,
            pending: BTreeMap::new(),
            sessions: BTreeMap::new(),
            timers: BTreeSet::new(),
            last_tid: 0,
            places: GroupPlaces::default(),
            poolless: BTreeMap::new(),
            asking_latest: false,
            sweeping: false,
            renewed_at: Nanos(0),
            actions: Vec::new(),
        }
    }

    /// What is to be done; to be called after each other call.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When [`Self::tick`] is to be called next.
    pub fn deadline(&self) -> Option<Nanos> {
        self.timers.first().map(|&(time, _)| time)
    }

    /// Takes a request; gives its tid.
    pub fn submit(&mut self, request: Rc<Request>, limit: Option<Duration>, now: Nanos) -> u64 {
        self.last_tid += 1;
        let tid = self.last_tid;
        let expires = limit.map(|limit| (after(now, limit), limit));
        if let Some((time, _)) = expires {
            self.timers.insert((time, Timer::Expire(tid)));
        }
        let pending = Pending { request, place: None, sends: 0, sent_at: None, expires, retry_at: None };
        self.pending.insert(tid, pending);
        self.route(tid, now);
        tid
    }

    /// Forgets a request. Whether it is done is not known then.
    pub fn forget(&mut self, tid: u64) {
        self.remove(tid);
    }

    /// Forgets all requests, and the links with them; gives their tids.
    pub fn shut_down(&mut self) -> Vec<u64> {
        self.sessions.clear();
        self.timers.clear();
        self.poolless.clear();
        std::mem::take(&mut self.pending).into_keys().collect()
    }

    /// There is a newer map: requests that belong elsewhere now go there.
    pub fn have_map(&mut self, map: Arc<OsdMap>, now: Nanos) {
        assert!(
            self.map.as_ref().is_none_or(|old| old.epoch < map.epoch || old.fsid != map.fsid),
            "maps only get newer"
        );
        self.map = Some(map);
        self.places.clear();
        self.drop_stale_sessions();
        let tids: Vec<u64> = self.pending.keys().copied().collect();
        for tid in tids {
            self.route(tid, now);
        }
    }

    /// The monitor says that this is the newest epoch.
    pub fn latest_is(&mut self, epoch: Epoch, now: Nanos) {
        self.asking_latest = false;
        let waiting: Vec<u64> = self.poolless.keys().copied().collect();
        for tid in waiting {
            self.poolless.insert(tid, Some(epoch));
            self.route(tid, now);
        }
    }

    /// The handshake on a link is over.
    pub fn connected(&mut self, osd: i32, link: LinkId, now: Nanos) {
        let Some(session) = self.session_on(osd, link) else { return };
        session.state = SessionState::Open { link, heard: now, asked: now };
        session.failures = 0;
        self.send_waiting(osd, now);
    }

    /// A link is gone.
    pub fn closed(&mut self, osd: i32, link: LinkId, now: Nanos) {
        let Some(session) = self.session_on(osd, link) else { return };
        let until = session.pause(now);
        let tids: Vec<u64> = session.requests.iter().copied().collect();
        if tids.is_empty() {
            self.sessions.remove(&osd);
        } else {
            self.timers.insert((until, Timer::Call(osd)));
        }
        for tid in tids {
            if let Some(pending) = self.pending.get_mut(&tid) {
                pending.sent_at = None;
            }
        }
        self.renew_map(now);
    }

    /// An OSD is alive.
    pub fn alive(&mut self, osd: i32, link: LinkId, now: Nanos) {
        if let Some(session) = self.session_on(osd, link)
            && let SessionState::Open { heard, .. } = &mut session.state
        {
            *heard = now;
        }
    }

    /// A message came from an OSD. What cannot be understood ends the link.
    pub fn message(&mut self, osd: i32, link: LinkId, message: &Message, now: Nanos) {
        self.alive(osd, link, now);
        if self.session_on(osd, link).is_none() {
            return;
        }
        if let Err(reason) = self.understand(osd, link, message, now) {
            log::warn!("message of osd.{osd} is not understood: {reason}");
            self.actions.push(Action::Close(link));
            self.closed(osd, link, now);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Nanos) {
        while let Some(&(time, timer)) = self.timers.first()
            && time <= now
        {
            self.timers.pop_first();
            match timer {
                Timer::Retry(tid) => self.retry(tid, now),
                Timer::Expire(tid) => self.expire(tid),
                Timer::Call(osd) => self.call(osd, now),
                Timer::Sweep => self.sweep(now),
            }
        }
    }

    fn understand(&mut self, osd: i32, link: LinkId, message: &Message, now: Nanos) -> Result<(), String> {
        let tid = message.header.tid;
        match message.header.kind {
            OsdOpReply::KIND => {
                let reply = OsdOpReply::from_message(message).map_err(|error| error.to_string())?;
                self.reply(osd, tid, reply, now);
            }
            CommandReply::KIND => {
                let reply = CommandReply::from_message(message).map_err(|error| error.to_string())?;
                if self.is_in_flight(osd, tid) {
                    self.done(tid, Outcome::Command(reply));
                }
            }
            OsdMapMessage::KIND => {
                let maps = OsdMapMessage::from_message(message).map_err(|error| error.to_string())?;
                self.actions.push(Action::OsdMap(maps));
            }
            Backoff::KIND => {
                let backoff = Backoff::from_message(message).map_err(|error| error.to_string())?;
                self.backoff(osd, link, backoff, now)?;
            }
            kind => log::debug!("osd.{osd} sent a message of type {kind:#x}, which is of no use here"),
        }
        Ok(())
    }

    fn is_in_flight(&self, osd: i32, tid: u64) -> bool {
        let on_session = self.sessions.get(&osd).is_some_and(|session| session.requests.contains(&tid));
        on_session && self.pending.get(&tid).is_some_and(|pending| pending.sent_at.is_some())
    }

    fn reply(&mut self, osd: i32, tid: u64, reply: OsdOpReply, now: Nanos) {
        if !self.is_in_flight(osd, tid) {
            return;
        }
        let Some(pending) = self.pending.get_mut(&tid) else { return };
        //= ceph 16.2 objecter: an answer to an earlier attempt is passed over
        if reply.attempt >= 0 && reply.attempt != pending.sends - 1 {
            return;
        }
        if reply.redirect.is_some() {
            let reason = "the OSD redirects, which needs cache tiering".to_owned();
            let what = pending.request.to_string();
            return self.done(tid, Outcome::Failed(Error::Unexpected { what, reason }));
        }
        if reply.result == Errno::EAGAIN.code() {
            let time = after(now, TRY_AGAIN_DELAY);
            pending.sent_at = None;
            pending.retry_at = Some(time);
            self.timers.insert((time, Timer::Retry(tid)));
            return;
        }
        self.done(tid, Outcome::Ops(Box::new(reply)));
    }

    fn backoff(&mut self, osd: i32, link: LinkId, backoff: Backoff, now: Nanos) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&osd) else { return Ok(()) };
        match backoff.step {
            BackoffStep::BLOCK => {
                if session.backoffs.len() >= BACKOFFS_MAX {
                    return Err(format!("more than {BACKOFFS_MAX} back-offs"));
                }
                let answer = Backoff { step: BackoffStep::ACK_BLOCK, ..backoff.clone() };
                session.backoffs.insert((backoff.pg.pg, backoff.id), (backoff.begin, backoff.end));
                self.actions.push(Action::Send(link, answer.to_message(0)));
                // The OSD forgot what it had of the range.
                for tid in session.requests.clone() {
                    if let Some(pending) = self.pending.get_mut(&tid)
                        && session.holds(pending)
                    {
                        pending.sent_at = None;
                    }
                }
            }
            BackoffStep::UNBLOCK => {
                session.backoffs.remove(&(backoff.pg.pg, backoff.id));
                self.send_waiting(osd, now);
            }
            other => return Err(format!("back-off step {}", other.0)),
        }
        Ok(())
    }

    /// Puts a request where it belongs as of the map, and sends it there if it is not there already.
    fn route(&mut self, tid: u64, now: Nanos) {
        let Some(pending) = self.pending.get(&tid) else { return };
        let Some(map) = self.map.clone() else { return };
        let located = self.places.locate(&map, &pending.request);
        if !matches!(located, Located::NoPool) {
            self.poolless.remove(&tid);
        }
        match located {
            Located::At(place) => {
                if pending.place.as_ref() != Some(&place) {
                    self.detach(tid);
                    self.attach(tid, place, now);
                }
            }
            Located::Wait => self.detach(tid),
            Located::Dead(osd) => self.done(tid, Outcome::Failed(Error::OsdDown(osd))),
            Located::NoPool => self.pool_is_missing(tid, &map),
        }
    }

    /// Believes that a pool is gone only in a map that was the newest when the request was here already.
    fn pool_is_missing(&mut self, tid: u64, map: &OsdMap) {
        self.detach(tid);
        match self.poolless.get(&tid).copied() {
            Some(Some(newest)) if newest <= map.epoch => {
                let Some(pending) = self.pending.get(&tid) else { return };
                let what = pending.request.to_string();
                let pool = match &pending.request.target {
                    Target::Object { locator, .. } => locator.pool,
                    Target::Group { pool, .. } => *pool,
                    Target::Osd(_) => -1,
                };
                self.done(tid, Outcome::Failed(Error::PoolGone { what, pool }));
            }
            Some(_) => {}
            None => {
                self.poolless.insert(tid, None);
                if !std::mem::replace(&mut self.asking_latest, true) {
                    self.actions.push(Action::AskLatest);
                }
            }
        }
    }

    fn attach(&mut self, tid: u64, place: Place, now: Nanos) {
        let osd = place.osd;
        let Some(map) = &self.map else { return };
        let Some(target) = map.osd(osd).and_then(|osd| osd.client_addrs.msgr2().copied()) else {
            // An OSD that is up without a usable address: wait for a better map.
            return;
        };
        let Some(pending) = self.pending.get_mut(&tid) else { return };
        pending.place = Some(place);
        let links = &self.links;
        let actions = &mut self.actions;
        let session = self.sessions.entry(osd).or_insert_with(|| {
            let link = links.next();
            actions.push(Action::Open { osd, link, target });
            Session::calling(target, link)
        });
        session.expect(tid, now);
        if !std::mem::replace(&mut self.sweeping, true) {
            self.timers.insert((after(now, SWEEP_INTERVAL), Timer::Sweep));
        }
        self.send(tid, now);
    }

    /// Takes a request off its session. An answer on its way will be passed over.
    fn detach(&mut self, tid: u64) {
        let Some(pending) = self.pending.get_mut(&tid) else { return };
        pending.sent_at = None;
        if let Some(place) = pending.place.take()
            && let Some(session) = self.sessions.get_mut(&place.osd)
        {
            session.requests.remove(&tid);
        }
    }

    /// Sends a request if its session is open and nothing holds it.
    fn send(&mut self, tid: u64, now: Nanos) {
        let Some(map) = &self.map else { return };
        let Some(pending) = self.pending.get_mut(&tid) else { return };
        let Some(place) = &pending.place else { return };
        let Some(session) = self.sessions.get(&place.osd) else { return };
        let SessionState::Open { link, .. } = session.state else { return };
        if pending.sent_at.is_some() || pending.retry_at.is_some() || session.holds(pending) {
            return;
        }
        let message = encode(tid, &pending.request, place, pending.sends, map.epoch);
        pending.sends = pending.sends.saturating_add(1);
        pending.sent_at = Some(now);
        self.actions.push(Action::Send(link, message));
    }

    fn send_waiting(&mut self, osd: i32, now: Nanos) {
        let Some(session) = self.sessions.get(&osd) else { return };
        for tid in session.requests.clone() {
            self.send(tid, now);
        }
    }

    fn retry(&mut self, tid: u64, now: Nanos) {
        if let Some(pending) = self.pending.get_mut(&tid) {
            pending.retry_at = None;
            self.send(tid, now);
        }
    }

    fn expire(&mut self, tid: u64) {
        let Some(pending) = self.pending.get(&tid) else { return };
        let Some((_, limit)) = pending.expires else { return };
        let what = pending.request.to_string();
        self.done(tid, Outcome::Failed(Error::TimedOut { what, limit }));
    }

    fn done(&mut self, tid: u64, outcome: Outcome) {
        self.remove(tid);
        self.actions.push(Action::Done { tid, outcome });
    }

    fn remove(&mut self, tid: u64) {
        self.detach(tid);
        self.poolless.remove(&tid);
        if let Some(pending) = self.pending.remove(&tid) {
            if let Some((time, _)) = pending.expires {
                self.timers.remove(&(time, Timer::Expire(tid)));
            }
            if let Some(time) = pending.retry_at {
                self.timers.remove(&(time, Timer::Retry(tid)));
            }
        }
    }

    /// Calls an OSD again after a pause, if something still waits for it.
    fn call(&mut self, osd: i32, now: Nanos) {
        let Some(session) = self.sessions.get_mut(&osd) else { return };
        if !matches!(session.state, SessionState::Pausing { until } if until <= now) {
            return;
        }
        if session.requests.is_empty() {
            self.sessions.remove(&osd);
            return;
        }
        let link = self.links.next();
        session.state = SessionState::Calling { link };
        self.actions.push(Action::Open { osd, link, target: session.target });
    }

    /// Ends sessions with OSDs that are down or have moved.
    fn drop_stale_sessions(&mut self) {
        let Some(map) = &self.map else { return };
        let is_stale = |osd: i32, session: &Session| {
            let addrs = map.osd(osd).filter(|osd| osd.is_up()).map(|osd| &osd.client_addrs);
            addrs.and_then(|addrs| addrs.msgr2()) != Some(&session.target)
        };
        let stale: Vec<i32> = self
            .sessions
            .iter()
            .filter(|(osd, session)| is_stale(**osd, session))
            .map(|(&osd, _)| osd)
            .collect();
        for osd in stale {
            let Some(session) = self.sessions.remove(&osd) else { continue };
            self.actions.extend(session.link().map(Action::Close));
            for tid in session.requests {
                if let Some(pending) = self.pending.get_mut(&tid) {
                    pending.place = None;
                    pending.sent_at = None;
                }
            }
        }
    }

    /// Keeps an eye on sessions with requests in flight.
    fn sweep(&mut self, now: Nanos) {
        let mut dead = Vec::new();
        for (&osd, session) in &mut self.sessions {
            match session.check(now) {
                session::Check::Fine => {}
                session::Check::Ask(link) => self.actions.push(Action::Keepalive(link)),
                session::Check::Dead(link) => dead.push((osd, link)),
            }
        }
        for (osd, link) in dead {
            self.actions.push(Action::Close(link));
            self.closed(osd, link, now);
        }
        let is_laggy =
            |pending: &Pending| pending.sent_at.is_some_and(|sent| after(sent, LAGGY_OP_AGE) <= now);
        if self.pending.values().any(is_laggy) {
            self.renew_map(now);
        }
        self.sweeping = self.sessions.values().any(|session| !session.requests.is_empty());
        if self.sweeping {
            self.timers.insert((after(now, SWEEP_INTERVAL), Timer::Sweep));
        }
    }

    /// At most once a second, however many connections fail.
    fn renew_map(&mut self, now: Nanos) {
        if self.renewed_at == Nanos(0) || after(self.renewed_at, SWEEP_INTERVAL) <= now {
            self.renewed_at = now;
            self.actions.push(Action::RenewMap);
        }
    }

    /// The session with an OSD if this is its link: events of earlier links are late.
    fn session_on(&mut self, osd: i32, link: LinkId) -> Option<&mut Session> {
        self.sessions.get_mut(&osd).filter(|session| session.link() == Some(link))
    }
}

fn encode(tid: u64, request: &Request, place: &Place, attempt: i32, epoch: Epoch) -> Message {
    let (ops, flags, mtime) = match &request.body {
        Body::Command(command) => return command.to_message(tid),
        Body::Ops { ops, flags, mtime } => (ops.clone(), *flags, *mtime),
    };
    let (locator, object) = match &request.target {
        Target::Object { locator, name } => (locator.clone(), name.clone()),
        Target::Group { pool, nspace, .. } => {
            (ObjectLocator { nspace: nspace.clone(), ..ObjectLocator::pool(*pool) }, Default::default())
        }
        Target::Osd(_) => unreachable!("ops are addressed to objects and groups"),
    };
    let flags = if attempt > 0 { flags.with(RequestFlags::RETRY) } else { flags };
    let op = OsdOp {
        pg: place.pg,
        hash: place.hash,
        epoch,
        flags,
        id: RequestId::default(),
        client_incarnation: 0,
        mtime,
        locator,
        object,
        ops,
        snap: SnapId::HEAD,
        snap_seq: SnapId(0),
        snaps: Vec::new(),
        attempt,
        features: Features::PACIFIC,
    };
    op.to_message(tid)
}
