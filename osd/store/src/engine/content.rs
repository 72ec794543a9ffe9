//! The bytes of one shard while a transaction changes them: what stays where it is stored, and what is new. Pure.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use crate::check::length;
use crate::shard::{Piece, Shard};

/// Where a part's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// They are on the device.
    Stored {
        /// Address of the blob.
        blob: u64,
        /// Where in the blob.
        blob_offset: u32,
    },
    /// They came with the transaction.
    New(Bytes),
}

/// Some bytes of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes.
    pub len: u64,
    /// Where they come from.
    pub source: Source,
}

/// A shard being changed. Parts do not overlap; what no part covers is a hole.
#[derive(Clone, Debug)]
pub struct Content {
    /// The shard as it is stored; empty if it is not.
    pub base: Rc<Shard>,
    /// By logical offset.
    pub parts: BTreeMap<u64, Part>,
}

impl Content {
    /// What `base` holds.
    pub fn of(base: Rc<Shard>) -> Self {
        let part = |piece: &Piece| Part {
            len: piece.len.into(),
            source: Source::Stored { blob: piece.blob, blob_offset: piece.blob_offset },
        };
        let parts = base.pieces.iter().map(|(at, piece)| (*at, part(piece))).collect();
        Self { base, parts }
    }

    /// Makes `[start, end)` a hole.
    pub fn punch(&mut self, start: u64, end: u64) {
        let touched: Vec<u64> =
            self.parts.range(..end).filter(|(at, part)| **at + part.len > start).map(|(at, _)| *at).collect();
        for at in touched {
            let Some(part) = self.parts.remove(&at) else { continue };
            let part_end = at + part.len;
            if at < start {
                self.parts.insert(at, part.cut(0, start - at));
            }
            if part_end > end {
                self.parts.insert(end, part.cut(end - at, part_end - end));
            }
        }
    }

    /// Replaces bytes.
    pub fn write(&mut self, at: u64, data: Bytes) {
        let len = length(&data);
        if len > 0 {
            self.punch(at, at + len);
            self.parts.insert(at, Part { len, source: Source::New(data) });
        }
    }

    /// The parts cut at block borders, as (logical offset, part).
    pub fn by_block(&self, block: u64) -> impl Iterator<Item = (u64, Part)> {
        self.parts.iter().flat_map(move |(at, part)| {
            let (start, end) = (*at, at + part.len);
            let first = start / block;
            let last = (end - 1) / block;
            (first..=last).map(move |number| {
                let from = start.max(number * block);
                let to = end.min((number + 1) * block);
                (from, part.cut(from - start, to - from))
            })
        })
    }
}

impl Part {
    /// `len` bytes from `offset` of this part.
    pub fn cut(&self, offset: u64, len: u64) -> Self {
        let source = match &self.source {
            Source::Stored { blob, blob_offset } => {
                Source::Stored { blob: *blob, blob_offset: blob_offset + narrow(offset) }
            }
            Source::New(data) => Source::New(data.slice(index(offset)..index(offset + len))),
        };
        Self { len, source }
    }
}

fn narrow(value: u64) -> u32 {
    let Ok(value) = u32::try_from(value) else { panic!("{value} bytes within a shard") };
    value
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Blob;

    #[test]
    fn parts_are_replaced_and_cut() {
        let base = Shard {
            blobs: BTreeMap::from([(8192, Blob { birth: 1, checksums: vec![1, 2, 3] })]),
            pieces: BTreeMap::from([(0, Piece { len: 12_288, blob: 8192, blob_offset: 0 })]),
        };
        let mut content = Content::of(Rc::new(base));
        content.write(100, Bytes::from(vec![1; 5000]));
        content.punch(5000, 6000);
        content.write(5500, Bytes::new());
        let parts: Vec<_> = content.parts.iter().map(|(at, part)| (*at, part.len)).collect();
        assert_eq!(parts, [(0, 100), (100, 4900), (6000, 6288)]);
        let stored = Source::Stored { blob: 8192, blob_offset: 6000 };
        assert_eq!(content.parts[&6000].source, stored);
        let blocks: Vec<_> = content.by_block(4096).map(|(at, part)| (at, part.len)).collect();
        assert_eq!(blocks, [(0, 100), (100, 3996), (4096, 904), (6000, 2192), (8192, 4096)]);
    }
}
