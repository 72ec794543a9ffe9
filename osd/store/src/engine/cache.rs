//! Decoded onodes and shards, bounded by bytes; always equal to the newest state, since every change goes through
//! here too. Lives on one core.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use crate::onode::Onode;
use crate::shard::Shard;

/// See the module.
#[derive(Default)]
pub struct Cache {
    objects: BTreeMap<Bytes, Object>,
    /// By last use.
    order: BTreeMap<u64, Bytes>,
    tick: u64,
    bytes: u64,
    bytes_max: u64,
    /// Loads on their way, so that a load that was overtaken by a change is not taken for the newest state.
    loading: BTreeMap<Bytes, Loading>,
}

#[derive(Default)]
struct Object {
    onode: Option<Rc<Onode>>,
    shards: BTreeMap<u32, Rc<Shard>>,
    bytes: u64,
    tick: u64,
}

#[derive(Default)]
struct Loading {
    loads: u32,
    changes: u64,
}

impl Cache {
    /// Empty, for up to `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// The onode under `key`.
    pub fn onode(&mut self, key: &Bytes) -> Option<Rc<Onode>> {
        self.touch(key);
        self.objects.get(key).and_then(|object| object.onode.clone())
    }

    /// A shard of the object under `key`.
    pub fn shard(&self, key: &Bytes, number: u32) -> Option<Rc<Shard>> {
        self.objects.get(key).and_then(|object| object.shards.get(&number).cloned())
    }

    /// Keeps an onode.
    pub fn put_onode(&mut self, key: &Bytes, onode: Rc<Onode>) {
        let bytes = onode.memory_bytes();
        let object = self.objects.entry(key.clone()).or_default();
        let old = object.onode.replace(onode).map_or(0, |old| old.memory_bytes());
        object.bytes = object.bytes + bytes - old;
        self.bytes = self.bytes + bytes - old;
        // What was there was looked up, and so touched, a moment ago.
        if object.tick == 0 {
            self.touch(key);
        }
        self.evict(key);
    }

    /// Keeps a shard.
    pub fn put_shard(&mut self, key: &Bytes, number: u32, shard: Rc<Shard>) {
        let bytes = shard.memory_bytes();
        let object = self.objects.entry(key.clone()).or_default();
        let old = object.shards.insert(number, shard).map_or(0, |old| old.memory_bytes());
        object.bytes = object.bytes + bytes - old;
        self.bytes = self.bytes + bytes - old;
        // What was there was looked up, and so touched, a moment ago.
        if object.tick == 0 {
            self.touch(key);
        }
        self.evict(key);
    }

    /// Forgets one shard, which is gone.
    pub fn remove_shard(&mut self, key: &Bytes, number: u32) {
        if let Some(object) = self.objects.get_mut(key)
            && let Some(old) = object.shards.remove(&number)
        {
            object.bytes -= old.memory_bytes();
            self.bytes -= old.memory_bytes();
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, key: &Bytes) {
        if let Some(object) = self.objects.remove(key) {
            self.bytes -= object.bytes;
            self.order.remove(&object.tick);
        }
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

    fn touch(&mut self, key: &Bytes) {
        self.tick += 1;
        if let Some(object) = self.objects.get_mut(key) {
            self.order.remove(&object.tick);
            object.tick = self.tick;
            self.order.insert(self.tick, key.clone());
        }
    }

    /// Forgets the least recently used, but never `keep`.
    fn evict(&mut self, keep: &Bytes) {
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.order.first_key_value() else { return };
            if oldest == keep {
                return;
            }
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::object;

    #[test]
    fn is_bounded_and_forgets_the_least_recently_used() {
        let mut cache = Cache::new(2000);
        let key = |n: u32| crate::keys::onode(&object("name", n));
        for n in 0..20 {
            cache.put_onode(&key(n), Rc::new(Onode::new(object("name", n), 1 << 17)));
            assert!(cache.onode(&key(0)).is_some(), "used all the time");
            cache.put_shard(&key(n), 0, Rc::default());
        }
        assert!(cache.bytes <= 2000 && cache.objects.len() < 20);
        assert!(cache.onode(&key(19)).is_some() && cache.onode(&key(2)).is_none());
        let sum: u64 = cache.objects.values().map(|object| object.bytes).sum();
        assert_eq!(sum, cache.bytes);
        assert_eq!(cache.order.len(), cache.objects.len());
    }

    #[test]
    fn a_load_notices_a_change() {
        let mut cache = Cache::new(2000);
        let key = Bytes::from_static(b"key");
        let since = cache.begin_load(&key);
        assert!(!cache.overtaken(&key, since));
        cache.changed(&key);
        assert!(cache.overtaken(&key, since));
        cache.end_load(&key);
        assert!(cache.loading.is_empty());
    }
}
