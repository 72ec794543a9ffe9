//! What a client is told of its request, and when it is told nothing.
//!
//! Pure; any core.

use pg::{Effect, Execution, Output, Recorded, ReplyVersions, Request};
use store::StoreError;
use wire::Errno;
use wire::msg::RequestFlags;

/// Whether there is room for what makes the group bigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Enough,
    /// The OSD's store is nearly full.
    StoreFull,
    /// The map says that the pool is full, because of its quota or of the cluster.
    PoolFull {
        /// It is the quota.
        quota: bool,
    },
}

/// What the client is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Result of the request.
    pub result: i32,
    /// One per op; empty for errors found before execution.
    pub outputs: Vec<Output>,
    /// Versions.
    pub versions: ReplyVersions,
    /// Refused before execution, or a repetition: fewer flags.
    pub early: bool,
}

impl Answer {
    /// Refused before execution.
    pub fn refused(errno: Errno) -> Self {
        let versions = ReplyVersions::default();
        Self { result: errno.code(), outputs: Vec::new(), versions, early: true }
    }

    /// The answer of an earlier time.
    pub fn repeated(recorded: Recorded) -> Self {
        let outputs = recorded
            .returns
            .into_iter()
            .map(|one| Output { value: one.value, ..Output::bytes(one.data) })
            .collect();
        let versions = ReplyVersions::new(recorded.version, recorded.user_version);
        Self { result: recorded.result, outputs, versions, early: true }
    }

    /// The outcome of its ops.
    pub fn executed(execution: Execution, versions: ReplyVersions) -> Self {
        Self { result: execution.result, outputs: execution.outputs, versions, early: false }
    }
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Served {
    /// Tell the client.
    Answer(Answer),
    /// Say nothing: the client asks again when it should, or is gone.
    Silence,
}

/// How a request that would grow what may not grow is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It fails.
    Answer(Errno),
    /// Nothing is said.
    Silence,
}

/// Whether a request would grow what may not grow, and what then.
pub fn refuse_growth(request: &Request, execution: &Execution, room: Room) -> Option<Refusal> {
    let grew = matches!(&execution.effect, Effect::Changed(changes) if changes.grew);
    if !grew || request.has(RequestFlags::FULL_FORCE) {
        return None;
    }
    match room {
        Room::Enough => None,
        Room::StoreFull => Some(Refusal::Answer(Errno::ENOSPC)),
        Room::PoolFull { quota } if request.has(RequestFlags::FULL_TRY) => {
            Some(Refusal::Answer(if quota { Errno::EDQUOT } else { Errno::ENOSPC }))
        }
        //= ceph 16.2 osd: without FULL_TRY the client keeps the request until the pool is not full any more
        Room::PoolFull { .. } => Some(Refusal::Silence),
    }
}

/// What a client is told of a store that refused its transaction.
pub fn refusal(error: &StoreError) -> Errno {
    match pg::OpError::from(error.clone()) {
        pg::OpError::Errno(errno) => errno,
        pg::OpError::Down(_) => Errno::EIO,
    }
}
