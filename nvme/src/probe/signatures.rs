//! Signatures of other people's formats, from their public descriptions. Pure; every read is bounded.
//!
//! Order matters: what contains others (encryption, RAID, volumes) comes before what may lie inside at the same place,
//! and a boot sector's 55 AA is looked at last, since file systems have it too.

use super::Found;

/// The bytes looked at: the head and the tail of a device. Between them nothing is known.
pub(super) struct Content<'a> {
    pub head: &'a [u8],
    pub tail: &'a [u8],
    pub tail_start: u64,
}

impl Content<'_> {
    /// `len` bytes at `offset`, if they were read.
    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let within = |bytes: &'_ [u8], start: u64| {
            let from = usize::try_from(offset.checked_sub(start)?).ok()?;
            let to = from.checked_add(len)?;
            (to <= bytes.len()).then_some((from, to))
        };
        if let Some((from, to)) = within(self.head, 0) {
            return self.head.get(from..to);
        }
        within(self.tail, self.tail_start).and_then(|(from, to)| self.tail.get(from..to))
    }

    pub fn has(&self, offset: u64, magic: &[u8]) -> bool {
        !magic.is_empty() && self.bytes(offset, magic.len()) == Some(magic)
    }

    fn u16(&self, offset: u64) -> Option<u16> {
        self.bytes(offset, 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes)
    }

    fn u32(&self, offset: u64) -> Option<u32> {
        self.bytes(offset, 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
    }

    /// A name padded with zeroes or spaces; none if it is empty.
    fn name(&self, offset: u64, len: usize) -> Option<String> {
        let bytes = self.bytes(offset, len)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        let name = String::from_utf8_lossy(bytes.get(..end)?).trim().to_owned();
        (!name.is_empty()).then_some(name)
    }

    fn size(&self) -> u64 {
        self.tail_start + self.tail.len() as u64
    }
}

/// Formats known by fixed bytes at a fixed place: offset, bytes, kind, and place and length of a name.
pub(super) type Fixed = (u64, &'static [u8], &'static str, Option<(u64, usize)>);

pub(super) const FIXED: &[Fixed] = &[
    (0, b"bluestore block device", "a device of a Ceph OSD (BlueStore)", None),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)", None),
    (0x4000, b"SKUL\xba\xbe", "an encrypted volume (LUKS, second header)", None),
    (3, b"-FVE-FS-", "an encrypted volume (BitLocker)", None),
    (0, b"XFSB", "an XFS file system", Some((108, 12))),
    (0x10040, b"_BHRfS_M", "a Btrfs file system", Some((0x1012b, 256))),
    (0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "a bcache device", None),
    (
        0x1018,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        "a bcachefs file system",
        None,
    ),
    (0x400, b"\x10\x20\xf5\xf2", "an F2FS file system", None),
    (0x8000, b"JFS1", "a JFS file system", None),
    (0x10034, b"ReIsEr", "a ReiserFS file system", None),
    (32, b"NXSB", "an APFS container", None),
    (0, b"hsqs", "a SquashFS image", None),
    (0x400, b"\xe2\xe1\xf5\xe0", "an EROFS image", None),
    (0x8001, b"CD001", "an ISO 9660 image", Some((0x8028, 32))),
    (3, b"NTFS    ", "an NTFS file system", None),
    (3, b"EXFAT   ", "an exFAT file system", None),
    (82, b"FAT32   ", "a FAT file system", Some((71, 11))),
    (54, b"FAT16   ", "a FAT file system", Some((43, 11))),
    (54, b"FAT12   ", "a FAT file system", Some((43, 11))),
];

/// The first format recognised.
pub(super) fn recognise(content: &Content<'_>) -> Option<Found> {
    lvm(content)
        .or_else(|| md_raid(content))
        .or_else(|| fixed(content))
        .or_else(|| zfs(content))
        .or_else(|| swap(content))
        .or_else(|| ext(content))
        .or_else(|| gpt(content))
        .or_else(|| mbr(content))
}

fn foreign(what: &'static str, name: Option<String>, at: u64) -> Option<Found> {
    Some(Found::Foreign { what, name, at })
}

fn fixed(content: &Content<'_>) -> Option<Found> {
    let (at, _, what, name) = FIXED.iter().find(|(at, magic, _, _)| content.has(*at, magic))?;
    foreign(what, name.and_then(|(at, len)| content.name(at, len)), *at)
}

/// The label is in one of the first four sectors.
fn lvm(content: &Content<'_>) -> Option<Found> {
    let at = (0..4).map(|sector| sector * 512).find(|at| content.has(*at, b"LABELONE"))?;
    content.has(at + 24, b"LVM2 001").then_some(())?;
    foreign("a physical volume of LVM", None, at)
}

/// Linux software RAID: metadata 1.1 and 1.2 at the front, 1.0 and 0.90 near the end.
fn md_raid(content: &Content<'_>) -> Option<Found> {
    let sectors = content.size() / 512;
    let version_1_0 = sectors.checked_sub(16).map(|last| (last & !7) * 512);
    let version_0 = (content.size() & !0xffff).checked_sub(0x10000);
    for (at, is_version_1) in [(Some(0), true), (Some(4096), true), (version_1_0, true), (version_0, false)] {
        let Some(at) = at else { continue };
        if content.u32(at) != Some(0xa92b_4efc) {
            continue;
        }
        let name = if is_version_1 { content.name(at + 32, 32) } else { None };
        return foreign("a member of a software RAID (md)", name, at);
    }
    None
}

/// ZFS has four labels of 256 KiB, two at each end; their second half is uberblocks of either byte order.
fn zfs(content: &Content<'_>) -> Option<Found> {
    const LABEL: u64 = 256 << 10;
    let end = content.size() & !(LABEL - 1);
    let labels = [Some(0), Some(LABEL), end.checked_sub(2 * LABEL), end.checked_sub(LABEL)];
    for label in labels.into_iter().flatten() {
        for at in (label + LABEL / 2..label + LABEL).step_by(1024) {
            if content.has(at, b"\x0c\xb1\xba\x00\0\0\0\0") || content.has(at, b"\0\0\0\0\x00\xba\xb1\x0c") {
                return foreign("a member of a ZFS pool", None, at);
            }
        }
    }
    None
}

/// The signature of swap space ends its first page, of whatever size.
fn swap(content: &Content<'_>) -> Option<Found> {
    let ends = [4096, 8192, 16384, 32768, 65536];
    let at = ends
        .map(|end| end - 10)
        .into_iter()
        .find(|at| content.has(*at, b"SWAPSPACE2") || content.has(*at, b"SWAP-SPACE"))?;
    foreign("swap space", content.name(1024 + 28, 16), at)
}

fn ext(content: &Content<'_>) -> Option<Found> {
    const SUPERBLOCK: u64 = 1024;
    if content.u16(SUPERBLOCK + 56) != Some(0xef53) {
        return None;
    }
    let (compatible, incompatible) = (content.u32(SUPERBLOCK + 92)?, content.u32(SUPERBLOCK + 96)?);
    // Extents, 64 bits and the features after them are ext4's; a journal makes ext3.
    let what = if incompatible & !0x1f != 0 {
        "an ext4 file system"
    } else if compatible & 4 != 0 {
        "an ext3 file system"
    } else {
        "an ext2 file system"
    };
    foreign(what, content.name(SUPERBLOCK + 120, 16), SUPERBLOCK + 56)
}

/// The header is in the second sector, of 512 or 4096 bytes, and a copy in the last.
fn gpt(content: &Content<'_>) -> Option<Found> {
    let size = content.size();
    let places = [Some(512), Some(4096), size.checked_sub(512), size.checked_sub(4096)];
    let at = places.into_iter().flatten().find(|at| content.has(*at, b"EFI PART"))?;
    foreign("a partition table (GPT)", None, at)
}

/// A boot record with at least one partition; without any, only its bytes that are not zero speak.
fn mbr(content: &Content<'_>) -> Option<Found> {
    content.has(510, b"\x55\xaa").then_some(())?;
    let entries: Option<Vec<&[u8]>> = (0..4).map(|index| content.bytes(446 + 16 * index, 16)).collect();
    let entries = entries?;
    // Byte 0 says whether it boots, byte 4 the type.
    let sane = entries.iter().all(|entry| matches!(entry.first(), Some(0 | 0x80)));
    let used = entries.iter().any(|entry| entry.get(4).is_some_and(|&kind| kind != 0));
    if sane && used {
        foreign("a partition table (MBR)", None, 446)
    } else {
        foreign("a boot sector", None, 510)
    }
}
