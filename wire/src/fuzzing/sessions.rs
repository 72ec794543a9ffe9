//! A lossless session under faults: whatever is cut, delayed or left half open, every message arrives once and
//! in order, and in the end nothing waits for an acknowledgement.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::msgr2::auth::Claim;
use crate::msgr2::{
    Config, Connection, ConnectionId, Data, Event, Message, MessageHeader, PeerPolicy, Session, SessionTable,
    Verdict,
};
use crate::types::{Addr, AddrKind, AddrVec, AuthName, EntityKind, Features, SocketBytes};

const STEPS_MAX: usize = 300;

/// Interprets the input as steps: send, deliver a part, cut, reconnect.
pub fn lossless_session(input: &[u8]) {
    let mut world = World::new();
    for step in input.iter().take(STEPS_MAX) {
        world.step(*step);
    }
    world.settle();
    world.check();
}

fn address(port: u16, nonce: u32) -> Addr {
    let socket = SocketBytes::from(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    Addr { kind: AddrKind::MSGR2, nonce, socket }
}

fn config(kind: EntityKind, addr: Addr, global_seq: u64) -> Config {
    Config {
        kind,
        number: 1,
        addrs: addr.into(),
        nonce: 1,
        supported: Features::PACIFIC,
        required: Features::MSG_ADDR2,
        revision_21: !global_seq.is_multiple_of(3),
        global_seq,
        peer_socket: std::net::SocketAddr::from(([127, 0, 0, 1], 1)),
    }
}

fn message(number: usize) -> Message {
    let header = MessageHeader {
        tid: number as u64,
        kind: 1,
        priority: 1,
        version: 1,
        compat_version: 1,
        data_offset: 0,
    };
    let data = Data::from(vec![1; (number * 37) % 700]);
    Message { header, front: Bytes::new(), middle: Bytes::new(), data }
}

struct World {
    server_addr: Addr,
    client_addr: Addr,
    /// The caller's connection, or what is left of it.
    caller: Result<Connection, Session>,
    /// Bytes on their way, of the caller's current connection.
    to_server: Vec<u8>,
    to_caller: Vec<u8>,
    /// Of the listener: all connections that it has not seen die.
    live: BTreeMap<ConnectionId, (Connection, AddrVec)>,
    table: SessionTable,
    current: ConnectionId,
    connections: u64,
    sent: [usize; 2],
    got: [Vec<u64>; 2],
}

impl World {
    fn new() -> Self {
        Self {
            server_addr: address(1, 1),
            client_addr: address(2, 2),
            caller: Err(Session::lossless(1000)),
            to_server: Vec::new(),
            to_caller: Vec::new(),
            live: BTreeMap::new(),
            table: SessionTable::new(),
            current: ConnectionId(0),
            connections: 0,
            sent: [0; 2],
            got: [Vec::new(), Vec::new()],
        }
    }

    fn step(&mut self, step: u8) {
        let amount = usize::from(step >> 3) + 1;
        match step & 7 {
            0 => self.send_from_caller(),
            1 => self.send_from_listener(),
            2 | 3 => _ = self.deliver_to_listener(amount * amount * 4),
            4 | 5 => _ = self.deliver_to_caller(amount * amount * 4),
            6 => self.connect(),
            _ => self.cut(step & 8 != 0),
        }
    }

    fn send_from_caller(&mut self) {
        if let Ok(caller) = &mut self.caller {
            self.sent[0] += 1;
            if let Err(error) = caller.send(message(self.sent[0])) {
                panic!("{error}");
            }
        }
    }

    fn send_from_listener(&mut self) {
        let Some((connection, _)) = self.live.get_mut(&self.current) else {
            return;
        };
        if connection.session().is_some() {
            self.sent[1] += 1;
            if let Err(error) = connection.send(message(self.sent[1])) {
                panic!("{error}");
            }
        }
    }

    fn connect(&mut self) {
        let caller = std::mem::replace(&mut self.caller, Err(Session::lossless(1)));
        self.caller = match caller {
            Ok(connected) => Ok(connected),
            Err(session) => {
                self.connections += 1;
                self.current = ConnectionId(self.connections);
                let listening =
                    Connection::accept(config(EntityKind::OSD, self.server_addr, self.connections), false);
                self.live.insert(self.current, (listening, AddrVec::default()));
                let calling = config(EntityKind::OSD, self.client_addr, self.connections);
                let claim = Claim { name: AuthName::default(), global_id: 3 };
                Ok(Connection::connect(calling, self.server_addr, EntityKind::OSD, claim, session))
            }
        };
    }

    fn cut(&mut self, listener_notices: bool) {
        let caller = std::mem::replace(&mut self.caller, Err(Session::lossless(1)));
        self.caller = match caller {
            Err(session) => Err(session),
            Ok(connection) => match connection.into_session() {
                Some(session) => Err(session),
                None => panic!("a lossless session outlives its connection"),
            },
        };
        self.to_server.clear();
        self.to_caller.clear();
        if listener_notices {
            self.close(self.current);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some((connection, peer)) = self.live.remove(&id) {
            self.table.closed(id, &peer, connection.into_session());
        }
    }

    /// Delivers up to `count` bytes of what the caller sent; how many there were.
    fn deliver_to_listener(&mut self, count: usize) -> usize {
        if let Ok(caller) = &mut self.caller {
            self.to_server.extend(caller.poll_transmit().concat());
        }
        let part: Vec<u8> = self.to_server.drain(..count.min(self.to_server.len())).collect();
        let delivered = part.len();
        let id = self.current;
        let Some((connection, _)) = self.live.get_mut(&id) else {
            return delivered;
        };
        if let Err(error) = connection.feed(part.into()) {
            panic!("the listener refused: {error}");
        }
        while let Some(event) = self.live.get_mut(&id).and_then(|(connection, _)| connection.poll_event()) {
            match event {
                Event::NeedSession(request) => self.answer(id, &request),
                Event::Message(message) => self.got[1].push(message.header.tid),
                _ => {}
            }
        }
        delivered
    }

    fn answer(&mut self, id: ConnectionId, request: &crate::msgr2::SessionRequest) {
        let own = self.server_addr.into();
        let cookie = 5000 + self.connections;
        let answer = loop {
            match self.table.decide(id, request, PeerPolicy::LOSSLESS_PEER, &own, cookie) {
                Verdict::Answer(answer) => break answer,
                Verdict::AnswerAfterReset(_) => panic!("the caller never restarted"),
                Verdict::CloseFirst(old) => self.close(old),
            }
        };
        if let Some((connection, peer)) = self.live.get_mut(&id) {
            *peer = request.peer.addrs.clone();
            if let Err(error) = connection.answer(answer) {
                panic!("{error}");
            }
        }
    }

    fn deliver_to_caller(&mut self, count: usize) -> usize {
        if let Some((connection, _)) = self.live.get_mut(&self.current)
            && self.caller.is_ok()
        {
            self.to_caller.extend(connection.poll_transmit().concat());
        }
        let part: Vec<u8> = self.to_caller.drain(..count.min(self.to_caller.len())).collect();
        let delivered = part.len();
        let Ok(caller) = &mut self.caller else {
            return delivered;
        };
        if let Err(error) = caller.feed(part.into()) {
            panic!("the caller refused: {error}");
        }
        while let Some(event) = caller.poll_event() {
            match event {
                Event::Message(message) => self.got[0].push(message.header.tid),
                Event::SessionReset | Event::Wait => panic!("{event:?} without a reason"),
                _ => {}
            }
        }
        delivered
    }

    /// Lets a connection that died only on the caller's side come back, and everything arrive.
    fn settle(&mut self) {
        if self.caller.is_ok() && !self.live.contains_key(&self.current) {
            self.cut(true);
        }
        self.connect();
        for _ in 0..100 {
            if self.deliver_to_listener(usize::MAX) + self.deliver_to_caller(usize::MAX) == 0 {
                return;
            }
        }
        panic!("they never come to rest");
    }

    fn check(&self) {
        for (got, sent) in [(&self.got[1], self.sent[0]), (&self.got[0], self.sent[1])] {
            assert!(got.iter().copied().eq(1..=sent as u64), "sent {sent}, got {got:?}");
        }
        let caller = self.caller.as_ref().ok().and_then(Connection::session);
        let listener = self.live.get(&self.current).and_then(|(connection, _)| connection.session());
        for session in [caller, listener] {
            assert_eq!(session.map(Session::pending_messages), Some(0));
        }
    }
}
