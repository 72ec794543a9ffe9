//! Commands: a table as data, requests, answers. Each family is a file with its rows and handlers.
//!
//! Invariant: a handler sees the state and decides; it changes nothing. What it decides goes through the log.

mod families;
pub mod pool_op;
mod reply;
mod request;
mod run;
mod table;
#[cfg(test)]
mod tests;

pub use families::pool_room;
pub use reply::{Outcome, Refusal, Reply};
pub use request::Request;
pub use run::{only_reads, run};
pub use table::{Argument, Command, Handler, Kind, Module, Permission, Table};
