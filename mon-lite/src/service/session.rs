//! One connection: the handshake, then messages in and out, until either side goes.
//!
//! Invariant: messages of a session are handled one after the other, in order; what was sent is written before more
//! is read, so a peer that does not read is not served.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rt::net::{ReadHalf, Stream, WriteHalf};
use rt::sync::{Either, Pass, Watcher, select, timeout};
use wire::msg::{Body, decode_message};
use wire::msgr2::{Answer, Config, Connection, Event, LongData, Peer, Session as MessengerSession};
use wire::types::{EntityKind, Features};

use super::dispatch;
use super::shared::Shared;
use super::subscriptions::Subscriptions;
use crate::limits::{HANDSHAKE_SECONDS_MAX, IDLE_SECONDS_MAX, WRITE_SECONDS_MAX};

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub enum SessionEnd {
    /// The peer closed the connection.
    #[error("closed by the peer")]
    Closed,
    /// The monitor is stopping.
    #[error("the monitor is stopping")]
    Stopping,
    /// Nothing came for too long.
    #[error("nothing came for {0} seconds")]
    Idle(u64),
    /// The peer does not read.
    #[error("the peer did not read for {WRITE_SECONDS_MAX} seconds")]
    Stuck,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The peer broke the protocol.
    #[error("{0}")]
    Protocol(#[from] wire::msgr2::ProtocolError),
    /// A message could not be understood.
    #[error("{0}")]
    Message(#[from] wire::msg::MessageError),
    /// A message could not be queued.
    #[error("{0}")]
    Send(#[from] wire::msgr2::SendError),
    /// The peer may not do what it asked for.
    #[error("{0}")]
    Refused(String),
}

impl From<super::shared::ShutDown> for SessionEnd {
    fn from(_: super::shared::ShutDown) -> Self {
        Self::Stopping
    }
}

/// A session and its connection.
pub struct Session {
    pub shared: Rc<Shared>,
    /// Number among all connections of this monitor's life.
    pub number: u64,
    /// Who is there, once the handshake is over.
    pub peer: Option<Peer>,
    /// What it wants to be told.
    pub subscriptions: Subscriptions,
    /// The OSD that booted here.
    pub osd: Option<i32>,
    connection: Connection,
    writer: WriteHalf,
}

/// Counts a session for as long as it is alive.
struct Counted(Rc<Shared>);

impl Counted {
    fn new(shared: Rc<Shared>) -> Self {
        shared.sessions.set(shared.sessions.get() + 1);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.sessions.set(self.0.sessions.get() - 1);
    }
}

pub async fn run(shared: Rc<Shared>, stream: Stream, pass: Pass) {
    let _counted = Counted::new(shared.clone());
    let number = shared.connections.get() + 1;
    shared.connections.set(number);
    let Stream { reader, writer, peer: peer_socket, .. } = stream;
    let rank = shared.view(|view| view.ranks().iter().position(|name| *name == shared.config.name));
    let config = Config {
        kind: EntityKind::MON,
        number: rank.and_then(|rank| i64::try_from(rank).ok()).unwrap_or(0),
        addrs: shared.addrs.clone(),
        nonce: 0,
        supported: Features::PACIFIC,
        required: Features::MSG_ADDR2,
        revision_21: true,
        global_seq: number,
        peer_socket,
    };
    let mut session = Session {
        number,
        peer: None,
        subscriptions: Subscriptions::default(),
        osd: None,
        // A command whose input is too long gets an answer, or its client would send it again for ever.
        connection: Connection::accept(config, true).with_long_data(LongData::Dropped),
        writer,
        shared,
    };
    let Err(end) = session.serve(reader, &pass).await;
    session.report(&end, &peer_socket);
    session.leave(&end).await;
}

impl Session {
    async fn serve(
        &mut self,
        mut reader: ReadHalf,
        pass: &Pass,
    ) -> Result<std::convert::Infallible, SessionEnd> {
        let mut news = self.shared.revision.watch();
        let started = self.shared.monotonic();
        loop {
            self.flush().await?;
            let seconds = if self.peer.is_some() { IDLE_SECONDS_MAX } else { HANDSHAKE_SECONDS_MAX };
            // A peer that trickles bytes must get through the handshake in time all the same.
            let spent =
                if self.peer.is_some() { 0 } else { (self.shared.monotonic().0 - started.0) / 1_000_000_000 };
            let limit = Duration::from_secs(seconds.saturating_sub(spent));
            let read = timeout(&self.shared.core, limit, reader.read());
            let input = match select(select(pass.closing(), changed(&mut news)), read).await {
                Either::Left(Either::Left(())) => return Err(SessionEnd::Stopping),
                Either::Left(Either::Right(())) => {
                    self.push_news().await?;
                    continue;
                }
                Either::Right(read) => read.map_err(|_| SessionEnd::Idle(seconds))??,
            };
            if input.is_empty() {
                return Err(SessionEnd::Closed);
            }
            let mut fed = self.connection.feed(input);
            // Answering an event lets the connection go on with bytes that it holds.
            while let Some(event) = self.connection.poll_event() {
                if let Err(end) = self.handle(event).await {
                    self.flush().await?;
                    return Err(end);
                }
            }
            if let Err(error) = std::mem::replace(&mut fed, Ok(())) {
                self.flush().await?;
                return Err(error.into());
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), SessionEnd> {
        match event {
            Event::NeedGlobalId { .. } => {
                let id = self.shared.global_ids.assign(&self.shared).await?;
                self.connection.assign_global_id(id)?;
            }
            Event::NeedSession(request) => {
                // Sessions are lossy and end with their connection, so one of before cannot be taken up again.
                let answer = if request.peer.resumed {
                    Answer::Reset { full: true }
                } else {
                    Answer::Accept(Box::new(MessengerSession::lossy()))
                };
                self.connection.answer(answer)?;
            }
            Event::Connected(peer) => self.arrive(peer),
            Event::Message(message) => {
                let body = decode_message(&message)?;
                dispatch::handle(self, message.header.tid, body).await?;
            }
            Event::TooLong { message, .. } => {
                dispatch::too_long(self, message.header.tid, decode_message(&message)?)?;
            }
            Event::Keepalive(_)
            | Event::KeepaliveAck(_)
            | Event::SessionReset
            | Event::GlobalSeqBehind(_)
            | Event::Wait => {}
        }
        Ok(())
    }

    /// Queues a message.
    pub fn send(&mut self, tid: u64, body: impl Into<Body>) -> Result<(), SessionEnd> {
        self.connection.send(body.into().to_message(tid))?;
        Ok(())
    }

    /// Writes what is queued.
    pub async fn flush(&mut self) -> Result<(), SessionEnd> {
        let chunks = self.connection.poll_transmit();
        if chunks.is_empty() {
            return Ok(());
        }
        let limit = Duration::from_secs(WRITE_SECONDS_MAX);
        let written = timeout(&self.shared.core, limit, self.writer.write_all(chunks)).await;
        written.map_err(|_| SessionEnd::Stuck)??;
        Ok(())
    }

    /// Sends what the subscriber has not seen.
    pub async fn push_news(&mut self) -> Result<(), SessionEnd> {
        while let Some(body) = self.subscriptions.next_message(&self.shared, self.peer.as_ref()) {
            self.send(0, body)?;
            self.flush().await?;
        }
        Ok(())
    }

    fn arrive(&mut self, peer: Peer) {
        let key = (peer.kind, peer.features);
        *self.shared.live.borrow_mut().sessions.entry(key).or_default() += 1;
        self.peer = Some(peer);
    }

    /// Logs why it ends: loudly, but not often, if the peer did something wrong.
    fn report(&self, end: &SessionEnd, socket: &SocketAddr) {
        let who = match &self.peer {
            Some(peer) => format!("{} at {socket}", peer.entity()),
            None => format!("somebody at {socket}"),
        };
        match end {
            SessionEnd::Closed | SessionEnd::Stopping | SessionEnd::Io(_) => {
                log::debug!("mon.{}: {who}: {end}", self.shared.config.name);
            }
            SessionEnd::Idle(_) if self.peer.is_some() => {
                log::debug!("mon.{}: {who}: {end}", self.shared.config.name);
            }
            _ => self.shared.blame(&who, end),
        }
    }

    async fn leave(&mut self, end: &SessionEnd) {
        if let Some(peer) = &self.peer {
            let key = (peer.kind, peer.features);
            let mut live = self.shared.live.borrow_mut();
            let left = live.sessions.get(&key).copied().unwrap_or(0).saturating_sub(1);
            if left == 0 {
                live.sessions.remove(&key);
            } else {
                live.sessions.insert(key, left);
            }
        }
        if matches!(end, SessionEnd::Stuck) {
            // It would not read the end of the stream either.
            self.writer.abort();
        } else {
            // What was said last, such as which features are missing, still arrives.
            self.writer.shutdown();
        }
        if let (Some(osd), false) = (self.osd, matches!(end, SessionEnd::Stopping)) {
            super::osd_sessions::session_ended(&self.shared, osd, self.number).await;
        }
    }
}

async fn changed(news: &mut Watcher<u64>) {
    if news.changed().await.is_err() {
        // The writer lives as long as the session's handle on it.
        std::future::pending::<()>().await;
    }
}
