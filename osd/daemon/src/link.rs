//! One msgr2 connection on one stream: the machine, and the two tasks that move bytes for it.
//!
//! Invariants: the machine is only borrowed between awaits; what an answer holds on to (its admission) is let go when
//! the answer is written. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use rt::net::WriteHalf;
use rt::sync::{Either, Event as Flag, Notify, Permit, select};
use rt::{Core, Nanos};
use wire::msgr2::{Answer, Connection, Event, Message, ProtocolError, SendError};

use crate::limits::WRITE_BYTES_PER_TURN;

/// Permits of a request, given back when they are dropped: of its client and of the OSD, to be there and for its bytes.
#[derive(Default)]
pub struct Admission(pub Option<[Permit; 4]>);

/// The connection.
pub struct Link {
    core: Core,
    connection: RefCell<Connection>,
    wake_writer: Notify,
    closed: Flag,
    held: RefCell<Vec<Admission>>,
    last_read: Cell<Nanos>,
    writing_since: Cell<Option<Nanos>>,
}

impl Link {
    /// A link around a fresh connection.
    pub fn new(core: Core, connection: Connection) -> Rc<Self> {
        let last_read = Cell::new(core.now());
        Rc::new(Self {
            core,
            connection: RefCell::new(connection),
            wake_writer: Notify::default(),
            closed: Flag::default(),
            held: RefCell::default(),
            last_read,
            writing_since: Cell::new(None),
        })
    }

    /// Queues a message; `admission` is let go when it is written.
    pub fn send(&self, message: Message, admission: Admission) -> Result<(), SendError> {
        self.connection.borrow_mut().send(message)?;
        if admission.0.is_some() {
            self.held.borrow_mut().push(admission);
        }
        self.wake_writer.notify_one();
        Ok(())
    }

    /// Takes bytes read from the stream. After an error the rest is written, then the stream closed.
    pub fn feed(&self, chunk: Bytes) -> Result<(), ProtocolError> {
        self.last_read.set(self.core.now());
        let result = self.connection.borrow_mut().feed(chunk);
        self.wake_writer.notify_one();
        result
    }

    /// The next event.
    pub fn next_event(&self) -> Option<Event> {
        self.connection.borrow_mut().poll_event()
    }

    /// Answers a request for a session.
    pub fn answer(&self, answer: Answer) -> Result<(), ProtocolError> {
        let result = self.connection.borrow_mut().answer(answer);
        self.wake_writer.notify_one();
        result
    }

    /// Asks the peer for a sign of life.
    pub fn send_keepalive(&self) {
        let now = wire::types::UTime::from_nanoseconds(self.core.wall_clock().0);
        self.connection.borrow_mut().send_keepalive(now);
        self.wake_writer.notify_one();
    }

    /// Whether messages flow.
    pub fn is_ready(&self) -> bool {
        self.connection.borrow().is_ready()
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.is_set()
    }

    /// Closes it: both tasks end.
    pub fn close(&self) {
        self.closed.set();
        self.wake_writer.notify_one();
    }

    /// Waits until it is closed.
    pub async fn closed(&self) {
        self.closed.wait().await;
    }

    /// When bytes came last.
    pub fn last_read(&self) -> Nanos {
        self.last_read.get()
    }

    /// Since when the peer takes no bytes, if it does not.
    pub fn writing_since(&self) -> Option<Nanos> {
        self.writing_since.get()
    }

    /// What the connection is doing, for logs.
    pub fn state_text(&self) -> &'static str {
        self.connection.borrow().state_text()
    }

    /// Writes what the machine has, until the link is closed or the machine is done.
    pub async fn write_loop(self: Rc<Self>, mut writer: WriteHalf) {
        loop {
            let (chunks, held, closing) = {
                let mut connection = self.connection.borrow_mut();
                let chunks = connection.poll_transmit();
                (chunks, self.held.take(), connection.is_closing())
            };
            if !chunks.is_empty() {
                let written = self.write(&mut writer, chunks).await;
                drop(held);
                if !written {
                    break;
                }
                continue;
            }
            if closing || self.is_closed() {
                break;
            }
            self.wake_writer.notified().await;
        }
        self.close();
        writer.shutdown();
    }

    /// Writes all chunks, a bounded part at a time, so that `writing_since` tells when the peer last took some. False
    /// if the stream or the link ended.
    async fn write(&self, writer: &mut WriteHalf, chunks: Vec<Bytes>) -> bool {
        let mut left = VecDeque::from(chunks);
        while !left.is_empty() {
            self.writing_since.set(Some(self.core.now()));
            let written = select(self.closed.wait(), writer.write_all(take_part(&mut left))).await;
            self.writing_since.set(None);
            if !matches!(written, Either::Right(Ok(()))) {
                return false;
            }
        }
        true
    }
}

/// Takes what is written next: all that is small, at most [`WRITE_BYTES_PER_TURN`] in all.
fn take_part(left: &mut VecDeque<Bytes>) -> Vec<Bytes> {
    let (mut part, mut room) = (Vec::new(), WRITE_BYTES_PER_TURN);
    while room > 0
        && let Some(mut chunk) = left.pop_front()
    {
        if chunk.len() > room {
            left.push_front(chunk.split_off(room));
        }
        room -= chunk.len();
        part.push(chunk);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_and_keep_the_order() {
        let lengths = [10, WRITE_BYTES_PER_TURN, 0, 2 * WRITE_BYTES_PER_TURN + 5, 1];
        let chunks: Vec<Bytes> = (0u8..).zip(lengths).map(|(byte, n)| vec![byte; n].into()).collect();
        let (mut left, mut written) = (VecDeque::from(chunks.clone()), Vec::new());
        let mut turns = 0;
        while !left.is_empty() {
            let part = take_part(&mut left).concat();
            assert!(part.len() <= WRITE_BYTES_PER_TURN);
            written.extend(part);
            turns += 1;
        }
        assert!(written == chunks.concat());
        assert_eq!(turns, 4);
    }
}
