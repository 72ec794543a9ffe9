//! What the monitor knows for now: reports of OSDs, alerts, sessions. Not replicated, lost at a restart and told
//! again by whoever is there.
//!
//! Invariant: bounded by what the OSD map and the table of sessions bound. Host view of one monitor.

mod alerts;
mod pg_map;
mod reports;

use std::collections::BTreeMap;

use wire::types::{AddrVec, EntityKind, Features, UTime};

pub use alerts::Alerts;
pub use pg_map::PgMap;
pub use reports::{IoCounters, IoRates, OsdReport, PoolUse, Reports, SpaceUse};

/// This monitor itself.
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    /// Name, such as `a`.
    pub name: String,
    /// Name of its host.
    pub hostname: String,
    /// Where it listens.
    pub addrs: AddrVec,
    /// Since when it leads.
    pub leading_since: UTime,
}

/// Everything that is not replicated.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// This monitor.
    pub monitor: Monitor,
    /// What OSDs report of their use.
    pub reports: Reports,
    /// What OSDs complain about.
    pub alerts: Alerts,
    /// Where every PG is, for one epoch of the OSD map.
    pub pg_map: PgMap,
    /// Number of sessions by kind and features of the peer.
    pub sessions: BTreeMap<(EntityKind, Features), u64>,
}
