//! The monitor: cluster maps, configuration, cluster log, commands; one of them today, a quorum later.
//!
//! ```text
//! client ──► session ──► decide(state) ──► log (durable) ──► apply ──► answer, subscribers
//! ```
//!
//! Everything but `service` and `log` is pure. What is replicated is in [`state`], what this monitor knows besides
//! in [`live`]; commands see both as a [`view`] and say what to change.

pub mod commands;
pub mod crush_view;
pub mod fuzzing;
pub mod health;
pub mod limits;
pub mod live;
pub mod log;
pub mod options;
pub mod osd_flags;
pub mod osd_life;
pub mod render;
mod service;
pub mod state;
pub mod version;
pub mod view;

pub use osd_life::NewOsd;
pub use service::{MkfsOptions, MonConfig, MonError, MonHandle, Monitor, mkfs};
