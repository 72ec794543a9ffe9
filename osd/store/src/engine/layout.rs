//! How changed shards are written: which blocks go to new space and which are deferred, and the shards that result.
//! Pure: addresses and what is read come from the caller.
//!
//! Whole blocks never pay twice: they go to new space. A block of which a part stays is read and written anew, in
//! place through the journal if it is a small change, else to new space.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use allocator::Extent;
use bytes::Bytes;

use super::blocks::Blocks;
use super::chunks::Fresh;
use super::content::{Content, Source};
use super::cuts::{self, Cut, Split};
use crate::check::length;
use crate::checksum::{Checksum, Checksums};
use crate::shard::{Blob, Packed, Piece, Place, Shard};
use crate::sorted::Sorted;

/// What decides between new space and deferral, see `Options`.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Block size.
    pub block: u64,
    /// Bytes of partly overwritten blocks up to which they are deferred.
    pub partial_max: u64,
    /// Bytes of wholly overwritten blocks up to which they are deferred.
    pub whole_max: u64,
    /// What only moves does so: what is left of compressed blobs once it takes less space by itself, and what is in pieces.
    pub moves_leftovers: bool,
}

/// A block of which bytes change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Where in the object it begins.
    pub logical: u64,
    /// Where it is stored, if it is.
    pub place: Option<Place>,
    /// A part of it stays, so it must be read first. It has a place then.
    pub keeps: bool,
    /// It is written to where it is; else to new space.
    pub in_place: bool,
    /// Nothing of it changes: it is written only to be in fewer pieces.
    pub moves: bool,
}

/// The changed blocks of a shard, ascending.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// See [`Changed`].
    pub blocks: Vec<Changed>,
    /// Some of these only move.
    pub moves: bool,
    /// Chunks that are cut by all that changes.
    pub cuts: Vec<Cut>,
}

/// A changed block ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where in the object it begins.
    pub logical: u64,
    /// Where it goes.
    pub to: Target,
}

/// Where a changed block goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To new space, at the address.
    Fresh(u64),
    /// To where it is.
    InPlace(u64, Checksum),
    /// Into the compressed blob at the address, as this block of it.
    Packed(u64, usize),
}

/// A new compressed blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// Where it goes.
    pub address: u64,
    /// What it holds.
    pub packed: Packed,
    /// Of its blocks.
    pub checksums: Checksums,
}

/// The changed blocks of a shard, ascending, and the compressed blobs among them; and what the checksums are.
#[derive(Clone, Debug, Default)]
pub struct WrittenShard {
    /// See [`Written`].
    pub blocks: Vec<Written>,
    /// Checksums of those that go to new space uncompressed.
    pub fresh: Vec<Fresh>,
    /// Checksums of what stays of chunks that are cut.
    pub splits: Vec<Split>,
    /// See [`Pack`].
    pub packs: Vec<Pack>,
}

/// Decides for all changed shards of a transaction together.
pub fn lay_out<'a>(shards: impl Iterator<Item = &'a Content> + Clone, policy: Policy) -> Vec<Layout> {
    let block = policy.block;
    let (mut partial, mut whole) = (0, 0);
    let mut look = |content: &Content, logical: u64, moves: bool| {
        let place = content.base.place(logical, block);
        let keeps = place.is_some() && content.keeps(logical, block);
        // Others may use a shared block, and a part of a compressed blob cannot be written, so they stay as they are.
        let is_own = place.is_some_and(|place| !place.is_shared && !place.is_packed);
        let in_place = is_own && !content.is_copied && !moves;
        match keeps {
            true if in_place => partial += block,
            false if in_place => whole += block,
            _ => {}
        }
        Changed { logical, place, keeps, in_place, moves }
    };
    let mut layouts: Vec<Layout> = shards
        .clone()
        .map(|content| {
            if content.is_inline {
                return Layout::default();
            }
            let mut changed = content.changed_blocks(block);
            // Who only takes away needs neither space nor what he leaves.
            let moved = match policy.moves_leftovers && !changed.is_empty() {
                true => leftovers(content, &changed, block),
                false => Vec::new(),
            };
            let mut pieces = if policy.moves_leftovers { content.moved_blocks(block) } else { Vec::new() };
            pieces.retain(|logical| changed.binary_search(logical).is_err());
            let moves = !moved.is_empty() || !pieces.is_empty();
            changed.extend(moved.into_iter().chain(pieces.iter().copied()));
            changed.sort_unstable();
            let is_piece = |logical: u64| pieces.binary_search(&logical).is_ok();
            let blocks = changed.into_iter().map(|logical| look(content, logical, is_piece(logical)));
            Layout { blocks: blocks.collect(), moves, cuts: Vec::new() }
        })
        .collect();
    for changed in layouts.iter_mut().flat_map(|layout| &mut layout.blocks) {
        let is_small = if changed.keeps { partial <= policy.partial_max } else { whole <= policy.whole_max };
        changed.in_place &= is_small;
    }
    for (content, layout) in shards.zip(&mut layouts) {
        layout.cuts = cuts::cuts(content, &layout.blocks, block);
    }
    layouts
}

/// The blocks of compressed blobs of which so little stays that it takes no more space by itself.
fn leftovers(content: &Content, changed: &[u64], block: u64) -> Vec<u64> {
    let is_own = |blob: &Blob| blob.packed.is_some() && blob.share.is_none();
    if content.is_copied || !content.base.blobs.values().any(is_own) {
        return Vec::new();
    }
    let mut left: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (logical, blob) in content.stored_blocks(block) {
        if content.base.blobs.get(blob).is_some_and(is_own) && changed.binary_search(&logical).is_err() {
            left.entry(blob).or_default().push(logical);
        }
    }
    let is_little = |blob: &u64, blocks: &Vec<u64>| {
        content.base.blobs.get(*blob).is_some_and(|blob| blocks.len() <= blob.checksums.len())
    };
    left.retain(|blob, blocks| is_little(blob, blocks));
    left.into_values().flatten().collect()
}

impl Layout {
    /// Runs of blocks for new space that lie one behind the other in the object, by their place in `blocks`: cut at
    /// multiples of `most` bytes, and none of fewer than `least`.
    pub fn runs(&self, least: u64, most: u64, block: u64) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        // What only moves goes as it is: whoever moves it chose where to, for so many bytes.
        let is_new = |changed: &Changed| !changed.in_place && !changed.moves;
        for (index, changed) in self.blocks.iter().enumerate().filter(|(_, changed)| is_new(changed)) {
            let follows = index > 0 && self.blocks[index - 1].logical + block == changed.logical;
            match runs.last_mut() {
                Some(run) if run.end == index && follows && !changed.logical.is_multiple_of(most) => {
                    run.end += 1
                }
                _ => runs.push(index..index + 1),
            }
        }
        runs.retain(|run| run.len() >= index(least.div_ceil(block)));
        runs
    }

    /// Own blocks on the device that the object uses afterwards as before.
    pub fn stay(&self, content: &Content, block: u64) -> u64 {
        let in_place = self.blocks.iter().filter(|changed| changed.in_place && !changed.keeps).count();
        let wide = |blocks: usize| u64::try_from(blocks).unwrap_or(u64::MAX);
        if !content.base.blobs.values().any(|blob| blob.packed.is_some()) {
            // A block of the object is one of a blob.
            let moved = self.blocks.iter().filter(|changed| changed.keeps && !changed.in_place).count();
            return wide(content.stored_blocks(block).count() + in_place - moved);
        }
        let mut packed = BTreeSet::new();
        let mut count = in_place;
        for (logical, blob) in content.stored_blocks(block) {
            let changed = self.blocks.binary_search_by_key(&logical, |changed| changed.logical);
            let moves = changed.is_ok_and(|at| !self.blocks[at].in_place);
            match content.base.blobs.get(blob) {
                _ if moves => {}
                Some(blob_there) if blob_there.packed.is_some() => {
                    if packed.insert(blob) {
                        count += blob_there.checksums.len();
                    }
                }
                _ => count += 1,
            }
        }
        wide(count)
    }

    /// Blocks that need new space.
    pub fn fresh(&self) -> impl Iterator<Item = &Changed> {
        self.blocks.iter().filter(|changed| !changed.in_place)
    }

    /// Blocks written where they are.
    pub fn in_place(&self) -> impl Iterator<Item = &Changed> {
        self.blocks.iter().filter(|changed| changed.in_place)
    }

    /// What must be read first.
    pub fn reads(&self) -> impl Iterator<Item = Place> {
        self.blocks.iter().filter(|changed| changed.keeps).filter_map(|changed| changed.place)
    }
}

/// Fills `out` with the content of one changed block. `stored` is the block as read, if a part of it stays; `read` has what
/// comes from other objects.
pub fn fill_block(content: &Content, logical: u64, stored: Option<&Bytes>, read: &Blocks, out: &mut [u8]) {
    if let Some(new) = content.new_block(logical, out.len()) {
        return out.copy_from_slice(new);
    }
    let block = u64::try_from(out.len()).unwrap_or(u64::MAX);
    let parts = content.parts.range_and_before(logical, logical + block);
    out.fill(0);
    for (at, part) in parts {
        let (from, to) = ((*at).max(logical), (at + part.len).min(logical + block));
        if from >= to {
            continue;
        }
        let target = &mut out[index(from - logical)..index(to - logical)];
        match &part.source {
            Source::New(data) => target.copy_from_slice(&data[index(from - at)..index(to - at)]),
            Source::Stored { .. } => {
                let Some(stored) = stored else { panic!("block {logical} keeps bytes but was not read") };
                target.copy_from_slice(&stored[index(from - logical)..index(to - logical)]);
            }
            Source::Foreign { blob, blob_offset, .. } => {
                let mut offset = u64::from(*blob_offset) + (from - at);
                let mut rest = target;
                while !rest.is_empty() {
                    let bytes = read.bytes_at(*blob, offset, length(rest), block);
                    let (some, after) = rest.split_at_mut(bytes.len());
                    some.copy_from_slice(&bytes);
                    offset += length(&bytes);
                    rest = after;
                }
            }
        }
    }
}

/// The shard after the change, and the space that it gives back. `written` has every changed block, ascending.
pub fn new_shard(content: &Content, written: &WrittenShard, birth: u64, block: u64) -> (Shard, Vec<Extent>) {
    let mut shard = Shard {
        blobs: content.base.blobs.with_room(1 + written.packs.len()),
        pieces: Sorted::with_capacity(content.parts.len() + written.blocks.len()),
        inline: Sorted::default(),
    };
    if content.is_inline {
        shard.inline = content.inline();
        let freed = shard.trim(block);
        return (shard, freed);
    }
    for split in &written.splits {
        let found = shard.blobs.position(split.blob).and_then(|at| shard.blobs.at_mut(at));
        let Some((_, blob)) = found else { panic!("a chunk of no blob is cut: {split:?}") };
        split.apply(&mut blob.checksums);
    }
    add_blobs(&mut shard.blobs, written, birth, block);
    for pack in &written.packs {
        let Pack { address, packed, checksums } = pack.clone();
        let old = shard.blobs.insert(address, Blob { birth, share: None, packed: Some(packed), checksums });
        assert!(old.is_none(), "new space at {address:#x} belongs to the object already");
    }
    let written = &written.blocks[..];
    // Changed blocks that begin at or after the bytes looked at.
    let mut ahead = written;
    for (at, part) in content.parts.iter() {
        let (mut from, end) = (*at, at + part.len);
        while from < end {
            while let [first, rest @ ..] = ahead
                && first.logical + block <= from
            {
                ahead = rest;
            }
            let (to, blob, blob_offset) = match (ahead.first(), &part.source) {
                (Some(one), _) if one.logical <= from => {
                    let (start, in_blob) = match one.to {
                        Target::Packed(start, number) => {
                            (start, u64::try_from(number).unwrap_or(u64::MAX) * block)
                        }
                        Target::Fresh(address) | Target::InPlace(address, _) => {
                            let (start, _) = owner(&mut shard.blobs, address, block);
                            (start, address - start)
                        }
                    };
                    (end.min(one.logical + block), start, in_blob + (from - one.logical))
                }
                (next, Source::Stored { blob, blob_offset }) => {
                    let to = next.map_or(end, |one| end.min(one.logical));
                    (to, *blob, u64::from(*blob_offset) + (from - at))
                }
                (..) => panic!("new bytes at {from} were not written"),
            };
            shard.append(from, Piece { len: narrow(to - from), blob, blob_offset: narrow(blob_offset) });
            from = to;
        }
    }
    let freed = shard.trim(block);
    (shard, freed)
}

/// Adds blobs for new space, adjacent blocks as one, and the checksums of blocks written where they are.
fn add_blobs(blobs: &mut Sorted<Blob>, written: &WrittenShard, birth: u64, block: u64) {
    for one in &written.blocks {
        if let Target::InPlace(address, checksum) = one.to {
            let (start, blob) = owner(blobs, address, block);
            blob.checksums.set(index((address - start) / block), checksum);
        }
    }
    let mut fresh = written.fresh.clone();
    fresh.sort_by_key(|one| one.address);
    let end = |one: &Fresh| one.address + u64::try_from(one.blocks).unwrap_or(u64::MAX) * block;
    for run in fresh.chunk_by(|one, next| end(one) == next.address) {
        let Some(Fresh { address, checksum, .. }) = run.first() else { continue };
        let mut checksums = Checksums::new(checksum.kind());
        run.iter().for_each(|one| checksums.push(one.checksum, one.blocks));
        let old = blobs.insert(*address, Blob { birth, share: None, packed: None, checksums });
        assert!(old.is_none(), "new space at {address:#x} belongs to the object already");
    }
}

fn owner(blobs: &mut Sorted<Blob>, address: u64, block: u64) -> (u64, &mut Blob) {
    match blobs.position_at_or_below(address).and_then(|at| blobs.at_mut(at)) {
        Some((start, blob)) if address < start + blob.bytes(block) => (start, blob),
        _ => panic!("no blob owns {address:#x}"),
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
    use std::rc::Rc;

    use super::*;
    use crate::checksum::ChecksumKind;
    use crate::compression::Algorithm;

    const B: u64 = 4096;

    fn one(fill: u8) -> Checksum {
        Checksum::of(ChecksumKind::Crc32c, &[fill])
    }

    /// Blocks that go to new space have these checksums, in their order.
    fn all(blocks: &[Written], fresh: &[Checksum]) -> WrittenShard {
        let address = |one: &Written| match one.to {
            Target::Fresh(address) => Some(address),
            _ => None,
        };
        let addresses = blocks.iter().filter_map(address);
        let one = |(address, checksum): (u64, &Checksum)| Fresh { address, blocks: 1, checksum: *checksum };
        let fresh = addresses.zip(fresh).map(one).collect();
        WrittenShard { blocks: blocks.to_vec(), fresh, ..WrittenShard::default() }
    }

    fn policy(partial_max: u64, whole_max: u64) -> Policy {
        Policy { block: B, partial_max, whole_max, moves_leftovers: true }
    }

    fn base() -> Rc<Shard> {
        Rc::new(Shard {
            blobs: Sorted::from([(
                100 * B,
                Blob {
                    birth: 1,
                    checksums: Checksums::of_blocks(ChecksumKind::Crc32c, [&[1][..], &[2], &[3]]),
                    share: None,
                    packed: None,
                },
            )]),
            pieces: Sorted::from([(0, Piece { len: 3 * 4096, blob: 100 * B, blob_offset: 0 })]),
            ..Shard::default()
        })
    }

    #[test]
    fn whole_blocks_go_to_new_space_and_parts_in_place() {
        let mut content = Content::of(base());
        content.write(B, Bytes::from(vec![9; 4096 + 10]));
        let layout = lay_out([&content].into_iter(), policy(B, 0)).remove(0);
        assert_eq!(layout.fresh().map(|one| one.logical).collect::<Vec<_>>(), [B]);
        assert_eq!(
            layout.in_place().map(|one| (one.logical, one.place.map(|p| p.address))).collect::<Vec<_>>(),
            [(2 * B, Some(102 * B))]
        );
        assert_eq!(layout.reads().map(|place| place.address).collect::<Vec<_>>(), [102 * B]);
        let layout = lay_out([&content].into_iter(), policy(0, B)).remove(0);
        assert_eq!(layout.fresh().map(|one| one.logical).collect::<Vec<_>>(), [2 * B], "the other way round");
        assert_eq!(layout.in_place().count(), 1);

        let written = [
            Written { logical: B, to: Target::Fresh(7 * B) },
            Written { logical: 2 * B, to: Target::InPlace(102 * B, one(30)) },
        ];
        assert_eq!(layout.stay(&content, B), 2);
        let (shard, freed) = new_shard(&content, &all(&written, &[one(70)]), 5, B);
        assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
        assert_eq!(freed, [Extent::new(101 * B, B)]);
        let place = |logical| shard.place(logical, B).map(|p| (p.address, p.checksum, p.birth));
        assert_eq!(place(0), Some((100 * B, one(1), 1)));
        assert_eq!(place(B), Some((7 * B, one(70), 5)));
        assert_eq!(place(2 * B), Some((102 * B, one(30), 1)));
    }

    #[test]
    fn a_block_is_filled_from_both_sources() {
        let mut content = Content::of(base());
        content.punch(10, 20);
        content.write(15, Bytes::from_static(b"new"));
        let mut out = vec![1; 4096];
        fill_block(&content, 0, Some(&Bytes::from(vec![7; 4096])), &Blocks::default(), &mut out);
        assert_eq!(&out[8..22], &[7, 7, 0, 0, 0, 0, 0, b'n', b'e', b'w', 0, 0, 7, 7]);
    }

    #[test]
    fn adjacent_new_blocks_are_one_blob() {
        let mut content = Content::of(Rc::default());
        content.write(0, Bytes::from(vec![1; 4 * 4096]));
        let written = [(0, 50), (1, 51), (2, 60), (3, 61)]
            .map(|(n, address)| Written { logical: n * B, to: Target::Fresh(address * B) });
        let (shard, freed) = new_shard(&content, &all(&written, &[one(0); 4]), 3, B);
        assert!(freed.is_empty());
        assert_eq!(shard.blobs.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [50 * B, 60 * B]);
        assert_eq!(shard.pieces.len(), 2);
    }

    #[test]
    fn what_is_little_of_a_compressed_blob_moves_out() {
        let packed = Some(Packed { algorithm: Algorithm::Lz4, raw_blocks: 8, bytes: 10_000 });
        let checksums = Checksums::of_blocks(ChecksumKind::Crc32c, [&[1][..], &[2], &[3]]);
        let base = Rc::new(Shard {
            blobs: Sorted::from([(100 * B, Blob { birth: 1, checksums, share: None, packed })]),
            pieces: Sorted::from([(0, Piece { len: 8 * 4096, blob: 100 * B, blob_offset: 0 })]),
            ..Shard::default()
        });
        let mut content = Content::of(Rc::clone(&base));
        content.write(0, Bytes::from(vec![9; 4 * 4096]));
        let layout = lay_out([&content].into_iter(), policy(1 << 20, 1 << 20)).remove(0);
        assert_eq!(layout.blocks.len(), 4, "four blocks are more than three");
        assert!(layout.blocks.iter().all(|changed| !changed.in_place));
        assert_eq!(layout.stay(&content, B), 3);

        content.write(4 * B, Bytes::from(vec![9; 4096]));
        content.write(7 * B + 100, Bytes::from(vec![9; 10]));
        let layout = lay_out([&content].into_iter(), policy(1 << 20, 1 << 20)).remove(0);
        let keeps: Vec<_> =
            layout.blocks.iter().map(|changed| (changed.logical / B, changed.keeps)).collect();
        let expected = (0..5).map(|n| (n, false)).chain((5..8).map(|n| (n, true))).collect::<Vec<_>>();
        assert_eq!(keeps, expected, "the two that stay whole move with the one of which a part stays");
        assert_eq!(layout.stay(&content, B), 0);
        assert_eq!(layout.runs(2 * B, 4 * B, B), [0..4, 4..8]);
        assert_eq!(layout.runs(5 * B, 4 * B, B), []);

        let blocks =
            (0..8).map(|n| Written { logical: n * B, to: Target::Packed(7 * B, index(n)) }).collect();
        let checksums = Checksums::of_blocks(ChecksumKind::Crc32c, [&[5][..], &[6]]);
        let packed = Packed { algorithm: Algorithm::Zstd, raw_blocks: 8, bytes: 5000 };
        let packs = vec![Pack { address: 7 * B, packed, checksums }];
        let (shard, freed) =
            new_shard(&content, &WrittenShard { blocks, packs, ..WrittenShard::default() }, 2, B);
        assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
        assert_eq!(freed, [Extent::new(100 * B, 3 * B)]);
        assert_eq!((shard.blobs.len(), shard.pieces.len()), (1, 1), "{shard:?}");
        let mut content = Content::of(Rc::clone(&base));
        content.punch(B, 128 << 10);
        let layout = lay_out([&content].into_iter(), policy(0, 0)).remove(0);
        assert!(layout.blocks.is_empty() && !layout.moves, "nothing is written to take something away");
        content.write(9 * B, Bytes::from(vec![9; 4096]));
        let layout = lay_out([&content].into_iter(), policy(0, 0)).remove(0);
        assert!(layout.blocks.len() == 2 && layout.moves, "the rest moves with the next write");
        let stays = Policy { moves_leftovers: false, ..policy(0, 0) };
        assert_eq!(lay_out([&content].into_iter(), stays).remove(0).blocks.len(), 1);

        let mut content = Content::of(base);
        content.is_copied = true;
        content.write(0, Bytes::from(vec![9; 7 * 4096]));
        let layout = lay_out([&content].into_iter(), policy(0, 0)).remove(0);
        assert_eq!(layout.blocks.len(), 7, "others use the blob");
    }
}
