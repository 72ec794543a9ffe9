//! Whole blocks over blocks, in place: a shard that is rebuilt at each write is copied at each write.

use allocator::Extent;
use smallvec::SmallVec;

use super::{Blob, Piece, Shard, index, narrow, wide};
use crate::checksum::{Checksum, Checksums};

/// A block in new space: its address, and its checksum.
pub type NewBlock = (u64, Checksum);

/// Few, mostly one.
type Few<T> = SmallVec<[T; 4]>;

impl Shard {
    /// Puts whole blocks of the object in new space, from the offset `from` on; gives what that frees. Nothing in the shard is
    /// inline, shared, compressed or under one checksum with others.
    pub fn overwrite(&mut self, from: u64, new: &[NewBlock], birth: u64, block: u64) -> Vec<Extent> {
        let to = from + wide(new.len()) * block;
        let mut freed = Vec::new();
        let (mut first, mut before, mut behind) = (from, None, None);
        for (at, piece) in self.pieces.range_and_before(from, to) {
            let (at, end) = (*at, at + u64::from(piece.len));
            if end <= from {
                continue;
            }
            if at < from {
                first = at;
                before = Some((at, Piece { len: narrow(from - at), ..*piece }));
            }
            if end > to {
                let blob_offset = piece.blob_offset + narrow(to - at);
                behind = Some((to, Piece { len: narrow(end - to), blob_offset, ..*piece }));
            }
            let offset_of = |logical: u64| u64::from(piece.blob_offset) + logical - at;
            let start = piece.blob + offset_of(at.max(from)) / block * block;
            let end = piece.blob + offset_of(end.min(to)).next_multiple_of(block);
            add(&mut freed, start, end);
        }
        let runs = runs(new, block);
        let pieces = pieces(from, new, &runs, block);
        self.pieces.splice(first, to, before.into_iter().chain(pieces).chain(behind));
        for extent in &freed {
            self.cut_out(*extent, block);
        }
        for (address, checksums) in runs {
            let blob = Blob { birth, share: None, packed: None, checksums };
            let old = self.blobs.insert(address, blob);
            assert!(old.is_none(), "new space at {address:#x} belongs to the object already");
        }
        freed
    }

    /// Takes blocks that no piece uses any more out of their blob.
    fn cut_out(&mut self, extent: Extent, block: u64) {
        let found = self.blobs.position_at_or_below(extent.start);
        let Some((place, (start, blob))) = found.and_then(|place| Some(place).zip(self.blobs.at_mut(place)))
        else {
            panic!("no blob owns {extent:?}")
        };
        let (blocks, end) = (blob.checksums.len(), extent.end());
        let (from, to) = (index((extent.start - start) / block), index((end - start) / block));
        let behind = (to < blocks).then(|| Blob { checksums: blob.checksums.slice(to..blocks), ..*blob });
        match from {
            0 => self.blobs.remove_at(place),
            _ => blob.checksums = blob.checksums.slice(0..from),
        }
        let Some(behind) = behind else { return };
        self.blobs.insert(end, behind);
        let cut = narrow(end - start);
        for piece in self.pieces.values_mut().filter(|piece| piece.blob == start && piece.blob_offset >= cut)
        {
            (piece.blob, piece.blob_offset) = (end, piece.blob_offset - cut);
        }
    }
}

/// Adds the blocks of a piece, the first of which may be the last that was added: of one with a hole in it.
fn add(freed: &mut Vec<Extent>, start: u64, end: u64) {
    match freed.last_mut() {
        Some(last) if (last.start..last.end()).contains(&start) => last.len = last.len.max(end - last.start),
        _ => freed.push(Extent { start, len: end - start }),
    }
}

/// The blobs that blocks make where they lie side by side on the device: addresses and checksums.
fn runs(new: &[NewBlock], block: u64) -> Few<(u64, Checksums)> {
    let mut sorted: Few<NewBlock> = SmallVec::from_slice(new);
    sorted.sort_by_key(|(address, _)| *address);
    let mut runs: Few<(u64, Checksums)> = SmallVec::new();
    for (address, checksum) in sorted {
        match runs.last_mut() {
            Some((start, row)) if *start + wide(row.len()) * block == address => row.push(checksum, 1),
            _ => {
                let mut row = Checksums::new(checksum.kind());
                row.push(checksum, 1);
                runs.push((address, row));
            }
        }
    }
    runs
}

/// Where in the object the blocks are: one piece for those that follow each other there and on the device.
fn pieces(from: u64, new: &[NewBlock], runs: &[(u64, Checksums)], block: u64) -> Few<(u64, Piece)> {
    let mut pieces: Few<(u64, Piece)> = SmallVec::new();
    for (at, (address, _)) in (from..).step_by(index(block)).zip(new) {
        let blob = runs.iter().rfind(|(start, _)| start <= address).map_or(*address, |(start, _)| *start);
        let (len, blob_offset) = (narrow(block), narrow(address - blob));
        match pieces.last_mut() {
            Some((_, last)) if last.blob == blob && last.blob_offset + last.len == blob_offset => {
                last.len += len;
            }
            _ => pieces.push((at, Piece { len, blob, blob_offset })),
        }
    }
    pieces
}
