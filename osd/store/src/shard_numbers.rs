//! [`ShardNumbers`]: which shards an object has. Runs of numbers, as most objects have all of theirs: then one run says
//! so, which is copied with every change of the onode.

use std::ops::RangeInclusive;

use smallvec::SmallVec;

/// First and last number, both in it.
type Run = (u32, u32);

/// See the module. Runs ascend, and between two of them at least one number is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardNumbers {
    runs: SmallVec<[Run; 2]>,
}

impl ShardNumbers {
    /// All, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Those within a range, ascending.
    pub fn within(&self, range: RangeInclusive<u32>) -> impl Iterator<Item = u32> {
        let (from, to) = range.into_inner();
        let begin = self.runs.partition_point(|(_, last)| *last < from);
        let touched = self.runs.iter().skip(begin).take_while(move |(first, _)| *first <= to);
        touched.flat_map(move |(first, last)| (*first).max(from)..=(*last).min(to))
    }

    /// First and last numbers of the runs, ascending.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Whether it is one of them.
    pub fn contains(&self, number: u32) -> bool {
        self.runs.get(self.run_at(number)).is_some_and(|(first, _)| *first <= number)
    }

    /// Adds one.
    pub fn insert(&mut self, number: u32) {
        self.insert_run(number, number);
    }

    /// Adds those from `first` to `last`.
    pub fn insert_run(&mut self, first: u32, last: u32) {
        // Runs that it touches, or lies next to, become one with it.
        let begin = self.runs.partition_point(|(_, end)| end.checked_add(1).is_some_and(|next| next < first));
        let end = self.runs.partition_point(|(start, _)| start.checked_sub(1).is_none_or(|end| end <= last));
        let Some((from, to)) =
            self.runs.get(begin).zip(self.runs.get(end.wrapping_sub(1))).filter(|_| begin < end)
        else {
            self.runs.insert(begin, (first, last));
            return;
        };
        let whole = (from.0.min(first), to.1.max(last));
        self.runs.drain(begin + 1..end);
        self.runs[begin] = whole;
    }

    /// Takes one away, if it is there.
    pub fn remove(&mut self, number: u32) {
        let at = self.run_at(number);
        let Some((first, last)) = self.runs.get(at).copied().filter(|(first, _)| *first <= number) else {
            return;
        };
        self.runs.remove(at);
        if number < last {
            self.runs.insert(at, (number + 1, last));
        }
        if first < number {
            self.runs.insert(at, (first, number - 1));
        }
    }

    /// Bytes of memory beside this.
    pub fn memory_bytes(&self) -> usize {
        if self.runs.spilled() { self.runs.capacity() * size_of::<Run>() } else { 0 }
    }

    /// Place of the first run that does not end below a number.
    fn run_at(&self, number: u32) -> usize {
        self.runs.partition_point(|(_, last)| *last < number)
    }
}

impl FromIterator<u32> for ShardNumbers {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut all = Self::default();
        numbers.into_iter().for_each(|number| all.insert(number));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn are_what_a_set_would_be_in_runs_that_do_not_touch() {
        let mut state = 7u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((state >> 33) % bound).expect("small")
        };
        // Also at both ends of what a number may be.
        for base in [0, u32::MAX - 39] {
            let (mut numbers, mut model) = (ShardNumbers::default(), BTreeSet::new());
            for _ in 0..4000 {
                let (one, more) = (below(40), below(6));
                let (first, last) = (base + one, base + (one + more).min(39));
                match below(3) {
                    0 => {
                        numbers.insert_run(first, last);
                        model.extend(first..=last);
                    }
                    1 => {
                        numbers.insert(first);
                        model.insert(first);
                    }
                    _ => (first..=last).for_each(|number| {
                        numbers.remove(number);
                        model.remove(&number);
                    }),
                }
                assert!(numbers.iter().eq(model.iter().copied()));
                assert!(numbers.within(first..=last).eq(model.range(first..=last).copied()));
                assert!((base..=base + 39).all(|n| numbers.contains(n) == model.contains(&n)));
                assert!(numbers.runs().windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{numbers:?}");
                assert_eq!(model.iter().copied().collect::<ShardNumbers>(), numbers);
            }
        }
    }
}
