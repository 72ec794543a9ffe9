//! Fuzz entries of the label and the segment table; see [`crate::fuzzing`].

use nvme::MemoryDevice;

use super::*;
use crate::fuzzing::fixed_point;

/// Bytes of a label before its slices, and of a table before its owners.
const LABEL_HEAD_BYTES: usize = 104;
const TABLE_HEAD_BYTES: usize = 22;
/// Slices that the windows are asked for.
const SLICES_ASKED: usize = 4;

/// A label, as it is, and with the count of slices and a checksum that fit.
pub(crate) fn label(input: &[u8]) {
    let mut sealed = input.to_vec();
    sealed.resize(LABEL_HEAD_BYTES.max(input.len()), 0);
    let slices = (sealed.len() - LABEL_HEAD_BYTES) / 16;
    sealed.truncate(LABEL_HEAD_BYTES + 16 * slices);
    let count = u16::try_from(slices).unwrap_or(u16::MAX).to_le_bytes();
    sealed[LABEL_HEAD_BYTES - 2..LABEL_HEAD_BYTES].copy_from_slice(&count);
    seal(&mut sealed);
    for bytes in [Bytes::copy_from_slice(input), Bytes::from(sealed)] {
        let Some(label) = fixed_point(bytes, Label::decode, |label| Bytes::from(label.encode())) else {
            continue;
        };
        assert!(label.encode().len() <= LABEL_BYTES && label.slices.len() <= SLICES_MAX);
    }
}

/// A segment table on a device: size of the device, logarithm of that of its segments, owners. And the input alone.
pub(crate) fn segment_table(input: &[u8]) {
    let encode = |table: &SegmentTable| Bytes::from(table.encode());
    fixed_point(Bytes::copy_from_slice(input), SegmentTable::decode, encode);
    let Some((head, owners)) = input.split_first_chunk::<9>() else {
        return;
    };
    let [size @ .., log] = *head;
    let mut sealed = [&TABLE_MAGIC[..], &VERSION.to_le_bytes(), &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
    sealed.extend(u32::try_from(owners.len() / 2).unwrap_or(u32::MAX).to_le_bytes());
    sealed.extend(&owners[..owners.len() / 2 * 2]);
    assert!(sealed.len() >= TABLE_HEAD_BYTES);
    seal(&mut sealed);
    let Some(segments) = fixed_point(Bytes::from(sealed), SegmentTable::decode, encode) else {
        panic!("a table of {} bytes is refused", owners.len());
    };
    let label = Label {
        size: u64::from_le_bytes(size),
        segment_bytes: SEGMENT_BYTES_MIN << (log % 44),
        ..sample_label()
    };
    if !segments.fits(&label) {
        return;
    }
    let size = label.size;
    let labelled = Labelled { label, segments, damaged: 0 };
    let device = MemoryDevice::new(1 << 20);
    let windows = (0..SLICES_ASKED).filter_map(|slice| labelled.runs(&device, slice).ok()).flatten();
    let mut end = HEAD_BYTES;
    let mut windows: Vec<Extent> = windows.collect();
    windows.sort_by_key(|window| window.start);
    for window in windows {
        assert!(window.start >= end && window.len > 0, "{window:?} overlaps");
        end = window.end();
        assert!(end <= size - TAIL_BYTES, "{window:?} ends beyond the device");
    }
}

fn seal(content: &mut Vec<u8>) {
    content.extend(crc32c::crc32c(content).to_le_bytes());
}

fn sample_label() -> Label {
    Label {
        generation: 3,
        features: Features::default(),
        device: Uuid::from_u128(1),
        fsid: Uuid::from_u128(2),
        size: 1 << 30,
        block_size: 512,
        segment_bytes: SEGMENT_BYTES_MIN,
        key_id: 0,
        slices: vec![Uuid::from_u128(3), Uuid::from_u128(4)],
        keys: BTreeMap::new(),
    }
}

/// Sound test cases.
pub(crate) fn seeds(name: &str) -> Vec<Vec<u8>> {
    let label = sample_label();
    match name {
        "store_label" => {
            let encoded = label.encode();
            let keys = BTreeMap::from([("whoami".to_owned(), "3".to_owned())]);
            let noted = Label { keys, ..label }.encode();
            vec![encoded[..encoded.len() - 4].to_vec(), encoded, noted]
        }
        "store_segment_table" => {
            let owners = [0, 0, 1, 1, 2, NOBODY].map(u16::to_le_bytes).concat();
            let table = SegmentTable { generation: 1, owners: vec![0, 1, NOBODY] };
            let on_device = [&label.size.to_le_bytes()[..], &[0], &owners].concat();
            // As many segments of such a size that their sum does not fit 64 bits.
            let huge = [&u64::MAX.to_le_bytes()[..], &[43], &owners].concat();
            vec![on_device, huge, table.encode()]
        }
        _ => Vec::new(),
    }
}
