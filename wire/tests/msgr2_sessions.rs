//! Both sides of msgr2 against each other: handshakes, faults, replay, reset, races.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic here is a failed test")]

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::msgr2::auth::Claim;
use wire::msgr2::{
    Config, Connection, ConnectionId, Data, Event, Message, MessageHeader, PeerPolicy, ProtocolError,
    Session, SessionTable, Verdict,
};
use wire::types::{Addr, AddrVec, AuthName, EntityKind, Features, UTime};

const SERVER: &str = "127.0.0.1:6800";
const CLIENT: &str = "127.0.0.2:6801";

fn server_config() -> Config {
    Config {
        kind: EntityKind::OSD,
        number: 3,
        addrs: Addr::msgr2(SERVER.parse().unwrap(), 77).into(),
        nonce: 77,
        supported: Features::PACIFIC,
        required: Features::MSG_ADDR2,
        revision_21: true,
        global_seq: 9,
        peer_socket: CLIENT.parse().unwrap(),
    }
}

fn client_config(global_seq: u64) -> Config {
    Config {
        kind: EntityKind::CLIENT,
        number: 4100,
        addrs: AddrVec::default(),
        nonce: 12,
        supported: Features::PACIFIC,
        required: Features::NONE,
        revision_21: true,
        global_seq,
        peer_socket: SERVER.parse().unwrap(),
    }
}

fn connect(config: Config, session: Session) -> Connection {
    let claim = Claim { name: AuthName { kind: EntityKind::CLIENT, id: "admin".into() }, global_id: 4100 };
    Connection::connect(config, Addr::msgr2(SERVER.parse().unwrap(), 77), EntityKind::OSD, claim, session)
}

fn message(tid: u64, front: usize, data: usize) -> Message {
    Message {
        header: MessageHeader { tid, kind: 42, priority: 63, version: 8, compat_version: 3, data_offset: 0 },
        front: vec![tid as u8; front].into(),
        middle: Bytes::new(),
        data: Data::from(Bytes::from(vec![!tid as u8; data])),
    }
}

/// A listening daemon: its table, live connections, and what they told it.
struct Daemon {
    policy: PeerPolicy,
    table: SessionTable,
    live: BTreeMap<ConnectionId, (Connection, AddrVec)>,
    received: Vec<u64>,
    resets: usize,
    cookie: u64,
}

impl Daemon {
    fn new(policy: PeerPolicy) -> Self {
        Self {
            policy,
            table: SessionTable::new(),
            live: BTreeMap::new(),
            received: Vec::new(),
            resets: 0,
            cookie: 500,
        }
    }

    fn open(&mut self, id: u64) {
        let connection = Connection::accept(server_config(), false);
        self.live.insert(ConnectionId(id), (connection, AddrVec::default()));
    }

    fn connection(&mut self, id: u64) -> &mut Connection {
        &mut self.live.get_mut(&ConnectionId(id)).unwrap().0
    }

    fn feed(&mut self, id: u64, bytes: Bytes) -> Result<(), ProtocolError> {
        self.connection(id).feed(bytes)?;
        while let Some(event) = self.live.get_mut(&ConnectionId(id)).and_then(|(c, _)| c.poll_event()) {
            match event {
                Event::NeedSession(request) => {
                    self.cookie += 1;
                    let own = server_config().addrs;
                    let answer = loop {
                        match self.table.decide(ConnectionId(id), &request, self.policy, &own, self.cookie) {
                            Verdict::Answer(answer) => break answer,
                            Verdict::AnswerAfterReset(answer) => {
                                self.resets += 1;
                                break answer;
                            }
                            Verdict::CloseFirst(old) => self.close(old.0),
                        }
                    };
                    let (connection, peer) = self.live.get_mut(&ConnectionId(id)).unwrap();
                    *peer = request.peer.addrs.clone();
                    connection.answer(answer)?;
                }
                Event::Message(message) => self.received.push(message.header.tid),
                _ => {}
            }
        }
        Ok(())
    }

    fn close(&mut self, id: u64) {
        let (connection, peer) = self.live.remove(&ConnectionId(id)).unwrap();
        self.table.closed(ConnectionId(id), &peer, connection.into_session());
    }
}

/// Moves bytes until nothing moves, in pieces of `piece` bytes. Gives the client's events.
fn pump(client: &mut Connection, daemon: &mut Daemon, id: u64, piece: usize) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let there = client.poll_transmit().concat();
        let back = daemon.connection(id).poll_transmit().concat();
        for part in there.chunks(piece) {
            daemon.feed(id, Bytes::copy_from_slice(part)).unwrap();
        }
        for part in back.chunks(piece) {
            client.feed(Bytes::copy_from_slice(part)).unwrap();
        }
        events.extend(std::iter::from_fn(|| client.poll_event()));
        if there.is_empty() && back.is_empty() {
            return events;
        }
    }
}

fn tids(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|e| if let Event::Message(m) = e { Some(m.header.tid) } else { None }).collect()
}

#[test]
fn a_lossy_client_talks_in_both_revisions_and_any_chunking() {
    for revision_21 in [true, false] {
        for piece in [1, 7, 40, 4096, 1 << 20] {
            let mut daemon = Daemon::new(PeerPolicy::LOSSY_CLIENT);
            daemon.open(1);
            let mut client = connect(Config { revision_21, ..client_config(1) }, Session::lossy());
            // Queued before the handshake, sent after it.
            client.send(message(1, 10, 5000)).unwrap();
            let events = pump(&mut client, &mut daemon, 1, piece);
            let Some(Event::Connected(peer)) = events.first() else { panic!("{events:?}") };
            assert_eq!((peer.number, peer.lossy, peer.resumed), (3, true, false));
            assert_eq!(client.own_addrs().to_string(), "any:127.0.0.2:0/12");
            assert_eq!(client.global_id(), Some(4100));
            for (tid, front, data) in [(2, 0, 0), (3, 0, 1), (4, 3, 0), (5, 700, 300_000)] {
                client.send(message(tid, front, data)).unwrap();
            }
            daemon.connection(1).send(message(90, 0, 9000)).unwrap();
            client.send_keepalive(UTime { seconds: 5, nanoseconds: 6 });
            let events = pump(&mut client, &mut daemon, 1, piece);
            assert_eq!(daemon.received, [1, 2, 3, 4, 5]);
            assert!(events.contains(&Event::Message(message(90, 0, 9000))), "content arrives unchanged");
            assert!(events.contains(&Event::KeepaliveAck(UTime { seconds: 5, nanoseconds: 6 })));
        }
    }
}

#[test]
fn a_peer_that_asks_for_signs_of_life_and_reads_none_costs_little() {
    let mut daemon = Daemon::new(PeerPolicy::LOSSY_CLIENT);
    daemon.open(1);
    let mut client = connect(client_config(1), Session::lossy());
    pump(&mut client, &mut daemon, 1, 1 << 20);
    let server = daemon.connection(1);
    for seconds in 1..=10_000 {
        client.send_keepalive(UTime { seconds, nanoseconds: 0 });
        for chunk in client.poll_transmit() {
            server.feed(chunk).unwrap();
        }
        while server.poll_event().is_some() {}
    }
    let answer = server.poll_transmit();
    assert!(answer.iter().map(Bytes::len).sum::<usize>() < 100, "one answer, not one for each");
    answer.into_iter().for_each(|chunk| client.feed(chunk).unwrap());
    assert_eq!(client.poll_event(), Some(Event::KeepaliveAck(UTime { seconds: 10_000, nanoseconds: 0 })));
}

#[test]
fn payload_is_not_copied_out_of_one_chunk() {
    let mut daemon = Daemon::new(PeerPolicy::LOSSY_CLIENT);
    daemon.open(1);
    let mut client = connect(client_config(1), Session::lossy());
    pump(&mut client, &mut daemon, 1, 1 << 20);
    let payload = Bytes::from(vec![7; 8192]);
    daemon.connection(1).send(Message { data: payload.clone().into(), ..message(1, 4, 0) }).unwrap();
    let sent = daemon.connection(1).poll_transmit();
    assert!(sent.iter().any(|part| part.as_ptr() == payload.as_ptr()), "sent in place");
    let chunk = Bytes::from(sent.concat());
    client.feed(chunk.clone()).unwrap();
    let Some(Event::Message(message)) = client.poll_event() else { panic!() };
    let [part] = message.data.parts() else { panic!() };
    let range = chunk.as_ptr_range();
    assert!(range.contains(&part.as_ptr()), "a slice of the chunk");
    assert_eq!(message.data.block_checksums(), [wire::crc::crc32c(!0, &payload[..4096]); 2]);
}

#[test]
fn a_lossless_session_survives_faults_without_loss_or_repetition() {
    for cut in 0..40 {
        let mut daemon = Daemon::new(PeerPolicy::LOSSLESS_PEER);
        daemon.open(1);
        let mut client = connect(client_config(1), Session::lossless(11));
        pump(&mut client, &mut daemon, 1, 4096);
        for tid in 1..=5 {
            client.send(message(tid, 20, 100)).unwrap();
            daemon.connection(1).send(message(50 + tid, 20, 0)).unwrap();
        }
        // The connection dies after a part of each direction.
        let there = client.poll_transmit().concat();
        let back = daemon.connection(1).poll_transmit().concat();
        let (there, back) = (&there[..there.len() * cut / 40], &back[..back.len() * (40 - cut) / 40]);
        daemon.feed(1, Bytes::copy_from_slice(there)).unwrap();
        client.feed(Bytes::copy_from_slice(back)).unwrap();
        let mut got: Vec<u64> = std::iter::from_fn(|| client.poll_event())
            .filter_map(|e| if let Event::Message(m) = e { Some(m.header.tid) } else { None })
            .collect();
        // Even rounds: the daemon notices the death first; odd: the new connection comes first.
        if cut % 2 == 0 {
            daemon.close(1);
        }
        daemon.open(2);
        let mut client = connect(client_config(2), client.into_session().unwrap());
        client.send(message(6, 1, 1)).unwrap();
        let events = pump(&mut client, &mut daemon, 2, 333);
        assert!(events.iter().any(|e| matches!(e, Event::Connected(p) if p.resumed)), "{events:?}");
        got.extend(tids(&events));
        assert_eq!(daemon.received, [1, 2, 3, 4, 5, 6], "cut {cut}");
        assert_eq!(got, [51, 52, 53, 54, 55], "cut {cut}");
        assert_eq!(client.session().unwrap().pending_messages(), 0, "all acknowledged");
        assert_eq!(daemon.connection(2).session().unwrap().pending_messages(), 0);
        assert_eq!(daemon.live.len(), 1);
    }
}

#[test]
fn a_daemon_that_forgot_the_session_resets_it() {
    let mut daemon = Daemon::new(PeerPolicy::LOSSLESS_PEER);
    daemon.open(1);
    let mut client = connect(client_config(1), Session::lossless(11));
    pump(&mut client, &mut daemon, 1, 4096);
    client.send(message(1, 1, 1)).unwrap();
    drop(client.poll_transmit());

    let mut restarted = Daemon::new(PeerPolicy::LOSSLESS_PEER);
    restarted.open(1);
    let mut client = connect(client_config(2), client.into_session().unwrap());
    let events = pump(&mut client, &mut restarted, 1, 4096);
    assert!(events.contains(&Event::SessionReset), "{events:?}");
    assert!(events.iter().any(|e| matches!(e, Event::Connected(p) if !p.resumed)));
    assert_eq!(restarted.received, [], "what the old session had queued is gone");
    client.send(message(2, 1, 1)).unwrap();
    pump(&mut client, &mut restarted, 1, 4096);
    assert_eq!(restarted.received, [2]);
}

#[test]
fn a_restarted_peer_takes_over_with_a_fresh_session() {
    let mut daemon = Daemon::new(PeerPolicy::LOSSLESS_PEER);
    daemon.open(1);
    let mut client = connect(client_config(1), Session::lossless(11));
    pump(&mut client, &mut daemon, 1, 4096);
    daemon.connection(1).send(message(1, 1, 1)).unwrap();

    daemon.open(2);
    let mut reborn = connect(client_config(2), Session::lossless(12));
    let events = pump(&mut reborn, &mut daemon, 2, 4096);
    assert_eq!(tids(&events), [], "nothing of the old life arrives");
    assert_eq!((daemon.resets, daemon.live.len()), (1, 1));
}

#[test]
fn an_ident_whose_answer_was_lost_continues() {
    let mut daemon = Daemon::new(PeerPolicy::LOSSLESS_PEER);
    daemon.open(1);
    let mut client = connect(client_config(1), Session::lossless(11));
    client.send(message(1, 1, 1)).unwrap();
    // Everything but SERVER_IDENT comes through.
    while !daemon.connection(1).is_ready() {
        let back = daemon.connection(1).poll_transmit().concat();
        client.feed(back.into()).unwrap();
        daemon.feed(1, client.poll_transmit().concat().into()).unwrap();
    }
    daemon.connection(1).send(message(90, 1, 1)).unwrap();
    drop(daemon.connection(1).poll_transmit());

    daemon.open(2);
    let mut client = connect(client_config(2), client.into_session().unwrap());
    let events = pump(&mut client, &mut daemon, 2, 4096);
    assert_eq!((daemon.received.as_slice(), tids(&events)), (&[1][..], vec![90]));
    assert_eq!(daemon.resets, 0);
}

#[test]
fn stale_attempts_are_refused_or_told_to_retry() {
    let mut daemon = Daemon::new(PeerPolicy::LOSSLESS_PEER);
    daemon.open(1);
    let mut client = connect(client_config(7), Session::lossless(11));
    pump(&mut client, &mut daemon, 1, 4096);
    // A reconnect with an old global_seq is told the current one, and then succeeds.
    daemon.open(2);
    let mut client = connect(client_config(3), client.into_session().unwrap());
    let events = pump(&mut client, &mut daemon, 2, 4096);
    assert!(events.contains(&Event::GlobalSeqBehind(8)), "{events:?}");
    assert!(client.is_ready());
    // A connect_seq behind the daemon's is told that.
    let old = client.session().unwrap().clone();
    for id in 3..6 {
        daemon.open(id);
        client = connect(client_config(20 + id), client.into_session().unwrap());
        pump(&mut client, &mut daemon, id, 4096);
    }
    daemon.open(9);
    let mut client = connect(client_config(90), old);
    pump(&mut client, &mut daemon, 9, 4096);
    assert!(client.is_ready());
    // A new session with an old global_seq is refused.
    daemon.open(10);
    let mut late = connect(client_config(2), Session::lossless(11));
    let error = loop {
        late.feed(daemon.connection(10).poll_transmit().concat().into()).unwrap();
        if let Err(error) = daemon.feed(10, late.poll_transmit().concat().into()) {
            break error;
        }
    };
    assert_eq!(error, ProtocolError::Stale { got: 2, current: 90 });
}

#[test]
fn a_lossy_client_that_comes_back_replaces_its_old_connection() {
    let mut daemon = Daemon::new(PeerPolicy::LOSSY_CLIENT);
    daemon.open(1);
    let mut client = connect(client_config(1), Session::lossy());
    pump(&mut client, &mut daemon, 1, 4096);
    assert!(client.into_session().is_none());
    daemon.open(2);
    let mut client = connect(client_config(2), Session::lossy());
    pump(&mut client, &mut daemon, 2, 4096);
    assert_eq!(daemon.live.len(), 1);
    client.send(message(1, 0, 0)).unwrap();
    pump(&mut client, &mut daemon, 2, 4096);
    assert_eq!(daemon.received, [1]);
}

#[test]
fn of_two_first_calls_the_one_from_the_lower_address_survives() {
    // The daemon calls the peer at the same time; its address is the lower one, so its call survives.
    let mut daemon = Daemon::new(PeerPolicy::LOSSLESS_PEER);
    let peer_addrs: AddrVec = Addr::msgr2(CLIENT.parse().unwrap(), 77).into();
    let mut outgoing = Session::lossless(40);
    daemon.table.connecting(ConnectionId(99), peer_addrs.clone(), &outgoing);
    daemon.open(1);
    let config = Config { addrs: peer_addrs.clone(), ..client_config(1) };
    let mut client = connect(config.clone(), Session::lossless(11));
    let events = pump(&mut client, &mut daemon, 1, 4096);
    assert_eq!(events, [Event::Wait]);
    assert!(client.is_closing() && daemon.connection(1).is_closing());
    assert!(client.into_session().is_some(), "kept for the other call");

    // From a lower address the peer's call survives, and takes over what the daemon had queued.
    let peer_addrs: AddrVec = Addr::msgr2("127.0.0.0:1".parse().unwrap(), 77).into();
    let mut own_call = Connection::connect(
        server_config(),
        peer_addrs.0[0],
        EntityKind::OSD,
        Claim { name: AuthName::default(), global_id: 0 },
        std::mem::replace(&mut outgoing, Session::lossless(41)),
    );
    own_call.send(message(70, 1, 1)).unwrap();
    daemon.table.connecting(ConnectionId(98), peer_addrs.clone(), own_call.session().unwrap());
    daemon.live.insert(ConnectionId(98), (own_call, peer_addrs.clone()));
    daemon.open(2);
    let mut client = connect(Config { addrs: peer_addrs, ..config }, Session::lossless(11));
    let events = pump(&mut client, &mut daemon, 2, 4096);
    assert_eq!(tids(&events), [70]);
    assert!(!daemon.live.contains_key(&ConnectionId(98)));
}
