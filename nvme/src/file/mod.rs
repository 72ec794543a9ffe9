//! Files and block devices of the operating system: opening them with all checks, and the blocking view of them.
//!
//! A [`DeviceFile`] is opened once in a process and shared by every handle on it, whatever core or thread the handle
//! lives on: the descriptor, the geometry, the lock and the poison are one.

mod blocking;
mod error;
pub(crate) mod fuzzing;
mod holders;
mod ioctl;
mod line;
mod open;
mod queue;

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

pub use blocking::BlockingFile;
pub use error::OpenError;
pub use line::Turn;
pub use open::{OpenOptions, Space, create, open};

use crate::check;
use crate::device::{DeviceError, DeviceResult, Geometry};
use line::Line;
use queue::PollingLimits;

/// A file or block device that this process has opened for itself alone.
pub struct DeviceFile {
    file: File,
    path: PathBuf,
    name: String,
    geometry: Geometry,
    /// Bytes, as last looked at: what the geometry says, or more.
    size: AtomicU64,
    /// Who changes how it is divided.
    line: Line,
    is_block_device: bool,
    /// Which I/Os can be polled for, as far as the system says.
    polling: Option<PollingLimits>,
    poison: OnceLock<String>,
    /// No longer tried once the device refused it.
    discard_refused: OnceLock<()>,
}

impl DeviceFile {
    /// What the device is.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Bytes, as last looked at.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Looks how large it is now; all handles may use what it has grown by. Gives the bytes. One that is smaller than it was is
    /// taken as it was: what is missing shows when it is read.
    pub fn look_again(&self) -> Result<u64, OpenError> {
        let found = open::size_of(&self.path, &self.file, self.is_block_device)?;
        let block = u64::from(self.geometry.block_size);
        Ok(self.size.fetch_max(found / block * block, Ordering::Relaxed).max(found / block * block))
    }

    /// The right to read and change how the device is divided among its users, on whatever cores they are, until it is
    /// dropped; waits in line for it.
    pub async fn divide(&self) -> Turn<'_> {
        self.line.turn().await
    }

    fn bounds(&self) -> check::Bounds {
        check::Bounds { size: self.size(), block_size: self.geometry.block_size }
    }

    /// Its path, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A block device, as opposed to a regular file.
    pub fn is_block_device(&self) -> bool {
        self.is_block_device
    }

    /// The system lists queues for polling. Whether polling works shows only when it is tried.
    pub fn may_poll(&self) -> bool {
        self.polling.is_some()
    }

    pub(crate) fn polling(&self) -> Option<&PollingLimits> {
        self.polling.as_ref()
    }

    /// A view for foreign threads.
    pub fn blocking(self: &Arc<Self>) -> BlockingFile {
        BlockingFile::new(self.clone())
    }

    /// Why nothing more is done through this device, if so.
    pub fn poison(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Refuses everything on a poisoned device.
    pub(crate) fn admit(&self) -> DeviceResult<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(reason) => Err(DeviceError::Poisoned { device: self.name.clone(), reason: reason.clone() }),
        }
    }

    pub(crate) fn check_range(&self, op: &'static str, offset: u64, len: u64) -> DeviceResult<()> {
        self.admit()?;
        check::range(op, self.bounds(), &self.name, offset, len)
    }

    /// What a failed system call on these bytes means.
    pub(crate) fn failed(
        &self,
        op: &'static str,
        offset: u64,
        len: u64,
        error: &std::io::Error,
    ) -> DeviceError {
        match error.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => DeviceError::Gone { device: self.name.clone() },
            _ => DeviceError::Io {
                op,
                offset,
                len,
                device: self.name.clone(),
                reason: error::io_reason(error),
            },
        }
    }

    /// A flush failed: nothing more is done through any handle. Gives the error for the one who asked.
    pub(crate) fn poisoned_by(&self, error: &std::io::Error) -> DeviceError {
        let reason = self.poison.get_or_init(|| {
            let reason = error::io_reason(error);
            log::error!("{}: a flush failed and what is durable is unknown: {reason}", self.name);
            reason
        });
        DeviceError::Poisoned { device: self.name.clone(), reason: reason.clone() }
    }

    /// Discards, blocking. A device that cannot is not asked again; discards are advice.
    pub(crate) fn discard_now(&self, offset: u64, len: u64) -> DeviceResult<()> {
        if !self.geometry.discard || self.discard_refused.get().is_some() {
            return Ok(());
        }
        let result = if self.is_block_device {
            ioctl::discard(&self.file, offset, len)
        } else {
            ioctl::punch_hole(&self.file, offset, len)
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) => self.discard_failed(offset, len, &error),
        }
    }

    fn discard_failed(&self, offset: u64, len: u64, error: &std::io::Error) -> DeviceResult<()> {
        if let Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM | libc::ENOTTY) =
            error.raw_os_error()
        {
            if self.discard_refused.set(()).is_ok() {
                log::info!("{}: discards are not passed on: {error}", self.name);
            }
            return Ok(());
        }
        Err(self.failed("discard", offset, len, error))
    }
}

impl std::fmt::Debug for DeviceFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceFile({}, {:?})", self.name, self.geometry)
    }
}

#[cfg(test)]
mod tests;
