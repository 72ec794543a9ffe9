//! [`LocalBlueFs`]: the shell for tasks of one core, over the asynchronous device. The simulator's.
//!
//! The machine is borrowed only between awaits. A call whose future is dropped half way may leave a commit
//! undone; that ends the mount, as a failed write does.

mod files;

pub use files::{LocalReader, LocalWriter};

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use allocator::Extent;
use futures_util::future::try_join_all;
use nvme::{BlockDevice, DeviceError, DeviceResult, DmaBuf};

use crate::changes::Changes;
use crate::fs::bell::Bell;
use crate::fs::desk::SpaceDesk;
use crate::fs::error::{FsError, FsResult};
use crate::fs::machine::{
    Commit, FormatOptions, FsStats, Io, Loaded, Machine, MountOptions, Move, MovePlan, Ticket, format,
    superblock_read_bytes,
};
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
    /// Rings when the log is half full.
    bell: Bell,
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
        let mut candidates = Superblock::candidates(copies, superblocks)?.into_iter();
        loop {
            let Some(chosen) = candidates.next() else { unreachable!("the last one ends it") };
            let mut log = Vec::new();
            for extent in &chosen.0.log {
                log.extend_from_slice(&device.read(extent.start, DmaBuf::zeroed(extent.len as usize)).await?);
            }
            match Loaded::new(chosen, device.geometry(), &log) {
                // A copy that could not be read for a while, and whose log's place was taken meanwhile.
                Err(error @ FsError::Corrupt { .. }) if candidates.len() > 0 => {
                    ::log::warn!("{}: the newer superblock is passed over: {error}", device.name());
                }
                loaded => return loaded,
            }
        }
    }

    /// Mounts for reading and writing; writes a new log.
    pub async fn mount(
        device: Rc<dyn BlockDevice>,
        options: MountOptions,
        desk: Option<SpaceDesk>,
    ) -> FsResult<Self> {
        if device.geometry().volatile_cache {
            // As in the blocking shell: what we read must be durable.
            device.flush().await?;
        }
        let machine = Self::load(&*device, options.superblocks).await?.into_machine(options)?;
        let (changes, bell) = (Changes::default(), Bell::default());
        let shared = Shared { device, machine: RefCell::new(machine), changes, desk, bell };
        let fs = Self { shared: Rc::new(shared) };
        fs.compact().await?;
        fs.shared.talk_to_lender()?;
        Ok(fs)
    }

    /// Writes the metadata into a new log.
    pub async fn compact(&self) -> FsResult<()> {
        let commit = self.shared.when(Machine::begin_compaction).await?;
        self.shared.carry_out(commit).await
    }

    /// As in the blocking shell.
    pub fn bell(&self) -> Bell {
        self.shared.bell.clone()
    }

    /// As in the blocking shell.
    pub async fn rewrite_log(&self) -> FsResult<bool> {
        let shared = &self.shared;
        let Some(snapshot) = shared.machine()?.begin_rewrite()? else { return Ok(false) };
        let mut unfinished = Unfinished(Some(shared));
        shared.perform(snapshot).await?;
        if let Some(both) = shared.when(Machine::begin_both).await? {
            shared.carry_out(both).await?;
        }
        let switch = shared.machine()?.switch_ios();
        shared.perform(switch).await?;
        shared.when(|machine| Ok(machine.end_rewrite()?.then_some(()))).await?;
        unfinished.0 = None;
        shared.changes.note();
        Ok(true)
    }

    /// Takes up a main device that has so many bytes now; returns when that is durable.
    pub async fn grow_device(&self, size: u64) -> FsResult<()> {
        let grew = self.shared.machine()?.grow_device(size)?;
        if grew { self.compact().await } else { Ok(()) }
    }

    /// Takes up a fast space that is larger now; returns when that is durable and lent. A crash in between leaves what is new to
    /// the next mount.
    pub async fn grow_fast(&self, extent: Extent) -> FsResult<()> {
        let grew = self.shared.machine()?.grow_fast(extent)?;
        if grew {
            self.compact().await?;
        }
        let ticket = self.shared.machine()?.lend_fast()?;
        self.shared.commit_through(ticket).await
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

    /// Wants so much room from now on; asks the lender if there is less. Does not wait for an answer. True while an
    /// answer is awaited.
    pub fn keep_room(&self, bytes: u64) -> FsResult<bool> {
        self.shared.talk_to_lender()?;
        self.shared.machine()?.keep_room(bytes);
        self.is_asking()
    }

    /// Picks up what the lender answered. True while an answer is awaited.
    pub fn is_asking(&self) -> FsResult<bool> {
        self.shared.talk_to_lender()?;
        self.with(|machine| Ok(machine.is_asking()))
    }

    /// Gets up to `bytes` of lent space within `among` back, in multiples of `granule`, as long as there is room of `keep`;
    /// returns when that is durable.
    pub async fn give_back(
        &self,
        bytes: u64,
        granule: u64,
        keep: u64,
        among: &[Extent],
    ) -> FsResult<Vec<Extent>> {
        let (given, ticket) = self.shared.machine()?.give_back(bytes, granule, keep, among)?;
        if !given.is_empty() {
            self.shared.commit_through(ticket).await?;
        }
        Ok(given)
    }

    /// Moves files' data for up to about `bytes`; gives how much moved, durably. Less than asked for if there is no more, or
    /// no room for it.
    pub async fn move_files(&self, way: Move, bytes: u64) -> FsResult<u64> {
        let mut moved = 0;
        while moved < bytes {
            let plan = self.shared.machine()?.begin_move(way)?;
            let Some(plan) = plan else { break };
            let piece = plan.bytes();
            if !self.shared.copy(&plan).await? {
                self.shared.machine()?.move_failed(plan);
                continue;
            }
            self.shared.flush_device().await?;
            let ticket = self.shared.machine()?.move_done(plan)?;
            if let Some(ticket) = ticket {
                self.shared.commit_through(ticket).await?;
                moved += piece;
            }
        }
        Ok(moved)
    }

    /// As in the blocking shell.
    pub async fn leave_fast(&self) -> FsResult<()> {
        self.move_files(Move::OutOfFast, u64::MAX).await?;
        self.compact().await?;
        self.with(Machine::drop_fast)?;
        self.compact().await
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
        self.bell.close();
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

    /// As in the blocking shell.
    async fn copy(&self, plan: &MovePlan) -> FsResult<bool> {
        for (from, to, len) in plan.steps() {
            match self.device.read(from, DmaBuf::zeroed(len)).await {
                Ok(bytes) => {
                    let written = self.device.write(to, bytes).await;
                    self.done(written)?;
                }
                Err(error @ DeviceError::Io { .. }) => {
                    ::log::warn!("a file of the key-value store stays where it is: {error}");
                    return Ok(false);
                }
                Err(error) => return self.done(Err(error)),
            }
        }
        Ok(true)
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
        if let Some(wish) = machine.take_space_request() {
            desk.ask(wish);
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
        self.perform(std::iter::from_fn(|| commit.next_io())).await?;
        unfinished.0 = None;
        let wants_rewrite = {
            let mut machine = self.machine()?;
            machine.commit_done(commit);
            machine.wants_rewrite()
        };
        self.changes.note();
        if wants_rewrite {
            self.bell.ring();
        }
        Ok(())
    }

    async fn perform(&self, ios: impl IntoIterator<Item = Io>) -> FsResult<()> {
        for io in ios {
            match io {
                Io::Flush => self.flush_device().await?,
                io => {
                    let written = perform(&*self.device, io).await;
                    self.done(written)?;
                }
            }
        }
        Ok(())
    }

    /// As in the blocking shell.
    async fn when<T>(&self, ask: impl Fn(&mut Machine) -> FsResult<Option<T>>) -> FsResult<T> {
        loop {
            let seen = self.changes.count();
            let answer = ask(&mut *self.machine()?)?;
            match answer {
                Some(answer) => return Ok(answer),
                None => self.changes.since(seen).await,
            }
        }
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
