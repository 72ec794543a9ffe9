//! What outlives the processes that open a store: a disk, and a key-value store that is either a plain one beside it
//! with exactly the seam's crash behaviour, or the simulated LSM on BlueFS on the same disk.

use std::rc::Rc;

use allocator::Extent;
use bluefs::fs::{FormatOptions as FsFormat, LocalBlueFs, MountOptions, SpaceRequests, space_desk};
use bluefs::kv::{KvStore, SimKv, SimKvOptions};
use nvme::{BlockDevice, Joined, JoinedState, SimDisk, SimDiskConfig};
use rt::Core;
use uuid::Uuid;

use super::kv::TestKv;
use crate::devices::{Part, Parts, Role};
use crate::engine::{Engine, FormatOptions, FreeList, OpenResult, Options, RepairOptions, RepairReport};
use crate::object_store::Unwatched;
use crate::superblock::Superblock;

/// BlueFS's smallest log in blocks, or one unit if that is larger.
const LOG_BYTES_MIN: u64 = 32 << 10;

/// What the key-value store is.
#[derive(Clone)]
pub enum Below {
    /// Beside the disk.
    Plain(TestKv),
    /// On BlueFS on the disk, which allocates in units of so many bytes.
    Stacked(u64),
}

/// An open key-value store; with what BlueFS below it has, and where it asks for more.
pub struct OpenKv {
    pub kv: Rc<dyn KvStore>,
    pub owned: Vec<Extent>,
    pub requests: Option<SpaceRequests>,
}

/// What is left when a process ends.
#[derive(Clone)]
pub struct World {
    pub disk: SimDisk,
    /// Disks of the store's parts.
    pub parts: [(Role, Option<SimDisk>); 2],
    pub below: Below,
    pub options: Options,
    pub format: FormatOptions,
}

impl World {
    /// A blank disk of `size` bytes.
    pub fn new(seed: u64, size: u64, block_size: u32, journal_bytes: u64) -> Self {
        let mut config = SimDiskConfig::new("disk", size);
        config.geometry.block_size = block_size;
        let format = FormatOptions {
            store: Uuid::from_u128(u128::from(seed) + 1),
            journal_bytes,
            pg_log_bytes: 256 << 10,
            kv_bytes: 0,
            free_list: FreeList::ALL[usize::try_from((seed ^ seed / 2) % 2).expect("small")],
            parts: Parts::default(),
        };
        // Tests look at the device: what is kept in memory is for those that say so.
        let options = Options { reserve_bytes: 64 << 10, data_cache_bytes_max: 0, ..Options::default() };
        let parts = Role::BESIDE.map(|role| (role, None));
        let below = Below::Plain(TestKv::new());
        Self { disk: SimDisk::new(config, seed), parts, below, options, format }
    }

    /// With the whole stack on the disk; `kv_bytes` are BlueFS's from the start.
    pub fn stacked(self, kv_bytes: u64) -> Self {
        self.stacked_in_units(kv_bytes, 4096)
    }

    /// The same with a BlueFS that allocates in units of so many bytes.
    pub fn stacked_in_units(mut self, kv_bytes: u64, unit: u64) -> Self {
        self.below = Below::Stacked(unit);
        self.format.kv_bytes = kv_bytes;
        self
    }

    /// With a disk of `bytes` for these parts each.
    pub fn with_parts(mut self, seed: u64, roles: &[Role], bytes: u64) -> Self {
        let block_size = self.disk.to_memory().geometry().block_size;
        for (role, disk) in self.parts.iter_mut().filter(|(role, _)| roles.contains(role)) {
            let mut config = SimDiskConfig::new(role.name(), bytes);
            config.geometry.block_size = block_size;
            *disk = Some(SimDisk::new(config, seed));
            let id = Uuid::from_u128(1000 + role.slot() as u128);
            self.format.parts.set(*role, Some(Part { id, len: bytes }));
        }
        self
    }

    pub fn device(&self, core: &Core) -> Rc<dyn BlockDevice> {
        let main: Rc<dyn BlockDevice> = Rc::new(self.disk.open(core));
        if self.parts.iter().all(|(_, disk)| disk.is_none()) {
            return main;
        }
        let part = |disk: &Option<SimDisk>| disk.as_ref().map(|disk| Rc::new(disk.open(core)) as _);
        let [db, wal] = self.parts.each_ref().map(|(_, disk)| part(disk));
        Rc::new(Joined::new(vec![Some(main), db, wal], JoinedState::new()))
    }

    pub fn disks(&self) -> impl Iterator<Item = &SimDisk> {
        std::iter::once(&self.disk).chain(self.parts.iter().filter_map(|(_, disk)| disk.as_ref()))
    }

    /// Power loss: each disk loses what its own cache had.
    pub fn crash(&self) {
        self.disks().for_each(SimDisk::crash);
    }

    /// The process ends, the power stays.
    pub fn end_process(&self) {
        self.disks().for_each(SimDisk::end_process);
    }

    pub async fn format(&self, core: &Core) {
        self.format_on(core, &*self.device(core)).await;
    }

    pub async fn format_on(&self, core: &Core, device: &dyn BlockDevice) {
        let superblock = Engine::format(device, &self.format).await.expect("format");
        if let Below::Stacked(unit) = self.below {
            let (superblocks, space) = kv_places(&superblock, unit);
            let options = FsFormat {
                uuid: self.format.store,
                superblocks,
                alloc_unit: u32::try_from(unit).expect("small"),
                log_bytes_min: LOG_BYTES_MIN.max(unit),
                space: vec![space],
                fast: superblock.fast(),
                nonce: core.random_u64(),
            };
            LocalBlueFs::format(device, &options).await.expect("format BlueFS");
        }
    }

    pub async fn mount(&self, core: &Core) -> OpenResult<Engine> {
        self.mount_on(core, self.device(core), false).await
    }

    pub async fn mount_on(
        &self,
        core: &Core,
        device: Rc<dyn BlockDevice>,
        read_only: bool,
    ) -> OpenResult<Engine> {
        let options = self.options.clone();
        let below = self.open_kv(core, &device).await?;
        if read_only {
            return Engine::mount_read_only(core.clone(), device, below.kv, options).await;
        }
        let engine = Engine::mount(core.clone(), device, below.kv, options).await?;
        if let Some(requests) = below.requests {
            let Below::Stacked(unit) = self.below else { unreachable!("only BlueFS asks for space") };
            engine.serve_space(requests, &below.owned, unit).expect("serve space");
        }
        Ok(engine)
    }

    /// Opens the key-value store.
    pub async fn open_kv(&self, core: &Core, device: &Rc<dyn BlockDevice>) -> OpenResult<OpenKv> {
        if let Below::Stacked(unit) = self.below {
            let superblock = Engine::superblock(&**device).await?;
            let (superblocks, space) = kv_places(&superblock, unit);
            let (desk, requests) = space_desk();
            let mount = MountOptions {
                superblocks,
                nonce: core.random_u64(),
                low_water: space.len / 4,
                lend: 64 << 10,
                fast: superblock.fast(),
            };
            let fs = LocalBlueFs::mount(Rc::clone(device), mount, Some(desk)).await.expect("mount BlueFS");
            let owned: Vec<Extent> = fs
                .with(|machine| {
                    Ok(machine.tree().spaces.iter().map(|(start, len)| Extent::new(*start, *len)).collect())
                })
                .expect("BlueFS's space");
            let small = SimKvOptions { memtable_bytes: 16 << 10, ..SimKvOptions::default() };
            let kv: Rc<dyn KvStore> =
                Rc::new(SimKv::open(core.clone(), fs, "db", small).await.expect("open key-value store"));
            return Ok(OpenKv { kv, owned, requests: Some(requests) });
        }
        let Below::Plain(kv) = &self.below else { unreachable!("there are these two") };
        Ok(OpenKv { kv: kv.open(core), owned: Vec::new(), requests: None })
    }

    /// Repairs the store, as the command does.
    pub async fn repair(&self, core: &Core, how: RepairOptions) -> Result<RepairReport, String> {
        self.repair_on(core, self.device(core), how).await
    }

    /// The same on a device that stands before its own.
    pub async fn repair_on(
        &self,
        core: &Core,
        device: Rc<dyn BlockDevice>,
        how: RepairOptions,
    ) -> Result<RepairReport, String> {
        let below = self.open_kv(core, &device).await.map_err(|error| error.to_string())?;
        drop(below.requests);
        let repairing = Engine::mount_to_repair(core.clone(), device, below.kv, self.options.clone()).await;
        let repairing = repairing.map_err(|error| error.to_string())?;
        repairing.run(&below.owned, how, Rc::new(Unwatched)).await.map_err(|error| error.to_string())
    }

    /// One of its own that is as this one would be if its process had ended.
    pub fn copy(&self) -> Self {
        let part = |(role, disk): &(Role, Option<SimDisk>)| (*role, disk.as_ref().map(SimDisk::copy));
        let below = match &self.below {
            Below::Plain(kv) => Below::Plain(kv.copy()),
            Below::Stacked(unit) => Below::Stacked(*unit),
        };
        Self { disk: self.disk.copy(), parts: self.parts.each_ref().map(part), below, ..self.clone() }
    }
}

/// Where BlueFS keeps its superblocks in the region it is given, and the space left.
pub fn kv_places(superblock: &Superblock, unit: u64) -> ([u64; 2], Extent) {
    let first = superblock.kv.start.next_multiple_of(unit);
    let last = superblock.kv.end() / unit * unit - unit;
    ([first, last], Extent::new(first + unit, last - first - unit))
}
