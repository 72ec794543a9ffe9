//! The key-value seam. Lives on one core; implementations hand the work to foreign threads where it blocks.
//!
//! Keys are byte strings in one ordered space; the first byte is the prefix (`S T C O M B P X L`, as in
//! BlueStore), which also selects the merge operator, see [`merge_operator`].

mod mem;
mod merge;
mod sim;
pub mod suite;

use std::any::Any;
use std::rc::Rc;

use bytes::Bytes;
use rt::LocalBoxFuture;

pub use mem::MemKv;
pub use merge::merge;
pub(crate) use sim::fuzzing;
pub use sim::{SimKv, SimKvOptions};

/// A consistent, immutable state of the store. Cheap to clone; holding one keeps its versions readable.
#[derive(Clone)]
pub struct KvView(Rc<dyn Any>);

impl KvView {
    /// Wraps what the implementation needs to read at this state.
    pub fn new(inner: Rc<dyn Any>) -> Self {
        Self(inner)
    }

    /// The implementation's own value back, if it is of type `T`.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.downcast_ref::<T>()
    }
}

/// One change of a batch. Later ones win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvOp {
    /// Sets `key`.
    Put(Bytes, Bytes),
    /// Removes `key`; absent is fine.
    Delete(Bytes),
    /// Removes every key in `[start, end)`; none if `end` is not above `start`.
    DeleteRange(Bytes, Bytes),
    /// Combines the operand with the value by the prefix's operator.
    Merge(Bytes, Bytes),
}

/// How merge operands combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeOperator {
    /// Arrays of little-endian i64, added element by element, wrapping; the shorter is padded with zeroes.
    AddI64,
    /// Bytes, exclusive or; the shorter is padded with zeroes.
    Xor,
}

/// The operator of a key's prefix, if it has one.
pub fn merge_operator(key: &[u8]) -> Option<MergeOperator> {
    match key.first() {
        Some(b'T') => Some(MergeOperator::AddI64),
        Some(b'B') => Some(MergeOperator::Xor),
        _ => None,
    }
}

/// Changes that become visible and durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvBatch {
    /// In order.
    pub ops: Vec<KvOp>,
}

/// Bounds of one page of a scan; at least one key is returned if there is one.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimit {
    /// Most keys.
    pub keys: usize,
    /// Most bytes of keys and values.
    pub bytes: usize,
}

impl ScanLimit {
    /// Whether a page with so many keys and bytes is full.
    pub fn is_reached(&self, keys: usize, bytes: usize) -> bool {
        keys > 0 && (keys >= self.keys || bytes >= self.bytes)
    }
}

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Keys with their values, ascending.
    pub entries: Vec<(Bytes, Bytes)>,
    /// There may be further keys in the range after the last one.
    pub more: bool,
}

/// Sizes for reports, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvStats {
    /// On the device, BlueFS's own log included.
    pub device_bytes: u64,
    /// Held in memory.
    pub memory_bytes: u64,
    /// Written to the device since open, by layer: KV files, BlueFS log.
    pub written_files: u64,
    /// See `written_files`.
    pub written_log: u64,
    /// Device flushes since open.
    pub flushes: u64,
    /// Nobody lends the room that persisting and compacting may need next. Still possible, but now only removals
    /// should be applied: they give space back.
    pub is_short: bool,
    /// Room beyond what it wants to keep; removals and compactions make it.
    pub spare_bytes: u64,
}

/// Why a call failed. Anything but `Full` is final for the store: it must be closed and opened again.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KvError {
    /// No space for the batch.
    #[error("key-value store is full: {0}")]
    Full(String),
    /// The device or file system below failed.
    #[error("key-value store I/O error: {0}")]
    Io(String),
    /// What was read is not what was written.
    #[error("key-value store is corrupt: {0}")]
    Corrupt(String),
    /// Closed, or failed before.
    #[error("key-value store is closed: {0}")]
    Closed(String),
}

/// Result of a call.
pub type KvResult<T> = Result<T, KvError>;

/// An ordered key-value store.
///
/// Contract:
/// - Batches take effect in the order of the `apply` calls. When an `apply` completes, its view and later ones show
///   the batch; a view never shows a part of a batch, and never changes.
/// - `apply` is not durability. After a crash the store is at the boundary of some batch: at or after the last one
///   that completed before a completed `flush` was called.
/// - Merge operands are applied exactly once.
/// - `apply` and `flush` submit at the call; dropping the future undoes nothing.
pub trait KvStore {
    /// The newest state whose `apply` completed (or what `open` found).
    fn view(&self) -> KvView;
    /// Applies a batch; gives the view that includes it.
    fn apply(&self, batch: KvBatch) -> LocalBoxFuture<'static, KvResult<KvView>>;
    /// Makes every batch applied before the call durable.
    fn flush(&self) -> LocalBoxFuture<'static, KvResult<()>>;
    /// Values of `keys` in `view`, in their order.
    fn get(&self, view: &KvView, keys: Vec<Bytes>) -> LocalBoxFuture<'static, KvResult<Vec<Option<Bytes>>>>;
    /// Ascending entries of `[start, end)` in `view`, up to `limit`. An empty `end` means no upper bound.
    fn scan(
        &self,
        view: &KvView,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> LocalBoxFuture<'static, KvResult<ScanPage>>;
    /// Sizes for reports.
    fn stats(&self) -> KvStats;
    /// Waits for running work and lets go of the device. Does not flush.
    fn close(&self) -> LocalBoxFuture<'static, KvResult<()>>;
}
