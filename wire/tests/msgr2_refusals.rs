//! What a peer may not do, and the sentence that says so.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic here is a failed test")]

use bytes::Bytes;
use wire::codec::encode_to_bytes;
use wire::crc::{SEED, crc32c};
use wire::limits::MESSAGE_DATA_BYTES_MAX;
use wire::msgr2::auth::{self, Claim};
use wire::msgr2::control::{
    AuthRequest, AuthSignature, ClientIdent, Control, FLAG_LOSSY, Hello, IdentMissingFeatures, Keepalive,
    ServerIdent, Signature,
};
use wire::msgr2::{
    Answer, Config, Connection, Data, Event, Frame, LongData, Message, MessageHeader, Preamble,
    ProtocolError, Revision, SendError, Session, Tag, Transmit, WireHeader,
};
use wire::types::{Addr, AddrVec, AuthName, EntityKind, Features, UTime};

const OWN: &str = "127.0.0.1:6800";

fn own_addr() -> Addr {
    Addr::msgr2(OWN.parse().unwrap(), 77)
}

fn config() -> Config {
    Config {
        kind: EntityKind::OSD,
        number: 0,
        addrs: own_addr().into(),
        nonce: 77,
        supported: Features::PACIFIC,
        required: Features::MSG_ADDR2,
        revision_21: true,
        global_seq: 1,
        peer_socket: "127.0.0.1:50000".parse().unwrap(),
    }
}

fn banner(supported: u64, required: u64) -> Vec<u8> {
    [&b"ceph v2\n\x10\0"[..], &supported.to_le_bytes(), &required.to_le_bytes()].concat()
}

fn frame<C: Control>(control: &C) -> Bytes {
    let mut transmit = Transmit::default();
    transmit.control(Revision::V21, C::TAG, &control.to_segment());
    transmit.take().concat().into()
}

fn claim() -> Claim {
    Claim { name: AuthName { kind: EntityKind::CLIENT, id: "admin".into() }, global_id: 4100 }
}

fn hello() -> Hello {
    Hello { kind: EntityKind::CLIENT, peer_addr: own_addr() }
}

fn ident() -> ClientIdent {
    ClientIdent {
        addrs: Addr::any("127.0.0.1:0".parse().unwrap(), 5).into(),
        target: own_addr(),
        global_id: 4100,
        global_seq: 1,
        supported: Features::PACIFIC,
        required: Features::MSG_ADDR2,
        flags: FLAG_LOSSY,
        cookie: 0,
    }
}

/// Passes the rest of the handshake.
fn get_ready(server: &mut Connection) {
    for bytes in [
        frame(&hello()),
        frame(&auth::request(&claim(), EntityKind::OSD)),
        frame(&AuthSignature { signature: Signature::default() }),
        frame(&ident()),
    ] {
        server.feed(bytes).unwrap();
    }
    assert!(matches!(server.poll_event(), Some(Event::NeedSession(_))));
    server.answer(Answer::Accept(Box::new(Session::lossy()))).unwrap();
    assert!(matches!(server.poll_event(), Some(Event::Connected(_))));
    drop(server.poll_transmit());
}

/// A server that has read a valid banner and these frames.
fn server_after(frames: &[Bytes]) -> Connection {
    let mut server = Connection::accept(config(), false);
    server.feed(banner(1, 0).into()).unwrap();
    for bytes in frames {
        server.feed(bytes.clone()).unwrap();
    }
    server
}

fn server_before_ident() -> Connection {
    server_after(&[
        frame(&hello()),
        frame(&auth::request(&claim(), EntityKind::OSD)),
        frame(&AuthSignature { signature: Signature::default() }),
    ])
}

fn ready_server() -> Connection {
    let mut server = server_after(&[]);
    get_ready(&mut server);
    server
}

fn refused(server: &mut Connection, bytes: impl Into<Bytes>) -> ProtocolError {
    let error = server.feed(bytes.into()).unwrap_err();
    assert!(server.is_closing());
    assert_eq!(server.feed(Bytes::from_static(b"more")), Err(error.clone()), "the error stays");
    assert!(!error.to_string().is_empty());
    error
}

#[test]
fn garbage_is_refused_at_its_first_byte() {
    for garbage in [&b"GET / HTTP/1.1\r\n"[..], b"\0", b"ceph v1\n", b"ceph v2\0"] {
        let mut server = Connection::accept(config(), false);
        let error = refused(&mut server, Bytes::copy_from_slice(garbage));
        assert!(matches!(error, ProtocolError::BadBanner { .. }), "{error}");
        assert!(error.to_string().contains("does not speak msgr2"));
    }
}

#[test]
fn banners_out_of_bounds_are_refused_and_longer_ones_skipped() {
    let mut server = Connection::accept(config(), false);
    assert!(matches!(refused(&mut server, banner(3, 2)), ProtocolError::BannerFeatures { required: 2, .. }));
    let mut server = Connection::accept(config(), false);
    let error = refused(&mut server, &b"ceph v2\n\xff\xff"[..]);
    assert!(matches!(error, ProtocolError::BannerLength { length: 65535, .. }));
    let mut server = Connection::accept(config(), false);
    assert!(matches!(refused(&mut server, &b"ceph v2\n\x0f\0"[..]), ProtocolError::BannerLength { .. }));

    let mut longer = banner(1, 0);
    longer[8] = 20;
    longer.extend([9; 4]);
    let mut server = Connection::accept(config(), false);
    server.feed(longer.into()).unwrap();
    server.feed(frame(&hello())).unwrap();
    assert_eq!(server.state_text(), "authenticating");
}

#[test]
fn a_frame_that_claims_four_gib_is_refused_at_its_preamble() {
    let mut server = ready_server();
    let mut preamble = Preamble::new(Tag::MESSAGE, [41, 4, 0, 4]).encode();
    for length_at in [2 + 6, 2 + 18] {
        let mut bytes = preamble;
        bytes[length_at..length_at + 4].fill(0xff);
        let crc = crc32c(0, &bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        let error = refused(&mut ready_server(), bytes.to_vec());
        assert!(error.to_string().contains("segment length 4294967295"), "{error}");
    }
    preamble[0] = 200;
    let crc = crc32c(0, &preamble[..28]);
    preamble[28..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(refused(&mut server, preamble.to_vec()), ProtocolError::UnknownTag { tag: 200 });
}

#[test]
fn nothing_is_kept_of_a_message_that_is_damaged() {
    let mut server = ready_server();
    let mut transmit = Transmit::default();
    let data = Data::from(vec![7; 100_000]);
    transmit.message(Revision::V21, &[0; 41], &Bytes::from_static(b"front"), &Bytes::new(), &data);
    let mut bytes = transmit.take().concat();
    let in_data = bytes.len() - 100;
    bytes[in_data] ^= 1;
    let error = refused(&mut server, bytes);
    assert!(matches!(error, ProtocolError::Checksum { what: "segment 3", .. }), "{error}");
    assert_eq!(server.buffered_bytes(), 0, "the link may live on until its peer has taken what was sent");
}

#[test]
fn a_claimed_length_costs_no_memory_and_a_cut_frame_gives_no_event() {
    let mut server = ready_server();
    let mut transmit = Transmit::default();
    let data = Data::from(vec![7; 90 << 20]);
    transmit.message(Revision::V21, &[0; 41], &Bytes::new(), &Bytes::new(), &data);
    let bytes = transmit.take();
    server.feed(bytes[0].clone()).unwrap();
    assert!(server.buffered_bytes() < 1024, "90 MiB are claimed, what is kept is what came");
    let payload = &bytes[1];
    let mut came = 0;
    for part in [1000, 100_000, 1 << 20] {
        server.feed(payload.slice(came..came + part)).unwrap();
        came += part;
        assert!(server.buffered_bytes() <= 2 * came + (256 << 10), "{} for {came}", server.buffered_bytes());
    }
    assert_eq!(server.poll_event(), None);
}

#[test]
fn frames_out_of_order_are_refused_at_their_preamble() {
    let message = Preamble::new(Tag::MESSAGE, [41, 0, 0, 90 << 20]).encode().to_vec();
    let error = refused(&mut server_after(&[]), message.clone());
    assert_eq!(error, ProtocolError::UnexpectedTag { tag: Tag::MESSAGE, state: "waiting for HELLO" });
    assert!(matches!(refused(&mut server_before_ident(), message), ProtocolError::UnexpectedTag { .. }));
    for bytes in [frame(&ident()), frame(&Keepalive { sent_at: UTime::default() })] {
        let error = refused(&mut server_after(&[frame(&hello())]), bytes);
        assert!(error.to_string().ends_with("frame while authenticating"), "{error}");
    }
    assert!(matches!(refused(&mut ready_server(), frame(&hello())), ProtocolError::UnexpectedTag { .. }));
}

#[test]
fn a_client_without_an_acceptable_method_is_dropped_in_the_end() {
    let mut server = server_after(&[frame(&hello())]);
    let request = frame(&AuthRequest { method: 2, modes: vec![2, 1], payload: Bytes::new() });
    let error = (0..20).find_map(|_| server.feed(request.clone()).err()).unwrap();
    assert!(matches!(error, ProtocolError::Auth { .. }), "{error}");
}

#[test]
fn a_wrong_signature_is_refused() {
    let mut server = server_after(&[frame(&hello()), frame(&auth::request(&claim(), EntityKind::OSD))]);
    let wrong = frame(&AuthSignature { signature: Signature([1; 32]) });
    assert_eq!(refused(&mut server, wrong), ProtocolError::Signature);
}

#[test]
fn idents_are_checked_in_order() {
    let check = |change: &dyn Fn(&mut ClientIdent)| {
        let mut ident = ident();
        change(&mut ident);
        refused(&mut server_before_ident(), frame(&ident))
    };
    let none = AddrVec::default();
    let wrong = Addr::msgr2(OWN.parse().unwrap(), 78);
    // All wrong: the addresses are what is noticed first, then the target, then the features.
    let error = check(&|i| {
        i.addrs = none.clone();
        i.target = wrong;
        i.supported = Features::NONE;
    });
    assert!(matches!(error, ProtocolError::PeerAddress { .. }), "{error}");
    let error = check(&|i| i.addrs = Addr::default().into());
    assert!(matches!(error, ProtocolError::PeerAddress { .. }), "{error}");
    let error = check(&|i| {
        i.target = wrong;
        i.supported = Features::NONE;
    });
    assert_eq!(error, ProtocolError::WrongTarget { target: wrong, own: own_addr().into() });
    assert!(error.to_string().contains("v2:127.0.0.1:6800/78"), "{error}");
    let error = check(&|i| i.required = Features(1 << 62));
    assert_eq!(error, ProtocolError::FeaturesUnsupported { missing: Features(1 << 62) });

    // Missing features are told to the client before the connection closes.
    let mut server = server_before_ident();
    drop(server.poll_transmit());
    let ident = ClientIdent { supported: Features(1), ..ident() };
    let error = refused(&mut server, frame(&ident));
    assert_eq!(error, ProtocolError::PeerLacksFeatures { missing: Features::MSG_ADDR2 });
    let told = server.poll_transmit().concat();
    assert_eq!(told, frame(&IdentMissingFeatures { missing: Features::MSG_ADDR2 }));
}

#[test]
fn nothing_is_read_while_the_shell_must_answer() {
    let mut server = server_before_ident();
    server.feed(frame(&ident())).unwrap();
    assert!(matches!(server.poll_event(), Some(Event::NeedSession(_))));
    // Bytes that come meanwhile are kept, up to a bound.
    let message =
        MessageHeader { tid: 1, kind: 2, priority: 1, version: 1, compat_version: 1, data_offset: 0 };
    let mut transmit = Transmit::default();
    let header =
        wire::codec::encode_to_bytes(&wire::msgr2::WireHeader { seq: 1, ack_seq: 0, header: message });
    transmit.message(Revision::V21, &header, &Bytes::new(), &Bytes::new(), &Data::new());
    let bytes: Bytes = transmit.take().concat().into();
    server.feed(bytes.clone()).unwrap();
    assert_eq!(server.poll_event(), None);
    server.answer(Answer::Accept(Box::new(Session::lossy()))).unwrap();
    assert!(matches!(server.poll_event(), Some(Event::Connected(_))));
    let Some(Event::Message(got)) = server.poll_event() else { panic!() };
    assert_eq!(got.header, message);
    // The same number again is a repetition, dropped silently.
    server.feed(bytes).unwrap();
    assert_eq!(server.poll_event(), None);

    let mut server = server_before_ident();
    server.feed(frame(&ident())).unwrap();
    let error = refused(&mut server, vec![0; 200_000]);
    assert!(matches!(error, ProtocolError::HandshakeFlood { .. }), "{error}");
}

const LONG: MessageHeader =
    MessageHeader { tid: 7, kind: 42, priority: 63, version: 8, compat_version: 3, data_offset: 0 };

/// What comes before and after the data, of `length` bytes with checksum `crc`, of a message; what `transmit` refuses to send.
fn around_long_data(seq: u64, front: &[u8], length: usize, crc: u32) -> (Bytes, Bytes) {
    let header = encode_to_bytes(&WireHeader { seq, ack_seq: 0, header: LONG });
    let mut head = vec![Tag::MESSAGE.byte(), 4];
    for (length, align) in [(header.len(), 8u16), (front.len(), 8), (0, 8), (length, 4096)] {
        head.extend(u32::try_from(length).unwrap().to_le_bytes());
        head.extend(align.to_le_bytes());
    }
    head.extend([0, 0]);
    head.extend(crc32c(0, &head).to_le_bytes());
    head.extend_from_slice(&header);
    head.extend(crc32c(SEED, &header).to_le_bytes());
    head.extend_from_slice(front);
    let mut tail = vec![0xe];
    [crc32c(SEED, front), SEED, crc].iter().for_each(|crc| tail.extend(crc.to_le_bytes()));
    (head.into(), tail.into())
}

#[test]
fn data_too_long_to_keep_is_dropped_for_who_wants_that_and_costs_no_memory() {
    const LENGTH: usize = MESSAGE_DATA_BYTES_MAX + 5000;
    let piece = Bytes::from(vec![0x5a; 1 << 20]);
    let pieces = || (0..LENGTH).step_by(piece.len()).map(|at| piece.slice(..piece.len().min(LENGTH - at)));
    let crc = pieces().fold(SEED, |crc, piece| crc32c(crc, &piece));
    let ready = |long_data| {
        let mut server = Connection::accept(config(), false).with_long_data(long_data);
        server.feed(banner(1, 0).into()).unwrap();
        get_ready(&mut server);
        server
    };
    let (head, tail) = around_long_data(1, b"front", LENGTH, crc);
    let error = refused(&mut ready(LongData::Refused), head.clone());
    assert!(matches!(error, ProtocolError::FrameShape { .. }), "before any of it comes: {error}");

    let mut server = ready(LongData::Dropped);
    server.feed(head.clone()).unwrap();
    for piece in pieces() {
        server.feed(piece).unwrap();
        assert!(server.buffered_bytes() < 100, "{}", server.buffered_bytes());
        assert_eq!(server.poll_event(), None);
    }
    server.feed(tail.clone()).unwrap();
    let Some(Event::TooLong { message: long, data_bytes }) = server.poll_event() else {
        panic!("nothing came")
    };
    assert_eq!((&long.front[..], long.data.len(), data_bytes), (&b"front"[..], 0, LENGTH));
    // What follows is understood, also when it comes together with the end.
    let mut next = Transmit::default();
    let header = encode_to_bytes(&WireHeader { seq: 2, ack_seq: 0, header: LONG });
    next.message(Revision::V21, &header, &Bytes::from_static(b"next"), &Bytes::new(), &Data::new());
    server.feed(next.take().concat().into()).unwrap();
    assert!(matches!(server.poll_event(), Some(Event::Message(next)) if next.front == b"next"[..]));

    // What is dropped must be whole all the same.
    let mut server = ready(LongData::Dropped);
    let (head, tail) = around_long_data(1, b"front", LENGTH, crc ^ 1);
    server.feed(head).unwrap();
    pieces().for_each(|piece| server.feed(piece).unwrap());
    assert!(matches!(refused(&mut server, tail), ProtocolError::Checksum { what: "segment 3", .. }));
}

#[test]
fn an_aborted_frame_is_dropped() {
    for (revision, aborted) in [(Revision::V21, 1), (Revision::V20, 1)] {
        let mut transmit = Transmit::default();
        let header = vec![1; 41];
        transmit.message(revision, &header, &Bytes::from_static(b"front"), &Bytes::new(), &Data::new());
        let mut bytes = transmit.take().concat();
        let epilogue = if revision == Revision::V21 { 13 } else { 17 };
        let at = bytes.len() - epilogue;
        bytes[at..].fill(0);
        bytes[at] = aborted;
        let mut transmit = Transmit::default();
        transmit.control(revision, Tag::ACK, &7u64.to_le_bytes());
        bytes.extend(transmit.take().concat());
        let mut input = wire::msgr2::Input::default();
        input.push(bytes.into());
        let mut assembler = wire::msgr2::Assembler::new(revision, LongData::Refused);
        let frame: Frame = assembler.poll(&mut input, |_| Ok(())).unwrap().unwrap();
        assert_eq!(frame.tag, Tag::ACK, "{revision:?}");
    }
}

fn client(session: Session) -> Connection {
    let config = Config { kind: EntityKind::CLIENT, addrs: AddrVec::default(), ..config() };
    Connection::connect(config, own_addr(), EntityKind::OSD, claim(), session)
}

#[test]
fn a_client_checks_who_answers() {
    let server_hello =
        |kind| frame(&Hello { kind, peer_addr: Addr::msgr2("127.0.0.1:9".parse().unwrap(), 0) });
    let mut caller = client(Session::lossy());
    caller.feed(banner(1, 0).into()).unwrap();
    let error = refused(&mut caller, server_hello(EntityKind::MON));
    assert!(error.to_string().contains("peer is mon, expected osd"), "{error}");

    let answer = |change: &dyn Fn(&mut ServerIdent)| {
        let mut caller = client(Session::lossy());
        caller.feed(banner(1, 0).into()).unwrap();
        caller.feed(server_hello(EntityKind::OSD)).unwrap();
        let done = wire::msgr2::control::AuthDone { global_id: 4100, mode: 1, payload: Bytes::new() };
        caller.feed(frame(&done)).unwrap();
        caller.feed(frame(&AuthSignature { signature: Signature::default() })).unwrap();
        let mut ident = ServerIdent {
            addrs: own_addr().into(),
            global_id: 3,
            global_seq: 1,
            supported: Features::PACIFIC,
            required: Features::MSG_ADDR2,
            flags: FLAG_LOSSY,
            cookie: 0,
        };
        change(&mut ident);
        let result = caller.feed(frame(&ident));
        (result, caller)
    };
    let (result, caller) = answer(&|_| {});
    assert!(result.is_ok() && caller.is_ready());
    let (result, _) = answer(&|ident| ident.addrs = Addr::msgr2(OWN.parse().unwrap(), 78).into());
    assert!(matches!(result, Err(ProtocolError::WrongPeer { .. })));
    let (result, _) = answer(&|ident| ident.required = Features(1 << 62));
    assert!(matches!(result, Err(ProtocolError::FeaturesUnsupported { .. })));
    let (result, _) = answer(&|ident| ident.supported = Features::NONE);
    assert!(matches!(result, Err(ProtocolError::PeerLacksFeatures { .. })));
    let (result, _) = answer(&|ident| ident.flags = 0);
    assert!(matches!(result, Err(ProtocolError::Auth { .. })), "lossless without cookies");
}

#[test]
fn a_queue_that_nobody_reads_has_an_end() {
    let mut caller = client(Session::lossless(5));
    let message = |data: usize| Message {
        header: MessageHeader { tid: 0, kind: 2, priority: 1, version: 1, compat_version: 1, data_offset: 0 },
        front: Bytes::new(),
        middle: Bytes::new(),
        data: Data::from(Bytes::from_static(&[0; 1 << 20]).slice(..data)),
    };
    let sent = (0..10_000).take_while(|_| caller.send(message(1)).is_ok()).count();
    assert_eq!(sent, wire::limits::QUEUED_MESSAGES_MAX);
    let mut caller = client(Session::lossless(5));
    let sent = (0..10_000).take_while(|_| caller.send(message(1 << 20)).is_ok()).count();
    // Our banner counts too.
    assert_eq!(sent + 1, wire::limits::QUEUED_BYTES_MAX >> 20);
    assert!(matches!(caller.send(message(1 << 20)), Err(SendError::QueueFull { .. })));
    let mut closing = Connection::accept(config(), false);
    assert_eq!(closing.send(message(1)), Err(SendError::Closing), "no session, nobody to send to");
}
