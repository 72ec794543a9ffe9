//! Ceph's errors as clients see them. Errno exists only here, at the edge to the wire.

use cls::CallError;
use store::StoreError;

use crate::limits::ERRNO_MAX;

/// A failure a client is told of; positive, sent negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

#[expect(missing_docs, reason = "the names are errno's")]
impl Errno {
    pub const ENOENT: Self = Self(2);
    pub const EIO: Self = Self(5);
    pub const EAGAIN: Self = Self(11);
    pub const EEXIST: Self = Self(17);
    pub const EINVAL: Self = Self(22);
    pub const EFBIG: Self = Self(27);
    pub const ENOSPC: Self = Self(28);
    pub const ERANGE: Self = Self(34);
    pub const ENAMETOOLONG: Self = Self(36);
    pub const ENODATA: Self = Self(61);
    pub const EOVERFLOW: Self = Self(75);
    pub const EMSGSIZE: Self = Self(90);
    pub const EOPNOTSUPP: Self = Self(95);
    pub const ENOTCONN: Self = Self(107);
    pub const EBLOCKLISTED: Self = Self(108);
    pub const ETIMEDOUT: Self = Self(110);
    pub const EDQUOT: Self = Self(122);
    pub const ECANCELED: Self = Self(125);

    /// Compare-extent found a difference at `index` of its range.
    pub fn mismatch(index: usize) -> Self {
        let index = i32::try_from(index).unwrap_or(i32::MAX - ERRNO_MAX);
        Self(ERRNO_MAX + index.min(i32::MAX - ERRNO_MAX))
    }

    /// As results carry it: negative.
    pub fn code(self) -> i32 {
        -self.0
    }
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
            CallError::Errno(errno) => Self::Errno(Errno(-errno.code())),
            CallError::Down(reason) => Self::Down(reason),
        }
    }
}

/// For a class's method that uses its object.
impl From<OpError> for CallError {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Errno(errno) => {
                Self::Errno(cls::Errno::from_code(errno.code()).unwrap_or(cls::Errno::EIO))
            }
            OpError::Down(reason) => Self::Down(reason),
        }
    }
}
