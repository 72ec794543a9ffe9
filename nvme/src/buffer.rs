//! Owned, aligned buffers that a device may read from or write into.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytes::Bytes;

/// Alignment of every [`DmaBuf`], bytes: a page, which satisfies O_DIRECT and PRP lists alike.
pub const DMA_ALIGN: usize = 4096;

/// A zero-initialised byte buffer aligned to [`DMA_ALIGN`]. Moves without copying.
pub struct DmaBuf {
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
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
        assert!(len > 0, "a DMA buffer has at least one byte");
        let Ok(layout) = Layout::from_size_align(len, DMA_ALIGN) else {
            panic!("a DMA buffer of {len} bytes overflows the address space")
        };
        // SAFETY: the layout's size is not zero.
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(raw) else { handle_alloc_error(layout) };
        Self { start, len, layout }
    }

    /// A copy of `bytes`, padded with zeroes to a multiple of `align` (a power of two).
    pub fn from_slice_padded(bytes: &[u8], align: usize) -> Self {
        let mut buf = Self::zeroed(bytes.len().next_multiple_of(align).max(align));
        buf[..bytes.len()].copy_from_slice(bytes);
        buf
    }

    /// Where the memory is, for the kernel. Stays the same when the buffer moves.
    pub(crate) fn address(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Hands the memory to a `Bytes` without copying.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
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
        // SAFETY: `start` points to `len` initialised bytes owned by self.
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
        // SAFETY: allocated in `zeroed` with this layout, and freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl fmt::Debug for DmaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuf({} bytes)", self.len)
    }
}
