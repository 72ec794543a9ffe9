//! Changes of an object's omap that a request has made but not submitted.
//!
//! Invariant: an entry in `entries` overrides the removed ranges, which override the stored omap; the newest change
//! of a key wins.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The changes.
#[derive(Debug, Default)]
pub struct OmapOverlay {
    base_hidden: bool,
    header: Option<Bytes>,
    entries: BTreeMap<Bytes, Option<Bytes>>,
    removed_ranges: Vec<(Bytes, Bytes)>,
}

/// What the changes say about a key.
#[derive(Debug, PartialEq, Eq)]
pub enum OmapLookup {
    /// Its value.
    Value(Bytes),
    /// It is gone.
    Absent,
    /// Nothing: the stored omap tells.
    Stored,
}

impl OmapOverlay {
    /// No changes; `base_hidden` if there is no stored object to look at.
    pub fn new(base_hidden: bool) -> Self {
        Self { base_hidden, ..Self::default() }
    }

    /// Whether any key may differ from the stored omap.
    pub fn has_key_changes(&self) -> bool {
        self.base_hidden || !self.entries.is_empty() || !self.removed_ranges.is_empty()
    }

    /// Whether nothing stored shows.
    pub fn hides_base(&self) -> bool {
        self.base_hidden
    }

    /// Sets entries.
    pub fn set(&mut self, entries: &BTreeMap<Bytes, Bytes>) {
        self.entries.extend(entries.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
    }

    /// Removes keys.
    pub fn remove(&mut self, keys: &[Bytes]) {
        self.entries.extend(keys.iter().map(|key| (key.clone(), None)));
    }

    /// Removes the keys in `[first, end)`.
    pub fn remove_range(&mut self, first: &Bytes, end: &Bytes) {
        self.entries.retain(|key, _| key < first || key >= end);
        self.removed_ranges.push((first.clone(), end.clone()));
    }

    /// Sets the header.
    pub fn set_header(&mut self, header: Bytes) {
        self.header = Some(header);
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        *self = Self::new(true);
    }

    /// The header, or `None` if the stored one holds.
    pub fn header(&self) -> Option<Bytes> {
        match &self.header {
            Some(header) => Some(header.clone()),
            None if self.base_hidden => Some(Bytes::new()),
            None => None,
        }
    }

    /// What is known about `key`.
    pub fn lookup(&self, key: &Bytes) -> OmapLookup {
        match self.entries.get(key) {
            Some(Some(value)) => OmapLookup::Value(value.clone()),
            Some(None) => OmapLookup::Absent,
            None if self.base_hidden || self.in_removed_range(key) => OmapLookup::Absent,
            None => OmapLookup::Stored,
        }
    }

    /// New or changed entries after `start_after` that begin with `prefix`, ascending.
    pub fn entries_after(&self, start_after: &Bytes, prefix: &Bytes) -> Vec<(Bytes, Bytes)> {
        self.entries
            .iter()
            .filter(|(key, _)| *key > start_after && key.starts_with(prefix))
            .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
            .collect()
    }

    fn in_removed_range(&self, key: &Bytes) -> bool {
        self.removed_ranges.iter().any(|(first, end)| key >= first && key < end)
    }
}
