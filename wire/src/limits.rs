//! Limits of the wire crate: what is accepted from a peer before anything is allocated for it.

/// Longest accepted payload of a socket address inside an `addr` (a `sockaddr_storage`).
pub const SOCKADDR_BYTES_MAX: usize = 128;

/// Most bucket slots in a CRUSH map.
pub const CRUSH_BUCKETS_MAX: usize = 1 << 16;

/// Most rules in a CRUSH map: pools name them in a byte.
pub const CRUSH_RULES_MAX: usize = 256;

/// Most levels of buckets in a CRUSH map; Ceph's standard types make eleven.
pub const CRUSH_DEPTH_MAX: usize = 32;
