//! What the engine consists of. One value per open store, shared by its tasks on one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use allocator::Extent;
use bluefs::kv::{KvError, KvStore};
use bytes::Bytes;
use nvme::{BlockDevice, DeviceError};
use rt::Core;
use rt::sync::{Gate, Notify, Semaphore};

use super::budget::Budget;
use super::cache::{BlockCache, Cache};
use super::counters::Counters;
use super::deferred::Deferred;
use super::kv_room::KvRoom;
use super::lend::Loans;
use super::options::Options;
use super::pg_log::{LogChange, PgLog};
use super::sequencer::Sequencer;
use super::space::SpaceBook;
use super::traffic::Traffic;
use super::writer::Writer;
use crate::checksum::ChecksumKind;
use crate::codec::DecodeError;
use crate::compression::Compression;
use crate::memory::MemoryTarget;
use crate::object_store::{Copies, StoreError, StoreResult};
use crate::overlay::Overlay;
use crate::superblock::Superblock;
use crate::types::{CollectionId, Hints, LogVersion, PoolOptions, PoolStats};

/// What a store is mounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be used.
    Serve,
    /// To look only: nothing is written.
    Look,
    /// To be repaired: nothing runs beside that, and what can be rebuilt need not be right.
    Repair,
}

/// See the module.
pub struct Inner {
    pub core: Core,
    pub device: Rc<dyn BlockDevice>,
    pub kv: Rc<dyn KvStore>,
    pub options: Options,
    /// As it is on the device. Only growth changes it: window, parts and generation.
    pub superblock: RefCell<Superblock>,
    /// One at a time takes up larger devices.
    pub growing: Semaphore,
    /// One at a time clears space.
    pub clearing: Semaphore,
    /// Unit of allocation and checksums, bytes.
    pub block: u64,
    /// What it is mounted for.
    pub purpose: Purpose,
    /// Why the stored free list cannot be used, if it cannot: only in a store that is mounted to be repaired.
    pub free_list_problem: RefCell<Option<String>>,

    pub overlay: Overlay,
    pub cache: RefCell<Cache>,
    pub blocks: RefCell<BlockCache>,
    pub space: SpaceBook,
    pub traffic: Traffic,
    pub journal: RefCell<Writer>,
    pub deferred: Deferred,
    /// In-place writes completed that no flush has covered.
    pub deferred_unflushed: Cell<bool>,
    pub sequencer: Sequencer,
    pub collections: RefCell<BTreeMap<CollectionId, Collection>>,
    pub pools: RefCell<BTreeMap<i64, PoolStats>>,
    /// Of pools that have some.
    pub pool_options: RefCell<BTreeMap<i64, PoolOptions>>,
    pub pg_log: RefCell<PgLog>,
    /// What the next checkpoint adds beside the overlay.
    pub pending: RefCell<Pending>,
    pub next_omap_id: Cell<u64>,
    /// Goes up when a collection is made, removed, or has other bits.
    pub collections_version: Cell<u64>,
    /// Omap ids whose entries are still to be removed.
    pub reaps: RefCell<VecDeque<u64>>,

    /// One at a time waits for journal and overlay space, in order.
    pub admission: Semaphore,
    /// Journal, overlay or device space came free, or durability moved on.
    pub progress: Notify,
    pub group_wanted: Notify,
    /// Transactions that were submitted and did not take effect yet.
    pub executing: Cell<u32>,
    /// A group waits for records that come with those that are queued.
    pub gathering: Cell<bool>,
    pub checkpoint_wanted: Notify,
    pub seal_wanted: Notify,
    pub reap_wanted: Notify,
    /// Checkpoints that ended.
    pub checkpoints: Cell<u64>,
    /// One is running.
    pub checkpointing: Cell<bool>,
    /// Changes on their way to the key-value store.
    pub kv_room: KvRoom,
    /// What may be taken of memory, if anybody said.
    pub budget: RefCell<Option<(MemoryTarget, Budget)>>,
    /// More is held than that, and caches are as small as they can be.
    pub memory_short: Cell<bool>,
    pub memory_wanted: Notify,
    /// Bytes that the key-value store's cache was last given; its misses as last seen; those of a full cache.
    pub kv_cache_bytes: Cell<u64>,
    pub kv_misses_seen: Cell<u64>,
    pub kv_came_back: Cell<u64>,
    /// Reads ahead under way.
    pub read_aheads: Cell<u32>,
    /// Who lends, and what of it is nobody's at the moment.
    pub loans: Loans,
    /// The last loan asked for found no space.
    pub nothing_to_lend: Cell<bool>,
    /// Whom to ask for blocks that cannot be read.
    pub copies: RefCell<Option<Rc<dyn Copies>>>,
    /// Addresses of blocks that are about to be written anew.
    pub healing: RefCell<BTreeSet<u64>>,
    /// Bounds the log of read errors.
    pub read_errors: rt::Seldom,
    /// Transactions pass here; closing waits for them.
    pub gate: Gate,
    /// Background tasks pass here.
    pub background: Gate,
    pub down: RefCell<Option<String>>,
    pub counters: Counters,
}

/// A collection in memory.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    pub bits: u8,
    pub meta: Bytes,
    pub log: VecDeque<(LogVersion, Bytes)>,
}

/// Changes of a generation that are not keys.
#[derive(Debug, Default)]
pub struct Pending {
    pub statistics: BTreeMap<i64, PoolStats>,
    pub log: Vec<LogChange>,
}

impl Inner {
    /// What is compressed of new data of a pool.
    pub fn compression(&self, pool: i64) -> Compression {
        let own = self.pool_options.borrow().get(&pool).and_then(|options| options.compression);
        own.unwrap_or(self.options.compression)
    }

    /// What protects new blocks of a pool.
    pub fn checksum_kind(&self, pool: i64) -> ChecksumKind {
        let own = self.pool_options.borrow().get(&pool).and_then(|options| options.checksum);
        own.unwrap_or(self.options.checksum)
    }

    /// How many bytes of new data of a pool are under one checksum, if they lie in one place.
    pub fn chunk_bytes(&self, pool: i64, hints: Hints) -> u64 {
        if self.checksum_kind(pool) == ChecksumKind::None {
            return self.block;
        }
        let own = self.pool_options.borrow().get(&pool).map(|options| options.checksum_chunk);
        own.unwrap_or_default().or(self.options.checksum_chunk).bytes(hints, self.block)
    }

    /// The store goes down: nothing more becomes durable, everybody who waits learns why.
    pub fn fail(&self, reason: String) {
        if self.down.borrow().is_some() {
            return;
        }
        log::error!("store {} is down: {reason}", self.superblock.borrow().store);
        let error = StoreError::Down(reason.clone());
        *self.down.borrow_mut() = Some(reason);
        let waiters = self.journal.borrow_mut().fail();
        for waiter in waiters {
            // Who dropped its future does not want to know.
            drop(waiter.tell.send(Err(error.clone())));
        }
        self.wake_all();
    }

    /// An error if the store is down.
    pub fn check_up(&self) -> StoreResult<()> {
        match &*self.down.borrow() {
            Some(reason) => Err(StoreError::Down(reason.clone())),
            None => Ok(()),
        }
    }

    /// An error if the store is down or closing.
    pub fn check_open(&self) -> StoreResult<()> {
        self.check_up()?;
        if self.gate.is_closing() { Err(StoreError::Down("closed".into())) } else { Ok(()) }
    }

    /// Everything that waits looks again.
    pub fn wake_all(&self) {
        self.progress.notify_all();
        self.checkpoint_wanted.notify_one();
        self.seal_wanted.notify_one();
        self.reap_wanted.notify_one();
        self.memory_wanted.notify_one();
    }

    /// A failure of the key-value store: final for reads too.
    pub fn kv_failed(&self, error: &KvError) -> StoreError {
        if self.background.is_closing() {
            // A read that was still on its way when the store closed.
            return StoreError::Down("closed".into());
        }
        // Not an I/O error: that would tell a client that its object is damaged, and it is not.
        self.fail(format!("key-value store: {error}"));
        StoreError::Down(error.to_string())
    }

    /// A failure of the device: of these bytes only, or final.
    pub fn device_failed(&self, error: &DeviceError) -> StoreError {
        if matches!(error, DeviceError::Poisoned { .. } | DeviceError::Gone { .. }) {
            self.fail(error.to_string());
            return StoreError::Down(error.to_string());
        }
        StoreError::Io(error.to_string())
    }

    /// A value of the key-value store that cannot be decoded.
    pub fn corrupt(&self, what: &str, key: &Bytes, error: &DecodeError) -> StoreError {
        StoreError::Io(format!("{what} under key {} is corrupt: {error}", key.escape_ascii()))
    }

    /// Bytes of the window.
    pub fn window(&self) -> u64 {
        self.space.window()
    }

    /// The region of the journal.
    pub fn journal_region(&self) -> Extent {
        self.superblock.borrow().journal
    }
}
