//! The key-value seam. Lives on one core; implementations hand the work to foreign threads where it blocks.
//!
//! Keys are byte strings in one ordered space; the first byte is the prefix (`S T C O M B P X L`, as in
//! BlueStore), which also selects the merge operator, see [`merge_operator`].

mod mem;
mod merge;
mod sim;
pub mod suite;
mod turns;

use std::any::Any;
use std::rc::Rc;

use bytes::Bytes;
use rt::LocalBoxFuture;

pub use allocator::Extent;
pub use mem::MemKv;
pub use merge::merge;
pub(crate) use sim::fuzzing;
pub use sim::{SimKv, SimKvOptions};
pub use turns::{Amount, Compact, Turns};

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

/// What a change counts for beside its key and value where room is reckoned, bytes: more than any store adds.
pub const ENTRY_BYTES: u64 = 96;

impl KvOp {
    /// Bytes of the change where room is reckoned.
    pub fn bytes(&self) -> u64 {
        let held = match self {
            Self::Put(key, value) | Self::Merge(key, value) | Self::DeleteRange(key, value) => {
                key.len() + value.len()
            }
            Self::Delete(key) => key.len(),
        };
        held as u64 + ENTRY_BYTES
    }
}

/// Changes that become visible and durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvBatch {
    /// In order.
    pub ops: Vec<KvOp>,
}

impl KvBatch {
    /// Sum of [`KvOp::bytes`].
    pub fn bytes(&self) -> u64 {
        self.ops.iter().map(KvOp::bytes).sum()
    }
}

/// Room that a change takes in a file at most, as a multiple of [`KvOp::bytes`]: the entry, and its key once more in
/// the file's index.
const FILE_FACTOR: u64 = 2;

/// Space is given back in multiples of this, or of the file system's unit if that is larger, bytes: smaller pieces were many
/// loans, and less of it were long runs for data.
const GRANULE_BYTES: u64 = 64 << 10;

/// In what multiples space is given back by a file system that allocates in units of so many bytes.
pub fn granule(unit: u64) -> u64 {
    GRANULE_BYTES.next_multiple_of(unit.max(1))
}

/// How many bytes of changes are sure to fit, where `room` is free in the file system, `compaction` bytes may be needed
/// to write what the largest compaction merges, and `fixed` for what comes with any of it.
///
/// A batch of b bytes becomes files of at most `FILE_FACTOR`·b. The next compaction may have to merge just these with
/// what is there, and writes everything before it lets go of anything, so it needs as much again. Hence
/// headroom(after) ≥ headroom(before) − b whatever b ≤ headroom was written; and a compaction gives room and takes none,
/// as what it writes is no more than what it replaces. So what was promised is never taken back: who starts only what
/// fits can always finish.
pub fn headroom(room: u64, compaction: u64, fixed: u64) -> u64 {
    room.saturating_sub(compaction).saturating_sub(fixed) / (2 * FILE_FACTOR)
}

/// The room that such a headroom takes: the inverse of [`headroom`].
pub fn room_for(headroom: u64, compaction: u64, fixed: u64) -> u64 {
    headroom.saturating_mul(2 * FILE_FACTOR).saturating_add(compaction).saturating_add(fixed)
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
    /// Of that, what could be read from the device again.
    pub cache_bytes: u64,
    /// What may be held beside the cache at worst.
    pub tables_bytes_max: u64,
    /// What was looked for in the cache and was not there, since open.
    pub cache_misses: u64,
    /// Written to the device since open, by layer: KV files, BlueFS log.
    pub written_files: u64,
    /// See `written_files`.
    pub written_log: u64,
    /// Device flushes since open.
    pub flushes: u64,
    /// Changes, counted as by [`KvOp::bytes`], that are sure to fit beyond those applied and flushed so far, with the
    /// room that there is: they can be applied, made durable and compacted. None if nothing bounds them. What is applied
    /// and not yet flushed may be in it or not: whoever counts on it counts that once more.
    pub headroom_bytes: Option<u64>,
    /// What each flush may take of that beside the changes: files end in a unit of their own.
    pub flush_bytes: u64,
    /// Room beyond what it wants to keep; removals and compactions make it.
    pub spare_bytes: u64,
    /// Room that no key takes, what it wants to keep included.
    pub free_bytes: u64,
    /// Space on a fast device of its own.
    pub fast_bytes: u64,
    /// Of that, free.
    pub fast_free_bytes: u64,
    /// In use on the main device although there is a fast one.
    pub spilled_bytes: u64,
    /// Ranges that were removed by tombstones and then compacted, so that seeks need not step over these, since open.
    pub ranges_compacted: u64,
    /// Compactions of all that is stored, since open: those that somebody asked for, to get room, and in small stores others.
    pub compactions: u64,
}

/// Why a call failed. Anything but `Full` is final for the store: it must be closed and opened again.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KvError {
    /// No space for the batch. Nothing is lost: the same call may be made again when there is room.
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
    /// Keeps up to so many bytes of what could be read again. A store may have no choice.
    fn set_cache_bytes(&self, _bytes: u64) {}
    /// Compacts when it sees fit from now on. What opens a store, or only looks at one, is not to wait for that, nor to cause it.
    fn begin_compacting(&self) {}
    /// Wants so much headroom from now on, and asks for space where it comes from. Does not wait.
    fn keep_headroom(&self, _bytes: u64) {}
    /// Tries to get so much headroom. Completes when what the lender had is there and, if that is not enough and
    /// `compact` says so, what was removed has been compacted away; how much there is then, `stats` tells.
    fn make_headroom(&self, _bytes: u64, _compact: Compact) -> LocalBoxFuture<'static, KvResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// Gives up to `bytes` of lent space back, of what lies within `among`, as long as there is headroom of `keep` and what
    /// is always to be kept. Durable when done: the store does not know the extents any more. If there is nothing to give
    /// and `compact` says so, starts to compact what was removed, so that there may be later.
    fn give_back(
        &self,
        _bytes: u64,
        _keep: u64,
        _compact: bool,
        _among: Vec<Extent>,
    ) -> LocalBoxFuture<'static, KvResult<Vec<Extent>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// Moves up to about `bytes` of what spilled from the fast device back to it, if it has room; gives how much moved.
    fn move_back(&self, _bytes: u64) -> LocalBoxFuture<'static, KvResult<u64>> {
        Box::pin(std::future::ready(Ok(0)))
    }
    /// The main device below has become larger, and has so many bytes now. Done when that is durable: what is lent from then on
    /// may lie there. A store that does not know of its device has nothing to do.
    fn grow(&self, _device_bytes: u64) -> LocalBoxFuture<'static, KvResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// The fast device's space has become larger, as the extent says; as much of it as was there before stays. Done when that is
    /// durable and in use.
    fn grow_fast(&self, _fast: Extent) -> LocalBoxFuture<'static, KvResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// Waits for running work and lets go of the device. Does not flush.
    fn close(&self) -> LocalBoxFuture<'static, KvResult<()>>;
}
