//! [`Sorted`]: few values by an ascending offset or address, in one piece of memory.
//!
//! For extent maps, which are encoded whole at each write, mostly copied, and searched a little: there a tree's nodes cost more
//! than they save.

use std::ops::{Bound, RangeBounds};

/// See the module. Keys are distinct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sorted<V> {
    entries: Vec<(u64, V)>,
}

impl<V> Default for Sorted<V> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<V> Sorted<V> {
    /// Nothing, with room for `count` values.
    pub fn with_capacity(count: usize) -> Self {
        Self { entries: Vec::with_capacity(count) }
    }

    /// Bytes of memory beside this.
    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(u64, V)>()
    }

    /// Values.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All, ascending.
    pub fn iter(&self) -> std::slice::Iter<'_, (u64, V)> {
        self.entries.iter()
    }

    /// The values, by ascending key.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// All, ascending, the values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut V)> {
        self.entries.iter_mut().map(|(key, value)| (*key, value))
    }

    /// The values, by ascending key.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// Those with keys in a range, ascending.
    pub fn range(&self, range: impl RangeBounds<u64>) -> &[(u64, V)] {
        let first = match range.start_bound() {
            Bound::Included(start) => self.entries.partition_point(|(key, _)| key < start),
            Bound::Excluded(start) => self.entries.partition_point(|(key, _)| key <= start),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => self.entries.partition_point(|(key, _)| key <= end),
            Bound::Excluded(end) => self.entries.partition_point(|(key, _)| key < end),
            Bound::Unbounded => self.entries.len(),
        };
        self.entries.get(first..end).unwrap_or_default()
    }

    /// Those with keys in `start..end`, and the one before them, which may reach into the range.
    pub fn range_and_before(&self, start: u64, end: u64) -> &[(u64, V)] {
        let first = self.entries.partition_point(|(key, _)| *key < start).saturating_sub(1);
        let after = self.entries.get(first..).unwrap_or_default();
        let count = after.partition_point(|(key, _)| *key < end);
        after.get(..count).unwrap_or_default()
    }

    /// The place of a key, for [`Self::at`].
    pub fn position(&self, key: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&key, |(key, _)| *key).ok()
    }

    /// The place of the last key that is not above `key`, for [`Self::at`].
    pub fn position_at_or_below(&self, key: u64) -> Option<usize> {
        self.entries.partition_point(|(other, _)| *other <= key).checked_sub(1)
    }

    /// What is at a place.
    pub fn at(&self, position: usize) -> Option<(u64, &V)> {
        self.entries.get(position).map(|(key, value)| (*key, value))
    }

    /// What is at a place.
    pub fn at_mut(&mut self, position: usize) -> Option<(u64, &mut V)> {
        self.entries.get_mut(position).map(|(key, value)| (*key, value))
    }

    /// The last one whose key is not above `key`.
    pub fn at_or_below(&self, key: u64) -> Option<(u64, &V)> {
        self.at(self.position_at_or_below(key)?)
    }

    /// The last one.
    pub fn last_mut(&mut self) -> Option<(u64, &mut V)> {
        self.entries.last_mut().map(|(key, value)| (*key, value))
    }

    /// The value of a key.
    pub fn get(&self, key: u64) -> Option<&V> {
        self.entries.get(self.position(key)?).map(|(_, value)| value)
    }

    /// Adds a value; gives the one it replaces. Cheap if the key is above all others.
    pub fn insert(&mut self, key: u64, value: V) -> Option<V> {
        if self.entries.last().is_none_or(|(last, _)| *last < key) {
            self.entries.push((key, value));
            return None;
        }
        match self.entries.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => self.entries.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => {
                self.entries.insert(at, (key, value));
                None
            }
        }
    }

    /// Replaces those with keys in `start..end` by others, which are ascending and in that range.
    pub fn splice(&mut self, start: u64, end: u64, with: impl IntoIterator<Item = (u64, V)>) {
        let first = self.entries.partition_point(|(key, _)| *key < start);
        let last = self.entries.partition_point(|(key, _)| *key < end);
        self.entries.splice(first..last.max(first), with);
        debug_assert!(self.entries.is_sorted_by(|(a, _), (b, _)| a < b), "what was put in is in its place");
    }

    /// Removes a value.
    pub fn remove(&mut self, key: u64) -> Option<V> {
        let at = self.position(key)?;
        Some(self.entries.remove(at).1)
    }

    /// Removes what is at a place.
    pub fn remove_at(&mut self, position: usize) {
        if position < self.entries.len() {
            self.entries.remove(position);
        }
    }
}

impl<V: Clone> Sorted<V> {
    /// A copy with room for `count` values more.
    pub fn with_room(&self, count: usize) -> Self {
        let mut entries = Vec::with_capacity(self.entries.len() + count);
        entries.extend_from_slice(&self.entries);
        Self { entries }
    }
}

impl<V, const N: usize> From<[(u64, V); N]> for Sorted<V> {
    fn from(entries: [(u64, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<V> FromIterator<(u64, V)> for Sorted<V> {
    fn from_iter<I: IntoIterator<Item = (u64, V)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        let mut sorted = Self::with_capacity(entries.size_hint().0);
        entries.for_each(|(key, value)| {
            sorted.insert(key, value);
        });
        sorted
    }
}

impl<V> IntoIterator for Sorted<V> {
    type Item = (u64, V);
    type IntoIter = std::vec::IntoIter<(u64, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(changes in prop::collection::vec((any::<bool>(), 0..30u64, any::<u8>()), 0..80)) {
            let (mut sorted, mut model) = (Sorted::default(), BTreeMap::new());
            for (add, key, value) in changes {
                if add {
                    prop_assert_eq!(sorted.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(sorted.remove(key), model.remove(&key));
                }
                prop_assert_eq!(sorted.len(), model.len());
                prop_assert!(sorted.iter().copied().eq(model.iter().map(|(key, value)| (*key, *value))));
                prop_assert!(sorted.values().eq(model.values()));
                prop_assert_eq!(sorted.get(key), model.get(&key));
                let below = model.range(..=key).next_back().map(|(key, value)| (*key, value));
                prop_assert_eq!(sorted.at_or_below(key), below);
                let range: Vec<_> = model.range(key..key + 9).map(|(key, value)| (*key, *value)).collect();
                prop_assert_eq!(sorted.range(key..key + 9), range);
                let range: Vec<_> = model.range(..=key).map(|(key, value)| (*key, *value)).collect();
                prop_assert_eq!(sorted.range(..=key), range);
            }
            if let Some((key, _)) = sorted.at(sorted.len() / 2) {
                model.remove(&key);
            }
            sorted.remove_at(sorted.len() / 2);
            prop_assert!(sorted.with_room(2).iter().copied().eq(model.iter().map(|(key, value)| (*key, *value))));
            model.retain(|key, _| !(7..12).contains(key));
            model.insert(8, 1);
            sorted.splice(7, 12, [(8, 1)]);
            prop_assert!(sorted.into_iter().eq(model));
        }
    }
}
