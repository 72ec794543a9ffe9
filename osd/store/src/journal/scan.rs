//! Which groups of the ring belong to the chain after a crash. Pure.
//!
//! A group joins if it is the next one in number and place, its checksum is right, it names the checksum of the one
//! before, and its epoch is the one that wrote this part: from the superblock's `epoch_start` on exactly the last
//! mounted epoch, an earlier one below. The chain ends at the first group that does not join. That end is the crash,
//! unless something says that the missing group was durable; then it is corruption, and never a shorter chain.

use uuid::Uuid;

use super::format::{self, HEADER_BYTES, Header};
use super::item::Item;
use super::ring::Ring;
use crate::fault::{Fault, Planted};

/// Where the chain begins, from the checkpoint and the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Store.
    pub store: Uuid,
    /// Position of the first group after the checkpoint.
    pub position: u64,
    /// Its number.
    pub group: u64,
    /// Checksum of the group before it.
    pub previous: u32,
    /// Number of its first record.
    pub record: u64,
    /// Mount epoch of the superblock.
    pub epoch: u64,
    /// First group of that epoch.
    pub epoch_start: u64,
    /// Unit in which groups are padded.
    pub block: u64,
}

/// A group of the chain.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its header.
    pub header: Header,
    /// Its checksum.
    pub checksum: u32,
    /// Position after it.
    pub end: u64,
    /// Its records.
    pub records: Vec<Vec<Item>>,
}

/// Why the journal cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScanError {
    /// A group is missing that was durable.
    #[error("journal group {group} at position {position} is damaged although it was durable: {reason}")]
    Damaged {
        /// Its number.
        group: u64,
        /// Where it should be.
        position: u64,
        /// What is wrong and how we know that it was durable.
        reason: String,
    },
    /// Somebody mounted the store after what its superblock says.
    #[error(
        "the journal was written by mount {found}, and the superblock says that {epoch} was the last: it is an older copy, and \
         starting with it would lose data"
    )]
    Older {
        /// Of the superblock.
        epoch: u64,
        /// Of a group.
        found: u64,
    },
}

/// The chain from `start`.
pub fn scan(ring: &Ring, start: &Start, fault: Fault) -> Result<Vec<Group>, ScanError> {
    let mut groups: Vec<Group> = Vec::new();
    let mut next = *start;
    let mut read = 0;
    loop {
        let reason = match read_group(ring, &next, fault) {
            Ok(group) => {
                read += group.end - next.position;
                if read > ring.size() {
                    // The chain would run over its own beginning: no writer does that.
                    return damaged(&next, "the chain is longer than the journal".into());
                }
                next.position = group.end;
                next.group += 1;
                next.previous = group.checksum;
                next.record += u64::from(group.header.records);
                groups.push(group);
                continue;
            }
            Err(Stop::End(reason)) => reason,
            Err(Stop::Damaged(reason)) => return damaged(&next, reason),
        };
        if next.group < start.epoch_start {
            let proof = format!("{reason}, and epoch {} began with group {}", start.epoch, start.epoch_start);
            return damaged(&next, proof);
        }
        match later_proof(ring, &next) {
            // No group of an epoch is written before the superblock has it.
            Some(later) if later.epoch > next.epoch => {
                return Err(ScanError::Older { epoch: next.epoch, found: later.epoch });
            }
            Some(later) => {
                let proof = format!("{reason}, and group {} says that it was", later.group);
                return damaged(&next, proof);
            }
            None => {}
        }
        return Ok(groups);
    }
}

/// The last group that is known to have been durable when the crash came.
pub fn durable_through(groups: &[Group], start: &Start) -> u64 {
    let floor = start.group.max(start.epoch_start).saturating_sub(1);
    groups.iter().map(|group| group.header.durable_through).fold(floor, u64::max)
}

enum Stop {
    End(String),
    Damaged(String),
}

fn damaged<T>(next: &Start, reason: String) -> Result<T, ScanError> {
    Err(ScanError::Damaged { group: next.group, position: next.position, reason })
}

fn read_group(ring: &Ring, next: &Start, fault: Fault) -> Result<Group, Stop> {
    let end = |reason: &str| Stop::End(reason.to_owned());
    let header_len = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
    let bytes = ring.read(next.position, header_len).ok_or_else(|| end("the journal is too small"))?;
    let (header, stored) = Header::decode(bytes.clone()).map_err(|error| Stop::End(error.to_string()))?;
    let place = (header.store, header.position, header.group);
    let in_place = place == (format::store_tag(next.store), next.position, next.group);
    let joins = header.previous == next.previous
        && header.first_record == next.record
        && if header.group < next.epoch_start {
            header.epoch < next.epoch
        } else {
            header.epoch == next.epoch
        };
    let stale = header.epoch < next.epoch && fault.is(Planted::StaleEpochAccepted);
    if !(in_place && joins || stale) {
        return Err(end("it belongs to another place, epoch or chain"));
    }
    let len = (header_len + u64::from(header.body)).next_multiple_of(next.block);
    let whole = ring.read(next.position, len).ok_or_else(|| end("it is longer than the journal"))?;
    let body_end = HEADER_BYTES + usize::try_from(header.body).unwrap_or(usize::MAX);
    let body = whole.slice(HEADER_BYTES..body_end);
    if stored != Header::checksum(&bytes, &body) && !fault.is(Planted::TornRecordAccepted) {
        return Err(end("its checksum does not match"));
    }
    let records = format::decode_records(&header, body)
        .map_err(|error| Stop::Damaged(format!("its checksum matches but it cannot be read: {error}")))?;
    Ok(Group { header, checksum: stored, end: next.position + len, records })
}

/// A valid group anywhere in the ring which is of a later epoch, or says that the group that `next` looks for was durable.
fn later_proof(ring: &Ring, next: &Start) -> Option<Header> {
    let header_len = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
    let mut place = 0;
    while place < ring.size() {
        let here = place;
        place += next.block;
        let Some(bytes) = ring.read(here, header_len) else { continue };
        let Ok((header, stored)) = Header::decode(bytes.clone()) else { continue };
        let claims = header.store == format::store_tag(next.store)
            && header.position % ring.size() == here
            && (header.epoch > next.epoch
                || header.epoch == next.epoch
                    && header.group > next.group
                    && header.durable_through >= next.group);
        let len = header_len + u64::from(header.body);
        if claims
            && let Some(whole) = ring.read(here, len)
            && stored == Header::checksum(&bytes, whole.get(HEADER_BYTES..).unwrap_or_default())
        {
            return Some(header);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const SIZE: usize = 16 * 512;

    struct Writer {
        ring: Vec<u8>,
        next: Start,
        durable: u64,
    }

    impl Writer {
        fn new() -> Self {
            let store = Uuid::from_u128(5);
            let next = Start {
                store,
                position: 3 * SIZE as u64 + 1024,
                group: 40,
                previous: 9,
                record: 100,
                epoch: 2,
                epoch_start: 40,
                block: 512,
            };
            Self { ring: vec![0; SIZE], next, durable: 39 }
        }

        fn push(&mut self, payload: usize, seal: bool) {
            let mut body = Vec::new();
            let item = Item::Put(Bytes::from_static(b"k"), Bytes::from(vec![7; payload]));
            format::push_record(&mut body, &format::encode_record(&[item]));
            let header = Header {
                seal,
                epoch: self.next.epoch,
                group: self.next.group,
                durable_through: self.durable,
                position: self.next.position,
                first_record: self.next.record,
                records: 1,
                body: body.len() as u32,
                previous: self.next.previous,
                store: format::store_tag(self.next.store),
            };
            let (mut group, checksum) = header.seal_group(&body);
            group.resize(group.len().next_multiple_of(512), 0);
            for (at, byte) in group.iter().enumerate() {
                self.ring[(self.next.position as usize + at) % SIZE] = *byte;
            }
            self.next.position += group.len() as u64;
            self.next.group += 1;
            self.next.record += 1;
            self.next.previous = checksum;
        }

        fn scan(&self, start: &Start) -> Result<Vec<u64>, ScanError> {
            let ring = Ring::new(Bytes::from(self.ring.clone()));
            let groups = scan(&ring, start, Fault::default())?;
            Ok(groups.iter().map(|group| group.header.group).collect())
        }
    }

    #[test]
    fn the_chain_is_read_around_the_end_of_the_ring() {
        let mut writer = Writer::new();
        let start = writer.next;
        assert_eq!(writer.scan(&start), Ok(vec![]));
        for payload in [10, 1000, 2000, 500, 1500] {
            writer.push(payload, false);
        }
        assert!(writer.next.position % (SIZE as u64) < start.position % (SIZE as u64), "wrapped");
        assert_eq!(writer.scan(&start), Ok(vec![40, 41, 42, 43, 44]));
    }

    #[test]
    fn the_chain_ends_at_a_torn_group() {
        let mut writer = Writer::new();
        let start = writer.next;
        writer.push(10, false);
        let torn = writer.next.position as usize % SIZE;
        writer.push(1000, false);
        writer.push(10, false);
        writer.ring[torn + 700] ^= 1;
        assert_eq!(writer.scan(&start), Ok(vec![40]));
        let ring = Ring::new(Bytes::from(writer.ring.clone()));
        let planted = scan(&ring, &start, Fault::planted(Planted::TornRecordAccepted));
        assert_eq!(planted.map(|groups| groups.len()), Ok(3), "the planted mistake takes it");
    }

    #[test]
    fn damage_below_a_seal_is_corruption() {
        let mut writer = Writer::new();
        let start = writer.next;
        writer.push(10, false);
        writer.push(1000, false);
        writer.durable = 41;
        writer.push(0, true);
        writer.ring[start.position as usize % SIZE + 80] ^= 1;
        let found = writer.scan(&start);
        assert!(matches!(found, Err(ScanError::Damaged { group: 40, .. })), "{found:?}");
    }

    #[test]
    fn damage_below_the_start_of_the_epoch_is_corruption() {
        let mut writer = Writer::new();
        writer.next.epoch = 1;
        let mut start = writer.next;
        writer.push(10, false);
        writer.push(10, false);
        // The next mount found both and began its epoch after them.
        start.epoch = 2;
        start.epoch_start = 42;
        assert_eq!(writer.scan(&start), Ok(vec![40, 41]));
        writer.ring[start.position as usize % SIZE + 590] ^= 1;
        assert!(writer.scan(&start).is_err());
    }

    #[test]
    fn groups_of_an_earlier_life_do_not_join() {
        let mut writer = Writer::new();
        writer.next.epoch = 1;
        let start = Start { epoch: 2, epoch_start: 41, ..writer.next };
        writer.push(10, false);
        let crash = writer.next;
        writer.push(20, false);
        writer.push(30, false);
        // The crash lost group 41 as far as the next life saw; it began epoch 2 there.
        assert_eq!(writer.scan(&start), Ok(vec![40]), "41 and 42 are ghosts");
        // It writes its own 41, of the same size: the ghost 42 still has another predecessor and another epoch.
        let mut second = Writer { next: Start { epoch: 2, ..crash }, ..writer };
        second.push(20, false);
        assert_eq!(second.scan(&start), Ok(vec![40, 41]));
        let ring = Ring::new(Bytes::from(second.ring.clone()));
        let planted = scan(&ring, &start, Fault::planted(Planted::StaleEpochAccepted));
        assert_eq!(planted.map(|groups| groups.len()), Ok(3), "the planted mistake takes the ghost");
    }

    #[test]
    fn garbage_never_panics() {
        let mut writer = Writer::new();
        let start = writer.next;
        for payload in [10, 1000, 700] {
            writer.push(payload, false);
        }
        for at in 0..SIZE {
            for flip in [0x01, 0x80, 0xff] {
                let mut ring = writer.ring.clone();
                ring[at] ^= flip;
                let found = scan(&Ring::new(Bytes::from(ring)), &start, Fault::default());
                assert!(found.is_ok_and(|groups| groups.len() <= 3));
            }
        }
    }
}
