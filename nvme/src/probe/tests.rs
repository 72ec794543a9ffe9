//! Each signature at its place, and blank devices.

use super::{Found, OwnMagic, probe_foreign};
use crate::memory::MemoryDevice;

const SIZE: u64 = 8 << 20;

fn probe(writes: &[(u64, &[u8])]) -> Option<Found> {
    let mut image = crate::image::Image::new();
    for (at, bytes) in writes {
        image.write(*at, bytes);
    }
    let device = MemoryDevice::from_image("m", MemoryDevice::default_geometry(SIZE), image);
    let own = [OwnMagic { magic: b"spirula", offset: 4096 }];
    probe_foreign(&device, &own).unwrap_or_else(|error| panic!("{error}"))
}

fn said(writes: &[(u64, &[u8])]) -> String {
    probe(writes).map_or_else(|| "blank".to_owned(), |found| found.to_string())
}

#[test]
fn recognises_what_others_write() {
    let entry = [0x80, 0, 0, 0, 0x83];
    type Writes<'a> = &'a [(u64, &'a [u8])];
    let cases: &[(&str, Writes<'_>)] = &[
        ("blank", &[]),
        ("a device of spirula", &[(4096, b"spirula"), (0, b"XFSB")]),
        (
            "a partition table (GPT) (signature at byte 512)",
            &[(512, b"EFI PART"), (510, b"\x55\xaa"), (446, &entry)],
        ),
        ("a partition table (GPT) (signature at byte 4096)", &[(4096, b"EFI PART")]),
        ("a partition table (GPT) (signature at byte 8388096)", &[(SIZE - 512, b"EFI PART")]),
        ("a partition table (MBR) (signature at byte 446)", &[(510, b"\x55\xaa"), (446, &entry)]),
        ("a boot sector (signature at byte 510)", &[(510, b"\x55\xaa"), (446, b"boot code")]),
        ("an ext2 file system (signature at byte 1080)", &[(1080, b"\x53\xef")]),
        ("an ext3 file system (signature at byte 1080)", &[(1080, b"\x53\xef"), (1116, &[4])]),
        (
            "an ext4 file system named \"home\" (signature at byte 1080)",
            &[(1080, b"\x53\xef"), (1116, &[4]), (1120, &[0x40]), (1144, b"home")],
        ),
        ("an XFS file system named \"data\" (signature at byte 0)", &[(0, b"XFSB"), (108, b"data")]),
        ("a Btrfs file system (signature at byte 65600)", &[(65600, b"_BHRfS_M")]),
        ("a physical volume of LVM (signature at byte 512)", &[(512, b"LABELONE"), (536, b"LVM2 001")]),
        ("an encrypted volume (LUKS) (signature at byte 0)", &[(0, b"LUKS\xba\xbe")]),
        ("swap space (signature at byte 4086)", &[(4086, b"SWAPSPACE2")]),
        ("swap space named \"s\" (signature at byte 65526)", &[(65526, b"SWAPSPACE2"), (1052, b"s")]),
        ("a member of a ZFS pool (signature at byte 135168)", &[(135168, b"\x0c\xb1\xba\0\0\0\0\0")]),
        ("a member of a ZFS pool (signature at byte 8257536)", &[(SIZE - 131072, b"\0\0\0\0\0\xba\xb1\x0c")]),
        (
            "a member of a software RAID (md) named \"host:0\" (signature at byte 4096)",
            &[(4096, b"\xfc\x4e\x2b\xa9"), (4128, b"host:0")],
        ),
        (
            "a member of a software RAID (md) (signature at byte 8380416)",
            &[(SIZE - 8192, b"\xfc\x4e\x2b\xa9")],
        ),
        (
            "a member of a software RAID (md) (signature at byte 8323072)",
            &[(SIZE - 65536, b"\xfc\x4e\x2b\xa9")],
        ),
        ("an NTFS file system (signature at byte 3)", &[(3, b"NTFS    "), (510, b"\x55\xaa")]),
        (
            "a FAT file system named \"EFI\" (signature at byte 82)",
            &[(82, b"FAT32   "), (71, b"EFI        "), (510, b"\x55\xaa")],
        ),
        ("a device of a Ceph OSD (BlueStore) (signature at byte 0)", &[(0, b"bluestore block device\n")]),
        ("data of an unknown kind (the first byte that is not zero is at 700000)", &[(700_000, b"?")]),
    ];
    for (expected, writes) in cases {
        assert_eq!(&said(writes), expected);
    }
}

#[test]
fn what_lies_between_the_ends_is_not_looked_at() {
    assert_eq!(probe(&[(3 << 20, b"something")]), None);
}

#[test]
fn a_device_of_one_block_is_looked_at() {
    let device = MemoryDevice::new(4096);
    assert_eq!(probe_foreign(&device, &[]), Ok(None));
}

#[test]
fn no_bytes_make_it_panic() {
    use rt::sim::RandomStream;
    let mut random = RandomStream::new(1, "probe");
    for _ in 0..50 {
        let mut bytes = vec![0; 128 << 10];
        random.fill(&mut bytes);
        let at = random.below(SIZE - (128 << 10));
        let _ = probe(&[(at, &bytes)]);
        assert!(probe(&[(0, &bytes)]).is_some());
    }
}
