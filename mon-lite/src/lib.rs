//! The monitor.

pub mod limits;
pub mod log;
pub mod render;
