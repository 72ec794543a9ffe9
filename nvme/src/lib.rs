//! Block devices: the [`BlockDevice`] seam, its buffers and its backends.

mod buffer;
mod device;

pub use buffer::{DmaBuf, DMA_ALIGN};
pub use device::{BlockDevice, DeviceError, DeviceResult, Geometry, Kind};
