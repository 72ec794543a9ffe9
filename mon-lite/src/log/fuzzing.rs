//! Fuzz entries of the log's superblock and records; see [`crate::fuzzing`].

use super::LogIndex;
use super::record::{self, HEADER_BYTES, Place};
use super::superblock::{SUPERBLOCK_BYTES, Superblock};

/// A copy of the superblock, as it is and with a checksum that fits, so that its fields are looked at.
pub fn superblock(input: &[u8]) {
    check_superblock(input);
    let mut sealed = input.to_vec();
    sealed.resize(SUPERBLOCK_BYTES, 0);
    let (content, checksum) = sealed.split_at_mut(SUPERBLOCK_BYTES - 4);
    checksum.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
    check_superblock(&sealed);
}

fn check_superblock(bytes: &[u8]) {
    let Ok(superblock) = Superblock::decode(bytes) else {
        return;
    };
    assert_eq!(Superblock::decode(&superblock.encode()).as_ref(), Ok(&superblock));
    let slot = superblock.slot_bytes();
    assert!(superblock.records_offset() <= slot, "a snapshot lies within its slot");
    assert!(superblock.slot_offset() + slot <= superblock.device_bytes, "a slot lies within the device");
    // What opening does next.
    let next = Superblock {
        epoch: superblock.epoch + 1,
        sequence: superblock.sequence + 1,
        generation: superblock.generation + 1,
        snapshot_through: superblock.snapshot_through.next(),
        sealed_through: superblock.sealed_through.next(),
        ..superblock
    };
    next.chain_seed();
}

/// A record: its header, and the same fields and payload written again.
pub fn record(input: &[u8]) {
    const SALT: u64 = 99;
    let Some(header) = record::decode_header(input) else {
        return;
    };
    let Some(payload) = input.get(HEADER_BYTES..HEADER_BYTES + header.len) else {
        assert!(!record::is_whole(&header, SALT, input), "a payload that is not there is not whole");
        return;
    };
    let place = Place {
        index: LogIndex(header.index.0),
        epoch: header.epoch,
        generation: header.generation,
        previous_crc: header.previous_crc,
        salt: SALT,
    };
    let mut out = vec![0; HEADER_BYTES + payload.len()];
    let crc = record::encode(&mut out, place, payload);
    match record::decode_header(&out) {
        Some(again) => assert_eq!(again, record::Header { crc, ..header }),
        None => panic!("a header that was written cannot be read"),
    }
    assert!(record::is_whole(&record::Header { crc, ..header }, SALT, &out));
    // Any one bit that differs is noticed.
    let at = usize::from(header.epoch.to_le_bytes()[0]) % out.len();
    out[at] ^= 1;
    let damaged = record::decode_header(&out);
    assert!(
        damaged.is_none_or(|damaged| !record::is_whole(&damaged, SALT, &out)),
        "byte {at} is not covered"
    );
}

/// Sound test cases.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let superblock = Superblock {
        align: 4096,
        identity: super::LogIdentity { fsid: uuid::Uuid::from_u128(7), name: "a".into() },
        compat: 0,
        ro_compat: 0,
        incompat: 0,
        device_bytes: crate::limits::LOG_DEVICE_BYTES_MIN,
        sequence: 3,
        epoch: 2,
        generation: 1,
        snapshot_len: 5000,
        snapshot_through: LogIndex(8),
        snapshot_crc: 1,
        sealed_through: LogIndex(9),
        key_id: 0,
        salt: 99,
    };
    if name == "mon_log_superblock" {
        return vec![superblock.encode().to_vec()];
    }
    let mut record = vec![0; HEADER_BYTES + 40];
    let place = Place { index: LogIndex(9), epoch: 2, generation: 1, previous_crc: 5, salt: 99 };
    record::encode(&mut record, place, &[7; 30]);
    vec![record]
}
