//! Chunks, which are blocks under one checksum, of which a part changes or goes. What stays of them is read, verified and gets
//! checksums of its own; nothing of it is written.
//!
//! Of a chunk that does not match its checksum, or cannot be read, nobody knows which blocks are right but those that are in memory.
//! So the others that stay get unknown checksums, with which they cannot be read, as they could not before. The transaction needs
//! nothing of them, so it takes effect: what overwrites damage, or cuts it off, is never refused for it. If copies do not answer in
//! time it is refused, as another time they may have what was written.

use std::collections::BTreeMap;

use super::blocks::Blocks;
use super::content::{Content, Source};
use super::layout::Changed;
use crate::checksum::{Checksum, Checksums};
use crate::shard::{Piece, Place};

/// A chunk of which a part changes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Address of the blob.
    blob: u64,
    /// Its first block in that.
    first: usize,
    /// Those of its blocks that stay as they are, ascending.
    pub kept: Vec<Place>,
}

/// A chunk that has become single blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Address of the blob.
    pub blob: u64,
    first: usize,
    /// Of the blocks that stay as they are.
    own: Vec<(usize, Checksum)>,
}

/// Those of a shard. `changed` are all blocks of it that are written, ascending.
pub fn cuts(content: &Content, changed: &[Changed], block: u64) -> Vec<Cut> {
    if !content.base.blobs.values().any(|blob| blob.checksums.is_chunked()) {
        return Vec::new();
    }
    // By blob and first block, those of each chunk that stay as they are, if any is still used.
    let mut chunks: BTreeMap<(u64, usize), BTreeMap<usize, Place>> = BTreeMap::new();
    let mut whole = BTreeMap::new();
    let mut chunk_of = |place: &Place| {
        let first = place.index - index((place.address - place.chunk) / block);
        whole.insert((place.blob, first), index(place.chunk_blocks.into()));
        (place.blob, first)
    };
    for (at, part) in content.parts.iter() {
        let Source::Stored { blob, blob_offset } = part.source else { continue };
        let Ok(len) = u32::try_from(part.len) else { panic!("{} bytes within a shard", part.len) };
        let piece = Piece { len, blob, blob_offset };
        let (first, last) = piece.blocks(block);
        let numbers = (first..=last).filter_map(|number| u64::try_from(number).ok());
        let places = numbers.filter_map(|number| content.base.block_of(*at, &piece, number, block));
        for place in places.filter(|place| place.chunk_blocks > 1) {
            let kept = chunks.entry(chunk_of(&place)).or_default();
            if changed.binary_search_by_key(&place.logical, |changed| changed.logical).is_err() {
                kept.insert(place.index, place);
            }
        }
    }
    let in_place = changed.iter().filter(|changed| changed.in_place).filter_map(|changed| changed.place);
    for place in in_place.filter(|place| place.chunk_blocks > 1) {
        chunks.entry(chunk_of(&place)).or_default();
    }
    let is_cut = |chunk: &(u64, usize), kept: &BTreeMap<usize, Place>| {
        whole.get(chunk).is_some_and(|blocks| kept.len() < *blocks)
    };
    let cut = chunks.into_iter().filter(|(chunk, kept)| is_cut(chunk, kept));
    cut.map(|((blob, first), kept)| Cut { blob, first, kept: kept.into_values().collect() }).collect()
}

impl Cut {
    /// It, with checksums of what was read.
    pub fn split(&self, read: &Blocks) -> Split {
        let own = self.kept.iter().map(|place| (place.index, read.sum(place)));
        Split { blob: self.blob, first: self.first, own: own.collect() }
    }
}

impl Split {
    /// Address and checksum of each block that stays.
    pub fn own(&self, block: u64) -> impl Iterator<Item = (u64, Checksum)> {
        let address = move |index: usize| self.blob + u64::try_from(index).unwrap_or(u64::MAX) * block;
        self.own.iter().map(move |(index, checksum)| (address(*index), *checksum))
    }

    /// Puts its checksums in the place of the chunk's.
    pub fn apply(&self, checksums: &mut Checksums) {
        checksums.split(self.first, &self.own);
    }
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
