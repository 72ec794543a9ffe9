//! What `bench engine` and `bench osd` make their store on.

use std::sync::Arc;

use anyhow::ensure;
use load::counted::Written;
use load::setup::{Below, Setup};
use load::{Job, targets::Shape};
use nvme::{DeviceFile, MemoryDevice};
use rt::Core;

use super::options::StoreOptions;
use super::place::{Place, PlaceOptions};
use crate::cli::Media;
use crate::size::show_size;

/// Bytes of a store besides its objects: freed space on its way back, keys, journal.
const ROOM_BYTES: u64 = 1 << 30;
/// The least of that, for objects that take little.
const ROOM_BYTES_MIN: u64 = 256 << 20;

/// A device or memory for a store. The place is kept until the run is over.
pub struct StorePlace {
    place: Option<Place>,
    bytes: u64,
}

/// The same for the core that the store is on.
#[derive(Clone)]
pub struct StoreDevice {
    file: Option<Arc<DeviceFile>>,
    bytes: u64,
}

/// How objects are cut; an error if they cannot be.
pub fn shape(options: &StoreOptions, job: &Job, groups: u32) -> anyhow::Result<Shape> {
    let (objects, object_bytes, block_bytes) = (options.objects, options.object_size, job.block_size);
    job.positions_in(object_bytes)?;
    ensure!(
        object_bytes.is_multiple_of(block_bytes),
        "--object-size {object_bytes} is not a multiple of --block-size {block_bytes}: give one that is"
    );
    job.check(objects.saturating_mul(object_bytes / block_bytes))?;
    Ok(Shape { objects, object_bytes, block_bytes, groups })
}

/// What the store is like, where that was asked for.
pub fn setup(options: &StoreOptions) -> Setup {
    Setup { kv: options.kv, data_cache: options.data_cache, ..Setup::default() }
}

impl StorePlace {
    /// Opens the device, or plans the memory. There must be room for the objects.
    pub fn open(options: &StoreOptions, shape: &Shape) -> anyhow::Result<Self> {
        let data = shape.objects.saturating_mul(shape.object_bytes);
        let place = match &options.path {
            Some(path) => {
                let rotational = options.media.map(|media| media == Media::Hdd);
                let wanted =
                    PlaceOptions { size: options.size, writes: true, force: options.force, rotational };
                Some(Place::open(path, &wanted)?)
            }
            None => None,
        };
        let in_memory = options.size.unwrap_or(data.saturating_add(ROOM_BYTES));
        let bytes = place.as_ref().map_or(in_memory, Place::bytes);
        let least = data.saturating_add((data / 4).clamp(ROOM_BYTES_MIN, ROOM_BYTES));
        ensure!(
            bytes >= least,
            "{} are too few for {} of objects, which need at least {}: give a larger --size or fewer --objects",
            show_size(bytes),
            show_size(data),
            show_size(least)
        );
        Ok(Self { place, bytes })
    }

    /// For the core that the store is on.
    pub fn device(&self) -> StoreDevice {
        StoreDevice { file: self.place.as_ref().map(|place| place.file().clone()), bytes: self.bytes }
    }

    /// Rows of the report.
    pub fn about(&self, options: &StoreOptions) -> Vec<(&'static str, String)> {
        let mut about = match &self.place {
            Some(place) => place.about(),
            None => vec![("path", "memory of this process".to_owned()), ("used", show_size(self.bytes))],
        };
        let kv = match options.kv {
            load::setup::Kv::Rocksdb => "rocksdb",
            load::setup::Kv::Memory => "memory",
        };
        let cache = options.data_cache.map_or_else(|| "as an OSD's without a target".to_owned(), show_size);
        about.extend([
            ("objects", options.objects.to_string()),
            ("object size", show_size(options.object_size)),
            ("keys", kv.to_owned()),
            ("cache of data", cache),
        ]);
        about
    }
}

impl StoreDevice {
    /// The device on its core, with its writes counted.
    pub fn below(&self, core: &Core, written: &Written) -> anyhow::Result<Below> {
        match &self.file {
            Some(file) => Below::file(core, file, self.bytes, written),
            None => Ok(Below::memory(&MemoryDevice::new(self.bytes.next_multiple_of(1 << 20)), written)),
        }
    }
}
