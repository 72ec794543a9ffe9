//! The two views that record: one for a core, one for foreign threads.
//!
//! A call is in the log before it goes down and after it came back, so the log never claims more than the caller may.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use rt::LocalBoxFuture;

use super::{Event, Recording};
use crate::blocking::BlockingDevice;
use crate::buffer::DmaBuf;
use crate::check::{self, Bounds};
use crate::device::{BlockDevice, DeviceResult, Geometry};

/// A device on a core, recorded.
pub struct RecordingDevice {
    recording: Recording,
    inner: Rc<dyn BlockDevice>,
    within: Range<u64>,
}

impl RecordingDevice {
    /// Records what goes to `inner`, which holds what the recording began with.
    pub fn new(recording: Recording, inner: Rc<dyn BlockDevice>) -> Self {
        Self::of_window(recording, inner, 0..u64::MAX)
    }

    /// The same for one who writes only to a window of it, behind which there is a cache of its own: a flush is of that.
    pub fn of_window(recording: Recording, inner: Rc<dyn BlockDevice>, window: Range<u64>) -> Self {
        Self { recording, inner, within: window }
    }

    fn is_valid(&self, op: &'static str, offset: u64, len: u64) -> bool {
        check::range(op, bounds(self.inner.geometry(), self.inner.size()), self.inner.name(), offset, len)
            .is_ok()
    }
}

fn bounds(geometry: &Geometry, size: u64) -> Bounds {
    Bounds { size, block_size: geometry.block_size }
}

impl BlockDevice for RecordingDevice {
    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.inner.read(offset, buf)
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        let len = buf.len() as u64;
        if !self.is_valid("write", offset, len) {
            return self.inner.write(offset, buf);
        }
        let recording = self.recording.clone();
        let number = recording.submitted(offset, len, Some(&buf));
        let done = self.inner.write(offset, buf);
        Box::pin(async move {
            let result = done.await;
            if result.is_ok() {
                recording.note(Event::Completed { number });
            }
            result
        })
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        let recording = self.recording.clone();
        let flush = recording.flush_submitted(self.within.clone());
        let done = self.inner.flush();
        Box::pin(async move {
            let result = done.await;
            if result.is_ok() {
                recording.note(Event::FlushCompleted { flush });
            }
            result
        })
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        if !self.is_valid("discard", offset, len) {
            return self.inner.discard(offset, len);
        }
        let recording = self.recording.clone();
        let number = recording.submitted(offset, len, None);
        let done = self.inner.discard(offset, len);
        Box::pin(async move {
            let result = done.await;
            if result.is_ok() {
                recording.note(Event::Completed { number });
            }
            result
        })
    }
}

/// A device for foreign threads, recorded.
pub struct RecordingBlockingDevice {
    recording: Recording,
    inner: Arc<dyn BlockingDevice>,
    within: Range<u64>,
}

impl RecordingBlockingDevice {
    /// Records what goes to `inner`, which holds what the recording began with.
    pub fn new(recording: Recording, inner: Arc<dyn BlockingDevice>) -> Self {
        Self::of_window(recording, inner, 0..u64::MAX)
    }

    /// As [`RecordingDevice::of_window`].
    pub fn of_window(recording: Recording, inner: Arc<dyn BlockingDevice>, window: Range<u64>) -> Self {
        Self { recording, inner, within: window }
    }
}

impl BlockingDevice for RecordingBlockingDevice {
    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()> {
        self.inner.read_at(offset, memory)
    }

    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        check::lent_memory(
            "write",
            bounds(self.inner.geometry(), self.inner.size()),
            self.inner.name(),
            offset,
            memory,
        )?;
        let number = self.recording.submitted(offset, memory.len() as u64, Some(memory));
        self.inner.write_at(offset, memory)?;
        self.recording.note(Event::Completed { number });
        Ok(())
    }

    fn flush(&self) -> DeviceResult<()> {
        let flush = self.recording.flush_submitted(self.within.clone());
        self.inner.flush()?;
        self.recording.note(Event::FlushCompleted { flush });
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> DeviceResult<()> {
        check::range(
            "discard",
            bounds(self.inner.geometry(), self.inner.size()),
            self.inner.name(),
            offset,
            len,
        )?;
        let number = self.recording.submitted(offset, len, None);
        self.inner.discard(offset, len)?;
        self.recording.note(Event::Completed { number });
        Ok(())
    }
}
