//! TCP streams as owned buffers: what a backend implements and what callers see. Lives on one core.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::core::LocalBoxFuture;

/// A listening socket. Dropping it closes it.
pub struct Listener {
    backend: Box<dyn ListenerBackend>,
}

/// What a backend provides behind [`Listener`].
pub trait ListenerBackend {
    /// Next connection. Errors are transient (the caller may try again after a pause).
    fn accept(&mut self) -> LocalBoxFuture<'_, io::Result<Stream>>;
    /// The address bound, with the real port.
    fn local_addr(&self) -> SocketAddr;
}

impl Listener {
    /// Wraps a backend.
    pub fn new(backend: Box<dyn ListenerBackend>) -> Self {
        Self { backend }
    }

    /// Waits for the next connection. Cancel-safe.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        self.backend.accept().await
    }

    /// The address bound, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.backend.local_addr()
    }
}

/// A connected byte stream, as two halves that may live in two tasks. The connection closes when both are
/// dropped; dropping (or [`WriteHalf::shutdown`]) ends that direction only.
pub struct Stream {
    /// Incoming bytes.
    pub reader: ReadHalf,
    /// Outgoing bytes.
    pub writer: WriteHalf,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// Own address.
    pub local: SocketAddr,
}

/// Incoming half.
pub struct ReadHalf {
    backend: Box<dyn ReadBackend>,
}

/// Outgoing half.
pub struct WriteHalf {
    backend: Box<dyn WriteBackend>,
}

/// What a backend provides behind [`ReadHalf`].
pub trait ReadBackend {
    /// At least one byte, or empty at the end of the stream. Chunk size is the backend's choice.
    fn read(&mut self) -> LocalBoxFuture<'_, io::Result<Bytes>>;
}

/// What a backend provides behind [`WriteHalf`].
pub trait WriteBackend {
    /// Writes all chunks in order, as few system calls as possible. On error an unknown prefix was sent.
    fn write_all(&mut self, chunks: Vec<Bytes>) -> LocalBoxFuture<'_, io::Result<()>>;
    /// Ends the outgoing direction (TCP FIN).
    fn shutdown(&mut self);
    /// Drops the whole connection at once, both directions (TCP RST if the system can); a pending or later
    /// [`ReadBackend::read`] of the other half ends with an error or the end of the stream.
    fn abort(&mut self);
}

impl ReadHalf {
    /// Wraps a backend.
    pub fn new(backend: Box<dyn ReadBackend>) -> Self {
        Self { backend }
    }

    /// The next bytes, at least one; empty at the end of the stream. Cancel-safe: no byte is lost when the
    /// future is dropped.
    pub async fn read(&mut self) -> io::Result<Bytes> {
        self.backend.read().await
    }
}

impl WriteHalf {
    /// Wraps a backend.
    pub fn new(backend: Box<dyn WriteBackend>) -> Self {
        Self { backend }
    }

    /// Writes all chunks in order. Not cancel-safe: after a drop, close the connection.
    pub async fn write_all(&mut self, chunks: Vec<Bytes>) -> io::Result<()> {
        self.backend.write_all(chunks).await
    }

    /// Ends the outgoing direction.
    pub fn shutdown(&mut self) {
        self.backend.shutdown()
    }

    /// Drops the whole connection at once.
    pub fn abort(&mut self) {
        self.backend.abort()
    }
}
