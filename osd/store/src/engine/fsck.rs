//! The check of everything: rebuilds from the onodes what the bitmap, the statistics and the omaps should be, and
//! compares. Works on the state after replay and writes nothing; with [`FsckLevel::Deep`] it reads every byte.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use allocator::{Allocator, BitmapAllocator, Extent};
use bluefs::kv::ScanLimit;
use bytes::Bytes;

use super::blocks::Wanted;
use super::flips::Flips;
use super::free_list;
use super::open::{self, OpenError, OpenResult};
use super::space::Frozen;
use super::state::{Collection, Inner};
use crate::check;
use crate::checksum::ChecksumKind;
use crate::keys::{self, ObjectKey};
use crate::limits;
use crate::object_store::{FsckFinding, FsckLevel, FsckReport, FsckSeverity, StoreResult};
use crate::onode::Onode;
use crate::overlay::Pin;
use crate::shard::{Blob, Counts, Place, Shard};
use crate::share::Share;
use crate::superblock::Superblock;
use crate::types::{AccessHints, CollectionId, ObjectId, PoolStats};

const PAGE: ScanLimit = ScanLimit { keys: 1024, bytes: 1 << 20 };
/// Blocks read at a time.
const BLOCKS_AT_ONCE: usize = 64;

/// The check while it runs: everything of one moment, and what was found.
struct Check {
    inner: Rc<Inner>,
    pin: Pin,
    collections: BTreeMap<CollectionId, Collection>,
    pools: BTreeMap<i64, PoolStats>,
    reaps: BTreeSet<u64>,
    /// No omap id from here on may be in use.
    next_omap_id: u64,
    /// What the records changed since the checkpoint that the key-value store has, and since one that is under way.
    changes: (Option<Frozen>, Flips),
    /// What the allocator has.
    bitmap: BitmapAllocator,
    rebuilt: BitmapAllocator,
    found_pools: BTreeMap<i64, PoolStats>,
    /// Shares, and how often their blocks were found in use.
    shares: BTreeMap<(u64, u64), (Share, Vec<u32>)>,
    /// Omap id → its object, keys and bytes according to the onode.
    omaps: BTreeMap<u64, (ObjectId, u64, u64)>,
    report: FsckReport,
}

/// An object whose shards are being looked at.
struct Open {
    key: Bytes,
    onode: Onode,
    seen: BTreeSet<u32>,
    /// Of the shards so far.
    counts: Counts,
}

impl Inner {
    /// See the seam.
    pub async fn fsck(
        self: Rc<Self>,
        level: FsckLevel,
        progress: Box<dyn Fn(u64, u64)>,
    ) -> StoreResult<FsckReport> {
        self.check_open()?;
        let mut check = Check {
            pin: self.overlay.pin(),
            collections: self.collections.borrow().clone(),
            pools: self.pools.borrow().clone(),
            reaps: self.reaps.borrow().iter().copied().collect(),
            next_omap_id: self.next_omap_id.get(),
            changes: self.space.generations(),
            bitmap: self.space.current(),
            rebuilt: BitmapAllocator::new_free(self.window(), self.block),
            found_pools: BTreeMap::new(),
            shares: BTreeMap::new(),
            omaps: BTreeMap::new(),
            report: FsckReport::default(),
            inner: Rc::clone(&self),
        };
        check.regions();
        check.shares().await?;
        check.objects(level, &progress).await?;
        check.compare_shares();
        check.omap_entries().await?;
        check.compare_bitmaps();
        check.free_list().await?;
        check.compare_pools();
        check.logs();
        Ok(check.report)
    }
}

impl Check {
    fn find(&mut self, severity: FsckSeverity, kind: &'static str, detail: String) {
        let findings = &mut self.report.findings;
        if findings.len() + 1 < limits::FSCK_FINDINGS_MAX {
            findings.push(FsckFinding { severity, kind, detail });
        } else if findings.len() < limits::FSCK_FINDINGS_MAX {
            let detail = "further findings are left out".to_owned();
            findings.push(FsckFinding { severity: FsckSeverity::Error, kind: "more", detail });
        }
    }

    /// What belongs to no object.
    fn regions(&mut self) {
        let superblock = &self.inner.superblock;
        let block = self.inner.block;
        let places = Superblock::places(self.inner.window(), block).map(|place| Extent::new(place, block));
        // Their place is kept although they may be on another device.
        let logs = Extent::new(block, superblock.journal.len + superblock.pg_log.len);
        let mut regions = vec![logs];
        regions.extend(places);
        regions.extend(Some(superblock.kv).filter(|kv| kv.len > 0));
        regions.extend(self.inner.space.lent());
        for region in regions {
            self.claim(region, || "a region of the store".to_owned());
        }
    }

    /// Space of which no object is the owner alone.
    async fn shares(&mut self) -> StoreResult<()> {
        let block = self.inner.block;
        let (mut start, end) = keys::all_shares();
        loop {
            let page = self.pin.scan(&*self.inner.kv, start, end.clone(), PAGE).await;
            let page = page.map_err(|error| self.inner.kv_failed(&error))?;
            let next = page.entries.last().filter(|_| page.more).map(|(key, _)| keys::after(key));
            for (key, value) in page.entries {
                let parsed = keys::parse_share(&key).and_then(|id| Ok((id, Share::decode(value)?)));
                let (id, share) = match parsed {
                    Ok(parsed) => parsed,
                    Err(error) => {
                        let detail = format!("key {}: {error}", key.escape_ascii());
                        self.find(FsckSeverity::Fatal, "share", detail);
                        continue;
                    }
                };
                let len = u64::try_from(share.uses.len()).ok().and_then(|blocks| blocks.checked_mul(block));
                let end = len.and_then(|len| id.1.checked_add(len));
                let is_placed = end.is_some_and(|end| end <= self.inner.window());
                if !is_placed || !id.1.is_multiple_of(block) || share.blocks() == 0 {
                    let detail = format!("{} blocks at {:#x} of birth {}", share.uses.len(), id.1, id.0);
                    self.find(FsckSeverity::Fatal, "share", detail);
                    continue;
                }
                for (address, uses) in (id.1..).step_by(usize::try_from(block).unwrap_or(1)).zip(&share.uses)
                {
                    if *uses > 0 {
                        self.claim(Extent::new(address, block), || "a share".to_owned());
                    }
                }
                let stats = self.found_pools.entry(share.pool).or_default();
                stats.allocated += i64::try_from(share.blocks() * block).unwrap_or(i64::MAX);
                let found = vec![0; share.uses.len()];
                self.shares.insert(id, (share, found));
            }
            match next {
                Some(next) => start = next,
                None => return Ok(()),
            }
        }
    }

    /// Counts the uses of a shared blob's blocks.
    fn count_share(&mut self, name: &ObjectId, address: u64, blob: &Blob, share: u64) {
        let first = usize::try_from((address - share) / self.inner.block).unwrap_or(usize::MAX);
        let known = self.shares.get_mut(&(blob.birth, share));
        let counts = known.and_then(|(known, found)| {
            Some((known.pool, found.get_mut(first..first.checked_add(blob.checksums.len())?)?))
        });
        match counts {
            Some((pool, counts)) => {
                counts.iter_mut().for_each(|count| *count += 1);
                if pool != name.pool {
                    let detail =
                        format!("{name} shares the blob at {address:#x} with objects of pool {pool}");
                    self.find(FsckSeverity::Error, "share-pool", detail);
                }
            }
            None => {
                let detail =
                    format!("{name} shares the blob at {address:#x}, of which nobody counts the uses");
                self.find(FsckSeverity::Fatal, "share-missing", detail);
            }
        }
    }

    fn compare_shares(&mut self) {
        for ((birth, address), (share, found)) in std::mem::take(&mut self.shares) {
            let pairs = || share.uses.iter().zip(&found).enumerate();
            if let Some((first, (is, should))) = pairs().find(|(_, (is, should))| is != should) {
                let wrong = pairs().filter(|(_, (is, should))| is != should).count();
                let detail = format!(
                    "share at {address:#x} of birth {birth}: block {first} is counted {is} times and used {should} \
                     times; {wrong} blocks are wrong"
                );
                // Counted too low, a block is freed while it is in use.
                let is_low = pairs().any(|(_, (is, should))| is < should);
                let severity = if is_low { FsckSeverity::Fatal } else { FsckSeverity::Error };
                self.find(severity, "share-uses", detail);
            }
        }
    }

    fn claim(&mut self, extent: Extent, owner: impl Fn() -> String) {
        if let Err(error) = self.rebuilt.mark_used(extent) {
            self.find(FsckSeverity::Fatal, "extent-overlap", format!("{extent} of {}: {error}", owner()));
        }
    }

    async fn objects(&mut self, level: FsckLevel, progress: &dyn Fn(u64, u64)) -> StoreResult<()> {
        let total = self.pools.values().map(|pool| u64::try_from(pool.objects).unwrap_or(0)).sum();
        let (mut start, end) = keys::all_objects();
        let mut open: Option<Open> = None;
        loop {
            let page = self.pin.scan(&*self.inner.kv, start, end.clone(), PAGE).await;
            let page = page.map_err(|error| self.inner.kv_failed(&error))?;
            let next = page.entries.last().filter(|_| page.more).map(|(key, _)| keys::after(key));
            for (key, value) in page.entries {
                match keys::parse_object(&key) {
                    Ok(ObjectKey::Onode(name)) => {
                        self.finish(open.take());
                        open = self.onode(key, &name, value);
                        self.report.objects += 1;
                        progress(self.report.objects, total);
                    }
                    Ok(ObjectKey::Shard(onode, number)) => {
                        let owner = open.as_mut().filter(|open| open.key == onode);
                        let Some(owner) = owner else {
                            let detail = format!("shard {number} of {}", onode.escape_ascii());
                            self.find(FsckSeverity::Error, "shard-without-onode", detail);
                            continue;
                        };
                        self.shard(owner, number, value, level).await;
                    }
                    Err(error) => {
                        let detail = format!("key {}: {error}", key.escape_ascii());
                        self.find(FsckSeverity::Error, "key", detail);
                    }
                }
            }
            match next {
                Some(next) => start = next,
                None => break,
            }
        }
        self.finish(open.take());
        Ok(())
    }

    fn onode(&mut self, key: Bytes, name: &ObjectId, value: Bytes) -> Option<Open> {
        let onode = match Onode::decode(value) {
            Ok(onode) if onode.object == *name => onode,
            Ok(onode) => {
                let detail = format!("the onode of {name} names {}", onode.object);
                self.find(FsckSeverity::Fatal, "onode", detail);
                return None;
            }
            Err(error) => {
                self.find(FsckSeverity::Fatal, "onode", format!("the onode of {name}: {error}"));
                return None;
            }
        };
        let member = |(id, c): (&CollectionId, &Collection)| check::check_member(*id, c.bits, name).is_ok();
        if !self.collections.iter().any(member) {
            self.find(FsckSeverity::Error, "object-without-collection", format!("{name}"));
        }
        let stats = self.found_pools.entry(name.pool).or_default();
        *stats = stats.plus(&onode.statistics());
        if onode.omap_id != 0 {
            if self.reaps.contains(&onode.omap_id) {
                let detail = format!("id {} of {name:?} is to be removed", onode.omap_id);
                self.find(FsckSeverity::Fatal, "omap-removed", detail);
            }
            if onode.omap_id >= self.next_omap_id {
                let detail = format!("id {} of {name:?} would be given out again", onode.omap_id);
                self.find(FsckSeverity::Fatal, "omap-id", detail);
            }
            let entry = (name.clone(), onode.omap_keys, onode.omap_bytes);
            if let Some((other, ..)) = self.omaps.insert(onode.omap_id, entry) {
                let detail = format!("id {} of {other} and {name}", onode.omap_id);
                self.find(FsckSeverity::Fatal, "omap-shared", detail);
            }
        }
        Some(Open { key, onode, seen: BTreeSet::new(), counts: Counts::default() })
    }

    async fn shard(&mut self, open: &mut Open, number: u32, value: Bytes, level: FsckLevel) {
        let name = open.onode.object.clone();
        if !open.onode.shards.contains(&number) {
            let detail = format!("shard {number} is not in the onode of {name}");
            return self.find(FsckSeverity::Error, "shard-without-onode", detail);
        }
        let shard = match Shard::decode(value, number, open.onode.shard_span, self.inner.block) {
            Ok(shard) => shard,
            Err(error) => {
                let detail = format!("shard {number} of {name}: {error}");
                return self.find(FsckSeverity::Fatal, "shard", detail);
            }
        };
        open.seen.insert(number);
        let block = self.inner.block;
        open.counts.iter_mut().zip(shard.counts(block)).for_each(|(sum, bytes)| *sum += bytes);
        for (address, blob) in shard.blobs.iter() {
            match blob.share {
                Some(share) => self.count_share(&name, *address, blob, share),
                None => self.claim(Extent::new(*address, blob.bytes(block)), || format!("{name}")),
            }
        }
        let end = shard.ranges().map(|(at, len)| at + len).max().unwrap_or(0);
        if end > open.onode.size {
            let detail = format!("{name} has {} bytes and data up to {end}", open.onode.size);
            self.find(FsckSeverity::Error, "data-beyond-size", detail);
        }
        if level == FsckLevel::Deep {
            self.verify(&name, &shard).await;
        }
    }

    async fn verify(&mut self, name: &ObjectId, shard: &Shard) {
        let block = self.inner.block;
        // Every block is used by a piece, some by two.
        let mut places: BTreeMap<u64, Place> = BTreeMap::new();
        for (at, piece) in shard.pieces.iter() {
            let (first, last) = piece.blocks(block);
            let numbers = (first..=last).filter_map(|number| u64::try_from(number).ok());
            let found = numbers.filter_map(|number| shard.block_of(*at, piece, number, block));
            places.extend(found.map(|place| (place.address, place)));
        }
        let places: Vec<Place> = places.into_values().collect();
        let wanted = |some: &[Place]| {
            let mut wanted = Wanted::default();
            some.iter().for_each(|place| wanted.add(shard, *place, block));
            wanted
        };
        for some in places.chunks(BLOCKS_AT_ONCE) {
            let together = wanted(some);
            while let Some(writing) = self.inner.blocked_by_write(&together.places) {
                writing.wait().await;
            }
            if self.inner.read_blocks(name, &together, AccessHints::VERIFY).await.is_ok() {
                self.count_verified(&together);
                continue;
            }
            // One by one, so that each bad block is named and the others count.
            for place in some {
                let one = wanted(&[*place]);
                match self.inner.read_blocks(name, &one, AccessHints::VERIFY).await {
                    Ok(_) => self.count_verified(&one),
                    Err(error) => {
                        // The device's own errors name neither the object nor the place in the store.
                        let (byte, address) = (place.logical, place.address);
                        let detail = format!("{name}, byte {byte}, block at {address:#x}: {error}");
                        self.find(FsckSeverity::Fatal, "checksum", detail);
                    }
                }
            }
        }
    }

    fn count_verified(&mut self, wanted: &Wanted) {
        let verified = wanted.places.iter().filter(|place| place.checksum.kind() != ChecksumKind::None);
        self.report.bytes_verified += u64::try_from(verified.count()).unwrap_or(0) * self.inner.block;
    }

    fn finish(&mut self, open: Option<Open>) {
        let Some(open) = open else { return };
        let (onode, name) = (&open.onode, &open.onode.object);
        let missing: Vec<_> = onode.shards.iter().filter(|number| !open.seen.contains(number)).collect();
        if !missing.is_empty() {
            let detail = format!("{name} misses shards {missing:?}");
            return self.find(FsckSeverity::Fatal, "shard-missing", detail);
        }
        let is = onode.counts();
        let should = open.counts;
        if is != should {
            let detail = format!(
                "{name} counts {is:?} bytes stored, allocated, shared, and compressed and before that, expected {should:?}"
            );
            self.find(FsckSeverity::Error, "object-statistics", detail);
        }
    }

    async fn omap_entries(&mut self) -> StoreResult<()> {
        let (mut start, end) = keys::all_omaps();
        let mut found: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut foreign = BTreeSet::new();
        loop {
            let page = self.pin.scan(&*self.inner.kv, start, end.clone(), PAGE).await;
            let page = page.map_err(|error| self.inner.kv_failed(&error))?;
            let next = page.entries.last().filter(|_| page.more).map(|(key, _)| keys::after(key));
            for (key, value) in page.entries {
                let id = match keys::omap_id(&key) {
                    Ok(id) => id,
                    Err(error) => {
                        let detail = format!("key {}: {error}", key.escape_ascii());
                        self.find(FsckSeverity::Error, "key", detail);
                        continue;
                    }
                };
                if !self.omaps.contains_key(&id) {
                    if !self.reaps.contains(&id) {
                        foreign.insert(id);
                    }
                    continue;
                }
                if key != keys::omap_header(id)
                    && let Ok(user) = keys::omap_user_key(&key)
                {
                    let (keys, bytes) = found.entry(id).or_default();
                    *keys += 1;
                    *bytes += check::length(&user) + check::length(&value);
                }
            }
            match next {
                Some(next) => start = next,
                None => break,
            }
        }
        for id in foreign {
            self.find(FsckSeverity::Warning, "omap-without-owner", format!("omap id {id}"));
        }
        for (id, (name, keys, bytes)) in std::mem::take(&mut self.omaps) {
            let is = found.get(&id).copied().unwrap_or_default();
            if is != (keys, bytes) {
                let detail = format!("{name} counts {keys} keys of {bytes} bytes, expected {is:?}");
                self.find(FsckSeverity::Error, "omap-statistics", detail);
            }
        }
        Ok(())
    }

    fn compare_bitmaps(&mut self) {
        let (should, is) = (self.rebuilt.used_extents(), self.bitmap.used_extents());
        for extent in difference(&should, &is) {
            self.find(
                FsckSeverity::Fatal,
                "extent-not-allocated",
                format!("{extent} is used and marked free"),
            );
        }
        for extent in difference(&is, &should) {
            self.find(FsckSeverity::Warning, "extent-leak", format!("{extent} is marked used by nobody"));
        }
    }

    /// What is stored, and the last record that it holds.
    async fn stored_free_list(&self) -> OpenResult<(BitmapAllocator, u64)> {
        let (device, kv, view) = (&*self.inner.device, &self.inner.kv, self.pin.view());
        let checkpoint = open::read_checkpoint(device, kv, view).await?;
        // It may have grown since it was mounted.
        let superblock = Superblock { window: self.inner.window(), ..self.inner.superblock.clone() };
        let (record, of) = checkpoint.map_or((0, superblock.window), |checkpoint| {
            (checkpoint.end.record, checkpoint.window_of(&superblock))
        });
        let mut stored = free_list::read(device, kv, view, &superblock, of).await?;
        if superblock.window > of {
            stored.grow(superblock.window);
            stored.release(free_list::gained(of, superblock.window, self.inner.block)).map_err(|error| {
                OpenError::Corrupt { device: device.name().to_owned(), reason: error.to_string() }
            })?;
        }
        Ok((stored, record))
    }

    /// That what is stored, with the changes since, is what the allocator has.
    async fn free_list(&mut self) -> StoreResult<()> {
        let (mut stored, record) = match self.stored_free_list().await {
            Ok(stored) => stored,
            Err(OpenError::Kv(error)) => return Err(self.inner.kv_failed(&error)),
            Err(error) => {
                self.find(FsckSeverity::Fatal, "free-list", error.to_string());
                return Ok(());
            }
        };
        let none = Flips::new(self.inner.block);
        let (frozen, later) = std::mem::replace(&mut self.changes, (None, none));
        // A view may show a checkpoint that its maker has not heard of yet.
        let frozen = frozen.filter(|frozen| frozen.record > record).map(|frozen| frozen.flips);
        for changes in frozen.into_iter().chain([later]) {
            if let Err(error) = changes.apply(&mut stored) {
                self.find(FsckSeverity::Fatal, "free-list", error.to_string());
            }
        }
        let (is, should) = (stored.used_extents(), self.bitmap.used_extents());
        for extent in difference(&is, &should) {
            let detail = format!("{extent} can be allocated although the free list says that it is used");
            self.find(FsckSeverity::Fatal, "allocator", detail);
        }
        for extent in difference(&should, &is) {
            let detail = format!("{extent} is free, but cannot be allocated");
            self.find(FsckSeverity::Warning, "allocator", detail);
        }
        Ok(())
    }

    fn compare_pools(&mut self) {
        let pools: BTreeSet<i64> = self.pools.keys().chain(self.found_pools.keys()).copied().collect();
        for pool in pools {
            let is = self.pools.get(&pool).copied().unwrap_or_default();
            let should = self.found_pools.get(&pool).copied().unwrap_or_default();
            if is != should {
                let detail = format!("pool {pool}: {is:?}, expected {should:?}");
                self.find(FsckSeverity::Error, "pool-statistics", detail);
            }
        }
    }

    fn logs(&mut self) {
        for (id, collection) in std::mem::take(&mut self.collections) {
            if !collection.log.iter().map(|(version, _)| version).is_sorted() {
                self.find(FsckSeverity::Error, "log-order", format!("log of {id:?}"));
            }
        }
    }
}

/// What is in `a` and not in `b`; both ascending and without overlaps.
fn difference(a: &[Extent], b: &[Extent]) -> Vec<Extent> {
    let mut out = Vec::new();
    let mut others = b.iter().peekable();
    for extent in a {
        let mut start = extent.start;
        while let Some(other) = others.peek() {
            if other.end() <= start {
                others.next();
                continue;
            }
            if other.start >= extent.end() {
                break;
            }
            if other.start > start {
                out.push(Extent::new(start, other.start - start));
            }
            start = other.end();
            if start >= extent.end() {
                break;
            }
        }
        if start < extent.end() {
            out.push(Extent::new(start, extent.end() - start));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        let e = |list: &[(u64, u64)]| list.iter().map(|(s, l)| Extent::new(*s, *l)).collect::<Vec<_>>();
        let check = |a: &[(u64, u64)], b: &[(u64, u64)], expect: &[(u64, u64)]| {
            assert_eq!(difference(&e(a), &e(b)), e(expect));
        };
        check(&[(0, 10)], &[], &[(0, 10)]);
        check(&[(0, 10)], &[(0, 10)], &[]);
        check(&[(0, 10), (20, 10)], &[(5, 20)], &[(0, 5), (25, 5)]);
        check(&[(10, 10)], &[(0, 12), (14, 2), (18, 50)], &[(12, 2), (16, 2)]);
        check(&[(0, 4), (6, 4)], &[(4, 2)], &[(0, 4), (6, 4)]);
    }
}
