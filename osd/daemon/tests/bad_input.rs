//! Peers that do not keep to the protocol cost their own connection and nothing else.

mod cluster;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use cluster::client::{read, write};
use cluster::{Client, with_osd, within};
use store::MemStore;
use wire::codec::encode_to_bytes;
use wire::crc::{SEED, crc32c};
use wire::msg::{Op, OpArgs, OpCode, Payload};
use wire::msgr2::{Event, Message, Tag, WireHeader};
use wire::types::Addr;

/// Sends `bytes` to the OSD; whether it closed the connection within a minute.
async fn is_closed_after(world: &cluster::World, bytes: Bytes) -> bool {
    let socket = world.osd.address().0[0].socket_addr().expect("an address");
    let mut stream = world.core.connect(socket).await.expect("a listening OSD");
    stream.writer.write_all(vec![bytes]).await.expect("written");
    let ended = async {
        while let Ok(chunk) = stream.reader.read().await {
            if chunk.is_empty() {
                break;
            }
        }
    };
    rt::sync::timeout(&world.core, Duration::from_secs(60), ended).await.is_ok()
}

#[test]
fn garbage_and_silence_are_closed() {
    with_osd(Rc::new(MemStore::new(1 << 26)), async |world| {
        let mut banner = b"ceph v2\n".to_vec();
        banner.extend_from_slice(&[16, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut huge = banner.clone();
        // A frame that claims segments of 4 GiB.
        huge.extend_from_slice(&[1, 1, 0xff, 0xff, 0xff, 0xff, 8, 0]);
        huge.extend_from_slice(&[0; 24]);
        for (what, bytes) in [
            ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            ("nothing", Vec::new()),
            ("a banner and nothing more", banner.clone()),
            ("half a banner", banner[..9].to_vec()),
            ("a frame of 4 GiB", huge),
            ("noise after the banner", [banner.clone(), vec![0x5a; 4000]].concat()),
        ] {
            assert!(is_closed_after(&world, bytes.into()).await, "{what}");
        }
        assert_eq!(world.client(4100).await.read("x").await, Err(-2));
        assert_eq!(world.osd.osd().connection_counts().1, 0);
    });
}

#[test]
fn half_open_connections_are_bounded() {
    with_osd(Rc::new(MemStore::new(1 << 26)), async |world| {
        let socket = world.osd.address().0[0].socket_addr().expect("an address");
        let mut open = Vec::new();
        for _ in 0..200 {
            open.push(world.core.connect(socket).await.expect("a listening OSD"));
        }
        world.core.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.osd.osd().connection_counts().1, 128);
        assert_eq!(world.osd.osd().counters.connections_refused.get(), 72);
        // They are given up in time, and clients get in again.
        world.core.sleep(Duration::from_secs(15)).await;
        assert_eq!(world.osd.osd().connection_counts(), (0, 0));
        assert_eq!(world.client(4100).await.read("x").await, Err(-2));
    });
}

#[test]
fn a_client_that_wants_somebody_else_is_refused() {
    with_osd(Rc::new(MemStore::new(1 << 26)), async |world| {
        let right = world.osd.address().0[0];
        let wrong = Addr { nonce: right.nonce ^ 1, ..right };
        let (pump, mut events) = Client::open(&world.core, &wrong, 4100, 9, 1).await;
        within(&world.core, pump.closed.wait()).await;
        while let Some(event) = events.try_recv() {
            assert!(!matches!(event, Event::Connected(_)));
        }
    });
}

#[test]
fn a_message_that_cannot_be_read_closes_its_connection_only() {
    with_osd(Rc::new(MemStore::new(1 << 26)), async |world| {
        let (bad, good) = (world.client(4100).await, world.client(4200).await);
        let mut message = bad.request("x", vec![read()]).to_message(1);
        message.front = message.front.slice(..20);
        bad.pump.send(message);
        within(&world.core, bad.pump.closed.wait()).await;
        assert_eq!(good.read("x").await, Err(-2));
        // One of a kind that nobody knows is ignored.
        let mut unknown = good.request("x", vec![read()]).to_message(1);
        unknown.header.kind = 9999;
        good.pump.send(unknown);
        assert_eq!(good.read("x").await, Err(-2));
    });
}

/// The frame of a message with more data than a connection of ours would send; stock clients do.
fn long_frame(seq: u64, message: &Message) -> Vec<Bytes> {
    let header = encode_to_bytes(&WireHeader { seq, ack_seq: 0, header: message.header });
    let mut head = vec![Tag::MESSAGE.byte(), 4];
    for (length, align) in
        [(header.len(), 8u16), (message.front.len(), 8), (0, 8), (message.data.len(), 4096)]
    {
        head.extend(u32::try_from(length).expect("as stock clients").to_le_bytes());
        head.extend(align.to_le_bytes());
    }
    head.extend([0, 0]);
    head.extend(crc32c(0, &head).to_le_bytes());
    head.extend_from_slice(&header);
    head.extend(crc32c(SEED, &header).to_le_bytes());
    head.extend_from_slice(&message.front);
    let mut tail = vec![0xe];
    for crc in [crc32c(SEED, &message.front), SEED, message.data.checksum()] {
        tail.extend(crc.to_le_bytes());
    }
    [vec![head.into()], message.data.parts().to_vec(), vec![tail.into()]].concat()
}

#[test]
fn writes_of_any_length_are_answered() {
    const MIB: usize = 1 << 20;
    // More than may be in flight of one client, too.
    let zeroes = Bytes::from(vec![0; 600 * MIB]);
    with_osd(Rc::new(MemStore::new(1 << 26)), async move |world| {
        let client = world.client(4100).await;
        let request = |object: &str, code, length: usize| {
            let args = OpArgs::extent(0, length as u64);
            client.request(object, vec![Op::new(code, args, zeroes.slice(..length))])
        };
        // What a connection of ours would send too, and what it would not.
        assert_eq!(client.ask(&request("x", OpCode::WRITE_FULL, 90 * MIB + 1)).await.result, -90);
        let mut tid = 1000;
        for (code, length, name, result) in [
            (OpCode::WRITE_FULL, 134 * MIB + 1, "x", -90),
            (OpCode::APPEND, 150 * MIB, "x", -90),
            (OpCode::SETXATTR, 150 * MIB, "x", -90),
            (OpCode::CMPEXT, 150 * MIB, "x", -90),
            (OpCode::CALL, 150 * MIB, "x", -90),
            (OpCode::WRITE, 150 * MIB, &*"n".repeat(2049), -36),
            (OpCode::WRITE, 600 * MIB, "x", -90),
        ] {
            tid += 1;
            client.pump.send_raw(long_frame(tid, &request(name, code, length).to_message(tid)));
            let reply = client.wait(tid).await;
            assert_eq!(reply.result, result, "{code:?} of {length} bytes");
            assert_eq!(reply.ops.len(), 1);
        }
        assert!(!client.pump.closed.is_set(), "all on one connection");
        // Other messages are never so long.
        let mut strange = request("x", OpCode::WRITE, 150 * MIB).to_message(7);
        strange.header.kind = 97;
        client.pump.send_raw(long_frame(2000, &strange));
        within(&world.core, client.pump.closed.wait()).await;
        assert_eq!(world.client(4200).await.read("x").await, Err(-2), "nothing was written");
        let osd = world.osd.osd();
        assert_eq!(osd.request_bytes.free(), osd.request_bytes.total());
    });
}

#[test]
fn a_client_that_comes_again_replaces_its_older_connection() {
    with_osd(Rc::new(MemStore::new(1 << 26)), async |world| {
        let older = world.client(4100).await;
        let target = world.osd.address().0[0];
        let (pump, mut events) = Client::open(&world.core, &target, 4100, 4101, 2).await;
        within(&world.core, older.pump.closed.wait()).await;
        assert!(matches!(within(&world.core, events.recv()).await, Some(Event::Connected(_))));
        // One that is older than the newest is turned away.
        let (stale, _events) = Client::open(&world.core, &target, 4100, 4101, 1).await;
        within(&world.core, stale.closed.wait()).await;
        assert!(!pump.closed.is_set());
        assert_eq!(world.osd.osd().connection_counts(), (1, 0));
    });
}

#[test]
fn connections_that_break_leave_nothing_behind() {
    with_osd(Rc::new(MemStore::new(1 << 26)), async |world| {
        for number in 0..50 {
            let client = world.client(4100 + number).await;
            for _ in 0..10 {
                client.send(&client.request("x", vec![write(OpCode::WRITE, 0, &[1; 5000])]));
            }
            client.pump.close();
        }
        world.core.sleep(Duration::from_secs(1)).await;
        let osd = world.osd.osd();
        assert_eq!(osd.connection_counts(), (0, 0));
        assert_eq!(osd.tracker.in_flight(), 0);
        assert_eq!(osd.requests.free(), osd.requests.total());
        assert_eq!(osd.request_bytes.free(), osd.request_bytes.total());
        within(&world.core, world.osd.stop()).await;
    });
}
