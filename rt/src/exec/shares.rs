//! Which group runs next: weighted virtual run time. Lives on one core.
//!
//! Invariant: of the groups with ready tasks the one that used the least time per share runs next. A group that
//! was idle joins at the present virtual time: it saved nothing up, and owes nothing.

use crate::core::Group;
use crate::limits::{GROUP_SHARES, GROUPS};

/// Scaling that keeps the division by a share exact enough.
const SCALE: u64 = 1 << 10;

const ALL: [Group; GROUPS] = [Group::Client, Group::Commit, Group::Background];

/// Virtual run times.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    used: [u64; GROUPS],
    now: u64,
}

impl Shares {
    /// The group that should run next among those whose queue is not empty.
    pub fn next(&self, lengths: [usize; GROUPS]) -> Group {
        let mut best = None;
        for group in ALL {
            let used = self.used[group as usize];
            if lengths[group as usize] > 0 && best.is_none_or(|(least, _)| used < least) {
                best = Some((used, group));
            }
        }
        best.map_or(Group::Client, |(_, group)| group)
    }

    /// A group got its first ready task.
    pub fn activate(&mut self, group: Group) {
        let used = &mut self.used[group as usize];
        *used = (*used).max(self.now);
    }

    /// A group was chosen to run.
    pub fn picked(&mut self, group: Group) {
        self.now = self.now.max(self.used[group as usize]);
    }

    /// A group ran for `time`.
    pub fn charge(&mut self, group: Group, time: u64) {
        let used = &mut self.used[group as usize];
        *used = used.saturating_add(time.saturating_mul(SCALE) / GROUP_SHARES[group as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `turns` polls of equal length with the given queues never empty, and counts them per group.
    fn run(lengths: [usize; GROUPS], turns: usize) -> [usize; GROUPS] {
        let mut shares = Shares::default();
        let mut counts = [0; GROUPS];
        for _ in 0..turns {
            let group = shares.next(lengths);
            shares.picked(group);
            shares.charge(group, 100);
            counts[group as usize] += 1;
        }
        counts
    }

    #[test]
    fn busy_groups_get_their_shares() {
        assert_eq!(run([1, 1, 1], 900), [400, 400, 100]);
        assert_eq!(run([1, 0, 1], 500), [400, 0, 100]);
        assert_eq!(run([0, 0, 1], 10), [0, 0, 10]);
    }

    #[test]
    fn idling_saves_nothing_up() {
        let mut shares = Shares::default();
        for _ in 0..1000 {
            shares.picked(Group::Client);
            shares.charge(Group::Client, 100);
        }
        shares.activate(Group::Background);
        let mut background = 0;
        for _ in 0..100 {
            let group = shares.next([1, 0, 1]);
            shares.picked(group);
            shares.charge(group, 100);
            background += usize::from(group == Group::Background);
        }
        assert!((19..=22).contains(&background), "{background}");
    }
}
