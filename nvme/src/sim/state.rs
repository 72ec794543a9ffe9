//! A simulated disk as a machine: submissions in, completions out, by virtual time. Pure but for its random streams.
//!
//! Invariant: an I/O is in the queue from its submission until it completes or the life it belongs to ends; nothing of
//! an earlier life completes in a later one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rt::Nanos;
use rt::sim::RandomStream;

use super::config::{Completion, SimDiskConfig};
use super::counters::Books;
use super::media::Media;
use crate::buffer::DmaBuf;
use crate::check;
use crate::crash::{self, Fate, UnsettledWrite};
use crate::device::{DeviceError, DeviceResult};
use crate::hash::RunningHash;
use crate::image::Image;

/// How an I/O ended, and its buffer.
pub(super) struct Done {
    pub result: DeviceResult<()>,
    pub buf: Option<DmaBuf>,
}

/// Where the one who waits finds it.
pub(super) type Slot = Rc<RefCell<Option<Done>>>;

/// An I/O asked for.
pub(super) enum Request {
    Read { offset: u64, buf: DmaBuf },
    Write { offset: u64, buf: DmaBuf },
    Discard { offset: u64, len: u64 },
    Flush,
}

enum Work {
    Read { offset: u64, buf: DmaBuf },
    Write { write: UnsettledWrite, buf: Option<DmaBuf> },
    Flush { barrier: u64 },
}

struct InFlight {
    work: Work,
    slot: Slot,
}

/// Point in time of an I/O that does not complete.
pub(super) const NEVER: Nanos = Nanos(u64::MAX);

struct Streams {
    latency: RandomStream,
    faults: RandomStream,
    overlap: RandomStream,
    crash: RandomStream,
}

pub(super) struct State {
    pub config: SimDiskConfig,
    pub media: Media,
    pub books: Books,
    pub hash: RunningHash,
    pub life: u64,
    pub poison: Option<String>,
    pub unplugged: bool,
    pub flush_fails_next: bool,
    /// Ranges in which writes fail.
    pub write_protected: Vec<Range<u64>>,
    /// Ranges in which writes take longer, and by how much.
    pub held: (Vec<Range<u64>>, Duration),
    streams: Streams,
    queue: BTreeMap<(Nanos, u64), InFlight>,
    submissions: u64,
    /// Latest completion promised, for in-order completion.
    promised: Nanos,
}

impl State {
    pub fn new(config: SimDiskConfig, seed: u64, image: Image) -> Self {
        check::geometry(&config.geometry);
        let stream = |what: &str| RandomStream::new(seed, &format!("disk {} {what}", config.name));
        Self {
            streams: Streams {
                latency: stream("latency"),
                faults: stream("faults"),
                overlap: stream("overlap"),
                crash: stream("crash"),
            },
            media: Media::new(image, config.geometry.block_size, config.geometry.atomic_write_unit),
            config,
            books: Books::default(),
            hash: RunningHash::new(),
            life: 0,
            poison: None,
            unplugged: false,
            flush_fails_next: false,
            write_protected: Vec::new(),
            held: (Vec::new(), Duration::ZERO),
            queue: BTreeMap::new(),
            submissions: 0,
            promised: Nanos(0),
        }
    }

    /// Whether a handle of `life` may do anything at all.
    pub fn admit(&self, life: u64) -> DeviceResult<()> {
        if self.unplugged || life != self.life {
            return Err(DeviceError::Gone { device: self.config.name.clone() });
        }
        match &self.poison {
            Some(reason) => {
                Err(DeviceError::Poisoned { device: self.config.name.clone(), reason: reason.clone() })
            }
            None => Ok(()),
        }
    }

    /// Takes an I/O; says when it completes.
    pub fn submit(&mut self, now: Nanos, request: Request, slot: Slot) -> DeviceResult<Nanos> {
        self.advance(now);
        self.check(&request)?;
        self.account(&request);
        let deadline = self.deadline(now, &request);
        let number = self.submissions;
        self.submissions += 1;
        let work = match request {
            Request::Read { offset, buf } => Work::Read { offset, buf },
            Request::Write { offset, buf } => {
                let data: Arc<[u8]> = Arc::from(&buf[..]);
                let len = buf.len() as u64;
                let write = UnsettledWrite { number, offset, len, completed: false, data: Some(data) };
                Work::Write { write, buf: Some(buf) }
            }
            Request::Discard { offset, len } => {
                let write = UnsettledWrite { number, offset, len, completed: false, data: None };
                Work::Write { write, buf: None }
            }
            Request::Flush => Work::Flush { barrier: self.media.barrier() },
        };
        self.queue.insert((deadline, number), InFlight { work, slot });
        Ok(deadline)
    }

    /// Completes everything due by `now`.
    pub fn advance(&mut self, now: Nanos) {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= now
            && entry.key().0 != NEVER
        {
            let InFlight { work, slot } = entry.remove();
            let done = match work {
                Work::Read { offset, buf } => self.complete_read(offset, buf),
                Work::Write { write, buf } => self.complete_write(&write, buf),
                Work::Flush { barrier } => self.complete_flush(barrier),
            };
            *slot.borrow_mut() = Some(done);
        }
    }

    /// What power loss would decide about now.
    pub fn unsettled(&self) -> Vec<UnsettledWrite> {
        self.media.cached().cloned().chain(self.writes_in_order()).collect()
    }

    /// Power loss; `choose` decides about each unsettled write.
    pub fn crash(&mut self, mut choose: impl FnMut(&UnsettledWrite, &mut RandomStream) -> Fate) {
        let unit = self.config.geometry.atomic_write_unit;
        let mut survivors = Vec::new();
        for write in self.unsettled() {
            let fate = choose(&write, &mut self.streams.crash);
            for piece in write.surviving(&fate, unit) {
                survivors.push((write.clone(), piece));
            }
        }
        crash::shuffle(&mut self.streams.crash, &mut survivors);
        self.hash.word(0xc4a5);
        for (write, piece) in &survivors {
            self.hash.word(write.number);
            self.hash.word(piece.start);
            self.hash.word(piece.end);
        }
        self.media.lose_power(&survivors);
        self.end_life();
    }

    /// Whether power loss would decide about a byte of the range now.
    pub fn is_unsettled(&self, range: &Range<u64>) -> bool {
        let len = range.end - range.start;
        let mut all = self.media.cached().chain(self.writes_in_flight());
        all.any(|write| write.overlaps(range.start, len))
    }

    /// A random policy for one crash: mostly a fate per write, now and then the same for all, or one for the writes
    /// up to some point of their order and the opposite for those after it.
    pub fn random_policy(&mut self) -> impl FnMut(&UnsettledWrite, &mut RandomStream) -> Fate + use<> {
        let mood = self.streams.crash.below(10);
        let unit = self.config.geometry.atomic_write_unit;
        let mut numbers: Vec<u64> =
            self.media.cached().chain(self.writes_in_flight()).map(|w| w.number).collect();
        numbers.sort_unstable();
        let pivot = self.streams.crash.below(numbers.len().max(1) as u64) as usize;
        let pivot = numbers.get(pivot).copied().unwrap_or(0);
        move |write, random| match mood {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 if random.below(8) > 0 => Fate::Kept,
            // What a missing flush would let through: the later is there, the earlier is not.
            3 if write.number >= pivot => Fate::Kept,
            4 if write.number < pivot => Fate::Kept,
            3 | 4 => Fate::Lost,
            _ => crash::random_fate(random, write.units(unit).count()),
        }
    }

    /// The host's process ends but the disk keeps its power: what is cached stays so, what is in flight lands or not.
    pub fn end_process(&mut self) {
        let unit = self.config.geometry.atomic_write_unit;
        self.hash.word(0xe4d);
        for write in self.writes_in_order() {
            let fate = crash::random_fate(&mut self.streams.crash, write.units(unit).count());
            self.land(&write, &fate);
        }
        self.end_life();
    }

    fn end_life(&mut self) {
        self.queue.clear();
        self.promised = Nanos(0);
        self.poison = None;
        self.held.0.clear();
        self.life += 1;
    }

    /// In order of their deadlines, which says nothing to anybody.
    fn writes_in_flight(&self) -> impl Iterator<Item = &UnsettledWrite> {
        self.queue.values().filter_map(|io| match &io.work {
            Work::Write { write, .. } => Some(write),
            _ => None,
        })
    }

    fn writes_in_order(&self) -> Vec<UnsettledWrite> {
        let mut writes: Vec<UnsettledWrite> = self.writes_in_flight().cloned().collect();
        writes.sort_by_key(|write| write.number);
        writes
    }

    fn check(&self, request: &Request) -> DeviceResult<()> {
        let (op, offset, len) = match request {
            Request::Read { offset, buf } => ("read", *offset, buf.len() as u64),
            Request::Write { offset, buf } => ("write", *offset, buf.len() as u64),
            Request::Discard { offset, len } => ("discard", *offset, *len),
            Request::Flush => return Ok(()),
        };
        check::range(op, &self.config.geometry, &self.config.name, offset, len)
    }

    fn account(&mut self, request: &Request) {
        match request {
            Request::Read { offset, buf } => {
                let len = buf.len() as u64;
                let racing = u64::from(self.writes_in_flight().any(|write| write.overlaps(*offset, len)));
                self.books.enter(*offset, |counters| {
                    counters.reads += 1;
                    counters.bytes_read += len;
                    counters.racing_reads += racing;
                });
            }
            Request::Write { offset, buf } => {
                self.hash.word(*offset);
                self.hash.bytes(buf);
                let len = buf.len() as u64;
                let (writes, reads) = self.races(*offset, len);
                self.books.enter(*offset, |counters| {
                    counters.writes += 1;
                    counters.bytes_written += len;
                    counters.racing_writes += writes;
                    counters.racing_reads += reads;
                });
                self.books.note_written(*offset, len);
            }
            Request::Discard { offset, len } => {
                self.hash.word(0xd15c);
                self.hash.word(*offset);
                self.hash.word(*len);
                let (writes, reads) = self.races(*offset, *len);
                self.books.enter(*offset, |counters| {
                    counters.discards += 1;
                    counters.racing_writes += writes;
                    counters.racing_reads += reads;
                });
            }
            Request::Flush => {
                self.hash.word(0xf1);
                self.books.all.flushes += 1;
            }
        }
    }

    /// Whether a write of the range races with a write in flight, and with a read, as 0 or 1.
    fn races(&self, offset: u64, len: u64) -> (u64, u64) {
        let writes = self.writes_in_flight().any(|write| write.overlaps(offset, len));
        let reads = self.queue.values().any(|io| match &io.work {
            Work::Read { offset: start, buf } => *start < offset + len && offset < *start + buf.len() as u64,
            _ => false,
        });
        (writes.into(), reads.into())
    }

    fn deadline(&mut self, now: Nanos, request: &Request) -> Nanos {
        let times = &self.config.latency;
        let ((least, most), bytes) = match request {
            Request::Read { buf, .. } => (times.read, buf.len() as u64),
            Request::Write { buf, .. } => (times.write, buf.len() as u64),
            Request::Discard { .. } => (times.write, 0),
            Request::Flush => (times.flush, 0),
        };
        let mut took = self.streams.latency.between(nanos(least), nanos(most));
        took = took.saturating_add(((u128::from(nanos(times.per_mib)) * u128::from(bytes)) >> 20) as u64);
        if let Request::Write { offset, .. } = request
            && self.held.0.iter().any(|range| range.contains(offset))
        {
            took = took.saturating_add(nanos(self.held.1));
        }
        let faults = &self.config.faults;
        let slow_ppm = match request {
            Request::Read { .. } => faults.slow_ppm.saturating_add(faults.slow_read_ppm),
            _ => faults.slow_ppm,
        };
        if self.streams.faults.chance(slow_ppm) {
            took =
                took.saturating_add(self.streams.faults.between(nanos(faults.slow.0), nanos(faults.slow.1)));
        }
        if self.streams.faults.chance(faults.stuck_ppm) {
            return NEVER;
        }
        // An I/O takes time, or a caller that retries at once would never let the clock go on.
        let mut deadline = Nanos(now.0.saturating_add(took.max(1)).min(NEVER.0 - 1));
        if self.config.completion == Completion::InOrder {
            deadline = deadline.max(self.promised);
            self.promised = deadline;
        }
        deadline
    }

    fn complete_read(&mut self, offset: u64, mut buf: DmaBuf) -> Done {
        let len = buf.len() as u64;
        if self.streams.faults.chance(self.config.faults.read_error_ppm) {
            let block = u64::from(self.config.geometry.block_size);
            let bad = offset + self.streams.faults.below(len / block) * block;
            self.media.break_blocks(bad..bad + block);
        }
        if let Some(bad) = self.media.first_bad(offset, len) {
            let reason = format!("unrecovered read error at {bad:#x} (simulated)");
            return Done { result: Err(self.io_error("read", offset, len, reason)), buf: None };
        }
        self.media.visible().read(offset, &mut buf);
        self.mix_in_racing_writes(offset, &mut buf);
        Done { result: Ok(()), buf: Some(buf) }
    }

    /// A read that overlaps with writes in flight sees any part of them.
    fn mix_in_racing_writes(&mut self, offset: u64, buf: &mut DmaBuf) {
        let (len, unit) = (buf.len() as u64, self.config.geometry.atomic_write_unit);
        let racing: Vec<UnsettledWrite> =
            self.writes_in_flight().filter(|write| write.overlaps(offset, len)).cloned().collect();
        for write in racing {
            for piece in write.units(unit) {
                let seen = piece.start.max(offset)..piece.end.min(offset + len);
                if seen.is_empty() || self.streams.overlap.one_in(2) {
                    continue;
                }
                let target = &mut buf[(seen.start - offset) as usize..(seen.end - offset) as usize];
                match &write.data {
                    Some(data) => target.copy_from_slice(
                        &data[(seen.start - write.offset) as usize..(seen.end - write.offset) as usize],
                    ),
                    None => target.fill(0),
                }
            }
        }
    }

    fn complete_write(&mut self, write: &UnsettledWrite, buf: Option<DmaBuf>) -> Done {
        let (offset, len) = (write.offset, write.len);
        let units = write.units(self.config.geometry.atomic_write_unit).count();
        if write.data.is_none() {
            // Advice: any part of it is taken.
            let fate = crash::random_fate(&mut self.streams.overlap, units);
            self.land(write, &fate);
            return Done { result: Ok(()), buf };
        }
        if let Some(capacity) = self.config.capacity {
            let image = self.media.visible();
            if image.allocated() + image.would_allocate(offset, len) > capacity {
                let reason =
                    format!("no space left: all {capacity} bytes of the thin disk are used (simulated)");
                return Done { result: Err(self.io_error("write", offset, len, reason)), buf: None };
            }
        }
        let protected =
            self.write_protected.iter().any(|range| write.overlaps(range.start, range.end - range.start));
        if protected || self.streams.faults.chance(self.config.faults.write_error_ppm) {
            let fate = crash::random_fate(&mut self.streams.faults, units);
            self.land(write, &fate);
            let reason = "write fault (simulated)".to_owned();
            return Done { result: Err(self.io_error("write", offset, len, reason)), buf: None };
        }
        self.land(write, &Fate::Kept);
        Done { result: Ok(()), buf }
    }

    /// Takes a completed write into the cache, or onto the media where there is no cache.
    fn land(&mut self, write: &UnsettledWrite, fate: &Fate) {
        self.media.complete(write, fate);
        if !self.config.geometry.volatile_cache {
            self.media.settle(self.media.barrier());
        }
    }

    fn complete_flush(&mut self, barrier: u64) -> Done {
        let chance = self.streams.faults.chance(self.config.faults.flush_error_ppm);
        if chance || self.flush_fails_next {
            self.flush_fails_next = false;
            let reason = "flush failed (simulated)".to_owned();
            self.poison.get_or_insert_with(|| reason.clone());
            return Done {
                result: Err(DeviceError::Poisoned { device: self.config.name.clone(), reason }),
                buf: None,
            };
        }
        self.media.settle(barrier);
        Done { result: Ok(()), buf: None }
    }

    fn io_error(&self, op: &'static str, offset: u64, len: u64, reason: String) -> DeviceError {
        DeviceError::Io { op, offset, len, device: self.config.name.clone(), reason }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
