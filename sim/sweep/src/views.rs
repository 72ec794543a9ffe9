//! [`Views`]: the devices of a store as a core sees them and as foreign threads do. In memory they are windows of one
//! device, at the addresses that they have once they are joined, so that one image and one recording hold all of them.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use allocator::Extent;
use nvme::joined::member_base;
use nvme::{
    BlockDevice, BlockingDevice, BlockingJoined, BlockingPartition, DeviceResult, Geometry, Joined,
    JoinedState, MemoryDevice, Partition, Recording, RecordingBlockingDevice, RecordingDevice,
};
use rt::Core;
use store::devices::{Part, Parts, Role};
use uuid::Uuid;

use crate::late::LateDevice;

/// Where the devices are.
#[derive(Clone, Debug)]
pub struct Devices {
    /// The main one.
    pub main: Geometry,
    /// Bytes of one for keys, if there is one.
    pub db: Option<u64>,
    /// Bytes of one for the journal.
    pub wal: Option<u64>,
}

impl Devices {
    /// The main one alone.
    pub fn main(main: Geometry) -> Self {
        Self { main, db: None, wal: None }
    }

    fn beside(&self) -> impl Iterator<Item = (Role, u64)> {
        let all = [(Role::Db, self.db), (Role::Wal, self.wal)];
        all.into_iter().filter_map(|(role, bytes)| Some((role, bytes?)))
    }

    /// Each with its window of the device that holds all.
    pub fn windows(&self) -> Vec<(Role, Range<u64>)> {
        let window = |(role, bytes): (Role, u64)| {
            let start = member_base(role.slot());
            (role, start..start + bytes)
        };
        std::iter::once((Role::Main, self.main.size)).chain(self.beside()).map(window).collect()
    }

    /// The device that holds all.
    pub fn all(&self) -> Geometry {
        let size = self.windows().last().map_or(0, |(_, window)| window.end);
        Geometry { size, ..self.main.clone() }
    }

    /// The parts of a store that has all of those beside the main one.
    pub fn parts(&self, store: Uuid) -> Parts {
        let mut parts = Parts::default();
        for (role, len) in self.beside() {
            let id = Uuid::from_u128(store.as_u128() ^ (role.slot() as u128) << 32);
            parts.set(role, Some(Part { id, len }));
        }
        parts
    }
}

/// See the module.
pub struct Views {
    members: Vec<Member>,
}

struct Member {
    role: Role,
    core: Rc<dyn BlockDevice>,
    foreign: Arc<dyn BlockingDevice>,
}

/// What a store is opened on.
pub struct Slice {
    /// For its core.
    pub view: Rc<dyn BlockDevice>,
    /// For foreign threads.
    pub below: Arc<dyn BlockingDevice>,
}

impl Views {
    /// Devices in memory as they are.
    pub fn plain(devices: &Devices, memory: &MemoryDevice) -> Self {
        Self::of(devices, |window| (Rc::new(memory.clone()), Arc::new(memory.clone()), window))
    }

    /// The same, recorded, and late on the core.
    pub fn recorded(
        core: &Core,
        devices: &Devices,
        memory: &MemoryDevice,
        tape: &Recording,
        late_max: Duration,
    ) -> Self {
        Self::of(devices, |window| {
            let below = Rc::new(memory.clone());
            let recorded = RecordingDevice::of_window(tape.clone(), below, window.clone());
            let late = LateDevice::new(core, Rc::new(recorded), late_max);
            let below = Arc::new(memory.clone());
            let foreign = RecordingBlockingDevice::of_window(tape.clone(), below, window.clone());
            (Rc::new(late), Arc::new(foreign), window)
        })
    }

    fn of(
        devices: &Devices,
        whole: impl Fn(Range<u64>) -> (Rc<dyn BlockDevice>, Arc<dyn BlockingDevice>, Range<u64>),
    ) -> Self {
        let member = |(role, window): (Role, Range<u64>)| {
            let (core, foreign, Range { start, end }) = whole(window);
            let core = Partition::new(core, role.name(), start, end - start);
            let foreign = BlockingPartition::new(foreign, start, end - start);
            let (Ok(core), Ok(foreign)) = (core, foreign) else {
                panic!("{start} to {end} is a window of the device that holds all")
            };
            Member { role, core: Rc::new(core), foreign: Arc::new(foreign) }
        };
        Self { members: devices.windows().into_iter().map(member).collect() }
    }

    /// The main device, from its label on.
    pub fn main(&self) -> &Rc<dyn BlockDevice> {
        &self.members[0].core
    }

    /// A slice of the main device, joined with the others if it is the one that has them.
    pub fn slice(&self, window: Extent, has_parts: bool) -> DeviceResult<Slice> {
        let [main, beside @ ..] = &self.members[..] else { unreachable!("there is a main device") };
        let view: Rc<dyn BlockDevice> =
            Rc::new(Partition::new(main.core.clone(), "slice", window.start, window.len)?);
        let below: Arc<dyn BlockingDevice> =
            Arc::new(BlockingPartition::new(main.foreign.clone(), window.start, window.len)?);
        if beside.is_empty() || !has_parts {
            return Ok(Slice { view, below });
        }
        let (mut members, mut foreign) = (vec![Some(view), None, None], vec![Some(below), None, None]);
        for member in beside {
            members[member.role.slot()] = Some(member.core.clone());
            foreign[member.role.slot()] = Some(member.foreign.clone());
        }
        let state = JoinedState::new();
        let below = Arc::new(BlockingJoined::new(foreign, state.clone()));
        Ok(Slice { view: Rc::new(Joined::new(members, state)), below })
    }
}
