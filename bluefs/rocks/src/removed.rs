//! Ranges of keys that were removed by tombstones, until they are compacted. Pure.
//!
//! A tombstone costs nothing to write however many keys it removes, but every seek across it has to step over it, in each sorted
//! file that holds one; and RocksDB compacts for size, not for tombstones. One that lies alone is one step; where many touch each
//! other, a seek steps over all of them. Only these are worth rewriting what lies around them.

use bytes::Bytes;

/// Tombstones that touch each other, in files, at which they are compacted.
const TOMBSTONES_TO_COMPACT: u64 = 8;
/// Ranges remembered.
const RANGES_MAX: usize = 4096;

/// A range of a family's keys, removed by tombstones that touch each other; an empty end has no bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Removed {
    pub(crate) family: &'static str,
    pub(crate) from: Bytes,
    pub(crate) to: Bytes,
    pub(crate) tombstones: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RemovedRanges {
    /// Their tombstones are in memory.
    written: Vec<Removed>,
    /// Their tombstones are in files.
    flushed: Vec<Removed>,
    /// Tombstones that were compacted.
    compacted: u64,
}

impl RemovedRanges {
    /// A tombstone was written.
    pub(crate) fn wrote(&mut self, family: &'static str, from: Bytes, to: Bytes) {
        self.written.push(Removed { family, from, to, tombstones: 1 });
        if self.written.len() > RANGES_MAX {
            self.written = joined(std::mem::take(&mut self.written));
        }
    }

    /// A flush begins: what was written before will be in files; to be told when it has ended.
    pub(crate) fn flushing(&mut self) -> Vec<Removed> {
        std::mem::take(&mut self.written)
    }

    /// The flush ended well.
    pub(crate) fn flushed(&mut self, ranges: Vec<Removed>) {
        self.flushed = joined(std::mem::take(&mut self.flushed).into_iter().chain(ranges).collect());
    }

    /// Whether there is something to compact.
    pub(crate) fn are_many(&self) -> bool {
        self.flushed.iter().any(is_worth_it)
    }

    /// The ranges to compact; they count no more.
    pub(crate) fn take(&mut self) -> Vec<Removed> {
        self.flushed.extract_if(.., |range| is_worth_it(range)).collect()
    }

    /// What was taken was not compacted.
    pub(crate) fn put_back(&mut self, ranges: Vec<Removed>) {
        self.flushed(ranges);
    }

    /// All of them, as everything is compacted.
    pub(crate) fn take_all(&mut self) -> Vec<Removed> {
        std::mem::take(&mut self.flushed)
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

fn is_worth_it(range: &Removed) -> bool {
    range.tombstones >= TOMBSTONES_TO_COMPACT
}

/// Sorted, those that overlap or touch as one; of too many only those that consist of several.
fn joined(mut ranges: Vec<Removed>) -> Vec<Removed> {
    ranges.sort();
    let mut out: Vec<Removed> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if last.family == range.family && (last.to.is_empty() || range.from <= last.to) => {
                last.to = later(std::mem::take(&mut last.to), range.to);
                last.tombstones += range.tombstones;
            }
            _ => out.push(range),
        }
    }
    if out.len() > RANGES_MAX {
        out.retain(|range| range.tombstones > 1);
        out.truncate(RANGES_MAX);
    }
    out
}

fn later(one: Bytes, other: Bytes) -> Bytes {
    if one.is_empty() || other.is_empty() { Bytes::new() } else { one.max(other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn range(family: &'static str, from: &'static str, to: &'static str, tombstones: u64) -> Removed {
        Removed { family, from: text(from), to: text(to), tombstones }
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
        let found = joined(ranges.map(|(family, from, to)| range(family, from, to, 1)).to_vec());
        assert_eq!(found, [range("M", "a", "f", 4), range("M", "x", "", 1), range("O", "b", "c", 1)]);
    }

    #[test]
    fn only_what_is_in_files_and_much_is_compacted_and_once() {
        let mut removed = RemovedRanges::default();
        removed.wrote("M", text("q"), text("r"));
        for _ in 0..TOMBSTONES_TO_COMPACT {
            removed.wrote("M", text("a"), text("b"));
        }
        assert!(!removed.are_many());
        let ranges = removed.flushing();
        removed.wrote("M", text("y"), text("z"));
        removed.flushed(ranges);
        assert!(removed.are_many());
        let taken = removed.take();
        assert_eq!(taken, [range("M", "a", "b", TOMBSTONES_TO_COMPACT)]);
        assert!(!removed.are_many());
        removed.put_back(taken);
        assert!(removed.are_many());
        assert_eq!(removed.take_all().len(), 2);
        assert_eq!(removed.flushing(), [range("M", "y", "z", 1)]);
    }

    #[test]
    fn of_very_many_those_that_lie_alone_are_forgotten() {
        let mut removed = RemovedRanges::default();
        let key = |number: usize, last: char| Bytes::from(format!("{number:06}{last}"));
        removed.wrote("M", text("0"), key(0, 'b'));
        for number in 0..2 * RANGES_MAX {
            removed.wrote("M", key(number, 'a'), key(number, 'b'));
        }
        let ranges = removed.flushing();
        assert!(ranges.len() <= RANGES_MAX);
        assert_eq!(ranges.first().map(|first| (first.tombstones, first.to.clone())), Some((2, key(0, 'b'))));
    }
}
