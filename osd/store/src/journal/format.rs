//! Bytes of groups and records. A record is what one transaction changes, as absolute values.

use bytes::Bytes;
use uuid::Uuid;

use super::item::Item;
use crate::checksum;
use crate::codec::{DecodeResult, Decoder, Encoder};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    let mut before = None;
    for item in items {
        item.encode(&mut e, before);
        before = item.key().or(before);
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
        let (mut decoded, mut before) = (Vec::new(), None);
        while items.left() > 0 {
            let item = Item::decode(&mut items, before.as_ref())?;
            before = item.key().cloned().or(before);
            decoded.push(item);
        }
        records.push(decoded);
    }
    d.end("group")?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::items;
    use super::*;

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
