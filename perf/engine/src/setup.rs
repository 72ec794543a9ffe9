//! A store on a device in memory.

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
use nvme::{BlockDevice, MemoryDevice};
use rt::{Core, Lane};
use store::{Engine, FormatOptions, ObjectStore, Options, Superblock};
use uuid::Uuid;

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
pub async fn make(core: &Core, device: &MemoryDevice, setup: &Setup) -> anyhow::Result<Engine> {
    let format = FormatOptions::for_window(UUID, device.geometry().size);
    let superblock = Engine::format(device, &format).await?;
    if setup.kv == Kv::Memory {
        let (below, options) = (below(core, device, setup), options(device, setup));
        return Ok(Engine::mount(core.clone(), below, Rc::new(MemKv::new()), options).await?);
    }
    let (superblocks, space) = kv_places(&superblock);
    let format = FsFormat::new(UUID, superblocks, vec![space], core.random_u64());
    let below = device.clone();
    core.alien(Lane::Space, move || BlueFs::format(&below, &format)).await.context("BlueFS")?;
    open(core, device, setup).await
}

/// Opens a store that keeps its keys in RocksDB.
pub async fn open(core: &Core, device: &MemoryDevice, setup: &Setup) -> anyhow::Result<Engine> {
    let (superblocks, space) = kv_places(&Engine::superblock(device).await?);
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
    let kv = RocksKv::mount(core.clone(), Arc::new(device.clone()), mount, Some(desk), rocks).await?;
    let fs = kv.fs().clone();
    let (below, options) = (below(core, device, setup), options(device, setup));
    let engine = Engine::mount(core.clone(), below, Rc::new(kv), options).await?;
    let owned = core.alien(Lane::Space, move || fs.with(|machine| Ok(machine.tree().spaces.clone()))).await?;
    let owned: Vec<Extent> = owned.into_iter().map(|(start, len)| Extent::new(start, len)).collect();
    engine.serve_space(requests, &owned, ALLOC_UNIT_DEFAULT.into())?;
    Ok(engine)
}

fn options(device: &MemoryDevice, setup: &Setup) -> Options {
    let usual = Options::for_device(device.geometry());
    Options {
        inline_bytes_max: setup.inline.unwrap_or(usual.inline_bytes_max),
        data_cache_bytes_max: setup.data_cache.unwrap_or(usual.data_cache_bytes_max),
        overlay_bytes_max: setup.overlay.unwrap_or(usual.overlay_bytes_max),
        shard_span: setup.shard_span.unwrap_or(usual.shard_span),
        ..usual
    }
}

fn below(core: &Core, device: &MemoryDevice, setup: &Setup) -> Rc<dyn BlockDevice> {
    match setup.delay.is_zero() && setup.flush.is_none() {
        true => Rc::new(device.clone()),
        false => Rc::new(Delayed::new(core.clone(), device.clone(), setup.delay, setup.flush)),
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
