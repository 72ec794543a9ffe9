//! The seam: what an object store promises to the placement groups above it. Lives on one core.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use rt::LocalBoxFuture;
use smallvec::SmallVec;

use crate::devices::Role;
use crate::memory::{MemoryTarget, MemoryUse};
use crate::transaction::Transaction;
use crate::types::{AccessHints, CollectionId, LogVersion, ObjectId, ObjectStat, PoolOptions, PoolStats};

/// Why a call failed. A transaction that fails has no effect at all.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// No such collection or object.
    #[error("not found: {0}")]
    NotFound(String),
    /// The collection exists.
    #[error("exists: {0}")]
    Exists(String),
    /// The collection still has objects.
    #[error("not empty: {0}")]
    NotEmpty(String),
    /// A limit of the store is exceeded (object size, name length, attribute size, transaction size).
    #[error("too large: {0}")]
    TooLarge(String),
    /// No store could do this: an object outside its collection, log versions that do not ascend. The caller's mistake.
    #[error("invalid: {0}")]
    Invalid(String),
    /// No space. Removing objects still works.
    #[error("no space: {0}")]
    NoSpace(String),
    /// These bytes cannot be read: the device failed or a checksum does not match. Others may be fine.
    #[error("I/O error: {0}")]
    Io(String),
    /// The store is going down or went down for this reason; nothing more will become durable.
    #[error("store is down: {0}")]
    Down(String),
}

/// Result of a call.
pub type StoreResult<T> = Result<T, StoreError>;

/// Crc32c of each block of [`crate::limits::BLOCK`] bytes of what a transaction's only write has, from its beginning on, as whoever
/// received the bytes verified them; none if nobody did. They save the store a pass over the bytes, and the bytes a while in which
/// nothing protects them.
pub type BlockSums = SmallVec<[u32; 2]>;

/// A piece of what was read; with its crc32c if it is a block that was verified by that when it came from the device.
pub type Summed = (Bytes, Option<u32>);

/// A transaction on its way. Dropping the futures undoes nothing.
pub struct Submitted {
    /// Done when reads on this store show the transaction (or it failed).
    pub readable: Outcome,
    /// Done when it survives a crash. Only then may anybody outside be told of it, or of what a read showed because
    /// of it.
    pub durable: Outcome,
}

/// What became of a transaction, as a future. Not to be polled again once it is done.
#[must_use = "who is not told must say so"]
pub enum Outcome {
    /// It is known.
    Known(StoreResult<()>),
    /// It will be.
    Later(LocalBoxFuture<'static, StoreResult<()>>),
}

impl Future for Outcome {
    type Output = StoreResult<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Known(result) => Poll::Ready(result.clone()),
            Self::Later(future) => future.as_mut().poll(cx),
        }
    }
}

/// One page of an omap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OmapPage {
    /// Ascending by key.
    pub entries: Vec<(Bytes, Bytes)>,
    /// There are further keys.
    pub more: bool,
}

/// Space and activity of the whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes the store may use.
    pub total: u64,
    /// Bytes that can still be allocated to data.
    pub available: u64,
    /// Bytes allocated to data.
    pub allocated: u64,
    /// Bytes stored by clients.
    pub stored: u64,
    /// Bytes of omap, an estimate.
    pub omap: u64,
    /// Bytes of the key-value store, journal and other metadata.
    pub metadata: u64,
    /// Bytes of a fast device for keys, beside `total`; 0 if there is none.
    pub fast: u64,
    /// Of these, free.
    pub fast_available: u64,
    /// Pieces that free space is in.
    pub free_pieces: u64,
    /// How much free space is in pieces, in thousandths: 0 if it is one, 1000 if no two free blocks lie side by side.
    pub fragmentation_permille: u64,
    /// Bytes of keys that are in `metadata` although there is a fast device for them.
    pub spilled: u64,
    /// Named counters, ascending by name: device bytes by layer (`data_bytes_written`, `journal_bytes_written`, …),
    /// flushes, groups, transactions, cache hits and the like, since open.
    pub counters: Vec<(&'static str, u64)>,
    /// Memory, by kind; nothing of a store that does not count it.
    pub memory: Vec<MemoryUse>,
}

/// What a device of a store was and has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceGrowth {
    /// What it is for.
    pub role: Role,
    /// Bytes of it that were the store's; of the main one, see [`StoreStats::total`].
    pub before: u64,
    /// Those that are now.
    pub bytes: u64,
}

/// In how many pieces a part of an object lies, as far as it can move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragments {
    /// Bytes of device space.
    pub bytes: u64,
    /// Pieces of it.
    pub pieces: u64,
    /// Of these, with free space on both sides.
    pub islands: u64,
}

/// What clearing windows of free space came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClearReport {
    /// Times that it looked for windows to clear, and for what is in them.
    pub passes: u64,
    /// Windows that are one run of free space now.
    pub windows: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes that moved for it.
    pub moved_bytes: u64,
    /// It did not end early.
    pub is_whole: bool,
}

/// How thorough a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsckLevel {
    /// Structure and allocation.
    Metadata,
    /// Also every byte against its checksum.
    Deep,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FsckSeverity {
    /// Space is lost, nothing else.
    Warning,
    /// Something is wrong that the store can live with.
    Error,
    /// Data is lost or may be.
    Fatal,
}

/// What can be done about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// A repair puts it right, and nothing is lost.
    Repair,
    /// A repair can only give up what cannot be read, or cannot be right.
    Discard,
    /// Nothing, here: what was damaged can only be written again.
    None,
}

/// One inconsistency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsckFinding {
    /// How bad.
    pub severity: FsckSeverity,
    /// What can be done.
    pub remedy: Remedy,
    /// Short stable name of the kind of finding, `extent-overlap` for example.
    pub kind: &'static str,
    /// What, where, expected, got.
    pub detail: String,
}

/// Who looks at a check, or at other work of that kind, while it runs.
pub trait Watch {
    /// So many objects are done, of about so many.
    fn progress(&self, _done: u64, _total: u64) {}

    /// Between two steps, after so many bytes were read: who wants it to go slowly waits. It ends early if this gives false.
    fn pause(&self, _bytes: u64) -> LocalBoxFuture<'static, bool> {
        Box::pin(std::future::ready(true))
    }
}

/// Nobody: as fast as it goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}

/// Result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// Everything wrong, bounded by `limits::FSCK_FINDINGS_MAX`.
    pub findings: Vec<FsckFinding>,
    /// Objects visited.
    pub objects: u64,
    /// Bytes verified against checksums.
    pub bytes_verified: u64,
    /// It did not end early.
    pub is_whole: bool,
}

/// Where an object's bytes may be had when a block of it cannot be read here: from another replica, or computed from others.
pub trait Copies {
    /// `len` bytes from `offset`, fewer where the object ends, as a copy of this version of the object has them; none if there is
    /// none. The store verifies them against its own checksums, so a wrong answer is as good as none.
    fn fetch(&self, object: &ObjectId, offset: u64, len: u64) -> LocalBoxFuture<'static, Option<Bytes>>;
}

/// An object store of one slice.
///
/// Contract:
/// - Transactions on one collection take effect in the order of the `submit` calls; across collections the order is
///   the store's, and a crash leaves a prefix of that order.
/// - A read shows whole transactions only, and all of those whose `readable` was done before the read was called. It
///   may show some that are not durable: the caller holds its answer back until they are.
/// - `durable` completes only when the transaction, and all before it in the store's order, survive any crash.
/// - Every byte read was verified against its checksum.
/// - `submit` never waits by itself: back-pressure is the delay of `readable`. The caller bounds what it submits.
pub trait ObjectStore {
    /// Starts a transaction.
    fn submit(&self, transaction: Transaction) -> Submitted {
        self.submit_with(transaction, AccessHints::default(), BlockSums::new())
    }
    /// Starts a transaction of whose data something is known: what the client says of its use, and its checksums.
    fn submit_with(&self, transaction: Transaction, hints: AccessHints, sums: BlockSums) -> Submitted;

    /// Up to `len` bytes from `offset`, fewer at the object's end, holes as zeroes.
    fn read(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<Bytes>>> {
        self.read_with(collection, object, offset, len, AccessHints::default())
    }
    /// The same for a client that says something of how it reads.
    fn read_with(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
        hints: AccessHints,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<Bytes>>>;
    /// The same with what is known of the pieces, for who passes them on under a checksum.
    fn read_summed(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
        hints: AccessHints,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<Summed>>> {
        let read = self.read_with(collection, object, offset, len, hints);
        Box::pin(async move { Ok(read.await?.into_iter().map(|bytes| (bytes, None)).collect()) })
    }
    /// The parts of the range (clipped to the object's size) that hold data, as (offset, length), ascending, not adjacent.
    fn extents(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(u64, u64)>>>;
    /// In how many pieces the range lies, for who may then defragment it. A store may not know of any.
    fn fragments(
        &self,
        _collection: CollectionId,
        _object: &ObjectId,
        _offset: u64,
        _len: u64,
    ) -> LocalBoxFuture<'static, StoreResult<Fragments>> {
        Box::pin(std::future::ready(Ok(Fragments::default())))
    }
    /// Size of the object. `NotFound` if it does not exist.
    fn stat(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<ObjectStat>>;
    /// All attributes, ascending by name.
    fn attrs(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(Bytes, Bytes)>>>;
    /// The omap header, empty if none was set.
    fn omap_header(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<Bytes>>;
    /// Values of `keys`, absent ones left out, ascending by key.
    fn omap_values(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        keys: Vec<Bytes>,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(Bytes, Bytes)>>>;
    /// Entries with keys after `start_after` (all if `None`) that begin with `prefix`, at most `max` and about `max_bytes`.
    fn omap_scan(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        start_after: Option<Bytes>,
        prefix: Bytes,
        max: usize,
        max_bytes: usize,
    ) -> LocalBoxFuture<'static, StoreResult<OmapPage>>;
    /// Objects of the collection from `from` on (all if `None`), in enumeration order, at most `max`; and the one to
    /// go on from, `None` at the end.
    fn list(
        &self,
        collection: CollectionId,
        from: Option<ObjectId>,
        max: usize,
    ) -> LocalBoxFuture<'static, StoreResult<(Vec<ObjectId>, Option<ObjectId>)>>;
    /// All collections with their `bits` and metadata, ascending.
    fn collections(&self) -> LocalBoxFuture<'static, StoreResult<Vec<(CollectionId, u8, Bytes)>>>;
    /// The collection's log as far as it is kept, ascending by version.
    fn log(&self, collection: CollectionId)
    -> LocalBoxFuture<'static, StoreResult<Vec<(LogVersion, Bytes)>>>;

    /// Space and activity.
    fn stats(&self) -> StoreStats;
    /// Use by pool, ascending by pool.
    fn pool_stats(&self) -> Vec<(i64, PoolStats)>;
    /// What a pool wants from now on, until the store is closed. A store may have no choice.
    fn set_pool_options(&self, pool: i64, options: PoolOptions);
    /// What the store may take of memory, from now on; nothing is said by default. Caches adapt, and writers wait where that is
    /// not enough. `Invalid` if it is too little for what the store must hold; then nothing changes. A store may take what it
    /// likes.
    fn set_memory_target(&self, _target: Option<MemoryTarget>) -> StoreResult<()> {
        Ok(())
    }
    /// Takes up what the store's devices have grown by, and tells of each that it has. `NoSpace` if the key-value store finds no
    /// room to note it down; it can be asked again. A store that does not know of its devices is as large as it was.
    fn grow(&self) -> LocalBoxFuture<'static, StoreResult<Vec<DeviceGrowth>>> {
        let total = self.stats().total;
        let as_it_was = DeviceGrowth { role: Role::Main, before: total, bytes: total };
        Box::pin(std::future::ready(Ok(vec![as_it_was])))
    }
    /// Whom to ask for blocks that cannot be read, from now on. What is right is served, and written anew. A store may have
    /// no need of it.
    fn set_copies(&self, _copies: Option<Rc<dyn Copies>>) {}
    /// Checks everything as it is at the moment of the call, while transactions go on. What a deep check reads is what there is
    /// when it comes to it.
    fn fsck(
        &self,
        level: FsckLevel,
        watch: Rc<dyn Watch>,
    ) -> LocalBoxFuture<'static, StoreResult<FsckReport>>;
    /// Waits until the space that was freed so far can be allocated, but for what is being read. A store may have it free at once.
    fn settle_frees(&self) -> LocalBoxFuture<'static, StoreResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// Moves what lies in windows of the device that are mostly free to holes elsewhere, so that free space is in longer runs;
    /// one call after the other. A store may not know of any windows.
    fn clear_space(&self, _watch: Rc<dyn Watch>) -> LocalBoxFuture<'static, StoreResult<ClearReport>> {
        Box::pin(std::future::ready(Ok(ClearReport { is_whole: true, ..ClearReport::default() })))
    }
    /// Finishes what was submitted, seals the journal and lets go of the device.
    fn close(&self) -> LocalBoxFuture<'static, StoreResult<()>>;
}
