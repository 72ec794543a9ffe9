//! What RocksDB may need of BlueFS's room next: the bound behind `KvStats::headroom_bytes`. Pure.
//!
//! Flushes add files of what was applied; a compaction writes all that it merges before it lets go of any. There is one
//! compaction at a time (`max_background_jobs` is 2, one of which flushes), and what it merges is one of: all of level 0
//! with the base level; a file with what it overlaps in the next level; more files of two levels, as long as all of them
//! are less than twice `max_compaction_bytes`. Its output is no larger than its input but for the ends of files.

use std::collections::BTreeMap;

use crate::options::COMPACTION_FILES;

/// Files that a compaction's output may end in a unit of, beside one for each file's worth of bytes.
const ODD_FILES: u64 = 4;
/// Files made when the store is opened or a manifest is replaced, and what flushes and compactions round up.
const FIXED_UNITS: u64 = 12;
/// Bytes of what is written beside sorted files, but for what the manifest says of each file.
const FIXED_BYTES: u64 = 64 << 10;
/// Bytes that the manifest takes for a file, both bounds included, usually.
const MANIFEST_PER_FILE: u64 = 512;

/// A sorted file that is part of the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) family: String,
    pub(crate) level: i32,
    pub(crate) bytes: u64,
    pub(crate) first: Vec<u8>,
    pub(crate) last: Vec<u8>,
}

/// Bytes that must be free beside what changes take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Costs {
    /// What the largest compaction may write.
    pub(crate) compaction: u64,
    /// What comes with flushes and compactions.
    pub(crate) fixed: u64,
}

/// The costs with these files, where level 0 of a family is merged into the level that `base` says.
pub(crate) fn costs(files: &[Sorted], base: impl Fn(&str) -> i32, file_bytes: u64, unit: u64) -> Costs {
    let merged = largest_merge(files, base, file_bytes, unit);
    let ends = (merged / file_bytes.max(1) + ODD_FILES) * unit;
    let manifest = files.len() as u64 * MANIFEST_PER_FILE;
    Costs { compaction: merged + ends, fixed: FIXED_UNITS * unit + FIXED_BYTES + manifest }
}

fn largest_merge(files: &[Sorted], base: impl Fn(&str) -> i32, file_bytes: u64, unit: u64) -> u64 {
    let mut families: BTreeMap<&str, BTreeMap<i32, Vec<&Sorted>>> = BTreeMap::new();
    for file in files {
        families.entry(&file.family).or_default().entry(file.level).or_default().push(file);
    }
    let size = |file: &&Sorted| file.bytes.next_multiple_of(unit);
    let expanded_max = 2 * COMPACTION_FILES * file_bytes.next_multiple_of(unit);
    let mut most = 0;
    for (family, levels) in &mut families {
        levels.values_mut().for_each(|level| level.sort_by(|a, b| a.first.cmp(&b.first)));
        let total = |level: i32| levels.get(&level).map_or(0, |files| files.iter().map(size).sum::<u64>());
        most = most.max(total(0) + total(base(family)));
        for (level, files) in levels.iter().filter(|(level, _)| **level > 0) {
            let Some(next) = levels.get(&(level + 1)) else { continue };
            let with_overlap = |file: &&Sorted| {
                let from = next.partition_point(|other| other.last < file.first);
                let overlapping = next[from..].iter().take_while(|other| other.first <= file.last);
                size(file) + overlapping.map(size).sum::<u64>()
            };
            most = most.max(files.iter().map(with_overlap).max().unwrap_or(0));
            most = most.max(expanded_max.min(total(*level) + total(level + 1)));
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(level: i32, bytes: u64, first: &str, last: &str) -> Sorted {
        Sorted { family: "M".to_owned(), level, bytes, first: first.into(), last: last.into() }
    }

    fn most(files: &[Sorted]) -> u64 {
        largest_merge(files, |_| 5, 100, 1)
    }

    #[test]
    fn the_largest_merge_counts() {
        assert_eq!(most(&[]), 0);
        let below = file(6, 5000, "a", "z");
        assert_eq!(most(std::slice::from_ref(&below)), 0, "nothing merges into the last level");
        let level_0 = [file(0, 700, "a", "b"), file(0, 700, "y", "z")];
        let base = file(5, 1000, "c", "d");
        assert_eq!(most(&[&level_0[..], &[base.clone()]].concat()), 2400, "level 0 with the base level");
        assert_eq!(most(&[&level_0[..], &[base, below]].concat()), 6000, "a file with what it overlaps");
        let beside = [file(5, 100, "a", "b"), file(6, 950, "b", "c"), file(6, 900, "d", "e")];
        assert_eq!(most(&beside), 1600, "or several files with what they overlap, up to a bound");
        assert_eq!(most(&beside[..2]), 1050, "which may be all there is");
    }
}
