//! [`RocksKv`]: the store's end on a core. It orders, hands over and waits; it never calls RocksDB itself.
//!
//! Batches go to one foreign job at a time, as many as wait, so that they take effect in the order of the calls
//! however many foreign threads there are. Every job that holds something of RocksDB's belongs to a task of its own:
//! a caller that drops its future cannot make the core drop it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bluefs::fs::{BlueFs, MountOptions, SpaceDesk};
use bluefs::kv::{
    Compact, Extent, KvBatch, KvError, KvResult, KvStats, KvStore, KvView, ScanLimit, ScanPage,
};
use bytes::Bytes;
use nvme::BlockingDevice;
use rt::sync::{Either, Gate, Notify, OneSender, Pass, oneshot, select};
use rt::{Core, Group, Lane, LocalBoxFuture, Nanos};

use crate::database::{Database, HeldSnapshot};
use crate::options::RocksOptions;
use crate::report::RocksReport;
use crate::trash::Trash;

/// Batches handed to one foreign job at most; bounds how long it runs.
const BATCHES_PER_JOB_MAX: usize = 64;
/// How often an answer of the lender is looked for, and how often at most.
const ANSWER_PAUSE: Duration = Duration::from_millis(1);
/// See [`ANSWER_PAUSE`].
const ANSWER_TRIES_MAX: u32 = 5000;
/// Between two compactions of what was removed by ranges: each may rewrite all that the newest files overlap.
const RANGES_PAUSE: Duration = Duration::from_secs(10);

/// See the module. Clones are handles on the same store.
#[derive(Clone)]
pub struct RocksKv {
    shared: Rc<Shared>,
}

struct Waiting {
    batch: KvBatch,
    answer: OneSender<KvResult<KvView>>,
    _pass: Pass,
}

struct Shared {
    core: Core,
    fs: BlueFs,
    /// None once closed.
    database: RefCell<Option<Arc<Database>>>,
    trash: Rc<Trash>,
    gate: Gate,
    queue: RefCell<VecDeque<Waiting>>,
    pumping: Cell<bool>,
    submitted: Cell<u64>,
    applied: Cell<u64>,
    progress: Notify,
    newest: RefCell<KvView>,
    failed: RefCell<Option<KvError>>,
    stats: Cell<KvStats>,
    compacting: Cell<bool>,
    /// Somebody waits to compact what was removed by ranges.
    ranges_wait: Cell<bool>,
    /// When that was last done.
    ranges_compacted: Cell<Option<Nanos>>,
}

/// What a [`KvView`] of this store holds; its snapshot is released on a foreign thread.
struct View {
    snapshot: Option<Arc<HeldSnapshot>>,
    trash: Rc<Trash>,
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            self.trash.throw(snapshot);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            self.trash.throw(database);
        }
    }
}

impl RocksKv {
    /// Opens the store of a mounted file system, making it if it is not there.
    pub async fn open(core: Core, fs: BlueFs, options: RocksOptions) -> KvResult<Self> {
        let trash = Trash::new(core.clone());
        let below = fs.clone();
        let opened = core.alien(Lane::Checkpoint, move || {
            let database = Arc::new(Database::open(below, options)?);
            let (snapshot, stats) = (database.snapshot(), database.stats());
            Ok((database, snapshot, stats))
        });
        let (database, snapshot, stats) = opened.await?;
        let newest = KvView::new(Rc::new(View { snapshot: Some(snapshot), trash: Rc::clone(&trash) }));
        let shared = Shared {
            core,
            fs,
            database: RefCell::new(Some(database)),
            trash,
            gate: Gate::default(),
            queue: RefCell::default(),
            pumping: Cell::new(false),
            submitted: Cell::new(0),
            applied: Cell::new(0),
            progress: Notify::default(),
            newest: RefCell::new(newest),
            failed: RefCell::default(),
            stats: Cell::new(stats),
            compacting: Cell::new(false),
            ranges_wait: Cell::new(false),
            ranges_compacted: Cell::new(None),
        };
        Ok(Self { shared: Rc::new(shared) })
    }

    /// Mounts BlueFS on a device and opens the store in it.
    pub async fn mount(
        core: Core,
        device: Arc<dyn BlockingDevice>,
        mount: MountOptions,
        desk: Option<SpaceDesk>,
        options: RocksOptions,
    ) -> KvResult<Self> {
        let mounted = core.alien(Lane::Checkpoint, move || BlueFs::mount(device, mount, desk)).await;
        let fs = mounted.map_err(|error| KvError::Io(error.to_string()))?;
        Self::open(core, fs, options).await
    }

    /// The file system below. Its calls block: use it from foreign threads only.
    pub fn fs(&self) -> &BlueFs {
        &self.shared.fs
    }

    /// Numbers of RocksDB's.
    pub async fn report(&self) -> KvResult<RocksReport> {
        self.shared.job(Lane::Read, |database| Ok(database.report())).await
    }

    /// Compacts everything; for tests and for an operator who asks.
    pub async fn compact(&self) -> KvResult<()> {
        self.shared.job(Lane::Compaction, Database::compact).await
    }
}

impl Shared {
    fn check(&self) -> KvResult<Pass> {
        if let Some(error) = &*self.failed.borrow() {
            return Err(KvError::Closed(format!("failed before: {error}")));
        }
        self.gate.enter().ok_or_else(|| KvError::Closed("closed".to_owned()))
    }

    fn database(&self) -> KvResult<Arc<Database>> {
        self.database.borrow().clone().ok_or_else(|| KvError::Closed("closed".to_owned()))
    }

    fn fail(&self, error: &KvError) {
        log::error!("key-value store: {error}");
        self.failed.borrow_mut().get_or_insert_with(|| error.clone());
        self.progress.notify_all();
    }

    /// Runs `work` on a foreign thread in a task of its own.
    fn spawn_job<T: Send + 'static>(
        self: &Rc<Self>,
        lane: Lane,
        pass: KvResult<Pass>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> LocalBoxFuture<'static, KvResult<T>> {
        let pass = match pass {
            Ok(pass) => pass,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let (answer, result) = oneshot();
        let (done, shared) = (self.core.alien(lane, work), Rc::downgrade(self));
        self.core.spawn(Group::Client, "kv read", async move {
            // Whoever asked may be gone.
            let _ = answer.send(done.await);
            if let Some(shared) = shared.upgrade() {
                shared.rewrite_log_if_wanted();
            }
            drop(pass);
        });
        Box::pin(async move { result.await.map_err(|_| KvError::Closed("its core ended".to_owned())) })
    }

    /// Runs `work` on the database, on a foreign thread.
    async fn job<T: Send + 'static>(
        self: &Rc<Self>,
        lane: Lane,
        work: impl FnOnce(&Database) -> KvResult<T> + Send + 'static,
    ) -> KvResult<T> {
        let database = self.database()?;
        self.spawn_job(lane, self.check(), move || work(&database)).await?
    }

    /// Hands over batches until none wait.
    async fn pump(self: Rc<Self>) {
        loop {
            let waiting: Vec<Waiting> = {
                let mut queue = self.queue.borrow_mut();
                let count = queue.len().min(BATCHES_PER_JOB_MAX);
                queue.drain(..count).collect()
            };
            if waiting.is_empty() {
                self.pumping.set(false);
                return;
            }
            self.apply_all(waiting).await;
            self.rewrite_log_if_wanted();
        }
    }

    /// Writes BlueFS's log anew if commits found it half full, so that none has to; RocksDB's own threads commit as well, and
    /// nobody but this core looks after the log.
    fn rewrite_log_if_wanted(self: &Rc<Self>) {
        if !self.fs.bell().take() {
            return;
        }
        let (Ok(pass), Ok(database)) = (self.check(), self.database()) else { return };
        let rewritten = self.core.alien(Lane::Space, move || database.rewrite_log());
        self.core.spawn(Group::Commit, "file system's log", async move {
            if let Err(error) = rewritten.await {
                // Whoever uses the file system next is told.
                log::debug!("key-value store: {error}");
            }
            drop(pass);
        });
    }

    async fn apply_all(&self, waiting: Vec<Waiting>) {
        let count = waiting.len() as u64;
        let (batches, answers): (Vec<_>, Vec<_>) =
            waiting.into_iter().map(|one| (one.batch, (one.answer, one._pass))).unzip();
        let failed = self.failed.borrow().clone();
        let results: Vec<KvResult<KvView>> = match (self.database(), failed) {
            (Ok(database), None) => {
                let applied = self.core.alien(Lane::Checkpoint, move || database.apply(batches)).await;
                self.stats.set(applied.stats);
                let view = View { snapshot: Some(applied.snapshot), trash: Rc::clone(&self.trash) };
                let view = KvView::new(Rc::new(view));
                *self.newest.borrow_mut() = view.clone();
                applied.results.into_iter().map(|result| result.map(|()| view.clone())).collect()
            }
            (_, failed) => {
                let error = KvError::Closed(failed.map_or("closed".to_owned(), |error| error.to_string()));
                batches.iter().map(|_| Err(error.clone())).collect()
            }
        };
        self.applied.set(self.applied.get() + count);
        for (result, (answer, pass)) in results.into_iter().zip(answers) {
            if let Err(error) = &result
                && !matches!(error, KvError::Full(_) | KvError::Closed(_))
            {
                self.fail(error);
            }
            // Whoever asked may be gone.
            let _ = answer.send(result);
            drop(pass);
        }
        self.progress.notify_all();
    }

    /// Compacts beside the other work if that may give room that is scarce; with no number, if it may give any.
    fn compact_if_scarce(self: &Rc<Self>, wanted: Option<u64>, compact: Compact) {
        let (Ok(pass), Ok(database)) = (self.check(), self.database()) else { return };
        if self.compacting.get() {
            // Whoever needs room waits, and asks again. A flush only looks whether there is enough.
            if wanted != Some(0) {
                database.want_space(true);
            }
            return;
        }
        database.want_space(false);
        self.compacting.set(true);
        let shared = Rc::clone(self);
        self.core.spawn(Group::Background, "kv compaction", async move {
            let (now, of) = (shared.core.now(), Arc::clone(&database));
            let work = move || {
                if of.take_turn_to_compact(wanted, compact, now)? {
                    of.compact()?;
                }
                Ok(of.stats())
            };
            shared.compact_with(work).await;
            database.end_turn(shared.core.now());
            // Before whoever closes the store goes on, who must be the last that has it.
            drop(database);
            drop(pass);
        });
    }

    /// Compacts what was removed by ranges, if that was much and a while after it was last done.
    fn compact_ranges(self: &Rc<Self>) {
        let (Ok(pass), Ok(database)) = (self.check(), self.database()) else { return };
        if !database.has_ranges_to_compact() || self.ranges_wait.replace(true) {
            return;
        }
        let shared = Rc::clone(self);
        self.core.spawn(Group::Background, "kv range compaction", async move {
            let since = shared.ranges_compacted.get().map(|at| shared.core.now().0.saturating_sub(at.0));
            let pause = since
                .map_or(Duration::ZERO, |since| RANGES_PAUSE.saturating_sub(Duration::from_nanos(since)));
            let rest = Box::pin(shared.core.sleep(pause));
            let mut is_closing = matches!(select(rest, pass.closing()).await, Either::Right(_));
            while shared.compacting.get() && !is_closing {
                is_closing =
                    matches!(select(shared.progress.notified(), pass.closing()).await, Either::Right(_));
            }
            if !is_closing {
                shared.compacting.set(true);
                shared.compact_with(move || database.compact_ranges().map(|()| database.stats())).await;
                shared.ranges_compacted.set(Some(shared.core.now()));
            }
            shared.ranges_wait.set(false);
            drop(pass);
        });
    }

    /// Whoever comes here has set `compacting`.
    async fn compact_with(&self, work: impl FnOnce() -> KvResult<KvStats> + Send + 'static) {
        match self.core.alien(Lane::Compaction, work).await {
            Ok(stats) => self.stats.set(stats),
            // Closing cuts it short.
            Err(_) if self.gate.is_closing() => {}
            Err(error) => self.fail(&error),
        }
        self.compacting.set(false);
        self.progress.notify_all();
    }

    /// See the seam. Many short jobs rather than one that waits: the lender may need the thread.
    async fn make_headroom(self: Rc<Self>, bytes: u64, compact: Compact) -> KvResult<()> {
        let mut asking = self.job(Lane::Space, move |database| database.keep_room(bytes)).await?;
        let mut tries = 0;
        while asking && tries < ANSWER_TRIES_MAX {
            tries += 1;
            self.core.sleep(ANSWER_PAUSE).await;
            asking = self.job(Lane::Space, Database::is_asking).await?;
        }
        self.stats.set(self.job(Lane::Space, |database| Ok(database.stats())).await?);
        let is_short = |this: &Self| this.stats.get().headroom_bytes.is_some_and(|room| room < bytes);
        if is_short(&self) && compact != Compact::Never {
            // One that runs already may have begun before the last removals.
            for _ in 0..2 {
                self.compact_if_scarce(Some(bytes), compact);
                while self.compacting.get() && !self.gate.is_closing() {
                    self.progress.notified().await;
                }
            }
        }
        Ok(())
    }

    /// Waits until the first `count` batches were handed over, then flushes.
    async fn flush_after(self: &Rc<Self>, count: u64) -> KvResult<()> {
        while self.applied.get() < count {
            self.progress.notified().await;
        }
        if let Some(error) = &*self.failed.borrow() {
            return Err(error.clone());
        }
        let database = self.database()?;
        let flushed = self.core.alien(Lane::Checkpoint, move || database.flush()).await;
        match flushed {
            Ok(stats) => {
                self.stats.set(stats);
                self.compact_if_scarce(Some(0), Compact::IfWorthIt);
                self.compact_ranges();
                Ok(())
            }
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }
}

fn snapshot_of(view: &KvView) -> Arc<HeldSnapshot> {
    let Some(snapshot) = view.get::<View>().and_then(|view| view.snapshot.clone()) else {
        panic!("a view of another store")
    };
    snapshot
}

impl KvStore for RocksKv {
    fn view(&self) -> KvView {
        self.shared.newest.borrow().clone()
    }

    fn apply(&self, batch: KvBatch) -> LocalBoxFuture<'static, KvResult<KvView>> {
        let shared = &self.shared;
        let pass = match shared.check() {
            Ok(pass) => pass,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let (answer, result) = oneshot();
        shared.queue.borrow_mut().push_back(Waiting { batch, answer, _pass: pass });
        shared.submitted.set(shared.submitted.get() + 1);
        if !shared.pumping.replace(true) {
            shared.core.spawn(Group::Commit, "kv apply", Rc::clone(shared).pump());
        }
        Box::pin(
            async move { result.await.unwrap_or_else(|_| Err(KvError::Closed("its core ended".to_owned()))) },
        )
    }

    fn flush(&self) -> LocalBoxFuture<'static, KvResult<()>> {
        let pass = match self.shared.check() {
            Ok(pass) => pass,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let (answer, result) = oneshot();
        let count = self.shared.submitted.get();
        let shared = Rc::clone(&self.shared);
        self.shared.core.spawn(Group::Commit, "kv flush", async move {
            // Whoever asked may be gone.
            let _ = answer.send(shared.flush_after(count).await);
            drop(pass);
        });
        Box::pin(
            async move { result.await.unwrap_or_else(|_| Err(KvError::Closed("its core ended".to_owned()))) },
        )
    }

    fn get(&self, view: &KvView, keys: Vec<Bytes>) -> LocalBoxFuture<'static, KvResult<Vec<Option<Bytes>>>> {
        let snapshot = snapshot_of(view);
        let job = self.shared.spawn_job(Lane::Read, self.shared.check(), move || snapshot.get(keys));
        Box::pin(async move { job.await? })
    }

    fn scan(
        &self,
        view: &KvView,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> LocalBoxFuture<'static, KvResult<ScanPage>> {
        let snapshot = snapshot_of(view);
        let job =
            self.shared.spawn_job(Lane::Read, self.shared.check(), move || snapshot.scan(start, end, limit));
        Box::pin(async move { job.await? })
    }

    fn stats(&self) -> KvStats {
        self.shared.stats.get()
    }

    fn set_cache_bytes(&self, bytes: u64) {
        let shared = Rc::clone(&self.shared);
        self.shared.core.spawn(Group::Background, "kv cache", async move {
            let set = shared.job(Lane::Space, move |database| {
                database.set_cache_bytes(bytes);
                Ok(database.stats())
            });
            match set.await {
                Ok(stats) => shared.stats.set(stats),
                // Who uses the store next is told.
                Err(error) => log::debug!("key-value store: {error}"),
            }
        });
    }

    fn begin_compacting(&self) {
        let shared = Rc::clone(&self.shared);
        self.shared.core.spawn(Group::Background, "kv compactions", async move {
            match shared.job(Lane::Space, |database| Ok(database.begin_compacting())).await {
                Ok(stats) => shared.stats.set(stats),
                // Who uses the store next is told.
                Err(error) => log::debug!("key-value store: {error}"),
            }
        });
    }

    fn keep_headroom(&self, bytes: u64) {
        let shared = Rc::clone(&self.shared);
        self.shared.core.spawn(Group::Background, "kv room", async move {
            match shared.job(Lane::Space, move |database| database.want(bytes)).await {
                Ok(stats) => shared.stats.set(stats),
                // Who uses the store next is told.
                Err(error) => log::debug!("key-value store: {error}"),
            }
        });
    }

    fn make_headroom(&self, bytes: u64, compact: Compact) -> LocalBoxFuture<'static, KvResult<()>> {
        Box::pin(Rc::clone(&self.shared).make_headroom(bytes, compact))
    }

    fn give_back(
        &self,
        bytes: u64,
        keep: u64,
        compact: bool,
        among: Vec<Extent>,
    ) -> LocalBoxFuture<'static, KvResult<Vec<Extent>>> {
        let shared = Rc::clone(&self.shared);
        Box::pin(async move {
            let job = shared.job(Lane::Space, move |database| database.give_back(bytes, keep, &among));
            let (given, stats) = job.await?;
            shared.stats.set(stats);
            if compact && given.is_empty() {
                shared.compact_if_scarce(None, Compact::IfWorthIt);
            }
            Ok(given)
        })
    }

    fn move_back(&self, bytes: u64) -> LocalBoxFuture<'static, KvResult<u64>> {
        let shared = Rc::clone(&self.shared);
        Box::pin(async move {
            let (moved, stats) =
                shared.job(Lane::Compaction, move |database| database.move_back(bytes)).await?;
            shared.stats.set(stats);
            Ok(moved)
        })
    }

    fn grow(&self, device_bytes: u64) -> LocalBoxFuture<'static, KvResult<()>> {
        let shared = Rc::clone(&self.shared);
        Box::pin(async move {
            let stats = shared.job(Lane::Space, move |database| database.grow(device_bytes)).await?;
            shared.stats.set(stats);
            Ok(())
        })
    }

    fn grow_fast(&self, fast: Extent) -> LocalBoxFuture<'static, KvResult<()>> {
        let shared = Rc::clone(&self.shared);
        Box::pin(async move {
            let stats = shared.job(Lane::Space, move |database| database.grow_fast(fast)).await?;
            shared.stats.set(stats);
            Ok(())
        })
    }

    fn close(&self) -> LocalBoxFuture<'static, KvResult<()>> {
        let shared = Rc::clone(&self.shared);
        let closed = shared.gate.close();
        Box::pin(async move {
            if let (true, Ok(database)) = (shared.compacting.get(), shared.database()) {
                shared.core.alien(Lane::Checkpoint, move || database.cancel_compaction()).await;
            }
            closed.await;
            let Some(database) = shared.database.take() else { return Ok(()) };
            *shared.newest.borrow_mut() = KvView::new(Rc::new(()));
            // Views that somebody still holds keep the database open, but idle.
            shared
                .core
                .alien(Lane::Checkpoint, move || {
                    database.stop();
                    drop(database);
                })
                .await;
            shared.trash.sweep().await;
            Ok(())
        })
    }
}
