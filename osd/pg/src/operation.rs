//! One op of a request: as it comes, and decoded.
//!
//! Decoding is per op and happens when its turn comes, so that a malformed op fails where it stands and those before
//! it have their results.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire::codec::{DecodeError, Reader};

use crate::errno::Errno;
use crate::opcode;

/// An op as the message has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawOp {
    /// Code, see [`opcode`].
    pub code: u16,
    /// Op flags, see [`EXCLUSIVE`] and [`FAIL_OK`].
    pub flags: u32,
    /// Arguments; the layout depends on the code.
    pub args: [u8; 28],
    /// Payload.
    pub input: Bytes,
}

/// Op flag of CREATE: fail if the object exists.
pub const EXCLUSIVE: u32 = 1;
/// Op flag: a failure of this op does not fail the request.
pub const FAIL_OK: u32 = 2;

/// A range of an object's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Size the object was truncated to as the client knows it.
    pub truncate_size: u64,
    /// Number of that truncation; 0 outside file systems.
    pub truncate_seq: u32,
}

/// Relation in a comparison op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Relation {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Relation {
    fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            1 => Self::Equal,
            2 => Self::NotEqual,
            3 => Self::Greater,
            4 => Self::GreaterOrEqual,
            5 => Self::Less,
            6 => Self::LessOrEqual,
            _ => return None,
        })
    }

    /// Whether `left RELATION right`.
    pub fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
        }
    }
}

/// The value given to a compare-attribute op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttrOperand {
    /// Compared bytewise.
    Text(Bytes),
    /// Compared with the stored value read as decimal text.
    Number(u64),
}

/// An op, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what their names say")]
pub enum Operation {
    Read(Extent),
    SparseRead(Extent),
    MapExtents(Extent),
    Stat,
    Checksum {
        offset: u64,
        length: u64,
        chunk_size: u32,
        kind: u8,
        init: Bytes,
    },
    CompareExtent {
        extent: Extent,
        data: Bytes,
    },
    AssertVersion(u64),
    ListWatchers,
    ListSnaps,
    Write {
        extent: Extent,
        data: Bytes,
    },
    WriteFull {
        length: u64,
        data: Bytes,
    },
    Append {
        length: u64,
        data: Bytes,
    },
    WriteSame {
        offset: u64,
        length: u64,
        pattern_length: u64,
        pattern: Bytes,
    },
    Zero(Extent),
    Truncate(Extent),
    Delete,
    Create {
        exclusive: bool,
    },
    SetAllocHint {
        object_size: u64,
        write_size: u64,
        flags: u32,
    },
    GetAttr {
        name: Bytes,
    },
    GetAttrs,
    CompareAttr {
        name: Bytes,
        relation: Relation,
        operand: AttrOperand,
    },
    SetAttr {
        name: Bytes,
        value: Bytes,
    },
    RemoveAttr {
        name: Bytes,
    },
    OmapGetKeys {
        start_after: Bytes,
        max: u64,
    },
    OmapGetVals {
        start_after: Bytes,
        max: u64,
        prefix: Bytes,
    },
    OmapGetHeader,
    OmapGetValsByKeys {
        keys: BTreeSet<Bytes>,
    },
    OmapCompare {
        assertions: BTreeMap<Bytes, (Bytes, i32)>,
    },
    OmapSet {
        entries: BTreeMap<Bytes, Bytes>,
    },
    OmapSetHeader {
        header: Bytes,
    },
    OmapClear,
    OmapRemove {
        keys: BTreeSet<Bytes>,
    },
    OmapRemoveRange {
        first: Bytes,
        end: Bytes,
    },
    /// Known to nobody here.
    Unsupported,
}

impl RawOp {
    /// Whether the op may change the object. Calls of object classes decide for themselves and are not asked here.
    pub fn may_write(&self) -> bool {
        self.code & opcode::MODE_WRITE != 0
    }

    /// Whether a failure is not to fail the request.
    pub fn is_fail_ok(&self) -> bool {
        self.flags & FAIL_OK != 0
    }

    /// The arguments of ops that concern a range.
    pub fn extent(&self) -> Extent {
        Extent {
            offset: self.u64_at(0),
            length: self.u64_at(8),
            truncate_size: self.u64_at(16),
            truncate_seq: self.u32_at(24),
        }
    }

    /// The u64 at byte `at` of the arguments.
    pub fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array_at(at))
    }

    /// The u32 at byte `at` of the arguments.
    pub fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array_at(at))
    }

    fn array_at<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.args[at..at + N]);
        out
    }

    /// Decodes. Malformed ops are invalid arguments, as in Ceph.
    pub fn decode(&self) -> Result<Operation, Errno> {
        self.parse().map_err(|_malformed| Errno::EINVAL)
    }

    fn parse(&self) -> Result<Operation, DecodeError> {
        let extent = self.extent();
        let data = || self.input.clone();
        let mut r = Reader::new("op payload", self.input.clone());
        Ok(match self.code {
            opcode::READ | opcode::SYNC_READ => Operation::Read(extent),
            opcode::SPARSE_READ => Operation::SparseRead(extent),
            opcode::MAPEXT => Operation::MapExtents(extent),
            opcode::STAT => Operation::Stat,
            opcode::CHECKSUM => Operation::Checksum {
                offset: extent.offset,
                length: extent.length,
                chunk_size: self.u32_at(16),
                kind: self.args[20],
                init: data(),
            },
            opcode::CMPEXT => Operation::CompareExtent { extent, data: data() },
            opcode::ASSERT_VER => Operation::AssertVersion(self.u64_at(8)),
            opcode::LIST_WATCHERS => Operation::ListWatchers,
            opcode::LIST_SNAPS => Operation::ListSnaps,
            opcode::WRITE => Operation::Write { extent, data: data() },
            opcode::WRITEFULL => Operation::WriteFull { length: extent.length, data: data() },
            opcode::APPEND => Operation::Append { length: extent.length, data: data() },
            opcode::WRITESAME => Operation::WriteSame {
                offset: extent.offset,
                length: extent.length,
                pattern_length: self.u64_at(16),
                pattern: data(),
            },
            opcode::ZERO => Operation::Zero(extent),
            opcode::TRUNCATE => Operation::Truncate(extent),
            //= ceph 16.2 osd: TRIMTRUNC is TRUNCATE to the truncate size
            opcode::TRIMTRUNC => Operation::Truncate(Extent { offset: extent.truncate_size, ..extent }),
            opcode::DELETE => Operation::Delete,
            opcode::CREATE => {
                if !self.input.is_empty() {
                    // A category that nothing has used since 2014, but it must be well formed.
                    r.blob()?;
                }
                Operation::Create { exclusive: self.flags & EXCLUSIVE != 0 }
            }
            opcode::SETALLOCHINT => Operation::SetAllocHint {
                object_size: self.u64_at(0),
                write_size: self.u64_at(8),
                flags: self.u32_at(16),
            },
            opcode::GETXATTR | opcode::SETXATTR | opcode::CMPXATTR | opcode::RMXATTR => self.parse_attr(r)?,
            opcode::GETXATTRS => Operation::GetAttrs,
            opcode::OMAP_GET_KEYS => Operation::OmapGetKeys { start_after: r.blob()?, max: r.u64()? },
            opcode::OMAP_GET_VALS => {
                Operation::OmapGetVals { start_after: r.blob()?, max: r.u64()?, prefix: r.blob()? }
            }
            opcode::OMAP_GET_HEADER => Operation::OmapGetHeader,
            opcode::OMAP_GET_VALS_BY_KEYS => Operation::OmapGetValsByKeys { keys: r.set()? },
            opcode::OMAP_CMP => Operation::OmapCompare {
                assertions: r.map_with(12, Reader::blob, |r| Ok((r.blob()?, r.s32()?)))?,
            },
            opcode::OMAP_SET_VALS => Operation::OmapSet { entries: r.map()? },
            opcode::OMAP_SET_HEADER => Operation::OmapSetHeader { header: data() },
            opcode::OMAP_CLEAR => Operation::OmapClear,
            opcode::OMAP_RM_KEYS => Operation::OmapRemove { keys: r.set()? },
            opcode::OMAP_RM_KEY_RANGE => Operation::OmapRemoveRange { first: r.blob()?, end: r.blob()? },
            _ => Operation::Unsupported,
        })
    }

    /// Attribute ops: the payload is the name, then the value, without lengths of their own.
    fn parse_attr(&self, mut r: Reader) -> Result<Operation, DecodeError> {
        let length = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let name = r.raw_bytes(length(self.u32_at(0)))?;
        Ok(match self.code {
            opcode::GETXATTR => Operation::GetAttr { name },
            opcode::RMXATTR => Operation::RemoveAttr { name },
            opcode::SETXATTR => Operation::SetAttr { name, value: r.raw_bytes(length(self.u32_at(4)))? },
            _ => {
                let value = r.raw_bytes(length(self.u32_at(4)))?;
                let Some(relation) = Relation::from_code(u32::from(self.args[8])) else {
                    return Err(r.error("a relation from 1 to 6", self.args[8].to_string()));
                };
                let operand = match self.args[9] {
                    1 => AttrOperand::Text(value),
                    2 => AttrOperand::Number(Reader::new("attribute operand", value).u64()?),
                    mode => return Err(r.error("comparison mode 1 or 2", mode.to_string())),
                };
                Operation::CompareAttr { name, relation, operand }
            }
        })
    }
}
