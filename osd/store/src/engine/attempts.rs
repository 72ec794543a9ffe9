//! [`Attempts`] to make room in the key-value store for what grows. Pure but for the bell that tells of their end.
//!
//! Each costs checkpoints, and on a full store gains nothing. Invariant: there is one at a time, and after one in vain none for as
//! much or more until it is a small part of the time; so refusals are quick, and what they cost leaves the core to others.

use std::cell::Cell;
use std::time::Duration;

use rt::Nanos;
use rt::sync::Notify;

/// After one in vain there is none for so many times as long as it took.
const PAUSE_FACTOR: u32 = 8;
/// And not longer than this: what gives room tells nobody.
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub struct Attempts {
    under_way: Cell<bool>,
    in_vain: Cell<Option<InVain>>,
}

#[derive(Clone, Copy, Debug)]
struct InVain {
    /// Bytes that were missing after it.
    missing: u64,
    /// When there may be another for as much.
    until: Nanos,
}

/// One that is under way, until it is dropped.
pub struct Attempt<'a> {
    attempts: &'a Attempts,
    progress: &'a Notify,
    since: Nanos,
}

impl Attempts {
    /// Begins one, unless one is under way, whose end `progress` will tell.
    pub fn begin<'a>(&'a self, progress: &'a Notify, now: Nanos) -> Option<Attempt<'a>> {
        (!self.under_way.replace(true)).then(|| Attempt { attempts: self, progress, since: now })
    }

    /// There is room that was not there before: another one may help.
    pub fn forget(&self) {
        self.in_vain.set(None);
    }

    /// Whether one for so many missing bytes was in vain just now. For less than half of that another may help.
    pub fn are_in_vain(&self, missing: u64, now: Nanos) -> bool {
        self.in_vain.get().is_some_and(|last| missing >= last.missing / 2 && now < last.until)
    }
}

impl Attempt<'_> {
    /// It helped.
    pub fn helped(self) {
        self.attempts.in_vain.set(None);
    }

    /// It was in vain: so many bytes are still missing.
    pub fn was_in_vain(self, missing: u64, now: Nanos) {
        let pause = Duration::from_nanos(now.0.saturating_sub(self.since.0)).saturating_mul(PAUSE_FACTOR);
        let pause = pause.min(PAUSE_MOST);
        let pause = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.attempts.in_vain.set(Some(InVain { missing, until: Nanos(now.0.saturating_add(pause)) }));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.attempts.under_way.set(false);
        self.progress.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_vain_is_not_repeated_at_once_but_for_less() {
        let (attempts, progress) = (Attempts::default(), Notify::default());
        let first = attempts.begin(&progress, Nanos(100)).expect("none is under way");
        assert!(attempts.begin(&progress, Nanos(101)).is_none());
        first.was_in_vain(1000, Nanos(110));
        assert!(attempts.are_in_vain(1000, Nanos(189)) && attempts.are_in_vain(500, Nanos(189)));
        assert!(!attempts.are_in_vain(499, Nanos(189)), "so little may be there");
        assert!(!attempts.are_in_vain(1000, Nanos(190)), "eight times what it took later");
        attempts.begin(&progress, Nanos(200)).expect("the first has ended").helped();
        assert!(!attempts.are_in_vain(1000, Nanos(200)));
    }

    #[test]
    fn what_was_in_vain_does_not_count_for_long_nor_once_there_is_room() {
        let (attempts, progress) = (Attempts::default(), Notify::default());
        let in_vain = |from: u64, to: u64| {
            let attempt = attempts.begin(&progress, Nanos(from * 1_000_000_000)).expect("none is under way");
            attempt.was_in_vain(1000, Nanos(to * 1_000_000_000));
        };
        in_vain(0, 10);
        assert!(attempts.are_in_vain(1000, Nanos(11_999_999_999)));
        assert!(!attempts.are_in_vain(1000, Nanos(12_000_000_000)), "two seconds, not eighty");
        in_vain(20, 30);
        attempts.forget();
        assert!(!attempts.are_in_vain(1000, Nanos(30_000_000_001)), "the device grew");
    }
}
