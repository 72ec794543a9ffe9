//! What clients are told of failures below.

use cls::CallError;
use store::StoreError;
use wire::Errno;

use crate::limits::ERRNO_MAX;

/// Compare-extent found a difference at `index` of its range.
pub fn mismatch(index: usize) -> Errno {
    let index = i32::try_from(index).unwrap_or(i32::MAX - ERRNO_MAX);
    Errno::from_code(-(ERRNO_MAX + index.min(i32::MAX - ERRNO_MAX))).unwrap_or(Errno::EIO)
}

/// Why an op failed: something the client is told, or the end of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpError {
    /// The client gets this.
    Errno(Errno),
    /// The store is down for this reason. The client gets nothing: it asks again, elsewhere or later.
    Down(String),
}

/// Result of one step of a request.
pub type OpResult<T> = Result<T, OpError>;

impl From<Errno> for OpError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> Self {
        Self::Errno(match error {
            StoreError::NotFound(_) => Errno::ENOENT,
            StoreError::Exists(_) => Errno::EEXIST,
            StoreError::TooLarge(_) => Errno::EFBIG,
            StoreError::Invalid(_) => Errno::EINVAL,
            StoreError::NoSpace(_) => Errno::ENOSPC,
            StoreError::NotEmpty(_) | StoreError::Io(_) => Errno::EIO,
            StoreError::Down(reason) => return Self::Down(reason),
        })
    }
}

impl From<CallError> for OpError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Errno(errno) => Self::Errno(errno),
            CallError::Down(reason) => Self::Down(reason),
        }
    }
}

/// For a class's method that uses its object.
impl From<OpError> for CallError {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Errno(errno) => Self::Errno(errno),
            OpError::Down(reason) => Self::Down(reason),
        }
    }
}
