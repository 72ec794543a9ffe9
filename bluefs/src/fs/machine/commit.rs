//! Making staged records durable: a group in the log, or a new log when the present one is full.
//!
//! One commit at a time; it is durable before the next begins. A new log is written and flushed before a superblock
//! names it, both superblock copies are durable before the old log's space is free. Mostly a new log comes in time, by
//! [`super::rewrite`], and no commit has to write one.

use std::collections::VecDeque;

use allocator::{AllocError, Extent, Request};
use nvme::DmaBuf;

use crate::fs::error::{FsError, FsResult};
use crate::fs::fault::Planted;
use crate::fs::limits::{GROUP_BYTES_MAX, LOG_BYTES_MAX, LOG_EXTENTS_MAX, LOG_PER_SNAPSHOT};
use crate::fs::log::{encode_group, group_bytes};
use crate::fs::machine::rewrite::Rewriting;
use crate::fs::machine::{Machine, Ticket};
use crate::fs::record::Record;
use crate::fs::superblock::Superblock;

/// Something for the shell to do before it asks for the next.
#[derive(Debug)]
pub enum Io {
    /// Write these bytes at these offsets, in any order.
    Write(Vec<(u64, DmaBuf)>),
    /// Flush the device, if its cache is volatile.
    Flush,
}

/// A commit under way: do its I/O in order, then [`Machine::commit_done`].
#[derive(Debug)]
#[must_use = "a commit that is not carried out blocks all others"]
pub struct Commit {
    ios: VecDeque<Io>,
    covers: Ticket,
    /// The log to switch to, if this writes a new one.
    new_log: Option<(Superblock, LogPosition)>,
    /// It goes to the log that is being written beside, too.
    both: bool,
}

impl Commit {
    /// The next I/O.
    pub fn next_io(&mut self) -> Option<Io> {
        self.ios.pop_front()
    }
}

/// Where the next group goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub(super) bytes: u64,
    pub(super) groups: u64,
}

impl Machine {
    /// Starts a commit of everything staged. `None` while another is under way.
    pub fn begin_commit(&mut self) -> FsResult<Option<Commit>> {
        self.check_alive()?;
        if self.committing {
            return Ok(None);
        }
        assert!(self.staged_ticket > self.durable_ticket, "a commit of nothing");
        let payload = Record::encode_all(&self.staged);
        let commit = if self.has_room_for(&payload) {
            self.plan_group(&payload)
        } else if self.rewriting.is_some() {
            // The new log is nearly there.
            return Ok(None);
        } else {
            self.plan_new_log()?
        };
        self.committing = true;
        Ok(Some(commit))
    }

    /// Whether these records fit a group, and that the present log.
    pub(super) fn has_room_for(&self, payload: &[u8]) -> bool {
        let bytes = group_bytes(payload.len(), self.block_size() as usize) as u64;
        payload.len() <= GROUP_BYTES_MAX && self.log.bytes + bytes <= self.superblock.log_bytes()
    }

    /// Starts writing a new log even though the present one has room: at mount, so that a log is only ever
    /// written by one mount, and on request.
    pub fn begin_compaction(&mut self) -> FsResult<Option<Commit>> {
        self.check_alive()?;
        if self.committing || self.rewriting.is_some() {
            return Ok(None);
        }
        let commit = self.plan_new_log()?;
        self.committing = true;
        Ok(Some(commit))
    }

    /// All I/O of the commit completed.
    pub fn commit_done(&mut self, commit: Commit) {
        assert!(self.committing && commit.ios.is_empty(), "a commit ends when its I/O is done");
        self.committing = false;
        self.switching = false;
        self.durable_ticket = commit.covers;
        if let Some((superblock, position)) = commit.new_log {
            let old = std::mem::replace(&mut self.superblock, superblock);
            self.log = position;
            self.rewrite_refused = 0;
            self.stats.compactions += 1;
            self.release(old.log);
        }
        self.release_durable_frees();
        self.rewriting_committed(commit.both);
    }

    /// Room for a new log that holds the present state, unless one is being written.
    pub(super) fn log_reserve(&self) -> u64 {
        // A snapshot is never longer than the records that led to it.
        let wanted = self.superblock.log_bytes() + self.superblock.log_bytes_min;
        wanted.saturating_sub(self.rewriting.as_ref().map_or(0, Rewriting::log_bytes))
    }

    /// A group of what is staged, which fits the log.
    pub(super) fn plan_group(&mut self, payload: &[u8]) -> Commit {
        let records = std::mem::take(&mut self.staged);
        let block = self.block_size() as usize;
        let mut writes = Vec::new();
        if !records.is_empty() {
            let group = encode_group(self.superblock.log_id, self.log.groups, payload, block);
            writes = log_writes(&self.superblock.log, self.log.bytes, &group);
            self.log.bytes += group.len() as u64;
            self.log.groups += 1;
            self.stats.groups += 1;
        }
        let last = self.staged_ticket;
        let both = self.rewriting.as_ref().is_some_and(Rewriting::is_written);
        writes.extend(self.rewriting.as_mut().into_iter().flat_map(|new| new.also(&records, last, block)));
        self.stats.written_log += writes.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        let ios = if writes.is_empty() { VecDeque::new() } else { [Io::Write(writes), Io::Flush].into() };
        Commit { ios, covers: last, new_log: None, both }
    }

    /// What the new log has missed, and nothing else.
    pub(super) fn plan_missed(&mut self) -> Commit {
        let (block, last) = (self.block_size() as usize, self.staged_ticket);
        let writes: Vec<_> =
            self.rewriting.as_mut().into_iter().flat_map(|new| new.also(&[], last, block)).collect();
        self.stats.written_log += writes.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        let ios = if writes.is_empty() { VecDeque::new() } else { [Io::Write(writes), Io::Flush].into() };
        Commit { ios, covers: self.durable_ticket, new_log: None, both: true }
    }

    fn plan_new_log(&mut self) -> FsResult<Commit> {
        let (superblock, snapshot, position) = self.new_log(0, LOG_BYTES_MAX)?;
        let mut ios = self.snapshot_ios(&superblock, &snapshot);
        ios.extend(self.superblock_ios(&superblock));
        self.staged.clear();
        self.switching = true;
        Ok(Commit { ios, covers: self.staged_ticket, new_log: Some((superblock, position)), both: false })
    }

    /// The log that is to follow: its superblock, its snapshot, and where it goes on. It has room for so many bytes more, and not
    /// more than `most` in all.
    pub(super) fn new_log(&mut self, more: u64, most: u64) -> FsResult<(Superblock, Vec<u8>, LogPosition)> {
        let generation = self.superblock.generation + 1;
        let log_id = mix(mix(self.options.nonce) ^ generation);
        let block = self.block_size() as usize;
        let (snapshot, groups) = encode_snapshot(&self.tree.snapshot(), log_id, block);
        let bytes = snapshot.len() as u64;
        let log = self.allocate_log(bytes, more, most)?;
        let mut superblock = Superblock {
            generation,
            device_size: self.device_size,
            log_id,
            snapshot_bytes: bytes,
            log,
            ..self.superblock.clone()
        };
        superblock.set_fast(self.fast);
        Ok((superblock, snapshot, LogPosition { bytes, groups }))
    }

    /// Writes a new log whole, durable before a superblock names it.
    pub(super) fn snapshot_ios(&mut self, superblock: &Superblock, snapshot: &[u8]) -> VecDeque<Io> {
        self.stats.written_log += superblock.log_bytes();
        let mut ios = VecDeque::from([Io::Write(new_log_writes(superblock, snapshot))]);
        if !self.fault.is(Planted::LogReplacedAtOnce) {
            ios.push_back(Io::Flush);
        }
        ios
    }

    /// Writes both copies of a superblock, one durable before the other is touched.
    pub(super) fn superblock_ios(&mut self, superblock: &Superblock) -> VecDeque<Io> {
        let mut ios = VecDeque::new();
        let together = [Planted::LogReplacedAtOnce, Planted::CopiesReplacedTogether];
        let together = together.into_iter().any(|mistake| self.fault.is(mistake));
        let first = 1 - self.good_copy;
        for copy in [first, self.good_copy] {
            let bytes = DmaBuf::from_slice_padded(&superblock.encode(), self.block_size() as usize);
            self.stats.written_log += bytes.len() as u64;
            ios.push_back(Io::Write(vec![(self.options.superblocks[copy], bytes)]));
            if copy != first || !together {
                ios.push_back(Io::Flush);
            }
        }
        ios
    }

    /// The best log for a snapshot, as small as it must be when space is short, but with room for so many bytes more; not more than
    /// `most`.
    fn allocate_log(&mut self, snapshot: u64, more: u64, most: u64) -> FsResult<Vec<Extent>> {
        // A longer one is not a log that could be mounted.
        let most = most.min(LOG_BYTES_MAX);
        let unit = self.unit();
        // What comes later is cut into groups again, each of which ends with its block.
        let groups = more / GROUP_BYTES_MAX as u64 + 4;
        let least = (snapshot + more + groups * self.block_size()).next_multiple_of(unit);
        let best = (snapshot * LOG_PER_SNAPSHOT).clamp(self.superblock.log_bytes_min, LOG_BYTES_MAX);
        let mut len = best.next_multiple_of(unit).min(most / unit * unit).max(least);
        if least > most {
            return Err(FsError::Limit { what: "bytes of the log: too many files" });
        }
        loop {
            let request = Request { len, unit, extents_max: LOG_EXTENTS_MAX, hint: None };
            let mut extents = Vec::new();
            match self.stock.allocate_log(&request, &mut extents) {
                Ok(()) => return Ok(extents),
                Err(AllocError::NoSpace { .. } | AllocError::Fragmented { .. }) if len > least => {
                    len = (len / 2).next_multiple_of(unit).max(least);
                }
                Err(_) => {
                    return Err(FsError::NoSpace { wanted: len, available: self.stock.free_bytes() });
                }
            }
        }
    }
}

/// Frames records as the first groups of a log; gives the bytes and how many groups.
pub(super) fn encode_snapshot(records: &[Record], log_id: u64, block: usize) -> (Vec<u8>, u64) {
    let mut bytes = Vec::new();
    let mut groups = 0;
    let mut payload = Vec::new();
    for record in records {
        let encoded = Record::encode_all([record]);
        if payload.len() + encoded.len() > GROUP_BYTES_MAX {
            bytes.extend(encode_group(log_id, groups, &payload, block));
            groups += 1;
            payload.clear();
        }
        payload.extend(encoded);
    }
    bytes.extend(encode_group(log_id, groups, &payload, block));
    (bytes, groups + 1)
}

/// A snapshot and zeroes up to the log's end: the log lies in space that was lent, of which blocks may be unreadable
/// until they are written, and a mount reads all of it.
pub(super) fn new_log_writes(superblock: &Superblock, snapshot: &[u8]) -> Vec<(u64, DmaBuf)> {
    let mut whole = snapshot.to_vec();
    whole.resize(superblock.log_bytes() as usize, 0);
    log_writes(&superblock.log, 0, &whole)
}

/// Where the bytes at `start` of the log go on the device.
pub(super) fn log_writes(log: &[Extent], start: u64, bytes: &[u8]) -> Vec<(u64, DmaBuf)> {
    let mut writes = Vec::new();
    let (mut skip, mut rest) = (start, bytes);
    for extent in log {
        if skip >= extent.len {
            skip -= extent.len;
            continue;
        }
        let (head, tail) = rest.split_at(rest.len().min((extent.len - skip) as usize));
        if head.is_empty() {
            break;
        }
        writes.push((extent.start + skip, DmaBuf::from_slice_padded(head, 1)));
        rest = tail;
        skip = 0;
    }
    assert!(rest.is_empty(), "{} bytes do not fit the log", rest.len());
    writes
}

/// Spreads a nonce over 64 bits (the finaliser of splitmix64).
pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
