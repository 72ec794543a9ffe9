//! The glommio backend of one core.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use glommio::{Latency, Shares, TaskQueueHandle};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use super::task::{Running, Tasks};
use super::{Config, stream};
use crate::alien::{Bridge, Work};
use crate::core::{CoreId, Group, Lane, LocalBoxFuture, Nanos, Task, World};
use crate::limits::{GROUP_SHARES, GROUPS};
use crate::net::{Listener, Stream};
use crate::os;
use crate::timers::{monotonic, wall_clock};

/// The backend: `core.world().downcast_ref::<GlommioCore>()`.
pub struct GlommioCore {
    id: CoreId,
    queues: [TaskQueueHandle; GROUPS],
    tasks: Rc<Tasks>,
    dead: Cell<bool>,
    random: RefCell<ChaCha8Rng>,
    bridge: OnceCell<Bridge>,
    config: Config,
}

/// Glommio's shares go up to a thousand; ratios count.
const SHARE: u64 = 100;

impl GlommioCore {
    /// To be called within a glommio executor.
    pub(super) fn new(id: CoreId, config: &Config) -> io::Result<Rc<Self>> {
        let executor = glommio::executor();
        let queue = |group: Group, name| {
            let shares = Shares::Static((GROUP_SHARES[group as usize] * SHARE) as usize);
            executor.create_task_queue(shares, Latency::NotImportant, name)
        };
        let bridge = OnceCell::new();
        if let Some(shared) = &config.bridge {
            let _ = bridge.set(shared.clone());
        }
        Ok(Rc::new(Self {
            id,
            queues: [
                queue(Group::Client, "client"),
                queue(Group::Commit, "commit"),
                queue(Group::Background, "background"),
            ],
            tasks: Rc::default(),
            dead: Cell::new(false),
            random: RefCell::new(ChaCha8Rng::from_seed(os::entropy()?)),
            bridge,
            config: config.clone(),
        }))
    }

    /// Drops all tasks; later ones are dropped as they are spawned.
    pub(super) fn kill(&self) {
        self.dead.set(true);
        self.tasks.kill();
    }
}

impl World for GlommioCore {
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
        if self.dead.get() {
            return Task::new(|| {});
        }
        let slot = self.tasks.add(future);
        let running = Running { tasks: self.tasks.clone(), slot: slot.clone() };
        match glommio::spawn_local_into(running, self.queues[group as usize]) {
            Ok(task) => drop(task.detach()),
            Err(error) => panic!("the queue of task {name} is gone: {error}"),
        }
        let slot = Rc::downgrade(&slot);
        Task::new(move || {
            if let Some(slot) = slot.upgrade() {
                slot.cancel();
            }
        })
    }

    fn sleep_until(&self, deadline: Nanos) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                let left = deadline.0.saturating_sub(monotonic().0);
                if left == 0 {
                    return;
                }
                // Far deadlines in steps, since instants overflow.
                glommio::timer::Timer::new(Duration::from_nanos(left).min(Duration::from_secs(1 << 30)))
                    .await;
            }
        })
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        stream::listen(address)
    }

    fn connect(&self, address: SocketAddr) -> LocalBoxFuture<'static, io::Result<Stream>> {
        Box::pin(stream::connect(address))
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
