//! Which blocks of objects are wanted, and what was read of them. Compressed blobs are read whole. Pure.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::shard::{Blob, Place, Shard};

/// Blocks to read.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Blocks as they are on the device, those of compressed blobs too.
    pub places: Vec<Place>,
    /// Compressed blobs, by address.
    packed: BTreeMap<u64, Blob>,
    /// One that shards describe in several ways.
    contested: Option<Place>,
}

/// Blocks of objects, after they were decompressed.
#[derive(Debug, Default)]
pub struct Blocks {
    /// By address.
    plain: BTreeMap<u64, Bytes>,
    /// What compressed blobs hold, by address.
    packed: BTreeMap<u64, Bytes>,
}

impl Wanted {
    /// Wants a block of a shard.
    pub fn add(&mut self, shard: &Shard, place: Place, block: u64) {
        if !place.is_packed {
            return self.places.push(place);
        }
        let Some(blob) = shard.blobs.get(place.blob) else { panic!("a place in no blob: {place:?}") };
        if let Some(known) = self.packed.get(&place.blob) {
            let is_same =
                (known.birth, known.packed, &known.checksums) == (blob.birth, blob.packed, &blob.checksums);
            self.contested = self.contested.or((!is_same).then_some(place));
            return;
        }
        let stored = (place.blob..).step_by(index(block)).zip(0..blob.checksums.len());
        let stored = stored.filter_map(|(address, index)| {
            Some(Place { address, checksum: blob.checksums.get(index)?, ..place })
        });
        self.places.extend(stored);
        self.packed.insert(place.blob, blob.clone());
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What was wanted, from what is on the device. An error names the compressed blob that cannot be decompressed, by a
    /// place in it.
    pub fn unpack(&self, stored: BTreeMap<u64, Bytes>, block: u64) -> Result<Blocks, (Place, String)> {
        if let Some(place) = self.contested {
            return Err((place, "it is described in two ways".to_owned()));
        }
        let mut packed = BTreeMap::new();
        for (start, blob) in &self.packed {
            let Some(how) = &blob.packed else { panic!("only compressed blobs are here: {blob:?}") };
            let mut bytes = BytesMut::with_capacity(index(blob.bytes(block)));
            for address in (*start..).step_by(index(block)).take(blob.checksums.len()) {
                match stored.get(&address) {
                    Some(block) => bytes.extend_from_slice(block),
                    None => panic!("block {address:#x} was not read"),
                }
            }
            bytes.truncate(index(how.bytes.into()));
            let raw = how.algorithm.decompress(&bytes, index(u64::from(how.raw_blocks) * block));
            let raw = raw.map_err(|problem| match self.places.iter().find(|place| place.blob == *start) {
                Some(place) => (*place, format!("{}: {problem}", how.algorithm.name())),
                None => panic!("a compressed blob of which no block is wanted"),
            })?;
            packed.insert(*start, Bytes::from(raw));
        }
        Ok(Blocks { plain: stored, packed })
    }
}

impl Blocks {
    /// A block that was read.
    pub fn get(&self, place: &Place, block: u64) -> Bytes {
        let len = index(block);
        match (self.plain.get(&place.address), self.packed.get(&place.blob)) {
            (_, Some(raw)) if place.is_packed => raw.slice(place.index * len..(place.index + 1) * len),
            (Some(found), _) if !place.is_packed => found.clone(),
            _ => panic!("the block at {:#x} was not read", place.address),
        }
    }

    /// `len` bytes from a place in a blob on; fewer if they end with the block.
    pub fn bytes_at(&self, blob: u64, blob_offset: u64, len: u64, block: u64) -> Bytes {
        if let Some(raw) = self.packed.get(&blob) {
            return raw.slice(index(blob_offset)..index(blob_offset + len));
        }
        let in_block = blob_offset % block;
        let address = blob + blob_offset - in_block;
        match self.plain.get(&address) {
            Some(found) => found.slice(index(in_block)..index((in_block + len).min(block))),
            None => panic!("the block at {address:#x} was not read"),
        }
    }

    /// Adds what was read of another object.
    pub fn join(&mut self, other: Self) {
        self.plain.extend(other.plain);
        self.packed.extend(other.packed);
    }
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
