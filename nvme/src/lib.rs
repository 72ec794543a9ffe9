//! Block devices: the [`BlockDevice`] seam, its buffers and its backends.

mod buffer;
mod device;

pub use buffer::{DMA_ALIGN, DmaBuf};
pub use device::{BlockDevice, DeviceError, DeviceResult, Geometry, Kind};
