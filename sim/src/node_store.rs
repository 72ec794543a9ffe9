//! The store of a simulated OSD, put together as the command does it: label and segment table on the disk, the engine
//! on its slice, over the simulated key-value store on BlueFS, which borrows space from the engine.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use allocator::Extent;
use bluefs::fs::{FormatOptions as FsFormat, LocalBlueFs, MountOptions, SpaceDesk, space_desk};
use bluefs::kv::SimKv;
use nvme::{BlockDevice, Partition, SimDisk};
use rt::Core;
use store::label::Labelled;
use store::{Engine, FormatOptions, FreeList, Options, Superblock};
use uuid::Uuid;

use crate::scenario::Scenario;

/// Allocation unit and smallest log of a small BlueFS.
const UNIT: u64 = 4096;
const LOG_BYTES_MIN: u64 = 64 << 10;
/// Where the key-value store lives in BlueFS.
const DIRECTORY: &str = "db";

/// What an OSD is doing: what a crash may strike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nothing.
    #[default]
    Down,
    /// Its store is being made.
    Make,
    /// Label, BlueFS and key-value store are being opened.
    Open,
    /// The journal is being replayed.
    Replay,
    /// The store is open; it serves, or is about to.
    Up,
    /// It stops in good order.
    Close,
}

/// What a store needs from its node.
#[derive(Clone)]
pub struct NodeStore {
    /// The disk.
    pub disk: SimDisk,
    /// Identity of the store.
    pub uuid: Rc<Cell<Uuid>>,
    /// The cluster.
    pub fsid: Uuid,
    /// Sizes and options.
    pub scenario: Rc<Scenario>,
    /// What is being done.
    pub stage: Rc<Cell<Stage>>,
}

/// Labels the disk and makes the store on it. Whatever was there is lost.
pub async fn make(core: &Core, node: &NodeStore) -> Result<(), String> {
    node.stage.set(Stage::Make);
    let device: Rc<dyn BlockDevice> = Rc::new(node.disk.open(core));
    let id = Uuid::from_u128(core.random_u64().into());
    let labelled = Labelled::plan(&*device, id, node.fsid, vec![node.uuid.get()]).map_err(text)?;
    let window = labelled.window(&*device, 0).map_err(text)?;
    let view = Partition::new(device.clone(), "slice", window.start, window.len).map_err(text)?;
    let options = format_options(node);
    let (superblocks, space) = kv_places(&Engine::regions(&view, &options).map_err(text)?);
    let fs = FsFormat {
        uuid: node.uuid.get(),
        superblocks,
        alloc_unit: u32::try_from(UNIT).unwrap_or(u32::MAX),
        log_bytes_min: LOG_BYTES_MIN,
        space: vec![space],
        fast: None,
        nonce: core.random_u64(),
    };
    LocalBlueFs::format(&view, &fs).await.map_err(text)?;
    Engine::format(&view, &options).await.map_err(text)?;
    // The label is last: without it the disk is nobody's, and making can be repeated.
    labelled.write(&*device).await.map_err(text)?;
    node.stage.set(Stage::Down);
    Ok(())
}

/// Of the free lists, stores of even identities have one kind, the others the other.
fn format_options(node: &NodeStore) -> FormatOptions {
    let store = node.uuid.get();
    FormatOptions {
        store,
        journal_bytes: node.scenario.journal_bytes,
        pg_log_bytes: node.scenario.pg_log_bytes,
        kv_bytes: node.scenario.kv_bytes,
        free_list: if store.as_u128().is_multiple_of(2) { FreeList::Pages } else { FreeList::Merge },
        parts: store::devices::Parts::default(),
    }
}

/// An open store.
pub struct Opened {
    /// The engine.
    pub engine: Rc<Engine>,
    /// The file system below its key-value store.
    pub fs: LocalBlueFs,
}

/// Opens the store.
pub async fn open(core: &Core, node: &NodeStore) -> Result<Opened, String> {
    node.stage.set(Stage::Open);
    let (desk, requests) = space_desk();
    let below = open_below(core, Rc::new(node.disk.open(core)), node, Some(desk)).await?;
    let options = options(&node.scenario, &*below.view);
    node.stage.set(Stage::Replay);
    let engine = Engine::mount(core.clone(), below.view, below.kv, options).await.map_err(text)?;
    let owned = owned(&below.fs)?;
    engine.serve_space(requests, &owned, UNIT).map_err(text)?;
    node.stage.set(Stage::Up);
    Ok(Opened { engine: Rc::new(engine), fs: below.fs })
}

/// The store on a device, to look at only.
pub async fn open_read_only(
    core: &Core,
    device: Rc<dyn BlockDevice>,
    node: &NodeStore,
) -> Result<Engine, String> {
    let below = open_below(core, device, node, None).await?;
    let options = options(&node.scenario, &*below.view);
    let owned = owned(&below.fs)?;
    let engine = Engine::mount_read_only(core.clone(), below.view, below.kv, options).await.map_err(text)?;
    engine.check_owned(&owned).map_err(text)?;
    Ok(engine)
}

/// The space that BlueFS has.
fn owned(fs: &LocalBlueFs) -> Result<Vec<Extent>, String> {
    let owned = fs.with(|machine| Ok(machine.tree().spaces.clone())).map_err(text)?;
    Ok(owned.into_iter().map(|(start, len)| Extent::new(start, len)).collect())
}

/// The regions of the store on a disk, by the place on the disk where they begin: for those who damage or count.
pub struct Regions {
    /// Where the slice begins.
    pub window: Extent,
    /// The engine's superblock, whose places are relative to the slice.
    pub superblock: Superblock,
}

impl Regions {
    /// Those of a store made of this scenario.
    pub fn of(node: &NodeStore, device: &dyn BlockDevice) -> Result<Self, String> {
        let labelled =
            Labelled::plan(device, node.uuid.get(), node.fsid, vec![node.uuid.get()]).map_err(text)?;
        let window = labelled.window(device, 0).map_err(text)?;
        let memory = nvme::MemoryDevice::with_geometry(
            "regions",
            nvme::Geometry { size: window.len, ..device.geometry().clone() },
        );
        let options = format_options(node);
        Ok(Self { window, superblock: Engine::regions(&memory, &options).map_err(text)? })
    }

    /// The copies of superblocks: the engine's two, then the two of the key-value store's file system.
    pub fn superblocks(&self) -> [Range<u64>; 4] {
        let block = u64::from(self.superblock.block);
        let ([first, second], _) = kv_places(&self.superblock);
        let places = [(0, block), (self.window.len - block, block), (first, UNIT), (second, UNIT)];
        places.map(|(start, len)| self.window.start + start..self.window.start + start + len)
    }

    /// The journal.
    pub fn journal(&self) -> Range<u64> {
        let start = self.window.start + self.superblock.journal.start;
        start..start + self.superblock.journal.len
    }

    /// What the file system below the key-value store has for good, bytes.
    pub fn fs_bytes(&self) -> u64 {
        kv_places(&self.superblock).1.len
    }

    /// The space for data.
    pub fn data(&self) -> Extent {
        let start = self.window.start + self.superblock.kv.end();
        Extent::new(start, self.window.end() - u64::from(self.superblock.block) - start)
    }
}

struct Below {
    view: Rc<dyn BlockDevice>,
    fs: LocalBlueFs,
    kv: Rc<SimKv>,
}

async fn open_below(
    core: &Core,
    device: Rc<dyn BlockDevice>,
    node: &NodeStore,
    desk: Option<SpaceDesk>,
) -> Result<Below, String> {
    let labelled = Labelled::read(&*device, Some(node.fsid)).await.map_err(text)?;
    let window = labelled.window(&*device, 0).map_err(text)?;
    let view: Rc<dyn BlockDevice> =
        Rc::new(Partition::new(device, "slice", window.start, window.len).map_err(text)?);
    let superblock = Engine::superblock(&*view).await.map_err(text)?;
    let label = labelled.label.slices.first().copied().unwrap_or_default();
    if superblock.store != label || label != node.uuid.get() {
        return Err(format!("the slice holds store {}, its label says {label}", superblock.store));
    }
    let (superblocks, space) = kv_places(&superblock);
    let ahead = (space.len / node.scenario.kv_lend_share).next_multiple_of(UNIT);
    let options =
        MountOptions { superblocks, nonce: core.random_u64(), low_water: ahead, lend: ahead, fast: None };
    let fs = LocalBlueFs::mount(view.clone(), options, desk).await;
    let fs = fs.map_err(|error| format!("BlueFS: {error}"))?;
    let kv = SimKv::open(core.clone(), fs.clone(), DIRECTORY, node.scenario.kv).await.map_err(text)?;
    Ok(Below { view, fs, kv: Rc::new(kv) })
}

fn options(scenario: &Scenario, device: &dyn BlockDevice) -> Options {
    Options {
        overlay_bytes_max: scenario.overlay_bytes_max,
        cache_bytes_max: scenario.cache_bytes_max,
        // None, some of what is used, or most of it.
        data_cache_bytes_max: if scenario.cache_bytes_max > 16 << 10 {
            2 * scenario.cache_bytes_max
        } else {
            0
        },
        cache_written: scenario.discard,
        reserve_bytes: 256 << 10,
        deferred_batch_bytes: scenario.deferred_batch_bytes,
        discard: scenario.discard,
        large_write_bytes: scenario.large_write_bytes,
        groups_in_flight: scenario.groups_in_flight,
        shard_span: scenario.shard_span,
        compression: scenario.compression,
        inline_bytes_max: scenario.inline_bytes_max,
        #[cfg(feature = "planted")]
        fault: scenario.fault,
        ..Options::for_device(device.geometry())
    }
}

/// Where BlueFS keeps its superblocks in the region it is given, and the space left.
fn kv_places(superblock: &Superblock) -> ([u64; 2], Extent) {
    let kv = superblock.kv;
    ([kv.start, kv.end() - UNIT], Extent::new(kv.start + UNIT, kv.len - 2 * UNIT))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
