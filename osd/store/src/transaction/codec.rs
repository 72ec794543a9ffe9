//! Bytes of a transaction: version, count of ops, and for each a kind byte and its fields. Decoding gives what was
//! encoded or an error; limits are checked by whoever submits.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Op, Transaction};
use crate::codec::{DecodeResult, Decoder, Encoder};
use crate::types::Hints;
use crate::types::{CollectionId, LogVersion, ObjectId};

const VERSION: u8 = 1;

impl Transaction {
    /// The transaction as bytes.
    pub fn encode(&self) -> Bytes {
        let mut e = Encoder::new();
        e.u8(VERSION);
        e.count(self.ops.len());
        self.ops.iter().for_each(|op| op.encode(&mut e));
        e.into_bytes()
    }

    /// Reads a transaction; data shares the memory of `bytes`.
    pub fn decode(bytes: Bytes) -> DecodeResult<Self> {
        let mut d = Decoder::new(bytes);
        let version = d.u8("version of a transaction")?;
        if version != VERSION {
            return d.invalid("version of a transaction", 0, version.into());
        }
        let count = d.count(13, "ops")?;
        let mut ops = Vec::with_capacity(count);
        for _ in 0..count {
            ops.push(Op::decode(&mut d)?);
        }
        d.end("transaction")?;
        Ok(Self { ops })
    }
}

impl Op {
    fn kind(&self) -> u8 {
        match self {
            Self::CreateCollection { .. } => 1,
            Self::RemoveCollection { .. } => 2,
            Self::SetCollectionMeta { .. } => 3,
            Self::Touch { .. } => 4,
            Self::Write { .. } => 5,
            Self::Zero { .. } => 6,
            Self::Truncate { .. } => 7,
            Self::Remove { .. } => 8,
            Self::SetAttrs { .. } => 9,
            Self::RemoveAttr { .. } => 10,
            Self::OmapSet { .. } => 11,
            Self::OmapRemove { .. } => 12,
            Self::OmapRemoveRange { .. } => 13,
            Self::OmapSetHeader { .. } => 14,
            Self::OmapClear { .. } => 15,
            Self::LogAppend { .. } => 16,
            Self::Clone { .. } => 17,
            Self::SetHints { .. } => 18,
            Self::SplitCollection { .. } => 19,
            Self::MergeCollection { .. } => 20,
            Self::CloneRange { .. } => 21,
            Self::Defragment { .. } => 22,
        }
    }

    fn encode(&self, e: &mut Encoder) {
        e.u8(self.kind());
        e.i64(self.collection().pool);
        e.u32(self.collection().seed);
        if let Some(object) = self.object() {
            object.encode(e);
        }
        match self {
            Self::CreateCollection { bits, .. } => e.u8(*bits),
            Self::SplitCollection { bits, target, .. } | Self::MergeCollection { bits, target, .. } => {
                e.u8(*bits);
                e.i64(target.pool);
                e.u32(target.seed);
            }
            Self::SetCollectionMeta { value, .. } => e.bytes(value),
            Self::Write { offset, data, .. } => {
                e.u64(*offset);
                e.count(data.len());
                data.iter().for_each(|chunk| e.bytes(chunk));
            }
            Self::Zero { offset, len, .. } | Self::Defragment { offset, len, .. } => {
                e.u64(*offset);
                e.u64(*len);
            }
            Self::Truncate { size, .. } => e.u64(*size),
            Self::SetAttrs { attrs, .. } => encode_map(e, attrs),
            Self::Clone { target, .. } => target.encode(e),
            Self::CloneRange { offset, len, target, target_offset, .. } => {
                target.encode(e);
                [offset, len, target_offset].into_iter().for_each(|bytes| e.u64(*bytes));
            }
            Self::SetHints { hints, .. } => e.u8(hints.number()),
            Self::RemoveAttr { name, .. } => e.bytes(name),
            Self::OmapSet { entries, .. } => encode_map(e, entries),
            Self::OmapRemove { keys, .. } => {
                e.count(keys.len());
                keys.iter().for_each(|key| e.bytes(key));
            }
            Self::OmapRemoveRange { first, end, .. } => {
                e.bytes(first);
                e.bytes(end);
            }
            Self::OmapSetHeader { header, .. } => e.bytes(header),
            Self::LogAppend { version, entry, .. } => {
                e.u32(version.epoch);
                e.u64(version.version);
                e.bytes(entry);
            }
            Self::RemoveCollection { .. }
            | Self::Touch { .. }
            | Self::Remove { .. }
            | Self::OmapClear { .. } => {}
        }
    }

    fn decode(d: &mut Decoder) -> DecodeResult<Self> {
        let at = d.at();
        let kind = d.u8("kind of op")?;
        let collection = decode_collection(d)?;
        match kind {
            1 => return Ok(Self::CreateCollection { collection, bits: d.u8("bits")? }),
            2 => return Ok(Self::RemoveCollection { collection }),
            3 => return Ok(Self::SetCollectionMeta { collection, value: d.bytes("metadata")? }),
            16 => {
                let version = LogVersion { epoch: d.u32("epoch")?, version: d.u64("version")? };
                return Ok(Self::LogAppend { collection, version, entry: d.bytes("log entry")? });
            }
            19 | 20 => {
                let (bits, target) = (d.u8("bits")?, decode_collection(d)?);
                return Ok(match kind {
                    19 => Self::SplitCollection { collection, bits, target },
                    _ => Self::MergeCollection { collection, bits, target },
                });
            }
            4..=15 | 17 | 18 | 21 | 22 => {}
            other => return d.invalid("kind of op", at, other.into()),
        }
        let object = ObjectId::decode(d)?;
        Ok(match kind {
            4 => Self::Touch { collection, object },
            5 => {
                let offset = d.u64("offset")?;
                Self::Write { collection, object, offset, data: decode_list(d)? }
            }
            6 => Self::Zero { collection, object, offset: d.u64("offset")?, len: d.u64("length")? },
            7 => Self::Truncate { collection, object, size: d.u64("size")? },
            8 => Self::Remove { collection, object },
            9 => Self::SetAttrs { collection, object, attrs: decode_map(d)? },
            10 => Self::RemoveAttr { collection, object, name: d.bytes("attribute name")? },
            11 => Self::OmapSet { collection, object, entries: decode_map(d)? },
            12 => Self::OmapRemove { collection, object, keys: decode_list(d)? },
            13 => {
                let first = d.bytes("first key")?;
                Self::OmapRemoveRange { collection, object, first, end: d.bytes("end key")? }
            }
            17 => Self::Clone { collection, object, target: ObjectId::decode(d)? },
            18 => {
                let number = d.u8("hints")?;
                let Some(hints) = Hints::from_number(number) else {
                    return d.invalid("hints", d.at(), number.into());
                };
                Self::SetHints { collection, object, hints }
            }
            21 => {
                let target = ObjectId::decode(d)?;
                let (offset, len) = (d.u64("offset")?, d.u64("length")?);
                let target_offset = d.u64("offset in the target")?;
                Self::CloneRange { collection, object, offset, len, target, target_offset }
            }
            22 => Self::Defragment { collection, object, offset: d.u64("offset")?, len: d.u64("length")? },
            14 => Self::OmapSetHeader { collection, object, header: d.bytes("header")? },
            _ => Self::OmapClear { collection, object },
        })
    }
}

impl ObjectId {
    pub(crate) fn encode(&self, e: &mut Encoder) {
        e.i64(self.pool);
        e.u32(self.hash);
        e.bytes(&self.namespace);
        e.bytes(&self.key);
        e.bytes(&self.name);
        e.u64(self.snap);
    }

    pub(crate) fn decode(d: &mut Decoder) -> DecodeResult<Self> {
        Ok(Self {
            pool: d.i64("pool")?,
            hash: d.u32("hash")?,
            namespace: d.bytes("namespace")?,
            key: d.bytes("locator key")?,
            name: d.bytes("name")?,
            snap: d.u64("snap")?,
        })
    }
}

fn decode_collection(d: &mut Decoder) -> DecodeResult<CollectionId> {
    Ok(CollectionId { pool: d.i64("pool")?, seed: d.u32("seed")? })
}

fn encode_map(e: &mut Encoder, map: &BTreeMap<Bytes, Bytes>) {
    e.count(map.len());
    for (key, value) in map {
        e.bytes(key);
        e.bytes(value);
    }
}

fn decode_map(d: &mut Decoder) -> DecodeResult<BTreeMap<Bytes, Bytes>> {
    let mut map = BTreeMap::new();
    for _ in 0..d.count(8, "entries")? {
        let key = d.bytes("key")?;
        map.insert(key, d.bytes("value")?);
    }
    Ok(map)
}

fn decode_list(d: &mut Decoder) -> DecodeResult<Vec<Bytes>> {
    let count = d.count(4, "list")?;
    (0..count).map(|_| d.bytes("list item")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{Generator, Shape};

    #[test]
    fn transactions_round_trip() {
        let mut generator =
            Generator::new(1, Shape { write_bytes: 300, split_one_in: 9, ..Shape::default() });
        let mut kinds = std::collections::BTreeSet::new();
        for _ in 0..300 {
            let transaction = generator.transaction();
            kinds.extend(transaction.ops.iter().map(Op::kind));
            let bytes = transaction.encode();
            assert_eq!(Transaction::decode(bytes.clone()), Ok(transaction));
            for len in (0..bytes.len()).step_by(7) {
                assert!(Transaction::decode(bytes.slice(..len)).is_err());
            }
        }
        assert!(kinds.len() == 18, "{kinds:?}");
        let prologue = Generator::prologue();
        assert_eq!(Transaction::decode(prologue.encode()), Ok(prologue));
    }
}
