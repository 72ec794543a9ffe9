//! A life of a store: mounts it, takes the steps of a plan beside reads that hold on to what they see, and notes in the
//! recording what was acknowledged. Lives on one core, of either world.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bluefs::fs::FsStats;
use bytes::Bytes;
use nvme::Recording;
use rt::sync::Notify;
use rt::{Core, Group};
use store::{CollectionId, Engine, ObjectStore, StoreError};

use crate::plan::{Plan, Step};
use crate::stack::{Mounted, Setup, format, mount};
use crate::views::Views;

/// Mark: the format was reported as done.
pub const FORMATTED: u64 = 1 << 63;
/// Longer than the tail waits for its seal.
pub(crate) const IDLE: Duration = Duration::from_millis(8);
/// Longer than the pause after which space comes back and what spilled moves back.
const REST: Duration = Duration::from_millis(2100);
/// Pause of the reader between two rounds.
const READ_PAUSE: Duration = Duration::from_micros(150);

/// Mark: that many transactions of that track are acknowledged.
pub(crate) fn acknowledged(track: usize, count: usize) -> u64 {
    (track as u64) << 32 | count as u64
}

/// What lives did, to see that a workload is worth a sweep.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Counters of all mounts, added up.
    pub counters: BTreeMap<&'static str, u64>,
    /// Times that the store was opened.
    pub mounts: u64,
    /// Reads done beside the steps.
    pub reads: u64,
}

struct Life {
    core: Core,
    plan: Arc<Plan>,
    tape: Option<Recording>,
    open: Cell<usize>,
    changed: Notify,
    failure: RefCell<Option<String>>,
    reads: Cell<u64>,
    stopping: Cell<bool>,
    reading: Cell<bool>,
    fs_stats: RefCell<Option<Box<dyn Fn() -> FsStats>>>,
}

/// Carries out `plan` on a device.
pub async fn live(
    core: Core,
    setup: Arc<Setup>,
    views: Rc<Views>,
    plan: Arc<Plan>,
    tape: Option<Recording>,
) -> Result<Totals, String> {
    let life = Rc::new(Life::new(core, plan, tape));
    let mut totals = Totals::default();
    let store = life.steps(&setup, &views, &mut totals).await?;
    life.end(store, &mut totals).await?;
    totals.reads = life.reads.get();
    Ok(totals)
}

/// Carries out `plan`, and gives the store when it is at rest: everything is durable, and sealed.
pub async fn rest(
    core: Core,
    setup: Arc<Setup>,
    views: Rc<Views>,
    plan: Arc<Plan>,
) -> Result<Rc<Engine>, String> {
    let life = Rc::new(Life::new(core, plan, None));
    let store = life.steps(&setup, &views, &mut Totals::default()).await?;
    life.stop_reading().await?;
    // If the journal has no room for a seal, a checkpoint is made instead, which takes longer.
    life.core.sleep(REST).await;
    Ok(store)
}

impl Life {
    fn new(core: Core, plan: Arc<Plan>, tape: Option<Recording>) -> Self {
        Self {
            core,
            plan,
            tape,
            open: Cell::new(0),
            changed: Notify::default(),
            failure: RefCell::default(),
            reads: Cell::new(0),
            stopping: Cell::new(false),
            reading: Cell::new(false),
            fs_stats: RefCell::default(),
        }
    }

    /// Formats if the plan says so, and takes its steps. What `totals` gets is of lives that ended.
    async fn steps(
        self: &Rc<Self>,
        setup: &Setup,
        views: &Views,
        totals: &mut Totals,
    ) -> Result<Rc<Engine>, String> {
        let (life, plan) = (self, Arc::clone(&self.plan));
        if plan.formats {
            format(&life.core, setup, views).await?;
            life.mark(FORMATTED);
        }
        let mut store = life.begin(setup, views).await?;
        for (track, durable) in plan.durable_at_mount.iter().enumerate() {
            life.mark(acknowledged(track, *durable));
        }
        for step in &plan.steps {
            match *step {
                Step::Submit { track, transaction } => life.submit(&store, track, transaction),
                Step::Wait(most) => life.wait(most).await,
                Step::Idle => {
                    life.wait(0).await;
                    life.core.sleep(IDLE).await;
                }
                Step::Rest => {
                    life.wait(0).await;
                    let small = life.fs_stats.borrow().as_ref().map_or(0, |stats| stats().small_bytes);
                    *totals.counters.entry("fs_small_bytes").or_default() += small;
                    *totals.counters.entry("fs_spilled_bytes").or_default() += store.stats().spilled;
                    life.core.sleep(REST).await;
                }
                Step::Checkpoint => {
                    store.checkpoint().await.map_err(|error| format!("checkpoint: {error}"))?;
                }
                Step::Reopen => {
                    life.end(store, totals).await?;
                    store = life.begin(setup, views).await?;
                }
            }
            life.check()?;
        }
        Ok(store)
    }

    fn mark(&self, word: u64) {
        if let Some(tape) = &self.tape {
            tape.mark(word);
        }
    }

    fn check(&self) -> Result<(), String> {
        self.failure.borrow().clone().map_or(Ok(()), Err)
    }

    fn fail(&self, reason: String) {
        self.failure.borrow_mut().get_or_insert(reason);
        self.changed.notify_all();
    }

    async fn begin(self: &Rc<Self>, setup: &Setup, views: &Views) -> Result<Rc<Engine>, String> {
        let Mounted { engine, fs_stats } =
            mount(&self.core, setup, views).await.map_err(|error| error.to_string())?;
        let store = Rc::new(engine);
        self.fs_stats.replace(Some(fs_stats));
        self.stopping.set(false);
        self.reading.set(true);
        let (life, reader) = (Rc::clone(self), Rc::clone(&store));
        drop(self.core.spawn(Group::Client, "reader", async move { life.read(reader).await }));
        Ok(store)
    }

    async fn stop_reading(&self) -> Result<(), String> {
        self.wait(0).await;
        self.stopping.set(true);
        while self.reading.get() {
            self.changed.notified().await;
        }
        self.check()
    }

    async fn end(&self, store: Rc<Engine>, totals: &mut Totals) -> Result<(), String> {
        self.stop_reading().await?;
        store.close().await.map_err(|error| format!("close: {error}"))?;
        let fs = self.fs_stats.take().map_or_else(FsStats::default, |stats| stats());
        let of_fs = [
            ("fs_groups", fs.groups),
            ("fs_compactions", fs.compactions),
            ("fs_files_removed", fs.files_removed),
        ];
        for (name, count) in store.stats().counters.into_iter().chain(of_fs) {
            *totals.counters.entry(name).or_default() += count;
        }
        totals.mounts += 1;
        Ok(())
    }

    fn submit(self: &Rc<Self>, store: &Engine, track: usize, transaction: usize) {
        let Some(what) = self.plan.tracks.get(track).and_then(|track| track.transactions.get(transaction))
        else {
            panic!("the plan has no transaction {transaction} of track {track}")
        };
        let durable = store.submit(what.clone()).durable;
        self.open.set(self.open.get() + 1);
        let life = Rc::clone(self);
        let task = self.core.spawn(Group::Client, "acknowledgement", async move {
            match durable.await {
                Ok(()) => life.mark(acknowledged(track, transaction + 1)),
                Err(error) => life.fail(format!("transaction {transaction} of track {track}: {error}")),
            }
            life.open.set(life.open.get() - 1);
            life.changed.notify_all();
        });
        drop(task);
    }

    async fn wait(&self, most: usize) {
        while self.open.get() > most && self.failure.borrow().is_none() {
            self.changed.notified().await;
        }
    }

    /// Reads what changes, again and again, so that generations and space are held while they are replaced.
    async fn read(&self, store: Rc<Engine>) {
        let ids: Vec<CollectionId> =
            self.plan.tracks.iter().flat_map(|track| track.ids.iter().copied()).collect();
        while !self.stopping.get() {
            for id in &ids {
                if let Err(error) = read_collection(&store, *id).await {
                    self.fail(format!("a read beside the workload: {error}"));
                }
                self.reads.set(self.reads.get() + 1);
            }
            self.core.sleep(READ_PAUSE).await;
        }
        self.reading.set(false);
        self.changed.notify_all();
    }
}

async fn read_collection(store: &Engine, id: CollectionId) -> Result<(), StoreError> {
    let gone = |error| if matches!(error, StoreError::NotFound(_)) { Ok(()) } else { Err(error) };
    let names = match store.list(id, None, 100).await {
        Ok((names, _)) => names,
        Err(error) => return gone(error),
    };
    for name in names {
        let omap = store.omap_scan(id, &name, None, Bytes::new(), 1000, usize::MAX);
        let data = store.read(id, &name, 0, u64::MAX);
        data.await.map(|_| ()).or_else(gone)?;
        omap.await.map(|_| ()).or_else(gone)?;
    }
    Ok(())
}
