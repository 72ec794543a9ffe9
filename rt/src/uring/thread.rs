//! Running a core: on the calling thread, or on one of its own.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::thread::JoinHandle;

use super::{Config, UringCore};
use crate::alien::abort_on_panic;
use crate::core::{Core, CoreId, Group};
use crate::os;

/// Runs a core on this thread until the future that `main` gives is done. All other tasks are then dropped, and what
/// the kernel still has is cancelled and waited for.
pub fn run<T: 'static, F: Future<Output = T> + 'static>(
    id: CoreId,
    config: &Config,
    main: impl FnOnce(Core) -> F,
) -> io::Result<T> {
    os::bind_to_cpus(&config.cpus)?;
    // Shuts down in order also when a task panics and the panic goes on through here.
    let context = |what: &'static str| {
        move |error: io::Error| io::Error::new(error.kind(), format!("core {}: {what}: {error}", id.0))
    };
    let world = Running(UringCore::new(id, config).map_err(context("setting up"))?);
    let core = Core::new(world.0.clone());
    let result = Rc::new(Cell::new(None));
    let give = result.clone();
    let future = main(core.clone());
    drop(core.spawn(Group::Client, "main", async move { give.set(Some(future.await)) }));
    drop(core);
    loop {
        let polled = world.0.run_tasks();
        if let Some(value) = result.take() {
            return Ok(value);
        }
        world.0.enter(polled).map_err(context("entering the kernel"))?;
    }
}

struct Running(Rc<UringCore>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

/// A core on a thread of its own.
pub struct CoreThread<T>(JoinHandle<io::Result<T>>);

impl<T> CoreThread<T> {
    /// Waits for the core to end.
    pub fn join(self) -> io::Result<T> {
        match self.0.join() {
            Ok(result) => result,
            Err(_) => unreachable!("a panic on a core ends the process"),
        }
    }
}

/// Starts a thread that [`run`]s a core. A panic on it ends the process.
pub fn spawn_core<T: Send + 'static, F: Future<Output = T> + 'static>(
    id: CoreId,
    config: Config,
    main: impl FnOnce(Core) -> F + Send + 'static,
) -> io::Result<CoreThread<T>> {
    let builder = std::thread::Builder::new().name(format!("core-{}", id.0));
    let handle = builder.spawn(move || abort_on_panic("a core", || run(id, &config, main)))?;
    Ok(CoreThread(handle))
}
