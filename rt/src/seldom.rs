//! [`Seldom`]: a bound on how often a message is logged that others can provoke. Pure; any core.

use std::cell::Cell;
use std::time::Duration;

use crate::Nanos;

/// So many messages in each period; the first of a later period says how many were left out.
pub struct Seldom {
    period: Duration,
    most: u64,
    begin: Cell<Nanos>,
    seen: Cell<u64>,
}

impl Seldom {
    /// Up to `most` messages, at least 1, in `period`.
    pub const fn new(most: u64, period: Duration) -> Self {
        Self { period, most, begin: Cell::new(Nanos(0)), seen: Cell::new(0) }
    }

    /// Whether to log now, and then what to add to the message: empty, or how many others were left out.
    pub fn admit(&self, now: Nanos) -> Option<String> {
        let elapsed = now.0.saturating_sub(self.begin.get().0);
        if self.seen.get() > 0 && u128::from(elapsed) < self.period.as_nanos() {
            self.seen.set(self.seen.get() + 1);
            return (self.seen.get() <= self.most).then(String::new);
        }
        let left_out = self.seen.get().saturating_sub(self.most);
        self.begin.set(now);
        self.seen.set(1);
        Some(if left_out == 0 {
            String::new()
        } else {
            format!(" (and {left_out} others in the last {} s)", elapsed / 1_000_000_000)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_not_logged() {
        let seldom = Seldom::new(2, Duration::from_secs(10));
        let second = |s: u64| Nanos(s * 1_000_000_000);
        assert_eq!(seldom.admit(second(5)), Some(String::new()));
        assert_eq!(seldom.admit(second(5)), Some(String::new()));
        for _ in 0..7 {
            assert_eq!(seldom.admit(second(6)), None);
        }
        assert_eq!(seldom.admit(second(20)), Some(" (and 7 others in the last 15 s)".to_owned()));
        assert_eq!(seldom.admit(second(40)), Some(String::new()));
    }
}
