//! Ops that change an object's data or existence.

use bytes::Bytes;
use store::{Compressibility, Hints};

use crate::errno::OpResult;
use crate::execute::Output;
use crate::limits::OBJECT_BYTES_MAX;
use crate::object_info::ObjectInfo;
use crate::object_view::ObjectView;
use crate::operation::Extent;
use wire::Errno;

/// Patterns are repeated into chunks of about this size, so that a one-byte pattern makes few chunks.
const PATTERN_CHUNK_BYTES: u64 = 64 << 10;

/// WRITE.
pub fn write(view: &mut ObjectView, mut extent: Extent, mut data: Bytes) -> OpResult<Output> {
    if extent.length != data.len() as u64 {
        return Err(Errno::EINVAL.into());
    }
    let known_seq = view.info().truncate_seq;
    //= ceph 16.2 osd: a write older than a truncation must not bring back what the truncation removed
    if extent.truncate_seq != 0
        && known_seq > extent.truncate_seq
        && extent.offset.saturating_add(extent.length) > view.size()
    {
        extent.length = view.size().saturating_sub(extent.offset);
        data.truncate(usize::try_from(extent.length).unwrap_or(usize::MAX));
    }
    check_range(extent.offset, extent.length)?;
    if extent.truncate_seq > known_seq {
        //= ceph 16.2 osd: a write that knows of a newer truncation brings it along
        if view.exists() && view.size() != extent.truncate_size {
            check_range(extent.truncate_size, 0)?;
            view.truncate(extent.truncate_size);
        }
        view.touch();
        set_truncation(view, extent);
    }
    if extent.length > 0 {
        view.write(extent.offset, vec![data]);
    } else if extent.offset > view.size() {
        view.truncate(extent.offset);
    } else {
        view.touch();
    }
    Ok(Output::default())
}

/// WRITEFULL: replaces the data, keeps attributes and omap.
pub fn write_full(view: &mut ObjectView, length: u64, data: Bytes) -> OpResult<Output> {
    if length != data.len() as u64 {
        return Err(Errno::EINVAL.into());
    }
    check_range(0, length)?;
    if view.size() > length {
        view.truncate(length);
    }
    view.write(0, vec![data]);
    Ok(Output::default())
}

/// APPEND.
pub fn append(view: &mut ObjectView, length: u64, data: Bytes) -> OpResult<Output> {
    write(view, Extent { offset: view.size(), length, ..Extent::default() }, data)
}

/// WRITESAME: the pattern again and again.
pub fn write_same(
    view: &mut ObjectView,
    offset: u64,
    length: u64,
    pattern_length: u64,
    pattern: Bytes,
) -> OpResult<Output> {
    if length == 0 {
        return Ok(Output::default());
    }
    if pattern_length == 0 || !length.is_multiple_of(pattern_length) || pattern_length != pattern.len() as u64
    {
        return Err(Errno::EINVAL.into());
    }
    check_range(offset, length)?;
    let times_per_chunk = (PATTERN_CHUNK_BYTES / pattern_length).max(1);
    let chunk = if times_per_chunk == 1 {
        pattern
    } else {
        // At most PATTERN_CHUNK_BYTES times, so it fits.
        Bytes::from(pattern.repeat(times_per_chunk as usize))
    };
    let mut data = Vec::new();
    let mut left = length;
    while left > 0 {
        let take = left.min(chunk.len() as u64);
        data.push(chunk.slice(..take as usize));
        left -= take;
    }
    view.write(offset, data);
    Ok(Output::default())
}

/// ZERO.
pub fn zero(view: &mut ObjectView, extent: Extent) -> OpResult<Output> {
    // A stock OSD dies of this one.
    if extent.length == 0 {
        return Err(Errno::EINVAL.into());
    }
    check_range(extent.offset, extent.length)?;
    let size = view.size();
    if !view.exists() || extent.offset >= size {
        return Ok(Output::default());
    }
    //= ceph 16.2 osd: zeroing up to or beyond the end shortens the object
    if extent.offset + extent.length >= size {
        view.truncate(extent.offset);
    } else {
        view.zero(extent.offset, extent.length);
    }
    Ok(Output::default())
}

/// TRUNCATE; a missing object stays missing.
pub fn truncate(view: &mut ObjectView, extent: Extent) -> OpResult<Output> {
    if !view.exists() {
        return Ok(Output::default());
    }
    check_range(extent.offset, 0)?;
    if extent.truncate_seq != 0 {
        if extent.offset != extent.truncate_size {
            return Err(Errno::EINVAL.into());
        }
        if extent.truncate_seq <= view.info().truncate_seq {
            return Ok(Output::default());
        }
        set_truncation(view, extent);
    }
    view.truncate(extent.offset);
    Ok(Output::default())
}

/// DELETE.
pub fn delete(view: &mut ObjectView) -> OpResult<Output> {
    if !view.exists() {
        return Err(Errno::ENOENT.into());
    }
    view.remove();
    Ok(Output::default())
}

/// CREATE.
pub fn create(view: &mut ObjectView, exclusive: bool) -> OpResult<Output> {
    if exclusive && view.exists() {
        return Err(Errno::EEXIST.into());
    }
    view.touch();
    Ok(Output::default())
}

/// Writes will go to random offsets.
//= ceph 16.2 rados: alloc hint flags
const HINT_RANDOM_WRITE: u32 = 2;
/// Reads will go from lower offsets to higher ones.
const HINT_SEQUENTIAL_READ: u32 = 4;
/// Reads will go to random offsets.
const HINT_RANDOM_READ: u32 = 8;
/// The object will only be appended to.
const HINT_APPEND_ONLY: u32 = 16;
/// The object will not be changed.
const HINT_IMMUTABLE: u32 = 32;
/// The data compresses.
const HINT_COMPRESSIBLE: u32 = 256;
/// It does not.
const HINT_INCOMPRESSIBLE: u32 = 512;

/// SETALLOCHINT: kept with the object.
pub fn set_alloc_hint(
    view: &mut ObjectView,
    object_size: u64,
    write_size: u64,
    flags: u32,
) -> OpResult<Output> {
    view.touch();
    let mut before = Hints::default();
    if let Some(info) = view.info_mut() {
        before = hints(info.alloc_hint_flags);
        *info = ObjectInfo {
            expected_object_size: object_size,
            expected_write_size: write_size,
            alloc_hint_flags: flags,
            ..*info
        };
    }
    // Block devices say nothing with every write. Something is said again: the store may be older than its hints.
    if hints(flags) != Hints::default() || before != Hints::default() {
        view.hint(hints(flags));
    }
    Ok(Output::default())
}

/// What a client's flags mean to the store.
fn hints(flags: u32) -> Hints {
    let compression = match flags & (HINT_COMPRESSIBLE | HINT_INCOMPRESSIBLE) {
        0 => Compressibility::None,
        HINT_COMPRESSIBLE => Compressibility::Compressible,
        HINT_INCOMPRESSIBLE => Compressibility::Incompressible,
        _ => Compressibility::Both,
    };
    //= ceph 16.2 bluestore: which hints make it prefer large checksum blocks
    let is_streamed = flags & HINT_SEQUENTIAL_READ != 0
        && flags & (HINT_RANDOM_READ | HINT_RANDOM_WRITE) == 0
        && flags & (HINT_APPEND_ONLY | HINT_IMMUTABLE) != 0;
    Hints { compression, is_streamed }
}

fn set_truncation(view: &mut ObjectView, extent: Extent) {
    if let Some(info) = view.info_mut() {
        info.truncate_seq = extent.truncate_seq;
        info.truncate_size = extent.truncate_size;
    }
}

//= ceph 16.2 osd: check_offset_and_length
fn check_range(offset: u64, length: u64) -> Result<(), Errno> {
    if offset >= OBJECT_BYTES_MAX || length > OBJECT_BYTES_MAX || offset + length > OBJECT_BYTES_MAX {
        return Err(Errno::EFBIG);
    }
    Ok(())
}
