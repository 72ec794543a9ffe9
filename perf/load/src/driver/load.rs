//! [`Load`]: the operations of a run, one at a time, and a closed loop of them.

use std::cell::{Cell, RefCell};

use futures_util::future::join_all;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use rt::{Core, Nanos};

use super::Verified;
use crate::arrivals::below;
use crate::content::Contents;
use crate::distribution::Places;
use crate::job::Job;
use crate::ledger::Ledger;
use crate::recorder::{Direction, Recorder};
use crate::target::{Target, TargetError};

/// Operations after which others of the core get their turn, though the target answers at once.
const TURN: u64 = 64;

/// What is to be done next.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub direction: Direction,
    pub position: u64,
}

/// See the module.
pub struct Load<'a, T> {
    pub core: &'a Core,
    pub target: &'a T,
    pub job: &'a Job,
    contents: Contents,
    random: RefCell<ChaCha8Rng>,
    places: RefCell<Places>,
    /// Only of a run that verifies.
    ledger: Option<RefCell<Ledger>>,
    /// Only while it is measured.
    recorder: RefCell<Option<Recorder>>,
    /// Operations of this phase that ended.
    done: Cell<u64>,
    failure: RefCell<Option<TargetError>>,
}

impl<'a, T: Target> Load<'a, T> {
    pub fn new(core: &'a Core, target: &'a T, job: &'a Job, positions: u64, run: u64) -> Self {
        let length = usize::try_from(job.block_size).unwrap_or(usize::MAX);
        Self {
            core,
            target,
            job,
            contents: Contents::new(length, run, job.verify),
            random: RefCell::new(ChaCha8Rng::seed_from_u64(job.seed)),
            places: RefCell::new(Places::new(job.distribution, positions)),
            ledger: job.verify.then(|| RefCell::new(Ledger::new(positions))),
            recorder: RefCell::new(None),
            done: Cell::new(0),
            failure: RefCell::new(None),
        }
    }

    pub fn begin_phase(&self) {
        self.done.set(0);
    }

    pub fn done(&self) -> u64 {
        self.done.get()
    }

    /// Why nothing more is done.
    pub fn failure(&self) -> Option<TargetError> {
        self.failure.borrow().clone()
    }

    pub fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub fn record_from(&self, begin: Nanos) {
        *self.recorder.borrow_mut() = Some(Recorder::new(begin));
    }

    /// What was recorded; nothing more is.
    pub fn recorded(&self) -> Option<Recorder> {
        self.recorder.borrow_mut().take()
    }

    /// Blocks that this run wrote and keeps account of.
    pub fn written(&self) -> Vec<u64> {
        self.ledger.as_ref().map(|ledger| ledger.borrow().written()).unwrap_or_default()
    }

    pub fn verified(&self) -> Option<Verified> {
        let ledger = self.ledger.as_ref()?.borrow();
        let (checked, wrong, findings) = ledger.found();
        Some(Verified { checked, wrong, findings: findings.to_vec() })
    }

    /// The next operation of the job.
    pub fn draw(&self) -> Operation {
        let mut random = self.random.borrow_mut();
        let is_read = below(&mut random, 100) < self.job.mix.into();
        let position = self.places.borrow_mut().next(&mut random);
        Operation { direction: if is_read { Direction::Read } else { Direction::Write }, position }
    }

    pub fn draw_from(&self, places: &mut Places) -> u64 {
        places.next(&mut self.random.borrow_mut())
    }

    /// Does as many at a time as the job says, until there are no more or one failed.
    pub async fn closed(&self, more: impl FnMut() -> Option<Operation>) {
        let more = RefCell::new(more);
        let next = || if self.has_failed() { None } else { more.borrow_mut()() };
        let workers = (0..self.job.depth).map(|_| async {
            while let Some(operation) = next() {
                self.one(operation, self.core.now()).await;
                if self.done().is_multiple_of(TURN) {
                    self.core.yield_now().await;
                }
            }
        });
        join_all(workers).await;
    }

    /// Does one that was to start at that moment.
    pub async fn one(&self, operation: Operation, intended: Nanos) {
        let ended = match operation.direction {
            Direction::Read => self.read(operation.position).await,
            Direction::Write => self.write(operation.position).await,
        };
        self.done.set(self.done.get() + 1);
        match ended {
            Ok(now) => {
                if let Some(recorder) = self.recorder.borrow_mut().as_mut() {
                    recorder.record(operation.direction, intended, now);
                }
            }
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
            }
        }
    }

    /// Gives when it ended: before anything was verified.
    async fn read(&self, wanted: u64) -> Result<Nanos, TargetError> {
        let Some(ledger) = &self.ledger else {
            self.target.read(wanted, false).await?;
            return Ok(self.core.now());
        };
        let (position, generation) = ledger.borrow_mut().begin_read(wanted);
        let result = self.target.read(position, true).await;
        let now = self.core.now();
        let checked = match &result {
            Ok(block) if generation > 0 => Some(self.contents.verify(block, position, generation)),
            _ => None,
        };
        ledger.borrow_mut().end_read(position, checked, || self.target.place(position));
        result.map(|_| now)
    }

    async fn write(&self, wanted: u64) -> Result<Nanos, TargetError> {
        let lot = self.random.borrow_mut().next_u64();
        let Some(ledger) = &self.ledger else {
            self.target.write(wanted, self.contents.make(wanted, 1, lot)).await?;
            return Ok(self.core.now());
        };
        let (position, generation) = ledger.borrow_mut().begin_write(wanted);
        let result = self.target.write(position, self.contents.make(position, generation, lot)).await;
        ledger.borrow_mut().end_write(position, generation);
        result.map(|()| self.core.now())
    }
}
