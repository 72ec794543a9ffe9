//! [`LocalBlueFs`]: the shell for tasks of one core, over the asynchronous device. The simulator's.
//!
//! The machine is borrowed only between awaits. A call whose future is dropped half way may leave a commit
//! undone; that ends the mount, as a failed write does.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use allocator::Extent;
use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use nvme::{BlockDevice, DeviceResult, DmaBuf};

use crate::changes::Changes;
use crate::fs::desk::SpaceDesk;
use crate::fs::error::{FsError, FsResult};
use crate::fs::machine::{
    Amount, Commit, FormatOptions, FsStats, Io, Loaded, Machine, MountOptions, ReadPiece, Ticket, format,
    superblock_read_bytes,
};
use crate::fs::record::Ino;
use crate::fs::superblock::Superblock;

/// A mounted file system; clones share it.
#[derive(Clone)]
pub struct LocalBlueFs {
    shared: Rc<Shared>,
}

struct Shared {
    device: Rc<dyn BlockDevice>,
    machine: RefCell<Machine>,
    /// Counts what other tasks may wait for.
    changes: Changes,
    desk: Option<SpaceDesk>,
}

impl LocalBlueFs {
    /// Makes a new file system.
    pub async fn format(device: &dyn BlockDevice, options: &FormatOptions) -> FsResult<()> {
        for io in format(options, device.geometry())? {
            perform(device, io).await?;
        }
        Ok(())
    }

    /// Reads superblock and log without changing anything: for fsck.
    pub async fn load(device: &dyn BlockDevice, superblocks: [u64; 2]) -> FsResult<Loaded> {
        let len = superblock_read_bytes(device.geometry().block_size);
        let mut copies = Vec::new();
        for offset in superblocks {
            let copy = device.read(offset, DmaBuf::zeroed(len)).await;
            copies.push(copy.map(|bytes| bytes.to_vec()).map_err(FsError::from));
        }
        let Ok(copies) = copies.try_into() else { unreachable!("two reads, two copies") };
        let chosen = Superblock::choose(copies, superblocks)?;
        let mut log = Vec::new();
        for extent in &chosen.0.log {
            log.extend_from_slice(&device.read(extent.start, DmaBuf::zeroed(extent.len as usize)).await?);
        }
        Loaded::new(chosen, device.geometry(), &log)
    }

    /// Mounts for reading and writing; writes a new log.
    pub async fn mount(
        device: Rc<dyn BlockDevice>,
        options: MountOptions,
        desk: Option<SpaceDesk>,
    ) -> FsResult<Self> {
        let machine = Self::load(&*device, options.superblocks).await?.into_machine(options)?;
        let shared = Shared { device, machine: RefCell::new(machine), changes: Changes::default(), desk };
        let fs = Self { shared: Rc::new(shared) };
        fs.compact().await?;
        fs.shared.talk_to_lender()?;
        Ok(fs)
    }

    /// Writes the metadata into a new log.
    pub async fn compact(&self) -> FsResult<()> {
        loop {
            let seen = self.shared.changes.count();
            let commit = self.shared.machine()?.begin_compaction()?;
            match commit {
                Some(commit) => return self.shared.carry_out(commit).await,
                None => self.shared.changes.since(seen).await,
            }
        }
    }

    /// A new empty file for writing; one of that name goes.
    pub fn create(&self, path: &str) -> FsResult<LocalWriter> {
        let ino = self.shared.machine()?.create(path)?;
        Ok(LocalWriter { shared: Rc::clone(&self.shared), ino })
    }

    /// An existing file for appending.
    pub async fn open_append(&self, path: &str) -> FsResult<LocalWriter> {
        let ino = self.shared.machine()?.open_append(path)?;
        let mut writer = LocalWriter { shared: Rc::clone(&self.shared), ino };
        writer.load_tail().await?;
        Ok(writer)
    }

    /// An existing file for reading.
    pub fn open(&self, path: &str) -> FsResult<LocalReader> {
        let ino = self.shared.machine()?.open_read(path)?;
        Ok(LocalReader { shared: Rc::clone(&self.shared), ino })
    }

    /// Runs `change` on the machine: names, directories, sizes. What it stages is durable after
    /// [`LocalBlueFs::sync_metadata`].
    pub fn with<T>(&self, change: impl FnOnce(&mut Machine) -> FsResult<T>) -> FsResult<T> {
        change(&mut *self.shared.machine()?)
    }

    /// Makes everything staged so far durable.
    pub async fn sync_metadata(&self) -> FsResult<()> {
        let ticket = self.shared.machine()?.staged_ticket();
        self.shared.commit_through(ticket).await
    }

    /// Lends space, past the desk; returns when that is durable.
    pub async fn add_space(&self, extents: &[Extent]) -> FsResult<()> {
        let ticket = self.shared.machine()?.add_space(extents)?;
        self.shared.commit_through(ticket).await?;
        self.shared.talk_to_lender()
    }

    /// Gets up to `bytes` of lent space back, in multiples of `granule`; returns when that is durable.
    pub async fn give_back(&self, bytes: u64, granule: u64) -> FsResult<Vec<Extent>> {
        let (given, ticket) = self.shared.machine()?.give_back(bytes, granule)?;
        if !given.is_empty() {
            self.shared.commit_through(ticket).await?;
        }
        Ok(given)
    }

    /// Ends this mount: every later call fails with `reason`, waiting ones too.
    pub fn stop(&self, reason: &str) {
        self.shared.fail(&reason);
    }

    /// Numbers for reports.
    pub fn stats(&self) -> FsStats {
        self.shared.machine.borrow().stats()
    }
}

/// The one handle through which a file grows. Dropping it without [`LocalWriter::sync`] may lose the end.
pub struct LocalWriter {
    shared: Rc<Shared>,
    ino: Ino,
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

    async fn load_tail(&mut self) -> FsResult<()> {
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
    shared: Rc<Shared>,
    ino: Ino,
}

impl LocalReader {
    /// Up to `len` bytes from `offset`; fewer at the end of the file.
    pub async fn read_at(&self, offset: u64, len: usize) -> FsResult<Bytes> {
        let pieces = self.shared.machine()?.plan_read(self.ino, offset, len)?;
        let mut out = BytesMut::new();
        for piece in pieces {
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

/// Ends the mount if a commit's future is dropped before it is done.
struct Unfinished<'a>(Option<&'a Shared>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.fail(&"a commit was abandoned");
        }
    }
}

impl Shared {
    fn machine(&self) -> FsResult<RefMut<'_, Machine>> {
        let machine = self.machine.borrow_mut();
        machine.check_alive()?;
        Ok(machine)
    }

    fn fail(&self, reason: &impl ToString) {
        self.machine.borrow_mut().fail(reason);
        self.changes.note();
        if let Some(desk) = &self.desk {
            desk.close();
        }
    }

    /// As in the blocking shell.
    async fn wait_for_space(&self) -> FsResult<bool> {
        let Some(desk) = &self.desk else { return Ok(false) };
        loop {
            let seen = desk.answered();
            if let Some(answer) = desk.take() {
                return self.machine()?.take_answer(answer);
            }
            // Somebody else may have picked the answer up: try again.
            if !self.machine()?.is_asking() {
                return Ok(true);
            }
            desk.wait(seen).await;
            if desk.is_deserted() {
                return Ok(false);
            }
        }
    }

    /// Makes space free that only waits for its free to be durable. False if there is none.
    async fn free_by_commit(&self) -> FsResult<bool> {
        let ticket = {
            let machine = self.machine()?;
            machine.has_frees_waiting().then(|| machine.staged_ticket())
        };
        let Some(ticket) = ticket else { return Ok(false) };
        self.commit_through(ticket).await?;
        Ok(true)
    }

    /// Asks if it is time to, and picks up answers.
    fn talk_to_lender(&self) -> FsResult<()> {
        let mut machine = self.machine()?;
        let Some(desk) = &self.desk else {
            if machine.take_space_request().is_some() {
                machine.deny_space();
            }
            return Ok(());
        };
        while let Some(answer) = desk.take() {
            machine.take_answer(answer)?;
        }
        if let Some(bytes) = machine.take_space_request() {
            desk.ask(bytes);
        }
        Ok(())
    }

    /// A failed write or flush ends the mount.
    fn done<T>(&self, result: DeviceResult<T>) -> FsResult<T> {
        result.map_err(|error| {
            self.fail(&error);
            FsError::from(error)
        })
    }

    async fn flush_device(&self) -> FsResult<()> {
        if self.device.geometry().volatile_cache {
            let flushed = self.device.flush().await;
            self.done(flushed)?;
            self.machine()?.count_flush();
        }
        Ok(())
    }

    async fn commit_through(&self, ticket: Ticket) -> FsResult<()> {
        loop {
            let seen = self.changes.count();
            let commit = {
                let mut machine = self.machine()?;
                if machine.durable_ticket() >= ticket {
                    return Ok(());
                }
                machine.begin_commit()?
            };
            match commit {
                Some(commit) => self.carry_out(commit).await?,
                None => self.changes.since(seen).await,
            }
        }
    }

    async fn carry_out(&self, mut commit: Commit) -> FsResult<()> {
        let mut unfinished = Unfinished(Some(self));
        while let Some(io) = commit.next_io() {
            if matches!(io, Io::Flush) {
                self.flush_device().await?;
            } else {
                let written = perform(&*self.device, io).await;
                self.done(written)?;
            }
        }
        unfinished.0 = None;
        self.machine()?.commit_done(commit);
        self.changes.note();
        Ok(())
    }
}

async fn perform(device: &dyn BlockDevice, io: Io) -> DeviceResult<()> {
    match io {
        Io::Write(writes) => {
            let writes = writes.into_iter().map(|(offset, bytes)| device.write(offset, bytes));
            try_join_all(writes).await.map(|_| ())
        }
        Io::Flush => device.flush().await,
    }
}
