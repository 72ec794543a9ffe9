//! Ops that read an object's data or ask about it.

use bytes::Bytes;
use wire::codec::{Writer, encode_to_bytes};
use wire::msg::{CloneInfo, ListSnapsReply, ListWatchersReply};
use wire::types::SnapId;

use crate::checksum::{Checksum, ChecksumKind};
use crate::chunks;
use crate::errno::{OpResult, mismatch};
use crate::execute::Output;
use crate::object_view::ObjectView;
use crate::operation::Extent;
use wire::Errno;

/// READ and SYNC_READ.
pub async fn read(view: &ObjectView, extent: Extent) -> OpResult<Output> {
    let info = view.info();
    let mut size = view.size();
    //= ceph 16.2 osd: a reader that knows of a truncation the object has not seen does not see beyond it
    if extent.truncate_seq > info.truncate_seq && size > extent.truncate_size {
        size = extent.truncate_size;
    }
    let length = if extent.length == 0 { size } else { extent.length };
    let end = extent.offset.saturating_add(length).min(size);
    let pieces = view.read_summed(extent.offset, end.saturating_sub(extent.offset)).await?;
    Ok(Output::summed(pieces))
}

/// SPARSE_READ: the extents that hold data, then their bytes.
pub async fn sparse_read(view: &ObjectView, extent: Extent) -> OpResult<Output> {
    if extent.truncate_seq != 0 {
        return Err(Errno::EINVAL.into());
    }
    let extents = view.extents(extent.offset, extent.length).await?;
    let mut data = Vec::new();
    for &(offset, length) in &extents {
        data.extend(view.read(offset, length).await?);
    }
    let mut head = encode_extents(&extents);
    head.count(usize::try_from(chunks::total(&data)).unwrap_or(usize::MAX));
    let mut out = vec![head.finish()];
    out.extend(data);
    Ok(Output::data(out))
}

/// MAPEXT: the extents alone.
pub async fn map_extents(view: &ObjectView, extent: Extent) -> OpResult<Output> {
    let extents = view.extents(extent.offset, extent.length).await?;
    Ok(Output::bytes(encode_extents(&extents).finish()))
}

fn encode_extents(extents: &[(u64, u64)]) -> Writer {
    let mut w = Writer::new();
    w.list_with(extents, |w, &(offset, length)| {
        w.u64(offset);
        w.u64(length);
    });
    w
}

/// STAT: size and modification time.
pub fn stat(view: &ObjectView) -> OpResult<Output> {
    if !view.exists() {
        return Err(Errno::ENOENT.into());
    }
    let mut w = Writer::with_capacity(16);
    w.u64(view.size());
    w.put(&view.info().mtime);
    Ok(Output::bytes(w.finish()))
}

/// CHECKSUM of the range, in chunks.
pub async fn checksum(
    view: &ObjectView,
    offset: u64,
    length: u64,
    chunk_size: u32,
    kind: u8,
    init: Bytes,
) -> OpResult<Output> {
    let size = view.size();
    let chunk = u64::from(chunk_size);
    if chunk > 0 && (length == 0 || !length.is_multiple_of(chunk)) {
        return Err(Errno::EINVAL.into());
    }
    let length = match (offset, length) {
        (0, 0) => size,
        _ if offset >= size => return Ok(Output::default()),
        _ => length.min(size - offset),
    };
    if chunk > 0 && !length.is_multiple_of(chunk) {
        return Err(Errno::EINVAL.into());
    }
    let kind = ChecksumKind::from_code(kind).ok_or(Errno::EINVAL)?;
    let seed = kind.seed(&init).ok_or(Errno::EINVAL)?;
    let data = view.read(offset, length).await?;
    let length = chunks::total(&data);
    let chunk = if chunk == 0 { length } else { chunk };
    let mut w = Writer::new();
    w.count(length.checked_div(chunk).and_then(|n| usize::try_from(n).ok()).unwrap_or(0));
    let mut at = 0;
    while at < length {
        let mut sum = Checksum::new(kind, seed);
        for piece in chunks::slice(&data, at, chunk) {
            sum.update(&piece);
        }
        sum.write(&mut w);
        at += chunk;
    }
    Ok(Output::bytes(w.finish()))
}

/// CMPEXT: fails at the first byte that differs; bytes beyond the object's end count as zero.
pub async fn compare_extent(view: &ObjectView, extent: Extent, expected: &[u8]) -> OpResult<Output> {
    let wanted = expected.len() as u64;
    let length = if extent.length == 0 { wanted } else { extent.length.min(wanted) };
    let stored = view.read(extent.offset, length).await?;
    let mut at = 0;
    for piece in &stored {
        let (part, _) = expected[at..].split_at(piece.len());
        if part != piece {
            let differs = part.iter().zip(piece.iter()).position(|(a, b)| a != b).unwrap_or(0);
            return Err(mismatch(at + differs).into());
        }
        at += piece.len();
    }
    match expected[at..].iter().position(|&byte| byte != 0) {
        Some(differs) => Err(mismatch(at + differs).into()),
        None => Ok(Output::default()),
    }
}

/// ASSERT_VER: the object's version must be this one.
pub fn assert_version(view: &ObjectView, wanted: u64) -> OpResult<Output> {
    let actual = view.info().user_version;
    if wanted == 0 {
        Err(Errno::EINVAL.into())
    } else if actual > wanted {
        Err(Errno::ERANGE.into())
    } else if actual < wanted {
        Err(Errno::EOVERFLOW.into())
    } else {
        Ok(Output::default())
    }
}

/// LIST_WATCHERS. Watches are not supported yet, so there are none.
pub fn list_watchers(view: &ObjectView) -> OpResult<Output> {
    if !view.exists() {
        return Err(Errno::ENOENT.into());
    }
    Ok(Output::bytes(encode_to_bytes(&ListWatchersReply::default())))
}

/// LIST_SNAPS of an object without clones: the head alone.
pub fn list_snaps(view: &ObjectView, snap: SnapId) -> OpResult<Output> {
    if snap != SnapId::DIR {
        return Err(Errno::EINVAL.into());
    }
    if !view.exists() {
        return Err(Errno::ENOENT.into());
    }
    let head = CloneInfo { id: SnapId::HEAD, snaps: Vec::new(), overlap: Vec::new(), size: view.size() };
    Ok(Output::bytes(encode_to_bytes(&ListSnapsReply { clones: vec![head], seq: SnapId::default() })))
}
