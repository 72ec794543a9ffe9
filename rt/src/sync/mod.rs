//! Coordination between tasks of one core. No atomics, no locks, nothing here is `Send`; between cores see
//! [`crate::mailbox`].
//!
//! All futures here are cancel-safe unless they say otherwise: dropping one loses nothing and wakes the next in line.

mod gate;
mod notify;
mod oneshot;
mod queue;
mod select;
mod semaphore;
mod timeout;
mod waiters;
mod watch;
mod yielding;

pub use gate::{Gate, Pass};
pub use notify::{Event, Notify};
pub use oneshot::{OneReceiver, OneSender, oneshot};
pub use queue::{QueueReceiver, QueueSender, TrySendError, queue};
pub use select::{Either, select};
pub use semaphore::{Permit, Semaphore};
pub use timeout::{Elapsed, deadline, timeout};
pub use watch::{Watch, Watcher};
pub use yielding::yield_now;

/// The other side is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side is gone")]
pub struct Closed;

#[cfg(test)]
pub(crate) use testing::run;

#[cfg(test)]
mod testing {
    use std::time::Duration;

    use crate::Core;
    use crate::sim::{Config, Sim};

    /// Runs a test in simulated worlds of many seeds.
    pub(crate) fn run<F: Future<Output = ()> + 'static>(test: impl Fn(Core) -> F) {
        for seed in 0..20 {
            let sim = Sim::new(seed, Config::default());
            sim.run(0, &test);
            sim.run_for(Duration::from_secs(1));
        }
    }
}
