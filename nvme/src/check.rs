//! The check that every backend makes before an I/O: inside the device and aligned to its blocks.

use crate::device::{DeviceError, DeviceResult, Geometry};
use crate::limits::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN};

/// Where I/Os may go: as many bytes as the device has now, in whole blocks.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub size: u64,
    pub block_size: u32,
}

impl From<&Geometry> for Bounds {
    fn from(geometry: &Geometry) -> Self {
        Self { size: geometry.size, block_size: geometry.block_size }
    }
}

/// Accepts `len` > 0 bytes at `offset` when both are multiples of the block size and the end is on the device.
pub(crate) fn range(
    op: &'static str,
    bounds: impl Into<Bounds>,
    name: &str,
    offset: u64,
    len: u64,
) -> DeviceResult<()> {
    let Bounds { size, block_size } = bounds.into();
    let block = u64::from(block_size);
    let inside = offset.checked_add(len).is_some_and(|end| end <= size);
    if len > 0 && inside && offset.is_multiple_of(block) && len.is_multiple_of(block) {
        return Ok(());
    }
    Err(DeviceError::Range { op, offset, len, device: name.to_owned(), block_size })
}

/// As [`range`], for memory that the caller lends: its address must be aligned to the block size too, since a
/// device may transfer into it directly.
pub(crate) fn lent_memory(
    op: &'static str,
    bounds: impl Into<Bounds>,
    name: &str,
    offset: u64,
    memory: &[u8],
) -> DeviceResult<()> {
    let bounds = bounds.into();
    range(op, bounds, name, offset, memory.len() as u64)?;
    if memory.as_ptr().addr().is_multiple_of(bounds.block_size.min(4096) as usize) {
        return Ok(());
    }
    Err(DeviceError::Range {
        op,
        offset,
        len: memory.len() as u64,
        device: name.to_owned(),
        block_size: bounds.block_size,
    })
}

/// Asserts what a backend believes about its own geometry.
pub(crate) fn geometry(geometry: &Geometry) {
    let block = geometry.block_size;
    assert!(block.is_power_of_two(), "block size {block} is a power of two");
    assert!((BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&block), "block size {block} is 512 to 65536");
    assert!(geometry.size.is_multiple_of(u64::from(block)), "the size is a whole number of blocks");
    assert!(geometry.atomic_write_unit >= 512, "an atomic write is at least 512 bytes");
    assert!(geometry.atomic_write_unit.is_power_of_two(), "an atomic write unit is a power of two");
    assert!(geometry.io_max >= block, "at least a block per I/O");
}
