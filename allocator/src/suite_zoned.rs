//! What every allocator with zones must pass; a backend runs it with `suite_zoned::run(|capacity, block_size, layout| …)`.
//!
//! What the general suite asks for and zones can give is asked for here too. The rest is compared with a model that knows
//! the state of every block. Panics with what was wrong.

#![expect(clippy::unwrap_used, reason = "a suite fails by panicking")]

use crate::extent::Extent;
use crate::seam::{AllocError, Request, ZoneState, Zones};
use crate::suite::{self, BLOCK, fragmentation, request};
use crate::zoned::ZoneLayout;

/// Blocks of a zone.
const ZONE: u64 = 64;

/// Runs everything. `make` gives an allocator that is all in use.
pub fn run<A: Zones>(make: impl Fn(u64, u64, ZoneLayout) -> A) {
    let zoned = |zone_blocks: u64, open_max| {
        let layout = ZoneLayout { zone_bytes: zone_blocks * BLOCK, open_max };
        let make = &make;
        move |capacity, block_size| make(capacity, block_size, layout)
    };
    suite::starts_all_used(&zoned(ZONE, 1));
    suite::refuses_nonsense(&zoned(ZONE, 2));
    suite::failing_changes_nothing(&zoned(ZONE, 2));
    suite::prefers_contiguous_space(&zoned(1 << 17, 1));
    takes_in_order(&zoned(ZONE, 3));
    keeps_to_the_bound_of_open_zones(&zoned(ZONE, 2));
    frees_by_reset_alone(&zoned(ZONE, 2));
    knows_the_victim(&zoned(ZONE, 2));
    fails_whole(&zoned(ZONE, 2));
    refuses_what_no_zone_is(&zoned(ZONE, 1));
    for seed in 0..8 {
        agrees_with_the_model(&make, seed, 2000);
    }
}

fn empty<A: Zones>(make: &impl Fn(u64, u64) -> A, zones: u64) -> A {
    let mut space = make(zones * ZONE * BLOCK, BLOCK);
    space.mark_free(Extent::new(0, space.capacity())).unwrap();
    assert!((0..zones).all(|zone| space.zone(zone).unwrap().state == ZoneState::Empty));
    space
}

fn take<A: Zones>(space: &mut A, blocks: u64, zone: Option<u64>) -> Vec<Extent> {
    let hint = zone.map(|zone| zone * ZONE * BLOCK);
    let mut out = Vec::new();
    space.allocate(&Request { hint, ..request(blocks * BLOCK, BLOCK, 1 << 16) }, &mut out).unwrap();
    out
}

fn takes_in_order<A: Zones>(make: &impl Fn(u64, u64) -> A) {
    let mut space = empty(make, 4);
    for blocks in [3, 60, 1, 10] {
        take(&mut space, blocks, Some(2));
    }
    let two = space.zone(2).unwrap();
    assert_eq!((two.write, two.state), (64 * BLOCK, ZoneState::Full));
    // A hint chooses the zone, so streams can be kept apart.
    assert_eq!(take(&mut space, 5, Some(1)), [Extent::new(ZONE * BLOCK, 5 * BLOCK)]);
    assert_eq!(take(&mut space, 5, Some(3)), [Extent::new(3 * ZONE * BLOCK, 5 * BLOCK)]);
    assert_eq!(take(&mut space, 2, Some(1)), [Extent::new((ZONE + 5) * BLOCK, 2 * BLOCK)]);
    // What is passed over to align it is dead.
    let mut out = Vec::new();
    let aligned = Request { hint: Some(ZONE * BLOCK), ..request(8 * BLOCK, 8 * BLOCK, 1) };
    space.allocate(&aligned, &mut out).unwrap();
    assert_eq!(out, [Extent::new((ZONE + 8) * BLOCK, 8 * BLOCK)]);
    assert_eq!(space.zone(1).unwrap().dead(), BLOCK);
}

fn keeps_to_the_bound_of_open_zones<A: Zones>(make: &impl Fn(u64, u64) -> A) {
    let mut space = empty(make, 6);
    let open = |space: &A| -> Vec<u64> {
        (0..6).filter(|zone| space.zone(*zone).unwrap().state == ZoneState::Open).collect()
    };
    take(&mut space, 9, Some(0));
    take(&mut space, 5, Some(4));
    assert_eq!(open(&space), [0, 4]);
    // The one with the least left is closed, and opened again when the others have no room.
    take(&mut space, 1, Some(5));
    assert_eq!((open(&space), space.zone(0).unwrap().state), (vec![4, 5], ZoneState::Closed));
    let mut out = Vec::new();
    space.allocate(&request(50 * BLOCK, BLOCK, 1), &mut out).unwrap();
    space.allocate(&request(60 * BLOCK, BLOCK, 1), &mut out).unwrap();
    space.allocate(&request(55 * BLOCK, BLOCK, 1), &mut out).unwrap();
    assert_eq!(out.last(), Some(&Extent::new(9 * BLOCK, 55 * BLOCK)));
    assert!(open(&space).len() <= space.open_max());
    // All there is can be had.
    let rest = space.free_bytes() / BLOCK;
    take(&mut space, rest, None);
    assert_eq!((space.free_bytes(), open(&space).len()), (0, 0));
}

fn frees_by_reset_alone<A: Zones>(make: &impl Fn(u64, u64) -> A) {
    let mut space = empty(make, 2);
    let all = take(&mut space, 2 * ZONE, None);
    assert_eq!(all, [Extent::new(0, 2 * ZONE * BLOCK)]);
    space.release(Extent::new(0, (ZONE - 1) * BLOCK)).unwrap();
    assert_eq!(space.free_bytes(), 0);
    assert_eq!(space.used_extents(), [Extent::new((ZONE - 1) * BLOCK, (ZONE + 1) * BLOCK)]);
    assert_eq!(space.reset(0), Err(AllocError::ZoneAlive { index: 0, alive: BLOCK }));
    let refused = space.allocate(&request(BLOCK, BLOCK, 1), &mut Vec::new());
    assert_eq!(refused, Err(AllocError::NoSpace { wanted: BLOCK, available: 0 }));
    space.release(Extent::new((ZONE - 1) * BLOCK, BLOCK)).unwrap();
    assert_eq!((space.free_bytes(), space.zone(0).unwrap().dead()), (0, ZONE * BLOCK));
    space.reset(0).unwrap();
    assert_eq!(space.free_extents(), [Extent::new(0, ZONE * BLOCK)]);
    assert_eq!(space.zone(0).unwrap().state, ZoneState::Empty);
}

fn knows_the_victim<A: Zones>(make: &impl Fn(u64, u64) -> A) {
    let mut space = empty(make, 5);
    assert_eq!(space.victim(), None);
    take(&mut space, 3 * ZONE, None);
    take(&mut space, 20, Some(4));
    let dead = |space: &mut A, zone: u64, from: u64, blocks: u64| {
        space.release(Extent::new((zone * ZONE + from) * BLOCK, blocks * BLOCK)).unwrap();
    };
    dead(&mut space, 4, 0, 19);
    assert_eq!(space.victim(), None, "it is open");
    dead(&mut space, 2, 0, 10);
    dead(&mut space, 1, 0, 10);
    assert_eq!(space.victim(), Some(1), "the first of equals");
    dead(&mut space, 2, 30, 1);
    assert_eq!(space.victim(), Some(2));
    dead(&mut space, 2, 10, 20);
    dead(&mut space, 2, 31, ZONE - 31);
    space.reset(2).unwrap();
    assert_eq!(space.victim(), Some(1));
}

fn fails_whole<A: Zones>(make: &impl Fn(u64, u64) -> A) {
    let mut space = empty(make, 4);
    for zone in 0..4 {
        take(&mut space, 40 + zone, Some(zone));
    }
    let show = |space: &A| {
        let zones: Vec<_> = (0..4).map(|zone| space.zone(zone).unwrap()).collect();
        (zones, space.free_extents(), space.used_extents(), space.free_runs(), space.victim())
    };
    let before = show(&space);
    let mut out = Vec::new();
    let few = space.allocate(&request(60 * BLOCK, BLOCK, 2), &mut out);
    assert!(matches!(few, Err(AllocError::Fragmented { .. })), "{few:?}");
    assert_eq!(show(&space), before);
    assert!(out.is_empty());
}

fn refuses_what_no_zone_is<A: Zones>(make: &impl Fn(u64, u64) -> A) {
    let mut space = make((2 * ZONE + 10) * BLOCK, BLOCK);
    assert_eq!((space.zones(), space.zone(2).unwrap().extent.len), (3, 10 * BLOCK));
    let none = AllocError::NoZone { index: 3, zones: 3 };
    assert_eq!(space.zone(3), Err(none.clone()));
    assert_eq!(space.reset(3), Err(none.clone()));
    assert_eq!(space.set_write_pointer(3, 0), Err(none));
    space.release(Extent::new(8 * BLOCK, (ZONE - 8) * BLOCK)).unwrap();
    for write in [7 * BLOCK, 8 * BLOCK + 1, (ZONE + 1) * BLOCK, u64::MAX] {
        let refused = space.set_write_pointer(0, write);
        assert!(matches!(refused, Err(AllocError::WritePointer { .. })), "{write}: {refused:?}");
    }
    space.set_write_pointer(0, 8 * BLOCK).unwrap();
    assert_eq!(space.free_extents(), [Extent::new(8 * BLOCK, (ZONE - 8) * BLOCK)]);
}

/// Each block's state, and each zone's write pointer, kept in the plainest way.
struct Model {
    zone_blocks: u64,
    alive: Vec<bool>,
    write: Vec<u64>,
}

impl Model {
    fn zone_end(&self, zone: usize) -> u64 {
        ((zone as u64 + 1) * self.zone_blocks).min(self.alive.len() as u64)
    }

    fn alive_in(&self, zone: usize) -> u64 {
        let blocks = zone as u64 * self.zone_blocks..self.zone_end(zone);
        blocks.filter(|block| self.alive[*block as usize]).count() as u64
    }

    fn runs(&self, is_in: impl Fn(u64) -> bool) -> Vec<Extent> {
        let mut runs: Vec<Extent> = Vec::new();
        for block in (0..self.alive.len() as u64).filter(|block| is_in(*block)) {
            match runs.last_mut().filter(|last| last.end() == block * BLOCK) {
                Some(last) => last.len += BLOCK,
                None => runs.push(Extent::new(block * BLOCK, BLOCK)),
            }
        }
        runs
    }

    fn is_free(&self, block: u64) -> bool {
        let zone = block / self.zone_blocks;
        block - zone * self.zone_blocks >= self.write[zone as usize]
    }

    fn compare(&self, space: &impl Zones) {
        assert_eq!(space.used_extents(), self.runs(|block| self.alive[block as usize]));
        let free = self.runs(|block| self.is_free(block));
        assert_eq!(space.free_extents(), free);
        assert_eq!(space.free_runs(), free.len() as u64);
        assert_eq!(space.free_bytes(), free.iter().map(|extent| extent.len).sum::<u64>());
        assert_eq!(space.fragmentation(), fragmentation(space));
        let mut open = 0;
        let mut victim: Option<(u64, u64)> = None;
        for (index, write) in (0..).zip(&self.write) {
            let zone = space.zone(index).unwrap();
            let at = usize::try_from(index).unwrap();
            assert_eq!((zone.write, zone.alive), (write * BLOCK, self.alive_in(at) * BLOCK), "zone {index}");
            assert_eq!(zone.extent.end(), self.zone_end(at) * BLOCK);
            match zone.state {
                ZoneState::Empty => assert_eq!(zone.write, 0),
                ZoneState::Full => assert_eq!(zone.write, zone.extent.len),
                ZoneState::Open | ZoneState::Closed => {
                    assert!(zone.write > 0 && zone.write < zone.extent.len)
                }
            }
            open += usize::from(zone.state == ZoneState::Open);
            let counts = zone.state != ZoneState::Open && zone.dead() > 0;
            if counts && victim.is_none_or(|(most, _)| zone.dead() > most) {
                victim = Some((zone.dead(), index));
            }
        }
        assert!(open <= space.open_max(), "{open} zones are open");
        assert_eq!(space.victim(), victim.map(|(_, index)| index));
    }
}

/// Random operations, mirrored block by block; then the state is rebuilt from its pages, and from its extents.
fn agrees_with_the_model<A: Zones>(make: &impl Fn(u64, u64, ZoneLayout) -> A, seed: u64, operations: u32) {
    let (zone_blocks, blocks) =
        [(64, 1000), (128, 128 * 9), (1 << 16, 150_000), (192, 100)][(seed % 4) as usize];
    let open_max = [1, 2, 4, 14][(seed / 2 % 4) as usize];
    let layout = ZoneLayout { zone_bytes: zone_blocks * BLOCK, open_max };
    let make = || make(blocks * BLOCK, BLOCK, layout);
    let mut space = make();
    space.mark_free(Extent::new(0, space.capacity())).unwrap();
    let zones = blocks.div_ceil(zone_blocks) as usize;
    let mut model = Model { zone_blocks, alive: vec![false; blocks as usize], write: vec![0; zones] };
    let mut held: Vec<Extent> = Vec::new();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below.max(1)
    };
    let longest = blocks / 12;
    for operation in 0..operations {
        match draw(100) {
            0..50 => {
                let unit = BLOCK << draw(4);
                let len = unit * (1 + draw((longest * BLOCK / unit).max(1)));
                let extents_max = [1, 3, 1 << 16][draw(3) as usize];
                let hint = (draw(3) == 0).then(|| draw(blocks) * BLOCK);
                let mut out = Vec::new();
                let free = space.free_bytes();
                match space.allocate(&Request { len, unit, extents_max, hint }, &mut out) {
                    Ok(()) => {
                        assert_eq!(out.iter().map(|extent| extent.len).sum::<u64>(), len);
                        assert!(out.len() <= extents_max);
                    }
                    Err(error) => {
                        assert!(out.is_empty(), "a failing request adds nothing");
                        let must = unit == BLOCK && extents_max > zones && len <= free;
                        assert!(!must, "{error} with {free} bytes free");
                    }
                }
                for extent in &out {
                    assert!(extent.start % unit == 0 && extent.len % unit == 0, "{extent} for {unit}");
                    for block in extent.start / BLOCK..extent.end() / BLOCK {
                        let zone = (block / zone_blocks) as usize;
                        let offset = block - zone as u64 * zone_blocks;
                        assert!(model.is_free(block), "{extent} is handed out in order");
                        // Only the first of a piece may be preceded by what is passed over.
                        let passed = offset - model.write[zone];
                        assert!(passed * BLOCK < unit, "{passed} blocks are passed over");
                        model.write[zone] = offset + 1;
                        model.alive[block as usize] = true;
                    }
                }
                held.extend(out);
            }
            50..85 => {
                if held.is_empty() {
                    continue;
                }
                let extent = held.swap_remove(draw(held.len() as u64) as usize);
                let cut = (draw(extent.len / BLOCK) + 1) * BLOCK;
                let rest = Extent::new(extent.start + cut, extent.len - cut);
                held.extend(Some(rest).filter(|rest| rest.len > 0));
                space.release(Extent::new(extent.start, cut)).unwrap();
                for block in extent.start / BLOCK..(extent.start + cut) / BLOCK {
                    model.alive[block as usize] = false;
                }
            }
            _ => {
                let zone = space.victim().unwrap_or_else(|| draw(zones as u64));
                let at = zone as usize;
                // As a cleaner would: what is alive moves away, here into nothing.
                if draw(2) == 0 {
                    let whole = space.zone(zone).unwrap().extent;
                    let (inside, outside) =
                        held.iter().partition::<Vec<_>, _>(|extent| extent.overlaps(&whole));
                    held = outside;
                    for extent in inside {
                        space.release(extent).unwrap();
                        for block in extent.start / BLOCK..extent.end() / BLOCK {
                            model.alive[block as usize] = false;
                        }
                    }
                }
                let may = model.alive_in(at) == 0;
                assert_eq!(space.reset(zone).is_ok(), may);
                if may {
                    model.write[at] = 0;
                }
            }
        }
        if operation % 50 == 0 {
            model.compare(&space);
        }
    }
    model.compare(&space);
    let pointers = |rebuilt: &mut A| {
        for (index, write) in (0..).zip(&model.write) {
            rebuilt.set_write_pointer(index, write * BLOCK).unwrap();
        }
        model.compare(rebuilt);
    };
    let mut rebuilt = make();
    if seed.is_multiple_of(2) {
        // Loading moves write pointers up, whatever they were.
        rebuilt.mark_free(Extent::new(0, space.capacity())).unwrap();
    }
    for index in 0..space.pages() {
        rebuilt.load_page(index, &space.page(index).unwrap()).unwrap();
    }
    pointers(&mut rebuilt);
    let mut rebuilt = make();
    rebuilt.mark_free(Extent::new(0, space.capacity())).unwrap();
    for extent in space.used_extents() {
        rebuilt.mark_used(extent).unwrap();
    }
    pointers(&mut rebuilt);
}
