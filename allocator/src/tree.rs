//! [`BitTree`]: a set of small integers with "first member at or after" in one word per level.

/// Level 0 has a bit per member; each higher level a bit per non-zero word below it.
#[derive(Clone, Debug)]
pub(crate) struct BitTree {
    levels: Vec<Vec<u64>>,
}

impl BitTree {
    /// The empty set over `0..len`, `len` > 0.
    pub(crate) fn new(len: usize) -> Self {
        assert!(len > 0, "a tree over nothing");
        let mut levels = Vec::new();
        let mut words = len.div_ceil(64);
        loop {
            levels.push(vec![0_u64; words]);
            if words == 1 {
                return Self { levels };
            }
            words = words.div_ceil(64);
        }
    }

    /// Widens what it is over to `0..len`.
    pub(crate) fn grow(&mut self, len: usize) {
        let mut words = len.div_ceil(64);
        let mut height = 0;
        loop {
            if self.levels.len() == height {
                // The level below was one word until now.
                let below = self.levels.last().is_some_and(|below| below[0] != 0);
                self.levels.push(vec![u64::from(below)]);
            }
            let level = &mut self.levels[height];
            level.resize(words.max(level.len()), 0);
            if words == 1 {
                return;
            }
            words = words.div_ceil(64);
            height += 1;
        }
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        self.levels[0][index / 64] >> (index % 64) & 1 == 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.levels.last().is_some_and(|top| top[0] == 0)
    }

    pub(crate) fn insert(&mut self, mut index: usize) {
        for level in &mut self.levels {
            let word = &mut level[index / 64];
            let was = *word;
            *word |= 1 << (index % 64);
            if was != 0 {
                return;
            }
            index /= 64;
        }
    }

    pub(crate) fn remove(&mut self, mut index: usize) {
        for level in &mut self.levels {
            let word = &mut level[index / 64];
            *word &= !(1 << (index % 64));
            if *word != 0 {
                return;
            }
            index /= 64;
        }
    }

    /// The smallest member ≥ `from`; climbs until a word has one, then descends to it.
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        let mut index = from;
        for (height, level) in self.levels.iter().enumerate() {
            let word = level.get(index / 64)?;
            let here = word & (u64::MAX << (index % 64));
            if here != 0 {
                let mut found = index / 64 * 64 + here.trailing_zeros() as usize;
                for below in self.levels[..height].iter().rev() {
                    found = found * 64 + below[found].trailing_zeros() as usize;
                }
                return Some(found);
            }
            index = index / 64 + 1;
        }
        None
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.levels.iter().map(|level| level.capacity() * 8).sum()
    }

    pub(crate) fn height(&self) -> usize {
        self.levels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_grown_tree_is_as_one_made_so_wide() {
        for (before, after) in [(1, 64), (1, 65), (64, 4097), (65, 70_000), (4096, 300_000), (5, 5)] {
            let (mut grown, mut wide) = (BitTree::new(before), BitTree::new(after));
            for index in (0..before).step_by(7) {
                grown.insert(index);
                wide.insert(index);
            }
            grown.grow(after);
            for index in (before..after).step_by(31) {
                grown.insert(index);
                wide.insert(index);
            }
            assert_eq!(grown.levels, wide.levels, "{before} to {after}");
        }
    }

    #[test]
    fn agrees_with_an_ordered_set() {
        for len in [1, 63, 64, 65, 4096, 4097, 70_000] {
            let mut tree = BitTree::new(len);
            let mut set = BTreeSet::new();
            let mut state = 12345_usize;
            for _ in 0..3000 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let index = (state >> 33) % len;
                if state >> 60 & 1 == 0 || set.len() > 40 {
                    let victim = set.range(index..).next().copied().unwrap_or(index);
                    tree.remove(victim);
                    set.remove(&victim);
                } else {
                    tree.insert(index);
                    set.insert(index);
                }
                let from = (state >> 20) % (len + 2);
                assert_eq!(tree.next(from), set.range(from..).next().copied());
                assert_eq!(tree.contains(index), set.contains(&index));
            }
        }
    }
}
