//! [`SimKv`]: a small real LSM on BlueFS, for simulated worlds.
//!
//! It keeps RocksDB's promises and no more: batches are atomic and in order; without a flush a crash keeps any number
//! of them, since a memtable may be persisted after any batch; operands stay unmerged until somebody reads; reads
//! come late. Runs on one core, draws from the world's randomness only.

pub(crate) mod fuzzing;
mod manifest;
mod memtable;
mod run;
mod snapshot;
mod worker;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use allocator::Extent;
use bytes::Bytes;
use rt::{Core, Group, LocalBoxFuture};

use crate::changes::Changes;
use crate::fs::{FsError, LocalBlueFs, Move};
use crate::kv::{
    Amount, Compact, KvBatch, KvError, KvOp, KvResult, KvStats, KvStore, KvView, ScanLimit, ScanPage, Turns,
    granule, headroom, room_for,
};
use manifest::Manifest;
use memtable::Memtable;
use run::Run;
use snapshot::{Snapshot, snapshot_of};

/// How the store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimKvOptions {
    /// A memtable of so many bytes is persisted.
    pub memtable_bytes: usize,
    /// One in so many batches persists the memtable for no reason; 0 for never.
    pub spontaneous_one_in: u64,
    /// So many runs are compacted into one.
    pub runs_max: usize,
    /// A call takes up to this much longer than its device reads, drawn from the world.
    pub delay_max: Duration,
}

impl Default for SimKvOptions {
    fn default() -> Self {
        let delay_max = Duration::from_micros(200);
        Self { memtable_bytes: 64 << 10, spontaneous_one_in: 16, runs_max: 4, delay_max }
    }
}

/// Units of the file system that writing a run and installing it may take beside the run's entries: ends of files, the
/// manifest and the one that replaces it. Twice, for a compaction after it.
const UNITS_FIXED: u64 = 8;
/// How often an answer of the lender is looked for, and how often at most.
const ANSWER_PAUSE: Duration = Duration::from_micros(100);
/// See [`ANSWER_PAUSE`].
const ANSWER_TRIES_MAX: u32 = 10_000;
/// Memtables waiting to be persisted; at this many, `apply` waits.
const MEMTABLES_MAX: usize = 4;

/// See the module. Clones are handles on the same store.
#[derive(Clone)]
pub struct SimKv {
    shared: Rc<Shared>,
}

struct Shared {
    core: Core,
    fs: LocalBlueFs,
    dir: String,
    options: SimKvOptions,
    state: RefCell<State>,
    changes: Rc<Changes>,
    /// The file system's log is being rewritten.
    rewriting: Cell<bool>,
}

struct State {
    active: Rc<Memtable>,
    /// Newest first.
    waiting: VecDeque<Rc<Memtable>>,
    runs: Rc<Vec<Rc<Run>>>,
    next_run: u64,
    /// Number of the last change inserted, and of the last that views show.
    inserted: u64,
    visible: u64,
    /// Number of the last change in each memtable that was persisted.
    memtables_begun: u64,
    memtables_persisted: u64,
    /// Set by a flush that found no space; cleared when it is tried again.
    full: Option<KvError>,
    failed: Option<KvError>,
    closing: bool,
    working: bool,
    /// As of when the worker last rested: while it works, what it writes is not yet what it replaces.
    headroom: u64,
    /// Headroom to keep; none unless somebody asked.
    headroom_wanted: Option<u64>,
    turns: Turns,
    /// Compactions so far.
    compactions: u64,
    /// Somebody waits for a compaction.
    compact: bool,
}

fn fs_error(error: FsError) -> KvError {
    match error {
        FsError::NoSpace { .. } | FsError::Limit { .. } => KvError::Full(error.to_string()),
        FsError::Corrupt { .. } => KvError::Corrupt(error.to_string()),
        FsError::Failed { .. } => KvError::Closed(error.to_string()),
        _ => KvError::Io(error.to_string()),
    }
}

fn block_error(run: u64, offset: u64, found: u32, expected: u32) -> KvError {
    KvError::Corrupt(format!("run {run}: block at {offset:#x}: checksum {found:#x}, expected {expected:#x}"))
}

impl SimKv {
    /// Opens the store in directory `dir` of a mounted file system, making it if it is not there.
    pub async fn open(core: Core, fs: LocalBlueFs, dir: &str, options: SimKvOptions) -> KvResult<Self> {
        match fs.with(|machine| machine.create_dir(dir)) {
            Ok(_) => fs.sync_metadata().await.map_err(fs_error)?,
            Err(FsError::Exists { .. }) => {}
            Err(error) => return Err(fs_error(error)),
        }
        let manifest = Manifest::read(&fs, dir).await?;
        let mut runs = Vec::new();
        for number in &manifest.runs {
            runs.push(Rc::new(Run::open(&fs, dir, *number).await?));
        }
        remove_strays(&fs, dir, &manifest).await?;
        let state = State {
            active: Rc::default(),
            waiting: VecDeque::new(),
            runs: Rc::new(runs),
            next_run: manifest.next_run,
            inserted: manifest.last_seq,
            visible: manifest.last_seq,
            memtables_begun: 0,
            memtables_persisted: 0,
            full: None,
            failed: None,
            closing: false,
            working: false,
            headroom: 0,
            headroom_wanted: None,
            turns: Turns::default(),
            compactions: 0,
            compact: false,
        };
        let shared = Rc::new(Shared {
            core,
            fs,
            dir: dir.to_owned(),
            options,
            state: RefCell::new(state),
            changes: Rc::default(),
            rewriting: Cell::new(false),
        });
        shared.measure();
        let worker = worker::run(Rc::downgrade(&shared), Rc::clone(&shared.changes));
        shared.core.spawn(Group::Background, "kv worker", worker);
        let logs = worker::rewrite_logs(Rc::downgrade(&shared), shared.fs.bell());
        shared.core.spawn(Group::Commit, "file system's log", logs);
        Ok(Self { shared })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.fs.bell().close();
        // The worker looks, and finds nobody to work for.
        self.changes.note();
    }
}

/// Removes runs that no manifest names: what a crash left of unfinished work. One with a size was synced, and has not
/// been removed durably, so the file system must give it back whole, although nobody wants it.
async fn remove_strays(fs: &LocalBlueFs, dir: &str, manifest: &Manifest) -> KvResult<()> {
    let named: Vec<String> = manifest.runs.iter().map(|number| run::run_path(dir, *number)).collect();
    for name in fs.with(|machine| machine.list(dir)).map_err(fs_error)? {
        let path = format!("{dir}/{name}");
        if name != "manifest" && !named.contains(&path) {
            if fs.with(|machine| machine.size(&path)).map_err(fs_error)? > 0 {
                match run::number_of(&name) {
                    Some(number) => Run::open(fs, dir, number).await?.verify().await?,
                    None => Manifest::read_from(fs, &path).await.map(drop)?,
                }
            }
            fs.with(|machine| machine.unlink(&path)).map_err(fs_error)?;
        }
    }
    Ok(())
}

impl State {
    fn check(&self) -> KvResult<()> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.closing => Err(KvError::Closed("closed".to_owned())),
            None => Ok(()),
        }
    }

    /// Puts the active memtable in line to be persisted.
    fn rotate(&mut self) {
        if !self.active.is_empty() {
            let full = std::mem::take(&mut self.active);
            self.waiting.push_front(full);
            self.memtables_begun += 1;
        }
    }

    fn snapshot(&self) -> KvView {
        let memtables = std::iter::once(&self.active).chain(&self.waiting).cloned().collect();
        KvView::new(Rc::new(Snapshot { at: self.visible, memtables, runs: Rc::clone(&self.runs) }))
    }
}

impl Shared {
    async fn delay(&self) {
        let most = u64::try_from(self.options.delay_max.as_nanos()).unwrap_or(u64::MAX);
        if most > 0 {
            self.core.sleep(Duration::from_nanos(self.core.random_u64() % most)).await;
        }
    }

    /// Inserts a batch; gives its first and last number.
    fn insert(&self, batch: KvBatch) -> KvResult<(u64, u64)> {
        let mut state = self.state.borrow_mut();
        state.check()?;
        if let Some(error) = state.full.as_ref().filter(|_| state.waiting.len() >= MEMTABLES_MAX) {
            return Err(error.clone());
        }
        let removes = |op: &KvOp| matches!(op, KvOp::Delete(_) | KvOp::DeleteRange(..));
        if batch.ops.iter().any(removes) {
            // How much, is known when it is persisted.
            state.turns.removed(Amount::default());
        }
        let before = state.inserted;
        state.inserted = state.active.insert(batch, before);
        let spontaneous = self.options.spontaneous_one_in;
        let persist = spontaneous > 0 && self.core.random_u64().is_multiple_of(spontaneous);
        if persist || state.active.bytes() >= self.options.memtable_bytes {
            state.rotate();
        }
        Ok((before, state.inserted))
    }

    /// Shows the batch once all before it are shown and there is room for more.
    async fn show(&self, before: u64, last: u64) -> KvResult<KvView> {
        self.delay().await;
        loop {
            let seen = self.changes.count();
            {
                let mut state = self.state.borrow_mut();
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
                // Only those that can be persisted count: the others wait for what is shown here.
                let ready = state.waiting.iter().filter(|memtable| memtable.last() <= before).count();
                let crowded = ready >= MEMTABLES_MAX && state.full.is_none();
                if state.visible == before && !crowded {
                    state.visible = last;
                    let view = state.snapshot();
                    drop(state);
                    self.changes.note();
                    return Ok(view);
                }
            }
            self.changes.since(seen).await;
        }
    }

    async fn persisted(&self, memtables: u64) -> KvResult<()> {
        loop {
            let seen = self.changes.count();
            {
                let state = self.state.borrow();
                if state.memtables_persisted >= memtables {
                    return Ok(());
                }
                if let Some(error) = state.failed.as_ref().or(state.full.as_ref()) {
                    return Err(error.clone());
                }
            }
            self.changes.since(seen).await;
        }
    }
}

impl Shared {
    /// Bytes that a compaction may have to write, and what comes with it.
    fn costs(&self) -> (u64, u64, u64) {
        // A file system that failed says so to whoever uses it next.
        let unit = self.fs.with(|machine| Ok(machine.superblock().alloc_unit)).map_or(1, u64::from);
        let runs = Rc::clone(&self.state.borrow().runs);
        (runs.iter().map(|run| run.bytes.next_multiple_of(unit)).sum(), UNITS_FIXED * unit, unit)
    }

    /// Finds out how much is sure to fit, unless the worker is at it.
    fn measure(&self) {
        if self.state.borrow().working {
            return;
        }
        let (compaction, fixed, _) = self.costs();
        // A file system that failed says so to whoever uses it next.
        let room = self.fs.with(|machine| Ok(machine.room_ahead())).unwrap_or_default();
        self.state.borrow_mut().headroom = headroom(room, compaction, fixed);
    }

    /// Compacts if that may give room back that is scarce.
    fn compact_if_scarce(&self, wanted: u64) {
        let is_refused = self.fs.with(|machine| Ok(machine.is_refused())).unwrap_or_default();
        if is_refused && self.state.borrow().headroom < wanted {
            self.take_turn_to_compact(Compact::IfWorthIt);
        }
    }

    /// True if a compaction is to begin.
    fn take_turn_to_compact(&self, compact: Compact) -> bool {
        let mut state = self.state.borrow_mut();
        let stored = Amount { keys: 0, bytes: state.runs.iter().map(|run| run.bytes).sum() };
        let may = !state.working && state.turns.take(compact, stored, self.core.now());
        state.compact |= may;
        may
    }

    /// Has the file system keep what such a headroom takes. True while its lender has not answered.
    fn keep(&self, headroom: u64) -> KvResult<bool> {
        let (compaction, fixed, _) = self.costs();
        self.fs.keep_room(room_for(headroom, compaction, fixed)).map_err(fs_error)
    }

    /// Waits until the worker has nothing to do.
    async fn rest(&self) {
        loop {
            let seen = self.changes.count();
            {
                let state = self.state.borrow();
                let idle = !state.working && state.waiting.is_empty() && !state.compact;
                if idle || state.closing || state.failed.is_some() || state.full.is_some() {
                    return;
                }
            }
            self.changes.since(seen).await;
        }
    }

    async fn give_back(
        &self,
        bytes: u64,
        keep: u64,
        compact: bool,
        among: &[Extent],
    ) -> KvResult<Vec<Extent>> {
        if self.state.borrow().working {
            return Ok(Vec::new());
        }
        let wanted = keep.max(self.state.borrow().headroom_wanted.unwrap_or_default());
        self.keep(wanted)?;
        let (compaction, fixed, unit) = self.costs();
        let keep = room_for(wanted, compaction, fixed);
        let given = self.fs.give_back(bytes, granule(unit), keep, among).await.map_err(fs_error)?;
        let len: u64 = given.iter().map(|extent| extent.len).sum();
        // The worker may have begun meanwhile, and then measures later.
        let mut state = self.state.borrow_mut();
        state.headroom = state.headroom.saturating_sub(headroom(len, 0, 0) + 1);
        drop(state);
        if compact && given.is_empty() {
            self.take_turn_to_compact(Compact::IfWorthIt);
        }
        self.changes.note();
        self.measure();
        Ok(given)
    }

    async fn make_headroom(&self, bytes: u64, compact: Compact) -> KvResult<()> {
        let wanted = bytes.max(self.state.borrow().headroom_wanted.unwrap_or_default());
        let mut asking = self.keep(wanted)?;
        let mut tries = 0;
        while asking && tries < ANSWER_TRIES_MAX {
            tries += 1;
            self.core.sleep(ANSWER_PAUSE).await;
            asking = self.fs.is_asking().map_err(fs_error)?;
        }
        self.measure();
        // One that runs already may have begun before the last removals.
        for _ in 0..2 {
            let is_short = compact != Compact::Never && self.state.borrow().headroom < bytes;
            let is_turn = is_short && self.take_turn_to_compact(compact);
            if is_turn {
                self.state.borrow_mut().full = None;
            }
            if is_turn || is_short && self.state.borrow().working {
                self.changes.note();
                self.rest().await;
                self.measure();
            }
        }
        self.state.borrow().check()
    }
}

impl KvStore for SimKv {
    fn view(&self) -> KvView {
        self.shared.state.borrow().snapshot()
    }

    fn apply(&self, batch: KvBatch) -> LocalBoxFuture<'static, KvResult<KvView>> {
        let shared = Rc::clone(&self.shared);
        let inserted = shared.insert(batch);
        let (give, result) = rt::sync::oneshot();
        if let Ok((before, last)) = inserted {
            shared.changes.note();
            // A task of its own, so that dropping the caller's future does not leave a gap in what is shown.
            let showing = Rc::clone(&shared);
            shared.core.spawn(Group::Commit, "kv apply", async move {
                // Nobody may wait for the view any more; the batch is applied all the same.
                let _ = give.send(showing.show(before, last).await);
            });
        }
        Box::pin(async move {
            inserted?;
            result.await.unwrap_or_else(|_| Err(KvError::Closed("the store's tasks ended".to_owned())))
        })
    }

    fn flush(&self) -> LocalBoxFuture<'static, KvResult<()>> {
        let shared = Rc::clone(&self.shared);
        let begun = {
            let mut state = shared.state.borrow_mut();
            state.check().map(|()| {
                state.rotate();
                state.full = None;
                state.memtables_begun
            })
        };
        shared.changes.note();
        Box::pin(async move { shared.persisted(begun?).await })
    }

    fn get(&self, view: &KvView, keys: Vec<Bytes>) -> LocalBoxFuture<'static, KvResult<Vec<Option<Bytes>>>> {
        let shared = Rc::clone(&self.shared);
        let snapshot = snapshot_of(view);
        Box::pin(async move {
            shared.state.borrow().check()?;
            shared.delay().await;
            let mut values = Vec::new();
            for key in &keys {
                values.push(snapshot.value(key).await?);
            }
            Ok(values)
        })
    }

    fn scan(
        &self,
        view: &KvView,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> LocalBoxFuture<'static, KvResult<ScanPage>> {
        let shared = Rc::clone(&self.shared);
        let snapshot = snapshot_of(view);
        Box::pin(async move {
            shared.state.borrow().check()?;
            shared.delay().await;
            snapshot.scan(start, end, limit).await
        })
    }

    fn stats(&self) -> KvStats {
        let state = self.shared.state.borrow();
        let fs = self.shared.fs.stats();
        let memtables = std::iter::once(&state.active).chain(&state.waiting);
        KvStats {
            device_bytes: fs.space_bytes - fs.free_bytes,
            memory_bytes: memtables.map(|memtable| memtable.bytes() as u64).sum::<u64>() + fs.buffered_bytes,
            cache_bytes: 0,
            tables_bytes_max: 0,
            cache_misses: 0,
            written_files: fs.written_files,
            written_log: fs.written_log,
            flushes: fs.flushes,
            headroom_bytes: Some(state.headroom),
            // The end of a run, and of the one that it is compacted into: a unit of room each.
            flush_bytes: headroom(2 * self.shared.costs().2, 0, 0),
            spare_bytes: self.shared.fs.with(|machine| Ok(machine.spare())).unwrap_or_default(),
            free_bytes: self.shared.fs.with(|machine| Ok(machine.room_ahead())).unwrap_or_default(),
            fast_bytes: fs.fast_bytes,
            fast_free_bytes: fs.fast_free_bytes,
            spilled_bytes: fs.spilled_bytes,
            ranges_compacted: 0,
            compactions: state.compactions,
        }
    }

    fn keep_headroom(&self, bytes: u64) {
        self.shared.state.borrow_mut().headroom_wanted = Some(bytes);
        // A file system that failed says so to whoever uses it next.
        let _ = self.shared.keep(bytes);
        self.shared.measure();
    }

    fn make_headroom(&self, bytes: u64, compact: Compact) -> LocalBoxFuture<'static, KvResult<()>> {
        let shared = Rc::clone(&self.shared);
        Box::pin(async move { shared.make_headroom(bytes, compact).await })
    }

    fn give_back(
        &self,
        bytes: u64,
        keep: u64,
        compact: bool,
        among: Vec<Extent>,
    ) -> LocalBoxFuture<'static, KvResult<Vec<Extent>>> {
        let shared = Rc::clone(&self.shared);
        Box::pin(async move { shared.give_back(bytes, keep, compact, &among).await })
    }

    fn move_back(&self, bytes: u64) -> LocalBoxFuture<'static, KvResult<u64>> {
        let shared = Rc::clone(&self.shared);
        Box::pin(async move { shared.fs.move_files(Move::IntoFast, bytes).await.map_err(fs_error) })
    }

    fn grow(&self, device_bytes: u64) -> LocalBoxFuture<'static, KvResult<()>> {
        let shared = Rc::clone(&self.shared);
        Box::pin(async move { shared.fs.grow_device(device_bytes).await.map_err(fs_error) })
    }

    fn grow_fast(&self, fast: Extent) -> LocalBoxFuture<'static, KvResult<()>> {
        let shared = Rc::clone(&self.shared);
        Box::pin(async move { shared.fs.grow_fast(fast).await.map_err(fs_error) })
    }

    fn close(&self) -> LocalBoxFuture<'static, KvResult<()>> {
        let shared = Rc::clone(&self.shared);
        shared.state.borrow_mut().closing = true;
        shared.changes.note();
        Box::pin(async move {
            loop {
                let seen = shared.changes.count();
                if !shared.state.borrow().working && !shared.rewriting.get() {
                    return Ok(());
                }
                shared.changes.since(seen).await;
            }
        })
    }
}
