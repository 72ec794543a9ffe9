//! Sockets on glommio's. Live on one core.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{AsyncRead, AsyncWrite};
use glommio::GlommioError;
use glommio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::core::LocalBoxFuture;
use crate::limits::{LISTEN_BACKLOG, RECV_PLAIN_BYTES};
use crate::net::{Listener, ListenerBackend, ReadBackend, ReadHalf, Stream, WriteBackend, WriteHalf};

/// Chunks up to this length together are copied into one send, since glommio sends one buffer at a time.
const GATHER_BYTES_MAX: usize = 64 << 10;

/// The smallest room left for a receive before new memory is taken.
const RECV_ROOM_BYTES_MIN: usize = 4096;

const _: () = assert!(RECV_ROOM_BYTES_MIN <= RECV_PLAIN_BYTES);

fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

#[expect(unsafe_code, reason = "glommio's own way to bind allows several listeners on one port")]
pub(super) fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(LISTEN_BACKLOG).unwrap_or(i32::MAX))?;
    // SAFETY: the descriptor was ours and is glommio's from here on.
    let listener = Rc::new(unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) });
    let bound = listener.local_addr().map_err(io_error)?;
    Ok(Listener::new(Box::new(GlommioListener { listener, bound, accepting: None })))
}

pub(super) async fn connect(to: SocketAddr) -> io::Result<Stream> {
    stream(TcpStream::connect(to).await.map_err(io_error)?)
}

struct GlommioListener {
    listener: Rc<TcpListener>,
    bound: SocketAddr,
    /// Kept when the caller's future is dropped, for it may have a connection.
    accepting: Option<LocalBoxFuture<'static, io::Result<TcpStream>>>,
}

impl ListenerBackend for GlommioListener {
    fn accept(&mut self) -> LocalBoxFuture<'_, io::Result<Stream>> {
        Box::pin(poll_fn(|cx| {
            let listener = self.listener.clone();
            let accepting = self
                .accepting
                .get_or_insert_with(|| Box::pin(async move { listener.accept().await.map_err(io_error) }));
            let Poll::Ready(accepted) = accepting.as_mut().poll(cx) else { return Poll::Pending };
            self.accepting = None;
            Poll::Ready(accepted.and_then(stream))
        }))
    }

    fn local_addr(&self) -> SocketAddr {
        self.bound
    }
}

/// What both halves share. None once aborted.
struct Connection {
    stream: RefCell<Option<TcpStream>>,
    reader: Cell<Option<Waker>>,
    reader_gone: Cell<bool>,
    writer_gone: Cell<bool>,
}

fn stream(stream: TcpStream) -> io::Result<Stream> {
    stream.set_nodelay(true).map_err(io_error)?;
    let peer = stream.peer_addr().map_err(io_error)?;
    let local = stream.local_addr().map_err(io_error)?;
    let connection = Rc::new(Connection {
        stream: RefCell::new(Some(stream)),
        reader: Cell::new(None),
        reader_gone: Cell::new(false),
        writer_gone: Cell::new(false),
    });
    Ok(Stream {
        reader: ReadHalf::new(Box::new(Reader { connection: connection.clone(), room: BytesMut::new() })),
        writer: WriteHalf::new(Box::new(Writer { connection })),
        peer,
        local,
    })
}

impl Connection {
    /// Calls glommio's stream, or tells that the connection was aborted.
    fn with<T>(&self, call: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => call(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn with_socket(&self, call: impl FnOnce(SockRef<'_>)) {
        if let Some(stream) = &*self.stream.borrow() {
            #[expect(unsafe_code, reason = "glommio's stream gives a raw descriptor only")]
            // SAFETY: the stream keeps the descriptor open for the length of the call.
            let fd = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
            call(SockRef::from(&fd));
        }
    }

    fn shut_down_writing(&self) {
        self.with_socket(|socket| {
            // Fails if the connection has ended already, which is as well.
            let _ = socket.shutdown(Shutdown::Write);
        });
    }

    fn close_if_unused(&self) {
        if self.reader_gone.get() && self.writer_gone.get() {
            let stream = self.stream.take();
            drop(stream);
        }
    }
}

struct Reader {
    connection: Rc<Connection>,
    /// Initialised memory for the next receives.
    room: BytesMut,
}

impl Reader {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.room.len() < RECV_ROOM_BYTES_MIN {
            self.room = BytesMut::zeroed(RECV_PLAIN_BYTES);
        }
        let room = &mut self.room;
        match self.connection.with(|stream| stream.poll_read(cx, room)) {
            Poll::Ready(Ok(len)) => Poll::Ready(Ok(self.room.split_to(len).freeze())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.connection.reader.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl ReadBackend for Reader {
    fn read(&mut self) -> LocalBoxFuture<'_, io::Result<Bytes>> {
        Box::pin(poll_fn(|cx| self.poll(cx)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.connection.reader_gone.set(true);
        self.connection.close_if_unused();
    }
}

struct Writer {
    connection: Rc<Connection>,
}

impl Writer {
    async fn write(&self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = poll_fn(|cx| self.connection.with(|stream| stream.poll_write(cx, &bytes))).await?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            drop(bytes.split_to(sent));
        }
        Ok(())
    }
}

impl WriteBackend for Writer {
    fn write_all(&mut self, chunks: Vec<Bytes>) -> LocalBoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let mut chunks = chunks.into_iter().filter(|chunk| !chunk.is_empty()).peekable();
            while let Some(first) = chunks.next() {
                let mut gathered = BytesMut::new();
                let mut total = first.len();
                while let Some(next) = chunks.next_if(|next| total + next.len() <= GATHER_BYTES_MAX) {
                    if gathered.is_empty() {
                        gathered.extend_from_slice(&first);
                    }
                    total += next.len();
                    gathered.extend_from_slice(&next);
                }
                self.write(if gathered.is_empty() { first } else { gathered.freeze() }).await?;
            }
            Ok(())
        })
    }

    fn shutdown(&mut self) {
        self.connection.shut_down_writing();
    }

    fn abort(&mut self) {
        self.connection.with_socket(|socket| {
            // Closing then resets instead of sending what is queued.
            if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
                log::debug!("a connection closes in order instead of with a reset: {error}");
            }
        });
        let stream = self.connection.stream.take();
        drop(stream);
        self.connection.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.connection.writer_gone.set(true);
        self.connection.shut_down_writing();
        self.connection.close_if_unused();
    }
}
