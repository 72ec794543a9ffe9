//! Ceph's wire protocol as values and machines: no I/O, no clock.

pub mod codec;
pub mod crc;
pub mod crush;
mod errno;
pub mod fuzzing;
pub mod hash;
pub mod limits;
pub mod msg;
pub mod msgr2;
pub mod osdmap;
pub mod placement;
pub mod types;

pub use errno::Errno;
