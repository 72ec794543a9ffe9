//! What loads are put on.

mod device;
mod engine;
mod pool;

pub use device::{DeviceTarget, Flushing};
pub use engine::{EngineTarget, Shape};
pub use pool::{ObjectNames, PoolTarget, Servers};
