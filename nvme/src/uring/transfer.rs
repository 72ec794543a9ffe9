//! [`Transfer`]: one read or write as asked for, in as many parts as it takes. Lives on one core.
//!
//! Invariant: every part is submitted again until it is whole or failed; the buffer is kept until the kernel is done
//! with all parts. A transfer whose future is dropped goes on as a task.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::{opcode, squeue};
use rt::Group;
use rt::uring::Op;
use smallvec::SmallVec;

use super::polled::PolledOp;
use super::{IoLane, Target};
use crate::buffer::DmaBuf;
use crate::device::{DeviceError, DeviceResult};

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

impl Direction {
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What an operation in the kernel keeps alive: its file and its buffer.
pub(super) type Kept = (Rc<IoLane>, Rc<DmaBuf>);

enum Running {
    Ring(Op<Kept>),
    Polled(PolledOp),
}

/// A piece of the buffer that goes to the kernel as one: what is left of it, bytes.
struct Part {
    start: usize,
    len: usize,
    running: Running,
}

struct Work {
    lane: Rc<IoLane>,
    direction: Direction,
    offset: u64,
    buf: Rc<DmaBuf>,
    parts: SmallVec<[Part; 1]>,
    error: Option<DeviceError>,
}

/// A read or write in flight.
pub(super) struct Transfer {
    work: Option<Work>,
    /// Nobody waits for it any more.
    is_dropped: bool,
}

impl Transfer {
    /// Submits all parts.
    pub fn start(lane: Rc<IoLane>, direction: Direction, offset: u64, buf: DmaBuf) -> Self {
        let (len, part_max) = (buf.len(), lane.device.geometry().io_max as usize);
        let mut work =
            Work { lane, direction, offset, buf: Rc::new(buf), parts: SmallVec::new(), error: None };
        for start in (0..len).step_by(part_max) {
            let part_len = part_max.min(len - start);
            let running = work.submit(start, part_len);
            work.parts.push(Part { start, len: part_len, running });
        }
        Self { work: Some(work), is_dropped: false }
    }
}

impl Future for Transfer {
    type Output = DeviceResult<DmaBuf>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut work) = self.work.take() else { unreachable!("a transfer gives its result once") };
        if !work.advance(cx) {
            self.work = Some(work);
            return Poll::Pending;
        }
        Poll::Ready(match work.error {
            Some(error) => Err(error),
            None => match Rc::try_unwrap(work.buf) {
                Ok(buf) => Ok(buf),
                Err(_) => unreachable!("operations that are done keep nothing"),
            },
        })
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // A task that is dropped with its core is not replaced: the ring waits for what is in flight.
        let Some(work) = self.work.take().filter(|_| !self.is_dropped) else { return };
        let core = work.lane.core.clone();
        let rest = Self { work: Some(work), is_dropped: true };
        drop(core.spawn(Group::Commit, "I/O nobody waits for", async move { drop(rest.await) }));
    }
}

impl Work {
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    fn submit(&self, start: usize, len: usize) -> Running {
        assert!(start + len <= self.buf.len(), "a part lies within its buffer");
        let kept = (self.lane.clone(), self.buf.clone());
        let registered = self.lane.buffers.as_ref().and_then(|buffers| buffers.index_of(&self.buf));
        match self.lane.polled_for(self.offset + start as u64, len) {
            None => {
                let entry = self.entry(self.lane.target(), registered, start, len);
                // SAFETY: the entry points into the DmaBuf, whose memory stays in place while any clone of the Rc is
                // alive, and names a file that the lane holds open; parts of one buffer do not overlap, and nobody
                // looks at the bytes before all are done.
                Running::Ring(unsafe { self.lane.ring.submit(kept, |_| entry) })
            }
            Some(polled) => {
                let registered = registered.and_then(|_| polled.buffer());
                let entry = self.entry(Target::Registered(polled.file()), registered, start, len);
                // SAFETY: as above.
                Running::Polled(unsafe { polled.submit(&self.lane.core, kept, entry) })
            }
        }
    }

    /// `registered` is how the ring knows the buffer, if it does.
    fn entry(&self, target: Target, registered: Option<u16>, start: usize, len: usize) -> squeue::Entry {
        let offset = self.offset + start as u64;
        let address = self.buf.address().wrapping_add(start);
        let Ok(len) = u32::try_from(len) else { unreachable!("a part has at most io_max bytes") };
        match (target, registered) {
            (Target::Registered(file), Some(index)) => match self.direction {
                Direction::Read => opcode::ReadFixed::new(file, address, len, index).offset(offset).build(),
                Direction::Write => opcode::WriteFixed::new(file, address, len, index).offset(offset).build(),
            },
            (Target::Registered(file), None) => match self.direction {
                Direction::Read => opcode::Read::new(file, address, len).offset(offset).build(),
                Direction::Write => opcode::Write::new(file, address, len).offset(offset).build(),
            },
            // A ring that takes no file is not worth the other half.
            (Target::Plain(file), _) => match self.direction {
                Direction::Read => opcode::Read::new(file, address, len).offset(offset).build(),
                Direction::Write => opcode::Write::new(file, address, len).offset(offset).build(),
            },
        }
    }

    /// Goes on with every part; says whether all are finished, well or not.
    fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        let mut index = 0;
        while index < self.parts.len() {
            match self.advance_part(index, cx) {
                Poll::Pending => index += 1,
                Poll::Ready(result) => {
                    let part = self.parts.swap_remove(index);
                    if let Err(error) = result {
                        let at = self.offset + part.start as u64;
                        let failed =
                            self.lane.device.failed(self.direction.name(), at, part.len as u64, &error);
                        self.error.get_or_insert(failed);
                    }
                }
            }
        }
        self.parts.is_empty()
    }

    fn advance_part(&mut self, index: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let part = &mut self.parts[index];
            let result = match &mut part.running {
                Running::Ring(op) => Pin::new(op).poll(cx).map(|(result, _)| result),
                Running::Polled(op) => Pin::new(op).poll(cx),
            };
            let Poll::Ready(result) = result else { return Poll::Pending };
            let mut room = true;
            match result {
                Ok(0) => {
                    return Poll::Ready(Err(io::Error::other(
                        "it has become shorter than when it was opened",
                    )));
                }
                Ok(count) => {
                    part.start += count as usize;
                    part.len -= count as usize;
                    if part.len == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN | libc::EBUSY) => room = false,
                    _ => return Poll::Ready(Err(error)),
                },
            }
            let (start, len) = (part.start, part.len);
            let running = self.submit(start, len);
            self.parts[index].running = running;
            if !room {
                // The ring or the device is full: others go first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}
