//! [`BlueFs`]: the shell for foreign threads. Send and Sync; every call blocks, so none may come from a core.
//!
//! The machine lives under one lock, which is never held during I/O. Threads that need a commit while another
//! thread commits wait for it, and find their records in the next.

mod files;

pub use files::{FileReader, FileWriter};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use allocator::Extent;
use nvme::{BlockingDevice, DeviceError, DeviceResult, DmaBuf};

use crate::fs::bell::Bell;
use crate::fs::desk::SpaceDesk;
use crate::fs::error::{FsError, FsResult};
use crate::fs::machine::{
    Commit, FormatOptions, FsStats, Io, Loaded, Machine, MountOptions, Move, MovePlan, Ticket, format,
    superblock_read_bytes,
};
use crate::fs::record::Record;
use crate::fs::superblock::Superblock;

/// How long a writer that finds no space waits before it looks again, if it is to be patient.
const FULL_PAUSE: Duration = Duration::from_millis(20);
/// How long a lender may take to answer.
const LENDER_WAIT: Duration = Duration::from_secs(10);
/// A write that waits so long for room says so.
const FULL_SAID_AFTER: Duration = Duration::from_secs(1);

/// A mounted file system; clones share it.
#[derive(Clone)]
pub struct BlueFs {
    shared: Arc<Shared>,
}

struct Shared {
    device: Arc<dyn BlockingDevice>,
    machine: Mutex<Machine>,
    /// A commit ended or the machine failed.
    changed: Condvar,
    desk: Option<SpaceDesk>,
    /// Rings when the log is half full.
    bell: Bell,
    /// Held by who writes a new log: it waits for commits in between, and may not take another one's new log for its own.
    rewriter: Mutex<()>,
    /// How long a writer looks again for space that its lender does not have.
    patience_ms: AtomicU64,
}

impl BlueFs {
    /// Makes a new file system.
    pub fn format(device: &dyn BlockingDevice, options: &FormatOptions) -> FsResult<()> {
        for io in format(options, device.geometry())? {
            perform(device, io)?;
        }
        Ok(())
    }

    /// Reads superblock and log without changing anything: for fsck.
    pub fn load(device: &dyn BlockingDevice, superblocks: [u64; 2]) -> FsResult<Loaded> {
        let len = superblock_read_bytes(device.geometry().block_size);
        let copies = superblocks.map(|offset| Ok(read(device, offset, len)?.to_vec()));
        let mut candidates = Superblock::candidates(copies, superblocks)?.into_iter();
        loop {
            let Some(chosen) = candidates.next() else { unreachable!("the last one ends it") };
            let log = read_log(device, &chosen.0)?;
            match Loaded::new(chosen, device.geometry(), &log) {
                // A copy that could not be read for a while, and whose log's place was taken meanwhile.
                Err(error @ FsError::Corrupt { .. }) if candidates.len() > 0 => {
                    ::log::warn!("{}: the newer superblock is passed over: {error}", device.name());
                }
                loaded => return loaded,
            }
        }
    }

    /// The records of the log that was loaded, the snapshot's first.
    pub fn records(device: &dyn BlockingDevice, loaded: &Loaded) -> FsResult<Vec<Record>> {
        loaded.records(&read_log(device, &loaded.superblock)?)
    }

    /// Mounts for reading and writing; writes a new log.
    pub fn mount(
        device: Arc<dyn BlockingDevice>,
        options: MountOptions,
        desk: Option<SpaceDesk>,
    ) -> FsResult<Self> {
        if device.geometry().volatile_cache {
            // A process that was killed leaves completed writes in the device's cache. What we read must be durable
            // before we write where it says that nothing is: else power loss brings back an older state whose log or
            // files we wrote over.
            device.flush()?;
        }
        let machine = Self::load(&*device, options.superblocks)?.into_machine(options)?;
        let shared = Shared {
            device,
            machine: Mutex::new(machine),
            changed: Condvar::new(),
            desk,
            bell: Bell::default(),
            rewriter: Mutex::default(),
            patience_ms: AtomicU64::new(0),
        };
        let fs = Self { shared: Arc::new(shared) };
        fs.compact()?;
        fs.shared.talk_to_lender()?;
        Ok(fs)
    }

    /// Writes the metadata into a new log.
    pub fn compact(&self) -> FsResult<()> {
        let commit = self.shared.when(Machine::begin_compaction)?;
        self.shared.carry_out(commit)
    }

    /// Rings when the log wants to be rewritten; whoever hears it calls [`BlueFs::rewrite_log`], or a commit does when it is full.
    pub fn bell(&self) -> Bell {
        self.shared.bell.clone()
    }

    /// Writes a new log, if the present one is half full, while others commit. False if it is not, somebody else is at it, or
    /// there is no room beside it.
    pub fn rewrite_log(&self) -> FsResult<bool> {
        let shared = &self.shared;
        let _turn = match shared.rewriter.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        let Some(snapshot) = shared.lock()?.begin_rewrite()? else { return Ok(false) };
        shared.perform(snapshot)?;
        if let Some(both) = shared.when(Machine::begin_both)? {
            shared.carry_out(both)?;
        }
        let switch = shared.lock()?.switch_ios();
        shared.perform(switch)?;
        shared.when(|machine| Ok(machine.end_rewrite()?.then_some(())))?;
        shared.changed.notify_all();
        Ok(true)
    }

    /// Takes up a main device that has so many bytes now; returns when that is durable.
    pub fn grow_device(&self, size: u64) -> FsResult<()> {
        let grew = self.shared.lock()?.grow_device(size)?;
        if grew { self.compact() } else { Ok(()) }
    }

    /// Takes up a fast space that is larger now; returns when that is durable and lent. A crash in between leaves what is new to
    /// the next mount.
    pub fn grow_fast(&self, extent: Extent) -> FsResult<()> {
        let grew = self.shared.lock()?.grow_fast(extent)?;
        if grew {
            self.compact()?;
        }
        let ticket = self.shared.lock()?.lend_fast()?;
        self.shared.commit_through(ticket)
    }

    /// A new empty file for writing; one of that name goes.
    pub fn create(&self, path: &str) -> FsResult<FileWriter> {
        let ino = self.shared.lock()?.create(path)?;
        Ok(FileWriter { shared: Arc::clone(&self.shared), ino })
    }

    /// An existing file for appending.
    pub fn open_append(&self, path: &str) -> FsResult<FileWriter> {
        let ino = self.shared.lock()?.open_append(path)?;
        let mut writer = FileWriter { shared: Arc::clone(&self.shared), ino };
        writer.load_tail()?;
        Ok(writer)
    }

    /// An existing file for reading.
    pub fn open(&self, path: &str) -> FsResult<FileReader> {
        let ino = self.shared.lock()?.open_read(path)?;
        Ok(FileReader { shared: Arc::clone(&self.shared), ino })
    }

    /// Runs `change` on the machine: names, directories, sizes. What it stages is durable after
    /// [`BlueFs::sync_metadata`].
    pub fn with<T>(&self, change: impl FnOnce(&mut Machine) -> FsResult<T>) -> FsResult<T> {
        change(&mut *self.shared.lock()?)
    }

    /// Makes everything staged so far durable: directories, names, sizes that were synced.
    pub fn sync_metadata(&self) -> FsResult<()> {
        let ticket = self.shared.lock()?.staged_ticket();
        self.shared.commit_through(ticket)
    }

    /// Lends space, past the desk; returns when that is durable. For foreign threads.
    pub fn add_space(&self, extents: &[Extent]) -> FsResult<()> {
        let ticket = self.shared.lock()?.add_space(extents)?;
        self.shared.commit_through(ticket)?;
        self.shared.talk_to_lender()
    }

    /// Wants so much room from now on; asks the lender if there is less. Does not wait for an answer. True while an
    /// answer is awaited.
    pub fn keep_room(&self, bytes: u64) -> FsResult<bool> {
        self.shared.talk_to_lender()?;
        self.shared.lock()?.keep_room(bytes);
        self.is_asking()
    }

    /// Picks up what the lender answered. True while an answer is awaited.
    pub fn is_asking(&self) -> FsResult<bool> {
        self.shared.talk_to_lender()?;
        self.with(|machine| Ok(machine.is_asking()))
    }

    /// Gets up to `bytes` of lent space within `among` back, in multiples of `granule`, as long as there is room of `keep`;
    /// returns when that is durable.
    pub fn give_back(&self, bytes: u64, granule: u64, keep: u64, among: &[Extent]) -> FsResult<Vec<Extent>> {
        let (given, ticket) = self.shared.lock()?.give_back(bytes, granule, keep, among)?;
        if !given.is_empty() {
            self.shared.commit_through(ticket)?;
        }
        Ok(given)
    }

    /// Moves files' data for up to about `bytes`; gives how much moved, durably. Less than asked for if there is no more, or
    /// no room for it.
    pub fn move_files(&self, way: Move, bytes: u64) -> FsResult<u64> {
        let mut moved = 0;
        while moved < bytes {
            let Some(plan) = self.shared.lock()?.begin_move(way)? else { break };
            let piece = plan.bytes();
            if !self.shared.copy(&plan)? {
                self.shared.lock()?.move_failed(plan);
                continue;
            }
            self.shared.flush_device()?;
            let ticket = self.shared.lock()?.move_done(plan)?;
            if let Some(ticket) = ticket {
                self.shared.commit_through(ticket)?;
                moved += piece;
            }
        }
        Ok(moved)
    }

    /// Moves what can be moved out of the fast space, for which the lender is asked for room on the main device; nothing more is
    /// put there until the next mount. What is open for writing stays.
    pub fn empty_fast(&self) -> FsResult<()> {
        let used = |machine: &mut Machine| {
            machine.retire_fast();
            Ok(machine.fast_used())
        };
        let mut left = self.with(used)?;
        loop {
            // The lender may have less than that, and then less moves.
            let since = Instant::now();
            while self.keep_room(left)? && since.elapsed() < LENDER_WAIT {
                std::thread::sleep(FULL_PAUSE);
            }
            if self.move_files(Move::OutOfFast, left)? == 0 {
                return Ok(());
            }
            left = self.with(used)?;
        }
    }

    /// Moves everything out of the fast space and gives that up, for good; nobody has a file open. `NoSpace` if the main space
    /// has no room for it: then what is left stays where it is.
    pub fn leave_fast(&self) -> FsResult<()> {
        self.move_files(Move::OutOfFast, u64::MAX)?;
        self.compact()?;
        self.with(Machine::drop_fast)?;
        self.compact()
    }

    /// Writers that find no space, and a lender that has none, look again for so long before they fail: for those to whom
    /// a failed write is final.
    pub fn be_patient(&self, patience: Duration) {
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.shared.patience_ms.store(patience, Ordering::Relaxed);
    }

    /// Ends this mount: every later call fails with `reason`, waiting ones too.
    pub fn stop(&self, reason: &str) {
        self.shared.fail(&reason);
    }

    /// Numbers for reports; zeroes after a panic under the lock.
    pub fn stats(&self) -> FsStats {
        self.shared.machine.lock().map(|machine| machine.stats()).unwrap_or_default()
    }
}

/// A write that waits for room.
struct Full {
    since: Instant,
    said: bool,
}

impl Shared {
    /// A panic under the lock broke an invariant: nothing goes on from there.
    fn lock_even_if_failed(&self) -> FsResult<MutexGuard<'_, Machine>> {
        self.machine.lock().map_err(|_| FsError::Failed { reason: "a thread panicked".to_owned() })
    }

    fn lock(&self) -> FsResult<MutexGuard<'_, Machine>> {
        let machine = self.lock_even_if_failed()?;
        machine.check_alive()?;
        Ok(machine)
    }

    fn wait<'a>(&self, machine: MutexGuard<'a, Machine>) -> FsResult<MutexGuard<'a, Machine>> {
        let machine = self
            .changed
            .wait(machine)
            .map_err(|_| FsError::Failed { reason: "a thread panicked".to_owned() })?;
        machine.check_alive()?;
        Ok(machine)
    }

    fn fail(&self, reason: &impl ToString) {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner).fail(reason);
        self.changed.notify_all();
        self.bell.close();
        if let Some(desk) = &self.desk {
            desk.close();
        }
    }

    /// A failed write or flush ends the mount.
    fn done<T>(&self, result: DeviceResult<T>) -> FsResult<T> {
        result.map_err(|error| {
            self.fail(&error);
            FsError::from(error)
        })
    }

    fn flush_device(&self) -> FsResult<()> {
        if self.device.geometry().volatile_cache {
            self.done(self.device.flush())?;
            self.lock()?.count_flush();
        }
        Ok(())
    }

    /// Copies what is to move. False if it cannot be read.
    fn copy(&self, plan: &MovePlan) -> FsResult<bool> {
        for (from, to, len) in plan.steps() {
            match read(&*self.device, from, len) {
                Ok(bytes) => self.done(self.device.write_at(to, &bytes))?,
                Err(error @ DeviceError::Io { .. }) => {
                    log::warn!("a file of the key-value store stays where it is: {error}");
                    return Ok(false);
                }
                Err(error) => return self.done(Err(error)),
            }
        }
        Ok(true)
    }

    /// Makes space free that only waits for its free to be durable. False if there is none.
    fn free_by_commit(&self) -> FsResult<bool> {
        let ticket = {
            let machine = self.lock()?;
            machine.has_frees_waiting().then(|| machine.staged_ticket())
        };
        let Some(ticket) = ticket else { return Ok(false) };
        self.commit_through(ticket)?;
        Ok(true)
    }

    /// Asks if it is time to, and picks up answers.
    fn talk_to_lender(&self) -> FsResult<()> {
        let mut machine = self.lock()?;
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

    /// After an allocation found no space and the lender was asked: waits for the answer. False if there will be
    /// none, or it was no.
    fn wait_for_space(&self) -> FsResult<bool> {
        let Some(desk) = &self.desk else { return Ok(false) };
        loop {
            let seen = {
                let mut machine = self.lock()?;
                let seen = desk.answered();
                if let Some(answer) = desk.take() {
                    return machine.take_answer(answer);
                }
                // Somebody else may have picked the answer up: try again.
                if !machine.is_asking() {
                    return Ok(true);
                }
                // Whoever opens a database on this before its lender looks at questions must not wait for ever.
                if !desk.is_serving() && self.patience_ms.load(Ordering::Relaxed) > 0 {
                    return Ok(false);
                }
                seen
            };
            desk.wait_blocking(seen);
            if desk.is_deserted() {
                return Ok(false);
            }
        }
    }

    /// After the lender said no, `since` for the first time: waits a little, in which removals, or who else writes, may
    /// make room. False if that was enough, or nobody lends.
    fn pause(&self, full: &mut Option<Full>, error: &FsError) -> FsResult<bool> {
        let full = full.get_or_insert_with(|| Full { since: Instant::now(), said: false });
        let since = full.since;
        if since.elapsed() >= FULL_SAID_AFTER && !std::mem::replace(&mut full.said, true) {
            log::warn!("a file of the key-value store waits for room: {error}");
        }
        let enough = since.elapsed() >= Duration::from_millis(self.patience_ms.load(Ordering::Relaxed));
        if enough || !self.desk.as_ref().is_some_and(SpaceDesk::has_lender) {
            return Ok(false);
        }
        let machine = self.lock()?;
        let waited = self.changed.wait_timeout(machine, FULL_PAUSE);
        let (machine, _) = waited.map_err(|_| FsError::Failed { reason: "a thread panicked".to_owned() })?;
        machine.check_alive()?;
        Ok(true)
    }

    fn commit_through(&self, ticket: Ticket) -> FsResult<()> {
        let mut machine = self.lock()?;
        while machine.durable_ticket() < ticket {
            match machine.begin_commit()? {
                Some(commit) => {
                    drop(machine);
                    self.carry_out(commit)?;
                    machine = self.lock()?;
                }
                None => machine = self.wait(machine)?,
            }
        }
        Ok(())
    }

    fn carry_out(&self, mut commit: Commit) -> FsResult<()> {
        self.perform(std::iter::from_fn(|| commit.next_io()))?;
        let wants_rewrite = {
            let mut machine = self.lock()?;
            machine.commit_done(commit);
            machine.wants_rewrite()
        };
        self.changed.notify_all();
        if wants_rewrite {
            self.bell.ring();
        }
        Ok(())
    }

    fn perform(&self, ios: impl IntoIterator<Item = Io>) -> FsResult<()> {
        for io in ios {
            match io {
                Io::Flush => self.flush_device()?,
                io => self.done(perform(&*self.device, io))?,
            }
        }
        Ok(())
    }

    /// Asks the machine until it has an answer, each time that a commit ended.
    fn when<T>(&self, ask: impl Fn(&mut Machine) -> FsResult<Option<T>>) -> FsResult<T> {
        let mut machine = self.lock()?;
        loop {
            if let Some(answer) = ask(&mut machine)? {
                return Ok(answer);
            }
            machine = self.wait(machine)?;
        }
    }
}

fn perform(device: &dyn BlockingDevice, io: Io) -> DeviceResult<()> {
    match io {
        Io::Write(writes) => writes.iter().try_for_each(|(offset, bytes)| device.write_at(*offset, bytes)),
        Io::Flush => device.flush(),
    }
}

fn read_log(device: &dyn BlockingDevice, superblock: &Superblock) -> FsResult<Vec<u8>> {
    let mut log = Vec::new();
    for extent in &superblock.log {
        log.extend_from_slice(&read(device, extent.start, extent.len as usize)?);
    }
    Ok(log)
}

fn read(device: &dyn BlockingDevice, offset: u64, len: usize) -> DeviceResult<DmaBuf> {
    let mut memory = DmaBuf::zeroed(len);
    device.read_at(offset, &mut memory)?;
    Ok(memory)
}
