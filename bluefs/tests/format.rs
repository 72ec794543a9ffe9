//! The bytes on the device: a golden image of each version loads, and no bytes whatever make a decoder panic,
//! allocate much, or be believed.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;

use allocator::Extent;
use bluefs::fs::{BlueFs, FormatOptions, FsError, Ino, Loaded, MountOptions, Record, Superblock};
use nvme::{BlockingDevice, DmaBuf, Geometry, MemoryDevice};
use proptest::prelude::*;
use uuid::Uuid;

const COPIES: [u64; 2] = [0, 4096];

fn geometry() -> Geometry {
    Geometry { block_size: 512, atomic_write_unit: 512, ..MemoryDevice::default_geometry(1 << 20) }
}

/// A small file system with every kind of record in its log.
fn example() -> MemoryDevice {
    let device = MemoryDevice::with_geometry("example", geometry());
    let options = FormatOptions {
        alloc_unit: 4096,
        log_bytes_min: 8192,
        ..FormatOptions::new(Uuid::from_u128(0x1234), COPIES, vec![Extent::new(8192, 256 << 10)], 42)
    };
    BlueFs::format(&device, &options).unwrap();
    let mount = MountOptions { superblocks: COPIES, nonce: 43, low_water: 0, lend: 0, fast: None };
    let fs = BlueFs::mount(Arc::new(device.clone()), mount, None).unwrap();
    fs.with(|machine| machine.create_dir("db")).unwrap();
    fs.with(|machine| machine.create_dir("gone")).unwrap();
    fs.with(|machine| machine.remove_dir("gone")).unwrap();
    let mut writer = fs.create("db/a").unwrap();
    writer.append(&[7; 10_000]).unwrap();
    writer.sync().unwrap();
    writer.truncate(5000).unwrap();
    drop(writer);
    drop(fs.create("db/b").unwrap());
    drop(fs.create("db/c").unwrap());
    fs.with(|machine| machine.rename("db/b", "db/d")).unwrap();
    fs.with(|machine| machine.unlink("db/c")).unwrap();
    fs.sync_metadata().unwrap();
    fs.add_space(&[Extent::new(512 << 10, 8192)]).unwrap();
    assert_eq!(fs.give_back(4096, 4096, 0, &[Extent::new(0, u64::MAX)]).unwrap().len(), 1);
    device
}

fn check_example(loaded: &Loaded) {
    let listing = loaded.listing();
    assert!(listing.contains("db/a file 0 size 5000 0x"), "{listing}");
    assert_eq!(listing.lines().count(), 5, "{listing}");
    assert_eq!(loaded.check(COPIES), []);
    let tree = &loaded.tree;
    assert_eq!(tree.dirs["db"].keys().collect::<Vec<_>>(), ["a", "d"]);
    let inode = tree.inode(tree.dirs["db"]["a"]).unwrap();
    assert_eq!((inode.size, inode.allocated), (5000, 8192));
    assert_eq!(tree.space_bytes(), (256 << 10) + 4096);
    assert_eq!((tree.next_ino, loaded.superblock.uuid), (3, Uuid::from_u128(0x1234)));
}

/// What `example` leaves: lines of offset and bytes, in blocks that are not all zero.
fn dump(device: &MemoryDevice) -> String {
    let loaded = BlueFs::load(device, COPIES).unwrap();
    let mut places: Vec<Extent> = COPIES.iter().map(|copy| Extent::new(*copy, 4096)).collect();
    places.extend(&loaded.superblock.log);
    let mut lines = String::new();
    for place in places {
        for offset in (place.start..place.end()).step_by(512) {
            let mut block = DmaBuf::zeroed(512);
            device.read_at(offset, &mut block).unwrap();
            let bytes = &block[..block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)];
            if !bytes.is_empty() {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                lines += &format!("{offset:x} {hex}\n");
            }
        }
    }
    lines
}

#[test]
fn version_1_loads() {
    let golden = include_str!("golden/v1.hex");
    let device = MemoryDevice::with_geometry("golden", geometry());
    for line in golden.lines() {
        let (offset, hex) = line.split_once(' ').unwrap();
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect();
        let block = DmaBuf::from_slice_padded(&bytes, 512);
        device.write_at(u64::from_str_radix(offset, 16).unwrap(), &block).unwrap();
    }
    check_example(&BlueFs::load(&device, COPIES).unwrap());
}

#[test]
fn this_version_writes_version_1() {
    let device = example();
    check_example(&BlueFs::load(&device, COPIES).unwrap());
    assert_eq!(dump(&device), include_str!("golden/v1.hex"), "the format changed: it needs a new version");
}

#[test]
fn nonsense_is_refused_at_format() {
    let device = MemoryDevice::with_geometry("nonsense", geometry());
    let good = FormatOptions {
        alloc_unit: 4096,
        log_bytes_min: 8192,
        ..FormatOptions::new(Uuid::from_u128(1), COPIES, vec![Extent::new(8192, 256 << 10)], 1)
    };
    BlueFs::format(&device, &good).unwrap();
    let bad = [
        FormatOptions { superblocks: [0, 0], ..good.clone() },
        FormatOptions { superblocks: [0, 100], ..good.clone() },
        FormatOptions { superblocks: [0, 1 << 20], ..good.clone() },
        FormatOptions { superblocks: [0, 8192], ..good.clone() },
        FormatOptions { alloc_unit: 256, ..good.clone() },
        FormatOptions { alloc_unit: 5000, ..good.clone() },
        FormatOptions { log_bytes_min: 1024, ..good.clone() },
        FormatOptions { log_bytes_min: 128 << 10, ..good.clone() },
        FormatOptions { space: vec![], ..good.clone() },
        FormatOptions { space: vec![Extent::new(8192, 2 << 20)], ..good.clone() },
        FormatOptions { space: vec![Extent::new(8193, 256 << 10)], ..good.clone() },
        FormatOptions { space: vec![Extent::new(8192, 256 << 10), Extent::new(16384, 4096)], ..good.clone() },
    ];
    for options in bad {
        assert!(BlueFs::format(&device, &options).is_err(), "{options:?}");
    }
}

#[test]
fn later_features_are_refused() {
    let superblock = BlueFs::load(&example(), COPIES).unwrap().superblock;
    let read =
        |superblock: Superblock| Superblock::choose([Ok(superblock.encode()), Ok(vec![0; 4096])], COPIES);
    assert!(read(Superblock { features_compatible: 1, ..superblock.clone() }).is_ok());
    let incompatible = read(Superblock { features_incompatible: 1 << 63, ..superblock.clone() });
    assert!(matches!(incompatible, Err(FsError::Unsupported { .. })));
    assert!(matches!(read(Superblock { key_id: 1, ..superblock.clone() }), Err(FsError::Unsupported { .. })));
    assert!(read(Superblock { features_read_only: 1, ..superblock.clone() }).unwrap().0.is_read_only());
    let other = Superblock { uuid: Uuid::from_u128(9), ..superblock.clone() };
    let mixed = Superblock::choose([Ok(superblock.encode()), Ok(other.encode())], COPIES);
    assert!(matches!(mixed, Err(FsError::Corrupt { .. })));
}

/// Numbers from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// Flips, overwrites, or cuts somewhere.
    fn damage(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(3) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                _ => {
                    let end = (at + 1 + self.below(16)).min(bytes.len());
                    let fill = self.below(256) as u8;
                    bytes[at..end].fill(fill);
                }
            }
        }
    }
}

/// Puts the right checksum on a damaged superblock or group, so that the decoder behind it is reached.
fn repair(bytes: &mut [u8], crc_at: usize, covered: &[std::ops::Range<usize>]) {
    let mut crc = 0;
    for range in covered {
        let Some(part) = bytes.get(range.clone()) else { return };
        crc = crc32c::crc32c_append(crc, part);
    }
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn damaged_superblocks_with_good_checksums() {
    let device = example();
    let good = BlueFs::load(&device, COPIES).unwrap().superblock.encode();
    let mut draw = Draw(1);
    let (mut mounted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        draw.damage(&mut bytes[..200]);
        bytes[12..16].fill(0);
        repair(&mut bytes, 12, std::slice::from_ref(&(0..4096)));
        let Ok((superblock, _)) = Superblock::choose([Ok(bytes.clone()), Ok(vec![0; 4096])], COPIES) else {
            refused += 1;
            continue;
        };
        assert_eq!(superblock.encode().len(), 4096);
        assert!(superblock.log_bytes() <= 256 << 20 && superblock.log.len() <= 64);
        if draw.below(10) == 0 {
            let copy = device.snapshot();
            copy.write_at(0, &DmaBuf::from_slice_padded(&bytes, 512)).unwrap();
            copy.write_at(4096, &DmaBuf::zeroed(4096)).unwrap();
            let options = MountOptions { superblocks: COPIES, nonce: 1, low_water: 0, lend: 0, fast: None };
            mounted += u32::from(BlueFs::mount(Arc::new(copy), options, None).is_ok());
        }
    }
    assert!(mounted > 100 && refused > 1000, "{mounted} mounted, {refused} refused");
}

#[test]
fn damaged_logs_with_good_checksums() {
    let device = example();
    let superblock = BlueFs::load(&device, COPIES).unwrap().superblock;
    let mut log = vec![0; superblock.log_bytes() as usize];
    let mut at = 0;
    for extent in &superblock.log {
        let mut memory = DmaBuf::zeroed(extent.len as usize);
        device.read_at(extent.start, &mut memory).unwrap();
        log[at..at + extent.len as usize].copy_from_slice(&memory);
        at += extent.len as usize;
    }
    let groups: Vec<usize> =
        (0..log.len()).step_by(512).filter(|at| log[*at..].starts_with(b"spBlueLg")).collect();
    assert!(groups.len() > 5);
    let mut draw = Draw(2);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut bytes = log.clone();
        let group = groups[draw.below(groups.len())];
        let len = u32::from_le_bytes(bytes[group + 24..group + 28].try_into().unwrap()) as usize;
        draw.damage(&mut bytes[group + 24..group + 32 + len]);
        let len = u32::from_le_bytes(bytes[group + 24..group + 28].try_into().unwrap()) as usize;
        repair(&mut bytes, group + 28, &[group..group + 28, group + 32..group.saturating_add(32 + len)]);
        if let Ok(loaded) = Loaded::new((superblock.clone(), 0), &geometry(), &bytes) {
            accepted += 1;
            // Whatever was accepted can be checked, and a mount of it refuses or works, but does not panic.
            let problems = loaded.check(COPIES);
            let mount = MountOptions { superblocks: COPIES, nonce: 1, low_water: 0, lend: 0, fast: None };
            assert_eq!(loaded.into_machine(mount).is_ok(), problems.is_empty(), "{problems:?}");
        }
    }
    assert!(accepted > 100, "{accepted} accepted");
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._/ü-]{1,40}"
}

fn extent() -> impl Strategy<Value = Extent> {
    (0..1_u64 << 50, 1..1_u64 << 40).prop_map(|(start, len)| Extent::new(start, len))
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        extent().prop_map(|extent| Record::AddSpace { extent }),
        extent().prop_map(|extent| Record::RemoveSpace { extent }),
        name().prop_map(|dir| Record::DirCreate { dir }),
        name().prop_map(|dir| Record::DirRemove { dir }),
        (any::<u64>(), name(), name()).prop_map(|(ino, dir, name)| Record::FileCreate {
            ino: Ino(ino),
            dir,
            name
        }),
        (any::<u64>(), any::<u64>(), any::<u64>(), proptest::collection::vec(extent(), 0..20)).prop_map(
            |(ino, allocated_before, size, extents)| Record::FileAppend {
                ino: Ino(ino),
                allocated_before,
                size,
                extents
            }
        ),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(ino, size, allocated)| Record::FileTruncate {
            ino: Ino(ino),
            size,
            allocated
        }),
        (name(), name(), name(), name()).prop_map(|(dir, name, to_dir, to_name)| Record::Rename {
            dir,
            name,
            to_dir,
            to_name
        }),
        (name(), name()).prop_map(|(dir, name)| Record::Unlink { dir, name }),
        (any::<u64>(), any::<u64>(), proptest::collection::vec(extent(), 0..20))
            .prop_map(|(ino, at, extents)| Record::FileMove { ino: Ino(ino), at, extents }),
        any::<u64>().prop_map(|next| Record::NextIno { next }),
    ]
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(records in proptest::collection::vec(record(), 0..20)) {
        let bytes = Record::encode_all(&records);
        prop_assert_eq!(Record::decode_all(&bytes).unwrap(), records);
        // A prefix is a prefix of the records, or an error.
        for cut in 0..bytes.len() {
            if let Ok(fewer) = Record::decode_all(&bytes[..cut]) {
                prop_assert_eq!(Record::encode_all(&fewer), bytes[..cut].to_vec());
            }
        }
    }

    #[test]
    fn any_bytes_decode_or_fail(bytes: Vec<u8>) {
        if let Ok(records) = Record::decode_all(&bytes) {
            prop_assert_eq!(Record::encode_all(&records), bytes);
        }
    }
}
