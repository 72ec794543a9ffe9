//! Fuzz entries of the store's manifest and runs; see [`crate::fuzzing`].

use bytes::Bytes;

use super::manifest::Manifest;
use super::memtable::Change;
use super::run::{Footer, take_all, take_entry, take_place, take_range};

/// A manifest, as it is and with a checksum that fits.
pub(crate) fn manifest(input: &[u8]) {
    let sealed = [input, &crc32c::crc32c(input).to_le_bytes()].concat();
    for bytes in [input, &sealed] {
        if let Ok(found) = Manifest::decode(bytes) {
            assert!(found.runs.len() * 8 <= bytes.len());
            assert_eq!(Manifest::decode(&found.encode()), Ok(found));
        }
    }
}

/// Footer and blocks of a run.
pub(crate) fn run(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let content = bytes.slice(..bytes.len().saturating_sub(4));
    let sealed = [&content[..], &crc32c::crc32c(&content).to_le_bytes()].concat();
    drop(Footer::decode(Bytes::from(sealed), 1));
    if let Some(entries) = take_all(bytes.clone(), take_entry) {
        let carried = entries.iter().map(|(key, _, change)| match change {
            Change::Put(value) | Change::Merge(value) => key.len() + value.len() + 17,
            Change::Delete => key.len() + 17,
        });
        assert!(carried.sum::<usize>() <= input.len());
    }
    if let Some(ranges) = take_all(bytes.clone(), take_range) {
        assert!(
            ranges.iter().map(|range| range.start.len() + range.end.len() + 16).sum::<usize>() == input.len()
        );
    }
    if let Some(places) = take_all(bytes, take_place) {
        assert!(places.iter().map(|(_, _, first)| first.len() + 16).sum::<usize>() == input.len());
    }
}

/// Sound test cases.
pub(crate) fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "sim_kv_manifest" => {
            let bytes = Manifest { runs: vec![3, 2, 1], next_run: 4, last_seq: 99 }.encode();
            vec![bytes[..bytes.len() - 4].to_vec()]
        }
        "sim_kv_run" => vec![
            [&[1, 0, 0, 0, b'k'][..], &[7, 0, 0, 0, 0, 0, 0, 0, 1], &[1, 0, 0, 0, b'v']].concat(),
            [&[7, 0, 0, 0, 0, 0, 0, 0][..], &[1, 0, 0, 0, b'a'], &[1, 0, 0, 0, b'b']].concat(),
            [&b"spSimRun"[..], &[1, 0, 0, 0, 0, 0, 0, 0], &[0; 28]].concat(),
        ],
        _ => Vec::new(),
    }
}
