//! What every allocator must pass; a backend runs it with `suite::run(|capacity, block_size| …)`.
//!
//! Panics with what was wrong. `make` gives an allocator over `capacity` bytes that is all in use.

#![expect(clippy::unwrap_used, reason = "a suite fails by panicking")]

use std::collections::BTreeMap;

use crate::extent::Extent;
use crate::limits::{PAGE_BLOCKS, REQUEST_BYTES_MAX};
use crate::oracle::ExtentAllocator;
use crate::seam::{AllocError, Allocator, Request};

pub(crate) const BLOCK: u64 = 4096;

/// Runs everything.
pub fn run<A: Allocator>(make: impl Fn(u64, u64) -> A) {
    starts_all_used(&make);
    allocates_all_there_is(&make);
    prefers_contiguous_space(&make);
    respects_units_and_extents(&make);
    refuses_nonsense(&make);
    failing_changes_nothing(&make);
    pages_are_a_full_image(&make);
    for seed in 0..6 {
        agrees_with_the_oracle(&make, seed, 1500);
    }
}

/// A request with the allocator's own cursor.
pub fn request(len: u64, unit: u64, extents_max: usize) -> Request {
    Request { len, unit, extents_max, hint: None }
}

pub(crate) fn starts_all_used<A: Allocator>(make: &impl Fn(u64, u64) -> A) {
    let space = make(10 * BLOCK + 17, BLOCK);
    assert_eq!((space.capacity(), space.block_size()), (10 * BLOCK, BLOCK));
    assert_eq!((space.free_bytes(), space.free_runs(), space.dirty_pages()), (0, 0, 0));
    assert_eq!(space.used_extents(), [Extent::new(0, 10 * BLOCK)]);
    assert_eq!(space.free_extents(), []);
}

fn allocates_all_there_is<A: Allocator>(make: &impl Fn(u64, u64) -> A) {
    let mut space = make(100 * BLOCK, BLOCK);
    // Every third block only: the worst fragmentation but one.
    for block in (0..100).step_by(3) {
        space.mark_free(Extent::new(block * BLOCK, BLOCK)).unwrap();
    }
    let mut out = Vec::new();
    space.allocate(&request(34 * BLOCK, BLOCK, 34), &mut out).unwrap();
    assert_eq!(out.len(), 34);
    assert_eq!(space.free_bytes(), 0);
    let refused = space.allocate(&request(BLOCK, BLOCK, 1), &mut out);
    assert_eq!(refused, Err(AllocError::NoSpace { wanted: BLOCK, available: 0 }));
}

pub(crate) fn prefers_contiguous_space<A: Allocator>(make: &impl Fn(u64, u64) -> A) {
    let mut space = make(4 * PAGE_BLOCKS * BLOCK, BLOCK);
    space.mark_free(Extent::new(0, space.capacity())).unwrap();
    assert_eq!(space.fragmentation(), 0.0);
    let mut out = Vec::new();
    for len in [1, 16, 3, 64, 300, 1000, 40_000] {
        out.clear();
        space.allocate(&request(len * BLOCK, BLOCK, 1), &mut out).unwrap();
        assert_eq!(out.iter().map(|extent| extent.len).sum::<u64>(), len * BLOCK);
    }
    assert_eq!(space.free_runs(), 1, "a fresh space fills without holes");
}

fn respects_units_and_extents<A: Allocator>(make: &impl Fn(u64, u64) -> A) {
    let mut space = make(256 * BLOCK, BLOCK);
    // Runs of 7 blocks at odd places: each holds exactly one aligned unit of 4 blocks, some none of 8.
    for start in (1..250).step_by(8) {
        space.mark_free(Extent::new(start * BLOCK, 7 * BLOCK)).unwrap();
    }
    let mut out = Vec::new();
    space.allocate(&request(12 * BLOCK, 4 * BLOCK, 3), &mut out).unwrap();
    assert_eq!(out.iter().map(|extent| extent.len).sum::<u64>(), 12 * BLOCK);
    assert!(
        out.iter().all(|extent| extent.start % (4 * BLOCK) == 0 && extent.len % (4 * BLOCK) == 0),
        "{out:?}"
    );
    let free = space.free_bytes();
    let few = space.allocate(&request(20 * BLOCK, BLOCK, 2), &mut out);
    assert!(matches!(few, Err(AllocError::Fragmented { .. })), "{few:?}");
    let large = space.allocate(&request(8 * BLOCK, 8 * BLOCK, 1), &mut out);
    assert!(matches!(large, Err(AllocError::Fragmented { .. })), "{large:?}");
    assert_eq!(space.free_bytes(), free);
    assert_eq!(out.len(), 3, "a failing request adds nothing");
}

pub(crate) fn refuses_nonsense<A: Allocator>(make: &impl Fn(u64, u64) -> A) {
    let mut space = make(256 * BLOCK, BLOCK);
    space.mark_free(Extent::new(0, 256 * BLOCK)).unwrap();
    let mut out = Vec::new();
    for (len, unit, extents_max) in [
        (0, BLOCK, 1),
        (BLOCK, 0, 1),
        (BLOCK, 3 * BLOCK, 1),
        (BLOCK + 1, BLOCK, 1),
        (BLOCK, BLOCK / 2, 1),
        (BLOCK, BLOCK, 0),
        (128 * BLOCK, 128 * BLOCK, 1),
        (REQUEST_BYTES_MAX + BLOCK, BLOCK, 1),
    ] {
        let refused = space.allocate(&request(len, unit, extents_max), &mut out);
        assert_eq!(refused, Err(AllocError::Request { len, unit, extents_max }));
    }
    for (start, len) in
        [(0, 0), (1, BLOCK), (0, 1), (256 * BLOCK, BLOCK), (255 * BLOCK, 2 * BLOCK), (u64::MAX, 2)]
    {
        let extent = Extent { start, len };
        assert!(matches!(space.mark_used(extent), Err(AllocError::Range { .. })), "{start} {len}");
        assert!(matches!(space.release(extent), Err(AllocError::Range { .. })), "{start} {len}");
    }
    assert!(matches!(space.page(1), Err(AllocError::BadPage { .. })));
    assert!(matches!(space.mark_dirty(u64::MAX), Err(AllocError::BadPage { .. })));
    assert!(matches!(space.load_page(0, &[0xff; 4096]), Err(AllocError::BadPage { .. })));
    let wild = Request { len: BLOCK, unit: BLOCK, extents_max: 1, hint: Some(u64::MAX) };
    space.allocate(&wild, &mut out).unwrap();
}

pub(crate) fn failing_changes_nothing<A: Allocator>(make: &impl Fn(u64, u64) -> A) {
    let mut space = make(64 * BLOCK, BLOCK);
    space.mark_free(Extent::new(8 * BLOCK, 8 * BLOCK)).unwrap();
    let before = (space.free_extents(), space.free_runs(), space.free_bytes());
    for (start, len) in [(4, 8), (12, 8), (0, 64), (0, 8)] {
        let extent = Extent::new(start * BLOCK, len * BLOCK);
        assert_eq!(space.mark_used(extent), Err(AllocError::NotFree(extent)));
    }
    for (start, len) in [(4, 8), (12, 8), (0, 64), (8, 1)] {
        let extent = Extent::new(start * BLOCK, len * BLOCK);
        assert_eq!(space.release(extent), Err(AllocError::NotUsed(extent)));
    }
    assert_eq!((space.free_extents(), space.free_runs(), space.free_bytes()), before);
}

fn pages_are_a_full_image<A: Allocator>(make: &impl Fn(u64, u64) -> A) {
    let capacity = (3 * PAGE_BLOCKS + 100) * BLOCK;
    let mut space = make(capacity, BLOCK);
    let mut image = BTreeMap::new();
    for (start, len) in [(10, 20), (PAGE_BLOCKS - 5, 10), (2 * PAGE_BLOCKS, PAGE_BLOCKS + 100)] {
        space.mark_free(Extent::new(start * BLOCK, len * BLOCK)).unwrap();
        image.extend(space.take_dirty_pages());
        assert_eq!(space.dirty_pages(), 0);
    }
    space.mark_used(Extent::new((2 * PAGE_BLOCKS + 7) * BLOCK, BLOCK)).unwrap();
    let taken = space.take_dirty_pages();
    assert_eq!(taken.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [2]);
    image.extend(taken);

    let mut loaded = make(capacity, BLOCK);
    for (index, page) in &image {
        assert_eq!(&space.page(*index).unwrap(), page);
        loaded.load_page(*index, page).unwrap();
    }
    same(&space, &loaded);
    assert_eq!(loaded.dirty_pages(), 0, "what was loaded is what is stored");
    space.mark_dirty(1).unwrap();
    assert_eq!(space.dirty_pages(), 1);
}

fn same(left: &impl Allocator, right: &impl Allocator) {
    assert_eq!(left.free_extents(), right.free_extents());
    assert_eq!(left.used_extents(), right.used_extents());
    assert_eq!((left.free_bytes(), left.free_runs()), (right.free_bytes(), right.free_runs()));
    assert_eq!(left.fragmentation(), right.fragmentation());
    assert_eq!(left.fragmentation(), fragmentation(left));
}

/// What [`Allocator::fragmentation`] keeps current, by looking at every free run: of the pairs of free blocks that would be
/// neighbours if all free space were one run, how many are not.
pub(crate) fn fragmentation(space: &impl Allocator) -> f64 {
    let free = space.free_extents();
    let blocks = free.iter().map(|extent| extent.len / space.block_size()).sum::<u64>();
    if blocks < 2 { 0.0 } else { (free.len() - 1) as f64 / (blocks - 1) as f64 }
}

/// Random operations, mirrored to the oracle by exact ranges.
fn agrees_with_the_oracle<A: Allocator>(make: &impl Fn(u64, u64) -> A, seed: u64, operations: u32) {
    let blocks = [90, 700, PAGE_BLOCKS + 3, 3 * PAGE_BLOCKS, 64, 5000][(seed % 6) as usize];
    let mut space = make(blocks * BLOCK, BLOCK);
    let mut oracle = ExtentAllocator::new(blocks * BLOCK, BLOCK);
    space.mark_free(Extent::new(0, blocks * BLOCK)).unwrap();
    oracle.mark_free(Extent::new(0, blocks * BLOCK)).unwrap();
    let mut held: Vec<Extent> = Vec::new();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below.max(1)
    };
    for operation in 0..operations {
        if draw(100) < 55 {
            let unit = BLOCK << draw(4);
            let longest = if draw(10) == 0 { blocks / 4 } else { 20 };
            let len = unit * (1 + draw(longest));
            let extents_max = [1, 4, 1 << 16][draw(3) as usize];
            let hint = (draw(4) == 0).then(|| draw(blocks) * BLOCK);
            let mut out = Vec::new();
            let answer = space.allocate(&Request { len, unit, extents_max, hint }, &mut out);
            if answer.is_ok() {
                assert_eq!(out.iter().map(|extent| extent.len).sum::<u64>(), len);
                assert!(out.len() <= extents_max);
                for extent in &out {
                    assert!(extent.start % unit == 0 && extent.len % unit == 0, "{extent} for {unit}");
                    oracle.mark_used(*extent).unwrap();
                }
                held.extend(out);
            } else {
                let units = aligned_units(&oracle, unit);
                assert!(
                    units < len / unit || (extents_max as u64) < len / unit,
                    "{answer:?} with {units} units free"
                );
            }
        } else if !held.is_empty() {
            let index = draw(held.len() as u64) as usize;
            let extent = held.swap_remove(index);
            // Sometimes only a part goes back.
            let cut = (draw(extent.len / BLOCK + 1) * BLOCK).min(extent.len);
            let (part, rest) = if cut == 0 || draw(2) == 0 {
                (extent, None)
            } else {
                let rest = Extent::new(extent.start + cut, extent.len - cut);
                (Extent::new(extent.start, cut), Some(rest).filter(|rest| rest.len > 0))
            };
            held.extend(rest);
            space.release(part).unwrap();
            oracle.release(part).unwrap();
        }
        assert_eq!((space.free_bytes(), space.free_runs()), (oracle.free_bytes(), oracle.free_runs()));
        if operation % 100 == 0 {
            same(&space, &oracle);
        }
    }
    for index in 0..space.pages().min(2) {
        assert_eq!(space.page(index).unwrap(), oracle.page(index).unwrap());
    }
    same(&space, &oracle);
}

fn aligned_units(oracle: &ExtentAllocator, unit: u64) -> u64 {
    let inside = |extent: &Extent| (extent.end() / unit).saturating_sub(extent.start.div_ceil(unit));
    oracle.free_extents().iter().map(inside).sum()
}
