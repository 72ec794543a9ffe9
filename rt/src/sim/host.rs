//! One life of one simulated host: the backend behind its [`Core`](crate::Core).
//!
//! Invariant: after the host was killed, nothing of that life acts again, whoever still holds its handle: spawned
//! futures are dropped, timers never fire, sockets fail.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::aliens::{self, Aliens};
use super::net::HostLife;
use super::random::RandomStream;
use super::state::{Event, EventKey};
use super::{Shared, nanos, stream};
use crate::core::{CoreId, Group, Lane, LocalBoxFuture, Nanos, Task, World};
use crate::exec::{Executor, Remote};
use crate::limits::SIM_HOSTS_MAX;
use crate::net::{Listener, Stream};

/// The simulated backend of one core: `core.world().downcast_ref::<SimCore>()`. For simulated devices.
pub struct SimCore {
    pub(super) shared: Rc<Shared>,
    pub(super) executor: Executor,
    pub(super) place: HostLife,
    pub(super) aliens: RefCell<Aliens>,
    random: RefCell<RandomStream>,
    dead: Cell<bool>,
}

impl SimCore {
    /// Number of the host.
    pub fn host(&self) -> u16 {
        self.place.host
    }

    /// Number of this life, unique in the world.
    pub fn life(&self) -> u64 {
        self.place.life
    }

    /// Whether the host was killed.
    pub fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// The random stream of `label` under the world's seed: the same at each call and for all hosts.
    pub fn random_stream(&self, label: &str) -> RandomStream {
        RandomStream::new(self.shared.seed, label)
    }

    /// Adds an event to the world's hash and trace.
    pub fn note(&self, what: &str, numbers: &[u64], content: &[u8]) {
        self.shared.state.borrow_mut().note(what, numbers, content);
    }
}

/// The host's present life, or a new one.
pub(super) fn alive(shared: &Rc<Shared>, host: u16) -> Rc<SimCore> {
    assert!(usize::from(host) < SIM_HOSTS_MAX, "host {host} is beyond the simulated network");
    if let Some(core) = shared.state.borrow().hosts.get(&host) {
        return core.clone();
    }
    let mut state = shared.state.borrow_mut();
    state.lives += 1;
    let place = HostLife { host, life: state.lives };
    state.note("birth", &[host.into(), place.life], &[]);
    let core = Rc::new(SimCore {
        shared: shared.clone(),
        executor: Executor::new(Remote::new(None)),
        place,
        aliens: RefCell::new(Aliens::default()),
        random: RefCell::new(RandomStream::new(shared.seed, &format!("rt/core/{host}/{}", place.life))),
        dead: Cell::new(false),
    });
    state.hosts.insert(host, core.clone());
    // Peers of a life that ended silently now get answers.
    state.unpark();
    core
}

/// Ends the host's life. With `resets`, peers learn of it.
pub(super) fn kill(shared: &Rc<Shared>, host: u16, resets: bool) {
    let core = {
        let mut state = shared.state.borrow_mut();
        let Some(core) = state.hosts.remove(&host) else { return };
        state.note("kill", &[host.into(), core.place.life, resets.into()], &[]);
        state.net_kill(core.place, resets);
        core
    };
    core.dead.set(true);
    core.executor.kill();
    let jobs = core.aliens.borrow_mut().kill();
    drop(jobs);
}

impl World for SimCore {
    fn id(&self) -> CoreId {
        CoreId(self.place.host)
    }

    fn now(&self) -> Nanos {
        self.shared.state.borrow().now
    }

    fn wall_clock(&self) -> Nanos {
        let config = &self.shared.config;
        let state = self.shared.state.borrow();
        let mut time = config.wall_clock_start.saturating_add(state.now.0);
        if let Some(&offset) = state.wall_offsets.get(&self.place.host) {
            time = time.saturating_add_signed(offset);
        }
        let every = nanos(config.wall_clock_jump_every);
        if let Some(period @ 1..) = state.now.0.checked_div(every) {
            // A function of time and seed alone: no event is needed, so jumps do not keep a world from idling.
            let label = format!("rt/wall/{}/{period}", self.place.host);
            let max = nanos(config.wall_clock_jump_max).min(i64::MAX as u64);
            let jump = RandomStream::new(self.shared.seed, &label).between(0, 2 * max);
            time = time.saturating_add(jump).saturating_sub(max);
        }
        Nanos(time)
    }

    fn random_u64(&self) -> u64 {
        self.random.borrow_mut().next_u64()
    }

    fn spawn(&self, group: Group, name: &'static str, future: LocalBoxFuture<'static, ()>) -> Task {
        self.executor.spawn(group, name, future)
    }

    fn sleep_until(&self, deadline: Nanos) -> LocalBoxFuture<'static, ()> {
        if self.dead.get() || deadline == Nanos(u64::MAX) {
            return Box::pin(std::future::pending());
        }
        Box::pin(Sleep { shared: self.shared.clone(), deadline, timer: None })
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        self.check_alive()?;
        stream::listen(&self.shared, self.place, address)
    }

    fn connect(&self, address: SocketAddr) -> LocalBoxFuture<'static, io::Result<Stream>> {
        match self.check_alive() {
            Ok(()) => Box::pin(stream::connect(self.shared.clone(), self.place, address)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn alien(
        &self,
        lane: Lane,
        work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
    ) -> LocalBoxFuture<'static, Box<dyn Any + Send>> {
        if self.dead.get() {
            return Box::pin(std::future::pending());
        }
        aliens::submit(&self.shared, self, lane, work)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl SimCore {
    fn check_alive(&self) -> io::Result<()> {
        if self.dead.get() {
            return Err(io::Error::new(io::ErrorKind::NetworkDown, "the host was killed"));
        }
        Ok(())
    }
}

/// A sleeping task; its timer exists from the first poll on.
struct Sleep {
    shared: Rc<Shared>,
    deadline: Nanos,
    timer: Option<EventKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut state = shared.state.borrow_mut();
        if let Some(key) = self.timer.take() {
            state.events.remove(&key);
        }
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        let slack = if state.delays.one_in(8) {
            let max = nanos(shared.config.timer_slack_max);
            state.delays.between(0, max)
        } else {
            0
        };
        let time = Nanos(self.deadline.0.saturating_add(slack));
        self.timer = Some(state.schedule(time, Event::Timer(cx.waker().clone())));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer.take() {
            let event = self.shared.state.borrow_mut().events.remove(&key);
            drop(event);
        }
    }
}
