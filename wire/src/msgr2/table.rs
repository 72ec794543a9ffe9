//! Where an accepting daemon finds the session of a peer that comes back.
//!
//! Invariant: per set of peer addresses there is at most one session, and it is in exactly one place: in a
//! live connection, or here.
//!
//! Deciding and taking over are one synchronous step of the shell, so the protocol's case "another connection
//! is just replacing this one" cannot occur.

use std::collections::BTreeMap;

use crate::limits::SESSIONS_DETACHED_MAX;
use crate::msgr2::{Answer, Session, SessionIntent, SessionRequest};
use crate::types::AddrVec;

/// The shell's number of a live connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// How a daemon treats peers of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerPolicy {
    /// Sessions end with their connection.
    pub lossy: bool,
    /// A peer that lost its side must forget everything (metadata servers, monitors), not only its queue's
    /// acknowledgements (OSDs among themselves).
    pub reset_check: bool,
    /// We never connect to such peers ourselves, so their connection always wins.
    pub server: bool,
}

impl PeerPolicy {
    /// Clients of monitors, OSDs and managers.
    pub const LOSSY_CLIENT: Self = Self { lossy: true, reset_check: false, server: true };
    /// OSDs among themselves.
    pub const LOSSLESS_PEER: Self = Self { lossy: false, reset_check: false, server: false };
    /// Clients of a metadata server.
    pub const LOSSLESS_CLIENT: Self = Self { lossy: false, reset_check: true, server: true };
}

/// What is to be done with a [`SessionRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Give this to [`super::Connection::answer`]; the table already counts the new connection as holder
    /// when it is an acceptance.
    Answer(Answer),
    /// The same, for a peer that restarted: what the old session had queued is gone, and the daemon must
    /// forget what it knew of the peer's old life.
    AnswerAfterReset(Answer),
    /// Close this older connection of the same peer, pass what is left of it to [`SessionTable::closed`],
    /// and ask again.
    CloseFirst(ConnectionId),
}

/// All sessions of one accepting daemon, by the peers' addresses.
#[derive(Debug, Default)]
pub struct SessionTable {
    entries: BTreeMap<AddrVec, Entry>,
    /// Detached entries by age.
    detached: BTreeMap<u64, AddrVec>,
    next_age: u64,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    facts: Facts,
}

#[derive(Debug)]
enum Place {
    Live(ConnectionId),
    Here { session: Box<Session>, age: u64 },
}

/// What decisions need of a session, wherever it is.
#[derive(Debug, Clone, Copy)]
struct Facts {
    lossy: bool,
    client_cookie: u64,
    server_cookie: u64,
    peer_global_seq: u64,
    connect_seq: u64,
}

impl Facts {
    fn of(session: &Session) -> Self {
        Self {
            lossy: session.lossy,
            client_cookie: session.client_cookie,
            server_cookie: session.server_cookie,
            peer_global_seq: session.peer_global_seq,
            connect_seq: session.connect_seq,
        }
    }
}

impl SessionTable {
    /// No sessions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sessions known, live and detached.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Decides about `request`, which came on connection `id`. `own` are our addresses, `fresh_cookie` a
    /// number that is not 0 and was not used before.
    pub fn decide(
        &mut self,
        id: ConnectionId,
        request: &SessionRequest,
        policy: PeerPolicy,
        own: &AddrVec,
        fresh_cookie: u64,
    ) -> Verdict {
        assert!(fresh_cookie != 0, "invariant: cookies are not 0");
        match request.intent {
            SessionIntent::Ident { client_cookie } => {
                self.decide_ident(id, request, client_cookie, policy, own, fresh_cookie)
            }
            SessionIntent::Reconnect { client_cookie, connect_seq, .. } => {
                self.decide_reconnect(id, request, client_cookie, connect_seq, policy, own)
            }
        }
    }

    /// We connect to that peer ourselves on connection `id`, which holds `session`: so that two daemons that
    /// call each other agree on one connection.
    pub fn connecting(&mut self, id: ConnectionId, peer: AddrVec, session: &Session) {
        self.insert(peer, Place::Live(id), Facts::of(session));
    }

    /// Connection `id` is closed; `session` is what [`super::Connection::into_session`] gave. Does nothing
    /// when another connection took over meanwhile.
    pub fn closed(&mut self, id: ConnectionId, peer: &AddrVec, session: Option<Session>) {
        let held = |entry: &Entry| matches!(entry.place, Place::Live(holder) if holder == id);
        if !self.entries.get(peer).is_some_and(held) {
            return;
        }
        match session {
            None => {
                self.entries.remove(peer);
            }
            Some(session) => {
                let age = self.next_age;
                self.next_age += 1;
                let facts = Facts::of(&session);
                self.insert(peer.clone(), Place::Here { session: Box::new(session), age }, facts);
                self.detached.insert(age, peer.clone());
                if self.detached.len() > SESSIONS_DETACHED_MAX
                    && let Some((_, oldest)) = self.detached.pop_first()
                {
                    self.entries.remove(&oldest);
                }
            }
        }
    }

    /// The peer is gone for good. A live connection must be closed by the shell.
    pub fn forget(&mut self, peer: &AddrVec) -> Option<Session> {
        self.take(peer)
    }

    /// Takes out a detached session, to connect to that peer with it.
    pub fn take_detached(&mut self, peer: &AddrVec) -> Option<Session> {
        match self.entries.get(peer)?.place {
            Place::Live(_) => None,
            Place::Here { .. } => self.take(peer),
        }
    }

    fn decide_ident(
        &mut self,
        id: ConnectionId,
        request: &SessionRequest,
        client_cookie: u64,
        policy: PeerPolicy,
        own: &AddrVec,
        fresh_cookie: u64,
    ) -> Verdict {
        let peer = &request.peer.addrs;
        let Some(entry) = self.entries.get(peer) else {
            return Verdict::Answer(self.accept_new(id, request, client_cookie, policy, fresh_cookie));
        };
        let facts = entry.facts;
        if facts.peer_global_seq > request.global_seq {
            return Verdict::Answer(Answer::Stale { current: facts.peer_global_seq });
        }
        let both_connecting = facts.server_cookie == 0 && facts.client_cookie != client_cookie;
        if !facts.lossy && both_connecting && !policy.server && first_wins(own, peer) {
            // Both sides called each other for the first time; one of the calls must yield.
            return Verdict::Answer(Answer::Wait);
        }
        if let Place::Live(old) = entry.place {
            return Verdict::CloseFirst(old);
        }
        match self.take(peer) {
            Some(mut session) if !facts.lossy && client_cookie != 0 && !policy.lossy => {
                let restarted = session.client_cookie != client_cookie;
                if restarted && session.server_cookie != 0 {
                    session.reset_fully(client_cookie);
                }
                session.client_cookie = client_cookie;
                if session.server_cookie == 0 {
                    session.server_cookie = fresh_cookie;
                }
                let answer = self.accept(id, request, session);
                if restarted && !both_connecting {
                    Verdict::AnswerAfterReset(answer)
                } else {
                    Verdict::Answer(answer)
                }
            }
            _ => Verdict::Answer(self.accept_new(id, request, client_cookie, policy, fresh_cookie)),
        }
    }

    fn decide_reconnect(
        &mut self,
        id: ConnectionId,
        request: &SessionRequest,
        client_cookie: u64,
        connect_seq: u64,
        policy: PeerPolicy,
        own: &AddrVec,
    ) -> Verdict {
        let peer = &request.peer.addrs;
        //= ceph 16.2 msgr2: the first situation that applies gives the answer
        let Some(entry) = self.entries.get(peer).filter(|entry| !entry.facts.lossy) else {
            return Verdict::Answer(Answer::Reset { full: true });
        };
        let facts = entry.facts;
        if facts.client_cookie != client_cookie {
            return Verdict::Answer(Answer::Reset { full: policy.reset_check });
        }
        if facts.server_cookie == 0 {
            return Verdict::Answer(Answer::Reset { full: false });
        }
        if facts.peer_global_seq > request.global_seq {
            return Verdict::Answer(Answer::RetryGlobal { global_seq: facts.peer_global_seq });
        }
        if facts.connect_seq > connect_seq {
            return Verdict::Answer(Answer::Retry { connect_seq: facts.connect_seq });
        }
        if facts.connect_seq == connect_seq && !policy.server && first_wins(own, peer) {
            return Verdict::Answer(Answer::Wait);
        }
        if let Place::Live(old) = entry.place {
            return Verdict::CloseFirst(old);
        }
        match self.take(peer) {
            Some(session) => Verdict::Answer(self.accept(id, request, session)),
            None => Verdict::Answer(Answer::Reset { full: true }),
        }
    }

    fn accept_new(
        &mut self,
        id: ConnectionId,
        request: &SessionRequest,
        client_cookie: u64,
        policy: PeerPolicy,
        fresh_cookie: u64,
    ) -> Answer {
        // A lossless session needs the peer's cookie; a peer that gave none wanted a lossy one.
        let lossy = policy.lossy || client_cookie == 0;
        let mut session = Session::new(lossy, if lossy { 0 } else { client_cookie });
        session.server_cookie = if lossy { 0 } else { fresh_cookie };
        self.accept(id, request, session)
    }

    fn accept(&mut self, id: ConnectionId, request: &SessionRequest, mut session: Session) -> Answer {
        session.peer_global_seq = session.peer_global_seq.max(request.global_seq);
        if let SessionIntent::Reconnect { connect_seq, .. } = request.intent {
            session.connect_seq = connect_seq;
        }
        self.insert(request.peer.addrs.clone(), Place::Live(id), Facts::of(&session));
        Answer::Accept(Box::new(session))
    }

    fn insert(&mut self, peer: AddrVec, place: Place, facts: Facts) {
        if let Some(Entry { place: Place::Here { age, .. }, .. }) =
            self.entries.insert(peer, Entry { place, facts })
        {
            self.detached.remove(&age);
        }
    }

    fn take(&mut self, peer: &AddrVec) -> Option<Session> {
        match self.entries.remove(peer)?.place {
            Place::Live(_) => None,
            Place::Here { session, age } => {
                self.detached.remove(&age);
                Some(*session)
            }
        }
    }
}

/// When both sides call each other, the call of the side with the lower address survives; true when that is
/// ours.
fn first_wins(own: &AddrVec, peer: &AddrVec) -> bool {
    own.0.first() < peer.0.first()
}
