//! What a command sees: the replicated state, what the monitor knows besides, and the time. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::msg::MonMap;
use wire::osdmap::OsdMap;
use wire::placement::NO_OSD;
use wire::types::{PgId, UTime};

use crate::commands::Refusal;
use crate::live::Live;
use crate::state::State;
use wire::Errno;

/// Everything a handler may look at.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// What the monitors agree on.
    pub state: &'a State,
    /// What this monitor was told and will forget.
    pub live: &'a Live,
    /// Wall clock.
    pub now: UTime,
}

impl<'a> View<'a> {
    /// The newest OSD map.
    pub fn osd_map(&self) -> &'a Arc<OsdMap> {
        self.state.osd_maps.newest()
    }

    /// The monitor map.
    pub fn mon_map(&self) -> Result<&'a MonMap, Refusal> {
        self.state.mon_map.as_ref().ok_or_else(|| Refusal::new(Errno::EAGAIN, "the cluster is not made yet"))
    }

    /// Names of the monitors by rank.
    pub fn ranks(&self) -> &'a [String] {
        self.state.mon_map.as_ref().map_or(&[], |map| &map.ranks)
    }

    /// What a PG is doing: as its OSD reports it, or what is known without.
    pub fn pg_state(&self, pg: PgId) -> &'a str {
        let Some(mapping) = self.live.pg_map.get(pg) else { return "unknown" };
        if mapping.acting_primary == NO_OSD {
            return "down";
        }
        let report = self.live.reports.of(mapping.acting_primary).and_then(|report| report.pgs.get(&pg));
        report.map_or("unknown", |report| report.state.as_str())
    }

    /// Number of PGs by state, most first.
    pub fn pg_states(&self) -> Vec<(&'a str, usize)> {
        let mut counts = BTreeMap::<&str, usize>::new();
        self.live.pg_map.iter().for_each(|(pg, _)| *counts.entry(self.pg_state(pg)).or_default() += 1);
        let mut states: Vec<_> = counts.into_iter().collect();
        states.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        states
    }

    /// Seconds from `then` to now; 0 if the clock went back.
    pub fn seconds_since(&self, then: UTime) -> u64 {
        u64::from(self.now.seconds).saturating_sub(u64::from(then.seconds))
    }
}
