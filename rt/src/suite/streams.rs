//! Sockets.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::core::{Core, Group};
use crate::net::{Listener, ReadHalf, Stream, WriteHalf};
use crate::sync::{Either, oneshot, select, timeout, yield_now};

fn listen(core: &Core) -> (Listener, SocketAddr) {
    let listener = core.listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr();
    assert_ne!(address.port(), 0);
    (listener, address)
}

/// Two ends of one connection.
async fn pair(core: &Core) -> (Stream, Stream) {
    let (mut listener, address) = listen(core);
    let (sender, receiver) = oneshot();
    let connecting = core.clone();
    core.spawn(Group::Client, "connect", async move {
        let _ = sender.send(connecting.connect(address).await.unwrap());
    });
    let accepted = listener.accept().await.unwrap();
    let connected = receiver.await.unwrap();
    assert_eq!((connected.peer, connected.local), (accepted.local, accepted.peer));
    assert_eq!(connected.peer, address);
    (connected, accepted)
}

/// Bytes that depend on their place.
fn pattern(start: usize, len: usize) -> Bytes {
    (start..start + len).map(|place| (place ^ (place >> 8) ^ (place >> 16)) as u8).collect()
}

async fn write(writer: &mut WriteHalf, bytes: impl Into<Bytes>) {
    writer.write_all(vec![bytes.into()]).await.unwrap();
}

async fn read_exactly(reader: &mut ReadHalf, len: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < len {
        let bytes = reader.read().await.unwrap();
        assert!(!bytes.is_empty(), "the stream ended after {} of {len} bytes", got.len());
        got.extend_from_slice(&bytes);
    }
    assert_eq!(got.len(), len, "more came than was expected");
    got
}

async fn read_to_end(reader: &mut ReadHalf) -> io::Result<Vec<u8>> {
    let mut got = Vec::new();
    loop {
        let bytes = reader.read().await?;
        if bytes.is_empty() {
            return Ok(got);
        }
        got.extend_from_slice(&bytes);
    }
}

/// Fails instead of hanging.
async fn soon<F: Future>(core: &Core, future: F) -> F::Output {
    timeout(core, Duration::from_secs(20), future).await.expect("it takes for ever")
}

pub(super) async fn echo(core: Core) {
    let (mut client, mut server) = pair(&core).await;
    core.spawn(Group::Client, "server", async move {
        loop {
            let bytes = server.reader.read().await.unwrap();
            if bytes.is_empty() {
                return;
            }
            server.writer.write_all(vec![bytes]).await.unwrap();
        }
    });
    for len in [1, 2, 100, 2048, 2049, 4096, 70_000, 1] {
        let message = pattern(len, len);
        write(&mut client.writer, message.clone()).await;
        assert!(read_exactly(&mut client.reader, len).await == message);
    }
    client.writer.shutdown();
    assert!(client.reader.read().await.unwrap().is_empty());
    // The end stays the end.
    assert!(client.reader.read().await.unwrap().is_empty());
}

pub(super) async fn many_connections(core: Core) {
    const COUNT: u8 = 150;
    let (mut listener, address) = listen(&core);
    let done = Rc::new(Cell::new(0));
    for number in 0..COUNT {
        let (own, done) = (core.clone(), done.clone());
        core.spawn(Group::Client, "client", async move {
            let mut stream = own.connect(address).await.unwrap();
            write(&mut stream.writer, vec![number; 3000]).await;
            assert!(read_exactly(&mut stream.reader, 3000).await == [number ^ 255; 3000]);
            done.set(done.get() + 1);
        });
    }
    let mut streams = Vec::new();
    for _ in 0..COUNT {
        streams.push(soon(&core, listener.accept()).await.unwrap());
    }
    for stream in &mut streams {
        let got = soon(&core, read_exactly(&mut stream.reader, 3000)).await;
        write(&mut stream.writer, vec![got[0] ^ 255; 3000]).await;
    }
    for stream in &mut streams {
        assert!(soon(&core, read_to_end(&mut stream.reader)).await.unwrap().is_empty());
    }
    assert_eq!(done.get(), COUNT);
}

pub(super) async fn big_transfer_both_ways(core: Core) {
    const TOTAL: usize = 6 << 20;
    let (client, server) = pair(&core).await;
    let mut ends = Vec::new();
    for (mut stream, step) in [(client, 100_003), (server, 1 << 20)] {
        let mut writer = stream.writer;
        core.spawn(Group::Client, "writer", async move {
            let mut start = 0;
            while start < TOTAL {
                let len = step.min(TOTAL - start);
                write(&mut writer, pattern(start, len)).await;
                start += len;
            }
        });
        let (sender, receiver) = oneshot();
        core.spawn(Group::Client, "reader", async move {
            let mut start = 0;
            loop {
                let bytes = stream.reader.read().await.unwrap();
                if bytes.is_empty() {
                    break;
                }
                assert!(bytes == pattern(start, bytes.len()), "wrong bytes at {start}");
                start += bytes.len();
            }
            sender.send(start).unwrap();
        });
        ends.push(receiver);
    }
    for end in ends {
        assert_eq!(soon(&core, end).await, Ok(TOTAL));
    }
}

pub(super) async fn many_chunks_in_one_write(core: Core) {
    let (mut client, mut server) = pair(&core).await;
    let mut chunks = Vec::new();
    let mut total = 0;
    for number in 0..3000 {
        // Empty ones among them.
        let len = number * 31 % 700;
        chunks.push(pattern(total, len));
        total += len;
    }
    core.spawn(Group::Client, "writer", async move {
        client.writer.write_all(chunks).await.unwrap();
        client.writer.write_all(Vec::new()).await.unwrap();
        client.writer.write_all(vec![Bytes::new()]).await.unwrap();
    });
    let got = soon(&core, read_to_end(&mut server.reader)).await.unwrap();
    assert!(got == pattern(0, total));
}

pub(super) async fn half_close(core: Core) {
    let (mut client, mut server) = pair(&core).await;
    write(&mut client.writer, "question").await;
    drop(client.writer);
    assert_eq!(read_to_end(&mut server.reader).await.unwrap(), b"question");
    // The other direction is still open.
    write(&mut server.writer, "answer").await;
    server.writer.shutdown();
    assert_eq!(read_to_end(&mut client.reader).await.unwrap(), b"answer");
    assert!(server.writer.write_all(vec![Bytes::from("late")]).await.is_err());
}

pub(super) async fn writers_wait_for_slow_readers(core: Core) {
    const TOTAL: usize = 64 << 20;
    let (mut client, mut server) = pair(&core).await;
    let chunk = pattern(0, 1 << 20);
    let written = Rc::new(Cell::new(0));
    let (count, again) = (written.clone(), chunk.clone());
    core.spawn(Group::Client, "writer", async move {
        while count.get() < TOTAL {
            write(&mut client.writer, again.clone()).await;
            count.set(count.get() + again.len());
        }
    });
    // The buffers on the way fill up, then nothing goes on.
    let first = server.reader.read().await.unwrap();
    core.sleep(Duration::from_millis(100)).await;
    assert!(written.get() < TOTAL, "nothing holds the writer back");
    let mut place = first.len();
    loop {
        let bytes = soon(&core, server.reader.read()).await.unwrap();
        if bytes.is_empty() {
            break;
        }
        // Spot checks: every byte of 64 MiB takes too long in a debug build.
        assert_eq!(bytes[0], chunk[place % chunk.len()]);
        place += bytes.len();
    }
    assert_eq!((place, written.get()), (TOTAL, TOTAL));
}

pub(super) async fn dropped_reads_lose_nothing(core: Core) {
    const TOTAL: usize = 300_000;
    let (mut client, mut server) = pair(&core).await;
    let slow = core.clone();
    core.spawn(Group::Client, "writer", async move {
        for start in (0..TOTAL).step_by(3000) {
            write(&mut client.writer, pattern(start, 3000)).await;
            if start % 30_000 == 0 {
                slow.sleep(Duration::from_micros(300)).await;
            }
        }
    });
    let (mut got, mut dropped) = (Vec::new(), 0);
    while got.len() < TOTAL {
        match select(server.reader.read(), yield_now()).await {
            Either::Left(bytes) => {
                let bytes = bytes.unwrap();
                assert!(!bytes.is_empty());
                got.extend_from_slice(&bytes);
            }
            Either::Right(()) => dropped += 1,
        }
    }
    assert!(got == pattern(0, TOTAL));
    assert!(dropped > 0);
}

pub(super) async fn dropping_the_reader_alone_keeps_the_writer(core: Core) {
    let (mut client, mut server) = pair(&core).await;
    // A read was under way.
    let _ = select(client.reader.read(), yield_now()).await;
    drop(client.reader);
    write(&mut client.writer, pattern(0, 100_000)).await;
    drop(client.writer);
    assert!(soon(&core, read_to_end(&mut server.reader)).await.unwrap() == pattern(0, 100_000));
}

pub(super) async fn a_dropped_stream_ends_at_the_peer(core: Core) {
    let (client, mut server) = pair(&core).await;
    drop(client);
    assert!(soon(&core, read_to_end(&mut server.reader)).await.unwrap().is_empty());

    // Also while a read is under way, and what was written before still arrives.
    let (mut client, mut server) = pair(&core).await;
    write(&mut client.writer, "last words").await;
    assert!(matches!(select(client.reader.read(), yield_now()).await, Either::Right(())));
    drop(client);
    assert_eq!(soon(&core, read_to_end(&mut server.reader)).await.unwrap(), b"last words");

    // Writing to a peer that is gone fails sooner or later.
    let (client, mut server) = pair(&core).await;
    drop(client);
    let error = soon(&core, async {
        loop {
            if let Err(error) = server.writer.write_all(vec![pattern(0, 4096)]).await {
                return error;
            }
            core.sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(is_end(&error), "{error}");
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected)
}

pub(super) async fn abort_ends_both_sides(core: Core) {
    let (mut client, mut server) = pair(&core).await;
    client.writer.abort();
    // An error or an end, but soon.
    if let Err(error) = soon(&core, read_to_end(&mut server.reader)).await {
        assert!(is_end(&error), "{error}");
    }
    let error = client.writer.write_all(vec![Bytes::from("late")]).await.expect_err("aborted");
    assert!(is_end(&error), "{error}");
    if let Ok(bytes) = soon(&core, client.reader.read()).await {
        assert!(bytes.is_empty());
    }
}

pub(super) async fn abort_wakes_a_reader_of_the_same_side(core: Core) {
    let (client, _server) = pair(&core).await;
    let (mut reader, mut writer) = (client.reader, client.writer);
    let (sender, receiver) = oneshot();
    core.spawn(Group::Client, "reader", async move {
        // Nobody waits for it once the test has failed.
        let _ = sender.send(reader.read().await);
    });
    core.sleep(Duration::from_millis(5)).await;
    writer.abort();
    match soon(&core, receiver).await.unwrap() {
        Ok(bytes) => assert!(bytes.is_empty()),
        Err(error) => assert!(is_end(&error), "{error}"),
    }
}

pub(super) async fn refused_and_taken_addresses(core: Core) {
    let (listener, address) = listen(&core);
    assert_eq!(core.listen(address).err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
    drop(listener);
    core.sleep(Duration::from_millis(5)).await;
    let error = soon(&core, core.connect(address)).await.err().expect("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

pub(super) async fn a_dropped_listener_refuses(core: Core) {
    let (mut listener, address) = listen(&core);
    assert!(timeout(&core, Duration::from_millis(5), listener.accept()).await.is_err());
    drop(listener);
    core.sleep(Duration::from_millis(5)).await;
    assert!(soon(&core, core.connect(address)).await.is_err());
    // The port is free again.
    let mut listener = core.listen(address).unwrap();
    let own = core.clone();
    core.spawn(Group::Client, "connect", async move {
        let mut stream = own.connect(address).await.unwrap();
        write(&mut stream.writer, "again").await;
    });
    let mut stream = soon(&core, listener.accept()).await.unwrap();
    assert_eq!(read_to_end(&mut stream.reader).await.unwrap(), b"again");
}

pub(super) async fn a_dropped_accept_loses_nothing(core: Core) {
    let (mut listener, address) = listen(&core);
    for _ in 0..10 {
        let own = core.clone();
        core.spawn(Group::Client, "connect", async move {
            let mut stream = own.connect(address).await.unwrap();
            write(&mut stream.writer, "hello").await;
            assert!(read_to_end(&mut stream.reader).await.unwrap().is_empty());
        });
    }
    let mut accepted = 0;
    while accepted < 10 {
        let next = soon(&core, async {
            loop {
                if let Either::Left(stream) = select(listener.accept(), yield_now()).await {
                    return stream.unwrap();
                }
            }
        });
        let mut stream = next.await;
        assert_eq!(read_exactly(&mut stream.reader, 5).await, b"hello");
        accepted += 1;
    }
}

pub(super) async fn dropped_connects_leave_no_trace(core: Core) {
    let (mut listener, address) = listen(&core);
    for _ in 0..5 {
        let _ = select(core.connect(address), yield_now()).await;
    }
    let own = core.clone();
    core.spawn(Group::Client, "connect", async move {
        let mut stream = own.connect(address).await.unwrap();
        write(&mut stream.writer, "the one").await;
    });
    // Those given up may be accepted, but have ended.
    soon(&core, async {
        loop {
            let Ok(mut stream) = listener.accept().await else { continue };
            if read_to_end(&mut stream.reader).await.is_ok_and(|got| got == b"the one") {
                break;
            }
        }
    })
    .await;
}

pub(super) async fn received_bytes_outlive_the_connection(core: Core) {
    const LEN: usize = 400_000;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let (mut client, mut server) = pair(&core).await;
        core.spawn(Group::Client, "writer", async move { write(&mut client.writer, pattern(0, LEN)).await });
        let mut place = 0;
        loop {
            let bytes = soon(&core, server.reader.read()).await.unwrap();
            if bytes.is_empty() {
                break;
            }
            kept.push((place, bytes.clone()));
            place += bytes.len();
        }
        assert_eq!(place, LEN);
    }
    // On another thread, in part.
    let half = kept.split_off(kept.len() / 2);
    let check =
        |kept: Vec<(usize, Bytes)>| kept.iter().all(|(place, bytes)| *bytes == pattern(*place, bytes.len()));
    assert!(core.alien(crate::core::Lane::Read, move || check(half)).await);
    assert!(check(kept));
}
