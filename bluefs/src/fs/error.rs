//! Why a BlueFS call failed.

use allocator::Extent;
use nvme::DeviceError;

/// Result of a BlueFS call.
pub type FsResult<T> = Result<T, FsError>;

/// See the module. `Failed` and the device's flush and log errors are final: open the file system again.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum FsError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No superblock of ours where it should be.
    #[error("no BlueFS at {offsets:x?}")]
    NotFormatted { offsets: [u64; 2] },
    /// The bytes are ours but wrong.
    #[error("BlueFS is corrupt: {what}")]
    Corrupt { what: String },
    /// Written by a version that knows more.
    #[error("BlueFS has features this version does not know: {what}")]
    Unsupported { what: String },
    #[error("BlueFS has no space: {wanted} bytes wanted, {available} of its own available")]
    NoSpace { wanted: u64, available: u64 },
    #[error("{path}: no such file or directory")]
    NotFound { path: String },
    #[error("{path}: exists")]
    Exists { path: String },
    #[error("{path}: is open for writing")]
    Busy { path: String },
    #[error("{path}: directory is not empty")]
    NotEmpty { path: String },
    #[error("{path:?}: not a name BlueFS can hold")]
    Name { path: String },
    #[error("limit reached: {what}")]
    Limit { what: &'static str },
    /// Space that cannot be lent or taken back.
    #[error("extent {extent} cannot be used: {reason}")]
    Space { extent: Extent, reason: &'static str },
    /// An earlier failure ended this mount.
    #[error("BlueFS stopped: {reason}")]
    Failed { reason: String },
}

impl FsError {
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}
