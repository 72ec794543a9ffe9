//! Handles on files of the local shell.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use nvme::DmaBuf;

use crate::fs::error::{FsError, FsResult};
use crate::fs::local::Shared;
use crate::fs::machine::{Amount, ReadPiece};
use crate::fs::record::Ino;

/// The one handle through which a file grows. Dropping it without [`LocalWriter::sync`] may lose the end.
pub struct LocalWriter {
    pub(super) shared: Rc<Shared>,
    pub(super) ino: Ino,
}

impl LocalWriter {
    /// Adds bytes at the end; readers see them at once.
    pub async fn append(&mut self, bytes: &[u8]) -> FsResult<()> {
        for chunk in bytes.chunks(crate::fs::limits::WRITE_CHUNK_BYTES) {
            let enough = self.shared.machine()?.append(self.ino, chunk)?;
            if enough {
                self.write(Amount::Blocks).await?;
            }
        }
        Ok(())
    }

    /// Makes the file durable as it is: its data, then its size and place.
    pub async fn sync(&mut self) -> FsResult<()> {
        self.write(Amount::All).await?;
        self.shared.flush_device().await?;
        let ticket = self.shared.machine()?.stage_written(self.ino)?;
        self.shared.commit_through(ticket).await
    }

    /// Cuts the file; durable on return.
    pub async fn truncate(&mut self, size: u64) -> FsResult<()> {
        self.write(Amount::All).await?;
        let ticket = self.shared.machine()?.truncate(self.ino, size)?;
        self.shared.commit_through(ticket).await?;
        self.load_tail().await
    }

    /// Bytes, buffered ones included.
    pub fn size(&self) -> FsResult<u64> {
        self.shared.machine()?.open_size(self.ino)
    }

    pub(super) async fn load_tail(&mut self) -> FsResult<()> {
        let wanted = self.shared.machine()?.tail_wanted(self.ino)?;
        let Some((offset, len, tail)) = wanted else { return Ok(()) };
        let block = self.shared.device.read(offset, DmaBuf::zeroed(len)).await?;
        self.shared.machine()?.load_tail(self.ino, &block[..tail])
    }

    async fn write(&mut self, amount: Amount) -> FsResult<()> {
        let plan = loop {
            let planned = self.shared.machine()?.plan_write(self.ino, amount);
            self.shared.talk_to_lender()?;
            match planned {
                Ok(plan) => break plan,
                Err(FsError::NoSpace { .. }) if self.shared.free_by_commit().await? => {}
                Err(FsError::NoSpace { .. }) if self.shared.wait_for_space().await? => {}
                Err(error) => return Err(error),
            }
        };
        let Some(mut plan) = plan else { return Ok(()) };
        let pieces = std::mem::take(&mut plan.pieces);
        let writes = pieces.into_iter().map(|(offset, piece)| self.shared.device.write(offset, piece));
        let written = try_join_all(writes).await;
        self.shared.done(written)?;
        self.shared.machine()?.write_done(plan)
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        self.shared.machine.borrow_mut().close_write(self.ino);
    }
}

/// A handle for reading.
pub struct LocalReader {
    pub(super) shared: Rc<Shared>,
    pub(super) ino: Ino,
}

impl LocalReader {
    /// Up to `len` bytes from `offset`; fewer at the end of the file.
    pub async fn read_at(&self, offset: u64, len: usize) -> FsResult<Bytes> {
        // Held until all is read.
        let mut plan = self.shared.machine()?.plan_read(self.ino, offset, len)?;
        let mut out = BytesMut::new();
        for piece in plan.pieces.drain(..) {
            match piece {
                ReadPiece::Memory(bytes) => out.extend_from_slice(&bytes),
                ReadPiece::Device { offset, len, skip, take } => {
                    let bytes = self.shared.device.read(offset, DmaBuf::zeroed(len)).await?;
                    out.extend_from_slice(&bytes[skip..skip + take]);
                }
            }
        }
        Ok(out.freeze())
    }

    /// Bytes.
    pub fn size(&self) -> FsResult<u64> {
        self.shared.machine()?.open_size(self.ino)
    }
}

impl Drop for LocalReader {
    fn drop(&mut self) {
        self.shared.machine.borrow_mut().close_read(self.ino);
    }
}
