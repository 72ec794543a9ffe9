//! Ops made of the input, on one object: together in one request they do what they do one by one.
//!
//! So reads through the changes of a request are compared with reads of the store, and changes that override each
//! other inside a request with changes of the store.

use bytes::Bytes;
use wire::codec::Writer;
use wire::msg::{Op, OpArgs, OpCode, OpFlags, RequestFlags};

use super::choices::Choices;
use super::world::{World, object};
use crate::limits::{OBJECT_BYTES_MAX, WRITE_OUTPUT_BYTES_MAX};

const REQUESTS_MAX: usize = 8;
const OPS_MAX: usize = 24;
/// Numbers at the edges of what is accepted. Objects stay small, so that a test case takes microseconds.
const EDGES: [u64; 6] = [OBJECT_BYTES_MAX, OBJECT_BYTES_MAX + 1, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];

/// Versions are left out, because more requests make more of them; so are the extents of a sparse read, which within
/// a request that changed them are one.
const CODES: [OpCode; 34] = [
    OpCode::WRITE,
    OpCode::READ,
    OpCode::WRITE_FULL,
    OpCode::TRUNCATE,
    OpCode::ZERO,
    OpCode::APPEND,
    OpCode::DELETE,
    OpCode::CREATE,
    OpCode::OMAP_SET_VALUES,
    OpCode::OMAP_GET_VALUES,
    OpCode::OMAP_GET_KEYS,
    OpCode::OMAP_REMOVE_KEYS,
    OpCode::OMAP_REMOVE_KEY_RANGE,
    OpCode::OMAP_CLEAR,
    OpCode::OMAP_SET_HEADER,
    OpCode::OMAP_GET_HEADER,
    OpCode::OMAP_GET_VALUES_BY_KEYS,
    OpCode::OMAP_CMP,
    OpCode::SETXATTR,
    OpCode::GETXATTR,
    OpCode::GETXATTRS,
    OpCode::RMXATTR,
    OpCode::CMPXATTR,
    OpCode::STAT,
    OpCode::CMPEXT,
    OpCode::CHECKSUM,
    OpCode::WRITE_SAME,
    OpCode::SET_ALLOC_HINT,
    OpCode::TRIM_TRUNC,
    OpCode::SYNC_READ,
    OpCode::LIST_WATCHERS,
    OpCode::LIST_SNAPS,
    OpCode::WATCH,
    OpCode::TMAPUP,
];

/// A few requests of a few ops each.
pub(super) fn history(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (mut together, mut apart) = (World::new(), World::new());
    for _ in 0..REQUESTS_MAX {
        if choices.is_empty() {
            break;
        }
        let flags = choices.pick(&[RequestFlags::default(), RequestFlags::RETURN_VECTOR]);
        let count = usize::from(choices.byte()) % OPS_MAX + 1;
        let mut ops = Vec::new();
        while ops.len() < count && (ops.is_empty() || !choices.is_empty()) {
            ops.push(op(&mut choices));
        }
        compare(&mut together, &mut apart, flags, ops);
    }
    together.check_restart();
    apart.check_restart();
}

fn compare(together: &mut World, apart: &mut World, flags: RequestFlags, ops: Vec<Op>) {
    let name = object(b"x");
    let request = together.request(name.clone(), flags, ops.clone());
    let reply = together.serve(&request);
    if reply.result < 0 || reply.is_refused_by_store {
        // What failed has no effect, which was checked; there is nothing to compare with.
        return;
    }
    let writes = request.may_write();
    for (op, output) in ops.into_iter().zip(&reply.outputs) {
        let changes = crate::operation::may_write(&op);
        let request = apart.request(name.clone(), RequestFlags::RETURN_VECTOR, vec![op]);
        let mut single = apart.serve(&request);
        assert!(!single.is_refused_by_store, "{request:?}");
        // A lone read of an object that is not there is not executed, and so has no output of its own.
        let Some(alone) = single.outputs.pop() else {
            assert!(!changes && single.result < 0, "{request:?}: {single:?}");
            continue;
        };
        let is_kept = !writes || flags.contains(RequestFlags::RETURN_VECTOR);
        if is_kept && alone.len() <= WRITE_OUTPUT_BYTES_MAX as u64 {
            let (alone, output) = ((alone.value, alone.data.concat()), (output.value, output.data.concat()));
            assert_eq!(alone, output, "{request:?}");
        }
    }
    assert_eq!(together.visible(&name), apart.visible(&name));
}

fn op(c: &mut Choices<'_>) -> Op {
    let code = c.pick(&CODES);
    let flags = OpFlags(u32::from(c.byte()) & (OpFlags::EXCLUSIVE.0 | OpFlags::FAIL_OK.0));
    let (args, data) = match code {
        OpCode::WRITE | OpCode::WRITE_FULL | OpCode::APPEND | OpCode::CMPEXT => with_data(c),
        OpCode::OMAP_SET_VALUES => (
            OpArgs::NONE,
            list(c, |w, c| {
                w.blob(&key(c));
                w.blob(&c.bytes());
            }),
        ),
        OpCode::OMAP_REMOVE_KEYS | OpCode::OMAP_GET_VALUES_BY_KEYS => {
            (OpArgs::NONE, list(c, |w, c| w.blob(&key(c))))
        }
        OpCode::OMAP_CMP => (
            OpArgs::NONE,
            list(c, |w, c| {
                w.blob(&key(c));
                w.blob(&c.bytes());
                w.s32(i32::from(c.byte() % 8));
            }),
        ),
        OpCode::OMAP_GET_KEYS | OpCode::OMAP_GET_VALUES | OpCode::OMAP_REMOVE_KEY_RANGE => {
            (OpArgs::NONE, omap_range(c, code))
        }
        OpCode::OMAP_SET_HEADER | OpCode::CREATE => (OpArgs::NONE, c.bytes()),
        OpCode::SETXATTR | OpCode::GETXATTR | OpCode::RMXATTR | OpCode::CMPXATTR => attr(c),
        OpCode::CHECKSUM => {
            let (offset, length, chunk_size) = (number(c), number(c), u32::from(c.byte()));
            (OpArgs::Checksum { offset, length, chunk_size, algorithm: c.byte() % 4 }, c.bytes())
        }
        OpCode::WRITE_SAME => {
            let pattern = c.bytes();
            let (offset, times, pattern_length) = (number(c), u64::from(c.byte()), pattern.len() as u64);
            (OpArgs::WriteSame { offset, length: pattern_length * times, pattern_length }, pattern)
        }
        OpCode::SET_ALLOC_HINT => (
            OpArgs::AllocHint { object_size: c.u64(), write_size: c.u64(), flags: u32::from(c.byte()) },
            Bytes::new(),
        ),
        _ => (extent(c, None), Bytes::new()),
    };
    Op::new(code, args, data).with_flags(flags)
}

fn number(c: &mut Choices<'_>) -> u64 {
    match c.byte() {
        small @ 0..200 => u64::from(small),
        200..245 => u64::from(c.u16()),
        _ => c.pick(&EDGES),
    }
}

fn extent(c: &mut Choices<'_>, length: Option<u64>) -> OpArgs {
    let kind = c.byte();
    let offset = number(c);
    let length = length.unwrap_or_else(|| number(c));
    let truncate_seq = if kind & 1 == 0 { 0 } else { u32::from(c.byte()) };
    let truncate_size = if kind & 2 == 0 { offset } else { number(c) };
    OpArgs::Extent { offset, length, truncate_size, truncate_seq }
}

fn with_data(c: &mut Choices<'_>) -> (OpArgs, Bytes) {
    let data = c.bytes();
    (extent(c, Some(data.len() as u64)), data)
}

/// A name from a few, so that ops meet.
fn key(c: &mut Choices<'_>) -> Bytes {
    const NAMES: [&[u8]; 8] = [b"", b"a", b"aa", b"ab", b"b", b"ba", b"c", b"\xff"];
    match c.byte() {
        few @ 0..240 => Bytes::from_static(NAMES[usize::from(few) % NAMES.len()]),
        _ => c.bytes(),
    }
}

fn list(c: &mut Choices<'_>, mut write: impl FnMut(&mut Writer, &mut Choices<'_>)) -> Bytes {
    let count = c.byte() % 6;
    let mut w = Writer::new();
    // Now and then one more than there are, which is refused.
    w.count(usize::from(count) + usize::from(c.byte() > 250));
    for _ in 0..count {
        write(&mut w, c);
    }
    w.finish()
}

fn omap_range(c: &mut Choices<'_>, code: OpCode) -> Bytes {
    let mut w = Writer::new();
    w.blob(&key(c));
    match code {
        OpCode::OMAP_REMOVE_KEY_RANGE => w.blob(&key(c)),
        _ => w.u64(number(c)),
    }
    if code == OpCode::OMAP_GET_VALUES {
        w.blob(&key(c));
    }
    w.finish()
}

fn attr(c: &mut Choices<'_>) -> (OpArgs, Bytes) {
    let (name, value) = (key(c), c.bytes());
    let length = |bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let args = OpArgs::Xattr {
        name_length: length(&name),
        value_length: length(&value),
        compare_op: c.byte() % 8,
        compare_mode: c.byte() % 4,
    };
    (args, Bytes::from([name, value].concat()))
}
