//! What the owner of an OSD holds: where it is, whether it is well, and how to stop it.

use std::rc::Rc;

use wire::types::AddrVec;

use crate::osd::Osd;

/// A running OSD. Dropping it leaves the OSD running.
pub struct OsdHandle {
    pub(crate) osd: Rc<Osd>,
}

impl OsdHandle {
    /// Where clients connect.
    pub fn address(&self) -> AddrVec {
        self.osd.addrs.clone()
    }

    /// Id of the OSD.
    pub fn whoami(&self) -> i32 {
        self.osd.config.whoami
    }

    /// Waits until the map says that the OSD is up.
    pub async fn up(&self) {
        self.osd.up.wait().await;
    }

    /// Waits until the store is gone; the reason.
    pub async fn failed(&self) -> String {
        self.osd.failed.wait().await;
        self.osd.failure.borrow().clone().unwrap_or_default()
    }

    /// Stops: closes all connections, finishes what was begun, and waits until nothing runs any more. The store stays
    /// open.
    pub async fn stop(&self) {
        let closed = self.osd.gate.close();
        self.osd.close_all_sessions();
        closed.await;
    }

    /// Makes a mistake from now on.
    #[cfg(feature = "planted")]
    pub fn plant(&self, planted: crate::fault::Planted) {
        self.osd.fault.plant(planted);
    }

    /// The state, for tests and tools.
    pub fn osd(&self) -> &Rc<Osd> {
        &self.osd
    }
}
