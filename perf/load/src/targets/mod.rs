//! What loads are put on.

mod device;
mod pool;

pub use device::{DeviceTarget, Flushing};
pub use pool::{ObjectNames, PoolTarget};
