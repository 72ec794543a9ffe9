//! The session with a monitor: maps and options in, boot, beacons and statistics out.
//!
//! Invariants: maps are taken one after the other, in the order they come; while this OSD is not up in the map in
//! force, it keeps asking to be. Lives on one core.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rt::net::Stream;
use rt::sync::{Either, select, timeout};
use rt::{Group, Nanos};
use wire::msg::{
    Body, ConfigMessage, MonSubscribe, OsdAlert, OsdMapMessage, Payload, Subscription, decode_message,
};
use wire::msgr2::auth::Claim;
use wire::msgr2::{Config, Connection, Event, Message, Session};
use wire::types::{Addr, AuthName, EntityKind, Epoch, Features};

use crate::limits::{
    BOOT_INTERVAL, MONITOR_CONNECT_TIMEOUT, MONITOR_KEEPALIVE_INTERVAL, MONITOR_PATIENCE, MONITOR_RETRY_MAX,
    MONITOR_RETRY_MIN, MONITOR_SILENCE_MAX, REPORT_INTERVAL,
};
use crate::link::{Admission, Link};
use crate::osd::Osd;
use crate::{groups, memory, report};

/// How long nothing is done when nothing happens.
const TICK: Duration = Duration::from_millis(500);

/// Keeps a session with one of the monitors until the OSD stops.
pub async fn session_loop(osd: Rc<Osd>) {
    let mut pause = MONITOR_RETRY_MIN;
    for attempt in 0usize.. {
        let Some(address) = osd.config.monitors.get(attempt % osd.config.monitors.len().max(1)) else {
            log::error!("osd.{}: no monitor is known", osd.config.whoami);
            return;
        };
        let connected = timeout(&osd.core, MONITOR_CONNECT_TIMEOUT, osd.core.connect(*address));
        match select(osd.stopping(), connected).await {
            Either::Left(()) => return,
            Either::Right(Ok(Ok(stream))) => {
                if MonitorSession::run(&osd, stream).await {
                    pause = MONITOR_RETRY_MIN;
                }
            }
            Either::Right(Ok(Err(error))) => {
                osd.blame_monitor(address, &error, pause);
            }
            Either::Right(Err(_)) => {
                osd.blame_monitor(address, &"it does not answer", pause);
            }
        }
        if osd.has_failed() {
            return;
        }
        if let Either::Left(()) = select(osd.stopping(), osd.core.sleep(pause)).await {
            return;
        }
        pause = (pause * 2).min(MONITOR_RETRY_MAX);
    }
}

/// One session.
struct MonitorSession {
    osd: Rc<Osd>,
    address: SocketAddr,
    link: Rc<Link>,
    established: bool,
    reports: u64,
    last_report: Option<Nanos>,
    last_boot: Option<Nanos>,
    last_keepalive: Nanos,
    /// Alerts that the monitor has from us; none before the session's first, as it may have those of an earlier one.
    told: Option<OsdAlert>,
}

impl Osd {
    /// Logs why there is no session; not at the first attempts, when the monitor may be starting too.
    fn blame_monitor(&self, address: &SocketAddr, what: &dyn std::fmt::Display, pause: Duration) {
        if pause < MONITOR_PATIENCE {
            return;
        }
        if let Some(more) = self.bad_monitors.admit(self.core.now()) {
            let osd = self.config.whoami;
            log::warn!("osd.{osd}: no session with the monitor at {address}: {what}; trying again{more}");
        }
    }
}

impl MonitorSession {
    /// Runs until it ends; whether it was ever established.
    async fn run(osd: &Rc<Osd>, stream: Stream) -> bool {
        let config = Config {
            kind: EntityKind::OSD,
            number: i64::from(osd.config.whoami),
            addrs: osd.addrs.clone(),
            nonce: 0,
            supported: Features::PACIFIC,
            required: Features::MSG_ADDR2,
            revision_21: true,
            global_seq: osd.connection_id().0,
            peer_socket: stream.peer,
        };
        let name = AuthName { kind: EntityKind::OSD, id: osd.config.whoami.to_string() };
        let connection = Connection::connect(
            config,
            Addr::msgr2(stream.peer, 0),
            EntityKind::MON,
            Claim { name, global_id: 0 },
            Session::lossy(),
        );
        let link = Link::new(osd.core.clone(), connection);
        let (writing, mut reader) = (link.clone(), stream.reader);
        osd.spawn(Group::Client, "write to monitor", move |_| writing.write_loop(stream.writer));
        let mut session = Self {
            osd: osd.clone(),
            address: stream.peer,
            link: link.clone(),
            established: false,
            reports: 0,
            last_report: None,
            last_boot: None,
            last_keepalive: osd.core.now(),
            told: None,
        };
        while !link.is_closed() && !osd.is_stopping() && !osd.has_failed() {
            let wake = select(osd.stopping(), osd.core.sleep(TICK));
            match select(select(link.closed(), reader.read()), wake).await {
                Either::Left(Either::Right(Ok(chunk))) if !chunk.is_empty() => {
                    if let Err(error) = link.feed(chunk) {
                        osd.blame_monitor(&session.address, &error, MONITOR_RETRY_MAX);
                        break;
                    }
                    while let Some(event) = link.next_event() {
                        session.handle(event).await;
                    }
                }
                Either::Right(_) => {}
                Either::Left(_) => break,
            }
            session.tick();
        }
        link.close();
        session.established
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Connected(_) => {
                self.established = true;
                self.subscribe(self.osd.maps.epoch());
            }
            Event::Message(message) => self.take(&message).await,
            _ => {}
        }
    }

    async fn take(&mut self, message: &Message) {
        match decode_message(message) {
            Ok(Body::OsdMapMessage(maps)) => self.take_maps(maps).await,
            Ok(Body::ConfigMessage(ConfigMessage { options })) => {
                self.osd.options.replace_monitors(&options);
                memory::apply_or_warn(&self.osd);
            }
            Ok(_) => {}
            Err(error) => {
                log::warn!("osd.{}: from the monitor: {error}", self.osd.config.whoami);
                self.link.close();
            }
        }
    }

    async fn take_maps(&mut self, maps: OsdMapMessage) {
        match groups::take_maps(&self.osd, maps).await {
            Ok(true) => {}
            Ok(false) => self.subscribe(self.osd.maps.epoch()),
            Err(groups::MapError::Down(reason)) => self.osd.fail(&reason),
            Err(error @ groups::MapError::Cluster { .. }) => self.leave_stranger(&error),
            Err(error) => {
                log::warn!("osd.{}: {error}; a full map is asked for", self.osd.config.whoami);
                self.subscribe(Epoch(0));
            }
        }
    }

    /// The monitor is another cluster's. An OSD that has never been up was started wrongly, and says so; for one that
    /// has, its own monitor may come back.
    fn leave_stranger(&self, error: &groups::MapError) {
        if self.osd.is_up() {
            self.osd.blame_monitor(&self.address, error, MONITOR_RETRY_MAX);
        } else {
            let hint = "check the monitor's address, and what else listens there";
            self.osd.fail(&format!("the monitor at {} sent {error}; {hint}", self.address));
        }
        self.link.close();
    }

    /// Asks for all maps after `have`; for the newest as a whole if that is 0.
    fn subscribe(&self, have: Epoch) {
        let start = if have == Epoch(0) { 0 } else { u64::from(have.0) + 1 };
        let maps = Subscription { start, once: false };
        let options = Subscription { start: 0, once: false };
        let what = [("osdmap".to_owned(), maps), ("config".to_owned(), options)].into();
        let hostname = self.osd.config.metadata.get("hostname").cloned().unwrap_or_default();
        self.send(&MonSubscribe { what, hostname });
    }

    /// Sends what is due.
    fn tick(&mut self) {
        if !self.established {
            return;
        }
        let now = self.osd.core.now();
        let due = |last: Option<Nanos>, every: Duration| last.is_none_or(|last| is_over(last, now, every));
        if self.osd.map_wanted.is_set() {
            self.osd.map_wanted.reset();
            self.subscribe(self.osd.maps.epoch());
        }
        if !self.osd.is_up() && due(self.last_boot, BOOT_INTERVAL) {
            self.last_boot = Some(now);
            self.send(&report::boot(&self.osd));
        }
        if self.osd.is_up() && due(self.last_report, REPORT_INTERVAL) {
            self.last_report = Some(now);
            self.last_boot = None;
            self.reports += 1;
            self.send(&report::beacon(&self.osd));
            self.send(&report::stats(&self.osd, self.reports));
            self.tell_alerts();
        }
        if is_over(self.last_keepalive, now, MONITOR_KEEPALIVE_INTERVAL) {
            self.last_keepalive = now;
            self.link.send_keepalive();
        }
        if is_over(self.link.last_read(), now, MONITOR_SILENCE_MAX) {
            log::warn!("osd.{}: the monitor is silent", self.osd.config.whoami);
            self.link.close();
        }
    }

    fn tell_alerts(&mut self) {
        let now = report::alerts(&self.osd);
        if self.told.as_ref() != Some(&now) {
            self.send(&now);
            self.told = Some(now);
        }
    }

    fn send(&self, message: &impl Payload) {
        if self.link.send(message.to_message(0), Admission::default()).is_err() {
            self.link.close();
        }
    }
}

fn is_over(since: Nanos, now: Nanos, limit: Duration) -> bool {
    u128::from(now.0.saturating_sub(since.0)) >= limit.as_nanos()
}
