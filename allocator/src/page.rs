//! [`BitmapPage`]: 32 Ki blocks of level 0 with their summary (level 1).
//!
//! Invariant: the summary always equals what a scan of the words would give. A page that is wholly free or wholly
//! in use has no words at all, so a slice pays memory only for segments it owns and has begun to fill.

use crate::limits::{PAGE_BLOCKS, PAGE_BYTES, PAGE_WORDS};
use crate::word::{ORDERS, aligned_starts, class, mask};

/// One page of the bitmap.
#[derive(Clone, Debug)]
pub(crate) enum BitmapPage {
    Used,
    Free,
    Mixed(Box<Mixed>),
}

/// Words of a page that is neither wholly free nor wholly in use.
#[derive(Clone, Debug)]
pub(crate) struct Mixed {
    words: [u64; PAGE_WORDS],
    /// A bit per word that has free blocks.
    any: [u64; PAGE_WORDS / 64],
    /// How many words are of each class, see [`class`].
    classes: [u16; ORDERS + 1],
    free: u32,
}

impl Mixed {
    fn filled(with: u64) -> Self {
        let words_of = |wanted: u64| if with == wanted { PAGE_WORDS as u16 } else { 0 };
        let mut classes = [0; ORDERS + 1];
        classes[0] = words_of(0);
        classes[ORDERS] = words_of(u64::MAX);
        let free = if with == 0 { 0 } else { PAGE_BLOCKS as u32 };
        Self { words: [with; PAGE_WORDS], any: [with; PAGE_WORDS / 64], classes, free }
    }

    fn put(&mut self, index: usize, word: u64) {
        let was = std::mem::replace(&mut self.words[index], word);
        self.classes[class(was)] -= 1;
        self.classes[class(word)] += 1;
        self.free = self.free + word.count_ones() - was.count_ones();
        let bit = 1 << (index % 64);
        if word == 0 {
            self.any[index / 64] &= !bit;
        } else {
            self.any[index / 64] |= bit;
        }
    }
}

impl BitmapPage {
    /// From its serialised form.
    pub(crate) fn from_bytes(bytes: &[u8; PAGE_BYTES]) -> Self {
        let mut mixed = Box::new(Mixed::filled(0));
        for (index, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
            mixed.put(index, u64::from_le_bytes(*eight));
        }
        let mut page = Self::Mixed(mixed);
        page.compress();
        page
    }

    pub(crate) fn to_bytes(&self) -> Box<[u8; PAGE_BYTES]> {
        match self {
            Self::Used => Box::new([0; PAGE_BYTES]),
            Self::Free => Box::new([0xff; PAGE_BYTES]),
            Self::Mixed(mixed) => {
                let mut bytes = Box::new([0; PAGE_BYTES]);
                for (eight, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&mixed.words) {
                    *eight = word.to_le_bytes();
                }
                bytes
            }
        }
    }

    pub(crate) fn word(&self, index: usize) -> u64 {
        match self {
            Self::Used => 0,
            Self::Free => u64::MAX,
            Self::Mixed(mixed) => mixed.words[index],
        }
    }

    pub(crate) fn free_blocks(&self) -> u64 {
        match self {
            Self::Used => 0,
            Self::Free => PAGE_BLOCKS,
            Self::Mixed(mixed) => u64::from(mixed.free),
        }
    }

    /// Highest class of any word.
    pub(crate) fn class(&self) -> usize {
        match self {
            Self::Used => 0,
            Self::Free => ORDERS,
            Self::Mixed(mixed) => mixed.classes.iter().rposition(|count| *count > 0).unwrap_or(0),
        }
    }

    /// Makes blocks `from..to` free or used; they were all the opposite. Gives the words touched.
    pub(crate) fn set(&mut self, from: u64, to: u64, free: bool) -> u64 {
        if from == 0 && to == PAGE_BLOCKS {
            *self = if free { Self::Free } else { Self::Used };
            return 1;
        }
        let mixed = self.materialise();
        let mut at = from;
        let mut touched = 0;
        while at < to {
            let index = (at / 64) as usize;
            let end = (at / 64 * 64 + 64).min(to);
            let bits = mask(at % 64, at % 64 + (end - at));
            let was = mixed.words[index];
            assert!(was & bits == if free { 0 } else { bits }, "a block changed to the state it had");
            mixed.put(index, was ^ bits);
            at = end;
            touched += 1;
        }
        self.compress();
        touched
    }

    /// First aligned free piece of `2^order` blocks that starts at or after block `from`; adds the words it
    /// looked at to `touched`.
    pub(crate) fn find(&self, order: usize, from: u64, touched: &mut u64) -> Option<u64> {
        *touched += 1;
        let size = 1_u64 << order;
        let mixed = match self {
            Self::Used => return None,
            Self::Free => return Some(from.next_multiple_of(size)).filter(|start| *start < PAGE_BLOCKS),
            Self::Mixed(mixed) => mixed,
        };
        let mut index = (from / 64) as usize;
        let mut first = u64::MAX << (from % 64);
        while index < PAGE_WORDS {
            let any = mixed.any[index / 64] & (u64::MAX << (index % 64));
            *touched += 1;
            if any == 0 {
                index = (index / 64 + 1) * 64;
                first = u64::MAX;
                continue;
            }
            let candidate = index / 64 * 64 + any.trailing_zeros() as usize;
            if candidate != index {
                first = u64::MAX;
            }
            let starts = aligned_starts(mixed.words[candidate], order) & first;
            if starts != 0 {
                return Some(candidate as u64 * 64 + u64::from(starts.trailing_zeros()));
            }
            index = candidate + 1;
            first = u64::MAX;
        }
        None
    }

    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::Used | Self::Free => 0,
            Self::Mixed(_) => size_of::<Mixed>(),
        }
    }

    fn materialise(&mut self) -> &mut Mixed {
        let fill = match self {
            Self::Used => 0,
            Self::Free => u64::MAX,
            Self::Mixed(_) => {
                let Self::Mixed(mixed) = self else { unreachable!("matched above") };
                return mixed;
            }
        };
        *self = Self::Mixed(Box::new(Mixed::filled(fill)));
        let Self::Mixed(mixed) = self else { unreachable!("just stored") };
        mixed
    }

    fn compress(&mut self) {
        match self.free_blocks() {
            0 => *self = Self::Used,
            PAGE_BLOCKS => *self = Self::Free,
            _ => {}
        }
    }
}
