//! RocksDB on BlueFS, as a key-value store of the seam. The only crate with C++; unsafe is confined to the C ABI.
//!
//! RocksDB's threads reach BlueFS's blocking shell through a shim of `rocksdb::FileSystem`. [`RocksKv`] lives on a
//! core and makes every RocksDB call, down to the release of a snapshot, on a foreign thread.

mod callbacks;
mod database;
mod env;
mod families;
mod options;
mod removed;
mod report;
mod room;
mod store;
mod trash;

pub use env::bluefs_env;
pub use options::RocksOptions;
pub use report::RocksReport;
pub use store::RocksKv;
