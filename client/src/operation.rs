//! Building an operation: a list of ops that an OSD runs in order on one object, all or nothing.
//!
//! Each op that gives something returns a [`Slot`], with which the result is taken from the [`Reply`].

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::rc::Rc;

use bytes::Bytes;
use wire::codec::{DecodeResult, Reader, Wire, Writer};
use wire::msg::{AccessKind, Op, OpArgs, OpCode, OpFlags, PgListReply, RequestFlags};
use wire::types::UTime;

use crate::error::{Error, Result};
use crate::request::Request;
use wire::Errno;

/// An operation on one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectOperation {
    ops: Vec<Op>,
    flags: RequestFlags,
    calls_writer: bool,
}

/// Where a result will be in the reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot<T> {
    index: usize,
    result: PhantomData<fn() -> T>,
}

/// How a value is compared with a stored one: `given OP stored`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Comparison {
    //= ceph 16.2 rados.h: CEPH_OSD_CMPXATTR_OP_*
    fn code(self) -> u8 {
        match self {
            Self::Equal => 1,
            Self::NotEqual => 2,
            Self::Greater => 3,
            Self::GreaterOrEqual => 4,
            Self::Less => 5,
            Self::LessOrEqual => 6,
        }
    }
}

/// Whether a create may find the object there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// Fails with EEXIST.
    Exclusive,
    /// Does nothing.
    Idempotent,
}

/// Size and modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Size in bytes.
    pub size: u64,
    /// Last modification.
    pub mtime: UTime,
}

/// What a sparse read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseRead {
    /// Offset and length of what is there.
    pub extents: BTreeMap<u64, u64>,
    /// The bytes of the extents, one after the other.
    pub data: Bytes,
}

/// Part of an omap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OmapPage<T> {
    /// The entries, in the order of their keys.
    pub entries: T,
    /// Whether there are more after these.
    pub more: bool,
}

/// A result that an op gives.
pub trait OpResult: Sized {
    /// From the op's output.
    fn decode(output: &Bytes) -> DecodeResult<Self>;
}

impl ObjectOperation {
    /// An empty operation.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of ops.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is no op.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Whether the object may change.
    pub fn may_write(&self) -> bool {
        let writes = |op: &Op| matches!(op.code.access(), AccessKind::Write | AccessKind::ReadWrite);
        self.calls_writer || self.ops.iter().any(writes)
    }

    /// Lets the last op fail without ending the operation.
    pub fn allow_failure(&mut self) -> &mut Self {
        if let Some(op) = self.ops.last_mut() {
            op.flags.0 |= OpFlags::FAIL_OK.0;
        }
        self
    }

    /// Reads; fewer bytes come at the object's end. Length 0 is all that follows.
    pub fn read(&mut self, offset: u64, length: u64) -> Slot<Bytes> {
        self.extent(OpCode::READ, offset, length, Bytes::new())
    }

    /// Reads what is there, with holes left out.
    pub fn sparse_read(&mut self, offset: u64, length: u64) -> Slot<SparseRead> {
        self.extent(OpCode::SPARSE_READ, offset, length, Bytes::new())
    }

    /// Size and time; fails with ENOENT if the object is missing.
    pub fn stat(&mut self) -> Slot<Stat> {
        self.plain(OpCode::STAT, Bytes::new())
    }

    /// Fails unless the object's version is this: ERANGE if it is older, EOVERFLOW if newer.
    pub fn assert_version(&mut self, version: u64) -> &mut Self {
        self.push::<()>(OpCode::ASSERT_VERSION, OpArgs::AssertVersion { version }, Bytes::new());
        self
    }

    /// Compares bytes; fails with `4095 + i` as errno if byte `i` differs.
    pub fn compare_extent(&mut self, offset: u64, expected: Bytes) -> &mut Self {
        let length = length_u64(&expected);
        let _: Slot<()> = self.extent(OpCode::CMPEXT, offset, length, expected);
        self
    }

    /// Creates the object.
    pub fn create(&mut self, creation: Creation) -> &mut Self {
        self.push::<()>(OpCode::CREATE, OpArgs::NONE, Bytes::new());
        if creation == Creation::Exclusive
            && let Some(op) = self.ops.last_mut()
        {
            op.flags.0 |= OpFlags::EXCLUSIVE.0;
        }
        self
    }

    /// Writes at an offset.
    pub fn write(&mut self, offset: u64, data: Bytes) -> &mut Self {
        let length = length_u64(&data);
        let _: Slot<()> = self.extent(OpCode::WRITE, offset, length, data);
        self
    }

    /// Replaces the content; attributes and omap stay.
    pub fn write_full(&mut self, data: Bytes) -> &mut Self {
        let length = length_u64(&data);
        let _: Slot<()> = self.extent(OpCode::WRITE_FULL, 0, length, data);
        self
    }

    /// Writes at the end.
    pub fn append(&mut self, data: Bytes) -> &mut Self {
        let length = length_u64(&data);
        let _: Slot<()> = self.extent(OpCode::APPEND, 0, length, data);
        self
    }

    /// Writes `pattern` again and again over a range, whose length it must divide.
    pub fn write_same(&mut self, offset: u64, length: u64, pattern: Bytes) -> &mut Self {
        let args = OpArgs::WriteSame { offset, length, pattern_length: length_u64(&pattern) };
        self.push::<()>(OpCode::WRITE_SAME, args, pattern);
        self
    }

    /// Sets the size.
    pub fn truncate(&mut self, size: u64) -> &mut Self {
        let _: Slot<()> = self.extent(OpCode::TRUNCATE, size, 0, Bytes::new());
        self
    }

    /// Makes a range read as zeros; one that reaches the end shortens the object.
    pub fn zero(&mut self, offset: u64, length: u64) -> &mut Self {
        let _: Slot<()> = self.extent(OpCode::ZERO, offset, length, Bytes::new());
        self
    }

    /// Removes the object.
    pub fn remove(&mut self) -> &mut Self {
        let _: Slot<()> = self.plain(OpCode::DELETE, Bytes::new());
        self
    }

    /// Tells how large the object and its writes will be. Never fails the operation.
    pub fn set_alloc_hint(&mut self, object_bytes: u64, write_bytes: u64, flags: u32) -> &mut Self {
        let args = OpArgs::AllocHint { object_size: object_bytes, write_size: write_bytes, flags };
        self.push::<()>(OpCode::SET_ALLOC_HINT, args, Bytes::new());
        self.allow_failure()
    }

    /// An attribute's value; ENODATA if there is none.
    pub fn get_xattr(&mut self, name: &[u8]) -> Slot<Bytes> {
        self.xattr(OpCode::GETXATTR, name, &[], [0, 0])
    }

    /// All attributes.
    pub fn get_xattrs(&mut self) -> Slot<BTreeMap<Bytes, Bytes>> {
        self.plain(OpCode::GETXATTRS, Bytes::new())
    }

    /// Sets an attribute.
    pub fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        let _: Slot<()> = self.xattr(OpCode::SETXATTR, name, value, [0, 0]);
        self
    }

    /// Removes an attribute.
    pub fn remove_xattr(&mut self, name: &[u8]) -> &mut Self {
        let _: Slot<()> = self.xattr(OpCode::RMXATTR, name, &[], [0, 0]);
        self
    }

    /// Fails with ECANCELED unless `value OP stored`, as bytes.
    pub fn compare_xattr(&mut self, name: &[u8], comparison: Comparison, value: &[u8]) -> &mut Self {
        let _: Slot<()> = self.xattr(OpCode::CMPXATTR, name, value, [comparison.code(), COMPARE_BYTES]);
        self
    }

    /// Fails with ECANCELED unless `value OP stored`, the stored value being a number in decimal text.
    pub fn compare_xattr_number(&mut self, name: &[u8], comparison: Comparison, value: u64) -> &mut Self {
        let modes = [comparison.code(), COMPARE_NUMBER];
        let _: Slot<()> = self.xattr(OpCode::CMPXATTR, name, &value.to_le_bytes(), modes);
        self
    }

    /// Keys after `after`, at most `max`.
    pub fn omap_keys(&mut self, after: &[u8], max: u64) -> Slot<OmapPage<BTreeSet<Bytes>>> {
        let mut w = Writer::new();
        w.blob(after);
        w.u64(max);
        self.plain(OpCode::OMAP_GET_KEYS, w.finish())
    }

    /// Entries after `after` whose keys begin with `prefix`, at most `max`.
    pub fn omap_values(
        &mut self,
        after: &[u8],
        max: u64,
        prefix: &[u8],
    ) -> Slot<OmapPage<BTreeMap<Bytes, Bytes>>> {
        let mut w = Writer::new();
        w.blob(after);
        w.u64(max);
        w.blob(prefix);
        self.plain(OpCode::OMAP_GET_VALUES, w.finish())
    }

    /// Entries with these keys, as far as they exist.
    pub fn omap_values_by_keys(&mut self, keys: &BTreeSet<Bytes>) -> Slot<BTreeMap<Bytes, Bytes>> {
        self.plain(OpCode::OMAP_GET_VALUES_BY_KEYS, encoded(keys))
    }

    /// The omap's header.
    pub fn omap_header(&mut self) -> Slot<Bytes> {
        self.plain(OpCode::OMAP_GET_HEADER, Bytes::new())
    }

    /// Fails with ECANCELED unless `stored OP value` for each key; only Equal, Less and Greater are possible.
    pub fn compare_omap(&mut self, assertions: &BTreeMap<Bytes, (Bytes, Comparison)>) -> &mut Self {
        let mut w = Writer::new();
        w.map_with(
            assertions,
            |w, key| w.blob(key),
            |w, (value, comparison)| {
                w.blob(value);
                w.s32(i32::from(comparison.code()));
            },
        );
        let _: Slot<()> = self.plain(OpCode::OMAP_CMP, w.finish());
        self
    }

    /// Sets entries.
    pub fn set_omap(&mut self, entries: &BTreeMap<Bytes, Bytes>) -> &mut Self {
        let _: Slot<()> = self.plain(OpCode::OMAP_SET_VALUES, encoded(entries));
        self
    }

    /// Sets the omap's header.
    pub fn set_omap_header(&mut self, header: Bytes) -> &mut Self {
        let _: Slot<()> = self.plain(OpCode::OMAP_SET_HEADER, header);
        self
    }

    /// Removes entries.
    pub fn remove_omap_keys(&mut self, keys: &BTreeSet<Bytes>) -> &mut Self {
        let _: Slot<()> = self.plain(OpCode::OMAP_REMOVE_KEYS, encoded(keys));
        self
    }

    /// Removes the entries from `first` up to, not including, `last`.
    pub fn remove_omap_range(&mut self, first: &[u8], last: &[u8]) -> &mut Self {
        let mut w = Writer::new();
        w.blob(first);
        w.blob(last);
        let _: Slot<()> = self.plain(OpCode::OMAP_REMOVE_KEY_RANGE, w.finish());
        self
    }

    /// Removes all entries and the header.
    pub fn clear_omap(&mut self) -> &mut Self {
        let _: Slot<()> = self.plain(OpCode::OMAP_CLEAR, Bytes::new());
        self
    }

    /// Calls a method of an object class that may change the object.
    pub fn call_writer(&mut self, class: &str, method: &str, input: &[u8]) -> Result<Slot<Bytes>> {
        self.calls_writer = true;
        self.call(class, method, input)
    }

    /// Calls a method of an object class that only reads.
    pub fn call(&mut self, class: &str, method: &str, input: &[u8]) -> Result<Slot<Bytes>> {
        let length = |what: &str, text: &str| {
            u8::try_from(text.len()).map_err(|_| Error::TooMuch {
                what: format!("call of {class}.{method}: bytes in the {what} name"),
                got: u64::try_from(text.len()).unwrap_or(u64::MAX),
                limit: u64::from(u8::MAX),
            })
        };
        let args = OpArgs::Call {
            class_length: length("class", class)?,
            method_length: length("method", method)?,
            argument_count: 0,
            input_length: u32::try_from(input.len()).unwrap_or(u32::MAX),
        };
        let payload = [class.as_bytes(), method.as_bytes(), input].concat();
        Ok(self.push(OpCode::CALL, args, payload.into()))
    }

    /// A page of a placement group's objects; only [`crate::Lister`] knows how to address it.
    pub(crate) fn list(&mut self, count: u64, start_epoch: u32, cursor: Bytes) -> Slot<PgListReply> {
        self.push(OpCode::PGNLS, OpArgs::PgList { count, start_epoch }, cursor)
    }

    /// Tries although the pool is full; fails with ENOSPC or EDQUOT instead of waiting.
    pub fn try_when_full(&mut self) -> &mut Self {
        self.flags = self.flags.with(RequestFlags::FULL_TRY);
        self
    }

    /// Wants the outputs of an operation that writes too; they may be 64 bytes each.
    pub fn return_outputs(&mut self) -> &mut Self {
        self.flags = self.flags.with(RequestFlags::RETURN_VECTOR);
        self
    }

    pub(crate) fn into_parts(self) -> (Vec<Op>, RequestFlags) {
        (self.ops, self.flags)
    }

    /// An op without arguments. The length of its payload goes where stock clients put it too.
    fn plain<T>(&mut self, code: OpCode, payload: Bytes) -> Slot<T> {
        let length = length_u64(&payload);
        self.extent(code, 0, length, payload)
    }

    fn extent<T>(&mut self, code: OpCode, offset: u64, length: u64, payload: Bytes) -> Slot<T> {
        self.push(code, OpArgs::extent(offset, length), payload)
    }

    fn xattr<T>(&mut self, code: OpCode, name: &[u8], value: &[u8], modes: [u8; 2]) -> Slot<T> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let [compare_op, compare_mode] = modes;
        let args = OpArgs::Xattr {
            name_length: length(name),
            value_length: length(value),
            compare_op,
            compare_mode,
        };
        self.push(code, args, [name, value].concat().into())
    }

    fn push<T>(&mut self, code: OpCode, args: OpArgs, payload: Bytes) -> Slot<T> {
        self.ops.push(Op::new(code, args, payload));
        Slot { index: self.ops.len() - 1, result: PhantomData }
    }
}

const COMPARE_BYTES: u8 = 1;
const COMPARE_NUMBER: u8 = 2;

fn length_u64(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn encoded<T: Wire>(value: &T) -> Bytes {
    wire::codec::encode_to_bytes(value)
}

/// What one op gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpOutput {
    /// Its own result: 0, a method's value, or a negative errno if it was allowed to fail.
    pub result: i32,
    /// Its bytes.
    pub data: Bytes,
}

/// The answer to an operation that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub(crate) request: Rc<Request>,
    /// Result of the whole: 0, or what the last op made of it (1: comparison true, end of a list).
    pub result: i32,
    /// The object's version after the operation.
    pub version: u64,
    /// What each op gave.
    pub outputs: Vec<OpOutput>,
}

impl Reply {
    /// The result of one op.
    pub fn get<T: OpResult>(&self, slot: &Slot<T>) -> Result<T> {
        let output = self.outputs.get(slot.index).ok_or_else(|| Error::Unexpected {
            what: self.request.to_string(),
            reason: format!(
                "the answer has {} results, number {} is asked for",
                self.outputs.len(),
                slot.index
            ),
        })?;
        if let Some(errno) = Errno::from_code(output.result) {
            return Err(Error::Refused { what: self.request.to_string(), errno });
        }
        T::decode(&output.data).map_err(|error| Error::Answer { what: self.request.to_string(), error })
    }
}

impl OpResult for Bytes {
    fn decode(output: &Bytes) -> DecodeResult<Self> {
        Ok(output.clone())
    }
}

impl OpResult for PgListReply {
    fn decode(output: &Bytes) -> DecodeResult<Self> {
        Reader::new("listing", output.clone()).get()
    }
}

impl OpResult for BTreeMap<Bytes, Bytes> {
    fn decode(output: &Bytes) -> DecodeResult<Self> {
        Reader::new("entries", output.clone()).map()
    }
}

impl OpResult for Stat {
    fn decode(output: &Bytes) -> DecodeResult<Self> {
        let mut r = Reader::new("stat", output.clone());
        Ok(Self { size: r.u64()?, mtime: r.get()? })
    }
}

impl OpResult for SparseRead {
    fn decode(output: &Bytes) -> DecodeResult<Self> {
        let mut r = Reader::new("sparse read", output.clone());
        let extents: BTreeMap<u64, u64> = r.map()?;
        let data = r.blob()?;
        let total = extents.values().fold(0u64, |sum, length| sum.saturating_add(*length));
        if total != length_u64(&data) {
            return Err(r.error(format!("{total} bytes in the extents"), data.len().to_string()));
        }
        Ok(Self { extents, data })
    }
}

impl OpResult for OmapPage<BTreeSet<Bytes>> {
    fn decode(output: &Bytes) -> DecodeResult<Self> {
        let mut r = Reader::new("omap keys", output.clone());
        Ok(Self { entries: r.set()?, more: r.bool()? })
    }
}

impl OpResult for OmapPage<BTreeMap<Bytes, Bytes>> {
    fn decode(output: &Bytes) -> DecodeResult<Self> {
        let mut r = Reader::new("omap values", output.clone());
        Ok(Self { entries: r.map()?, more: r.bool()? })
    }
}
