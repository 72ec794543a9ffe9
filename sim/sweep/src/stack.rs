//! The whole of a device as the daemon lays it out: label, segments, and in one of the slices an engine over a
//! key-value store on BlueFS. Formatting and mounting it, on any device, in either world.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use allocator::Extent;
use bluefs::fs::{BlueFs, FormatOptions as FsFormat, LocalBlueFs, MountOptions, space_desk};
use bluefs::kv::{KvStore, SimKv, SimKvOptions};
use bluefs_rocks::{RocksKv, RocksOptions};
use nvme::{
    BlockDevice, BlockingDevice, BlockingPartition, Geometry, MemoryDevice, Partition, Recording,
    RecordingBlockingDevice, RecordingDevice,
};
use rt::sim::Sim;
use rt::{Core, CoreId, Lane};
use store::label::{LabelError, Labelled};
use store::{Engine, FormatOptions, FreeList, OpenError, Options, Superblock};
use uuid::Uuid;

use crate::late::LateDevice;

/// What the key-value store is, and with it the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// The simulated one, in a simulated world.
    Simulated,
    /// RocksDB with its threads, in the real world.
    RocksDb,
}

/// Everything that a sweep keeps fixed.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The key-value store.
    pub below: Below,
    /// The device.
    pub geometry: Geometry,
    /// Whose device it is: cluster and stores are named after it.
    pub identity: u64,
    /// Slices that it is cut into.
    pub slices: usize,
    /// The one in use.
    pub slice: usize,
    /// How the free list is kept.
    pub free_list: FreeList,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Bytes of the placement groups' log.
    pub pg_log_bytes: u64,
    /// Bytes that BlueFS has from the start.
    pub kv_bytes: u64,
    /// BlueFS's unit of allocation.
    pub unit: u32,
    /// BlueFS's smallest log, bytes.
    pub log_bytes_min: u64,
    /// BlueFS asks for more below this.
    pub low_water: u64,
    /// And for so much.
    pub lend: u64,
    /// The engine's options.
    pub options: Options,
    /// Completions are so late at most.
    pub late_max: Duration,
}

impl Setup {
    fn fsid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.identity) << 64)
    }

    fn store_id(&self, slice: usize) -> Uuid {
        Uuid::from_u128(u128::from(self.identity) << 64 | (slice as u128 + 1))
    }
}

/// A whole device as a core sees it and as foreign threads do.
pub struct Views {
    core: Rc<dyn BlockDevice>,
    foreign: Arc<dyn BlockingDevice>,
}

impl Views {
    /// A device in memory as it is.
    pub fn plain(device: &MemoryDevice) -> Self {
        Self { core: Rc::new(device.clone()), foreign: Arc::new(device.clone()) }
    }

    /// The same, recorded, and late on the core.
    pub fn recorded(core: &Core, device: &MemoryDevice, tape: &Recording, late_max: Duration) -> Self {
        let recorded = RecordingDevice::new(tape.clone(), Rc::new(device.clone()));
        let foreign = RecordingBlockingDevice::new(tape.clone(), Arc::new(device.clone()));
        Self { core: Rc::new(LateDevice::new(core, Rc::new(recorded), late_max)), foreign: Arc::new(foreign) }
    }
}

/// Why a device could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountError {
    /// It says that it was never formatted: right before the format was done, wrong after.
    NotFormatted(String),
    /// Anything else.
    Failed(String),
}

impl std::fmt::Display for MountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFormatted(reason) => write!(f, "not formatted: {reason}"),
            Self::Failed(reason) => write!(f, "mount: {reason}"),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> MountError {
    MountError::Failed(error.to_string())
}

/// Runs `main` on a core of the world that `below` needs.
pub fn in_world<T: 'static, F: Future<Output = T> + 'static>(
    below: Below,
    seed: u64,
    main: impl FnOnce(Core) -> F,
) -> T {
    match below {
        Below::Simulated => Sim::new(seed, rt::sim::Config::default()).run(0, main),
        Below::RocksDb => {
            let bridge_config = rt::alien::BridgeConfig { threads: 2, ..Default::default() };
            let config = rt::uring::Config { bridge_config, recv_buffers: 0, ..Default::default() };
            match rt::uring::run(CoreId(0), &config, main) {
                Ok(value) => value,
                Err(error) => panic!("a core cannot be had: {error}"),
            }
        }
    }
}

/// Formats the whole device, as `spirula mkfs` does: the slices first, the label last.
pub async fn format(core: &Core, setup: &Setup, views: &Views) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| format!("format: {error}");
    let ids: Vec<Uuid> = (0..setup.slices).map(|slice| setup.store_id(slice)).collect();
    let plan = Labelled::plan(&*views.core, setup.fsid(), setup.fsid(), ids.clone());
    let labelled = plan.map_err(|error| text(&error))?;
    for (slice, uuid) in ids.into_iter().enumerate() {
        let window = labelled.window(&*views.core, slice).map_err(|error| text(&error))?;
        format_slice(core, setup, views, window, uuid).await?;
    }
    labelled.write(&*views.core).await.map_err(|error| text(&error))
}

async fn format_slice(
    core: &Core,
    setup: &Setup,
    views: &Views,
    window: Extent,
    uuid: Uuid,
) -> Result<(), String> {
    let view = Partition::new(views.core.clone(), "slice", window.start, window.len)
        .map_err(|error| error.to_string())?;
    let options = FormatOptions {
        store: uuid,
        journal_bytes: setup.journal_bytes,
        pg_log_bytes: setup.pg_log_bytes,
        kv_bytes: setup.kv_bytes,
        free_list: setup.free_list,
        parts: store::devices::Parts::default(),
    };
    let regions = Engine::regions(&view, &options).map_err(|error| error.to_string())?;
    let (superblocks, space) = kv_places(&regions, setup.unit);
    let fs = FsFormat {
        uuid,
        superblocks,
        alloc_unit: setup.unit,
        log_bytes_min: setup.log_bytes_min,
        space: vec![space],
        fast: None,
        nonce: core.random_u64(),
    };
    let formatted = match setup.below {
        Below::Simulated => LocalBlueFs::format(&view, &fs).await,
        Below::RocksDb => {
            let below = BlockingPartition::new(views.foreign.clone(), window.start, window.len);
            let below = below.map_err(|error| error.to_string())?;
            core.alien(Lane::Space, move || BlueFs::format(&below, &fs)).await
        }
    };
    formatted.map_err(|error| error.to_string())?;
    Engine::format(&view, &options).await.map_err(|error| error.to_string())?;
    Ok(())
}

/// Opens the slice in use, as the daemon does, with space lent on demand.
pub async fn mount(core: &Core, setup: &Setup, views: &Views) -> Result<Engine, MountError> {
    let labelled = match Labelled::read(&*views.core, Some(setup.fsid())).await {
        Err(error @ (LabelError::NotOurs { .. } | LabelError::Corrupt { .. })) => {
            return Err(MountError::NotFormatted(error.to_string()));
        }
        other => other.map_err(failed)?,
    };
    let window = labelled.window(&*views.core, setup.slice).map_err(failed)?;
    let view: Rc<dyn BlockDevice> =
        Rc::new(Partition::new(views.core.clone(), "slice", window.start, window.len).map_err(failed)?);
    let superblock = Engine::superblock(&*view).await.map_err(failed)?;
    if labelled.label.slices.get(setup.slice) != Some(&superblock.store) {
        return Err(failed(format!("the slice holds store {}", superblock.store)));
    }
    let (superblocks, space) = kv_places(&superblock, setup.unit);
    let mount = MountOptions {
        superblocks,
        nonce: core.random_u64(),
        low_water: setup.low_water,
        lend: setup.lend,
        fast: None,
    };
    let below = BlockingPartition::new(views.foreign.clone(), window.start, window.len).map_err(failed)?;
    let raw = BlueFs::load(&below, superblocks).map_err(|error| failed(format!("BlueFS: {error}")))?;
    if let Some(problem) = raw.check(superblocks).first() {
        return Err(failed(format!("BlueFS is not clean: {problem}")));
    }
    let (desk, requests) = space_desk();
    let (kv, owned): (Rc<dyn KvStore>, _) = match setup.below {
        Below::Simulated => {
            let fs = LocalBlueFs::mount(view.clone(), mount, Some(desk))
                .await
                .map_err(|error| failed(format!("BlueFS: {error}")))?;
            let owned = fs.with(|machine| Ok(machine.tree().spaces.clone())).map_err(failed)?;
            let options = SimKvOptions { memtable_bytes: 16 << 10, ..SimKvOptions::default() };
            let kv = SimKv::open(core.clone(), fs, "db", options).await;
            (Rc::new(kv.map_err(failed)?), owned)
        }
        Below::RocksDb => {
            let options = RocksOptions::for_space(space.len);
            let kv = RocksKv::mount(core.clone(), Arc::new(below), mount, Some(desk), options).await;
            let kv = kv.map_err(failed)?;
            let fs = kv.fs().clone();
            let owned =
                core.alien(Lane::Space, move || fs.with(|machine| Ok(machine.tree().spaces.clone()))).await;
            (Rc::new(kv), owned.map_err(failed)?)
        }
    };
    let owned: Vec<Extent> = owned.into_iter().map(|(start, len)| Extent::new(start, len)).collect();
    let mounted = Engine::mount(core.clone(), view, kv.clone(), setup.options.clone()).await;
    let engine = match mounted {
        Ok(engine) => engine,
        Err(error) => {
            // Its threads must be gone before the device is anybody else's.
            let closed = kv.close().await;
            let what = if matches!(error, OpenError::Journal { .. }) { "journal: " } else { "" };
            return Err(failed(format!("{what}{error} (key-value store closed: {closed:?})")));
        }
    };
    engine.serve_space(requests, &owned, setup.unit.into()).map_err(failed)?;
    Ok(engine)
}

/// Where BlueFS keeps its two superblocks in the region it is given, and the space left between them.
fn kv_places(superblock: &Superblock, unit: u32) -> ([u64; 2], Extent) {
    let unit = u64::from(unit);
    let first = superblock.kv.start.next_multiple_of(unit);
    let last = superblock.kv.end() / unit * unit - unit;
    ([first, last], Extent::new(first + unit, last - first - unit))
}
