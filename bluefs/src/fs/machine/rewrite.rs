//! A new log that is written while commits go on: beside the present one, which is half full.
//!
//! Stages, each begun by whoever carries the rewriting out:
//! 1. The new log gets a snapshot, and is flushed. Commits go to the present log; their records are kept.
//! 2. The next commit puts these records behind the snapshot. From then on every commit writes its group to both logs, with one
//!    flush for both. So both say the same of all that is durable.
//! 3. The superblock's copies name the new log, one after the other. Whichever a crash leaves, its log has everything.
//! 4. Between two commits the new log becomes the present one, and the space of the old one is free.
//!
//! So no commit ever waits but for the one before it; nor does the rewriting wait for a moment without commits, as the next one
//! does what there is to do. If the present log is full before the new one takes its place, which is
//! far smaller than half of it, commits wait for that, and if nobody rewrites it, a commit does so itself.

use std::collections::VecDeque;

use crate::fs::error::{FsError, FsResult};
use crate::fs::limits::GROUP_BYTES_MAX;
use crate::fs::log::encode_group;
use crate::fs::machine::commit::{Commit, Io, LogPosition, log_writes};
use crate::fs::machine::{Machine, Ticket};
use crate::fs::record::Record;
use crate::fs::superblock::Superblock;

/// A new log on its way. See the module.
pub(super) struct Rewriting {
    superblock: Superblock,
    position: LogPosition,
    /// What was staged up to here is in the snapshot.
    snapshot: Ticket,
    /// Committed since, and not in the new log yet.
    missed: Vec<Record>,
    /// The snapshot is durable: commits go to both logs, the next one with what was missed.
    is_written: bool,
    /// One of these is durable: both logs say the same.
    is_equal: bool,
    /// Both copies of the superblock name the new log.
    is_named: bool,
}

impl Rewriting {
    /// Bytes of the new log.
    pub(super) fn log_bytes(&self) -> u64 {
        self.superblock.log_bytes()
    }

    /// What a commit writes to the new log: its own records, of which the last was staged as `last`. They are kept for later if
    /// commits do not go to both yet.
    pub(super) fn also(
        &mut self,
        records: &[Record],
        last: Ticket,
        block: usize,
    ) -> Vec<(u64, nvme::DmaBuf)> {
        let fresh =
            usize::try_from(last.saturating_sub(self.snapshot)).unwrap_or(usize::MAX).min(records.len());
        self.missed.extend_from_slice(&records[records.len() - fresh..]);
        if self.is_written { self.write_missed(block) } else { Vec::new() }
    }

    /// Whether a commit that begins now goes to both logs.
    pub(super) fn is_written(&self) -> bool {
        self.is_written
    }

    fn write_missed(&mut self, block: usize) -> Vec<(u64, nvme::DmaBuf)> {
        let mut writes = Vec::new();
        let mut payload = Vec::new();
        let mut write = |payload: &[u8], position: &mut LogPosition| {
            let group = encode_group(self.superblock.log_id, position.groups, payload, block);
            writes.extend(log_writes(&self.superblock.log, position.bytes, &group));
            position.bytes += group.len() as u64;
            position.groups += 1;
        };
        for record in self.missed.drain(..) {
            let encoded = Record::encode_all([&record]);
            if payload.len() + encoded.len() > GROUP_BYTES_MAX {
                write(&payload, &mut self.position);
                payload.clear();
            }
            payload.extend(encoded);
        }
        if !payload.is_empty() {
            write(&payload, &mut self.position);
        }
        writes
    }
}

impl Machine {
    /// Whether it is time for a new log, and nobody writes one.
    pub fn wants_rewrite(&self) -> bool {
        let size = self.superblock.log_bytes();
        // Where there was no room it is looked for again after a while, not with every commit: that takes the whole snapshot.
        let is_refused = self.rewrite_refused > 0 && self.log.bytes < self.rewrite_refused + size / 16;
        let is_filling = 2 * self.log.bytes > size && !is_refused;
        is_filling && self.rewriting.is_none() && !self.switching && self.failed.is_none()
    }

    /// Begins to write a new log beside the present one, if it is time to: what to do before [`Machine::begin_both`]. None also if
    /// there is no room for one that takes what the present one may still get.
    pub fn begin_rewrite(&mut self) -> FsResult<Option<VecDeque<Io>>> {
        self.check_alive()?;
        if !self.wants_rewrite() {
            return Ok(None);
        }
        let left = self.superblock.log_bytes() - self.log.bytes;
        // It takes the room that is kept for it and nobody else's, which was promised to others.
        let reserve = self.log_reserve();
        let (superblock, snapshot, position) = match self.new_log(left, reserve) {
            Ok(new) => new,
            Err(FsError::NoSpace { .. } | FsError::Limit { .. }) => {
                self.rewrite_refused = self.log.bytes;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let ios = self.snapshot_ios(&superblock, &snapshot);
        let snapshot = self.staged_ticket;
        self.rewriting = Some(Rewriting {
            superblock,
            position,
            snapshot,
            missed: Vec::new(),
            is_written: false,
            is_equal: false,
            is_named: false,
        });
        Ok(Some(ios))
    }

    /// The new log has its snapshot, durably: from now on commits go to both. Gives such a commit to carry out, or nothing if
    /// another one made both logs equal. None as long as one is under way.
    pub fn begin_both(&mut self) -> FsResult<Option<Option<Commit>>> {
        self.check_alive()?;
        let Some(rewriting) = &mut self.rewriting else { return Ok(Some(None)) };
        rewriting.is_written = true;
        if rewriting.is_equal {
            return Ok(Some(None));
        }
        if self.committing {
            return Ok(None);
        }
        let payload = Record::encode_all(&self.staged);
        let commit = match self.has_room_for(&payload) {
            true => self.plan_group(&payload),
            // They wait until the new log takes over, and then go there.
            false => self.plan_missed(),
        };
        self.committing = true;
        Ok(Some(Some(commit)))
    }

    /// A commit is durable that went to both logs, if `both`.
    pub(super) fn rewriting_committed(&mut self, both: bool) {
        let Some(rewriting) = &mut self.rewriting else { return };
        rewriting.is_equal |= both;
        if rewriting.is_named {
            self.take_over();
        }
    }

    /// Both logs say the same: the superblock's copies, one durable before the other is touched.
    pub fn switch_ios(&mut self) -> VecDeque<Io> {
        let Some(rewriting) = &self.rewriting else { return VecDeque::new() };
        let superblock = rewriting.superblock.clone();
        self.superblock_ios(&superblock)
    }

    /// Both copies name the new log: it is the present one, at once or when the commit under way ends, which writes to both.
    /// False until then.
    pub fn end_rewrite(&mut self) -> FsResult<bool> {
        self.check_alive()?;
        if let Some(rewriting) = &mut self.rewriting {
            assert!(rewriting.is_equal, "a log is named that has not everything");
            rewriting.is_named = true;
            if !self.committing {
                self.take_over();
            }
        }
        Ok(self.rewriting.is_none())
    }

    fn take_over(&mut self) {
        let Some(Rewriting { superblock, position, missed, snapshot, .. }) = self.rewriting.take() else {
            return;
        };
        assert!(missed.is_empty(), "both logs have the same since they are both written");
        // What did not fit the old log any more and is in the snapshot is durable with it.
        let later = usize::try_from(self.staged_ticket - snapshot).unwrap_or(usize::MAX);
        self.staged.drain(..self.staged.len().saturating_sub(later));
        self.durable_ticket = self.durable_ticket.max(snapshot);
        let old = std::mem::replace(&mut self.superblock, superblock);
        self.log = position;
        self.rewrite_refused = 0;
        self.stats.compactions += 1;
        self.release(old.log);
        self.release_durable_frees();
    }
}
