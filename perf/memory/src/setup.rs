//! A store with RocksDB on a file, as the OSD has it: what the file holds must not be in this process's memory.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use allocator::Extent;
use anyhow::Context;
use bluefs::fs::limits::ALLOC_UNIT_DEFAULT;
use bluefs::fs::{BlueFs, FormatOptions as FsFormat, MountOptions, space_desk};
use bluefs_rocks::{RocksKv, RocksOptions};
use nvme::uring::{Polling, UringDevice};
use nvme::{BlockDevice, OpenOptions, Space};
use rt::{Core, Lane};
use store::{Engine, FormatOptions, MemoryTarget, ObjectStore, Options};
use uuid::Uuid;

/// Makes a file and a store on it, which may take so much memory.
pub async fn make(core: &Core, path: &Path, size: u64, memory: u64) -> anyhow::Result<Engine> {
    nvme::create(path, size, Space::Sparse)?;
    let file = nvme::open(path, &OpenOptions::default())?;
    let device: Rc<dyn BlockDevice> =
        Rc::new(UringDevice::attach(core, Arc::clone(&file), Polling::WherePossible)?);
    let below = Arc::new(file.blocking());
    let uuid = Uuid::from_u128(1);
    let superblock = Engine::format(&*device, &FormatOptions::for_window(uuid, size)).await?;
    let unit = u64::from(ALLOC_UNIT_DEFAULT);
    let first = superblock.kv.start.next_multiple_of(unit);
    let last = superblock.kv.end() / unit * unit - unit;
    let space = Extent::new(first + unit, last - first - unit);
    let format = FsFormat::new(uuid, [first, last], vec![space], core.random_u64());
    let formatted = Arc::clone(&below);
    core.alien(Lane::Space, move || BlueFs::format(&*formatted, &format)).await.context("BlueFS")?;
    let mount = MountOptions {
        superblocks: [first, last],
        nonce: core.random_u64(),
        low_water: space.len / 4,
        lend: space.len / 4,
        fast: None,
    };
    let (desk, requests) = space_desk();
    let rocks = RocksOptions::for_space(space.len).within_memory(memory);
    let kv = RocksKv::mount(core.clone(), below, mount, Some(desk), rocks).await?;
    let fs = kv.fs().clone();
    let options = Options::for_device(device.geometry()).within_memory(memory);
    let engine = Engine::mount(core.clone(), device, Rc::new(kv), options).await?;
    let owned = core.alien(Lane::Space, move || fs.with(|machine| Ok(machine.tree().spaces.clone()))).await?;
    let owned: Vec<Extent> = owned.into_iter().map(|(start, len)| Extent::new(start, len)).collect();
    engine.serve_space(requests, &owned, unit)?;
    // Requests in flight are the load's: they are few.
    let above = 16 << 20;
    engine.set_memory_target(Some(MemoryTarget { bytes: memory, above, sharers: 1 }))?;
    Ok(engine)
}
