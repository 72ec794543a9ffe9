//! The bytes of one shard while a transaction changes them: what stays where it is stored, and what is new. Pure.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

use crate::check::length;
use crate::shard::{Piece, Place, Shard};
use crate::sorted::Sorted;

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
    /// They are another object's, on the device, and are copied.
    Foreign {
        /// The shard that has them, as it is stored.
        shard: Rc<Shard>,
        /// Address of the blob.
        blob: u64,
        /// Where in the blob.
        blob_offset: u32,
    },
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
    /// The shard as it is stored, empty if it is not; with what is shared with another object in its place.
    pub base: Rc<Shard>,
    /// The shard as the object itself has it stored; none if the object is a clone.
    own: Option<Rc<Shard>>,
    /// By logical offset.
    pub parts: Sorted<Part>,
    /// What is stored of it, another object of the transaction has too: one is a clone of the other.
    pub is_copied: bool,
    /// It goes into the shard itself; all of it is new then.
    pub is_inline: bool,
    /// What is stored in these ranges of the object is to move.
    pub moved: Vec<Range<u64>>,
}

impl Content {
    /// The `block` bytes from `logical` on, if all of them are new and lie in one.
    pub fn new_block(&self, logical: u64, block: usize) -> Option<&[u8]> {
        let end = logical + u64::try_from(block).unwrap_or(u64::MAX);
        let (at, part) = self.parts.range_and_before(logical, end).last()?;
        let Source::New(data) = &part.source else { return None };
        if *at > logical || at + part.len < end {
            return None;
        }
        let from = usize::try_from(logical - at).unwrap_or(usize::MAX);
        data.get(from..from.checked_add(block)?)
    }

    /// What `base` holds.
    pub fn of(base: Rc<Shard>) -> Self {
        let part = |piece: &Piece| Part {
            len: piece.len.into(),
            source: Source::Stored { blob: piece.blob, blob_offset: piece.blob_offset },
        };
        let stored = base.pieces.iter().map(|(at, piece)| (*at, part(piece)));
        // What is in the shard itself is written anew with whatever changes.
        let inline = base.inline.iter().map(|(at, bytes)| (*at, Part::new(bytes.clone())));
        let parts = stored.chain(inline).collect();
        let (own, moved) = (Some(Rc::clone(&base)), Vec::new());
        Self { own, base, parts, is_copied: false, is_inline: false, moved }
    }

    /// The shard as the object itself has it stored.
    pub fn own(&self) -> Option<&Shard> {
        self.own.as_deref()
    }

    /// Whether some of what the base has is not the object's own.
    pub fn borrows(&self) -> bool {
        self.own.as_ref().is_none_or(|own| !Rc::ptr_eq(own, &self.base))
    }

    /// The same content for another object.
    pub fn copy(&mut self) -> Self {
        self.is_copied = true;
        Self { own: None, moved: Vec::new(), ..self.clone() }
    }

    /// Makes `[start, end)` a hole.
    pub fn punch(&mut self, start: u64, end: u64) {
        self.replace(start, end, None);
    }

    /// Replaces bytes.
    pub fn write(&mut self, at: u64, data: Bytes) {
        let len = length(&data);
        if len > 0 {
            self.replace(at, at + len, Some(Part::new(data)));
        }
    }

    /// Puts a part in the place of what is there.
    pub fn put(&mut self, at: u64, part: Part) {
        self.replace(at, at + part.len, Some(part));
    }

    /// Puts a part, or a hole, in the place of what is in a range.
    fn replace(&mut self, start: u64, end: u64, with: Option<Part>) {
        let touched = self.parts.range_and_before(start, end);
        // Of the first and the last that reach into the range, what is outside stays.
        let mut first = start;
        let mut left = None;
        let mut right = None;
        for (at, part) in touched {
            let part_end = at + part.len;
            if *at < start && part_end > start {
                first = *at;
                left = Some((*at, part.cut(0, start - at)));
            }
            if part_end > end && *at < end {
                right = Some((end, part.cut(end - at, part_end - end)));
            }
        }
        let with = with.map(|part| (start, part));
        self.parts.splice(first, end, left.into_iter().chain(with).chain(right));
    }

    /// Whether all of it is new.
    pub fn is_new(&self) -> bool {
        self.parts.values().all(|part| matches!(part.source, Source::New(_)))
    }

    /// Where the last part ends; 0 if there is none.
    pub fn end(&self) -> u64 {
        self.parts.iter().last().map_or(0, |(at, part)| at + part.len)
    }

    /// Bytes that are new.
    pub fn new_bytes(&self) -> u64 {
        let is_new = |part: &&Part| matches!(part.source, Source::New(_));
        self.parts.values().filter(is_new).map(|part| part.len).sum()
    }

    /// Bytes that go into the shard itself.
    pub fn inline_bytes(&self) -> u64 {
        if self.is_inline { self.new_bytes() } else { 0 }
    }

    /// These bytes, in one piece where one part follows another, and in memory of their own.
    pub fn inline(&self) -> Sorted<Bytes> {
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for (at, part) in self.parts.iter() {
            let Source::New(data) = &part.source else {
                panic!("inline bytes that are on the device: {part:?}")
            };
            match runs.last_mut() {
                Some((start, run)) if *start + length(run) == *at => run.extend_from_slice(data),
                _ => runs.push((*at, data.to_vec())),
            }
        }
        runs.into_iter().map(|(at, run)| (at, Bytes::from(run))).collect()
    }

    /// Bytes that are another object's, by block: the shard and the place in it.
    pub fn foreign_places(&self, block: u64) -> impl Iterator<Item = (&Shard, Place)> {
        self.parts.iter().filter_map(|(_, part)| part.foreign()).flat_map(move |(shard, piece)| {
            let (first, last) = piece.blocks(block);
            (first..=last).map(move |number| {
                let number = u64::try_from(number).unwrap_or(u64::MAX);
                match shard.block_of(piece.blob_offset.into(), &piece, number, block) {
                    Some(place) => (shard, place),
                    None => panic!("a piece refers to no block: {piece:?}"),
                }
            })
        })
    }

    /// Blocks that hold bytes to be written, by logical offset, ascending.
    pub fn changed_blocks(&self, block: u64) -> Vec<u64> {
        let mut found: Vec<u64> = Vec::new();
        for (at, part) in self.parts.iter().filter(|(_, part)| !part.is_stored()) {
            for number in at / block..=(at + part.len - 1) / block {
                if found.last() != Some(&(number * block)) {
                    found.push(number * block);
                }
            }
        }
        found
    }

    /// Whether stored bytes stay in the block at `logical`.
    pub fn keeps(&self, logical: u64, block: u64) -> bool {
        let is_kept = |(at, part): &(u64, Part)| at + part.len > logical && part.is_stored();
        self.parts.range_and_before(logical, logical + block).iter().any(is_kept)
    }

    /// Logical blocks in which stored bytes stay, ascending, and the blob that has them.
    pub fn stored_blocks(&self, block: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut next = 0;
        let stored = self.parts.iter().filter_map(|(at, part)| match part.source {
            Source::Stored { blob, .. } => Some((*at, part.len, blob)),
            _ => None,
        });
        stored.flat_map(move |(at, len, blob)| {
            let (first, end) = (next.max(at / block), (at + len - 1) / block + 1);
            next = next.max(end);
            (first..end).map(move |number| (number * block, blob))
        })
    }

    /// Logical blocks that are to move, ascending: of blobs that the object has alone, as they are.
    pub fn moved_blocks(&self, block: u64) -> Vec<u64> {
        if self.is_copied || self.moved.is_empty() {
            return Vec::new();
        }
        let is_meant = |logical: u64| {
            self.moved.iter().any(|range| range.start < logical + block && logical < range.end)
        };
        let is_own = |blob: u64| {
            self.base.blobs.get(blob).is_some_and(|blob| blob.share.is_none() && blob.packed.is_none())
        };
        let stored = self.stored_blocks(block);
        stored
            .filter(|(logical, blob)| is_meant(*logical) && is_own(*blob))
            .map(|(logical, _)| logical)
            .collect()
    }

    /// Into how many pieces block borders cut the parts.
    pub fn pieces_max(&self, block: u64) -> u64 {
        self.parts.iter().map(|(at, part)| (at + part.len - 1) / block - at / block + 1).sum()
    }
}

impl Part {
    /// Bytes that came with the transaction.
    fn new(data: Bytes) -> Self {
        Self { len: length(&data), source: Source::New(data) }
    }

    /// Whether the bytes are where they are wanted.
    pub fn is_stored(&self) -> bool {
        matches!(self.source, Source::Stored { .. })
    }

    /// Where the bytes are, if they are another object's.
    fn foreign(&self) -> Option<(&Shard, Piece)> {
        match &self.source {
            Source::Foreign { shard, blob, blob_offset } => {
                let piece = Piece { len: narrow(self.len), blob: *blob, blob_offset: *blob_offset };
                Some((shard, piece))
            }
            _ => None,
        }
    }

    /// `len` bytes from `offset` of this part.
    pub fn cut(&self, offset: u64, len: u64) -> Self {
        let source = match &self.source {
            Source::Stored { blob, blob_offset } => {
                Source::Stored { blob: *blob, blob_offset: blob_offset + narrow(offset) }
            }
            Source::New(data) => Source::New(data.slice(index(offset)..index(offset + len))),
            Source::Foreign { shard, blob, blob_offset } => Source::Foreign {
                shard: Rc::clone(shard),
                blob: *blob,
                blob_offset: blob_offset + narrow(offset),
            },
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
    use crate::checksum::{ChecksumKind, Checksums};
    use crate::shard::Blob;

    #[test]
    fn parts_are_replaced_and_cut() {
        let base = Shard {
            blobs: Sorted::from([(
                8192,
                Blob {
                    birth: 1,
                    checksums: Checksums::of_blocks(ChecksumKind::Crc32c, [&[1][..], &[2], &[3]]),
                    share: None,
                    packed: None,
                },
            )]),
            pieces: Sorted::from([(0, Piece { len: 12_288, blob: 8192, blob_offset: 0 })]),
            ..Shard::default()
        };
        let mut content = Content::of(Rc::new(base));
        content.write(100, Bytes::from(vec![1; 5000]));
        content.punch(5000, 6000);
        content.write(5500, Bytes::new());
        let parts: Vec<_> = content.parts.iter().map(|(at, part)| (*at, part.len)).collect();
        assert_eq!(parts, [(0, 100), (100, 4900), (6000, 6288)]);
        let stored = Source::Stored { blob: 8192, blob_offset: 6000 };
        assert_eq!(content.parts.get(6000).map(|part| &part.source), Some(&stored));
        assert_eq!(content.changed_blocks(4096), [0, 4096]);
        assert_eq!([0, 4096, 8192].map(|logical| content.keeps(logical, 4096)), [true, true, true]);
        assert_eq!(content.stored_blocks(4096).collect::<Vec<_>>(), [(0, 8192), (4096, 8192), (8192, 8192)]);
        assert_eq!(content.pieces_max(4096), 5);
        content.write(0, Bytes::from(vec![2; 4096]));
        assert_eq!(content.changed_blocks(4096), [0, 4096]);
        assert_eq!([0, 4096, 8192].map(|logical| content.keeps(logical, 4096)), [false, true, true]);
        content.punch(4000, 13_000);
        let parts: Vec<_> = content.parts.iter().map(|(at, part)| (*at, part.len)).collect();
        assert_eq!((parts, content.stored_blocks(4096).count()), (vec![(0, 4000)], 0));
    }
}
