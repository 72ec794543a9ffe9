//! The store of a simulated OSD: the engine over the simulated key-value store on BlueFS, all on one disk.

use std::cell::Cell;
use std::rc::Rc;

use allocator::Extent;
use bluefs::fs::{FormatOptions as FsFormat, LocalBlueFs, MountOptions};
use bluefs::kv::{SimKv, SimKvOptions};
use nvme::{BlockDevice, SimDisk};
use rt::Core;
use store::{Engine, FormatOptions, ObjectStore, Options, Superblock};
use uuid::Uuid;

use crate::scenario::Scenario;

/// Allocation unit and smallest log of a small BlueFS.
const UNIT: u64 = 4096;
const LOG_BYTES_MIN: u64 = 64 << 10;
/// Where the key-value store lives in BlueFS.
const DIRECTORY: &str = "db";

/// What a store needs from its node.
pub struct NodeStore {
    /// The disk.
    pub disk: SimDisk,
    /// Identity.
    pub uuid: Uuid,
    /// Whether it was formatted.
    pub made: Rc<Cell<bool>>,
    /// Sizes and options.
    pub scenario: Scenario,
}

/// Formats the store if it is new, and mounts it.
pub async fn open(core: &Core, node: &NodeStore) -> Result<Rc<dyn ObjectStore>, String> {
    let device: Rc<dyn BlockDevice> = Rc::new(node.disk.open(core));
    if !node.made.get() {
        format(core, &*device, node).await?;
        node.made.set(true);
    }
    let options = options(&node.scenario, &*device);
    let kv = open_kv(core, device.clone()).await?;
    let engine = Engine::mount(core.clone(), device, kv, options).await.map_err(|error| error.to_string())?;
    Ok(Rc::new(engine))
}

/// The store on a device, to look at only.
pub async fn open_read_only(
    core: &Core,
    device: Rc<dyn BlockDevice>,
    scenario: &Scenario,
) -> Result<Engine, String> {
    let options = options(scenario, &*device);
    let kv = open_kv(core, device.clone()).await?;
    Engine::mount_read_only(core.clone(), device, kv, options).await.map_err(|error| error.to_string())
}

fn options(scenario: &Scenario, device: &dyn BlockDevice) -> Options {
    Options {
        overlay_bytes_max: scenario.overlay_bytes_max,
        cache_bytes_max: scenario.cache_bytes_max,
        reserve_bytes: 256 << 10,
        deferred_batch_bytes: 64 << 10,
        #[cfg(feature = "planted")]
        fault: scenario.fault,
        ..Options::for_device(device.geometry())
    }
}

async fn format(core: &Core, device: &dyn BlockDevice, node: &NodeStore) -> Result<(), String> {
    let options = FormatOptions {
        store: node.uuid,
        journal_bytes: node.scenario.journal_bytes,
        pg_log_bytes: node.scenario.pg_log_bytes,
        kv_bytes: node.scenario.disk_bytes / 4,
    };
    let regions = Engine::regions(device, &options).map_err(|error| error.to_string())?;
    let (superblocks, space) = kv_places(&regions);
    let fs = FsFormat {
        uuid: node.uuid,
        superblocks,
        alloc_unit: u32::try_from(UNIT).unwrap_or(u32::MAX),
        log_bytes_min: LOG_BYTES_MIN,
        space: vec![space],
        nonce: core.random_u64(),
    };
    LocalBlueFs::format(device, &fs).await.map_err(|error| error.to_string())?;
    Engine::format(device, &options).await.map_err(|error| error.to_string())?;
    Ok(())
}

async fn open_kv(core: &Core, device: Rc<dyn BlockDevice>) -> Result<Rc<SimKv>, String> {
    let superblock = Engine::superblock(&*device).await.map_err(|error| error.to_string())?;
    let (superblocks, _) = kv_places(&superblock);
    let options = MountOptions { superblocks, nonce: core.random_u64(), low_water: 0, lend: 1 << 20 };
    let fs = LocalBlueFs::mount(device, options, None).await.map_err(|error| format!("BlueFS: {error}"))?;
    let kv = SimKv::open(core.clone(), fs, DIRECTORY, SimKvOptions::default()).await;
    kv.map(Rc::new).map_err(|error| error.to_string())
}

/// Where BlueFS keeps its superblocks in the region it is given, and the space left.
fn kv_places(superblock: &Superblock) -> ([u64; 2], Extent) {
    let kv = superblock.kv;
    ([kv.start, kv.end() - UNIT], Extent::new(kv.start + UNIT, kv.len - 2 * UNIT))
}
