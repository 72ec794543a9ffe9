//! The reading half of the seam. A read of data plans at one instant with the newest metadata in memory, so that it
//! sees whole transactions only and never bytes that were replaced meanwhile.

use std::collections::BTreeMap;
use std::rc::Rc;

use bluefs::kv::ScanLimit;
use bytes::Bytes;
use rt::Group;

use super::blocks::{Blocks, Wanted};
use super::load::{Loaded, not_found, shard_range};
use super::state::Inner;
use crate::check::length;
use crate::keys::{self, ObjectKey};
use crate::limits;
use crate::object_store::{OmapPage, StoreError, StoreResult, Summed};
use crate::shard::{Piece, Shard};
use crate::shard_numbers::ShardNumbers;
use crate::types::{AccessHints, CollectionId, LogVersion, ObjectId, ObjectStat, Pattern};

/// Zeroes for holes, in slices.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// Where a block of an object lies on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// Where the block begins in the object, bytes.
    pub offset: u64,
    /// Where it begins on the store's device, bytes.
    pub address: u64,
    /// Record that allocated it: with the address it tells this block from any that was there before.
    pub birth: u64,
    /// It is compressed, together with others that have the same address.
    pub is_packed: bool,
}

impl Inner {
    /// See the seam.
    pub async fn read(
        self: Rc<Self>,
        collection: CollectionId,
        object: ObjectId,
        offset: u64,
        len: u64,
        hints: AccessHints,
    ) -> StoreResult<Vec<Summed>> {
        self.check_member(collection, &object)?;
        loop {
            self.check_open()?;
            let loaded = self.load_range(&object, offset, len).await?;
            let size = loaded.existing(&object)?.size;
            let end = offset.saturating_add(len).min(size);
            if offset >= end {
                return Ok(Vec::new());
            }
            let wanted = self.wanted(&loaded, offset, end);
            if let Some(writing) = self.blocked_by_write(&wanted.places) {
                // The data is on its way to the device, which owns the buffer: it is there in a moment.
                drop(loaded);
                writing.wait().await;
                continue;
            }
            // From the load's last look to here nothing was awaited: the places are the newest.
            assert!(loaded.is_newest(), "the plan of a read is made at one instant");
            let read = self.read_blocks(&object, &wanted, hints).await;
            let blocks = read.inspect_err(|error| self.unreadable(error))?;
            if hints.pattern == Pattern::Sequential && !hints.verifies {
                self.read_ahead(&object, end);
            }
            return Ok(self.assemble(&loaded, &blocks, offset, end));
        }
    }

    /// Starts to read what follows in an object into the cache, if it is not there and not too much of that is under way:
    /// who reads from lower offsets to higher ones wants it next.
    fn read_ahead(self: &Rc<Self>, object: &ObjectId, from: u64) {
        let window = self.options.read_ahead_bytes;
        let is_worth_it = window > 0 && 4 * window <= self.blocks.borrow().bytes_max();
        if !is_worth_it || self.read_aheads.get() >= limits::READ_AHEADS_MAX {
            return;
        }
        let Some(pass) = self.gate.enter() else { return };
        self.read_aheads.set(self.read_aheads.get() + 1);
        let (this, object) = (Rc::clone(self), object.clone());
        self.spawn(Group::Client, "read ahead", async move {
            // What cannot be read is told to who asks for it.
            if let Err(error) = this.fill_ahead(&object, from).await {
                log::debug!("read ahead: {error}");
            }
            this.read_aheads.set(this.read_aheads.get() - 1);
            drop(pass);
        });
    }

    async fn fill_ahead(self: &Rc<Self>, object: &ObjectId, from: u64) -> StoreResult<()> {
        let window = self.options.read_ahead_bytes;
        let loaded = self.load_range(object, from, window).await?;
        let Some(size) = loaded.onode.as_ref().map(|onode| onode.size) else { return Ok(()) };
        let end = from.saturating_add(window).min(size);
        if from >= end {
            return Ok(());
        }
        let mut wanted = self.wanted(&loaded, from, end);
        {
            let blocks = self.blocks.borrow();
            let first_missing = wanted.places.iter().position(|place| !blocks.has(place));
            // Half a window at a time, so that a reader of little does not start one at each read.
            if first_missing.is_none_or(|first| first > wanted.places.len() / 2) {
                return Ok(());
            }
            wanted.places.retain(|place| !blocks.has(place));
        }
        if self.blocked_by_write(&wanted.places).is_some() || !loaded.is_newest() {
            return Ok(());
        }
        self.counters.read_ahead_blocks.add(u64::try_from(wanted.places.len()).unwrap_or(0));
        self.read_stored(object, &wanted.places, AccessHints::AHEAD).await.map(drop)
    }

    /// See the seam.
    pub async fn extents(
        self: Rc<Self>,
        collection: CollectionId,
        object: ObjectId,
        offset: u64,
        len: u64,
    ) -> StoreResult<Vec<(u64, u64)>> {
        self.check_open()?;
        self.check_member(collection, &object)?;
        let loaded = self.load_range(&object, offset, len).await?;
        let end = offset.saturating_add(len).min(loaded.existing(&object)?.size);
        let mut out: Vec<(u64, u64)> = Vec::new();
        for (at, len) in loaded.shards.values().flat_map(|shard| shard.ranges()) {
            let (from, to) = (at.max(offset), (at + len).min(end));
            match out.last_mut() {
                _ if from >= to => {}
                Some((start, len)) if *start + *len == from => *len = to - *start,
                _ => out.push((from, to - from)),
            }
        }
        Ok(out)
    }

    /// See the seam.
    pub async fn stat(self: Rc<Self>, collection: CollectionId, object: ObjectId) -> StoreResult<ObjectStat> {
        let loaded = self.load_onode(collection, &object).await?;
        let onode = loaded.existing(&object)?;
        Ok(ObjectStat {
            size: onode.size,
            allocated: onode.allocated,
            compressed: onode.compressed,
            hints: onode.hints,
        })
    }

    /// See the seam.
    pub async fn attrs(
        self: Rc<Self>,
        collection: CollectionId,
        object: ObjectId,
    ) -> StoreResult<Vec<(Bytes, Bytes)>> {
        let loaded = self.load_onode(collection, &object).await?;
        let onode = loaded.existing(&object)?;
        Ok(onode.attrs.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// See the seam.
    pub async fn omap_header(
        self: Rc<Self>,
        collection: CollectionId,
        object: ObjectId,
    ) -> StoreResult<Bytes> {
        let loaded = self.load_onode(collection, &object).await?;
        let id = loaded.existing(&object)?.omap_id;
        if id == 0 {
            return Ok(Bytes::new());
        }
        let value = self.fetch(vec![keys::omap_header(id)]).await?.pop().flatten();
        Ok(value.unwrap_or_default())
    }

    /// See the seam.
    pub async fn omap_values(
        self: Rc<Self>,
        collection: CollectionId,
        object: ObjectId,
        mut wanted: Vec<Bytes>,
    ) -> StoreResult<Vec<(Bytes, Bytes)>> {
        let loaded = self.load_onode(collection, &object).await?;
        let id = loaded.existing(&object)?.omap_id;
        wanted.sort();
        wanted.dedup();
        if id == 0 {
            return Ok(Vec::new());
        }
        let values = self.fetch(wanted.iter().map(|key| keys::omap_entry(id, key)).collect()).await?;
        Ok(wanted.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect())
    }

    /// See the seam.
    pub async fn omap_scan(
        self: Rc<Self>,
        collection: CollectionId,
        object: ObjectId,
        start_after: Option<Bytes>,
        prefix: Bytes,
        max: usize,
        max_bytes: usize,
    ) -> StoreResult<OmapPage> {
        let loaded = self.load_onode(collection, &object).await?;
        let id = loaded.existing(&object)?.omap_id;
        if id == 0 {
            return Ok(OmapPage::default());
        }
        let (_, whole_end) = keys::omap_entries(id);
        let mut start = keys::omap_entry(id, &prefix);
        let end = match keys::after_prefix(&prefix) {
            Some(next) => keys::omap_entry(id, &next),
            None => whole_end,
        };
        if let Some(after) = start_after {
            start = start.max(keys::after(&keys::omap_entry(id, &after)));
        }
        // The onode and the entries must be of one state, so the pin comes before anything else can change.
        assert!(loaded.is_newest(), "the omap id is the newest");
        let pin = self.overlay.pin();
        drop(loaded);
        if start >= end {
            return Ok(OmapPage::default());
        }
        // Keys are longer in the store by the prefix; the caller's bound is about the caller's bytes, roughly.
        let limit = ScanLimit { keys: max.clamp(1, limits::LIST_MAX), bytes: max_bytes.max(1) };
        let page = pin.scan(&*self.kv, start, end, limit).await.map_err(|error| self.kv_failed(&error))?;
        let mut entries = Vec::with_capacity(page.entries.len());
        for (key, value) in page.entries {
            let user = keys::omap_user_key(&key).map_err(|error| self.corrupt("omap", &key, &error))?;
            entries.push((user, value));
        }
        Ok(OmapPage { entries, more: page.more })
    }

    /// See the seam.
    pub async fn list(
        self: Rc<Self>,
        collection: CollectionId,
        from: Option<ObjectId>,
        max: usize,
    ) -> StoreResult<(Vec<ObjectId>, Option<ObjectId>)> {
        self.check_open()?;
        let bits = self.bits(collection)?;
        let (mut start, end) = keys::collection_objects(collection, bits);
        if let Some(from) = from {
            start = start.max(keys::onode(&from));
        }
        let max = max.clamp(1, limits::LIST_MAX);
        let pin = self.overlay.pin();
        let mut names = Vec::new();
        while start < end {
            // Shards lie between the onodes, so a page holds fewer names than keys.
            let limit = ScanLimit { keys: 2 * max + 16, bytes: 1 << 20 };
            let page = pin.scan(&*self.kv, start, end.clone(), limit).await;
            let page = page.map_err(|error| self.kv_failed(&error))?;
            for (key, _) in &page.entries {
                let parsed = keys::parse_object(key).map_err(|error| self.corrupt("name", key, &error))?;
                let ObjectKey::Onode(name) = parsed else { continue };
                if names.len() >= max {
                    return Ok((names, Some(name)));
                }
                names.push(name);
            }
            let Some((last, _)) = page.entries.last().filter(|_| page.more) else { break };
            start = keys::after(last);
        }
        Ok((names, None))
    }

    /// See the seam.
    pub fn list_collections(&self) -> StoreResult<Vec<(CollectionId, u8, Bytes)>> {
        self.check_open()?;
        let collections = self.collections.borrow();
        Ok(collections.iter().map(|(id, c)| (*id, c.bits, c.meta.clone())).collect())
    }

    /// See the seam.
    pub fn log(&self, collection: CollectionId) -> StoreResult<Vec<(LogVersion, Bytes)>> {
        self.check_open()?;
        let collections = self.collections.borrow();
        let found = collections.get(&collection).map(|c| c.log.iter().cloned().collect());
        found.ok_or_else(|| no_collection(collection))
    }

    /// The bits of a collection.
    pub fn bits(&self, collection: CollectionId) -> StoreResult<u8> {
        let collections = self.collections.borrow();
        collections.get(&collection).map(|c| c.bits).ok_or_else(|| no_collection(collection))
    }

    /// `NotFound` for an object that is not of the collection.
    pub fn check_member(&self, collection: CollectionId, object: &ObjectId) -> StoreResult<()> {
        let found =
            self.bits(collection).and_then(|bits| crate::check::check_member(collection, bits, object));
        found.map_err(|_| not_found(object))
    }

    async fn load_onode(self: &Rc<Self>, collection: CollectionId, object: &ObjectId) -> StoreResult<Loaded> {
        self.check_open()?;
        self.check_member(collection, object)?;
        self.load(object, |_| ShardNumbers::default()).await
    }

    pub async fn load_range(
        self: &Rc<Self>,
        object: &ObjectId,
        offset: u64,
        len: u64,
    ) -> StoreResult<Loaded> {
        self.load(object, |onode| {
            let end = offset.saturating_add(len).min(onode.size);
            if offset >= end {
                return ShardNumbers::default();
            }
            let (first, last) = shard_range(offset, end - offset, onode.shard_span);
            onode.shards.within(first..=last).collect()
        })
        .await
    }

    /// Where each block of an object that holds data lies on the device.
    pub async fn block_places(
        self: Rc<Self>,
        collection: CollectionId,
        object: ObjectId,
    ) -> StoreResult<Vec<BlockPlace>> {
        self.check_open()?;
        self.check_member(collection, &object)?;
        let loaded = self.load(&object, |onode| onode.shards.clone()).await?;
        loaded.existing(&object)?;
        let mut found = BTreeMap::new();
        for shard in loaded.shards.values() {
            for (at, piece) in shard.pieces.iter() {
                let end = at + u64::from(piece.len);
                for offset in
                    (at / self.block * self.block..end).step_by(usize::try_from(self.block).unwrap_or(1))
                {
                    if let Some(place) = shard.place(offset, self.block) {
                        found.insert(offset, {
                            let (address, birth, is_packed) = (place.address, place.birth, place.is_packed);
                            BlockPlace { offset, address, birth, is_packed }
                        });
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// The blocks that hold bytes of the range.
    fn wanted(&self, loaded: &Loaded, offset: u64, end: u64) -> Wanted {
        let mut wanted = Wanted::default();
        for shard in loaded.shards.values() {
            for (from, to, piece, at) in pieces_in(shard, offset, end) {
                let first = u64::from(piece.blob_offset) + (from - at);
                let last = first + (to - from) - 1;
                for number in first / self.block..=last / self.block {
                    if let Some(place) = shard.block_of(at, piece, number, self.block) {
                        wanted.add(shard, place, self.block);
                    }
                }
            }
        }
        wanted
    }

    /// The bytes of the range, holes as zeroes, without copying.
    fn assemble(&self, loaded: &Loaded, blocks: &Blocks, offset: u64, end: u64) -> Vec<Summed> {
        let mut out = Vec::new();
        let mut at = offset;
        for shard in loaded.shards.values() {
            for (from, to, piece, start) in pieces_in(shard, offset, end) {
                push_zeroes(&mut out, from - at);
                let mut in_blob = u64::from(piece.blob_offset) + (from - start);
                let mut left = to - from;
                let blob = shard.blobs.get(piece.blob);
                while left > 0 {
                    let bytes = blocks.bytes_at(piece.blob, in_blob, left, self.block);
                    let is_block = in_blob.is_multiple_of(self.block) && length(&bytes) == self.block;
                    let sum = blob.filter(|_| is_block).and_then(|blob| blob.crc32c(in_blob / self.block));
                    in_blob += length(&bytes);
                    left -= length(&bytes);
                    out.push((bytes, sum));
                }
                at = to;
            }
            for (start, bytes) in shard.inline.range_and_before(offset, end) {
                let (from, to) = ((*start).max(offset), (start + length(bytes)).min(end));
                if from < to {
                    push_zeroes(&mut out, from - at);
                    out.push((bytes.slice(index(from - start)..index(to - start)), None));
                    at = to;
                }
            }
        }
        push_zeroes(&mut out, end - at);
        out
    }
}

/// The error for a collection that does not exist.
pub fn no_collection(collection: CollectionId) -> StoreError {
    StoreError::NotFound(format!("collection {}.{:x}", collection.pool, collection.seed))
}

/// Pieces with bytes in `[offset, end)`, as (from, to, piece, logical offset of the piece).
fn pieces_in(shard: &Shard, offset: u64, end: u64) -> impl Iterator<Item = (u64, u64, &Piece, u64)> {
    shard.pieces.range_and_before(offset, end).iter().filter_map(move |(at, piece)| {
        let (from, to) = ((*at).max(offset), (at + u64::from(piece.len)).min(end));
        (from < to).then_some((from, to, piece, *at))
    })
}

fn push_zeroes(out: &mut Vec<Summed>, mut len: u64) {
    while len > 0 {
        let some = index(len).min(ZEROES.len());
        out.push((Bytes::from_static(&ZEROES[..some]), None));
        len -= u64::try_from(some).unwrap_or(len);
    }
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
