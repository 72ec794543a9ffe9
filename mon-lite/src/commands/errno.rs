//! Error numbers as clients get them, negated, on the wire. Pure.

/// Operation not permitted.
pub const EPERM: i32 = 1;
/// No such thing.
pub const ENOENT: i32 = 2;
/// Too much.
pub const E2BIG: i32 = 7;
/// Try again.
pub const EAGAIN: i32 = 11;
/// Permission denied.
pub const EACCES: i32 = 13;
/// In use.
pub const EBUSY: i32 = 16;
/// Exists.
pub const EEXIST: i32 = 17;
/// Not valid.
pub const EINVAL: i32 = 22;
/// No space.
pub const ENOSPC: i32 = 28;
/// Out of range.
pub const ERANGE: i32 = 34;
/// Not offered.
pub const EOPNOTSUPP: i32 = 95;
