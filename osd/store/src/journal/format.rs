//! Bytes of groups and records. A record is what one transaction changes, as absolute values.

use allocator::Extent;
use bytes::Bytes;
use uuid::Uuid;

use crate::checksum;
use crate::codec::{DecodeError, DecodeResult, Decoder, Encoder};
use crate::types::{CollectionId, LogVersion, PoolStats};

const MAGIC: u32 = u32::from_le_bytes(*b"SPJG");
const VERSION: u16 = 1;
/// Bytes of a group's header.
pub const HEADER_BYTES: usize = 68;
/// Where the header's checksum is: it covers the bytes before it and the body.
const CHECKSUM_AT: usize = 64;
/// Bytes around a record in a group.
pub const RECORD_FRAME_BYTES: usize = 4;
const FLAG_SEAL: u16 = 1;

/// What a group says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The slice was idle: nothing follows until the next activity.
    pub seal: bool,
    /// Mount epoch of the writer.
    pub epoch: u64,
    /// Number of the group, ascending without gaps over the store's whole life.
    pub group: u64,
    /// The last group whose flush had completed when this one was built.
    pub durable_through: u64,
    /// Position of the header, counted from the store's beginning; modulo the ring's size it is the place.
    pub position: u64,
    /// Number of the first record in it; the next one if it has none.
    pub first_record: u64,
    /// Records.
    pub records: u32,
    /// Bytes of the body.
    pub body: u32,
    /// Checksum of the group before: the chain.
    pub previous: u32,
    /// [`store_tag`] of the store.
    pub store: u32,
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

/// Four bytes of a store's name in every group, so that another store's journal never fits.
pub fn store_tag(store: Uuid) -> u32 {
    crc32c::crc32c(store.as_bytes())
}

/// What the first group of a store has as the checksum of the group before.
pub fn first_previous(store: Uuid) -> u32 {
    crc32c::crc32c_append(1, store.as_bytes())
}

impl Header {
    /// A whole group: header and body; and the checksum.
    pub fn seal_group(&self, body: &[u8]) -> (Vec<u8>, u32) {
        let mut group = vec![0; HEADER_BYTES];
        group.extend_from_slice(body);
        let checksum = self.seal(&mut group);
        (group, checksum)
    }

    /// Writes itself to the beginning of `group`, where [`HEADER_BYTES`] are left before the body; gives the checksum,
    /// which it holds too.
    pub fn seal(&self, group: &mut [u8]) -> u32 {
        let (head, body) = group.split_at_mut(HEADER_BYTES);
        let mut e = Encoder::with_capacity(HEADER_BYTES);
        e.u32(MAGIC);
        e.u16(VERSION);
        e.u16(if self.seal { FLAG_SEAL } else { 0 });
        e.u64(self.epoch);
        e.u64(self.group);
        e.u64(self.durable_through);
        e.u64(self.position);
        e.u64(self.first_record);
        e.u32(self.records);
        e.u32(self.body);
        e.u32(self.previous);
        e.u32(self.store);
        let checksum = checksum::of_group(e.as_slice(), body);
        e.u32(checksum);
        head.copy_from_slice(e.as_slice());
        checksum
    }

    /// Reads a header, and the checksum it claims.
    pub fn decode(bytes: Bytes) -> DecodeResult<(Self, u32)> {
        let mut d = Decoder::new(bytes);
        let magic = d.u32("magic of a group")?;
        if magic != MAGIC {
            return d.invalid("magic of a group", 0, magic.into());
        }
        let version = d.u16("version of a group")?;
        let flags = d.u16("flags of a group")?;
        if version != VERSION || flags & !FLAG_SEAL != 0 {
            return d.invalid("version and flags of a group", 4, u64::from(version) << 16 | u64::from(flags));
        }
        let header = Self {
            seal: flags & FLAG_SEAL != 0,
            epoch: d.u64("epoch")?,
            group: d.u64("group")?,
            durable_through: d.u64("durable through")?,
            position: d.u64("position")?,
            first_record: d.u64("first record")?,
            records: d.u32("records")?,
            body: d.u32("body")?,
            previous: d.u32("previous")?,
            store: d.u32("store")?,
        };
        Ok((header, d.u32("checksum")?))
    }

    /// Checksum of a group from its bytes.
    pub fn checksum(header: &[u8], body: &[u8]) -> u32 {
        let covered = header.get(..CHECKSUM_AT).unwrap_or_default();
        checksum::of_group(covered, body)
    }
}

/// The items of a record, encoded.
pub fn encode_record(items: &[Item]) -> Bytes {
    let bytes = items.iter().map(Item::encoded_bytes_max).sum();
    let mut e = Encoder::with_capacity(bytes);
    for item in items {
        item.encode(&mut e);
    }
    e.into_bytes()
}

/// Appends a record to a group's body.
pub fn push_record(body: &mut Vec<u8>, record: &[u8]) {
    let start = body.len();
    body.resize(start + RECORD_FRAME_BYTES + record.len(), 0);
    put_record(&mut body[start..], record);
}

/// Puts a record at the beginning of `room`; gives the room behind it.
pub fn put_record<'a>(room: &'a mut [u8], record: &[u8]) -> &'a mut [u8] {
    let Ok(len) = u32::try_from(record.len()) else { panic!("a record of {} bytes", record.len()) };
    let (frame, room) = room.split_at_mut(RECORD_FRAME_BYTES);
    frame.copy_from_slice(&len.to_le_bytes());
    let (place, room) = room.split_at_mut(record.len());
    place.copy_from_slice(record);
    room
}

/// The records of a body.
pub fn decode_records(header: &Header, body: Bytes) -> DecodeResult<Vec<Vec<Item>>> {
    let mut d = Decoder::new(body);
    let mut records = Vec::new();
    for _ in 0..header.records {
        let record = d.bytes("record")?;
        let mut items = Decoder::new(record);
        let mut decoded = Vec::new();
        while items.left() > 0 {
            decoded.push(Item::decode(&mut items)?);
        }
        records.push(decoded);
    }
    d.end("group")?;
    Ok(records)
}

impl Item {
    /// At least the bytes the item takes in a record.
    pub fn encoded_bytes_max(&self) -> usize {
        32 + match self {
            Self::Put(key, value) => key.len() + value.len(),
            Self::Delete(key) => key.len(),
            Self::DeleteRange(start, end) => start.len() + end.len(),
            Self::Statistics(..) => 72,
            Self::Deferred(deferred) => deferred.onode.len() + deferred.payload.len(),
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

    fn encode(&self, e: &mut Encoder) {
        match self {
            Self::Put(key, value) => {
                e.u8(1);
                e.bytes(key);
                e.bytes(value);
            }
            Self::Delete(key) => {
                e.u8(2);
                e.bytes(key);
            }
            Self::DeleteRange(start, end) => {
                e.u8(3);
                e.bytes(start);
                e.bytes(end);
            }
            Self::Statistics(pool, delta) => {
                let all = delta.to_array();
                let is_plain = all[PoolStats::FIELDS_PLAIN..].iter().all(|value| *value == 0);
                e.u8(if is_plain { 4 } else { 14 });
                e.i64(*pool);
                let fields = if is_plain { &all[..PoolStats::FIELDS_PLAIN] } else { &all[..] };
                fields.iter().for_each(|value| e.i64(*value));
            }
            Self::Allocate(extent) => encode_extent(e, 5, *extent),
            Self::Free(extent) => encode_extent(e, 6, *extent),
            Self::Lend(extent) => encode_extent(e, 7, *extent),
            Self::Deferred(deferred) => {
                e.u8(8);
                e.bytes(&deferred.onode);
                e.u32(deferred.shard);
                e.u64(deferred.birth);
                e.u64(deferred.address);
                e.bytes(&deferred.payload);
            }
            Self::InFlight(extent, checksum) => {
                encode_extent(e, 9, *extent);
                e.u32(*checksum);
            }
            Self::LogEntry(collection, version, entry) => {
                e.u8(10);
                encode_collection(e, *collection);
                e.u32(version.epoch);
                e.u64(version.version);
                e.bytes(entry);
            }
            Self::LogDrop(collection) => {
                e.u8(11);
                encode_collection(e, *collection);
            }
            Self::NextOmapId(id) => {
                e.u8(12);
                e.u64(*id);
            }
            Self::Return(extent) => encode_extent(e, 13, *extent),
        }
    }

    fn decode(d: &mut Decoder) -> DecodeResult<Self> {
        let at = d.at();
        Ok(match d.u8("kind of item")? {
            1 => Self::Put(owned(d, "key")?, owned(d, "value")?),
            2 => Self::Delete(owned(d, "key")?),
            3 => Self::DeleteRange(owned(d, "start")?, owned(d, "end")?),
            4 => Self::decode_statistics(d, PoolStats::FIELDS_PLAIN)?,
            14 => Self::decode_statistics(d, PoolStats::FIELDS)?,
            5 => Self::Allocate(decode_extent(d)?),
            6 => Self::Free(decode_extent(d)?),
            7 => Self::Lend(decode_extent(d)?),
            8 => Self::Deferred(Deferred {
                onode: owned(d, "onode key")?,
                shard: d.u32("shard")?,
                birth: d.u64("birth")?,
                address: d.u64("address")?,
                payload: owned(d, "payload")?,
            }),
            9 => Self::InFlight(decode_extent(d)?, d.u32("checksum")?),
            10 => Self::LogEntry(
                decode_collection(d)?,
                LogVersion { epoch: d.u32("log epoch")?, version: d.u64("log version")? },
                owned(d, "log entry")?,
            ),
            11 => Self::LogDrop(decode_collection(d)?),
            12 => Self::NextOmapId(d.u64("omap id")?),
            13 => Self::Return(decode_extent(d)?),
            other => return d.invalid("kind of item", at, other.into()),
        })
    }
}

impl Item {
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
fn owned(d: &mut Decoder, what: &'static str) -> DecodeResult<Bytes> {
    Ok(Bytes::copy_from_slice(&d.bytes(what)?))
}

fn encode_extent(e: &mut Encoder, kind: u8, extent: Extent) {
    e.u8(kind);
    e.u64(extent.start);
    e.u64(extent.len);
}

fn decode_extent(d: &mut Decoder) -> DecodeResult<Extent> {
    let at = d.at();
    let (start, len) = (d.u64("start of extent")?, d.u64("length of extent")?);
    let extent = Extent::checked(start, len).filter(|_| len > 0);
    extent.ok_or(DecodeError::Value { what: "extent", at, value: start })
}

fn encode_collection(e: &mut Encoder, id: CollectionId) {
    e.i64(id.pool);
    e.u32(id.seed);
}

fn decode_collection(d: &mut Decoder) -> DecodeResult<CollectionId> {
    Ok(CollectionId { pool: d.i64("pool")?, seed: d.u32("seed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn items() -> Vec<Item> {
        let text = Bytes::from_static;
        let id = CollectionId { pool: -1, seed: 3 };
        vec![
            Item::Put(text(b"key"), text(b"value")),
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

    #[test]
    fn groups_round_trip() {
        let record = encode_record(&items());
        assert!(record.len() <= items().iter().map(Item::encoded_bytes_max).sum());
        let mut body = Vec::new();
        push_record(&mut body, &record);
        push_record(&mut body, &[]);
        let header = Header {
            seal: true,
            epoch: 1,
            group: 2,
            durable_through: 1,
            position: 3,
            first_record: 4,
            records: 2,
            body: u32::try_from(body.len()).expect("small"),
            previous: 6,
            store: 7,
        };
        let (group, checksum) = header.seal_group(&body);
        let group = Bytes::from(group);
        assert_eq!(Header::decode(group.clone()), Ok((header, checksum)));
        let body = group.slice(HEADER_BYTES..);
        assert_eq!(Header::checksum(&group, &body), checksum);
        assert_eq!(decode_records(&header, body.clone()), Ok(vec![items(), vec![]]));
        for len in 0..body.len() {
            assert!(decode_records(&header, body.slice(..len)).is_err());
        }
        for at in 0..group.len() {
            let mut damaged = group.to_vec();
            damaged[at] ^= 0x40;
            let damaged = Bytes::from(damaged);
            let same = Header::decode(damaged.clone()).is_ok_and(|(_, stored)| {
                stored == Header::checksum(&damaged, damaged.get(HEADER_BYTES..).unwrap_or_default())
            });
            assert!(!same, "a flipped bit at {at} goes unnoticed");
        }
    }
}
