//! The server's side: a monitor, an OSD on a device in memory, a bare echo, and what its core has spent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use engine::setup::{self, Below, Setup};
use engine::{allocations, clock};
use load::one_osd::{ANY_PORT, OneOsd};
use nvme::{MemoryDevice, PooledBuffers};
use rt::mailbox::{Receiver, Sender};
use rt::uring::UringCore;
use rt::{Core, Group};
use store::ObjectStore;

use crate::Settings;
use crate::echo;

/// Where the server is.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The monitor.
    pub mon: SocketAddr,
    /// The echo.
    pub echo: SocketAddr,
}

/// What the server's core spent: since it began, or between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// CPU of its thread.
    pub cpu: Duration,
    /// Allocations by its thread.
    pub allocations: u64,
    /// Calls into the kernel through its ring.
    pub enters: u64,
    /// Tasks spawned in the store.
    pub tasks: u64,
    /// Bytes written to the device.
    pub device_bytes: u64,
    /// Groups written to the store's journal.
    pub groups: u64,
    /// Flushes of the device.
    pub flushes: u64,
    /// Tasks of the core that another thread woke: another core, or a foreign thread that is done.
    pub foreign_wakes: u64,
}

impl Spent {
    /// What was spent since then.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            cpu: self.cpu - before.cpu,
            allocations: self.allocations - before.allocations,
            enters: self.enters - before.enters,
            tasks: self.tasks - before.tasks,
            device_bytes: self.device_bytes - before.device_bytes,
            groups: self.groups - before.groups,
            flushes: self.flushes - before.flushes,
            foreign_wakes: self.foreign_wakes - before.foreign_wakes,
        }
    }
}

/// What the server's core tells the client's.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// See there.
    pub addresses: Addresses,
    /// See there.
    pub spent: Spent,
}

/// Asks the server for an [`Answer`].
pub struct Order;

/// The server, as the client has it.
pub enum Remote<'a> {
    /// On the same core.
    Here(&'a Server),
    /// On another.
    There {
        /// Takes orders.
        orders: Sender<Order>,
        /// Gives answers.
        answers: Receiver<Answer>,
        /// Where it is.
        addresses: Addresses,
    },
}

impl Remote<'_> {
    /// Where it is.
    pub fn addresses(&self) -> Addresses {
        match self {
            Self::Here(server) => server.addresses,
            Self::There { addresses, .. } => *addresses,
        }
    }

    /// What it spent so far.
    pub async fn spent(&mut self) -> anyhow::Result<Spent> {
        match self {
            Self::Here(server) => Ok(server.spent()),
            Self::There { orders, answers, .. } => {
                let sent = orders.send(Order).await;
                let answer = if sent.is_ok() { answers.recv().await } else { None };
                Ok(answer.context("the server is gone")?.spent)
            }
        }
    }
}

/// Everything of the server.
pub struct Server {
    core: Core,
    addresses: Addresses,
    cluster: OneOsd,
    device: MemoryDevice,
    _pooled: PooledBuffers,
}

impl Server {
    /// Makes a cluster of one OSD and starts it.
    pub async fn start(core: &Core, settings: &Settings) -> anyhow::Result<Self> {
        let pooled = PooledBuffers::begin();
        let device = setup::device(settings.objects.into(), 0);
        let wanted = Setup {
            kv: settings.kv,
            data_cache: Some(settings.data_cache << 20),
            delay: Duration::from_micros(settings.io),
            flush: settings.flush.map(Duration::from_micros),
            ..Setup::default()
        };
        let cluster = OneOsd::start(core, &Below::from(&device), &wanted).await?;
        let listener = core.listen(ANY_PORT).context("the echo")?;
        let addresses = Addresses { mon: cluster.mon(), echo: listener.local_addr() };
        let serving = core.clone();
        drop(core.spawn(Group::Client, "echo", async move { echo::serve(&serving, listener).await }));
        Ok(Self { core: core.clone(), addresses, cluster, device, _pooled: pooled })
    }

    /// Answers until nobody asks any more.
    pub async fn serve(&self, mut orders: Receiver<Order>, answers: Sender<Answer>) {
        let answer = || Answer { addresses: self.addresses, spent: self.spent() };
        let mut heard = answers.send(answer()).await;
        while heard.is_ok() && orders.recv().await.is_some() {
            heard = answers.send(answer()).await;
        }
    }

    /// What this core spent so far.
    pub fn spent(&self) -> Spent {
        let counters: BTreeMap<_, _> = self.cluster.engine().stats().counters.into_iter().collect();
        let of = |name: &str| counters.get(name).copied().unwrap_or_default();
        let world = self.core.world().downcast_ref::<UringCore>();
        let Some(world) = world else { unreachable!("this runs on io_uring") };
        Spent {
            cpu: clock::thread(),
            allocations: allocations::of_thread(),
            enters: world.ring().entered(),
            tasks: of("tasks"),
            device_bytes: self.device.bytes_written(),
            groups: of("groups"),
            flushes: of("flushes"),
            foreign_wakes: world.foreign_wakes(),
        }
    }

    /// Stops all of it.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.cluster.stop().await
    }
}
