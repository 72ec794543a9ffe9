//! The placement groups' log: a ring of its own, appended at checkpoints. Entries since the last checkpoint are in the
//! journal, all that are kept are in memory; they never enter the key-value store.
//!
//! Invariant: the window that a checkpoint refers to is at most half of the ring, and what is written next goes
//! beside it, so a crash back to the former checkpoint finds its window whole. When the window would outgrow half of
//! the ring, a snapshot of what is kept starts a new one. Lives on one core.

use std::collections::BTreeMap;

use allocator::Extent;
use bytes::Bytes;

use super::state::Collection;
use crate::check::length;
use crate::codec::{DecodeError, DecodeResult, Decoder, Encoder};
use crate::journal::ring::Ring;
use crate::limits;
use crate::types::{CollectionId, LogVersion};

const MAGIC: u32 = u32::from_le_bytes(*b"SPPL");
const HEADER_BYTES: usize = 28;
/// Bytes of an entry in a chunk besides what the placement group wrote.
const ENTRY_FIXED_BYTES: usize = 29;
/// Bytes of an entry beside its payload, in the ring.
pub const ENTRY_OVERHEAD: u64 = 40;

/// A change to the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogChange {
    /// An entry was appended.
    Entry(CollectionId, LogVersion, Bytes),
    /// A collection's log is gone.
    Drop(CollectionId),
}

/// The window of the ring that holds what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Position of its first chunk.
    pub tail: u64,
    /// Position after its last.
    pub head: u64,
}

/// Where the log stands.
#[derive(Clone, Debug)]
pub struct PgLog {
    region: Extent,
    block: u64,
    /// As of the last durable checkpoint.
    window: Window,
    /// Bytes of all entries kept in memory, as the ring counts them.
    kept_bytes: u64,
    /// Bytes promised to entries on their way.
    reserved: u64,
}

impl PgLog {
    /// From mount.
    pub fn new(region: Extent, block: u64, window: Window) -> Self {
        Self { region, block, window, kept_bytes: 0, reserved: 0 }
    }

    /// Bytes that entries may take in all: a snapshot of them must fit half of the ring.
    pub fn budget(&self) -> u64 {
        (self.region.len / 2).saturating_sub(2 * self.block)
    }

    /// Bytes of the entries in memory.
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Promises bytes to entries, if what is kept and promised still fits a snapshot.
    pub fn reserve(&mut self, bytes: u64) -> bool {
        let fits = self.has_room(bytes);
        if fits {
            self.reserved += bytes;
        }
        fits
    }

    /// Whether so many bytes more could be promised.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.kept_bytes + self.reserved + bytes <= self.budget()
    }

    /// Takes a promise back.
    pub fn unreserve(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    /// Appends to a collection's log in memory and forgets what is beyond the bounds.
    pub fn append(&mut self, collection: &mut Collection, version: LogVersion, entry: Bytes, keep: usize) {
        self.kept_bytes += length(&entry) + ENTRY_OVERHEAD;
        collection.log.push_back((version, entry));
        if collection.log.len() >= limits::PG_LOG_ENTRIES_MAX || self.kept_bytes > self.budget() / 2 {
            self.forget(collection, keep);
        }
    }

    /// Forgets the oldest entries of a collection down to `keep`.
    pub fn forget(&mut self, collection: &mut Collection, keep: usize) {
        while collection.log.len() > keep {
            let Some((_, entry)) = collection.log.pop_front() else { break };
            self.kept_bytes -= length(&entry) + ENTRY_OVERHEAD;
        }
    }

    /// Forgets a collection's log.
    pub fn clear(&mut self, collection: &mut Collection) {
        self.forget(collection, 0);
    }

    /// Encodes what a checkpoint appends: `changes`, or all that is kept if the window would outgrow its half. Gives
    /// the bytes with their position, and the window once they are written.
    pub fn chunk(
        &self,
        changes: &[LogChange],
        collections: &BTreeMap<CollectionId, Collection>,
    ) -> (Option<(u64, Vec<u8>)>, Window) {
        if changes.is_empty() {
            return (None, self.window);
        }
        let Window { tail, head } = self.window;
        let appended = self.encode(head, changes);
        let end = head + length(&appended);
        if end - tail <= self.region.len / 2 {
            return (Some((head, appended)), Window { tail, head: end });
        }
        let entries = collections.iter().flat_map(|(id, collection)| {
            collection.log.iter().map(|(version, entry)| LogChange::Entry(*id, *version, entry.clone()))
        });
        let snapshot = self.encode(head, &entries.collect::<Vec<_>>());
        let end = head + length(&snapshot);
        assert!(end - head <= self.region.len / 2, "what is kept fits half of the log's region");
        (Some((head, snapshot)), Window { tail: head, head: end })
    }

    /// A checkpoint with this window is durable.
    pub fn advance(&mut self, window: Window) {
        self.window = window;
    }

    /// The ring's region.
    pub fn region(&self) -> Extent {
        self.region
    }

    fn encode(&self, position: u64, changes: &[LogChange]) -> Vec<u8> {
        let bytes_of = |change: &LogChange| match change {
            LogChange::Entry(_, _, entry) => ENTRY_FIXED_BYTES + entry.len(),
            LogChange::Drop(_) => ENTRY_FIXED_BYTES,
        };
        let mut body = Encoder::with_capacity(changes.iter().map(bytes_of).sum());
        for change in changes {
            match change {
                LogChange::Entry(id, version, entry) => {
                    body.u8(1);
                    body.i64(id.pool);
                    body.u32(id.seed);
                    body.u32(version.epoch);
                    body.u64(version.version);
                    body.bytes(entry);
                }
                LogChange::Drop(id) => {
                    body.u8(2);
                    body.i64(id.pool);
                    body.u32(id.seed);
                }
            }
        }
        let mut e = Encoder::with_capacity(HEADER_BYTES + body.len());
        e.u32(MAGIC);
        e.u64(position);
        e.u64(length(body.as_slice()));
        e.count(changes.len());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(e.as_slice()), body.as_slice());
        e.u32(checksum);
        e.raw(body.as_slice());
        let mut chunk = e.finish();
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        chunk.resize(chunk.len().next_multiple_of(block), 0);
        chunk
    }
}

/// Reads the window of a checkpoint: everything in it was durable, so anything wrong is corruption.
pub fn read(ring: &Ring, window: Window, block: u64) -> DecodeResult<Vec<LogChange>> {
    let mut changes = Vec::new();
    let mut position = window.tail;
    let bad = |what, position| DecodeError::Value { what, at: 0, value: position };
    while position < window.head {
        let header_len = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
        let header = ring.read(position, header_len).ok_or(bad("log ring", position))?;
        let mut d = Decoder::new(header.clone());
        let (magic, at, body_len) =
            (d.u32("magic of a log chunk")?, d.u64("position of a log chunk")?, d.u64("log chunk")?);
        let (count, stored) = (d.u32("log changes")?, d.u32("checksum")?);
        if magic != MAGIC || at != position {
            return Err(bad("log chunk at position", position));
        }
        let len = body_len.checked_add(header_len).and_then(|len| len.checked_next_multiple_of(block));
        let whole = len.and_then(|len| Some((len, ring.read(position, len)?)));
        let Some((len, whole)) = whole else { return Err(bad("length of a log chunk", body_len)) };
        let body_end = HEADER_BYTES + usize::try_from(body_len).unwrap_or(usize::MAX);
        let body = whole.slice(HEADER_BYTES..body_end);
        let covered = header.get(..HEADER_BYTES - 4).unwrap_or_default();
        if stored != crc32c::crc32c_append(crc32c::crc32c(covered), &body) {
            return Err(bad("checksum of the log chunk at position", position));
        }
        let mut d = Decoder::new(body);
        for _ in 0..count {
            let kind = d.u8("kind of log change")?;
            let id = CollectionId { pool: d.i64("pool")?, seed: d.u32("seed")? };
            changes.push(match kind {
                1 => {
                    let version = LogVersion { epoch: d.u32("epoch")?, version: d.u64("version")? };
                    // In memory of its own: a part of what was read would keep all of the ring.
                    LogChange::Entry(id, version, Bytes::copy_from_slice(&d.bytes("log entry")?))
                }
                2 => LogChange::Drop(id),
                other => return d.invalid("kind of log change", 0, other.into()),
            });
        }
        d.end("log chunk")?;
        position += len;
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_stays_below_half_and_the_former_one_intact() {
        let size = 64 * 1024;
        let mut log = PgLog::new(Extent::new(0, size), 512, Window { tail: 0, head: 0 });
        let mut ring = vec![0u8; size as usize];
        let id = CollectionId { pool: 1, seed: 0 };
        let mut collections = BTreeMap::from([(id, Collection::default())]);
        let (mut former, mut former_log) = (log.window, Vec::new());
        for round in 0..200u64 {
            let mut changes = Vec::new();
            for n in 0..5 {
                let version = LogVersion { epoch: 1, version: round * 5 + n + 1 };
                let entry = Bytes::from(vec![round as u8; 100]);
                changes.push(LogChange::Entry(id, version, entry.clone()));
                log.append(collections.get_mut(&id).expect("there"), version, entry, 20);
            }
            let (chunk, window) = log.chunk(&changes, &collections);
            let (position, bytes) = chunk.expect("changes");
            for (at, byte) in bytes.iter().enumerate() {
                ring[(position as usize + at) % size as usize] = *byte;
            }
            let view = Ring::new(Bytes::from(ring.clone()));
            assert!(window.head - window.tail <= size / 2);
            assert_eq!(read(&view, former, 512).expect("the former window is whole"), former_log);
            let found = read(&view, window, 512).expect("readable");
            let kept: Vec<_> = collections[&id].log.iter().cloned().collect();
            let tail: Vec<_> = found
                .iter()
                .filter_map(|change| match change {
                    LogChange::Entry(_, version, entry) => Some((*version, entry.clone())),
                    LogChange::Drop(_) => None,
                })
                .collect();
            assert!(tail.ends_with(&kept), "round {round}");
            former_log = found;
            former = window;
            log.advance(window);
        }
    }

    #[test]
    fn damage_is_an_error() {
        let log = PgLog::new(Extent::new(0, 8192), 512, Window { tail: 0, head: 0 });
        let id = CollectionId { pool: 1, seed: 0 };
        let changes =
            vec![LogChange::Entry(id, LogVersion::default(), Bytes::from_static(b"e")), LogChange::Drop(id)];
        let (chunk, window) = log.chunk(&changes, &BTreeMap::new());
        let (_, mut bytes) = chunk.expect("changes");
        bytes.resize(8192, 0);
        assert_eq!(read(&Ring::new(Bytes::from(bytes.clone())), window, 512), Ok(changes));
        for at in 0..60 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(read(&Ring::new(Bytes::from(damaged)), window, 512).is_err(), "byte {at}");
        }
    }
}
