//! The workload's requests as operations of the client crate, and answers as the oracle wants them.

use std::collections::BTreeSet;

use bytes::Bytes;
use client::{Comparison, Creation, Errno, Error, ObjectOperation, Pool};

use crate::operation::{Change, Content};
use crate::oracle::{Answer, Asked};

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

/// Asks the cluster; an error is one that no healthy or crashing cluster may give.
pub async fn ask(pool: &Pool, object: &str, asked: &Asked) -> Result<Answer, Error> {
    let name = || Bytes::copy_from_slice(object.as_bytes());
    match asked {
        Asked::Change(request) => match pool.operate(name(), operation(request)).await {
            Ok(_) => Ok(Answer::Errno(0)),
            Err(error) => error.errno().map(|errno| Answer::Errno(errno.number())).ok_or(error),
        },
        Asked::Range { offset, len } => {
            let bytes = found(pool.read(name(), wide(*offset), wide(*len)).await)?;
            Ok(Answer::Range(bytes.map(|bytes| bytes.to_vec())))
        }
        Asked::Whole => Ok(Answer::Whole(found(whole(pool, name()).await)?)),
    }
}

/// Everything of an object in one operation, so that no change falls between its parts. The oracle's objects have at
/// most one page of omap; further pages are read while nothing is pending.
async fn whole(pool: &Pool, name: Bytes) -> Result<Content, Error> {
    let mut operation = ObjectOperation::new();
    let data = operation.read(0, 0);
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
    Ok(Content {
        data: reply.get(&data)?.to_vec(),
        xattrs: reply.get(&xattrs)?,
        omap,
        header: reply.get(&header)?,
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
