//! How much memory the caches may have, and how it is divided among them. Pure: readings in, sizes out.
//!
//! From the target is taken off what may be needed beside the caches at worst: the overlay, the journal, tables of the
//! key-value store, requests, the allocator. Where the process's resident memory is known, it counts instead of what is
//! accounted, so that fragments and whatever nobody counts come off, too. Growth is slow and shrinking is not.
//!
//! What is left belongs to onodes, data and the key-value store's blocks. Each tells what more memory would have spared: things
//! that came back after they had to go. Where that is most, for each byte that it has, a piece is added, and taken from where it
//! is least.

/// Part of the target that is never given to caches: what comes and goes between two readings.
const MARGIN_PART: u64 = 16;
/// Caches grow by this part of the target at most from one reading to the next.
const GROWTH_PART: u64 = 16;
/// What moves from one cache to another at a time, as a part of both and all.
const PIECES: u64 = 32;
/// Pieces that each cache has at least.
const PIECES_MIN: u64 = 2;
/// A cache wants more only if so many things came back to it.
const CAME_BACK_MIN: u64 = 16;
/// Least for all caches, bytes.
pub const CACHES_MIN: u64 = 4 << 20;

/// Of onodes, data, and blocks of the key-value store, in this order: pieces to begin with, and what something that has to be
/// fetched again costs. An onode comes over the bridge to a foreign thread.
const BEGIN: [u64; 3] = [8, 16, 8];
const COSTS: [u64; 3] = [2, 1, 1];

/// What is read now and then. Bytes are this store's share where they are the process's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// What the process has; none if nobody knows.
    pub resident: Option<u64>,
    /// What the caches have.
    pub cached: u64,
    /// What is held beside them.
    pub fixed: u64,
    /// What may be held beside them at worst.
    pub fixed_max: u64,
    /// Of onodes, data and the key-value store: things that came back, since the store was opened.
    pub came_back: [u64; 3],
}

/// Bytes for onodes, data and the key-value store's blocks.
pub type Sizes = [u64; 3];

/// See the module.
#[derive(Clone, Debug)]
pub struct Budget {
    target: u64,
    caches: u64,
    pieces: [u64; 3],
    came_back: [u64; 3],
    /// Since when it is short.
    shortage: Option<Shortage>,
}

/// More is held than may be, and nothing is left to let go of.
#[derive(Clone, Copy, Debug)]
struct Shortage {
    /// What was held when it last became noticeably less.
    held: u64,
    /// Looks since then.
    looks: u32,
}

/// After so many looks without an effect writers are not kept waiting any more: what is too much is not theirs.
const LOOKS_IN_VAIN: u32 = 20;

impl Budget {
    /// For a store that may take `target` bytes of memory, of which `fixed_max` may be needed beside the caches.
    pub fn new(target: u64, fixed_max: u64) -> Self {
        let caches = ceiling(target, fixed_max) / 2;
        Self { target, caches: caches.max(CACHES_MIN), pieces: BEGIN, came_back: [0; 3], shortage: None }
    }

    /// The least that a store with so much beside the caches can be given.
    pub fn least(fixed_max: u64) -> u64 {
        let most = (fixed_max + CACHES_MIN) * MARGIN_PART / (MARGIN_PART - 1);
        most.next_multiple_of(1 << 20)
    }

    /// The store may take so much from now on.
    pub fn set_target(&mut self, target: u64) {
        self.target = target;
    }

    /// What each cache may have.
    pub fn sizes(&self) -> Sizes {
        self.pieces.map(|pieces| self.caches / PIECES * pieces)
    }

    /// Looks at what is, and decides anew.
    pub fn adjust(&mut self, reading: &Reading) {
        let ceiling = ceiling(self.target, reading.fixed_max);
        let beside =
            reading.resident.map_or(reading.fixed, |resident| resident.saturating_sub(reading.cached));
        let to_come = reading.fixed_max.saturating_sub(reading.fixed);
        let allowed =
            (self.target - self.target / MARGIN_PART).saturating_sub(beside).saturating_sub(to_come);
        let most = self.caches + self.target / GROWTH_PART;
        self.caches = allowed.min(ceiling).min(most).max(CACHES_MIN);
        self.divide(reading);
    }

    /// Whether what is held is more than the target although caches are as small as they can be, and waiting makes it less.
    /// To be asked once a look.
    pub fn is_short(&mut self, reading: &Reading) -> bool {
        let held = reading.resident.unwrap_or(reading.fixed + reading.cached);
        if held <= self.target || self.caches > CACHES_MIN {
            self.shortage = None;
            return false;
        }
        let shortage = self.shortage.get_or_insert(Shortage { held, looks: 0 });
        match held < shortage.held - shortage.held / 64 {
            true => *shortage = Shortage { held, looks: 0 },
            false => shortage.looks = shortage.looks.saturating_add(1),
        }
        shortage.looks <= LOOKS_IN_VAIN
    }

    fn divide(&mut self, reading: &Reading) {
        let news: Vec<u64> = reading
            .came_back
            .iter()
            .zip(self.came_back)
            .map(|(now, before)| now.saturating_sub(before))
            .collect();
        self.came_back = reading.came_back;
        // In thousandths, for each piece that it has.
        let need = |which: usize| {
            let came = news.get(which).copied().unwrap_or(0);
            came.saturating_mul(1000 * COSTS[which]) / self.pieces[which]
        };
        let Some(neediest) = (0..3).max_by_key(|which| need(*which)) else { return };
        let givers = (0..3).filter(|which| *which != neediest && self.pieces[*which] > PIECES_MIN);
        let Some(giver) = givers.min_by_key(|which| (need(*which), PIECES - self.pieces[*which])) else {
            return;
        };
        let enough = news.get(neediest).is_some_and(|came| *came >= CAME_BACK_MIN);
        if enough && need(neediest) > 2 * need(giver) {
            self.pieces[neediest] += 1;
            self.pieces[giver] -= 1;
        }
    }
}

/// Most for caches, if everything else were as large as it can be.
fn ceiling(target: u64, fixed_max: u64) -> u64 {
    (target - target / MARGIN_PART).saturating_sub(fixed_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn reading(resident: u64, cached: u64) -> Reading {
        Reading {
            resident: Some(resident * MIB),
            cached: cached * MIB,
            fixed: 50 * MIB,
            fixed_max: 100 * MIB,
            came_back: [0; 3],
        }
    }

    /// Fills the caches, with so much that nobody counts beside them, until nothing changes any more.
    fn settle(budget: &mut Budget, uncounted: u64) -> u64 {
        for _ in 0..100 {
            let cached = budget.sizes().iter().sum::<u64>() / MIB;
            budget.adjust(&reading(50 + uncounted + cached, cached));
        }
        budget.sizes().iter().sum::<u64>() / MIB
    }

    #[test]
    fn caches_take_what_is_left_and_no_more() {
        let mut budget = Budget::new(1024 * MIB, 100 * MIB);
        assert!((820..=860).contains(&settle(&mut budget, 0)), "{budget:?}");
        let with_fragments = settle(&mut budget, 200);
        assert!((620..=660).contains(&with_fragments), "{budget:?}");
        budget.set_target(512 * MIB);
        assert!((150..=180).contains(&settle(&mut budget, 200)), "{budget:?}");
        assert!((350..=380).contains(&settle(&mut budget, 0)), "and back");
    }

    #[test]
    fn shrinking_is_at_once_growing_is_not_and_at_the_end_others_wait() {
        let mut budget = Budget::new(1024 * MIB, 100 * MIB);
        settle(&mut budget, 0);
        let before: u64 = budget.sizes().iter().sum();
        budget.adjust(&reading(1200, 800));
        assert!(budget.sizes().iter().sum::<u64>() < 600 * MIB, "{budget:?}");
        assert!(!budget.is_short(&reading(1200, 800)));
        budget.adjust(&reading(1200, 10));
        assert_eq!(budget.sizes().iter().sum::<u64>(), CACHES_MIN);
        assert!(budget.is_short(&reading(1200, 10)) && !budget.is_short(&reading(1000, 10)));
        for _ in 0..LOOKS_IN_VAIN {
            assert!(budget.is_short(&reading(1200, 10)));
        }
        assert!(!budget.is_short(&reading(1200, 10)), "waiting is in vain");
        assert!(budget.is_short(&reading(1150, 10)), "it becomes less after all");
        budget.adjust(&reading(60, 10));
        assert!(budget.sizes().iter().sum::<u64>() <= 80 * MIB && before > 800 * MIB);
    }

    #[test]
    fn memory_goes_where_it_spares_most() {
        let mut budget = Budget::new(1024 * MIB, 100 * MIB);
        settle(&mut budget, 0);
        let mut came_back = [0; 3];
        let mut step = |budget: &mut Budget, news: [u64; 3]| {
            came_back.iter_mut().zip(news).for_each(|(all, new)| *all += new);
            budget.adjust(&Reading { came_back, ..reading(880, 830) });
            budget.sizes().map(|bytes| bytes / (budget.caches / PIECES))
        };
        assert_eq!(step(&mut budget, [10, 10, 10]), BEGIN, "too few to tell");
        assert_eq!(step(&mut budget, [400, 800, 800]), BEGIN, "about as much each");
        for _ in 0..50 {
            step(&mut budget, [0, 10_000, 0]);
        }
        assert_eq!(step(&mut budget, [0, 0, 0]), [2, 28, 2]);
        for _ in 0..50 {
            step(&mut budget, [10_000, 0, 0]);
        }
        assert_eq!(step(&mut budget, [0, 0, 0]), [28, 2, 2]);
    }

    #[test]
    fn the_least_is_enough() {
        for fixed in [1 << 20, 77 << 20, 900 << 20] {
            let least = Budget::least(fixed);
            assert!(ceiling(least, fixed) >= CACHES_MIN, "{fixed}");
            assert!(least < 2 * fixed + 16 * MIB);
        }
    }
}
