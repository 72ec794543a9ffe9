//! How changed shards are written: which blocks go to new space and which are deferred, and the shards that result.
//! Pure: addresses and what is read come from the caller.
//!
//! Whole blocks never pay twice: they go to new space. A block of which a part stays is read and written anew, in
//! place through the journal if it is a small change, else to new space.

use allocator::Extent;
use bytes::Bytes;

use super::content::{Content, Source};
use crate::checksum::{Checksum, Checksums};
use crate::shard::{Blob, Piece, Place, Shard};
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
}

/// The changed blocks of a shard, ascending.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// See [`Changed`].
    pub blocks: Vec<Changed>,
}

/// A changed block ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where in the object it begins.
    pub logical: u64,
    /// Its address.
    pub address: u64,
    /// Its checksum.
    pub checksum: Checksum,
    /// It is in new space.
    pub fresh: bool,
}

/// Decides for all changed shards of a transaction together.
pub fn lay_out<'a>(shards: impl Iterator<Item = &'a Content>, policy: Policy) -> Vec<Layout> {
    let block = policy.block;
    let (mut partial, mut whole) = (0, 0);
    let mut look = |content: &Content, logical: u64| {
        let place = content.base.place(logical, block);
        let keeps = place.is_some() && content.keeps(logical, block);
        // Others may use a shared block, so it is not written where it is.
        let in_place = place.is_some_and(|place| !place.is_shared) && !content.is_copied;
        match keeps {
            true if in_place => partial += block,
            false if in_place => whole += block,
            _ => {}
        }
        Changed { logical, place, keeps, in_place }
    };
    let mut layouts: Vec<Layout> = shards
        .map(|content| {
            let blocks = content.changed_blocks(block).into_iter().map(|logical| look(content, logical));
            Layout { blocks: blocks.collect() }
        })
        .collect();
    for changed in layouts.iter_mut().flat_map(|layout| &mut layout.blocks) {
        let is_small = if changed.keeps { partial <= policy.partial_max } else { whole <= policy.whole_max };
        changed.in_place &= is_small;
    }
    layouts
}

impl Layout {
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

/// Fills `out` with the content of one changed block; `stored` is the block as read, if a part of it stays.
pub fn fill_block(content: &Content, logical: u64, stored: Option<&Bytes>, out: &mut [u8]) {
    let block = u64::try_from(out.len()).unwrap_or(u64::MAX);
    let parts = content.parts.range_and_before(logical, logical + block);
    if let Some((at, part)) = parts.last()
        && let Source::New(data) = &part.source
        && *at <= logical
        && at + part.len >= logical + block
    {
        let from = index(logical - at);
        return out.copy_from_slice(&data[from..from + out.len()]);
    }
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
        }
    }
}

/// The shard after the change, and the space that it gives back. `written` has every changed block, ascending.
pub fn new_shard(content: &Content, written: &[Written], birth: u64, block: u64) -> (Shard, Vec<Extent>) {
    let mut shard = Shard {
        blobs: content.base.blobs.clone(),
        pieces: Sorted::with_capacity(content.parts.len() + written.len()),
    };
    add_blobs(&mut shard.blobs, written, birth, block);
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
                    let (start, _) = owner(&mut shard.blobs, one.address, block);
                    (end.min(one.logical + block), start, one.address - start + (from - one.logical))
                }
                (next, Source::Stored { blob, blob_offset }) => {
                    let to = next.map_or(end, |one| end.min(one.logical));
                    (to, *blob, u64::from(*blob_offset) + (from - at))
                }
                (_, Source::New(_)) => panic!("new bytes at {from} were not written"),
            };
            shard.append(from, Piece { len: narrow(to - from), blob, blob_offset: narrow(blob_offset) });
            from = to;
        }
    }
    let freed = shard.trim(block);
    (shard, freed)
}

/// Adds blobs for new space, adjacent blocks as one, and the checksums of blocks written where they are.
fn add_blobs(blobs: &mut Sorted<Blob>, written: &[Written], birth: u64, block: u64) {
    let mut fresh: Vec<&Written> = written.iter().filter(|one| one.fresh).collect();
    fresh.sort_by_key(|one| one.address);
    for run in fresh.chunk_by(|one, next| one.address + block == next.address) {
        let Some(first) = run.first() else { continue };
        let mut checksums = Checksums::new(first.checksum.kind());
        run.iter().for_each(|one| checksums.push(one.checksum));
        let blob = Blob { birth, share: None, checksums };
        let old = blobs.insert(first.address, blob);
        assert!(old.is_none(), "new space at {:#x} belongs to the object already", first.address);
    }
    for one in written.iter().filter(|one| !one.fresh) {
        let (start, blob) = owner(blobs, one.address, block);
        blob.checksums.set(index((one.address - start) / block), one.checksum);
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

    const B: u64 = 4096;

    fn one(fill: u8) -> Checksum {
        Checksum::of(ChecksumKind::Crc32c, &[fill])
    }

    fn policy(partial_max: u64, whole_max: u64) -> Policy {
        Policy { block: B, partial_max, whole_max }
    }

    fn base() -> Rc<Shard> {
        Rc::new(Shard {
            blobs: Sorted::from([(
                100 * B,
                Blob {
                    birth: 1,
                    checksums: Checksums::of_blocks(ChecksumKind::Crc32c, [&[1][..], &[2], &[3]]),
                    share: None,
                },
            )]),
            pieces: Sorted::from([(0, Piece { len: 3 * 4096, blob: 100 * B, blob_offset: 0 })]),
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
            Written { logical: B, address: 7 * B, checksum: one(70), fresh: true },
            Written { logical: 2 * B, address: 102 * B, checksum: one(30), fresh: false },
        ];
        let (shard, freed) = new_shard(&content, &written, 5, B);
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
        fill_block(&content, 0, Some(&Bytes::from(vec![7; 4096])), &mut out);
        assert_eq!(&out[8..22], &[7, 7, 0, 0, 0, 0, 0, b'n', b'e', b'w', 0, 0, 7, 7]);
    }

    #[test]
    fn adjacent_new_blocks_are_one_blob() {
        let mut content = Content::of(Rc::default());
        content.write(0, Bytes::from(vec![1; 4 * 4096]));
        let written = [(0, 50), (1, 51), (2, 60), (3, 61)].map(|(n, address)| Written {
            logical: n * B,
            address: address * B,
            checksum: one(0),
            fresh: true,
        });
        let (shard, freed) = new_shard(&content, &written, 3, B);
        assert!(freed.is_empty());
        assert_eq!(shard.blobs.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [50 * B, 60 * B]);
        assert_eq!(shard.pieces.len(), 2);
    }
}
