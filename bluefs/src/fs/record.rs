//! [`Record`]: one change of the metadata as it stands in the log.

use allocator::Extent;

use crate::fs::codec::{Decoder, Encoder};
use crate::fs::error::{FsError, FsResult};
use crate::fs::limits::RECORD_EXTENTS_MAX;

/// Number of a file; never used twice in a file system's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

/// See the module. `FORMAT.md` has the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Record {
    /// Space lent to the file system.
    AddSpace {
        extent: Extent,
    },
    /// Space given back to its lender; no file or log uses any of it.
    RemoveSpace {
        extent: Extent,
    },
    DirCreate {
        dir: String,
    },
    DirRemove {
        dir: String,
    },
    /// A new, empty file.
    FileCreate {
        ino: Ino,
        dir: String,
        name: String,
    },
    /// The file's allocation grows from `allocated_before` by `extents`; its size becomes `size`.
    FileAppend {
        ino: Ino,
        allocated_before: u64,
        size: u64,
        extents: Vec<Extent>,
    },
    /// Size and allocation shrink.
    FileTruncate {
        ino: Ino,
        size: u64,
        allocated: u64,
    },
    /// The file changes its name; a file that had the new name is gone.
    Rename {
        dir: String,
        name: String,
        to_dir: String,
        to_name: String,
    },
    Unlink {
        dir: String,
        name: String,
    },
    /// What the file has from `at` of its allocation on, as many bytes as `extents` hold, lies in these now. Only where there
    /// is a fast space.
    FileMove {
        ino: Ino,
        at: u64,
        extents: Vec<Extent>,
    },
    /// Numbers below this were given out already: in a snapshot, so that deleted files' are not used again.
    NextIno {
        next: u64,
    },
}

impl Record {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::AddSpace { extent } => {
                out.u8(1);
                out.extent(*extent);
            }
            Self::RemoveSpace { extent } => {
                out.u8(2);
                out.extent(*extent);
            }
            Self::DirCreate { dir } => {
                out.u8(3);
                out.name(dir);
            }
            Self::DirRemove { dir } => {
                out.u8(4);
                out.name(dir);
            }
            Self::FileCreate { ino, dir, name } => {
                out.u8(5);
                out.u64(ino.0);
                out.name(dir);
                out.name(name);
            }
            Self::FileAppend { ino, allocated_before, size, extents } => {
                out.u8(6);
                out.u64(ino.0);
                out.u64(*allocated_before);
                out.u64(*size);
                out.extents(extents);
            }
            Self::FileTruncate { ino, size, allocated } => {
                out.u8(7);
                out.u64(ino.0);
                out.u64(*size);
                out.u64(*allocated);
            }
            Self::Rename { dir, name, to_dir, to_name } => {
                out.u8(8);
                [dir, name, to_dir, to_name].iter().for_each(|part| out.name(part));
            }
            Self::Unlink { dir, name } => {
                out.u8(9);
                out.name(dir);
                out.name(name);
            }
            Self::FileMove { ino, at, extents } => {
                out.u8(11);
                out.u64(ino.0);
                out.u64(*at);
                out.extents(extents);
            }
            Self::NextIno { next } => {
                out.u8(10);
                out.u64(*next);
            }
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> FsResult<Self> {
        Ok(match from.u8()? {
            1 => Self::AddSpace { extent: from.extent()? },
            2 => Self::RemoveSpace { extent: from.extent()? },
            3 => Self::DirCreate { dir: from.name()? },
            4 => Self::DirRemove { dir: from.name()? },
            5 => Self::FileCreate { ino: Ino(from.u64()?), dir: from.name()?, name: from.name()? },
            6 => Self::FileAppend {
                ino: Ino(from.u64()?),
                allocated_before: from.u64()?,
                size: from.u64()?,
                extents: from.extents(RECORD_EXTENTS_MAX)?,
            },
            7 => Self::FileTruncate { ino: Ino(from.u64()?), size: from.u64()?, allocated: from.u64()? },
            8 => Self::Rename {
                dir: from.name()?,
                name: from.name()?,
                to_dir: from.name()?,
                to_name: from.name()?,
            },
            9 => Self::Unlink { dir: from.name()?, name: from.name()? },
            10 => Self::NextIno { next: from.u64()? },
            11 => Self::FileMove {
                ino: Ino(from.u64()?),
                at: from.u64()?,
                extents: from.extents(RECORD_EXTENTS_MAX)?,
            },
            kind => return Err(FsError::Unsupported { what: format!("log record of kind {kind}") }),
        })
    }

    /// All records of a group's payload, which may be any bytes.
    pub fn decode_all(payload: &[u8]) -> FsResult<Vec<Self>> {
        let mut from = Decoder::new(payload);
        let mut records = Vec::new();
        while !from.is_empty() {
            records.push(Self::decode(&mut from)?);
        }
        Ok(records)
    }

    /// A group's payload: what [`Record::decode_all`] takes apart again.
    pub fn encode_all<'a>(records: impl IntoIterator<Item = &'a Self>) -> Vec<u8> {
        let mut out = Encoder::default();
        records.into_iter().for_each(|record| record.encode(&mut out));
        out.bytes
    }
}
