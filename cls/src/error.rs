//! Why a call failed, as its client is told.

use wire::Errno;

/// Why a call failed: something its client is told, or the end of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The client gets this.
    #[error("{0}")]
    Errno(Errno),
    /// The store is down for this reason. The client gets nothing: it asks again, elsewhere or later.
    #[error("the store is down: {0}")]
    Down(String),
}

/// Result of a call or of one step of it.
pub type CallResult<T> = Result<T, CallError>;

impl From<Errno> for CallError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// Malformed input is an invalid argument, as in Ceph.
impl From<wire::codec::DecodeError> for CallError {
    fn from(_malformed: wire::codec::DecodeError) -> Self {
        Self::Errno(Errno::EINVAL)
    }
}
