//! [`BufPool`]: a small region of memory for the buffers of one core, so that a ring can register it once.
//!
//! Two classes of slots, taken on the core's own thread and given back from any. A thread that has a pool serves every
//! [`DmaBuf`](crate::DmaBuf) that fits from it; when it is empty, or the buffer is long, there is the heap. Invariant: a
//! slot belongs to at most one buffer, and the region lives as long as any buffer or registration of it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::DMA_ALIGN;
use crate::limits::{POOL_CLASSES, PoolClass};

/// The region.
pub(crate) struct BufPool {
    start: NonNull<u8>,
    layout: Layout,
    /// Of each class, the offsets of its free slots.
    free: [Mutex<Vec<usize>>; POOL_CLASSES.len()],
}

// SAFETY: the region is only ever reached through the slots given out, each to one owner, or by address.
#[expect(unsafe_code, reason = "owns raw memory")]
unsafe impl Send for BufPool {}
// SAFETY: as above; the free lists are behind locks.
#[expect(unsafe_code, reason = "owns raw memory")]
unsafe impl Sync for BufPool {}

/// A slot taken: gives itself back when dropped.
pub(crate) struct PoolSlot {
    pool: Arc<BufPool>,
    class: usize,
    offset: usize,
}

/// As long as this lives, this thread's buffers come from a pool, as they do on a core whose ring has one: for devices without
/// a ring, where what buffers cost is measured.
pub struct PooledBuffers {
    before: Option<Arc<BufPool>>,
}

impl PooledBuffers {
    /// From now on.
    pub fn begin() -> Self {
        Self { before: BufPool::set_current(Some(BufPool::new())) }
    }
}

impl Drop for PooledBuffers {
    fn drop(&mut self) {
        BufPool::set_current(self.before.take());
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<BufPool>>> = const { RefCell::new(None) };
}

#[expect(unsafe_code, reason = "owns raw memory")]
impl BufPool {
    pub fn new() -> Arc<Self> {
        let mut end = 0;
        let free = POOL_CLASSES.map(|PoolClass { slot_bytes, slots }| {
            let offsets = (0..slots).map(|slot| end + slot * slot_bytes).rev().collect();
            end += slots * slot_bytes;
            Mutex::new(offsets)
        });
        let Ok(layout) = Layout::from_size_align(end, DMA_ALIGN) else {
            unreachable!("the size of a pool is a constant")
        };
        // SAFETY: the layout's size is not zero.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        Arc::new(Self { start, layout, free })
    }

    /// Where the region is, for the kernel, and its length.
    pub fn region(&self) -> (*mut u8, usize) {
        (self.start.as_ptr(), self.layout.size())
    }

    /// Lets this thread's buffers come from `pool`; none ends that. Gives the one before.
    pub fn set_current(pool: Option<Arc<Self>>) -> Option<Arc<Self>> {
        CURRENT.with(|current| current.replace(pool))
    }

    /// A slot of at least `len` bytes from this thread's pool, and its memory. The bytes are what the slot's last owner
    /// left.
    pub fn take(len: usize) -> Option<(NonNull<u8>, PoolSlot)> {
        let class = POOL_CLASSES.iter().position(|class| len <= class.slot_bytes)?;
        // The thread may be ending, with its pool gone already.
        let pool = CURRENT.try_with(|current| current.borrow().clone()).ok()??;
        let offset = pool.free(class).pop()?;
        // SAFETY: the offset is one of the region's slots.
        let memory = unsafe { pool.start.add(offset) };
        Some((memory, PoolSlot { pool, class, offset }))
    }

    fn free(&self, class: usize) -> MutexGuard<'_, Vec<usize>> {
        self.free[class].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(unsafe_code, reason = "owns raw memory")]
impl Drop for BufPool {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; slots and registrations keep the pool alive.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl PoolSlot {
    pub fn pool(&self) -> &Arc<BufPool> {
        &self.pool
    }
}

impl Drop for PoolSlot {
    fn drop(&mut self) {
        self.pool.free(self.class).push(self.offset);
    }
}
