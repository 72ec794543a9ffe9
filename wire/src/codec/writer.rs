//! Appends Ceph's encoding to a growing buffer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Wire;

/// Writes Ceph's encoding. Cannot fail: only our own values go in, and a buffer above 4 GiB is a broken
/// invariant.
#[derive(Debug, Default)]
pub struct Writer {
    // Not `BytesMut`, which takes a call for each field.
    buffer: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: Vec::with_capacity(capacity) }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What was written.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// Ends writing.
    pub fn finish(self) -> Bytes {
        self.buffer.into()
    }

    /// Bytes without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// `count` zero bytes.
    pub fn zeros(&mut self, count: usize) {
        self.buffer.resize(self.buffer.len() + count, 0);
    }

    /// Unsigned byte.
    pub fn u8(&mut self, value: u8) {
        self.buffer.push(value);
    }

    /// Unsigned 16 bit.
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    /// Unsigned 32 bit.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// Unsigned 64 bit.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// Signed byte.
    pub fn s8(&mut self, value: i8) {
        self.raw(&value.to_le_bytes());
    }

    /// Signed 16 bit.
    pub fn s16(&mut self, value: i16) {
        self.raw(&value.to_le_bytes());
    }

    /// Signed 32 bit.
    pub fn s32(&mut self, value: i32) {
        self.raw(&value.to_le_bytes());
    }

    /// Signed 64 bit.
    pub fn s64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }

    /// IEEE-754 single.
    pub fn f32(&mut self, value: f32) {
        self.raw(&value.to_le_bytes());
    }

    /// IEEE-754 double.
    pub fn f64(&mut self, value: f64) {
        self.raw(&value.to_le_bytes());
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    /// A u32 count.
    pub fn count(&mut self, count: usize) {
        self.u32(length_u32(count));
    }

    /// Length-prefixed bytes.
    pub fn blob(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// Length-prefixed text.
    pub fn str(&mut self, text: &str) {
        self.blob(text.as_bytes());
    }

    /// A value of any [`Wire`] type.
    pub fn put<T: Wire>(&mut self, value: &T) {
        value.encode(self);
    }

    /// A counted list.
    pub fn list<T: Wire>(&mut self, list: &[T]) {
        self.list_with(list, |w, value| value.encode(w));
    }

    /// A counted list, elements written by `write`.
    pub fn list_with<T>(&mut self, list: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.count(list.len());
        for value in list {
            write(self, value);
        }
    }

    /// A counted set, ascending.
    pub fn set<T: Wire + Ord>(&mut self, set: &BTreeSet<T>) {
        self.count(set.len());
        for value in set {
            value.encode(self);
        }
    }

    /// A counted map, ascending.
    pub fn map<K: Wire + Ord, V: Wire>(&mut self, map: &BTreeMap<K, V>) {
        self.map_with(map, |w, key| key.encode(w), |w, value| value.encode(w));
    }

    /// A counted map with writers for keys and values.
    pub fn map_with<K, V>(
        &mut self,
        map: &BTreeMap<K, V>,
        mut write_key: impl FnMut(&mut Self, &K),
        mut write_value: impl FnMut(&mut Self, &V),
    ) {
        self.count(map.len());
        for (key, value) in map {
            write_key(self, key);
            write_value(self, value);
        }
    }

    /// A presence byte, then the value.
    pub fn opt<T: Wire>(&mut self, value: Option<&T>) {
        self.bool(value.is_some());
        if let Some(value) = value {
            value.encode(self);
        }
    }

    /// Ceph's versioned envelope around what `write` writes; see [`super::Reader::env`].
    pub fn env(&mut self, version: u8, compat: u8, write: impl FnOnce(&mut Self)) {
        self.u8(version);
        self.u8(compat);
        self.prefixed(write);
    }

    /// A u32 length around what `write` writes: a blob whose content is itself encoded.
    pub fn prefixed(&mut self, write: impl FnOnce(&mut Self)) {
        let at = self.len();
        self.u32(0);
        let start = self.len();
        write(self);
        let length = length_u32(self.len() - start);
        self.patch_u32(at, length);
    }

    /// Overwrites four bytes written before, for lengths and checksums that are known late.
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        self.buffer[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// A length as the wire has it. Panics above 4 GiB: nothing of ours comes near.
fn length_u32(length: usize) -> u32 {
    match u32::try_from(length) {
        Ok(length) => length,
        Err(_) => panic!("invariant: encoded lengths are below 4 GiB, not {length}"),
    }
}
