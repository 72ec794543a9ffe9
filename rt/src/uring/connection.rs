//! A TCP connection on the ring: many receives from one request, several chunks per send. Lives on one core.
//!
//! Invariants: received bytes are queued in order and bounded, so that dropping a read loses nothing; the descriptor
//! stays open until both halves are gone and the kernel has finished every operation on it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use io_uring::{cqueue, opcode, types};
use socket2::Socket;

use super::pool::{GROUP, Pool};
use super::ring::{Multi, Op, OpId, Ring};
use super::send::Send;
use crate::core::LocalBoxFuture;
use crate::limits::{RECV_PLAIN_BYTES, RECV_QUEUE_BYTES_MAX};
use crate::net::{ReadBackend, ReadHalf, Stream, WriteBackend, WriteHalf};

/// What the halves and the ring share.
struct Connection {
    ring: Ring,
    pool: Option<Rc<Pool>>,
    /// None once aborted or closed; operations in flight keep it open.
    socket: RefCell<Option<Rc<Socket>>>,
    incoming: RefCell<Incoming>,
    /// The receive in flight that fills `incoming`.
    receiving: Cell<Option<OpId>>,
    sending: Cell<Option<OpId>>,
    reader_gone: Cell<bool>,
    writer_gone: Cell<bool>,
    aborted: Cell<bool>,
}

#[derive(Default)]
struct Incoming {
    queue: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    /// The pool was empty: receive once into memory of our own.
    starved: bool,
    plain: Option<Op<(Rc<Socket>, Vec<u8>)>>,
    reader: Option<Waker>,
}

#[derive(Clone, Copy)]
enum End {
    Fin,
    Error(i32),
}

/// Makes a stream of a connected socket.
pub(super) fn stream(ring: &Ring, pool: Option<&Rc<Pool>>, socket: Socket) -> io::Result<Stream> {
    socket.set_tcp_nodelay(true)?;
    let address = |address: socket2::SockAddr| {
        address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
    };
    let (peer, local): (SocketAddr, SocketAddr) =
        (address(socket.peer_addr()?)?, address(socket.local_addr()?)?);
    let connection = Rc::new(Connection {
        ring: ring.clone(),
        pool: pool.cloned(),
        socket: RefCell::new(Some(Rc::new(socket))),
        incoming: RefCell::default(),
        receiving: Cell::new(None),
        sending: Cell::new(None),
        reader_gone: Cell::new(false),
        writer_gone: Cell::new(false),
        aborted: Cell::new(false),
    });
    Ok(Stream {
        reader: ReadHalf::new(Box::new(Reader(connection.clone()))),
        writer: WriteHalf::new(Box::new(Writer(connection))),
        peer,
        local,
    })
}

/// The handler of a running receive. Keeps the descriptor open.
struct Receiving {
    connection: Rc<Connection>,
    _socket: Rc<Socket>,
}

impl Multi for Receiving {
    fn completed(&self, result: i32, flags: u32, last: bool) {
        let connection = &self.connection;
        if last {
            connection.receiving.set(None);
        }
        let len = usize::try_from(result).unwrap_or(0);
        let bytes = match (cqueue::buffer_select(flags), &connection.pool) {
            (Some(buffer), Some(pool)) => Some(pool.take(buffer, len)),
            _ => None,
        };
        let mut incoming = connection.incoming.borrow_mut();
        match (result, bytes) {
            (1.., Some(bytes)) => {
                if !connection.reader_gone.get() {
                    incoming.push(bytes);
                }
            }
            (1.., None) => unreachable!("a receive of many names the buffer it filled"),
            (0, _) => incoming.end = Some(End::Fin),
            _ => match (-result, &connection.pool) {
                (libc::EINVAL, Some(pool)) if pool.has_room() => pool.give_up(),
                (libc::ENOBUFS, _) => incoming.starved = true,
                // Stopped by ourselves, or to be tried again.
                (libc::ECANCELED | libc::EINTR | libc::EAGAIN, _) => {}
                (errno, _) => incoming.end = Some(End::Error(errno)),
            },
        }
        if incoming.bytes >= RECV_QUEUE_BYTES_MAX
            && let Some(id) = connection.receiving.get()
        {
            // The rest waits in the kernel until the reader has caught up.
            connection.ring.cancel(id);
        }
        incoming.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl Incoming {
    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Moves the result of a receive into memory of our own, if one is in flight, into the queue.
    fn poll_plain(&mut self, cx: &mut Context<'_>) {
        let Some(op) = &mut self.plain else { return };
        let Poll::Ready((result, (_, mut memory))) = Pin::new(op).poll(cx) else { return };
        self.plain = None;
        match result {
            Ok(0) => self.end = Some(End::Fin),
            Ok(len) => {
                memory.truncate(len as usize);
                self.push(memory.into());
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN) => {}
                errno => self.end = Some(End::Error(errno.unwrap_or(libc::EIO))),
            },
        }
    }
}

impl Connection {
    fn poll_read(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            let mut incoming = self.incoming.borrow_mut();
            if self.aborted.get() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            incoming.poll_plain(cx);
            if let Some(bytes) = incoming.queue.pop_front() {
                incoming.bytes -= bytes.len();
                return Poll::Ready(Ok(bytes));
            }
            match incoming.end {
                Some(End::Fin) => return Poll::Ready(Ok(Bytes::new())),
                Some(End::Error(errno)) => return Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
                None => {}
            }
            if self.receiving.get().is_some() || incoming.plain.is_some() {
                incoming.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if let Err(error) = self.receive(&mut incoming) {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Starts receiving.
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    fn receive(self: &Rc<Self>, incoming: &mut Incoming) -> io::Result<()> {
        let Some(socket) = self.socket.borrow().clone() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let fd = types::Fd(socket.as_raw_fd());
        let starved = std::mem::take(&mut incoming.starved);
        if self.pool.as_ref().is_some_and(|pool| pool.has_room()) && !starved {
            let handler = Rc::new(Receiving { connection: self.clone(), _socket: socket });
            let entry = opcode::RecvMulti::new(fd, GROUP).build();
            // SAFETY: the entry points to no memory (the kernel picks from the pool, which outlives the ring's
            // operations), and the handler keeps the descriptor open.
            self.receiving.set(Some(unsafe { self.ring.submit_multi(handler, entry)? }));
            return Ok(());
        }
        let memory = vec![0; RECV_PLAIN_BYTES];
        // SAFETY: the memory is on the heap, owned by the operation, and so is the descriptor.
        let op = unsafe {
            self.ring.submit((socket, memory), |(_, memory)| {
                opcode::Recv::new(fd, memory.as_mut_ptr(), memory.len() as u32).build()
            })
        };
        incoming.plain = Some(op.cancel_on_drop());
        Ok(())
    }

    async fn write_all(&self, chunks: Vec<Bytes>) -> io::Result<()> {
        let mut send = Send::new(chunks);
        while !send.is_done() {
            let Some(socket) = self.socket.borrow().clone() else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            let op = send.submit(&self.ring, socket);
            self.sending.set(op.id());
            let (result, rest) = op.await;
            self.sending.set(None);
            send = rest;
            match result {
                Ok(sent) => send.advance(sent as usize)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.aborted.get() => return Err(io::ErrorKind::ConnectionAborted.into()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn shut_down_writing(&self) {
        if let Some(socket) = &*self.socket.borrow() {
            // Fails if the connection has ended already, which is as well.
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    fn stop_receiving(&self) {
        if let Some(id) = self.receiving.get() {
            self.ring.cancel(id);
        }
        let mut incoming = self.incoming.borrow_mut();
        let plain = incoming.plain.take();
        let queue = std::mem::take(&mut incoming.queue);
        incoming.bytes = 0;
        drop(incoming);
        drop((plain, queue));
    }

    /// Lets go of the descriptor; it closes once no operation is in flight.
    fn close(&self) {
        if let Some(id) = self.receiving.get() {
            self.ring.cancel(id);
        }
        if let Some(id) = self.sending.take() {
            self.ring.cancel(id);
        }
        let socket = self.socket.take();
        drop(socket);
    }

    fn abort(&self) {
        if let Some(socket) = &*self.socket.borrow() {
            // Closing then resets instead of sending what is queued.
            if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
                log::debug!("a connection closes in order instead of with a reset: {error}");
            }
        }
        self.aborted.set(true);
        self.stop_receiving();
        self.close();
        self.incoming.borrow_mut().reader.take().into_iter().for_each(Waker::wake);
    }
}

struct Reader(Rc<Connection>);

impl ReadBackend for Reader {
    fn read(&mut self) -> LocalBoxFuture<'_, io::Result<Bytes>> {
        Box::pin(poll_fn(|cx| self.0.poll_read(cx)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.reader_gone.set(true);
        self.0.stop_receiving();
        if self.0.writer_gone.get() {
            self.0.close();
        }
    }
}

struct Writer(Rc<Connection>);

impl WriteBackend for Writer {
    fn write_all(&mut self, chunks: Vec<Bytes>) -> LocalBoxFuture<'_, io::Result<()>> {
        Box::pin(self.0.write_all(chunks))
    }

    fn shutdown(&mut self) {
        self.0.shut_down_writing();
    }

    fn abort(&mut self) {
        self.0.abort();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.writer_gone.set(true);
        if self.0.reader_gone.get() {
            self.0.close();
        } else {
            self.0.shut_down_writing();
        }
    }
}
