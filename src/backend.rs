//! The real backends composed into stores: a slice of a device through io_uring, and the engine on it with RocksDB on
//! BlueFS as its key-value store. The only place of the command that names them.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use allocator::Extent;
use anyhow::{Context, ensure};
use bluefs::fs::{BlueFs, FormatOptions as FsFormat, Loaded, MountOptions, SpaceDesk, space_desk};
use bluefs_rocks::{RocksKv, RocksOptions};
use nvme::uring::{Polling, UringDevice};
use nvme::{
    BlockDevice, BlockingDevice, BlockingJoined, BlockingPartition, DeviceFile, DmaBuf, Joined, JoinedState,
    Partition,
};
use rt::{Core, Lane};
use store::devices::{Part, PartHeader, Parts, Role};
use store::label::{Label, Labelled, MAGIC, places as places_of, prepared, size_min as label_size_min};
use store::{
    Engine, FormatOptions, FreeList, ObjectStore, Options, RepairOptions, RepairReport, Superblock, Watch,
};
use uuid::Uuid;

use crate::slice_device::SliceDevice;

/// First bytes of a device of ours.
pub const LABEL_MAGIC: &[u8; 8] = MAGIC;
/// What RocksDB on BlueFS needs to start with.
const KV_BYTES_MIN: u64 = 8 << 20;
/// Least for a slice: the key-value store's part of it, what it borrows, and as much for data.
const SLICE_BYTES_MIN: u64 = 64 << 20;
/// Room that BlueFS likes to have ahead, as a share of what it was given.
const LOW_WATER_SHARE: u64 = 4;
/// What BlueFS is lent comes in multiples of this, bytes; so do the places of its superblocks.
const LOAN_UNIT: u64 = 64 << 10;

/// A slice to open; may be sent to the core that will drive it.
pub struct SliceStore {
    /// Its device.
    pub file: Arc<DeviceFile>,
    /// Which of the device's slices.
    pub slice: u32,
    /// The OSD it belongs to.
    pub osd: u32,
    /// Devices that may have parts of it.
    pub beside: Vec<Arc<DeviceFile>>,
}

/// A device to format.
pub struct NewDevice {
    /// The device.
    pub file: Arc<DeviceFile>,
    /// Cluster.
    pub fsid: Uuid,
    /// OSD of the first slice.
    pub first_osd: u32,
    /// How their stores keep what is free.
    pub free_list: FreeList,
    /// Its stores, one for each slice.
    pub stores: Vec<Uuid>,
    /// Devices for parts of them, labelled in memory.
    pub beside: Vec<(Role, Beside)>,
}

/// A slice that was made.
pub struct Made {
    /// Identity of its store.
    pub uuid: Uuid,
    /// Its share of the device, bytes.
    pub bytes: u64,
}

/// A store that was opened.
pub struct Opened {
    /// Its identity.
    pub uuid: Uuid,
    /// The store.
    pub store: Rc<Engine>,
    /// Its device's label.
    pub label: Label,
    /// Its superblock, as it was found.
    pub superblock: Superblock,
}

/// Smallest device for so many slices, bytes.
pub fn size_min(slices: u32) -> u64 {
    // The label's own need, for what segments cost, and a slice each.
    let head = label_size_min(0);
    (head + SLICE_BYTES_MIN * u64::from(slices)).next_multiple_of(1 << 20)
}

/// Labels a device and makes the store of each slice; calls `done` after each.
pub async fn make(core: &Core, new: &NewDevice, done: impl Fn()) -> anyhow::Result<Vec<Made>> {
    let device: Rc<dyn BlockDevice> =
        Rc::new(UringDevice::attach(core, new.file.clone(), Polling::WherePossible)?);
    let labelled = Labelled::plan(&*device, Uuid::new_v4(), new.fsid, new.stores.clone())?;
    let mut made = Vec::new();
    for (slice, uuid) in new.stores.iter().copied().enumerate() {
        let window = labelled.window(&*device, slice)?;
        make_slice(core, new, &device, window, uuid).await.with_context(|| {
            format!("osd.{} cannot be made on {}", new.first_osd as usize + slice, new.file.name())
        })?;
        made.push(Made { uuid, bytes: window.len });
        done();
    }
    // The label is last: without it the device is nobody's, and mkfs can be repeated.
    labelled.write(&*device).await?;
    Ok(made)
}

async fn make_slice(
    core: &Core,
    new: &NewDevice,
    device: &Rc<dyn BlockDevice>,
    window: Extent,
    uuid: Uuid,
) -> anyhow::Result<()> {
    let main: Rc<dyn BlockDevice> =
        Rc::new(Partition::new(device.clone(), "slice", window.start, window.len)?);
    let mut parts = Parts::default();
    for (role, beside) in &new.beside {
        let runs = beside.labelled.runs_of(&*beside.attach(core)?, uuid)?;
        parts.set(*role, Some(Part { id: Uuid::new_v4(), len: length(&runs) }));
    }
    let views = join(core, uuid, main, blocking(&new.file, &[window])?, &new.beside)?;
    let view = views.view;
    let usual = FormatOptions::for_window(uuid, window.len);
    let kv_bytes = usual.kv_bytes.max(KV_BYTES_MIN);
    let options = FormatOptions { kv_bytes, free_list: new.free_list, parts, ..usual };
    let regions = Engine::regions(&*view, &options)?;
    let (superblocks, space) = kv_places(&regions);
    let unit = RocksOptions::for_space(space.len).alloc_unit().max(view.geometry().block_size);
    let format = FsFormat {
        alloc_unit: unit,
        fast: regions.fast(),
        ..FsFormat::new(uuid, superblocks, vec![space], core.random_u64())
    };
    let below = views.foreign;
    core.alien(Lane::Space, move || BlueFs::format(&*below, &format)).await.context("BlueFS")?;
    Engine::format(&*view, &options).await?;
    Ok(())
}

/// A device for parts of stores, and what its label says.
#[derive(Clone)]
pub struct Beside {
    /// The device.
    pub file: Arc<DeviceFile>,
    /// Its label and segments.
    pub labelled: Labelled,
}

impl Beside {
    /// Cuts a new one into equal parts for these stores; nothing is written.
    pub fn plan(core: &Core, file: Arc<DeviceFile>, fsid: Uuid, stores: Vec<Uuid>) -> anyhow::Result<Self> {
        let device = UringDevice::attach(core, file.clone(), Polling::WherePossible)?;
        let labelled = Labelled::plan(&device, Uuid::new_v4(), fsid, stores)?;
        Ok(Self { file, labelled })
    }

    /// Reads the label of one of this cluster.
    pub async fn read(core: &Core, file: Arc<DeviceFile>, fsid: Uuid) -> anyhow::Result<Self> {
        let labelled = read_label(core, &file, fsid, false).await?;
        Ok(Self { file, labelled })
    }

    /// Whether somebody prepared a device for parts of just these stores, and stopped before any part was on it. What else may
    /// have come there since is for the caller to look at.
    pub async fn is_prepared(
        core: &Core,
        file: Arc<DeviceFile>,
        fsid: Uuid,
        stores: &[Superblock],
    ) -> anyhow::Result<bool> {
        let device: Rc<dyn BlockDevice> = Rc::new(UringDevice::attach(core, file, Polling::WherePossible)?);
        let Ok(label) = prepared(&*device).await else { return Ok(false) };
        if label.fsid != fsid || !label.slices.iter().eq(stores.iter().map(|superblock| &superblock.store)) {
            return Ok(false);
        }
        let labelled = Labelled::plan(&*device, label.device, fsid, label.slices)?;
        for superblock in stores {
            let runs = labelled.runs_of(&*device, superblock.store)?;
            let part = Partition::of_runs(device.clone(), "part", places_of(&runs))?;
            let block = DmaBuf::zeroed(usize::try_from(superblock.block)?);
            // What cannot be read may be a part.
            let Ok(first) = part.read(0, block).await else { return Ok(false) };
            // An older copy of a part is for its owner to give up.
            if PartHeader::decode(first.freeze()).is_ok_and(|header| header.store == superblock.store) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The whole device.
    pub fn attach(&self, core: &Core) -> anyhow::Result<Rc<dyn BlockDevice>> {
        Ok(Rc::new(UringDevice::attach(core, self.file.clone(), Polling::WherePossible)?))
    }

    /// Writes the label.
    pub async fn write(&self, core: &Core) -> anyhow::Result<()> {
        Ok(self.labelled.write(&*self.attach(core)?).await?)
    }
}

/// A store's devices as one, for its core and for foreign threads.
struct Views {
    view: Rc<dyn BlockDevice>,
    foreign: Arc<dyn BlockingDevice>,
}

/// Joins a store's parts to its slice of a main device; without any, that is all there is.
fn join(
    core: &Core,
    store: Uuid,
    main: Rc<dyn BlockDevice>,
    foreign: Arc<dyn BlockingDevice>,
    parts: &[(Role, Beside)],
) -> anyhow::Result<Views> {
    if parts.is_empty() {
        return Ok(Views { view: main, foreign });
    }
    let mut members = vec![Some(main), None, None];
    let mut foreign_members = vec![Some(foreign), None, None];
    for (role, Beside { file, labelled }) in parts {
        let part = SliceDevice::open(core, file, labelled, store, role.name())?;
        if let (Some(member), Some(other)) =
            (members.get_mut(role.slot()), foreign_members.get_mut(role.slot()))
        {
            *other = Some(part.foreign());
            *member = Some(Rc::new(part));
        }
    }
    let state = JoinedState::new();
    let foreign = Arc::new(BlockingJoined::new(foreign_members, state.clone()));
    Ok(Views { view: Rc::new(Joined::new(members, state)), foreign })
}

/// Opens the store of a slice for its OSD. `memory` is what it may take, bytes.
pub async fn open(
    core: &Core,
    slice: &SliceStore,
    fsid: Uuid,
    memory: Option<u64>,
) -> anyhow::Result<Opened> {
    let (desk, requests) = space_desk();
    let Below { view, kv, superblock, label } =
        open_below(core, slice, fsid, true, Some(desk), memory).await?;
    let options = options(&*view);
    let options = memory.map_or(options.clone(), |bytes| options.within_memory(bytes));
    let engine = Engine::mount(core.clone(), view, kv.clone(), options).await?;
    let owned = owned(core, &kv).await?;
    engine.serve_space(requests, &owned, LOAN_UNIT)?;
    Ok(Opened { uuid: superblock.store, store: Rc::new(engine), label, superblock })
}

/// The space that BlueFS has.
async fn owned(core: &Core, kv: &RocksKv) -> anyhow::Result<Vec<Extent>> {
    let fs = kv.fs().clone();
    let owned = core.alien(Lane::Space, move || fs.with(|machine| Ok(machine.tree().spaces.clone()))).await?;
    Ok(owned.into_iter().map(|(start, len)| Extent::new(start, len)).collect())
}

/// Opens the store of a slice to look only.
pub async fn open_read_only(core: &Core, slice: &SliceStore, fsid: Uuid) -> anyhow::Result<Opened> {
    let Below { view, kv, superblock, label } = open_below(core, slice, fsid, false, None, None).await?;
    let options = options(&*view);
    let owned = owned(core, &kv).await?;
    let engine = Engine::mount_read_only(core.clone(), view, kv, options).await?;
    engine.check_owned(&owned)?;
    Ok(Opened { uuid: superblock.store, store: Rc::new(engine), label, superblock })
}

/// Repairs the store of a slice. Its file system gets no space meanwhile: nobody knows yet what is free.
pub async fn repair(
    core: &Core,
    slice: &SliceStore,
    fsid: Uuid,
    how: RepairOptions,
    watch: Rc<dyn Watch>,
) -> anyhow::Result<RepairReport> {
    let Below { view, kv, .. } = open_below(core, slice, fsid, true, None, None).await?;
    let options = options(&*view);
    let owned = owned(core, &kv).await?;
    let repairing = Engine::mount_to_repair(core.clone(), view, kv, options).await?;
    Ok(repairing.run(&owned, how, watch).await?)
}

#[cfg(not(feature = "planted"))]
fn options(view: &dyn BlockDevice) -> Options {
    Options::for_device(view.geometry())
}

/// With the mistake that the variable `SPIRULA_PLANTED` names, for runs that must find it.
#[cfg(feature = "planted")]
fn options(view: &dyn BlockDevice) -> Options {
    let mut options = Options::for_device(view.geometry());
    if let Ok(name) = std::env::var("SPIRULA_PLANTED") {
        let known = store::Planted::ALL.into_iter().find(|planted| format!("{planted:?}") == name);
        let Some(planted) = known else { panic!("'{name}' is none of {:?}", store::Planted::ALL) };
        log::warn!("the mistake {planted:?} is planted: this store loses data");
        options.fault = store::Fault::planted(planted);
    }
    options
}

/// What the engine is mounted on.
struct Below {
    view: Rc<dyn BlockDevice>,
    kv: Rc<RocksKv>,
    superblock: Superblock,
    label: Label,
}

/// A file system that was only read.
pub struct FileSystem {
    /// The slice.
    pub device: Arc<dyn BlockingDevice>,
    /// Where its superblocks are.
    pub superblocks: [u64; 2],
    /// What its superblock and its log say.
    pub loaded: Loaded,
}

/// Reads the file system of a slice; nothing is changed, and nothing in its files need be right.
pub async fn load_file_system(core: &Core, slice: &SliceStore, fsid: Uuid) -> anyhow::Result<FileSystem> {
    let Window { foreign: device, superblock, .. } = open_window(core, slice, fsid, false).await?;
    let (superblocks, _) = kv_places(&superblock);
    let below = Arc::clone(&device);
    let loaded =
        core.alien(Lane::Space, move || BlueFs::load(&*below, superblocks)).await.context("BlueFS")?;
    Ok(FileSystem { device, superblocks, loaded })
}

/// Mounts the file system of a slice for writing; nothing in its files need be right. Nobody lends it space.
pub async fn mount_file_system(core: &Core, slice: &SliceStore, fsid: Uuid) -> anyhow::Result<BlueFs> {
    let Window { foreign, superblock, .. } = open_window(core, slice, fsid, true).await?;
    let (superblocks, _) = kv_places(&superblock);
    let nonce = core.random_u64();
    let options = MountOptions { superblocks, nonce, low_water: 0, lend: 0, fast: superblock.fast() };
    core.alien(Lane::Space, move || BlueFs::mount(foreign, options, None)).await.context("BlueFS")
}

/// A slice whose label and superblock are right.
struct Window {
    view: Rc<dyn BlockDevice>,
    foreign: Arc<dyn BlockingDevice>,
    superblock: Superblock,
    label: Label,
}

/// Copies of labels that are damaged are written anew if `mends`.
async fn open_window(core: &Core, slice: &SliceStore, fsid: Uuid, mends: bool) -> anyhow::Result<Window> {
    let labelled = read_label(core, &slice.file, fsid, mends).await?;
    let index = usize::try_from(slice.slice)?;
    let expected = labelled.label.store_of(slice.file.name(), index)?;
    let own = SliceDevice::open(core, &slice.file, &labelled, expected, &format!("osd.{}", slice.osd))?;
    let (foreign, main): (Arc<dyn BlockingDevice>, Rc<dyn BlockDevice>) = (own.foreign(), Rc::new(own));
    let superblock = Engine::main_superblock(&*main).await?;
    ensure!(
        superblock.store == expected,
        "{} slice {index} holds store {}, but the label says {expected}",
        slice.file.name(),
        superblock.store
    );
    let parts = find_parts(core, slice, fsid, &superblock, mends).await?;
    let Views { view, foreign } = join(core, superblock.store, main, foreign, &parts)?;
    // Again, with what it needs.
    let superblock = Engine::superblock(&*view).await?;
    Ok(Window { view, foreign, superblock, label: labelled.label })
}

/// Reads a device's label and segment table. Nobody changes them meanwhile, so what is mended is what there is.
async fn read_label(
    core: &Core,
    file: &Arc<DeviceFile>,
    fsid: Uuid,
    mends: bool,
) -> anyhow::Result<Labelled> {
    let device = UringDevice::attach(core, file.clone(), Polling::WherePossible)?;
    let _dividing = file.divide().await;
    let labelled = Labelled::read(&device, Some(fsid)).await?;
    if labelled.damaged > 0 {
        let (name, damaged) = (device.name(), labelled.damaged);
        log::warn!("{name}: {damaged} copies of its label or segment table are damaged; others are good");
        if mends {
            // The same bytes as in the good copies, so a crash in between does no harm.
            labelled.write(&device).await.context("the label's copies cannot be written anew")?;
            log::warn!("{name}: they were written anew");
        }
    }
    Ok(labelled)
}

/// Where the parts that a store has are. One that is not found is left to the store to miss.
async fn find_parts(
    core: &Core,
    slice: &SliceStore,
    fsid: Uuid,
    superblock: &Superblock,
    mends: bool,
) -> anyhow::Result<Vec<(Role, Beside)>> {
    let mut found = Vec::new();
    for file in slice.beside.iter().filter(|_| !superblock.parts.is_empty()) {
        let labelled = read_label(core, file, fsid, mends).await?;
        let beside = Beside { file: file.clone(), labelled };
        let device = beside.attach(core)?;
        let Ok(runs) = beside.labelled.runs_of(&*device, superblock.store) else { continue };
        let part = Partition::of_runs(device, "part", places_of(&runs))?;
        let header = PartHeader::read(&part, superblock.block.into()).await;
        for role in Role::BESIDE {
            let is_it = |header: &PartHeader| superblock.parts.get(role).is_some_and(|p| p.id == header.id);
            // A device that cannot tell may be the only one that can be meant.
            let only = slice.beside.len() == 1 && superblock.parts.get(role).is_some();
            if header.as_ref().map_or(only, is_it) {
                found.push((role, beside.clone()));
            }
        }
    }
    Ok(found)
}

/// As [`open_window`], and the key-value store in it.
async fn open_below(
    core: &Core,
    slice: &SliceStore,
    fsid: Uuid,
    mends: bool,
    desk: Option<SpaceDesk>,
    memory: Option<u64>,
) -> anyhow::Result<Below> {
    let Window { view, foreign: below, superblock, label } = open_window(core, slice, fsid, mends).await?;
    let (superblocks, space) = kv_places(&superblock);
    let mount = MountOptions {
        superblocks,
        nonce: core.random_u64(),
        low_water: space.len / LOW_WATER_SHARE,
        lend: space.len / LOW_WATER_SHARE,
        fast: superblock.fast(),
    };
    let rocks = RocksOptions::for_space(space.len);
    let rocks = memory.map_or(rocks.clone(), |bytes| rocks.within_memory(bytes));
    let kv = RocksKv::mount(core.clone(), below, mount, desk, rocks).await?;
    Ok(Below { view, kv: Rc::new(kv), superblock, label })
}

/// A part of a device for foreign threads.
fn blocking(file: &Arc<DeviceFile>, runs: &[Extent]) -> anyhow::Result<Arc<dyn BlockingDevice>> {
    Ok(Arc::new(BlockingPartition::of_runs(Arc::new(file.blocking()), places_of(runs))?))
}

/// Bytes of runs.
pub fn length(runs: &[Extent]) -> u64 {
    runs.iter().map(|run| run.len).sum()
}

/// Where BlueFS keeps its two superblocks in the region it is given, and the space left between them.
fn kv_places(superblock: &Superblock) -> ([u64; 2], Extent) {
    let first = superblock.kv.start.next_multiple_of(LOAN_UNIT);
    let last = superblock.kv.end() / LOAN_UNIT * LOAN_UNIT - LOAN_UNIT;
    ([first, last], Extent::new(first + LOAN_UNIT, last - first - LOAN_UNIT))
}

/// Where the store of a slice lies: each device's role, its path, and the bytes that are the store's.
pub async fn places(
    core: &Core,
    slice: &SliceStore,
    fsid: Uuid,
) -> anyhow::Result<Vec<(Role, PathBuf, u64)>> {
    let Window { superblock, .. } = open_window(core, slice, fsid, false).await?;
    let mut places = vec![(Role::Main, slice.file.path().to_owned(), superblock.window)];
    for (role, beside) in find_parts(core, slice, fsid, &superblock, false).await? {
        let bytes = superblock.parts.get(role).map_or(0, |part| part.len);
        places.push((role, beside.file.path().to_owned(), bytes));
    }
    Ok(places)
}

/// The superblock of a slice's store.
pub async fn superblock(core: &Core, slice: &SliceStore, fsid: Uuid) -> anyhow::Result<Superblock> {
    Ok(open_window(core, slice, fsid, false).await?.superblock)
}

/// What became of a device that may have grown.
pub struct Growth {
    /// Bytes that it has.
    pub device_bytes: u64,
    /// Bytes that its label says.
    pub label_bytes: u64,
    /// Its OSDs own more of it now.
    pub is_taken_up: bool,
}

/// Divides what a device has grown by among the stores on it.
pub async fn grow_device(core: &Core, file: Arc<DeviceFile>, fsid: Uuid) -> anyhow::Result<Growth> {
    let device: Rc<dyn BlockDevice> =
        Rc::new(UringDevice::attach(core, file.clone(), Polling::WherePossible)?);
    let _dividing = file.divide().await;
    let labelled = Labelled::read(&*device, Some(fsid)).await?;
    let grown = labelled.take_up_growth(&device).await?;
    let label_bytes = labelled.label.size;
    Ok(Growth { device_bytes: device.size(), label_bytes, is_taken_up: grown.is_some() })
}

/// Has the store of a slice take up what its parts and its main device have grown by.
pub async fn take_up(core: &Core, slice: &SliceStore, fsid: Uuid) -> anyhow::Result<()> {
    let Window { view, superblock, .. } = open_window(core, slice, fsid, true).await?;
    for (role, beside) in find_parts(core, slice, fsid, &superblock, true).await? {
        let runs = beside.labelled.runs_of(&*beside.attach(core)?, superblock.store)?;
        Engine::grow_part(&*view, role, length(&runs)).await?;
    }
    drop(view);
    // The rest is any mount's business.
    open(core, slice, fsid, None).await?.store.close().await?;
    Ok(())
}

/// Moves the part of this role of a slice's store to another device, unless it is there or the store has none.
pub async fn move_part(
    core: &Core,
    slice: &SliceStore,
    fsid: Uuid,
    role: Role,
    beside: &Beside,
) -> anyhow::Result<()> {
    let Window { view, foreign, superblock, .. } = open_window(core, slice, fsid, true).await?;
    let Some(part) = superblock.parts.get(role) else { return Ok(()) };
    let device = beside.attach(core)?;
    let runs = beside.labelled.runs_of(&*device, superblock.store)?;
    let to = Partition::of_runs(device, role.name(), places_of(&runs))?;
    if PartHeader::read(&to, superblock.block.into()).await.is_ok_and(|header| header.id == part.id) {
        return Ok(());
    }
    let keys = match role {
        Role::Db => {
            let (superblocks, _) = kv_places(&superblock);
            let load = core.alien(Lane::Space, move || {
                // What a process that was killed left in the device's cache must not be lost after it was copied from.
                foreign.flush()?;
                BlueFs::load(&*foreign, superblocks)
            });
            let loaded = load.await.context("BlueFS")?;
            let files = loaded.tree.files.values().flat_map(|inode| &inode.extents);
            let is_there = |extent: &Extent| superblock.fast().is_some_and(|fast| fast.contains(extent));
            files.chain(&loaded.superblock.log).copied().filter(is_there).collect()
        }
        _ => Vec::new(),
    };
    Engine::move_part(&*view, &to, role, Uuid::new_v4(), &keys).await?;
    Ok(())
}

/// Moves what is on the part of this role of a slice's store to where it belongs without it, and takes the part away from the
/// store, unless it has none.
pub async fn remove_part(core: &Core, slice: &SliceStore, fsid: Uuid, role: Role) -> anyhow::Result<()> {
    let superblock = open_window(core, slice, fsid, true).await?.superblock;
    if superblock.parts.get(role).is_none() {
        return Ok(());
    }
    if role == Role::Db {
        empty_db(core, slice, fsid).await?;
        let fs = mount_file_system(core, slice, fsid).await?;
        core.alien(Lane::Space, move || fs.leave_fast()).await.context(
            "the keys do not all fit on the main device; grow that, or remove objects, and give the command again",
        )?;
    }
    let view = open_window(core, slice, fsid, true).await?.view;
    Engine::remove_part(&*view, role).await?;
    Ok(())
}

/// Moves what can be moved of keys from a slice's db part to space of the main device, which only an open store lends.
async fn empty_db(core: &Core, slice: &SliceStore, fsid: Uuid) -> anyhow::Result<()> {
    let (desk, requests) = space_desk();
    let Below { view, kv, .. } = open_below(core, slice, fsid, true, Some(desk), None).await?;
    let options = options(&*view);
    let engine = Engine::mount(core.clone(), view, kv.clone(), options).await?;
    engine.serve_space(requests, &owned(core, &kv).await?, LOAN_UNIT)?;
    let fs = kv.fs().clone();
    let emptied = core.alien(Lane::Compaction, move || fs.empty_fast()).await;
    let closed = engine.close().await;
    emptied.context("BlueFS")?;
    Ok(closed?)
}

/// Sets a key of a device's label, or removes it; gives the label.
pub async fn set_label_key(
    core: &Core,
    file: Arc<DeviceFile>,
    fsid: Uuid,
    key: &str,
    value: Option<&str>,
) -> anyhow::Result<Label> {
    let mut beside = Beside::read(core, file, fsid).await?;
    let device = beside.attach(core)?;
    beside.labelled.set_key(&*device, key, value).await?;
    Ok(beside.labelled.label)
}

/// Makes a device that no store has a part on nobody's.
pub async fn erase_label(core: &Core, file: Arc<DeviceFile>, fsid: Uuid) -> anyhow::Result<()> {
    let beside = Beside::read(core, file, fsid).await?;
    Ok(beside.labelled.erase(&*beside.attach(core)?).await?)
}

/// Gives the store of a slice its part of a device, unless it has it.
pub async fn add_part(
    core: &Core,
    slice: &SliceStore,
    fsid: Uuid,
    role: Role,
    beside: &Beside,
) -> anyhow::Result<()> {
    let Window { view, superblock, .. } = open_window(core, slice, fsid, true).await?;
    if superblock.parts.get(role).is_some() {
        return Ok(());
    }
    let device = beside.attach(core)?;
    let runs = beside.labelled.runs_of(&*device, superblock.store)?;
    let part = Partition::of_runs(device, role.name(), places_of(&runs))?;
    Engine::add_part(&*view, &part, role, Uuid::new_v4()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use nvme::{DmaBuf, OpenOptions};
    use rt::uring::Config;
    use rt::{CoreId, Group};

    use super::*;

    #[test]
    fn a_label_that_is_mended_while_a_device_grows_is_the_larger_one() {
        let fsid = Uuid::from_u128(1);
        let path = tempfile::NamedTempFile::new().expect("a file");
        path.as_file().set_len(64 << 20).expect("a size");
        let options = OpenOptions { allow_buffered: true, ..OpenOptions::default() };
        let file = nvme::open(path.path(), &options).expect("opens");
        let config = Config { recv_buffers: 0, ..Config::default() };
        let ran = rt::uring::run(CoreId(0), &config, |core| async move {
            let device: Rc<dyn BlockDevice> =
                Rc::new(UringDevice::attach(&core, file.clone(), Polling::WherePossible).expect("attaches"));
            let labelled = Labelled::plan(&*device, Uuid::from_u128(2), fsid, vec![Uuid::from_u128(3)]);
            let labelled = labelled.expect("fits");
            labelled.write(&*device).await.expect("writes");
            device.write(0, DmaBuf::zeroed(4096)).await.expect("damages a copy");
            // Somebody begins to take up that the device has grown; then somebody opens it, who mends.
            let dividing = file.divide().await;
            path.as_file().set_len(160 << 20).expect("grows");
            file.look_again().expect("is larger");
            let (done, of, opened) = (Rc::new(Cell::new(None)), core.clone(), file.clone());
            let told = Rc::clone(&done);
            core.spawn(Group::Client, "opening", async move {
                told.set(Some(read_label(&of, &opened, fsid, true).await));
            });
            let found = Labelled::read(&*device, Some(fsid)).await.expect("reads");
            let grown = found.take_up_growth(&device).await.expect("grows").expect("by enough");
            assert!(done.take().is_none(), "it waits");
            drop(dividing);
            let read = loop {
                match done.take() {
                    Some(read) => break read.expect("reads"),
                    None => core.sleep(std::time::Duration::from_millis(1)).await,
                }
            };
            assert_eq!((&read.label, &read.segments), (&grown.label, &grown.segments));
            let after = Labelled::read(&*device, Some(fsid)).await.expect("reads");
            assert_eq!((&after.label, &after.segments, after.damaged), (&grown.label, &grown.segments, 0));
        });
        ran.expect("a core");
    }
}
