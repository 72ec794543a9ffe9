//! [`Delayed`]: a device that takes its time, so that groups form as they do on a real one.

use std::rc::Rc;
use std::time::Duration;

use nvme::{BlockDevice, DeviceResult, DmaBuf, Geometry};
use rt::{Core, LocalBoxFuture};

/// A device whose I/Os each take so long; any number at once.
pub struct Delayed {
    /// Whose clock.
    pub core: Core,
    /// What is below.
    pub device: Rc<dyn BlockDevice>,
    /// Of each read and write.
    pub delay: Duration,
    /// Of each flush, which it then needs; else they take as long as a write.
    pub flush: Option<Duration>,
    geometry: Geometry,
}

impl Delayed {
    /// Over `device`.
    pub fn new(core: Core, device: Rc<dyn BlockDevice>, delay: Duration, flush: Option<Duration>) -> Self {
        let known = device.geometry().clone();
        let geometry = Geometry { volatile_cache: known.volatile_cache || flush.is_some(), ..known };
        Self { core, device, delay, flush, geometry }
    }

    fn later<T: 'static>(
        &self,
        delay: Duration,
        io: LocalBoxFuture<'static, DeviceResult<T>>,
    ) -> LocalBoxFuture<'static, DeviceResult<T>> {
        let pause = self.core.sleep(delay);
        Box::pin(async move {
            let done = io.await;
            pause.await;
            done
        })
    }
}

impl BlockDevice for Delayed {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn name(&self) -> &str {
        self.device.name()
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.later(self.delay, self.device.read(offset, buf))
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.later(self.delay, self.device.write(offset, buf))
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.later(self.flush.unwrap_or(self.delay), self.device.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.device.discard(offset, len)
    }
}
