//! [`Core`], the handle, and [`World`], what a backend implements. Lives on one core.

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::net::{Listener, Stream};

/// A future that stays on its core.
pub type LocalBoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Number of a core within the process, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// Nanoseconds. As a point in time: since the world began (monotonic) or since 1970 (wall clock).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

/// Task group. Each has a share of the core; a group that idles loses nothing to one that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Client requests and the network.
    Client,
    /// The commit path: journal groups, checkpoints.
    Commit,
    /// Scrubbing, reaping, reports.
    Background,
}

/// Priority lane of the bridge to foreign threads, first served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Checkpoint batches and flushes.
    Checkpoint,
    /// Space lent to BlueFS.
    Space,
    /// Reads that a request waits for.
    Read,
    /// Compaction and other housekeeping.
    Compaction,
}

/// A spawned task. Dropping it lets the task run on; [`Task::cancel`] drops the task's future.
pub struct Task(Box<dyn FnOnce()>);

impl Task {
    /// Wraps a backend's way to cancel.
    pub fn new(cancel: impl FnOnce() + 'static) -> Self {
        Self(Box::new(cancel))
    }

    /// Drops the task's future at once if it has not finished.
    pub fn cancel(self) {
        (self.0)()
    }
}

/// What a backend provides. All calls come from the core that owns the world.
pub trait World {
    /// See [`Core::id`].
    fn id(&self) -> CoreId;
    /// See [`Core::now`].
    fn now(&self) -> Nanos;
    /// See [`Core::wall_clock`].
    fn wall_clock(&self) -> Nanos;
    /// See [`Core::random_u64`].
    fn random_u64(&self) -> u64;
    /// See [`Core::spawn`].
    fn spawn(&self, group: Group, name: &'static str, future: LocalBoxFuture<'static, ()>) -> Task;
    /// See [`Core::sleep_until`].
    fn sleep_until(&self, deadline: Nanos) -> LocalBoxFuture<'static, ()>;
    /// See [`Core::listen`].
    fn listen(&self, address: SocketAddr) -> io::Result<Listener>;
    /// See [`Core::connect`].
    fn connect(&self, address: SocketAddr) -> LocalBoxFuture<'static, io::Result<Stream>>;
    /// See [`Core::alien`]; the type-erased form.
    fn alien(
        &self,
        lane: Lane,
        work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
    ) -> LocalBoxFuture<'static, Box<dyn Any + Send>>;
    /// See [`Core::resident_bytes`].
    fn resident_bytes(&self) -> Option<u64> {
        None
    }
    /// The backend itself, for crates that have a fast path on one of them (the io_uring block device
    /// asks for the ring this way). Only `nvme` uses it.
    fn as_any(&self) -> &dyn Any;
}

/// The per-core handle.
#[derive(Clone)]
pub struct Core {
    world: Rc<dyn World>,
}

impl Core {
    /// A handle on `world`.
    pub fn new(world: Rc<dyn World>) -> Self {
        Self { world }
    }

    /// Which core this is.
    pub fn id(&self) -> CoreId {
        self.world.id()
    }

    /// Monotonic time since the world began. Constant within one poll of a task in the simulated world.
    pub fn now(&self) -> Nanos {
        self.world.now()
    }

    /// Time since 1970. May jump either way.
    pub fn wall_clock(&self) -> Nanos {
        self.world.wall_clock()
    }

    /// Uniform random bits; in the simulated world drawn from the seed.
    pub fn random_u64(&self) -> u64 {
        self.world.random_u64()
    }

    /// Starts a task on this core. `name` shows in stall reports. A panic in a task ends the process.
    pub fn spawn(
        &self,
        group: Group,
        name: &'static str,
        future: impl Future<Output = ()> + 'static,
    ) -> Task {
        self.world.spawn(group, name, Box::pin(future))
    }

    /// Sleeps until `deadline` of the monotonic clock; never returns early.
    pub fn sleep_until(&self, deadline: Nanos) -> LocalBoxFuture<'static, ()> {
        self.world.sleep_until(deadline)
    }

    /// Sleeps for `duration`.
    pub fn sleep(&self, duration: Duration) -> LocalBoxFuture<'static, ()> {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sleep_until(Nanos(self.now().0.saturating_add(nanos)))
    }

    /// Lets other ready tasks run, then goes on.
    pub fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        crate::sync::yield_now()
    }

    /// Listens on a TCP address; port 0 picks a free one, see [`Listener::local_addr`].
    pub fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        self.world.listen(address)
    }

    /// Connects by TCP. No time-out of its own beyond the world's: use [`crate::sync::timeout`].
    pub fn connect(&self, address: SocketAddr) -> LocalBoxFuture<'static, io::Result<Stream>> {
        self.world.connect(address)
    }

    /// Runs blocking `work` on a foreign thread and gives its result. Lanes are served by priority; each lane is
    /// bounded and the future waits for room. In the simulated world the work runs on the core's own thread
    /// after a delay drawn from the seed, so it must touch nothing but memory. Work that was submitted runs even
    /// if the future is dropped.
    pub fn alien<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        let erased = self.world.alien(lane, Box::new(move || Box::new(work()) as Box<dyn Any + Send>));
        async move {
            match erased.await.downcast::<T>() {
                Ok(value) => *value,
                Err(_) => unreachable!("the bridge returns what the work returned"),
            }
        }
    }

    /// Physical memory that the whole process takes now, bytes; none where there is no process to speak of.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.world.resident_bytes()
    }

    /// The backend, see [`World::as_any`].
    pub fn world(&self) -> &dyn Any {
        self.world.as_any()
    }
}
