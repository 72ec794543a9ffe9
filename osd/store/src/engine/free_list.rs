//! The free list as the key-value store has it, in the form that the store was formatted with; see [`FreeList`].
//!
//! *Pages* are absolute: two copies, each with the position of its checkpoint and a checksum. *Flips* are merged: under the
//! key of a chunk of blocks is what differs from a store without objects, and an operand is what a checkpoint changes. Its
//! checksum is linear, so the checksums of operands become that of the value as the bits do. Operands are applied once: a
//! batch is in the key-value store whole or not at all, together with the position from which replay goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use allocator::limits::{PAGE_BLOCKS, PAGE_BYTES};
use allocator::{AllocResult, Allocator, BitmapAllocator, Extent, Page};
use bluefs::kv::{ENTRY_BYTES, KvOp, KvStore, KvView};
use bytes::Bytes;
use nvme::BlockDevice;

use super::flips::Flips;
use super::open::{self, OpenError, OpenResult};
use super::options::FreeList;
use crate::codec::{DecodeResult, Decoder, Encoder};
use crate::keys;
use crate::superblock::Superblock;

/// Bytes of bits in a chunk: 512 blocks. A change costs its key and value; a mount reads all that ever changed.
pub const CHUNK_BYTES: usize = 64;
/// Blocks of a chunk.
pub const CHUNK_BLOCKS: u64 = 8 * CHUNK_BYTES as u64;
/// Chunks of a page.
const CHUNKS_PER_PAGE: u64 = PAGE_BLOCKS / CHUNK_BLOCKS;

/// What the key-value store is given for a page, in both its copies, bytes.
const PAGE_COST: u64 = 2 * (PAGE_BYTES as u64 + 32 + ENTRY_BYTES);
/// What it is given for a chunk.
const CHUNK_COST: u64 = CHUNK_BYTES as u64 + 32 + ENTRY_BYTES;

/// How much of the stored free list changes, in either form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Pages.
    pub pages: u64,
    /// Chunks.
    pub chunks: u64,
}

impl Places {
    /// At most those of so many blocks, wherever they are.
    pub fn of_blocks(blocks: u64) -> Self {
        Self { pages: blocks, chunks: blocks }
    }

    /// At most those of so many extents that have so many bytes together, of blocks of that size.
    pub fn of_extents(extents: u64, bytes: u64, block: u64) -> Self {
        // Each begins in one and ends in another, beside those that it fills.
        let most = |blocks: u64| 2 * extents + bytes / (blocks * block);
        Self { pages: most(PAGE_BLOCKS), chunks: most(CHUNK_BLOCKS) }
    }

    /// Those of these extents, as changes are counted.
    pub fn touched(extents: &[Extent], block: u64) -> Self {
        let mut flips = Flips::new(block);
        extents.iter().for_each(|extent| flips.push(*extent));
        Self { pages: flips.page_count(), chunks: flips.chunk_count() }
    }

    /// Both together.
    pub fn with(self, other: Self) -> Self {
        let (pages, chunks) =
            (self.pages.saturating_add(other.pages), self.chunks.saturating_add(other.chunks));
        Self { pages, chunks }
    }

    /// Without others that are part of it.
    pub fn without(self, others: Self) -> Self {
        Self { pages: self.pages - others.pages, chunks: self.chunks - others.chunks }
    }
}

impl FreeList {
    /// Most bytes that a checkpoint gives the key-value store for changes in so many pages and chunks.
    pub(super) fn cost(self, pages: u64, chunks: u64) -> u64 {
        match self {
            Self::Pages => pages * PAGE_COST,
            Self::Merge => chunks.min(pages * CHUNKS_PER_PAGE) * CHUNK_COST,
        }
    }
}

/// Both copies of a page, as of the checkpoint that ends at a position of the journal.
pub fn page_ops(position: u64, page: u64, bits: &[u8; PAGE_BYTES]) -> [KvOp; 2] {
    let value = encode_page(position, bits);
    [0, 1].map(|copy| KvOp::Put(keys::bitmap_page(copy, page), value.clone()))
}

/// Operands for what is flipped in a page.
pub fn flip_ops(page: u64, flips: &[u8; PAGE_BYTES]) -> impl Iterator<Item = KvOp> {
    let chunks = (page * CHUNKS_PER_PAGE..).zip(flips.as_chunks::<CHUNK_BYTES>().0);
    let changed = chunks.filter(|(_, bits)| bits.iter().any(|byte| *byte != 0));
    changed.map(|(chunk, bits)| KvOp::Merge(keys::bitmap_chunk(chunk), encode_chunk(bits)))
}

/// What becomes free when a window grows: what is new, but for the superblock's copy at its end, and the place where that was.
pub fn gained(before: u64, window: u64, block: u64) -> Extent {
    Extent::new(before - block, window - before)
}

/// A free list that takes the place of what is stored, whatever that is.
pub struct Replacement {
    /// What is stored, if it can be read, as it is in the window of now, and the bytes of the window that it is of.
    pub stored: Option<(BitmapAllocator, u64)>,
    /// What is to be.
    pub should: BitmapAllocator,
}

impl Replacement {
    /// Makes of what is stored what should be, as of the checkpoint that ends at a position of the journal.
    pub fn ops(&self, position: u64, superblock: &Superblock) -> Vec<KvOp> {
        let mut ops = Vec::new();
        let empty = open::empty_bitmap(superblock, self.should.capacity());
        let before = self.stored.as_ref().map_or(&empty, |(stored, _)| stored);
        // The page in which the window ended is not stored as it is now.
        let window = self.should.capacity();
        let block = self.should.block_size();
        let of = self.stored.as_ref().map_or(window, |(_, of)| *of);
        let ended = (of < window).then(|| gained(of, window, block).start / block / PAGE_BLOCKS);
        if self.stored.is_none() {
            let ranges = [keys::all_bitmap_pages(0), keys::all_bitmap_pages(1), keys::all_bitmap_chunks()];
            ops.extend(ranges.map(|(start, end)| KvOp::DeleteRange(start, end)));
        }
        for index in 0..before.pages() {
            let (Ok(before), Ok(bits)) = (before.page(index), self.should.page(index)) else {
                panic!("page {index} is in both bitmaps")
            };
            if before == bits && ended != Some(index) {
                continue;
            }
            match superblock.free_list() {
                FreeList::Pages => ops.extend(page_ops(position, index, &bits)),
                FreeList::Merge => {
                    let mut flips = [0; PAGE_BYTES];
                    flips
                        .iter_mut()
                        .zip(before.iter().zip(bits.iter()))
                        .for_each(|(flip, (a, b))| *flip = a ^ b);
                    ops.extend(flip_ops(index, &flips));
                }
            }
        }
        ops
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.should.capacity() - self.should.free_bytes()
    }
}

/// Whether a checkpoint may be of a window of so many bytes.
pub fn is_window(window: u64, superblock: &Superblock) -> bool {
    let block = u64::from(superblock.block);
    let least = superblock.kv.end().saturating_add(2 * block);
    window.is_multiple_of(block) && (least..=superblock.window).contains(&window)
}

/// What is free as of the checkpoint, for which the window had so many bytes.
pub async fn read(
    device: &dyn BlockDevice,
    kv: &Rc<dyn KvStore>,
    view: &KvView,
    superblock: &Superblock,
    window: u64,
) -> OpenResult<BitmapAllocator> {
    let corrupt = |reason: String| OpenError::Corrupt { device: device.name().to_owned(), reason };
    if !is_window(window, superblock) {
        let has = superblock.window;
        return Err(corrupt(format!("the checkpoint is of a window of {window} bytes, the store has {has}")));
    }
    let mut bitmap = open::empty_bitmap(superblock, window);
    match superblock.free_list() {
        FreeList::Pages => {
            let mut good = BTreeSet::new();
            let mut bad = BTreeMap::new();
            for copy in 0..2 {
                let (start, end) = keys::all_bitmap_pages(copy);
                open::scan(kv, view, start, end, |key, value| {
                    let number = keys::parse_bitmap_page(&key).map_err(|error| corrupt(error.to_string()))?;
                    if good.contains(&number) {
                        return Ok(());
                    }
                    match decode_page(value) {
                        Ok(page) => {
                            bitmap.load_page(number, &page).map_err(|error| corrupt(error.to_string()))?;
                            good.insert(number);
                        }
                        Err(error) => drop(bad.insert(number, error)),
                    }
                    Ok(())
                })
                .await?;
            }
            bad.retain(|number, _| !good.contains(number));
            if let Some((number, error)) = bad.first_key_value() {
                return Err(corrupt(format!("both copies of bitmap page {number}: {error}")));
            }
        }
        FreeList::Merge => {
            let (start, end) = keys::all_bitmap_chunks();
            let mut changed = None;
            open::scan(kv, view, start, end, |key, value| {
                let (chunk, flips) = keys::parse_bitmap_page(&key)
                    .and_then(|chunk| Ok((chunk, decode_chunk(value)?)))
                    .map_err(|error| corrupt(format!("free list at {}: {error}", key.escape_ascii())))?;
                let flipped = flip_chunk(&mut bitmap, &mut changed, chunk, &flips);
                flipped.map_err(|error| corrupt(error.to_string()))
            })
            .await?;
            load(&mut bitmap, changed).map_err(|error| corrupt(error.to_string()))?;
        }
    }
    Ok(bitmap)
}

/// Flips a chunk in `changed`, a page that is not loaded again before another one's turn comes.
fn flip_chunk(
    bitmap: &mut BitmapAllocator,
    changed: &mut Option<(u64, Page)>,
    chunk: u64,
    flips: &[u8; CHUNK_BYTES],
) -> AllocResult<()> {
    let (page, within) = (chunk / CHUNKS_PER_PAGE, chunk % CHUNKS_PER_PAGE);
    let mut bits = match changed.take() {
        Some((open, bits)) if open == page => bits,
        other => {
            load(bitmap, other)?;
            bitmap.page(page)?
        }
    };
    let chunks = bits.as_chunks_mut::<CHUNK_BYTES>().0;
    if let Some(chunk) = usize::try_from(within).ok().and_then(|at| chunks.get_mut(at)) {
        chunk.iter_mut().zip(flips).for_each(|(byte, flip)| *byte ^= flip);
    }
    *changed = Some((page, bits));
    Ok(())
}

fn load(bitmap: &mut BitmapAllocator, changed: Option<(u64, Page)>) -> AllocResult<()> {
    changed.map_or(Ok(()), |(page, bits)| bitmap.load_page(page, &bits))
}

/// A page as it is stored: position of the checkpoint, checksum, bits.
pub fn encode_page(position: u64, page: &[u8]) -> Bytes {
    let mut e = Encoder::with_capacity(12 + page.len());
    e.u64(position);
    e.u32(crc32c::crc32c_append(crc32c::crc32c(&position.to_le_bytes()), page));
    e.raw(page);
    e.into_bytes()
}

/// The bits of a stored page, if its checksum is right.
pub fn decode_page(value: Bytes) -> DecodeResult<Box<[u8; PAGE_BYTES]>> {
    let mut d = Decoder::new(value);
    let position = d.u64("position of a bitmap page")?;
    let stored = d.u32("checksum of a bitmap page")?;
    let page = d.raw(PAGE_BYTES, "bitmap page")?;
    d.end("bitmap page")?;
    if stored != crc32c::crc32c_append(crc32c::crc32c(&position.to_le_bytes()), &page) {
        return d.invalid("checksum of a bitmap page", 8, stored.into());
    }
    let mut bits = Box::new([0; PAGE_BYTES]);
    bits.copy_from_slice(&page);
    Ok(bits)
}

/// A chunk, or an operand for it, as it is stored: checksum, bits.
pub fn encode_chunk(flips: &[u8; CHUNK_BYTES]) -> Bytes {
    let mut e = Encoder::with_capacity(4 + CHUNK_BYTES);
    e.u32(linear_crc(flips));
    e.raw(flips);
    e.into_bytes()
}

/// The bits of a stored chunk, if its checksum is right.
pub fn decode_chunk(value: Bytes) -> DecodeResult<[u8; CHUNK_BYTES]> {
    let mut d = Decoder::new(value);
    let stored = d.u32("checksum of a bitmap chunk")?;
    let raw = d.raw(CHUNK_BYTES, "bitmap chunk")?;
    d.end("bitmap chunk")?;
    let mut flips = [0; CHUNK_BYTES];
    flips.copy_from_slice(&raw);
    if stored != linear_crc(&flips) {
        return d.invalid("checksum of a bitmap chunk", 0, stored.into());
    }
    Ok(flips)
}

/// A crc32c that begins with 0 and is not inverted: of an exclusive or it is the exclusive or.
fn linear_crc(bits: &[u8; CHUNK_BYTES]) -> u32 {
    !crc32c::crc32c_append(u32::MAX, bits)
}

#[cfg(test)]
mod tests {
    use allocator::{Class, Request};
    use bluefs::kv::{MergeOperator, merge};
    use proptest::prelude::*;

    use super::*;
    use crate::engine::space::SpaceBook;
    use crate::fault::Fault;

    #[test]
    fn a_damaged_page_is_noticed() {
        let value = encode_page(77, &[5; PAGE_BYTES]);
        assert_eq!(decode_page(value.clone()), Ok(Box::new([5; PAGE_BYTES])));
        for at in (0..value.len()).step_by(97) {
            let mut damaged = value.to_vec();
            damaged[at] ^= 1;
            assert!(decode_page(Bytes::from(damaged)).is_err());
        }
    }

    #[test]
    fn a_damaged_chunk_is_noticed() {
        let value = encode_chunk(&[5; CHUNK_BYTES]);
        for at in 0..value.len() {
            let mut damaged = value.to_vec();
            damaged[at] ^= 1;
            assert!(decode_chunk(Bytes::from(damaged)).is_err());
            assert!(decode_chunk(value.slice(..at)).is_err());
        }
    }

    #[test]
    fn only_chunks_with_flips_become_operands() {
        let mut flips = [0; PAGE_BYTES];
        (flips[0], flips[CHUNK_BYTES * 9 + 3]) = (1, 0x80);
        let keys: Vec<_> = flip_ops(7, &flips)
            .map(|op| match op {
                KvOp::Merge(key, value) => {
                    (keys::parse_bitmap_page(&key).expect("a key"), decode_chunk(value).expect("a chunk"))
                }
                other => panic!("{other:?}"),
            })
            .collect();
        let mut second = [0; CHUNK_BYTES];
        second[3] = 0x80;
        assert_eq!((keys[0].0, keys[1]), (7 * 64, (7 * 64 + 9, second)));
    }

    /// What a checkpoint of scattered changes of a device of a TiB gives the key-value store: 67 MB for pages, 5 for chunks.
    #[test]
    fn scattered_changes_cost_less_when_merged() {
        const TIB: u64 = 1 << 40;
        let bitmap = BitmapAllocator::new_free(TIB, 4096);
        let book = SpaceBook::new(bitmap, FreeList::Merge, 0, vec![], Fault::default());
        let mut random = rt::sim::RandomStream::new(1, "scattered");
        for _ in 0..32 << 10 {
            let mut reservation = book.space.reserve(4096, Class::Ordinary).expect("room");
            let hint = Some(random.below(TIB / 4096) * 4096);
            let request = Request { len: 4096, unit: 4096, extents_max: 1, hint };
            let taken = reservation.take(&request).expect("room").commit();
            taken.into_iter().for_each(|extent| book.used(extent));
        }
        let promised = [FreeList::Pages, FreeList::Merge].map(|kind| kind.cost(8192, 32 << 10));
        book.freeze(1);
        let (mut pages, mut chunks) = (0, 0);
        book.frozen_pages(|page, bits| pages += page_ops(1, page, bits).iter().map(KvOp::bytes).sum::<u64>());
        book.frozen_flips(|page, flips| chunks += flip_ops(page, flips).map(|op| op.bytes()).sum::<u64>());
        assert!((60 << 20..promised[0]).contains(&pages), "{pages} of {promised:?}");
        assert!((4 << 20..promised[1]).contains(&chunks), "{chunks} of {promised:?}");
    }

    proptest! {
        /// What is promised for extents of which only number and sum are known is enough for any such, wherever they are.
        #[test]
        fn no_extents_change_more_places_than_they_were_promised(
            gaps in proptest::collection::vec((0_u64..70_000, 1_u64..70_000), 0..20),
        ) {
            let mut at = 0;
            let extents: Vec<Extent> = gaps
                .into_iter()
                .map(|(gap, blocks)| {
                    let extent = Extent::new((at + gap) * 4096, blocks * 4096);
                    at += gap + blocks;
                    extent
                })
                .collect();
            let bytes = extents.iter().map(|extent| extent.len).sum();
            let promised = Places::of_extents(extents.len().try_into().expect("few"), bytes, 4096);
            let touched = Places::touched(&extents, 4096);
            prop_assert!(touched.pages <= promised.pages && touched.chunks <= promised.chunks);
            prop_assert!(extents.is_empty() == (touched == Places::default()));
        }

        #[test]
        fn merged_operands_are_a_chunk(a: [u8; 32], b: [u8; 32]) {
            let wide = |half: [u8; 32], at: usize| {
                let mut bits = [0; CHUNK_BYTES];
                bits[at..at + 32].copy_from_slice(&half);
                bits
            };
            let (a, b) = (wide(a, 0), wide(b, 17));
            let merged = merge(MergeOperator::Xor, Some(&encode_chunk(&a)), &encode_chunk(&b));
            let both: Vec<u8> = a.iter().zip(b).map(|(a, b)| a ^ b).collect();
            prop_assert_eq!(decode_chunk(merged).map(|bits| bits.to_vec()), Ok(both));
        }
    }
}
