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
    /// Of each read, write and flush.
    pub delay: Duration,
}

impl Delayed {
    fn later<T: 'static>(
        &self,
        io: LocalBoxFuture<'static, DeviceResult<T>>,
    ) -> LocalBoxFuture<'static, DeviceResult<T>> {
        let pause = self.core.sleep(self.delay);
        Box::pin(async move {
            let done = io.await;
            pause.await;
            done
        })
    }
}

impl BlockDevice for Delayed {
    fn geometry(&self) -> &Geometry {
        self.device.geometry()
    }

    fn name(&self) -> &str {
        self.device.name()
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.later(self.device.read(offset, buf))
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.later(self.device.write(offset, buf))
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.later(self.device.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.device.discard(offset, len)
    }
}
