//! Opening and creating: every check that can be made before the first I/O, each with an error that says what to do.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::line::Line;
use super::queue::Queue;
use super::{DeviceFile, OpenError, holders, ioctl};
use crate::buffer::DmaBuf;
use crate::device::{Geometry, Kind};
use crate::limits::{
    BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, FILE_BLOCK_SIZE, OPEN_WAIT, OPEN_WAIT_STEP, URING_IO_MAX,
};

/// What the caller needs of a device.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Bytes it must have at least.
    pub size_min: u64,
    /// Accept a file system without direct I/O; the page cache then lies between, and costs memory and CPU.
    pub allow_buffered: bool,
    /// Whether it rotates, for those that the kernel is wrong about: most virtual disks call themselves rotating.
    pub rotational: Option<bool>,
}

/// How the space of a new file is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Reserved now: writes cannot run out of space later.
    Reserved,
    /// Taken when written: quick, and the file system may fill up.
    Sparse,
}

/// Opens a block device or a regular file for this process alone. Blocks, for a few seconds if a process that held it
/// has just been killed.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Arc<DeviceFile>, OpenError> {
    let metadata = fs::metadata(path).map_err(|error| classify(path, "stat", error))?;
    let file_type = metadata.file_type();
    let is_block_device = file_type.is_block_device();
    if !is_block_device && !file_type.is_file() {
        return Err(OpenError::WrongType { path: path.to_owned(), found: name_of(file_type) });
    }
    let (file, direct) = open_alone(path, &metadata, is_block_device, options.allow_buffered)?;
    let mut geometry = if is_block_device {
        block_device_geometry(path, &file, &metadata, direct)?
    } else {
        file_geometry(path, &file, &metadata)?
    };
    geometry.rotational = options.rotational.unwrap_or(geometry.rotational);
    if geometry.size < options.size_min.max(u64::from(geometry.block_size)) {
        return Err(OpenError::TooSmall {
            path: path.to_owned(),
            found: geometry.size,
            least: options.size_min,
        });
    }
    try_first_block(path, &file, &geometry)?;
    Ok(Arc::new(DeviceFile {
        file,
        path: path.to_owned(),
        name: path.display().to_string(),
        polling: (is_block_device && direct).then(|| Queue::of(metadata.rdev()).polling()).flatten(),
        size: geometry.size.into(),
        line: Line::default(),
        geometry,
        is_block_device,
        poison: OnceLock::new(),
        discard_refused: OnceLock::new(),
    }))
}

/// Makes a new file of `len` bytes that reads as zeroes. Removes it again if that fails.
pub fn create(path: &Path, len: u64, space: Space) -> Result<(), OpenError> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.open(path).map_err(|error| classify(path, "create", error))?;
    let sized = match space {
        Space::Reserved => match ioctl::reserve(&file, len) {
            // A file system that cannot reserve is used as it is.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => file.set_len(len),
            result => result,
        },
        Space::Sparse => file.set_len(len),
    };
    let kept = sized.and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
    kept.map_err(|error| {
        let removed = fs::remove_file(path);
        if let Err(error) = removed {
            log::warn!("{}: could not be removed after a failed creation: {error}", path.display());
        }
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EFBIG | libc::EDQUOT) => {
                // What the failed file took is free only when it is closed too.
                drop(file);
                OpenError::NoSpace {
                    path: path.to_owned(),
                    len,
                    free: free_around(path),
                    reason: error.to_string(),
                }
            }
            _ => classify(path, "create", error),
        }
    })
}

/// Bytes free on the file system of a path's folder; 0 if it cannot tell.
fn free_around(path: &Path) -> u64 {
    parent_of(path).and_then(|parent| ioctl::free_bytes(&parent)).unwrap_or_default()
}

/// The name of a new file is durable only with its directory.
fn sync_parent(path: &Path) -> io::Result<()> {
    parent_of(path)?.sync_all()
}

fn parent_of(path: &Path) -> io::Result<File> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent),
        _ => File::open("."),
    }
}

/// Opens, exclusively and past the page cache; says whether the latter. Waits for a holder that is about to be gone: a
/// process that was killed lets go of its files a moment after it ended, when the kernel has taken down its rings.
fn open_alone(
    path: &Path,
    metadata: &fs::Metadata,
    is_block_device: bool,
    allow_buffered: bool,
) -> Result<(File, bool), OpenError> {
    let start = Instant::now();
    loop {
        match try_open_alone(path, is_block_device, allow_buffered)? {
            Claim::Ours(file, direct) => return Ok((file, direct)),
            Claim::Taken if is_block_device => {
                let by =
                    holders::of_block_device(metadata.rdev(), path).or_else(|| holders::of_lock(metadata));
                refuse_or_wait(path, by, start)?;
            }
            Claim::Taken => refuse_or_wait(path, holders::of_lock(metadata), start)?,
        }
    }
}

fn refuse_or_wait(path: &Path, holder: Option<String>, start: Instant) -> Result<(), OpenError> {
    if holder.is_none() && start.elapsed() < OPEN_WAIT {
        std::thread::sleep(OPEN_WAIT_STEP);
        return Ok(());
    }
    let by = holder.unwrap_or_else(|| "another process or the system".to_owned());
    Err(OpenError::InUse { path: path.to_owned(), by })
}

/// Outcome of an attempt to open alone.
enum Claim {
    /// The file, and whether I/O on it goes past the page cache.
    Ours(File, bool),
    Taken,
}

fn try_open_alone(path: &Path, is_block_device: bool, allow_buffered: bool) -> Result<Claim, OpenError> {
    // O_EXCL without O_CREAT claims a block device against mounts and other claims.
    let exclusive = if is_block_device { libc::O_EXCL } else { 0 };
    let try_open =
        |flags| fs::OpenOptions::new().read(true).write(true).custom_flags(exclusive | flags).open(path);
    let (file, direct) = match try_open(libc::O_DIRECT) {
        Ok(file) => (file, true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            if !allow_buffered {
                return Err(OpenError::NoDirectIo { path: path.to_owned(), reason: error.to_string() });
            }
            log::warn!("{}: no direct I/O here, so the page cache is used", path.display());
            (try_open(0).map_err(|error| classify(path, "open", error))?, false)
        }
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(Claim::Taken),
        Err(error) => return Err(classify(path, "open", error)),
    };
    match ioctl::lock(&file) {
        Ok(()) => Ok(Claim::Ours(file, direct)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Claim::Taken),
        Err(error) => Err(classify(path, "lock", error)),
    }
}

/// Bytes of a file or block device now.
pub(super) fn size_of(path: &Path, file: &File, is_block_device: bool) -> Result<u64, OpenError> {
    match is_block_device {
        true => ioctl::block_device_size(file).map_err(|error| classify(path, "BLKGETSIZE64", error)),
        false => file.metadata().map(|found| found.len()).map_err(|error| classify(path, "fstat", error)),
    }
}

fn block_device_geometry(
    path: &Path,
    file: &File,
    metadata: &fs::Metadata,
    direct: bool,
) -> Result<Geometry, OpenError> {
    let system = |op| move |error| classify(path, op, error);
    if ioctl::is_read_only(file).map_err(system("BLKROGET"))? {
        return Err(OpenError::ReadOnly { path: path.to_owned() });
    }
    let size = size_of(path, file, true)?;
    let block_size = checked_block_size(path, ioctl::logical_block_size(file).map_err(system("BLKSSZGET"))?)?;
    let queue = Queue::of(metadata.rdev());
    Ok(Geometry {
        size: size - size % u64::from(block_size),
        block_size,
        // Larger physical sectors are no promise: only the logical block is known to be whole or untouched.
        atomic_write_unit: block_size,
        volatile_cache: queue.volatile_cache.unwrap_or(true) || !direct,
        rotational: queue.rotational,
        discard: queue.discard,
        io_max: io_max(block_size, queue.io_max),
        kind: Kind::Uring,
    })
}

fn file_geometry(path: &Path, file: &File, metadata: &fs::Metadata) -> Result<Geometry, OpenError> {
    let alignment = ioctl::direct_io_alignment(file);
    if let Some((0, _) | (_, 0)) = alignment {
        let reason = "the kernel says so for this file".to_owned();
        return Err(OpenError::NoDirectIo { path: path.to_owned(), reason });
    }
    let (memory, offsets) = alignment.unwrap_or((FILE_BLOCK_SIZE, FILE_BLOCK_SIZE));
    let block_size = checked_block_size(path, u64::from(memory.max(offsets).max(FILE_BLOCK_SIZE)))?;
    let len = metadata.len();
    let queue = Queue::of(metadata.dev());
    Ok(Geometry {
        size: len - len % u64::from(block_size),
        block_size,
        atomic_write_unit: BLOCK_SIZE_MIN,
        // The file system has metadata in memory whatever the disk's cache is like.
        volatile_cache: true,
        rotational: queue.rotational,
        // Holes in a file whose space was reserved would give the reservation back.
        discard: metadata.blocks() * 512 < len,
        io_max: io_max(block_size, queue.io_max),
        kind: Kind::Uring,
    })
}

fn checked_block_size(path: &Path, found: u64) -> Result<u32, OpenError> {
    let fits = |size: &u32| size.is_power_of_two() && (BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(size);
    let size = u32::try_from(found).ok().filter(fits);
    size.ok_or_else(|| OpenError::BlockSize { path: path.to_owned(), found })
}

fn io_max(block_size: u32, hardware: Option<u64>) -> u32 {
    let hardware = hardware.and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(URING_IO_MAX);
    let most = hardware.clamp(block_size, URING_IO_MAX.max(block_size));
    most - most % block_size
}

/// Reads one block, so that what cannot work fails here and with a sentence.
fn try_first_block(path: &Path, file: &File, geometry: &Geometry) -> Result<(), OpenError> {
    let mut buf = DmaBuf::zeroed(geometry.block_size as usize);
    match file.read_at(&mut buf, 0) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Err(OpenError::NoDirectIo { path: path.to_owned(), reason: error.to_string() })
        }
        Err(error) => {
            Err(OpenError::System { path: path.to_owned(), op: "reading the first block", source: error })
        }
    }
}

fn classify(path: &Path, op: &'static str, error: io::Error) -> OpenError {
    let path = path.to_owned();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV | libc::ENOMEDIUM) => OpenError::NotFound { path },
        Some(libc::EACCES | libc::EPERM) => OpenError::Permission { path },
        Some(libc::EROFS) => OpenError::ReadOnly { path },
        Some(libc::EEXIST) => OpenError::Exists { path },
        Some(libc::EISDIR) => OpenError::WrongType { path, found: "a directory" },
        _ => OpenError::System { path, op, source: error },
    }
}

fn name_of(file_type: fs::FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_char_device() {
        "a character device"
    } else if file_type.is_socket() {
        "a socket"
    } else if file_type.is_fifo() {
        "a pipe"
    } else {
        "something else"
    }
}
