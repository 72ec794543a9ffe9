//! Changing a shard: what is forgotten, what is added, and what that frees.

use std::collections::BTreeSet;

use allocator::Extent;
use smallvec::{SmallVec, smallvec};

use super::{Blob, Piece, Shard, index, narrow, wide};
use crate::checksum::Chunk;

/// A mark per block of a shard of usual size.
type Marks = SmallVec<[bool; 64]>;

struct Run {
    start: usize,
    end: usize,
    used: bool,
}

impl Shard {
    /// Drops blocks that no piece uses, cutting blobs where a block goes from the middle; gives what became free. If a block
    /// stays that is under one checksum with one that goes, it has one of its own before.
    pub fn trim(&mut self, block: u64) -> Vec<Extent> {
        let (used, firsts) = self.used_blocks(block);
        let Some(unused) = used.iter().position(|used| !used) else { return Vec::new() };
        let (mut freed, mut cut) = (Vec::new(), Vec::new());
        // From the last to the one with the first unused block, so that places of those to be looked at stay.
        let with_unused = firsts.partition_point(|first| *first <= unused).saturating_sub(1);
        let mut end = used.len();
        for place in (with_unused..firsts.len()).rev() {
            let row = &used[firsts[place]..end];
            end = firsts[place];
            let Some((address, blob)) = self.blobs.at(place).filter(|_| row.contains(&false)) else {
                continue;
            };
            if blob.packed.is_some() {
                if !row.contains(&true) {
                    freed.push(Extent { start: address, len: blob.bytes(block) });
                    self.blobs.remove_at(place);
                }
                continue;
            }
            for run in runs(row) {
                let start = address + wide(run.start) * block;
                if run.used {
                    let checksums = blob.checksums.slice(run.start..run.end);
                    cut.push((start, Blob { checksums, ..*blob }));
                } else {
                    freed.push(Extent { start, len: wide(run.end - run.start) * block });
                }
            }
            self.blobs.remove_at(place);
        }
        let was_cut = !cut.is_empty();
        for (start, blob) in cut {
            self.blobs.insert(start, blob);
        }
        if was_cut {
            for piece in self.pieces.values_mut() {
                // Offsets in compressed blobs are not on the device, and these were not cut.
                if self.blobs.get(piece.blob).is_some_and(|blob| blob.packed.is_some()) {
                    continue;
                }
                let absolute = piece.blob + u64::from(piece.blob_offset);
                let Some((start, _)) = self.blobs.at_or_below(absolute) else { continue };
                piece.blob = start;
                piece.blob_offset = narrow(absolute - start);
            }
        }
        freed
    }

    /// Chunks of which pieces use some blocks, but not all: by blob, and first block, with those that are used.
    pub fn cut_chunks(&self, block: u64) -> Vec<(u64, Chunk, Vec<usize>)> {
        let (used, firsts) = self.used_blocks(block);
        let mut cut = Vec::new();
        for ((address, blob), first) in self.blobs.iter().zip(firsts) {
            for chunk in blob.checksums.chunks().filter(|chunk| chunk.blocks > 1) {
                let stays: Vec<usize> = chunk.range().filter(|index| used[first + index]).collect();
                if !stays.is_empty() && stays.len() < chunk.blocks {
                    cut.push((*address, chunk, stays));
                }
            }
        }
        cut
    }

    /// Which blocks of which blob a piece uses: all blobs' blocks, before they were compressed, in one row, and where in it
    /// each blob's begin.
    pub(super) fn used_blocks(&self, block: u64) -> (Marks, SmallVec<[usize; 64]>) {
        let mut total = 0;
        let count = |blob: &Blob| {
            total += blob.raw_blocks();
            total - blob.raw_blocks()
        };
        let firsts: SmallVec<[usize; 64]> = self.blobs.values().map(count).collect();
        let mut used: Marks = smallvec![false; total];
        for piece in self.pieces.values() {
            let Some(position) = self.blobs.position(piece.blob) else {
                panic!("a piece refers to no blob: {piece:?}")
            };
            let (first, last) = piece.blocks(block);
            used[firsts[position] + first..=firsts[position] + last].fill(true);
        }
        (used, firsts)
    }

    /// Forgets the bytes of `[from, to)`; gives what was there: offsets and lengths. [`Self::trim`] is to follow.
    pub fn punch(&mut self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let lost = |at: u64, len: u64| (at.max(from), (at + len).min(to));
        let all = self.ranges().map(|(at, len)| lost(at, len)).filter(|(from, to)| from < to);
        let all: Vec<(u64, u64)> = all.map(|(from, to)| (from, to - from)).collect();
        for (at, piece) in std::mem::take(&mut self.pieces) {
            let end = at + u64::from(piece.len);
            let (lost_from, lost_to) = lost(at, piece.len.into());
            if lost_from >= lost_to {
                self.pieces.insert(at, piece);
                continue;
            }
            if at < lost_from {
                self.pieces.insert(at, Piece { len: narrow(lost_from - at), ..piece });
            }
            if lost_to < end {
                let blob_offset = piece.blob_offset + narrow(lost_to - at);
                self.pieces.insert(lost_to, Piece { len: narrow(end - lost_to), blob_offset, ..piece });
            }
        }
        for (at, bytes) in std::mem::take(&mut self.inline) {
            let (lost_from, lost_to) = lost(at, wide(bytes.len()));
            if lost_from >= lost_to {
                self.inline.insert(at, bytes);
                continue;
            }
            let (before, after) = (bytes.slice(..index(lost_from - at)), bytes.slice(index(lost_to - at)..));
            let kept = [(at, before), (lost_to, after)].into_iter().filter(|(_, bytes)| !bytes.is_empty());
            kept.for_each(|(at, bytes)| drop(self.inline.insert(at, bytes)));
        }
        all
    }

    /// Forgets what lies in the blocks at these addresses, of a compressed blob all that it has; gives what was there.
    /// [`Self::trim`] is to follow.
    pub fn forget_blocks(&mut self, addresses: &BTreeSet<u64>, block: u64) -> Vec<(u64, u64)> {
        let mut ranges = Vec::new();
        for (at, piece) in self.pieces.iter() {
            let Some(blob) = self.blobs.get(piece.blob) else { continue };
            let end = at + u64::from(piece.len);
            if blob.packed.is_some() {
                let stored = piece.blob..piece.blob + blob.bytes(block);
                ranges.extend(addresses.range(stored).next().map(|_| (*at, end)));
                continue;
            }
            let start = piece.blob + u64::from(piece.blob_offset);
            for address in addresses.range(start / block * block..start + u64::from(piece.len)) {
                // Where the piece has this block, in the object.
                let (from, to) = (at + address.saturating_sub(start), at + (address + block - start));
                ranges.push((from, to.min(end)));
            }
        }
        ranges.into_iter().flat_map(|(from, to)| self.punch(from, to)).collect()
    }

    /// Adds a piece behind all others; joins it with the last one if it continues that in the object and in the blob.
    pub fn append(&mut self, at: u64, piece: Piece) {
        if let Some((last_at, last)) = self.pieces.last_mut()
            && last_at + u64::from(last.len) == at
            && last.blob == piece.blob
            && last.blob_offset + last.len == piece.blob_offset
        {
            last.len += piece.len;
            return;
        }
        self.pieces.insert(at, piece);
    }

    /// Joins pieces that continue each other in the object and in the blob.
    pub fn join(&mut self) {
        std::mem::take(&mut self.pieces).into_iter().for_each(|(at, piece)| self.append(at, piece));
    }
}

fn runs(blocks: &[bool]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, used) in blocks.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.used == *used => run.end = at + 1,
            _ => runs.push(Run { start: at, end: at + 1, used: *used }),
        }
    }
    runs
}
