//! [`Counted`]: a device whose writes are counted, whoever makes them: the core or foreign threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nvme::{BlockDevice, BlockingDevice, DeviceResult, DmaBuf, Geometry};
use rt::LocalBoxFuture;

/// Bytes written through every view of one device.
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<AtomicU64>);

impl Written {
    /// So far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A view of a device; see the module.
pub struct Counted<D> {
    /// What is below.
    pub device: D,
    /// Shared by all views.
    pub written: Written,
}

impl<D: BlockDevice> BlockDevice for Counted<D> {
    fn geometry(&self) -> &Geometry {
        self.device.geometry()
    }

    fn size(&self) -> u64 {
        self.device.size()
    }

    fn name(&self) -> &str {
        self.device.name()
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.device.read(offset, buf)
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.written.add(buf.len());
        self.device.write(offset, buf)
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.device.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.device.discard(offset, len)
    }
}

impl<D: BlockingDevice> BlockingDevice for Counted<D> {
    fn geometry(&self) -> &Geometry {
        self.device.geometry()
    }

    fn size(&self) -> u64 {
        self.device.size()
    }

    fn name(&self) -> &str {
        self.device.name()
    }

    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()> {
        self.device.read_at(offset, memory)
    }

    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        self.written.add(memory.len());
        self.device.write_at(offset, memory)
    }

    fn flush(&self) -> DeviceResult<()> {
        self.device.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> DeviceResult<()> {
        self.device.discard(offset, len)
    }
}
