//! The store of a simulated OSD, put together as the command does it: label and segment table on the main disk, the engine
//! on its slice joined with the disks beside it, over the simulated key-value store on BlueFS, which borrows space from the
//! engine.

use std::cell::Cell;
use std::rc::Rc;

use allocator::Extent;
use bluefs::fs::{FormatOptions as FsFormat, LocalBlueFs, MountOptions, SpaceDesk, space_desk};
use bluefs::kv::SimKv;
use nvme::BlockDevice;
use nvme::joined::member_of;
use rt::Core;
use store::devices::Role;
use store::label::Labelled;
use store::{Engine, FormatOptions, Options, Superblock};
use uuid::Uuid;

use crate::disks::{Devices, Disks, Place};
use crate::scenario::Scenario;

/// Smallest log of a small BlueFS.
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
    /// The disks.
    pub disks: Disks,
    /// Identity of the store.
    pub uuid: Rc<Cell<Uuid>>,
    /// The cluster.
    pub fsid: Uuid,
    /// Sizes and options.
    pub scenario: Rc<Scenario>,
    /// What is being done.
    pub stage: Rc<Cell<Stage>>,
}

/// Labels the main disk and makes the store. Whatever was there is lost.
pub async fn make(core: &Core, node: &NodeStore) -> Result<(), String> {
    node.stage.set(Stage::Make);
    let devices = node.disks.open(core);
    let main = devices.main.clone();
    let id = Uuid::from_u128(core.random_u64().into());
    let labelled = Labelled::plan(&*main, id, node.fsid, vec![node.uuid.get()]).map_err(text)?;
    let view = devices.joined(labelled.window(&*main, 0).map_err(text)?)?;
    let options = format_options(node);
    let regions = Engine::regions(&*view, &options).map_err(text)?;
    let unit = node.scenario.fs_unit;
    let (superblocks, space) = kv_places(&regions, unit);
    let fs = FsFormat {
        uuid: node.uuid.get(),
        superblocks,
        alloc_unit: u32::try_from(unit).unwrap_or(u32::MAX),
        log_bytes_min: LOG_BYTES_MIN,
        space: vec![space],
        fast: regions.fast(),
        nonce: core.random_u64(),
    };
    LocalBlueFs::format(&*view, &fs).await.map_err(text)?;
    Engine::format(&*view, &options).await.map_err(text)?;
    // The label is last: without it the disks are nobody's, and making can be repeated.
    labelled.write(&*main).await.map_err(text)?;
    node.stage.set(Stage::Down);
    Ok(())
}

fn format_options(node: &NodeStore) -> FormatOptions {
    let store = node.uuid.get();
    FormatOptions {
        store,
        journal_bytes: node.scenario.journal_bytes,
        pg_log_bytes: node.scenario.pg_log_bytes,
        kv_bytes: node.scenario.kv_bytes,
        free_list: node.scenario.free_list,
        parts: node.disks.parts(&node.scenario, store),
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
    let below = open_below(core, node.disks.open(core), node, Some(desk)).await?;
    let options = options(&node.scenario, &*below.view);
    node.stage.set(Stage::Replay);
    let engine = Engine::mount(core.clone(), below.view, below.kv, options).await.map_err(text)?;
    let owned = owned(&below.fs)?;
    engine.serve_space(requests, &owned, node.scenario.fs_unit).map_err(text)?;
    node.stage.set(Stage::Up);
    Ok(Opened { engine: Rc::new(engine), fs: below.fs })
}

/// The store on these devices, to look at only.
pub async fn open_read_only(core: &Core, devices: Devices, node: &NodeStore) -> Result<Engine, String> {
    let below = open_below(core, devices, node, None).await?;
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

/// Where the regions of a store lie on its disks: for those who damage, hold back or count.
pub struct Regions {
    /// The slice on the main disk.
    pub window: Extent,
    /// The engine's superblock, with addresses of the joined device.
    pub superblock: Superblock,
    /// Allocation unit of the file system below the key-value store, bytes.
    fs_unit: u64,
}

impl Regions {
    /// Those of a store made of this scenario.
    pub fn of(node: &NodeStore) -> Result<Self, String> {
        let devices = node.disks.to_memory();
        let main = devices.main.clone();
        let labelled = Labelled::plan(&*main, node.uuid.get(), node.fsid, vec![node.uuid.get()]);
        let window = labelled.and_then(|labelled| labelled.window(&*main, 0)).map_err(text)?;
        let view = devices.joined(window)?;
        let superblock = Engine::regions(&*view, &format_options(node)).map_err(text)?;
        Ok(Self { window, superblock, fs_unit: node.scenario.fs_unit })
    }

    /// Where a run of addresses of the joined device lies.
    pub fn place(&self, extent: Extent) -> Place {
        let (slot, start) = member_of(extent.start);
        let beside = Role::BESIDE.into_iter().find(|role| role.slot() == slot);
        let start = if beside.is_some() { start } else { self.window.start + start };
        Place { role: beside.unwrap_or(Role::Main), range: start..start + extent.len }
    }

    /// The copies of superblocks: the engine's two, then the two of the key-value store's file system.
    pub fn superblocks(&self) -> [Place; 4] {
        let block = u64::from(self.superblock.block);
        let ([first, second], _) = kv_places(&self.superblock, self.fs_unit);
        let unit = self.fs_unit;
        let places = [(0, block), (self.window.len - block, block), (first, unit), (second, unit)];
        places.map(|(start, len)| self.place(Extent::new(start, len)))
    }

    /// The addresses of the latter two.
    pub fn fs_superblocks(&self) -> [u64; 2] {
        kv_places(&self.superblock, self.fs_unit).0
    }

    /// What says of each disk beside the main one whose it is.
    pub fn headers(&self) -> Vec<Place> {
        let block = u64::from(self.superblock.block);
        let roles = Role::BESIDE.into_iter().filter(|role| self.superblock.parts.get(*role).is_some());
        roles.map(|role| Place { role, range: 0..block }).collect()
    }

    /// The journal.
    pub fn journal(&self) -> Place {
        self.place(self.superblock.journal)
    }

    /// What the file system below the key-value store has from the start.
    pub fn kv(&self) -> Vec<Place> {
        let fast = self.superblock.fast();
        std::iter::once(self.superblock.kv).chain(fast).map(|extent| self.place(extent)).collect()
    }

    /// What that file system has for good, bytes.
    pub fn fs_bytes(&self) -> u64 {
        kv_places(&self.superblock, self.fs_unit).1.len + self.superblock.fast().map_or(0, |fast| fast.len)
    }

    /// The space for data, on the main disk.
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
    devices: Devices,
    node: &NodeStore,
    desk: Option<SpaceDesk>,
) -> Result<Below, String> {
    let labelled = Labelled::read(&*devices.main, Some(node.fsid)).await.map_err(text)?;
    let window = labelled.window(&*devices.main, 0).map_err(text)?;
    let view = devices.joined(window)?;
    let superblock = Engine::superblock(&*view).await.map_err(text)?;
    let label = labelled.label.slices.first().copied().unwrap_or_default();
    if superblock.store != label || label != node.uuid.get() {
        return Err(format!("the slice holds store {}, its label says {label}", superblock.store));
    }
    let unit = node.scenario.fs_unit;
    let (superblocks, space) = kv_places(&superblock, unit);
    let ahead = (space.len / node.scenario.kv_lend_share).next_multiple_of(unit);
    let options = MountOptions {
        superblocks,
        nonce: core.random_u64(),
        low_water: ahead,
        lend: ahead,
        fast: superblock.fast(),
    };
    let fs = LocalBlueFs::mount(view.clone(), options, desk).await;
    let fs = fs.map_err(|error| format!("BlueFS: {error}"))?;
    #[cfg(feature = "planted")]
    if let Some(crate::Planted::Fs(planted)) = node.scenario.planted {
        fs.with(|machine| {
            machine.plant(planted);
            Ok(())
        })
        .map_err(text)?;
    }
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
        fault: scenario.planted.map(crate::Planted::engine).unwrap_or_default(),
        ..Options::for_device(device.geometry())
    }
}

/// Where BlueFS keeps its superblocks in the region it is given, and the space left.
fn kv_places(superblock: &Superblock, unit: u64) -> ([u64; 2], Extent) {
    let first = superblock.kv.start.next_multiple_of(unit);
    let last = superblock.kv.end() / unit * unit - unit;
    ([first, last], Extent::new(first + unit, last - first - unit))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
