//! Getting onodes, shards and device blocks into memory, from the cache, the overlay, the key-value store, the device.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use allocator::Extent;
use bytes::Bytes;
use futures_util::future::join_all;
use nvme::DmaBuf;
use rt::Lane;

use super::blocks::{Blocks, Wanted};
use super::cache::Block;
use super::state::Inner;
use crate::check::length;
use crate::checksum::Checksum;
use crate::codec::DecodeError;
use crate::compression::Algorithm;
use crate::fault::Planted;
use crate::keys;
use crate::object_store::{StoreError, StoreResult};
use crate::onode::Onode;
use crate::shard::{Place, Shard};
use crate::types::{AccessHints, Keep, ObjectId};

/// Longest device read put together from adjacent blocks.
const READ_BYTES_MAX: u64 = 1 << 20;

/// An object in memory: the newest state as long as [`Loaded::is_newest`].
pub struct Loaded {
    inner: Rc<Inner>,
    /// Key of its onode.
    pub key: Bytes,
    /// None if it does not exist.
    pub onode: Option<Rc<Onode>>,
    /// Those shards that were asked for and exist.
    pub shards: BTreeMap<u32, Rc<Shard>>,
    since: u64,
}

impl Loaded {
    /// Whether nothing changed the object since it was loaded.
    pub fn is_newest(&self) -> bool {
        !self.inner.cache.borrow().overtaken(&self.key, self.since)
            || self.inner.options.fault.is(Planted::StaleLoadTaken)
    }

    /// The onode.
    pub fn existing(&self, object: &ObjectId) -> StoreResult<&Rc<Onode>> {
        self.onode.as_ref().ok_or_else(|| not_found(object))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.inner.cache.borrow_mut().end_load(&self.key);
    }
}

/// The error for an object that does not exist.
pub fn not_found(object: &ObjectId) -> StoreError {
    StoreError::NotFound(format!(
        "object {:?} of pool {}",
        String::from_utf8_lossy(&object.name),
        object.pool
    ))
}

impl Inner {
    /// Loads an object with those of its shards for which `wanted` says so. What it gives was the newest state at
    /// some moment of the call; ask [`Loaded::is_newest`] before relying on more.
    pub async fn load(
        self: &Rc<Self>,
        object: &ObjectId,
        wanted: impl Fn(&Onode, u32) -> bool,
    ) -> StoreResult<Loaded> {
        let key = keys::onode(object);
        loop {
            let since = self.cache.borrow_mut().begin_load(&key);
            let mut loaded = Loaded {
                inner: Rc::clone(self),
                key: key.clone(),
                onode: None,
                shards: BTreeMap::new(),
                since,
            };
            let cached = self.cache.borrow_mut().onode(&key);
            loaded.onode = match cached {
                Some(onode) => {
                    self.counters.cache_hits.add(1);
                    Some(onode)
                }
                None => self.fetch_onode(&loaded, object).await?,
            };
            let Some(onode) = loaded.onode.clone() else {
                if loaded.is_newest() {
                    return Ok(loaded);
                }
                continue;
            };
            let mut missing = Vec::new();
            for number in onode.shards.iter().copied().filter(|number| wanted(&onode, *number)) {
                let cached = self.cache.borrow().shard(&key, number);
                match cached {
                    Some(shard) => {
                        self.counters.cache_hits.add(1);
                        loaded.shards.insert(number, shard);
                    }
                    None => missing.push(number),
                }
            }
            if !missing.is_empty() {
                self.fetch_shards(&mut loaded, &onode, missing).await?;
            }
            if loaded.is_newest() {
                return Ok(loaded);
            }
        }
    }

    async fn fetch_onode(&self, loaded: &Loaded, object: &ObjectId) -> StoreResult<Option<Rc<Onode>>> {
        self.counters.cache_misses.add(1);
        let key = &loaded.key;
        let Some(value) = self.fetch(vec![key.clone()]).await?.pop().flatten() else { return Ok(None) };
        let onode = Onode::decode(value, key, object).map_err(|error| self.corrupt("onode", key, &error))?;
        let onode = Rc::new(onode);
        if loaded.is_newest() {
            self.cache.borrow_mut().put_onode(key, Rc::clone(&onode));
        }
        Ok(Some(onode))
    }

    async fn fetch_shards(&self, loaded: &mut Loaded, onode: &Onode, missing: Vec<u32>) -> StoreResult<()> {
        self.counters.cache_misses.add(u64::try_from(missing.len()).unwrap_or(0));
        let keys: Vec<Bytes> = missing.iter().map(|number| keys::shard(&loaded.key, *number)).collect();
        let values = self.fetch(keys.clone()).await?;
        for ((number, key), value) in missing.into_iter().zip(keys).zip(values) {
            let Some(value) = value else {
                if !loaded.is_newest() {
                    // The shard went while we looked: the caller begins again.
                    return Ok(());
                }
                let error = DecodeError::Value { what: "missing shard", at: 0, value: number.into() };
                return Err(self.corrupt("extent map", &key, &error));
            };
            let shard = Shard::decode(value, number, onode.shard_span, self.block)
                .map_err(|error| self.corrupt("extent map", &key, &error))?;
            let shard = Rc::new(shard);
            if loaded.is_newest() {
                self.cache.borrow_mut().put_shard(&loaded.key, number, Rc::clone(&shard));
            }
            loaded.shards.insert(number, shard);
        }
        Ok(())
    }

    /// Values of keys in the newest state.
    pub async fn fetch(&self, keys: Vec<Bytes>) -> StoreResult<Vec<Option<Bytes>>> {
        let pin = self.overlay.pin();
        pin.get(&*self.kv, keys).await.map_err(|error| self.kv_failed(&error))
    }

    /// Reads blocks, each verified against its checksum. The places must be those of the newest state at the moment
    /// of the call: everything that decides where bytes come from happens before the first await.
    pub async fn read_blocks(
        self: &Rc<Self>,
        object: &ObjectId,
        all: &Wanted,
        hints: AccessHints,
    ) -> StoreResult<Blocks> {
        let mut blocks = Blocks::stored(self.read_stored(object, &all.places, hints).await?);
        let unusable = |place: Place, problem: String| {
            StoreError::Io(format!(
                "object {object}, byte {}: the compressed blob at {:#x} of {} cannot be decompressed: {problem}",
                place.logical,
                place.blob,
                self.device.name()
            ))
        };
        for blob in all.packed().map_err(|place| unusable(place, "it is described in two ways".to_owned()))? {
            let (algorithm, bytes, len) = blob.stored(&blocks, self.block);
            let raw = self.with_codec(algorithm, move || algorithm.decompress(&bytes, len)).await;
            let raw =
                raw.map_err(|problem| unusable(blob.place, format!("{}: {problem}", algorithm.name())))?;
            blocks.add(blob, raw, self.block);
        }
        Ok(blocks)
    }

    /// Compresses or decompresses a blob: on the core, and others have their turn, or elsewhere if it takes longer than a
    /// core may be busy.
    pub async fn with_codec<T: Send + 'static>(
        &self,
        algorithm: Algorithm,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if algorithm.is_slow() {
            return self.core.alien(Lane::Read, work).await;
        }
        let done = work();
        self.core.yield_now().await;
        done
    }

    /// The same for blocks as they are stored, by address.
    pub async fn read_stored(
        self: &Rc<Self>,
        object: &ObjectId,
        places: &[Place],
        hints: AccessHints,
    ) -> StoreResult<BTreeMap<u64, Bytes>> {
        let mut blocks = BTreeMap::new();
        let mut wanted: BTreeMap<u64, Place> = BTreeMap::new();
        for place in places {
            if let Some(kept) = self.kept_block(place, hints) {
                blocks.insert(place.address, kept);
                continue;
            }
            match self.deferred.newest(place.address) {
                Some(payload) => {
                    if !place.checksum.matches(&payload) {
                        return Err(self.mismatch(object, place, &payload));
                    }
                    self.keep_block(place, || payload.clone(), hints);
                    blocks.insert(place.address, payload);
                }
                None => {
                    // Two shards may each be sound and claim the same block: only one of them would be verified.
                    let other = wanted.insert(place.address, *place);
                    let is_same =
                        |other: &Place| (other.birth, other.checksum) == (place.birth, place.checksum);
                    if !other.as_ref().is_none_or(is_same) {
                        return Err(StoreError::Io(format!(
                            "object {object}, byte {}: the block at {:#x} of {} is claimed twice; fsck tells more",
                            place.logical,
                            place.address,
                            self.device.name()
                        )));
                    }
                }
            }
        }
        if wanted.is_empty() {
            return Ok(blocks);
        }
        let reading = self.traffic.read();
        let runs = self.runs(wanted.keys().copied());
        let reads: Vec<_> = runs.iter().map(|run| self.read_device(*run)).collect();
        let buffers = join_all(reads).await;
        let mut again = BTreeSet::new();
        for (run, buffer) in runs.iter().zip(buffers) {
            let buffer = match buffer {
                Ok(buffer) => buffer.freeze(),
                // Block by block: one that is bad is no reason to ask for the others elsewhere.
                Err(error) if self.may_heal(&error) => {
                    again.extend(wanted.range(run.start..run.end()).map(|(address, _)| *address));
                    continue;
                }
                Err(error) => return Err(self.device_failed(&error)),
            };
            self.counters.data_bytes_read.add(run.len);
            for address in (run.start..run.end()).step_by(usize::try_from(self.block).unwrap_or(1)) {
                let at = usize::try_from(address - run.start).unwrap_or(usize::MAX);
                let block = buffer.slice(at..at + usize::try_from(self.block).unwrap_or(usize::MAX));
                match wanted.get(&address).filter(|place| place.checksum.matches(&block)) {
                    Some(place) => self.keep_read_block(place, &block, hints),
                    None => {
                        self.counters.checksum_mismatches.add(1);
                        again.insert(address);
                    }
                }
                blocks.insert(address, block);
            }
        }
        let mut bad = Vec::new();
        // Once more: the bytes may have been damaged on their way, and then a second look is right.
        for address in again {
            let Some(place) = wanted.get(&address) else { continue };
            match self.second_look(object, place).await {
                Ok(block) => {
                    self.keep_read_block(place, &block, hints);
                    blocks.insert(address, block);
                }
                Err(error) if self.copies.borrow().is_none() => return Err(error),
                Err(error) => bad.push((*place, error)),
            }
        }
        // What others have comes from elsewhere, and may take long: it holds nothing up here.
        drop(reading);
        for (place, error) in bad {
            let block = self.heal(object, &place).await.ok_or(error)?;
            blocks.insert(place.address, block);
        }
        Ok(blocks)
    }

    async fn second_look(&self, object: &ObjectId, place: &Place) -> StoreResult<Bytes> {
        let buffer = self.read_device(Extent::new(place.address, self.block)).await;
        let block = buffer.map_err(|error| self.device_failed(&error))?.freeze();
        match place.checksum.matches(&block) || self.options.fault.is(Planted::ChecksumNotVerified) {
            true => Ok(block),
            false => Err(self.mismatch(object, place, &block)),
        }
    }

    /// The block at a place of the newest state, if it is in memory and may be taken from there.
    fn kept_block(&self, place: &Place, hints: AccessHints) -> Option<Bytes> {
        if hints.verifies {
            return None;
        }
        let mut blocks = self.blocks.borrow_mut();
        let found = blocks.get(place)?;
        if hints.keep == Keep::Not {
            blocks.forget(place.address);
        }
        Some(found)
    }

    /// Keeps a block that came from the device.
    fn keep_read_block(&self, place: &Place, block: &Bytes, hints: AccessHints) {
        // A payload that came while the device was read is newer. It is not in place before the read has ended.
        if self.deferred.newest(place.address).is_none() {
            self.keep_block(place, || Bytes::copy_from_slice(block), hints);
        }
    }

    fn keep_block(&self, place: &Place, data: impl FnOnce() -> Bytes, hints: AccessHints) {
        let mut blocks = self.blocks.borrow_mut();
        if hints.verifies || hints.keep == Keep::Not || blocks.bytes_max() == 0 {
            return;
        }
        let block = Block { birth: place.birth, checksum: place.checksum, data: data() };
        blocks.put(place.address, block, hints.keep == Keep::Long);
    }

    fn mismatch(&self, object: &ObjectId, place: &Place, block: &[u8]) -> StoreError {
        let found = Checksum::of(place.checksum.kind(), block);
        StoreError::Io(format!(
            "wrong checksum in object {object}, byte {}, at {:#x} of {}: expected {}, got {found}",
            place.logical,
            place.address,
            self.device.name(),
            place.checksum
        ))
    }

    /// Logs that data cannot be read; others may ask for it as often as they like.
    pub fn unreadable(&self, error: &StoreError) {
        if let (StoreError::Io(reason), Some(more)) = (error, self.read_errors.admit(self.core.now())) {
            log::error!("{reason}; who reads it gets EIO{more}");
        }
    }

    /// The extent that one of these blocks shares with data on its way to the device, to wait for.
    pub fn blocked_by_write(&self, places: &[Place]) -> Option<Rc<rt::sync::Event>> {
        places.iter().find_map(|place| self.traffic.being_written(Extent::new(place.address, self.block)))
    }

    fn read_device(&self, run: Extent) -> rt::LocalBoxFuture<'static, nvme::DeviceResult<DmaBuf>> {
        self.device.read(run.start, DmaBuf::recycled(usize::try_from(run.len).unwrap_or(usize::MAX)))
    }

    /// Adjacent blocks as one, up to a bound.
    fn runs(&self, addresses: impl Iterator<Item = u64>) -> Vec<Extent> {
        let mut runs: Vec<Extent> = Vec::new();
        for address in addresses {
            match runs.last_mut() {
                Some(run) if run.end() == address && run.len < READ_BYTES_MAX => run.len += self.block,
                _ => runs.push(Extent::new(address, self.block)),
            }
        }
        runs
    }
}

/// The numbers of the first and last shard that `[offset, offset + len)` touches; `len` > 0.
pub fn shard_range(offset: u64, len: u64, span: u32) -> (u32, u32) {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let span = u64::from(span);
    (narrow(offset / span), narrow((offset + length_max(len) - 1) / span))
}

fn length_max(len: u64) -> u64 {
    len.max(1)
}

/// Bytes of a chunk list.
pub fn total(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| length(chunk)).sum()
}
