//! The crash sweep: a fixed workload of every kind of write on a whole device, recorded; then power loss at every
//! device write and flush, with none, all, each one missing, each one torn and random subsets of what was in flight.
//!
//! What each cut leaves must be a store without findings that shows, for each collection, the state after some prefix
//! of its transactions that holds all acknowledged ones. From a sample of the cuts a store goes on: its recovery is
//! recorded and cut again, both after power loss and after the death of the process alone.
//!
//! Below the engine is either the simulated key-value store, where a sweep is the same every time, or real RocksDB
//! with its threads, whose recording differs from run to run and whose cuts do not.

mod check;
mod dump;
mod features;
mod late;
mod life;
mod plan;
mod rot;
mod setups;
mod stack;
mod sweep;
mod views;
mod workload;

pub use check::{Expectation, Found, check};
pub use features::untouched;
pub use life::{FORMATTED, Totals, live};
pub use plan::{Builder, Plan, Step, Track};
pub use rot::{AtRest, Flip, PlaceCount};
pub use setups::{large_units, rocks, rocks_with_db, simulated, small_blocks, with_db, with_db_and_wal};
pub use stack::{Below, MountError, Mounted, Setup, format, in_world, mount};
pub use sweep::{Counts, Failure, Thoroughness, record, sweep, sweep_workload};
pub use views::{Devices, Views};
pub use workload::{aftermath, workload};
