//! What RocksDB may need of BlueFS's room next: the bound behind `KvStats::headroom_bytes`. Pure.
//!
//! Flushes add files of what was applied; a compaction writes all that it merges before it lets go of any. There is one
//! compaction at a time, from the choice of its inputs until they are removed: `max_background_jobs` is 2, one of which
//! flushes, and compactions that are asked for exclude others. What it merges is all of level 0 with the base level, or
//! files of two levels, which are less than twice `max_compaction_bytes`. Its output is no larger than its input but for
//! the ends of files: a unit that is not full, an index, a filter, properties. It is cut at the size of a file, at half of
//! that where a file of the level below begins or ends, and wherever it skips one of those; so there may be about as many
//! files as below.

use std::collections::BTreeMap;

use crate::options::COMPACTION_FILES;

/// Files that a compaction may write beside those that the cuts above make.
const ODD_FILES: u64 = 4;
/// Bytes that a sorted file has beside its keys, whatever their number.
const FILE_OVERHEAD: u64 = 2048;
/// The ends of all files may become this part of what is stored, those that there are included. It takes more than a file
/// for half a file's worth of bytes, and as many again as levels are cut at the borders of those below.
const ENDS_SHARE: u64 = 32;
/// Files made when the store is opened or a manifest is replaced, and what flushes and compactions round up.
const FIXED_UNITS: u64 = 12;
/// Bytes of what is written beside sorted files, but for what the manifest says of each file. Up to six files of options are there
/// for a moment: one is written at opening, and one of each family when compactions begin, before the two old ones go.
const FIXED_BYTES: u64 = 128 << 10;
/// Bytes that the manifest takes for a file, both bounds included, usually.
const MANIFEST_PER_FILE: u64 = 512;

/// A sorted file that is part of the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) family: String,
    pub(crate) level: i32,
    pub(crate) bytes: u64,
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
    let sizes = Sizes { file: file_bytes.max(2), unit };
    let mut families: BTreeMap<&str, Levels<'_>> = BTreeMap::new();
    for file in files {
        families.entry(&file.family).or_default().entry(file.level).or_default().push(file);
    }
    let merges = families.iter().map(|(family, levels)| largest_merge(levels, base(family), sizes));
    let stored: u64 = files.iter().map(|file| sizes.allocated(file)).sum();
    let ends: u64 = files.iter().map(|file| sizes.allocated(file) - file.bytes + FILE_OVERHEAD).sum();
    let manifest = files.len() as u64 * MANIFEST_PER_FILE;
    Costs {
        compaction: merges.max().unwrap_or(0),
        fixed: FIXED_UNITS * unit + FIXED_BYTES + manifest + (stored / ENDS_SHARE).saturating_sub(ends),
    }
}

/// Sorted files of a family by level.
type Levels<'a> = BTreeMap<i32, Vec<&'a Sorted>>;

#[derive(Clone, Copy)]
struct Sizes {
    /// Of a sorted file.
    file: u64,
    /// Of BlueFS's allocations.
    unit: u64,
}

impl Sizes {
    fn allocated(self, file: &Sorted) -> u64 {
        file.bytes.next_multiple_of(self.unit)
    }

    /// What a file may take beside its keys.
    fn end(self) -> u64 {
        self.unit + FILE_OVERHEAD
    }

    /// Files that so many bytes may be cut into above a level of `below` files.
    fn cut_into(self, bytes: u64, below: u64) -> u64 {
        bytes / (self.file / 2) + below
    }
}

/// The most that one compaction of a family may write. It is the most for what is stored, not for what is due: data that
/// moves from level to level must not make it more.
fn largest_merge(levels: &Levels<'_>, base: i32, sizes: Sizes) -> u64 {
    let size = |file: &&Sorted| sizes.allocated(file);
    let total = |level: i32| levels.get(&level).map_or(0, |files| files.iter().map(size).sum::<u64>());
    let stored: u64 = levels.keys().map(|level| total(*level)).sum();
    let into_base = total(0) + total(base);
    let below = stored.min(2 * COMPACTION_FILES * sizes.file.next_multiple_of(sizes.unit));
    let merged = into_base.max(below);
    if merged == 0 {
        return 0;
    }
    let most_files = levels.values().map(|files| files.len() as u64).max().unwrap_or(0);
    merged + (sizes.cut_into(merged, most_files) + ODD_FILES) * sizes.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn file(level: i32, bytes: u64) -> Sorted {
        Sorted { family: "M".to_owned(), level, bytes }
    }

    #[test]
    fn the_largest_merge_counts() {
        // Files so large that their ends do not add up to anything.
        let most = |files: &[Sorted]| costs(files, |_| 5, 10 * MIB, 1).compaction / MIB;
        assert_eq!(most(&[]), 0);
        assert_eq!(most(&[file(6, 50 * MIB)]), 50, "all there is");
        assert_eq!(most(&[file(6, 5000 * MIB)]), 160, "or what one of the levels below 0 may take");
        let level_0 = [file(0, 700 * MIB), file(0, 700 * MIB), file(5, 1000 * MIB), file(6, 5000 * MIB)];
        assert_eq!(most(&level_0), 2400, "or level 0 with the base level");
    }

    #[test]
    fn the_ends_of_all_files_of_a_merge_count() {
        const UNIT: u64 = 1 << 16;
        let end = UNIT + FILE_OVERHEAD;
        let mut files = vec![file(0, MIB), file(4, MIB)];
        let merge = |files: &[Sorted]| costs(files, |_| 4, MIB, UNIT).compaction;
        assert_eq!(merge(&files), 2 * MIB + (4 + 1 + ODD_FILES) * end, "each may be half a file");
        files.extend((0..100).map(|_| file(5, MIB)));
        assert_eq!(
            merge(&files),
            16 * MIB + (32 + 100 + ODD_FILES) * end,
            "or be cut wherever a file below begins"
        );
    }

    #[test]
    fn ends_of_files_to_come_are_kept_room_for() {
        let fixed = |files: &[Sorted]| costs(files, |_| 5, MIB, 4096).fixed;
        let cut = |into: u64| (0..into).map(|_| file(6, 64 * MIB / into)).collect::<Vec<_>>();
        let each = FILE_OVERHEAD - MANIFEST_PER_FILE;
        assert_eq!(fixed(&cut(64)), fixed(&cut(128)) + 64 * each, "those that are there take of it");
        assert_eq!(fixed(&cut(64)), FIXED_UNITS * 4096 + FIXED_BYTES + 2 * MIB - 64 * each, "two MiB in all");
        assert_eq!(
            fixed(&cut(4096)),
            FIXED_UNITS * 4096 + FIXED_BYTES + 4096 * MANIFEST_PER_FILE,
            "up to those"
        );
    }
}
