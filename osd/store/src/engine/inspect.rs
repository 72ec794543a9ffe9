//! What a store knows of its objects besides their data, for those who look into stores: all of one object's metadata, and
//! how large the parts of all objects are.

use std::collections::BTreeMap;
use std::rc::Rc;

use bluefs::kv::ScanLimit;

use super::state::Inner;
use crate::keys::{self, ObjectKey};
use crate::object_store::StoreResult;
use crate::onode::Onode;
use crate::shard::Shard;
use crate::share::Share;
use crate::types::{CollectionId, ObjectId};

const PAGE: ScanLimit = ScanLimit { keys: 1024, bytes: 1 << 20 };

/// All that is stored of an object besides its data and its omap.
#[derive(Clone, Debug)]
pub struct ObjectDump {
    /// Its onode.
    pub onode: Rc<Onode>,
    /// The shards of its extent map, by number.
    pub shards: BTreeMap<u32, Rc<Shard>>,
    /// Who else uses its shared blobs, by birth and address.
    pub shares: BTreeMap<(u64, u64), Share>,
}

/// How large things of one kind are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of size 0, and then of each power of two up to the next.
    counts: [u64; u64::BITS as usize + 1],
    sum: u64,
    largest: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { counts: [0; u64::BITS as usize + 1], sum: 0, largest: 0 }
    }
}

impl Sizes {
    fn note(&mut self, size: u64) {
        self.counts[(u64::BITS - size.leading_zeros()) as usize] += 1;
        self.sum = self.sum.saturating_add(size);
        self.largest = self.largest.max(size);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All together.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest; 0 if there is none.
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// Ranges of sizes that occur, ascending: from, up to and including, how many.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let bounds = |bits: usize| match bits {
            0 => (0, 0),
            bits => (1 << (bits - 1), u64::MAX >> (u64::BITS as usize - bits)),
        };
        let all = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        all.map(move |(bits, count)| (bounds(bits).0, bounds(bits).1, *count))
    }
}

/// How large the parts of a store's objects are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Bytes of each object.
    pub objects: Sizes,
    /// Bytes of the device of each blob. One that is shared counts for each shard that uses it.
    pub blobs: Sizes,
    /// Bytes of an object that lie in one piece on the device, in their order: the more there are, the more reading them one
    /// after the other seeks. A compressed blob is one.
    pub extents: Sizes,
    /// Bytes that each object keeps among the keys, of those that keep any.
    pub inline: Sizes,
    /// Keys of each omap that has some.
    pub omap_keys: Sizes,
    /// Bytes of the keys and values of each of these.
    pub omap_bytes: Sizes,
}

/// A piece on the device that may go on.
struct Run {
    logical_end: u64,
    device_end: u64,
    len: u64,
}

/// The object that a scan is at.
struct Open {
    key: bytes::Bytes,
    onode: Onode,
    inline: u64,
    run: Option<Run>,
}

impl Inner {
    /// See [`super::Engine::dump`].
    pub async fn dump(self: Rc<Self>, collection: CollectionId, object: ObjectId) -> StoreResult<ObjectDump> {
        self.check_open()?;
        self.check_member(collection, &object)?;
        let loaded = self.load(&object, |onode| onode.shards.clone()).await?;
        let onode = Rc::clone(loaded.existing(&object)?);
        let blobs = loaded.shards.values().flat_map(|shard| shard.blobs.values());
        let shared: Vec<(u64, u64)> = blobs.filter_map(|blob| Some((blob.birth, blob.share?))).collect();
        let mut shares = BTreeMap::new();
        for (birth, address) in shared {
            let key = keys::share(birth, address);
            if let Some(value) = self.fetch(vec![key.clone()]).await?.pop().flatten() {
                let share = Share::decode(value).map_err(|error| self.corrupt("share", &key, &error))?;
                shares.insert((birth, address), share);
            }
        }
        Ok(ObjectDump { onode, shards: loaded.shards.clone(), shares })
    }

    /// See [`super::Engine::histogram`].
    pub async fn histogram(self: Rc<Self>, wants: impl Fn(i64) -> bool) -> StoreResult<Histogram> {
        self.check_open()?;
        let pin = self.overlay.pin();
        let mut histogram = Histogram::default();
        let mut open: Option<Open> = None;
        let (mut start, end) = keys::all_objects();
        loop {
            let page = pin.scan(&*self.kv, start, end.clone(), PAGE).await;
            let page = page.map_err(|error| self.kv_failed(&error))?;
            let next = page.entries.last().filter(|_| page.more).map(|(key, _)| keys::after(key));
            for (key, value) in page.entries {
                let parsed = keys::parse_object(&key).map_err(|error| self.corrupt("name", &key, &error))?;
                match parsed {
                    ObjectKey::Onode(name) => {
                        histogram.end(open.take());
                        if wants(name.pool) {
                            let decoded = Onode::decode(value, &key, &name);
                            let onode = decoded.map_err(|error| self.corrupt("onode", &key, &error))?;
                            open = Some(Open { key, onode, inline: 0, run: None });
                        }
                    }
                    ObjectKey::Shard(of, number) => {
                        let Some(open) = open.as_mut().filter(|open| open.key == of) else { continue };
                        let shard = Shard::decode(value, number, open.onode.shard_span, self.block)
                            .map_err(|error| self.corrupt("extent map", &key, &error))?;
                        histogram.shard(open, &shard, self.block);
                    }
                }
            }
            match next {
                Some(next) => start = next,
                None => break,
            }
            self.core.yield_now().await;
        }
        histogram.end(open);
        Ok(histogram)
    }
}

impl Histogram {
    fn shard(&mut self, open: &mut Open, shard: &Shard, block: u64) {
        for blob in shard.blobs.values() {
            self.blobs.note(blob.bytes(block));
            if blob.packed.is_some() {
                self.extents.note(blob.bytes(block));
            }
        }
        open.inline += shard.inline_bytes();
        for (at, piece) in shard.pieces.iter() {
            if shard.blobs.get(piece.blob).is_none_or(|blob| blob.packed.is_some()) {
                continue;
            }
            let (device, len) = (piece.blob + u64::from(piece.blob_offset), u64::from(piece.len));
            match open.run.as_mut().filter(|run| (run.logical_end, run.device_end) == (*at, device)) {
                Some(run) => {
                    run.len += len;
                    run.logical_end += len;
                    run.device_end += len;
                }
                None => {
                    let run = Run { logical_end: at + len, device_end: device + len, len };
                    self.end_run(open.run.replace(run));
                }
            }
        }
    }

    fn end_run(&mut self, run: Option<Run>) {
        if let Some(run) = run {
            self.extents.note(run.len);
        }
    }

    fn end(&mut self, open: Option<Open>) {
        let Some(open) = open else { return };
        self.objects.note(open.onode.size);
        self.end_run(open.run);
        if open.inline > 0 {
            self.inline.note(open.inline);
        }
        if open.onode.omap_keys > 0 {
            self.omap_keys.note(open.onode.omap_keys);
            self.omap_bytes.note(open.onode.omap_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_by_powers_of_two() {
        let mut sizes = Sizes::default();
        assert_eq!((sizes.count(), sizes.largest(), sizes.ranges().count()), (0, 0, 0));
        for size in [0, 1, 2, 3, 4, 4096, 8191, u64::MAX] {
            sizes.note(size);
        }
        let expected = [(0, 0, 1), (1, 1, 1), (2, 3, 2), (4, 7, 1), (4096, 8191, 2), (1 << 63, u64::MAX, 1)];
        assert_eq!(sizes.ranges().collect::<Vec<_>>(), expected);
        assert_eq!((sizes.count(), sizes.sum(), sizes.largest()), (8, u64::MAX, u64::MAX));
    }
}
