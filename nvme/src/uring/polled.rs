//! [`PolledRing`]: a ring whose completions the core looks for itself, without interrupts. Lives on one core.
//!
//! It carries reads and writes only. While any is in flight a task polls; the core then never sleeps, which is the price
//! and the point. Invariant: what the kernel may touch is kept until the kernel is done with it, or for ever.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use io_uring::{IoUring, opcode, squeue, types};
use rt::{Core, Group};
use slab::Slab;

use super::registration::Registration;
use super::transfer::Kept;
use crate::buffer::DmaBuf;
use crate::file::DeviceFile;
use crate::limits::{POLLED_RING_ENTRIES, POLLED_WAIT};

pub(super) struct PolledRing {
    inner: Rc<Inner>,
    /// The place of the core's buffer pool, if this ring knows it too. The transfers keep the pool.
    buffer: Option<u16>,
}

struct Inner {
    uring: RefCell<IoUring>,
    ops: RefCell<Slab<Slot>>,
    has_driver: Cell<bool>,
}

struct Slot {
    _kept: Kept,
    waker: Option<Waker>,
    result: Option<i32>,
    is_dropped: bool,
}

/// A read or write in flight: the kernel's result.
pub(super) struct PolledOp {
    ring: Rc<Inner>,
    /// None if there was no room.
    key: Option<usize>,
}

impl PolledRing {
    /// A ring for the device, if polling it works.
    pub fn try_on(device: &DeviceFile, buffers: Option<&Registration>) -> Option<Self> {
        let tried = build(device.raw_fd()).and_then(|mut uring| try_read(&mut uring, device).map(|()| uring));
        match tried {
            Ok(uring) => {
                log::info!("{}: completions are polled for", device.name());
                let buffer = buffers.and_then(|buffers| register_pool(&uring, buffers));
                let inner = Rc::new(Inner {
                    uring: RefCell::new(uring),
                    ops: RefCell::new(Slab::new()),
                    has_driver: Cell::new(false),
                });
                Some(Self { inner, buffer })
            }
            Err(error) => {
                log::info!("{}: cannot be polled, so it interrupts: {error}", device.name());
                None
            }
        }
    }

    /// How entries name the file.
    pub fn file(&self) -> types::Fixed {
        types::Fixed(0)
    }

    /// How entries name the memory of the core's buffer pool.
    pub fn buffer(&self) -> Option<u16> {
        self.buffer
    }

    /// Queues a read or write; it goes to the kernel with the next turn of the driver.
    ///
    /// # Safety
    /// What the entry points to has to stay valid as long as `kept` is not dropped, and without conflicting uses.
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    pub unsafe fn submit(&self, core: &Core, kept: Kept, entry: squeue::Entry) -> PolledOp {
        let ring = self.inner.clone();
        let key = {
            let mut ops = ring.ops.borrow_mut();
            if ops.len() >= POLLED_RING_ENTRIES as usize {
                None
            } else {
                Some(ops.insert(Slot { _kept: kept, waker: None, result: None, is_dropped: false }))
            }
        };
        if let Some(key) = key {
            let entry = entry.user_data(key as u64);
            // SAFETY: the slot keeps what the entry points to until the kernel is done with it.
            let pushed = unsafe { ring.uring.borrow_mut().submission().push(&entry) };
            assert!(pushed.is_ok(), "the queue has an entry for each operation");
            if !ring.has_driver.replace(true) {
                let driver = Driver(ring.clone());
                drop(core.spawn(Group::Commit, "device polling", driver.run()));
            }
        }
        PolledOp { ring, key }
    }
}

impl Future for PolledOp {
    type Output = io::Result<u32>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(key) = this.key else {
            return Poll::Ready(Err(io::Error::from_raw_os_error(libc::EBUSY)));
        };
        let mut ops = this.ring.ops.borrow_mut();
        let Some(slot) = ops.get_mut(key) else { unreachable!("a slot is kept for its operation") };
        let Some(result) = slot.result else {
            slot.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let slot = ops.remove(key);
        drop(ops);
        drop(slot);
        this.key = None;
        Poll::Ready(u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg())))
    }
}

impl Drop for PolledOp {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut ops = self.ring.ops.borrow_mut();
        let Some(slot) = ops.get_mut(key) else { return };
        if slot.result.is_none() {
            slot.is_dropped = true;
            slot.waker = None;
            return;
        }
        let slot = ops.remove(key);
        drop(ops);
        drop(slot);
    }
}

impl Inner {
    /// Hands queued entries to the kernel, looks for completions, wakes who waits.
    fn turn(&self) -> io::Result<()> {
        let completed: Vec<(usize, i32)> = {
            let mut uring = self.uring.borrow_mut();
            match uring.submit() {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => {}
                    _ => return Err(error),
                },
            }
            uring.completion().map(|entry| (entry.user_data() as usize, entry.result())).collect()
        };
        for (key, result) in completed {
            let dropped = {
                let mut ops = self.ops.borrow_mut();
                let Some(slot) = ops.get_mut(key) else {
                    unreachable!("the kernel completes what it was given")
                };
                slot.result = Some(result);
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
                slot.is_dropped.then(|| ops.remove(key))
            };
            drop(dropped);
        }
        Ok(())
    }

    fn forget_file(&self) {
        // Otherwise the kernel lets go of it some time after the ring is closed.
        if let Err(error) = self.uring.borrow().submitter().unregister_files() {
            log::debug!("a polled ring keeps its file until it is gone: {error}");
        }
    }

    fn is_idle(&self) -> bool {
        self.ops.borrow().iter().all(|(_, slot)| slot.result.is_some())
    }
}

impl Drop for PolledRing {
    fn drop(&mut self) {
        if self.inner.is_idle() {
            self.inner.forget_file();
        }
    }
}

/// The task that polls. Dropped with operations in flight only when its core ends.
struct Driver(Rc<Inner>);

impl Driver {
    async fn run(self) {
        while !self.0.is_idle() {
            if let Err(error) = self.0.turn() {
                panic!("a polled ring cannot be entered: {error}");
            }
            rt::sync::yield_now().await;
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let start = Instant::now();
        while !self.0.is_idle() && start.elapsed() < POLLED_WAIT {
            if let Err(error) = self.0.turn() {
                log::error!("a polled ring cannot be entered: {error}");
                break;
            }
        }
        self.0.has_driver.set(false);
        if !self.0.is_idle() {
            log::error!("I/Os on a polled ring never ended; their memory is leaked");
            std::mem::forget(self.0.clone());
        }
    }
}

fn build(file: RawFd) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_iopoll().setup_clamp();
    let mut best = builder.clone();
    best.setup_single_issuer();
    let uring = best.build(POLLED_RING_ENTRIES).or_else(|_| builder.build(POLLED_RING_ENTRIES))?;
    uring.submitter().register_files(&[file])?;
    Ok(uring)
}

/// Registers the core's buffer pool with this ring too, under place 0.
#[expect(unsafe_code, reason = "the kernel gets pointers")]
fn register_pool(uring: &IoUring, buffers: &Registration) -> Option<u16> {
    let (start, len) = buffers.pool().region();
    let region = libc::iovec { iov_base: start.cast(), iov_len: len };
    // SAFETY: the kernel touches the region only for transfers, each of which keeps its buffer and so the pool; pages
    // that a registration outlives stay the kernel's own.
    match unsafe { uring.submitter().register_buffers(&[region]) } {
        Ok(()) => Some(0),
        Err(error) => {
            log::info!("buffers are not registered with the polled ring: {error}");
            None
        }
    }
}

/// Reads a block by polling: only this shows whether the device can.
#[expect(unsafe_code, reason = "the kernel gets pointers")]
fn try_read(uring: &mut IoUring, device: &DeviceFile) -> io::Result<()> {
    let buf = DmaBuf::zeroed(device.geometry().block_size as usize);
    let entry = opcode::Read::new(types::Fixed(0), buf.address(), device.geometry().block_size).build();
    // SAFETY: the buffer is dropped only after the kernel completed the read, and leaked if it never does.
    let pushed = unsafe { uring.submission().push(&entry) };
    assert!(pushed.is_ok(), "a new ring has room");
    let start = Instant::now();
    loop {
        let entered = uring.submit();
        if let Some(entry) = uring.completion().next() {
            return match entry.result() {
                0.. => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
            };
        }
        let interrupted =
            entered.as_ref().err().is_none_or(|error| error.kind() == io::ErrorKind::Interrupted);
        if !interrupted || start.elapsed() > POLLED_WAIT {
            std::mem::forget(buf);
            return Err(entered.err().unwrap_or_else(|| io::Error::from_raw_os_error(libc::ETIMEDOUT)));
        }
    }
}
