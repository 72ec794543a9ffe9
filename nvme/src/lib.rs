//! Block devices: the [`BlockDevice`] seam, its buffers and its backends.

mod blocking;
mod blocking_partition;
mod buffer;
mod check;
mod crash;
mod device;
pub mod file;
pub mod fuzzing;
mod hash;
mod image;
pub mod joined;
pub mod limits;
mod memory;
mod partition;
mod pool;
pub mod probe;
pub mod recording;
mod runs;
pub mod sim;
pub mod suite;
pub mod uring;

pub use blocking::BlockingDevice;
pub use blocking_partition::BlockingPartition;
pub use buffer::{DMA_ALIGN, DmaBuf};
pub use crash::{Fate, UnsettledWrite};
pub use device::{BlockDevice, DeviceError, DeviceResult, Geometry, Kind, MemberSizes, sizes_of_one};
pub use file::{BlockingFile, DeviceFile, OpenError, OpenOptions, Space, create, open};
pub use image::Image;
pub use joined::{BlockingJoined, Joined, JoinedState};
pub use memory::MemoryDevice;
pub use partition::Partition;
pub use pool::PooledBuffers;
pub use probe::{Found, OwnMagic, probe_foreign, probe_foreign_on_core};
pub use recording::{Recording, RecordingBlockingDevice, RecordingDevice};
pub use sim::{SimDevice, SimDisk, SimDiskConfig};
pub use uring::{Polling, UringDevice};

#[cfg(test)]
mod testing;
