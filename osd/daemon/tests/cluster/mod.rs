//! A small cluster in the simulated world: a monitor that only knows maps, OSDs on memory stores, clients that speak
//! the protocol by hand.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod client;
pub mod late_store;
pub mod monitor;
pub mod pump;

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use osd::{Osd, OsdConfig, OsdHandle, StartError};
use rt::Core;
use rt::sim::{Config, Sim, address};
use store::ObjectStore;
use uuid::Uuid;

pub use client::Client;
pub use monitor::Monitor;

/// The cluster's id.
pub const FSID: Uuid = Uuid::from_u128(0x1234);
/// Where the monitor lives.
pub const MONITOR_HOST: u16 = 1;
pub const MONITOR_PORT: u16 = 3300;
/// The pool that all tests use: pool 1 with 8 groups.
pub const POOL: i64 = 1;

/// What OSD `whoami` is told.
pub fn config(whoami: i32) -> OsdConfig {
    OsdConfig {
        whoami,
        fsid: FSID,
        osd_uuid: Uuid::from_u128(0x9999 + whoami as u128),
        monitors: vec![address(MONITOR_HOST, MONITOR_PORT)],
        listen: address(MONITOR_HOST, 0),
        metadata: BTreeMap::from([("hostname".into(), "host".into())]),
        memory_sharers: 1,
        options: BTreeMap::new(),
    }
}

/// Starts OSD `whoami`.
pub async fn start(core: &Core, whoami: i32, store: Rc<dyn ObjectStore>) -> Result<OsdHandle, StartError> {
    Osd::start(core.clone(), store, config(whoami)).await
}

/// Runs a test in a world with a monitor and OSD 0 on `store`, which is up. Everything runs on one host's core, which
/// the test gets.
pub fn with_osd<F: Future<Output = ()> + 'static>(
    store: Rc<dyn ObjectStore>,
    test: impl FnOnce(World) -> F + 'static,
) {
    with_monitor(7, async move |core, monitor| {
        let osd = start(&core, 0, store.clone()).await.expect("an OSD that starts");
        within(&core, osd.up()).await;
        test(World { core, monitor, osd, store }).await;
    });
}

/// What a test has.
pub struct World {
    pub core: Core,
    pub monitor: Monitor,
    pub osd: OsdHandle,
    pub store: Rc<dyn ObjectStore>,
}

impl World {
    /// A client that knows the newest map.
    pub async fn client(&self, id: u64) -> Client {
        Client::connect(&self.core, &self.monitor, &self.osd.address(), id).await
    }
}

/// Runs a test in a world with a monitor, to the end. Gives the world's hash.
pub fn with_monitor<F: Future<Output = ()> + 'static>(
    seed: u64,
    test: impl FnOnce(Core, Monitor) -> F + 'static,
) -> u64 {
    let sim = Sim::new(seed, Config::default());
    sim.run(MONITOR_HOST, |core| async move {
        let monitor = Monitor::start(&core);
        test(core, monitor).await;
    });
    sim.hash()
}

/// Waits for something that must not take long.
pub async fn within<T>(core: &Core, future: impl Future<Output = T>) -> T {
    rt::sync::timeout(core, Duration::from_secs(20), future).await.expect("done in time")
}

/// Waits until something is true.
pub async fn until(core: &Core, what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        core.sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}
