//! Cloning a range of one object into another. Blocks that both have at the same place are shared, the rest is copied: a
//! block of which the target keeps bytes of its own, and everything if the range moves. So a shared block begins at the same
//! offset in every object that uses it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use allocator::Extent;

use super::content::{Content, Part, Source};
use crate::shard::{Blob, Piece, Place, Shard};

/// What a shard has of a range, for another object.
pub struct Lent {
    /// The shard as it is stored.
    base: Rc<Shard>,
    /// By logical offset in the object that has it.
    parts: Vec<(u64, Part)>,
    /// Bounds of the range.
    start: u64,
    end: u64,
}

impl Lent {
    /// Into how many pieces block borders cut it.
    pub fn pieces_max(&self, block: u64) -> u64 {
        self.parts.iter().map(|(at, part)| (at + part.len - 1) / block - at / block + 1).sum()
    }

    /// The parts, to be copied.
    pub fn into_copies(self) -> impl Iterator<Item = (u64, Part)> {
        let base = self.base;
        self.parts.into_iter().map(move |(at, part)| (at, part.to_copy(&base)))
    }
}

impl Part {
    /// The same bytes for another place: to be read from `shard` if they are stored.
    fn to_copy(&self, shard: &Rc<Shard>) -> Self {
        match self.source {
            Source::Stored { blob, blob_offset } => {
                let source = Source::Foreign { shard: Rc::clone(shard), blob, blob_offset };
                Self { len: self.len, source }
            }
            _ => self.clone(),
        }
    }
}

impl Content {
    /// What it has in `[start, end)`; `shares` if its blocks may become the other's, too.
    pub fn lend(&mut self, start: u64, end: u64, shares: bool) -> Lent {
        let found = self.parts.range_and_before(start, end).iter();
        let parts: Vec<(u64, Part)> = found
            .filter_map(|(at, part)| {
                let (from, to) = ((*at).max(start), (at + part.len).min(end));
                (from < to).then(|| (from, part.cut(from - at, to - from)))
            })
            .collect();
        let is_stored = |(_, part): &(u64, Part)| matches!(part.source, Source::Stored { .. });
        self.is_copied |= shares && parts.iter().any(is_stored);
        Lent { base: Rc::clone(&self.base), parts, start, end }
    }

    /// Takes what another object's shard of the same number lent; nothing is left in the range. An error, with the address of
    /// a block, if it is another blob's as well.
    pub fn share(&mut self, lent: Lent, block: u64) -> Result<(), u64> {
        let Lent { base, parts, start, end } = lent;
        let mut shared = Vec::new();
        for (at, part) in &parts {
            if !matches!(part.source, Source::Stored { .. }) {
                self.put(*at, part.clone());
                continue;
            }
            let mut from = *at;
            while from < at + part.len {
                let to = (at + part.len).min((from / block + 1) * block);
                let some = part.cut(from - at, to - from);
                if self.keeps_beside(from / block * block, start, end, block) {
                    self.put(from, some.to_copy(&base));
                } else {
                    shared.push((from, some));
                }
                from = to;
            }
        }
        let whole = whole_chunks(&base, &self.base, &shared, block);
        shared.retain(|(from, part)| {
            let is_shared = chunk_of(&base, part, block).is_none_or(|place| whole.contains(&place.chunk));
            if !is_shared {
                self.put(*from, part.to_copy(&base));
            }
            is_shared
        });
        if shared.is_empty() {
            return Ok(());
        }
        self.is_copied = true;
        let mut merged = Shard { blobs: self.base.blobs.clone(), ..Shard::default() };
        let mut grows = None;
        for (_, part) in &mut shared {
            let Source::Stored { blob, blob_offset } = &mut part.source else { continue };
            let Some(of) = base.blobs.get(*blob) else { panic!("a piece refers to no blob: {part:?}") };
            if of.packed.is_some() {
                match containing(&merged, *blob, block) {
                    Some((_, there)) if there.birth != of.birth => return Err(*blob),
                    Some(_) => {}
                    None => drop(merged.blobs.insert(*blob, of.clone())),
                }
                continue;
            }
            let in_block = u64::from(*blob_offset) % block;
            let address = *blob + u64::from(*blob_offset) - in_block;
            let blob_start = match containing(&merged, address, block) {
                Some((_, there)) if there.birth != of.birth || there.packed.is_some() => return Err(address),
                Some((at, _)) => at,
                None => add_block(&mut merged, (*blob, of), address, block, &mut grows),
            };
            (*blob, *blob_offset) = (blob_start, narrow(address + in_block - blob_start));
        }
        // Where blocks are stored is asked of the base, so it has those that are shared in the place of its own.
        let mut stored = Self::of(Rc::clone(&self.base));
        let mut cleared = None;
        for (at, part) in shared {
            let logical = at / block * block;
            if cleared.replace(logical) != Some(logical) {
                stored.punch(logical, logical + block);
            }
            stored.put(at, part.clone());
            self.put(at, part);
        }
        merged.pieces = stored.parts.iter().filter_map(|(at, part)| Some((*at, piece(part)?))).collect();
        merged.join();
        self.base = Rc::new(merged);
        Ok(())
    }

    /// Whether a block has bytes outside of a range.
    fn keeps_beside(&self, logical: u64, start: u64, end: u64, block: u64) -> bool {
        let is_beside =
            |(at, part): &(u64, Part)| at + part.len > logical && (*at < start || at + part.len > end);
        self.parts.range_and_before(logical, logical + block).iter().any(is_beside)
    }
}

/// Where the blocks of a part are that are not there by themselves, but under one checksum with others.
fn chunk_of(shard: &Shard, part: &Part, block: u64) -> Option<Place> {
    let piece = piece(part)?;
    let number = u64::from(piece.blob_offset) / block;
    shard.block_of(piece.blob_offset.into(), &piece, number, block).filter(|place| place.chunk_blocks > 1)
}

/// Where those chunks begin of which all blocks are to be shared, and that are new to the target or the same there. Of others
/// blocks are copied, as nobody knows checksums of their own before something is read.
fn whole_chunks(base: &Shard, target: &Shard, shared: &[(u64, Part)], block: u64) -> BTreeSet<u64> {
    let mut chunks: BTreeMap<u64, (Place, BTreeSet<u64>)> = BTreeMap::new();
    for place in shared.iter().filter_map(|(_, part)| chunk_of(base, part, block)) {
        chunks.entry(place.chunk).or_insert_with(|| (place, BTreeSet::new())).1.insert(place.address);
    }
    let is_whole = |(place, blocks): &(Place, BTreeSet<u64>)| {
        u32::try_from(blocks.len()) == Ok(place.chunk_blocks) && fits(place, target, block)
    };
    chunks.into_iter().filter(|(_, found)| is_whole(found)).map(|(start, _)| start).collect()
}

/// Whether a shard has no block of a chunk, or has all of it as the same chunk. Blobs that cannot both be right are found later.
fn fits(place: &Place, target: &Shard, block: u64) -> bool {
    let chunk = place.chunk(block);
    target.blobs.iter().filter(|(at, blob)| Extent::new(*at, blob.bytes(block)).overlaps(&chunk)).all(
        |(at, blob)| {
            let first = chunk.start.checked_sub(*at).and_then(|bytes| usize::try_from(bytes / block).ok());
            let found =
                first.and_then(|first| blob.checksums.get(first).filter(|found| found.first == first));
            let is_same = found.is_some_and(|found| {
                (u32::try_from(found.blocks), found.checksum) == (Ok(place.chunk_blocks), place.checksum)
            });
            is_same || blob.birth != place.birth
        },
    )
}

/// The blob that has the block at an address.
fn containing(shard: &Shard, address: u64, block: u64) -> Option<(u64, &Blob)> {
    shard.blobs.at_or_below(address).filter(|(start, blob)| address < start + blob.bytes(block))
}

/// Adds a block of another shard's blob, and what else is under its checksum, to the blob that was added last if it continues
/// that; gives the blob's address. `grows` is where that begins, and what it is of.
fn add_block(
    shard: &mut Shard,
    (of_address, of): (u64, &Blob),
    address: u64,
    block: u64,
    grows: &mut Option<(u64, u64)>,
) -> u64 {
    let number = usize::try_from((address - of_address) / block).unwrap_or(usize::MAX);
    let Some(chunk) = of.checksums.get(number) else { panic!("{address:#x} is no block of {of:?}") };
    let address = of_address + u64::try_from(chunk.first).unwrap_or(u64::MAX) * block;
    if let Some((start, source)) = *grows
        && source == of_address
        && let Some((_, blob)) = shard.blobs.position(start).and_then(|at| shard.blobs.at_mut(at))
        && start + blob.bytes(block) == address
    {
        blob.checksums.push(chunk.checksum, chunk.blocks);
        return start;
    }
    *grows = Some((address, of_address));
    let checksums = of.checksums.slice(chunk.range());
    shard.blobs.insert(address, Blob { checksums, ..of.clone() });
    address
}

fn piece(part: &Part) -> Option<Piece> {
    match part.source {
        Source::Stored { blob, blob_offset } => Some(Piece { len: narrow(part.len), blob, blob_offset }),
        _ => None,
    }
}

fn narrow(value: u64) -> u32 {
    let Ok(value) = u32::try_from(value) else { panic!("{value} bytes within a shard") };
    value
}
