//! What is still to be sent by one `write_all`. Pure but for the submission.
//!
//! Invariant: chunks before the first were sent whole; of the first, what was sent is cut off.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use bytes::{Buf, Bytes};
use io_uring::{opcode, types};
use socket2::Socket;

use super::ring::{Op, Ring};
use crate::limits::SEND_CHUNKS_MAX;

/// Chunks to send, none of them empty.
pub(super) struct Send {
    chunks: VecDeque<Bytes>,
    /// Where the kernel finds the first chunks; filled anew for each operation.
    vectors: Vec<libc::iovec>,
    header: Option<libc::msghdr>,
    /// Keeps the descriptor open while the operation is in flight.
    socket: Option<Rc<Socket>>,
}

impl Send {
    pub fn new(chunks: Vec<Bytes>) -> Self {
        let mut chunks = VecDeque::from(chunks);
        chunks.retain(|chunk| !chunk.is_empty());
        Self { chunks, vectors: Vec::new(), header: None, socket: None }
    }

    pub fn is_done(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Notes that `sent` bytes are gone.
    pub fn advance(&mut self, mut sent: usize) -> io::Result<()> {
        if sent == 0 && !self.is_done() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while sent > 0 {
            let Some(first) = self.chunks.front_mut() else {
                return Err(io::Error::other("the kernel sent more than it was given"));
            };
            if sent < first.len() {
                first.advance(sent);
                return Ok(());
            }
            sent -= first.len();
            self.chunks.pop_front();
        }
        Ok(())
    }

    /// Sends as many chunks as fit into one operation. The kernel tries to send all of them before it completes.
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    pub fn submit(mut self, ring: &Ring, socket: Rc<Socket>) -> Op<Self> {
        let fd = types::Fd(socket.as_raw_fd());
        self.socket = Some(socket);
        const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        // SAFETY: the chunks' bytes, the vectors and the header (whose address is taken where it stays) belong to the
        // operation, and so does the descriptor.
        unsafe {
            ring.submit(self, |send| {
                if let (Some(only), 1) = (send.chunks.front(), send.chunks.len()) {
                    let len = u32::try_from(only.len()).unwrap_or(u32::MAX);
                    return opcode::Send::new(fd, only.as_ptr(), len).flags(FLAGS).build();
                }
                send.vectors.clear();
                send.vectors.extend(send.chunks.iter().take(SEND_CHUNKS_MAX).map(|chunk| libc::iovec {
                    iov_base: chunk.as_ptr().cast_mut().cast(),
                    iov_len: chunk.len(),
                }));
                let mut header: libc::msghdr = std::mem::zeroed();
                header.msg_iov = send.vectors.as_mut_ptr();
                header.msg_iovlen = send.vectors.len();
                let header = send.header.insert(header);
                opcode::SendMsg::new(fd, header).flags(FLAGS as u32).build()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(send: &Send) -> Vec<u8> {
        send.chunks.iter().flatten().copied().collect()
    }

    #[test]
    fn any_short_send_leaves_the_right_rest() {
        let chunks =
            || vec![Bytes::new(), Bytes::from("abc"), Bytes::new(), Bytes::from("d"), Bytes::from("ef")];
        for sent in 1..=6 {
            let mut send = Send::new(chunks());
            send.advance(sent).unwrap();
            assert_eq!(rest(&send), b"abcdef"[sent..]);
            assert_eq!(send.is_done(), sent == 6);
        }
        assert!(Send::new(chunks()).advance(0).is_err());
        assert!(Send::new(chunks()).advance(7).is_err());
        assert!(Send::new(vec![Bytes::new()]).is_done());
    }
}
