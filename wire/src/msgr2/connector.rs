//! The connecting side of the handshake.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::limits::SESSION_RETRIES_MAX;
use crate::msgr2::auth::{self, Claim, MODE_CRC};
use crate::msgr2::connection::{Side, State};
use crate::msgr2::control::{
    AuthBadMethod, AuthDone, AuthSignature, ClientIdent, Control, FLAG_LOSSY, Hello, IdentMissingFeatures,
    ServerIdent, SessionReconnect, SessionReconnectOk, SessionReset, SessionRetry, SessionRetryGlobal,
    Signature,
};
use crate::msgr2::{Connection, Event, Peer, ProtocolError, Session, Tag};
use crate::types::{Addr, AddrVec, EntityKind, Features};

/// What the connecting side wants, and learned so far.
#[derive(Debug)]
pub(super) struct Connector {
    target: Addr,
    peer_kind: EntityKind,
    claim: Claim,
    global_id: Option<u64>,
    retries: usize,
}

impl Connector {
    pub(super) fn new(target: Addr, peer_kind: EntityKind, claim: Claim) -> Self {
        Self { target, peer_kind, claim, global_id: None, retries: 0 }
    }

    pub(super) fn global_id(&self) -> Option<u64> {
        self.global_id
    }
}

impl Connection {
    pub(super) fn connect_step(&mut self, tag: Tag, segment: Bytes) -> Result<(), ProtocolError> {
        match tag {
            Tag::HELLO => self.connect_hello(Hello::from_segment(segment)?),
            Tag::AUTH_BAD_METHOD => {
                let refused = AuthBadMethod::from_segment(segment)?;
                let reason = format!(
                    "peer allows methods {:?} in modes {:?}, only method 1 (none) in mode 1 (crc) is offered",
                    refused.allowed_methods, refused.allowed_modes
                );
                Err(ProtocolError::Auth { reason })
            }
            Tag::AUTH_DONE => self.connect_auth_done(AuthDone::from_segment(segment)?),
            Tag::AUTH_SIGNATURE => {
                if AuthSignature::from_segment(segment)?.signature != Signature::default() {
                    return Err(ProtocolError::Signature);
                }
                let resumes = self.own_session().server_cookie != 0;
                if resumes {
                    self.send_reconnect();
                } else {
                    self.send_ident();
                }
                Ok(())
            }
            Tag::SERVER_IDENT => self.connect_ident(ServerIdent::from_segment(segment)?),
            Tag::IDENT_MISSING_FEATURES => {
                let missing = IdentMissingFeatures::from_segment(segment)?.missing;
                Err(ProtocolError::FeaturesUnsupported { missing })
            }
            Tag::SESSION_RESET => {
                self.connect_reset(SessionReset::from_segment(segment)?.full);
                Ok(())
            }
            Tag::SESSION_RETRY => {
                let theirs = SessionRetry::from_segment(segment)?.connect_seq;
                self.own_session().connect_seq = theirs.saturating_add(1);
                self.retry_reconnect()
            }
            Tag::SESSION_RETRY_GLOBAL => {
                let theirs = SessionRetryGlobal::from_segment(segment)?.global_seq;
                self.config.global_seq = self.config.global_seq.max(theirs.saturating_add(1));
                self.events.push_back(Event::GlobalSeqBehind(self.config.global_seq));
                self.retry_reconnect()
            }
            Tag::SESSION_RECONNECT_OK => {
                self.connect_resumed(SessionReconnectOk::from_segment(segment)?.message_seq);
                Ok(())
            }
            _ => {
                // WAIT: the peer's own connection will carry the session.
                self.state = State::Closing;
                self.events.push_back(Event::Wait);
                Ok(())
            }
        }
    }

    fn connect_hello(&mut self, hello: Hello) -> Result<(), ProtocolError> {
        let expected = self.connector().peer_kind;
        if hello.kind != expected {
            return Err(ProtocolError::PeerKind { got: hello.kind, expected });
        }
        self.peer_kind = hello.kind;
        if self.config.addrs.0.is_empty() {
            let Some(seen) = hello.peer_addr.socket_addr() else {
                return Err(ProtocolError::PeerAddress { addrs: hello.peer_addr.into() });
            };
            let own = Addr::any(SocketAddr::new(seen.ip(), 0), self.config.nonce);
            self.config.addrs = own.into();
        }
        let request = auth::request(&self.connector().claim, expected);
        self.transmit_control(&request);
        self.state = State::Auth;
        Ok(())
    }

    fn connect_auth_done(&mut self, done: AuthDone) -> Result<(), ProtocolError> {
        if done.mode != MODE_CRC {
            let reason = format!("peer chose connection mode {}, only 1 (crc) was offered", done.mode);
            return Err(ProtocolError::Auth { reason });
        }
        self.connector().global_id = Some(done.global_id);
        self.transmit_control(&AuthSignature { signature: Signature::default() });
        self.state = State::Signature;
        Ok(())
    }

    fn send_ident(&mut self) {
        let target = self.connector().target;
        let session = self.own_session();
        let (lossy, cookie) = (session.lossy, session.client_cookie);
        self.transmit_control(&ClientIdent {
            addrs: self.config.addrs.clone(),
            target,
            global_id: self.config.number,
            global_seq: self.config.global_seq,
            supported: self.config.supported,
            required: self.config.required,
            flags: if lossy { FLAG_LOSSY } else { 0 },
            cookie,
        });
        self.state = State::ServerIdent;
    }

    fn send_reconnect(&mut self) {
        let session = self.own_session();
        let (client_cookie, server_cookie) = (session.client_cookie, session.server_cookie);
        let (connect_seq, message_seq) = (session.connect_seq, session.in_seq);
        self.transmit_control(&SessionReconnect {
            addrs: self.config.addrs.clone(),
            client_cookie,
            server_cookie,
            global_seq: self.config.global_seq,
            connect_seq,
            message_seq,
        });
        self.state = State::ReconnectAnswer;
    }

    fn retry_reconnect(&mut self) -> Result<(), ProtocolError> {
        let connector = self.connector();
        connector.retries += 1;
        if connector.retries > SESSION_RETRIES_MAX {
            let reason = format!("session not resumed in {SESSION_RETRIES_MAX} attempts");
            return Err(ProtocolError::Auth { reason });
        }
        self.send_reconnect();
        Ok(())
    }

    fn connect_reset(&mut self, full: bool) {
        let session = self.own_session();
        if full {
            let cookie = session.client_cookie.wrapping_add(1).max(1);
            session.reset_fully(cookie);
            self.events.push_back(Event::SessionReset);
        } else {
            session.reset_server_side();
        }
        self.send_ident();
    }

    fn connect_ident(&mut self, ident: ServerIdent) -> Result<(), ProtocolError> {
        let target = self.connector().target;
        if !ident.addrs.contains(&target) {
            return Err(ProtocolError::WrongPeer { target, addrs: ident.addrs });
        }
        let missing = self.config.supported.missing(ident.required);
        if missing != Features::NONE {
            return Err(ProtocolError::FeaturesUnsupported { missing });
        }
        let missing = ident.supported.missing(self.config.required);
        if missing != Features::NONE {
            return Err(ProtocolError::PeerLacksFeatures { missing });
        }
        let session = self.own_session();
        if ident.flags & FLAG_LOSSY != 0 {
            session.become_lossy();
        } else if ident.cookie == 0 || session.client_cookie == 0 {
            // Without cookies nothing could be resumed: a lossless session must have both.
            let reason = "peer wants a lossless session without a cookie".into();
            return Err(ProtocolError::Auth { reason });
        } else {
            session.lossy = false;
            session.server_cookie = ident.cookie;
        }
        session.peer_addrs = ident.addrs.clone();
        session.peer_global_seq = ident.global_seq;
        self.connected(ident.addrs, ident.global_id, ident.supported, false);
        Ok(())
    }

    fn connect_resumed(&mut self, message_seq: u64) {
        let session = self.own_session();
        session.acknowledged(message_seq);
        session.acked_in_seq = session.in_seq;
        let addrs = session.peer_addrs.clone();
        self.connected(addrs, 0, Features::NONE, true);
    }

    fn connected(&mut self, addrs: AddrVec, number: i64, features: Features, resumed: bool) {
        let lossy = self.own_session().lossy;
        let global_id = self.connector().global_id.unwrap_or_default();
        let kind = self.peer_kind;
        self.retransmit();
        self.state = State::Ready;
        let peer = Peer { kind, name: None, number, global_id, addrs, features, lossy, resumed };
        self.events.push_back(Event::Connected(peer));
    }

    fn connector(&mut self) -> &mut Connector {
        match &mut self.side {
            Side::Connecting(connector) => connector,
            Side::Accepting(_) => panic!("invariant: only called on the connecting side"),
        }
    }

    fn own_session(&mut self) -> &mut Session {
        match self.session.as_mut() {
            Some(session) => session,
            None => panic!("invariant: the connecting side has its session from the start"),
        }
    }
}
