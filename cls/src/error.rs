//! Why a call failed, as its client is told.

/// A failure a client is told of; positive, sent negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

#[expect(missing_docs, reason = "the names are errno's")]
impl Errno {
    pub const ENOENT: Self = Self(2);
    pub const EIO: Self = Self(5);
    pub const EBUSY: Self = Self(16);
    pub const EEXIST: Self = Self(17);
    pub const EINVAL: Self = Self(22);
    pub const ERANGE: Self = Self(34);
    pub const ENAMETOOLONG: Self = Self(36);
    pub const ENODATA: Self = Self(61);
    pub const EOPNOTSUPP: Self = Self(95);
    pub const ECANCELED: Self = Self(125);

    /// From a result as replies carry it; `None` unless it is negative.
    pub fn from_code(code: i32) -> Option<Self> {
        code.checked_neg().filter(|errno| *errno > 0).map(Self)
    }

    /// As results carry it: negative.
    pub fn code(self) -> i32 {
        -self.0
    }
}

/// Why a call failed: something its client is told, or the end of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The client gets this.
    #[error("errno {}", .0.0)]
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
