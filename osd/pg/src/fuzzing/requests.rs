//! Requests as they come from the network, any ops with any arguments.

use bytes::Bytes;
use cls::Caller;
use store::ObjectId;
use wire::msg::{OsdOp, Payload};
use wire::msgr2::{Data, Message, MessageHeader};
use wire::types::EntityName;

use super::world::World;
use crate::limits::OBJECT_BYTES_MAX;
use crate::operation::Operation;
use crate::request::Request;

/// Requests for larger objects are left to tests: one takes as long as a thousand test cases.
const SIZE_MAX: u64 = 1 << 16;

/// A message, as the daemon takes it: u32 length of the front, front, data.
pub(super) fn request(input: &[u8]) {
    let Some(request) = decode(input) else {
        return;
    };
    let decoded: Vec<_> =
        request.ops.iter().filter_map(|op| Some((op, Operation::decode(op).ok()?))).collect();
    for (op, operation) in &decoded {
        assert!(carried(operation) <= op.data.len(), "{operation:?} out of {} bytes", op.data.len());
    }
    if !decoded.iter().all(|(_, operation)| sizes(operation).into_iter().all(is_fast)) {
        return;
    }
    let mut world = World::new();
    // On an object that is not there, then on what the first time made of it.
    for _ in 0..2 {
        world.serve(&request);
    }
    world.check_restart();
}

fn decode(input: &[u8]) -> Option<Request> {
    let (length, rest) = input.split_at(input.len().min(4));
    let length = length.iter().rev().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
    let (front, data) = rest.split_at(length.min(rest.len()));
    let header = MessageHeader {
        tid: 7,
        kind: OsdOp::KIND,
        priority: 1,
        version: OsdOp::VERSION,
        compat_version: OsdOp::COMPAT,
        data_offset: 0,
    };
    let message = Message {
        header,
        front: Bytes::copy_from_slice(front),
        middle: Bytes::new(),
        data: Data::from(Bytes::copy_from_slice(data)),
    };
    let message = OsdOp::from_message(&message).ok()?;
    let target = message.target();
    let object = ObjectId {
        pool: 1,
        hash: target.hash,
        namespace: target.nspace,
        key: target.key,
        name: target.oid,
        snap: ObjectId::HEAD,
    };
    Some(Request {
        reqid: message.request_id(EntityName::client(4100), 7),
        caller: Caller::client(4100),
        object,
        snap: message.snap,
        snap_seq: message.snap_seq,
        snaps: message.snaps,
        flags: message.flags,
        mtime: message.mtime,
        ops: message.ops,
    })
}

/// Bytes that a decoded op holds.
fn carried(operation: &Operation) -> usize {
    match operation {
        Operation::OmapSet { entries } => entries.iter().map(|(key, value)| key.len() + value.len()).sum(),
        Operation::OmapCompare { assertions } => {
            assertions.iter().map(|(key, (value, _))| key.len() + value.len()).sum()
        }
        Operation::OmapRemove { keys } | Operation::OmapGetValsByKeys { keys } => {
            keys.iter().map(Bytes::len).sum()
        }
        Operation::SetAttr { name, value } => name.len() + value.len(),
        _ => 0,
    }
}

/// What an op makes sizes of.
fn sizes(operation: &Operation) -> [u64; 2] {
    match operation {
        Operation::Write { extent, .. } | Operation::Truncate(extent) => {
            [extent.offset, extent.truncate_size]
        }
        Operation::WriteSame { offset, length, .. } => [*offset, *length],
        _ => [0; 2],
    }
}

fn is_fast(size: u64) -> bool {
    size <= SIZE_MAX || size > OBJECT_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sound_ones_are_served() {
        for input in super::super::seeds("pg_request") {
            let reply = World::new().serve(&decode(&input).unwrap());
            assert!(reply.result >= 0 && !reply.is_refused_by_store, "{reply:?}");
        }
    }
}
