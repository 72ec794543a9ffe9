//! The loads: what placement groups ask of their store, closed loop.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::ValueEnum;
use engine::clock;
use engine::setup::OBJECT_BYTES;
use futures_util::future::try_join_all;
use nvme::MemoryDevice;
use rt::Core;
use rt::uring::UringCore;
use store::{CollectionId, Engine, LogVersion, ObjectId, ObjectStore, Op, StoreResult, Transaction};

use crate::Settings;

/// Bytes of an operation.
const BLOCK: u64 = 4096;
/// Objects that are written whole, for each of those that are filled.
pub const WHOLES: u64 = 4096;
/// Bytes of a placement group's log entry and of an object's info, as `pg` writes them.
const LOG_ENTRY_BYTES: usize = 150;
const INFO_BYTES: usize = 60;
/// Distinct payloads.
const PAYLOADS: usize = 64;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// Reads 4 KiB at random places.
    Read,
    /// Writes 4 KiB over random blocks, durably.
    Overwrite,
    /// Writes objects of 4 KiB whole, durably.
    Whole,
    /// Writes smaller objects whole, durably.
    Small,
}

impl Load {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Overwrite => "overwrite",
            Self::Whole => "whole",
            Self::Small => "small",
        }
    }
}

/// What a measurement took.
pub struct Sample {
    /// By the clock.
    pub took: Duration,
    /// CPU of the core's thread.
    pub core: Duration,
    /// CPU of all other threads.
    pub others: Duration,
    /// Bytes written to the device, but for what BlueFS writes.
    pub device_bytes: u64,
    /// Bytes written to the device.
    pub all_bytes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Tasks spawned in the store.
    pub tasks: u64,
    /// Tasks of the core that another thread woke: another core, or a foreign thread that is done.
    pub foreign_wakes: u64,
}

/// A store full of objects.
pub struct Dataset<'a> {
    core: Core,
    engine: &'a Engine,
    device: &'a MemoryDevice,
    small_bytes: usize,
    read_blocks: u64,
    objects: Vec<(CollectionId, ObjectId)>,
    payloads: Vec<Bytes>,
    versions: RefCell<BTreeMap<CollectionId, u64>>,
}

impl<'a> Dataset<'a> {
    /// Makes and fills the objects.
    pub async fn fill(
        core: &Core,
        engine: &'a Engine,
        device: &'a MemoryDevice,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let (objects, groups) = (settings.objects, settings.groups.next_power_of_two());
        let bits = u8::try_from(groups.trailing_zeros())?;
        let collection = |seed| CollectionId { pool: 1, seed };
        let make =
            (0..groups).map(|seed| Op::CreateCollection { collection: collection(seed), bits }).collect();
        engine.submit(Transaction { ops: make }).durable.await?;
        let named = |number: u32| (collection(number % groups), object(number, number));
        let payload = |_| Bytes::from_iter((0..BLOCK / 8).flat_map(|_| core.random_u64().to_le_bytes()));
        let data = Self {
            core: core.clone(),
            engine,
            device,
            small_bytes: usize::from(settings.small),
            read_blocks: settings.read_blocks.min(OBJECT_BYTES / BLOCK),
            objects: (0..objects).map(named).collect(),
            payloads: (0..PAYLOADS).map(payload).collect(),
            versions: RefCell::default(),
        };
        for (collection, object) in &data.objects {
            let chunks = (0..OBJECT_BYTES / BLOCK).map(|_| data.payload()).collect();
            let write =
                Op::Write { collection: *collection, object: object.clone(), offset: 0, data: chunks };
            engine.submit(Transaction { ops: vec![write] }).durable.await.context("filling")?;
        }
        Ok(data)
    }

    /// Measures one load.
    pub async fn run(&self, load: Load, operations: u64, depth: u64) -> StoreResult<Sample> {
        let left = Cell::new(operations);
        let before = self.reading();
        let workers = (0..depth).map(|_| async {
            while left.get() > 0 {
                left.set(left.get() - 1);
                match load {
                    Load::Read => self.read().await?,
                    Load::Overwrite => self.overwrite().await?,
                    Load::Whole => self.whole(left.get(), 1_000_000, self.payload()).await?,
                    Load::Small => {
                        let payload = self.payload().slice(..self.small_bytes);
                        self.whole(left.get(), 2_000_000, payload).await?;
                    }
                }
            }
            Ok(())
        });
        try_join_all(workers).await?;
        Ok(self.reading().since(&before))
    }

    async fn read(&self) -> StoreResult<()> {
        let (collection, object) = self.any();
        let offset = self.below(self.read_blocks) as u64 * BLOCK;
        let read = self.engine.read(*collection, object, offset, BLOCK).await?;
        assert_eq!(read.iter().map(Bytes::len).sum::<usize>() as u64, BLOCK, "all of it is there");
        Ok(())
    }

    async fn overwrite(&self) -> StoreResult<()> {
        let (collection, object) = self.any();
        self.write(*collection, object.clone(), self.offset(), self.payload()).await
    }

    async fn whole(&self, number: u64, first: u32, payload: Bytes) -> StoreResult<()> {
        let (collection, object_of_group) = self.any();
        let number = u32::try_from(number % WHOLES).unwrap_or(0);
        self.write(*collection, object(object_of_group.hash, first + number), 0, payload).await
    }

    /// As a placement group does: the data, the object's info, and the entry of the log.
    async fn write(
        &self,
        collection: CollectionId,
        object: ObjectId,
        offset: u64,
        payload: Bytes,
    ) -> StoreResult<()> {
        let version = {
            let mut versions = self.versions.borrow_mut();
            let version = versions.entry(collection).or_default();
            *version += 1;
            LogVersion { epoch: 1, version: *version }
        };
        let info = Bytes::from([version.version.to_le_bytes().as_slice(), &[0; INFO_BYTES]].concat());
        let attrs = BTreeMap::from([(Bytes::from_static(b"_"), info)]);
        let ops = vec![
            Op::Write { collection, object: object.clone(), offset, data: vec![payload] },
            Op::SetAttrs { collection, object, attrs },
            Op::LogAppend { collection, version, entry: Bytes::from(vec![7; LOG_ENTRY_BYTES]) },
        ];
        let submitted = self.engine.submit(Transaction { ops });
        submitted.readable.await?;
        submitted.durable.await
    }

    fn any(&self) -> &(CollectionId, ObjectId) {
        &self.objects[self.below(self.objects.len() as u64)]
    }

    fn offset(&self) -> u64 {
        self.below(OBJECT_BYTES / BLOCK) as u64 * BLOCK
    }

    fn payload(&self) -> Bytes {
        self.payloads[self.below(PAYLOADS as u64)].clone()
    }

    fn below(&self, limit: u64) -> usize {
        usize::try_from(self.core.random_u64() % limit).unwrap_or(0)
    }

    fn reading(&self) -> Reading {
        let counters: BTreeMap<_, _> = self.engine.stats().counters.into_iter().collect();
        let of = |name: &str| counters.get(name).copied().unwrap_or_default();
        let layers = ["data", "journal", "deferred", "pg_log", "superblock"];
        let Some(world) = self.core.world().downcast_ref::<UringCore>() else {
            unreachable!("this runs on io_uring")
        };
        Reading {
            now: self.core.now().0,
            foreign_wakes: world.foreign_wakes(),
            thread: clock::thread(),
            process: clock::process(),
            device_bytes: layers.iter().map(|layer| of(&format!("{layer}_bytes_written"))).sum(),
            all_bytes: self.device.bytes_written(),
            flushes: of("flushes"),
            tasks: of("tasks"),
        }
    }
}

/// Clocks and counters at a moment.
struct Reading {
    now: u64,
    foreign_wakes: u64,
    thread: Duration,
    process: Duration,
    device_bytes: u64,
    all_bytes: u64,
    flushes: u64,
    tasks: u64,
}

impl Reading {
    fn since(&self, before: &Self) -> Sample {
        let core = self.thread - before.thread;
        Sample {
            took: Duration::from_nanos(self.now - before.now),
            foreign_wakes: self.foreign_wakes - before.foreign_wakes,
            core,
            others: (self.process - before.process).saturating_sub(core),
            device_bytes: self.device_bytes - before.device_bytes,
            all_bytes: self.all_bytes - before.all_bytes,
            flushes: self.flushes - before.flushes,
            tasks: self.tasks - before.tasks,
        }
    }
}

fn object(hash: u32, number: u32) -> ObjectId {
    ObjectId {
        pool: 1,
        hash,
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::from(format!("object-{number}")),
        snap: ObjectId::HEAD,
    }
}
