//! Which blocks of objects are wanted, and what was read of them. Compressed blobs are read whole. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::checksum::Checksum;
use crate::compression::Algorithm;
use crate::shard::{Blob, Packed, Place, Shard};

/// Blocks to read.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Blocks as they are on the device, those of compressed blobs too.
    pub places: Vec<Place>,
    /// Compressed blobs, by address.
    packed: BTreeMap<u64, WantedBlob>,
    /// One that shards describe in several ways.
    contested: Option<Place>,
}

/// A compressed blob of which some blocks are wanted.
#[derive(Clone, Debug)]
pub struct WantedBlob {
    blob: Blob,
    how: Packed,
    /// The first place in it that was wanted.
    pub place: Place,
    /// Which blocks, before it was compressed.
    wanted: BTreeSet<usize>,
}

/// Blocks of objects, after they were decompressed.
#[derive(Debug, Default)]
pub struct Blocks {
    /// By address.
    plain: BTreeMap<u64, Bytes>,
    /// Of compressed blobs, by address: consecutive blocks, and the number of the first.
    packed: BTreeMap<u64, Vec<(usize, Bytes)>>,
    /// By address, checksums of blocks that stay of chunks, taken of what was verified.
    sums: BTreeMap<u64, Checksum>,
}

impl Wanted {
    /// Wants a block of a shard.
    pub fn add(&mut self, shard: &Shard, place: Place, block: u64) {
        if !place.is_packed {
            return self.places.push(place);
        }
        let Some(blob) = shard.blobs.get(place.blob) else { panic!("a place in no blob: {place:?}") };
        let Some(how) = blob.packed else { panic!("a place in a blob that is not compressed: {place:?}") };
        if let Some(known) = self.packed.get_mut(&place.blob) {
            let is_same =
                (known.blob.birth, known.how, &known.blob.checksums) == (blob.birth, how, &blob.checksums);
            self.contested = self.contested.or((!is_same).then_some(place));
            known.wanted.insert(place.index);
            return;
        }
        let stored = (place.blob..).step_by(index(block)).zip(0..blob.checksums.len());
        let stored = stored.filter_map(|(address, index)| {
            let checksum = blob.checksums.get(index)?.checksum;
            Some(Place { address, checksum, chunk: address, chunk_blocks: 1, ..place })
        });
        self.places.extend(stored);
        let wanted = BTreeSet::from([place.index]);
        self.packed.insert(place.blob, WantedBlob { blob: blob.clone(), how, place, wanted });
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Compressed blobs to be decompressed; or a place in one that is described in two ways.
    pub fn packed(&self) -> Result<impl Iterator<Item = &WantedBlob>, Place> {
        self.contested.map_or(Ok(self.packed.values()), Err)
    }
}

impl WantedBlob {
    /// How it is compressed, what that gave, and how many bytes it was before.
    pub fn stored(&self, blocks: &Blocks, block: u64) -> (Algorithm, Vec<u8>, usize) {
        let mut bytes = Vec::with_capacity(index(self.blob.bytes(block)));
        for address in (self.place.blob..).step_by(index(block)).take(self.blob.checksums.len()) {
            match blocks.plain.get(&address) {
                Some(block) => bytes.extend_from_slice(block),
                None => panic!("block {address:#x} was not read"),
            }
        }
        bytes.truncate(index(self.how.bytes.into()));
        (self.how.algorithm, bytes, index(u64::from(self.how.raw_blocks) * block))
    }
}

impl Blocks {
    /// Those that were read, as they are on the device.
    pub fn stored(plain: BTreeMap<u64, Bytes>) -> Self {
        Self { plain, ..Self::default() }
    }

    /// Keeps the wanted blocks of a blob that was decompressed, and no more: it may be many times as large.
    pub fn add(&mut self, blob: &WantedBlob, raw: Vec<u8>, block: u64) {
        let len = index(block);
        if blob.wanted.len() * len == raw.len() {
            self.packed.insert(blob.place.blob, vec![(0, raw.into())]);
            return;
        }
        let numbers: Vec<usize> = blob.wanted.iter().copied().collect();
        let runs = numbers.chunk_by(|one, next| one + 1 == *next).filter_map(|run| {
            let (first, last) = (*run.first()?, *run.last()?);
            Some((first, Bytes::copy_from_slice(raw.get(first * len..(last + 1) * len)?)))
        });
        self.packed.insert(blob.place.blob, runs.collect());
    }

    /// A block that was read, as it is on the device; with it come all that are under its checksum.
    pub fn stored_block(&self, place: &Place) -> Option<&Bytes> {
        self.plain.get(&place.address)
    }

    /// Lets go of all but the blocks at these places, and of the buffers that they were read with.
    pub fn keep_only(&mut self, places: &[Place]) {
        let kept = places.iter().filter_map(|place| {
            let block = self.plain.get(&place.address)?;
            Some((place.address, Bytes::copy_from_slice(block)))
        });
        self.plain = kept.collect();
    }

    /// Notes what checksum a block has that stays of a chunk: an unknown one, if nothing verifies it.
    pub fn note_sum(&mut self, place: &Place, checksum: Checksum) {
        self.sums.insert(place.address, checksum);
    }

    /// See [`Self::note_sum`].
    pub fn sum(&self, place: &Place) -> Checksum {
        match self.sums.get(&place.address) {
            Some(checksum) => *checksum,
            None => panic!("the block at {:#x} has no checksum of its own", place.address),
        }
    }

    /// A block that was read.
    pub fn get(&self, place: &Place, block: u64) -> Bytes {
        if place.is_packed {
            let offset = u64::try_from(place.index).unwrap_or(u64::MAX) * block;
            return self.bytes_at(place.blob, offset, block, block);
        }
        match self.plain.get(&place.address) {
            Some(found) => found.clone(),
            None => panic!("the block at {:#x} was not read", place.address),
        }
    }

    /// `len` bytes from a place in a blob on; fewer if they end with the block.
    pub fn bytes_at(&self, blob: u64, blob_offset: u64, len: u64, block: u64) -> Bytes {
        if let Some(runs) = self.packed.get(&blob) {
            let number = index(blob_offset / block);
            let Some((first, bytes)) = runs.iter().rfind(|(first, _)| *first <= number) else {
                panic!("block {number} of the blob at {blob:#x} was not wanted")
            };
            let from = index(blob_offset) - first * index(block);
            return bytes.slice(from..from + index(len));
        }
        let in_block = blob_offset % block;
        let address = blob + blob_offset - in_block;
        match self.plain.get(&address) {
            Some(found) => found.slice(index(in_block)..index((in_block + len).min(block))),
            None => panic!("the block at {address:#x} was not read"),
        }
    }
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
