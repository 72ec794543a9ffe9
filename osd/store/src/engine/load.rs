//! Getting onodes, shards and device blocks into memory, from the cache, the overlay, the key-value store, the device.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use allocator::Extent;
use bytes::Bytes;
use futures_util::future::join_all;
use nvme::{DeviceError, DmaBuf};
use rt::Lane;
use smallvec::SmallVec;

use super::blocks::{Blocks, Wanted};
use super::cache::{Block, Since};
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
use crate::shard_numbers::ShardNumbers;
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
    since: Since,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.inner.cache.borrow_mut().end_load(self.since);
    }
}

impl Loaded {
    /// Whether nothing changed the object since it was loaded.
    pub fn is_newest(&self) -> bool {
        !self.inner.cache.borrow().overtaken(self.since)
            || self.inner.options.fault.is(Planted::StaleLoadTaken)
    }

    /// The onode.
    pub fn existing(&self, object: &ObjectId) -> StoreResult<&Rc<Onode>> {
        self.onode.as_ref().ok_or_else(|| not_found(object))
    }
}

/// Why blocks were not read.
#[derive(Clone)]
pub enum Unread {
    /// What was read, twice, does not match its checksum, and nobody else has what does.
    Damaged(StoreError),
    /// The device could not read these bytes, twice, and nobody else has them.
    Unreadable(StoreError),
    /// It says nothing of what is there: another time it may be read.
    Failed(StoreError),
}

impl Unread {
    /// What is said of it.
    pub fn into_error(self) -> StoreError {
        match self {
            Self::Damaged(error) | Self::Unreadable(error) | Self::Failed(error) => error,
        }
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
    /// Loads an object with those of its shards that `wanted` names. What it gives was the newest state at
    /// some moment of the call; ask [`Loaded::is_newest`] before relying on more.
    pub async fn load(
        self: &Rc<Self>,
        object: &ObjectId,
        wanted: impl Fn(&Onode) -> ShardNumbers,
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
            for number in wanted(&onode).iter() {
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

    /// The same for blocks as they are stored, by address: at least these.
    pub async fn read_stored(
        self: &Rc<Self>,
        object: &ObjectId,
        places: &[Place],
        hints: AccessHints,
    ) -> StoreResult<BTreeMap<u64, Bytes>> {
        self.read_verified(object, places, hints).await.map_err(Unread::into_error)
    }

    /// The same; tells damage from what may be better another time. What is under one checksum is read whole.
    pub async fn read_verified(
        self: &Rc<Self>,
        object: &ObjectId,
        places: &[Place],
        hints: AccessHints,
    ) -> Result<BTreeMap<u64, Bytes>, Unread> {
        let mut blocks = BTreeMap::new();
        // Those under a checksum with others that are not in memory.
        let mut asked = BTreeSet::new();
        // By where what is under their checksums begins, and how many blocks it has.
        let mut wanted: BTreeMap<(u64, u32), Place> = BTreeMap::new();
        for place in places {
            if let Some(kept) = self.kept_block(place, hints) {
                blocks.insert(place.address, kept);
                continue;
            }
            // Whatever is written in place has a checksum of its own.
            if let Some(payload) = self.deferred.newest(place.address).filter(|_| place.chunk_blocks == 1) {
                if !place.checksum.matches(&payload) {
                    return Err(Unread::Damaged(self.mismatch(object, place, &payload)));
                }
                if self.keeps_read(hints) {
                    self.keep_block(place, payload.clone(), hints);
                }
                blocks.insert(place.address, payload);
                continue;
            }
            if place.chunk_blocks > 1 {
                asked.insert(place.address);
            }
            // Two shards may each be sound and claim the same block: only one of them would be verified.
            let other = wanted.insert((place.chunk, place.chunk_blocks), *place);
            if other.is_some_and(|other| (other.birth, other.checksum) != (place.birth, place.checksum)) {
                return Err(self.claimed_twice(object, place));
            }
        }
        if wanted.is_empty() {
            return Ok(blocks);
        }
        let addresses = self.addresses(&wanted).map_err(|place| self.claimed_twice(object, place))?;
        let reading = self.traffic.read();
        let runs = self.runs(addresses.into_iter());
        let reads: Vec<_> = runs.iter().map(|run| self.read_device(*run)).collect();
        let buffers = join_all(reads).await;
        for (run, buffer) in runs.iter().zip(buffers) {
            let buffer = match buffer {
                Ok(buffer) => buffer.freeze(),
                // One by one: one that is bad is no reason to take the others for bad.
                Err(DeviceError::Io { .. }) => continue,
                Err(error) => return Err(Unread::Failed(self.device_failed(&error))),
            };
            self.counters.data_bytes_read.add(run.len);
            blocks.extend(self.cut(run.start, &buffer));
        }
        let mut again = Vec::new();
        for place in wanted.values() {
            let parts = place.chunk_places(self.block).map(|place| Some(&**blocks.get(&place.address)?));
            let parts: Option<SmallVec<[&[u8]; 1]>> = parts.collect();
            match parts.map(|parts| place.checksum.matches_all(parts)) {
                Some(true) => self.keep_read_blocks(place, &blocks, &asked, hints),
                Some(false) => {
                    self.counters.checksum_mismatches.add(1);
                    again.push(place);
                }
                None => again.push(place),
            }
        }
        let mut bad = Vec::new();
        // Once more: the bytes may have been damaged on their way, or the device may read them at another try.
        for place in again {
            match self.second_look(object, place).await {
                Ok(bytes) => {
                    blocks.extend(self.cut(place.chunk, &bytes));
                    self.keep_read_blocks(place, &blocks, &asked, hints);
                }
                Err(error) if self.copies.borrow().is_none() => return Err(error),
                Err(error) => bad.push((*place, error)),
            }
        }
        // What others have comes from elsewhere, and may take long: it holds nothing up here.
        drop(reading);
        for (place, bytes) in self.heal(object, bad).await? {
            blocks.extend(self.cut(place.chunk, &bytes));
        }
        Ok(blocks)
    }

    /// Addresses of what is under the checksums of these places, which ascend, each once. Of a block that several objects share
    /// one may have a checksum of its own and another one a checksum of several; an error with a place if it is not one block.
    fn addresses<'a>(&self, wanted: &'a BTreeMap<(u64, u32), Place>) -> Result<Vec<u64>, &'a Place> {
        if wanted.keys().all(|(_, blocks)| *blocks == 1) {
            return Ok(wanted.keys().map(|(address, _)| *address).collect());
        }
        let mut addresses = Vec::new();
        // Where the farthest one ends, and its birth.
        let (mut end, mut birth) = (0, 0);
        for place in wanted.values() {
            let chunk = place.chunk(self.block);
            if chunk.start < end && place.birth != birth {
                return Err(place);
            }
            let new = place.chunk_places(self.block).map(|place| place.address);
            addresses.extend(new.skip_while(|address| *address < end));
            (end, birth) = (end.max(chunk.end()), place.birth);
        }
        Ok(addresses)
    }

    fn claimed_twice(&self, object: &ObjectId, place: &Place) -> Unread {
        Unread::Failed(StoreError::Io(format!(
            "object {object}, byte {}: the block at {:#x} of {} is claimed twice; fsck tells more",
            place.logical,
            place.address,
            self.device.name()
        )))
    }

    /// The blocks of bytes that begin at an address.
    fn cut(&self, start: u64, bytes: &Bytes) -> impl Iterator<Item = (u64, Bytes)> {
        let step = usize::try_from(self.block).unwrap_or(usize::MAX);
        let bytes = bytes.clone();
        let offsets = (0..bytes.len()).step_by(step);
        (start..).step_by(step).zip(offsets).map(move |(address, at)| (address, bytes.slice(at..at + step)))
    }

    async fn second_look(&self, object: &ObjectId, place: &Place) -> Result<Bytes, Unread> {
        let buffer = self.read_device(place.chunk(self.block)).await;
        let bytes = match buffer {
            Ok(buffer) => buffer.freeze(),
            Err(error @ DeviceError::Io { .. }) => {
                return Err(Unread::Unreadable(self.device_failed(&error)));
            }
            Err(error) => return Err(Unread::Failed(self.device_failed(&error))),
        };
        match place.checksum.matches(&bytes) || self.options.fault.is(Planted::ChecksumNotVerified) {
            true => Ok(bytes),
            false => Err(Unread::Damaged(self.mismatch(object, place, &bytes))),
        }
    }

    /// The block at a place of the newest state, if it is in memory and may be taken from there.
    pub(super) fn kept_block(&self, place: &Place, hints: AccessHints) -> Option<Bytes> {
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

    /// Keeps what came from the device: those that were asked for, which are known where several are under one checksum,
    /// and those beside them.
    fn keep_read_blocks(
        &self,
        place: &Place,
        blocks: &BTreeMap<u64, Bytes>,
        asked: &BTreeSet<u64>,
        hints: AccessHints,
    ) {
        if !self.keeps_read(hints) {
            return;
        }
        // A read of the next block, to which all of them must be read again, finds the chunk remembered.
        let is_kept = hints.is_worth_room() || self.blocks.borrow_mut().admits(place.chunk);
        if !is_kept {
            return;
        }
        for place in place.chunk_places(self.block) {
            let Some(data) = blocks.get(&place.address) else { continue };
            // A payload that came while the device was read is newer. It is not in place before the read has ended.
            if self.deferred.newest(place.address).is_some() || self.blocks.borrow().has(&place) {
                continue;
            }
            let data = Bytes::copy_from_slice(data);
            if place.chunk_blocks == 1 || asked.contains(&place.address) {
                self.keep_block(&place, data, hints);
                continue;
            }
            let block = Block { birth: place.birth, checksum: place.checksum, data };
            self.blocks.borrow_mut().put_beside(place.address, block);
        }
    }

    fn keeps_read(&self, hints: AccessHints) -> bool {
        !hints.verifies && hints.keep != Keep::Not && self.blocks.borrow().bytes_max() > 0
    }

    fn keep_block(&self, place: &Place, data: Bytes, hints: AccessHints) {
        let block = Block { birth: place.birth, checksum: place.checksum, data };
        self.blocks.borrow_mut().put(place.address, block, hints.keep == Keep::Long);
    }

    fn mismatch(&self, object: &ObjectId, place: &Place, bytes: &[u8]) -> StoreError {
        let found = Checksum::of(place.checksum.kind(), bytes);
        let of = match place.chunk_blocks {
            1 => String::new(),
            blocks => format!(", {blocks} blocks"),
        };
        StoreError::Io(format!(
            "wrong checksum in object {object}, byte {}, at {:#x} of {}{of}: expected {}, got {found}",
            place.chunk_logical(),
            place.chunk,
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
        places.iter().find_map(|place| self.traffic.being_written(place.chunk(self.block)))
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
