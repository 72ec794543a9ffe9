//! The simulated world: many hosts, one core each, in one thread, from one seed.
//!
//! Virtual clock, event queue ordered by time and sequence, network, timers, wall clocks and foreign threads.
//! The order of ready tasks is perturbed by the seed. Nothing depends on addresses, hash order or real time:
//! one seed run twice gives the same [`Sim::hash`]. What a task sees of it is [`SimCore`].
//!
//! ```
//! let sim = rt::sim::Sim::new(42, rt::sim::Config::default());
//! let answer = sim.run(0, |core| async move {
//!     core.sleep(std::time::Duration::from_secs(3600)).await;
//!     core.now() >= rt::Nanos(3_600_000_000_000)
//! });
//! assert!(answer);
//! ```

mod aliens;
mod config;
mod host;
mod net;
mod random;
mod state;
mod stream;
mod trace;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::core::{Core, Group, Nanos};
use crate::limits::GROUPS;

pub use config::{Config, Link};
pub use host::SimCore;
pub use random::RandomStream;
use state::{Event, State};

/// A simulated world. Dropping it drops everything in it.
pub struct Sim {
    shared: Rc<Shared>,
}

/// The world as tasks reach it.
pub(in crate::sim) struct Shared {
    state: RefCell<State>,
    config: Config,
    seed: u64,
}

/// Address of a host's port in the simulated network.
pub fn address(host: u16, port: u16) -> SocketAddr {
    let [high, low] = host.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), port)
}

impl Sim {
    /// A world at time 0 without hosts.
    pub fn new(seed: u64, config: Config) -> Self {
        let state = RefCell::new(State::new(seed, &config));
        Self { shared: Rc::new(Shared { state, config, seed }) }
    }

    /// The handle of `host`; the host comes to life if it is not (see [`Sim::kill`]).
    pub fn core(&self, host: u16) -> Core {
        Core::new(host::alive(&self.shared, host))
    }

    /// Whether the host has been brought to life and not killed since.
    pub fn is_alive(&self, host: u16) -> bool {
        self.shared.state.borrow().hosts.contains_key(&host)
    }

    /// Does one thing: one poll of a task or one event. False if there was nothing to do.
    pub fn step(&self) -> bool {
        let Some(choice) = self.choose(None) else { return false };
        self.apply(choice);
        true
    }

    /// Steps until nothing is left to do.
    pub fn run_until_idle(&self) {
        while self.step() {}
    }

    /// Steps until `time` has come, and everything due by then is done.
    pub fn run_until(&self, time: Nanos) {
        while let Some(choice) = self.choose(Some(time)) {
            self.apply(choice);
        }
        let mut state = self.shared.state.borrow_mut();
        state.now = state.now.max(time);
    }

    /// [`Sim::run_until`] that many nanoseconds from now.
    pub fn run_for(&self, duration: Duration) {
        self.run_until(after(self.now(), duration));
    }

    /// Runs a future as a task of `host` until it is done. Panics if the world comes to rest before, or the
    /// host is killed.
    pub fn run<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        host: u16,
        main: impl FnOnce(Core) -> F,
    ) -> T {
        match self.run_within(host, Duration::MAX, main) {
            Some(value) => value,
            None => panic!("seed {}: the world came to rest before the future was done", self.shared.seed),
        }
    }

    /// [`Sim::run`] for at most `limit` of virtual time. None if the future was not done by then (its task goes on),
    /// or the world came to rest.
    pub fn run_within<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        host: u16,
        limit: Duration,
        main: impl FnOnce(Core) -> F,
    ) -> Option<T> {
        let deadline = after(self.now(), limit);
        let core = self.core(host);
        let result = Rc::new(Cell::new(None));
        let give = result.clone();
        let future = main(core.clone());
        drop(core.spawn(Group::Client, "main", async move { give.set(Some(future.await)) }));
        while self.now() < deadline && self.step() {
            if let Some(value) = result.take() {
                return Some(value);
            }
        }
        None
    }

    /// Runs `call` at `time`, between two steps: for faults.
    pub fn at(&self, time: Nanos, call: impl FnOnce(&Sim) + 'static) {
        let mut state = self.shared.state.borrow_mut();
        let time = time.max(state.now);
        state.schedule(time, Event::Call(Box::new(call)));
    }

    /// Kills a host: its tasks, timers, listeners and connections are gone, foreign work not yet run never runs.
    /// Peers see a reset, unless the network is cut. [`Sim::core`] then gives a new life.
    pub fn kill(&self, host: u16) {
        host::kill(&self.shared, host, true);
    }

    /// Kills a host as by power loss: peers notice nothing, their connections stay half open until the host lives
    /// again and answers with a reset.
    pub fn kill_silently(&self, host: u16) {
        host::kill(&self.shared, host, false);
    }

    /// Sets the network from one host to another, one direction.
    pub fn set_link(&self, from: u16, to: u16, link: Link) {
        self.shared.state.borrow_mut().net.links.insert((from, to), link);
    }

    /// Cuts the network from one host to another, one direction: messages wait until [`Sim::heal`], resets are lost.
    pub fn cut(&self, from: u16, to: u16) {
        let mut state = self.shared.state.borrow_mut();
        state.note("cut", &[from.into(), to.into()], &[]);
        state.net.cuts.insert((from, to));
    }

    /// Cuts both directions between every host of one set and every host of the other.
    pub fn partition(&self, side: &[u16], other: &[u16]) {
        for &a in side {
            for &b in other {
                self.cut(a, b);
                self.cut(b, a);
            }
        }
    }

    /// Undoes all cuts. Waiting messages go on.
    pub fn heal(&self) {
        let mut state = self.shared.state.borrow_mut();
        state.note("heal", &[], &[]);
        state.net.cuts.clear();
        state.unpark();
    }

    /// Resets every connection between two hosts, at both ends and at once.
    pub fn reset_connections(&self, a: u16, b: u16) {
        self.shared.state.borrow_mut().reset_between(a, b);
    }

    /// Sets a host's wall clock off by this many nanoseconds from the true time.
    pub fn set_wall_clock_offset(&self, host: u16, offset_ns: i64) {
        let mut state = self.shared.state.borrow_mut();
        state.note("wall clock", &[host.into(), offset_ns.cast_unsigned()], &[]);
        state.wall_offsets.insert(host, offset_ns);
    }

    /// Virtual time.
    pub fn now(&self) -> Nanos {
        self.shared.state.borrow().now
    }

    /// The seed of this world.
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// The random stream of `label` under this world's seed.
    pub fn random_stream(&self, label: &str) -> RandomStream {
        RandomStream::new(self.shared.seed, label)
    }

    /// Adds an event of the caller's to the hash and the trace.
    pub fn note(&self, what: &str, numbers: &[u64], content: &[u8]) {
        self.shared.state.borrow_mut().note(what, numbers, content);
    }

    /// Hash of everything that has happened.
    pub fn hash(&self) -> u64 {
        self.shared.state.borrow().trace.hash()
    }

    /// Steps done so far.
    pub fn steps(&self) -> u64 {
        self.shared.state.borrow().steps
    }

    /// Number of events that the hash covers.
    pub fn events(&self) -> u64 {
        self.shared.state.borrow().trace.events()
    }

    /// What happened, a line per event, the last [`crate::limits::SIM_TRACE_LINES_MAX`]; empty unless
    /// [`Config::trace`].
    pub fn trace_text(&self) -> String {
        self.shared.state.borrow().trace.to_string()
    }

    /// Tasks of a host that have not finished.
    pub fn tasks(&self, host: u16) -> usize {
        self.shared.state.borrow().hosts.get(&host).map_or(0, |core| core.executor.live())
    }

    /// What to do next; none if there is nothing (until `limit`).
    fn choose(&self, limit: Option<Nanos>) -> Option<Choice> {
        let mut state = self.shared.state.borrow_mut();
        let ready = state.hosts.values().filter(|core| core.executor.has_ready()).count();
        let event = state.events.first_key_value().map(|(&(time, _), _)| time);
        if ready == 0 {
            let time = event?;
            return limit.is_none_or(|limit| time <= limit).then_some(Choice::Event);
        }
        // Each poll takes time, so tasks that are always ready do not keep a limit from being reached.
        if limit.is_some_and(|limit| state.now > limit) {
            return None;
        }
        // Events that are due compete with ready tasks.
        if event.is_some_and(|time| time <= state.now) && state.order.one_in(2) {
            return Some(Choice::Event);
        }
        let index = state.order.below(ready as u64) as usize;
        let mut hosts = state.hosts.iter().filter(|(_, core)| core.executor.has_ready());
        hosts.nth(index).map(|(&host, _)| Choice::Poll(host))
    }

    fn apply(&self, choice: Choice) {
        self.shared.state.borrow_mut().steps += 1;
        match choice {
            Choice::Event => self.event(),
            Choice::Poll(host) => self.poll(host),
        }
    }

    fn event(&self) {
        let event = self.shared.state.borrow_mut().next_event();
        match event {
            Some(Event::Call(call)) => call(self),
            Some(Event::Alien { host, life, job }) => aliens::run(&self.shared, host, life, job),
            Some(Event::Timer(waker)) => waker.wake(),
            Some(Event::Net(event)) => self.shared.state.borrow_mut().net_event(event),
            None => {}
        }
    }

    fn poll(&self, host: u16) {
        let (core, lots) = {
            let mut state = self.shared.state.borrow_mut();
            let Some(core) = state.hosts.get(&host).cloned() else { return };
            (core, [state.order.next_u64(), state.order.next_u64()])
        };
        let polled = core.executor.poll_one(|shares, lengths| pick(shares.next(lengths), lengths, lots));
        let Some(polled) = polled else { return };
        core.executor.charge(polled.group, 1);
        let mut state = self.shared.state.borrow_mut();
        state.note(
            "poll",
            &[host.into(), polled.slot.into(), polled.finished.into()],
            polled.name.as_bytes(),
        );
        let cost = nanos(self.shared.config.poll_cost_max);
        state.now.0 += state.order.between(0, cost);
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Tasks own handles on the world that owns them.
        let hosts: Vec<u16> = self.shared.state.borrow().hosts.keys().copied().collect();
        for host in hosts {
            host::kill(&self.shared, host, false);
        }
        let events = std::mem::take(&mut self.shared.state.borrow_mut().events);
        drop(events);
    }
}

enum Choice {
    Event,
    Poll(u16),
}

/// Perturbs the order of ready tasks: mostly the group whose turn it is, sometimes any; any task near the head
/// of its queue, so that none starves.
fn pick(turn: Group, lengths: [usize; GROUPS], lots: [u64; 2]) -> (Group, usize) {
    const WINDOW: usize = 16;
    let groups = [Group::Client, Group::Commit, Group::Background];
    let mut group = turn;
    if lots[0].is_multiple_of(16) {
        let other = groups[(lots[0] >> 8) as usize % GROUPS];
        if lengths[other as usize] > 0 {
            group = other;
        }
    }
    let window = lengths[group as usize].clamp(1, WINDOW);
    (group, (lots[1] % window as u64) as usize)
}

/// Saturating nanoseconds.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn after(time: Nanos, duration: Duration) -> Nanos {
    Nanos(time.0.saturating_add(nanos(duration)))
}

#[cfg(test)]
mod tests;
