//! [`Aged`]: a space under a load that breaks it into pieces, and what allocations cost in it.

use std::time::{Duration, Instant};

use allocator::{Allocator, Extent};
use hdrhistogram::Histogram;

use crate::dice::Dice;
use crate::held::Held;
use crate::upkeep::{AtOnce, Upkeep, request};

/// Sizes of which allocations are measured, blocks: of an overwrite, a small object, a large blob, an object.
pub const SIZES_MEASURED: [u64; 4] = [1, 4, 16, 1024];

/// Sizes in the load, blocks, with the share of each in percent of all allocations.
const MIX: [(u64, u64); 6] = [(1, 50), (3, 15), (8, 15), (16, 12), (256, 6), (1024, 2)];
/// Longest time of which a histogram knows more than that it was too long.
const LONGEST_NS: u64 = 1_000_000_000;

pub struct Aged<A, U> {
    space: A,
    upkeep: U,
    held: Held,
    dice: Dice,
    /// To keep in use, bytes.
    target: u64,
    moved: Option<f64>,
    /// What an allocation gave; kept for its memory.
    taken: Vec<Extent>,
}

/// What allocations of one size cost.
pub struct Costs {
    pub blocks: u64,
    pub full: f64,
    pub fragmentation: f64,
    pub free_runs: u64,
    /// Less what reading the clock takes, ns.
    pub times: Histogram<u64>,
    pub clock_ns: u64,
    pub words_mean: f64,
    pub words_max: u64,
    pub extents_mean: f64,
    /// Blocks that upkeep moved for a block written, in the last turn of ageing; none if it moves nothing or
    /// there was no turn.
    pub moved: Option<f64>,
    pub capacity: u64,
}

impl<A: Allocator> Aged<A, AtOnce> {
    /// A space as it was found.
    pub fn found(space: A, seed: u64) -> Self {
        let target = space.capacity() - space.free_bytes();
        let used = space.used_extents();
        let mut new = Self::new(space, AtOnce, target, seed);
        used.into_iter().for_each(|extent| new.held.push(extent));
        new
    }
}

impl<A: Allocator, U: Upkeep<A>> Aged<A, U> {
    /// Fills a free space with the mix, to `full` percent of what upkeep leaves.
    pub fn filled(space: A, upkeep: U, full: u64, seed: u64) -> Self {
        let target = space.capacity().saturating_sub(upkeep.reserve()) / 100 * full;
        let mut new = Self::new(space, upkeep, target, seed);
        while new.held.bytes() < new.target {
            let blocks = new.size();
            new.take(blocks);
        }
        new
    }

    fn new(space: A, upkeep: U, target: u64, seed: u64) -> Self {
        let held = upkeep.hold();
        Self { space, upkeep, held, dice: Dice::new(seed), target, moved: None, taken: Vec::new() }
    }

    pub fn space(&self) -> &A {
        &self.space
    }

    /// Writes as much anew as is in use, so often.
    pub fn age(&mut self, turns: u64) -> anyhow::Result<()> {
        for _ in 0..turns {
            let before = self.upkeep.moved();
            let written = self.turn()?;
            let moved = self.upkeep.moved().zip(before).map(|(now, before)| now - before);
            self.moved = moved.map(|bytes| bytes as f64 / written.max(1) as f64);
        }
        Ok(())
    }

    /// Writes as much anew as is in use; gives the bytes written.
    fn turn(&mut self) -> anyhow::Result<u64> {
        let mut written = 0;
        while written < self.target {
            let blocks = self.size();
            self.make_room(blocks)?;
            self.take(blocks);
            written += blocks * self.space.block_size();
        }
        Ok(written)
    }

    /// Costs of so many allocations of that many blocks, each after as much was freed.
    pub fn measure(&mut self, blocks: u64, samples: u64) -> anyhow::Result<Costs> {
        // Large ones would turn the whole space over.
        let samples = samples.min(self.target / (blocks * self.space.block_size()) / 4).max(100);
        let clock = clock_ns();
        let mut times = histogram();
        let request = request(blocks * self.space.block_size(), self.space.block_size());
        let (mut words_max, mut words) = (0, 0);
        let mut extents = 0;
        for _ in 0..samples {
            self.make_room(blocks)?;
            let before = self.space.work().words;
            let start = Instant::now();
            let result = self.space.allocate(&request, &mut self.taken);
            let took = start.elapsed();
            assert!(result.is_ok(), "room was made: {result:?}");
            times.saturating_record(nanoseconds(took).saturating_sub(clock));
            let looked = self.space.work().words - before;
            words_max = words_max.max(looked);
            words += looked;
            extents += self.taken.len();
            self.hold();
        }
        let capacity = self.space.capacity();
        Ok(Costs {
            blocks,
            full: self.held.bytes() as f64 / capacity as f64,
            fragmentation: self.space.fragmentation(),
            free_runs: self.space.free_runs(),
            times,
            clock_ns: clock,
            words_mean: words as f64 / samples as f64,
            words_max,
            extents_mean: extents as f64 / samples as f64,
            moved: self.moved,
            capacity,
        })
    }

    fn size(&mut self) -> u64 {
        let mut at = self.dice.below(100);
        for (blocks, share) in MIX {
            if at < share {
                return blocks;
            }
            at -= share;
        }
        1
    }

    fn take(&mut self, blocks: u64) {
        let unit = self.space.block_size();
        let result = self.space.allocate(&request(blocks * unit, unit), &mut self.taken);
        assert!(result.is_ok(), "there is room: {result:?}");
        self.hold();
    }

    fn hold(&mut self) {
        self.taken.drain(..).for_each(|extent| self.held.push(extent));
    }

    /// Frees random pieces until so many blocks can be allocated without more being in use than is to be. Half of what
    /// is freed is a block out of a longer piece, as overwrites free it. Upkeep follows.
    fn make_room(&mut self, blocks: u64) -> anyhow::Result<()> {
        let block = self.space.block_size();
        while !self.held.is_empty() && self.held.bytes() + blocks * block > self.target {
            let index = self.dice.below(self.held.len() as u64) as usize;
            let extent = self.held.remove(index);
            let part = if blocks < 64 && self.dice.below(2) == 0 {
                Extent::new(extent.start + self.dice.below(extent.len / block) * block, block)
            } else {
                extent
            };
            let result = self.space.release(part);
            assert!(result.is_ok(), "it is in use: {result:?}");
            let before = Extent::new(extent.start, part.start - extent.start);
            let after = Extent::new(part.end(), extent.end() - part.end());
            for rest in [before, after].into_iter().filter(|rest| rest.len > 0) {
                self.held.push(rest);
            }
        }
        self.upkeep.make_free(&mut self.space, &mut self.held, blocks * block)
    }
}

fn histogram() -> Histogram<u64> {
    match Histogram::new_with_max(LONGEST_NS, 3) {
        Ok(histogram) => histogram,
        Err(error) => panic!("the bounds are sound: {error}"),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What reading the clock twice takes, ns: the median.
fn clock_ns() -> u64 {
    let mut times = histogram();
    for _ in 0..10_000 {
        let start = Instant::now();
        times.saturating_record(nanoseconds(start.elapsed()));
    }
    times.value_at_quantile(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cleaner::{self, Cleaner, RESERVE_ZONES};
    use crate::{BLOCK, empty};
    use allocator::{BitmapAllocator, ZonedAllocator};

    const SIZE: u64 = 2 << 30;
    const ZONE_MIB: u64 = 16;
    /// A piece is at most so long.
    const LONGEST: u64 = 1024 * BLOCK;

    fn aged_zones(full: u64) -> Aged<ZonedAllocator, Cleaner> {
        let layout = cleaner::layout(SIZE, ZONE_MIB).unwrap();
        let space = empty(ZonedAllocator::new(SIZE, BLOCK, layout)).unwrap();
        let mut aged = Aged::filled(space, Cleaner::new(layout), full, 1);
        aged.age(2).unwrap();
        aged
    }

    /// What is held is what the allocator has in use, and as much as is to be.
    fn check<A: Allocator, U: Upkeep<A>>(aged: &Aged<A, U>) {
        let used = aged.space.used_extents();
        assert_eq!(aged.held.joined(), used);
        assert_eq!(aged.held.bytes(), used.iter().map(|extent| extent.len).sum::<u64>());
        assert!(aged.held.bytes().abs_diff(aged.target) <= LONGEST, "{}", aged.held.bytes());
    }

    #[test]
    fn zones_are_cleaned_and_nothing_is_lost() {
        let moved = [50, 80, 95].map(|full| {
            let mut aged = aged_zones(full);
            check(&aged);
            assert_eq!(aged.target, (SIZE - RESERVE_ZONES * (ZONE_MIB << 20)) / 100 * full);
            for blocks in SIZES_MEASURED {
                let costs = aged.measure(blocks, 1000).unwrap();
                check(&aged);
                // A zone may end within any allocation, but none is so long that another ends in it as well.
                let bound = aged.space.words_bound(blocks, 2);
                assert!(costs.words_max <= bound, "{} words for {blocks} blocks", costs.words_max);
                assert!(costs.extents_mean < 1.5, "{} extents", costs.extents_mean);
            }
            aged.moved.unwrap()
        });
        // Less than if each block died by itself, for the longest pieces are a quarter of so small a zone.
        let expected = [0.05..0.3, 0.5..1.7, 2.0..9.0];
        assert!(expected.iter().zip(&moved).all(|(range, moved)| range.contains(moved)), "{moved:?}");
    }

    #[test]
    fn what_is_free_at_once_is_not_moved() {
        let mut aged = Aged::filled(empty(BitmapAllocator::new(SIZE, BLOCK)).unwrap(), AtOnce, 80, 1);
        aged.age(1).unwrap();
        check(&aged);
        assert_eq!(aged.measure(4, 1000).unwrap().moved, None);
    }
}
