//! One flip, and the store under load with it.

use std::rc::Rc;
use std::sync::Arc;

use nvme::MemoryDevice;
use rt::Core;
use store::{Engine, FsckLevel, ObjectStore, Unwatched};

use crate::dump::{Tolerant, tolerant};
use crate::plan::{Plan, Step};
use crate::stack::{Setup, mount};
use crate::views::Views;
use crate::workload::aftermath;

/// See the module.
pub struct Trial {
    pub setup: Arc<Setup>,
    /// What the store went through.
    pub plan: Arc<Plan>,
    pub device: MemoryDevice,
    /// Which bits of which byte.
    pub flip: (u64, u8),
    /// The flip comes when the store is open.
    pub while_open: bool,
    pub salt: u64,
}

/// The store with its flip, and what is known of it.
struct Rotten {
    plan: Plan,
    /// For each track, the transactions that took effect; and whether the next was refused, which may have taken effect all
    /// the same if the store went down with it.
    reached: Vec<(usize, bool)>,
    /// What found the flip first.
    found_by: Option<&'static str>,
}

impl Trial {
    /// Gives what found the flip, if anything did; an error if it was served or broke something.
    pub async fn run(self, core: Core) -> Result<Option<&'static str>, String> {
        let all: Vec<usize> = self.plan.tracks.iter().map(|track| track.transactions.len()).collect();
        let plan = aftermath(&self.plan.tracks, &all, &all, self.salt);
        let mut rotten = Rotten { reached: vec![(0, false); plan.tracks.len()], plan, found_by: None };
        if !self.while_open {
            self.flip();
        }
        let Some(store) = rotten.open(&core, &self).await else { return Ok(rotten.found_by) };
        if self.while_open {
            self.flip();
        }
        rotten.look(&store).await?;
        rotten.load(&core, &store).await;
        rotten.look(&store).await?;
        if store.close().await.is_err() {
            rotten.found("close");
        }
        drop(store);
        let Some(store) = rotten.open(&core, &self).await else { return Ok(rotten.found_by) };
        rotten.look(&store).await?;
        // Its threads, if it has any, must end; whether it can still write was asked before.
        drop(store.close().await);
        Ok(rotten.found_by)
    }

    fn flip(&self) {
        let (at, mask) = self.flip;
        self.device.corrupt(at, mask);
    }
}

impl Rotten {
    fn found(&mut self, by: &'static str) {
        self.found_by.get_or_insert(by);
    }

    async fn open(&mut self, core: &Core, trial: &Trial) -> Option<Rc<Engine>> {
        let views = Views::plain(&trial.setup.devices, &trial.device);
        match mount(core, &trial.setup, &views).await {
            Ok(mounted) => Some(Rc::new(mounted.engine)),
            Err(error) => {
                log::debug!("{error}");
                self.found("mount");
                None
            }
        }
    }

    /// Everything that can be read is the truth; then the check of the whole store.
    async fn look(&mut self, store: &Engine) -> Result<(), String> {
        for track in 0..self.plan.tracks.len() {
            let (reached, is_refused) = self.reached[track];
            let looked = match self.compare(store, track, reached).await {
                Err(_) if is_refused => self.compare(store, track, reached + 1).await,
                looked => looked,
            };
            if !looked? {
                self.found("read");
            }
        }
        match store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await {
            Ok(report) if report.findings.is_empty() => {}
            _ => self.found("check"),
        }
        Ok(())
    }

    /// Whether all of a track can be read; an error if it is not as after so many transactions.
    async fn compare(&self, store: &Engine, track: usize, reached: usize) -> Result<bool, String> {
        let track = &self.plan.tracks[track];
        let mut is_readable = true;
        for (id, expected) in track.ids.iter().zip(&track.states[reached]) {
            if let Tolerant::Unreadable(reason) = tolerant(store, *id, expected.as_ref()).await? {
                log::debug!("{id:?}: {reason}");
                is_readable = false;
            }
        }
        Ok(is_readable)
    }

    /// Writes on, track by track until one is refused.
    async fn load(&mut self, core: &Core, store: &Rc<Engine>) {
        for step in self.plan.steps.clone() {
            match step {
                Step::Submit { track, transaction } if !self.reached[track].1 => {
                    let what = self.plan.tracks[track].transactions[transaction].clone();
                    match store.submit(what).durable.await {
                        Ok(()) => self.reached[track].0 = transaction + 1,
                        Err(error) => {
                            log::debug!("{error}");
                            self.reached[track].1 = true;
                            self.found("write");
                        }
                    }
                }
                Step::Idle => core.sleep(crate::life::IDLE).await,
                _ => {}
            }
        }
    }
}
