//! [`Recording`]: the log of everything written to a device, from which the device after power loss at any moment
//! can be rebuilt, for every choice the contract allows.
//!
//! Wraps any backend, in the view of a core and in that of foreign threads, both into one log. The log orders events
//! as the *caller* saw them: a write is unsettled from before it was handed down until a flush, submitted after the
//! caller knew of its completion, is known to have completed. Several devices are recorded as windows of one, each with a
//! cache of its own, which no flush of another covers. Belongs to tests; any thread.

mod devices;
mod moment;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::crash::UnsettledWrite;
use crate::device::{Geometry, Kind};
use crate::image::Image;
use crate::limits::RECORDING_BYTES_MAX;
use crate::memory::MemoryDevice;
pub use devices::{RecordingBlockingDevice, RecordingDevice};
pub use moment::{Choice, Moment};

/// Something that happened, in the order in which the caller could tell.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A write (with data) or a discard was submitted under this number.
    Submitted {
        number: u64,
        offset: u64,
        len: u64,
        data: Option<Arc<[u8]>>,
    },
    /// The caller learnt that it completed.
    Completed {
        number: u64,
    },
    /// Of the cache behind these bytes.
    FlushSubmitted {
        flush: u64,
        within: Range<u64>,
    },
    FlushCompleted {
        flush: u64,
    },
    /// A word of the test.
    Mark(u64),
}

#[derive(Default)]
struct Log {
    events: Vec<Event>,
    bytes: u64,
    writes: u64,
    flushes: u64,
    /// The last moment asked for, from which the next is reached faster.
    cursor: Option<Moment>,
}

/// A log being recorded; clones are handles on the same one.
#[derive(Clone)]
pub struct Recording {
    geometry: Arc<Geometry>,
    initial: Image,
    log: Arc<Mutex<Log>>,
}

impl Recording {
    /// Begins a recording of a device with this geometry which holds `initial` at first, durably.
    pub fn new(geometry: Geometry, initial: Image) -> Self {
        let geometry = Arc::new(Geometry { kind: Kind::Memory, ..geometry });
        Self { geometry, initial, log: Arc::default() }
    }

    /// Writes a word of the test into the log, such as "operation n was acknowledged": [`Moment::marks`] tells those
    /// before a cut.
    pub fn mark(&self, word: u64) {
        self.note(Event::Mark(word));
    }

    /// Every moment worth a power loss: before each write and discard, before each completion that makes something
    /// durable, and the end. Between two of them nothing changes but marks; those of the later side count.
    pub fn cuts(&self) -> Vec<usize> {
        let log = self.log();
        let durable_at_once = !self.geometry.volatile_cache;
        let worth = log.events.iter().enumerate().filter(|(_, event)| match event {
            Event::Submitted { .. } | Event::FlushCompleted { .. } => true,
            Event::Completed { .. } => durable_at_once,
            Event::FlushSubmitted { .. } | Event::Mark(_) => false,
        });
        worth.map(|(cut, _)| cut).chain([log.events.len()]).collect()
    }

    /// The moment after the first `cut` events. Cheapest when asked for in rising order.
    pub fn at(&self, cut: usize) -> Moment {
        let mut log = self.log();
        assert!(cut <= log.events.len(), "cut {cut} is beyond the {} events", log.events.len());
        let mut moment = match log.cursor.take() {
            Some(cursor) if cursor.cut() <= cut => cursor,
            _ => Moment::new(self.geometry.clone(), self.initial.clone()),
        };
        for event in &log.events[moment.cut()..cut] {
            moment.apply(event);
        }
        log.cursor = Some(moment.clone());
        moment
    }

    /// The device after power loss at `cut` with `choice`, see [`Moment::image`].
    pub fn image(&self, cut: usize, choice: &Choice) -> MemoryDevice {
        self.at(cut).image(choice)
    }

    /// A recording that begins with these unsettled writes, all completed.
    fn of_unsettled(geometry: Arc<Geometry>, durable: Image, writes: Vec<&UnsettledWrite>) -> Self {
        let recording = Self { geometry, initial: durable, log: Arc::default() };
        for write in writes {
            let number = recording.submitted(write.offset, write.len, write.data.as_deref());
            recording.note(Event::Completed { number });
        }
        recording
    }

    /// Writes and discards so far.
    pub fn writes(&self) -> u64 {
        self.log().writes
    }

    /// Flushes so far.
    pub fn flushes(&self) -> u64 {
        self.log().flushes
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // A log is appended to in one step, so it is whole even if a thread panicked with the lock.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: Event) {
        self.log().events.push(event);
    }

    fn submitted(&self, offset: u64, len: u64, data: Option<&[u8]>) -> u64 {
        let data = data.map(Arc::<[u8]>::from);
        let mut log = self.log();
        let number = log.writes;
        log.writes += 1;
        log.bytes += data.as_ref().map_or(0, |data| data.len() as u64);
        assert!(
            log.bytes <= RECORDING_BYTES_MAX,
            "a recording holds at most {RECORDING_BYTES_MAX} bytes of writes"
        );
        log.events.push(Event::Submitted { number, offset, len, data });
        number
    }

    fn flush_submitted(&self, within: Range<u64>) -> u64 {
        let mut log = self.log();
        let flush = log.flushes;
        log.flushes += 1;
        log.events.push(Event::FlushSubmitted { flush, within });
        flush
    }
}

#[cfg(test)]
mod tests;
