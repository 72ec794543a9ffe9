//! Bit rot, a sample of it; `bit-rot` does the whole.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

use crash_sweep::{AtRest, PlaceCount, Setup, rocks_with_db, simulated, with_db_and_wal};
use store::ChecksumKind;

/// Flips so many bits; so many kinds of places are hit, and in some of them something must be found.
fn rots(mut setup: Setup, flips: u64, places: usize, finds_in: &[&str]) {
    setup.options.checksum = ChecksumKind::Crc32c;
    let store = AtRest::new(setup).expect("the store itself is good");
    let mut counts: BTreeMap<&str, PlaceCount> = BTreeMap::new();
    for seed in 1..=flips {
        let flip = store.flip(seed);
        let found_by = flip.found_by.unwrap_or_else(|failure| panic!("{failure}"));
        counts.entry(flip.place).or_default().add(found_by);
    }
    assert!(counts.len() >= places, "{counts:#?}");
    for place in finds_in {
        assert!(counts[place].harmless() < counts[place].flips, "{place}: {counts:#?}");
    }
}

const FINDS_IN: [&str; 4] = ["data", "journal", "key-value files", "log of BlueFS"];

#[test]
fn a_flipped_bit_is_found_or_harmless() {
    rots(simulated(), 300, 9, &FINDS_IN);
}

#[test]
fn a_flipped_bit_of_three_devices_is_found_or_harmless() {
    rots(with_db_and_wal(), 300, 10, &FINDS_IN);
}

#[test]
fn a_flipped_bit_below_rocksdb_is_found_or_harmless() {
    // With its threads it is another store each time.
    rots(rocks_with_db(), 60, 7, &["data"]);
}
