//! Changes of an object's data that a request has made but not submitted.
//!
//! Invariant: patches do not overlap and end at or before the object's size; what no patch covers comes from the
//! stored object below `base_visible` and is zero above.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::chunks;

/// Where bytes of a range come from, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// From the stored object.
    Stored {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Zeroes.
    Zeroes(u64),
    /// These.
    Bytes(Vec<Bytes>),
}

/// The changes.
#[derive(Debug)]
pub struct DataOverlay {
    base_visible: u64,
    touched: bool,
    patches: BTreeMap<u64, Patch>,
}

/// New content of a range; `None` is zeroes.
#[derive(Clone, Debug)]
struct Patch {
    len: u64,
    data: Option<Vec<Bytes>>,
}

impl DataOverlay {
    /// No changes to a stored object of `base_size` bytes (0 if there is none).
    pub fn new(base_size: u64) -> Self {
        Self { base_visible: base_size, touched: false, patches: BTreeMap::new() }
    }

    /// Whether anything differs from the stored object.
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// Replaces a range.
    pub fn write(&mut self, offset: u64, data: Vec<Bytes>) {
        let len = chunks::total(&data);
        self.put(offset, Patch { len, data: Some(data) });
    }

    /// Makes a range zero.
    pub fn zero(&mut self, offset: u64, len: u64) {
        self.put(offset, Patch { len, data: None });
    }

    /// Drops everything from `size` on. Growing needs no call.
    pub fn truncate(&mut self, size: u64) {
        self.touched = true;
        self.base_visible = self.base_visible.min(size);
        self.carve(size, u64::MAX);
    }

    /// The sources of `[offset, offset + len)`, which must lie within the object.
    pub fn pieces(&self, offset: u64, len: u64) -> Vec<Piece> {
        let end = offset + len;
        let mut out = Vec::new();
        let mut at = offset;
        let first = self.patches.range(..=offset).next_back().map_or(offset, |(&start, _)| start);
        for (&start, patch) in self.patches.range(first..end) {
            if start + patch.len <= at {
                continue;
            }
            self.unpatched(&mut out, at, start.max(at));
            let from = at.max(start) - start;
            let take = (end - start).min(patch.len) - from;
            out.push(match &patch.data {
                Some(data) => Piece::Bytes(chunks::slice(data, from, take)),
                None => Piece::Zeroes(take),
            });
            at = start + from + take;
        }
        self.unpatched(&mut out, at, end);
        out
    }

    fn unpatched(&self, out: &mut Vec<Piece>, from: u64, to: u64) {
        let stored_to = to.min(self.base_visible);
        if from < stored_to {
            out.push(Piece::Stored { offset: from, len: stored_to - from });
        }
        let zero_from = from.max(self.base_visible);
        if zero_from < to {
            out.push(Piece::Zeroes(to - zero_from));
        }
    }

    fn put(&mut self, offset: u64, patch: Patch) {
        self.touched = true;
        if patch.len == 0 {
            return;
        }
        self.carve(offset, offset + patch.len);
        self.patches.insert(offset, patch);
    }

    /// Removes what patches say about `[from, to)`.
    fn carve(&mut self, from: u64, to: u64) {
        let first = self.patches.range(..from).next_back().map_or(from, |(&start, _)| start);
        let hit: Vec<u64> = self.patches.range(first..to).map(|(&start, _)| start).collect();
        for start in hit {
            let Some(patch) = self.patches.remove(&start) else { continue };
            let end = start + patch.len;
            if start < from {
                self.patches.insert(start, patch.part(0, end.min(from) - start));
            }
            if end > to {
                let cut = to.max(start);
                self.patches.insert(cut, patch.part(cut - start, end - cut));
            }
        }
    }
}

impl Patch {
    fn part(&self, from: u64, len: u64) -> Self {
        Self { len, data: self.data.as_ref().map(|data| chunks::slice(data, from, len)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Change {
        Write(u64, u8, u64),
        Zero(u64, u64),
        Truncate(u64),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0..40u64, any::<u8>(), 0..20u64).prop_map(|(o, b, l)| Change::Write(o, b, l)),
            (0..40u64, 0..20u64).prop_map(|(o, l)| Change::Zero(o, l)),
            (0..60u64).prop_map(Change::Truncate),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_buffer(base in 0..50usize, changes in prop::collection::vec(change(), 0..12),
                                      from in 0..60u64, len in 0..60u64) {
            let stored: Vec<u8> = (1..=base as u8).collect();
            let mut model = stored.clone();
            let mut overlay = DataOverlay::new(base as u64);
            for change in changes {
                match change {
                    Change::Write(offset, byte, len) => {
                        overlay.write(offset, vec![vec![byte; len as usize].into()]);
                        if len > 0 {
                            model.resize(model.len().max((offset + len) as usize), 0);
                            model[offset as usize..(offset + len) as usize].fill(byte);
                        }
                    }
                    Change::Zero(offset, len) => {
                        overlay.zero(offset, len);
                        if len > 0 {
                            model.resize(model.len().max((offset + len) as usize), 0);
                            model[offset as usize..(offset + len) as usize].fill(0);
                        }
                    }
                    Change::Truncate(size) => {
                        overlay.truncate(size);
                        model.resize(size as usize, 0);
                    }
                }
            }
            let end = (from + len).min(model.len() as u64);
            let from = from.min(end);
            let mut got = Vec::new();
            for piece in overlay.pieces(from, end - from) {
                match piece {
                    Piece::Stored { offset, len } => {
                        got.extend_from_slice(&stored[offset as usize..(offset + len) as usize]);
                    }
                    Piece::Zeroes(len) => got.resize(got.len() + len as usize, 0),
                    Piece::Bytes(chunks) => got.extend_from_slice(&chunks::concat(&chunks)),
                }
            }
            prop_assert_eq!(got, &model[from as usize..end as usize]);
        }
    }
}
