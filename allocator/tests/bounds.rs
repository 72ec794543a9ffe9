//! Memory and work are bounded, on a fresh device and on the worst aged one.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use allocator::suite::request;
use allocator::{Allocator, BitmapAllocator, Extent, HybridAllocator, ZoneLayout, ZonedAllocator, Zones};

const BLOCK: u64 = 4096;
const TIB: u64 = 1 << 40;

#[test]
fn memory_per_tib_is_at_most_35_mb() {
    let mut space = BitmapAllocator::new_free(TIB, BLOCK);
    assert!(space.memory_bytes() < 1_000_000, "an untouched device costs {} bytes", space.memory_bytes());
    for page in 0..space.pages() {
        space.mark_used(Extent::new(page * (128 << 20), BLOCK)).unwrap();
    }
    assert!(space.memory_bytes() <= 35_000_000, "{} bytes", space.memory_bytes());
}

#[test]
fn work_is_bounded_when_every_second_block_is_free() {
    let capacity = 16 << 30;
    let mut space = BitmapAllocator::new(capacity, BLOCK);
    for index in 0..space.pages() {
        space.load_page(index, &[0x55; 4096]).unwrap();
    }
    assert_eq!(space.fragmentation(), 1.0);
    let mut out = Vec::new();
    for blocks in [1, 2, 16, 256] {
        let before = space.work();
        for _ in 0..1000 {
            out.clear();
            space.allocate(&request(blocks * BLOCK, BLOCK, 1 << 16), &mut out).unwrap();
            assert_eq!(out.len() as u64, blocks);
        }
        let words = (space.work().words - before.words) / 1000;
        assert!(words <= 24 * blocks + 64, "{words} words for {blocks} blocks");
        assert!(space.work().words_max <= space.words_bound(blocks, 1 << 16));
    }
}

#[test]
fn work_is_bounded_when_the_only_piece_is_behind_the_cursor() {
    // 1 TiB in use but for one run of 16 blocks just behind the cursor, and single blocks everywhere.
    let mut space = BitmapAllocator::new(TIB, BLOCK);
    for index in 0..space.pages() {
        let mut page = [0; 4096];
        page[4095] = 0x80;
        space.load_page(index, &page).unwrap();
    }
    let only = Extent::new(48 * BLOCK, 16 * BLOCK);
    space.mark_free(only).unwrap();
    let mut out = Vec::new();
    let far = allocator::Request { hint: Some(64 * BLOCK), ..request(16 * BLOCK, 16 * BLOCK, 1) };
    space.allocate(&far, &mut out).unwrap();
    assert_eq!(out, [only]);
    assert!(space.work().words_max < 1200, "{:?}", space.work());
    assert!(space.allocate(&request(2 * BLOCK, BLOCK, 1), &mut out).is_err());
}

#[test]
fn filling_and_ageing_keeps_the_bound() {
    let mut space = BitmapAllocator::new_free(1 << 30, BLOCK);
    let mut held = Vec::new();
    let mut state = 7_u64;
    for _ in 0..60_000 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let blocks = 1 + (state >> 40) % 31;
        // Above 95 % full something random goes first.
        while space.free_bytes() < (1 << 30) / 20 {
            let index = (state >> 20) as usize % held.len();
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            space.release(held.swap_remove(index)).unwrap();
        }
        space.allocate(&request(blocks * BLOCK, BLOCK, 1 << 16), &mut held).unwrap();
    }
    let work = space.work();
    assert!(work.words / work.allocations < 200, "{work:?}");
    assert!(work.words_max <= space.words_bound(31, 31), "{work:?}");
    assert_eq!(space.free_extents().len() as u64, space.free_runs());
}

#[test]
fn the_hybrid_keeps_both_bounds() {
    let mut space = HybridAllocator::new_free(TIB, BLOCK);
    for page in 0..space.pages() {
        space.mark_used(Extent::new(page * (128 << 20), BLOCK)).unwrap();
        // Runs of every length, long ones again and again, so that all hints there may be are there.
        for order in 1..15 {
            let piece = Extent::new(page * (128 << 20) + (BLOCK << order), BLOCK);
            space.mark_used(piece).unwrap();
            space.release(piece).unwrap();
        }
    }
    assert!(space.memory_bytes() <= 35_000_000, "{} bytes", space.memory_bytes());
    let mut out = Vec::new();
    for blocks in [1, 63, 64, 100, 1024, 5000, 100_000] {
        for _ in 0..20 {
            space.allocate(&request(blocks * BLOCK, BLOCK, 1 << 16), &mut out).unwrap();
            assert!(space.work().words_max <= space.words_bound(blocks, 1 << 16), "{:?}", space.work());
        }
    }
}

#[test]
fn hints_find_what_a_bounded_search_passes_by() {
    // A run of one word in every page, and one that is long enough far behind.
    let make = || {
        let mut space = BitmapAllocator::new(100 * (128 << 20), BLOCK);
        for page in 0..space.pages() {
            space.mark_free(Extent::new(page * (128 << 20), 64 * BLOCK)).unwrap();
        }
        space.mark_free(Extent::new(90 * (128 << 20) + 1000 * BLOCK, 1024 * BLOCK)).unwrap();
        space
    };
    let pieces = |space: &mut dyn Allocator| {
        let mut out = Vec::new();
        space.allocate(&request(1024 * BLOCK, BLOCK, 1 << 16), &mut out).unwrap();
        out.len()
    };
    assert_eq!(pieces(&mut make()), 16);
    assert_eq!(pieces(&mut HybridAllocator::from(make())), 1);
    // Also when it became free later.
    let mut space = HybridAllocator::from(make());
    let late = Extent::new(95 * (128 << 20) + 64 * BLOCK, 2000 * BLOCK);
    space.release(late).unwrap();
    let mut out = Vec::new();
    space.allocate(&request(2048 * BLOCK, BLOCK, 1), &mut out).unwrap();
    assert_eq!(out, [Extent::new(95 * (128 << 20), 2048 * BLOCK)], "with what it joined");
}

#[test]
fn a_zoned_allocation_looks_at_open_zones_only() {
    let layout = ZoneLayout { zone_bytes: 256 << 20, open_max: 14 };
    let mut space = ZonedAllocator::new(TIB, BLOCK, layout);
    space.mark_free(Extent::new(0, TIB)).unwrap();
    let mut out = Vec::new();
    let mut state = 3_u64;
    for _ in 0..30_000 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let blocks = [1, 16, 1024, 20_000][(state >> 40) as usize % 4];
        let hint = Some((state >> 20) % TIB);
        let request = allocator::Request { hint, ..request(blocks * BLOCK, BLOCK, 1 << 16) };
        let before = space.work().words;
        space.allocate(&request, &mut out).unwrap();
        if state >> 63 == 0 {
            let piece = out.swap_remove((state >> 30) as usize % out.len());
            space.release(piece).unwrap();
        }
        let words = space.work().words - before;
        assert!(
            words <= space.words_bound(blocks, 1 << 16).min(blocks / 8 + 400),
            "{words} words for {blocks}"
        );
    }
    assert!(space.victim().is_some());
    assert!(space.memory_bytes() <= 35_000_000, "{} bytes", space.memory_bytes());
}

/// The worst that this load meets on a device that is 95 % full and broken into pieces: bounded, and by how much, is what
/// nobody's clock can tell.
#[test]
fn words_on_an_aged_device_are_few() {
    let blocks = (8 << 30) / BLOCK;
    let mut space = HybridAllocator::new_free(blocks * BLOCK, BLOCK);
    let mut held = Vec::new();
    let mut state = 5_u64;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut most = [(1, 0), (16, 0), (1024, 0)];
    for step in 0..400_000_u64 {
        let wanted = [1, 1, 1, 3, 8, 16, 1, 1][draw(8) as usize];
        let wanted = if draw(60) == 0 { 1024 } else { wanted };
        while space.free_bytes() < capacity_left(blocks, wanted) {
            let index = draw(held.len() as u64) as usize;
            let extent: Extent = held.swap_remove(index);
            // Half of the time only a block out of it, as an overwrite does.
            let at = draw(extent.len / BLOCK);
            let whole = draw(2) == 0;
            let part = if whole { extent } else { Extent::new(extent.start + at * BLOCK, BLOCK) };
            space.release(part).unwrap();
            let rests = [
                Extent::new(extent.start, part.start - extent.start),
                Extent::new(part.end(), extent.end() - part.end()),
            ];
            held.extend(rests.into_iter().filter(|rest| rest.len > 0));
        }
        let before = space.work().words;
        space.allocate(&request(wanted * BLOCK, BLOCK, 1 << 16), &mut held).unwrap();
        let words = space.work().words - before;
        assert!(
            words <= space.words_bound(wanted, 1 << 16),
            "{words} words for {wanted} blocks at step {step}"
        );
        for (blocks, most) in &mut most {
            if *blocks == wanted {
                *most = words.max(*most);
            }
        }
    }
    assert!(space.fragmentation() > 0.1, "it is aged: {}", space.fragmentation());
    let bounds = [(1, 40), (16, 160), (1024, 4500)];
    for ((blocks, most), (_, bound)) in most.into_iter().zip(bounds) {
        assert!((1..=bound).contains(&most), "{most} words for {blocks} blocks");
    }
    // In one piece, that is: an allocation of a block never touches more.
    assert!(space.words_bound(1, 1) <= 160, "{}", space.words_bound(1, 1));
}

/// What must be free so that, with so many more blocks in use, 95 % are.
fn capacity_left(blocks: u64, wanted: u64) -> u64 {
    (blocks / 20 + wanted) * BLOCK
}
