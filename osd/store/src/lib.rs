//! The object store: the [`ObjectStore`] seam, its memory implementation, and the engine.
//!
//! A store belongs to one slice and lives on that slice's core. It knows bytes and names, not Ceph's messages.

mod attrs;
mod check;
mod checksum;
pub mod codec;
mod compression;
pub mod devices;
mod engine;
mod export;
mod fault;
pub mod fuzzing;
mod journal;
mod keys;
pub mod label;
pub mod limits;
mod memory;
mod memstore;
mod object_store;
mod onode;
mod overlay;
mod removal;
mod shard;
mod shard_numbers;
mod share;
mod sorted;
pub mod suite;
mod superblock;
mod transaction;
mod types;

pub use checksum::{Checksum, ChecksumKind, Checksums, Chunk};
pub use compression::{Algorithm, Compressibility, Compression, CompressionMode};
pub use engine::{
    BlockPlace, CachePolicy, Engine, FormatOptions, FreeList, FreeSpace, Histogram, Loss, Lost, ObjectDump,
    OpenError, OpenResult, Options, RepairOptions, RepairReport, Repaired, Repairing, Sizes,
};
pub use export::{ExportError, ExportHeader, ExportReader, ExportWriter};
pub use fault::{Fault, Planted};
pub use memory::{MemoryKind, MemoryTarget, MemoryUse};
pub use memstore::MemStore;
pub use object_store::{
    BlockSums, ClearReport, Copies, DeviceGrowth, Fragments, FsckFinding, FsckLevel, FsckReport,
    FsckSeverity, ObjectStore, OmapPage, Outcome, Remedy, StoreError, StoreResult, StoreStats, Submitted,
    Summed, Unwatched, Watch,
};
pub use onode::Onode;
pub use removal::remove_objects;
pub use shard::{Blob, Packed, Piece, Shard};
pub use share::Share;
pub use superblock::{Features, Superblock};
pub use transaction::{Op, Transaction};
pub use types::{
    AccessHints, ChunkBounds, CollectionId, Hints, Keep, LogVersion, ObjectId, ObjectStat, Pattern,
    PoolOptions, PoolStats,
};
