//! RocksDB on BlueFS. One program, because linking RocksDB takes longer than the tests.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;
mod crash;
mod store;
mod threads;
