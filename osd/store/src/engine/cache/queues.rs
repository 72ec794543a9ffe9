//! [`Queues`]: values by key, bounded by bytes, with what was used last or most in them: 2Q, or LRU. Pure.
//!
//! 2Q: what comes for the first time waits in a queue, *fresh*, and goes with its end, however often it is used there; so a
//! scan passes through a part of the cache only. Its key is remembered for a while, and what comes back in that time was
//! used twice, at a distance: it is *hot*, and of that the least recently used goes. LRU knows only what is hot.
//!
//! Where it costs to bring a value, [`Queues::admits`] says whether that is worth it: a full cache of two queues lets most of
//! what comes for the first time *pass*, and remembers the key. What comes back is fresh then, as if it had come once. Some comes
//! in all the same, so that what nobody uses any more goes.
//!
//! Keys that are remembered also tell what more memory would be good for: a key that comes back would still be here if
//! the cache were half as large again. These are counted for either policy. Every operation takes constant time but for
//! what it evicts.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// What goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// What was used once, then the least recently used.
    #[default]
    TwoQueues,
    /// The least recently used.
    Lru,
}

/// Part of the bytes that fresh values may have before hot ones have to go, and that remembered ones had.
const FRESH_PART: u64 = 2;
const REMEMBERED_PART: u64 = 2;
/// Slots that may be unused for each that is used, before their memory is given back.
const SLACK: usize = 4;
/// Values that go at most for one that comes.
const VICTIMS_MAX: usize = 64;

/// Of values that may pass, one of so many does not.
const ADMITTED_ONE_OF: u32 = 8;

/// No slot.
const NONE: u32 = u32::MAX;

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Fresh,
    Hot,
    Remembered,
}

struct Slot<K, V> {
    key: K,
    /// None if only the key is remembered.
    value: Option<V>,
    /// Bytes of the value; of a remembered key, those that it had.
    bytes: u64,
    place: Place,
    /// Its value was never here.
    passed: bool,
    newer: u32,
    older: u32,
}

/// A list of slots, from the newest to the oldest.
#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
    bytes: u64,
    count: u64,
}

impl Default for List {
    fn default() -> Self {
        Self { newest: NONE, oldest: NONE, bytes: 0, count: 0 }
    }
}

/// See the module. `S` must spread keys well; nothing here depends on the order of the index.
pub struct Queues<K, V, S> {
    policy: CachePolicy,
    bytes_max: u64,
    index: HashMap<K, u32, S>,
    slots: Vec<Slot<K, V>>,
    fresh: List,
    hot: List,
    remembered: List,
    came_back: u64,
    /// Since one was admitted.
    passed: u32,
}

impl<K: Hash + Eq + Clone, V, S: BuildHasher> Queues<K, V, S> {
    /// Bytes that a value takes beside itself, and a remembered key beside what it holds: a slot, and its share of the
    /// index, with what growing tables leave unused.
    pub const SLOT_BYTES: u64 = (size_of::<Slot<K, V>>() * 3 / 2 + (size_of::<(K, u32)>() + 1) * 2) as u64;

    /// Empty, for values of up to `bytes_max` bytes, slots counted.
    pub fn new(policy: CachePolicy, bytes_max: u64, hasher: S) -> Self {
        Self {
            policy,
            bytes_max,
            index: HashMap::with_hasher(hasher),
            slots: Vec::new(),
            fresh: List::default(),
            hot: List::default(),
            remembered: List::default(),
            came_back: 0,
            passed: 0,
        }
    }

    /// Values.
    pub fn len(&self) -> u64 {
        self.fresh.count + self.hot.count
    }

    /// Bytes of memory: of values, and of everything that they and remembered keys take.
    pub fn bytes(&self) -> u64 {
        self.value_bytes() + self.remembered.count * Self::SLOT_BYTES
    }

    /// Bytes that there may be.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Remembered keys that came back since the beginning: a cache half as large again would have had their values.
    pub fn came_back(&self) -> u64 {
        self.came_back
    }

    /// There may be so many bytes from now on. What does not fit goes with [`Self::trim`], and with what comes.
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// Lets up to `most` values and keys go that are too much. False if there are more.
    pub fn trim(&mut self, most: usize) -> bool {
        self.evict(None, most)
    }

    /// A value, which is used.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        if self.slot(at).place == Place::Hot && self.hot.newest != at {
            self.unlink(at);
            self.link(at, Place::Hot);
        }
        self.slot_mut(at).value.as_mut()
    }

    /// A value, which does not count as used.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.slot(*self.index.get(key)?).value.as_ref()
    }

    /// A value to be changed in place, which does not count as used. [`Self::resize`] tells of its new size.
    pub fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        self.slot_mut(at).value.as_mut()
    }

    /// Whether there is room for a value of `bytes` bytes without any other going.
    fn has_room(&self, bytes: u64) -> bool {
        self.bytes() + bytes + Self::SLOT_BYTES <= self.bytes_max
    }

    /// Whether a value of `bytes` bytes that would be fresh is to be put here; if not, its key is remembered.
    pub fn admits(&mut self, key: &K, bytes: u64) -> bool {
        let is_open = self.policy == CachePolicy::Lru || self.has_room(bytes) || self.index.contains_key(key);
        if is_open || self.passed >= ADMITTED_ONE_OF - 1 {
            self.passed = 0;
            return true;
        }
        self.passed += 1;
        if bytes + Self::SLOT_BYTES <= self.bytes_max {
            let at = self.push(key.clone(), None, bytes + Self::SLOT_BYTES, true);
            self.link(at, Place::Remembered);
            self.evict(None, VICTIMS_MAX);
        }
        false
    }

    /// Puts a value of `bytes` bytes in the place of what is under the key; it may go with what has to go for it.
    /// `is_hot`: it will be used again, so it does not wait among the fresh ones.
    pub fn insert(&mut self, key: K, value: V, bytes: u64, is_hot: bool) {
        let bytes = bytes + Self::SLOT_BYTES;
        if bytes > self.bytes_max {
            self.forget(&key);
            return;
        }
        let mut place = match self.policy {
            CachePolicy::TwoQueues if !is_hot => Place::Fresh,
            _ => Place::Hot,
        };
        let at = match self.index.get(&key) {
            Some(&at) => {
                match self.slot(at).place {
                    Place::Remembered => {
                        self.came_back += 1;
                        if !self.slot(at).passed {
                            place = Place::Hot;
                        }
                    }
                    Place::Hot => place = Place::Hot,
                    Place::Fresh => {}
                }
                self.unlink(at);
                let slot = self.slot_mut(at);
                (slot.value, slot.bytes, slot.passed) = (Some(value), bytes, false);
                at
            }
            None => self.push(key, Some(value), bytes, false),
        };
        self.link(at, place);
        self.evict(Some(at), VICTIMS_MAX);
    }

    /// A new slot, in no list yet.
    fn push(&mut self, key: K, value: Option<V>, bytes: u64, passed: bool) -> u32 {
        let at = u32::try_from(self.slots.len()).unwrap_or(NONE);
        assert_ne!(at, NONE, "more slots than memory can hold");
        let place = Place::Remembered;
        self.index.insert(key.clone(), at);
        self.slots.push(Slot { key, value, bytes, place, passed, newer: NONE, older: NONE });
        at
    }

    /// The value under the key has so many bytes now.
    pub fn resize(&mut self, key: &K, bytes: u64) {
        let Some(&at) = self.index.get(key) else { return };
        let slot = self.slot_mut(at);
        if slot.value.is_none() {
            return;
        }
        let before = std::mem::replace(&mut slot.bytes, bytes + Self::SLOT_BYTES);
        let place = slot.place;
        let list = self.list_mut(place);
        list.bytes = list.bytes - before + bytes + Self::SLOT_BYTES;
        self.evict(Some(at), VICTIMS_MAX);
    }

    /// Takes a value out, and forgets its key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.index.remove(key)?;
        self.unlink(at);
        let gone = self.slots.swap_remove(index(at));
        if let Some(moved) = self.slots.get(index(at)) {
            // The last slot is here now: its neighbours and the index are to know.
            let (newer, older, place) = (moved.newer, moved.older, moved.place);
            if let Some(number) = self.index.get_mut(&moved.key) {
                *number = at;
            }
            self.point(place, newer, older, at, at);
        }
        if self.slots.capacity() > SLACK * self.slots.len().max(64) {
            self.slots.shrink_to(2 * self.slots.len());
            self.index.shrink_to(2 * self.slots.len());
        }
        gone.value
    }

    /// Whether nothing is here or remembered.
    pub fn is_blank(&self) -> bool {
        self.index.is_empty()
    }

    fn forget(&mut self, key: &K) {
        drop(self.remove(key));
    }

    fn value_bytes(&self) -> u64 {
        self.fresh.bytes + self.hot.bytes
    }

    /// Lets go of up to `most` of what is too much, of `keep` last. False if there are more.
    fn evict(&mut self, keep: Option<u32>, most: usize) -> bool {
        if !self.is_too_much() {
            return true;
        }
        // By its key, as slots move.
        let mut keep = keep.map(|at| self.slot(at).key.clone());
        for _ in 0..most {
            if !self.is_too_much() {
                return true;
            }
            // Remembered keys are memory, too: there is an eighth for them.
            let keys_too_many = self.remembered.count * Self::SLOT_BYTES > self.bytes_max / 8;
            if keys_too_many || self.remembers_too_much() || self.value_bytes() == 0 {
                self.drop_oldest_remembered();
                continue;
            }
            let fresh_first = self.fresh.bytes > self.bytes_max / FRESH_PART || self.hot.count == 0;
            let (first, second) = if fresh_first { (self.fresh, self.hot) } else { (self.hot, self.fresh) };
            let is_kept = keep.as_ref().is_some_and(|key| self.slot(first.oldest).key == *key);
            let victim = match is_kept && second.oldest != NONE {
                true => second.oldest,
                false => first.oldest,
            };
            if is_kept && victim == first.oldest {
                keep = None;
            }
            self.remember(victim);
        }
        !self.is_too_much()
    }

    fn is_too_much(&self) -> bool {
        self.bytes() > self.bytes_max || self.remembers_too_much()
    }

    fn remembers_too_much(&self) -> bool {
        self.remembered.bytes > self.bytes_max / REMEMBERED_PART
    }

    fn remember(&mut self, at: u32) {
        self.unlink(at);
        self.slot_mut(at).value = None;
        self.link(at, Place::Remembered);
    }

    fn drop_oldest_remembered(&mut self) {
        let oldest = self.remembered.oldest;
        assert_ne!(oldest, NONE, "what is counted is in the list");
        let key = self.slot(oldest).key.clone();
        self.forget(&key);
    }

    fn list_mut(&mut self, place: Place) -> &mut List {
        match place {
            Place::Fresh => &mut self.fresh,
            Place::Hot => &mut self.hot,
            Place::Remembered => &mut self.remembered,
        }
    }

    fn slot(&self, at: u32) -> &Slot<K, V> {
        match self.slots.get(index(at)) {
            Some(slot) => slot,
            None => panic!("slot {at} is linked and not there"),
        }
    }

    fn slot_mut(&mut self, at: u32) -> &mut Slot<K, V> {
        match self.slots.get_mut(index(at)) {
            Some(slot) => slot,
            None => panic!("slot {at} is linked and not there"),
        }
    }

    /// Lets the neighbours of a slot, or the ends of its list, point elsewhere: to `next_older` and `next_newer`.
    fn point(&mut self, place: Place, newer: u32, older: u32, next_older: u32, next_newer: u32) {
        match newer {
            NONE => self.list_mut(place).newest = next_older,
            newer => self.slot_mut(newer).older = next_older,
        }
        match older {
            NONE => self.list_mut(place).oldest = next_newer,
            older => self.slot_mut(older).newer = next_newer,
        }
    }

    fn unlink(&mut self, at: u32) {
        let Slot { newer, older, place, bytes, .. } = *self.slot(at);
        self.point(place, newer, older, older, newer);
        let list = self.list_mut(place);
        list.bytes -= bytes;
        list.count -= 1;
    }

    /// As the newest.
    fn link(&mut self, at: u32, place: Place) {
        let older = self.list_mut(place).newest;
        let slot = self.slot_mut(at);
        (slot.place, slot.newer, slot.older) = (place, NONE, older);
        let bytes = slot.bytes;
        if older != NONE {
            self.slot_mut(older).newer = at;
        }
        let list = self.list_mut(place);
        list.newest = at;
        if older == NONE {
            list.oldest = at;
        }
        list.bytes += bytes;
        list.count += 1;
    }
}

fn index(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use proptest::prelude::*;

    use super::*;

    const ONE: u64 = 1000;

    type Small = Queues<u64, u64, BuildHasherDefault<DefaultHasher>>;

    fn queues(policy: CachePolicy, values: u64) -> Small {
        Queues::new(policy, values * (ONE + Small::SLOT_BYTES), BuildHasherDefault::default())
    }

    fn put(queues: &mut Small, key: u64) {
        if queues.get(&key).is_none() {
            queues.insert(key, key, ONE, false);
        }
    }

    fn check(queues: &Small) {
        let mut seen = 0;
        for (place, list) in
            [(Place::Fresh, queues.fresh), (Place::Hot, queues.hot), (Place::Remembered, queues.remembered)]
        {
            let (mut at, mut newer, mut bytes, mut count) = (list.newest, NONE, 0, 0);
            while at != NONE {
                let slot = queues.slot(at);
                assert_eq!((slot.place, slot.newer), (place, newer));
                assert_eq!(slot.value.is_none(), place == Place::Remembered);
                assert_eq!(queues.index.get(&slot.key), Some(&at));
                (bytes, count) = (bytes + slot.bytes, count + 1);
                (newer, at) = (at, slot.older);
            }
            assert_eq!((list.oldest, list.bytes, list.count), (newer, bytes, count));
            seen += count;
        }
        assert_eq!(seen, queues.index.len() as u64);
        assert_eq!(queues.slots.len(), queues.index.len());
        assert!(queues.slots.capacity() <= SLACK * queues.slots.len().max(64) + 1);
        assert!(queues.bytes() <= queues.bytes_max());
        assert!(queues.remembered.bytes <= queues.bytes_max() / REMEMBERED_PART);
    }

    #[test]
    fn a_scan_does_not_drive_out_what_is_used_again_and_again() {
        let kept = |policy| {
            let mut queues = queues(policy, 100);
            // Used, driven out of the fresh ones, used again: hot.
            for round in 0..8 {
                (0..30).for_each(|key| put(&mut queues, key));
                (0..40).for_each(|key| put(&mut queues, 1000 + 40 * round + key));
            }
            (5000..9000).for_each(|key| put(&mut queues, key));
            check(&queues);
            (0..30).filter(|key| queues.get(key).is_some()).count()
        };
        assert_eq!(kept(CachePolicy::Lru), 0);
        assert!(kept(CachePolicy::TwoQueues) == 30, "{}", kept(CachePolicy::TwoQueues));
    }

    #[test]
    fn lru_lets_the_least_recently_used_go_and_tells_who_came_back() {
        let mut queues = queues(CachePolicy::Lru, 10);
        (0..10).for_each(|key| put(&mut queues, key));
        put(&mut queues, 0);
        put(&mut queues, 10);
        assert!(queues.get(&0).is_some() && queues.peek(&1).is_none());
        assert_eq!(queues.came_back(), 0);
        put(&mut queues, 1);
        assert_eq!(queues.came_back(), 1, "twenty values would have been enough");
        check(&queues);
    }

    #[test]
    fn what_will_be_needed_is_hot_at_once_and_what_is_too_large_does_not_come() {
        let mut queues = queues(CachePolicy::TwoQueues, 10);
        queues.insert(1, 1, ONE, true);
        (100..300).for_each(|key| put(&mut queues, key));
        assert_eq!(queues.get(&1), Some(&mut 1));
        queues.insert(1, 2, 20 * ONE, true);
        assert_eq!(queues.get(&1), None, "not the old one either");
        queues.set_bytes_max(0);
        assert!(!queues.trim(1) && queues.trim(1000), "a little at a time");
        assert!(queues.is_blank() && queues.bytes() == 0);
        queues.insert(1, 1, 0, true);
        assert!(queues.is_blank());
        check(&queues);
    }

    /// Reads keys, each of which costs something to bring; gives how many were there.
    fn read(queues: &mut Small, keys: impl Iterator<Item = u64>) -> usize {
        let mut found = 0;
        for key in keys {
            if queues.get(&key).is_some() {
                found += 1;
            } else if queues.admits(&key, ONE) {
                queues.insert(key, key, ONE, false);
            }
            check(queues);
        }
        found
    }

    #[test]
    fn what_is_new_passes_a_full_cache_and_what_comes_back_does_not() {
        let mut queues = queues(CachePolicy::TwoQueues, 100);
        read(&mut queues, 0..90);
        assert_eq!(queues.len(), 90, "there is room");
        read(&mut queues, 1000..1300);
        let left = (0..90).filter(|key| queues.peek(key).is_some()).count();
        assert!(left > 0 && queues.fresh.count > 80, "{left}: most of a scan passed");
        assert_eq!(read(&mut queues, 2000..2020), 0);
        let came_back = queues.came_back();
        read(&mut queues, 2000..2020);
        assert!(queues.came_back() > came_back + 10);
        assert_eq!(read(&mut queues, 2000..2020), 20, "it was asked for twice");
        assert!(queues.hot.count < 20, "which is not yet a sign that it will be again");
        // Others are used now, as many as there is room for.
        let found: Vec<usize> = (0..40).map(|_| read(&mut queues, 5000..5090)).collect();
        assert!(found.iter().rev().take(5).all(|found| *found > 80), "{found:?}");
    }

    #[test]
    fn the_least_recently_used_go_for_everything_new() {
        let mut queues = queues(CachePolicy::Lru, 10);
        assert_eq!(read(&mut queues, 0..100), 0);
        assert_eq!(read(&mut queues, 92..100), 8);
    }

    proptest! {
        #[test]
        fn the_lists_are_what_was_put_and_bounded(
            two in any::<bool>(),
            steps in prop::collection::vec((0u8..8, 0u64..60, 0u64..3000), 1..400),
        ) {
            let mut queues = queues(if two { CachePolicy::TwoQueues } else { CachePolicy::Lru }, 12);
            let mut newest = BTreeMap::new();
            for (number, (what, key, size)) in (0u64..).zip(steps) {
                match what {
                    0 | 1 => {
                        queues.insert(key, number, size, what == 1);
                        newest.insert(key, number);
                    }
                    2 => queues.resize(&key, size),
                    3 => {
                        queues.remove(&key);
                        newest.remove(&key);
                    }
                    4 => {
                        queues.set_bytes_max(size * 8);
                        prop_assert!(queues.trim(1000));
                    }
                    5 | 6 if queues.admits(&key, size) => {
                        queues.insert(key, number, size, false);
                        newest.insert(key, number);
                    }
                    _ => {}
                }
                let found = queues.get(&key).copied();
                prop_assert!(found.is_none() || found == newest.get(&key).copied());
                check(&queues);
            }
        }
    }
}
