//! Listening and connecting on the ring. Lives on one core.
//!
//! Invariant: connections accepted ahead are bounded; what nobody took is closed with the listener.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{opcode, types};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::connection;
use super::pool::Pool;
use super::ring::{Multi, OpId, Ring};
use crate::core::LocalBoxFuture;
use crate::limits::{ACCEPT_QUEUE_MAX, LISTEN_BACKLOG};
use crate::net::{Listener, ListenerBackend, Stream};

/// Listens on an address.
pub(super) fn listen(ring: &Ring, pool: Option<&Rc<Pool>>, address: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(LISTEN_BACKLOG).unwrap_or(i32::MAX))?;
    let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let acceptor = Rc::new(Acceptor {
        ring: ring.clone(),
        socket,
        queue: RefCell::default(),
        accepting: Cell::new(None),
        one_by_one: Cell::new(ring.is_basic()),
        waker: RefCell::new(None),
    });
    Ok(Listener::new(Box::new(UringListener { acceptor, pool: pool.cloned(), bound })))
}

/// Connects to an address.
pub(super) async fn connect(ring: Ring, pool: Option<Rc<Pool>>, to: SocketAddr) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    let fd = types::Fd(socket.as_raw_fd());
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    // SAFETY: the address and the descriptor belong to the operation, which takes the address's place where it stays.
    let op = unsafe {
        ring.submit((socket, SockAddr::from(to)), |(_, address)| {
            opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
        })
    };
    let (result, (socket, _)) = op.cancel_on_drop().await;
    result?;
    connection::stream(&ring, pool.as_ref(), socket)
}

struct Acceptor {
    ring: Ring,
    socket: Socket,
    queue: RefCell<VecDeque<io::Result<Socket>>>,
    accepting: Cell<Option<OpId>>,
    /// The kernel cannot accept many with one request.
    one_by_one: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

struct Accepting(Rc<Acceptor>);

impl Multi for Accepting {
    fn completed(&self, result: i32, _flags: u32, last: bool) {
        let acceptor = &self.0;
        let many = !acceptor.one_by_one.get();
        if last {
            acceptor.accepting.set(None);
        }
        let mut queue = acceptor.queue.borrow_mut();
        match result {
            0.. => queue.push_back(Ok(owned(result))),
            _ => match -result {
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                libc::EINVAL if many => acceptor.one_by_one.set(true),
                errno => queue.push_back(Err(io::Error::from_raw_os_error(errno))),
            },
        }
        if queue.len() >= ACCEPT_QUEUE_MAX
            && let Some(id) = acceptor.accepting.get()
        {
            acceptor.ring.cancel(id);
        }
        acceptor.waker.take().into_iter().for_each(Waker::wake);
    }
}

#[expect(unsafe_code, reason = "the kernel gives numbers")]
fn owned(fd: i32) -> Socket {
    // SAFETY: the kernel has just opened this descriptor for us.
    Socket::from(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Acceptor {
    fn poll(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        if let Some(result) = self.queue.borrow_mut().pop_front() {
            return Poll::Ready(result);
        }
        if self.accepting.get().is_none()
            && let Err(error) = self.accept()
        {
            return Poll::Ready(Err(error));
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    fn accept(self: &Rc<Self>) -> io::Result<()> {
        let fd = types::Fd(self.socket.as_raw_fd());
        let entry = if self.one_by_one.get() {
            let nowhere = std::ptr::null_mut();
            opcode::Accept::new(fd, nowhere, std::ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
        } else {
            opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
        };
        // SAFETY: the entry points to nothing, and the handler keeps the descriptor open.
        self.accepting.set(Some(unsafe { self.ring.submit_multi(Rc::new(Accepting(self.clone())), entry)? }));
        Ok(())
    }
}

struct UringListener {
    acceptor: Rc<Acceptor>,
    pool: Option<Rc<Pool>>,
    bound: SocketAddr,
}

impl ListenerBackend for UringListener {
    fn accept(&mut self) -> LocalBoxFuture<'_, io::Result<Stream>> {
        Box::pin(async {
            let socket = poll_fn(|cx| self.acceptor.poll(cx)).await?;
            connection::stream(&self.acceptor.ring, self.pool.as_ref(), socket)
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.bound
    }
}

impl Drop for UringListener {
    fn drop(&mut self) {
        if let Some(id) = self.acceptor.accepting.get() {
            self.acceptor.ring.cancel(id);
        }
        // Nobody knocks in vain: what comes in until the descriptor closes is refused.
        let _ = self.acceptor.socket.shutdown(std::net::Shutdown::Both);
        let queue = self.acceptor.queue.take();
        drop(queue);
    }
}
