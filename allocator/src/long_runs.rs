//! [`LongRuns`]: where long free runs probably are, by length. A hint may be out of date, and a run may have none: the
//! bitmap tells what is true. So keeping them costs nothing when space is taken, and memory is bounded.

use crate::limits::{LONG_RUN_BLOCKS, LONG_RUN_ORDERS};

/// See the module. Lengths and places in blocks.
#[derive(Clone, Debug)]
pub(crate) struct LongRuns {
    /// `bins[n]`: starts of runs of at least `LONG_RUN_BLOCKS << n` blocks; the newest last.
    bins: [Vec<u64>; LONG_RUN_ORDERS],
    per_bin_max: usize,
}

/// The bin of the longest runs of which all are at most so long; none if they are no long runs.
fn bin_of(blocks: u64) -> Option<usize> {
    let order = (blocks / LONG_RUN_BLOCKS).checked_ilog2()? as usize;
    Some(order.min(LONG_RUN_ORDERS - 1))
}

impl LongRuns {
    /// None yet; up to `per_bin_max` of each order.
    pub(crate) fn new(per_bin_max: usize) -> Self {
        Self { bins: std::array::from_fn(|_| Vec::new()), per_bin_max }
    }

    /// Keeps up to so many of each order from now on, not fewer than before.
    pub(crate) fn keep_up_to(&mut self, per_bin_max: usize) {
        self.per_bin_max = per_bin_max.max(self.per_bin_max);
    }

    /// A run of so many blocks, part of which, `known` blocks, was a run before. One that did not come into another bin has
    /// its hint already, or lost it.
    pub(crate) fn grew(&mut self, start: u64, blocks: u64, known: u64) {
        let Some(bin) = bin_of(blocks).filter(|bin| bin_of(known) != Some(*bin)) else { return };
        self.put(bin, start);
    }

    /// A run that is free now.
    pub(crate) fn note(&mut self, start: u64, blocks: u64) {
        if let Some(bin) = bin_of(blocks) {
            self.put(bin, start);
        }
    }

    fn put(&mut self, bin: usize, start: u64) {
        let bin = &mut self.bins[bin];
        if bin.len() == self.per_bin_max {
            // The oldest are the least likely to be true; half at once, so that it is cheap.
            bin.drain(..self.per_bin_max.div_ceil(2));
        }
        bin.push(start);
    }

    /// Takes out the start of a run that was once of at least so many blocks, the shortest kind first.
    pub(crate) fn take(&mut self, blocks: u64) -> Option<u64> {
        let enough = bin_of(blocks.next_power_of_two()).unwrap_or(0);
        self.bins[enough..].iter_mut().find_map(Vec::pop)
    }

    /// Takes out the start of the longest kind of run.
    pub(crate) fn take_longest(&mut self) -> Option<u64> {
        self.bins.iter_mut().rev().find_map(Vec::pop)
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.bins.iter().map(|bin| bin.capacity() * size_of::<u64>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_that_is_long_enough_comes_first() {
        let mut runs = LongRuns::new(10);
        for (start, blocks) in [(1, 63), (2, 64), (3, 127), (4, 128), (5, 1000), (6, 1 << 40)] {
            runs.note(start, blocks);
        }
        assert_eq!(runs.take(100), Some(4));
        assert_eq!(runs.take(65), Some(5));
        assert_eq!(runs.take(1 << 20), Some(6));
        assert_eq!(runs.take(1 << 20), None);
        assert_eq!((runs.take_longest(), runs.take_longest(), runs.take_longest()), (Some(3), Some(2), None));
    }

    #[test]
    fn only_growth_into_another_bin_is_noted() {
        let mut runs = LongRuns::new(10);
        runs.grew(1, 100, 70);
        runs.grew(2, 63, 0);
        assert_eq!(runs.take(64), None);
        runs.grew(3, 130, 70);
        assert_eq!(runs.take(64), Some(3));
    }

    #[test]
    fn memory_is_bounded() {
        let mut runs = LongRuns::new(10);
        (0..1000).for_each(|start| runs.note(start, 64));
        assert!(runs.memory() <= 16 * 8, "{} bytes", runs.memory());
        assert_eq!(runs.take(64), Some(999));
    }
}
