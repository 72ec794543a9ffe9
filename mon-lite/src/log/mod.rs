//! The replicated log: the only way by which the monitor's state changes.
//!
//! Invariant: what [`ReplicatedLog::next_committed`] yields is the same sequence on every monitor and after every
//! restart; an entry is yielded only when it can no longer be lost. Lives on the monitor's core.
//!
//! There is one implementation today, [`DiskLog`], a quorum of one. A consensus library behind the same trait makes
//! it several: `propose` then waits for a majority and may fail with [`LogError::NotLeader`].

mod disk;
pub(crate) mod fuzzing;
mod record;
mod recovery;
mod superblock;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use nvme::DeviceError;
use rt::LocalBoxFuture;
use uuid::Uuid;

pub use disk::{DiskLog, FormatOptions};

/// Position of an entry in the log, from 1. Host view: the same on all monitors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What the state machine is fed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Replace the whole state by this one, which contains every entry up to and with `through`.
    Snapshot {
        /// Last entry in it.
        through: LogIndex,
        /// As given to [`ReplicatedLog::truncate`].
        state: Bytes,
    },
    /// Apply this entry.
    Entry {
        /// Its position: always one more than the previous.
        index: LogIndex,
        /// As given to [`ReplicatedLog::propose`].
        payload: Bytes,
    },
}

/// A durable, totally ordered log.
///
/// Contract:
/// - `propose` resolves once the entry is durable on a majority; its index is then below or at
///   [`committed_index`](Self::committed_index) and `next_committed` yields it. If it fails, the entry may
///   or may not be committed later, except for [`LogError::TooLarge`] and [`LogError::Full`], which change nothing.
/// - `next_committed` yields the newest snapshot first (if there is one), then the entries after it in order, each
///   once per opening. It waits when there are no more. Cancel-safe. A snapshot may come again later (a follower
///   that was away for long); it replaces the state.
/// - `truncate` gives the state after exactly the entries up to `through`, which must be the last one yielded, and
///   lets the log forget those entries. It may be called any time, and should be when `snapshot_due` says so.
/// - After any error other than the two above the log is broken: every later call gives the same error, because what
///   is durable is no longer known.
pub trait ReplicatedLog {
    /// Appends `payload` and waits until it is committed.
    fn propose(&mut self, payload: Bytes) -> LocalBoxFuture<'_, Result<LogIndex, LogError>>;
    /// The next thing for the state machine.
    fn next_committed(&mut self) -> LocalBoxFuture<'_, Result<Committed, LogError>>;
    /// Position of the last entry known to be committed.
    fn committed_index(&self) -> LogIndex;
    /// Whether the log grew enough for a snapshot to be worth its writes.
    fn snapshot_due(&self) -> bool;
    /// Stores a snapshot and forgets the entries in it.
    fn truncate(&mut self, through: LogIndex, state: Bytes) -> LocalBoxFuture<'_, Result<(), LogError>>;
    /// Records durably how far the log reaches, so that damage below is told apart from a torn tail. Called when
    /// there is nothing else to do, and before stopping.
    fn seal(&mut self) -> LocalBoxFuture<'_, Result<(), LogError>>;
}

/// Why the log cannot go on.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum LogError {
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Neither copy of the superblock is ours.
    #[error("{device} holds no monitor log: {why} (run mkfs first)")]
    NotFormatted { device: String, why: String },
    /// It is a log, but of something else.
    #[error("the monitor log on {device} belongs to {what} {found}, not {expected}")]
    Foreign { device: String, what: &'static str, found: String, expected: String },
    /// Written by a newer program.
    #[error("the monitor log on {device} uses features {features:#x} that this version does not know")]
    Incompatible { device: String, features: u64 },
    /// The device changed under the log.
    #[error("the monitor log on {device} does not fit: {why}")]
    Geometry { device: String, why: String },
    /// Bytes that were durable are damaged.
    #[error("the monitor log on {device} is damaged: {what}")]
    Corrupt { device: String, what: String },
    /// One entry is above the bound.
    #[error("an entry of {len} bytes is above the limit of {max}")]
    TooLarge { len: usize, max: usize },
    /// No room; a snapshot makes some.
    #[error("the monitor log on {device} is full ({used} of {capacity} bytes)")]
    Full { device: String, used: u64, capacity: u64 },
    /// The device holds something already.
    #[error("{device} is not empty: {what}")]
    InUse { device: String, what: String },
    /// A call was given up half-way, so what is durable is unknown.
    #[error("an earlier write to the monitor log on {device} was given up half-way")]
    Interrupted { device: String },
    /// Another monitor decides.
    #[error("this monitor is not the leader")]
    NotLeader,
}

/// Identity of the cluster and the monitor that a log belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster's id.
    pub fsid: Uuid,
    /// The monitor's name, such as `a`; at most [`MON_NAME_BYTES_MAX`](crate::limits::MON_NAME_BYTES_MAX) bytes.
    pub name: String,
}
