//! The per-core handle through which everything else sees the world.
//!
//! Clock, randomness, tasks, timers, sockets, mailboxes and the bridge to foreign threads are methods of
//! [`Core`]. There are three worlds behind it: the real reactor (one io_uring per core), a deterministic
//! simulated one, and, behind the feature `glommio`, glommio. Nothing else in spirula may ask the operating
//! system for time, randomness, threads or sockets.
//!
//! A `Core` is cheap to clone and never leaves its core: it is `!Send`.

pub mod alien;
mod core;
mod exec;
#[cfg(feature = "glommio")]
pub mod glommio_world;
mod heap;
pub mod limits;
pub mod mailbox;
pub mod net;
mod os;
mod seldom;
pub mod sim;
pub mod suite;
pub mod sync;
mod timers;
pub mod uring;

pub use crate::core::{Core, CoreId, Group, Lane, LocalBoxFuture, Nanos, Task, World};
pub use crate::exec::Stalls;
pub use crate::heap::Heap;
pub use crate::seldom::Seldom;
