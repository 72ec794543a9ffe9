//! Arguments of operations: 28 bytes, laid out by the operation's code.

use crate::codec::Writer;
use crate::types::SnapId;

/// Length of the arguments.
pub(super) const ARGS_BYTES: usize = 28;

/// How the arguments of a code are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
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

    pub(super) fn parse(layout: Layout, raw: &[u8; ARGS_BYTES]) -> Self {
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

    pub(super) fn to_raw(self) -> [u8; ARGS_BYTES] {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::{Op, OpCode};
    use crate::msgr2::Data;

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
}
