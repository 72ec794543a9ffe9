//! Every bound of the daemon, and how they hang together.

use std::time::Duration;

/// Connections whose handshake is not over; more are closed as they come.
pub const HALF_OPEN_MAX: usize = 128;
/// Connections in all; more are closed as they come.
pub const CONNECTIONS_MAX: usize = 8192;
/// A handshake must be over by then. //= ceph 16.2 clients: connection set-up must finish in 10 s
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection of a client is closed after this. //= ceph 16.2 ms_connection_idle_timeout
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(900);
/// A peer that takes no byte of what is written to it for this long is dropped.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes written in one go: a slow peer must take so many within [`WRITE_TIMEOUT`], however many wait behind them.
pub const WRITE_BYTES_PER_TURN: usize = 1 << 20;

/// Peers that break the protocol or the limits: so many are logged in a period, the others counted.
pub const BAD_PEERS_LOGGED: u64 = 5;
/// See [`BAD_PEERS_LOGGED`].
pub const BAD_PEERS_PERIOD: Duration = Duration::from_secs(10);
/// A monitor that does not answer is logged this often.
pub const BAD_MONITORS_PERIOD: Duration = Duration::from_secs(30);

/// Requests of one client in progress or not yet answered in full; beyond, its connection is not read.
//= ceph 16.2 osd_client_message_cap
pub const CLIENT_REQUESTS_MAX: u64 = 256;
/// Bytes of requests and expected replies of one client; beyond, its connection is not read.
//= ceph 16.2 osd_client_message_size_cap
pub const CLIENT_BYTES_MAX: u64 = 500 << 20;
/// Requests of all clients; beyond, no connection is read.
pub const REQUESTS_MAX: u64 = 8192;
/// Bytes of requests and expected replies of all clients; beyond, no connection is read.
pub const REQUEST_BYTES_MAX: u64 = 1 << 30;
/// With a target for memory, requests have this part of it, but not less than [`REQUEST_BYTES_MIN`].
pub const MEMORY_PER_REQUESTS: u64 = 16;
/// See [`MEMORY_PER_REQUESTS`].
pub const REQUEST_BYTES_MIN: u64 = 8 << 20;
/// Bytes of memory for each byte of a request at worst: as it came, and as it goes to the device.
pub const REQUEST_COPIES: u64 = 2;
/// Bytes for maps, connections, contexts of objects, duplicates and the like.
pub const MEMORY_BESIDE_REQUESTS: u64 = 16 << 20;
/// Bytes taken from one connection before others get a turn.
pub const READ_BYTES_PER_TURN: usize = 256 << 10;
/// What a read without a length is expected to return.
pub const READ_BYTES_EXPECTED: u64 = 4 << 20;
/// What a lookup of omap values is expected to return; most are far smaller, the longest page is larger.
pub const OMAP_BYTES_EXPECTED: u64 = 1 << 20;
/// What any request costs besides its payload.
pub const REQUEST_OVERHEAD_BYTES: u64 = 4096;

/// Objects of one placement group whose state is remembered while nobody uses them.
pub const CONTEXTS_PER_GROUP_MAX: usize = 1024;
/// Requests on one object that may read at once; a write takes all of them.
pub const READERS_PER_OBJECT_MAX: u64 = 1 << 20;

/// A map that a client knows of must come by then, or the client is told to come again.
pub const MAP_WAIT_MAX: Duration = Duration::from_secs(60);
/// Map increments in one message. //= ceph 16.2 osd_map_message_max
pub const MAP_INCREMENTS_PER_MESSAGE_MAX: u32 = 40;
/// Map increments kept, in memory and in the store, for peers that are behind; older ones get a full map.
pub const MAP_INCREMENTS_KEPT: u32 = 200;

/// Free space is looked at this often.
pub const SPACE_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Transactions that the store refuses for want of space: so many are logged in a period, the others counted.
pub const SPACE_REFUSALS_LOGGED: u64 = 1;
/// See [`SPACE_REFUSALS_LOGGED`].
pub const SPACE_REFUSALS_PERIOD: Duration = Duration::from_secs(30);
/// The monitor is told for so long that the store refused one.
pub const SPACE_REFUSAL_REMEMBERED: Duration = Duration::from_secs(60);

/// Placement groups created in one transaction.
pub const CREATIONS_PER_TRANSACTION: usize = 128;
/// Placement groups mapped before other tasks get a turn.
pub const MAPPINGS_PER_TURN: usize = 32;
/// Objects looked at for one listing reply; a page may have fewer entries than asked for.
pub const LIST_SCAN_MAX: usize = 8192;

/// Work in the background pauses after so many bytes while clients wait for something.
pub const BACKGROUND_BYTES: u64 = 256 << 10;
/// See [`BACKGROUND_BYTES`].
pub const BACKGROUND_PAUSE: Duration = Duration::from_millis(20);
/// Findings of a check of the store that are remembered; further ones are counted.
pub const FSCK_FINDINGS_KEPT: usize = 32;

/// Bytes of an object that are moved at a time.
pub const DEFRAG_PART_BYTES: u64 = 1 << 20;
/// What an object counts beside what moves of it.
pub const DEFRAG_OBJECT_BYTES: u64 = 4096;
/// Objects that are listed at a time.
pub const DEFRAG_LIST_MAX: usize = 256;

/// Whether a group is due for a scrub is looked at this often.
pub const SCRUB_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes that a scrub reads at a time.
pub const SCRUB_READ_BYTES: u64 = BACKGROUND_BYTES;
/// What an object counts beside its bytes.
pub const SCRUB_OBJECT_BYTES: u64 = 4096;
/// What a scrub found until now is written down this often.
pub const SCRUB_REMEMBER_INTERVAL: Duration = Duration::from_secs(60);
/// One that was cut off goes on after this, unless it is asked for.
pub const SCRUB_RETRY_INTERVAL: Duration = Duration::from_secs(3600);
/// Groups of which a start reads at a time what was scrubbed.
pub const SCRUBS_PER_PAGE: usize = 1024;
/// Objects that it lists at a time.
pub const SCRUB_LIST_MAX: usize = 256;
/// Keys of an omap that it reads at a time.
pub const SCRUB_OMAP_KEYS: usize = 256;
/// Objects that cannot be read, of which the reason is remembered for each group.
pub const SCRUB_ERRORS_KEPT: usize = 16;
/// Bytes of such a reason; the rest is cut off.
pub const SCRUB_ERROR_BYTES_MAX: usize = 1024;

/// Reports to the monitor.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// Asking again when a start was not noticed.
pub const BOOT_INTERVAL: Duration = Duration::from_secs(5);
/// A monitor must take a connection by then.
pub const MONITOR_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// First pause between attempts to reach a monitor.
pub const MONITOR_RETRY_MIN: Duration = Duration::from_millis(100);
/// Failures are logged once the pause has grown to this.
pub const MONITOR_PATIENCE: Duration = Duration::from_millis(1600);
/// Longest pause between attempts to reach a monitor.
pub const MONITOR_RETRY_MAX: Duration = Duration::from_secs(3);
/// A sign of life is asked of the monitor this often.
pub const MONITOR_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A monitor that shows none for this long is given up.
pub const MONITOR_SILENCE_MAX: Duration = Duration::from_secs(20);

/// Finished requests remembered, for each of the newest and the slowest. //= ceph 16.2 osd_op_history_size
pub const HISTORIC_OPS: usize = 20;
/// Requests shown by a command.
pub const SHOWN_OPS_MAX: usize = 1000;
/// Bytes of a command's input and of its text.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// Writes of a `bench` command in flight.
pub const BENCH_IN_FLIGHT: u64 = 16;
/// Most bytes a `bench` command may write.
pub const BENCH_BYTES_MAX: u64 = 1 << 30;

const _: () = assert!(CLIENT_BYTES_MAX <= REQUEST_BYTES_MAX);
const _: () = assert!(CLIENT_REQUESTS_MAX <= REQUESTS_MAX);
// The largest request must fit, or its client could never send it.
const _: () =
    assert!(wire::limits::MESSAGE_DATA_BYTES_MAX as u64 + REQUEST_OVERHEAD_BYTES < CLIENT_BYTES_MAX);
// What is known of requests while the OSD runs is known after it crashed.
const _: () = assert!(pg::limits::DUPLICATES_MIN <= store::limits::PG_LOG_ENTRIES_WANTED);
const _: () = assert!(MAP_INCREMENTS_PER_MESSAGE_MAX <= MAP_INCREMENTS_KEPT);
