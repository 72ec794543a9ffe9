//! Owned, aligned buffers that a device may read from or write into.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;

use crate::pool::{BufPool, PoolSlot};

/// Alignment of every [`DmaBuf`], bytes: a page, which satisfies O_DIRECT and PRP lists alike.
pub const DMA_ALIGN: usize = 4096;

/// A byte buffer aligned to [`DMA_ALIGN`]. Moves without copying. Small ones come from memory that the core's ring
/// knows already, where there is such a ring.
pub struct DmaBuf {
    start: NonNull<u8>,
    len: usize,
    home: Home,
}

/// Whose the memory is.
enum Home {
    Heap(Layout),
    Pool(PoolSlot),
}

// SAFETY: a DmaBuf owns its memory exclusively, as a Box<[u8]> does.
#[expect(unsafe_code, reason = "owns raw memory")]
unsafe impl Send for DmaBuf {}
// SAFETY: shared access gives &[u8] only.
#[expect(unsafe_code, reason = "owns raw memory")]
unsafe impl Sync for DmaBuf {}

#[expect(unsafe_code, reason = "owns raw memory")]
impl DmaBuf {
    /// `len` zero bytes; `len` > 0.
    pub fn zeroed(len: usize) -> Self {
        match Self::from_pool(len) {
            Some(mut buf) => {
                buf.fill(0);
                buf
            }
            None => Self::from_heap(len),
        }
    }

    /// `len` bytes of no particular value, zero or left over from an earlier buffer: for reads, which replace all of
    /// them. `len` > 0.
    pub fn recycled(len: usize) -> Self {
        Self::from_pool(len).unwrap_or_else(|| Self::from_heap(len))
    }

    /// A copy of `bytes`, padded with zeroes to a multiple of `align` (a power of two).
    pub fn from_slice_padded(bytes: &[u8], align: usize) -> Self {
        Self::gather_padded([bytes], align)
    }

    /// A copy of all `parts`, one after the other, padded with zeroes to a multiple of `align` (a power of two).
    pub fn gather_padded<P: AsRef<[u8]>>(parts: impl AsRef<[P]>, align: usize) -> Self {
        let parts = parts.as_ref();
        let len: usize = parts.iter().map(|part| part.as_ref().len()).sum();
        let mut buf = Self::recycled(len.next_multiple_of(align).max(align));
        let mut rest = &mut buf[..];
        for part in parts {
            let (target, after) = rest.split_at_mut(part.as_ref().len());
            target.copy_from_slice(part.as_ref());
            rest = after;
        }
        rest.fill(0);
        buf
    }

    /// Where the memory is, for the kernel. Stays the same when the buffer moves.
    pub(crate) fn address(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The pool that the memory belongs to, if any.
    pub(crate) fn pool(&self) -> Option<&Arc<BufPool>> {
        match &self.home {
            Home::Heap(_) => None,
            Home::Pool(slot) => Some(slot.pool()),
        }
    }

    /// Hands the memory to a `Bytes` without copying.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn from_pool(len: usize) -> Option<Self> {
        assert!(len > 0, "a DMA buffer has at least one byte");
        let (start, slot) = BufPool::take(len)?;
        Some(Self { start, len, home: Home::Pool(slot) })
    }

    fn from_heap(len: usize) -> Self {
        assert!(len > 0, "a DMA buffer has at least one byte");
        let Ok(layout) = Layout::from_size_align(len, DMA_ALIGN) else {
            panic!("a DMA buffer of {len} bytes overflows the address space")
        };
        // SAFETY: the layout's size is not zero.
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(raw) else { handle_alloc_error(layout) };
        Self { start, len, home: Home::Heap(layout) }
    }
}

impl AsRef<[u8]> for DmaBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[expect(unsafe_code, reason = "owns raw memory")]
impl Deref for DmaBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `len` initialised bytes owned by self; a slot of a pool is at least that long.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

#[expect(unsafe_code, reason = "owns raw memory")]
impl DerefMut for DmaBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in deref, and self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[expect(unsafe_code, reason = "owns raw memory")]
impl Drop for DmaBuf {
    fn drop(&mut self) {
        if let Home::Heap(layout) = self.home {
            // SAFETY: allocated in `from_heap` with this layout, and freed once.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

impl fmt::Debug for DmaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuf({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::POOL_CLASSES;

    #[test]
    fn buffers_are_zero_aligned_and_as_long_as_asked_for() {
        let check = || {
            for len in [1, 512, 4096, 4097, 65536, 65537, 1 << 20] {
                let mut buf = DmaBuf::zeroed(len);
                assert_eq!((buf.len(), buf.as_ptr().addr() % DMA_ALIGN), (len, 0));
                assert!(buf.iter().all(|&byte| byte == 0));
                // What the next one must not show.
                buf.fill(7);
            }
        };
        check();
        BufPool::set_current(Some(BufPool::new()));
        check();
        check();
    }

    #[test]
    fn slots_come_back_from_any_thread_and_the_heap_helps_out() {
        BufPool::set_current(Some(BufPool::new()));
        let slots = POOL_CLASSES[0].slots;
        let mut bufs: Vec<DmaBuf> = (0..slots + 10).map(|_| DmaBuf::recycled(100)).collect();
        assert_eq!(bufs.iter().filter(|buf| buf.pool().is_some()).count(), slots);
        for (value, buf) in bufs.iter_mut().enumerate() {
            buf.fill(value as u8);
        }
        assert!(bufs.iter().enumerate().all(|(value, buf)| buf.iter().all(|&byte| byte == value as u8)));
        let frozen: Vec<Bytes> = bufs.into_iter().map(DmaBuf::freeze).collect();
        std::thread::scope(|scope| scope.spawn(|| drop(frozen)).join()).unwrap();
        let again: Vec<DmaBuf> = (0..slots).map(|_| DmaBuf::zeroed(4096)).collect();
        assert!(again.iter().all(|buf| buf.pool().is_some()));
        // A buffer outlives its thread's pool.
        BufPool::set_current(None);
        assert!(DmaBuf::zeroed(1).pool().is_none());
        assert!(again[0].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn gathers_and_pads() {
        let buf =
            DmaBuf::gather_padded([Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")], 512);
        assert_eq!((buf.len(), &buf[..4]), (512, &b"abc\0"[..]));
        assert!(buf[3..].iter().all(|&byte| byte == 0));
        assert_eq!(DmaBuf::from_slice_padded(b"", 4096).len(), 4096);
        assert_eq!(DmaBuf::from_slice_padded(&[1; 4096], 4096).len(), 4096);
    }
}
