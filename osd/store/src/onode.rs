//! The onode: what the store knows about one object besides its data. Encoded whole into one value.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::check::length;
use crate::codec::{DecodeResult, Decoder, Encoder};
use crate::compression::Hints;
use crate::limits;
use crate::shard::Counts;
use crate::types::{ObjectId, PoolStats};

/// No blob is shared.
const VERSION: u8 = 1;
/// With the bytes that are shared.
const VERSION_SHARED: u8 = 2;
/// Also with what is compressed, and hints.
const VERSION_COMPRESSED: u8 = 3;

/// What memory takes beside what is in it: a string's own, a tree's node and what it holds at least, a count of owners.
const PIECE_BYTES: usize = 24;
/// See [`PIECE_BYTES`].
const NODE_BYTES: usize = 736;
/// See [`PIECE_BYTES`].
const ATTRS_PER_NODE: usize = 6;
/// See [`PIECE_BYTES`].
const RC_BYTES: usize = 24;

/// An object's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onode {
    /// The object; also in the key, stored again so that a misplaced value is noticed.
    pub object: ObjectId,
    /// Logical size, bytes.
    pub size: u64,
    /// Attributes.
    pub attrs: BTreeMap<Bytes, Bytes>,
    /// Prefix of its omap keys; 0 if it never had one.
    pub omap_id: u64,
    /// Omap entries.
    pub omap_keys: u64,
    /// Bytes of omap keys and values, the header not counted.
    pub omap_bytes: u64,
    /// Bytes of the logical span of one shard.
    pub shard_span: u32,
    /// Numbers of the shards that exist, ascending: shard `n` covers `[n, n + 1)` times the span.
    pub shards: Vec<u32>,
    /// Bytes written and not removed.
    pub stored: u64,
    /// Bytes of device space that the shards' blobs use.
    pub allocated: u64,
    /// Of those, what may be other objects' too.
    pub shared: u64,
    /// Of those that are allocated, what compressed blobs use.
    pub compressed: u64,
    /// Of the bytes stored, what is compressed.
    pub compressed_original: u64,
    /// What a client said of the data.
    pub hints: Hints,
}

impl Onode {
    /// An empty object.
    pub fn new(object: ObjectId, shard_span: u32) -> Self {
        Self {
            object,
            size: 0,
            attrs: BTreeMap::new(),
            omap_id: 0,
            omap_keys: 0,
            omap_bytes: 0,
            shard_span,
            shards: Vec::new(),
            stored: 0,
            allocated: 0,
            shared: 0,
            compressed: 0,
            compressed_original: 0,
            hints: Hints::None,
        }
    }

    /// See [`crate::shard::Shard::counts`]: of all shards together.
    pub fn counts(&self) -> Counts {
        [self.stored, self.allocated, self.shared, self.compressed, self.compressed_original]
    }

    /// Takes such counts over.
    pub fn set_counts(&mut self, counts: Counts) {
        [self.stored, self.allocated, self.shared, self.compressed, self.compressed_original] = counts;
    }

    fn version(&self) -> u8 {
        match (self.shared, self.compressed, self.hints) {
            (0, 0, Hints::None) => VERSION,
            (_, 0, Hints::None) => VERSION_SHARED,
            _ => VERSION_COMPRESSED,
        }
    }

    /// What the object adds to its pool's statistics.
    pub fn statistics(&self) -> PoolStats {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        PoolStats {
            objects: 1,
            bytes: signed(self.size),
            // What is shared counts once, with the shares.
            allocated: signed(self.allocated - self.shared),
            stored: signed(self.stored),
            omap_keys: signed(self.omap_keys),
            omap_bytes: signed(self.omap_bytes),
            compressed: signed(self.compressed),
            compressed_original: signed(self.compressed_original),
        }
    }

    /// The value stored under its key.
    pub fn encode(&self) -> Bytes {
        let mut e = Encoder::with_capacity(self.encoded_bytes_max());
        let version = self.version();
        e.u8(version);
        self.object.encode(&mut e);
        e.varint(self.size);
        e.varint(self.stored);
        e.varint(self.allocated);
        if version >= VERSION_SHARED {
            e.varint(self.shared);
        }
        if version >= VERSION_COMPRESSED {
            e.varint(self.compressed);
            e.varint(self.compressed_original);
            e.u8(self.hints.number());
        }
        e.varint(self.omap_id);
        e.varint(self.omap_keys);
        e.varint(self.omap_bytes);
        e.varint(u64::from(self.shard_span));
        e.count(self.shards.len());
        let mut last = 0;
        for shard in &self.shards {
            e.varint(u64::from(*shard - last));
            last = *shard;
        }
        e.count(self.attrs.len());
        for (name, value) in &self.attrs {
            e.bytes(name);
            e.bytes(value);
        }
        e.into_bytes()
    }

    /// At least the length of [`Self::encode`].
    pub fn encoded_bytes_max(&self) -> usize {
        let o = &self.object;
        let attrs: usize = self.attrs.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        144 + o.namespace.len() + o.key.len() + o.name.len() + self.shards.len() * 5 + attrs
    }

    /// Reads a value.
    pub fn decode(value: Bytes) -> DecodeResult<Self> {
        let mut d = Decoder::new(value);
        let version = d.u8("version of an onode")?;
        if !(VERSION..=VERSION_COMPRESSED).contains(&version) {
            return d.invalid("version of an onode", 0, version.into());
        }
        let object = ObjectId::decode(&mut d)?;
        let size = d.varint("size")?;
        if size > limits::OBJECT_BYTES_HARD_MAX {
            return d.invalid("size", d.at(), size);
        }
        let (stored, allocated) = (d.varint("stored")?, d.varint("allocated")?);
        let shared = if version >= VERSION_SHARED { d.varint("shared")? } else { 0 };
        let (mut compressed, mut compressed_original, mut hints) = Default::default();
        if version >= VERSION_COMPRESSED {
            (compressed, compressed_original) = (d.varint("compressed")?, d.varint("compressed bytes")?);
            let number = d.u8("hints")?;
            match Hints::from_number(number) {
                Some(found) => hints = found,
                None => return d.invalid("hints", d.at(), number.into()),
            }
        }
        if shared > allocated {
            return d.invalid("shared", d.at(), shared);
        }
        if compressed > allocated
            || compressed_original > stored
            || (compressed == 0) != (compressed_original == 0)
        {
            return d.invalid("compressed", d.at(), compressed);
        }
        let (omap_id, omap_keys, omap_bytes) =
            (d.varint("omap id")?, d.varint("omap keys")?, d.varint("omap bytes")?);
        let span = d.varint("shard span")?;
        let Some(shard_span) =
            u32::try_from(span).ok().filter(|span| (1..=limits::SHARD_SPAN_MAX).contains(span))
        else {
            return d.invalid("shard span", d.at(), span);
        };
        let count = d.count(1, "shards")?;
        let mut shards = Vec::with_capacity(count);
        let mut last = 0u64;
        for index in 0..count {
            let step = d.varint("shard number")?;
            last = last.saturating_add(step);
            let Some(number) = u32::try_from(last).ok().filter(|_| index == 0 || step > 0) else {
                return d.invalid("shard number", d.at(), last);
            };
            shards.push(number);
        }
        let count = d.count(8, "attributes")?;
        let mut attrs = BTreeMap::new();
        for _ in 0..count {
            let name = d.bytes("attribute name")?;
            attrs.insert(name, d.bytes("attribute value")?);
        }
        d.end("onode")?;
        let onode = Self {
            object,
            size,
            attrs,
            omap_id,
            omap_keys,
            omap_bytes,
            shard_span,
            shards,
            stored,
            allocated,
            shared,
            compressed,
            compressed_original,
            hints,
        };
        if onode.version() != version {
            return d.invalid("version of an onode", 0, version.into());
        }
        Ok(onode)
    }

    /// Bytes of memory, for the cache.
    pub fn memory_bytes(&self) -> u64 {
        let names = [&self.object.name, &self.object.namespace, &self.object.key];
        let text = names.into_iter().chain(self.attrs.iter().flat_map(|(name, value)| [name, value]));
        let pieces = text.clone().filter(|text| !text.is_empty()).count() * PIECE_BYTES;
        let nodes = self.attrs.len().div_ceil(ATTRS_PER_NODE) * NODE_BYTES;
        let fixed = size_of::<Self>() + RC_BYTES + self.shards.capacity() * size_of::<u32>() + pieces + nodes;
        text.map(|text| length(text)).sum::<u64>() + u64::try_from(fixed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Onode {
        let object = ObjectId {
            pool: -1,
            hash: 0xdead_beef,
            namespace: Bytes::from_static(b"ns"),
            key: Bytes::new(),
            name: Bytes::from_static(b"name"),
            snap: ObjectId::HEAD,
        };
        Onode {
            size: 1 << 33,
            attrs: BTreeMap::from([(Bytes::from_static(b"a"), Bytes::from_static(b"1"))]),
            omap_id: 9,
            omap_keys: 3,
            omap_bytes: 400,
            shards: vec![0, 1, 7, 70_000],
            stored: 77,
            allocated: 8192,
            ..Onode::new(object, 128 << 10)
        }
    }

    #[test]
    fn round_trips() {
        let compressed = Onode { compressed: 8192, compressed_original: 70, ..sample() };
        let hinted = Onode { hints: Hints::Incompressible, ..sample() };
        for onode in [sample(), Onode { shared: 4096, ..sample() }, compressed, hinted] {
            let value = onode.encode();
            assert!(value.len() <= onode.encoded_bytes_max());
            assert_eq!(Onode::decode(value.clone()), Ok(onode));
            for len in 0..value.len() {
                assert!(Onode::decode(value.slice(..len)).is_err());
            }
        }
    }

    #[test]
    fn damaged_values_are_refused_or_differ() {
        let value = sample().encode();
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.to_vec();
                damaged[at] ^= 1 << bit;
                if let Ok(found) = Onode::decode(Bytes::from(damaged)) {
                    assert_ne!(found, sample());
                }
            }
        }
    }
}
