//! Whole sessions of stock clients and daemons, frame by frame, and recorded clients against our server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic here is a failed test")]

mod common;

use bytes::Bytes;
use common::{text, unhex, vectors_in};
use serde_json::Value;
use wire::codec::{Reader, decode_exact, encode_to_bytes};
use wire::crc::{SEED, crc32c};
use wire::msg::{Body, OsdOp, OsdOpReply, Payload, decode_message};
use wire::msgr2::control::{self, AuthBadMethod, ClientIdent, Control};
use wire::msgr2::{
    Answer, Assembler, Config, Connection, Data, Event, Frame, Input, LongData, Message, ProtocolError,
    Revision, Session, Tag, Transmit, WireHeader,
};
use wire::types::{EntityKind, Features};

/// One recorded frame.
struct Recorded {
    from_client: bool,
    tag: Tag,
    /// `None` where a long payload was left out of the recording.
    segments: Option<Vec<Bytes>>,
    raw: Option<Bytes>,
}

struct RecordedSession {
    name: String,
    server: EntityKind,
    revision: Revision,
    client_banner: Bytes,
    frames: Vec<Recorded>,
}

fn sessions() -> Vec<RecordedSession> {
    let mut all = Vec::new();
    for (file, capture) in vectors_in("captures") {
        for (index, session) in capture["sessions"].as_array().unwrap().iter().enumerate() {
            all.push(read_session(format!("{file}[{index}]"), session, &capture["blobs"]));
        }
    }
    all
}

fn read_session(name: String, session: &Value, blobs: &Value) -> RecordedSession {
    let mut frames = Vec::new();
    let mut client_banner = Bytes::new();
    let mut both_21 = true;
    for frame in session["frames"].as_array().unwrap() {
        let raw = frame["raw"].as_str().map(unhex);
        let from_client = text(&frame["dir"]) == "c>s";
        if text(&frame["tag"]) == "BANNER" {
            let banner = raw.unwrap();
            both_21 &= banner[10] & 1 == 1;
            if from_client {
                client_banner = banner;
            }
            continue;
        }
        let segments = frame["segments"].as_array().unwrap().iter().map(|segment| match segment {
            Value::String(hex) => Some(unhex(hex)),
            other => other["ref"].as_str().map(|id| unhex(text(&blobs[id]))),
        });
        let tag = (1..=20)
            .map(|tag| Tag::from_byte(tag).unwrap())
            .find(|tag| format!("{tag:?}") == text(&frame["tag"]));
        frames.push(Recorded { from_client, tag: tag.unwrap(), segments: segments.collect(), raw });
    }
    let revision = if both_21 { Revision::V21 } else { Revision::V20 };
    RecordedSession {
        name,
        server: EntityKind(session["server_type"].as_u64().map_or(0, |kind| kind.try_into().unwrap())),
        revision,
        client_banner,
        frames,
    }
}

fn encode(revision: Revision, tag: Tag, segments: &[Bytes]) -> Bytes {
    let part = |index: usize| segments.get(index).cloned().unwrap_or_default();
    let mut transmit = Transmit::default();
    if tag == Tag::MESSAGE {
        transmit.message(revision, &part(0), &part(1), &part(2), &Data::from(part(3)));
    } else {
        transmit.control(revision, tag, &part(0));
    }
    transmit.take().concat().into()
}

fn assemble(revision: Revision, bytes: &Bytes, piece: usize) -> Vec<Frame> {
    let (mut input, mut assembler) = (Input::default(), Assembler::new(revision, LongData::Refused));
    let mut frames = Vec::new();
    for start in (0..bytes.len()).step_by(piece) {
        input.push(bytes.slice(start..bytes.len().min(start + piece)));
        while let Some(frame) = assembler.poll(&mut input, |_| Ok(())).unwrap() {
            frames.push(frame);
        }
    }
    assert_eq!(input.len(), 0, "no byte is left over");
    frames
}

#[test]
fn recorded_bytes_are_taken_apart_and_reproduced() {
    let mut checked = 0;
    for session in sessions() {
        for frame in &session.frames {
            let (Some(raw), Some(segments)) = (&frame.raw, &frame.segments) else { continue };
            let [decoded] = assemble(session.revision, raw, 11).try_into().unwrap();
            assert_eq!(decoded.tag, frame.tag);
            let expected: [Bytes; 4] =
                std::array::from_fn(|index| segments.get(index).cloned().unwrap_or_default());
            assert_eq!(decoded.segments, expected);
            assert_eq!(encode(session.revision, frame.tag, segments), raw, "{}", session.name);
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn every_frame_of_every_session_is_understood_and_reproduced() {
    let (mut controls, mut messages) = (0, 0);
    for session in sessions() {
        for frame in &session.frames {
            let Some(segments) = &frame.segments else { continue };
            let bytes = encode(session.revision, frame.tag, segments);
            let [decoded] = assemble(session.revision, &bytes, 1 << 20).try_into().unwrap();
            assert_eq!(decoded.segments[0], segments[0]);
            let name = &session.name;
            if frame.tag == Tag::MESSAGE {
                check_message(name, decoded);
                messages += 1;
            } else {
                check_control(name, frame.tag, &decoded.segments[0]);
                controls += 1;
            }
        }
    }
    assert!(controls > 500 && messages > 600, "{controls} {messages}");
}

fn check_message(name: &str, frame: Frame) {
    let [header, front, middle, data] = frame.segments;
    let wire_header: WireHeader = decode_exact("header", header.clone()).unwrap();
    assert_eq!(encode_to_bytes(&wire_header), header, "{name}");
    let blocks: Vec<u32> = data.chunks(4096).map(|block| crc32c(SEED, block)).collect();
    assert_eq!(frame.data_checksums.to_vec(), blocks, "{name}");
    let message = Message { header: wire_header.header, front, middle, data: Data::from(data) };
    let body = decode_message(&message).unwrap_or_else(|error| panic!("{name}: {error}"));
    if let Body::Unknown(unknown) = &body {
        // Commands to a manager and metadata servers' maps.
        assert!(matches!(unknown.header.kind, 0x709 | 0x70a | 21), "{name}: {:#x}", unknown.header.kind);
    }
    let again = body.to_message(message.header.tid);
    assert_eq!((&again.front, &again.data), (&message.front, &message.data), "{name}: {body:?}");
}

fn check_control(name: &str, tag: Tag, segment: &Bytes) {
    macro_rules! check {
        ($($kind:ident),*) => {
            match tag {
                $(control::$kind::TAG => {
                    let value = control::$kind::from_segment_exact(segment.clone())
                        .unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert_eq!(value.to_segment(), segment, "{name}: {value:?}");
                })*
                other => panic!("{name}: {other:?}"),
            }
        };
    }
    check!(
        Hello,
        AuthRequest,
        AuthBadMethod,
        AuthReplyMore,
        AuthRequestMore,
        AuthDone,
        AuthSignature,
        ClientIdent,
        ServerIdent,
        Ack,
        Keepalive,
        KeepaliveAck
    );
}

/// Plays the client's side of a recording against our server, in pieces of `piece` bytes. Gives the messages
/// it delivered, or the error, and what it sent.
fn play(session: &RecordedSession, piece: usize) -> (Result<Vec<Message>, ProtocolError>, Bytes) {
    let ident = session.frames.iter().find(|frame| frame.tag == Tag::CLIENT_IDENT);
    let target = ident.map(|frame| {
        let segment = frame.segments.as_ref().unwrap()[0].clone();
        ClientIdent::from_segment(segment).unwrap().target
    });
    let config = Config {
        kind: session.server,
        number: 0,
        addrs: target.map(Into::into).unwrap_or_default(),
        nonce: 1,
        supported: Features::PACIFIC,
        required: Features::MSG_ADDR2,
        revision_21: session.revision == Revision::V21,
        global_seq: 1,
        peer_socket: "127.0.0.1:50000".parse().unwrap(),
    };
    let mut server = Connection::accept(config, session.server == EntityKind::MON);
    let mut client_bytes = vec![session.client_banner.clone()];
    for frame in session.frames.iter().filter(|frame| frame.from_client) {
        let segments = frame.segments.as_ref().expect("clients' frames are recorded whole");
        client_bytes.push(encode(session.revision, frame.tag, segments));
    }
    let bytes = Bytes::from(client_bytes.concat());
    let (mut messages, mut sent) = (Vec::new(), Vec::new());
    let mut feed = |server: &mut Connection, part: Bytes| -> Result<(), ProtocolError> {
        server.feed(part)?;
        while let Some(event) = server.poll_event() {
            match event {
                Event::NeedGlobalId { .. } => server.assign_global_id(4242)?,
                Event::NeedSession(_) => server.answer(Answer::Accept(Box::new(Session::lossy())))?,
                Event::Message(message) => messages.push(message),
                _ => {}
            }
        }
        Ok(())
    };
    let mut result = Ok(());
    for start in (0..bytes.len()).step_by(piece) {
        result = feed(&mut server, bytes.slice(start..bytes.len().min(start + piece)));
        sent.extend(server.poll_transmit());
        if result.is_err() {
            break;
        }
    }
    (result.map(|()| messages), sent.concat().into())
}

#[test]
fn recorded_clients_are_served() {
    let mut served = 0;
    for session in sessions() {
        if !session.frames.iter().any(|frame| frame.from_client && frame.tag == Tag::CLIENT_IDENT) {
            continue;
        }
        let expected: Vec<Vec<Bytes>> = session
            .frames
            .iter()
            .filter(|frame| frame.from_client && frame.tag == Tag::MESSAGE)
            .map(|frame| frame.segments.clone().unwrap())
            .collect();
        for piece in [13, 1460, 1 << 16] {
            let (messages, _) = play(&session, piece);
            let messages = messages.unwrap_or_else(|error| panic!("{}: {error}", session.name));
            assert_eq!(messages.len(), expected.len(), "{}", session.name);
            for (message, segments) in messages.iter().zip(&expected) {
                assert_eq!(segments.get(1).cloned().unwrap_or_default(), message.front);
                assert_eq!(segments.get(3).cloned().unwrap_or_default(), message.data.to_bytes());
            }
        }
        served += 1;
    }
    assert!(served > 50, "{served}");
}

#[test]
fn a_client_that_offers_cephx_first_is_told_what_is_allowed() {
    for session in sessions().iter().filter(|session| session.name.starts_with("auth_")) {
        let methods: Vec<_> =
            session.frames.iter().filter(|frame| frame.tag == Tag::AUTH_BAD_METHOD).collect();
        let (result, sent) = play(session, 100);
        result.unwrap();
        // After the banner comes our HELLO, then the refusal.
        let mut input = Input::default();
        input.push(sent.slice(26..));
        let mut assembler = Assembler::new(session.revision, LongData::Refused);
        let mut next = || assembler.poll(&mut input, |_| Ok(())).unwrap();
        let tags: Vec<Frame> = std::iter::from_fn(&mut next).collect();
        let refusals = tags.iter().filter(|frame| frame.tag == Tag::AUTH_BAD_METHOD).count();
        assert_eq!(refusals, methods.len(), "{}", session.name);
        for refusal in tags.iter().filter(|frame| frame.tag == Tag::AUTH_BAD_METHOD) {
            let refusal = AuthBadMethod::from_segment(refusal.segments[0].clone()).unwrap();
            assert_eq!((refusal.method, refusal.result), (2, -95));
            assert_eq!((refusal.allowed_methods, refusal.allowed_modes), (vec![1], vec![1]));
        }
    }
}

/// Recorded replies against the ones that would be built for their requests with the same outcome.
#[test]
fn replies_are_built_as_stock_daemons_build_them() {
    let mut pairs = 0;
    for session in sessions().iter().filter(|session| session.server == EntityKind::OSD) {
        let message = |frame: &Recorded| {
            let segments = frame.segments.clone()?;
            let part = |index: usize| segments.get(index).cloned().unwrap_or_default();
            let header: WireHeader = decode_exact("header", part(0)).ok()?;
            Some(Message {
                header: header.header,
                front: part(1),
                middle: part(2),
                data: Data::from(part(3)),
            })
        };
        let messages: Vec<_> =
            session.frames.iter().filter(|f| f.tag == Tag::MESSAGE).filter_map(message).collect();
        for reply in messages.iter().filter(|message| message.header.kind == OsdOpReply::KIND) {
            let asked = |m: &&Message| m.header.kind == OsdOp::KIND && m.header.tid == reply.header.tid;
            let Some(request) = messages.iter().find(asked) else { continue };
            let request = OsdOp::from_message(request).unwrap();
            let recorded = OsdOpReply::from_message(reply).unwrap();
            let executed = recorded.flags & 1 != 0;
            let mut built = OsdOpReply::to_request(&request, recorded.result, executed, recorded.epoch);
            built.set_versions(recorded.replay_version, recorded.user_version);
            built.results.clone_from(&recorded.results);
            if recorded.result < 0 {
                // Of a recorded failure stock daemons give the version before it; clients do not look at it.
                built.bad_replay_version = recorded.bad_replay_version;
            }
            for (op, recorded) in built.ops.iter_mut().zip(&recorded.ops) {
                // Stock daemons also rewrite the length of what was read; clients do not look at it.
                assert_eq!((op.code, op.flags), (recorded.code, recorded.flags), "{}", session.name);
                *op = recorded.clone();
            }
            assert_eq!(built, recorded, "{}: {request:?}", session.name);
            assert_eq!(built.to_message(reply.header.tid), *reply, "{}", session.name);
            pairs += 1;
        }
    }
    assert!(pairs > 100, "{pairs}");
}

#[test]
fn one_flipped_bit_anywhere_in_a_message_is_noticed() {
    let session = sessions().into_iter().find(|s| s.name == "raw_rev21_put.json[4]").unwrap();
    for (revision, session) in [(Revision::V21, &session), (Revision::V20, &session)] {
        let frame = session
            .frames
            .iter()
            .find(|f| f.from_client && f.tag == Tag::MESSAGE && f.segments.as_ref().unwrap().len() == 4)
            .unwrap();
        let bytes = encode(revision, frame.tag, frame.segments.as_ref().unwrap());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (mut input, mut assembler) = (Input::default(), Assembler::new(revision, LongData::Refused));
            input.push(flipped.into());
            let result = assembler.poll(&mut input, |_| Ok(()));
            // The epilogue's status is not covered by a checksum: it may turn a frame into an aborted one.
            let frame = result.unwrap_or_default();
            let epilogue = if revision == Revision::V21 { 13 } else { 17 };
            assert!(frame.is_none() || bit / 8 == bytes.len() - epilogue, "bit {bit} of {revision:?}");
        }
    }
}

#[test]
fn readers_of_segments_end_with_them() {
    // A control frame longer than what is known is read all the same, as peers may append fields.
    let mut segment = control::Ack { message_seq: 7 }.to_segment().to_vec();
    segment.push(1);
    assert_eq!(control::Ack::from_segment(segment.clone().into()).unwrap().message_seq, 7);
    assert!(control::Ack::from_segment_exact(segment.into()).is_err());
    assert!(Reader::new("x", Bytes::new()).is_empty());
}
