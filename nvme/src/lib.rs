//! Block devices: the [`BlockDevice`] seam, its buffers and its backends.

mod blocking;
mod buffer;
mod check;
mod device;
mod image;
pub mod limits;
mod memory;

pub use blocking::BlockingDevice;
pub use buffer::{DMA_ALIGN, DmaBuf};
pub use device::{BlockDevice, DeviceError, DeviceResult, Geometry, Kind};
pub use image::Image;
pub use memory::MemoryDevice;
