//! Foreign work in the simulated world: runs on the core's own thread after a delay drawn from the seed.
//!
//! Invariant: work that was submitted runs once, whether or not somebody still waits for its result, unless the
//! host is killed first.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::host::SimCore;
use super::state::Event;
use super::{Shared, nanos};
use crate::core::{Lane, LocalBoxFuture};
use crate::limits::{ALIEN_LANE_JOBS_MAX, LANES};

pub(super) type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Foreign work of one life of a host.
#[derive(Default)]
pub(super) struct Aliens {
    next: u64,
    jobs: BTreeMap<u64, Job>,
    queued: [usize; LANES],
    waiting: [Vec<Waker>; LANES],
}

pub(super) struct Job {
    lane: Lane,
    work: Work,
    outcome: Rc<RefCell<Outcome>>,
}

#[derive(Default)]
struct Outcome {
    result: Option<Box<dyn Any + Send>>,
    waker: Option<Waker>,
}

impl Aliens {
    /// Takes what has not run.
    pub fn kill(&mut self) -> BTreeMap<u64, Job> {
        std::mem::take(&mut self.jobs)
    }
}

/// Submits if the lane has room, or else once the future is polled and it has.
pub(super) fn submit(
    shared: &Rc<Shared>,
    core: &SimCore,
    lane: Lane,
    work: Work,
) -> LocalBoxFuture<'static, Box<dyn Any + Send>> {
    let mut future = Submitted {
        shared: shared.clone(),
        host: core.host(),
        life: core.life(),
        lane,
        work: Some(work),
        outcome: Rc::default(),
    };
    future.try_submit(core);
    Box::pin(future)
}

/// Runs a job whose delay is over.
pub(super) fn run(shared: &Rc<Shared>, host: u16, life: u64, job: u64) {
    let Some(core) = living(shared, host, life) else { return };
    let job = {
        let mut aliens = core.aliens.borrow_mut();
        let Some(job) = aliens.jobs.remove(&job) else { return };
        aliens.queued[job.lane as usize] -= 1;
        aliens.waiting[job.lane as usize].drain(..).for_each(Waker::wake);
        job
    };
    let result = (job.work)();
    let mut outcome = job.outcome.borrow_mut();
    outcome.result = Some(result);
    if let Some(waker) = outcome.waker.take() {
        waker.wake();
    }
}

fn living(shared: &Rc<Shared>, host: u16, life: u64) -> Option<Rc<SimCore>> {
    shared.state.borrow().hosts.get(&host).filter(|core| core.life() == life).cloned()
}

struct Submitted {
    shared: Rc<Shared>,
    host: u16,
    life: u64,
    lane: Lane,
    work: Option<Work>,
    outcome: Rc<RefCell<Outcome>>,
}

impl Submitted {
    fn try_submit(&mut self, core: &SimCore) {
        let mut aliens = core.aliens.borrow_mut();
        if aliens.queued[self.lane as usize] >= ALIEN_LANE_JOBS_MAX {
            return;
        }
        let Some(work) = self.work.take() else { return };
        let number = aliens.next;
        aliens.next += 1;
        aliens.queued[self.lane as usize] += 1;
        aliens.jobs.insert(number, Job { lane: self.lane, work, outcome: self.outcome.clone() });
        let mut state = self.shared.state.borrow_mut();
        let (least, most) = self.shared.config.alien_delay;
        let delay = std::time::Duration::from_nanos(state.delays.between(nanos(least), nanos(most)));
        state.note("submit", &[self.host.into(), number, self.lane as u64], &[]);
        state.schedule_in(delay, Event::Alien { host: self.host, life: self.life, job: number });
    }
}

impl Future for Submitted {
    type Output = Box<dyn Any + Send>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.work.is_some()
            && let Some(core) = living(&self.shared, self.host, self.life)
        {
            self.try_submit(&core);
            if self.work.is_some() {
                core.aliens.borrow_mut().waiting[self.lane as usize].push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let mut outcome = self.outcome.borrow_mut();
        match outcome.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                outcome.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
