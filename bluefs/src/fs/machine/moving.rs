//! Moving files' data from one space to the other: back to the fast space when it has room, or out of it for good.
//!
//! A piece at a time: it is copied to new extents and flushed, and a record swaps them for the old ones. These are free once
//! the record is durable and no read that was planned before still runs. A file that somebody writes is left alone; one
//! that changed while it was copied keeps what it has.

use std::collections::BTreeSet;
use std::sync::Arc;

use allocator::{Extent, Request};

use crate::fs::error::{FsError, FsResult};
use crate::fs::fault::Planted;
use crate::fs::limits::{
    FILE_EXTENTS_MAX, MOVE_BYTES, MOVE_KEEPS_SHARE, RECORD_EXTENTS_MAX, WRITE_CHUNK_BYTES,
};
use crate::fs::machine::{Machine, Ticket};
use crate::fs::record::{Ino, Record};
use crate::fs::tree::extents_within;

/// Which way data moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// What lies in main space, into the fast one as long as that keeps some room for what is new.
    IntoFast,
    /// What lies in the fast space, out of it; nothing more is put there.
    OutOfFast,
}

/// A copy to make, then [`Machine::move_done`] or [`Machine::move_failed`].
#[derive(Debug)]
#[must_use = "a move that does not end is the last of its mount"]
pub struct MovePlan {
    ino: Ino,
    /// Where the piece is in the file's allocation.
    at: u64,
    old: Vec<Extent>,
    new: Vec<Extent>,
}

/// Bytes to copy at once: from, to, how many.
pub type CopyStep = (u64, u64, usize);

/// Extents that a move let go of.
#[derive(Debug)]
pub(super) struct Moved {
    ticket: Ticket,
    ino: Ino,
    /// Held by every read that was planned before.
    lease: Arc<()>,
    extents: Vec<Extent>,
}

/// The move under way, and what moves are not tried again.
#[derive(Debug, Default)]
pub(super) struct Moving {
    now: Option<Ino>,
    /// Its file was opened for writing since.
    changed: bool,
    /// Could not be read.
    unmovable: BTreeSet<Ino>,
    pub(super) moved: Vec<Moved>,
}

impl Moving {
    /// Somebody is about to change the file.
    pub(super) fn touched(&mut self, ino: Ino) {
        self.changed |= self.now == Some(ino);
    }

    /// What moves let go of and is not free yet.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Extent> {
        self.moved.iter().flat_map(|moved| &moved.extents)
    }

    /// Whether a commit would bring some of them nearer to being free.
    pub(super) fn waits_for_commit(&self, durable: Ticket) -> bool {
        self.moved.iter().any(|moved| moved.ticket > durable)
    }

    /// Takes what is free now. A read may be of several pieces that moved one after the other, so a file's go in order.
    pub(super) fn take_free(&mut self, durable: Ticket) -> Vec<Extent> {
        let mut held = BTreeSet::new();
        let (free, kept) = std::mem::take(&mut self.moved).into_iter().partition::<Vec<_>, _>(|moved| {
            let is_read = Arc::strong_count(&moved.lease) > 1;
            let is_free = moved.ticket <= durable && !is_read && !held.contains(&moved.ino);
            if !is_free {
                held.insert(moved.ino);
            }
            is_free
        });
        self.moved = kept;
        free.into_iter().flat_map(|moved| moved.extents).collect()
    }
}

impl MovePlan {
    /// Bytes that move.
    pub fn bytes(&self) -> u64 {
        self.new.iter().map(|extent| extent.len).sum()
    }

    /// What to copy; flush afterwards.
    pub fn steps(&self) -> Vec<CopyStep> {
        let mut steps = Vec::new();
        let (mut from, mut to) = (self.old.iter().copied(), self.new.iter().copied());
        let (mut source, mut target) = (from.next(), to.next());
        while let (Some(old), Some(new)) = (source, target) {
            let len = old.len.min(new.len).min(WRITE_CHUNK_BYTES as u64);
            steps.push((old.start, new.start, len as usize));
            let rest = |extent: Extent| {
                (extent.len > len).then(|| Extent::new(extent.start + len, extent.len - len))
            };
            source = rest(old).or_else(|| from.next());
            target = rest(new).or_else(|| to.next());
        }
        steps
    }
}

impl Machine {
    /// The next piece to move, if there is one, there is room for it, and no move is under way.
    pub fn begin_move(&mut self, way: Move) -> FsResult<Option<MovePlan>> {
        self.check_alive()?;
        let Some(fast) = self.fast else { return Ok(None) };
        if self.moving.now.is_some() {
            return Ok(None);
        }
        let unit = self.unit();
        let room = match way {
            Move::IntoFast => self.file_room().0.saturating_sub(fast.len / MOVE_KEEPS_SHARE),
            Move::OutOfFast => {
                self.stock.retire_fast();
                self.room()
            }
        };
        let most = room.min(MOVE_BYTES) / unit * unit;
        let Some((ino, at, len)) = self.misplaced(way).filter(|_| most > 0) else { return Ok(None) };
        let len = len.min(most);
        let request = Request { len, unit, extents_max: RECORD_EXTENTS_MAX, hint: None };
        let leave = self.log_reserve();
        let mut new = Vec::new();
        let allocated = match way {
            Move::IntoFast => self.stock.allocate_fast(&request, &mut new),
            Move::OutOfFast => self.stock.allocate(&request, leave, &mut new),
        };
        if allocated.is_err() {
            return Ok(None);
        }
        let old = extents_within(&self.tree.inode(ino)?.extents, at, len);
        self.hold_for_move(ino)?;
        Ok(Some(MovePlan { ino, at, old, new }))
    }

    /// Nothing more is put into the fast space, until the next mount.
    pub fn retire_fast(&mut self) {
        self.stock.retire_fast();
    }

    /// Bytes of the fast space that are in use.
    pub fn fast_used(&self) -> u64 {
        self.fast.map_or(0, |fast| self.stock.fast_used(self.tree.space_bytes_within(fast)))
    }

    /// Gives the fast space up, once nothing lies there any more and the log is elsewhere: the log that comes next is without it.
    pub fn drop_fast(&mut self) -> FsResult<()> {
        self.check_alive()?;
        let Some(fast) = self.fast else { return Ok(()) };
        self.retire_fast();
        let used = self.fast_used();
        if used > 0 {
            let available = self.room();
            return Err(FsError::NoSpace { wanted: used, available });
        }
        for extent in self.by_lent_extent(fast) {
            self.stage(Record::RemoveSpace { extent })?;
        }
        self.stock.drop_fast();
        self.fast = None;
        Ok(())
    }

    /// The copy is made and flushed. Gives what to wait for, after which the old place is let go of; nothing if the file
    /// changed meanwhile, or went.
    pub fn move_done(&mut self, plan: MovePlan) -> FsResult<Option<Ticket>> {
        self.check_alive()?;
        let ino = plan.ino;
        let len = plan.bytes();
        let is_same = self.tree.files.get(&ino).is_some_and(|inode| {
            plan.at + len <= inode.allocated && extents_within(&inode.extents, plan.at, len) == plan.old
        });
        let fits =
            self.tree.files.get(&ino).is_some_and(|inode| {
                inode.extents.len() + plan.new.len() + plan.old.len() <= FILE_EXTENTS_MAX
            });
        if !fits {
            self.moving.unmovable.insert(ino);
        }
        if !is_same || !fits || self.moving.changed {
            self.end_move(plan);
            return Ok(None);
        }
        let freed = self.stage(Record::FileMove { ino, at: plan.at, extents: plan.new })?;
        let ticket = self.staged_ticket;
        let extents = self.tree.inode(ino)?.extents.clone();
        let open = self.open_file_mut(ino)?;
        open.extents = extents;
        open.ticket = ticket;
        let lease = std::mem::take(&mut open.lease);
        match self.fault.is(Planted::MovedBeforeLogged) {
            true => self.release(freed),
            false => self.moving.moved.push(Moved { ticket, ino, lease, extents: freed }),
        }
        self.moving.now = None;
        self.close_read(ino);
        self.stats.moved_bytes += len;
        Ok(Some(ticket))
    }

    /// The piece could not be read: its file stays where it is.
    pub fn move_failed(&mut self, plan: MovePlan) {
        self.moving.unmovable.insert(plan.ino);
        self.end_move(plan);
    }

    fn hold_for_move(&mut self, ino: Ino) -> FsResult<()> {
        let path = self.path_of(ino);
        self.open_inode(ino, &path)?.readers += 1;
        self.moving.now = Some(ino);
        self.moving.changed = false;
        Ok(())
    }

    fn end_move(&mut self, plan: MovePlan) {
        self.moving.now = None;
        self.moving.changed = false;
        self.release(plan.new);
        self.close_read(plan.ino);
    }

    /// A piece that lies in the other space than it should: its file, its place in that, and its bytes. Small pieces of the main
    /// space lie side by side in a file, whole units together, so this is of whole units, too.
    fn misplaced(&self, way: Move) -> Option<(Ino, u64, u64)> {
        let is_wrong = |extent: &&Extent| self.stock.is_fast(**extent) == (way == Move::OutOfFast);
        let is_still = |ino: &Ino| {
            !self.moving.unmovable.contains(ino) && self.open.get(ino).is_none_or(|open| !open.writer)
        };
        let bytes = |extents: &[Extent]| extents.iter().map(|extent| extent.len).sum::<u64>();
        self.tree.files.iter().filter(|(ino, _)| is_still(ino)).find_map(|(ino, inode)| {
            let first = inode.extents.iter().position(|extent| is_wrong(&extent))?;
            let (right, rest) = inode.extents.split_at(first);
            let wrong = rest.iter().take_while(is_wrong).map(|extent| extent.len).sum();
            Some((*ino, bytes(right), wrong))
        })
    }

    /// For messages.
    fn path_of(&self, ino: Ino) -> String {
        let named = |(dir, names): (&String, &std::collections::BTreeMap<String, Ino>)| {
            let name = names.iter().find(|(_, other)| **other == ino)?.0;
            Some(format!("{dir}/{name}"))
        };
        self.tree.dirs.iter().find_map(named).unwrap_or_else(|| format!("file {}", ino.0))
    }
}
