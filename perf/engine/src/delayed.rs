//! [`Delayed`]: a device that takes its time, so that groups form as they do on a real one.

use std::time::Duration;

use nvme::{BlockDevice, DeviceResult, DmaBuf, Geometry, MemoryDevice};
use rt::{Core, LocalBoxFuture};

/// A device in memory whose I/Os each take so long; any number at once.
pub struct Delayed {
    /// Whose clock.
    pub core: Core,
    /// What is below.
    pub device: MemoryDevice,
    /// Of each read and write.
    pub delay: Duration,
    /// Of each flush, if it needs any.
    pub flush: Option<Duration>,
    geometry: Geometry,
}

impl Delayed {
    /// Over `device`, which keeps what is written also without a flush.
    pub fn new(core: Core, device: MemoryDevice, delay: Duration, flush: Option<Duration>) -> Self {
        let geometry = Geometry { volatile_cache: flush.is_some(), ..device.geometry().clone() };
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
        self.later(self.delay, BlockDevice::read(&self.device, offset, buf))
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.later(self.delay, BlockDevice::write(&self.device, offset, buf))
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.later(self.flush.unwrap_or_default(), BlockDevice::flush(&self.device))
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        BlockDevice::discard(&self.device, offset, len)
    }
}
