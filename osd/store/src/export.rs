//! Exports: a placement group or an object as a file, to be taken into another store. See FORMAT.md.
//!
//! An export is a list of transactions that make what was exported, in frames that are numbered by their checksums, so that
//! a frame that is damaged, missing, or out of place is noticed, and so is an end that is cut off.

pub(crate) mod fuzzing;

use std::io::{self, Read, Write};

use bytes::Bytes;
use uuid::Uuid;

use crate::codec::{DecodeError, DecodeResult, Decoder, Encoder};
use crate::limits::EXPORT_FRAME_BYTES_MAX;
use crate::transaction::Transaction;
use crate::types::{CollectionId, ObjectId};

/// What an export begins with.
const MAGIC: &[u8; 16] = b"spirula export 1";
const HEADER: u8 = 1;
const TRANSACTION: u8 = 2;
const END: u8 = 3;
const LEFT_OUT: u8 = 4;

/// What an export is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportHeader {
    /// The cluster.
    pub fsid: Uuid,
    /// The placement group.
    pub group: CollectionId,
    /// How many bits of the hash its objects share.
    pub bits: u8,
    /// The only object, if it is not the whole group.
    pub object: Option<ObjectId>,
}

/// One part of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportFrame {
    /// The first.
    Header(ExportHeader),
    /// Changes to make.
    Transaction(Transaction),
    /// An object that could not be read, and of which nothing is there after the last.
    LeftOut(ObjectId),
    /// The last.
    End {
        /// Transactions before it.
        transactions: u64,
    },
}

/// Why an export cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is no export: it begins with {0:?}")]
    Foreign(String),
    /// It ends within a frame, or before the last.
    #[error("it is cut off in frame {frame}, which begins at byte {at}")]
    Short {
        /// Which frame.
        frame: u64,
        /// Where that begins.
        at: u64,
    },
    /// A frame is not what was written.
    #[error("frame {frame} at byte {at} is damaged: {problem}")]
    Damaged {
        /// Which frame.
        frame: u64,
        /// Where it begins.
        at: u64,
        /// What is wrong with it.
        problem: String,
    },
}

impl ExportFrame {
    fn kind(&self) -> u8 {
        match self {
            Self::Header(_) => HEADER,
            Self::Transaction(_) => TRANSACTION,
            Self::LeftOut(_) => LEFT_OUT,
            Self::End { .. } => END,
        }
    }

    fn encode(&self) -> Bytes {
        let mut e = Encoder::new();
        match self {
            Self::Header(header) => {
                e.raw(header.fsid.as_bytes());
                e.i64(header.group.pool);
                e.u32(header.group.seed);
                e.u8(header.bits);
                e.u8(header.object.is_some().into());
                if let Some(object) = &header.object {
                    object.encode(&mut e);
                }
            }
            Self::Transaction(transaction) => return transaction.encode(),
            Self::LeftOut(object) => object.encode(&mut e),
            Self::End { transactions } => e.u64(*transactions),
        }
        e.into_bytes()
    }

    fn decode(kind: u8, body: Bytes) -> DecodeResult<Self> {
        let mut d = Decoder::new(body.clone());
        let frame = match kind {
            HEADER => Self::Header(ExportHeader {
                fsid: d.raw(16, "fsid").map(|bytes| Uuid::from_slice(&bytes).unwrap_or_default())?,
                group: CollectionId { pool: d.i64("pool")?, seed: d.u32("seed")? },
                bits: d.u8("bits")?,
                object: match d.u8("whether an object follows")? {
                    0 => None,
                    1 => Some(ObjectId::decode(&mut d)?),
                    other => return d.invalid("whether an object follows", 29, other.into()),
                },
            }),
            TRANSACTION => return Transaction::decode(body).map(Self::Transaction),
            LEFT_OUT => Self::LeftOut(ObjectId::decode(&mut d)?),
            END => Self::End { transactions: d.u64("transactions")? },
            other => return Err(DecodeError::Value { what: "kind of a frame", at: 0, value: other.into() }),
        };
        d.end("frame")?;
        Ok(frame)
    }
}

/// The checksum of a frame: its number, and what is stored before the checksum.
fn checksum(frame: u64, head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&frame.to_le_bytes()), head), body)
}

/// Writes an export.
pub struct ExportWriter<W> {
    out: W,
    frames: u64,
    transactions: u64,
}

impl<W: Write> ExportWriter<W> {
    /// Begins one.
    pub fn new(mut out: W, header: ExportHeader) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        let mut writer = Self { out, frames: 0, transactions: 0 };
        writer.write(&ExportFrame::Header(header))?;
        Ok(writer)
    }

    /// Adds changes, which must fit in a frame: about 16 MiB.
    pub fn transaction(&mut self, transaction: Transaction) -> io::Result<()> {
        self.write(&ExportFrame::Transaction(transaction))?;
        self.transactions += 1;
        Ok(())
    }

    /// Notes that an object is not in it.
    pub fn left_out(&mut self, object: ObjectId) -> io::Result<()> {
        self.write(&ExportFrame::LeftOut(object))
    }

    /// Ends it; gives what it was written to.
    pub fn end(mut self) -> io::Result<W> {
        let transactions = self.transactions;
        self.write(&ExportFrame::End { transactions })?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn write(&mut self, frame: &ExportFrame) -> io::Result<()> {
        let body = frame.encode();
        let Some(length) = u32::try_from(body.len()).ok().filter(|_| body.len() <= EXPORT_FRAME_BYTES_MAX)
        else {
            let problem =
                format!("{} bytes in a frame of an export: at most {EXPORT_FRAME_BYTES_MAX}", body.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        };
        let mut head = Encoder::with_capacity(5);
        head.u8(frame.kind());
        head.u32(length);
        let checksum = checksum(self.frames, head.as_slice(), &body);
        self.out.write_all(head.as_slice())?;
        self.out.write_all(&body)?;
        self.out.write_all(&checksum.to_le_bytes())?;
        self.frames += 1;
        Ok(())
    }
}

/// Reads an export.
pub struct ExportReader<R> {
    input: R,
    frames: u64,
    transactions: u64,
    left_out: Vec<ObjectId>,
    at: u64,
    ended: bool,
}

impl<R: Read> ExportReader<R> {
    /// Begins to read one; gives what it is of.
    pub fn new(mut input: R) -> Result<(Self, ExportHeader), ExportError> {
        let mut magic = Vec::new();
        input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if magic != MAGIC {
            return Err(ExportError::Foreign(magic.escape_ascii().to_string()));
        }
        let (left_out, at) = (Vec::new(), MAGIC.len() as u64);
        let mut reader = Self { input, frames: 0, transactions: 0, left_out, at, ended: false };
        match reader.frame()? {
            ExportFrame::Header(header) => Ok((reader, header)),
            _ => Err(ExportError::Damaged {
                frame: 0,
                at: MAGIC.len() as u64,
                problem: "it does not say what the export is of".to_owned(),
            }),
        }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The objects that it says are not in it, of what was read so far: all of them at the end.
    pub fn left_out(&self) -> &[ObjectId] {
        &self.left_out
    }

    /// The next transaction; none at the end, which is the end of the file.
    pub fn next_transaction(&mut self) -> Result<Option<Transaction>, ExportError> {
        while !self.ended {
            let (frame, at) = (self.frames, self.at);
            let damaged = |problem: &str| ExportError::Damaged { frame, at, problem: problem.to_owned() };
            match self.frame()? {
                ExportFrame::Header(_) => return Err(damaged("an export begins within another")),
                ExportFrame::Transaction(transaction) => {
                    self.transactions += 1;
                    return Ok(Some(transaction));
                }
                ExportFrame::LeftOut(object) => self.left_out.push(object),
                ExportFrame::End { transactions } if transactions != self.transactions => {
                    return Err(damaged("it counts other transactions than there are"));
                }
                ExportFrame::End { .. } => {
                    if self.input.read(&mut [0])? > 0 {
                        return Err(damaged("more follows after the end"));
                    }
                    self.ended = true;
                }
            }
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<ExportFrame, ExportError> {
        let (frame, at) = (self.frames, self.at);
        let damaged = |problem: String| ExportError::Damaged { frame, at, problem };
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        if length > EXPORT_FRAME_BYTES_MAX {
            return Err(damaged(format!("{length} bytes: at most {EXPORT_FRAME_BYTES_MAX}")));
        }
        // As much memory as there are bytes, whatever the length claims.
        let mut body = Vec::new();
        self.input.by_ref().take(length as u64).read_to_end(&mut body)?;
        if body.len() < length {
            return Err(ExportError::Short { frame, at });
        }
        let mut stored = [0; 4];
        self.fill(&mut stored)?;
        let (stored, computed) = (u32::from_le_bytes(stored), checksum(frame, &head, &body));
        if stored != computed {
            return Err(damaged(format!("checksum {stored:#010x} is stored, {computed:#010x} is right")));
        }
        let decoded = ExportFrame::decode(kind, body.into()).map_err(|error| damaged(error.to_string()))?;
        self.frames += 1;
        self.at += 9 + length as u64;
        Ok(decoded)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ExportError> {
        let (frame, at) = (self.frames, self.at);
        self.input.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ExportError::Short { frame, at },
            _ => ExportError::Io(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{Generator, Shape};

    fn header() -> ExportHeader {
        let fsid = Uuid::from_u128(7);
        ExportHeader { fsid, group: CollectionId { pool: 3, seed: 9 }, bits: 5, object: None }
    }

    fn sample() -> (Vec<Transaction>, Vec<u8>) {
        let mut generator = Generator::new(1, Shape { write_bytes: 300, ..Shape::default() });
        let all: Vec<_> = (0..5).map(|_| generator.transaction()).collect();
        let mut writer = ExportWriter::new(Vec::new(), header()).unwrap();
        all.iter().for_each(|one| writer.transaction(one.clone()).unwrap());
        (all, writer.end().unwrap())
    }

    fn read(bytes: &[u8]) -> Result<(ExportHeader, Vec<Transaction>), ExportError> {
        let (mut reader, header) = ExportReader::new(bytes)?;
        let mut all = Vec::new();
        while let Some(one) = reader.next_transaction()? {
            all.push(one);
        }
        assert_eq!(reader.position(), bytes.len() as u64);
        Ok((header, all))
    }

    #[test]
    fn what_was_written_is_read() {
        let (all, bytes) = sample();
        assert_eq!(read(&bytes).unwrap(), (header(), all.clone()));
        let object = ObjectId {
            pool: 3,
            hash: 9,
            namespace: Bytes::new(),
            key: Bytes::new(),
            name: "one".into(),
            snap: ObjectId::HEAD,
        };
        let mut writer = ExportWriter::new(Vec::new(), header()).unwrap();
        writer.left_out(object.clone()).unwrap();
        writer.transaction(all[0].clone()).unwrap();
        writer.left_out(object.clone()).unwrap();
        let bytes = writer.end().unwrap();
        let (mut reader, _) = ExportReader::new(&bytes[..]).unwrap();
        assert_eq!(reader.next_transaction().unwrap().as_ref(), all.first());
        assert_eq!(reader.next_transaction().unwrap(), None);
        assert_eq!(reader.left_out(), [object.clone(), object.clone()]);
        let of_one = ExportHeader { object: Some(object), ..header() };
        let bytes = ExportWriter::new(Vec::new(), of_one.clone()).unwrap().end().unwrap();
        assert_eq!(read(&bytes).unwrap(), (of_one, Vec::new()));
    }

    #[test]
    fn whatever_is_damaged_is_noticed() {
        let (_, bytes) = sample();
        for len in 0..bytes.len() {
            let error = read(&bytes[..len]).unwrap_err();
            assert!(matches!(error, ExportError::Short { .. }) || len < MAGIC.len(), "{len}: {error}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            read(&damaged).unwrap_err();
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(read(&longer).unwrap_err().to_string().contains("more follows"));
        assert!(read(b"#!/bin/sh\nexit 0\n").unwrap_err().to_string().contains("no export"));
    }

    #[test]
    fn frames_out_of_place_are_noticed() {
        let mut writer = ExportWriter::new(Vec::new(), header()).unwrap();
        let mut ends = vec![writer.out.len()];
        for collection in 1..4u32 {
            let collection = CollectionId { pool: 3, seed: collection };
            let ops = vec![crate::transaction::Op::RemoveCollection { collection }];
            writer.transaction(Transaction { ops }).unwrap();
            ends.push(writer.out.len());
        }
        let bytes = writer.end().unwrap();
        let without = [&bytes[..ends[1]], &bytes[ends[2]..]].concat();
        assert!(read(&without).unwrap_err().to_string().contains("frame 2"));
        let swapped =
            [&bytes[..ends[0]], &bytes[ends[1]..ends[2]], &bytes[ends[0]..ends[1]], &bytes[ends[2]..]]
                .concat();
        assert!(read(&swapped).unwrap_err().to_string().contains("frame 1"));
    }
}
