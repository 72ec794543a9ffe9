//! The session with one OSD: its link, the requests that belong to it, what it asked to hold back.

use std::collections::{BTreeMap, BTreeSet};

use rt::Nanos;
use wire::types::{Addr, HObject, PgId};

use super::Pending;
use crate::limits::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, RECONNECT_DELAY_MAX, RECONNECT_DELAY_MIN};
use crate::link::LinkId;
use crate::time::{after, doubled};

#[derive(Debug)]
pub(super) struct Session {
    pub target: Addr,
    pub state: SessionState,
    /// Calls that failed since one succeeded.
    pub failures: u32,
    /// Tids of the requests that belong here, sent or not.
    pub requests: BTreeSet<u64>,
    /// Ranges of objects that the OSD does not want requests on, by group and number.
    pub backoffs: BTreeMap<(PgId, u64), (HObject, HObject)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    Calling { link: LinkId },
    Open { link: LinkId, heard: Nanos, asked: Nanos },
    Pausing { until: Nanos },
}

/// What a look at a session found.
pub(super) enum Check {
    Fine,
    Ask(LinkId),
    Dead(LinkId),
}

impl Session {
    pub fn calling(target: Addr, link: LinkId) -> Self {
        Self {
            target,
            state: SessionState::Calling { link },
            failures: 0,
            requests: BTreeSet::new(),
            backoffs: BTreeMap::new(),
        }
    }

    pub fn link(&self) -> Option<LinkId> {
        match self.state {
            SessionState::Calling { link } | SessionState::Open { link, .. } => Some(link),
            SessionState::Pausing { .. } => None,
        }
    }

    /// The link is gone: waits until the time given. What the OSD asked for is void.
    pub fn pause(&mut self, now: Nanos) -> Nanos {
        self.backoffs.clear();
        let until = after(now, doubled(RECONNECT_DELAY_MIN, self.failures, RECONNECT_DELAY_MAX));
        self.failures = self.failures.saturating_add(1);
        self.state = SessionState::Pausing { until };
        until
    }

    /// A request belongs here now. The first one begins a time in which signs of life are expected.
    pub fn expect(&mut self, tid: u64, now: Nanos) {
        if self.requests.is_empty()
            && let SessionState::Open { heard, asked, .. } = &mut self.state
        {
            (*heard, *asked) = (now, now);
        }
        self.requests.insert(tid);
    }

    /// Whether the OSD asked to hold this request back.
    pub fn holds(&self, pending: &Pending) -> bool {
        let Some(place) = pending.place.as_ref().filter(|_| !self.backoffs.is_empty()) else { return false };
        let object = pending.request.place_among_objects(place.hash);
        let of_group = self.backoffs.range((place.pg.pg, 0)..=(place.pg.pg, u64::MAX));
        of_group
            .map(|(_, range)| range)
            .any(|(begin, end)| object == *begin || (*begin <= object && object < *end))
    }

    /// Asks for signs of life while something is expected, and misses them.
    pub fn check(&mut self, now: Nanos) -> Check {
        let SessionState::Open { link, heard, asked } = &mut self.state else { return Check::Fine };
        if self.requests.is_empty() {
            return Check::Fine;
        }
        if after(*heard, KEEPALIVE_TIMEOUT) <= now {
            return Check::Dead(*link);
        }
        if after(*asked, KEEPALIVE_INTERVAL) <= now {
            *asked = now;
            return Check::Ask(*link);
        }
        Check::Fine
    }
}
