//! A loop device: a block device over another, whose flushes reach the lower one by one. Foreign to all cores: it blocks.
//!
//! Why one is between the cluster and the logging target: that target gives every completed write to the first flush
//! that passes, and logs it when that flush completes. If a second flush, which covers the write too, completes before,
//! what it allowed to be told is logged before the write, and the log looks as if something had been told too early.

#![expect(unsafe_code, reason = "loop devices are driven by ioctl")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const CONTROL: &str = "/dev/loop-control";
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const LOOP_CONFIGURE: u64 = 0x4c0a;
const LOOP_CLR_FD: u64 = 0x4c01;
/// Size of `struct loop_config`, bytes, and where its fields are.
const CONFIG: usize = 304;
const BLOCK_SIZE_AT: usize = 4;
const FLAGS_AT: usize = 60;
/// Past the page cache.
const DIRECT_IO: u32 = 16;

/// A loop device; it stays until [`LoopDevice::remove`].
pub struct LoopDevice {
    file: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Over `below`, with blocks of `block_size` bytes.
    pub fn create(below: &Path, block_size: u32) -> io::Result<Self> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
        let control = open(Path::new(CONTROL))?;
        // SAFETY: the call takes no memory.
        let number = checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let (file, below) = (open(&path)?, open(below)?);
        let mut config = [0_u8; CONFIG];
        config[..4].copy_from_slice(&below.as_raw_fd().to_le_bytes());
        config[BLOCK_SIZE_AT..BLOCK_SIZE_AT + 4].copy_from_slice(&block_size.to_le_bytes());
        config[FLAGS_AT..FLAGS_AT + 4].copy_from_slice(&DIRECT_IO.to_le_bytes());
        // SAFETY: the kernel reads as many bytes as the array has; the descriptor in it is open.
        checked(unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CONFIGURE as _, config.as_mut_ptr()) })?;
        Ok(Self { file, path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of the device below.
    pub fn remove(self) -> io::Result<()> {
        // SAFETY: the call takes no memory.
        checked(unsafe { libc::ioctl(self.file.as_raw_fd(), LOOP_CLR_FD as _, 0) }).map(|_| ())
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
