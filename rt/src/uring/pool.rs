//! Buffers that the kernel picks from when it receives. Lives on one core; what was handed out may be dropped
//! on any thread.
//!
//! Invariant: a buffer is either offered to the kernel, or being completed, or handed out, or on its way back.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use crossbeam::queue::SegQueue;
use io_uring::types::BufRingEntry;

use super::ring::Ring;
use crate::limits::RECV_COPY_BYTES_MAX;

/// The one group of buffers of a ring.
pub(super) const GROUP: u16 = 0;

const PAGE: usize = 4096;

/// Buffers of one core.
pub(super) struct Pool {
    shared: Arc<Shared>,
    entries: Arc<Memory>,
    count: u16,
    tail: Cell<u16>,
    /// Buffers not offered to the kernel.
    away: Cell<u16>,
    /// The kernel cannot receive many times on one request.
    unusable: Cell<bool>,
}

struct Shared {
    memory: Memory,
    size: usize,
    back: SegQueue<u16>,
}

/// A buffer handed out, as the owner of a [`Bytes`].
struct Lent {
    shared: Arc<Shared>,
    buffer: u16,
    len: usize,
}

/// Whether a pool can have this many buffers of this size. The kernel wants a power of two.
pub(super) fn check(count: u16, size: usize) -> io::Result<()> {
    if count.is_power_of_two() && (1..=1 << 20).contains(&size) {
        return Ok(());
    }
    let message = format!("{count} receive buffers of {size} bytes: wanted a power of two, of up to 1 MiB");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

impl Pool {
    /// `count` buffers of `size` bytes, as [`check`] allows.
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    pub fn new(ring: &Ring, count: u16, size: usize) -> io::Result<Self> {
        let entries = Arc::new(Memory::new(usize::from(count) * size_of::<BufRingEntry>())?);
        let memory = Memory::new(usize::from(count) * size)?;
        let shared = Arc::new(Shared { memory, size, back: SegQueue::new() });
        // SAFETY: both memories outlive the ring: `leak` is called where a ring does not end in order.
        unsafe { ring.register_buf_ring(entries.start.as_ptr() as u64, count, GROUP)? };
        let pool = Self {
            shared,
            entries,
            count,
            tail: Cell::new(0),
            away: Cell::new(count),
            unusable: Cell::new(false),
        };
        (0..count).for_each(|buffer| pool.offer(buffer));
        pool.publish();
        Ok(pool)
    }

    /// What the kernel received into `buffer`, which it picked.
    #[expect(unsafe_code, reason = "the memory was filled by the kernel")]
    pub fn take(&self, buffer: u16, len: usize) -> Bytes {
        assert!(buffer < self.count && len <= self.shared.size, "the kernel picks from what it was offered");
        self.away.set(self.away.get() + 1);
        let short = self.away.get() > self.count / 4 * 3;
        if len <= RECV_COPY_BYTES_MAX || short {
            // SAFETY: the kernel has let go of this buffer and nobody else has it.
            let copy = Bytes::copy_from_slice(unsafe { self.shared.slice(buffer, len) });
            self.offer(buffer);
            self.publish();
            return copy;
        }
        Bytes::from_owner(Lent { shared: self.shared.clone(), buffer, len })
    }

    /// Offers what came back to the kernel again.
    pub fn recycle(&self) {
        let mut any = false;
        while let Some(buffer) = self.shared.back.pop() {
            self.offer(buffer);
            any = true;
        }
        if any {
            self.publish();
        }
    }

    /// Whether the kernel has buffers to pick from, and can.
    pub fn has_room(&self) -> bool {
        self.away.get() < self.count && !self.unusable.get()
    }

    /// The kernel refused to receive from the pool.
    pub fn give_up(&self) {
        log::info!("io_uring: this kernel cannot receive many times on one request");
        self.unusable.set(true);
    }

    /// Keeps the memory for ever, because the kernel may.
    pub fn leak(&self) {
        std::mem::forget(self.shared.clone());
        std::mem::forget(self.entries.clone());
    }

    #[expect(unsafe_code, reason = "the entries are shared with the kernel")]
    fn offer(&self, buffer: u16) {
        let tail = self.tail.get();
        let index = usize::from(tail & (self.count - 1));
        // SAFETY: the index is within the ring; the kernel reads entries only up to the published tail, which this
        // one is beyond. The buffer's memory is within the pool's.
        unsafe {
            let entry = &mut *self.entries.start.as_ptr().cast::<BufRingEntry>().add(index);
            entry.set_addr(
                self.shared.memory.start.as_ptr().add(usize::from(buffer) * self.shared.size) as u64
            );
            entry.set_len(self.shared.size as u32);
            entry.set_bid(buffer);
        }
        self.tail.set(tail.wrapping_add(1));
        self.away.set(self.away.get() - 1);
    }

    #[expect(unsafe_code, reason = "the tail is shared with the kernel")]
    fn publish(&self) {
        let entries = self.entries.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the tail lies in the first entry, aligned, and is accessed by both sides atomically only.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        tail.store(self.tail.get(), Ordering::Release);
    }
}

impl Shared {
    /// # Safety
    /// The buffer must not be offered to the kernel as long as the slice lives.
    #[expect(unsafe_code, reason = "the memory is shared with the kernel")]
    unsafe fn slice(&self, buffer: u16, len: usize) -> &[u8] {
        // SAFETY: within the memory, initialised (zeroed at first), and not written to meanwhile (the caller's part).
        unsafe {
            let start = self.memory.start.as_ptr().add(usize::from(buffer) * self.size);
            std::slice::from_raw_parts(start, len.min(self.size))
        }
    }
}

impl AsRef<[u8]> for Lent {
    #[expect(unsafe_code, reason = "the memory was filled by the kernel")]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: lent buffers come back, and are offered again, only after this value was dropped.
        unsafe { self.shared.slice(self.buffer, self.len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.shared.back.push(self.buffer);
    }
}

/// Zeroed memory, aligned to pages.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory; who may touch which part when is the business of `Shared` and `Pool`.
#[expect(unsafe_code, reason = "plain memory")]
unsafe impl Send for Memory {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "plain memory")]
unsafe impl Sync for Memory {}

impl Memory {
    #[expect(unsafe_code, reason = "allocation with an alignment")]
    fn new(len: usize) -> io::Result<Self> {
        let layout =
            Layout::from_size_align(len, PAGE).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        assert!(len > 0, "memory of no bytes");
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, layout })
    }
}

impl Drop for Memory {
    #[expect(unsafe_code, reason = "allocation with an alignment")]
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
