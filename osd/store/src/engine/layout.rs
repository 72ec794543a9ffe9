//! How changed shards are written: which blocks go to new space and which are deferred, and the shards that result.
//! Pure: addresses and what is read come from the caller.
//!
//! Whole blocks never pay twice: they go to new space. A block of which a part stays is read and written anew, in
//! place through the journal if it is a small change, else to new space.

use std::collections::BTreeMap;

use allocator::Extent;
use bytes::Bytes;

use super::content::{Content, Source};
use crate::shard::{Blob, Piece, Place, Shard};

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

/// Where a changed block goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To new space.
    Fresh,
    /// To where it is.
    InPlace(Place),
}

/// The changed blocks of a shard, by logical offset.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Where each goes.
    pub targets: BTreeMap<u64, Target>,
    /// What must be read first: those of which a part stays.
    pub reads: BTreeMap<u64, Place>,
}

/// A changed block ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its address.
    pub address: u64,
    /// Its checksum.
    pub checksum: u32,
    /// It is in new space.
    pub fresh: bool,
}

/// Decides for all changed shards of a transaction together.
pub fn lay_out(shards: &[&Content], policy: Policy) -> Vec<Layout> {
    let block = policy.block;
    let mut found = Vec::new();
    let (mut partial, mut whole) = (0, 0);
    for content in shards {
        // A block is dirty if a part of it is new; it must be read if a part of it stays.
        let mut blocks: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
        for (at, part) in content.by_block(block) {
            let (dirty, kept) = blocks.entry(at / block * block).or_default();
            match part.source {
                Source::New(_) => *dirty = true,
                Source::Stored { .. } => *kept = true,
            }
        }
        blocks.retain(|_, (dirty, _)| *dirty);
        for (logical, (_, kept)) in &blocks {
            if *kept {
                partial += block;
            } else if content.base.place(*logical, block).is_some() {
                whole += block;
            }
        }
        found.push(blocks);
    }
    let in_place = |kept: bool| if kept { partial <= policy.partial_max } else { whole <= policy.whole_max };
    let decide = |content: &Content, blocks: BTreeMap<u64, (bool, bool)>| {
        let mut layout = Layout::default();
        for (logical, (_, kept)) in blocks {
            let place = content.base.place(logical, block);
            let target = match place {
                Some(place) if in_place(kept) => Target::InPlace(place),
                _ => Target::Fresh,
            };
            layout.targets.insert(logical, target);
            if kept {
                let Some(place) = place else { panic!("stored bytes at {logical} have no block") };
                layout.reads.insert(logical, place);
            }
        }
        layout
    };
    shards.iter().zip(found).map(|(content, blocks)| decide(content, blocks)).collect()
}

impl Layout {
    /// Blocks that need new space.
    pub fn fresh(&self) -> impl Iterator<Item = u64> {
        self.targets.iter().filter(|(_, target)| **target == Target::Fresh).map(|(logical, _)| *logical)
    }

    /// Blocks written in place, with where.
    pub fn in_place(&self) -> impl Iterator<Item = (u64, Place)> {
        self.targets.iter().filter_map(|(logical, target)| match target {
            Target::InPlace(place) => Some((*logical, *place)),
            Target::Fresh => None,
        })
    }
}

/// Fills `out` with the content of one changed block; `stored` is the block as read, if a part of it stays.
pub fn fill_block(content: &Content, logical: u64, stored: Option<&Bytes>, out: &mut [u8]) {
    let block = u64::try_from(out.len()).unwrap_or(u64::MAX);
    out.fill(0);
    let before = content.parts.range(..logical).next_back();
    for (at, part) in before.into_iter().chain(content.parts.range(logical..logical + block)) {
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

/// The shard after the change, and the space that it gives back. `written` has every changed block.
pub fn new_shard(
    content: &Content,
    written: &BTreeMap<u64, Written>,
    birth: u64,
    block: u64,
) -> (Shard, Vec<Extent>) {
    let mut shard = Shard { blobs: content.base.blobs.clone(), pieces: BTreeMap::new() };
    // Adjacent new blocks become one blob.
    let mut fresh: Vec<_> = written.values().filter(|block| block.fresh).collect();
    fresh.sort_by_key(|block| block.address);
    let mut open: Option<u64> = None;
    for one in fresh {
        let end = open.and_then(|start| Some((start, start + shard.blobs.get(&start)?.bytes(block))));
        match end {
            Some((start, end)) if end == one.address => {
                if let Some(blob) = shard.blobs.get_mut(&start) {
                    blob.checksums.push(one.checksum);
                }
            }
            _ => {
                let blob = Blob { birth, checksums: vec![one.checksum] };
                let old = shard.blobs.insert(one.address, blob);
                assert!(old.is_none(), "new space at {:#x} belongs to the object already", one.address);
                open = Some(one.address);
            }
        }
    }
    for one in written.values().filter(|block| !block.fresh) {
        let (start, blob) = owner(&mut shard.blobs, one.address, block);
        blob.checksums[index((one.address - start) / block)] = one.checksum;
    }
    for (at, part) in content.by_block(block) {
        let logical = at / block * block;
        let len = narrow(part.len);
        let piece = match (written.get(&logical), &part.source) {
            (Some(one), _) => {
                let (start, _) = owner(&mut shard.blobs, one.address, block);
                Piece { len, blob: start, blob_offset: narrow(one.address - start + (at - logical)) }
            }
            (None, Source::Stored { blob, blob_offset }) => {
                Piece { len, blob: *blob, blob_offset: *blob_offset }
            }
            (None, Source::New(_)) => panic!("new bytes at {at} were not written"),
        };
        shard.pieces.insert(at, piece);
    }
    shard.join();
    let freed = shard.trim(block);
    (shard, freed)
}

fn owner(blobs: &mut BTreeMap<u64, Blob>, address: u64, block: u64) -> (u64, &mut Blob) {
    match blobs.range_mut(..=address).next_back() {
        Some((start, blob)) if address < start + blob.bytes(block) => (*start, blob),
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

    const B: u64 = 4096;

    fn policy(partial_max: u64, whole_max: u64) -> Policy {
        Policy { block: B, partial_max, whole_max }
    }

    fn base() -> Rc<Shard> {
        Rc::new(Shard {
            blobs: BTreeMap::from([(100 * B, Blob { birth: 1, checksums: vec![1, 2, 3] })]),
            pieces: BTreeMap::from([(0, Piece { len: 3 * 4096, blob: 100 * B, blob_offset: 0 })]),
        })
    }

    #[test]
    fn whole_blocks_go_to_new_space_and_parts_in_place() {
        let mut content = Content::of(base());
        content.write(B, Bytes::from(vec![9; 4096 + 10]));
        let layout = lay_out(&[&content], policy(B, 0)).remove(0);
        assert_eq!(layout.fresh().collect::<Vec<_>>(), [B]);
        assert_eq!(
            layout.in_place().map(|(at, place)| (at, place.address)).collect::<Vec<_>>(),
            [(2 * B, 102 * B)]
        );
        assert_eq!(layout.reads.keys().copied().collect::<Vec<_>>(), [2 * B]);
        let layout = lay_out(&[&content], policy(0, B)).remove(0);
        assert_eq!(layout.fresh().collect::<Vec<_>>(), [2 * B], "the other way round");
        assert_eq!(layout.in_place().count(), 1);

        let written = BTreeMap::from([
            (B, Written { address: 7 * B, checksum: 70, fresh: true }),
            (2 * B, Written { address: 102 * B, checksum: 30, fresh: false }),
        ]);
        let (shard, freed) = new_shard(&content, &written, 5, B);
        assert_eq!(shard.validate(0, 128 << 10, B), Ok(()));
        assert_eq!(freed, [Extent::new(101 * B, B)]);
        let place = |logical| shard.place(logical, B).map(|p| (p.address, p.checksum, p.birth));
        assert_eq!(place(0), Some((100 * B, 1, 1)));
        assert_eq!(place(B), Some((7 * B, 70, 5)));
        assert_eq!(place(2 * B), Some((102 * B, 30, 1)));
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
        let written = [(0, 50), (1, 51), (2, 60), (3, 61)]
            .map(|(n, address)| (n * B, Written { address: address * B, checksum: 0, fresh: true }));
        let (shard, freed) = new_shard(&content, &BTreeMap::from(written), 3, B);
        assert!(freed.is_empty());
        assert_eq!(shard.blobs.keys().copied().collect::<Vec<_>>(), [50 * B, 60 * B]);
        assert_eq!(shard.pieces.len(), 2);
    }
}
