//! Handles on files of the blocking shell.

use std::sync::Arc;

use crate::fs::blocking::{Shared, read};
use crate::fs::error::{FsError, FsResult};
use crate::fs::machine::{Amount, ReadPiece};
use crate::fs::record::Ino;

/// The one handle through which a file grows. Dropping it without [`FileWriter::sync`] may lose the end.
pub struct FileWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) ino: Ino,
}

impl FileWriter {
    /// Adds bytes at the end; readers see them at once.
    pub fn append(&mut self, bytes: &[u8]) -> FsResult<()> {
        for chunk in bytes.chunks(crate::fs::limits::WRITE_CHUNK_BYTES) {
            let enough = self.shared.lock()?.append(self.ino, chunk)?;
            if enough {
                self.write(Amount::Blocks)?;
            }
        }
        Ok(())
    }

    /// The file can wait: it leaves the room that was set aside by [`Machine::set_aside`](crate::fs::Machine::set_aside).
    pub fn yields(&self) -> FsResult<()> {
        self.shared.lock()?.yields(self.ino)
    }

    /// Writes to the device what is buffered. Not durable yet.
    pub fn flush(&mut self) -> FsResult<()> {
        self.write(Amount::All)
    }

    /// Makes the file durable as it is: its data, then its size and place.
    pub fn sync(&mut self) -> FsResult<()> {
        self.write(Amount::All)?;
        self.shared.flush_device()?;
        let ticket = self.shared.lock()?.stage_written(self.ino)?;
        self.shared.commit_through(ticket)
    }

    /// Cuts the file; durable on return.
    pub fn truncate(&mut self, size: u64) -> FsResult<()> {
        self.write(Amount::All)?;
        let ticket = self.shared.lock()?.truncate(self.ino, size)?;
        self.shared.commit_through(ticket)?;
        self.load_tail()
    }

    /// Bytes, buffered ones included.
    pub fn size(&self) -> FsResult<u64> {
        self.shared.lock()?.open_size(self.ino)
    }

    pub(super) fn load_tail(&mut self) -> FsResult<()> {
        let wanted = self.shared.lock()?.tail_wanted(self.ino)?;
        let Some((offset, len, tail)) = wanted else { return Ok(()) };
        let block = read(&*self.shared.device, offset, len)?;
        self.shared.lock()?.load_tail(self.ino, &block[..tail])
    }

    fn write(&mut self, amount: Amount) -> FsResult<()> {
        let mut full_since = None;
        let plan = loop {
            let planned = self.shared.lock()?.plan_write(self.ino, amount);
            self.shared.talk_to_lender()?;
            match planned {
                Ok(plan) => break plan,
                Err(FsError::NoSpace { .. }) if self.shared.free_by_commit()? => {}
                Err(FsError::NoSpace { .. }) if self.shared.wait_for_space()? => {}
                Err(error @ FsError::NoSpace { .. }) if self.shared.pause(&mut full_since, &error)? => {}
                Err(error) => return Err(error),
            }
        };
        let Some(plan) = plan else { return Ok(()) };
        for (offset, piece) in &plan.pieces {
            self.shared.done(self.shared.device.write_at(*offset, piece))?;
        }
        self.shared.lock()?.write_done(plan)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if let Ok(mut machine) = self.shared.lock_even_if_failed() {
            machine.close_write(self.ino);
        }
    }
}

/// A handle for reading; any number of threads may use it.
pub struct FileReader {
    pub(super) shared: Arc<Shared>,
    pub(super) ino: Ino,
}

impl FileReader {
    /// Fills `out` from `offset`; gives how many bytes there were before the end of the file.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> FsResult<usize> {
        // Held until all is read.
        let mut plan = self.shared.lock()?.plan_read(self.ino, offset, out.len())?;
        let mut filled = 0;
        for piece in plan.pieces.drain(..) {
            let bytes = match &piece {
                ReadPiece::Memory(bytes) => bytes.len(),
                ReadPiece::Device { take, .. } => *take,
            };
            let to = &mut out[filled..filled + bytes];
            match piece {
                ReadPiece::Memory(bytes) => to.copy_from_slice(&bytes),
                ReadPiece::Device { offset, len, skip, take } => {
                    to.copy_from_slice(&read(&*self.shared.device, offset, len)?[skip..skip + take]);
                }
            }
            filled += bytes;
        }
        Ok(filled)
    }

    /// Bytes.
    pub fn size(&self) -> FsResult<u64> {
        self.shared.lock()?.open_size(self.ino)
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        if let Ok(mut machine) = self.shared.lock_even_if_failed() {
            machine.close_read(self.ino);
        }
    }
}
