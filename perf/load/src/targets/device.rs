//! [`DeviceTarget`]: the raw device through one of the backends of `nvme`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use nvme::{BlockDevice, BlockingDevice, DeviceError, DeviceResult, DmaBuf};
use rt::{Core, Lane};

use crate::content::Content;
use crate::meter::{Party, Spent, process_cpu};
use crate::target::{Target, TargetError};

/// After how many writes a flush follows, which the last of them waits for; none for never.
pub type Flushing = Option<u64>;

/// How the device is reached.
enum Way {
    /// By the core's own ring, or at once if it is memory.
    Core(Rc<dyn BlockDevice>),
    /// By system calls of foreign threads.
    Foreign(Arc<dyn BlockingDevice>),
}

/// See the module. Blocks lie one after the other from the beginning of the device on.
pub struct DeviceTarget {
    core: Core,
    way: Way,
    name: String,
    block_bytes: usize,
    positions: u64,
    flushing: Flushing,
    writes: Cell<u64>,
    bytes_written: Cell<u64>,
    /// Written before, and nobody's now.
    buffers: RefCell<Vec<DmaBuf>>,
}

impl DeviceTarget {
    /// A device on its core.
    pub fn new(
        core: &Core,
        device: Rc<dyn BlockDevice>,
        block_bytes: usize,
        bytes: u64,
        flushing: Flushing,
    ) -> Self {
        let name = device.name().to_owned();
        Self::of(core, Way::Core(device), name, block_bytes, bytes, flushing)
    }

    /// A device for foreign threads, which are those of the core's bridge.
    pub fn blocking(
        core: &Core,
        device: Arc<dyn BlockingDevice>,
        block_bytes: usize,
        bytes: u64,
        flushing: Flushing,
    ) -> Self {
        let name = device.name().to_owned();
        Self::of(core, Way::Foreign(device), name, block_bytes, bytes, flushing)
    }

    fn of(core: &Core, way: Way, name: String, block_bytes: usize, bytes: u64, flushing: Flushing) -> Self {
        Self {
            core: core.clone(),
            way,
            name,
            block_bytes,
            positions: bytes / block_bytes.max(1) as u64,
            flushing,
            writes: Cell::new(0),
            bytes_written: Cell::new(0),
            buffers: RefCell::default(),
        }
    }

    fn offset(&self, position: u64) -> u64 {
        position * self.block_bytes as u64
    }

    async fn read_at(&self, offset: u64) -> DeviceResult<DmaBuf> {
        let mut buffer = DmaBuf::recycled(self.block_bytes);
        match &self.way {
            Way::Core(device) => device.read(offset, buffer).await,
            Way::Foreign(device) => {
                let device = device.clone();
                let read = move || device.read_at(offset, &mut buffer).map(|()| buffer);
                self.core.alien(Lane::Read, read).await
            }
        }
    }

    async fn write_at(&self, offset: u64, buffer: DmaBuf) -> DeviceResult<DmaBuf> {
        match &self.way {
            Way::Core(device) => device.write(offset, buffer).await,
            Way::Foreign(device) => {
                let device = device.clone();
                let write = move || device.write_at(offset, &buffer).map(|()| buffer);
                self.core.alien(Lane::Read, write).await
            }
        }
    }

    async fn flush(&self) -> DeviceResult<()> {
        match &self.way {
            Way::Core(device) => device.flush().await,
            Way::Foreign(device) => {
                let device = device.clone();
                self.core.alien(Lane::Read, move || device.flush()).await
            }
        }
    }

    fn filled(&self, content: &Content) -> DmaBuf {
        let used = self.buffers.borrow_mut().pop();
        let is_used = used.is_some();
        let mut buffer = used.unwrap_or_else(|| DmaBuf::recycled(self.block_bytes));
        content.fill(&mut buffer, is_used);
        buffer
    }

    fn is_flush_due(&self) -> bool {
        self.writes.set(self.writes.get() + 1);
        self.flushing.is_some_and(|each| self.writes.get().is_multiple_of(each.max(1)))
    }
}

impl Target for DeviceTarget {
    fn positions(&self) -> u64 {
        self.positions
    }

    fn place(&self, position: u64) -> String {
        format!("{} at byte {}", self.name, self.offset(position))
    }

    async fn read(&self, position: u64, wanted: bool) -> Result<Bytes, TargetError> {
        let read = self.read_at(self.offset(position)).await.map_err(failed)?;
        Ok(if wanted { read.freeze() } else { Bytes::new() })
    }

    async fn write(&self, position: u64, content: Content) -> Result<(), TargetError> {
        let written = self.write_at(self.offset(position), self.filled(&content)).await.map_err(failed)?;
        self.buffers.borrow_mut().push(written);
        self.bytes_written.set(self.bytes_written.get() + self.block_bytes as u64);
        if self.is_flush_due() {
            self.flush().await.map_err(failed)?;
        }
        Ok(())
    }

    /// The whole process, whose other threads are the bridge's and those that the kernel makes for the ring.
    async fn spent(&self) -> Result<Vec<Party>, TargetError> {
        let spent = Spent { cpu: Some(process_cpu()), ..Spent::default() };
        Ok(vec![Party::new("whole process", spent)])
    }

    async fn device_bytes(&self) -> Result<Option<u64>, TargetError> {
        Ok(Some(self.bytes_written.get()))
    }
}

fn failed(error: DeviceError) -> TargetError {
    TargetError::new("the device", error)
}
