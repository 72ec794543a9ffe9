//! Runs the ops of a request on one object and decides the result.
//!
//! Invariants: the first failure that is not allowed to fail ends the request and leaves no change; each op sees the
//! effect of those before it; what the ops return together fits a reply.

use bytes::Bytes;
use store::{Keep, Summed};
use wire::msg::{Op, OpFlags, RequestFlags};

use crate::chunks;
use crate::errno::{OpError, OpResult};
use crate::hints;
use crate::limits::{OUTPUT_BYTES_MAX, WRITE_OUTPUT_BYTES_MAX};
use crate::object_view::{Changes, ObjectView};
use crate::operation::{self, Operation};
use crate::request::Request;
use crate::{ops_attr, ops_omap, ops_read, ops_write};
use wire::Errno;

/// What one op gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its own result.
    pub value: i32,
    /// Its bytes.
    pub data: Vec<Bytes>,
    /// Of each of these the crc32c, where the store verified it; none if of none.
    pub sums: Vec<Option<u32>>,
}

impl Output {
    /// Bytes in pieces.
    pub fn data(data: Vec<Bytes>) -> Self {
        Self { data, ..Self::default() }
    }

    /// Bytes as the store read them.
    pub fn summed(pieces: Vec<Summed>) -> Self {
        let sums = match pieces.iter().any(|(_, sum)| sum.is_some()) {
            true => pieces.iter().map(|(_, sum)| *sum).collect(),
            false => Vec::new(),
        };
        Self { value: 0, data: pieces.into_iter().map(|(bytes, _)| bytes).collect(), sums }
    }

    /// Bytes.
    pub fn bytes(bytes: Bytes) -> Self {
        Self::data(if bytes.is_empty() { Vec::new() } else { vec![bytes] })
    }

    /// A value alone.
    pub fn value(value: i32) -> Self {
        Self { value, ..Self::default() }
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        chunks::total(&self.data)
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct Execution {
    /// The request's result.
    pub result: i32,
    /// One per op; the default for ops not reached.
    pub outputs: Vec<Output>,
    /// What it means for the object.
    pub effect: Effect,
}

impl Execution {
    /// A request that was to write and is refused as a whole.
    pub fn failed(errno: Errno) -> Self {
        Self { result: errno.code(), outputs: Vec::new(), effect: Effect::Failed }
    }
}

/// What a request means for its object.
#[derive(Debug)]
pub enum Effect {
    /// It only read.
    Read,
    /// It was to write, succeeded, and changed nothing. Logged.
    Unchanged,
    /// It was to write and failed. Logged.
    Failed,
    /// It changes this.
    Changed(Changes),
}

/// Runs `request` on `view`. `Err` only if the store is down.
pub async fn execute(request: &Request, mut view: Box<ObjectView>) -> Result<Execution, String> {
    let may_write = request.may_write();
    let mut outputs = vec![Output::default(); request.ops.len()];
    let mut result = 0;
    let mut room = OUTPUT_BYTES_MAX;
    for (op, output) in request.ops.iter().zip(&mut outputs) {
        let mut advice = hints::of(op.flags);
        // What its client had before may have been damaged in memory, which only the device tells.
        advice.verifies |= request.has(RequestFlags::RETRY);
        view.advise(advice, advice.keep != Keep::Usual && operation::may_write(op));
        let (value, failed) = match run(request, op, &mut view).await {
            Ok(done) => match room.checked_sub(done.len()) {
                Some(left) => {
                    room = left;
                    *output = done;
                    after(op, output.value)
                }
                // Not for the op to allow: each of many such ops would read as much again.
                None => {
                    output.value = Errno::EMSGSIZE.code();
                    (output.value, true)
                }
            },
            Err(OpError::Down(reason)) => return Err(reason),
            Err(OpError::Errno(errno)) => {
                output.value = errno.code();
                after(op, output.value)
            }
        };
        result = value;
        if failed {
            break;
        }
    }
    let effect = match (may_write, result < 0) {
        (false, _) => Effect::Read,
        (true, true) => Effect::Failed,
        (true, false) if !view.is_modified() => Effect::Unchanged,
        (true, false) => return Ok(changed(request, view, result, outputs)),
    };
    Ok(Execution { result, outputs, effect })
}

/// What an op with this value means for its request: the result if it is the last, and whether it is.
fn after(op: &Op, value: i32) -> (i32, bool) {
    match value {
        0.. => (value, false),
        _ if op.flags.contains(OpFlags::FAIL_OK) => (0, false),
        _ => (value, true),
    }
}

/// A request that changed its object returns values and bytes only if it asked to, and few.
fn changed(request: &Request, view: Box<ObjectView>, result: i32, mut outputs: Vec<Output>) -> Execution {
    if !request.has(RequestFlags::RETURN_VECTOR) {
        for output in &mut outputs {
            output.data.clear();
            output.sums.clear();
        }
        return Execution { result: 0, outputs, effect: Effect::Changed(finish(request, view)) };
    }
    let mut overflow = false;
    for output in &mut outputs {
        if output.len() > WRITE_OUTPUT_BYTES_MAX as u64 {
            *output = Output::value(Errno::EOVERFLOW.code());
            overflow = true;
        }
    }
    if overflow {
        //= ceph 16.2 osd: such a request changes nothing and is answered like a failed read
        return Execution { result: Errno::EOVERFLOW.code(), outputs, effect: Effect::Read };
    }
    Execution { result, outputs, effect: Effect::Changed(finish(request, view)) }
}

fn finish(request: &Request, mut view: Box<ObjectView>) -> Changes {
    if let Some(info) = view.info_mut()
        && request.mtime != wire::types::UTime::default()
    {
        info.mtime = request.mtime;
    }
    view.into_changes()
}

async fn run(request: &Request, op: &Op, view: &mut ObjectView) -> OpResult<Output> {
    match Operation::decode(op)? {
        Operation::Read(extent) => ops_read::read(view, extent).await,
        Operation::Stat => ops_read::stat(view),
        Operation::AssertVersion(version) => ops_read::assert_version(view, version),
        Operation::ListWatchers => ops_read::list_watchers(view),
        Operation::ListSnaps => ops_read::list_snaps(view, request.snap),
        Operation::Write { extent, data } => ops_write::write(view, extent, data),
        Operation::WriteFull { length, data } => ops_write::write_full(view, length, data),
        Operation::Append { length, data } => ops_write::append(view, length, data),
        Operation::WriteSame { offset, length, pattern_length, pattern } => {
            ops_write::write_same(view, offset, length, pattern_length, pattern)
        }
        Operation::Zero(extent) => ops_write::zero(view, extent),
        Operation::Truncate(extent) => ops_write::truncate(view, extent),
        Operation::Delete => ops_write::delete(view),
        Operation::Create { exclusive } => ops_write::create(view, exclusive),
        Operation::SetAllocHint { object_size, write_size, flags } => {
            ops_write::set_alloc_hint(view, object_size, write_size, flags)
        }
        Operation::SetAttr { name, value } => ops_attr::set(view, name, value),
        Operation::RemoveAttr { name } => ops_attr::remove(view, name),
        Operation::OmapSet { entries } => ops_omap::set(view, entries),
        Operation::OmapSetHeader { header } => ops_omap::set_header(view, header),
        Operation::OmapClear => ops_omap::clear(view),
        Operation::OmapRemove { keys } => ops_omap::remove(view, keys),
        Operation::OmapRemoveRange { first, end } => ops_omap::remove_range(view, first, end),
        // Boxed, so that every request need not carry room for the rarest op.
        rare => Box::pin(run_rare(request, rare, view)).await,
    }
}

/// Ops whose work may wait for the store in several places.
async fn run_rare(request: &Request, operation: Operation, view: &mut ObjectView) -> OpResult<Output> {
    match operation {
        Operation::SparseRead(extent) => ops_read::sparse_read(view, extent).await,
        Operation::MapExtents(extent) => ops_read::map_extents(view, extent).await,
        Operation::Checksum { offset, length, chunk_size, kind, init } => {
            ops_read::checksum(view, offset, length, chunk_size, kind, init).await
        }
        Operation::CompareExtent { extent, data } => ops_read::compare_extent(view, extent, &data).await,
        Operation::GetAttr { name } => ops_attr::get(view, &name).await,
        Operation::GetAttrs => ops_attr::get_all(view).await,
        Operation::CompareAttr { name, relation, operand } => {
            ops_attr::compare(view, &name, relation, &operand).await
        }
        Operation::OmapGetKeys { start_after, max } => ops_omap::get_keys(view, &start_after, max).await,
        Operation::OmapGetVals { start_after, max, prefix } => {
            ops_omap::get_vals(view, &start_after, max, &prefix).await
        }
        Operation::OmapGetHeader => ops_omap::get_header(view).await,
        Operation::OmapGetValsByKeys { keys } => ops_omap::get_vals_by_keys(view, keys).await,
        Operation::OmapCompare { assertions } => ops_omap::compare(view, &assertions).await,
        Operation::Call { method, input } => method.run(view, &request.caller, input).await,
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}
