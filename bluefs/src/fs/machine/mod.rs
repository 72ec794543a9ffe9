//! [`Machine`]: all of BlueFS but the I/O. Its callers, the two shells, hold it under one lock (or on one core)
//! and do what its plans say.
//!
//! Invariants:
//! - `tree` is what the log will say once everything staged is written; each staged record went through
//!   [`Tree::apply`], as in replay.
//! - A record that makes file data visible is staged only after that data was flushed.
//! - Space freed by a record is allocated again only after the record is durable, and after the last handle on
//!   the file is closed.
//! - After a failed write or flush nothing more is planned: what is durable is then unknown.

mod commit;
mod file;
mod mount;
mod moving;
mod rewrite;
mod small;
mod space;
mod stock;
mod transfer;

use std::collections::BTreeMap;

use allocator::Extent;

pub use commit::{Commit, Io};
pub use file::OpenFile;
pub use mount::{FormatOptions, Loaded, MountOptions, format, superblock_read_bytes};
pub use moving::{CopyStep, Move, MovePlan};
pub use transfer::{Amount, ReadPiece, ReadPlan, WritePlan};

use crate::fs::error::{FsError, FsResult};
use crate::fs::fault::{Fault, Planted};
use crate::fs::record::{Ino, Record};
use crate::fs::superblock::Superblock;
use crate::fs::tree::Tree;

/// Counts staged records; what is staged at or below the durable ticket survives a crash.
pub type Ticket = u64;

/// Numbers for reports; bytes and calls since the mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsStats {
    /// Lent to the file system.
    pub space_bytes: u64,
    /// Of that, in no file and not in the log.
    pub free_bytes: u64,
    /// Files.
    pub files: u64,
    /// Files removed by name.
    pub files_removed: u64,
    /// Written as file data, padding included.
    pub written_files: u64,
    /// Written as log and superblocks.
    pub written_log: u64,
    /// Read.
    pub read: u64,
    /// Device flushes.
    pub flushes: u64,
    /// Groups of log records.
    pub groups: u64,
    /// Logs written anew.
    pub compactions: u64,
    /// Unused until the next mount because an I/O into it was abandoned.
    pub leaked_bytes: u64,
    /// Appended but still in memory.
    pub buffered_bytes: u64,
    /// Of the space, on the fast device.
    pub fast_bytes: u64,
    /// Of that, in no file and not in the log.
    pub fast_free_bytes: u64,
    /// In files or the log, and on the main device although there is a fast one.
    pub spilled_bytes: u64,
    /// Moved between the two.
    pub moved_bytes: u64,
    /// Of the space, in pieces of the main device that are smaller than the allocation unit.
    pub small_bytes: u64,
}

/// See the module.
pub struct Machine {
    superblock: Superblock,
    options: MountOptions,
    /// Which superblock copy must stay while the other is replaced.
    good_copy: usize,
    /// Bytes of the main device; the next superblock says so.
    device_size: u64,
    /// The fast space; the next superblock says so.
    fast: Option<Extent>,
    tree: Tree,
    stock: stock::Stock,
    moving: moving::Moving,
    open: BTreeMap<Ino, OpenFile>,
    log: commit::LogPosition,
    staged: Vec<Record>,
    staged_ticket: Ticket,
    durable_ticket: Ticket,
    /// Freed by the record with that ticket.
    frees: Vec<(Ticket, Extent)>,
    committing: bool,
    /// The commit under way writes a new log.
    switching: bool,
    /// A new log that is written while commits go on.
    rewriting: Option<rewrite::Rewriting>,
    /// Bytes of the log when there was no room for a new one beside it; 0 if there was.
    rewrite_refused: u64,
    lending: space::Lending,
    /// The lender's last answer was no.
    refused: bool,
    /// Room that files which yield leave to the others.
    aside: u64,
    failed: Option<String>,
    stats: FsStats,
    fault: Fault,
}

impl Machine {
    /// Where a directory and a file name divide: at the last `/`. Directories are flat strings.
    pub fn split_path(path: &str) -> FsResult<(&str, &str)> {
        let trimmed = path.trim_matches('/');
        match trimmed.rsplit_once('/') {
            Some((dir, name)) if !dir.is_empty() && !name.is_empty() => Ok((dir.trim_end_matches('/'), name)),
            _ => Err(FsError::Name { path: path.to_owned() }),
        }
    }

    /// Refuses everything after a failure.
    pub fn check_alive(&self) -> FsResult<()> {
        match &self.failed {
            Some(reason) => Err(FsError::Failed { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Ends this mount: what is durable is not known any more.
    pub fn fail(&mut self, reason: &impl ToString) {
        if self.failed.is_none() {
            self.failed = Some(reason.to_string());
        }
        self.committing = false;
    }

    /// Makes a mistake from now on.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, planted: Planted) {
        self.fault = Fault::planted(planted);
    }

    /// Each file's extents in the order of its bytes, logged or not.
    pub fn extents(&self) -> impl Iterator<Item = (Ino, &[Extent])> {
        let logged = self.tree.files.iter().filter(|(ino, _)| !self.open.contains_key(ino));
        let logged = logged.map(|(ino, inode)| (*ino, inode.extents.as_slice()));
        logged.chain(self.open.iter().map(|(ino, open)| (*ino, open.extents.as_slice())))
    }

    /// What can be allocated.
    pub fn free_extents(&self) -> Vec<Extent> {
        self.stock.free_extents()
    }

    /// The metadata, durable or staged.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The superblock of the present log.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Numbers for reports.
    pub fn stats(&self) -> FsStats {
        let space_bytes = self.tree.space_bytes();
        let fast_bytes = self.fast.map_or(0, |fast| self.tree.space_bytes_within(fast));
        let main_free = self.stock.units_free() + self.stock.small_free();
        let in_main = space_bytes.saturating_sub(fast_bytes).saturating_sub(main_free);
        FsStats {
            space_bytes,
            free_bytes: self.stock.free_bytes(),
            small_bytes: self.stock.small_lent(),
            fast_bytes,
            fast_free_bytes: self.stock.fast_free(),
            spilled_bytes: if fast_bytes > 0 { in_main } else { 0 },
            files: self.tree.files.len() as u64,
            buffered_bytes: self.open.values().map(OpenFile::buffered).sum(),
            ..self.stats
        }
    }

    /// Counts an I/O that a shell did.
    pub fn count_flush(&mut self) {
        self.stats.flushes += 1;
    }

    /// Files of a directory.
    pub fn list(&self, dir: &str) -> FsResult<Vec<String>> {
        self.check_alive()?;
        let names = self.tree.dirs.get(dir).ok_or_else(|| FsError::NotFound { path: dir.to_owned() })?;
        Ok(names.keys().cloned().collect())
    }

    /// Directories, ascending.
    pub fn directories(&self) -> Vec<String> {
        self.tree.dirs.keys().cloned().collect()
    }

    /// Makes a directory; its parents need not exist.
    pub fn create_dir(&mut self, dir: &str) -> FsResult<Ticket> {
        self.stage_change(Record::DirCreate { dir: dir.to_owned() })
    }

    /// Removes an empty directory.
    pub fn remove_dir(&mut self, dir: &str) -> FsResult<Ticket> {
        self.stage_change(Record::DirRemove { dir: dir.to_owned() })
    }

    /// Size of a file as readers see it.
    pub fn size(&self, path: &str) -> FsResult<u64> {
        self.check_alive()?;
        let (dir, name) = Self::split_path(path)?;
        let ino = self.tree.find(dir, name)?;
        match self.open.get(&ino) {
            Some(open) => Ok(open.size()),
            None => Ok(self.tree.inode(ino)?.size),
        }
    }

    /// Size of an open file as readers see it.
    pub fn open_size(&self, ino: Ino) -> FsResult<u64> {
        let open = self.open.get(&ino);
        open.map(OpenFile::size).ok_or_else(|| FsError::NotFound { path: format!("open file {}", ino.0) })
    }

    /// Changes a name; a file of the new name goes.
    pub fn rename(&mut self, from: &str, to: &str) -> FsResult<Ticket> {
        self.check_alive()?;
        let ((dir, name), (to_dir, to_name)) = (Self::split_path(from)?, Self::split_path(to)?);
        let replaced = self.tree.find(to_dir, to_name).ok();
        let same = replaced.is_some() && replaced == self.tree.find(dir, name).ok();
        let record = Record::Rename {
            dir: dir.to_owned(),
            name: name.to_owned(),
            to_dir: to_dir.to_owned(),
            to_name: to_name.to_owned(),
        };
        let freed = self.stage(record)?;
        self.let_go(replaced.filter(|_| !same), freed);
        Ok(self.staged_ticket)
    }

    /// Removes a name and its file. Open handles keep reading it.
    pub fn unlink(&mut self, path: &str) -> FsResult<Ticket> {
        self.check_alive()?;
        let (dir, name) = Self::split_path(path)?;
        let ino = self.tree.find(dir, name)?;
        let freed = self.stage(Record::Unlink { dir: dir.to_owned(), name: name.to_owned() })?;
        self.stats.files_removed += 1;
        self.let_go(Some(ino), freed);
        Ok(self.staged_ticket)
    }

    /// What was staged last; wait for it to be durable to have everything so far.
    pub fn staged_ticket(&self) -> Ticket {
        self.staged_ticket
    }

    /// What is durable.
    pub fn durable_ticket(&self) -> Ticket {
        self.durable_ticket
    }

    /// Whether a commit would make space free.
    pub fn has_frees_waiting(&self) -> bool {
        self.frees.iter().any(|(ticket, _)| *ticket > self.durable_ticket)
            || self.moving.waits_for_commit(self.durable_ticket)
    }

    fn stage_change(&mut self, record: Record) -> FsResult<Ticket> {
        self.check_alive()?;
        let freed = self.stage(record)?;
        assert!(freed.is_empty(), "only unlink, rename, truncate and moves free space");
        Ok(self.staged_ticket)
    }

    /// Applies a record and puts it up for the next commit.
    fn stage(&mut self, record: Record) -> FsResult<Vec<Extent>> {
        let freed = self.tree.apply(&record)?;
        self.staged.push(record);
        self.staged_ticket += 1;
        Ok(freed)
    }

    /// Extents freed by the record just staged, of a file that may still be open.
    fn let_go(&mut self, ino: Option<Ino>, freed: Vec<Extent>) {
        let ticket = self.staged_ticket;
        match ino.and_then(|ino| self.open.get_mut(&ino)) {
            Some(open) => open.unlinked(ticket, freed),
            None => self.free_after(ticket, freed),
        }
    }

    /// Nobody uses these any more; they are free once the record with that ticket is durable.
    fn free_after(&mut self, ticket: Ticket, extents: Vec<Extent>) {
        if self.fault.is(Planted::FreedBeforeLogged) {
            return self.release(extents);
        }
        self.frees.extend(extents.into_iter().map(|extent| (ticket, extent)));
    }

    /// Gives space back to the allocator.
    fn release(&mut self, extents: impl IntoIterator<Item = Extent>) {
        for extent in extents {
            let released = self.stock.release(extent);
            assert!(released.is_ok(), "own space is in use until released: {released:?}");
        }
    }

    fn release_durable_frees(&mut self) {
        let durable = self.durable_ticket;
        let (ready, waiting) =
            std::mem::take(&mut self.frees).into_iter().partition(|(ticket, _)| *ticket <= durable);
        self.frees = waiting;
        let ready: Vec<(Ticket, Extent)> = ready;
        self.release(ready.into_iter().map(|(_, extent)| extent));
        let moved = self.moving.take_free(durable);
        self.release(moved);
    }
}
