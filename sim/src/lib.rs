//! The cluster simulator: clients, monitor, OSDs, disks and network in one thread from one seed.
//!
//! A run has two phases. In the first, clients send requests while faults strike: OSDs lose power between any two steps
//! (their disks then lose, tear or keep what was not durable), connections break, the monitor dies, clients die. In the
//! second, faults stop; every request must be answered within a bound of virtual time, and everything is compared with
//! the oracle. Faults stay within what a pool of one copy must survive, so any loss is a bug.

mod admin;
mod aims;
mod bystander;
mod check_store;
mod client_life;
mod cluster;
mod damage;
mod disks;
mod faults;
mod fs_owners;
mod inspect;
mod judge;
mod loans;
mod make;
mod node_store;
pub mod operation;
pub mod oracle;
#[cfg(feature = "planted")]
mod planted;
mod pool;
mod report;
pub mod requests;
mod run;
mod scenario;
mod store_content;
mod verify;
pub mod workload;

#[cfg(feature = "planted")]
pub use planted::Planted;
pub use report::{Counts, Outcome, Summary};
pub use run::{catch_panics, run};
pub use scenario::{Floors, Scenario};
