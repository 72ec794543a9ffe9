//! Which OSD talks to the monitor on which session, and when each was heard last.
//!
//! Invariant: an OSD that is up has been heard within the grace, or is about to be marked down. Host view.

use std::collections::BTreeMap;

use rt::Nanos;
use wire::msg::{LogPriority, OsdBoot};

use super::session::{Session, SessionEnd};
use super::shared::Shared;
use crate::options::{self, BEACON_GRACE_SECONDS};
use crate::osd_life;

/// Sessions of OSDs.
pub struct OsdSessions {
    /// OSDs of an earlier life of the monitor have until then to be heard.
    started: Nanos,
    by_osd: BTreeMap<i32, Heard>,
}

struct Heard {
    /// Number of the session, if it is still there.
    session: Option<u64>,
    last: Nanos,
}

impl OsdSessions {
    pub fn new(started: Nanos) -> Self {
        Self { started, by_osd: BTreeMap::new() }
    }

    fn booted(&mut self, osd: i32, session: u64, now: Nanos) {
        self.by_osd.insert(osd, Heard { session: Some(session), last: now });
    }

    /// Notes a sign of life. After a restart of the monitor, an OSD that is up goes on without booting again, so this
    /// also ties the session to the OSD, unless a later one is.
    fn heard(&mut self, osd: i32, session: u64, now: Nanos) {
        let heard = self.by_osd.entry(osd).or_insert(Heard { session: None, last: now });
        heard.last = heard.last.max(now);
        if heard.session.is_none_or(|other| other < session) {
            heard.session = Some(session);
        }
    }

    fn last_heard(&self, osd: i32) -> Nanos {
        self.by_osd.get(&osd).map_or(self.started, |heard| heard.last)
    }

    /// Whether `session` was still the one of `osd`; it no longer is.
    fn ended(&mut self, osd: i32, session: u64) -> bool {
        match self.by_osd.get_mut(&osd) {
            Some(heard) if heard.session == Some(session) => {
                heard.session = None;
                true
            }
            _ => false,
        }
    }
}

/// An OSD wants to be up.
pub async fn boot(session: &mut Session, boot: OsdBoot) -> Result<(), SessionEnd> {
    let shared = session.shared.clone();
    let (osd, addrs) = (boot.osd, boot.public_addrs.clone());
    let earlier = boot.clone();
    shared.propose(move |view| (osd_life::end_earlier_life(view.state, view.now, &earlier), ())).await?;
    let decided = shared.propose(move |view| match osd_life::boot(view.state, view.now, &boot) {
        Ok(changes) => (changes, Ok(())),
        Err(refusal) => (Vec::new(), Err(refusal)),
    });
    match decided.await?.0 {
        Ok(()) => {
            session.osd = Some(osd);
            shared.osd_sessions.borrow_mut().booted(osd, session.number, shared.monotonic());
            shared.log(LogPriority::INFO, format!("osd.{osd} {addrs} boot")).await;
            Ok(())
        }
        // The flag may be cleared at any time; the OSD asks again.
        Err(osd_life::BootRefusal::NoUp(_)) => Ok(()),
        Err(refusal) => {
            shared.log(LogPriority::ERROR, refusal.to_string()).await;
            Err(SessionEnd::Refused(refusal.to_string()))
        }
    }
}

/// An OSD gives a sign of life on a session.
pub fn heard(session: &mut Session, osd: i32) {
    let shared = session.shared.clone();
    if shared.state.borrow().osd_maps.newest().is_up(osd) {
        session.osd = Some(osd);
        shared.osd_sessions.borrow_mut().heard(osd, session.number, shared.monotonic());
    }
}

/// The connection of an OSD is gone: it is down, unless it came back on another one.
pub async fn session_ended(shared: &Shared, osd: i32, session: u64) {
    if shared.osd_sessions.borrow_mut().ended(osd, session) {
        mark_down(shared, vec![osd], "its connection to the monitor ended").await;
    }
}

/// Marks down the OSDs that are up and were not heard for too long.
pub async fn expire(shared: &Shared) {
    let grace_seconds = options::uint(&shared.state.borrow(), &shared.config.name, BEACON_GRACE_SECONDS);
    let limit = grace_seconds.saturating_mul(1_000_000_000);
    let now = shared.monotonic().0;
    let silent: Vec<i32> = {
        let (state, sessions) = (shared.state.borrow(), shared.osd_sessions.borrow());
        let map = state.osd_maps.newest();
        let up = (0..).zip(&map.osds).filter(|(_, osd)| osd.is_up()).map(|(id, _)| id);
        up.filter(|id| now.saturating_sub(sessions.last_heard(*id).0) > limit).collect()
    };
    if !silent.is_empty() {
        mark_down(shared, silent, &format!("nothing was heard for {grace_seconds} seconds")).await;
    }
}

async fn mark_down(shared: &Shared, ids: Vec<i32>, why: &str) {
    let wanted = ids.clone();
    let decided = shared.propose(move |view| {
        let changes = osd_life::mark_down(view.state, view.now, &wanted);
        let any = !changes.is_empty();
        (changes, any)
    });
    if let Ok((true, _)) = decided.await {
        for id in ids {
            shared.log(LogPriority::WARNING, format!("osd.{id} marked down: {why}")).await;
        }
    }
}
