//! The onode: what the store knows about one object besides its data. Encoded whole into one value, which goes with every
//! change of the object into the journal and into the key-value store, so it is made to be short.

use bytes::Bytes;

use crate::attrs::Attrs;
use crate::check::length;
use crate::codec::{DecodeResult, Decoder, Encoder};
use crate::compression::Compressibility;
use crate::limits;
use crate::shard::Counts;
use crate::shard_numbers::ShardNumbers;
use crate::types::{Hints, ObjectId, PoolStats};

/// With the name, and each shard by itself. Not written any more, nor are the next two.
const VERSION_NAMED: u8 = 1;
/// With the bytes that are shared.
const VERSION_SHARED: u8 = 2;
/// Also with what is compressed, and hints.
const VERSION_COMPRESSED: u8 = 3;
/// With a checksum of the key instead of the name, and runs of shards.
const VERSION_SHORT: u8 = 4;

/// Bytes are shared.
const SHARED: u8 = 1;
/// Bytes are compressed.
const COMPRESSED: u8 = 2;
/// There is or was an omap.
const OMAP: u8 = 4;
/// Where the numbers of the hints are.
const HINTS_SHIFT: u32 = 3;
/// Flags that there are.
const FLAGS: u8 = SHARED | COMPRESSED | OMAP | 7 << HINTS_SHIFT;

/// Bytes that a shard's number takes in a value: as a run of its own.
pub const SHARD_NUMBER_BYTES_MAX: usize = 10;

/// What memory takes beside what is in it: a string's own, a count of owners.
const PIECE_BYTES: usize = 24;
/// See [`PIECE_BYTES`].
const RC_BYTES: usize = 24;

/// An object's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onode {
    /// The object. It is in the key; of that the value has a checksum, so that a misplaced one is noticed.
    pub object: ObjectId,
    /// Logical size, bytes.
    pub size: u64,
    /// Attributes.
    pub attrs: Attrs,
    /// Prefix of its omap keys; 0 if it never had one.
    pub omap_id: u64,
    /// Omap entries.
    pub omap_keys: u64,
    /// Bytes of omap keys and values, the header not counted.
    pub omap_bytes: u64,
    /// Bytes of the logical span of one shard.
    pub shard_span: u32,
    /// Numbers of the shards that exist: shard `n` covers `[n, n + 1)` times the span.
    pub shards: ShardNumbers,
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
            attrs: Attrs::default(),
            omap_id: 0,
            omap_keys: 0,
            omap_bytes: 0,
            shard_span,
            shards: ShardNumbers::default(),
            stored: 0,
            allocated: 0,
            shared: 0,
            compressed: 0,
            compressed_original: 0,
            hints: Hints::default(),
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

    /// The value stored under `key`, which is its key.
    pub fn encode(&self, key: &[u8]) -> Bytes {
        let mut e = Encoder::with_capacity(self.encoded_bytes_max());
        e.u8(VERSION_SHORT);
        e.u32(crc32c::crc32c(key));
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        e.u8(flag(self.shared > 0, SHARED)
            | flag(self.compressed > 0, COMPRESSED)
            | flag(self.omap_id > 0, OMAP)
            | self.hints.number() << HINTS_SHIFT);
        e.varint(self.size);
        e.varint(self.stored);
        e.varint(self.allocated);
        if self.shared > 0 {
            e.varint(self.shared);
        }
        if self.compressed > 0 {
            e.varint(self.compressed);
            e.varint(self.compressed_original);
        }
        if self.omap_id > 0 {
            e.varint(self.omap_id);
            e.varint(self.omap_keys);
            e.varint(self.omap_bytes);
        }
        e.varint(self.shard_span.into());
        e.varint(wide(self.shards.runs().len()));
        let mut end = 0;
        for (first, last) in self.shards.runs() {
            e.varint(u64::from(*first) - end);
            e.varint((last - first).into());
            // Between two runs at least one is missing.
            end = u64::from(*last) + 2;
        }
        e.varint(wide(self.attrs.len()));
        for (name, value) in self.attrs.iter() {
            e.short_bytes(name);
            e.short_bytes(value);
        }
        e.into_bytes()
    }

    /// At least the length of [`Self::encode`].
    pub fn encoded_bytes_max(&self) -> usize {
        let attrs: usize = self.attrs.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        128 + self.shards.runs().len() * SHARD_NUMBER_BYTES_MAX + attrs
    }

    /// Reads the value under `key`, which is the key of `object`.
    pub fn decode(value: Bytes, key: &[u8], object: &ObjectId) -> DecodeResult<Self> {
        let mut d = Decoder::new(value);
        let onode = match d.u8("version of an onode")? {
            VERSION_SHORT => Self::decode_short(&mut d, key, object)?,
            version @ VERSION_NAMED..=VERSION_COMPRESSED => Self::decode_named(&mut d, version, object)?,
            version => return d.invalid("version of an onode", 0, version.into()),
        };
        d.end("onode")?;
        if onode.size > limits::OBJECT_BYTES_HARD_MAX {
            return d.invalid("size", d.at(), onode.size);
        }
        if onode.shared > onode.allocated {
            return d.invalid("shared", d.at(), onode.shared);
        }
        let Self { compressed, compressed_original, .. } = onode;
        if compressed > onode.allocated
            || compressed_original > onode.stored
            || (compressed == 0) != (compressed_original == 0)
        {
            return d.invalid("compressed", d.at(), compressed);
        }
        Ok(onode)
    }

    fn decode_short(d: &mut Decoder, key: &[u8], object: &ObjectId) -> DecodeResult<Self> {
        let at = d.at();
        let checksum = d.u32("checksum of an onode's key")?;
        if checksum != crc32c::crc32c(key) {
            return d.invalid("checksum of an onode's key", at, checksum.into());
        }
        let at = d.at();
        let flags = d.u8("flags of an onode")?;
        let (true, Some(hints)) = (flags & !FLAGS == 0, Hints::from_number(flags >> HINTS_SHIFT)) else {
            return d.invalid("flags of an onode", at, flags.into());
        };
        let (size, stored, allocated) = (d.varint("size")?, d.varint("stored")?, d.varint("allocated")?);
        let mut onode = Self { size, stored, allocated, hints, ..Self::new(object.owned(), 0) };
        // What a flag announces is not 0, or there were two values for the same onode.
        if flags & SHARED != 0 {
            onode.shared = d.varint("shared")?;
        }
        if flags & COMPRESSED != 0 {
            onode.compressed = d.varint("compressed")?;
            onode.compressed_original = d.varint("compressed bytes")?;
        }
        if flags & OMAP != 0 {
            onode.omap_id = d.varint("omap id")?;
            onode.omap_keys = d.varint("omap keys")?;
            onode.omap_bytes = d.varint("omap bytes")?;
        }
        for (flag, value) in [(SHARED, onode.shared), (COMPRESSED, onode.compressed), (OMAP, onode.omap_id)] {
            if (flags & flag != 0) != (value != 0) {
                return d.invalid("flags of an onode", at, flags.into());
            }
        }
        onode.shard_span = decode_span(d)?;
        let mut end = 0u64;
        for _ in 0..d.varint("runs of shards")? {
            let (gap, more) = (d.varint("shard number")?, d.varint("shards of a run")?);
            let first = end.saturating_add(gap);
            let last = u32::try_from(first.saturating_add(more));
            let (Ok(first), Ok(last)) = (u32::try_from(first), last) else {
                return d.invalid("shard number", d.at(), first);
            };
            // A few bytes may tell of any run, but no object has so many shards.
            let least = onode.shard_span.max(limits::SHARD_SPAN_MIN);
            if u64::from(last).saturating_mul(least.into()) > limits::OBJECT_BYTES_HARD_MAX {
                return d.invalid("shard number", d.at(), last.into());
            }
            onode.shards.insert_run(first, last);
            end = u64::from(last) + 2;
        }
        for _ in 0..d.varint("attributes")? {
            let name = d.short_bytes("attribute name")?;
            onode.attrs.set(&name, d.short_bytes("attribute value")?, Bytes::clone);
        }
        Ok(onode)
    }

    fn decode_named(d: &mut Decoder, version: u8, object: &ObjectId) -> DecodeResult<Self> {
        let at = d.at();
        if ObjectId::decode(d)? != *object {
            return d.invalid("name in an onode", at, 0);
        }
        let size = d.varint("size")?;
        let (stored, allocated) = (d.varint("stored")?, d.varint("allocated")?);
        let mut onode = Self { size, stored, allocated, ..Self::new(object.owned(), 0) };
        if version >= VERSION_SHARED {
            onode.shared = d.varint("shared")?;
        }
        if version >= VERSION_COMPRESSED {
            onode.compressed = d.varint("compressed")?;
            onode.compressed_original = d.varint("compressed bytes")?;
            let number = d.u8("hints")?;
            match Compressibility::from_number(number) {
                Some(hint) => onode.hints = hint.into(),
                None => return d.invalid("hints", d.at(), number.into()),
            }
        }
        onode.omap_id = d.varint("omap id")?;
        onode.omap_keys = d.varint("omap keys")?;
        onode.omap_bytes = d.varint("omap bytes")?;
        onode.shard_span = decode_span(d)?;
        let count = d.count(1, "shards")?;
        let mut last = 0u64;
        for index in 0..count {
            let step = d.varint("shard number")?;
            last = last.saturating_add(step);
            let Some(number) = u32::try_from(last).ok().filter(|_| index == 0 || step > 0) else {
                return d.invalid("shard number", d.at(), last);
            };
            onode.shards.insert(number);
        }
        for _ in 0..d.count(8, "attributes")? {
            let name = d.bytes("attribute name")?;
            onode.attrs.set(&name, d.bytes("attribute value")?, Bytes::clone);
        }
        Ok(onode)
    }

    /// Bytes of memory, for the cache.
    pub fn memory_bytes(&self) -> u64 {
        let names = [&self.object.name, &self.object.namespace, &self.object.key];
        let text = names.into_iter().chain(self.attrs.iter().flat_map(|(name, value)| [name, value]));
        let pieces = text.clone().filter(|text| !text.is_empty()).count() * PIECE_BYTES;
        let lists = self.shards.memory_bytes() + self.attrs.memory_bytes();
        let fixed = size_of::<Self>() + RC_BYTES + lists + pieces;
        text.map(|text| length(text)).sum::<u64>() + u64::try_from(fixed).unwrap_or(u64::MAX)
    }
}

fn decode_span(d: &mut Decoder) -> DecodeResult<u32> {
    let span = d.varint("shard span")?;
    let found = u32::try_from(span).ok().filter(|span| (1..=limits::SHARD_SPAN_MAX).contains(span));
    found.map_or_else(|| d.invalid("shard span", d.at(), span), Ok)
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// What version 3 made of an onode with everything, of object `na\0me` in namespace `n` of pool 1: for tests, and for fuzzing
/// to begin with.
pub const VALUE_OF_VERSION_3: [u8; 80] = [
    0x03, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
    0x6e, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x6e, 0x61, 0x00, 0x6d, 0x65, 0xfe, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xa8, 0x46, 0x84, 0x07, 0x80, 0x40, 0x80, 0x20, 0x80, 0x20, 0xa0, 0x06,
    0x02, 0x05, 0x02, 0x1e, 0x80, 0x80, 0x08, 0x03, 0x00, 0x00, 0x00, 0x00, 0x02, 0x82, 0x07, 0x01, 0x00,
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x61, 0x01, 0x00, 0x00, 0x00, 0x31,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

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
            attrs: [(Bytes::from_static(b"a"), Bytes::from_static(b"1"))].into_iter().collect(),
            omap_id: 9,
            omap_keys: 3,
            omap_bytes: 400,
            shards: [0, 1, 2, 7, 9, 10, 70_000].into_iter().collect(),
            stored: 77,
            allocated: 8192,
            ..Onode::new(object, 128 << 10)
        }
    }

    fn read(value: Bytes) -> DecodeResult<Onode> {
        let object = sample().object;
        Onode::decode(value, &keys::onode(&object), &object)
    }

    fn written(onode: &Onode) -> Bytes {
        onode.encode(&keys::onode(&onode.object))
    }

    /// As they were.
    fn written_before(onode: &Onode, version: u8) -> Bytes {
        let mut e = Encoder::new();
        e.u8(version);
        onode.object.encode(&mut e);
        [onode.size, onode.stored, onode.allocated].into_iter().for_each(|value| e.varint(value));
        if version >= VERSION_SHARED {
            e.varint(onode.shared);
        }
        if version >= VERSION_COMPRESSED {
            e.varint(onode.compressed);
            e.varint(onode.compressed_original);
            e.u8(onode.hints.number());
        }
        let more = [onode.omap_id, onode.omap_keys, onode.omap_bytes, onode.shard_span.into()];
        more.into_iter().for_each(|value| e.varint(value));
        e.count(onode.shards.iter().count());
        let mut last = 0;
        for shard in onode.shards.iter() {
            e.varint(u64::from(shard - last));
            last = shard;
        }
        e.count(onode.attrs.len());
        for (name, value) in onode.attrs.iter() {
            e.bytes(name);
            e.bytes(value);
        }
        e.into_bytes()
    }

    fn samples() -> [Onode; 7] {
        let plain = Onode { omap_id: 0, omap_keys: 0, omap_bytes: 0, ..sample() };
        let compressed = Onode { compressed: 8192, compressed_original: 70, ..sample() };
        let hints = Hints { compression: Compressibility::Both, is_streamed: false };
        let hinted = Onode { hints, ..sample() };
        let streamed = Onode { hints: Hints { is_streamed: true, ..hints }, ..sample() };
        let bare = Onode::new(sample().object, 64 << 10);
        [sample(), plain, Onode { shared: 4096, ..sample() }, compressed, hinted, bare, streamed]
    }

    #[test]
    fn round_trips() {
        for onode in samples() {
            let value = written(&onode);
            assert!(value.len() <= onode.encoded_bytes_max());
            assert_eq!(read(value.clone()), Ok(onode));
            for len in 0..value.len() {
                assert!(read(value.slice(..len)).is_err());
            }
        }
    }

    #[test]
    fn what_older_versions_wrote_is_read() {
        for (onode, version) in samples().into_iter().zip([1, 1, 2, 3, 3, 1]) {
            let value = written_before(&onode, version);
            assert!(written(&onode).len() < value.len());
            assert_eq!(read(value), Ok(onode));
        }
    }

    #[test]
    fn a_value_under_another_key_is_refused() {
        let other = ObjectId { name: Bytes::from_static(b"other"), ..sample().object };
        for value in [written(&sample()), written_before(&sample(), 1)] {
            assert!(Onode::decode(value, &keys::onode(&other), &other).is_err());
        }
    }

    #[test]
    fn a_long_object_that_is_whole_is_told_of_in_a_few_bytes() {
        let onode = Onode { shards: (0..64).collect(), omap_id: 0, attrs: Attrs::default(), ..sample() };
        assert_eq!(written(&onode).len(), 21);
    }

    #[test]
    fn runs_beyond_any_object_are_refused() {
        let onode = Onode { shards: (0..64).collect(), omap_id: 0, attrs: Attrs::default(), ..sample() };
        let mut value = written(&onode).to_vec();
        let at = value.len() - 2;
        assert_eq!(value[at], 63, "the last but one byte says how many follow the first shard");
        value.splice(at..=at, [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(read(Bytes::from(value)).is_err());
    }

    #[test]
    fn damaged_values_are_refused_or_differ() {
        let value = written(&sample());
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.to_vec();
                damaged[at] ^= 1 << bit;
                if let Ok(found) = read(Bytes::from(damaged)) {
                    assert_ne!(found, sample());
                }
            }
        }
    }
}
