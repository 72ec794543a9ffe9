//! The stall watchdog: which tasks kept the core for too long. Lives on one core.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits::{STALL, STALL_NAMES_MAX};

/// Stalls since the core started, by name of task.
#[derive(Clone, Debug, Default)]
pub struct Stalls {
    names: BTreeMap<&'static str, Stall>,
    count: u64,
}

/// Stalls of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// How many polls were too long.
    pub count: u64,
    /// The longest.
    pub longest: Duration,
}

impl Stalls {
    /// Notes a poll. True if it was a stall.
    pub(crate) fn note(&mut self, name: &'static str, took: Duration) -> bool {
        if took <= STALL {
            return false;
        }
        self.count += 1;
        let name =
            if self.names.len() < STALL_NAMES_MAX || self.names.contains_key(name) { name } else { "others" };
        let stall = self.names.entry(name).or_default();
        stall.count += 1;
        stall.longest = stall.longest.max(took);
        // Powers of two: a task that stalls all the time fills no log.
        if stall.count.is_power_of_two() {
            log::warn!("task {name} kept its core for {took:?} (stall number {} of this name)", stall.count);
        }
        true
    }

    /// All stalls.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Stalls by name of task.
    pub fn by_name(&self) -> &BTreeMap<&'static str, Stall> {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_polls_are_counted_by_name() {
        let mut stalls = Stalls::default();
        assert!(!stalls.note("quick", Duration::from_micros(500)));
        assert!(stalls.note("slow", Duration::from_micros(501)));
        assert!(stalls.note("slow", Duration::from_micros(700)));
        assert_eq!(stalls.count(), 2);
        assert_eq!(stalls.by_name().len(), 1);
        assert_eq!(stalls.by_name()["slow"], Stall { count: 2, longest: Duration::from_micros(700) });
    }
}
