//! fsck of BlueFS: every rule that spans records. A library: it finds, the caller decides.

use std::collections::{BTreeMap, BTreeSet};

use allocator::Extent;

use crate::fs::limits::SUPERBLOCK_BYTES;
use crate::fs::record::Ino;
use crate::fs::superblock::Superblock;
use crate::fs::tree::Tree;

/// Who uses an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A file's data.
    File(Ino),
    /// The log.
    Log,
    /// A superblock copy.
    Superblock,
}

/// Something that must not be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum Problem {
    #[error("{extent} of {owner:?} is not in space lent to BlueFS")]
    Outside { owner: Owner, extent: Extent },
    #[error("{extent} of {owner:?} is also used by {other:?}")]
    Overlap { owner: Owner, other: Owner, extent: Extent },
    #[error("{extent} of {owner:?} is not aligned to {unit}")]
    Unaligned { owner: Owner, extent: Extent, unit: u64 },
    #[error("lent space {extent} reaches beyond the device of {device_size} bytes")]
    Space { extent: Extent, device_size: u64 },
    #[error("lent space {extent} holds the superblock at {copy}")]
    LentSuperblock { extent: Extent, copy: u64 },
    #[error("file {}: size {size}, allocated {allocated}, extents hold {held}", ino.0)]
    Size { ino: Ino, size: u64, allocated: u64, held: u64 },
    #[error("file {} has {names} names", ino.0)]
    Names { ino: Ino, names: usize },
    #[error("{dir}/{name} names file {}, which does not exist", ino.0)]
    Dangling { dir: String, name: String, ino: Ino },
}

/// All problems of a tree with its superblock and the copies' places.
pub fn check(tree: &Tree, superblock: &Superblock, copies: [u64; 2]) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_spaces(tree, superblock, copies, &mut problems);
    check_names(tree, &mut problems);
    check_extents(tree, superblock, copies, &mut problems);
    problems
}

fn check_spaces(tree: &Tree, superblock: &Superblock, copies: [u64; 2], problems: &mut Vec<Problem>) {
    for (start, len) in &tree.spaces {
        let extent = Extent::new(*start, *len);
        if !superblock.has_place(&extent) || !superblock.may_be_lent(extent) {
            problems.push(Problem::Space { extent, device_size: superblock.device_size });
        }
        let held = copies.into_iter().filter(|copy| extent.overlaps(&copy_at(superblock, *copy)));
        problems.extend(held.map(|copy| Problem::LentSuperblock { extent, copy }));
    }
}

/// The extent of a superblock copy.
fn copy_at(superblock: &Superblock, start: u64) -> Extent {
    Extent::new(start, u64::from(superblock.block_size).max(SUPERBLOCK_BYTES as u64))
}

fn check_names(tree: &Tree, problems: &mut Vec<Problem>) {
    let mut names: BTreeMap<Ino, usize> = tree.files.keys().map(|ino| (*ino, 0)).collect();
    for (dir, entries) in &tree.dirs {
        for (name, ino) in entries {
            match names.get_mut(ino) {
                Some(count) => *count += 1,
                None => problems.push(Problem::Dangling { dir: dir.clone(), name: name.clone(), ino: *ino }),
            }
        }
    }
    let wrong = names.into_iter().filter(|(_, names)| *names != 1);
    problems.extend(wrong.map(|(ino, names)| Problem::Names { ino, names }));
}

fn check_extents(tree: &Tree, superblock: &Superblock, copies: [u64; 2], problems: &mut Vec<Problem>) {
    let mut used: Vec<(Extent, Owner)> = superblock.log.iter().map(|extent| (*extent, Owner::Log)).collect();
    for (ino, inode) in &tree.files {
        let held: u64 = inode.extents.iter().map(|extent| extent.len).sum();
        if held != inode.allocated || inode.size > held {
            problems.push(Problem::Size { ino: *ino, size: inode.size, allocated: inode.allocated, held });
        }
        used.extend(inode.extents.iter().map(|extent| (*extent, Owner::File(*ino))));
    }
    // Lent extents may touch, and a file's joined extent may then span two.
    let mut joined: Vec<Extent> = Vec::new();
    for (start, len) in &tree.spaces {
        crate::fs::tree::push_joined(&mut joined, Extent::new(*start, *len));
    }
    for (extent, owner) in &used {
        let at = joined.partition_point(|space| space.start <= extent.start);
        if !at.checked_sub(1).is_some_and(|at| joined[at].contains(extent)) {
            problems.push(Problem::Outside { owner: *owner, extent: *extent });
        }
        problems.extend(unaligned(tree, superblock, *extent).map(|(extent, unit)| {
            let owner = *owner;
            Problem::Unaligned { owner, extent, unit }
        }));
    }
    let offsets: BTreeSet<u64> = copies.into();
    used.extend(offsets.into_iter().map(|start| (copy_at(superblock, start), Owner::Superblock)));
    used.sort_by_key(|(extent, _)| *extent);
    let mut furthest: Option<(Extent, Owner)> = None;
    for (extent, owner) in used {
        if let Some((before, other)) = furthest.filter(|(before, _)| before.overlaps(&extent)) {
            problems.push(Problem::Overlap {
                owner,
                other,
                extent: Extent::new(extent.start, extent.len.min(before.end() - extent.start)),
            });
        }
        if furthest.is_none_or(|(before, _)| before.end() < extent.end()) {
            furthest = Some((extent, owner));
        }
    }
}

/// What of an extent is not aligned to the unit that its space was lent in, and that unit.
fn unaligned(tree: &Tree, superblock: &Superblock, extent: Extent) -> impl Iterator<Item = (Extent, u64)> {
    let unit = u64::from(superblock.alloc_unit);
    let is_aligned =
        |extent: Extent, unit: u64| extent.start.is_multiple_of(unit) && extent.len.is_multiple_of(unit);
    let before = tree.spaces.range(..extent.start).next_back();
    let spaces = before.into_iter().chain(tree.spaces.range(extent.start..extent.end()));
    spaces.filter_map(move |(start, len)| {
        let (space, unit) = match Extent::new(*start, *len) {
            space if is_aligned(space, unit) => (space, unit),
            space => (space, superblock.small_unit()),
        };
        let (from, to) = (space.start.max(extent.start), space.end().min(extent.end()));
        let within = Extent::new(from, to.saturating_sub(from));
        (within.len > 0 && !is_aligned(within, unit)).then_some((within, unit))
    })
}
