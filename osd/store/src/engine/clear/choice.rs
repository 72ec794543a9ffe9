//! Which windows to clear, from the bitmap alone: those of which least is in use, as many as the holes of the others take.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;

use allocator::{Allocator, Extent};

use super::super::state::Inner;
use crate::superblock::Superblock;

/// Windows that are kept in mind of a survey.
const CANDIDATES_MAX: usize = 16 << 10;
/// Runs of free space that are looked at before others have their turn.
const STEP_RUNS: usize = 1024;

/// What a survey found.
#[derive(Debug, Default)]
pub struct Survey {
    /// Windows of which at least half is free, but not all: bytes in use, and number. The largest goes first if there are too many.
    candidates: BinaryHeap<(u64, u64)>,
    /// Bytes that are free in windows that are free in part.
    holes: u64,
}

/// The window that a survey is in.
#[derive(Default)]
struct Window {
    index: u64,
    free: u64,
}

/// Looks at all windows of this length but those in `barren`, and those in which there is what belongs to no object.
pub async fn survey(inner: &Rc<Inner>, window: u64, barren: &BTreeSet<u64>) -> Survey {
    let regions = regions(inner);
    let may_clear = |index: u64| {
        let extent = Extent::new(index * window, window);
        let at = regions.partition_point(|region| region.end() <= extent.start);
        let is_region = regions.get(at).is_some_and(|region| region.overlaps(&extent));
        !barren.contains(&index) && !is_region && extent.end() <= inner.window()
    };
    let (mut survey, mut present, mut at) = (Survey::default(), Window::default(), Some(0));
    while let Some(from) = at.take() {
        inner.space.space.with(|allocator| {
            let mut next = from;
            for _ in 0..STEP_RUNS {
                let Some(run) = allocator.next_free(next) else { return };
                survey.run(run, window, &mut present, &may_clear);
                next = run.end();
            }
            at = Some(next);
        });
        inner.core.yield_now().await;
    }
    survey.end(&present, window, &may_clear);
    survey
}

/// What belongs to no object and does not move, ascending.
fn regions(inner: &Inner) -> Vec<Extent> {
    let (superblock, block) = (inner.superblock.borrow(), inner.block);
    let mut regions = inner.space.lent();
    regions.extend(Superblock::places(inner.window(), block).map(|place| Extent::new(place, block)));
    regions.push(Extent::new(block, superblock.journal.len + superblock.pg_log.len));
    regions.extend(Some(superblock.kv).filter(|kv| kv.len > 0));
    super::super::effect::merge(regions)
}

impl Survey {
    /// A run of free space, which may go on over several windows.
    fn run(&mut self, run: Extent, window: u64, present: &mut Window, may_clear: &impl Fn(u64) -> bool) {
        let (first, last) = (run.start / window, (run.end() - 1) / window);
        if first != present.index {
            self.end(present, window, may_clear);
            *present = Window { index: first, free: 0 };
        }
        present.free += run.end().min((first + 1) * window) - run.start;
        if last > first {
            self.end(present, window, may_clear);
            // Those in between are free altogether.
            *present = Window { index: last, free: run.end() - last * window };
        }
    }

    fn end(&mut self, present: &Window, window: u64, may_clear: &impl Fn(u64) -> bool) {
        let Window { index, free } = *present;
        if free == 0 || free == window {
            return;
        }
        self.holes += free;
        if 2 * free >= window && may_clear(index) {
            self.candidates.push((window - free, index));
            if self.candidates.len() > CANDIDATES_MAX {
                self.candidates.pop();
            }
        }
    }
}

/// The windows to clear, with what is in use of them: the fence holds back `fenced_max` bytes of free space at most, and no more than
/// `moved_max` move.
pub fn choose(survey: Survey, window: u64, fenced_max: u64, moved_max: u64) -> BTreeMap<u64, u64> {
    let mut chosen = BTreeMap::new();
    let (mut holes, mut moved, mut fenced) = (survey.holes, 0, 0);
    for (used, index) in survey.candidates.into_sorted_vec() {
        // What is chosen has no holes for others.
        (holes, moved, fenced) = (holes - (window - used), moved + used, fenced + window);
        if moved > holes || moved > moved_max || fenced > fenced_max {
            break;
        }
        chosen.insert(index, used);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Surveys windows of four bytes: `.` is free.
    fn surveyed(blocks: &str) -> Survey {
        let (mut survey, mut present) = (Survey::default(), Window::default());
        let mut at = 0;
        while let Some(start) = blocks[at..].find('.').map(|free| at + free) {
            let end = blocks[start..].find('x').map_or(blocks.len(), |len| start + len);
            survey.run(Extent::new(start as u64, (end - start) as u64), 4, &mut present, &|index| index != 1);
            at = end;
        }
        survey.end(&present, 4, &|index| index != 1);
        survey
    }

    #[test]
    fn the_emptiest_are_chosen_as_long_as_others_take_what_is_in_them() {
        let check = |blocks: &str, fenced_max: u64, expect: &[(u64, u64)]| {
            let chosen = choose(surveyed(blocks), 4, fenced_max, 1000);
            assert_eq!(chosen.into_iter().collect::<Vec<_>>(), expect, "{blocks}");
        };
        check("....|....".replace('|', "").as_str(), 100, &[]);
        // Nothing may move out of window 1, but something may move there.
        check("xxxxx...xx..", 100, &[(2, 2)]);
        check("x...x...", 100, &[(0, 1)]);
        // Half free everywhere: half of them can go.
        check("x.x.xxxxx.x.x.x.x.x.", 100, &[(0, 2), (2, 2)]);
        check("x.x.xxxxx.x.x.x.x.x.", 7, &[(0, 2)]);
        // Less than half is free.
        check("xxxxxxxxxxx.xx.x", 100, &[]);
        check("xxx.........x...xxxx.xxx..xx", 100, &[(3, 1)]);
        check("xx..........x...xxxx.xxx..xx", 100, &[(0, 2), (3, 1)]);
        assert_eq!(choose(surveyed("x.x.xxxxx.x.x.x.x.x."), 4, 100, 3).len(), 1, "so much may move");
    }
}
