//! Places of the files and buffers registered with a ring. Lives on one core.
//!
//! Invariant: a place is given out again only after the kernel has been told to forget what was there.

use std::io;
use std::os::fd::RawFd;

use io_uring::Submitter;

use crate::limits::{RING_BUFFERS_MAX, RING_FILES_MAX};

/// Tables of one ring; each exists in the kernel from its first use on.
#[derive(Default)]
pub(super) struct Registered {
    files: Option<Vec<u32>>,
    buffers: Option<Vec<u32>>,
}

/// Free places, the lowest last.
fn places(count: u32) -> Vec<u32> {
    (0..count).rev().collect()
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

impl Registered {
    pub fn add_file(&mut self, submitter: &Submitter<'_>, fd: RawFd) -> io::Result<u32> {
        if self.files.is_none() {
            submitter.register_files_sparse(RING_FILES_MAX)?;
        }
        let free = self.files.get_or_insert_with(|| places(RING_FILES_MAX));
        let place = free.pop().ok_or_else(full)?;
        if let Err(error) = submitter.register_files_update(place, &[fd]) {
            free.push(place);
            return Err(error);
        }
        Ok(place)
    }

    pub fn remove_file(&mut self, submitter: &Submitter<'_>, place: u32) {
        match submitter.register_files_update(place, &[-1]) {
            Ok(_) => self.files.iter_mut().for_each(|free| free.push(place)),
            Err(error) => log::error!("io_uring: file {place} stays registered: {error}"),
        }
    }

    /// # Safety
    /// See [`super::Ring::register_buffer`].
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    pub unsafe fn add_buffer(
        &mut self,
        submitter: &Submitter<'_>,
        start: *mut u8,
        len: usize,
    ) -> io::Result<u16> {
        if self.buffers.is_none() {
            submitter.register_buffers_sparse(RING_BUFFERS_MAX)?;
        }
        let free = self.buffers.get_or_insert_with(|| places(RING_BUFFERS_MAX));
        let place = free.pop().ok_or_else(full)?;
        let iovec = libc::iovec { iov_base: start.cast(), iov_len: len };
        // SAFETY: passed on to the caller.
        if let Err(error) = unsafe { submitter.register_buffers_update(place, &[iovec], None) } {
            free.push(place);
            return Err(error);
        }
        Ok(place as u16)
    }

    #[expect(unsafe_code, reason = "the call is unsafe for buffers that are not empty")]
    pub fn remove_buffer(&mut self, submitter: &Submitter<'_>, place: u16) {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: an empty buffer names no memory.
        match unsafe { submitter.register_buffers_update(place.into(), &[empty], None) } {
            Ok(()) => self.buffers.iter_mut().for_each(|free| free.push(place.into())),
            Err(error) => log::error!("io_uring: buffer {place} stays registered: {error}"),
        }
    }
}

const _: () = assert!(RING_BUFFERS_MAX <= u16::MAX as u32);
