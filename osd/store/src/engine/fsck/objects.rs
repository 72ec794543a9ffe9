//! The walk over the objects: each onode with the shards that follow it.

use std::collections::BTreeSet;

use allocator::Extent;
use bytes::Bytes;

use super::super::state::Collection;
use super::{Check, PAGE};
use crate::check;
use crate::keys::{self, ObjectKey};
use crate::object_store::{FsckLevel, FsckSeverity, StoreResult};
use crate::onode::Onode;
use crate::shard::{Counts, Shard};
use crate::types::{CollectionId, ObjectId};

/// An object whose shards are being looked at.
struct Open {
    key: Bytes,
    onode: Onode,
    seen: BTreeSet<u32>,
    /// Of the shards so far.
    counts: Counts,
}

impl Check {
    pub(super) async fn objects(&mut self, level: FsckLevel, progress: &dyn Fn(u64, u64)) -> StoreResult<()> {
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

    pub(super) fn onode(&mut self, key: Bytes, name: &ObjectId, value: Bytes) -> Option<Open> {
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

    pub(super) async fn shard(&mut self, open: &mut Open, number: u32, value: Bytes, level: FsckLevel) {
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

    pub(super) fn finish(&mut self, open: Option<Open>) {
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
}
