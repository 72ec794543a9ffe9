//! Limits of the wire crate: what is accepted from a peer before anything is allocated for it.

/// Longest accepted payload of a socket address inside an `addr` (a `sockaddr_storage`).
pub const SOCKADDR_BYTES_MAX: usize = 128;
