//! Limits of the client.

use std::time::Duration;

/// Operations in flight, unless configured otherwise; the stock client's number.
pub const OPS_IN_FLIGHT: u64 = 1024;

/// Bytes of payload in flight, unless configured otherwise; the stock client's number.
pub const BYTES_IN_FLIGHT: u64 = 100 << 20;

/// Most ops in one operation on an object.
pub const OPS_PER_OPERATION_MAX: usize = 1024;

/// Requests to the monitor in flight.
pub const MON_REQUESTS_MAX: usize = 1024;

/// How long a monitor may take to let us in before the next one is tried.
pub const MON_HUNT_TIMEOUT: Duration = Duration::from_secs(3);

/// How much longer each further round through all monitors waits, at most: ten times.
pub const MON_HUNT_BACKOFF_MAX: u32 = 10;

/// Pause before a monitor or OSD is called again, the first time; doubled each time.
pub const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(50);

/// The longest such pause.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);

/// How long a TCP connection to an OSD and its handshake may take.
pub const OSD_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a sign of life is asked for on a connection that something is expected from.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A connection that gave no sign of life for this long is dropped.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// An operation that got no answer for this long makes the client ask for a newer map, again and again.
pub const LAGGY_OP_AGE: Duration = Duration::from_secs(10);

/// Pause before an operation that an OSD answered with EAGAIN is sent again.
pub const TRY_AGAIN_DELAY: Duration = Duration::from_millis(20);

/// Back-offs of one OSD that the client remembers; a peer with more is broken.
pub const BACKOFFS_MAX: usize = 1 << 16;

/// Entries asked for in one listing request.
pub const LIST_ENTRIES_MAX: u64 = 1024;

const _: () = assert!(KEEPALIVE_INTERVAL.as_nanos() < KEEPALIVE_TIMEOUT.as_nanos());
const _: () = assert!(RECONNECT_DELAY_MIN.as_nanos() < RECONNECT_DELAY_MAX.as_nanos());
