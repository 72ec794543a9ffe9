//! [`Arrivals`]: when the operations of an open loop are to start, whatever becomes of earlier ones.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use rand_distr::{Distribution as _, Exp1};
use rt::Nanos;

use crate::job::Spacing;

/// Moments, ascending without end.
pub struct Arrivals {
    spacing: Spacing,
    random: ChaCha8Rng,
    begin: u64,
    /// Between two, nanoseconds, on average.
    gap_ns: f64,
    /// Since `begin`, in nanoseconds: a float, so that fractions add up instead of being lost. It has 53 bits, hence a
    /// nanosecond after a hundred days.
    elapsed_ns: f64,
}

impl Arrivals {
    /// So many per second, from a moment on.
    pub fn new(rate: f64, spacing: Spacing, begin: Nanos, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let mut arrivals = Self { spacing, random, begin: begin.0, gap_ns: 1e9 / rate, elapsed_ns: 0.0 };
        if spacing == Spacing::Exponential {
            arrivals.advance();
        }
        arrivals
    }

    /// The next one.
    pub fn peek(&self) -> Nanos {
        Nanos(self.begin.saturating_add(self.elapsed_ns as u64))
    }

    /// Goes on to the one after it.
    pub fn advance(&mut self) {
        let gaps = match self.spacing {
            Spacing::Fixed => 1.0,
            Spacing::Exponential => Exp1.sample(&mut self.random),
        };
        self.elapsed_ns += gaps * self.gap_ns;
    }
}

/// Uniform in `0..bound`; 0 if that is empty.
pub fn below(random: &mut ChaCha8Rng, bound: u64) -> u64 {
    ((u128::from(random.next_u64()) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_ones_are_equally_apart_and_none_is_lost_to_rounding() {
        let mut arrivals = Arrivals::new(3_000_000.0, Spacing::Fixed, Nanos(7), 1);
        assert_eq!(arrivals.peek(), Nanos(7));
        for _ in 0..3_000_000 {
            arrivals.advance();
        }
        assert!(arrivals.peek().0.abs_diff(1_000_000_007) <= 1, "{:?}", arrivals.peek());
    }

    #[test]
    fn exponential_ones_have_the_rate_and_the_spread_of_a_poisson_process() {
        let mut arrivals = Arrivals::new(1000.0, Spacing::Exponential, Nanos(0), 1);
        let mut gaps = Vec::new();
        for _ in 0..100_000 {
            let before = arrivals.peek().0;
            arrivals.advance();
            gaps.push((arrivals.peek().0 - before) as f64 / 1e6);
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
