//! [`BlockingPartition`]: a window of a device for foreign threads, as [`Partition`](crate::Partition) is for cores.

use std::sync::Arc;

use crate::blocking::BlockingDevice;
use crate::check;
use crate::device::{DeviceResult, Geometry};

/// A window of a device; offset 0 is the window's first byte. Flushes are the whole device's.
pub struct BlockingPartition {
    below: Arc<dyn BlockingDevice>,
    start: u64,
    name: String,
    geometry: Geometry,
}

impl BlockingPartition {
    /// `len` bytes of `below` from `start`, both multiples of its block size and within it.
    pub fn new(below: Arc<dyn BlockingDevice>, start: u64, len: u64) -> Self {
        let geometry = Geometry { size: len, ..below.geometry().clone() };
        let end = start.saturating_add(len);
        let block = u64::from(geometry.block_size);
        assert!(
            end <= below.geometry().size
                && start.is_multiple_of(block)
                && len.is_multiple_of(block)
                && len > 0,
            "a window of {len} bytes at {start:#x} does not fit {}",
            below.name()
        );
        let name = format!("{}[{start:#x}+{len:#x}]", below.name());
        Self { below, start, name, geometry }
    }

    fn check(&self, op: &'static str, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        check::lent_memory(op, &self.geometry, &self.name, offset, memory)
    }
}

impl BlockingDevice for BlockingPartition {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()> {
        self.check("read", offset, memory)?;
        self.below.read_at(self.start + offset, memory)
    }

    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        self.check("write", offset, memory)?;
        self.below.write_at(self.start + offset, memory)
    }

    fn flush(&self) -> DeviceResult<()> {
        self.below.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> DeviceResult<()> {
        check::range("discard", &self.geometry, &self.name, offset, len)?;
        self.below.discard(self.start + offset, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::DmaBuf;
    use crate::memory::MemoryDevice;

    #[test]
    fn a_window_is_offset_and_bounded() {
        let memory = MemoryDevice::new(1 << 20);
        let window = BlockingPartition::new(Arc::new(memory.clone()), 8192, 16384);
        let bytes = DmaBuf::from_slice_padded(&[5; 4096], 4096);
        window.write_at(4096, &bytes).expect("within");
        let mut back = DmaBuf::zeroed(4096);
        memory.read_at(12288, &mut back).expect("reads");
        assert_eq!(back[..], bytes[..]);
        assert!(window.write_at(16384, &bytes).is_err());
        assert!(window.read_at(u64::MAX - 4095, &mut back).is_err());
        assert!(window.discard(12288, 8192).is_err());
    }
}
