//! Open files: handles, appending, staging sizes, truncating.

use std::sync::Arc;

use allocator::Extent;

use crate::fs::error::{FsError, FsResult};
use crate::fs::fault::Planted;
use crate::fs::limits::{FILE_BYTES_MAX, WRITE_CHUNK_BYTES};
use crate::fs::machine::transfer::device_pieces;
use crate::fs::machine::{Machine, Ticket};
use crate::fs::record::{Ino, Record};
use crate::fs::tree::{append_records, split_extents};

/// A file with at least one handle.
#[derive(Debug)]
pub struct OpenFile {
    pub(super) path: String,
    /// Logged or not.
    pub(super) extents: Vec<Extent>,
    pub(super) allocated: u64,
    /// Bytes from 0 that a completed write put on the device.
    pub(super) on_device: u64,
    /// Aligned to a block for writers: bytes from here on are in `buffer`.
    pub(super) buffer_start: u64,
    pub(super) buffer: Vec<u8>,
    pub(super) readers: u32,
    pub(super) writer: bool,
    /// A write plan is out.
    pub(super) writing: bool,
    /// It grows only into room that is not set aside.
    pub(super) yields: bool,
    /// The last record about this file.
    pub(super) ticket: Ticket,
    /// Held by every read of it that was planned since its data last moved.
    pub(super) lease: Arc<()>,
    /// Name gone: space to free when the last handle closes.
    pub(super) doomed: Option<(Ticket, Vec<Extent>)>,
}

impl OpenFile {
    /// Bytes as readers see it.
    pub fn size(&self) -> u64 {
        self.buffer_start + self.buffer.len() as u64
    }

    pub(super) fn buffered(&self) -> u64 {
        self.buffer.len() as u64
    }

    pub(super) fn unlinked(&mut self, ticket: Ticket, freed: Vec<Extent>) {
        assert!(self.doomed.is_none(), "{} was unlinked twice", self.path);
        self.doomed = Some((ticket, freed));
    }
}

impl Machine {
    /// A new empty file for writing. A file of that name goes, as with O_TRUNC.
    pub fn create(&mut self, path: &str) -> FsResult<Ino> {
        self.check_alive()?;
        let (dir, name) = Self::split_path(path)?;
        if let Ok(old) = self.tree.find(dir, name) {
            if self.open.get(&old).is_some_and(|open| open.writer) {
                return Err(FsError::Busy { path: path.to_owned() });
            }
            self.unlink(path)?;
        }
        let ino = Ino(self.tree.next_ino);
        self.stage(Record::FileCreate { ino, dir: dir.to_owned(), name: name.to_owned() })?;
        self.open_inode(ino, path)?.writer = true;
        Ok(ino)
    }

    /// An existing file for appending. If its last block is partial, [`Machine::tail_wanted`] says what must be
    /// read and given to [`Machine::load_tail`] first.
    pub fn open_append(&mut self, path: &str) -> FsResult<Ino> {
        let ino = self.open_read(path)?;
        self.moving.touched(ino);
        let Some(open) = self.open.get_mut(&ino) else { unreachable!("just opened") };
        open.readers -= 1;
        if open.writer {
            return Err(FsError::Busy { path: path.to_owned() });
        }
        open.writer = true;
        Ok(ino)
    }

    /// Offset on the device, length and wanted bytes of a partial last block that is not in memory.
    pub fn tail_wanted(&self, ino: Ino) -> FsResult<Option<(u64, usize, usize)>> {
        let block = self.block_size();
        let open = self.open_file(ino)?;
        let tail = open.buffer_start % block;
        if !open.writer || tail == 0 {
            return Ok(None);
        }
        let start = open.buffer_start - tail;
        let pieces = device_pieces(&open.extents, start, block);
        let (offset, _) =
            pieces.first().copied().ok_or_else(|| FsError::corrupt("a size beyond the allocation"))?;
        Ok(Some((offset, block as usize, tail as usize)))
    }

    /// The bytes asked for by [`Machine::tail_wanted`].
    pub fn load_tail(&mut self, ino: Ino, tail: &[u8]) -> FsResult<()> {
        let block = self.block_size();
        let open = self.open_file_mut(ino)?;
        assert!(
            open.buffer_start % block == tail.len() as u64 && open.buffer.is_empty(),
            "the tail of {}",
            open.path
        );
        open.buffer_start -= tail.len() as u64;
        open.buffer.extend(tail);
        Ok(())
    }

    /// An existing file for reading.
    pub fn open_read(&mut self, path: &str) -> FsResult<Ino> {
        self.check_alive()?;
        let (dir, name) = Self::split_path(path)?;
        let ino = self.tree.find(dir, name)?;
        self.open_inode(ino, path)?.readers += 1;
        Ok(ino)
    }

    pub(super) fn open_inode(&mut self, ino: Ino, path: &str) -> FsResult<&mut OpenFile> {
        let inode = self.tree.inode(ino)?;
        let ticket = self.staged_ticket;
        Ok(self.open.entry(ino).or_insert_with(|| OpenFile {
            path: path.to_owned(),
            extents: inode.extents.clone(),
            allocated: inode.allocated,
            on_device: inode.size,
            buffer_start: inode.size,
            buffer: Vec::new(),
            readers: 0,
            writer: false,
            writing: false,
            yields: false,
            ticket,
            lease: Arc::default(),
            doomed: None,
        }))
    }

    /// The file can wait for room: what is set aside is not for it.
    pub fn yields(&mut self, ino: Ino) -> FsResult<()> {
        self.open_file_mut(ino)?.yields = true;
        Ok(())
    }

    /// Lets go of a reading handle.
    pub fn close_read(&mut self, ino: Ino) {
        if let Some(open) = self.open.get_mut(&ino) {
            open.readers -= 1;
        }
        self.close_if_unused(ino);
    }

    /// Lets go of the writing handle. What was not synced may be lost.
    pub fn close_write(&mut self, ino: Ino) {
        let logged = self.tree.files.get(&ino).map(|inode| (inode.size, inode.allocated));
        let Some(open) = self.open.get_mut(&ino) else { return };
        open.writer = false;
        // An unlinked file goes on being readable as far as it was logged and written.
        let (size, allocated) = logged.unwrap_or_else(|| {
            let doomed = open.doomed.iter().flat_map(|(_, extents)| extents);
            let allocated = doomed.map(|extent| extent.len).sum();
            (open.on_device.min(allocated), allocated)
        });
        let unlogged = split_extents(&mut open.extents, allocated);
        open.allocated = allocated;
        open.buffer = Vec::new();
        open.buffer_start = size;
        open.on_device = size;
        if open.writing {
            // The device may still be writing there, so nobody else may: it is free again after the next mount.
            self.stats.leaked_bytes += unlogged.iter().map(|extent| extent.len).sum::<u64>();
        } else {
            self.release(unlogged);
        }
        self.close_if_unused(ino);
    }

    fn close_if_unused(&mut self, ino: Ino) {
        let unused = self.open.get(&ino).is_some_and(|open| open.readers == 0 && !open.writer);
        if !unused {
            return;
        }
        if let Some((ticket, freed)) = self.open.remove(&ino).and_then(|open| open.doomed) {
            self.free_after(ticket, freed);
            self.release_durable_frees();
        }
    }

    /// Bytes at the end of the file. True if enough is buffered for a write.
    pub fn append(&mut self, ino: Ino, bytes: &[u8]) -> FsResult<bool> {
        self.check_alive()?;
        let block = self.block_size();
        let open = self.open_file_mut(ino)?;
        assert!(
            open.buffer_start.is_multiple_of(block),
            "appending to {} before its tail is loaded",
            open.path
        );
        if open.size() + bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(FsError::Limit { what: "bytes of a file" });
        }
        open.buffer.extend_from_slice(bytes);
        Ok(open.buffer.len() >= WRITE_CHUNK_BYTES)
    }

    /// After a flush of the device: makes what was written before it part of the file. Wait for the ticket.
    pub fn stage_written(&mut self, ino: Ino) -> FsResult<Ticket> {
        self.check_alive()?;
        let open = self.open_file(ino)?;
        if open.doomed.is_some() {
            return Ok(self.durable_ticket);
        }
        let inode = self.tree.inode(ino)?;
        let mut logged = open.extents.clone();
        let unlogged = split_extents(&mut logged, inode.allocated);
        let size = open.on_device;
        if unlogged.is_empty() && size == inode.size {
            return Ok(open.ticket);
        }
        for record in append_records(ino, inode.allocated, size, &unlogged) {
            self.stage(record)?;
        }
        let ticket = self.staged_ticket;
        self.open_file_mut(ino)?.ticket = ticket;
        Ok(ticket)
    }

    /// Cuts the file. Wait for the ticket before anything is appended: bytes cut off stay part of the file until
    /// then, and must not be overwritten.
    pub fn truncate(&mut self, ino: Ino, size: u64) -> FsResult<Ticket> {
        self.check_alive()?;
        let keep = size.next_multiple_of(self.unit());
        let open = self.open_file(ino)?;
        assert!(open.writer && !open.writing, "truncating {} while it is written", open.path);
        if size > open.size() {
            return Err(FsError::Limit { what: "truncating a file to more than its size" });
        }
        // An unlinked file keeps its space until it is closed.
        let logged = self.tree.files.get(&ino).map(|inode| (inode.size, inode.allocated));
        let (logged_size, logged) = logged.unwrap_or((0, open.allocated));
        if open.doomed.is_none() && (logged_size > size || logged > keep) {
            let record =
                Record::FileTruncate { ino, size: size.min(logged_size), allocated: keep.min(logged) };
            let freed = self.stage(record)?;
            let ticket = self.staged_ticket;
            self.free_after(ticket, freed);
            self.open_file_mut(ino)?.ticket = ticket;
        }
        let keeps_cut = self.fault.is(Planted::CutSpaceKept);
        let open = self.open_file_mut(ino)?;
        let unlogged = split_extents(&mut open.extents, keep.max(logged));
        if open.doomed.is_none() && !keeps_cut {
            split_extents(&mut open.extents, keep);
        }
        open.allocated = open.extents.iter().map(|extent| extent.len).sum();
        if size >= open.buffer_start {
            open.buffer.truncate((size - open.buffer_start) as usize);
        } else {
            open.buffer.clear();
            open.buffer_start = size;
        }
        open.on_device = open.on_device.min(size);
        let ticket = open.ticket;
        self.release(unlogged);
        Ok(ticket)
    }

    pub(super) fn block_size(&self) -> u64 {
        u64::from(self.superblock.block_size)
    }

    pub(super) fn unit(&self) -> u64 {
        u64::from(self.superblock.alloc_unit)
    }

    pub(super) fn open_file(&self, ino: Ino) -> FsResult<&OpenFile> {
        self.open.get(&ino).ok_or_else(|| FsError::NotFound { path: format!("open file {}", ino.0) })
    }

    pub(super) fn open_file_mut(&mut self, ino: Ino) -> FsResult<&mut OpenFile> {
        self.open.get_mut(&ino).ok_or_else(|| FsError::NotFound { path: format!("open file {}", ino.0) })
    }
}
