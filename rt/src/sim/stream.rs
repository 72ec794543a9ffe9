//! Listener and stream halves of the simulated network. Each belongs to one life of one host.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::Shared;
use super::net::{EndId, HostLife, Segment};
use crate::core::LocalBoxFuture;
use crate::limits::SIM_SEGMENT_BYTES_MAX;
use crate::net::{Listener, ListenerBackend, ReadBackend, ReadHalf, Stream, WriteBackend, WriteHalf};

pub(super) fn listen(shared: &Rc<Shared>, place: HostLife, address: SocketAddr) -> io::Result<Listener> {
    let address = shared.state.borrow_mut().listen(place, address)?;
    Ok(Listener::new(Box::new(SimListener { shared: shared.clone(), place, address })))
}

pub(super) async fn connect(shared: Rc<Shared>, place: HostLife, to: SocketAddr) -> io::Result<Stream> {
    let number = shared.state.borrow_mut().connect(place, to)?;
    // Forgets the attempt if the future is dropped.
    let attempt = Attempt { shared: shared.clone(), number };
    let end = poll_fn(|cx| attempt.poll(cx)).await?;
    Ok(stream(&shared, end))
}

struct Attempt {
    shared: Rc<Shared>,
    number: u64,
}

impl Attempt {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<EndId>> {
        let mut state = self.shared.state.borrow_mut();
        let Some(attempt) = state.net.attempts.get_mut(&self.number) else {
            // The host was killed.
            return Poll::Ready(Err(io::ErrorKind::NetworkDown.into()));
        };
        match attempt.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                attempt.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.shared.state.borrow_mut().forget_attempt(self.number);
    }
}

fn stream(shared: &Rc<Shared>, end: EndId) -> Stream {
    let mut state = shared.state.borrow_mut();
    let address = |id| state.net.end(id).map(|end| end.address);
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let [local, peer] = [end, end.peer()].map(address).map(|address| address.unwrap_or(unknown));
    Stream {
        reader: ReadHalf::new(Box::new(Reader { shared: shared.clone(), end })),
        writer: WriteHalf::new(Box::new(Writer { shared: shared.clone(), end })),
        peer,
        local,
    }
}

struct SimListener {
    shared: Rc<Shared>,
    place: HostLife,
    address: SocketAddr,
}

impl SimListener {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<EndId>> {
        let mut state = self.shared.state.borrow_mut();
        let key = (self.place.host, self.address.port());
        let Some(listener) = state.net.listeners.get_mut(&key) else {
            return Poll::Ready(Err(io::ErrorKind::NetworkDown.into()));
        };
        match listener.queue.pop_front() {
            Some(end) => Poll::Ready(Ok(end)),
            None => {
                listener.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl ListenerBackend for SimListener {
    fn accept(&mut self) -> LocalBoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let end = poll_fn(|cx| self.poll(cx)).await?;
            Ok(stream(&self.shared, end))
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.shared.state.borrow_mut().unlisten(self.place, self.address.port());
    }
}

struct Reader {
    shared: Rc<Shared>,
    end: EndId,
}

impl Reader {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut state = self.shared.state.borrow_mut();
        // Pieces as they come, a part of the first, or several as one.
        let (split, merge) = (state.net.random.one_in(8), state.net.random.one_in(8));
        let lot = state.net.random.next_u64() as usize;
        let Some(end) = state.net.end(self.end) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Some(mut bytes) = end.inbox.pop_front() else {
            if let Some(kind) = end.error {
                return Poll::Ready(Err(kind.into()));
            }
            if end.fin_received {
                return Poll::Ready(Ok(Bytes::new()));
            }
            end.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if split && bytes.len() > 1 {
            let rest = bytes.split_off(1 + lot % (bytes.len() - 1));
            end.inbox.push_front(rest);
        } else if merge {
            let mut merged = BytesMut::from(&bytes[..]);
            while let Some(next) = end.inbox.front() {
                if merged.len() + next.len() > SIM_SEGMENT_BYTES_MAX {
                    break;
                }
                merged.extend_from_slice(next);
                end.inbox.pop_front();
            }
            bytes = merged.freeze();
        }
        end.held -= bytes.len();
        if let Some(writer) = state.net.end(self.end.peer()).and_then(|peer| peer.writer.take()) {
            writer.wake();
        }
        Poll::Ready(Ok(bytes))
    }
}

impl ReadBackend for Reader {
    fn read(&mut self) -> LocalBoxFuture<'_, io::Result<Bytes>> {
        Box::pin(poll_fn(|cx| self.poll(cx)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.state.borrow_mut().detach(self.end, true);
    }
}

struct Writer {
    shared: Rc<Shared>,
    end: EndId,
}

impl Writer {
    /// Sends as much of `rest` as the window has room for; ready when nothing is left.
    fn poll(&self, rest: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.state.borrow_mut();
        loop {
            let window = state.net.window;
            let Some(held) = state.net.end(self.end.peer()).map(|peer| peer.held) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let Some(end) = state.net.end(self.end) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            if let Some(kind) = end.error {
                return Poll::Ready(Err(kind.into()));
            }
            if end.fin_sent {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let room = window.saturating_sub(held);
            if room == 0 {
                end.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let mut length = rest.len().min(room).min(SIM_SEGMENT_BYTES_MAX);
            if state.net.random.one_in(8) {
                length = state.net.random.between(1, length as u64) as usize;
            }
            let segment = rest.split_to(length);
            state.send(self.end, Segment::Data(segment));
        }
    }

    fn send_fin(&self) {
        let mut state = self.shared.state.borrow_mut();
        let Some(end) = state.net.end(self.end) else { return };
        if !end.fin_sent && end.error.is_none() {
            end.fin_sent = true;
            state.send(self.end, Segment::Fin);
        }
    }
}

impl WriteBackend for Writer {
    fn write_all(&mut self, chunks: Vec<Bytes>) -> LocalBoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            for mut chunk in chunks {
                poll_fn(|cx| self.poll(&mut chunk, cx)).await?;
            }
            Ok(())
        })
    }

    fn shutdown(&mut self) {
        self.send_fin();
    }

    fn abort(&mut self) {
        self.shared.state.borrow_mut().abort(self.end);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.send_fin();
        self.shared.state.borrow_mut().detach(self.end, false);
    }
}
