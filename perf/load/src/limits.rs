//! Bounds of a load.

/// Operations in flight.
pub const DEPTH_MAX: usize = 1024;
/// Bytes of an operation: what an OSD takes as one, and what a device's buffer may be.
pub const BLOCK_BYTES_MAX: u64 = 64 << 20;
/// Blocks that a run with verification keeps account of; four bytes of memory each.
pub const POSITIONS_VERIFIED_MAX: u64 = 1 << 28;
/// Smallest block that holds what verification needs: a sector.
pub const STAMPED_BYTES_MIN: u64 = 512;
/// Places that are named of those with something wrong; the others are counted.
pub const FINDINGS_MAX: usize = 16;
/// Longest latency that is told apart from longer ones, nanoseconds.
pub const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Digits of a latency that are kept.
pub const LATENCY_DIGITS: u8 = 3;
/// Intervals of a plot over time. When there are more, two become one.
pub const INTERVALS_MAX: usize = 600;
/// Length of an interval to begin with, nanoseconds.
pub const INTERVAL_NS: u64 = 100_000_000;
/// How often somebody who watches is told how far it is, milliseconds.
pub const WATCH_MS: u64 = 200;
/// Arrivals per second of an open loop.
pub const RATE_MAX: f64 = 100_000_000.0;

const _: () = assert!(INTERVALS_MAX.is_multiple_of(2), "they are joined in pairs");
