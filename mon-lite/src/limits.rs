//! Every bound of the monitor, by name. Lives with whoever reads it; nothing here has state.

/// Alignment of everything on the log's device, bytes; a device with larger blocks raises it.
pub const LOG_ALIGN_MIN: u64 = 4096;
/// Distance of the two superblock copies, bytes: the largest block a device may have.
pub const LOG_SUPERBLOCK_SPACING: u64 = 65536;
/// Where the first slot begins, bytes.
pub const LOG_SLOTS_START: u64 = 2 * LOG_SUPERBLOCK_SPACING;
/// Smallest device for a log, bytes.
pub const LOG_DEVICE_BYTES_MIN: u64 = 16 << 20;
/// Part of a device that is used, bytes: offsets stay small and a snapshot is always read in one go.
pub const LOG_DEVICE_BYTES_MAX: u64 = 1 << 30;
/// Largest payload of one record, bytes.
pub const LOG_ENTRY_BYTES_MAX: usize = 1 << 20;
/// Bytes of the log's device that one read of recovery asks for.
pub const LOG_READ_BYTES: u64 = 1 << 18;
/// Longest monitor name, bytes.
pub const MON_NAME_BYTES_MAX: usize = 63;

const _: () = assert!(LOG_SUPERBLOCK_SPACING.is_multiple_of(LOG_ALIGN_MIN));
const _: () = assert!(LOG_ENTRY_BYTES_MAX as u64 * 2 < (LOG_DEVICE_BYTES_MIN - LOG_SLOTS_START) * 3 / 4);

/// Bytes of records after which a snapshot is due; on a small device half of a slot's room comes first.
pub const LOG_SNAPSHOT_AFTER_BYTES: u64 = 1 << 20;

/// Entries of the cluster log that are kept.
pub const CLUSTER_LOG_ENTRIES_MAX: usize = 1000;
/// Bytes of the entries of the cluster log that are kept.
pub const CLUSTER_LOG_BYTES_MAX: usize = 512 << 10;
/// Longest channel or name of a reporter in the cluster log, bytes; longer ones are cut.
pub const CLUSTER_LOG_NAME_BYTES_MAX: usize = 64;
/// Addresses of a reporter in the cluster log; more are cut.
pub const CLUSTER_LOG_ADDRS_MAX: usize = 4;
/// Longest text of a cluster log entry, bytes; longer ones are cut.
pub const CLUSTER_LOG_TEXT_BYTES_MAX: usize = 2048;
/// Values in the configuration database.
pub const CONFIG_VALUES_MAX: usize = 4096;
/// Bytes of the configuration database.
pub const CONFIG_BYTES_MAX: usize = 256 << 10;
/// Longest option name or value, bytes.
pub const CONFIG_VALUE_BYTES_MAX: usize = 4096;
/// Keys in the config-key store.
pub const CONFIG_KEYS_MAX: usize = 4096;
/// Longest value in the config-key store, bytes.
pub const CONFIG_KEY_BYTES_MAX: usize = 64 << 10;
/// Bytes of all values in the config-key store.
pub const CONFIG_KEYS_BYTES_MAX: usize = 512 << 10;
/// Longest command, bytes of JSON.
pub const COMMAND_BYTES_MAX: usize = 256 << 10;
/// Most elements of a list in a command.
pub const COMMAND_LIST_MAX: usize = 4096;

/// First global id that is given to a client, as in Ceph.
pub const GLOBAL_ID_FIRST: u64 = 4100;
/// Global ids made durable ahead of their use; as many are skipped at worst when the monitor restarts.
pub const GLOBAL_ID_RANGE: u64 = 1000;
/// Increments of the OSD map that are kept.
pub const OSD_INCREMENTALS_MAX: usize = 500;
/// Bytes of the increments that are kept.
pub const OSD_INCREMENTALS_BYTES_MAX: usize = 1 << 20;
/// Bytes of the OSD map, encoded; changes that would make it larger are refused.
pub const OSD_MAP_BYTES_MAX: usize = 512 << 10;
/// Increments of the OSD map in one message.
pub const OSD_INCREMENTALS_PER_MESSAGE: usize = 40;

/// Alerts that one OSD may have at a time.
pub const ALERTS_PER_OSD_MAX: usize = 16;
/// Longest text of an alert, bytes.
pub const ALERT_TEXT_BYTES_MAX: usize = 2048;
/// Seconds over which rates are averaged.
pub const RATE_WINDOW_SECONDS: u32 = 10;
/// Increases of counters that are kept for rates.
pub const RATE_SAMPLES_MAX: usize = 4096;
/// Clients that can be blocked at a time.
pub const BLOCKLIST_ENTRIES_MAX: usize = 4096;
/// Pools of a cluster.
pub const POOLS_MAX: usize = 1024;
/// PGs of one pool.
pub const PG_NUM_MAX: u32 = 65536;
/// Longest name of a pool, bytes.
pub const POOL_NAME_BYTES_MAX: usize = 128;
/// Applications of a pool.
pub const APPLICATIONS_MAX: usize = 4;
/// Keys of an application.
pub const APPLICATION_KEYS_MAX: usize = 64;
/// Longest name, key or value of an application, bytes.
pub const APPLICATION_NAME_BYTES_MAX: usize = 128;
/// Highest OSD id.
pub const OSD_ID_MAX: i32 = 1023;
/// Bytes that one OSD can say of itself; what is more is not kept.
pub const OSD_METADATA_BYTES_MAX: usize = 2048;
/// Bytes that all OSDs together can say of themselves.
pub const OSD_METADATA_TOTAL_BYTES_MAX: usize = 512 << 10;

/// Connections that are served at a time.
pub const SESSIONS_MAX: usize = 4096;
/// Peers that break the protocol or the limits: so many are logged in a period, the others counted.
pub const BAD_PEERS_LOGGED: u64 = 5;
/// See [`BAD_PEERS_LOGGED`], seconds.
pub const BAD_PEERS_SECONDS: u64 = 10;
/// Seconds for a connection to get through its handshake.
pub const HANDSHAKE_SECONDS_MAX: u64 = 10;
/// Seconds without a byte after which a connection is closed; clients send keepalives every ten.
pub const IDLE_SECONDS_MAX: u64 = 900;
/// Seconds that a peer may take to read what was sent to it.
pub const WRITE_SECONDS_MAX: u64 = 60;
/// Decisions that wait to be committed.
pub const PROPOSALS_MAX: usize = 1024;
/// Decisions in one entry of the log.
pub const PROPOSALS_PER_ENTRY_MAX: usize = 64;
/// Bytes of changes after which an entry of the log takes no more decisions.
pub const ENTRY_BYTES_TARGET: usize = 256 << 10;
/// PGs that are mapped before other tasks get a turn: about a tenth of a millisecond.
pub const PGS_PER_TURN: usize = 32;
/// Names in one subscription message.
pub const SUBSCRIPTIONS_MAX: usize = 32;
/// Entries of the cluster log in one message, either way.
pub const LOG_ENTRIES_PER_MESSAGE_MAX: usize = 100;
/// Ranges of removed self-managed snapshots of a pool that wait to be trimmed.
pub const SELF_MANAGED_SNAPSHOTS_REMOVED_MAX: usize = 100_000;

/// Bytes of everything else in a snapshot: monitor map, counts, lengths.
const SNAPSHOT_OTHER_BYTES: usize = 256 << 10;
/// Largest snapshot of the state.
pub const SNAPSHOT_BYTES_MAX: usize = OSD_MAP_BYTES_MAX
    + OSD_INCREMENTALS_BYTES_MAX
    + CONFIG_BYTES_MAX
    + CONFIG_KEYS_BYTES_MAX
    + CLUSTER_LOG_BYTES_MAX
    + OSD_METADATA_TOTAL_BYTES_MAX
    + SNAPSHOT_OTHER_BYTES;

// A snapshot takes at most half of a slot of the smallest device, so the log always has room for the next entries.
const _: () = assert!(SNAPSHOT_BYTES_MAX as u64 <= (LOG_DEVICE_BYTES_MIN - LOG_SLOTS_START) / 4);
// One decision, even one that writes the whole OSD map, fits behind others in one entry.
const _: () = assert!(ENTRY_BYTES_TARGET + OSD_MAP_BYTES_MAX + (64 << 10) <= LOG_ENTRY_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_TARGET + CONFIG_KEY_BYTES_MAX + (64 << 10) <= LOG_ENTRY_BYTES_MAX);
const _: () = assert!(
    LOG_ENTRIES_PER_MESSAGE_MAX * (CLUSTER_LOG_TEXT_BYTES_MAX + 1024) + ENTRY_BYTES_TARGET
        <= LOG_ENTRY_BYTES_MAX
);
