//! What a connection tells its shell, and what the shell answers.

use crate::msgr2::{Message, Session};
use crate::types::{AddrVec, AuthName, EntityKind, EntityName, Features, UTime};

/// Something the shell must know or do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Accepting side that assigns ids (a monitor): answer with
    /// [`super::Connection::assign_global_id`]. Nothing is read until then.
    NeedGlobalId {
        /// Who asks.
        name: AuthName,
    },
    /// Accepting side: answer with [`super::Connection::answer`], usually what [`super::SessionTable`] says.
    /// Nothing is read until then.
    NeedSession(SessionRequest),
    /// The handshake is over; messages flow.
    Connected(Peer),
    /// A message. On a lossless session each comes once and in order, across connections.
    Message(Message),
    /// A message with more data than any may have, in its place among the others. Only with [`super::LongData::Dropped`].
    TooLong {
        /// The message without data.
        message: Message,
        /// Bytes of the data that was dropped.
        data_bytes: usize,
    },
    /// The peer asked for a sign of life, and was given one.
    Keepalive(UTime),
    /// The peer answered our keepalive, which was sent at this time.
    KeepaliveAck(UTime),
    /// The peer lost the session: all unacknowledged messages of both directions are gone.
    SessionReset,
    /// Connecting side: the process's counter of connection attempts must be above this from now on.
    GlobalSeqBehind(u64),
    /// Connecting side: close this connection, keep the session; the peer's own connection will carry it.
    Wait,
}

/// The other side, after the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Kind, from its HELLO.
    pub kind: EntityKind,
    /// Name it authenticated with; only known to the accepting side.
    pub name: Option<AuthName>,
    /// Number in its IDENT: rank or id; clients send −1 to monitors. 0 on a resumed session.
    pub number: i64,
    /// Cluster-wide id of the connecting side, from authentication.
    pub global_id: u64,
    /// Its addresses.
    pub addrs: AddrVec,
    /// Features it supports. Empty on a resumed session.
    pub features: Features,
    /// Whether the session ends with this connection.
    pub lossy: bool,
    /// Whether this continues an earlier session.
    pub resumed: bool,
}

impl Peer {
    /// The name in request ids and logs: clients by global id, daemons by the number of their IDENT.
    pub fn entity(&self) -> EntityName {
        let number = match self.kind {
            EntityKind::CLIENT => i64::try_from(self.global_id).unwrap_or(-1),
            _ => self.number,
        };
        EntityName::new(self.kind, number)
    }
}

/// A peer that passed the handshake's checks and wants a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// Who; `resumed` and `lossy` say what the peer asks for.
    pub peer: Peer,
    /// Number of the attempt in the peer's process.
    pub global_seq: u64,
    /// New or again.
    pub intent: SessionIntent,
}

/// What the peer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionIntent {
    /// CLIENT_IDENT.
    Ident {
        /// Its cookie; 0 when it wants a lossy session.
        client_cookie: u64,
    },
    /// SESSION_RECONNECT.
    Reconnect {
        /// Its cookie.
        client_cookie: u64,
        /// The one we gave it.
        server_cookie: u64,
        /// Its count of reconnects.
        connect_seq: u64,
        /// Last message it received.
        message_seq: u64,
    },
}

/// The shell's answer to [`Event::NeedSession`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Carry on with this session: SERVER_IDENT or SESSION_RECONNECT_OK.
    Accept(Box<Session>),
    /// No such session; the peer goes on with CLIENT_IDENT. SESSION_RESET.
    Reset {
        /// Whether the peer must forget everything.
        full: bool,
    },
    /// SESSION_RETRY.
    Retry {
        /// The session's.
        connect_seq: u64,
    },
    /// SESSION_RETRY_GLOBAL.
    RetryGlobal {
        /// Highest seen.
        global_seq: u64,
    },
    /// Our own connection to that peer will be used. WAIT, then close.
    Wait,
    /// A newer connection exists: close.
    Stale {
        /// Its global_seq.
        current: u64,
    },
}
