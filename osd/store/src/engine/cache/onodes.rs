//! Decoded onodes and shards, bounded by bytes; always equal to the newest state, since every change goes through
//! here too.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::rc::Rc;

use bytes::Bytes;

use super::hash::{Seeded, Spread};
use super::queues::{CachePolicy, Queues};
use crate::check::length;
use crate::onode::Onode;
use crate::shard::Shard;
use crate::sorted::Sorted;

/// See the module.
pub struct Cache {
    objects: Queues<Bytes, Object, Seeded>,
    seed: Seeded,
    /// Loads on their way, by their keys' hashes, so that a load that was overtaken by a change is not taken for the newest
    /// state. Where two keys have one hash, changes of either count.
    loading: HashMap<u64, Loading, Spread>,
}

impl Object {
    fn put_onode(&mut self, onode: Rc<Onode>) {
        let bytes = onode.memory_bytes();
        let old = self.onode.replace(onode).map_or(0, |old| old.memory_bytes());
        self.bytes = self.bytes + bytes - old;
    }

    fn put_shard(&mut self, number: u32, shard: Option<Rc<Shard>>) {
        let new = shard.as_deref().map_or(0, shard_bytes);
        let old = match shard {
            Some(shard) => self.shards.insert(number.into(), shard),
            None => self.shards.remove(number.into()),
        };
        self.bytes = self.bytes + new - old.as_deref().map_or(0, shard_bytes);
    }

    fn take_shard(&mut self, number: u32) -> Option<Rc<Shard>> {
        let shard = self.shards.remove(number.into())?;
        self.bytes -= shard_bytes(&shard);
        Some(shard)
    }
}

/// The moment before a load.
#[derive(Clone, Copy)]
pub struct Since {
    hash: u64,
    changes: u64,
}

#[derive(Default)]
struct Loading {
    loads: u32,
    changes: u64,
}

#[derive(Default)]
struct Object {
    onode: Option<Rc<Onode>>,
    /// By number.
    shards: Sorted<Rc<Shard>>,
    /// Of the onode and the shards.
    bytes: u64,
}

/// What a shard takes in the list of an object's shards.
const SHARD_BYTES: u64 = 32;

fn shard_bytes(shard: &Shard) -> u64 {
    shard.memory_bytes() + SHARD_BYTES
}

impl Cache {
    /// Empty, for up to `bytes_max` bytes. Clients choose the keys and do not know the seed.
    pub fn new(policy: CachePolicy, bytes_max: u64, seed: u64) -> Self {
        let seed = Seeded(seed);
        Self { objects: Queues::new(policy, bytes_max, seed), seed, loading: HashMap::default() }
    }

    /// The onode under `key`.
    pub fn onode(&mut self, key: &Bytes) -> Option<Rc<Onode>> {
        self.objects.get(key).and_then(|object| object.onode.clone())
    }

    /// The same, which does not count as a use.
    pub fn peek(&self, key: &Bytes) -> Option<&Rc<Onode>> {
        self.objects.peek(key).and_then(|object| object.onode.as_ref())
    }

    /// A shard of the object under `key`.
    pub fn shard(&self, key: &Bytes, number: u32) -> Option<Rc<Shard>> {
        self.objects.peek(key).and_then(|object| object.shards.get(number.into()).cloned())
    }

    /// The same, which the cache then has no more: it is to be changed and put back.
    pub fn take_shard(&mut self, key: &Bytes, number: u32) -> Option<Rc<Shard>> {
        self.objects.peek_mut(key).and_then(|object| object.take_shard(number))
    }

    /// Keeps an onode.
    pub fn put_onode(&mut self, key: &Bytes, onode: Rc<Onode>) {
        self.change(key, |object| object.put_onode(onode));
    }

    /// Keeps a shard.
    pub fn put_shard(&mut self, key: &Bytes, number: u32, shard: Rc<Shard>) {
        self.change(key, |object| object.put_shard(number, Some(shard)));
    }

    /// Keeps an onode that changed, and what its changed shards are now; none of those that are gone.
    pub fn put_changed(
        &mut self,
        key: &Bytes,
        onode: Rc<Onode>,
        shards: impl Iterator<Item = (u32, Option<Rc<Shard>>)>,
    ) {
        self.change(key, |object| {
            object.put_onode(onode);
            shards.for_each(|(number, shard)| object.put_shard(number, shard));
        });
    }

    /// Forgets an object.
    pub fn remove(&mut self, key: &Bytes) {
        drop(self.objects.remove(key));
    }

    /// Objects, and bytes of memory.
    pub fn held(&self) -> (u64, u64) {
        (self.objects.len(), self.objects.bytes())
    }

    /// Objects that came back after they went: half as much memory more would have kept them.
    pub fn came_back(&self) -> u64 {
        self.objects.came_back()
    }

    /// Bytes that there may be.
    #[cfg(test)]
    pub fn bytes_max(&self) -> u64 {
        self.objects.bytes_max()
    }

    /// See [`Queues::set_bytes_max`].
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.objects.set_bytes_max(bytes_max);
    }

    /// See [`Queues::trim`].
    pub fn trim(&mut self, most: usize) -> bool {
        self.objects.trim(most)
    }

    /// Changes what is known of an object. That does not count as a use: it was looked up a moment ago.
    fn change(&mut self, key: &Bytes, with: impl FnOnce(&mut Object)) {
        if let Some(object) = self.objects.peek_mut(key) {
            with(object);
            let bytes = object.bytes + length(key);
            self.objects.resize(key, bytes);
            return;
        }
        let mut object = Object::default();
        with(&mut object);
        let bytes = object.bytes + length(key);
        self.objects.insert(key.clone(), object, bytes, false);
    }

    /// Begins a load of the object under `key`; [`Self::end_load`] is to follow.
    pub fn begin_load(&mut self, key: &Bytes) -> Since {
        let hash = self.seed.hash_one(key);
        let loading = self.loading.entry(hash).or_default();
        loading.loads += 1;
        Since { hash, changes: loading.changes }
    }

    /// Whether the object changed since the load began.
    pub fn overtaken(&self, since: Since) -> bool {
        self.loading.get(&since.hash).is_none_or(|loading| loading.changes != since.changes)
    }

    /// Ends a load.
    pub fn end_load(&mut self, since: Since) {
        if let Some(loading) = self.loading.get_mut(&since.hash) {
            loading.loads -= 1;
            if loading.loads == 0 {
                self.loading.remove(&since.hash);
            }
        }
    }

    /// Notes that the object changes.
    pub fn changed(&mut self, key: &Bytes) {
        if let Some(loading) = self.loading.get_mut(&self.seed.hash_one(key)) {
            loading.changes += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::object;

    #[test]
    fn is_bounded_and_forgets_the_least_recently_used() {
        let mut cache = Cache::new(CachePolicy::Lru, 5000, 1);
        let key = |n: u32| crate::keys::onode(&object("name", n));
        for n in 0..20 {
            cache.put_onode(&key(n), Rc::new(Onode::new(object("name", n), 1 << 17)));
            assert!(cache.onode(&key(0)).is_some(), "used all the time");
            cache.put_shard(&key(n), 0, Rc::default());
        }
        let (count, bytes) = cache.held();
        assert!(bytes <= 5000 && (2..20).contains(&count), "{count} objects in {bytes} bytes");
        assert!(cache.onode(&key(19)).is_some() && cache.onode(&key(2)).is_none());
        let onode = cache.onode(&key(19)).expect("it is there");
        cache.put_changed(&key(19), onode, [(0, None)].into_iter());
        assert!(cache.held().1 < bytes && cache.shard(&key(19), 0).is_none());
        (0..20).for_each(|n| cache.remove(&key(n)));
        assert_eq!(cache.held(), (0, 0));
    }

    #[test]
    fn a_load_notices_a_change() {
        let mut cache = Cache::new(CachePolicy::default(), 2000, 1);
        let key = Bytes::from_static(b"key");
        let since = cache.begin_load(&key);
        cache.changed(&Bytes::from_static(b"another"));
        assert!(!cache.overtaken(since));
        cache.changed(&key);
        let another = cache.begin_load(&key);
        assert!(cache.overtaken(since) && !cache.overtaken(another));
        cache.end_load(since);
        assert!(!cache.overtaken(another));
        cache.end_load(another);
        assert!(cache.loading.is_empty());
    }
}
