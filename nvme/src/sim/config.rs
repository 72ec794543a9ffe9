//! What a simulated disk is like: times, faults, capacity. Pure.

use std::time::Duration;

use crate::device::{Geometry, Kind};
use crate::limits::MEMORY_IO_MAX;

/// Properties of a simulated disk. [`SimDiskConfig::new`] is a healthy, fast, jittery disk with a volatile cache.
#[derive(Clone, Debug)]
pub struct SimDiskConfig {
    /// For messages, and the label of its random stream: two disks of one seed need two names.
    pub name: String,
    /// What callers see.
    pub geometry: Geometry,
    /// How long I/Os take.
    pub latency: Latency,
    /// In which order they complete.
    pub completion: Completion,
    /// What goes wrong by itself.
    pub faults: Faults,
    /// Bytes that the disk really has, if less than its size (thin provisioning): writes beyond fail.
    pub capacity: Option<u64>,
}

/// Times of I/Os: least and most, drawn uniformly.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Of a read.
    pub read: (Duration, Duration),
    /// Of a write.
    pub write: (Duration, Duration),
    /// Of a flush.
    pub flush: (Duration, Duration),
    /// More for every MiB read or written.
    pub per_mib: Duration,
}

/// Order of completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// By the times drawn.
    AnyOrder,
    /// As submitted.
    InOrder,
}

/// Faults by chance, each in parts per million of the I/Os it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// I/Os that take [`Faults::slow`] longer.
    pub slow_ppm: u32,
    /// Reads that do, besides: they are under way while much is written.
    pub slow_read_ppm: u32,
    /// Least and most that slow I/Os take longer.
    pub slow: (Duration, Duration),
    /// I/Os that do not complete until the disk's host starts again.
    pub stuck_ppm: u32,
    /// Reads that find one of their blocks unreadable; it stays so until it is written again.
    pub read_error_ppm: u32,
    /// Writes that fail, with any part of them written.
    pub write_error_ppm: u32,
    /// Flushes that fail and poison the disk until its host starts again.
    pub flush_error_ppm: u32,
}

impl SimDiskConfig {
    /// A healthy disk of `size` bytes.
    pub fn new(name: &str, size: u64) -> Self {
        Self {
            name: name.to_owned(),
            geometry: Geometry {
                size,
                block_size: 4096,
                atomic_write_unit: 512,
                volatile_cache: true,
                rotational: false,
                discard: true,
                io_max: MEMORY_IO_MAX,
                kind: Kind::Simulated,
            },
            latency: Latency {
                read: (Duration::from_micros(40), Duration::from_micros(200)),
                write: (Duration::from_micros(10), Duration::from_micros(200)),
                flush: (Duration::from_micros(20), Duration::from_millis(1)),
                per_mib: Duration::from_micros(300),
            },
            completion: Completion::AnyOrder,
            faults: Faults::default(),
            capacity: None,
        }
    }
}
