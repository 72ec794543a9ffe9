//! One io_uring: operations in flight, each owning what the kernel may touch. Lives on one core.
//!
//! Invariant: from the call of [`Ring::submit`] until the kernel's last word on it, an operation's resources are
//! neither moved nor dropped, whatever becomes of its future. If that word never comes, they are leaked.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use super::registered::Registered;
use crate::limits::{RING_COMPLETIONS, RING_OPS_MAX, RING_SUBMISSIONS};

/// Handle on the ring of a core; clones are the same ring.
#[derive(Clone)]
pub struct Ring(Rc<Inner>);

struct Inner {
    uring: RefCell<IoUring>,
    basic: bool,
    ops: RefCell<Slab<Slot>>,
    /// Entries that found the submission queue full.
    backlog: RefCell<VecDeque<squeue::Entry>>,
    reaped: RefCell<Vec<(u64, i32, u32)>>,
    sequence: Cell<u32>,
    closed: Cell<bool>,
    registered: RefCell<Registered>,
    /// Calls of `io_uring_enter`.
    entered: Cell<u64>,
}

/// What the kernel calls an operation: slot and sequence number, so that a late cancel hits no later operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpId(u64);

struct Slot {
    sequence: u32,
    op: InFlight,
}

enum InFlight {
    Single { waker: Option<Waker>, result: Option<i32>, done: bool, detached: bool, resources: Box<dyn Any> },
    Multi(Rc<dyn Multi>),
}

/// Receives the completions of an operation that has many.
pub(super) trait Multi {
    /// One completion; `last` if there will be no more. May submit, may not enter the kernel.
    fn completed(&self, result: i32, flags: u32, last: bool);
}

/// Completions of cancel requests interest nobody.
const IGNORED: u64 = u64::MAX;

impl Ring {
    /// With `basic`, without what older kernels lack.
    pub(super) fn new(basic: bool) -> io::Result<Self> {
        Ok(Self(Rc::new(Inner {
            uring: RefCell::new(build(basic)?),
            basic,
            ops: RefCell::new(Slab::new()),
            backlog: RefCell::new(VecDeque::new()),
            reaped: RefCell::new(Vec::new()),
            sequence: Cell::new(0),
            closed: Cell::new(false),
            registered: RefCell::new(Registered::default()),
            entered: Cell::new(0),
        })))
    }

    /// Queues an operation at once; the kernel gets it with the next turn of the core's loop. The future gives the
    /// kernel's result and the resources back. Dropping it lets the operation run on and keeps the resources until
    /// the kernel is done with them, unless [`Op::cancel_on_drop`].
    ///
    /// `entry` gets the resources at the place where they stay.
    ///
    /// # Safety
    /// Every pointer in the entry has to stay valid as long as the resources are neither moved nor dropped, and the
    /// descriptors in it as long, too. The kernel's writes may not conflict with other uses.
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    pub unsafe fn submit<R: 'static>(
        &self,
        resources: R,
        entry: impl FnOnce(&mut R) -> squeue::Entry,
    ) -> Op<R> {
        let mut resources = Box::new(resources);
        let mut op =
            Op { ring: self.clone(), state: OpState::Gone, cancel_on_drop: false, resources: PhantomData };
        if self.0.closed.get() || self.0.ops.borrow().len() >= RING_OPS_MAX {
            let errno = if self.0.closed.get() { libc::ECANCELED } else { libc::EBUSY };
            op.state = OpState::Refused(errno, resources);
            return op;
        }
        let entry = entry(&mut resources);
        let id = self.insert(InFlight::Single {
            waker: None,
            result: None,
            done: false,
            detached: false,
            resources,
        });
        op.state = OpState::InFlight(id);
        self.push(entry.user_data(id.0));
        op
    }

    /// Queues an operation that completes many times. The handler is what it owns.
    ///
    /// # Safety
    /// As for [`Ring::submit`], with the handler for the resources.
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    pub(super) unsafe fn submit_multi(
        &self,
        handler: Rc<dyn Multi>,
        entry: squeue::Entry,
    ) -> io::Result<OpId> {
        if self.0.closed.get() {
            return Err(io::Error::from_raw_os_error(libc::ECANCELED));
        }
        if self.0.ops.borrow().len() >= RING_OPS_MAX {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let id = self.insert(InFlight::Multi(handler));
        self.push(entry.user_data(id.0));
        Ok(id)
    }

    /// Asks the kernel to give up on an operation. It completes in any case.
    pub(super) fn cancel(&self, id: OpId) {
        if self.0.closed.get() {
            return;
        }
        let builder = types::CancelBuilder::user_data(id.0);
        self.push(opcode::AsyncCancel2::new(builder).build().user_data(IGNORED));
    }

    /// Whether to do without what older kernels lack.
    pub(super) fn is_basic(&self) -> bool {
        self.0.basic
    }

    /// Operations the kernel has not finished.
    pub fn in_flight(&self) -> usize {
        self.0.ops.borrow().len()
    }

    /// Calls of `io_uring_enter` so far.
    pub fn entered(&self) -> u64 {
        self.0.entered.get()
    }

    fn count_entering(&self) {
        self.0.entered.set(self.0.entered.get() + 1);
    }

    /// Registers a file: entries may name it by [`RegisteredFile::fixed`], which saves work per operation. The file
    /// stays open until the registration is dropped.
    pub fn register_file(&self, fd: RawFd) -> io::Result<RegisteredFile> {
        let uring = self.0.uring.borrow();
        let index = self.0.registered.borrow_mut().add_file(&uring.submitter(), fd)?;
        Ok(RegisteredFile { ring: self.clone(), index })
    }

    /// Registers memory for `ReadFixed` and `WriteFixed`, which saves pinning it at each operation.
    ///
    /// # Safety
    /// The memory has to stay valid until the registration was dropped and all operations that use it are done.
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    pub unsafe fn register_buffer(&self, start: *mut u8, len: usize) -> io::Result<RegisteredBuffer> {
        let uring = self.0.uring.borrow();
        // SAFETY: passed on to the caller.
        let index = unsafe { self.0.registered.borrow_mut().add_buffer(&uring.submitter(), start, len)? };
        Ok(RegisteredBuffer { ring: self.clone(), index })
    }

    /// Registers a ring of buffers from which the kernel picks at each receive.
    ///
    /// # Safety
    /// The memory of the ring and of its buffers has to stay valid until the world ended.
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    pub(super) unsafe fn register_buf_ring(&self, address: u64, entries: u16, group: u16) -> io::Result<()> {
        let uring = self.0.uring.borrow();
        // SAFETY: passed on to the caller.
        unsafe { uring.submitter().register_buf_ring_with_flags(address, entries, group, 0) }
    }

    fn insert(&self, op: InFlight) -> OpId {
        let sequence = self.0.sequence.get().wrapping_add(1);
        self.0.sequence.set(sequence);
        let key = self.0.ops.borrow_mut().insert(Slot { sequence, op });
        assert!(key < RING_OPS_MAX, "the table of operations is bounded");
        OpId((u64::from(sequence) << 32) | key as u64)
    }

    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    fn push(&self, entry: squeue::Entry) {
        let mut backlog = self.0.backlog.borrow_mut();
        if backlog.is_empty() {
            let mut uring = self.0.uring.borrow_mut();
            // SAFETY: the entry's operation owns what the entry points to, see `submit`.
            if unsafe { uring.submission().push(&entry) }.is_ok() {
                return;
            }
            // The queue is full: hand it to the kernel early. If that does not help, the loop tries again.
            self.count_entering();
            if uring.submit().is_ok()
                // SAFETY: as above.
                && unsafe { uring.submission().push(&entry) }.is_ok()
            {
                return;
            }
        }
        backlog.push_back(entry);
    }

    /// Hands queued entries to the kernel and looks for completions without waiting.
    pub(super) fn enter(&self) -> io::Result<()> {
        self.flush_backlog();
        let mut uring = self.0.uring.borrow_mut();
        let queue = uring.submission();
        if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            return Ok(());
        }
        drop(queue);
        self.count_entering();
        tolerate(uring.submit())
    }

    /// Like [`Ring::enter`], but asks the kernel even if nothing seems to be there: for spinning.
    pub(super) fn poll(&self) -> io::Result<()> {
        self.flush_backlog();
        let now = types::Timespec::from(Duration::ZERO);
        let args = types::SubmitArgs::new().timespec(&now);
        let uring = self.0.uring.borrow();
        self.count_entering();
        tolerate(uring.submitter().submit_with_args(1, &args))
    }

    /// Hands queued entries to the kernel and waits for a completion, for at most `limit`.
    pub(super) fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        self.flush_backlog();
        self.count_entering();
        let mut uring = self.0.uring.borrow_mut();
        if !uring.completion().is_empty() {
            return tolerate(uring.submit());
        }
        match limit {
            None => tolerate(uring.submit_and_wait(1)),
            Some(limit) => {
                let timespec = types::Timespec::from(limit);
                let args = types::SubmitArgs::new().timespec(&timespec);
                tolerate(uring.submitter().submit_with_args(1, &args))
            }
        }
    }

    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    fn flush_backlog(&self) {
        let mut backlog = self.0.backlog.borrow_mut();
        if backlog.is_empty() {
            return;
        }
        let mut uring = self.0.uring.borrow_mut();
        let mut queue = uring.submission();
        while let Some(entry) = backlog.front() {
            // SAFETY: the entry's operation owns what the entry points to, see `submit`.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            backlog.pop_front();
        }
    }

    /// Takes completions and wakes who waits for them. Gives their number.
    pub(super) fn reap(&self) -> usize {
        let mut reaped = self.0.reaped.take();
        reaped.extend(
            self.0
                .uring
                .borrow_mut()
                .completion()
                .map(|entry| (entry.user_data(), entry.result(), entry.flags())),
        );
        let count = reaped.len();
        for (id, result, flags) in reaped.drain(..) {
            if id != IGNORED {
                self.complete(OpId(id), result, !cqueue::more(flags), flags);
            }
        }
        self.0.reaped.replace(reaped);
        count
    }

    fn complete(&self, id: OpId, result: i32, last: bool, flags: u32) {
        let (handler, _dropped) = {
            let mut ops = self.0.ops.borrow_mut();
            let key = id.key();
            let slot = ops.get_mut(key).filter(|slot| slot.sequence == id.sequence());
            let Some(slot) = slot else {
                unreachable!("the kernel completed an operation that is not in flight")
            };
            match &mut slot.op {
                InFlight::Multi(handler) => {
                    let handler = handler.clone();
                    let dropped = if last { Some(ops.remove(key)) } else { None };
                    (Some(handler), dropped)
                }
                InFlight::Single { waker, result: kept, done, detached, .. } => {
                    // The second completion of a zero-copy send says only that the kernel is done.
                    if !cqueue::notif(flags) {
                        *kept = Some(result);
                    }
                    *done = last;
                    if last && let Some(waker) = waker.take() {
                        waker.wake();
                    }
                    let dropped = if last && *detached { Some(ops.remove(key)) } else { None };
                    (None, dropped)
                }
            }
        };
        if let Some(handler) = handler {
            handler.completed(result, flags, last);
        }
    }

    /// Ends the ring: cancels what can be cancelled, waits for all.
    pub(super) fn shut_down(&self, limit: Duration) {
        let start = Instant::now();
        self.push(opcode::AsyncCancel2::new(types::CancelBuilder::any()).build().user_data(IGNORED));
        while self.pending() > 0 && start.elapsed() < limit {
            if let Err(error) = self.wait(Some(Duration::from_millis(20))) {
                log::error!("io_uring: waiting for cancelled operations: {error}");
                break;
            }
            self.reap();
            // Handlers may have submitted anew.
            if start.elapsed() > Duration::from_millis(100) {
                self.push(opcode::AsyncCancel2::new(types::CancelBuilder::any()).build().user_data(IGNORED));
            }
        }
        self.0.closed.set(true);
        if self.pending() > 0 {
            log::error!("io_uring: {} operations never ended; their memory is leaked", self.pending());
            // The kernel may still write to it.
            std::mem::forget(self.0.ops.take());
        }
    }

    fn pending(&self) -> usize {
        let pending = |slot: &Slot| !matches!(slot.op, InFlight::Single { done: true, .. });
        self.0.ops.borrow().iter().filter(|(_, slot)| pending(slot)).count()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Reached with operations in flight only if the world was torn down without `shut_down`.
        if !self.closed.get() {
            std::mem::forget(self.ops.take());
        }
    }
}

/// Interrupted, timed out, or completions have to be taken first: the loop goes on.
fn tolerate(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
    }
}

/// The leanest ring the kernel allows, or the plainest.
fn build(basic: bool) -> io::Result<IoUring> {
    let mut plain = IoUring::builder();
    plain.setup_cqsize(RING_COMPLETIONS).setup_clamp();
    let mut good = plain.clone();
    good.setup_coop_taskrun().setup_taskrun_flag();
    let mut best = good.clone();
    best.setup_single_issuer().setup_defer_taskrun();
    let mut last = None;
    for builder in if basic { vec![plain] } else { vec![best, good, plain] } {
        match builder.build(RING_SUBMISSIONS) {
            Ok(uring) => return Ok(uring),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::ErrorKind::Unsupported.into());
    Err(io::Error::new(error.kind(), format!("the kernel refuses io_uring: {error}")))
}

impl OpId {
    fn key(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    fn sequence(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// An operation in flight. Gives the kernel's result (a count, or an error) and the resources.
#[must_use = "dropping it lets the operation run on unseen"]
pub struct Op<R: 'static> {
    ring: Ring,
    state: OpState<R>,
    cancel_on_drop: bool,
    resources: PhantomData<R>,
}

enum OpState<R> {
    InFlight(OpId),
    Refused(i32, Box<R>),
    Gone,
}

// The future holds no reference into itself.
impl<R> Unpin for Op<R> {}

impl<R: 'static> Op<R> {
    /// Lets the kernel give up on the operation if the future is dropped.
    pub fn cancel_on_drop(mut self) -> Self {
        self.cancel_on_drop = true;
        self
    }

    pub(super) fn id(&self) -> Option<OpId> {
        match self.state {
            OpState::InFlight(id) => Some(id),
            OpState::Refused(..) | OpState::Gone => None,
        }
    }
}

impl<R: 'static> Future for Op<R> {
    type Output = (io::Result<u32>, R);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = match std::mem::replace(&mut self.state, OpState::Gone) {
            OpState::InFlight(id) => id,
            OpState::Refused(errno, resources) => {
                return Poll::Ready((Err(io::Error::from_raw_os_error(errno)), *resources));
            }
            OpState::Gone => unreachable!("an operation gives its result once"),
        };
        let ring = self.ring.clone();
        let mut ops = ring.0.ops.borrow_mut();
        let slot = ops.get_mut(id.key()).filter(|slot| slot.sequence == id.sequence());
        match slot.map(|slot| &mut slot.op) {
            Some(InFlight::Single { done: true, .. }) => {}
            Some(InFlight::Single { waker, .. }) => {
                *waker = Some(cx.waker().clone());
                self.state = OpState::InFlight(id);
                return Poll::Pending;
            }
            Some(InFlight::Multi(_)) => unreachable!("a single operation"),
            // Leaked at the end of the world.
            None => return Poll::Pending,
        }
        let Slot { op: InFlight::Single { result: Some(result), resources, .. }, .. } = ops.remove(id.key())
        else {
            unreachable!("a finished operation has a result")
        };
        drop(ops);
        let Ok(resources) = resources.downcast::<R>() else { unreachable!("resources keep their type") };
        let result = u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()));
        Poll::Ready((result, *resources))
    }
}

impl<R: 'static> Drop for Op<R> {
    fn drop(&mut self) {
        let OpState::InFlight(id) = self.state else { return };
        let dropped = {
            let mut ops = self.ring.0.ops.borrow_mut();
            let slot = ops.get_mut(id.key()).filter(|slot| slot.sequence == id.sequence());
            match slot.map(|slot| &mut slot.op) {
                Some(InFlight::Single { done: true, .. }) => Some(ops.remove(id.key())),
                Some(InFlight::Single { detached, waker, .. }) => {
                    *detached = true;
                    *waker = None;
                    None
                }
                _ => return,
            }
        };
        if dropped.is_none() && self.cancel_on_drop {
            self.ring.cancel(id);
        }
    }
}

/// A file registered with a ring.
pub struct RegisteredFile {
    ring: Ring,
    index: u32,
}

impl RegisteredFile {
    /// How entries name the file.
    pub fn fixed(&self) -> types::Fixed {
        types::Fixed(self.index)
    }
}

impl Drop for RegisteredFile {
    fn drop(&mut self) {
        let uring = self.ring.0.uring.borrow();
        self.ring.0.registered.borrow_mut().remove_file(&uring.submitter(), self.index);
    }
}

/// Memory registered with a ring.
pub struct RegisteredBuffer {
    ring: Ring,
    index: u16,
}

impl RegisteredBuffer {
    /// How `ReadFixed` and `WriteFixed` name the memory.
    pub fn index(&self) -> u16 {
        self.index
    }
}

impl Drop for RegisteredBuffer {
    fn drop(&mut self) {
        let uring = self.ring.0.uring.borrow();
        self.ring.0.registered.borrow_mut().remove_buffer(&uring.submitter(), self.index);
    }
}
