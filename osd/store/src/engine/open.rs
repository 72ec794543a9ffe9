//! Formatting a window and reading what is on it: superblock, checkpoint, bitmap, log. Nothing here needs an open store.

use std::rc::Rc;

use allocator::{Allocator, BitmapAllocator, Extent};
use bluefs::kv::{KvError, KvStore, KvView, ScanLimit};
use bytes::Bytes;
use nvme::joined::member_of;
use nvme::{BlockDevice, DeviceError, DmaBuf};
use uuid::Uuid;

use super::checkpoint::CheckpointRecord;
use super::free_list;
use super::options::{FormatOptions, FreeList};
use super::writer::RESERVE_BLOCKS;
use crate::devices::{self, Part, PartError, PartHeader, Parts, Role};
use crate::journal::scan::ScanError;
use crate::keys;
use crate::limits;
use crate::superblock::{Features, INCOMPAT_MERGED_FREE_LIST, Superblock};

/// Longest single read of a region.
const READ_BYTES_MAX: u64 = 1 << 20;
/// Page of a scan while mounting.
const SCAN_PAGE: ScanLimit = ScanLimit { keys: 1024, bytes: 1 << 20 };

/// Why a store cannot be formatted or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The window is too small for its regions.
    #[error("{device} has {size} bytes; the store needs at least {need}")]
    TooSmall {
        /// Device.
        device: String,
        /// What it has.
        size: u64,
        /// What it needs.
        need: u64,
    },
    /// No superblock at all.
    #[error("{device} holds no store: {reason}")]
    NoStore {
        /// Device.
        device: String,
        /// What was found.
        reason: String,
    },
    /// The window is not the one that was formatted.
    #[error("{device} has {found} bytes, but the store on it was made for {expected}")]
    SizeChanged {
        /// Device.
        device: String,
        /// Bytes of the superblock.
        expected: u64,
        /// Bytes of the device.
        found: u64,
    },
    /// Made by a newer version.
    #[error("{device} needs features that this version does not know: {unknown:#x}")]
    Features {
        /// Device.
        device: String,
        /// Bits.
        unknown: u64,
    },
    /// What is there contradicts itself.
    #[error("the store on {device} is corrupt: {reason}")]
    Corrupt {
        /// Device.
        device: String,
        /// What and where.
        reason: String,
    },
    /// A part on another device is not there, or another.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The key-value store failed.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// The journal is damaged.
    #[error("the store on {device} cannot be replayed: {error}")]
    Journal {
        /// Device.
        device: String,
        /// What is wrong.
        error: ScanError,
    },
}

/// Result of opening.
pub type OpenResult<T> = Result<T, OpenError>;

/// Unit of allocation on a device with blocks of `block_size`.
pub fn block_of(block_size: u32) -> u64 {
    limits::BLOCK.max(block_size.into())
}

/// Where the regions of a window go; an error if it is too small.
pub fn regions(device: &dyn BlockDevice, options: &FormatOptions) -> OpenResult<Superblock> {
    let geometry = device.geometry();
    let block = block_of(geometry.block_size);
    let round = |bytes: u64| bytes.next_multiple_of(block);
    let journal = Extent::new(block, round(options.journal_bytes).max(2 * RESERVE_BLOCKS * block));
    let pg_log = Extent::new(journal.end(), round(options.pg_log_bytes).max(16 * block));
    let kv = Extent::new(pg_log.end(), round(options.kv_bytes));
    let window = geometry.size / block * block;
    // At least as much object space as metadata, or the store would be full from the start.
    let need = kv.end() * 2 + block;
    if window < need {
        return Err(OpenError::TooSmall { device: device.name().to_owned(), size: geometry.size, need });
    }
    let incompat = match options.free_list {
        FreeList::Pages => 0,
        FreeList::Merge => INCOMPAT_MERGED_FREE_LIST,
    };
    let features = Features { incompat, ..Features::default() };
    let mut superblock = Superblock {
        generation: 1,
        features,
        store: options.store,
        window,
        block: u32::try_from(block).unwrap_or(u32::MAX),
        journal_block: geometry.block_size,
        epoch: 0,
        epoch_start: 1,
        key_id: 0,
        parts: Parts::default(),
        journal,
        pg_log,
        kv,
    };
    superblock.set_parts(options.parts);
    for role in Role::BESIDE {
        let need = superblock.part_bytes_min(role);
        if let Some(part) = options.parts.get(role).filter(|part| part.len < need) {
            let device = device.name().to_owned();
            return Err(PartError::TooSmall { device, role: role.name(), len: part.len, need }.into());
        }
    }
    Ok(superblock)
}

/// Makes an empty store. What was there is gone as soon as this returns; the key-value store must be empty.
pub async fn format(device: &dyn BlockDevice, options: &FormatOptions) -> OpenResult<Superblock> {
    let superblock = regions(device, options)?;
    devices::write_headers(device, &superblock).await?;
    write_superblock(device, &superblock).await?;
    Ok(superblock)
}

/// Writes both copies, one durable before the other is touched, so that afterwards either of them is the present one.
pub async fn write_superblock(device: &dyn BlockDevice, superblock: &Superblock) -> OpenResult<u64> {
    let block = usize::try_from(superblock.block).unwrap_or(usize::MAX);
    let mut places = Superblock::places(superblock.window, superblock.block.into());
    if superblock.generation.is_multiple_of(2) {
        places.reverse();
    }
    for place in places {
        let mut buffer = DmaBuf::zeroed(block);
        let bytes = superblock.encode();
        buffer[..bytes.len()].copy_from_slice(&bytes);
        device.write(place, buffer).await?;
        device.flush().await?;
    }
    Ok(2 * u64::from(superblock.block))
}

/// Reads the superblock and checks that the parts it names are there; gives also whether writing is allowed.
pub async fn read_superblock(device: &dyn BlockDevice) -> OpenResult<(Superblock, bool)> {
    let (superblock, writable) = read_main_superblock(device).await?;
    devices::check(device, &superblock).await?;
    check_block_size(device, &superblock, |made, has| made == has)?;
    Ok((superblock, writable))
}

/// Reads the superblock, whatever other devices it names.
pub async fn read_main_superblock(device: &dyn BlockDevice) -> OpenResult<(Superblock, bool)> {
    let name = || device.name().to_owned();
    let block = block_of(device.geometry().block_size);
    let window = device.geometry().size / block * block;
    if window < 2 * block {
        return Err(OpenError::TooSmall { device: name(), size: device.geometry().size, need: 2 * block });
    }
    let mut best: Option<Superblock> = None;
    let mut problems = Vec::new();
    for place in Superblock::places(window, block) {
        let buffer = DmaBuf::zeroed(usize::try_from(block).unwrap_or(usize::MAX));
        let read = device.read(place, buffer).await;
        let decoded = read.map_err(|error| error.to_string()).and_then(|buffer| {
            Superblock::decode(buffer.freeze()).map_err(|error| format!("at {place:#x}: {error}"))
        });
        match decoded {
            Ok(found) => {
                if best.as_ref().is_none_or(|best| found.generation > best.generation) {
                    best = Some(found);
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    let Some(superblock) = best else {
        return Err(OpenError::NoStore { device: name(), reason: problems.join("; ") });
    };
    let writable =
        superblock.features.check().map_err(|unknown| OpenError::Features { device: name(), unknown })?;
    if superblock.window != window || u64::from(superblock.block) != block {
        return Err(OpenError::SizeChanged { device: name(), expected: superblock.window, found: window });
    }
    // Those of another device may be larger.
    check_block_size(device, &superblock, |made, has| made >= has)?;
    Ok((superblock, writable))
}

fn check_block_size(
    device: &dyn BlockDevice,
    superblock: &Superblock,
    fits: impl Fn(u32, u32) -> bool,
) -> OpenResult<()> {
    let (made, has) = (superblock.journal_block, device.geometry().block_size);
    if fits(made, has) {
        return Ok(());
    }
    let reason = format!("it was made for blocks of {made} bytes, the device has {has}");
    Err(OpenError::Corrupt { device: device.name().to_owned(), reason })
}

/// See [`super::Engine::add_part`].
pub async fn add_part(
    device: &dyn BlockDevice,
    part: &dyn BlockDevice,
    role: Role,
    id: Uuid,
) -> OpenResult<Superblock> {
    let name = || device.name().to_owned();
    let (before, writable) = read_superblock(device).await?;
    if !writable {
        return Err(OpenError::Features { device: name(), unknown: before.features.ro_compat });
    }
    if before.parts.get(role).is_some() {
        return Err(PartError::Present { device: name(), role: role.name() }.into());
    }
    let block_size = part.geometry().block_size;
    if block_size > before.journal_block {
        let (device, role) = (name(), role.name());
        return Err(PartError::Blocks { device, role, block_size, most: before.journal_block }.into());
    }
    let block = u64::from(before.block);
    // What it begins with may be left of an adding that did not get to its end, but not in use.
    let first = part.read(0, DmaBuf::zeroed(usize::try_from(block).unwrap_or(usize::MAX))).await;
    if let Some(header) = first.ok().and_then(|buffer| PartHeader::decode(buffer.freeze()).ok()) {
        let is_known = |role: &Role| before.parts.get(*role).is_some_and(|part| part.id == header.id);
        if let Some(other) = Role::BESIDE.into_iter().find(is_known) {
            return Err(PartError::InUse { device: name(), role: role.name(), other: other.name() }.into());
        }
    }
    let (len, need) = (part.geometry().size / block * block, before.part_bytes_min(role));
    if len < need {
        return Err(PartError::TooSmall { device: name(), role: role.name(), len, need }.into());
    }
    let mut after = before.clone();
    let mut parts = before.parts;
    parts.set(role, Some(Part { id, len }));
    after.set_parts(parts);
    after.generation += 1;
    if after.journal != before.journal {
        for (from, to) in [(before.journal, after.journal), (before.pg_log, after.pg_log)] {
            copy(device, from, part, member_of(to.start).1).await?;
        }
    }
    devices::write_header(part, 0, &after, role, Part { id, len }).await?;
    part.flush().await?;
    write_superblock(device, &after).await?;
    Ok(after)
}

/// Copies a region to a place of another device. Not durable yet.
async fn copy(device: &dyn BlockDevice, from: Extent, to: &dyn BlockDevice, place: u64) -> OpenResult<()> {
    let mut done = 0;
    while done < from.len {
        let len = (from.len - done).min(READ_BYTES_MAX);
        let buffer = DmaBuf::zeroed(usize::try_from(len).unwrap_or(usize::MAX));
        let bytes = device.read(from.start + done, buffer).await?;
        to.write(place + done, bytes).await?;
        done += len;
    }
    Ok(())
}

/// Reads a whole region.
pub async fn read_region(device: &dyn BlockDevice, region: Extent) -> OpenResult<Bytes> {
    let mut all = Vec::with_capacity(usize::try_from(region.len).unwrap_or(0));
    let mut at = region.start;
    while at < region.end() {
        let len = (region.end() - at).min(READ_BYTES_MAX);
        let buffer = device.read(at, DmaBuf::zeroed(usize::try_from(len).unwrap_or(usize::MAX))).await?;
        all.extend_from_slice(&buffer);
        at += len;
    }
    Ok(Bytes::from(all))
}

/// Everything of the key-value store that mounting needs.
pub struct FromKv {
    /// None if there was no checkpoint yet.
    pub checkpoint: Option<CheckpointRecord>,
    /// The free list as of the checkpoint; an error if it cannot be read or is not the checkpoint's.
    pub free_list: OpenResult<BitmapAllocator>,
    /// Collections, statistics and omap ids to reap, as they are stored.
    pub collections: Vec<(Bytes, Bytes)>,
    /// See `collections`.
    pub statistics: Vec<(Bytes, Bytes)>,
    /// See `collections`.
    pub reaps: Vec<(Bytes, Bytes)>,
}

/// Reads it.
pub async fn read_kv(
    device: &dyn BlockDevice,
    kv: &Rc<dyn KvStore>,
    view: &KvView,
    superblock: &Superblock,
) -> OpenResult<FromKv> {
    let corrupt = |reason: String| OpenError::Corrupt { device: device.name().to_owned(), reason };
    let checkpoint = read_checkpoint(device, kv, view).await?;
    let bitmap = free_list::read(device, kv, view, superblock).await;
    let free_list = bitmap.and_then(|bitmap| {
        let used = bitmap.capacity() - bitmap.free_bytes();
        match checkpoint.as_ref().map(|checkpoint| checkpoint.used).filter(|expected| *expected != used) {
            None => Ok(bitmap),
            Some(expected) => {
                Err(corrupt(format!("the bitmap has {used} bytes in use, the checkpoint says {expected}")))
            }
        }
    });
    let (start, end) = keys::all_collections();
    let collections = scan_all(kv, view, start, end).await?;
    let (start, end) = keys::all_statistics();
    let statistics = scan_all(kv, view, start, end).await?;
    let (start, end) = keys::all_reaps();
    let reaps = scan_all(kv, view, start, end).await?;
    Ok(FromKv { checkpoint, free_list, collections, statistics, reaps })
}

/// The checkpoint's record; none if there was no checkpoint yet.
pub async fn read_checkpoint(
    device: &dyn BlockDevice,
    kv: &Rc<dyn KvStore>,
    view: &KvView,
) -> OpenResult<Option<CheckpointRecord>> {
    let value = kv.get(view, vec![keys::CHECKPOINT]).await?.pop().flatten();
    let decoded = value.map(CheckpointRecord::decode).transpose();
    let corrupt = |reason: String| OpenError::Corrupt { device: device.name().to_owned(), reason };
    decoded.map_err(|error| corrupt(format!("checkpoint: {error}")))
}

/// The bitmap of a store without objects: everything but the regions is free.
pub fn empty_bitmap(superblock: &Superblock) -> BitmapAllocator {
    let block = u64::from(superblock.block);
    let mut bitmap = BitmapAllocator::new(superblock.window, block);
    let start = superblock.kv.end();
    let freed = bitmap.mark_free(Extent::new(start, superblock.window - block - start));
    assert!(freed.is_ok(), "the object space is within the window: {freed:?}");
    // These pages need no storing: they follow from the superblock.
    drop(bitmap.take_dirty_pages());
    bitmap
}

async fn scan_all(
    kv: &Rc<dyn KvStore>,
    view: &KvView,
    start: Bytes,
    end: Bytes,
) -> OpenResult<Vec<(Bytes, Bytes)>> {
    let mut all = Vec::new();
    scan(kv, view, start, end, |key, value| {
        all.push((key, value));
        Ok(())
    })
    .await?;
    Ok(all)
}

/// Hands every key of a range with its value to `take`, until that fails.
pub(super) async fn scan(
    kv: &Rc<dyn KvStore>,
    view: &KvView,
    mut start: Bytes,
    end: Bytes,
    mut take: impl FnMut(Bytes, Bytes) -> OpenResult<()>,
) -> OpenResult<()> {
    loop {
        let page = kv.scan(view, start, end.clone(), SCAN_PAGE).await?;
        let next = page.entries.last().filter(|_| page.more).map(|(key, _)| keys::after(key));
        for (key, value) in page.entries {
            take(key, value)?;
        }
        match next {
            Some(next) => start = next,
            None => return Ok(()),
        }
    }
}
