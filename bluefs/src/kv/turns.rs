//! [`Turns`]: when what was removed is compacted because room is scarce. Pure.
//!
//! Such a compaction writes all that is stored, and gives no more than was removed since the one before. A full store would like
//! one whenever something is refused, and would do nothing else. Invariant: one after the first has its turn only when a good
//! part of what is stored was removed, or when so much time has passed that few of it goes to compactions, and never when
//! nothing was removed; unless whoever wants it cannot do without, as removals cannot.

use std::time::Duration;

use rt::Nanos;

/// What was removed must be this part of what is stored.
const WORTH_SHARE: u64 = 16;
/// Or it must be so many times as long ago that the last compaction ended as that took.
const PAUSE_FACTOR: u32 = 16;
/// And not less.
const PAUSE_LEAST: Duration = Duration::from_secs(1);

/// Whether a store may compact to get room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compact {
    /// It may not.
    Never,
    /// If what was removed is worth it.
    IfWorthIt,
    /// If anything was removed.
    IfAny,
}

/// What was removed, or what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Keys, beside those of which the bytes are known.
    pub keys: u64,
    /// Bytes.
    pub bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Turns {
    /// Something was removed since the last one began.
    any: bool,
    /// Of that, as far as it is known.
    removed: Amount,
    /// What had been removed when the last one began.
    dropped: Amount,
    /// One runs, since then.
    running: Option<Nanos>,
    /// How long the last one took, and when it ended.
    last: Option<(Duration, Nanos)>,
}

impl Default for Turns {
    /// Of a store that was just opened: whatever was removed before may still be there.
    fn default() -> Self {
        let (removed, dropped) = (Amount::default(), Amount::default());
        Self { any: true, removed, dropped, running: None, last: None }
    }
}

impl Turns {
    /// Whether it matters how much is removed: not before the first compaction.
    pub fn counts(&self) -> bool {
        self.running.is_some() || self.last.is_some()
    }

    /// So much of what is stored was removed, or nobody counted.
    pub fn removed(&mut self, amount: Amount) {
        self.any = true;
        self.removed.keys = self.removed.keys.saturating_add(amount.keys);
        self.removed.bytes = self.removed.bytes.saturating_add(amount.bytes);
    }

    /// Whether one may begin now, with so much stored; then it has begun.
    pub fn take(&mut self, compact: Compact, stored: Amount, now: Nanos) -> bool {
        let may = match compact {
            Compact::Never => false,
            Compact::IfWorthIt => self.any && (self.is_much(stored) || self.is_long_ago(now)),
            Compact::IfAny => self.any,
        };
        if may {
            self.begin(now);
        }
        may
    }

    /// What was removed before the last one is still stored: a view kept it that is gone now.
    pub fn kept(&mut self) {
        self.removed(self.dropped);
    }

    /// One begins, whoever wants it.
    pub fn begin(&mut self, now: Nanos) {
        self.any = false;
        // Until the first one nobody counts, so it may be any amount.
        let counted = std::mem::take(&mut self.removed);
        self.dropped = if self.counts() { counted } else { Amount { bytes: u64::MAX, ..counted } };
        self.running = Some(now);
    }

    /// If one runs, it has ended.
    pub fn end(&mut self, now: Nanos) {
        if let Some(begun) = self.running.take() {
            self.last = Some((Duration::from_nanos(now.0.saturating_sub(begun.0)), now));
        }
    }

    fn is_much(&self, stored: Amount) -> bool {
        let each = stored.bytes / stored.keys.max(1);
        let bytes = self.removed.bytes.saturating_add(self.removed.keys.saturating_mul(each));
        bytes >= stored.bytes / WORTH_SHARE
    }

    fn is_long_ago(&self, now: Nanos) -> bool {
        let Some((took, ended)) = self.last else { return true };
        Duration::from_nanos(now.0.saturating_sub(ended.0)) >= (took * PAUSE_FACTOR).max(PAUSE_LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Amount = Amount { keys: 1000, bytes: 160_000 };

    fn at(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    /// Of which one began at 0 and ended at 100 ms.
    fn turns() -> Turns {
        let mut turns = Turns::default();
        assert!(turns.take(Compact::IfWorthIt, STORED, at(0)), "what was there before nobody knows");
        turns.end(at(100));
        turns
    }

    #[test]
    fn nothing_removed_is_worth_nothing_ever() {
        let mut turns = turns();
        assert!(!turns.take(Compact::IfAny, STORED, at(1_000_000)));
        assert!(!turns.take(Compact::IfWorthIt, STORED, at(1_000_000)));
    }

    #[test]
    fn a_good_part_is_worth_it_at_once() {
        let mut turns = turns();
        turns.removed(Amount { keys: 0, bytes: 5_000 });
        turns.removed(Amount { keys: 31, bytes: 0 });
        assert!(!turns.take(Compact::IfWorthIt, STORED, at(101)), "9960 bytes");
        turns.removed(Amount { keys: 1, bytes: 0 });
        assert!(!turns.take(Compact::Never, STORED, at(101)));
        assert!(turns.take(Compact::IfWorthIt, STORED, at(101)), "10120 bytes");
        assert!(!turns.take(Compact::IfAny, STORED, at(101)), "they count once");
    }

    #[test]
    fn what_a_view_kept_from_the_first_one_is_worth_another() {
        let mut turns = turns();
        turns.kept();
        assert!(turns.take(Compact::IfWorthIt, STORED, at(101)));
    }

    #[test]
    fn what_a_view_kept_counts_again() {
        let mut turns = turns();
        turns.removed(Amount { keys: 0, bytes: 10_000 });
        assert!(turns.take(Compact::IfWorthIt, STORED, at(101)));
        turns.end(at(111));
        turns.kept();
        assert!(turns.take(Compact::IfWorthIt, STORED, at(112)));
    }

    #[test]
    fn a_little_waits_unless_it_is_needed() {
        let few = Amount { keys: 1, bytes: 0 };
        let mut turns = turns();
        turns.removed(few);
        assert!(!turns.take(Compact::IfWorthIt, STORED, at(1_699)));
        assert!(turns.take(Compact::IfWorthIt, STORED, at(1_700)), "sixteen times a tenth of a second later");
        turns.end(at(1_700));
        turns.removed(few);
        assert!(turns.take(Compact::IfAny, STORED, at(1_701)), "who needs it does not wait");
        turns.end(at(1_701));
        turns.removed(few);
        assert!(!turns.take(Compact::IfWorthIt, STORED, at(2_700)), "one that took no time is as rare");
        assert!(turns.take(Compact::IfWorthIt, STORED, at(2_701)));
    }
}
