//! [`Partition`]: a window of a device that is a device of its own. Lives on its device's core.
//!
//! Errors of I/Os name the device below with the offset there, since that is the place to look at; errors of range
//! name the window. Flushes and poisoning are the whole device's.

use std::rc::Rc;

use rt::LocalBoxFuture;

use crate::buffer::DmaBuf;
use crate::check;
use crate::device::{BlockDevice, DeviceError, DeviceResult, Geometry};

/// The bytes `start..start + size` of another device.
pub struct Partition {
    device: Rc<dyn BlockDevice>,
    name: String,
    start: u64,
    geometry: Geometry,
}

impl Partition {
    /// The window of `len` bytes at `start`, which must be on the device and aligned to its blocks.
    pub fn new(device: Rc<dyn BlockDevice>, name: &str, start: u64, len: u64) -> DeviceResult<Self> {
        check::range("partition", device.geometry(), device.name(), start, len)?;
        let mut geometry = Geometry { size: len, ..device.geometry().clone() };
        // A window that starts off the device's atomic units has smaller ones.
        while !start.is_multiple_of(u64::from(geometry.atomic_write_unit)) && geometry.atomic_write_unit > 512
        {
            geometry.atomic_write_unit /= 2;
        }
        let name = format!("{name} ({} from {start:#x})", device.name());
        Ok(Self { device, name, start, geometry })
    }

    /// Where the window starts on the device below, bytes.
    pub fn start(&self) -> u64 {
        self.start
    }

    fn place(&self, op: &'static str, offset: u64, len: u64) -> DeviceResult<u64> {
        check::range(op, &self.geometry, &self.name, offset, len)?;
        Ok(self.start + offset)
    }
}

fn failed<T: 'static>(error: DeviceError) -> LocalBoxFuture<'static, DeviceResult<T>> {
    Box::pin(std::future::ready(Err(error)))
}

impl BlockDevice for Partition {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        match self.place("read", offset, buf.len() as u64) {
            Ok(place) => self.device.read(place, buf),
            Err(error) => failed(error),
        }
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        match self.place("write", offset, buf.len() as u64) {
            Ok(place) => self.device.write(place, buf),
            Err(error) => failed(error),
        }
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.device.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        match self.place("discard", offset, len) {
            Ok(place) => self.device.discard(place, len),
            Err(error) => failed(error),
        }
    }
}
