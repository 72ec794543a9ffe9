//! What a run did, so that nobody takes an idle simulator for a passing one, and how it ended.

use std::fmt;

use serde_json::{Value, json};

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that changed something, sent.
    pub changes: u64,
    /// Of those, acknowledged.
    pub acknowledged: u64,
    /// Of those, with an outcome nobody knows (the client was killed).
    pub unknown: u64,
    /// Reads answered and compared.
    pub reads: u64,
    /// OSD crashes, power loss of the disk included.
    pub crashes: u64,
    /// Of those, while the journal was being replayed.
    pub crashes_in_replay: u64,
    /// Monitor crashes.
    pub mon_crashes: u64,
    /// Clients killed.
    pub client_kills: u64,
    /// Connections reset by fault injection.
    pub resets: u64,
    /// Checks of a store after a crash.
    pub fscks: u64,
    /// Times a journal wrapped around.
    pub journal_wraps: u64,
    /// Bytes of object space allocated in all, in thousandths of the space there is.
    pub space_turnover_permille: u64,
    /// Events that the hash covers.
    pub events: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What went wrong, if anything did.
    pub failure: Option<String>,
    /// What happened.
    pub counts: Counts,
    /// Hash over every message, poll and device write.
    pub hash: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.reads += other.reads;
        self.crashes += other.crashes;
        self.crashes_in_replay += other.crashes_in_replay;
        self.mon_crashes += other.mon_crashes;
        self.client_kills += other.client_kills;
        self.resets += other.resets;
        self.fscks += other.fscks;
        self.journal_wraps += other.journal_wraps;
        self.space_turnover_permille += other.space_turnover_permille;
        self.events += other.events;
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "changes": self.changes, "acknowledged": self.acknowledged, "unknown": self.unknown, "reads": self.reads,
            "crashes": self.crashes, "crashes_in_replay": self.crashes_in_replay, "mon_crashes": self.mon_crashes,
            "client_kills": self.client_kills, "resets": self.resets, "fscks": self.fscks,
            "journal_wraps": self.journal_wraps, "space_turnover_permille": self.space_turnover_permille,
            "events": self.events,
        })
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} changes ({} acknowledged, {} unknown), {} reads, {} crashes ({} in replay), {} mon crashes, \
             {} client kills, {} resets, {} fscks, {} journal wraps, space turned over {}.{:03} times, {} events",
            self.changes,
            self.acknowledged,
            self.unknown,
            self.reads,
            self.crashes,
            self.crashes_in_replay,
            self.mon_crashes,
            self.client_kills,
            self.resets,
            self.fscks,
            self.journal_wraps,
            self.space_turnover_permille / 1000,
            self.space_turnover_permille % 1000,
            self.events
        )
    }
}

impl Outcome {
    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "seed": self.seed, "failure": self.failure, "hash": format!("{:016x}", self.hash),
            "counts": self.counts.json(),
        })
    }
}
