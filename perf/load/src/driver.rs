//! [`run`]: a job on a target, phase after phase: fill, age, warm up, measure, check. Lives on one core.
//!
//! Invariant: an operation of an open loop is timed from when it was to start. Whatever kept it from starting (too many in flight,
//! a target that stalls, this core being busy) is part of its latency, or of what is told of operations that never started.

mod load;
mod open;

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use rt::{Core, Nanos};

use crate::distribution::{Distribution, Places};
use crate::job::{Job, JobError, Length};
use crate::ledger::Finding;
use crate::limits::WATCH_MS;
use crate::meter::{Meter, Party};
use crate::recorder::{Direction, Lane, Recorder};
use crate::target::{Target, TargetError};
use load::{Load, Operation};
pub use open::OpenLoop;

/// Is told how far a run is.
pub trait Watch {
    /// A phase of so many steps begins.
    fn phase(&self, name: &'static str, total: u64);
    /// So many of them are done.
    fn at(&self, done: u64);
}

impl Watch for () {
    fn phase(&self, _: &'static str, _: u64) {}
    fn at(&self, _: u64) {}
}

/// Why there is no measurement.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum Failed {
    #[error(transparent)]
    Job(#[from] JobError),
    #[error("the phase '{phase}' stopped: {error}")]
    Target { phase: &'static str, error: TargetError },
}

/// What was measured.
#[derive(Clone)]
pub struct Measured {
    /// Blocks that there were.
    pub positions: u64,
    /// Operations that read.
    pub reads: Lane,
    /// Operations that wrote.
    pub writes: Lane,
    /// From the beginning until the last operation ended.
    pub elapsed: Duration,
    /// What is to be known of an open loop besides.
    pub open_loop: Option<OpenLoop>,
    /// Who spent what, this thread first.
    pub parties: Vec<Party>,
    /// Bytes written to the device, if somebody counts them.
    pub device_bytes: Option<u64>,
    /// What verification found, in all phases.
    pub verified: Option<Verified>,
}

/// What verification found.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Reads compared with what was written.
    pub checked: u64,
    /// How many were wrong.
    pub wrong: u64,
    /// The first of these.
    pub findings: Vec<Finding>,
}

/// Does the job.
pub async fn run<T: Target>(
    core: &Core,
    target: &T,
    job: &Job,
    watch: &dyn Watch,
) -> Result<Measured, Failed> {
    let positions = target.positions();
    job.check(positions)?;
    let load = Load::new(core, target, job, positions, core.random_u64());
    if job.fill {
        let mut next = 0..positions;
        let fill = load.closed(move || next.next().map(Operation::write));
        phase(&load, watch, "fill", positions, fill).await?;
    }
    let overwrites = (job.age * positions as f64).round() as u64;
    if overwrites > 0 {
        let (mut places, mut left) = (Places::new(Distribution::Uniform, positions), 0..overwrites);
        let age = load.closed(|| left.next().map(|_| Operation::write(load.draw_from(&mut places))));
        phase(&load, watch, "age", overwrites, age).await?;
    }
    if job.warm_up > 0.0 {
        let length = Length::Seconds(job.warm_up);
        timed(&load, watch, "warm-up", length).await?;
    }
    let mut meter = Meter::of_this_thread();
    let before = read(&load, &mut meter).await?;
    let begin = core.now();
    load.record_from(begin);
    let open_loop = timed(&load, watch, "measure", job.length).await?;
    let elapsed = Duration::from_nanos(core.now().0 - begin.0);
    let after = read(&load, &mut meter).await?;
    let (reads, writes) = load.recorded().unwrap_or_else(|| Recorder::new(begin)).into_lanes();
    if job.verify {
        let written = load.written();
        let total = written.len() as u64;
        let mut written = written.into_iter();
        let check = load.closed(move || written.next().map(Operation::read));
        phase(&load, watch, "check", total, check).await?;
    }
    let (parties, device_bytes) = after.since(&before);
    Ok(Measured {
        positions,
        reads,
        writes,
        elapsed,
        open_loop,
        parties,
        device_bytes,
        verified: load.verified(),
    })
}

/// The load as the job describes it, for so long.
async fn timed<T: Target>(
    load: &Load<'_, T>,
    watch: &dyn Watch,
    name: &'static str,
    length: Length,
) -> Result<Option<OpenLoop>, Failed> {
    let (core, job) = (load.core, load.job);
    let begin = core.now();
    let (end, total) = match length {
        Length::Seconds(seconds) => (Nanos(begin.0 + (seconds * 1e9) as u64), seconds.ceil() as u64),
        Length::Operations(operations) => (Nanos(u64::MAX), operations),
    };
    let operations = match length {
        Length::Seconds(_) => u64::MAX,
        Length::Operations(operations) => operations,
    };
    match job.rate {
        Some(rate) => {
            let open = open::run(load, rate, end, operations);
            phase(load, watch, name, total, open).await.map(Some)
        }
        None => {
            let mut left = 0..operations;
            let more = || {
                let goes_on = core.now() < end && left.next().is_some();
                goes_on.then(|| load.draw())
            };
            phase(load, watch, name, total, load.closed(more)).await.map(|()| None)
        }
    }
}

/// Runs a phase to its end, or to its first failure, and tells whoever watches.
async fn phase<T: Target, R>(
    load: &Load<'_, T>,
    watch: &dyn Watch,
    name: &'static str,
    total: u64,
    work: impl Future<Output = R>,
) -> Result<R, Failed> {
    watch.phase(name, total);
    load.begin_phase();
    let begin = load.core.now();
    let is_measured_by_time = matches!(load.job.length, Length::Seconds(_));
    let is_timed = name == "warm-up" || (name == "measure" && is_measured_by_time);
    let telling = async {
        loop {
            load.core.sleep(Duration::from_millis(WATCH_MS)).await;
            watch.at(if is_timed { (load.core.now().0 - begin.0) / 1_000_000_000 } else { load.done() });
        }
    };
    let result = match select(pin!(work), pin!(telling)).await {
        Either::Left((result, _)) => result,
        Either::Right((never, _)) => never,
    };
    match load.failure() {
        Some(error) => Err(Failed::Target { phase: name, error }),
        None => Ok(result),
    }
}

/// Clocks and counters at a moment.
struct Reading {
    parties: Vec<Party>,
    device_bytes: Option<u64>,
}

async fn read<T: Target>(load: &Load<'_, T>, meter: &mut Meter) -> Result<Reading, Failed> {
    let failed = |error| Failed::Target { phase: "measure", error };
    let others = load.target.spent().await.map_err(failed)?;
    let device_bytes = load.target.device_bytes().await.map_err(failed)?;
    let mut parties = vec![Party::new("this thread", meter.read(load.core))];
    parties.extend(others);
    Ok(Reading { parties, device_bytes })
}

impl Reading {
    fn since(&self, before: &Self) -> (Vec<Party>, Option<u64>) {
        let pairs = self.parties.iter().zip(&before.parties);
        let parties =
            pairs.map(|(now, before)| Party::new(&*now.name, now.spent.since(&before.spent))).collect();
        let bytes = self.device_bytes.zip(before.device_bytes);
        (parties, bytes.map(|(now, before)| now.saturating_sub(before)))
    }
}

impl Operation {
    fn read(position: u64) -> Self {
        Self { direction: Direction::Read, position }
    }

    fn write(position: u64) -> Self {
        Self { direction: Direction::Write, position }
    }
}
