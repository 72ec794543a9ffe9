//! Sets of u64 kept as disjoint ranges.

use std::collections::BTreeMap;

use crate::codec::{DecodeResult, Reader, Wire, Writer};

/// `interval_set<u64>`: disjoint, non-empty ranges, as start and length. Neighbouring ranges that touch are
/// joined by [`IntervalSet::insert`], but kept as they come from a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct IntervalSet {
    ranges: BTreeMap<u64, u64>,
}

impl IntervalSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { ranges: BTreeMap::new() }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Number of ranges.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The ranges as (start, length), ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(start, length)| (*start, *length))
    }

    /// Whether `value` is in the set.
    pub fn contains(&self, value: u64) -> bool {
        self.ranges.range(..=value).next_back().is_some_and(|(start, length)| value - start < *length)
    }

    /// Adds `start..start+length`, joining what it touches. Does nothing for length 0. Panics when the end
    /// does not fit into 64 bits.
    pub fn insert(&mut self, start: u64, length: u64) {
        if length == 0 {
            return;
        }
        let (mut start, mut end) = (start, end_of(start, length));
        while let Some((&s, &l)) = self.ranges.range(..=end).next_back() {
            if s + l < start {
                break;
            }
            start = start.min(s);
            end = end.max(s + l);
            self.ranges.remove(&s);
        }
        self.ranges.insert(start, end - start);
    }

    /// Takes `start..start+length` out, as far as it is in.
    pub fn remove(&mut self, start: u64, length: u64) {
        if length == 0 {
            return;
        }
        let end = end_of(start, length);
        while let Some((&s, &l)) = self.ranges.range(..end).next_back() {
            if s + l <= start {
                break;
            }
            self.ranges.remove(&s);
            if s < start {
                self.ranges.insert(s, start - s);
            }
            if s + l > end {
                self.ranges.insert(end, s + l - end);
            }
        }
    }
}

fn end_of(start: u64, length: u64) -> u64 {
    match start.checked_add(length) {
        Some(end) => end,
        None => panic!("invariant: a range ends below 2^64, not {start}+{length}"),
    }
}

impl Wire for IntervalSet {
    const BYTES_MIN: usize = 4;
    fn encode(&self, w: &mut Writer) {
        w.map(&self.ranges);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.within("interval set", |r| {
            let ranges: BTreeMap<u64, u64> = r.map()?;
            let mut last_end = 0;
            for (&start, &length) in &ranges {
                match start.checked_add(length) {
                    Some(end) if length > 0 && start >= last_end => last_end = end,
                    _ => return Err(r.error("disjoint ranges", format!("{start}+{length}"))),
                }
            }
            Ok(Self { ranges })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::codec::{decode_exact, encode_to_bytes};

    proptest! {
        /// Against a plain set of numbers.
        #[test]
        fn behaves_as_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 0..40)) {
            let mut set = IntervalSet::new();
            let mut model = BTreeSet::new();
            for (insert, start, length) in steps {
                if insert {
                    set.insert(start, length);
                    model.extend(start..start + length);
                } else {
                    set.remove(start, length);
                    model.retain(|v| !(start..start + length).contains(v));
                }
                for value in 0..75 {
                    prop_assert_eq!(set.contains(value), model.contains(&value));
                }
                let total: u64 = set.iter().map(|(_, length)| length).sum();
                prop_assert_eq!(total, model.len() as u64);
            }
            prop_assert_eq!(decode_exact::<IntervalSet>("set", encode_to_bytes(&set)), Ok(set));
        }
    }

    #[test]
    fn overlapping_ranges_are_refused() {
        let bytes = encode_to_bytes(&BTreeMap::from([(5u64, 5u64), (9, 1)]));
        assert!(decode_exact::<IntervalSet>("set", bytes).is_err());
        let bytes = encode_to_bytes(&BTreeMap::from([(u64::MAX, 5u64)]));
        assert!(decode_exact::<IntervalSet>("set", bytes).is_err());
    }
}
