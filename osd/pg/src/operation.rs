//! One op of a request, decoded.
//!
//! Decoding is per op and happens when its turn comes, so that a malformed op fails where it stands and those before
//! it have their results.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire::codec::{DecodeError, Reader};
use wire::msg::{AccessKind, Op, OpArgs, OpCode, OpFlags};

use crate::classes::Method;
use wire::Errno;

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
    Call {
        method: Method,
        input: Bytes,
    },
    /// Known to nobody here.
    Unsupported,
}

/// Whether the op may change the object. For a CALL its method decides; of an unknown one the request is refused.
pub fn may_write(op: &Op) -> bool {
    match op.code.access() {
        AccessKind::Write | AccessKind::ReadWrite => true,
        _ if op.code == OpCode::CALL => Method::of(op).is_ok_and(|(method, _)| method.may_write()),
        _ => false,
    }
}

impl Operation {
    /// Decodes an op. Malformed ones are invalid arguments, as in Ceph.
    pub fn decode(op: &Op) -> Result<Self, Errno> {
        if op.code == OpCode::CALL {
            let (method, input) = Method::of(op)?;
            return Ok(Self::Call { method, input });
        }
        parse(op).map_err(|_malformed| Errno::EINVAL)
    }
}

fn parse(op: &Op) -> Result<Operation, DecodeError> {
    let extent = extent_of(op.args());
    let input = op.data.to_bytes();
    let mut r = Reader::new("op payload", input.clone());
    Ok(match (op.code, op.args()) {
        (OpCode::READ | OpCode::SYNC_READ, _) => Operation::Read(extent),
        (OpCode::SPARSE_READ, _) => Operation::SparseRead(extent),
        (OpCode::MAPEXT, _) => Operation::MapExtents(extent),
        (OpCode::STAT, _) => Operation::Stat,
        (OpCode::CHECKSUM, OpArgs::Checksum { offset, length, chunk_size, algorithm }) => {
            Operation::Checksum { offset, length, chunk_size, kind: algorithm, init: input }
        }
        (OpCode::CMPEXT, _) => Operation::CompareExtent { extent, data: input },
        (OpCode::ASSERT_VERSION, OpArgs::AssertVersion { version }) => Operation::AssertVersion(version),
        (OpCode::LIST_WATCHERS, _) => Operation::ListWatchers,
        (OpCode::LIST_SNAPS, _) => Operation::ListSnaps,
        (OpCode::WRITE, _) => Operation::Write { extent, data: input },
        (OpCode::WRITE_FULL, _) => Operation::WriteFull { length: extent.length, data: input },
        (OpCode::APPEND, _) => Operation::Append { length: extent.length, data: input },
        (OpCode::WRITE_SAME, OpArgs::WriteSame { offset, length, pattern_length }) => {
            Operation::WriteSame { offset, length, pattern_length, pattern: input }
        }
        (OpCode::ZERO, _) => Operation::Zero(extent),
        (OpCode::TRUNCATE, _) => Operation::Truncate(extent),
        //= ceph 16.2 osd: TRIMTRUNC is TRUNCATE to the truncate size
        (OpCode::TRIM_TRUNC, _) => Operation::Truncate(Extent { offset: extent.truncate_size, ..extent }),
        (OpCode::DELETE, _) => Operation::Delete,
        (OpCode::CREATE, _) => {
            if !input.is_empty() {
                // A category that nothing has used since 2014, but it must be well formed.
                r.blob()?;
            }
            Operation::Create { exclusive: op.flags.contains(OpFlags::EXCLUSIVE) }
        }
        (OpCode::SET_ALLOC_HINT, OpArgs::AllocHint { object_size, write_size, flags }) => {
            Operation::SetAllocHint { object_size, write_size, flags }
        }
        (OpCode::GETXATTRS, _) => Operation::GetAttrs,
        (_, OpArgs::Xattr { name_length, value_length, compare_op, compare_mode }) => {
            parse_attr(op.code, r, [name_length, value_length], [compare_op, compare_mode])?
        }
        (OpCode::OMAP_GET_KEYS, _) => Operation::OmapGetKeys { start_after: r.blob()?, max: r.u64()? },
        (OpCode::OMAP_GET_VALUES, _) => {
            Operation::OmapGetVals { start_after: r.blob()?, max: r.u64()?, prefix: r.blob()? }
        }
        (OpCode::OMAP_GET_HEADER, _) => Operation::OmapGetHeader,
        (OpCode::OMAP_GET_VALUES_BY_KEYS, _) => Operation::OmapGetValsByKeys { keys: r.set()? },
        (OpCode::OMAP_CMP, _) => Operation::OmapCompare {
            assertions: r.map_with(12, Reader::blob, |r| Ok((r.blob()?, r.s32()?)))?,
        },
        (OpCode::OMAP_SET_VALUES, _) => Operation::OmapSet { entries: r.map()? },
        (OpCode::OMAP_SET_HEADER, _) => Operation::OmapSetHeader { header: input },
        (OpCode::OMAP_CLEAR, _) => Operation::OmapClear,
        (OpCode::OMAP_REMOVE_KEYS, _) => Operation::OmapRemove { keys: r.set()? },
        (OpCode::OMAP_REMOVE_KEY_RANGE, _) => Operation::OmapRemoveRange { first: r.blob()?, end: r.blob()? },
        _ => Operation::Unsupported,
    })
}

/// Attribute ops: the payload is the name, then the value, without lengths of their own.
fn parse_attr(
    code: OpCode,
    mut r: Reader,
    lengths: [u32; 2],
    compare: [u8; 2],
) -> Result<Operation, DecodeError> {
    let [name_length, value_length] = lengths.map(|one| usize::try_from(one).unwrap_or(usize::MAX));
    let name = r.raw_bytes(name_length)?;
    Ok(match code {
        OpCode::GETXATTR => Operation::GetAttr { name },
        OpCode::RMXATTR => Operation::RemoveAttr { name },
        OpCode::SETXATTR => Operation::SetAttr { name, value: r.raw_bytes(value_length)? },
        OpCode::CMPXATTR => {
            let value = r.raw_bytes(value_length)?;
            let [relation, mode] = compare;
            let Some(relation) = Relation::from_code(u32::from(relation)) else {
                return Err(r.error("a relation from 1 to 6", relation.to_string()));
            };
            let operand = match mode {
                1 => AttrOperand::Text(value),
                2 => AttrOperand::Number(Reader::new("attribute operand", value).u64()?),
                mode => return Err(r.error("comparison mode 1 or 2", mode.to_string())),
            };
            Operation::CompareAttr { name, relation, operand }
        }
        _ => Operation::Unsupported,
    })
}

/// The range; an empty one for ops of another kind.
fn extent_of(args: OpArgs) -> Extent {
    match args {
        OpArgs::Extent { offset, length, truncate_size, truncate_seq } => {
            Extent { offset, length, truncate_size, truncate_seq }
        }
        _ => Extent::default(),
    }
}
