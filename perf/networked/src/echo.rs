//! A bare echo: what any server on this ring pays for a message that comes and one that goes. As if clients did one operation after the
//! other on a connection each, so that each message has a receive and a send of its own.

use std::cell::Cell;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use rt::net::{Listener, Stream};
use rt::{Core, Group};

/// Bytes of a message, each way.
pub const MESSAGE_BYTES: usize = 4096;

/// Echoes what comes, for ever.
pub async fn serve(core: &Core, mut listener: Listener) {
    while let Ok(stream) = listener.accept().await {
        drop(core.spawn(Group::Client, "echo", async move { echo(stream).await }));
    }
}

async fn echo(mut stream: Stream) {
    while let Ok(bytes) = stream.reader.read().await {
        if bytes.is_empty() || stream.writer.write_all(vec![bytes]).await.is_err() {
            return;
        }
    }
}

/// Sends so many messages, one at a time on each connection, and waits for each to come back.
pub async fn exchange(streams: &mut [Stream], messages: u64) -> anyhow::Result<()> {
    let message = Bytes::from(vec![7; MESSAGE_BYTES]);
    let (left, message) = (&Cell::new(messages), &message);
    let exchanges = streams.iter_mut().map(|stream| async move {
        while left.get() > 0 {
            left.set(left.get() - 1);
            stream.writer.write_all(vec![message.clone()]).await.context("the echo")?;
            let mut back = 0;
            while back < MESSAGE_BYTES {
                let chunk = stream.reader.read().await.context("the echo")?;
                ensure!(!chunk.is_empty(), "the echo hung up");
                back += chunk.len();
            }
        }
        anyhow::Ok(())
    });
    try_join_all(exchanges).await.map(drop)
}
