//! The real world: one thread, one io_uring, one enter per turn of the loop for submission and completion.
//!
//! A turn runs ready tasks, fires timers, enters the kernel once (waiting only if there is nothing to do) and hands
//! out what completed. Other threads get in through the wakers' registry, which rings a bell (an eventfd read by the
//! ring) only if the core sleeps.

mod connection;
mod core_world;
mod listener;
mod pool;
mod registered;
mod ring;
mod send;
mod thread;

use std::time::Duration;

pub use core_world::UringCore;
pub use ring::{Op, RegisteredBuffer, RegisteredFile, Ring};
pub use thread::{CoreThread, run, spawn_core};

use crate::alien::{Bridge, BridgeConfig};

/// What a real core is like.
#[derive(Clone)]
pub struct Config {
    /// CPUs the core's thread is bound to; not bound if empty.
    pub cpus: Vec<usize>,
    /// How long an idle core polls the kernel before it sleeps.
    pub spin: Duration,
    /// Do without what kernels before 6.1 lack, as happens on those by itself: for comparison and tests.
    pub basic: bool,
    /// Buffers for receiving, a power of two; 0 for none.
    pub recv_buffers: u16,
    /// Size of each, bytes.
    pub recv_buffer_bytes: usize,
    /// Foreign threads, shared by the cores of a process; without, the core starts its own when it first needs them.
    pub bridge: Option<Bridge>,
    /// The foreign threads it then starts.
    pub bridge_config: BridgeConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cpus: Vec::new(),
            spin: Duration::ZERO,
            basic: false,
            recv_buffers: 256,
            recv_buffer_bytes: 32 << 10,
            bridge: None,
            bridge_config: BridgeConfig::default(),
        }
    }
}

#[cfg(test)]
mod tests;
