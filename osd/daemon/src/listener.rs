//! Accepting connections, and closing those that linger.
//!
//! Invariant: half-open and all connections stay within their limits. Lives on one core.

use std::rc::Rc;
use std::time::Duration;

use rt::net::{Listener, Stream};
use rt::sync::{Either, select};
use rt::{Group, Nanos};
use wire::msgr2::{Config, Connection, LongData};
use wire::types::{EntityKind, Features};

use crate::limits::{CONNECTIONS_MAX, HALF_OPEN_MAX, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, WRITE_TIMEOUT};
use crate::link::Link;
use crate::osd::Osd;
use crate::session::{self, Session};

/// Pause after an error of the listener, which is transient.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Accepts until the OSD stops.
pub async fn accept_loop(osd: Rc<Osd>, mut listener: Listener) {
    loop {
        let accepted = match select(osd.stopping(), listener.accept()).await {
            Either::Left(()) => return,
            Either::Right(accepted) => accepted,
        };
        match accepted {
            Ok(stream) => open(&osd, stream),
            Err(error) => {
                log::warn!("osd.{}: accepting a connection: {error}", osd.config.whoami);
                osd.core.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn open(osd: &Rc<Osd>, mut stream: Stream) {
    let (all, half_open) = osd.connection_counts();
    if osd.has_failed() || all >= CONNECTIONS_MAX || half_open >= HALF_OPEN_MAX {
        osd.counters.connections_refused.set(osd.counters.connections_refused.get() + 1);
        stream.writer.abort();
        let what = format!(
            "{all} connections are open, {half_open} of them half; the limits are {CONNECTIONS_MAX} and {HALF_OPEN_MAX}"
        );
        osd.blame(&stream.peer.to_string(), &what);
        return;
    }
    osd.counters.connections.set(osd.counters.connections.get() + 1);
    let id = osd.connection_id();
    let config = Config {
        kind: EntityKind::OSD,
        number: i64::from(osd.config.whoami),
        addrs: osd.addrs.clone(),
        nonce: 0,
        supported: Features::PACIFIC,
        required: Features::MSG_ADDR2,
        revision_21: true,
        global_seq: id.0,
        peer_socket: stream.peer,
    };
    // A write that is too long gets an answer, or its client would send it again for ever.
    let connection = Connection::accept(config, false).with_long_data(LongData::Dropped);
    let link = Link::new(osd.core.clone(), connection);
    let session = Session::new(id, stream.peer, link.clone(), osd.core.now());
    osd.session_opened(&session);
    let (reader, writer) = (stream.reader, stream.writer);
    osd.spawn(Group::Client, "write to client", move |_| link.write_loop(writer));
    osd.spawn(Group::Client, "read from client", move |osd| session::read_loop(osd, session, reader));
}

/// Closes what takes too long, until the OSD stops.
pub async fn watch_loop(osd: Rc<Osd>) {
    while let Either::Right(()) = select(osd.stopping(), osd.core.sleep(WATCH_INTERVAL)).await {
        let now = osd.core.now();
        for session in osd.all_sessions() {
            if let Some(reason) = lingers(&session, now) {
                osd.blame(&session.describe(), &reason);
                session.link.close();
            }
        }
    }
}

fn lingers(session: &Session, now: Nanos) -> Option<String> {
    let over = |since: Nanos, limit: Duration| u128::from(now.0.saturating_sub(since.0)) > limit.as_nanos();
    let link = &session.link;
    if link.is_closed() {
        return None;
    }
    if !link.is_ready() && over(session.opened, HANDSHAKE_TIMEOUT) {
        return Some(format!("the handshake took too long, {}", link.state_text()));
    }
    if link.writing_since().is_some_and(|since| over(since, WRITE_TIMEOUT)) {
        return Some("takes no bytes".to_owned());
    }
    if session.requests_in_progress() == 0 && over(link.last_read(), IDLE_TIMEOUT) {
        return Some("idle for too long".to_owned());
    }
    None
}
