//! One operation inside a request to an OSD: code, flags, arguments, payload.

use std::fmt;

use bytes::Bytes;

use crate::codec::{DecodeResult, Reader, Writer};
use crate::msgr2::Data;
use crate::types::SnapId;

/// Length of one operation in the front.
pub(super) const OP_BYTES: usize = 38;
const ARGS_BYTES: usize = 28;

/// What an operation does. Codes that are not known here are kept, to be refused where they are executed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpCode(pub u16);

/// Whether an operation reads, writes, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// Reads only.
    Read,
    /// Writes only.
    Write,
    /// Reads what it then writes.
    ReadWrite,
    /// Cache tiering, and codes of no kind.
    Other,
}

macro_rules! op_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $args:ident;)*) => {
        impl OpCode {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// How the arguments of this code are laid out.
            fn layout(self) -> Layout {
                match self {
                    $(Self::$name => Layout::$args,)*
                    _ => Layout::Raw,
                }
            }
        }

        impl fmt::Debug for OpCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => f.write_str(stringify!($name)),)*
                    Self(code) => write!(f, "{code:#06x}"),
                }
            }
        }
    };
}

op_codes! {
    /// Bytes of a range.
    READ = 0x1201, Extent;
    /// Size and modification time.
    STAT = 0x1202, Extent;
    /// Extents of a range.
    MAPEXT = 0x1203, Extent;
    /// Extents and bytes of a range.
    SPARSE_READ = 0x1205, Extent;
    /// Notifies the watchers.
    NOTIFY = 0x1206, Notify;
    /// A watcher's answer.
    NOTIFY_ACK = 0x1207, Extent;
    /// Fails unless the object has this version.
    ASSERT_VERSION = 0x1208, AssertVersion;
    /// Watchers of an object.
    LIST_WATCHERS = 0x1209, Extent;
    /// Clones of an object.
    LIST_SNAPS = 0x120a, Extent;
    /// As READ.
    SYNC_READ = 0x120b, Extent;
    /// Obsolete.
    TMAPGET = 0x120c, Extent;
    /// Keys of the omap.
    OMAP_GET_KEYS = 0x1211, Extent;
    /// Keys and values of the omap.
    OMAP_GET_VALUES = 0x1212, Extent;
    /// Header of the omap.
    OMAP_GET_HEADER = 0x1213, Extent;
    /// Values of given keys.
    OMAP_GET_VALUES_BY_KEYS = 0x1214, Extent;
    /// Compares values.
    OMAP_CMP = 0x1219, Extent;
    /// Cache tiering.
    IS_DIRTY = 0x121d, Extent;
    /// Between OSDs.
    COPY_GET = 0x121e, CopyGet;
    /// Checksums of a range.
    CHECKSUM = 0x121f, Checksum;
    /// Compares bytes.
    CMPEXT = 0x1220, Extent;
    /// Value of an xattr.
    GETXATTR = 0x1301, Xattr;
    /// All xattrs.
    GETXATTRS = 0x1302, Xattr;
    /// Compares an xattr.
    CMPXATTR = 0x1303, Xattr;
    /// Calls a method of an object class.
    CALL = 0x1401, Call;
    /// Lists a placement group, old form.
    PGLS = 0x1501, PgList;
    /// Lists a placement group filtered, old form.
    PGLS_FILTER = 0x1502, PgList;
    /// Cache tiering.
    PG_HITSET_LS = 0x1503, Extent;
    /// Cache tiering.
    PG_HITSET_GET = 0x1504, Raw;
    /// Lists a placement group.
    PGNLS = 0x1505, PgList;
    /// Lists a placement group filtered.
    PGNLS_FILTER = 0x1506, PgList;
    /// Results of scrubbing.
    SCRUBLS = 0x1507, Raw;
    /// Writes a range.
    WRITE = 0x2201, Extent;
    /// Replaces the content.
    WRITE_FULL = 0x2202, Extent;
    /// Changes the size.
    TRUNCATE = 0x2203, Extent;
    /// Punches a hole.
    ZERO = 0x2204, Extent;
    /// Deletes the object.
    DELETE = 0x2205, Extent;
    /// Writes at the end.
    APPEND = 0x2206, Extent;
    /// CephFS, old.
    SET_TRUNC = 0x2208, Extent;
    /// CephFS.
    TRIM_TRUNC = 0x2209, Extent;
    /// Obsolete.
    TMAPPUT = 0x220b, Extent;
    /// Makes the object.
    CREATE = 0x220d, Extent;
    /// Back to a snapshot.
    ROLLBACK = 0x220e, Snap;
    /// Registers, renews or ends a watch.
    WATCH = 0x220f, Watch;
    /// Sets omap entries.
    OMAP_SET_VALUES = 0x2215, Extent;
    /// Sets the omap's header.
    OMAP_SET_HEADER = 0x2216, Extent;
    /// Empties the omap.
    OMAP_CLEAR = 0x2217, Extent;
    /// Removes omap entries.
    OMAP_REMOVE_KEYS = 0x2218, Extent;
    /// Copies another object.
    COPY_FROM = 0x221a, CopyFrom;
    /// Cache tiering.
    UNDIRTY = 0x221c, Extent;
    /// Hints at how the object will be used.
    SET_ALLOC_HINT = 0x2223, AllocHint;
    /// Cache tiering.
    CACHE_PIN = 0x2224, Extent;
    /// Cache tiering.
    CACHE_UNPIN = 0x2225, Extent;
    /// Writes a pattern again and again.
    WRITE_SAME = 0x2226, WriteSame;
    /// Removes a range of omap entries.
    OMAP_REMOVE_KEY_RANGE = 0x222c, Extent;
    /// Copies another object and sets its truncation.
    COPY_FROM2 = 0x222d, CopyFrom;
    /// Sets an xattr.
    SETXATTR = 0x2301, Xattr;
    /// Sets several xattrs.
    SETXATTRS = 0x2302, Xattr;
    /// Replaces all xattrs.
    RESETXATTRS = 0x2303, Xattr;
    /// Removes an xattr.
    RMXATTR = 0x2304, Xattr;
    /// Obsolete.
    TMAPUP = 0x320a, Extent;
}

impl OpCode {
    /// Whether it reads or writes. A CALL depends on its method.
    pub fn access(self) -> AccessKind {
        match self.0 & 0xf000 {
            0x1000 => AccessKind::Read,
            0x2000 => AccessKind::Write,
            0x3000 => AccessKind::ReadWrite,
            _ => AccessKind::Other,
        }
    }

    /// Whether it is addressed to a placement group and not to an object.
    pub fn is_pg_op(self) -> bool {
        self.0 & 0x0f00 == 0x0500
    }
}

/// Flags of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OpFlags(pub u32);

impl OpFlags {
    /// CREATE must find nothing.
    pub const EXCLUSIVE: Self = Self(1);
    /// Its failure does not fail the request.
    pub const FAIL_OK: Self = Self(2);

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

#[derive(Debug, Clone, Copy)]
enum Layout {
    Extent,
    Xattr,
    Call,
    PgList,
    Snap,
    Watch,
    Notify,
    AssertVersion,
    CopyGet,
    CopyFrom,
    AllocHint,
    WriteSame,
    Checksum,
    Raw,
}

/// Arguments of one operation; which kind it is follows from the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpArgs {
    /// A range. What is no range uses `length` as it likes.
    Extent {
        /// Start, bytes.
        offset: u64,
        /// Length, bytes.
        length: u64,
        /// Size of the file's last truncation.
        truncate_size: u64,
        /// Number of the file's truncations.
        truncate_seq: u32,
    },
    /// An xattr; name and value are the payload.
    Xattr {
        /// Length of the name.
        name_length: u32,
        /// Length of the value.
        value_length: u32,
        /// 1 = , 2 ≠, 3 >, 4 ≥, 5 <, 6 ≤.
        compare_op: u8,
        /// 1 bytes, 2 numbers.
        compare_mode: u8,
    },
    /// A method; class, method and input are the payload.
    Call {
        /// Length of the class's name.
        class_length: u8,
        /// Length of the method's name.
        method_length: u8,
        /// 0.
        argument_count: u8,
        /// Length of the input.
        input_length: u32,
    },
    /// A listing; the cursor is the payload.
    PgList {
        /// Most entries wanted.
        count: u64,
        /// Epoch of the first request of the listing.
        start_epoch: u32,
    },
    /// A snapshot.
    Snap {
        /// Its id.
        snap: SnapId,
    },
    /// A watch.
    Watch {
        /// The client's number of the watch.
        cookie: u64,
        /// 0.
        version: u64,
        /// 0 unwatch, 1 old watch, 3 watch, 5 reconnect, 7 ping.
        op: u8,
        /// Count of reconnects.
        generation: u32,
        /// Seconds; 0 for the default.
        timeout_seconds: u32,
    },
    /// A notification.
    Notify {
        /// The client's number of it.
        cookie: u64,
    },
    /// A version.
    AssertVersion {
        /// Object's user version.
        version: u64,
    },
    /// Most bytes.
    CopyGet {
        /// Most bytes.
        max: u64,
    },
    /// A source; name and locator are the payload.
    CopyFrom {
        /// Snapshot of the source.
        snap: SnapId,
        /// Version that the source must have; 0 for any.
        version: u64,
        /// How to copy.
        flags: u8,
        /// How the source will be used.
        source_hints: u32,
    },
    /// A hint.
    AllocHint {
        /// Bytes the object will have.
        object_size: u64,
        /// Bytes of most writes.
        write_size: u64,
        /// Patterns, lifetime, compressibility.
        flags: u32,
    },
    /// A range to fill with the payload, again and again.
    WriteSame {
        /// Start, bytes.
        offset: u64,
        /// Length, bytes.
        length: u64,
        /// Length of the pattern.
        pattern_length: u64,
    },
    /// A range; the initial value is the payload.
    Checksum {
        /// Start, bytes.
        offset: u64,
        /// Length, bytes.
        length: u64,
        /// Bytes per checksum; 0 for one over all.
        chunk_size: u32,
        /// 0 xxhash32, 1 xxhash64, 2 crc32c.
        algorithm: u8,
    },
    /// Of a code that is not known here.
    Raw([u8; ARGS_BYTES]),
}

impl OpArgs {
    /// The empty range: for operations without arguments.
    pub const NONE: Self = Self::Extent { offset: 0, length: 0, truncate_size: 0, truncate_seq: 0 };

    /// A range without truncation.
    pub fn extent(offset: u64, length: u64) -> Self {
        Self::Extent { offset, length, truncate_size: 0, truncate_seq: 0 }
    }

    fn parse(layout: Layout, raw: &[u8; ARGS_BYTES]) -> Self {
        let u8_at = |at: usize| raw[at];
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| raw[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| raw[at + i]));
        match layout {
            Layout::Extent => Self::Extent {
                offset: u64_at(0),
                length: u64_at(8),
                truncate_size: u64_at(16),
                truncate_seq: u32_at(24),
            },
            Layout::Xattr => Self::Xattr {
                name_length: u32_at(0),
                value_length: u32_at(4),
                compare_op: u8_at(8),
                compare_mode: u8_at(9),
            },
            Layout::Call => Self::Call {
                class_length: u8_at(0),
                method_length: u8_at(1),
                argument_count: u8_at(2),
                input_length: u32_at(3),
            },
            Layout::PgList => Self::PgList { count: u64_at(0), start_epoch: u32_at(8) },
            Layout::Snap => Self::Snap { snap: SnapId(u64_at(0)) },
            Layout::Watch => Self::Watch {
                cookie: u64_at(0),
                version: u64_at(8),
                op: u8_at(16),
                generation: u32_at(17),
                timeout_seconds: u32_at(21),
            },
            Layout::Notify => Self::Notify { cookie: u64_at(0) },
            Layout::AssertVersion => Self::AssertVersion { version: u64_at(8) },
            Layout::CopyGet => Self::CopyGet { max: u64_at(0) },
            Layout::CopyFrom => Self::CopyFrom {
                snap: SnapId(u64_at(0)),
                version: u64_at(8),
                flags: u8_at(16),
                source_hints: u32_at(17),
            },
            Layout::AllocHint => {
                Self::AllocHint { object_size: u64_at(0), write_size: u64_at(8), flags: u32_at(16) }
            }
            Layout::WriteSame => {
                Self::WriteSame { offset: u64_at(0), length: u64_at(8), pattern_length: u64_at(16) }
            }
            Layout::Checksum => Self::Checksum {
                offset: u64_at(0),
                length: u64_at(8),
                chunk_size: u32_at(16),
                algorithm: u8_at(20),
            },
            Layout::Raw => Self::Raw(*raw),
        }
    }

    fn to_raw(self) -> [u8; ARGS_BYTES] {
        let mut w = Writer::with_capacity(ARGS_BYTES);
        match self {
            Self::Extent { offset, length, truncate_size, truncate_seq } => {
                w.u64(offset);
                w.u64(length);
                w.u64(truncate_size);
                w.u32(truncate_seq);
            }
            Self::Xattr { name_length, value_length, compare_op, compare_mode } => {
                w.u32(name_length);
                w.u32(value_length);
                w.u8(compare_op);
                w.u8(compare_mode);
            }
            Self::Call { class_length, method_length, argument_count, input_length } => {
                w.u8(class_length);
                w.u8(method_length);
                w.u8(argument_count);
                w.u32(input_length);
            }
            Self::PgList { count, start_epoch } => {
                w.u64(count);
                w.u32(start_epoch);
            }
            Self::Snap { snap } => w.put(&snap),
            Self::Watch { cookie, version, op, generation, timeout_seconds } => {
                w.u64(cookie);
                w.u64(version);
                w.u8(op);
                w.u32(generation);
                w.u32(timeout_seconds);
            }
            Self::Notify { cookie } => w.u64(cookie),
            Self::AssertVersion { version } => {
                w.u64(0);
                w.u64(version);
            }
            Self::CopyGet { max } => w.u64(max),
            Self::CopyFrom { snap, version, flags, source_hints } => {
                w.put(&snap);
                w.u64(version);
                w.u8(flags);
                w.u32(source_hints);
            }
            Self::AllocHint { object_size, write_size, flags } => {
                w.u64(object_size);
                w.u64(write_size);
                w.u32(flags);
            }
            Self::WriteSame { offset, length, pattern_length } => {
                w.u64(offset);
                w.u64(length);
                w.u64(pattern_length);
            }
            Self::Checksum { offset, length, chunk_size, algorithm } => {
                w.u64(offset);
                w.u64(length);
                w.u32(chunk_size);
                w.u8(algorithm);
            }
            Self::Raw(bytes) => w.raw(&bytes),
        }
        let mut raw = [0; ARGS_BYTES];
        raw[..w.len()].copy_from_slice(w.as_slice());
        raw
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
    if count.saturating_mul(OP_BYTES) > r.remaining() {
        return Err(r.error(format!("{count} operations"), format!("{} bytes", r.remaining())));
    }
    let data = if data.parts().len() > 1 { Data::from(data.to_bytes()) } else { data };
    let mut ops = Vec::with_capacity(count);
    let mut start = 0;
    for _ in 0..count {
        let (mut op, length) = Op::decode(r)?;
        let left = data.len() - start;
        if length > left {
            return Err(r.error(format!("payload of {length} bytes"), format!("{left} left in the data")));
        }
        if length != 0 {
            op.data = data.slice(start, length);
            start += length;
        }
        ops.push(op);
    }
    match data.len() - start {
        0 => Ok(ops),
        left => Err(r.error("all data claimed by operations", format!("{left} bytes more"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_every_kind_round_trip() {
        let snap = SnapId(0x0102_0304_0506_0708);
        for (code, args) in [
            (OpCode::READ, OpArgs::Extent { offset: 1, length: 2, truncate_size: 3, truncate_seq: 4 }),
            (
                OpCode::CMPXATTR,
                OpArgs::Xattr { name_length: 1, value_length: 2, compare_op: 3, compare_mode: 4 },
            ),
            (
                OpCode::CALL,
                OpArgs::Call { class_length: 1, method_length: 2, argument_count: 3, input_length: 4 },
            ),
            (OpCode::PGNLS, OpArgs::PgList { count: 1, start_epoch: 2 }),
            (OpCode::ROLLBACK, OpArgs::Snap { snap }),
            (
                OpCode::WATCH,
                OpArgs::Watch { cookie: 1, version: 2, op: 3, generation: 4, timeout_seconds: 5 },
            ),
            (OpCode::NOTIFY, OpArgs::Notify { cookie: 1 }),
            (OpCode::ASSERT_VERSION, OpArgs::AssertVersion { version: 1 }),
            (OpCode::COPY_GET, OpArgs::CopyGet { max: 1 }),
            (OpCode::COPY_FROM, OpArgs::CopyFrom { snap, version: 1, flags: 2, source_hints: 3 }),
            (OpCode::SET_ALLOC_HINT, OpArgs::AllocHint { object_size: 1, write_size: 2, flags: 3 }),
            (OpCode::WRITE_SAME, OpArgs::WriteSame { offset: 1, length: 2, pattern_length: 3 }),
            (OpCode::CHECKSUM, OpArgs::Checksum { offset: 1, length: 2, chunk_size: 3, algorithm: 2 }),
            (OpCode(0x9999), OpArgs::Raw([7; ARGS_BYTES])),
        ] {
            assert_eq!(Op::new(code, args, Data::new()).args(), args);
        }
    }

    #[test]
    fn codes_tell_how_they_access() {
        assert_eq!(OpCode::READ.access(), AccessKind::Read);
        assert_eq!(OpCode::WRITE.access(), AccessKind::Write);
        assert_eq!(OpCode::TMAPUP.access(), AccessKind::ReadWrite);
        assert_eq!(OpCode(0x8220).access(), AccessKind::Other);
        assert!(OpCode::PGNLS.is_pg_op() && !OpCode::CALL.is_pg_op());
    }
}
