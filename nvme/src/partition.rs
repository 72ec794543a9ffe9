//! [`Partition`]: a window of a device that is a device of its own. Lives on its device's core.
//!
//! Errors of I/Os name the device below with the offset there, since that is the place to look at; errors of range
//! name the window. Flushes and poisoning are the whole device's. An I/O across the end of one of the window's runs goes
//! to the device as several.

use std::cell::RefCell;
use std::rc::Rc;

use rt::LocalBoxFuture;

use crate::buffer::DmaBuf;
use crate::check::{self, Bounds};
use crate::device::{BlockDevice, DeviceError, DeviceResult, Geometry};
use crate::runs::Runs;

/// Some runs of bytes of another device, one behind the other.
pub struct Partition {
    device: Rc<dyn BlockDevice>,
    name: String,
    runs: RefCell<Runs>,
    geometry: Geometry,
}

impl Partition {
    /// The window of `len` bytes at `start`, which must be on the device and aligned to its blocks.
    pub fn new(device: Rc<dyn BlockDevice>, name: &str, start: u64, len: u64) -> DeviceResult<Self> {
        Self::of_runs(device, name, [(start, len)])
    }

    /// The window that consists of these runs: starts and lengths, at least one.
    pub fn of_runs(
        device: Rc<dyn BlockDevice>,
        name: &str,
        runs: impl IntoIterator<Item = (u64, u64)>,
    ) -> DeviceResult<Self> {
        let runs = Runs::new(device.geometry(), device.size(), device.name(), runs)?;
        let mut geometry = Geometry { size: runs.len(), ..device.geometry().clone() };
        // A window with runs that start off the device's atomic units has smaller ones.
        let is_off =
            |unit: u32| runs.pieces(0, runs.len()).any(|(at, _)| !at.is_multiple_of(u64::from(unit)));
        while is_off(geometry.atomic_write_unit) && geometry.atomic_write_unit > 512 {
            geometry.atomic_write_unit /= 2;
        }
        let name = format!("{name} ({} from {:#x})", device.name(), runs.start());
        Ok(Self { device, name, runs: RefCell::new(runs), geometry })
    }

    /// Takes over what the window has become: the runs that it had, and more.
    pub fn grow(&self, runs: impl IntoIterator<Item = (u64, u64)>) -> DeviceResult<()> {
        let runs = Runs::new(self.device.geometry(), self.device.size(), self.device.name(), runs)?;
        self.runs.borrow_mut().grow(self.device.name(), runs)
    }

    /// Where the window starts on the device below, bytes.
    pub fn start(&self) -> u64 {
        self.runs.borrow().start()
    }

    /// Where a range is; none if it is in several pieces.
    fn place(&self, op: &'static str, offset: u64, len: u64) -> DeviceResult<Option<u64>> {
        let runs = self.runs.borrow();
        let bounds = Bounds { size: runs.len(), block_size: self.geometry.block_size };
        check::range(op, bounds, &self.name, offset, len)?;
        Ok(runs.place(offset, len))
    }

    fn pieces(&self, offset: u64, len: u64) -> Vec<(u64, u64)> {
        self.runs.borrow().pieces(offset, len).collect()
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

    fn size(&self) -> u64 {
        self.runs.borrow().len()
    }

    fn read(&self, offset: u64, mut buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        match self.place("read", offset, buf.len() as u64) {
            Ok(Some(place)) => return self.device.read(place, buf),
            Ok(None) => {}
            Err(error) => return failed(error),
        }
        let part = |(place, len): (u64, u64)| self.device.read(place, DmaBuf::zeroed(len as usize));
        let parts: Vec<_> = self.pieces(offset, buf.len() as u64).into_iter().map(part).collect();
        Box::pin(async move {
            let mut at = 0;
            for part in parts {
                let bytes = part.await?;
                buf[at..at + bytes.len()].copy_from_slice(&bytes);
                at += bytes.len();
            }
            Ok(buf)
        })
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        match self.place("write", offset, buf.len() as u64) {
            Ok(Some(place)) => return self.device.write(place, buf),
            Ok(None) => {}
            Err(error) => return failed(error),
        }
        let mut at = 0;
        let mut parts = Vec::new();
        for (place, len) in self.pieces(offset, buf.len() as u64) {
            let end = at + len as usize;
            parts.push(self.device.write(place, DmaBuf::from_slice_padded(&buf[at..end], 1)));
            at = end;
        }
        Box::pin(async move {
            // All of them end before the buffer is given back.
            let mut result = Ok(());
            for part in parts {
                result = result.and(part.await.map(drop));
            }
            result.map(|()| buf)
        })
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.device.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        if let Err(error) = self.place("discard", offset, len) {
            return failed(error);
        }
        let parts = self.pieces(offset, len).into_iter();
        let parts: Vec<_> = parts.map(|(place, len)| self.device.discard(place, len)).collect();
        Box::pin(async move {
            let mut result = Ok(());
            for part in parts {
                result = result.and(part.await);
            }
            result
        })
    }
}
