//! Ranges of keys that were removed by tombstones, until they are compacted. Pure.
//!
//! A tombstone costs nothing to write however many keys it removes, but every seek across it has to step over it, in each sorted
//! file that holds one; and RocksDB compacts for size, not for tombstones.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Tombstones in files at which they are compacted. Fewer are not worth rewriting what lies around them.
const TOMBSTONES_TO_COMPACT: u64 = 8;
/// Ranges remembered; of more only the first and the last key.
const RANGES_MAX: usize = 4096;

/// A range of a family's keys; an empty end has no bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Removed {
    pub(crate) family: &'static str,
    pub(crate) from: Bytes,
    pub(crate) to: Bytes,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RemovedRanges {
    /// Their tombstones are in memory.
    written: Vec<Removed>,
    /// Their tombstones are in files.
    flushed: Vec<Removed>,
    /// How many tombstones these are.
    tombstones: u64,
    /// How many there were before that were compacted.
    compacted: u64,
}

/// What to compact.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) ranges: Vec<Removed>,
    pub(crate) tombstones: u64,
}

impl RemovedRanges {
    /// A tombstone was written.
    pub(crate) fn wrote(&mut self, range: Removed) {
        self.written.push(range);
        if self.written.len() > RANGES_MAX {
            self.written = hulls(std::mem::take(&mut self.written));
        }
    }

    /// A flush begins: what was written before will be in files; to be told when it has ended.
    pub(crate) fn flushing(&mut self) -> Vec<Removed> {
        std::mem::take(&mut self.written)
    }

    /// The flush ended well.
    pub(crate) fn flushed(&mut self, ranges: Vec<Removed>) {
        self.tombstones += ranges.len() as u64;
        self.flushed = joined(std::mem::take(&mut self.flushed).into_iter().chain(ranges).collect());
        if self.flushed.len() > RANGES_MAX {
            self.flushed = hulls(std::mem::take(&mut self.flushed));
        }
    }

    /// Whether there are enough of them to compact.
    pub(crate) fn are_many(&self) -> bool {
        self.tombstones >= TOMBSTONES_TO_COMPACT
    }

    /// The ranges to compact; they count no more.
    pub(crate) fn take(&mut self) -> Taken {
        Taken { ranges: std::mem::take(&mut self.flushed), tombstones: std::mem::take(&mut self.tombstones) }
    }

    /// So many tombstones that were taken are compacted.
    pub(crate) fn compacted_more(&mut self, tombstones: u64) {
        self.compacted += tombstones;
    }

    /// Tombstones that were compacted.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }
}

/// Sorted, those that overlap or touch as one.
fn joined(mut ranges: Vec<Removed>) -> Vec<Removed> {
    ranges.sort();
    let mut out: Vec<Removed> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if last.family == range.family && (last.to.is_empty() || range.from <= last.to) => {
                last.to = later(std::mem::take(&mut last.to), range.to);
            }
            _ => out.push(range),
        }
    }
    out
}

/// Of each family one range that holds all.
fn hulls(ranges: Vec<Removed>) -> Vec<Removed> {
    let mut of_family: BTreeMap<&'static str, Removed> = BTreeMap::new();
    for range in ranges {
        let hull = of_family.entry(range.family).or_insert_with(|| range.clone());
        hull.from = std::mem::take(&mut hull.from).min(range.from);
        hull.to = later(std::mem::take(&mut hull.to), range.to);
    }
    of_family.into_values().collect()
}

fn later(one: Bytes, other: Bytes) -> Bytes {
    if one.is_empty() || other.is_empty() { Bytes::new() } else { one.max(other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(family: &'static str, from: &'static str, to: &'static str) -> Removed {
        Removed { family, from: Bytes::from_static(from.as_bytes()), to: Bytes::from_static(to.as_bytes()) }
    }

    #[test]
    fn what_touches_is_one_range() {
        let ranges = [
            ("M", "c", "e"),
            ("M", "a", "b"),
            ("M", "b", "c"),
            ("O", "b", "c"),
            ("M", "d", "f"),
            ("M", "x", ""),
        ];
        let found = joined(ranges.map(|(family, from, to)| range(family, from, to)).to_vec());
        assert_eq!(found, [range("M", "a", "f"), range("M", "x", ""), range("O", "b", "c")]);
    }

    #[test]
    fn only_what_is_in_files_is_compacted_and_once() {
        let mut removed = RemovedRanges::default();
        for _ in 0..TOMBSTONES_TO_COMPACT {
            removed.wrote(range("M", "a", "b"));
        }
        assert!(!removed.are_many());
        let ranges = removed.flushing();
        removed.wrote(range("M", "y", "z"));
        removed.flushed(ranges);
        assert!(removed.are_many());
        let taken = removed.take();
        assert_eq!((taken.ranges, taken.tombstones), (vec![range("M", "a", "b")], TOMBSTONES_TO_COMPACT));
        assert!(!removed.are_many());
        assert_eq!(removed.flushing(), [range("M", "y", "z")]);
    }

    #[test]
    fn very_many_become_one_per_family() {
        let mut removed = RemovedRanges::default();
        for number in 0..=RANGES_MAX {
            let key = |last: char| Bytes::from(format!("{number:06}{last}"));
            removed.wrote(Removed { family: "M", from: key('a'), to: key('b') });
        }
        let ranges = removed.flushing();
        assert_eq!(ranges, [range("M", "000000a", "004096b")]);
    }
}
