//! Fuzz entries of the file system's superblock, records and log; see [`crate::fuzzing`].

use std::sync::OnceLock;

use allocator::Extent;
use nvme::{Geometry, MemoryDevice};
use uuid::Uuid;

use crate::fs::check::check;
use crate::fs::log::{HEADER_BYTES, encode_group, group_bytes, replay};
use crate::fs::machine::{Loaded, MountOptions};
use crate::fs::record::{Ino, Record};
use crate::fs::superblock::Superblock;
use crate::fs::tree::Tree;

const BLOCK: usize = 512;
const UNIT: u64 = 4096;
const LOG_ID: u64 = 77;
const DEVICE_BYTES: u64 = 1 << 22;
/// Where the superblock's copies are, and where its checksum is in them.
const COPIES: [u64; 2] = [0, 4096];
const CRC_AT: usize = 12;
/// Pieces of damage in one test case: all together stay below what crc32c detects for certain.
const DAMAGES_MAX: usize = 3;

/// Two copies of a superblock, one after the other, with checksums that fit; then the choice between them.
pub(crate) fn superblock(input: &[u8]) {
    let (first, second) = input.split_at(input.len() / 2);
    let copies = [first, second].map(sealed);
    for bytes in &copies {
        if let Ok((found, _)) = Superblock::choose([Ok(bytes.clone()), Ok(vec![0; 4096])], COPIES) {
            let again = Superblock::choose([Ok(found.encode()), Ok(vec![0; 4096])], COPIES);
            assert_eq!(again.map(|(again, _)| again), Ok(found));
        }
    }
    let [first, second] = copies;
    if let Ok((found, copy)) = Superblock::choose([Ok(first.clone()), Ok(second.clone())], COPIES) {
        let other = Superblock::choose([Ok([second, first][copy].clone()), Ok(vec![0; 4096])], COPIES);
        assert!(other.is_err() || other.is_ok_and(|(other, _)| other.generation <= found.generation));
    }
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    copy.resize(4096, 0);
    copy[CRC_AT..CRC_AT + 4].fill(0);
    let crc = crc32c::crc32c(&copy);
    copy[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    copy
}

/// Records as a group holds them, applied to a tree: its snapshot gives the same tree.
pub(crate) fn records(input: &[u8]) {
    let Ok(records) = Record::decode_all(input) else {
        return;
    };
    assert_eq!(Record::encode_all(&records), input);
    let mut tree = Tree::default();
    for record in &records {
        let before = tree.clone();
        match tree.apply(record) {
            Ok(freed) => assert!(freed.iter().all(|extent| extent.len > 0), "{freed:?}"),
            Err(_) => assert_eq!(tree, before, "a record that is refused changes nothing"),
        }
    }
    let mut again = Tree::default();
    for record in tree.snapshot() {
        if let Err(error) = again.apply(&record) {
            panic!("{record:?} of a snapshot does not apply: {error}");
        }
    }
    assert_eq!(again, tree);
    check(&tree, &sample_superblock(0), COPIES);
    tree.space_bytes();
}

/// A log of groups made of the input, all with checksums that fit: u16 length, payload. Then what mounting does.
pub(crate) fn log(mut input: &[u8]) {
    let (mut bytes, mut payloads) = (Vec::new(), Vec::new());
    while let [low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        input = rest;
        let group = encode_group(LOG_ID, payloads.len() as u64, payload, BLOCK);
        assert_eq!(group.len(), group_bytes(payload.len(), BLOCK));
        bytes.extend(group);
        payloads.push(payload);
    }
    bytes.resize(LOG_BYTES.max(bytes.len().next_multiple_of(UNIT as usize)), 0);
    let decoded: Result<Vec<_>, _> = payloads.iter().map(|payload| Record::decode_all(payload)).collect();
    match (replay(&bytes, LOG_ID, 0, BLOCK), decoded) {
        (Ok(replayed), Ok(records)) => {
            assert_eq!(replayed.groups, payloads.len() as u64);
            assert_eq!(replayed.records, records.concat());
        }
        (Err(_), Err(_)) => {}
        (replayed, decoded) => panic!("{replayed:?} of {decoded:?}"),
    }
    mount(&bytes, 0);
}

const LOG_BYTES: usize = 8192;

/// Anything as a log.
pub(crate) fn raw_log(input: &[u8]) {
    drop(replay(input, LOG_ID, 0, BLOCK));
    mount(input, 0);
}

/// A sound log that is damaged: it reads as the records of its first groups, or is refused; never less than the
/// snapshot.
pub(crate) fn log_damage(input: &[u8]) {
    static WRITTEN: OnceLock<(Vec<u8>, Vec<Vec<Record>>)> = OnceLock::new();
    const SNAPSHOT_GROUPS: usize = 2;
    let (sound, groups) = WRITTEN.get_or_init(|| {
        let (mut bytes, groups) = (Vec::new(), sample_groups());
        for (seq, records) in groups.iter().enumerate() {
            bytes.extend(encode_group(LOG_ID, seq as u64, &Record::encode_all(records), BLOCK));
        }
        bytes.resize(2 * LOG_BYTES, 0);
        (bytes, groups)
    });
    let snapshot: usize = groups[..SNAPSHOT_GROUPS]
        .iter()
        .map(|records| group_bytes(Record::encode_all(records).len(), BLOCK))
        .sum();
    let mut bytes = sound.clone();
    let blocks = bytes.len() / BLOCK;
    for piece in input.chunks_exact(5).take(DAMAGES_MAX) {
        let start = usize::from(piece[1]) % blocks * BLOCK;
        let at = start + usize::from(u16::from_le_bytes([piece[2], piece[3]])) % BLOCK;
        let from = usize::from(piece[4]) % blocks * BLOCK;
        match piece[0] % 4 {
            0 => bytes[at] ^= 1 << (piece[4] & 7),
            1 => bytes[start..start + BLOCK].fill(0),
            2 => bytes[at..start + BLOCK].fill(0),
            _ => bytes[start..start + BLOCK].copy_from_slice(&sound[from..from + BLOCK]),
        }
    }
    if let Ok(replayed) = replay(&bytes, LOG_ID, snapshot as u64, BLOCK) {
        let count = replayed.groups as usize;
        assert!((SNAPSHOT_GROUPS..=groups.len()).contains(&count), "{count} groups");
        assert_eq!(replayed.records, groups[..count].concat());
        mount(&bytes, snapshot as u64);
    }
}

/// What a mount does with a log's bytes.
fn mount(log: &[u8], snapshot_bytes: u64) {
    let log_bytes = (log.len() as u64).next_multiple_of(UNIT).max(UNIT);
    let geometry = Geometry { block_size: 512, ..MemoryDevice::default_geometry(DEVICE_BYTES) };
    let superblock = Superblock {
        snapshot_bytes,
        log: vec![Extent::new(8192, log_bytes)],
        ..sample_superblock(log_bytes)
    };
    let Ok(loaded) = Loaded::new((superblock, 0), &geometry, log) else {
        return;
    };
    let problems = loaded.check(COPIES);
    let options =
        MountOptions { superblocks: COPIES, nonce: 5, low_water: 1 << 20, lend: 1 << 20, fast: None };
    let machine = loaded.into_machine(options);
    assert!(problems.is_empty() || machine.is_err(), "{problems:?}");
    let Ok(mut machine) = machine else {
        return;
    };
    // The first thing it does is to write a log of its own.
    if let Ok(Some(mut commit)) = machine.begin_compaction() {
        while commit.next_io().is_some() {}
        machine.commit_done(commit);
        let problems = check(machine.tree(), machine.superblock(), COPIES);
        assert!(problems.is_empty(), "{problems:?}");
    }
    machine.stats();
}

fn sample_superblock(log_bytes: u64) -> Superblock {
    Superblock {
        uuid: Uuid::from_u128(3),
        generation: 4,
        features_compatible: 0,
        features_read_only: 0,
        features_incompatible: 0,
        block_size: 512,
        alloc_unit: 4096,
        log_bytes_min: 8192,
        device_size: DEVICE_BYTES,
        log_id: LOG_ID,
        snapshot_bytes: 0,
        log: vec![Extent::new(8192, log_bytes.max(UNIT))],
        fast: None,
        key_id: 0,
    }
}

fn sample_groups() -> Vec<Vec<Record>> {
    let text = |text: &str| text.to_owned();
    let long = "n".repeat(200);
    vec![
        vec![
            Record::AddSpace { extent: Extent::new(8192, DEVICE_BYTES - 8192) },
            Record::DirCreate { dir: text("db") },
        ],
        vec![
            Record::FileCreate { ino: Ino(1), dir: text("db"), name: text("a") },
            Record::FileCreate { ino: Ino(2), dir: text("db"), name: long.clone() },
            Record::FileCreate { ino: Ino(3), dir: text("db"), name: long.clone() + "2" },
            Record::NextIno { next: 9 },
        ],
        vec![Record::FileAppend {
            ino: Ino(1),
            allocated_before: 0,
            size: 5000,
            extents: vec![Extent::new(1 << 20, 4096), Extent::new(2 << 20, 8192)],
        }],
        vec![Record::FileMove { ino: Ino(1), at: 4096, extents: vec![Extent::new(3 << 20, 4096)] }],
        vec![Record::FileTruncate { ino: Ino(1), size: 100, allocated: 4096 }],
        vec![
            Record::Rename { dir: text("db"), name: text("a"), to_dir: text("db"), to_name: long.clone() },
            Record::DirCreate { dir: long.clone() },
            Record::DirCreate { dir: long.clone() + "3" },
        ],
        vec![Record::DirRemove { dir: long.clone() }, Record::Unlink { dir: text("db"), name: long }],
        vec![Record::RemoveSpace { extent: Extent::new(3 << 20, 8192) }],
    ]
}

/// Sound test cases.
pub(crate) fn seeds(name: &str) -> Vec<Vec<u8>> {
    let payloads: Vec<Vec<u8>> = sample_groups().iter().map(Record::encode_all).collect();
    match name {
        "bluefs_superblock" => {
            let older = Superblock { generation: 3, ..sample_superblock(8192) };
            let mut fast = sample_superblock(8192);
            fast.set_fast(Some(Extent::new(1 << 56, 1 << 20)));
            let copies = |newer: &Superblock| [newer.encode(), older.encode()].concat();
            vec![copies(&sample_superblock(8192)), copies(&fast)]
        }
        "bluefs_records" => vec![payloads.concat()],
        "bluefs_log" => {
            let framed = payloads.iter().map(|payload| {
                let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
                [&length.to_le_bytes()[..], payload].concat()
            });
            vec![framed.collect::<Vec<_>>().concat()]
        }
        "bluefs_raw_log" => {
            let groups =
                payloads.iter().zip(0..).map(|(payload, seq)| encode_group(LOG_ID, seq, payload, BLOCK));
            vec![groups.collect::<Vec<_>>().concat(), vec![0; HEADER_BYTES]]
        }
        _ => Vec::new(),
    }
}
