//! [`BitmapPage`]: 32 Ki blocks of level 0 with their summary (level 1).
//!
//! Invariant: the summary always equals what a scan of the words would give. A page that is wholly free or wholly
//! in use has no words at all, so a slice pays memory only for segments it owns and has begun to fill. The words are
//! an allocation of their own, of exactly a power of two, which general allocators do not round up.

use crate::limits::{LINE_WORDS, PAGE_BLOCKS, PAGE_BYTES, PAGE_WORDS};
use crate::word::{ORDERS, aligned_starts, class, mask};

/// Blocks of a line of words.
const LINE_BLOCKS: u64 = 64 * LINE_WORDS as u64;

/// One page of the bitmap.
#[derive(Clone, Debug)]
pub(crate) struct BitmapPage {
    /// None if all blocks are free, or none.
    words: Option<Box<[u64; PAGE_WORDS]>>,
    /// `lines[c]` has a bit for each line with a word of class above `c`, see [`class`]: so a piece of any order is found
    /// by looking at one line of words.
    lines: [u64; ORDERS],
    free: u32,
}

impl BitmapPage {
    /// All in use.
    pub(crate) fn used() -> Self {
        Self { words: None, lines: [0; ORDERS], free: 0 }
    }

    fn all_free() -> Self {
        Self { words: None, lines: [u64::MAX; ORDERS], free: PAGE_BLOCKS as u32 }
    }

    /// From its serialised form.
    pub(crate) fn from_bytes(bytes: &[u8; PAGE_BYTES]) -> Self {
        let mut words = Box::new([0; PAGE_WORDS]);
        let mut page = Self::used();
        for (index, (word, eight)) in words.iter_mut().zip(bytes.as_chunks::<8>().0).enumerate() {
            *word = u64::from_le_bytes(*eight);
            page.free += word.count_ones();
            page.lines[..class(*word)].iter_mut().for_each(|lines| *lines |= 1 << (index / LINE_WORDS));
        }
        page.words = Some(words);
        page.compress();
        page
    }

    pub(crate) fn to_bytes(&self) -> Box<[u8; PAGE_BYTES]> {
        let Some(words) = &self.words else {
            return Box::new([if self.is_all_free() { 0xff } else { 0 }; PAGE_BYTES]);
        };
        let mut bytes = Box::new([0; PAGE_BYTES]);
        for (eight, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words.iter()) {
            *eight = word.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn word(&self, index: usize) -> u64 {
        match &self.words {
            Some(words) => words[index],
            None if self.is_all_free() => u64::MAX,
            None => 0,
        }
    }

    pub(crate) fn free_blocks(&self) -> u64 {
        self.free.into()
    }

    pub(crate) fn is_all_free(&self) -> bool {
        self.free_blocks() == PAGE_BLOCKS
    }

    /// Whether all blocks are in the same state.
    pub(crate) fn is_uniform(&self) -> bool {
        self.words.is_none()
    }

    /// Highest class of any word.
    pub(crate) fn class(&self) -> usize {
        self.lines.iter().rposition(|lines| *lines != 0).map_or(0, |order| order + 1)
    }

    /// Makes blocks `from..to` free or used; they were all the opposite. Gives the words touched.
    pub(crate) fn set(&mut self, from: u64, to: u64, free: bool) -> u64 {
        if from == 0 && to == PAGE_BLOCKS {
            *self = if free { Self::all_free() } else { Self::used() };
            return 1;
        }
        let fill = self.word(0);
        let words = self.words.get_or_insert_with(|| Box::new([fill; PAGE_WORDS]));
        let mut at = from;
        let mut touched = 0;
        while at < to {
            // The highest class of the words that change in this line, before and after.
            let (mut was_class, mut new_class) = (0, 0);
            let line = (at / LINE_BLOCKS) as usize;
            let line_end = (at / LINE_BLOCKS * LINE_BLOCKS + LINE_BLOCKS).min(to);
            while at < line_end {
                let end = (at / 64 * 64 + 64).min(line_end);
                let word = &mut words[(at / 64) as usize];
                let bits = mask(at % 64, at % 64 + (end - at));
                assert!(*word & bits == if free { 0 } else { bits }, "a block changed to the state it had");
                was_class = was_class.max(class(*word));
                *word ^= bits;
                new_class = new_class.max(class(*word));
                at = end;
                touched += 1;
            }
            for order in was_class..new_class {
                self.lines[order] |= 1 << line;
            }
            if new_class < was_class {
                // Other words of the line may be of that class, too.
                let mut best = new_class;
                for word in &words[line * LINE_WORDS..(line + 1) * LINE_WORDS] {
                    touched += 1;
                    best = best.max(class(*word));
                    if best >= was_class {
                        break;
                    }
                }
                for order in best..was_class {
                    self.lines[order] &= !(1 << line);
                }
            }
        }
        let changed = (to - from) as u32;
        self.free = if free { self.free + changed } else { self.free - changed };
        self.compress();
        touched
    }

    /// First aligned free piece of `2^order` blocks that starts at or after block `from`; adds the words it
    /// looked at to `touched`.
    pub(crate) fn find(&self, order: usize, from: u64, touched: &mut u64) -> Option<u64> {
        *touched += 1;
        let Some(words) = &self.words else {
            let start = from.next_multiple_of(1_u64 << order);
            return Some(start).filter(|start| self.is_all_free() && *start < PAGE_BLOCKS);
        };
        let mut index = (from / 64) as usize;
        let mut first = u64::MAX << (from % 64);
        loop {
            let ahead = self.lines[order] & u64::MAX.checked_shl((index / LINE_WORDS) as u32).unwrap_or(0);
            if ahead == 0 {
                return None;
            }
            let line = ahead.trailing_zeros() as usize;
            if line != index / LINE_WORDS {
                index = line * LINE_WORDS;
                first = u64::MAX;
            }
            // Only the line of `from` may have its pieces before it.
            while index < (line + 1) * LINE_WORDS {
                *touched += 1;
                let starts = aligned_starts(words[index], order) & first;
                if starts != 0 {
                    return Some(index as u64 * 64 + u64::from(starts.trailing_zeros()));
                }
                index += 1;
                first = u64::MAX;
            }
        }
    }

    pub(crate) fn memory(&self) -> usize {
        if self.words.is_some() { PAGE_BYTES } else { 0 }
    }

    fn compress(&mut self) {
        match self.free_blocks() {
            0 => *self = Self::used(),
            PAGE_BLOCKS => *self = Self::all_free(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the summary says, by looking at every word.
    fn scan(page: &BitmapPage) -> ([u64; ORDERS], u64) {
        let mut lines = [0; ORDERS];
        let mut free = 0;
        for index in 0..PAGE_WORDS {
            let word = page.word(index);
            free += u64::from(word.count_ones());
            lines[..class(word)].iter_mut().for_each(|lines| *lines |= 1_u64 << (index / LINE_WORDS));
        }
        (lines, free)
    }

    #[test]
    fn the_summary_is_what_a_scan_gives() {
        let mut page = BitmapPage::used();
        let mut state = 9_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for step in 0..20_000 {
            let from = draw(PAGE_BLOCKS);
            let is_free = page.word((from / 64) as usize) >> (from % 64) & 1 == 1;
            let longest = [3, 70, 2000, PAGE_BLOCKS][draw(4) as usize];
            let same = |block: &u64| (page.word((block / 64) as usize) >> (block % 64) & 1 == 1) == is_free;
            let end = (from..PAGE_BLOCKS.min(from + 1 + draw(longest))).take_while(same).count() as u64;
            page.set(from, from + end, !is_free);
            if step % 16 == 0 {
                assert_eq!((page.lines, page.free_blocks()), scan(&page));
                let again = BitmapPage::from_bytes(&page.to_bytes());
                assert_eq!(
                    (again.lines, again.free, again.is_uniform()),
                    (page.lines, page.free, page.is_uniform())
                );
                let (order, from) = (draw(7) as usize, draw(PAGE_BLOCKS));
                let slow =
                    (from.next_multiple_of(1 << order)..PAGE_BLOCKS).step_by(1 << order).find(|start| {
                        (*start..start + (1 << order))
                            .all(|block| page.word((block / 64) as usize) >> (block % 64) & 1 == 1)
                    });
                let mut touched = 0;
                assert_eq!(page.find(order, from, &mut touched), slow);
                assert!(touched <= 1 + 2 * LINE_WORDS as u64, "{touched} words");
            }
        }
    }
}
