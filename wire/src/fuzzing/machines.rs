//! The msgr2 machine against a peer that sends anything: raw bytes, which test the framing, and valid frames
//! of any content in any order, which get past the checksums and test the states.

use bytes::Bytes;

use crate::crc::{BLOCK_BYTES, BlockHasher, SEED, crc32c};
use crate::msgr2::auth::Claim;
use crate::msgr2::{
    Assembler, Config, Connection, ConnectionId, Data, Event, Input, LongData, MESSAGE_HEADER_BYTES,
    PeerPolicy, Revision, Session, SessionTable, Tag, Transmit, Verdict,
};
use crate::types::{Addr, AddrKind, AddrVec, AuthName, EntityKind, Features, SocketBytes};

/// Banner of a peer with revision 2.1 and one without.
const BANNERS: [&[u8]; 2] = [
    b"ceph v2\n\x10\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"ceph v2\n\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
];

fn own_addr() -> Addr {
    // As in the recorded sessions, so that they can be seeds.
    let socket = SocketBytes::from(std::net::SocketAddr::from(([127, 0, 0, 1], 6800)));
    Addr { kind: AddrKind::MSGR2, nonce: 0, socket }
}

fn config(kind: EntityKind, addrs: AddrVec) -> Config {
    Config {
        kind,
        number: 0,
        addrs,
        nonce: 5,
        supported: Features::PACIFIC,
        required: Features::MSG_ADDR2,
        revision_21: true,
        global_seq: 1,
        peer_socket: std::net::SocketAddr::from(([127, 0, 0, 1], 40000)),
    }
}

fn accepting() -> Connection {
    Connection::accept(config(EntityKind::MON, own_addr().into()), true).with_long_data(LongData::Dropped)
}

fn connecting(lossy: bool) -> Connection {
    let session = if lossy { Session::lossy() } else { Session::lossless(9) };
    let claim = Claim { name: AuthName { kind: EntityKind::CLIENT, id: "admin".into() }, global_id: 0 };
    let config = config(EntityKind::CLIENT, AddrVec::default());
    Connection::connect(config, own_addr(), EntityKind::MON, claim, session)
}

/// Answers what the connection asks, and checks what it says. False when it is over.
fn serve(connection: &mut Connection, table: &mut SessionTable, policy: PeerPolicy) -> bool {
    let mut connected = connection.is_ready();
    while let Some(event) = connection.poll_event() {
        let result = match event {
            Event::NeedGlobalId { .. } => connection.assign_global_id(4100),
            Event::NeedSession(request) => {
                assert!(!connected, "a session is asked for once");
                match table.decide(ConnectionId(1), &request, policy, &own_addr().into(), 77) {
                    Verdict::Answer(answer) | Verdict::AnswerAfterReset(answer) => connection.answer(answer),
                    Verdict::CloseFirst(id) => panic!("{id:?} holds a session, but there is one connection"),
                }
            }
            Event::Connected(_) => {
                connected = true;
                Ok(())
            }
            Event::Message(_) => {
                assert!(connected, "messages come after the handshake");
                Ok(())
            }
            _ => Ok(()),
        };
        if result.is_err() {
            break;
        }
    }
    drop(connection.poll_transmit());
    !connection.is_closing()
}

fn stream(mut connection: Connection, input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else {
        return;
    };
    let piece = usize::from(first) + 1;
    let mut table = SessionTable::new();
    for part in rest.chunks(piece) {
        let came = part.len() + connection.buffered_bytes();
        if connection.feed(Bytes::copy_from_slice(part)).is_err() {
            break;
        }
        assert!(connection.buffered_bytes() <= 2 * came + (256 << 10), "memory follows what came");
        if !serve(&mut connection, &mut table, PeerPolicy::LOSSY_CLIENT) {
            break;
        }
    }
}

/// Raw bytes to a listening daemon; the first byte is the size of the pieces.
pub fn stream_accepting(input: &[u8]) {
    stream(accepting(), input);
}

/// Raw bytes to a calling client.
pub fn stream_connecting(input: &[u8]) {
    stream(connecting(true), input);
}

/// The frames that an input spells out: tag, u16 length, content. A message's content is cut into header,
/// front and data.
fn spelled_frames(revision: Revision, mut input: &[u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while let [tag, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (content, rest) = rest.split_at(length);
        input = rest;
        let Ok(tag) = Tag::from_byte(*tag) else {
            continue;
        };
        let mut transmit = Transmit::default();
        if tag == Tag::MESSAGE {
            let mut header = content.to_vec();
            header.resize(MESSAGE_HEADER_BYTES, 0);
            let body = Bytes::copy_from_slice(content.get(MESSAGE_HEADER_BYTES..).unwrap_or_default());
            let (front, data) = (body.slice(..body.len() / 2), body.slice(body.len() / 2..));
            transmit.message(revision, &header, &front, &Bytes::new(), &Data::from(data));
        } else {
            transmit.control(revision, tag, content);
        }
        frames.push(transmit.take().concat().into());
    }
    frames
}

fn frames(mut connection: Connection, input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else {
        return;
    };
    let (revision, banner) =
        if first & 1 == 0 { (Revision::V21, BANNERS[0]) } else { (Revision::V20, BANNERS[1]) };
    let policy = match first >> 1 & 3 {
        0 => PeerPolicy::LOSSY_CLIENT,
        1 => PeerPolicy::LOSSLESS_PEER,
        _ => PeerPolicy::LOSSLESS_CLIENT,
    };
    let mut table = SessionTable::new();
    if connection.feed(Bytes::from_static(banner)).is_err() {
        panic!("a valid banner is accepted");
    }
    for frame in spelled_frames(revision, rest) {
        if connection.feed(frame).is_err() || !serve(&mut connection, &mut table, policy) {
            break;
        }
    }
}

/// Valid frames of any content in any order to a listening daemon.
pub fn frames_accepting(input: &[u8]) {
    frames(accepting(), input);
}

/// Valid frames of any content in any order to a calling client.
pub fn frames_connecting(input: &[u8]) {
    frames(connecting(input.first().is_some_and(|first| first & 0x80 != 0)), input);
}

/// What was sent as frames comes out as the same frames, in any pieces.
pub fn frames_reproduced(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else {
        return;
    };
    for revision in [Revision::V20, Revision::V21] {
        let frames = spelled_frames(revision, rest);
        let bytes = frames.concat();
        let (mut queue, mut assembler) = (Input::default(), Assembler::new(revision, LongData::Refused));
        let mut got = Vec::new();
        for part in bytes.chunks(usize::from(first) * 16 + 1) {
            queue.push(Bytes::copy_from_slice(part));
            loop {
                match assembler.poll(&mut queue, |_| Ok(())) {
                    Ok(Some(frame)) => {
                        let [a, b, c, d] = &frame.segments;
                        let mut transmit = Transmit::default();
                        if frame.tag == Tag::MESSAGE {
                            transmit.message(revision, a, b, c, &Data::from(d.clone()));
                        } else {
                            transmit.control(revision, frame.tag, a);
                        }
                        got.push(Bytes::from(transmit.take().concat()));
                    }
                    Ok(None) => break,
                    Err(error) => panic!("a valid frame was refused: {error}"),
                }
            }
        }
        assert_eq!(got, frames);
    }
}

/// Checksums combined from blocks against those of the whole.
pub fn block_checksums(input: &[u8]) {
    let Some((&first, data)) = input.split_first() else {
        return;
    };
    let mut hasher = BlockHasher::new();
    for part in data.chunks(usize::from(first) * 32 + 1) {
        hasher.update(part);
    }
    let (blocks, whole) = hasher.finish();
    assert_eq!(whole, crc32c(SEED, data));
    assert!(blocks.iter().copied().eq(data.chunks(BLOCK_BYTES).map(|block| crc32c(SEED, block))));
}
