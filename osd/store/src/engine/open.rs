//! Formatting a window and reading what is on it: superblock, checkpoint, bitmap, log. Nothing here needs an open store.

use std::rc::Rc;

use allocator::{Allocator, BitmapAllocator, Extent};
use bluefs::kv::{KvError, KvStore, KvView, ScanLimit};
use bytes::Bytes;
use nvme::{BlockDevice, DeviceError, DmaBuf};

use super::checkpoint::CheckpointRecord;
use super::free_list;
use super::options::{FormatOptions, FreeList};
use super::writer::RESERVE_BLOCKS;
use crate::devices::{self, PartError, Parts, Role};
use crate::journal::scan::ScanError;
use crate::keys;
use crate::limits;
use crate::superblock::{Features, INCOMPAT_MERGED_FREE_LIST, Superblock};

/// Longest single read of a region.
pub(super) const READ_BYTES_MAX: u64 = 1 << 20;
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
    /// The window is smaller than it was.
    #[error("{device} has {found} bytes, but the store on it has {expected}")]
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
        formatted: window,
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
    let mut superblock = regions(device, options)?;
    devices::write_headers(device, &superblock).await?;
    write_superblock(device, &mut superblock).await?;
    Ok(superblock)
}

/// Writes both copies, one durable before the other is touched, so that afterwards either of them is the present one. A
/// window that has become larger is taken up with that.
pub async fn write_superblock(device: &dyn BlockDevice, superblock: &mut Superblock) -> OpenResult<u64> {
    let block = u64::from(superblock.block);
    let window = device.size() / block * block;
    if window > superblock.window {
        superblock.grow(window);
        // Nobody looks any more where the second copy was, so the first is the only one, and the second goes first.
        superblock.generation = superblock.generation.next_multiple_of(2);
    }
    let mut places = Superblock::places(superblock.window, block);
    if superblock.generation.is_multiple_of(2) {
        places.reverse();
    }
    let bytes = superblock.encode();
    for place in places {
        let len = usize::try_from(block).unwrap_or(usize::MAX);
        device.write(place, DmaBuf::from_slice_padded(&bytes, len)).await?;
        device.flush().await?;
    }
    Ok(2 * block)
}

/// Reads the superblock and checks that the parts it names are there; gives also whether writing is allowed.
pub async fn read_superblock(device: &dyn BlockDevice) -> OpenResult<(Superblock, bool)> {
    let (superblock, writable) = read_main_superblock(device).await?;
    devices::check(device, &superblock).await?;
    Ok((superblock, writable))
}

/// Reads the superblock, whatever other devices it names.
pub async fn read_main_superblock(device: &dyn BlockDevice) -> OpenResult<(Superblock, bool)> {
    let name = || device.name().to_owned();
    let block = block_of(device.geometry().block_size);
    let window = device.size() / block * block;
    if window < 2 * block {
        return Err(OpenError::TooSmall { device: name(), size: device.size(), need: 2 * block });
    }
    let mut best: Option<Superblock> = None;
    let mut problems = Vec::new();
    let mut places = Superblock::places(window, block).to_vec();
    let mut looked = 0;
    while let Some(place) = places.get(looked).copied() {
        looked += 1;
        let buffer = DmaBuf::zeroed(usize::try_from(block).unwrap_or(usize::MAX));
        let read = device.read(place, buffer).await;
        let decoded = read.map_err(|error| error.to_string()).and_then(|buffer| {
            Superblock::decode(buffer.freeze()).map_err(|error| format!("at {place:#x}: {error}"))
        });
        match decoded {
            // Where a window ends now may lie what another store left there.
            Ok(found) if best.as_ref().is_some_and(|best| best.store != found.store) => {
                problems.push(format!("at {place:#x}: it is of store {}", found.store));
            }
            Ok(found) => {
                // The window has become larger, and nobody has taken that up: the second copy is where it was.
                let [_, second] = Superblock::places(found.window, block);
                if found.window < window && !places.contains(&second) {
                    places.push(second);
                }
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
    if superblock.window > window || u64::from(superblock.block) != block {
        return Err(OpenError::SizeChanged { device: name(), expected: superblock.window, found: window });
    }
    // It may have been made for larger blocks than the device has: those of a part that is joined to it, or was.
    let (made, has) = (superblock.journal_block, device.geometry().block_size);
    if made < has {
        let reason = format!("it was made for blocks of {made} bytes, the device has {has}");
        return Err(OpenError::Corrupt { device: name(), reason });
    }
    Ok((superblock, writable))
}

/// See [`super::Engine::copy_superblock`].
pub async fn copy_superblock(window: &dyn BlockDevice, larger: &dyn BlockDevice) -> OpenResult<()> {
    let (superblock, _) = read_main_superblock(window).await?;
    let block = u64::from(superblock.block);
    let [_, end] = Superblock::places(larger.size() / block * block, block);
    let len = usize::try_from(block).unwrap_or(usize::MAX);
    larger.write(end, DmaBuf::from_slice_padded(&superblock.encode(), len)).await?;
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
    let window = checkpoint.as_ref().map_or(superblock.window, |checkpoint| checkpoint.window_of(superblock));
    let bitmap = free_list::read(device, kv, view, superblock, window).await;
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

/// The bitmap of a store without objects in a window of so many bytes: everything but the regions is free.
pub fn empty_bitmap(superblock: &Superblock, window: u64) -> BitmapAllocator {
    let block = u64::from(superblock.block);
    let mut bitmap = BitmapAllocator::new(window, block);
    let start = superblock.kv.end();
    let freed = bitmap.mark_free(Extent::new(start, window - block - start));
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
