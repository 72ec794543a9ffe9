//! The bridge to foreign threads, for blocking libraries. Shared by all cores of a process; the one place, with
//! mailboxes and the registry of wakers, that has locks.
//!
//! Invariants: lanes are served in the order of [`Lane`], first come first served within one; work that was accepted
//! runs once, even if nobody waits for it any more and even if the bridge is closing; housekeeping never has the last
//! thread.

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use crate::core::{Lane, LocalBoxFuture};
use crate::limits::{ALIEN_LANE_JOBS_MAX, ALIEN_THREADS_MAX, LANES};
use crate::os;

/// Work with its type erased.
pub(crate) type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// How many foreign threads there are, and where they run.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// Number of threads, at least one.
    pub threads: usize,
    /// CPUs they may use; any if empty.
    pub cpus: Vec<usize>,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self { threads: 2, cpus: Vec::new() }
    }
}

/// A set of foreign threads; clones share it. Dropping the last clone waits until all accepted work is done.
#[derive(Clone)]
pub struct Bridge {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    lanes: Mutex<Lanes>,
    work_waits: Condvar,
}

struct Lanes {
    queues: [VecDeque<Job>; LANES],
    /// Who waits for room, per lane.
    waiting: [Vec<Waker>; LANES],
    idle: usize,
    closing: bool,
}

struct Job {
    work: Work,
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Default)]
struct Outcome {
    result: Option<Box<dyn Any + Send>>,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No foreign code runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bridge {
    /// Starts the threads.
    pub fn start(config: &BridgeConfig) -> std::io::Result<Self> {
        let count = config.threads.clamp(1, ALIEN_THREADS_MAX);
        let lanes =
            Lanes { queues: Default::default(), waiting: Default::default(), idle: count, closing: false };
        let shared = Arc::new(Shared { lanes: Mutex::new(lanes), work_waits: Condvar::new() });
        let mut owner = Owner { shared: shared.clone(), threads: Vec::new() };
        for number in 0..count {
            let (shared, cpus) = (shared.clone(), config.cpus.clone());
            let builder = std::thread::Builder::new().name(format!("alien-{number}"));
            owner.threads.push(builder.spawn(move || {
                if let Err(error) = os::bind_to_cpus(&cpus) {
                    log::warn!("foreign thread {number} not bound to CPUs {cpus:?}: {error}");
                }
                serve(&shared, count);
            })?);
        }
        Ok(Self { owner: Arc::new(owner) })
    }

    /// Submits work, at once if the lane has room, or else as the future is polled.
    pub(crate) fn submit(&self, lane: Lane, work: Work) -> LocalBoxFuture<'static, Box<dyn Any + Send>> {
        let mut future =
            Submitted { shared: self.owner.shared.clone(), lane, work: Some(work), outcome: Arc::default() };
        future.try_submit(None);
        Box::pin(future)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        lock(&self.shared.lanes).closing = true;
        self.shared.work_waits.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended the process.
            let _ = thread.join();
        }
    }
}

/// What a foreign thread does.
fn serve(shared: &Shared, threads: usize) {
    while let Some((job, waiting)) = shared.next(threads) {
        waiting.into_iter().for_each(Waker::wake);
        let result = abort_on_panic("foreign work", job.work);
        let waker = {
            let mut outcome = lock(&job.outcome);
            outcome.result = Some(result);
            outcome.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
        lock(&shared.lanes).idle += 1;
        // A thread that left housekeeping alone may take it now.
        shared.work_waits.notify_one();
    }
}

/// A panic on a thread other than the main one must end the process, too.
pub(crate) fn abort_on_panic<T>(what: &str, call: impl FnOnce() -> T) -> T {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        Ok(value) => value,
        Err(_) => {
            log::error!("{what} panicked, see above; the process ends");
            std::process::abort()
        }
    }
}

impl Shared {
    /// Waits for work. None once the bridge is closing and nothing is left.
    fn next(&self, threads: usize) -> Option<(Job, Vec<Waker>)> {
        let mut lanes = lock(&self.lanes);
        loop {
            if let Some((lane, job)) = lanes.take(threads) {
                lanes.idle -= 1;
                let waiting = std::mem::take(&mut lanes.waiting[lane]);
                return Some((job, waiting));
            }
            if lanes.closing && lanes.queues.iter().all(VecDeque::is_empty) {
                return None;
            }
            lanes = self.work_waits.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Lanes {
    fn take(&mut self, threads: usize) -> Option<(usize, Job)> {
        for (lane, queue) in self.queues.iter_mut().enumerate() {
            let last_thread = threads > 1 && self.idle == 1 && !self.closing;
            if lane == Lane::Compaction as usize && last_thread {
                continue;
            }
            if let Some(job) = queue.pop_front() {
                return Some((lane, job));
            }
        }
        None
    }
}

struct Submitted {
    shared: Arc<Shared>,
    lane: Lane,
    work: Option<Work>,
    outcome: Arc<Mutex<Outcome>>,
}

impl Submitted {
    /// Tries to get the work into its lane; without room, leaves the waker there.
    fn try_submit(&mut self, waker: Option<&Waker>) {
        let mut lanes = lock(&self.shared.lanes);
        if lanes.queues[self.lane as usize].len() >= ALIEN_LANE_JOBS_MAX {
            lanes.waiting[self.lane as usize].extend(waker.cloned());
            return;
        }
        let Some(work) = self.work.take() else { return };
        lanes.queues[self.lane as usize].push_back(Job { work, outcome: self.outcome.clone() });
        drop(lanes);
        self.shared.work_waits.notify_one();
    }
}

impl Future for Submitted {
    type Output = Box<dyn Any + Send>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.work.is_some() {
            self.try_submit(Some(cx.waker()));
            if self.work.is_some() {
                return Poll::Pending;
            }
        }
        let mut outcome = lock(&self.outcome);
        match outcome.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                outcome.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn erase(work: impl FnOnce() + Send + 'static) -> Work {
        Box::new(move || {
            work();
            Box::new(())
        })
    }

    #[test]
    fn lanes_are_served_by_priority_and_all_accepted_work_runs() {
        let bridge = Bridge::start(&BridgeConfig { threads: 1, cpus: Vec::new() }).unwrap();
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (log, logged) = mpsc::channel();
        let first = erase(move || {
            started.send(()).unwrap();
            released.recv().unwrap();
        });
        drop(bridge.submit(Lane::Compaction, first));
        has_started.recv().unwrap();
        // The only thread is busy: what is submitted now queues up, in the least favourable order.
        for lane in [Lane::Compaction, Lane::Read, Lane::Space, Lane::Checkpoint, Lane::Read] {
            let log = log.clone();
            drop(bridge.submit(lane, erase(move || log.send(lane).unwrap())));
        }
        release.send(()).unwrap();
        drop((bridge, log));
        let order: Vec<Lane> = logged.iter().collect();
        assert_eq!(order, [Lane::Checkpoint, Lane::Space, Lane::Read, Lane::Read, Lane::Compaction]);
    }

    #[test]
    fn housekeeping_leaves_a_thread_to_others() {
        let bridge = Bridge::start(&BridgeConfig { threads: 2, cpus: Vec::new() }).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        for _ in 0..4 {
            let released = released.clone();
            drop(bridge.submit(Lane::Compaction, erase(move || released.lock().unwrap().recv().unwrap())));
        }
        let (done, is_done) = mpsc::channel();
        drop(bridge.submit(Lane::Read, erase(move || done.send(()).unwrap())));
        is_done.recv().unwrap();
        (0..4).for_each(|_| release.send(()).unwrap());
    }

    #[test]
    fn a_full_lane_makes_submitters_wait() {
        let bridge = Bridge::start(&BridgeConfig { threads: 1, cpus: Vec::new() }).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        drop(bridge.submit(
            Lane::Read,
            erase(move || {
                started.send(()).unwrap();
                released.recv().unwrap();
            }),
        ));
        has_started.recv().unwrap();
        for _ in 0..ALIEN_LANE_JOBS_MAX {
            drop(bridge.submit(Lane::Read, erase(|| {})));
        }
        let (done, is_done) = mpsc::channel();
        // Dropped before it found room: it was never accepted, and never runs.
        drop(bridge.submit(Lane::Read, erase(move || done.send(()).unwrap())));
        release.send(()).unwrap();
        drop(bridge);
        assert!(is_done.recv().is_err());
    }
}
