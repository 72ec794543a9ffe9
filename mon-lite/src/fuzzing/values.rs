//! Entries and snapshots of the log: encoding what was decoded is a fixed point, and what applies can be read again.

use std::fmt::Debug;

use bytes::Bytes;
use wire::codec::{Reader, Wire, decode_exact, encode_to_bytes};
use wire::msg::{LogEntry, LogPriority};
use wire::types::{AddrVec, AuthName, EntityName, UTime};

use super::cluster::small_cluster;
use crate::state::{Change, Entry, State};

/// Old forms of maps and entries inside are decoded into new ones, which have a few more fields per element.
const GROWTH_MAX: usize = 8;
const GROWTH_FIXED: usize = 4096;

fn fixed_point<T: Wire + Debug>(input: &[u8]) -> Option<T> {
    let value = T::decode(&mut Reader::new("fuzz", Bytes::copy_from_slice(input))).ok()?;
    let encoded = encode_to_bytes(&value);
    assert!(
        encoded.len() <= GROWTH_MAX * input.len() + GROWTH_FIXED,
        "{} bytes grew: {value:?}",
        input.len()
    );
    match decode_exact::<T>("fuzz", encoded.clone()) {
        // Compared as bytes, because floating-point values need not equal themselves.
        Ok(again) => assert_eq!(encode_to_bytes(&again), encoded, "{value:?}"),
        Err(error) => panic!("{value:?} was encoded to something that is refused: {error}"),
    }
    Some(value)
}

/// One entry of the log.
pub(super) fn entry(input: &[u8]) {
    fixed_point::<Entry>(input);
}

/// A snapshot, and what a monitor does first with one.
pub(super) fn state(input: &[u8]) {
    let Some(mut state) = fixed_point::<State>(input) else {
        return;
    };
    check_state(&state);
    if state.apply(&log_line()).is_ok() {
        check_state(&state);
    }
}

/// An entry, on the state of a small cluster.
pub(super) fn apply(input: &[u8]) {
    let mut state = small_cluster();
    // A monitor stops when an entry cannot be applied; what is left of the state is not looked at.
    if state.apply_bytes(Bytes::copy_from_slice(input)).is_err() {
        return;
    }
    check_state(&state);
    let snapshot = encode_to_bytes(&state);
    match decode_exact::<State>("fuzz", snapshot.clone()) {
        Ok(again) => assert_eq!(encode_to_bytes(&again), snapshot),
        Err(error) => panic!("the snapshot of a state cannot be read: {error}"),
    }
}

fn check_state(state: &State) {
    let mut versions = state.cluster_log.iter().map(|(version, _)| version);
    assert_eq!(versions.next_back().unwrap_or(state.cluster_log.version()), state.cluster_log.version());
    let maps = &state.osd_maps;
    for epoch in [maps.oldest_epoch(), maps.epoch()] {
        assert!(maps.full(epoch).is_some_and(|map| map.epoch == epoch), "epoch {epoch} can be rebuilt");
    }
}

fn log_line() -> Entry {
    let line = LogEntry {
        name: AuthName::default(),
        rank: EntityName::client(1),
        addrs: AddrVec::default(),
        stamp: UTime::default(),
        seq: 1,
        priority: LogPriority::INFO,
        text: "a line".to_owned(),
        channel: "cluster".to_owned(),
    };
    Entry { changes: vec![Change::Log(line)], ..Entry::default() }
}
