//! What a simulated disk holds: what reads see, what survives power loss, and what lies between. Pure.
//!
//! Invariant: the visible bytes are the durable ones with every cached write stored over them in order of completion.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::crash::{Fate, UnsettledWrite};
use crate::image::Image;

/// The bytes of a disk and the state of its blocks.
pub(super) struct Media {
    block_size: u64,
    atomic_write_unit: u32,
    visible: Image,
    durable: Image,
    /// Completed and not durable, by order of completion. A failed write is here piece by piece.
    cached: BTreeMap<u64, UnsettledWrite>,
    completions: u64,
    /// Blocks that cannot be read now.
    bad: BTreeSet<u64>,
    /// Blocks that cannot be read once everything cached is lost.
    bad_durable: BTreeSet<u64>,
}

impl Media {
    pub fn new(image: Image, block_size: u32, atomic_write_unit: u32) -> Self {
        Self {
            block_size: block_size.into(),
            atomic_write_unit,
            visible: image.clone(),
            durable: image,
            cached: BTreeMap::new(),
            completions: 0,
            bad: BTreeSet::new(),
            bad_durable: BTreeSet::new(),
        }
    }

    pub fn visible(&self) -> &Image {
        &self.visible
    }

    pub fn durable(&self) -> &Image {
        &self.durable
    }

    /// Takes a completed write into the cache, as far as it survived.
    pub fn complete(&mut self, write: &UnsettledWrite, fate: &Fate) {
        for piece in write.surviving(fate, self.atomic_write_unit) {
            write.store(&piece, &mut self.visible);
            heal(&mut self.bad, self.block_size, &piece);
            self.cached.insert(self.completions, cut(write, &piece));
            self.completions += 1;
        }
    }

    /// What a flush submitted now covers, for [`Media::settle`].
    pub fn barrier(&self) -> u64 {
        self.completions
    }

    /// Makes durable what completed before `barrier`.
    pub fn settle(&mut self, barrier: u64) {
        let later = self.cached.split_off(&barrier);
        for write in std::mem::replace(&mut self.cached, later).into_values() {
            self.make_durable(&write, write.offset..write.offset + write.len);
        }
    }

    /// What power loss would decide about, in order of completion.
    pub fn cached(&self) -> impl Iterator<Item = &UnsettledWrite> {
        self.cached.values()
    }

    /// Loses power: of what was cached and in flight only `survivors` are there, stored in the order given.
    pub fn lose_power(&mut self, survivors: &[(UnsettledWrite, Range<u64>)]) {
        self.cached.clear();
        for (write, piece) in survivors {
            self.make_durable(write, piece.clone());
        }
        self.visible = self.durable.clone();
        self.bad = self.bad_durable.clone();
    }

    /// Makes blocks unreadable until they are written again.
    pub fn break_blocks(&mut self, range: Range<u64>) {
        for block in range.start / self.block_size..range.end.div_ceil(self.block_size) {
            self.bad.insert(block);
            self.bad_durable.insert(block);
        }
    }

    /// Every block that cannot be read now.
    pub fn bad_blocks(&self) -> impl Iterator<Item = Range<u64>> {
        self.bad.iter().map(|block| block * self.block_size..(block + 1) * self.block_size)
    }

    /// Offset of the first block of a range that cannot be read.
    pub fn first_bad(&self, offset: u64, len: u64) -> Option<u64> {
        let blocks = offset / self.block_size..(offset + len).div_ceil(self.block_size);
        self.bad.range(blocks).next().map(|block| block * self.block_size)
    }

    /// Flips bits of one byte, wherever it is held.
    pub fn corrupt(&mut self, offset: u64, mask: u8) {
        for image in [&mut self.visible, &mut self.durable] {
            let mut byte = [0];
            image.read(offset, &mut byte);
            image.write(offset, &[byte[0] ^ mask]);
        }
    }

    fn make_durable(&mut self, write: &UnsettledWrite, piece: Range<u64>) {
        write.store(&piece, &mut self.durable);
        heal(&mut self.bad_durable, self.block_size, &piece);
    }
}

/// A write of only this piece of it.
fn cut(write: &UnsettledWrite, piece: &Range<u64>) -> UnsettledWrite {
    let from = (piece.start - write.offset) as usize;
    let to = (piece.end - write.offset) as usize;
    UnsettledWrite {
        number: write.number,
        offset: piece.start,
        len: piece.end - piece.start,
        completed: true,
        data: match &write.data {
            Some(data) if to - from == data.len() => Some(data.clone()),
            Some(data) => Some(data[from..to].into()),
            None => None,
        },
    }
}

/// Blocks that a piece covers whole are readable again.
fn heal(bad: &mut BTreeSet<u64>, block_size: u64, piece: &Range<u64>) {
    let blocks = piece.start.div_ceil(block_size)..piece.end / block_size;
    if bad.is_empty() || blocks.is_empty() {
        return;
    }
    let healed: Vec<u64> = bad.range(blocks).copied().collect();
    for block in healed {
        bad.remove(&block);
    }
}
