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

/// Foreign threads of one process.
pub const ALIEN_THREADS_MAX: usize = 64;

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

/// Operations of one ring that wait for the kernel; more are refused with `EBUSY`.
pub const RING_OPS_MAX: usize = 1 << 16;

/// Entries of a ring's submission queue. A full one is handed to the kernel early.
pub const RING_SUBMISSIONS: u32 = 1024;

/// Entries of a ring's completion queue; the kernel keeps more aside at some cost.
pub const RING_COMPLETIONS: u32 = 8192;

/// Files that can be registered with one ring.
pub const RING_FILES_MAX: u32 = 256;

/// Buffers that can be registered with one ring.
pub const RING_BUFFERS_MAX: u32 = 1024;

/// Polls of tasks between two looks at the kernel.
pub const POLLS_PER_TURN: usize = 128;

/// Time of polls between two looks at the kernel; the poll that exceeds it is the last of its turn.
pub const TURN: Duration = Duration::from_micros(200);

/// Received bytes that a connection keeps for a reader that is slow; beyond, it stops receiving.
pub const RECV_QUEUE_BYTES_MAX: usize = 512 << 10;

/// Received pieces up to this length are copied out of the shared buffers, which costs less than keeping one.
pub const RECV_COPY_BYTES_MAX: usize = 2048;

/// Length of a receive without the shared buffers.
pub const RECV_PLAIN_BYTES: usize = 16 << 10;

/// Chunks in one vectored send.
pub const SEND_CHUNKS_MAX: usize = 256;

/// Connections accepted ahead of their listener's task; beyond, they wait in the kernel.
pub const ACCEPT_QUEUE_MAX: usize = 64;

/// How long the end of a world waits for operations that were cancelled, or cannot be.
pub const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);

const _: () = assert!(RING_COMPLETIONS >= RING_SUBMISSIONS);
const _: () = assert!(TURN.as_nanos() <= STALL.as_nanos());
const _: () = assert!(RECV_COPY_BYTES_MAX <= RECV_PLAIN_BYTES && RECV_PLAIN_BYTES <= RECV_QUEUE_BYTES_MAX);
// What the kernel accepts in one call.
const _: () = assert!(SEND_CHUNKS_MAX <= 1024);
