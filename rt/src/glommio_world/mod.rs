//! The world on glommio: its executor, timers and TCP, nothing else. Behind the feature `glommio`.
//!
//! Here so that the choice of the reactor stays a measurement. Weaker than [`crate::uring`]: an accept that the kernel
//! completes at the moment its listener is dropped leaks the connection, several chunks are copied together for one
//! send, there is no ring for block devices, and a core may oversleep by a tenth of a second, after which a watching
//! thread wakes it.

mod stream;
mod task;
mod watch;
mod world;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

use crate::alien::{Bridge, BridgeConfig};
use crate::core::{Core, CoreId, Group};
use crate::sync::Event;

pub use world::GlommioCore;

/// What a core on glommio is like.
#[derive(Clone, Default)]
pub struct Config {
    /// CPU the core's thread is bound to.
    pub cpu: Option<usize>,
    /// How long an idle core polls the kernel before it sleeps.
    pub spin: Duration,
    /// Foreign threads, shared by the cores of a process; without, the core starts its own when it first needs them.
    pub bridge: Option<Bridge>,
    /// The foreign threads it then starts.
    pub bridge_config: BridgeConfig,
}

/// How long glommio stays with one group that has work before it looks at the others.
const TURN: Duration = Duration::from_millis(2);

/// Runs a core on this thread until the future that `main` gives is done. All other tasks are then dropped.
pub fn run<T: 'static, F: Future<Output = T> + 'static>(
    id: CoreId,
    config: &Config,
    main: impl FnOnce(Core) -> F,
) -> io::Result<T> {
    let placement = config.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let mut builder = LocalExecutorBuilder::new(placement).name("core").preempt_timer(TURN);
    if !config.spin.is_zero() {
        builder = builder.spin_before_park(config.spin);
    }
    let executor = builder.make().map_err(|error| io::Error::other(error.to_string()))?;
    let watch = watch::Watch::start()?;
    let beat = watch.beats();
    executor.run(async move {
        // Drops the tasks in order also when one panics and the panic goes on through here.
        let world = Running(GlommioCore::new(id, config)?);
        let core = Core::new(world.0.clone());
        drop(core.spawn(Group::Background, "beat", async move {
            loop {
                beat();
                glommio::timer::Timer::new(watch::BEAT).await;
            }
        }));
        let (result, done) = (Rc::new(Cell::new(None)), Rc::new(Event::default()));
        let (give, set) = (result.clone(), done.clone());
        let future = main(core.clone());
        drop(core.spawn(Group::Client, "main", async move {
            give.set(Some(future.await));
            set.set();
        }));
        drop(core);
        done.wait().await;
        match result.take() {
            Some(value) => Ok(value),
            None => unreachable!("the event follows the result"),
        }
    })
}

struct Running(Rc<GlommioCore>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Lane;
    use crate::mailbox::mailbox;

    #[test]
    fn suite() {
        crate::suite::run_all(|test| run(CoreId(0), &Config::default(), test).unwrap());
    }

    #[test]
    fn mailboxes_and_foreign_work_cross_threads() {
        let (to_pong, mut pong) = mailbox::<u64>(2);
        let (to_ping, mut ping) = mailbox::<u64>(2);
        let other = std::thread::spawn(move || {
            run(CoreId(1), &Config::default(), |core| async move {
                while let Some(number) = pong.recv().await {
                    let next = core.alien(Lane::Read, move || number + 1).await;
                    to_ping.send(next).await.unwrap();
                }
            })
            .unwrap();
        });
        let sum = run(CoreId(0), &Config::default(), |_| async move {
            let mut number = 0;
            for _ in 0..200 {
                to_pong.send(number).await.unwrap();
                number = ping.recv().await.unwrap();
            }
            number
        });
        assert_eq!(sum.unwrap(), 200);
        other.join().unwrap();
    }
}
