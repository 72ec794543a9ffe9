//! The walk over the objects: each onode with the shards that follow it.

use std::collections::BTreeSet;

use allocator::Extent;
use bytes::Bytes;

use super::{Check, Lost};
use crate::check;
use crate::journal::item::Item;
use crate::keys::{self, ObjectKey};
use crate::limits;
use crate::object_store::{FsckLevel, FsckSeverity, Remedy, StoreResult};
use crate::onode::Onode;
use crate::shard::{Counts, Shard};
use crate::types::{CollectionId, ObjectId};

/// An object whose shards are being looked at.
pub(super) struct Open {
    key: Bytes,
    onode: Onode,
    seen: BTreeSet<u32>,
    /// Of the shards so far.
    counts: Counts,
    /// A repair changes the onode.
    changed: bool,
}

impl Check {
    pub(super) async fn objects(&mut self, level: FsckLevel) -> StoreResult<()> {
        let total: u64 = self.pools.values().map(|pool| u64::try_from(pool.objects).unwrap_or(0)).sum();
        let mut range = Some(keys::all_objects());
        let mut open: Option<Open> = None;
        // The one whose shards come and which cannot be read.
        let mut unreadable = None;
        while let Some(page) = self.page(&mut range).await? {
            for (key, value) in page {
                match keys::parse_object(&key) {
                    Ok(ObjectKey::Onode(name)) => {
                        self.finish(open.take());
                        open = self.onode(&key, &name, value);
                        unreadable = open.is_none().then_some(key);
                        self.report.objects += 1;
                        // A deep check comes to each once more.
                        let walks = if level == FsckLevel::Deep { 2 } else { 1 };
                        self.watch.progress(self.report.objects, walks * total);
                    }
                    Ok(ObjectKey::Shard(onode, number)) => {
                        match open.as_mut().filter(|open| open.key == onode) {
                            Some(owner) => self.shard(owner, number, key, value).await?,
                            None => self.orphan(key, &onode, number, unreadable.as_ref() == Some(&onode)),
                        }
                    }
                    Err(error) => {
                        let detail = format!("key {}: {error}", key.escape_ascii());
                        self.unreadable_key(key, detail);
                    }
                }
            }
        }
        if !self.is_cut {
            self.finish(open.take());
        }
        for (key, detail) in std::mem::take(&mut self.orphans) {
            // What cannot be read, and stays, may be theirs.
            let remedy = if self.has_unreadable { Remedy::Discard } else { Remedy::Repair };
            self.find(FsckSeverity::Error, remedy, "shard-without-onode", detail.clone());
            if !self.has_unreadable {
                self.fix("shard-without-onode", detail, [Item::Delete(key)]);
            }
        }
        Ok(())
    }

    /// A key that nobody can have written.
    pub(super) fn unreadable_key(&mut self, key: Bytes, detail: String) {
        self.find(FsckSeverity::Error, Remedy::Discard, "key", detail.clone());
        match self.discards() {
            true => self.fix("key", detail, [Item::Delete(key)]),
            false => self.has_unreadable = true,
        }
    }

    /// A shard whose onode is not there, or `unreadable`.
    fn orphan(&mut self, key: Bytes, onode: &Bytes, number: u32, unreadable: bool) {
        let detail = format!("shard {number} of {}", onode.escape_ascii());
        match unreadable {
            // With an onode that is given up its shards go, too.
            true => self.find(FsckSeverity::Error, Remedy::Discard, "shard-without-onode", detail),
            // A check alone tells of so many at most.
            false if self.fixes.is_some() || self.orphans.len() < limits::FSCK_FINDINGS_MAX => {
                self.orphans.push((key, detail));
            }
            false => {}
        }
    }

    fn unreadable_onode(&mut self, key: &Bytes, name: &ObjectId, detail: String) {
        self.find(FsckSeverity::Fatal, Remedy::Discard, "onode", detail.clone());
        self.note_undecoded(name);
        if !self.discards() {
            self.has_unreadable = true;
            return;
        }
        self.lose(name, Lost::Object, detail.clone());
        let (start, end) = keys::object_whole(key);
        self.fix("onode", detail, [Item::DeleteRange(start, end)]);
    }

    fn note_undecoded(&mut self, name: &ObjectId) {
        // Of more no check tells.
        if self.undecoded.len() < limits::FSCK_FINDINGS_MAX {
            self.undecoded.insert(name.clone());
        }
    }

    fn onode(&mut self, key: &Bytes, name: &ObjectId, value: Bytes) -> Option<Open> {
        let onode = match Onode::decode(value, key, name) {
            Ok(onode) => onode,
            Err(error) => {
                self.unreadable_onode(key, name, format!("the onode of {name}: {error}"));
                return None;
            }
        };
        let member = |(id, bits): (&CollectionId, &u8)| check::check_member(*id, *bits, name).is_ok();
        if !self.collections.iter().any(member) {
            self.find(FsckSeverity::Error, Remedy::None, "object-without-collection", format!("{name}"));
        }
        let stats = self.found_pools.entry(name.pool).or_default();
        *stats = stats.plus(&onode.statistics());
        let (key, seen, counts) = (key.clone(), BTreeSet::new(), Counts::default());
        let mut open = Open { key, onode, seen, counts, changed: false };
        self.omap_of(&mut open);
        Some(open)
    }

    fn omap_of(&mut self, open: &mut Open) {
        let (name, id) = (open.onode.object.clone(), open.onode.omap_id);
        if id == 0 {
            return;
        }
        if self.reaps.contains(&id) {
            let detail = format!("id {id} of {name:?} is to be removed");
            self.find(FsckSeverity::Fatal, Remedy::Repair, "omap-removed", detail.clone());
            self.fix("omap-removed", detail, [Item::Delete(keys::reap(id))]);
        }
        if id >= self.next_omap_id {
            let detail = format!("id {id} of {name:?} would be given out again");
            self.find(FsckSeverity::Fatal, Remedy::Repair, "omap-id", detail.clone());
            self.fix("omap-id", detail, [Item::NextOmapId(id.saturating_add(1))]);
        }
        let entry = (name.clone(), open.onode.omap_keys, open.onode.omap_bytes);
        let Some(first) = self.omaps.insert(id, entry) else { return };
        let detail = format!("id {id} of {} and {name}", first.0);
        self.find(FsckSeverity::Fatal, Remedy::Discard, "omap-shared", detail.clone());
        if self.discards() {
            // Nothing tells whose it is; that one of them keeps it is better than that both change it.
            self.omaps.insert(id, first);
            self.lose(&name, Lost::Omap, detail.clone());
            self.fix("omap-shared", detail, []);
            (open.onode.omap_id, open.onode.omap_keys, open.onode.omap_bytes) = (0, 0, 0);
            open.changed = true;
        }
    }

    async fn shard(&mut self, open: &mut Open, number: u32, key: Bytes, value: Bytes) -> StoreResult<()> {
        let name = open.onode.object.clone();
        if !open.onode.shards.contains(number) {
            let detail = format!("shard {number} is not in the onode of {name}");
            self.find(FsckSeverity::Error, Remedy::Repair, "shard-without-onode", detail.clone());
            self.fix("shard-without-onode", detail, [Item::Delete(key)]);
            return Ok(());
        }
        let mut shard = match Shard::decode(value, number, open.onode.shard_span, self.inner.block) {
            Ok(shard) => shard,
            Err(error) => {
                let detail = format!("shard {number} of {name}: {error}");
                self.find(FsckSeverity::Fatal, Remedy::Discard, "shard", detail.clone());
                self.note_undecoded(&name);
                if self.discards() {
                    self.lose_shard(open, number, &detail);
                    self.fix("shard", detail, [Item::Delete(key)]);
                }
                return Ok(());
            }
        };
        open.seen.insert(number);
        let block = self.inner.block;
        for (address, blob) in shard.blobs.iter() {
            match blob.share {
                Some(share) => self.count_share(&name, *address, blob, share),
                None => self.claim(Extent::new(*address, blob.bytes(block)), || format!("{name}")),
            }
        }
        let end = shard.ranges().map(|(at, len)| at + len).max().unwrap_or(0);
        if end > open.onode.size {
            let detail = format!("{name} has {} bytes and data up to {end}", open.onode.size);
            self.find(FsckSeverity::Error, Remedy::Discard, "data-beyond-size", detail.clone());
            if self.discards() {
                let mut cut = shard.clone();
                let gone = cut.punch(open.onode.size, u64::MAX);
                if self.trim(&name, &mut cut).await? {
                    for (at, len) in gone {
                        let lost = Lost::Bytes { from: at, to: at + len };
                        self.lose(&name, lost, "it is behind the object's end");
                    }
                    self.fix("data-beyond-size", detail, []);
                    self.write_shard(open, number, key, &cut);
                    shard = cut;
                }
            }
        }
        open.counts.iter_mut().zip(shard.counts(block)).for_each(|(sum, bytes)| *sum += bytes);
        Ok(())
    }

    /// A shard of which a repair cut something.
    fn write_shard(&mut self, open: &mut Open, number: u32, key: Bytes, shard: &Shard) {
        open.changed = true;
        if shard.is_empty() {
            open.onode.shards.remove(number);
        }
        self.change(key, (!shard.is_empty()).then(|| shard.encode(self.inner.block)));
    }

    /// The bytes that a shard describes are given up.
    fn lose_shard(&mut self, open: &mut Open, number: u32, reason: &str) {
        let from = u64::from(number) * u64::from(open.onode.shard_span);
        let to = (from + u64::from(open.onode.shard_span)).min(open.onode.size);
        if from < to {
            self.lose(&open.onode.object, Lost::Bytes { from, to }, reason);
        }
        open.onode.shards.remove(number);
        open.changed = true;
    }

    fn finish(&mut self, open: Option<Open>) {
        let Some(mut open) = open else { return };
        let name = open.onode.object.clone();
        let is_missing = |number: &u32| !open.seen.contains(number);
        let missing: Vec<u32> = open.onode.shards.iter().filter(is_missing).collect();
        if !missing.is_empty() {
            let detail = format!("{name} misses shards {missing:?}");
            self.find(FsckSeverity::Fatal, Remedy::Discard, "shard-missing", detail.clone());
            self.note_undecoded(&name);
            if !self.discards() {
                self.has_unreadable = true;
                return;
            }
            missing.iter().for_each(|number| self.lose_shard(&mut open, *number, "its shard is missing"));
            self.fix("shard-missing", detail, []);
        }
        let is = open.onode.counts();
        let should = open.counts;
        if is != should && !open.changed {
            let detail = format!(
                "{name} counts {is:?} bytes stored, allocated, shared, and compressed and before that, expected {should:?}"
            );
            self.find(FsckSeverity::Error, Remedy::Repair, "object-statistics", detail.clone());
            self.fix("object-statistics", detail, []);
            open.changed = true;
        }
        if open.changed {
            open.onode.set_counts(should);
            let value = open.onode.encode(&open.key);
            self.change(open.key, Some(value));
        }
    }
}
