//! The workload's requests as operations of the client crate, and answers as the oracle wants them.

use std::collections::BTreeSet;

use bytes::Bytes;
use client::{Comparison, Creation, Errno, Error, ObjectOperation, Pool};

use crate::judge::{Answer, Asked, EIO};
use crate::operation::{Change, Content};

/// More entries than the workload gives an object; a reply may hold fewer, then there is another page.
const OMAP_PAGE: u64 = 64;

/// A change as an operation.
pub fn operation(request: &[Change]) -> ObjectOperation {
    let mut operation = ObjectOperation::new();
    for change in request {
        add(&mut operation, change);
    }
    operation
}

fn add(operation: &mut ObjectOperation, change: &Change) {
    match change {
        Change::Write { offset, data } => operation.write(wide(*offset), data.clone()),
        Change::WriteFull { data } => operation.write_full(data.clone()),
        Change::Append { data } => operation.append(data.clone()),
        Change::Zero { offset, len } => operation.zero(wide(*offset), wide(*len)),
        Change::Truncate { size } => operation.truncate(wide(*size)),
        Change::Remove => operation.remove(),
        Change::CreateExclusive => operation.create(Creation::Exclusive),
        Change::SetXattr { name, value } => operation.set_xattr(name, value),
        Change::RemoveXattr { name } => operation.remove_xattr(name),
        Change::OmapSet { entries } => operation.set_omap(entries),
        Change::OmapRemove { keys } => {
            operation.remove_omap_keys(&keys.iter().cloned().collect::<BTreeSet<_>>())
        }
        Change::OmapRemoveRange { first, end } => operation.remove_omap_range(first, end),
        Change::OmapSetHeader { header } => operation.set_omap_header(header.clone()),
        Change::OmapClear => operation.clear_omap(),
        Change::AssertExists => {
            operation.stat();
            operation
        }
        Change::CompareXattr { name, value } => operation.compare_xattr(name, Comparison::Equal, value),
    };
}

/// Asks the cluster; gives the answer, and the version of the object that came with it, or 0. An error is one that no
/// healthy or crashing cluster may give.
pub async fn ask(pool: &Pool, object: &str, asked: &Asked) -> Result<(Answer, u64), Error> {
    let name = || Bytes::copy_from_slice(object.as_bytes());
    let answer = match asked {
        Asked::Change(request) => {
            return match pool.operate(name(), operation(request)).await {
                Ok(reply) => Ok((Answer::Errno(0), reply.version)),
                Err(error) => error.errno().map(|errno| (Answer::Errno(errno.number()), 0)).ok_or(error),
            };
        }
        Asked::Range { offset, len } => {
            with_version(found(range(pool, name(), *offset, *len).await), Answer::Range)
        }
        Asked::Sparse { offset, len } => {
            with_version(found(sparse(pool, name(), *offset, *len).await), Answer::Range)
        }
        Asked::Size => {
            let stat = found(pool.stat(name()).await);
            stat.map(|stat| {
                (Answer::Size(stat.map(|stat| usize::try_from(stat.size).unwrap_or(usize::MAX))), 0)
            })
        }
        Asked::OmapPage { after, max } => found(pool.omap(name(), after, wide(*max)).await)
            .map(|page| (Answer::OmapPage(page.map(|page| (page.entries, page.more))), 0)),
        Asked::Meta => with_version(found(whole(pool, name(), false).await), Answer::Whole),
        Asked::Whole => with_version(found(whole(pool, name(), true).await), Answer::Whole),
    };
    match answer {
        Err(error) if error.errno().is_some_and(|errno| errno.number() == EIO) => Ok((Answer::Errno(EIO), 0)),
        answer => answer,
    }
}

/// Everything of an object in one operation, so that no change falls between its parts; the bytes only if wanted. The
/// oracle's objects have at most one page of omap; further pages are read while nothing is pending.
async fn whole(pool: &Pool, name: Bytes, bytes: bool) -> Result<(Content, u64), Error> {
    let mut operation = ObjectOperation::new();
    let data = bytes.then(|| operation.read(0, 0));
    let xattrs = operation.get_xattrs();
    let header = operation.omap_header();
    let page = operation.omap_values(b"", 1024, b"");
    let reply = pool.operate(name.clone(), operation).await?;
    let mut page = reply.get(&page)?;
    let mut omap = page.entries;
    while page.more {
        let after = omap.last_key_value().map(|(key, _)| key.clone()).unwrap_or_default();
        page = pool.omap(name.clone(), &after, OMAP_PAGE).await?;
        omap.append(&mut page.entries);
    }
    let content = Content {
        data: data.map_or_else(|| Ok(Vec::new()), |data| reply.get(&data).map(|bytes| bytes.to_vec()))?,
        xattrs: reply.get(&xattrs)?,
        omap,
        header: reply.get(&header)?,
    };
    Ok((content, reply.version))
}

async fn range(pool: &Pool, name: Bytes, offset: usize, len: usize) -> Result<(Vec<u8>, u64), Error> {
    let mut operation = ObjectOperation::new();
    let data = operation.read(wide(offset), wide(len));
    let reply = pool.operate(name, operation).await?;
    Ok((reply.get(&data)?.to_vec(), reply.version))
}

/// The bytes of a range up to the end of its last extent, holes between them as zeroes.
async fn sparse(pool: &Pool, name: Bytes, offset: usize, len: usize) -> Result<(Vec<u8>, u64), Error> {
    let mut operation = ObjectOperation::new();
    let slot = operation.sparse_read(wide(offset), wide(len));
    let reply = pool.operate(name, operation).await?;
    let read = reply.get(&slot)?;
    let (mut bytes, mut left) = (Vec::new(), &read.data[..]);
    for (at, len) in read.extents {
        let at = usize::try_from(at).unwrap_or(usize::MAX).saturating_sub(offset);
        let (part, rest) = left.split_at(usize::try_from(len).unwrap_or(usize::MAX).min(left.len()));
        bytes.resize(at, 0);
        bytes.extend_from_slice(part);
        left = rest;
    }
    Ok((bytes, reply.version))
}

fn with_version<T>(
    found: Result<Option<(T, u64)>, Error>,
    answer: impl Fn(Option<T>) -> Answer,
) -> Result<(Answer, u64), Error> {
    found.map(|found| match found {
        Some((value, version)) => (answer(Some(value)), version),
        None => (answer(None), 0),
    })
}

fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
