//! [`OneOsd`]: a monitor and an OSD on one core, on loopback; and [`Remote`], which asks that core from another what it spent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use mon_lite::{MkfsOptions, MonConfig, MonHandle, Monitor, NewOsd};
use nvme::{BlockDevice, MemoryDevice};
use osd::{Osd, OsdConfig, OsdHandle};
use rt::Core;
use rt::mailbox::{Receiver, Sender, mailbox};
use rt::sync::{Either, select, timeout};
use store::{Engine, ObjectStore};
use uuid::Uuid;

use crate::counted::Written;
use crate::meter::{Meter, Spent};
use crate::setup::{self, Below, Setup};

const FSID: Uuid = Uuid::from_u128(1);
const OSD_UUID: Uuid = Uuid::from_u128(2);
const MON_DEVICE_BYTES: u64 = 64 << 20;
/// The OSD is up within this.
const UP_TIMEOUT: Duration = Duration::from_secs(60);
/// A free port of the loopback interface.
pub const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// See the module.
pub struct OneOsd {
    mon: MonHandle,
    osd: OsdHandle,
    engine: Rc<Engine>,
}

impl OneOsd {
    /// Makes a cluster of one OSD, its store on that device and its monitor's in memory, and starts it.
    pub async fn start(core: &Core, below: &Below, setup: &Setup) -> anyhow::Result<Self> {
        let mon = start_mon(core, below.core.geometry().size).await.context("the monitor")?;
        let engine = Rc::new(setup::make(core, below, setup).await.context("the store")?);
        let config = OsdConfig {
            whoami: 0,
            fsid: FSID,
            osd_uuid: OSD_UUID,
            monitors: vec![mon.address()],
            listen: ANY_PORT,
            metadata: BTreeMap::new(),
            memory_sharers: 1,
            // None, so that what is kept in memory is what was asked for.
            options: BTreeMap::from([("osd_memory_target".to_owned(), "0".to_owned())]),
        };
        let store: Rc<dyn ObjectStore> = engine.clone();
        let osd = Osd::start(core.clone(), store, config).await.context("the OSD")?;
        let up = timeout(core, UP_TIMEOUT, select(Box::pin(osd.failed()), Box::pin(osd.up()))).await;
        match up {
            Ok(Either::Right(())) => Ok(Self { mon, osd, engine }),
            Ok(Either::Left(reason)) => bail!("the OSD failed: {reason}"),
            Err(_) => bail!("the OSD is not up after {UP_TIMEOUT:?}"),
        }
    }

    /// Where the monitor is.
    pub fn mon(&self) -> SocketAddr {
        self.mon.address()
    }

    /// The OSD's store.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Answers a [`Remote`] until it is gone; what the calling core spends is told.
    pub async fn serve(&self, core: &Core, written: &Written, mut ends: RemoteEnds) {
        let mut meter = Meter::of_this_thread();
        let mut answer =
            || Answer { mon: self.mon(), spent: meter.read(core), device_bytes: written.bytes() };
        let mut heard = ends.answers.send(answer()).await;
        while heard.is_ok() && ends.orders.recv().await.is_some() {
            heard = ends.answers.send(answer()).await;
        }
    }

    /// Stops all of it.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.osd.stop().await;
        setup::close(&self.engine).await?;
        self.mon.stop().await;
        Ok(())
    }
}

/// What the server's core tells the client's.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where the monitor is.
    pub mon: SocketAddr,
    /// What the core spent so far.
    pub spent: Spent,
    /// Bytes written to the store's device so far.
    pub device_bytes: u64,
}

/// The server's side of a [`Remote`].
pub struct RemoteEnds {
    orders: Receiver<()>,
    answers: Sender<Answer>,
}

/// A server on another core, as the client has it.
pub struct Remote {
    orders: Sender<()>,
    answers: RefCell<Option<Receiver<Answer>>>,
}

impl Remote {
    /// One, and what the server needs for it.
    pub fn new() -> (Self, RemoteEnds) {
        let (orders, told) = mailbox(1);
        let (tell, answers) = mailbox(1);
        (Self { orders, answers: RefCell::new(Some(answers)) }, RemoteEnds { orders: told, answers: tell })
    }

    /// What it says once it serves; none if it ended instead.
    pub async fn first(&self) -> Option<Answer> {
        let mut answers = self.answers.borrow_mut().take()?;
        let answer = answers.recv().await;
        *self.answers.borrow_mut() = Some(answers);
        answer
    }

    /// What it says now; none if it is gone. One at a time asks.
    pub async fn ask(&self) -> Option<Answer> {
        self.orders.send(()).await.ok()?;
        self.first().await
    }
}

async fn start_mon(core: &Core, osd_bytes: u64) -> anyhow::Result<MonHandle> {
    let device: Rc<dyn BlockDevice> = Rc::new(MemoryDevice::new(MON_DEVICE_BYTES));
    let osd = NewOsd {
        id: 0,
        uuid: OSD_UUID,
        host: "localhost".to_owned(),
        device: "memory".to_owned(),
        class: "ssd".to_owned(),
        size_bytes: osd_bytes,
    };
    let options = MkfsOptions { fsid: FSID, name: "a".to_owned(), osds: vec![osd], overwrite: false };
    mon_lite::mkfs(core, device.clone(), options).await?;
    let config =
        MonConfig { fsid: FSID, name: "a".to_owned(), hostname: "localhost".to_owned(), listen: ANY_PORT };
    Ok(Monitor::start(core.clone(), device, config).await?)
}
