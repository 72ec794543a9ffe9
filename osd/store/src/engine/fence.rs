//! The fence around windows of the device that are being cleared: what is free in them, and what becomes free, is taken, so that
//! nothing new comes there; and where what leaves them goes. It is in memory only, so after a crash there is none. Lives on one core.

use std::collections::BTreeSet;

use allocator::{Allocator, Class, Extent, HybridAllocator, Space, Taken};

/// Runs of free space that are looked at for one piece.
const LOOKS_MAX: usize = 512;
/// Into so many a piece may be cut that fits none.
const HOLES_MAX: usize = 4;

/// See the module.
pub struct Fence {
    /// Bytes of each window, which begin at multiples of it.
    window: u64,
    /// Numbers of those that are cleared.
    windows: BTreeSet<u64>,
    taken: Vec<Taken<HybridAllocator>>,
    /// Bytes of these.
    bytes: u64,
    /// From where on holes are looked for.
    cursor: u64,
    /// The least bytes for which there was no hole.
    refused: u64,
}

impl Fence {
    /// Takes what is free in these windows, as far as nobody was promised it.
    pub fn new(space: &Space<HybridAllocator>, window: u64, windows: BTreeSet<u64>) -> Self {
        let mut fence = Self { window, windows, taken: Vec::new(), bytes: 0, cursor: 0, refused: u64::MAX };
        for index in fence.windows.clone() {
            for free in space.with(|allocator| free_in(allocator, index * window, (index + 1) * window)) {
                fence.take(space, free);
            }
        }
        fence
    }

    /// Whether all of this is in windows that are cleared.
    pub fn has(&self, extent: &Extent) -> bool {
        let last = (extent.end() - 1) / self.window;
        (extent.start / self.window..=last).all(|index| self.windows.contains(&index))
    }

    /// Takes what became free just now, if it is in a window that is cleared.
    pub fn absorb(&mut self, space: &Space<HybridAllocator>, freed: Extent) {
        let mut start = freed.start;
        while start < freed.end() {
            let index = start / self.window;
            let end = freed.end().min((index + 1) * self.window);
            if self.windows.contains(&index) {
                self.take(space, Extent::new(start, end - start));
            }
            start = end;
        }
    }

    fn take(&mut self, space: &Space<HybridAllocator>, free: Extent) {
        let reserved = space.reserve(free.len, Class::Ordinary);
        if let Ok(taken) = reserved.and_then(|mut reservation| reservation.take_these(&[free])) {
            self.taken.push(taken);
            self.bytes += free.len;
        }
    }

    /// Bytes that are taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Numbers of the windows that are taken whole.
    pub fn whole(&self) -> BTreeSet<u64> {
        let mut taken = self.taken.iter().flat_map(Taken::extents).copied().collect::<Vec<_>>();
        taken.sort_unstable_by_key(|extent| extent.start);
        let of_window = |a: &Extent, b: &Extent| a.start / self.window == b.start / self.window;
        let whole = taken.chunk_by(of_window).filter(|window| {
            let bytes: u64 = window.iter().map(|extent| extent.len).sum();
            bytes == self.window
        });
        whole.filter_map(|window| window.first()).map(|extent| extent.start / self.window).collect()
    }

    /// Where a piece of `len` bytes can go: the next hole that takes it whole, else the largest of those that were seen. A hole is
    /// free space in a window that is neither cleared nor free altogether. None if there are none, or too short ones.
    pub fn holes(&mut self, allocator: &HybridAllocator, len: u64) -> Option<Vec<Extent>> {
        // From where its window begins: what the cursor stands in may be free altogether by now.
        let (mut at, mut is_around, mut seen) = (self.cursor / self.window * self.window, false, Vec::new());
        for _ in 0..LOOKS_MAX {
            let Some(run) = allocator.next_free(at) else {
                if std::mem::replace(&mut is_around, true) {
                    break;
                }
                at = 0;
                continue;
            };
            if is_around && run.start >= self.cursor {
                break;
            }
            let index = run.start / self.window;
            let end = (index + 1) * self.window;
            let hole = Extent::new(run.start, run.end().min(end) - run.start);
            if self.windows.contains(&index) {
                at = end;
                continue;
            }
            if hole.len == self.window {
                // So are those after it up to the one in which the run ends.
                at = run.end() / self.window * self.window;
                continue;
            }
            at = hole.end();
            // Of the hole that the cursor is in, what follows it comes first, and what is before it last.
            let (from, to) = match is_around {
                true => (hole.start, at.min(self.cursor)),
                false => (hole.start.max(self.cursor), at),
            };
            if from >= to {
                continue;
            }
            let hole = Extent::new(from, to - from);
            if hole.len >= len {
                self.cursor = hole.start + len;
                return Some(vec![Extent::new(hole.start, len)]);
            }
            seen.push(hole);
        }
        self.cursor = at;
        seen.sort_by_key(|hole| std::cmp::Reverse(hole.len));
        let mut left = len;
        for (number, hole) in seen.iter_mut().take(HOLES_MAX).enumerate() {
            hole.len = hole.len.min(left);
            left -= hole.len;
            if left == 0 {
                seen.truncate(number + 1);
                return Some(seen);
            }
        }
        self.refused = self.refused.min(len);
        None
    }

    /// The least bytes for which there was no hole since this was asked last, if there was none for something.
    pub fn take_refused(&mut self) -> Option<u64> {
        let refused = std::mem::replace(&mut self.refused, u64::MAX);
        (refused < u64::MAX).then_some(refused)
    }
}

/// What is free in `[from, to)`, ascending.
fn free_in(allocator: &HybridAllocator, from: u64, to: u64) -> Vec<Extent> {
    let mut free = Vec::new();
    let mut at = from;
    while let Some(run) = allocator.next_free(at).filter(|run| run.start < to) {
        free.push(Extent::new(run.start, run.end().min(to) - run.start));
        at = run.end();
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 4096;
    const WINDOW: u64 = 8 * BLOCK;

    /// Windows of eight blocks, of which the free ones are `.`.
    fn space(windows: &[&str]) -> Space<HybridAllocator> {
        let blocks: String = windows.concat();
        let mut allocator = HybridAllocator::new_free(blocks.len() as u64 * BLOCK, BLOCK);
        for (at, _) in blocks.bytes().enumerate().filter(|(_, block)| *block != b'.') {
            allocator.mark_used(Extent::new(at as u64 * BLOCK, BLOCK)).expect("free");
        }
        Space::new(allocator, 0)
    }

    fn blocks(extents: &[Extent]) -> Vec<(u64, u64)> {
        extents.iter().map(|extent| (extent.start / BLOCK, extent.len / BLOCK)).collect()
    }

    #[test]
    fn long_runs_are_passed_over_at_once() {
        let mut windows = vec!["........"; 2 * LOOKS_MAX];
        windows.extend(["...xxx.."]);
        let space = space(&windows);
        let mut fence = Fence::new(&space, WINDOW, BTreeSet::from([3]));
        let holes = space.with(|allocator| fence.holes(allocator, 3 * BLOCK)).expect("a hole");
        assert_eq!(blocks(&holes), [(16 * LOOKS_MAX as u64, 3)]);
    }

    #[test]
    fn the_hole_that_the_cursor_is_in_is_not_seen_twice_and_may_be_a_window_by_now() {
        let space = space(&["xxxxxxxx", "xx......", "x.......", "xxxxxxxx"]);
        let mut fence = Fence::new(&space, WINDOW, BTreeSet::from([3]));
        let mut holes = |len: u64| space.with(|allocator| fence.holes(allocator, len * BLOCK));
        assert_eq!(blocks(&holes(2).expect("room")), [(10, 2)]);
        // Nothing was taken: all the same it is 4 and 7 blocks from here, and 2 after all of these.
        assert_eq!(blocks(&holes(13).expect("room")), [(17, 7), (12, 4), (10, 2)]);
        assert_eq!((holes(14), fence.take_refused()), (None, Some(14 * BLOCK)));
        assert_eq!(fence.take_refused(), None);
        let mut holes = |len: u64| space.with(|allocator| fence.holes(allocator, len * BLOCK));
        assert_eq!(blocks(&holes(7).expect("room")), [(17, 7)]);
        assert_eq!(blocks(&holes(2).expect("room")), [(10, 2)]);
        space.release(&[Extent::new(8 * BLOCK, 2 * BLOCK)]).expect("in use");
        assert_eq!(blocks(&holes(4).expect("room")), [(17, 4)], "the other window is free altogether");
    }

    #[test]
    fn what_leaves_goes_to_holes_and_nothing_comes() {
        let space = space(&["..x.....", "........", "x.xxx..x", "xxx...x."]);
        let mut fence = Fence::new(&space, WINDOW, BTreeSet::from([0]));
        assert_eq!((fence.bytes(), fence.whole().len()), (7 * BLOCK, 0));
        assert!(fence.has(&Extent::new(2 * BLOCK, BLOCK)) && !fence.has(&Extent::new(7 * BLOCK, 2 * BLOCK)));
        let mut holes = |len: u64| space.with(|allocator| fence.holes(allocator, len * BLOCK));
        // Nothing was taken there, so it finds some again when it comes around.
        assert_eq!(blocks(&holes(2).expect("room")), [(21, 2)]);
        assert_eq!(blocks(&holes(3).expect("room")), [(27, 3)]);
        assert_eq!(blocks(&holes(1).expect("room")), [(31, 1)]);
        assert_eq!(blocks(&holes(1).expect("room")), [(17, 1)]);
        assert_eq!(blocks(&holes(6).expect("room")), [(27, 3), (21, 2), (31, 1)]);
        assert_eq!(holes(9), None, "all holes together have seven blocks");
        // What leaves the window is its again; with that it is whole.
        let freed = Extent::new(2 * BLOCK, BLOCK);
        space.release(&[freed]).expect("in use");
        fence.absorb(&space, freed);
        assert_eq!((fence.bytes(), fence.whole()), (WINDOW, BTreeSet::from([0])));
        let before = space.available(Class::Ordinary);
        drop(fence);
        assert_eq!(space.available(Class::Ordinary), before + WINDOW);
    }
}
