//! One object of the memory store: bytes that were written, in pieces that do not overlap.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use crate::check::length;
use crate::limits;
use crate::object_store::OmapPage;
use crate::types::Hints;

/// An object. `pieces` never overlap and never reach beyond `size`; what no piece covers is a hole.
#[derive(Clone, Debug, Default)]
pub(super) struct MemObject {
    pub size: u64,
    pub hints: Hints,
    pub pieces: BTreeMap<u64, Bytes>,
    pub attrs: BTreeMap<Bytes, Bytes>,
    pub omap: BTreeMap<Bytes, Bytes>,
    pub omap_header: Bytes,
}

impl MemObject {
    /// Replaces the range by `data`.
    pub fn write(&mut self, offset: u64, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let end = offset + length(&data);
        self.punch(offset, end);
        self.pieces.insert(offset, data);
        self.size = self.size.max(end);
    }

    /// Makes `[start, end)` a hole.
    pub fn punch(&mut self, start: u64, end: u64) {
        let touched: Vec<u64> = self
            .pieces
            .range(..end)
            .filter(|(at, piece)| **at + length(piece) > start)
            .map(|(at, _)| *at)
            .collect();
        for at in touched {
            let Some(piece) = self.pieces.remove(&at) else { continue };
            let piece_end = at + length(&piece);
            if at < start {
                self.pieces.insert(at, piece.slice(..index(start - at)));
            }
            if piece_end > end {
                self.pieces.insert(end, piece.slice(index(end - at)..));
            }
        }
    }

    /// Replaces a range by one of another object, holes included.
    pub fn take(&mut self, from: &Self, offset: u64, len: u64, target_offset: u64) {
        self.punch(target_offset, target_offset + len);
        for (at, some) in from.extents(offset, len) {
            let to = at - offset + target_offset;
            from.read(at, some).into_iter().for_each(|data| self.write(to, data));
        }
        if len > 0 {
            self.size = self.size.max(target_offset + len);
        }
    }

    /// Sets the size; what is beyond goes.
    pub fn truncate(&mut self, size: u64) {
        self.punch(size, u64::MAX);
        self.size = size;
    }

    /// The bytes of the range, as far as the object goes, holes as zeroes.
    pub fn read(&self, offset: u64, len: u64) -> Vec<Bytes> {
        let end = offset.saturating_add(len).min(self.size);
        if offset >= end {
            return Vec::new();
        }
        let mut out = BytesMut::zeroed(index(end - offset));
        for (at, piece) in self.pieces.range(..end) {
            let (from, to) = ((*at).max(offset), (at + length(piece)).min(end));
            if from < to {
                out[index(from - offset)..index(to - offset)]
                    .copy_from_slice(&piece[index(from - at)..index(to - at)]);
            }
        }
        vec![out.freeze()]
    }

    /// The written parts of the range, adjacent ones joined.
    pub fn extents(&self, offset: u64, len: u64) -> Vec<(u64, u64)> {
        let end = offset.saturating_add(len).min(self.size);
        let mut out: Vec<(u64, u64)> = Vec::new();
        for (at, piece) in self.pieces.range(..end) {
            let (from, to) = ((*at).max(offset), (at + length(piece)).min(end));
            match out.last_mut() {
                _ if from >= to => {}
                Some((start, len)) if *start + *len == from => *len = to - *start,
                _ => out.push((from, to - from)),
            }
        }
        out
    }

    /// Bytes that were written and not removed.
    pub fn stored(&self) -> u64 {
        self.pieces.values().map(|piece| length(piece)).sum()
    }

    /// Whole blocks that hold at least one written byte, in bytes.
    pub fn allocated(&self) -> u64 {
        let mut blocks = BTreeSet::new();
        for (at, piece) in &self.pieces {
            blocks.extend(at / limits::BLOCK..=(at + length(piece) - 1) / limits::BLOCK);
        }
        u64::try_from(blocks.len()).unwrap_or(u64::MAX) * limits::BLOCK
    }

    /// Bytes of omap keys and values.
    pub fn omap_bytes(&self) -> u64 {
        self.omap.iter().map(|(key, value)| length(key) + length(value)).sum()
    }

    /// A page of the omap.
    pub fn omap_scan(
        &self,
        start_after: Option<Bytes>,
        prefix: &Bytes,
        max: usize,
        max_bytes: usize,
    ) -> OmapPage {
        let mut page = OmapPage::default();
        let mut bytes = 0;
        for (key, value) in self.omap.range(prefix.clone()..) {
            if !key.starts_with(prefix) {
                break;
            }
            if start_after.as_ref().is_some_and(|after| key <= after) {
                continue;
            }
            if page.entries.len() >= max.clamp(1, limits::LIST_MAX) || (bytes > 0 && bytes >= max_bytes) {
                page.more = true;
                break;
            }
            bytes += key.len() + value.len();
            page.entries.push((key.clone(), value.clone()));
        }
        page
    }
}

/// An offset within bytes that are in memory.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
