//! Which connections an OSD has, and which of them speaks for a client.
//!
//! Invariant: of one client, told by its addresses, at most one connection is past its handshake. Lives on one core.

use std::rc::Rc;

use wire::msgr2::{ConnectionId, PeerPolicy, SessionRequest, Verdict};
use wire::types::AddrVec;

use crate::osd::Osd;
use crate::session::Session;

impl Osd {
    /// A number for a new connection.
    pub fn connection_id(&self) -> ConnectionId {
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        ConnectionId(id)
    }

    /// Connections in all, and those whose handshake is not over.
    pub fn connection_counts(&self) -> (usize, usize) {
        (self.sessions.borrow().len(), self.half_open.get())
    }

    /// All connections.
    pub fn all_sessions(&self) -> Vec<Rc<Session>> {
        self.sessions.borrow().values().cloned().collect()
    }

    /// A connection was accepted.
    pub fn session_opened(&self, session: &Rc<Session>) {
        self.sessions.borrow_mut().insert(session.id, session.clone());
        self.half_open.set(self.half_open.get() + 1);
    }

    /// Its handshake is over.
    pub fn session_ready(&self, _session: &Session) {
        self.half_open.set(self.half_open.get() - 1);
    }

    /// It is closed.
    pub fn session_closed(&self, session: &Session) {
        if self.sessions.borrow_mut().remove(&session.id).is_none() {
            return;
        }
        let addrs = session.peer_addrs();
        if addrs.0.is_empty() {
            self.half_open.set(self.half_open.get() - 1);
        }
        self.table.borrow_mut().closed(session.id, &addrs, None);
    }

    /// What to answer to a peer that wants a session.
    pub fn decide_session(&self, id: ConnectionId, request: &SessionRequest, policy: PeerPolicy) -> Verdict {
        let cookie = self.core.random_u64().max(1);
        self.table.borrow_mut().decide(id, request, policy, &self.addrs, cookie)
    }

    /// Closes the older connection of a peer that comes anew.
    pub fn close_session(&self, id: ConnectionId, addrs: &AddrVec) {
        if let Some(session) = self.sessions.borrow().get(&id) {
            session.link.close();
        }
        self.table.borrow_mut().closed(id, addrs, None);
    }

    /// Closes all of them.
    pub fn close_all_sessions(&self) {
        for session in self.all_sessions() {
            session.link.close();
        }
    }
}
