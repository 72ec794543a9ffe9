//! [`Engine`]: the object store on a block device and a key-value store. One slice's single-threaded citizen: it does
//! not know that other slices exist, nor which backends are below.
//!
//! `state` is what it consists of; `submit` is the life of a transaction, `read` that of a read; `writer`, `commit`,
//! `checkpoint` and `mount` are the rules of durability.

mod admit;
pub(crate) mod apply;
mod assemble;
mod attempts;
mod blocks;
mod budget;
mod cache;
pub(crate) mod checkpoint;
mod chunks;
mod clear;
mod clone_range;
mod close;
mod commit;
mod content;
mod counters;
mod cuts;
mod deferred;
mod defragment;
mod effect;
mod fence;
mod flips;
pub(crate) mod free_list;
mod fsck;
mod grow;
mod heal;
mod held;
mod inspect;
mod known_omap;
mod known_sums;
mod kv_room;
mod layout;
mod lend;
mod load;
mod memory_watch;
mod mount;
mod needs;
mod open;
mod options;
mod overwrite;
mod packing;
mod parts;
pub(crate) mod pg_log;
mod plan;
mod read;
mod sequencer;
mod sharing;
mod space;
mod stage;
mod stage_object;
mod state;
mod submit;
mod traffic;
mod writer;

#[cfg(test)]
mod tests;

use std::rc::Rc;

use allocator::{Allocator, Extent};
use bluefs::kv::KvStore;
use bytes::Bytes;
use nvme::BlockDevice;
use rt::{Core, LocalBoxFuture};
use uuid::Uuid;

use crate::devices::Role;
use crate::memory::MemoryTarget;
use crate::object_store::{
    BlockSums, ClearReport, Copies, DeviceGrowth, Fragments, FsckLevel, FsckReport, ObjectStore, OmapPage,
    StoreResult, StoreStats, Submitted, Summed, Watch,
};
use crate::superblock::Superblock;
use crate::transaction::Transaction;
use crate::types::{AccessHints, CollectionId, LogVersion, ObjectId, ObjectStat, PoolOptions, PoolStats};

pub use cache::CachePolicy;
pub use fsck::{Loss, Lost, RepairOptions, RepairReport, Repaired, Repairing};
pub use inspect::{Histogram, ObjectDump, Sizes};
pub use open::{OpenError, OpenResult};
pub use options::{FormatOptions, FreeList, Options};
pub use read::BlockPlace;
use state::{Inner, Purpose};

/// Free space of a store's device.
#[derive(Clone, Debug, PartialEq)]
pub struct FreeSpace {
    /// Bytes of the device.
    pub capacity: u64,
    /// Bytes of a block.
    pub block: u64,
    /// 0 if it is one run, 1 if no two free blocks are adjacent.
    pub fragmentation: f64,
    /// Every free run, ascending.
    pub extents: Vec<Extent>,
    /// Bytes of memory of all that is known about space.
    pub memory: u64,
}

/// The store of one slice.
pub struct Engine {
    inner: Rc<Inner>,
}

impl Engine {
    /// Makes an empty store on `device`, the slice's window. The key-value store must be empty too.
    pub async fn format(device: &dyn BlockDevice, options: &FormatOptions) -> OpenResult<Superblock> {
        open::format(device, options).await
    }

    /// Where a store formatted like this has its regions, without writing anything.
    pub fn regions(device: &dyn BlockDevice, options: &FormatOptions) -> OpenResult<Superblock> {
        open::regions(device, options)
    }

    /// The superblock on a store's main device alone: it names the parts that are to be joined to it.
    pub async fn main_superblock(device: &dyn BlockDevice) -> OpenResult<Superblock> {
        Ok(open::read_main_superblock(device).await?.0)
    }

    /// The superblock on `device`: it tells where the key-value store's file system begins. An error if a part that it names
    /// is not joined to it as it was left.
    pub async fn superblock(device: &dyn BlockDevice) -> OpenResult<Superblock> {
        Ok(open::read_superblock(device).await?.0)
    }

    /// Puts a copy of the superblock of the store on `window` where that window ends once it is `larger`; not durable yet.
    /// `NoStore` if there is none.
    pub(crate) async fn copy_superblock(
        window: &dyn BlockDevice,
        larger: &dyn BlockDevice,
    ) -> OpenResult<()> {
        open::copy_superblock(window, larger).await
    }

    /// Gives a store that nobody has open a part of this role, all of `part`; `device` is the store's as it is joined now. The
    /// journal and the placement groups' log are copied there if that is where they belong then; keys move with the mounts
    /// to come. The store has the part once all of that is durable; before that nothing of it has changed.
    pub async fn add_part(
        device: &dyn BlockDevice,
        part: &dyn BlockDevice,
        role: Role,
        id: Uuid,
    ) -> OpenResult<Superblock> {
        parts::add_part(device, part, role, id).await
    }

    /// Takes up that the part of this role has become larger, and has so many bytes now; nobody has the store open. Keys use what
    /// is new from the next mount on.
    pub async fn grow_part(device: &dyn BlockDevice, role: Role, len: u64) -> OpenResult<Superblock> {
        parts::grow_part(device, role, len).await
    }

    /// Moves the part of this role, of a store that nobody has open, to all of `to`; `device` is the store's as it is joined now.
    /// `keys` is where on it the key-value store's file system has files or log, as addresses of the joined device. The store
    /// has the new part once all of that is there and durable, and the old one is as it was then; before that nothing of the
    /// store has changed.
    pub async fn move_part(
        device: &dyn BlockDevice,
        to: &dyn BlockDevice,
        role: Role,
        id: Uuid,
        keys: &[Extent],
    ) -> OpenResult<Superblock> {
        parts::move_part(device, to, role, id, keys).await
    }

    /// Takes the part of this role away from a store that nobody has open. The journal and the placement groups' log are copied
    /// from it to where they belong then. The key-value store's file system must have left it for good.
    pub async fn remove_part(device: &dyn BlockDevice, role: Role) -> OpenResult<Superblock> {
        parts::remove_part(device, role).await
    }

    /// Opens the store on `device`, to which the parts on other devices are joined. If the device has become larger than the
    /// store, the store becomes as large.
    pub async fn mount(
        core: Core,
        device: Rc<dyn BlockDevice>,
        kv: Rc<dyn KvStore>,
        options: Options,
    ) -> OpenResult<Self> {
        Ok(Self { inner: mount::mount(core, device, kv, options, Purpose::Serve).await? })
    }

    /// Opens the store to look only, as it would be after replay; nothing is written.
    pub async fn mount_read_only(
        core: Core,
        device: Rc<dyn BlockDevice>,
        kv: Rc<dyn KvStore>,
        options: Options,
    ) -> OpenResult<Self> {
        Ok(Self { inner: mount::mount(core, device, kv, options, Purpose::Look).await? })
    }

    /// Opens the store to repair it; see [`Repairing::run`]. What the free list says need not be right for that.
    pub async fn mount_to_repair(
        core: Core,
        device: Rc<dyn BlockDevice>,
        kv: Rc<dyn KvStore>,
        options: Options,
    ) -> OpenResult<Repairing> {
        Ok(Repairing::new(mount::mount(core, device, kv, options, Purpose::Repair).await?))
    }

    /// Lends space to the key-value store's file system when it asks, from now on. `owned` is what it has, `unit` the
    /// alignment that it needs. It is corruption, and takes the store down, if it has what was never lent to it.
    pub fn serve_space(
        &self,
        requests: bluefs::fs::SpaceRequests,
        owned: &[Extent],
        unit: u64,
    ) -> StoreResult<()> {
        self.inner.serve_space(requests, owned, unit)
    }

    /// Checks, for who only looks, that the key-value store's file system has nothing that is not lent to it.
    pub fn check_owned(&self, owned: &[Extent]) -> StoreResult<()> {
        self.inner.check_owned(owned)
    }

    /// What can be allocated to data now: for those who look at devices.
    pub fn free_space(&self) -> FreeSpace {
        let memory = self.inner.space.memory_bytes();
        self.inner.space.space.with(|allocator| FreeSpace {
            memory,
            capacity: allocator.capacity(),
            block: allocator.block_size(),
            fragmentation: allocator.fragmentation(),
            extents: allocator.free_extents(),
        })
    }

    /// What is lent to the key-value store's file system, ascending: for who compares it with what that has.
    pub fn lent(&self) -> Vec<Extent> {
        self.inner.space.lent()
    }

    /// Where each block of an object that holds data lies on the device: for those who look at devices.
    pub fn block_places(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<BlockPlace>>> {
        Box::pin(Rc::clone(&self.inner).block_places(collection, object.clone()))
    }

    /// All that is stored of an object besides its data and its omap: for those who look into stores.
    pub fn dump(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<ObjectDump>> {
        Box::pin(Rc::clone(&self.inner).dump(collection, object.clone()))
    }

    /// How large the parts of the objects of the pools that `wants` names are. Looks at every key of an object.
    pub fn histogram(
        &self,
        wants: impl Fn(i64) -> bool + 'static,
    ) -> LocalBoxFuture<'static, StoreResult<Histogram>> {
        Box::pin(Rc::clone(&self.inner).histogram(wants))
    }

    /// Whether a checkpoint is being made at this moment.
    pub fn is_checkpointing(&self) -> bool {
        self.inner.checkpointing.get()
    }

    #[cfg(test)]
    fn kv_spare(&self) -> u64 {
        self.inner.kv.stats().spare_bytes
    }

    /// Makes a checkpoint now.
    pub async fn checkpoint(&self) -> StoreResult<()> {
        self.inner.check_open()?;
        let before = self.inner.checkpoints.get();
        while self.inner.checkpoints.get() == before && self.inner.checkpoint_is_due() {
            self.inner.check_up()?;
            self.inner.checkpoint_wanted.notify_one();
            self.inner.progress.notified().await;
        }
        Ok(())
    }
}

impl Drop for Engine {
    /// A store that goes without being closed stops as it is, as if the process had ended: its tasks must not write to
    /// a device that somebody else may open next.
    fn drop(&mut self) {
        if !self.inner.gate.is_closing() {
            self.inner.fail("it was dropped without being closed".into());
        }
        drop(self.inner.background.close());
        self.inner.wake_all();
    }
}

impl ObjectStore for Engine {
    fn submit_with(&self, transaction: Transaction, hints: AccessHints, sums: BlockSums) -> Submitted {
        self.inner.submit(transaction, hints, sums)
    }

    fn read_with(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
        hints: AccessHints,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<Bytes>>> {
        let read = Rc::clone(&self.inner).read(collection, object.clone(), offset, len, hints);
        Box::pin(async move { Ok(read.await?.into_iter().map(|(bytes, _)| bytes).collect()) })
    }

    fn read_summed(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
        hints: AccessHints,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<Summed>>> {
        Box::pin(Rc::clone(&self.inner).read(collection, object.clone(), offset, len, hints))
    }

    fn extents(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(u64, u64)>>> {
        Box::pin(Rc::clone(&self.inner).extents(collection, object.clone(), offset, len))
    }

    fn fragments(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        offset: u64,
        len: u64,
    ) -> LocalBoxFuture<'static, StoreResult<Fragments>> {
        Box::pin(Rc::clone(&self.inner).fragments(collection, object.clone(), offset, len))
    }

    fn stat(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<ObjectStat>> {
        Box::pin(Rc::clone(&self.inner).stat(collection, object.clone()))
    }

    fn attrs(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(Bytes, Bytes)>>> {
        Box::pin(Rc::clone(&self.inner).attrs(collection, object.clone()))
    }

    fn omap_header(
        &self,
        collection: CollectionId,
        object: &ObjectId,
    ) -> LocalBoxFuture<'static, StoreResult<Bytes>> {
        Box::pin(Rc::clone(&self.inner).omap_header(collection, object.clone()))
    }

    fn omap_values(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        keys: Vec<Bytes>,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(Bytes, Bytes)>>> {
        Box::pin(Rc::clone(&self.inner).omap_values(collection, object.clone(), keys))
    }

    fn omap_scan(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        start_after: Option<Bytes>,
        prefix: Bytes,
        max: usize,
        max_bytes: usize,
    ) -> LocalBoxFuture<'static, StoreResult<OmapPage>> {
        let inner = Rc::clone(&self.inner);
        Box::pin(inner.omap_scan(collection, object.clone(), start_after, prefix, max, max_bytes))
    }

    fn list(
        &self,
        collection: CollectionId,
        from: Option<ObjectId>,
        max: usize,
    ) -> LocalBoxFuture<'static, StoreResult<(Vec<ObjectId>, Option<ObjectId>)>> {
        Box::pin(Rc::clone(&self.inner).list(collection, from, max))
    }

    fn collections(&self) -> LocalBoxFuture<'static, StoreResult<Vec<(CollectionId, u8, Bytes)>>> {
        Box::pin(std::future::ready(self.inner.list_collections()))
    }

    fn log(
        &self,
        collection: CollectionId,
    ) -> LocalBoxFuture<'static, StoreResult<Vec<(LogVersion, Bytes)>>> {
        Box::pin(std::future::ready(self.inner.log(collection)))
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    fn set_pool_options(&self, pool: i64, options: PoolOptions) {
        let mut known = self.inner.pool_options.borrow_mut();
        if options == PoolOptions::default() {
            known.remove(&pool);
        } else {
            known.insert(pool, options);
        }
    }

    fn set_memory_target(&self, target: Option<MemoryTarget>) -> StoreResult<()> {
        self.inner.set_memory_target(target)
    }

    fn set_copies(&self, copies: Option<Rc<dyn Copies>>) {
        *self.inner.copies.borrow_mut() = copies;
    }

    fn pool_stats(&self) -> Vec<(i64, PoolStats)> {
        self.inner.pools.borrow().iter().map(|(pool, stats)| (*pool, *stats)).collect()
    }

    fn grow(&self) -> LocalBoxFuture<'static, StoreResult<Vec<DeviceGrowth>>> {
        Box::pin(Rc::clone(&self.inner).grow())
    }

    fn fsck(
        &self,
        level: FsckLevel,
        watch: Rc<dyn Watch>,
    ) -> LocalBoxFuture<'static, StoreResult<FsckReport>> {
        Box::pin(Rc::clone(&self.inner).fsck(level, watch))
    }

    fn settle_frees(&self) -> LocalBoxFuture<'static, StoreResult<()>> {
        let inner = Rc::clone(&self.inner);
        Box::pin(async move { inner.settle_frees().await })
    }

    fn clear_space(&self, watch: Rc<dyn Watch>) -> LocalBoxFuture<'static, StoreResult<ClearReport>> {
        Box::pin(Rc::clone(&self.inner).clear_space(watch))
    }

    fn close(&self) -> LocalBoxFuture<'static, StoreResult<()>> {
        Box::pin(Rc::clone(&self.inner).close())
    }
}
