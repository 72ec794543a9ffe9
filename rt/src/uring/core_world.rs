//! The real backend of one core, and the turn of its loop.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{opcode, types};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use super::pool::{self, Pool};
use super::ring::Ring;
use super::{Config, listener};
use crate::alien::{Bridge, Work};
use crate::core::{CoreId, Group, Lane, LocalBoxFuture, Nanos, Task, World};
use crate::exec::{Executor, Remote, Stalls};
use crate::limits::{POLLS_PER_TURN, SHUTDOWN_WAIT, TURN};
use crate::net::{Listener, Stream};
use crate::os;
use crate::timers::{Timers, monotonic, wall_clock};

/// The real backend: `core.world().downcast_ref::<UringCore>()`. For block devices on the core's ring.
pub struct UringCore {
    id: CoreId,
    executor: Executor,
    ring: Ring,
    pool: Option<Rc<Pool>>,
    timers: Rc<Timers>,
    random: RefCell<ChaCha8Rng>,
    bridge: OnceCell<Bridge>,
    stalls: RefCell<Stalls>,
    config: Config,
    last_work: Cell<Instant>,
}

impl UringCore {
    pub(super) fn new(id: CoreId, config: &Config) -> io::Result<Rc<Self>> {
        let ring = Ring::new(config.basic)?;
        let pool = match config.recv_buffers {
            0 => None,
            _ if config.basic => None,
            count => {
                pool::check(count, config.recv_buffer_bytes)?;
                // The kernel may be too old for it, or short of memory.
                Pool::new(&ring, count, config.recv_buffer_bytes)
                    .inspect_err(|error| log::info!("io_uring: receiving without shared buffers: {error}"))
                    .ok()
                    .map(Rc::new)
            }
        };
        let bell = Arc::new(eventfd()?);
        let ringer = bell.clone();
        let remote = Remote::new(Some(Box::new(move || ring_bell(&ringer))));
        let bridge = OnceCell::new();
        if let Some(shared) = &config.bridge {
            let _ = bridge.set(shared.clone());
        }
        let world = Rc::new(Self {
            id,
            executor: Executor::new(remote),
            ring,
            pool,
            timers: Rc::default(),
            random: RefCell::new(ChaCha8Rng::from_seed(os::entropy()?)),
            bridge,
            stalls: RefCell::default(),
            config: config.clone(),
            last_work: Cell::new(Instant::now()),
        });
        let hearing = hear(world.ring.clone(), bell);
        drop(world.executor.spawn(Group::Client, "bell", Box::pin(hearing)));
        Ok(world)
    }

    /// The ring of this core.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// How often another thread woke a task of this core: another core that sent it something, or a foreign thread that is done.
    pub fn foreign_wakes(&self) -> u64 {
        self.executor.foreign_wakes()
    }

    /// Polls that kept the core for too long.
    pub fn stalls(&self) -> Stalls {
        self.stalls.borrow().clone()
    }

    /// First half of a turn: runs ready tasks, up to a bound. Gives how many polls that were.
    pub(super) fn run_tasks(&self) -> usize {
        self.executor.drain_remote();
        self.poll_tasks()
    }

    /// Second half of a turn: submits, waits if nothing is ready, and hands out what is due or completed.
    pub(super) fn enter(&self, polled: usize) -> io::Result<()> {
        self.timers.fire(monotonic());
        if let Some(pool) = &self.pool {
            pool.recycle();
        }
        if self.executor.has_ready() {
            self.ring.enter()?;
        } else {
            self.idle(polled > 0)?;
        }
        self.ring.reap();
        Ok(())
    }

    fn poll_tasks(&self) -> usize {
        let turn = monotonic();
        let mut start = turn;
        for count in 0..POLLS_PER_TURN {
            let polled = self.executor.poll_one(|shares, lengths| (shares.next(lengths), 0));
            let Some(polled) = polled else { return count };
            let end = monotonic();
            let took = end.0 - start.0;
            start = end;
            self.executor.charge(polled.group, took);
            if self.stalls.borrow_mut().note(polled.name, Duration::from_nanos(took)) {
                // Logging a stall is not the next task's.
                start = monotonic();
            }
            // What these tasks submitted should not wait for long.
            if Duration::from_nanos(end.0 - turn.0) > TURN {
                return count + 1;
            }
        }
        POLLS_PER_TURN
    }

    /// Nothing is ready: spins for a while, then sleeps until something completes, is due, or rings.
    fn idle(&self, worked: bool) -> io::Result<()> {
        if !self.config.spin.is_zero() {
            if worked {
                self.last_work.set(Instant::now());
            }
            if self.last_work.get().elapsed() < self.config.spin {
                return self.ring.poll();
            }
        }
        let limit = match self.timers.next_deadline() {
            Some(deadline) => {
                let left = deadline.0.saturating_sub(monotonic().0);
                if left == 0 {
                    return self.ring.enter();
                }
                Some(Duration::from_nanos(left))
            }
            None => None,
        };
        let remote = self.executor.remote();
        if !remote.try_sleep() {
            return self.ring.enter();
        }
        let result = self.ring.wait(limit);
        remote.awake();
        result
    }

    /// Drops all tasks, cancels what is in flight and waits for it.
    pub(super) fn shut_down(&self) {
        self.executor.kill();
        self.ring.shut_down(SHUTDOWN_WAIT);
        if self.ring.in_flight() > 0
            && let Some(pool) = &self.pool
        {
            pool.leak();
        }
    }
}

impl World for UringCore {
    fn id(&self) -> CoreId {
        self.id
    }

    fn now(&self) -> Nanos {
        monotonic()
    }

    fn wall_clock(&self) -> Nanos {
        wall_clock()
    }

    fn random_u64(&self) -> u64 {
        self.random.borrow_mut().next_u64()
    }

    fn spawn(&self, group: Group, name: &'static str, future: LocalBoxFuture<'static, ()>) -> Task {
        self.executor.spawn(group, name, future)
    }

    fn sleep_until(&self, deadline: Nanos) -> LocalBoxFuture<'static, ()> {
        Box::pin(self.timers.sleep_until(deadline))
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        listener::listen(&self.ring, self.pool.as_ref(), address)
    }

    fn connect(&self, address: SocketAddr) -> LocalBoxFuture<'static, io::Result<Stream>> {
        Box::pin(listener::connect(self.ring.clone(), self.pool.clone(), address))
    }

    fn alien(&self, lane: Lane, work: Work) -> LocalBoxFuture<'static, Box<dyn Any + Send>> {
        let bridge = self.bridge.get_or_init(|| match Bridge::start(&self.config.bridge_config) {
            Ok(bridge) => bridge,
            Err(error) => panic!("no foreign thread can be started: {error}"),
        });
        bridge.submit(lane, work)
    }

    fn resident_bytes(&self) -> Option<u64> {
        os::resident_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Reads the bell for ever. A completion is all it takes to wake the core; what was woken is found by the next turn.
async fn hear(ring: Ring, bell: Arc<OwnedFd>) {
    loop {
        let fd = types::Fd(bell.as_raw_fd());
        #[expect(unsafe_code, reason = "the kernel gets pointers")]
        // SAFETY: the eight bytes and the descriptor belong to the operation, which takes their address where they
        // stay.
        let op = unsafe {
            ring.submit((bell.clone(), [0_u8; 8]), |(_, count)| {
                opcode::Read::new(fd, count.as_mut_ptr(), count.len() as u32).build()
            })
        };
        if let (Err(error), _) = op.await
            && error.kind() != io::ErrorKind::Interrupted
        {
            if error.raw_os_error() != Some(libc::ECANCELED) {
                panic!("the bell of a core is broken: {error}");
            }
            return;
        }
    }
}

#[expect(unsafe_code, reason = "there is no safe call for this")]
fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// From any thread.
#[expect(unsafe_code, reason = "there is no safe call for this")]
fn ring_bell(bell: &OwnedFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: eight bytes, as an eventfd wants. It fails only when it has been rung 2^64 times unheard.
    let written = unsafe { libc::write(bell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    debug_assert!(written == 8, "a bell can be rung");
}
