//! One connection: state, and the loop that turns bytes into frames and frames into steps.
//!
//! Invariant: a frame is handled only in a state that expects its tag, and that is checked at its preamble,
//! before it costs memory.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::limits::{HANDSHAKE_INPUT_BYTES_MAX, QUEUED_BYTES_MAX, QUEUED_MESSAGES_MAX};
use crate::msgr2::acceptor::Acceptor;
use crate::msgr2::auth::Claim;
use crate::msgr2::banner::{self, FEATURE_REVISION_21};
use crate::msgr2::connector::Connector;
use crate::msgr2::control::{Control, Hello};
use crate::msgr2::{
    Assembler, Event, Frame, Input, LongData, Message, ProtocolError, Revision, Session, Tag, Transmit,
    frame, session,
};
use crate::types::{Addr, AddrKind, AddrVec, EntityKind, Features, UTime};

/// What a connection needs to know of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Own kind.
    pub kind: EntityKind,
    /// Own number in IDENT: rank or id; −1 for a client that does not know its id yet.
    pub number: i64,
    /// Own published addresses. Empty for a client, which then learns its address from the peer.
    pub addrs: AddrVec,
    /// Nonce of a learned address; not 0.
    pub nonce: u32,
    /// Features offered.
    pub supported: Features,
    /// Features insisted on.
    pub required: Features,
    /// Whether to offer frame format 2.1; always, outside of tests.
    pub revision_21: bool,
    /// Number of this connection in the process, ascending.
    pub global_seq: u64,
    /// The peer's socket address.
    pub peer_socket: SocketAddr,
}

/// Why a message was not taken for sending.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer reads too slowly, or is gone for too long.
    #[error("{messages} messages with {bytes} bytes wait for the peer already")]
    QueueFull {
        /// Waiting messages.
        messages: usize,
        /// Waiting bytes.
        bytes: usize,
    },
    /// The peer would not take it.
    #[error("a message with {front} bytes in front and {data} bytes of data is longer than any may be")]
    TooLong {
        /// Bytes of its front.
        front: usize,
        /// Bytes of its data.
        data: usize,
    },
    /// The connection failed or was superseded.
    #[error("the connection is closing")]
    Closing,
}

/// One msgr2 connection, of either side. Pure: one core, no I/O.
#[derive(Debug)]
pub struct Connection {
    pub(super) config: Config,
    pub(super) side: Side,
    pub(super) state: State,
    pub(super) revision: Revision,
    pub(super) peer_kind: EntityKind,
    /// The session once it is known: from the start when connecting, from the answer when accepting.
    pub(super) session: Option<Session>,
    pub(super) transmit: Transmit,
    pub(super) events: VecDeque<Event>,
    /// The peer's newest sign of life that is not acknowledged. One, however many came: a peer that sends them and
    /// does not read must not cost memory.
    pub(super) keepalive: Option<UTime>,
    input: Input,
    long_data: LongData,
    assembler: Assembler,
    error: Option<ProtocolError>,
}

/// What differs between the sides.
#[derive(Debug)]
pub(super) enum Side {
    Accepting(Acceptor),
    Connecting(Connector),
}

/// What the connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Banner,
    Hello,
    /// Accepting: AUTH_REQUEST. Connecting: the answer to it.
    Auth,
    /// Accepting: the shell assigns an id.
    ShellGlobalId,
    /// AUTH_SIGNATURE.
    Signature,
    /// Accepting: CLIENT_IDENT or SESSION_RECONNECT.
    Ident,
    /// Accepting: the shell answers the request.
    ShellSession,
    /// Connecting: the answer to CLIENT_IDENT.
    ServerIdent,
    /// Connecting: the answer to SESSION_RECONNECT.
    ReconnectAnswer,
    /// Messages flow.
    Ready,
    /// Nothing more; the socket is to be closed.
    Closing,
}

impl State {
    fn describe(self) -> &'static str {
        match self {
            Self::Banner => "waiting for the banner",
            Self::Hello => "waiting for HELLO",
            Self::Auth => "authenticating",
            Self::ShellGlobalId => "waiting for an id",
            Self::Signature => "waiting for AUTH_SIGNATURE",
            Self::Ident => "waiting for CLIENT_IDENT or SESSION_RECONNECT",
            Self::ShellSession => "waiting for a session",
            Self::ServerIdent => "waiting for SERVER_IDENT",
            Self::ReconnectAnswer => "waiting for an answer to SESSION_RECONNECT",
            Self::Ready => "exchanging messages",
            Self::Closing => "closing",
        }
    }

    fn expects(self, tag: Tag, accepting: bool) -> bool {
        match self {
            Self::Hello => tag == Tag::HELLO,
            Self::Auth if accepting => tag == Tag::AUTH_REQUEST,
            Self::Auth => matches!(tag, Tag::AUTH_DONE | Tag::AUTH_BAD_METHOD),
            Self::Signature => tag == Tag::AUTH_SIGNATURE,
            Self::Ident => matches!(tag, Tag::CLIENT_IDENT | Tag::SESSION_RECONNECT),
            Self::ServerIdent => matches!(tag, Tag::SERVER_IDENT | Tag::IDENT_MISSING_FEATURES | Tag::WAIT),
            Self::ReconnectAnswer => matches!(
                tag,
                Tag::SESSION_RECONNECT_OK
                    | Tag::SESSION_RESET
                    | Tag::SESSION_RETRY
                    | Tag::SESSION_RETRY_GLOBAL
                    | Tag::WAIT
            ),
            Self::Ready => matches!(tag, Tag::MESSAGE | Tag::ACK | Tag::KEEPALIVE2 | Tag::KEEPALIVE2_ACK),
            Self::Banner | Self::ShellGlobalId | Self::ShellSession | Self::Closing => false,
        }
    }

    fn waits_for_shell(self) -> bool {
        matches!(self, Self::ShellGlobalId | Self::ShellSession)
    }
}

impl Connection {
    /// The accepting side of a fresh socket. With `assigns_global_ids` (a monitor) a client that has no id
    /// gets one through [`Event::NeedGlobalId`]; others believe the id claimed.
    pub fn accept(config: Config, assigns_global_ids: bool) -> Self {
        Self::new(config, Side::Accepting(Acceptor::new(assigns_global_ids)), None)
    }

    /// The connecting side: calls `target`, a daemon of kind `peer_kind`. `session` is fresh, or what is
    /// left of an earlier connection to the same daemon.
    pub fn connect(
        config: Config,
        target: Addr,
        peer_kind: EntityKind,
        claim: Claim,
        mut session: Session,
    ) -> Self {
        if session.server_cookie != 0 {
            session.connect_seq += 1;
        }
        Self::new(config, Side::Connecting(Connector::new(target, peer_kind, claim)), Some(session))
    }

    fn new(config: Config, side: Side, session: Option<Session>) -> Self {
        let mut transmit = Transmit::default();
        transmit.copy(&banner::encode(banner_features(&config)));
        Self {
            config,
            side,
            state: State::Banner,
            revision: Revision::V20,
            peer_kind: EntityKind::NONE,
            session,
            transmit,
            events: VecDeque::new(),
            keepalive: None,
            input: Input::default(),
            long_data: LongData::default(),
            assembler: Assembler::new(Revision::V20, LongData::default()),
            error: None,
        }
    }

    /// The same, but what becomes of messages with too much data is this.
    #[must_use]
    pub fn with_long_data(self, long_data: LongData) -> Self {
        assert!(self.state == State::Banner, "invariant: it is said before anything came");
        Self { long_data, ..self }
    }

    /// Takes bytes read from the socket. An error is final: what is left to transmit should still be
    /// written, then the socket closed.
    pub fn feed(&mut self, chunk: Bytes) -> Result<(), ProtocolError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.input.push(chunk);
        self.advance()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Everything to be written now, in order; empty when there is nothing. Large payloads are the very
    /// buffers given to [`Connection::send`].
    pub fn poll_transmit(&mut self) -> Vec<Bytes> {
        if self.state == State::Ready {
            self.acknowledge_keepalive();
            self.transmit_queued();
        }
        self.transmit.take()
    }

    /// Queues a message; it goes out once the handshake is over. On a lossless session it is kept until
    /// acknowledged.
    pub fn send(&mut self, message: Message) -> Result<(), SendError> {
        let Some(session) = self.session.as_mut().filter(|_| self.state != State::Closing) else {
            return Err(SendError::Closing);
        };
        if !frame::fits(&message) {
            return Err(SendError::TooLong { front: message.front.len(), data: message.data.len() });
        }
        let messages = session.pending_messages();
        let bytes = session.pending_bytes() + self.transmit.len();
        if messages >= QUEUED_MESSAGES_MAX || bytes + session::size(&message) > QUEUED_BYTES_MAX {
            return Err(SendError::QueueFull { messages, bytes });
        }
        session.queue(message);
        Ok(())
    }

    /// Whether messages flow.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether the socket is to be closed once everything is written.
    pub fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    /// Memory held for bytes that came and were not handed out as a message yet.
    pub fn buffered_bytes(&self) -> usize {
        self.input.len() + self.assembler.buffered_bytes()
    }

    /// What the connection is doing, for logs.
    pub fn state_text(&self) -> &'static str {
        self.state.describe()
    }

    /// Own addresses; a client's are known after the peer's HELLO.
    pub fn own_addrs(&self) -> &AddrVec {
        &self.config.addrs
    }

    /// The connecting side's cluster-wide id, once authentication is over.
    pub fn global_id(&self) -> Option<u64> {
        match &self.side {
            Side::Accepting(acceptor) => acceptor.global_id(),
            Side::Connecting(connector) => connector.global_id(),
        }
    }

    /// The session, while the connection holds it.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Ends the connection and keeps its session; `None` when it is lossy or there is none.
    pub fn into_session(self) -> Option<Session> {
        self.session.filter(|session| !session.is_lossy())
    }

    /// Ends the connection because of what the shell said.
    pub(super) fn fail(&mut self, error: ProtocolError) -> Result<(), ProtocolError> {
        self.error = Some(error.clone());
        self.state = State::Closing;
        // What came of a frame is not kept until the peer has taken the rest of what is sent.
        self.assembler = Assembler::new(self.revision, self.long_data);
        Err(error)
    }

    /// Works on what is in the input until more is needed or the shell must answer.
    pub(super) fn advance(&mut self) -> Result<(), ProtocolError> {
        self.try_advance().or_else(|error| self.fail(error))
    }

    fn try_advance(&mut self) -> Result<(), ProtocolError> {
        if self.state == State::Banner {
            match banner::decode(&mut self.input, banner_features(&self.config))? {
                None => return Ok(()),
                Some(revision) => self.banner_done(revision),
            }
        }
        while !self.state.waits_for_shell() && self.state != State::Closing {
            let (state, accepting) = (self.state, matches!(self.side, Side::Accepting(_)));
            let frame = self.assembler.poll(&mut self.input, |preamble| {
                if state.expects(preamble.tag, accepting) {
                    return Ok(());
                }
                Err(ProtocolError::UnexpectedTag { tag: preamble.tag, state: state.describe() })
            })?;
            match frame {
                None => return Ok(()),
                Some(frame) => self.handle(frame)?,
            }
        }
        let got = self.input.len();
        if got > HANDSHAKE_INPUT_BYTES_MAX && self.state != State::Closing {
            return Err(ProtocolError::HandshakeFlood { got, limit: HANDSHAKE_INPUT_BYTES_MAX });
        }
        Ok(())
    }

    fn banner_done(&mut self, revision: Revision) {
        self.revision = revision;
        self.assembler = Assembler::new(revision, self.long_data);
        self.state = State::Hello;
        let peer_addr = Addr { kind: AddrKind::MSGR2, nonce: 0, socket: self.config.peer_socket.into() };
        self.transmit_control(&Hello { kind: self.config.kind, peer_addr });
    }

    fn handle(&mut self, frame: Frame) -> Result<(), ProtocolError> {
        if self.state == State::Ready {
            return self.handle_traffic(frame);
        }
        let [segment, ..] = frame.segments;
        match (&self.side, frame.tag) {
            (Side::Accepting(_), Tag::HELLO) => {
                self.peer_kind = Hello::from_segment(segment)?.kind;
                self.state = State::Auth;
                Ok(())
            }
            (Side::Accepting(_), tag) => self.accept_step(tag, segment),
            (Side::Connecting(_), tag) => self.connect_step(tag, segment),
        }
    }

    pub(super) fn transmit_control<C: Control>(&mut self, control: &C) {
        self.transmit.control(self.revision, C::TAG, &control.to_segment());
    }
}

fn banner_features(config: &Config) -> u64 {
    if config.revision_21 { FEATURE_REVISION_21 } else { 0 }
}
