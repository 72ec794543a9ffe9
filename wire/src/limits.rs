//! Limits of the wire crate: what is accepted from a peer before anything is allocated for it.

/// Longest accepted payload of a socket address inside an `addr` (a `sockaddr_storage`).
pub const SOCKADDR_BYTES_MAX: usize = 128;

/// Most bucket slots in a CRUSH map.
pub const CRUSH_BUCKETS_MAX: usize = 1 << 16;

/// Most rules in a CRUSH map: pools name them in a byte.
pub const CRUSH_RULES_MAX: usize = 256;

/// Most levels of buckets in a CRUSH map; Ceph's standard types make eleven.
pub const CRUSH_DEPTH_MAX: usize = 32;

/// Longest accepted banner payload; 16 bytes are known, a newer peer may send more.
pub const BANNER_PAYLOAD_BYTES_MAX: usize = 1024;

/// Longest accepted control frame: addresses, credentials.
pub const CONTROL_BYTES_MAX: usize = 64 << 10;

/// Longest accepted front of a message; full maps are the largest.
pub const MESSAGE_FRONT_BYTES_MAX: usize = 32 << 20;

/// Longest accepted middle of a message; always empty in the protocols spoken here.
pub const MESSAGE_MIDDLE_BYTES_MAX: usize = 1 << 20;

/// Longest data of a write that an OSD accepts; above that it answers EMSGSIZE.
pub const WRITE_DATA_BYTES_MAX: usize = 90 << 20;

/// Longest data of a message, of either direction: the answer to a read of all of the largest object, 128 MiB, and of
/// some ops beside it. A write above [`WRITE_DATA_BYTES_MAX`] must still be read to be answered with an error.
pub const MESSAGE_DATA_BYTES_MAX: usize = (128 << 20) + (6 << 20);

/// Segments up to this size are assembled when all of their bytes are there; longer ones as bytes come.
pub const SEGMENT_AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// Bytes kept from a peer while its handshake waits for an answer of the daemon.
pub const HANDSHAKE_INPUT_BYTES_MAX: usize = 128 << 10;

/// Most authentication attempts on one connection.
pub const AUTH_ATTEMPTS_MAX: usize = 8;

/// Most session retries that a connecting side makes on one connection before it gives up.
pub const SESSION_RETRIES_MAX: usize = 16;

/// Bytes of a message's parts up to this size are copied together for sending; longer ones are sent in place.
pub const TRANSMIT_COPY_BYTES_MAX: usize = 512;

/// Room made at once for small pieces to be sent.
pub const TRANSMIT_TAIL_BYTES: usize = 4096;

const _: () = assert!(CONTROL_BYTES_MAX < HANDSHAKE_INPUT_BYTES_MAX);
const _: () = assert!(MESSAGE_DATA_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(WRITE_DATA_BYTES_MAX < MESSAGE_DATA_BYTES_MAX);

/// Most messages waiting to be sent or acknowledged on one session.
pub const QUEUED_MESSAGES_MAX: usize = 4096;

/// Most bytes in them.
pub const QUEUED_BYTES_MAX: usize = 512 << 20;

/// Most sessions that a daemon remembers while their peers are not connected.
pub const SESSIONS_DETACHED_MAX: usize = 1024;

/// Most OSD ids in a map.
pub const OSDS_MAX: usize = 1 << 16;
