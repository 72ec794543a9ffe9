//! [`Aged`]: a space under a load that breaks it into pieces, and what allocations cost in it.

use std::time::{Duration, Instant};

use allocator::{Allocator, Extent, Request};
use hdrhistogram::Histogram;

use crate::dice::Dice;

/// Sizes of which allocations are measured, blocks: of an overwrite, a small object, a large blob, an object.
pub const SIZES_MEASURED: [u64; 4] = [1, 4, 16, 1024];

/// Sizes in the load, blocks, with the share of each in percent of all allocations.
const MIX: [(u64, u64); 6] = [(1, 50), (3, 15), (8, 15), (16, 12), (256, 6), (1024, 2)];
const EXTENTS_MAX: usize = 1 << 16;
/// Longest time of which a histogram knows more than that it was too long.
const LONGEST_NS: u64 = 1_000_000_000;

pub struct Aged<A> {
    space: A,
    /// What is in use, in pieces.
    held: Vec<Extent>,
    dice: Dice,
    /// To keep in use, bytes.
    target: u64,
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
    pub capacity: u64,
}

impl<A: Allocator> Aged<A> {
    /// Fills a free space to `full` percent with the mix.
    pub fn filled(space: A, full: u64, seed: u64) -> Self {
        let target = space.capacity() / 100 * full;
        let mut new = Self { space, held: Vec::new(), dice: Dice::new(seed), target };
        while new.used() < new.target {
            let blocks = new.size();
            new.take(blocks);
        }
        new
    }

    /// A space as it was found.
    pub fn found(space: A, seed: u64) -> Self {
        let held = space.used_extents();
        let target = space.capacity() - space.free_bytes();
        Self { space, held, dice: Dice::new(seed), target }
    }

    pub fn space(&self) -> &A {
        &self.space
    }

    /// Writes as much anew as is in use, so often.
    pub fn age(&mut self, turns: u64) {
        let mut left = self.target.saturating_mul(turns);
        while left > 0 {
            let blocks = self.size();
            self.make_room(blocks);
            self.take(blocks);
            left = left.saturating_sub(blocks * self.space.block_size());
        }
    }

    /// Costs of so many allocations of that many blocks, each after as much was freed.
    pub fn measure(&mut self, blocks: u64, samples: u64) -> Costs {
        // Large ones would turn the whole space over.
        let samples = samples.min(self.target / (blocks * self.space.block_size()) / 4).max(100);
        let clock = clock_ns();
        let mut times = histogram();
        let before = self.space.work();
        let (mut words_max, mut words) = (0, before.words);
        let mut extents = 0;
        for _ in 0..samples {
            self.make_room(blocks);
            let request = self.request(blocks);
            let held = self.held.len();
            let start = Instant::now();
            let result = self.space.allocate(&request, &mut self.held);
            let took = start.elapsed();
            assert!(result.is_ok(), "room was made: {result:?}");
            extents += self.held.len() - held;
            times.saturating_record(nanoseconds(took).saturating_sub(clock));
            let now = self.space.work().words;
            words_max = words_max.max(now - words);
            words = now;
        }
        let capacity = self.space.capacity();
        Costs {
            blocks,
            full: self.used() as f64 / capacity as f64,
            fragmentation: self.space.fragmentation(),
            free_runs: self.space.free_runs(),
            times,
            clock_ns: clock,
            words_mean: (words - before.words) as f64 / samples as f64,
            words_max,
            extents_mean: extents as f64 / samples as f64,
            capacity,
        }
    }

    fn used(&self) -> u64 {
        self.space.capacity() - self.space.free_bytes()
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

    fn request(&self, blocks: u64) -> Request {
        let unit = self.space.block_size();
        Request { len: blocks * unit, unit, extents_max: EXTENTS_MAX, hint: None }
    }

    fn take(&mut self, blocks: u64) {
        let result = self.space.allocate(&self.request(blocks), &mut self.held);
        assert!(result.is_ok(), "there is room: {result:?}");
    }

    /// Frees random pieces until so many blocks can be allocated without more being in use than is to be. Half of what
    /// is freed is a block out of a longer piece, as overwrites free it.
    fn make_room(&mut self, blocks: u64) {
        let block = self.space.block_size();
        while !self.held.is_empty() && self.used() + blocks * block > self.target {
            let index = self.dice.below(self.held.len() as u64) as usize;
            let extent = self.held.swap_remove(index);
            let part = if blocks < 64 && self.dice.below(2) == 0 {
                Extent::new(extent.start + self.dice.below(extent.len / block) * block, block)
            } else {
                extent
            };
            let result = self.space.release(part);
            assert!(result.is_ok(), "it is in use: {result:?}");
            let before = Extent::new(extent.start, part.start - extent.start);
            let after = Extent::new(part.end(), extent.end() - part.end());
            self.held.extend([before, after].into_iter().filter(|rest| rest.len > 0));
        }
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
