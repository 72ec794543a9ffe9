//! What lies where on the devices of a store at rest.

use std::collections::BTreeMap;
use std::ops::Range;

use allocator::Extent;
use bluefs::fs::BlueFs;
use nvme::MemoryDevice;
use nvme::joined::member_of;
use rt::Core;
use rt::sim::RandomStream;
use store::label::Labelled;
use store::{CollectionId, Engine, ObjectId, ObjectStore, Superblock, limits};

use crate::stack::{Setup, kv_places, mount};
use crate::views::{Slice, Views};

/// Name of the blocks of objects: a flip there is never harmless.
pub const DATA: &str = "data";
/// Name of those that the next mount writes again.
const JOURNALLED: &str = "data in the journal, too";
/// Bytes looked at for whether they are in use.
const SECTOR: usize = 512;
/// Bytes at the front and at the end of the main device that hold labels.
const LABELS: (u64, u64) = (1 << 20, 64 << 10);

/// Runs of bytes that hold one kind of thing, as addresses of the device that holds all.
pub struct Place {
    /// What.
    pub name: &'static str,
    /// How often it is chosen, compared with others.
    pub weight: u64,
    runs: Vec<Range<u64>>,
}

impl Place {
    /// Blocks of objects: those that are read from the device, and those that a mount writes again.
    pub fn of_data([read, written_again]: [Vec<Range<u64>>; 2]) -> impl Iterator<Item = Self> {
        let places = [(DATA, 22, read), (JOURNALLED, 2, written_again)];
        let places = places.map(|(name, weight, runs)| Self { name, weight, runs });
        places.into_iter().filter(|place| !place.runs.is_empty())
    }

    /// Any byte of it.
    pub fn byte(&self, dice: &mut RandomStream) -> u64 {
        let mut drawn = dice.below(self.runs.iter().map(|run| run.end - run.start).sum());
        for run in &self.runs {
            match drawn.checked_sub(run.end - run.start) {
                None => return run.start + drawn,
                Some(left) => drawn = left,
            }
        }
        unreachable!("less than the sum was drawn")
    }
}

/// Those of a store, which has been on `memory` since it came to rest; and the blocks of its objects.
pub async fn places(
    setup: &Setup,
    memory: &MemoryDevice,
    store: &Engine,
) -> Result<(Vec<Place>, Vec<DataBlock>), String> {
    let views = Views::plain(&setup.devices, memory);
    let labelled = Labelled::read(&**views.main(), None).await.map_err(text)?;
    let window = labelled.window(&**views.main(), setup.slice).map_err(text)?;
    let Slice { view, below } = views.slice(window, true).map_err(text)?;
    let superblock = Engine::superblock(&*view).await.map_err(text)?;
    let (copies, _) = kv_places(&superblock, setup.unit);
    let fs = BlueFs::load(&*below, copies).map_err(text)?;

    let on_device = |extent: Extent| {
        let start = if member_of(extent.start).0 == 0 { window.start + extent.start } else { extent.start };
        start..start + extent.len
    };
    let (block, size) = (u64::from(superblock.block), setup.devices.main.size);
    let own = Superblock::places(superblock.window, block).map(|start| Extent::new(start, block));
    let beside = setup.devices.windows().into_iter().skip(1);
    let files = fs.tree.files.values().flat_map(|inode| inode.extents.clone());
    let unit = u64::from(setup.unit);
    let all: [(&str, u64, Vec<Range<u64>>); 8] = [
        ("label", 3, vec![0..LABELS.0, size - LABELS.1..size]),
        ("superblock", 3, own.map(on_device).to_vec()),
        ("header of a part", 3, beside.map(|(_, part)| part.start..part.start + block).collect()),
        ("journal", 20, vec![on_device(superblock.journal)]),
        ("log of placement groups", 6, vec![on_device(superblock.pg_log)]),
        ("superblock of BlueFS", 3, copies.map(|start| on_device(Extent::new(start, unit))).to_vec()),
        ("log of BlueFS", 12, fs.superblock.log.iter().copied().map(on_device).collect()),
        ("key-value files", 25, files.map(on_device).collect()),
    ];
    let in_use = |(name, weight, runs): (_, _, Vec<Range<u64>>)| {
        let runs = runs.into_iter().flat_map(|run| used(memory, run)).collect();
        Place { name, weight, runs }
    };
    let windows = setup.devices.windows().into_iter().map(|(_, window)| window).collect();
    let anywhere = Place { name: "anywhere", weight: 3, runs: windows };
    let places = all.into_iter().map(in_use).filter(|place| !place.runs.is_empty());
    Ok((places.chain([anywhere]).collect(), blocks(store, window.start).await?))
}

/// The sectors that are not all zeroes.
fn used(memory: &MemoryDevice, run: Range<u64>) -> Vec<Range<u64>> {
    let image = memory.image();
    let sectors = run.step_by(SECTOR).map(|at| at..at + SECTOR as u64);
    sectors
        .filter(|sector| {
            let mut bytes = [0; SECTOR];
            image.read(sector.start, &mut bytes);
            bytes.iter().any(|byte| *byte != 0)
        })
        .collect()
}

/// A block of an object.
pub struct DataBlock {
    collection: CollectionId,
    object: ObjectId,
    offset: u64,
    /// Where it is on the device that holds all.
    start: u64,
}

/// The blocks of all objects, each once.
async fn blocks(store: &Engine, window: u64) -> Result<Vec<DataBlock>, String> {
    let mut blocks: BTreeMap<u64, DataBlock> = BTreeMap::new();
    for (collection, ..) in store.collections().await.map_err(text)? {
        let (objects, _) = store.list(collection, None, limits::LIST_MAX).await.map_err(text)?;
        for object in objects {
            for place in store.block_places(collection, &object).await.map_err(text)? {
                let (offset, start) = (place.offset, window + place.address);
                blocks.insert(start, DataBlock { collection, object: object.clone(), offset, start });
            }
        }
    }
    Ok(blocks.into_values().collect())
}

/// Of these blocks, those that a store reads from the device, and those that its mount writes again, as the journal has
/// them, too. `device` is a copy to be spoilt.
pub async fn divide(
    core: &Core,
    setup: &Setup,
    device: &MemoryDevice,
    blocks: Vec<DataBlock>,
) -> Result<[Vec<Range<u64>>; 2], String> {
    blocks.iter().for_each(|block| device.corrupt(block.start, 1));
    let mounted = mount(core, setup, &Views::plain(&setup.devices, device)).await;
    let store = mounted.map_err(|error| error.to_string())?.engine;
    let mut divided = [Vec::new(), Vec::new()];
    for DataBlock { collection, object, offset, start } in blocks {
        let is_written_again = store.read(collection, &object, offset, 1).await.is_ok();
        divided[usize::from(is_written_again)].push(start..start + limits::BLOCK);
    }
    store.close().await.map_err(text)?;
    Ok(divided)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
