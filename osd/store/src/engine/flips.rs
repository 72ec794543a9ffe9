//! [`Flips`]: extents that changed hands. Whether they were used or freed need not be known: a bitmap in which they are
//! flipped is as it was before. So their order does not matter, and each takes eight bytes.

use super::free_list::CHUNK_BLOCKS;
use allocator::limits::{BLOCKS_MAX, PAGE_BLOCKS, PAGE_BYTES};
use allocator::{AllocResult, Allocator, BitmapAllocator, Extent};

/// Bits of the number of blocks; what is above is the first block.
const LEN_BITS: u32 = 16;
/// Bytes of memory that one takes.
pub const FLIP_BYTES: u64 = 8;
/// Memory grows by so many, not by doubling: it is bounded, and what is not used of it should be little.
pub const STEP: usize = 1024;

const _: () = assert!(PAGE_BLOCKS < 1 << LEN_BITS && BLOCKS_MAX <= 1 << (u64::BITS - LEN_BITS));

/// Marks the blocks of a page from one on, counted in the page, as in use.
pub fn clear_from(bits: &mut [u8; PAGE_BYTES], first: u64) {
    for (index, byte) in (0..).zip(bits.iter_mut()) {
        // Lowest bits first: those of blocks before the first stay.
        let kept = first.saturating_sub(8 * index).min(8);
        *byte &= u8::try_from((1_u16 << kept) - 1).unwrap_or(u8::MAX);
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Flips {
    /// Bytes.
    block: u64,
    /// First block and number of blocks; none is in two pages.
    all: Vec<u64>,
    /// Whether `all` is ascending.
    sorted: bool,
    /// A bit for each page that has one.
    pages: Vec<u64>,
    page_count: u64,
    /// At least as many as the chunks that have one.
    chunk_count: u64,
}

impl Flips {
    /// None yet, of blocks of `block` bytes.
    pub fn new(block: u64) -> Self {
        Self { block, all: Vec::new(), sorted: true, pages: Vec::new(), page_count: 0, chunk_count: 0 }
    }

    /// Flips an extent, which is aligned to blocks.
    pub fn push(&mut self, extent: Extent) {
        let (mut at, end) = (extent.start / self.block, extent.end() / self.block);
        while at < end {
            let page = at / PAGE_BLOCKS;
            let stop = end.min((page + 1) * PAGE_BLOCKS);
            let flip = at << LEN_BITS | (stop - at);
            self.sorted &= self.all.last().is_none_or(|last| *last <= flip);
            if self.all.len() == self.all.capacity() {
                self.all.reserve_exact(STEP);
            }
            self.all.push(flip);
            self.chunk_count += stop.div_ceil(CHUNK_BLOCKS) - at / CHUNK_BLOCKS;
            self.note_page(page);
            at = stop;
        }
    }

    fn note_page(&mut self, page: u64) {
        let (word, bit) = (usize::try_from(page / 64).unwrap_or(usize::MAX), 1 << (page % 64));
        if self.pages.len() <= word {
            self.pages.resize(word + 1, 0);
        }
        self.page_count += u64::from(self.pages[word] & bit == 0);
        self.pages[word] |= bit;
    }

    /// Has a page looked at although nothing in it may be flipped.
    pub fn touch(&mut self, page: u64) {
        self.note_page(page);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        u64::try_from(self.all.len()).unwrap_or(u64::MAX)
    }

    /// How many pages have any.
    pub fn page_count(&self) -> u64 {
        self.page_count
    }

    /// At least as many as the chunks of the free list that have any.
    pub fn chunk_count(&self) -> u64 {
        self.chunk_count
    }

    /// The pages that have any, ascending.
    pub fn pages(&self) -> impl Iterator<Item = u64> {
        let words = (0..).step_by(64).zip(&self.pages);
        words.flat_map(|(first, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        })
    }

    /// Sorts them, so that they can be looked at by page.
    pub fn sort(&mut self) {
        if !self.sorted {
            self.all.sort_unstable();
            self.sorted = true;
        }
    }

    /// Flips a page's bits. They must be sorted.
    pub fn flip_page(&self, page: u64, bits: &mut [u8; PAGE_BYTES]) {
        assert!(self.sorted, "flips are sorted before they are looked at by page");
        let first = page * PAGE_BLOCKS;
        let from = self.all.partition_point(|flip| flip >> LEN_BITS < first);
        for flip in &self.all[from..] {
            let (start, len) = (flip >> LEN_BITS, flip & ((1 << LEN_BITS) - 1));
            if start >= first + PAGE_BLOCKS {
                return;
            }
            flip_run(bits, start - first, start - first + len);
        }
    }

    /// Flips them in a bitmap.
    pub fn apply(mut self, bitmap: &mut BitmapAllocator) -> AllocResult<()> {
        self.sort();
        for page in self.pages() {
            let mut bits = bitmap.page(page)?;
            self.flip_page(page, &mut bits);
            bitmap.load_page(page, &bits)?;
        }
        Ok(())
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        (self.all.capacity() + self.pages.capacity()) * size_of::<u64>()
    }
}

fn flip_run(bits: &mut [u8; PAGE_BYTES], from: u64, to: u64) {
    let mut at = from;
    while at < to {
        let end = (at / 8 * 8 + 8).min(to);
        let mask = (0xff_u8 << (at % 8)) & (0xff >> ((8 - end % 8) % 8));
        if let Some(byte) = usize::try_from(at / 8).ok().and_then(|index| bits.get_mut(index)) {
            *byte ^= mask;
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use rt::sim::RandomStream;

    use super::*;

    const BLOCK: u64 = 4096;

    #[test]
    fn flipped_back_a_bitmap_is_as_it_was() {
        let mut random = RandomStream::new(1, "flips");
        let blocks = 3 * PAGE_BLOCKS;
        let mut bitmap = BitmapAllocator::new_free(blocks * BLOCK, BLOCK);
        let mut flips = Flips::new(BLOCK);
        let before = bitmap.clone();
        for _ in 0..3000 {
            let start = random.below(blocks) * BLOCK;
            let most = [1, 20, PAGE_BLOCKS + 5][usize::try_from(random.below(3)).expect("small")];
            let free = bitmap.next_free(start).filter(|free| free.start == start);
            let run = free.or_else(|| bitmap.next_used(start)).expect("one or the other");
            let extent = Extent::new(run.start, run.len.min((1 + random.below(most)) * BLOCK));
            let changed = if free.is_some() { bitmap.mark_used(extent) } else { bitmap.release(extent) };
            changed.expect("it is in that state");
            flips.push(extent);
        }
        assert_eq!(flips.pages().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(flips.page_count(), 3);
        assert!(flips.count() >= 3000);
        flips.sort();
        for index in 0..3 {
            let mut page = bitmap.page(index).expect("a page");
            assert_ne!(page, before.page(index).expect("a page"));
            flips.flip_page(index, &mut page);
            assert_eq!(page, before.page(index).expect("a page"));
        }
    }

    #[test]
    fn blocks_are_cleared_to_the_end_of_the_page() {
        for first in [0, 1, 7, 8, 9, 1000, PAGE_BLOCKS - 1, PAGE_BLOCKS, PAGE_BLOCKS + 3] {
            let mut bits = [0xff; PAGE_BYTES];
            clear_from(&mut bits, first);
            let left = |block: u64| bits[usize::try_from(block / 8).expect("small")] >> (block % 8) & 1 == 1;
            assert!((0..PAGE_BLOCKS).all(|block| left(block) == (block < first)), "{first}");
        }
    }

    #[test]
    fn one_takes_eight_bytes() {
        let mut flips = Flips::new(BLOCK);
        (0..100_000).for_each(|block| flips.push(Extent::new(block * 2 * BLOCK, BLOCK)));
        assert_eq!(flips.count(), 100_000);
        assert!(flips.memory_bytes() <= 8 * (100_000 + STEP) + 64, "{} bytes", flips.memory_bytes());
        // What reaches into a second page is two.
        flips.push(Extent::new((PAGE_BLOCKS - 1) * BLOCK, 2 * BLOCK));
        assert_eq!(flips.count(), 100_002);
    }
}
