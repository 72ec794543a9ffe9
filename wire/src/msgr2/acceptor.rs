//! The accepting side of the handshake.

use bytes::Bytes;

use crate::limits::{AUTH_ATTEMPTS_MAX, SESSION_RETRIES_MAX};
use crate::msgr2::auth::{self, METHOD_NONE, METHOD_REFUSED, MODE_CRC};
use crate::msgr2::connection::{Side, State};
use crate::msgr2::control::{
    AuthBadMethod, AuthDone, AuthRequest, AuthSignature, ClientIdent, Control, FLAG_LOSSY,
    IdentMissingFeatures, ServerIdent, SessionReconnect, SessionReconnectOk, SessionReset, SessionRetry,
    SessionRetryGlobal, Signature, Wait,
};
use crate::msgr2::{Answer, Connection, Event, Peer, ProtocolError, SessionIntent, SessionRequest, Tag};
use crate::types::{AddrVec, AuthName, Features};

/// What the accepting side knows of its peer so far.
#[derive(Debug)]
pub(super) struct Acceptor {
    assigns_global_ids: bool,
    auth_attempts: usize,
    /// Answers other than acceptance; a peer that never settles is dropped.
    session_attempts: usize,
    name: Option<AuthName>,
    global_id: Option<u64>,
    /// The request that the shell is to answer.
    request: Option<SessionRequest>,
}

impl Acceptor {
    pub(super) fn new(assigns_global_ids: bool) -> Self {
        Self {
            assigns_global_ids,
            auth_attempts: 0,
            session_attempts: 0,
            name: None,
            global_id: None,
            request: None,
        }
    }

    pub(super) fn global_id(&self) -> Option<u64> {
        self.global_id
    }
}

impl Connection {
    /// Answers [`Event::NeedGlobalId`]. Panics if nobody asked.
    pub fn assign_global_id(&mut self, global_id: u64) -> Result<(), ProtocolError> {
        assert!(self.state == State::ShellGlobalId, "invariant: an id is assigned when one was asked for");
        self.auth_done(global_id);
        self.advance()
    }

    /// Answers [`Event::NeedSession`]. Panics if nobody asked, or if the session does not fit the request.
    pub fn answer(&mut self, answer: Answer) -> Result<(), ProtocolError> {
        assert!(self.state == State::ShellSession, "invariant: a session is given when one was asked for");
        let request = match &mut self.side {
            Side::Accepting(acceptor) => acceptor.request.take(),
            Side::Connecting(_) => None,
        };
        let Some(request) = request else {
            panic!("invariant: the state says that a request waits");
        };
        self.state = State::Ident;
        match answer {
            Answer::Accept(session) => self.accept_session(request, *session),
            Answer::Reset { full } => self.transmit_control(&SessionReset { full }),
            Answer::Retry { connect_seq } => self.transmit_control(&SessionRetry { connect_seq }),
            Answer::RetryGlobal { global_seq } => self.transmit_control(&SessionRetryGlobal { global_seq }),
            Answer::Wait => {
                self.transmit_control(&Wait {});
                self.state = State::Closing;
            }
            Answer::Stale { current } => {
                return self.fail(ProtocolError::Stale { got: request.global_seq, current });
            }
        }
        self.advance()
    }

    pub(super) fn accept_step(&mut self, tag: Tag, segment: Bytes) -> Result<(), ProtocolError> {
        match tag {
            Tag::AUTH_REQUEST => self.accept_auth(AuthRequest::from_segment(segment)?),
            Tag::AUTH_SIGNATURE => {
                if AuthSignature::from_segment(segment)?.signature != Signature::default() {
                    return Err(ProtocolError::Signature);
                }
                self.state = State::Ident;
                Ok(())
            }
            Tag::CLIENT_IDENT => self.accept_ident(ClientIdent::from_segment(segment)?),
            _ => self.accept_reconnect(SessionReconnect::from_segment(segment)?),
        }
    }

    fn accept_auth(&mut self, request: AuthRequest) -> Result<(), ProtocolError> {
        let acceptor = self.acceptor();
        acceptor.auth_attempts += 1;
        if acceptor.auth_attempts > AUTH_ATTEMPTS_MAX {
            let reason = format!("no acceptable method in {AUTH_ATTEMPTS_MAX} attempts");
            return Err(ProtocolError::Auth { reason });
        }
        if request.method != METHOD_NONE || !request.modes.contains(&MODE_CRC) {
            // The client tries again with a method that both allow, on this connection.
            self.transmit_control(&AuthBadMethod {
                method: request.method,
                result: METHOD_REFUSED,
                allowed_methods: vec![METHOD_NONE],
                allowed_modes: vec![MODE_CRC],
            });
            return Ok(());
        }
        let claim = auth::claim(request.payload)?;
        let must_assign = acceptor.assigns_global_ids && claim.global_id == 0;
        acceptor.name = Some(claim.name.clone());
        if must_assign {
            self.state = State::ShellGlobalId;
            self.events.push_back(Event::NeedGlobalId { name: claim.name });
        } else {
            self.auth_done(claim.global_id);
        }
        Ok(())
    }

    fn auth_done(&mut self, global_id: u64) {
        self.acceptor().global_id = Some(global_id);
        self.transmit_control(&AuthDone { global_id, mode: MODE_CRC, payload: Bytes::new() });
        self.transmit_control(&AuthSignature { signature: Signature::default() });
        self.state = State::Signature;
    }

    fn accept_ident(&mut self, ident: ClientIdent) -> Result<(), ProtocolError> {
        //= ceph 16.2 msgr2: the checks of CLIENT_IDENT and their order
        check_peer_addrs(&ident.addrs)?;
        if !self.config.addrs.contains(&ident.target) {
            let own = self.config.addrs.clone();
            return Err(ProtocolError::WrongTarget { target: ident.target, own });
        }
        let missing = ident.supported.missing(self.config.required);
        if missing != Features::NONE {
            self.transmit_control(&IdentMissingFeatures { missing });
            return Err(ProtocolError::PeerLacksFeatures { missing });
        }
        let missing = self.config.supported.missing(ident.required);
        if missing != Features::NONE {
            return Err(ProtocolError::FeaturesUnsupported { missing });
        }
        let mut peer = self.accepted_peer(ident.addrs);
        peer.number = ident.global_id;
        peer.features = ident.supported;
        peer.lossy = ident.flags & FLAG_LOSSY != 0;
        let intent = SessionIntent::Ident { client_cookie: ident.cookie };
        self.ask_shell(SessionRequest { peer, global_seq: ident.global_seq, intent })
    }

    fn accept_reconnect(&mut self, reconnect: SessionReconnect) -> Result<(), ProtocolError> {
        check_peer_addrs(&reconnect.addrs)?;
        let mut peer = self.accepted_peer(reconnect.addrs);
        peer.resumed = true;
        let intent = SessionIntent::Reconnect {
            client_cookie: reconnect.client_cookie,
            server_cookie: reconnect.server_cookie,
            connect_seq: reconnect.connect_seq,
            message_seq: reconnect.message_seq,
        };
        self.ask_shell(SessionRequest { peer, global_seq: reconnect.global_seq, intent })
    }

    fn ask_shell(&mut self, request: SessionRequest) -> Result<(), ProtocolError> {
        let acceptor = self.acceptor();
        acceptor.session_attempts += 1;
        if acceptor.session_attempts > SESSION_RETRIES_MAX {
            let reason = format!("no session in {SESSION_RETRIES_MAX} attempts");
            return Err(ProtocolError::Auth { reason });
        }
        acceptor.request = Some(request.clone());
        self.state = State::ShellSession;
        self.events.push_back(Event::NeedSession(request));
        Ok(())
    }

    fn accept_session(&mut self, request: SessionRequest, mut session: crate::msgr2::Session) {
        let mut peer = request.peer;
        session.peer_addrs = peer.addrs.clone();
        session.peer_global_seq = session.peer_global_seq.max(request.global_seq);
        match request.intent {
            SessionIntent::Ident { client_cookie } => {
                assert!(
                    session.lossy || (session.client_cookie == client_cookie && session.server_cookie != 0),
                    "invariant: an accepted lossless session has both cookies"
                );
                peer.resumed = session.in_seq != 0 || session.out_seq != 0;
                self.transmit_control(&ServerIdent {
                    addrs: self.config.addrs.clone(),
                    global_id: self.config.number,
                    global_seq: self.config.global_seq,
                    supported: self.config.supported,
                    required: self.config.required,
                    flags: if session.lossy { FLAG_LOSSY } else { 0 },
                    cookie: if session.lossy { 0 } else { session.server_cookie },
                });
            }
            SessionIntent::Reconnect { connect_seq, message_seq, .. } => {
                assert!(!session.lossy, "invariant: lossy sessions are not resumed");
                session.connect_seq = connect_seq;
                session.acknowledged(message_seq);
                session.acked_in_seq = session.in_seq;
                self.transmit_control(&SessionReconnectOk { message_seq: session.in_seq });
            }
        }
        peer.lossy = session.lossy;
        self.session = Some(session);
        self.retransmit();
        self.state = State::Ready;
        self.events.push_back(Event::Connected(peer));
    }

    fn accepted_peer(&mut self, addrs: AddrVec) -> Peer {
        let kind = self.peer_kind;
        let acceptor = self.acceptor();
        Peer {
            kind,
            name: acceptor.name.clone(),
            number: 0,
            global_id: acceptor.global_id.unwrap_or_default(),
            addrs,
            features: Features::NONE,
            lossy: false,
            resumed: false,
        }
    }

    fn acceptor(&mut self) -> &mut Acceptor {
        match &mut self.side {
            Side::Accepting(acceptor) => acceptor,
            Side::Connecting(_) => panic!("invariant: only called on the accepting side"),
        }
    }
}

/// A peer must name at least one address, and the first must be set: sessions are found by it.
fn check_peer_addrs(addrs: &AddrVec) -> Result<(), ProtocolError> {
    match addrs.0.first() {
        Some(first) if !first.is_unset() => Ok(()),
        _ => Err(ProtocolError::PeerAddress { addrs: addrs.clone() }),
    }
}
