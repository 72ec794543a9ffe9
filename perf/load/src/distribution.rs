//! [`Distribution`]: which blocks are read and written, and [`Places`], which draws them.

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Zipf};

use crate::arrivals::below;

/// How often which block is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// All alike.
    Uniform,
    /// One after the other, from the first again after the last.
    Sequential,
    /// The block of rank r in proportion to 1 / r^theta; the ranks are scattered over all blocks.
    Zipf(f64),
}

impl Distribution {
    /// Largest theta: beyond this nearly all operations are at one block.
    pub const THETA_MAX: f64 = 10.0;
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => write!(f, "uniform"),
            Self::Sequential => write!(f, "sequential"),
            Self::Zipf(theta) => write!(f, "zipf:{theta}"),
        }
    }
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is none: write uniform, sequential or zipf:THETA, as in zipf:1.1");
        match text {
            "uniform" => Ok(Self::Uniform),
            "sequential" => Ok(Self::Sequential),
            _ => {
                let theta: f64 =
                    text.strip_prefix("zipf:").ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
                if theta > 0.0 && theta <= Self::THETA_MAX {
                    return Ok(Self::Zipf(theta));
                }
                Err(format!("theta of '{text}' is not more than 0 and at most {}", Self::THETA_MAX))
            }
        }
    }
}

/// Draws blocks.
pub struct Places {
    positions: u64,
    kind: Kind,
}

enum Kind {
    Uniform,
    Sequential { next: u64 },
    Zipf { ranks: Zipf<f64>, step: u64 },
}

impl Places {
    /// Of so many blocks, at least one.
    pub fn new(distribution: Distribution, positions: u64) -> Self {
        let positions = positions.max(1);
        let kind = match distribution {
            Distribution::Uniform => Kind::Uniform,
            Distribution::Sequential => Kind::Sequential { next: 0 },
            Distribution::Zipf(theta) => match Zipf::new(positions as f64, theta) {
                Ok(ranks) => Kind::Zipf { ranks, step: step(positions) },
                Err(error) => unreachable!("theta {theta} of {positions} blocks is sound: {error}"),
            },
        };
        Self { positions, kind }
    }

    /// The next one.
    pub fn next(&mut self, random: &mut ChaCha8Rng) -> u64 {
        match &mut self.kind {
            Kind::Uniform => below(random, self.positions),
            Kind::Sequential { next } => {
                let position = *next;
                *next = (position + 1) % self.positions;
                position
            }
            Kind::Zipf { ranks, step } => {
                // Ranks are whole numbers from 1 on, as far as a float holds them.
                let rank = (ranks.sample(random) as u64).clamp(1, self.positions) - 1;
                ((u128::from(rank) * u128::from(*step)) % u128::from(self.positions)) as u64
            }
        }
    }
}

/// A step that comes to every block once before it comes to one twice, near the golden ratio of all, so that popular blocks are
/// not neighbours.
fn step(positions: u64) -> u64 {
    let golden = (positions as f64 * 0.618_033_988_75) as u64;
    (golden.max(1)..=positions).find(|step| gcd(*step, positions) == 1).unwrap_or(1)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand_core::SeedableRng;

    use super::*;

    fn draw(distribution: Distribution, positions: u64, count: u64) -> Vec<u64> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut places = Places::new(distribution, positions);
        (0..count).map(|_| places.next(&mut random)).collect()
    }

    fn counts(drawn: &[u64]) -> Vec<usize> {
        let mut counts = BTreeMap::<u64, usize>::new();
        drawn.iter().for_each(|position| *counts.entry(*position).or_default() += 1);
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn sequential_comes_to_each_block_in_turn() {
        assert_eq!(draw(Distribution::Sequential, 3, 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(draw(Distribution::Sequential, 1, 3), [0, 0, 0]);
    }

    #[test]
    fn uniform_comes_to_all_blocks_alike() {
        let drawn = draw(Distribution::Uniform, 10, 100_000);
        assert!(drawn.iter().all(|position| *position < 10));
        let counts = counts(&drawn);
        assert!(
            counts.len() == 10 && counts.iter().all(|count| (9_500..10_500).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn zipf_has_the_shares_of_its_ranks() {
        let (positions, theta, samples) = (1000, 1.1, 200_000);
        let drawn = draw(Distribution::Zipf(theta), positions, samples);
        assert!(drawn.iter().all(|position| *position < positions));
        let all: f64 = (1..=positions).map(|rank| (rank as f64).powf(-theta)).sum();
        let counts = counts(&drawn);
        for rank in [1_usize, 2, 3, 10] {
            let expected = (rank as f64).powf(-theta) / all;
            let found = counts[rank - 1] as f64 / samples as f64;
            assert!((found / expected - 1.0).abs() < 0.1, "rank {rank}: {found} instead of {expected}");
        }
    }

    #[test]
    fn popular_blocks_are_no_neighbours_and_none_is_left_out() {
        for positions in [1, 2, 3, 7, 1000, 1024, 99_991] {
            let step = step(positions);
            assert_eq!(gcd(step, positions), 1, "{step} of {positions}");
            assert!(positions < 10 || step > positions / 2, "{step} of {positions}");
        }
    }

    #[test]
    fn names_parse_and_print() {
        for (text, distribution) in [
            ("uniform", Distribution::Uniform),
            ("sequential", Distribution::Sequential),
            ("zipf:1.1", Distribution::Zipf(1.1)),
        ] {
            assert_eq!(text.parse(), Ok(distribution));
            assert_eq!(distribution.to_string(), text);
        }
        for text in ["", "zipf", "zipf:", "zipf:0", "zipf:-1", "zipf:nan", "zipf:inf", "zipf:11", "pareto:1"]
        {
            assert!(text.parse::<Distribution>().is_err(), "{text}");
        }
    }
}
