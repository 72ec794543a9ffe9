//! What a transaction needs in memory before it can be staged: found from its ops alone, a little too much rather than
//! too little.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bluefs::kv::ScanLimit;
use bytes::Bytes;

use super::known_omap::{Entries, KnownOmap, sections};
use super::load::{Loaded, shard_range, total};
use super::sharing;
use super::state::Inner;
use crate::check::length;
use crate::codec::DecodeError;
use crate::keys::{self, ObjectKey};
use crate::object_store::{StoreError, StoreResult};
use crate::onode::Onode;
use crate::shard::Blob;
use crate::shard_numbers::ShardNumbers;
use crate::share::Share;
use crate::transaction::{Op, Transaction};
use crate::types::{CollectionId, ObjectId};

/// Most omap keys that a clone may copy: they are all in memory at once.
const OMAP_COPY_KEYS_MAX: usize = 1 << 20;
/// Page of a count.
const COUNT_PAGE: ScanLimit = ScanLimit { keys: 4096, bytes: 1 << 20 };

/// What one object's ops touch.
#[derive(Debug, Default)]
struct Need {
    all_shards: bool,
    ranges: Vec<(u64, u64)>,
    from: Option<u64>,
    omap_keys: BTreeSet<Bytes>,
    omap_ranges: Vec<(Bytes, Bytes)>,
    whole_omap: bool,
}

/// A whole omap.
#[derive(Clone, Debug, Default)]
pub struct WholeOmap {
    /// All entries.
    pub entries: BTreeMap<Bytes, Bytes>,
    /// Empty if none was set.
    pub header: Bytes,
}

impl WholeOmap {
    /// Of header, keys and values.
    pub fn bytes(&self) -> u64 {
        let entries = self.entries.iter().map(|(key, value)| length(key) + length(value));
        length(&self.header) + entries.sum::<u64>()
    }
}

/// An object that ops touch, in memory.
pub struct Basis {
    /// Its onode and the shards that the ops touch.
    pub loaded: Loaded,
    /// Existing omap entries that the ops touch.
    pub omap: KnownOmap,
    /// All of it, if an op copies it.
    pub whole_omap: WholeOmap,
}

/// Everything a transaction needs.
#[derive(Default)]
pub struct Bases {
    /// By object.
    pub objects: BTreeMap<ObjectId, Basis>,
    /// The first objects of collections to be removed, by their bits then: one more than the transaction removes.
    pub first_objects: BTreeMap<(CollectionId, u8), Vec<ObjectId>>,
    /// Who uses the shared blobs of the shards that are loaded, by birth and address.
    pub shares: BTreeMap<(u64, u64), Share>,
}

impl Bases {
    /// Whether nothing changed since.
    pub fn are_newest(&self) -> bool {
        self.objects.values().all(|basis| basis.loaded.is_newest())
    }
}

impl Need {
    fn add(&mut self, op: &Op) {
        match op {
            Op::Write { offset, data, .. } => self.ranges.push((*offset, total(data))),
            Op::Zero { offset, len, .. }
            | Op::Defragment { offset, len, .. }
            | Op::CloneRange { offset, len, .. } => {
                self.ranges.push((*offset, *len));
            }
            Op::Truncate { size, .. } => {
                self.from = Some(self.from.map_or(*size, |from| from.min(*size)));
            }
            Op::Remove { .. } => self.all_shards = true,
            Op::Clone { .. } => (self.all_shards, self.whole_omap) = (true, true),
            Op::OmapSet { entries, .. } => self.omap_keys.extend(entries.keys().cloned()),
            Op::OmapRemove { keys, .. } => self.omap_keys.extend(keys.iter().cloned()),
            Op::OmapRemoveRange { first, end, .. } => self.omap_ranges.push((first.clone(), end.clone())),
            _ => {}
        }
    }

    fn shards(&self, onode: &Onode) -> ShardNumbers {
        if self.all_shards {
            return onode.shards.clone();
        }
        let touched = self.ranges.iter().filter(|(_, len)| *len > 0);
        let touched = touched.map(|(offset, len)| shard_range(*offset, *len, onode.shard_span));
        let behind = self.from.map(|from| (shard_range(from, 1, onode.shard_span).0, u32::MAX));
        touched.chain(behind).flat_map(|(first, last)| onode.shards.within(first..=last)).collect()
    }
}

impl Inner {
    /// Loads it.
    pub async fn bases(self: &Rc<Self>, transaction: &Transaction) -> StoreResult<Bases> {
        let mut needs: BTreeMap<&ObjectId, Need> = BTreeMap::new();
        let mut bases = Bases::default();
        let mut removed = 0;
        for op in &transaction.ops {
            if let Some(object) = op.object() {
                needs.entry(object).or_default().add(op);
            }
            match op {
                Op::Clone { target, .. } => needs.entry(target).or_default().all_shards = true,
                Op::CloneRange { len, target, target_offset, .. } => {
                    needs.entry(target).or_default().ranges.push((*target_offset, *len));
                }
                _ => {}
            }
            removed += usize::from(matches!(op, Op::Remove { .. }));
        }
        for (collection, bits) in self.removed_collections(transaction) {
            let first = self.first_objects(collection, bits, removed + 1).await?;
            bases.first_objects.insert((collection, bits), first);
        }
        // What clones copy of omaps goes into one record.
        let mut copied_max = self.journal.borrow().capacity();
        for (object, need) in needs {
            let loaded = self.load(object, |onode| need.shards(onode)).await?;
            let id = loaded.onode.as_ref().map_or(0, |onode| onode.omap_id);
            let (mut omap, mut whole_omap) = Default::default();
            if id != 0 {
                omap = self.count_omap(id, &need).await?;
            }
            if id != 0 && need.whole_omap {
                whole_omap = self.whole_omap(id, copied_max).await?;
                copied_max -= whole_omap.bytes();
            }
            bases.objects.insert(object.clone(), Basis { loaded, omap, whole_omap });
        }
        let mut shards = bases.objects.values().flat_map(|basis| basis.loaded.shards.values());
        let makes_clones = transaction.ops.iter().any(|op| op.target().is_some());
        if makes_clones || shards.any(|shard| shard.shares()) {
            self.load_shares(&mut bases).await?;
        }
        Ok(bases)
    }

    /// Collections that ops remove, with the bits they have then.
    fn removed_collections(&self, transaction: &Transaction) -> Vec<(CollectionId, u8)> {
        let mut changed: BTreeMap<CollectionId, Option<u8>> = BTreeMap::new();
        let mut removed = Vec::new();
        for op in &transaction.ops {
            let id = op.collection();
            match op {
                Op::CreateCollection { bits, .. } => {
                    changed.insert(id, Some(*bits));
                }
                Op::SplitCollection { bits, target, .. } => {
                    changed.extend([(id, Some(*bits)), (*target, Some(*bits))]);
                }
                Op::MergeCollection { bits, target, .. } => {
                    changed.extend([(id, None), (*target, Some(*bits))]);
                }
                Op::RemoveCollection { .. } => {
                    let bits = changed.insert(id, None).unwrap_or_else(|| self.bits(id).ok());
                    removed.extend(bits.map(|bits| (id, bits)));
                }
                _ => {}
            }
        }
        removed
    }

    async fn load_shares(&self, bases: &mut Bases) -> StoreResult<()> {
        let shards = bases.objects.values().flat_map(|basis| basis.loaded.shards.values());
        let of = |(_, blob): &(u64, Blob)| blob.share.map(|address| (blob.birth, address));
        let wanted: BTreeSet<(u64, u64)> =
            shards.flat_map(|shard| shard.blobs.iter()).filter_map(of).collect();
        let keys: Vec<Bytes> = wanted.iter().map(|(birth, address)| keys::share(*birth, *address)).collect();
        let values = if keys.is_empty() { Vec::new() } else { self.fetch(keys.clone()).await? };
        for ((id, key), value) in wanted.into_iter().zip(keys).zip(values) {
            let missing = DecodeError::Value { what: "share that is not there", at: 0, value: id.1 };
            let share = value.ok_or(missing).and_then(Share::decode);
            let share = share.map_err(|error| self.corrupt("share", &key, &error))?;
            bases.shares.insert(id, share);
        }
        let shards = bases.objects.values().flat_map(|basis| basis.loaded.shards.values());
        sharing::check(shards.map(|shard| &**shard), &bases.shares, self.block).map_err(|address| {
            StoreError::Io(format!(
                "shares are corrupt: the blob at {address:#x} is used more often than counted; fsck tells more"
            ))
        })
    }

    /// All of an omap, which has at most `bytes_max` bytes.
    async fn whole_omap(&self, id: u64, bytes_max: u64) -> StoreResult<WholeOmap> {
        let header = self.fetch(vec![keys::omap_header(id)]).await?.pop().flatten().unwrap_or_default();
        let mut whole = WholeOmap { header, ..WholeOmap::default() };
        let mut bytes = length(&whole.header);
        let (mut start, end) = keys::omap_entries(id);
        while start < end {
            // Page by page: in its turn nobody else changes the omap, and a view that is held keeps what others remove.
            let page = self.overlay.pin().scan(&*self.kv, start, end.clone(), COUNT_PAGE).await;
            let page = page.map_err(|error| self.kv_failed(&error))?;
            let next = page.entries.last().filter(|_| page.more).map(|(key, _)| keys::after(key));
            for (key, value) in page.entries {
                let user = keys::omap_user_key(&key).map_err(|error| self.corrupt("omap", &key, &error))?;
                bytes += length(&user) + length(&value);
                whole.entries.insert(user, value);
            }
            if whole.entries.len() > OMAP_COPY_KEYS_MAX || bytes > bytes_max {
                let problem = format!(
                    "the omap of a clone: at most {OMAP_COPY_KEYS_MAX} keys and {bytes_max} bytes are left"
                );
                return Err(StoreError::TooLarge(problem));
            }
            let Some(next) = next else { break };
            start = next;
        }
        Ok(whole)
    }

    async fn count_omap(&self, id: u64, need: &Need) -> StoreResult<KnownOmap> {
        let mut known = KnownOmap::default();
        if !need.omap_keys.is_empty() {
            let keys = need.omap_keys.iter().map(|key| keys::omap_entry(id, key)).collect();
            let values = self.fetch(keys).await?;
            for (key, value) in need.omap_keys.iter().zip(values) {
                if let Some(value) = value {
                    known.add_named(key.clone(), length(key) + length(&value));
                }
            }
        }
        for (first, end) in sections(&need.omap_ranges) {
            let mut others = Entries::default();
            let (mut start, stop) = (keys::omap_entry(id, &first), keys::omap_entry(id, &end));
            while start < stop {
                // As above: there may be any number of pages.
                let page = self.overlay.pin().scan(&*self.kv, start, stop.clone(), COUNT_PAGE).await;
                let page = page.map_err(|error| self.kv_failed(&error))?;
                for (key, value) in &page.entries {
                    let user = keys::omap_user_key(key).map_err(|error| self.corrupt("omap", key, &error))?;
                    if !need.omap_keys.contains(&user) {
                        others.add(length(&user) + length(value));
                    }
                }
                let Some((last, _)) = page.entries.last().filter(|_| page.more) else { break };
                start = keys::after(last);
            }
            known.add_section(first, end, others);
        }
        Ok(known)
    }

    async fn first_objects(&self, id: CollectionId, bits: u8, max: usize) -> StoreResult<Vec<ObjectId>> {
        let (mut start, end) = keys::collection_objects(id, bits);
        let pin = self.overlay.pin();
        let mut names = Vec::new();
        while start < end && names.len() < max {
            let page = pin.scan(&*self.kv, start, end.clone(), COUNT_PAGE).await;
            let page = page.map_err(|error| self.kv_failed(&error))?;
            for (key, _) in &page.entries {
                let parsed = keys::parse_object(key).map_err(|error| self.corrupt("name", key, &error))?;
                if let ObjectKey::Onode(name) = parsed {
                    names.push(name);
                }
            }
            let Some((last, _)) = page.entries.last().filter(|_| page.more) else { break };
            start = keys::after(last);
        }
        names.truncate(max);
        Ok(names)
    }
}
