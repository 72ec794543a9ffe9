//! Messages echoed over loopback: what a connection costs its server.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use rt::{CoreId, Group, uring};

use crate::backend::{Backend, Sample, measure, start};

/// Bytes of a message.
pub const MESSAGE_BYTES: usize = 4096;
const CLIENT_CPU: usize = 1;

/// Echoes for so long over so many connections, each with one message on its way.
pub fn echo(backend: Backend, connections: usize, time: Duration) -> Sample {
    let (say, hear) = mpsc::channel();
    let (stop, mut stopped) = rt::mailbox::mailbox::<()>(1);
    let server = start(backend, move |core| async move {
        let mut listener = core.listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        say.send(listener.local_addr()).unwrap();
        let serving = core.clone();
        core.spawn(Group::Client, "accept", async move {
            while let Ok(mut stream) = listener.accept().await {
                serving.spawn(Group::Client, "echo", async move {
                    while let Ok(bytes) = stream.reader.read().await {
                        if bytes.is_empty() || stream.writer.write_all(vec![bytes]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        stopped.recv().await;
    });
    let address = hear.recv().unwrap();
    // The same clients for both.
    let config = uring::Config { cpus: vec![CLIENT_CPU], ..uring::Config::default() };
    let clients = uring::spawn_core(CoreId(1), config, move |core| async move {
        let count = Rc::new(Cell::new(0_u64));
        for _ in 0..connections {
            let count = count.clone();
            let mut stream = core.connect(address).await.unwrap();
            core.spawn(Group::Client, "client", async move {
                let message = Bytes::from(vec![7; MESSAGE_BYTES]);
                loop {
                    stream.writer.write_all(vec![message.clone()]).await.unwrap();
                    let mut got = 0;
                    while got < MESSAGE_BYTES {
                        let bytes = stream.reader.read().await.unwrap();
                        assert!(!bytes.is_empty());
                        got += bytes.len();
                    }
                    count.set(count.get() + 1);
                }
            });
        }
        measure(&core, time, &count, |thread| thread).await
    })
    .unwrap();
    let sample = clients.join().unwrap();
    stop.try_send(()).unwrap();
    server.join().unwrap();
    sample
}
