//! The few system calls that the standard library does not have.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

// From linux/fs.h; of `_IO` type, so the same on all architectures that matter here.
const BLKROGET: libc::Ioctl = 0x125e;
const BLKSSZGET: libc::Ioctl = 0x1268;
const BLKDISCARD: libc::Ioctl = 0x1277;
// `_IOR(0x12, 114, size_t)` with a size_t of eight bytes.
const BLKGETSIZE64: libc::Ioctl = 0x8008_1272;

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes of a block device.
#[expect(unsafe_code, reason = "a system call")]
pub(super) fn block_device_size(file: &File) -> io::Result<u64> {
    let mut size = 0_u64;
    // SAFETY: BLKGETSIZE64 stores eight bytes.
    done(unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut size) })?;
    Ok(size)
}

/// Logical block size of a block device, bytes.
#[expect(unsafe_code, reason = "a system call")]
pub(super) fn logical_block_size(file: &File) -> io::Result<u64> {
    let mut size: libc::c_int = 0;
    // SAFETY: BLKSSZGET stores an int.
    done(unsafe { libc::ioctl(file.as_raw_fd(), BLKSSZGET, &raw mut size) })?;
    u64::try_from(size).map_err(|_| io::Error::other(format!("a block size of {size} bytes")))
}

/// Whether a block device is set read-only.
#[expect(unsafe_code, reason = "a system call")]
pub(super) fn is_read_only(file: &File) -> io::Result<bool> {
    let mut read_only: libc::c_int = 0;
    // SAFETY: BLKROGET stores an int.
    done(unsafe { libc::ioctl(file.as_raw_fd(), BLKROGET, &raw mut read_only) })?;
    Ok(read_only != 0)
}

/// Tells a block device that a range is not needed.
#[expect(unsafe_code, reason = "a system call")]
pub(super) fn discard(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    // SAFETY: BLKDISCARD reads two u64.
    done(unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD, range.as_ptr()) })
}

/// Gives the space of a file's range back to its file system.
pub(super) fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, len)
}

/// Reserves the first `len` bytes of a file, which becomes that long at least.
pub(super) fn reserve(file: &File, len: u64) -> io::Result<()> {
    fallocate(file, 0, 0, len)
}

#[expect(unsafe_code, reason = "a system call")]
fn fallocate(file: &File, mode: libc::c_int, offset: u64, len: u64) -> io::Result<()> {
    let too_far = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let offset = libc::off64_t::try_from(offset).map_err(too_far)?;
    let len = libc::off64_t::try_from(len).map_err(too_far)?;
    loop {
        // SAFETY: no pointers are passed.
        match done(unsafe { libc::fallocate64(file.as_raw_fd(), mode, offset, len) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Bytes that may still be taken on the file system of a file or folder.
#[expect(unsafe_code, reason = "a system call")]
pub(super) fn free_bytes(file: &File) -> io::Result<u64> {
    // SAFETY: all zeroes is a statvfs.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: fstatvfs fills the structure.
    done(unsafe { libc::fstatvfs(file.as_raw_fd(), &raw mut found) })?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Alignment that direct I/O on a file needs, of memory and of offsets, where the kernel tells (from 6.1 on).
#[expect(unsafe_code, reason = "a system call")]
pub(super) fn direct_io_alignment(file: &File) -> Option<(u32, u32)> {
    // SAFETY: all zeroes is a statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is an empty C string and statx fills the structure.
    let result = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, &raw mut found)
    };
    let told = result == 0 && found.stx_mask & libc::STATX_DIOALIGN != 0;
    told.then_some((found.stx_dio_mem_align, found.stx_dio_offset_align))
}

/// Locks the file for this process alone, without waiting.
#[expect(unsafe_code, reason = "a system call")]
pub(super) fn lock(file: &File) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    done(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) })
}
