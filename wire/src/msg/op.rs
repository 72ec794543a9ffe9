//! One operation inside a request to an OSD: code, flags, arguments, payload.

use bytes::Bytes;

use crate::codec::{DecodeResult, Reader, Writer};
use crate::msg::op_args::ARGS_BYTES;
use crate::msg::{OpArgs, OpCode};
use crate::msgr2::Data;

/// Length of one operation in the front.
pub(super) const OP_BYTES: usize = 38;

/// Flags of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OpFlags(pub u32);

impl OpFlags {
    /// CREATE must find nothing.
    pub const EXCLUSIVE: Self = Self(1);
    /// Its failure does not fail the request.
    pub const FAIL_OK: Self = Self(2);

    /// The client reads in no order.
    pub const FADVISE_RANDOM: Self = Self(4);
    /// It reads from lower offsets to higher ones.
    pub const FADVISE_SEQUENTIAL: Self = Self(8);
    /// It will need the data again.
    pub const FADVISE_WILL_NEED: Self = Self(0x10);
    /// It will not.
    pub const FADVISE_DONT_NEED: Self = Self(0x20);
    /// It need not be kept in memory for this one.
    pub const FADVISE_NO_CACHE: Self = Self(0x40);
    /// The data must come from the device.
    pub const BYPASS_CLEAN_CACHE: Self = Self(0x100);

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// One operation: of a request with its input, of a reply with its output.
///
/// The arguments are kept as they came, because replies repeat them: peers leave numbers of other uses in
/// bytes that the code does not need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// What.
    pub code: OpCode,
    /// Flags and hints.
    pub flags: OpFlags,
    raw_args: [u8; ARGS_BYTES],
    /// Input or output.
    pub data: Data,
}

impl Op {
    /// An operation without flags.
    pub fn new(code: OpCode, args: OpArgs, data: impl Into<Data>) -> Self {
        Self { code, flags: OpFlags::default(), raw_args: args.to_raw(), data: data.into() }
    }

    /// The same with flags.
    #[must_use]
    pub fn with_flags(mut self, flags: OpFlags) -> Self {
        self.flags = flags;
        self
    }

    /// The same operation in a reply, with its output.
    pub fn reply(&self, output: impl Into<Data>) -> Self {
        Self { data: output.into(), ..*self }
    }

    /// The arguments, of the kind that belongs to the code.
    pub fn args(&self) -> OpArgs {
        OpArgs::parse(self.code.layout(), &self.raw_args)
    }

    /// SETXATTR, GETXATTR, CMPXATTR, RMXATTR: name and value out of the payload; `None` when it is too short.
    pub fn xattr(&self) -> Option<(Bytes, Bytes)> {
        let OpArgs::Xattr { name_length, value_length, .. } = self.args() else {
            return None;
        };
        let mut r = Reader::new("xattr", self.data.to_bytes());
        let name = r.raw_bytes(usize::try_from(name_length).ok()?).ok()?;
        let value = r.raw_bytes(usize::try_from(value_length).ok()?).ok()?;
        Some((name, value))
    }

    /// CALL: class, method and input out of the payload; `None` when it is too short.
    pub fn call(&self) -> Option<(Bytes, Bytes, Bytes)> {
        let OpArgs::Call { class_length, method_length, input_length, .. } = self.args() else {
            return None;
        };
        let mut r = Reader::new("call", self.data.to_bytes());
        let class = r.raw_bytes(usize::from(class_length)).ok()?;
        let method = r.raw_bytes(usize::from(method_length)).ok()?;
        let input = r.raw_bytes(usize::try_from(input_length).ok()?).ok()?;
        Some((class, method, input))
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        w.u16(self.code.0);
        w.u32(self.flags.0);
        w.raw(&self.raw_args);
        w.count(self.data.len());
    }

    /// Reads all but the payload, and the payload's length.
    fn decode(r: &mut Reader) -> DecodeResult<(Self, usize)> {
        let code = OpCode(r.u16()?);
        let flags = OpFlags(r.u32()?);
        let raw_args = r.array()?;
        let length = usize::try_from(r.u32()?).unwrap_or(usize::MAX);
        Ok((Self { code, flags, raw_args, data: Data::new() }, length))
    }
}

/// Reads `count` operations and deals out `data` to them in order; all of it must be used up.
pub(super) fn decode_ops(r: &mut Reader, count: usize, data: Data) -> DecodeResult<Vec<Op>> {
    let lengths = decode_without_data(r, count, data.len())?;
    let data = if data.parts().len() > 1 { Data::from(data.to_bytes()) } else { data };
    let mut start = 0;
    let deal = |(mut op, length): (Op, usize)| {
        if length != 0 {
            op.data = data.slice(start, length);
            start += length;
        }
        op
    };
    Ok(lengths.into_iter().map(deal).collect())
}

/// Reads `count` operations, each with the length of its payload, which together are `data_bytes`.
pub(super) fn decode_without_data(
    r: &mut Reader,
    count: usize,
    data_bytes: usize,
) -> DecodeResult<Vec<(Op, usize)>> {
    if count.saturating_mul(OP_BYTES) > r.remaining() {
        return Err(r.error(format!("{count} operations"), format!("{} bytes", r.remaining())));
    }
    let mut ops = Vec::with_capacity(count);
    let mut left = data_bytes;
    for _ in 0..count {
        let (op, length) = Op::decode(r)?;
        let claimed = || r.error(format!("payload of {length} bytes"), format!("{left} left in the data"));
        left = left.checked_sub(length).ok_or_else(claimed)?;
        ops.push((op, length));
    }
    match left {
        0 => Ok(ops),
        left => Err(r.error("all data claimed by operations", format!("{left} bytes more"))),
    }
}
