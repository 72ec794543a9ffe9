//! Decoded onodes and shards, bounded by bytes; always equal to the newest state, since every change goes through
//! here too.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use super::hash::Seeded;
use super::queues::{CachePolicy, Queues};
use crate::check::length;
use crate::onode::Onode;
use crate::shard::Shard;
use crate::sorted::Sorted;

/// See the module.
pub struct Cache {
    objects: Queues<Bytes, Object, Seeded>,
    /// Loads on their way, so that a load that was overtaken by a change is not taken for the newest state.
    loading: BTreeMap<Bytes, Loading>,
}

#[derive(Default)]
struct Object {
    onode: Option<Rc<Onode>>,
    /// By number.
    shards: Sorted<Rc<Shard>>,
    /// Of the onode and the shards.
    bytes: u64,
}

#[derive(Default)]
struct Loading {
    loads: u32,
    changes: u64,
}

/// What a shard takes in the list of an object's shards.
const SHARD_BYTES: u64 = 32;

impl Cache {
    /// Empty, for up to `bytes_max` bytes. Clients choose the keys and do not know the seed.
    pub fn new(policy: CachePolicy, bytes_max: u64, seed: u64) -> Self {
        Self { objects: Queues::new(policy, bytes_max, Seeded(seed)), loading: BTreeMap::new() }
    }

    /// The onode under `key`.
    pub fn onode(&mut self, key: &Bytes) -> Option<Rc<Onode>> {
        self.objects.get(key).and_then(|object| object.onode.clone())
    }

    /// A shard of the object under `key`.
    pub fn shard(&self, key: &Bytes, number: u32) -> Option<Rc<Shard>> {
        self.objects.peek(key).and_then(|object| object.shards.get(number.into()).cloned())
    }

    /// Keeps an onode.
    pub fn put_onode(&mut self, key: &Bytes, onode: Rc<Onode>) {
        self.change(key, |object| {
            let bytes = onode.memory_bytes();
            let old = object.onode.replace(onode).map_or(0, |old| old.memory_bytes());
            object.bytes = object.bytes + bytes - old;
        });
    }

    /// Keeps a shard.
    pub fn put_shard(&mut self, key: &Bytes, number: u32, shard: Rc<Shard>) {
        self.change(key, |object| {
            let bytes = shard.memory_bytes() + SHARD_BYTES;
            let old = object.shards.insert(number.into(), shard);
            object.bytes = object.bytes + bytes - old.map_or(0, |old| old.memory_bytes() + SHARD_BYTES);
        });
    }

    /// Forgets one shard, which is gone.
    pub fn remove_shard(&mut self, key: &Bytes, number: u32) {
        if self.shard(key, number).is_some() {
            self.change(key, |object| {
                let old = object.shards.remove(number.into());
                object.bytes -= old.map_or(0, |old| old.memory_bytes() + SHARD_BYTES);
            });
        }
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

    /// Starts a load of the object under `key`; gives a number for [`Self::overtaken`].
    pub fn begin_load(&mut self, key: &Bytes) -> u64 {
        let loading = self.loading.entry(key.clone()).or_default();
        loading.loads += 1;
        loading.changes
    }

    /// Whether the object changed since the load began.
    pub fn overtaken(&self, key: &Bytes, since: u64) -> bool {
        self.loading.get(key).is_none_or(|loading| loading.changes != since)
    }

    /// Ends a load.
    pub fn end_load(&mut self, key: &Bytes) {
        if let Some(loading) = self.loading.get_mut(key) {
            loading.loads -= 1;
            if loading.loads == 0 {
                self.loading.remove(key);
            }
        }
    }

    /// Notes that the object changes.
    pub fn changed(&mut self, key: &Bytes) {
        if let Some(loading) = self.loading.get_mut(key) {
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
        cache.remove_shard(&key(19), 0);
        assert!(cache.held().1 < bytes && cache.shard(&key(19), 0).is_none());
        (0..20).for_each(|n| cache.remove(&key(n)));
        assert_eq!(cache.held(), (0, 0));
    }

    #[test]
    fn a_load_notices_a_change() {
        let mut cache = Cache::new(CachePolicy::default(), 2000, 1);
        let key = Bytes::from_static(b"key");
        let since = cache.begin_load(&key);
        assert!(!cache.overtaken(&key, since));
        cache.changed(&key);
        assert!(cache.overtaken(&key, since));
        cache.end_load(&key);
        assert!(cache.loading.is_empty());
    }
}
