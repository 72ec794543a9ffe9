//! Every bound of this crate, and how they hang together.

use std::time::Duration;

/// Groups of tasks, see [`crate::Group`].
pub const GROUPS: usize = 3;

/// Share of the core of each group, in the order of [`crate::Group`], when all of them have work.
pub const GROUP_SHARES: [u64; GROUPS] = [4, 4, 1];

/// Lanes of the bridge to foreign threads, see [`crate::Lane`].
pub const LANES: usize = 4;

/// Jobs waiting in one lane of the bridge; the next submitter waits.
pub const ALIEN_LANE_JOBS_MAX: usize = 1024;

/// Tasks of one core. The number of a task's slot has to fit into a waker.
pub const TASKS_MAX: usize = 1 << 24;

/// A poll that takes longer than this is a stall: counted, and its task named.
pub const STALL: Duration = Duration::from_micros(500);

/// Names kept by the stall watchdog; stalls of further names are counted together.
pub const STALL_NAMES_MAX: usize = 256;

/// Connections waiting for `accept`.
pub const LISTEN_BACKLOG: usize = 1024;

/// Lines of trace text that a simulated world keeps (the last ones).
pub const SIM_TRACE_LINES_MAX: usize = 200_000;

/// Hosts of a simulated world.
pub const SIM_HOSTS_MAX: usize = 4096;

/// Longest pieces in which the simulated network carries and hands out bytes.
pub const SIM_SEGMENT_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(GROUP_SHARES[0] > 0 && GROUP_SHARES[1] > 0 && GROUP_SHARES[2] > 0);
const _: () = assert!(SIM_HOSTS_MAX <= u16::MAX as usize);
