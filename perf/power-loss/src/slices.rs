//! The stores of a labelled device in memory, opened as the daemon opens them on a real one. Lives on the core that opens.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use allocator::Extent;
use anyhow::{Context, ensure};
use bluefs::fs::limits::ALLOC_UNIT_DEFAULT;
use bluefs::fs::{BlueFs, MountOptions, space_desk};
use bluefs_rocks::{RocksKv, RocksOptions};
use bytes::Bytes;
use nvme::{BlockDevice, BlockingPartition, MemoryDevice, Partition};
use pg::USER_ATTR_PREFIX;
use rt::{Core, Lane};
use sim::operation::Content;
use store::label::Labelled;
use store::{CollectionId, Engine, FsckLevel, ObjectId, ObjectStore, Options, Superblock, Unwatched};

use crate::history::{Digest, digest};

/// Room that BlueFS likes to have ahead, as a share of what it was given.
const LOW_WATER_SHARE: u64 = 4;
/// Objects of a page of a listing, and keys of one of an omap.
const PAGE: usize = 1024;
/// Bytes of a page of an omap.
const PAGE_BYTES: usize = 1 << 20;

/// Where a slice keeps what.
pub struct Regions {
    /// The slice.
    pub window: Extent,
    /// What is at its start.
    pub superblock: Superblock,
    /// RocksDB's sorted files.
    pub sorted_files: u64,
    /// The largest number of one of them, and so about how many there were in all.
    pub sorted_file_last: u64,
}

/// The label, if the device has one.
pub async fn label(device: &MemoryDevice) -> anyhow::Result<Labelled> {
    Ok(Labelled::read(device, None).await?)
}

/// Where every slice of a device keeps what.
pub async fn regions(device: &MemoryDevice) -> anyhow::Result<Vec<Regions>> {
    let labelled = label(device).await?;
    let mut all = Vec::new();
    for slice in 0..labelled.label.slices.len() {
        let window = labelled.window(device, slice)?;
        let view = Partition::new(Rc::new(device.clone()), "slice", window.start, window.len)?;
        let superblock = Engine::superblock(&view).await?;
        let below = BlockingPartition::new(Arc::new(device.clone()), window.start, window.len)?;
        let tree = BlueFs::load(&below, kv_places(&superblock).0)?.tree;
        let names = tree.dirs.values().flat_map(BTreeMap::keys);
        let numbers: Vec<u64> = names.filter_map(|name| name.strip_suffix(".sst")?.parse().ok()).collect();
        let sorted_file_last = numbers.iter().copied().max().unwrap_or(0);
        all.push(Regions { window, superblock, sorted_files: numbers.len() as u64, sorted_file_last });
    }
    Ok(all)
}

/// Opens a slice for writing, so that replay is done for good.
pub async fn open(
    core: &Core,
    device: &MemoryDevice,
    labelled: &Labelled,
    slice: usize,
) -> anyhow::Result<Engine> {
    let window = labelled.window(device, slice)?;
    let below: Rc<dyn BlockDevice> = Rc::new(device.clone());
    let view: Rc<dyn BlockDevice> =
        Rc::new(Partition::new(below, &format!("slice {slice}"), window.start, window.len)?);
    let superblock = Engine::superblock(&*view).await?;
    let expected = labelled.label.slices.get(slice).copied().unwrap_or_default();
    ensure!(superblock.store == expected, "the label says store {expected}, found is {}", superblock.store);
    let (superblocks, space) = kv_places(&superblock);
    let mount = MountOptions {
        superblocks,
        nonce: core.random_u64(),
        low_water: space.len / LOW_WATER_SHARE,
        lend: space.len / LOW_WATER_SHARE,
        fast: None,
    };
    let blocking = Arc::new(BlockingPartition::new(Arc::new(device.clone()), window.start, window.len)?);
    let (desk, requests) = space_desk();
    let options = RocksOptions::for_space(space.len);
    let kv = RocksKv::mount(core.clone(), blocking, mount, Some(desk), options).await.context("RocksDB")?;
    let kv = Rc::new(kv);
    let options = Options::for_device(view.geometry());
    let engine = match Engine::mount(core.clone(), view, kv.clone(), options).await {
        Ok(engine) => engine,
        Err(error) => {
            bluefs::kv::KvStore::close(&*kv).await?;
            return Err(error.into());
        }
    };
    let fs = kv.fs().clone();
    let owned = core.alien(Lane::Space, move || fs.with(|machine| Ok(machine.tree().spaces.clone()))).await?;
    let owned: Vec<Extent> = owned.into_iter().map(|(start, len)| Extent::new(start, len)).collect();
    engine.serve_space(requests, &owned, u64::from(ALLOC_UNIT_DEFAULT))?;
    Ok(engine)
}

/// Everything that fsck finds, bytes against checksums included.
pub async fn fsck(engine: &Engine) -> anyhow::Result<Vec<String>> {
    let report = engine.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await?;
    Ok(report.findings.iter().map(|f| format!("{:?}: {}: {}", f.severity, f.kind, f.detail)).collect())
}

/// The placement groups in the store.
pub async fn groups(engine: &Engine) -> anyhow::Result<Vec<CollectionId>> {
    let all = engine.collections().await?;
    Ok(all.into_iter().map(|(collection, ..)| collection).filter(|id| *id != CollectionId::META).collect())
}

/// Adds a digest of every object of clients in the store; an object that is there already is an error.
pub async fn contents(engine: &Engine, found: &mut BTreeMap<Vec<u8>, Digest>) -> anyhow::Result<()> {
    for collection in groups(engine).await? {
        let mut from = None;
        loop {
            let (objects, next) = engine.list(collection, from, PAGE).await?;
            for object in objects {
                let content = content(engine, collection, &object)
                    .await
                    .with_context(|| format!("object '{}'", object.name.escape_ascii()))?;
                let before = found.insert(object.name.to_vec(), digest(&Some(content)));
                ensure!(before.is_none(), "object '{}' is there twice", object.name.escape_ascii());
            }
            match next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
    }
    Ok(())
}

async fn content(engine: &Engine, collection: CollectionId, object: &ObjectId) -> anyhow::Result<Content> {
    let mut content = Content::default();
    let size = engine.stat(collection, object).await?.size;
    for piece in engine.read(collection, object, 0, size).await? {
        content.data.extend_from_slice(&piece);
    }
    ensure!(content.data.len() as u64 == size, "{} of {size} bytes were read", content.data.len());
    for (name, value) in engine.attrs(collection, object).await? {
        if name.first() == Some(&USER_ATTR_PREFIX) {
            content.xattrs.insert(name.slice(1..), value);
        }
    }
    content.header = engine.omap_header(collection, object).await?;
    let mut after = None;
    loop {
        let page = engine.omap_scan(collection, object, after, Bytes::new(), PAGE, PAGE_BYTES).await?;
        after = page.entries.last().map(|(key, _)| key.clone());
        content.omap.extend(page.entries);
        if !page.more {
            return Ok(content);
        }
    }
}

/// Where BlueFS keeps its two superblocks in the region it is given, and the space left between them.
pub fn kv_places(superblock: &Superblock) -> ([u64; 2], Extent) {
    const UNIT: u64 = ALLOC_UNIT_DEFAULT as u64;
    let first = superblock.kv.start.next_multiple_of(UNIT);
    let last = superblock.kv.end() / UNIT * UNIT - UNIT;
    ([first, last], Extent::new(first + UNIT, last - first - UNIT))
}
