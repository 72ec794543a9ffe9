//! The io_uring backend: a device file on one core's own ring, past the page cache.
//!
//! Invariant: an I/O that was asked for runs to its end, and a failed flush poisons the device, whatever becomes of the
//! futures. Where the device can be polled, short reads and writes go through a polled ring beside the core's.

mod flushes;
mod polled;
mod registration;
mod transfer;

use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::types;
use rt::uring::{RegisteredFile, Ring, UringCore};
use rt::{Core, Lane, LocalBoxFuture};

use crate::buffer::DmaBuf;
use crate::device::{BlockDevice, DeviceResult, Geometry};
use crate::file::{DeviceFile, OpenError};
use flushes::Flushes;
use polled::PolledRing;
use registration::Registration;
use transfer::{Direction, Transfer};

/// Whether to poll for completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Polling {
    /// Where the device can.
    #[default]
    WherePossible,
    /// Never.
    Never,
}

/// A file or block device on one core.
pub struct UringDevice {
    lane: Rc<IoLane>,
    flushes: Flushes,
}

/// What every I/O needs; kept alive by those in flight.
struct IoLane {
    core: Core,
    device: Arc<DeviceFile>,
    ring: Ring,
    registered: Option<RegisteredFile>,
    buffers: Option<Rc<Registration>>,
    polled: Option<PolledRing>,
}

impl UringDevice {
    /// Puts an opened device on the ring of `core`, which has to be a real one.
    pub fn attach(core: &Core, device: Arc<DeviceFile>, polling: Polling) -> Result<Self, OpenError> {
        let Some(world) = core.world().downcast_ref::<UringCore>() else {
            return Err(OpenError::NoRing { path: device.path().to_owned() });
        };
        let ring = world.ring().clone();
        let registered = match ring.register_file(device.raw_fd()) {
            Ok(registered) => Some(registered),
            Err(error) => {
                log::info!("{}: not registered with the ring, which costs some CPU: {error}", device.name());
                None
            }
        };
        let buffers = Registration::of_this_core(&ring);
        let polled = match polling {
            Polling::WherePossible if device.may_poll() => PolledRing::try_on(&device, buffers.as_deref()),
            Polling::WherePossible | Polling::Never => None,
        };
        let lane = Rc::new(IoLane { core: core.clone(), device, ring, registered, buffers, polled });
        let flushes = Flushes::new(lane.clone());
        Ok(Self { lane, flushes })
    }

    /// Whether reads and writes are polled for.
    pub fn is_polled(&self) -> bool {
        self.lane.polled.is_some()
    }

    /// The device file below.
    pub fn device(&self) -> &Arc<DeviceFile> {
        &self.lane.device
    }

    fn transfer(
        &self,
        direction: Direction,
        offset: u64,
        buf: DmaBuf,
    ) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        match self.lane.device.check_range(direction.name(), offset, buf.len() as u64) {
            Ok(()) => Box::pin(Transfer::start(self.lane.clone(), direction, offset, buf)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

/// How entries name the file.
enum Target {
    Registered(types::Fixed),
    Plain(types::Fd),
}

impl IoLane {
    /// The polled ring, if it may carry this I/O.
    fn polled_for(&self, offset: u64, len: usize) -> Option<&PolledRing> {
        let limits = self.device.polling()?;
        self.polled.as_ref().filter(|_| limits.allow(offset, len as u64))
    }

    fn target(&self) -> Target {
        match &self.registered {
            Some(registered) => Target::Registered(registered.fixed()),
            None => Target::Plain(types::Fd(self.raw_fd())),
        }
    }

    fn raw_fd(&self) -> RawFd {
        self.device.raw_fd()
    }
}

impl BlockDevice for UringDevice {
    fn geometry(&self) -> &Geometry {
        self.lane.device.geometry()
    }

    fn size(&self) -> u64 {
        self.lane.device.size()
    }

    fn name(&self) -> &str {
        self.lane.device.name()
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.transfer(Direction::Read, offset, buf)
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.transfer(Direction::Write, offset, buf)
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.flushes.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        let device = self.lane.device.clone();
        if let Err(error) = device.check_range("discard", offset, len) {
            return Box::pin(std::future::ready(Err(error)));
        }
        if !device.geometry().discard {
            return Box::pin(std::future::ready(Ok(())));
        }
        // There is no asynchronous discard in the kernels in use, and this one may take long.
        Box::pin(self.lane.core.alien(Lane::Compaction, move || device.discard_now(offset, len)))
    }
}

#[cfg(test)]
mod tests;
