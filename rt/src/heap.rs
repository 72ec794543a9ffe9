//! [`Heap`], the allocator of whatever runs cores.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

use libmimalloc_sys as mi;

/// What mimalloc aligns all blocks to that are as large.
const NATURAL_ALIGN: usize = 16;

/// mimalloc, asked for an alignment only where it matters. Asked for one always, as its own wrapper does, it takes a longer way
/// and more memory for every size that is no power of two.
#[derive(Clone, Copy, Debug)]
pub struct Heap;

fn is_natural(align: usize, size: usize) -> bool {
    align <= NATURAL_ALIGN && align <= size
}

#[expect(unsafe_code, reason = "the trait is")]
// SAFETY: mimalloc gives memory of that size at least. Its blocks are aligned to their size, rounded down to a power of two, or
// to 16 bytes; for more, and for less memory than alignment, it is asked.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: these may be called with any size, and an alignment that is a power of two, as those of layouts are.
        let memory = unsafe {
            if is_natural(align, size) { mi::mi_malloc(size) } else { mi::mi_malloc_aligned(size, align) }
        };
        memory.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        let memory = unsafe {
            if is_natural(align, size) { mi::mi_zalloc(size) } else { mi::mi_zalloc_aligned(size, align) }
        };
        memory.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, _layout: Layout) {
        // SAFETY: it is from here, as the caller promises.
        unsafe { mi::mi_free(memory.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (memory, align): (*mut c_void, usize) = (memory.cast(), layout.align());
        // SAFETY: it is from here, as the caller promises; and as above.
        let memory = unsafe {
            if is_natural(align, size) {
                mi::mi_realloc(memory, size)
            } else {
                mi::mi_realloc_aligned(memory, size, align)
            }
        };
        memory.cast()
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "the trait is")]
mod tests {
    use super::*;

    #[test]
    fn all_sizes_are_aligned_and_keep_what_is_in_them() {
        for align in [1, 2, 4, 8, 16, 32, 64, 512, 4096] {
            for size in (1..100).chain([127, 128, 129, 1000, 1024, 1032, 4095, 4096, 4100, 70_000, 1 << 20]) {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                let larger = size * 3 + 1;
                // SAFETY: what is written is within it, and it is freed with the layout that it then has.
                unsafe {
                    let zeroed = Heap.alloc_zeroed(layout);
                    assert_eq!(zeroed.align_offset(align), 0, "{size} bytes aligned to {align}");
                    assert!((0..size).all(|at| zeroed.add(at).read() == 0), "{size} bytes");
                    let first = Heap.alloc(layout);
                    assert_eq!(first.align_offset(align), 0, "{size} bytes aligned to {align}");
                    first.write_bytes(0xa5, size);
                    let grown = Heap.realloc(first, layout, larger);
                    assert_eq!(grown.align_offset(align), 0, "{size} to {larger} bytes aligned to {align}");
                    assert!((0..size).all(|at| grown.add(at).read() == 0xa5), "{size} bytes");
                    let less = Heap.realloc(grown, Layout::from_size_align_unchecked(larger, align), 1);
                    assert_eq!((less.align_offset(align), less.read()), (0, 0xa5), "aligned to {align}");
                    Heap.dealloc(less, Layout::from_size_align_unchecked(1, align));
                    Heap.dealloc(zeroed, layout);
                }
            }
        }
    }
}
