//! The disks of one OSD: the main one, and those that it may have beside it for keys and for the journal. Each has a
//! cache of its own: power loss takes from each what no flush of that one covered, and a flush of one is no other's.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use allocator::Extent;
use nvme::{
    BlockDevice, Geometry, Joined, JoinedState, Kind, MemoryDevice, Partition, SimDisk, SimDiskConfig,
};
use rt::Core;
use store::devices::{Part, Parts, Role};
use uuid::Uuid;

use crate::scenario::{DISK_SLOW, Scenario};

/// See the module. Clones are handles on the same disks.
#[derive(Clone)]
pub struct Disks {
    main: SimDisk,
    beside: Vec<(Role, SimDisk)>,
}

/// A run of bytes of one of the disks.
#[derive(Clone, Debug)]
pub struct Place {
    /// Which disk.
    pub role: Role,
    /// Bytes there.
    pub range: Range<u64>,
}

impl Place {
    /// Bytes of the main disk.
    pub fn main(range: Range<u64>) -> Self {
        Self { role: Role::Main, range }
    }
}

/// The disks as devices, for one life of their host or for one look.
pub struct Devices {
    /// The main one, from its label on.
    pub main: Rc<dyn BlockDevice>,
    beside: Vec<(Role, Rc<dyn BlockDevice>)>,
}

impl Disks {
    /// Blank ones; their names begin with `name`.
    pub fn new(scenario: &Scenario, name: &str) -> Self {
        let beside = [(Role::Db, scenario.db_bytes), (Role::Wal, scenario.wal_bytes)];
        let part = |(role, bytes): (Role, Option<u64>)| {
            let name = format!("{name} {}", role.name());
            let mut config = config(scenario, &name, bytes?);
            config.geometry.block_size = scenario.part_block_bytes;
            config.geometry.rotational = false;
            config.geometry.volatile_cache = scenario.part_volatile_cache;
            Some((role, SimDisk::new(config, scenario.seed)))
        };
        Self {
            main: SimDisk::new(config(scenario, name, scenario.disk_bytes), scenario.seed),
            beside: beside.into_iter().filter_map(part).collect(),
        }
    }

    /// The parts that a store of this identity has on the disks beside the main one: all of each.
    pub fn parts(&self, scenario: &Scenario, store: Uuid) -> Parts {
        let mut parts = Parts::default();
        for (role, bytes) in [(Role::Db, scenario.db_bytes), (Role::Wal, scenario.wal_bytes)] {
            let id = Uuid::from_u128(store.as_u128() ^ role.slot() as u128);
            parts.set(role, bytes.map(|len| Part { id, len }));
        }
        parts
    }

    /// The main one.
    pub fn main(&self) -> &SimDisk {
        &self.main
    }

    /// All of them, the main one first.
    pub fn all(&self) -> impl Iterator<Item = (Role, &SimDisk)> {
        std::iter::once((Role::Main, &self.main)).chain(self.beside.iter().map(|(role, disk)| (*role, disk)))
    }

    /// The one that has a place.
    pub fn of(&self, place: &Place) -> &SimDisk {
        self.all().find(|(role, _)| *role == place.role).map_or(&self.main, |(_, disk)| disk)
    }

    /// As their host sees them until its life ends.
    pub fn open(&self, core: &Core) -> Devices {
        self.devices(|disk| Rc::new(disk.open(core)))
    }

    /// What reads see now, in memory: every block can be read.
    pub fn to_memory(&self) -> Devices {
        self.devices(|disk| Rc::new(disk.to_memory()))
    }

    /// What is there if power loss loses all that it may, in memory.
    pub fn durable(&self) -> Devices {
        self.devices(|disk| {
            let geometry = Geometry { kind: Kind::Memory, ..disk.geometry() };
            Rc::new(MemoryDevice::from_image("durable", geometry, disk.durable_image()))
        })
    }

    fn devices(&self, open: impl Fn(&SimDisk) -> Rc<dyn BlockDevice>) -> Devices {
        let beside = self.beside.iter().map(|(role, disk)| (*role, open(disk))).collect();
        Devices { main: open(&self.main), beside }
    }

    /// Disks of their own that hold the same, see [`SimDisk::copy`].
    pub fn copy(&self) -> Self {
        let beside = self.beside.iter().map(|(role, disk)| (*role, disk.copy())).collect();
        Self { main: self.main.copy(), beside }
    }

    /// Power loss, of all at once.
    pub fn crash(&self) {
        self.all().for_each(|(_, disk)| disk.crash());
    }

    /// Their host's process ends, the power stays.
    pub fn end_process(&self) {
        self.all().for_each(|(_, disk)| disk.end_process());
    }

    /// Ends what lets their writes and flushes fail.
    pub fn allow_writes(&self) {
        self.all().for_each(|(_, disk)| disk.allow_writes());
    }

    /// Whether power loss would decide about a byte of the place now.
    pub fn is_unsettled(&self, place: &Place) -> bool {
        self.of(place).is_unsettled(&place.range)
    }

    /// Lets writes that begin in one of the places take so much longer, until their host starts again.
    pub fn hold_writes(&self, places: &[Place], time: Duration) {
        for (role, disk) in self.all() {
            let held = places.iter().filter(|place| place.role == role);
            disk.hold_writes(held.map(|place| place.range.clone()).collect(), time);
        }
    }
}

impl Devices {
    /// The slice in `window` of the main one, joined with the others as its store sees them.
    pub fn joined(self, window: Extent) -> Result<Rc<dyn BlockDevice>, String> {
        let slice = Partition::new(self.main, "slice", window.start, window.len);
        let slice: Rc<dyn BlockDevice> = Rc::new(slice.map_err(|error| error.to_string())?);
        if self.beside.is_empty() {
            return Ok(slice);
        }
        let mut members = vec![Some(slice), None, None];
        for (role, device) in self.beside {
            members[role.slot()] = Some(device);
        }
        Ok(Rc::new(Joined::new(members, JoinedState::new())))
    }
}

/// How a disk of `bytes` behaves.
pub fn config(scenario: &Scenario, name: &str, bytes: u64) -> SimDiskConfig {
    let mut config = SimDiskConfig::new(name, bytes);
    config.geometry.rotational = scenario.rotational;
    config.geometry.volatile_cache = scenario.volatile_cache;
    config.geometry.block_size = scenario.block_bytes;
    config.faults.slow_ppm = scenario.disk_slow_ppm;
    config.faults.slow_read_ppm = scenario.disk_slow_read_ppm;
    config.faults.slow = DISK_SLOW;
    config
}
