//! One change in a record, and its bytes.
//!
//! Most of a record are keys and values. The keys of one record are mostly an object's and those of its shards, so each is told
//! by what differs from the one before it.

use allocator::Extent;
use bytes::Bytes;

use crate::codec::{DecodeError, DecodeResult, Decoder, Encoder, unzigzag, zigzag};
use crate::types::{CollectionId, LogVersion, PoolStats};

/// Numbers of the kinds on the device. Those that are not here (1, 2, 5 to 10, 13) are of older versions, see [`Item::decode_old`].
mod kind {
    pub(super) const DELETE_RANGE: u8 = 3;
    pub(super) const STATISTICS: u8 = 4;
    pub(super) const LOG_DROP: u8 = 11;
    pub(super) const NEXT_OMAP_ID: u8 = 12;
    pub(super) const STATISTICS_COMPRESSED: u8 = 14;
    pub(super) const PUT: u8 = 15;
    pub(super) const DELETE: u8 = 16;
    pub(super) const ALLOCATE: u8 = 17;
    pub(super) const FREE: u8 = 18;
    pub(super) const LEND: u8 = 19;
    pub(super) const RETURN: u8 = 20;
    pub(super) const DEFERRED: u8 = 21;
    pub(super) const IN_FLIGHT: u8 = 22;
    pub(super) const LOG_ENTRY: u8 = 23;
}

/// One change in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A key has this value.
    Put(Bytes, Bytes),
    /// A key is gone.
    Delete(Bytes),
    /// The keys of `[start, end)` are gone.
    DeleteRange(Bytes, Bytes),
    /// A pool's statistics change by this.
    Statistics(i64, PoolStats),
    /// Space now belongs to an object.
    Allocate(Extent),
    /// Space belongs to nobody any more.
    Free(Extent),
    /// Space now belongs to the key-value store's file system.
    Lend(Extent),
    /// Space that belonged to the key-value store's file system, which forgot it durably before, belongs to nobody.
    Return(Extent),
    /// Bytes that go in place later, if their blob still owns the block then.
    Deferred(Deferred),
    /// Data that was in flight beside the record: the extent's checksum, see [`crate::checksum::of_extent`].
    InFlight(Extent, u32),
    /// An entry of a collection's log.
    LogEntry(CollectionId, LogVersion, Bytes),
    /// The collection's log is gone.
    LogDrop(CollectionId),
    /// No omap id from here on was used.
    NextOmapId(u64),
}

/// A deferred write of whole blocks and who owns them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferred {
    /// Key of the object's onode.
    pub onode: Bytes,
    /// Which shard.
    pub shard: u32,
    /// Birth of the blob.
    pub birth: u64,
    /// Address of the first block.
    pub address: u64,
    /// The blocks.
    pub payload: Bytes,
}

impl Item {
    /// The key that it is about, if one: of a deferred write, the onode's.
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Put(key, _) | Self::Delete(key) => Some(key),
            Self::Deferred(deferred) => Some(&deferred.onode),
            _ => None,
        }
    }

    /// At least the bytes the item takes in a record.
    pub fn encoded_bytes_max(&self) -> usize {
        32 + match self {
            Self::Put(key, value) => key.len() + value.len(),
            Self::Delete(key) => key.len(),
            Self::DeleteRange(start, end) => start.len() + end.len(),
            Self::Statistics(..) => 72,
            Self::Deferred(deferred) => deferred.onode.len() + deferred.payload.len() + 24,
            Self::LogEntry(_, _, entry) => entry.len() + 24,
            Self::Allocate(_)
            | Self::Free(_)
            | Self::Lend(_)
            | Self::Return(_)
            | Self::InFlight(..)
            | Self::LogDrop(_)
            | Self::NextOmapId(_) => 0,
        }
    }

    /// Writes it behind an item with the key `before`.
    pub(super) fn encode(&self, e: &mut Encoder, before: Option<&Bytes>) {
        match self {
            Self::Put(key, value) => {
                e.u8(kind::PUT);
                encode_key(e, key, before);
                e.short_bytes(value);
            }
            Self::Delete(key) => {
                e.u8(kind::DELETE);
                encode_key(e, key, before);
            }
            Self::DeleteRange(start, end) => {
                e.u8(kind::DELETE_RANGE);
                e.bytes(start);
                e.bytes(end);
            }
            Self::Statistics(pool, delta) => {
                let all = delta.to_array();
                let is_plain = all[PoolStats::FIELDS_PLAIN..].iter().all(|value| *value == 0);
                e.u8(if is_plain { kind::STATISTICS } else { kind::STATISTICS_COMPRESSED });
                e.i64(*pool);
                let fields = if is_plain { &all[..PoolStats::FIELDS_PLAIN] } else { &all[..] };
                fields.iter().for_each(|value| e.i64(*value));
            }
            Self::Allocate(extent) => encode_extent(e, kind::ALLOCATE, *extent),
            Self::Free(extent) => encode_extent(e, kind::FREE, *extent),
            Self::Lend(extent) => encode_extent(e, kind::LEND, *extent),
            Self::Return(extent) => encode_extent(e, kind::RETURN, *extent),
            Self::Deferred(deferred) => {
                e.u8(kind::DEFERRED);
                encode_key(e, &deferred.onode, before);
                e.varint(deferred.shard.into());
                e.varint(deferred.birth);
                e.varint(deferred.address);
                e.short_bytes(&deferred.payload);
            }
            Self::InFlight(extent, checksum) => {
                encode_extent(e, kind::IN_FLIGHT, *extent);
                e.u32(*checksum);
            }
            Self::LogEntry(collection, version, entry) => {
                e.u8(kind::LOG_ENTRY);
                e.varint(zigzag(collection.pool));
                e.varint(collection.seed.into());
                e.varint(version.epoch.into());
                e.varint(version.version);
                e.short_bytes(entry);
            }
            Self::LogDrop(collection) => {
                e.u8(kind::LOG_DROP);
                e.i64(collection.pool);
                e.u32(collection.seed);
            }
            Self::NextOmapId(id) => {
                e.u8(kind::NEXT_OMAP_ID);
                e.u64(*id);
            }
        }
    }

    /// Reads one that stands behind an item with the key `before`.
    pub(super) fn decode(d: &mut Decoder, before: Option<&Bytes>) -> DecodeResult<Self> {
        let at = d.at();
        Ok(match d.u8("kind of item")? {
            kind::DELETE_RANGE => Self::DeleteRange(owned(d.bytes("start")?), owned(d.bytes("end")?)),
            kind::STATISTICS => Self::decode_statistics(d, PoolStats::FIELDS_PLAIN)?,
            kind::STATISTICS_COMPRESSED => Self::decode_statistics(d, PoolStats::FIELDS)?,
            kind::LOG_DROP => Self::LogDrop(decode_collection(d)?),
            kind::NEXT_OMAP_ID => Self::NextOmapId(d.u64("omap id")?),
            kind::PUT => Self::Put(decode_key(d, before)?, owned(d.short_bytes("value")?)),
            kind::DELETE => Self::Delete(decode_key(d, before)?),
            kind::ALLOCATE => Self::Allocate(decode_extent(d)?),
            kind::FREE => Self::Free(decode_extent(d)?),
            kind::LEND => Self::Lend(decode_extent(d)?),
            kind::RETURN => Self::Return(decode_extent(d)?),
            kind::DEFERRED => Self::Deferred(Deferred {
                onode: decode_key(d, before)?,
                shard: narrow(d, "shard")?,
                birth: d.varint("birth")?,
                address: d.varint("address")?,
                payload: owned(d.short_bytes("payload")?),
            }),
            kind::IN_FLIGHT => Self::InFlight(decode_extent(d)?, d.u32("checksum")?),
            kind::LOG_ENTRY => {
                let pool = unzigzag(d.varint("pool")?);
                let collection = CollectionId { pool, seed: narrow(d, "seed")? };
                let version =
                    LogVersion { epoch: narrow(d, "log epoch")?, version: d.varint("log version")? };
                Self::LogEntry(collection, version, owned(d.short_bytes("log entry")?))
            }
            other => Self::decode_old(d, other, at)?,
        })
    }

    /// What versions wrote in which every number had its whole width and every key was told whole.
    fn decode_old(d: &mut Decoder, kind: u8, at: usize) -> DecodeResult<Self> {
        Ok(match kind {
            1 => Self::Put(owned(d.bytes("key")?), owned(d.bytes("value")?)),
            2 => Self::Delete(owned(d.bytes("key")?)),
            5 => Self::Allocate(decode_wide_extent(d)?),
            6 => Self::Free(decode_wide_extent(d)?),
            7 => Self::Lend(decode_wide_extent(d)?),
            8 => Self::Deferred(Deferred {
                onode: owned(d.bytes("onode key")?),
                shard: d.u32("shard")?,
                birth: d.u64("birth")?,
                address: d.u64("address")?,
                payload: owned(d.bytes("payload")?),
            }),
            9 => Self::InFlight(decode_wide_extent(d)?, d.u32("checksum")?),
            10 => Self::LogEntry(
                decode_collection(d)?,
                LogVersion { epoch: d.u32("log epoch")?, version: d.u64("log version")? },
                owned(d.bytes("log entry")?),
            ),
            13 => Self::Return(decode_wide_extent(d)?),
            other => return d.invalid("kind of item", at, other.into()),
        })
    }

    fn decode_statistics(d: &mut Decoder, fields: usize) -> DecodeResult<Self> {
        let pool = d.i64("pool")?;
        let mut delta = [0; PoolStats::FIELDS];
        for value in &mut delta[..fields] {
            *value = d.i64("statistics")?;
        }
        if fields > PoolStats::FIELDS_PLAIN
            && delta[PoolStats::FIELDS_PLAIN..].iter().all(|value| *value == 0)
        {
            return d.invalid("statistics that say nothing of compression", d.at(), 0);
        }
        Ok(Self::Statistics(pool, PoolStats::from_array(delta)))
    }
}

/// Bytes in memory of their own: a part of what was read would keep all of the journal.
fn owned(bytes: Bytes) -> Bytes {
    Bytes::copy_from_slice(&bytes)
}

/// How many bytes a key shares with the one before, and the others.
fn encode_key(e: &mut Encoder, key: &[u8], before: Option<&Bytes>) {
    let before = before.map(|before| &before[..]).unwrap_or_default();
    let shared = key.iter().zip(before).take_while(|(one, other)| one == other).count();
    e.varint(u64::try_from(shared).unwrap_or(u64::MAX));
    e.short_bytes(key.get(shared..).unwrap_or_default());
}

fn decode_key(d: &mut Decoder, before: Option<&Bytes>) -> DecodeResult<Bytes> {
    let at = d.at();
    let shared = d.varint("bytes of the key before")?;
    let before = before.map(|before| &before[..]).unwrap_or_default();
    let Some(begin) = usize::try_from(shared).ok().and_then(|shared| before.get(..shared)) else {
        return d.invalid("bytes of the key before", at, shared);
    };
    Ok(Bytes::from([begin, &d.short_bytes("key")?].concat()))
}

fn encode_extent(e: &mut Encoder, kind: u8, extent: Extent) {
    e.u8(kind);
    e.varint(extent.start);
    e.varint(extent.len);
}

fn decode_extent(d: &mut Decoder) -> DecodeResult<Extent> {
    let at = d.at();
    let (start, len) = (d.varint("start of extent")?, d.varint("length of extent")?);
    check_extent(at, start, len)
}

fn decode_wide_extent(d: &mut Decoder) -> DecodeResult<Extent> {
    let at = d.at();
    let (start, len) = (d.u64("start of extent")?, d.u64("length of extent")?);
    check_extent(at, start, len)
}

fn check_extent(at: usize, start: u64, len: u64) -> DecodeResult<Extent> {
    let extent = Extent::checked(start, len).filter(|_| len > 0);
    extent.ok_or(DecodeError::Value { what: "extent", at, value: start })
}

fn decode_collection(d: &mut Decoder) -> DecodeResult<CollectionId> {
    Ok(CollectionId { pool: d.i64("pool")?, seed: d.u32("seed")? })
}

fn narrow(d: &mut Decoder, what: &'static str) -> DecodeResult<u32> {
    let at = d.at();
    let value = d.varint(what)?;
    u32::try_from(value).map_err(|_| DecodeError::Value { what, at, value })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::format::{Header, decode_records, encode_record, push_record};
    use super::*;

    pub(crate) fn items() -> Vec<Item> {
        let text = Bytes::from_static;
        let id = CollectionId { pool: -1, seed: 3 };
        vec![
            Item::Put(text(b"key"), text(b"value")),
            Item::Put(text(b"key and more"), text(b"")),
            Item::Delete(text(b"")),
            Item::DeleteRange(text(b"a"), text(b"b")),
            Item::Statistics(-7, PoolStats { objects: -1, bytes: 9, ..PoolStats::default() }),
            Item::Statistics(7, PoolStats { objects: 1, compressed: -4096, ..PoolStats::default() }),
            Item::Allocate(Extent::new(4096, 4096)),
            Item::Free(Extent::new(8192, 4096)),
            Item::Lend(Extent::new(1 << 40, 1 << 20)),
            Item::Return(Extent::new(1 << 40, 1 << 16)),
            Item::Deferred(Deferred {
                onode: text(b"onode"),
                shard: 3,
                birth: 4,
                address: 4096,
                payload: Bytes::from(vec![7; 4096]),
            }),
            Item::InFlight(Extent::new(0, 512), 99),
            Item::LogEntry(id, LogVersion { epoch: 1, version: 2 }, text(b"entry")),
            Item::LogDrop(id),
            Item::NextOmapId(8),
        ]
    }

    /// As older versions wrote them; none of what is written as it was.
    fn encode_old(item: &Item, e: &mut Encoder) -> Option<()> {
        let extent = |e: &mut Encoder, kind, extent: &Extent| {
            e.u8(kind);
            e.u64(extent.start);
            e.u64(extent.len);
        };
        match item {
            Item::Put(key, value) => {
                e.u8(1);
                e.bytes(key);
                e.bytes(value);
            }
            Item::Delete(key) => {
                e.u8(2);
                e.bytes(key);
            }
            Item::Allocate(one) => extent(e, 5, one),
            Item::Free(one) => extent(e, 6, one),
            Item::Lend(one) => extent(e, 7, one),
            Item::Deferred(deferred) => {
                e.u8(8);
                e.bytes(&deferred.onode);
                e.u32(deferred.shard);
                e.u64(deferred.birth);
                e.u64(deferred.address);
                e.bytes(&deferred.payload);
            }
            Item::InFlight(one, checksum) => {
                extent(e, 9, one);
                e.u32(*checksum);
            }
            Item::LogEntry(collection, version, entry) => {
                e.u8(10);
                e.i64(collection.pool);
                e.u32(collection.seed);
                e.u32(version.epoch);
                e.u64(version.version);
                e.bytes(entry);
            }
            Item::Return(one) => extent(e, 13, one),
            Item::DeleteRange(..) | Item::Statistics(..) | Item::LogDrop(_) | Item::NextOmapId(_) => {
                return None;
            }
        }
        Some(())
    }

    #[test]
    fn what_older_versions_wrote_is_read() {
        let mut read = 0;
        for item in items() {
            let mut e = Encoder::new();
            if encode_old(&item, &mut e).is_none() {
                continue;
            }
            let mut d = Decoder::new(e.into_bytes());
            assert_eq!(Item::decode(&mut d, Some(&Bytes::from_static(b"key"))), Ok(item));
            assert_eq!(d.left(), 0);
            read += 1;
        }
        assert_eq!(read, 10);
    }

    #[test]
    fn no_item_is_longer_than_it_says() {
        let text = |len| Bytes::from(vec![7; len]);
        let far = Extent::new(u64::MAX - 1, 1);
        let id = CollectionId { pool: i64::MIN, seed: u32::MAX };
        let version = LogVersion { epoch: u32::MAX, version: u64::MAX };
        let (onode, payload) = (text(300), text(300));
        let deferred = Deferred { onode, shard: u32::MAX, birth: u64::MAX, address: u64::MAX, payload };
        let worst = [
            Item::Put(text(300), text(300)),
            Item::Delete(text(300)),
            Item::DeleteRange(text(300), text(300)),
            Item::Allocate(far),
            Item::Free(far),
            Item::Lend(far),
            Item::Return(far),
            Item::Deferred(deferred),
            Item::InFlight(far, u32::MAX),
            Item::LogEntry(id, version, text(300)),
            Item::LogDrop(id),
            Item::NextOmapId(u64::MAX),
        ];
        for item in worst.iter().chain(&items()) {
            let len = encode_record(std::slice::from_ref(item)).len();
            assert!(len <= item.encoded_bytes_max(), "{item:?} takes {len} bytes");
        }
    }

    #[test]
    fn keys_that_begin_alike_are_told_once() {
        let long = |end: &str| Bytes::from(format!("{}{end}", "o".repeat(100)));
        let items = vec![Item::Put(long("o"), Bytes::new()), Item::Put(long("x1"), Bytes::new())];
        let record = encode_record(&items);
        assert_eq!(record.len(), 105 + 6);
        let mut body = Vec::new();
        push_record(&mut body, &record);
        let header = Header { records: 1, ..Header::default() };
        assert_eq!(decode_records(&header, Bytes::from(body)), Ok(vec![items]));
        // Nothing stands before a record's first key.
        let alone = [&[kind::DELETE][..], &[1, 0]].concat();
        assert!(Item::decode(&mut Decoder::new(Bytes::from(alone)), None).is_err());
    }
}
