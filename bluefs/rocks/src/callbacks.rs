//! The Rust half of the C ABI of `shim/shim.h`: BlueFS as a table of functions.
//!
//! Invariants: no panic crosses into C++ (it becomes an I/O error, which ends the store); handles are boxes that C++
//! owns and gives back once, through their `drop` function. Runs on RocksDB's and other foreign threads.

#![expect(unsafe_code, reason = "the C ABI to the shim")]

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use bluefs::fs::{BlueFs, FileReader, FileWriter, FsError, FsResult};

/// As in shim.h.
pub(crate) const ABI: u64 = 0x7370_6273_0000_0002;
const ERROR_BYTES: usize = 512;

const OK: i32 = 0;
const NOT_FOUND: i32 = 1;
const NO_SPACE: i32 = 2;
const CORRUPTION: i32 = 3;
const INVALID: i32 = 4;
const IO: i32 = 5;

/// `SpPath`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Path {
    bytes: *const c_char,
    len: usize,
}

type Handle = *mut c_void;
type Error = *mut c_char;
type Each = extern "C" fn(*mut c_void, Path);

/// `SpCallbacks`.
#[repr(C)]
pub(crate) struct Callbacks {
    abi: u64,
    writer_new: unsafe extern "C" fn(Handle, Path, i32, *mut Handle, Error) -> i32,
    writer_append: unsafe extern "C" fn(Handle, *const c_char, usize, Error) -> i32,
    writer_flush: unsafe extern "C" fn(Handle, Error) -> i32,
    writer_sync: unsafe extern "C" fn(Handle, Error) -> i32,
    writer_truncate: unsafe extern "C" fn(Handle, u64, Error) -> i32,
    writer_close: unsafe extern "C" fn(Handle, Error) -> i32,
    writer_size: unsafe extern "C" fn(Handle, *mut u64, Error) -> i32,
    writer_yields: unsafe extern "C" fn(Handle, Error) -> i32,
    writer_drop: unsafe extern "C" fn(Handle),
    reader_new: unsafe extern "C" fn(Handle, Path, *mut Handle, Error) -> i32,
    reader_read: unsafe extern "C" fn(Handle, u64, usize, *mut c_char, *mut usize, Error) -> i32,
    reader_size: unsafe extern "C" fn(Handle, *mut u64, Error) -> i32,
    reader_drop: unsafe extern "C" fn(Handle),
    exists: unsafe extern "C" fn(Handle, Path, *mut i32, Error) -> i32,
    list: unsafe extern "C" fn(Handle, Path, *mut c_void, Each, Error) -> i32,
    file_size: unsafe extern "C" fn(Handle, Path, *mut u64, Error) -> i32,
    file_truncate: unsafe extern "C" fn(Handle, Path, u64, Error) -> i32,
    unlink: unsafe extern "C" fn(Handle, Path, Error) -> i32,
    rename: unsafe extern "C" fn(Handle, Path, Path, Error) -> i32,
    dir_create: unsafe extern "C" fn(Handle, Path, i32, Error) -> i32,
    dir_remove: unsafe extern "C" fn(Handle, Path, Error) -> i32,
    sync_metadata: unsafe extern "C" fn(Handle, Error) -> i32,
    free_space: unsafe extern "C" fn(Handle, *mut u64, Error) -> i32,
    fs_drop: unsafe extern "C" fn(Handle),
}

/// The table for every environment.
pub(crate) static CALLBACKS: Callbacks = Callbacks {
    abi: ABI,
    writer_new,
    writer_append,
    writer_flush,
    writer_sync,
    writer_truncate,
    writer_close,
    writer_size,
    writer_yields,
    writer_drop,
    reader_new,
    reader_read,
    reader_size,
    reader_drop,
    exists,
    list,
    file_size,
    file_truncate,
    unlink,
    rename,
    dir_create,
    dir_remove,
    sync_metadata,
    free_space,
    fs_drop,
};

/// A file being written, and whether anything was written since the last sync.
struct Writer {
    file: FileWriter,
    dirty: bool,
}

/// Runs a callback's body; turns its failure or panic into a code and a message.
///
/// # Safety
/// `error` points to [`ERROR_BYTES`] writable bytes.
unsafe fn guard(error: Error, body: impl FnOnce() -> FsResult<()>) -> i32 {
    let (code, message) = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return OK,
        Ok(Err(failed)) => (code_of(&failed), failed.to_string()),
        Err(_) => (IO, "a panic in BlueFS".to_owned()),
    };
    let bytes = message.as_bytes();
    let len = bytes.len().min(ERROR_BYTES - 1);
    // SAFETY: the caller vouches for ERROR_BYTES bytes; at most one less is copied, then the end is marked.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), error.cast::<u8>(), len);
        error.add(len).write(0);
    }
    code
}

fn code_of(error: &FsError) -> i32 {
    match error {
        FsError::NotFound { .. } => NOT_FOUND,
        FsError::NoSpace { .. } => NO_SPACE,
        FsError::Corrupt { .. } => CORRUPTION,
        FsError::Name { .. } | FsError::Exists { .. } | FsError::NotEmpty { .. } => INVALID,
        _ => IO,
    }
}

/// # Safety
/// `handle` came from `Box::into_raw` of a `T` that was not dropped since, and outlives the borrow.
unsafe fn borrow<'a, T>(handle: Handle) -> &'a T {
    // SAFETY: by the caller.
    unsafe { &*handle.cast::<T>() }
}

/// # Safety
/// As [`borrow`], and nobody else uses the handle meanwhile: RocksDB writes a file from one thread at a time.
unsafe fn borrow_mut<'a, T>(handle: Handle) -> &'a mut T {
    // SAFETY: by the caller.
    unsafe { &mut *handle.cast::<T>() }
}

/// # Safety
/// The path's bytes are readable for the call.
unsafe fn text<'a>(path: Path) -> FsResult<&'a str> {
    if path.len == 0 {
        return Ok("");
    }
    // SAFETY: by the caller.
    let bytes = unsafe { slice::from_raw_parts(path.bytes.cast::<u8>(), path.len) };
    std::str::from_utf8(bytes)
        .map_err(|_| FsError::Name { path: String::from_utf8_lossy(bytes).into_owned() })
}

/// Gives `value` to C++ as a handle.
///
/// # Safety
/// `out` is writable.
unsafe fn give<T>(value: T, out: *mut Handle) {
    // SAFETY: by the caller.
    unsafe { out.write(Box::into_raw(Box::new(value)).cast()) }
}

/// # Safety
/// As [`borrow`]; the handle is not used again.
unsafe fn release<T>(handle: Handle) {
    // SAFETY: by the caller, it is a box's pointer, given back once.
    let value = unsafe { Box::from_raw(handle.cast::<T>()) };
    if catch_unwind(AssertUnwindSafe(|| drop(value))).is_err() {
        log::error!("a panic while a BlueFS handle was closed");
    }
}

fn directory(path: &str) -> &str {
    path.trim_matches('/')
}

// SAFETY of all that follow: shim.cc calls them with handles of the right kind, paths and buffers that live through
// the call, and out-pointers to its own variables, as shim.h declares.

unsafe extern "C" fn writer_new(fs: Handle, path: Path, append: i32, out: *mut Handle, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let (fs, path) = (borrow::<BlueFs>(fs), text(path)?);
            let exists = append != 0 && fs.with(|machine| machine.size(path)).is_ok();
            let file = if exists { fs.open_append(path)? } else { fs.create(path)? };
            give(Writer { file, dirty: false }, out);
            Ok(())
        })
    }
}

unsafe extern "C" fn writer_append(writer: Handle, data: *const c_char, len: usize, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            if len == 0 {
                return Ok(());
            }
            let writer = borrow_mut::<Writer>(writer);
            writer.dirty = true;
            writer.file.append(slice::from_raw_parts(data.cast::<u8>(), len))
        })
    }
}

unsafe extern "C" fn writer_flush(writer: Handle, error: Error) -> i32 {
    // Readers see appended bytes at once; writing a partial block now would only write it twice.
    // SAFETY: see above.
    unsafe { guard(error, || borrow::<Writer>(writer).file.size().map(|_| ())) }
}

unsafe extern "C" fn writer_sync(writer: Handle, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let writer = borrow_mut::<Writer>(writer);
            writer.file.sync()?;
            writer.dirty = false;
            Ok(())
        })
    }
}

unsafe extern "C" fn writer_truncate(writer: Handle, size: u64, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let file = &mut borrow_mut::<Writer>(writer).file;
            // RocksDB "truncates" files to their own size when it closes them.
            if file.size()? == size { Ok(()) } else { file.truncate(size) }
        })
    }
}

unsafe extern "C" fn writer_close(writer: Handle, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let writer = borrow_mut::<Writer>(writer);
            // Unsynced bytes would be gone with the handle, but a closed file is readable as it was.
            if writer.dirty {
                writer.file.sync()?;
                writer.dirty = false;
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn writer_size(writer: Handle, size: *mut u64, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            size.write(borrow::<Writer>(writer).file.size()?);
            Ok(())
        })
    }
}

unsafe extern "C" fn writer_yields(writer: Handle, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe { guard(error, || borrow::<Writer>(writer).file.yields()) }
}

unsafe extern "C" fn writer_drop(writer: Handle) {
    // SAFETY: see above.
    unsafe { release::<Writer>(writer) }
}

unsafe extern "C" fn reader_new(fs: Handle, path: Path, out: *mut Handle, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            give(borrow::<BlueFs>(fs).open(text(path)?)?, out);
            Ok(())
        })
    }
}

unsafe extern "C" fn reader_read(
    reader: Handle,
    offset: u64,
    len: usize,
    out: *mut c_char,
    got: *mut usize,
    error: Error,
) -> i32 {
    // SAFETY: see above; `out` has `len` bytes. They may be uninitialised, so they are set before they are a slice.
    unsafe {
        guard(error, || {
            if len == 0 {
                got.write(0);
                return Ok(());
            }
            out.write_bytes(0, len);
            let to = slice::from_raw_parts_mut(out.cast::<u8>(), len);
            got.write(borrow::<FileReader>(reader).read_at(offset, to)?);
            Ok(())
        })
    }
}

unsafe extern "C" fn reader_size(reader: Handle, size: *mut u64, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            size.write(borrow::<FileReader>(reader).size()?);
            Ok(())
        })
    }
}

unsafe extern "C" fn reader_drop(reader: Handle) {
    // SAFETY: see above.
    unsafe { release::<FileReader>(reader) }
}

unsafe extern "C" fn exists(fs: Handle, path: Path, is_dir: *mut i32, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let (fs, path) = (borrow::<BlueFs>(fs), text(path)?);
            let dir = fs.with(|machine| Ok(machine.tree().dirs.contains_key(directory(path))))?;
            is_dir.write(i32::from(dir));
            if dir { Ok(()) } else { fs.with(|machine| machine.size(path)).map(|_| ()) }
        })
    }
}

unsafe extern "C" fn list(fs: Handle, dir: Path, context: *mut c_void, each: Each, error: Error) -> i32 {
    // SAFETY: see above; `each` may be called with `context` and a path that lives through its call.
    unsafe {
        guard(error, || {
            let dir = directory(text(dir)?);
            for name in borrow::<BlueFs>(fs).with(|machine| machine.list(dir))? {
                each(context, Path { bytes: name.as_ptr().cast(), len: name.len() });
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn file_size(fs: Handle, path: Path, size: *mut u64, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let path = text(path)?;
            size.write(borrow::<BlueFs>(fs).with(|machine| machine.size(path))?);
            Ok(())
        })
    }
}

unsafe extern "C" fn file_truncate(fs: Handle, path: Path, size: u64, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe { guard(error, || borrow::<BlueFs>(fs).open_append(text(path)?)?.truncate(size)) }
}

unsafe extern "C" fn unlink(fs: Handle, path: Path, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let path = text(path)?;
            borrow::<BlueFs>(fs).with(|machine| machine.unlink(path)).map(|_| ())
        })
    }
}

unsafe extern "C" fn rename(fs: Handle, from: Path, to: Path, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let (from, to) = (text(from)?, text(to)?);
            borrow::<BlueFs>(fs).with(|machine| machine.rename(from, to)).map(|_| ())
        })
    }
}

unsafe extern "C" fn dir_create(fs: Handle, dir: Path, may_exist: i32, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let dir = directory(text(dir)?);
            match borrow::<BlueFs>(fs).with(|machine| machine.create_dir(dir)) {
                Err(FsError::Exists { .. }) if may_exist != 0 => Ok(()),
                result => result.map(|_| ()),
            }
        })
    }
}

unsafe extern "C" fn dir_remove(fs: Handle, dir: Path, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let dir = directory(text(dir)?);
            borrow::<BlueFs>(fs).with(|machine| machine.remove_dir(dir)).map(|_| ())
        })
    }
}

unsafe extern "C" fn sync_metadata(fs: Handle, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe { guard(error, || borrow::<BlueFs>(fs).sync_metadata()) }
}

unsafe extern "C" fn free_space(fs: Handle, bytes: *mut u64, error: Error) -> i32 {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            bytes.write(borrow::<BlueFs>(fs).with(|machine| Ok(machine.room()))?);
            Ok(())
        })
    }
}

unsafe extern "C" fn fs_drop(fs: Handle) {
    // SAFETY: see above.
    unsafe { release::<BlueFs>(fs) }
}
