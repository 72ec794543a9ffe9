//! [`LateDevice`]: a device that does at once what it is told and says so later, each call after a time of its own, so
//! that many writes are in flight at most cuts. Lives on one core.

use std::rc::Rc;
use std::time::Duration;

use nvme::{BlockDevice, DeviceResult, DmaBuf, Geometry};
use rt::sync::oneshot;
use rt::{Core, Group, LocalBoxFuture};

/// See the module.
pub struct LateDevice {
    core: Core,
    below: Rc<dyn BlockDevice>,
    most: Duration,
}

impl LateDevice {
    /// Answers for `below` up to `most` late.
    pub fn new(core: &Core, below: Rc<dyn BlockDevice>, most: Duration) -> Self {
        Self { core: core.clone(), below, most }
    }

    /// The call is below already; only its completion waits. A caller that goes away does not stop it.
    fn late<T: 'static>(&self, done: LocalBoxFuture<'static, T>) -> LocalBoxFuture<'static, T> {
        let most = u64::try_from(self.most.as_nanos()).unwrap_or(u64::MAX).max(1);
        let until = self.core.sleep(Duration::from_nanos(self.core.random_u64() % most));
        let (give, get) = oneshot();
        let task = self.core.spawn(Group::Commit, "late completion", async move {
            until.await;
            drop(give.send(done.await));
        });
        drop(task);
        Box::pin(async move {
            match get.await {
                Ok(result) => result,
                // The core is going down with everything on it.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl BlockDevice for LateDevice {
    fn geometry(&self) -> &Geometry {
        self.below.geometry()
    }

    fn name(&self) -> &str {
        self.below.name()
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.late(self.below.read(offset, buf))
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.late(self.below.write(offset, buf))
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.late(self.below.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.late(self.below.discard(offset, len))
    }
}
