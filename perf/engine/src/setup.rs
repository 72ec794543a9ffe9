//! A store on a device in memory.

use std::rc::Rc;
use std::sync::Arc;

use allocator::Extent;
use anyhow::Context;
use bluefs::fs::limits::ALLOC_UNIT_DEFAULT;
use bluefs::fs::{BlueFs, FormatOptions as FsFormat, MountOptions, space_desk};
use bluefs::kv::MemKv;
use bluefs_rocks::{RocksKv, RocksOptions};
use clap::ValueEnum;
use nvme::MemoryDevice;
use rt::{Core, Lane};
use store::{Engine, FormatOptions, ObjectStore, Options};
use uuid::Uuid;

/// What keeps the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kv {
    /// RocksDB on BlueFS on the same device, as in use.
    Rocksdb,
    /// An ordered map: the engine without it.
    Memory,
}

/// Bytes of an object that is filled.
pub const OBJECT_BYTES: u64 = 4 << 20;
/// Bytes of the device besides the objects: freed space on its way back, keys, journal.
const ROOM_BYTES: u64 = 1 << 30;

/// A device for so many objects, and as many bytes of keys.
pub fn device(objects: u64, keys: u64) -> MemoryDevice {
    MemoryDevice::new(objects * OBJECT_BYTES + ROOM_BYTES + keys.next_multiple_of(1 << 20))
}

/// Formats and opens a store.
pub async fn make(core: &Core, device: &MemoryDevice, kv: Kv, inline: Option<u16>) -> anyhow::Result<Engine> {
    let uuid = Uuid::from_u128(1);
    let size = device.geometry().size;
    let format = FormatOptions::for_window(uuid, size);
    let superblock = Engine::format(device, &format).await?;
    let mut options = Options::for_device(device.geometry());
    options.inline_bytes_max = inline.map_or(options.inline_bytes_max, u64::from);
    let view = Rc::new(device.clone());
    if kv == Kv::Memory {
        return Ok(Engine::mount(core.clone(), view, Rc::new(MemKv::new()), options).await?);
    }
    let unit = u64::from(ALLOC_UNIT_DEFAULT);
    let first = superblock.kv.start.next_multiple_of(unit);
    let last = superblock.kv.end() / unit * unit - unit;
    let space = Extent::new(first + unit, last - first - unit);
    let format = FsFormat::new(uuid, [first, last], vec![space], core.random_u64());
    let below = device.clone();
    core.alien(Lane::Space, move || BlueFs::format(&below, &format)).await.context("BlueFS")?;
    let mount = MountOptions {
        superblocks: [first, last],
        nonce: core.random_u64(),
        low_water: space.len / 4,
        lend: space.len / 4,
    };
    let (desk, requests) = space_desk();
    let rocks = RocksOptions::for_space(space.len);
    let kv = RocksKv::mount(core.clone(), Arc::new(device.clone()), mount, Some(desk), rocks).await?;
    let fs = kv.fs().clone();
    let engine = Engine::mount(core.clone(), view, Rc::new(kv), options).await?;
    let owned = core.alien(Lane::Space, move || fs.with(|machine| Ok(machine.tree().spaces.clone()))).await?;
    let owned: Vec<Extent> = owned.into_iter().map(|(start, len)| Extent::new(start, len)).collect();
    engine.serve_space(requests, &owned, unit)?;
    Ok(engine)
}

/// Closes it; nothing may be wrong with it.
pub async fn close(engine: &Engine) -> anyhow::Result<()> {
    engine.close().await?;
    Ok(())
}
