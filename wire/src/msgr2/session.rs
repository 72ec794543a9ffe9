//! What outlives a connection: sequence numbers, cookies, messages not yet acknowledged.
//!
//! Invariant: of a lossless session, every message is in exactly one of `queued` (no number yet) and `sent`
//! (numbered, not acknowledged) until the peer acknowledges it or the session is reset.

use std::collections::VecDeque;

use crate::msgr2::Message;
use crate::types::AddrVec;

/// The state of one session. A value: move it out of a dead [`crate::msgr2::Connection`] and into its
/// successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// No acknowledgement and no replay; ends with its connection.
    pub(crate) lossy: bool,
    /// The peer's addresses; empty until known.
    pub(crate) peer_addrs: AddrVec,
    /// Cookie of the connecting side.
    pub(crate) client_cookie: u64,
    /// Cookie of the accepting side; 0 until its IDENT.
    pub(crate) server_cookie: u64,
    /// Highest global_seq seen of the peer.
    pub(crate) peer_global_seq: u64,
    /// Number of reconnects.
    pub(crate) connect_seq: u64,
    /// Last message received.
    pub(crate) in_seq: u64,
    /// What the peer was last told of `in_seq`.
    pub(crate) acked_in_seq: u64,
    /// Last number given.
    pub(crate) out_seq: u64,
    /// Not sent on any connection, in order.
    pub(crate) queued: VecDeque<Message>,
    /// Sent and not acknowledged, with their numbers, ascending. Empty when lossy.
    pub(crate) sent: VecDeque<(u64, Message)>,
    /// Bytes of fronts and data in `queued` and `sent`.
    pub(crate) bytes: usize,
}

impl Session {
    /// A session that ends with its connection.
    pub fn lossy() -> Self {
        Self::new(true, 0)
    }

    /// A session that survives its connections. `client_cookie` is not 0 and differs from that of any other
    /// life of the same process and peer; on the accepting side it is the peer's.
    pub fn lossless(client_cookie: u64) -> Self {
        assert!(client_cookie != 0, "invariant: a lossless session has a cookie");
        Self::new(false, client_cookie)
    }

    pub(crate) fn new(lossy: bool, client_cookie: u64) -> Self {
        Self {
            lossy,
            peer_addrs: AddrVec::default(),
            client_cookie,
            server_cookie: 0,
            peer_global_seq: 0,
            connect_seq: 0,
            in_seq: 0,
            acked_in_seq: 0,
            out_seq: 0,
            queued: VecDeque::new(),
            sent: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether the session ends with its connection.
    pub fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// The peer's addresses; empty until a handshake went through.
    pub fn peer_addrs(&self) -> &AddrVec {
        &self.peer_addrs
    }

    /// Messages that wait to be sent or acknowledged.
    pub fn pending_messages(&self) -> usize {
        self.queued.len() + self.sent.len()
    }

    /// Their bytes.
    pub fn pending_bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn queue(&mut self, message: Message) {
        self.bytes += size(&message);
        self.queued.push_back(message);
    }

    /// Numbers the next message and keeps it if it must be acknowledged.
    pub(crate) fn next_to_send(&mut self) -> Option<(u64, Message)> {
        let message = self.queued.pop_front()?;
        self.out_seq += 1;
        if self.lossy {
            self.bytes -= size(&message);
        } else {
            self.sent.push_back((self.out_seq, message.clone()));
        }
        Some((self.out_seq, message))
    }

    /// The peer has everything up to `seq`.
    pub(crate) fn acknowledged(&mut self, seq: u64) {
        while self.sent.front().is_some_and(|(first, _)| *first <= seq) {
            if let Some((_, message)) = self.sent.pop_front() {
                self.bytes -= size(&message);
            }
        }
    }

    /// A message came; false if it is a repetition.
    pub(crate) fn received(&mut self, seq: u64) -> bool {
        let new = seq > self.in_seq;
        if new {
            //= ceph 16.2 msgr2: a gap is tolerated
            self.in_seq = seq;
        }
        new
    }

    /// The peer knows nothing of the session: forget everything, start a new life with `client_cookie`.
    pub(crate) fn reset_fully(&mut self, client_cookie: u64) {
        let peer_addrs = std::mem::take(&mut self.peer_addrs);
        let peer_global_seq = self.peer_global_seq;
        *self = Self { peer_addrs, peer_global_seq, ..Self::new(self.lossy, client_cookie) };
    }

    /// The accepting side decided that the session ends with its connection.
    pub(crate) fn become_lossy(&mut self) {
        self.lossy = true;
        self.server_cookie = 0;
        self.acknowledged(u64::MAX);
    }

    /// The accepting side lost its part only: what we sent is sent again, with its old numbers.
    pub(crate) fn reset_server_side(&mut self) {
        self.server_cookie = 0;
        self.connect_seq = 0;
        self.in_seq = 0;
        self.acked_in_seq = 0;
    }
}

/// What a message counts against limits.
pub(crate) fn size(message: &Message) -> usize {
    message.front.len() + message.middle.len() + message.data.len()
}
