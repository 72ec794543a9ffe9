//! The object store: the [`ObjectStore`] seam, its memory implementation, and the engine.
//!
//! A store belongs to one slice and lives on that slice's core. It knows bytes and names, not Ceph's messages.

mod check;
pub mod codec;
pub mod limits;
mod memstore;
mod object_store;
pub mod suite;
mod transaction;
mod types;

pub use memstore::MemStore;
pub use object_store::{
    FsckFinding, FsckLevel, FsckReport, FsckSeverity, ObjectStore, OmapPage, StoreError, StoreResult,
    StoreStats, Submitted,
};
pub use transaction::{Op, Transaction};
pub use types::{CollectionId, LogVersion, ObjectId, ObjectStat, PoolStats};
