//! Why a call on the client failed: what, where, and the errno where there is one.

use std::time::Duration;

use wire::Errno;
use wire::codec::DecodeError;
use wire::types::PoolId;

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The OSD refused the operation; nothing was changed.
    #[error("{what}: {errno}")]
    Refused {
        /// The operation and its object.
        what: String,
        /// Why.
        errno: Errno,
    },
    /// The monitor refused a request.
    #[error("monitor refused {what}: {errno}{}{text}", if .text.is_empty() { "" } else { ": " })]
    Monitor {
        /// The request.
        what: String,
        /// Why.
        errno: Errno,
        /// The monitor's words.
        text: String,
    },
    /// There is no pool of this name, as of the newest map.
    #[error("there is no pool '{0}'")]
    NoSuchPool(String),
    /// The pool was deleted.
    #[error("{what}: pool {pool} does not exist any more")]
    PoolGone {
        /// The operation and its object.
        what: String,
        /// The pool's id.
        pool: PoolId,
    },
    /// The OSD does not exist or is down.
    #[error("osd.{0} is not up")]
    OsdDown(i32),
    /// No answer within the time allowed. A change may or may not have been made.
    #[error("{what}: no answer within {limit:?}; whether it was done is not known")]
    TimedOut {
        /// The call.
        what: String,
        /// The time allowed.
        limit: Duration,
    },
    /// The answer could not be understood.
    #[error("{what}: the answer is broken: {error}")]
    Answer {
        /// The call.
        what: String,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The answer does not have what the operation asked for.
    #[error("{what}: {reason}")]
    Unexpected {
        /// The call.
        what: String,
        /// What is missing.
        reason: String,
    },
    /// Too much in one call.
    #[error("{what}: {got} is too much, at most {limit} are possible")]
    TooMuch {
        /// The call, and what was counted.
        what: String,
        /// How much it was.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The client was shut down.
    #[error("the client was shut down")]
    ShutDown,
}

impl Error {
    /// The errno, if the other side gave one or one says the same.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } | Self::Monitor { errno, .. } => Some(*errno),
            Self::NoSuchPool(_) | Self::PoolGone { .. } => Some(Errno::ENOENT),
            Self::TimedOut { .. } => Some(Errno::ETIMEDOUT),
            _ => None,
        }
    }

    /// Whether a change may have been made although the call failed.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::ShutDown | Self::Answer { .. } | Self::Unexpected { .. })
    }
}

/// Result of a call.
pub type Result<T> = std::result::Result<T, Error>;
