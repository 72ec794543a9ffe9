//! A load on whatever stores blocks, and what it measured: the same job, driver, records and report for a raw device, the engine
//! alone, one OSD over loopback, and a cluster.
//!
//! A [`Target`] reads and writes blocks by position; [`run`] puts a [`Job`] on it from one core; a [`Report`] tells what came of it
//! as text, JSON and a page of HTML. Nothing here knows who is measured. A real core's clock counts, or a simulated one's, so
//! that what the driver says of a target that stalls is tested to the nanosecond.

#![forbid(unsafe_code)]

mod arrivals;
mod content;
pub mod counted;
mod delayed;
mod distribution;
mod driver;
mod job;
mod ledger;
mod limits;
mod machine;
mod meter;
pub mod one_osd;
mod recorder;
pub mod report;
pub mod setup;
mod target;
pub mod targets;

pub use content::{Content, STAMP_MAGIC, Wrong};
pub use distribution::Distribution;
pub use driver::{Failed, Measured, Verified, Watch, run};
pub use job::{Job, JobError, Length, Spacing};
pub use ledger::Finding;
pub use limits::{BLOCK_BYTES_MAX, DEPTH_MAX, POSITIONS_VERIFIED_MAX, STAMPED_BYTES_MIN};
pub use machine::Machine;
pub use meter::{Meter, Party, ServerProcess, Spent};
pub use recorder::{Direction, Intervals, Lane, Recorder};
pub use report::Report;
pub use target::{Target, TargetError};

#[cfg(test)]
mod tests;
