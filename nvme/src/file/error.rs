//! Why a device could not be opened, and what failed system calls mean, in sentences that say what to do.

use std::io;
use std::path::PathBuf;

/// Why a device could not be opened or created.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum OpenError {
    #[error("{}: there is no such file or device; create it first, or check the name", path.display())]
    NotFound { path: PathBuf },
    #[error("{}: it exists already; choose another name, or remove it if nothing in it is needed", path.display())]
    Exists { path: PathBuf },
    #[error("{}: no permission to open it for reading and writing; run as a user who may, or change its mode", path.display())]
    Permission { path: PathBuf },
    #[error("{}: it is {found}, not a block device or a regular file{}", path.display(), hint(found))]
    WrongType { path: PathBuf, found: &'static str },
    #[error("{}: it is in use by {by}; stop that first, or choose another device", path.display())]
    InUse { path: PathBuf, by: String },
    #[error("{}: it has {found} bytes and at least {least} are needed; use a larger one", path.display())]
    TooSmall { path: PathBuf, found: u64, least: u64 },
    #[error("{}: its blocks have {found} bytes; sizes from 512 to 65536 that are a power of two can be used", path.display())]
    BlockSize { path: PathBuf, found: u64 },
    #[error("{}: it is read-only; make it writable, or choose another device", path.display())]
    ReadOnly { path: PathBuf },
    #[error(
        "{}: its file system does not support direct I/O ({reason}); put the file on ext4 or xfs, or use a block device",
        path.display()
    )]
    NoDirectIo { path: PathBuf, reason: String },
    #[error(
        "{}: {len} bytes do not fit on its file system, where {free} are free: {reason}; make room there, ask for less, or \
         choose another place",
        path.display()
    )]
    NoSpace { path: PathBuf, len: u64, free: u64, reason: String },
    #[error("{}: the core that is to drive it has no io_uring; use a core of the real world", path.display())]
    NoRing { path: PathBuf },
    #[error("{}: {op} failed: {source}", path.display())]
    System { path: PathBuf, op: &'static str, source: io::Error },
}

fn hint(found: &str) -> &'static str {
    match found {
        "a directory" => "; name a file in it",
        "a character device" => "; of an NVMe drive use the block device, such as /dev/nvme0n1",
        _ => "",
    }
}

/// A sentence for the error of an I/O.
pub(super) fn io_reason(error: &io::Error) -> String {
    let meaning = match error.raw_os_error() {
        Some(libc::EIO) => "the device reports an I/O error",
        Some(libc::ENODATA) => "the device cannot read these blocks",
        Some(libc::EILSEQ) => "the device's own integrity check failed",
        Some(libc::EREMOTEIO) => "the device failed",
        Some(libc::ETIMEDOUT | libc::ETIME) => "the device did not answer in time",
        Some(libc::ENOLINK) => "the connection to the device is lost",
        Some(libc::ENOSPC) => "no space is left below the device",
        Some(libc::EDQUOT) => "the quota of the file system below is used up",
        Some(libc::EROFS | libc::EPERM) => "the device has become read-only",
        Some(libc::EINVAL) => "the system refuses I/O of this size or alignment",
        _ => return error.to_string(),
    };
    format!("{meaning} ({error})")
}
