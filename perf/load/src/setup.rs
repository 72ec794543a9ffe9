//! The engine on a device, or on memory, with RocksDB on BlueFS as in use.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use allocator::Extent;
use anyhow::Context;
use bluefs::fs::limits::ALLOC_UNIT_DEFAULT;
use bluefs::fs::{BlueFs, FormatOptions as FsFormat, MountOptions, space_desk};
use bluefs::kv::MemKv;
use bluefs_rocks::{RocksKv, RocksOptions};
use clap::ValueEnum;
use nvme::uring::{Polling, UringDevice};
use nvme::{BlockDevice, BlockingDevice, BlockingPartition, DeviceFile, MemoryDevice, Partition};
use rt::{Core, Lane};
use store::{Engine, FormatOptions, ObjectStore, Options, Superblock};
use uuid::Uuid;

use crate::counted::{Counted, Written};
use crate::delayed::Delayed;

/// What keeps the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kv {
    /// RocksDB on BlueFS on the same device, as in use.
    #[default]
    Rocksdb,
    /// An ordered map: the engine without it.
    Memory,
}

/// A device, as its core has it and as foreign threads have it.
#[derive(Clone)]
pub struct Below {
    /// For the core.
    pub core: Rc<dyn BlockDevice>,
    /// For foreign threads.
    pub foreign: Arc<dyn BlockingDevice>,
}

impl From<&MemoryDevice> for Below {
    fn from(device: &MemoryDevice) -> Self {
        Self { core: Rc::new(device.clone()), foreign: Arc::new(device.clone()) }
    }
}

impl From<&Self> for Below {
    fn from(below: &Self) -> Self {
        below.clone()
    }
}

impl Below {
    /// A device in memory whose writes are counted.
    pub fn memory(device: &MemoryDevice, written: &Written) -> Self {
        let counted = || Counted { device: device.clone(), written: written.clone() };
        Self { core: Rc::new(counted()), foreign: Arc::new(counted()) }
    }

    /// So many bytes of a file or block device, from its beginning, by the ring of this core; writes are counted.
    pub fn file(core: &Core, file: &Arc<DeviceFile>, bytes: u64, written: &Written) -> anyhow::Result<Self> {
        let device: Rc<dyn BlockDevice> =
            Rc::new(UringDevice::attach(core, file.clone(), Polling::WherePossible)?);
        let bytes = bytes / u64::from(device.geometry().block_size) * u64::from(device.geometry().block_size);
        let device = Partition::new(device, file.name(), 0, bytes)?;
        let foreign = BlockingPartition::new(Arc::new(file.blocking()), 0, bytes)?;
        let foreign = Counted { device: foreign, written: written.clone() };
        Ok(Self { core: Rc::new(Counted { device, written: written.clone() }), foreign: Arc::new(foreign) })
    }
}

const UUID: Uuid = Uuid::from_u128(1);
/// Bytes of an object that is filled.
pub const OBJECT_BYTES: u64 = 4 << 20;
/// Bytes of the device besides the objects: freed space on its way back, keys, journal.
const ROOM_BYTES: u64 = 1 << 30;

/// A device for so many objects, and as many bytes of keys.
pub fn device(objects: u64, keys: u64) -> MemoryDevice {
    MemoryDevice::new(objects * OBJECT_BYTES + ROOM_BYTES + keys.next_multiple_of(1 << 20))
}

/// What a store is opened with that is not as the OSD does it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// What keeps the keys.
    pub kv: Kv,
    /// Objects of at most so many bytes are kept among the keys.
    pub inline: Option<u64>,
    /// Bytes of blocks that are kept in memory.
    pub data_cache: Option<u64>,
    /// Bytes of the overlay, and of RocksDB's memtables.
    pub overlay: Option<u64>,
    /// Bytes of a shard.
    pub shard_span: Option<u32>,
    /// What each read and write takes at least.
    pub delay: Duration,
    /// What a flush takes at least, if the device needs any.
    pub flush: Option<Duration>,
}

/// Formats and opens a store.
pub async fn make(core: &Core, device: impl Into<Below>, setup: &Setup) -> anyhow::Result<Engine> {
    let below = device.into();
    let format = FormatOptions::for_window(UUID, below.core.geometry().size);
    let superblock = Engine::format(&*below.core, &format).await?;
    if setup.kv == Kv::Memory {
        let (device, options) = (delayed(core, &below, setup), options(&below, setup));
        return Ok(Engine::mount(core.clone(), device, Rc::new(MemKv::new()), options).await?);
    }
    let (superblocks, space) = kv_places(&superblock);
    let format = FsFormat::new(UUID, superblocks, vec![space], core.random_u64());
    let foreign = below.foreign.clone();
    core.alien(Lane::Space, move || BlueFs::format(&*foreign, &format)).await.context("BlueFS")?;
    open(core, &below, setup).await
}

/// Opens a store that keeps its keys in RocksDB.
pub async fn open(core: &Core, device: impl Into<Below>, setup: &Setup) -> anyhow::Result<Engine> {
    let below = device.into();
    let (superblocks, space) = kv_places(&Engine::superblock(&*below.core).await?);
    let mount = MountOptions {
        superblocks,
        nonce: core.random_u64(),
        low_water: space.len / 4,
        lend: space.len / 4,
        fast: None,
    };
    let (desk, requests) = space_desk();
    let mut rocks = RocksOptions::for_space(space.len);
    if let Some(bytes) = setup.overlay {
        rocks.memtable_bytes = usize::try_from(bytes)?;
        rocks.file_bytes = bytes / 2;
    }
    let kv = RocksKv::mount(core.clone(), below.foreign.clone(), mount, Some(desk), rocks).await?;
    let fs = kv.fs().clone();
    let (device, options) = (delayed(core, &below, setup), options(&below, setup));
    let engine = Engine::mount(core.clone(), device, Rc::new(kv), options).await?;
    let owned = core.alien(Lane::Space, move || fs.with(|machine| Ok(machine.tree().spaces.clone()))).await?;
    let owned: Vec<Extent> = owned.into_iter().map(|(start, len)| Extent::new(start, len)).collect();
    engine.serve_space(requests, &owned, ALLOC_UNIT_DEFAULT.into())?;
    Ok(engine)
}

fn options(below: &Below, setup: &Setup) -> Options {
    let usual = Options::for_device(below.core.geometry());
    Options {
        inline_bytes_max: setup.inline.unwrap_or(usual.inline_bytes_max),
        data_cache_bytes_max: setup.data_cache.unwrap_or(usual.data_cache_bytes_max),
        overlay_bytes_max: setup.overlay.unwrap_or(usual.overlay_bytes_max),
        shard_span: setup.shard_span.unwrap_or(usual.shard_span),
        ..usual
    }
}

fn delayed(core: &Core, below: &Below, setup: &Setup) -> Rc<dyn BlockDevice> {
    let device = below.core.clone();
    match setup.delay.is_zero() && setup.flush.is_none() {
        true => device,
        false => Rc::new(Delayed::new(core.clone(), device, setup.delay, setup.flush)),
    }
}

/// Where BlueFS keeps its two superblocks in the region it is given, and the space left between them.
fn kv_places(superblock: &Superblock) -> ([u64; 2], Extent) {
    let unit = u64::from(ALLOC_UNIT_DEFAULT);
    let first = superblock.kv.start.next_multiple_of(unit);
    let last = superblock.kv.end() / unit * unit - unit;
    ([first, last], Extent::new(first + unit, last - first - unit))
}

/// Closes it; nothing may be wrong with it.
pub async fn close(engine: &Engine) -> anyhow::Result<()> {
    engine.close().await?;
    Ok(())
}
