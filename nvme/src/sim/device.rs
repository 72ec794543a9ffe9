//! [`SimDevice`]: the handle of one life on a simulated disk. Lives on its core.

use std::cell::RefCell;
use std::rc::Rc;

use rt::{Core, LocalBoxFuture};

use super::state::{Done, NEVER, Request, Slot, State};
use crate::buffer::DmaBuf;
use crate::device::{BlockDevice, DeviceError, DeviceResult, Geometry};

/// A simulated disk as a device; made by [`super::SimDisk::open`].
pub struct SimDevice {
    state: Rc<RefCell<State>>,
    core: Core,
    life: u64,
    geometry: Geometry,
    name: String,
}

impl SimDevice {
    pub(super) fn new(state: Rc<RefCell<State>>, core: Core) -> Self {
        let (life, geometry, name) = {
            let state = state.borrow();
            (state.life, state.config.geometry.clone(), state.config.name.clone())
        };
        Self { state, core, life, geometry, name }
    }

    /// Hands the request to the disk now and gives a future which waits for it.
    fn submit(&self, request: Request) -> LocalBoxFuture<'static, DeviceResult<Option<DmaBuf>>> {
        let slot = Slot::default();
        let submitted = {
            let mut state = self.state.borrow_mut();
            let admitted = state.admit(self.life);
            admitted.and_then(|()| state.submit(self.core.now(), request, slot.clone()))
        };
        let deadline = match submitted {
            Ok(NEVER) => return Box::pin(std::future::pending()),
            Ok(deadline) => deadline,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let (state, core, life, name) = (self.state.clone(), self.core.clone(), self.life, self.name.clone());
        let sleep = core.sleep_until(deadline);
        Box::pin(async move {
            sleep.await;
            let mut state = state.borrow_mut();
            if state.life == life {
                state.advance(core.now());
            }
            let Some(Done { result, buf }) = slot.borrow_mut().take() else {
                return Err(DeviceError::Gone { device: name });
            };
            result.map(|()| buf)
        })
    }

    /// As [`SimDevice::submit`], for requests whose buffer comes back.
    fn transfer(&self, request: Request) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        let done = self.submit(request);
        Box::pin(async move {
            match done.await? {
                Some(buf) => Ok(buf),
                None => unreachable!("reads and writes that succeed give their buffer back"),
            }
        })
    }
}

impl BlockDevice for SimDevice {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn size(&self) -> u64 {
        self.state.borrow().config.geometry.size
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.transfer(Request::Read { offset, buf })
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.transfer(Request::Write { offset, buf })
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        let done = self.submit(Request::Flush);
        Box::pin(async move { done.await.map(drop) })
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        let done = self.submit(Request::Discard { offset, len });
        Box::pin(async move { done.await.map(drop) })
    }
}
