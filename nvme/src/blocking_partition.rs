//! [`BlockingPartition`]: a window of a device for foreign threads, as [`Partition`](crate::Partition) is for cores.

use std::sync::{Arc, PoisonError, RwLock};

use crate::blocking::BlockingDevice;
use crate::check::{self, Bounds};
use crate::device::{DeviceResult, Geometry};
use crate::runs::Runs;

/// A window of a device; offset 0 is the window's first byte. Flushes are the whole device's.
pub struct BlockingPartition {
    below: Arc<dyn BlockingDevice>,
    /// Changes when the window grows; who reads or writes does not wait.
    runs: RwLock<Runs>,
    name: String,
    geometry: Geometry,
}

impl BlockingPartition {
    /// `len` bytes of `below` from `start`, both multiples of its block size and within it.
    pub fn new(below: Arc<dyn BlockingDevice>, start: u64, len: u64) -> DeviceResult<Self> {
        Self::of_runs(below, [(start, len)])
    }

    /// The window that consists of these runs: starts and lengths, at least one.
    pub fn of_runs(
        below: Arc<dyn BlockingDevice>,
        runs: impl IntoIterator<Item = (u64, u64)>,
    ) -> DeviceResult<Self> {
        let runs = Runs::new(below.geometry(), below.size(), below.name(), runs)?;
        let geometry = Geometry { size: runs.len(), ..below.geometry().clone() };
        let name = format!("{}[{:#x}+{:#x}]", below.name(), runs.start(), runs.len());
        Ok(Self { below, runs: RwLock::new(runs), name, geometry })
    }

    /// Takes over what the window has become: the runs that it had, and more.
    pub fn grow(&self, runs: impl IntoIterator<Item = (u64, u64)>) -> DeviceResult<()> {
        let runs = Runs::new(self.below.geometry(), self.below.size(), self.below.name(), runs)?;
        self.runs.write().unwrap_or_else(PoisonError::into_inner).grow(self.below.name(), runs)
    }

    fn bounds(&self) -> Bounds {
        Bounds { size: self.size(), block_size: self.geometry.block_size }
    }

    fn pieces(&self, offset: u64, len: u64) -> Vec<(u64, u64)> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).pieces(offset, len).collect()
    }
}

impl BlockingDevice for BlockingPartition {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()> {
        check::lent_memory("read", self.bounds(), &self.name, offset, memory)?;
        let mut rest = memory;
        for (place, len) in self.pieces(offset, rest.len() as u64) {
            let (part, behind) = rest.split_at_mut(len as usize);
            self.below.read_at(place, part)?;
            rest = behind;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        check::lent_memory("write", self.bounds(), &self.name, offset, memory)?;
        let mut rest = memory;
        for (place, len) in self.pieces(offset, memory.len() as u64) {
            let (part, behind) = rest.split_at(len as usize);
            self.below.write_at(place, part)?;
            rest = behind;
        }
        Ok(())
    }

    fn flush(&self) -> DeviceResult<()> {
        self.below.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> DeviceResult<()> {
        check::range("discard", self.bounds(), &self.name, offset, len)?;
        self.pieces(offset, len).into_iter().try_for_each(|(place, len)| self.below.discard(place, len))
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
        let window = BlockingPartition::new(Arc::new(memory.clone()), 8192, 16384).expect("within");
        let bytes = DmaBuf::from_slice_padded(&[5; 4096], 4096);
        window.write_at(4096, &bytes).expect("within");
        let mut back = DmaBuf::zeroed(4096);
        memory.read_at(12288, &mut back).expect("reads");
        assert_eq!(back[..], bytes[..]);
        assert!(window.write_at(16384, &bytes).is_err());
        assert!(window.read_at(u64::MAX - 4095, &mut back).is_err());
        assert!(window.discard(12288, 8192).is_err());
    }

    #[test]
    fn what_is_in_two_runs_is_read_and_written_as_one() {
        let memory = MemoryDevice::new(1 << 20);
        let window = BlockingPartition::new(Arc::new(memory.clone()), 8192, 8192).expect("within");
        window.grow([(8192, 8192), (65536, 8192)]).expect("within");
        assert_eq!((window.size(), window.geometry().size), (16384, 8192));
        let content: Vec<u8> = (0..8192_u32).map(|at| (at >> 5) as u8).collect();
        window.write_at(4096, &DmaBuf::from_slice_padded(&content, 4096)).expect("within");
        let mut back = DmaBuf::zeroed(8192);
        window.read_at(4096, &mut back).expect("within");
        assert_eq!(back[..], content[..]);
        let mut place = DmaBuf::zeroed(4096);
        memory.read_at(65536, &mut place).expect("reads");
        assert_eq!(place[..], content[4096..]);
    }
}
