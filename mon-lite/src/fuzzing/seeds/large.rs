//! States in which one collection is large, which a fuzzer would take long to grow.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::osdmap::{Blocklist, OsdMap};
use wire::types::{Addr, PgId, UTime};

use super::super::cluster::{NOW, small_cluster};
use super::line;
use crate::state::{Change, Entry, MapFull, State};

/// Elements of a large collection: enough for three levels of a tree.
pub(super) const MANY: i32 = 96;

/// A change of the map; what it does depends on the half: 0 adds odd numbers, 1 adds even ones and removes most odd ones.
type Edit = fn(&mut OsdMap, i32);

const EDITS: &[Edit] = &[
    |map, half| change(&mut map.pg_temp, half, |n| (pg(n), vec![n])),
    |map, half| change(&mut map.primary_temp, half, |n| (pg(n), n)),
    |map, half| change(&mut map.pg_upmap, half, |n| (pg(n), vec![n])),
    |map, half| change(&mut map.pg_upmap_items, half, |n| (pg(n), vec![(n, 0)])),
    |map, half| change(&mut map.erasure_code_profiles, half, |n| (name(n), BTreeMap::new())),
    |map, half| change(&mut map.crush_node_flags, half, |n| (n, 1)),
    |map, half| change(&mut map.device_class_flags, half, |n| (n, 1)),
    |map, half| {
        let Blocklist(entries) = &mut map.blocklist;
        change(entries, half, |n| (Addr { nonce: n.unsigned_abs(), ..Addr::default() }, UTime::default()));
    },
    |map, half| {
        for snap in (1..).step_by(if half == 0 { 2 } else { 1 }).take(MANY.unsigned_abs() as usize) {
            map.removed_snaps_queue.entry(1).or_default().insert(snap, 1);
        }
    },
];

/// States with one large collection each.
pub(super) fn states() -> Vec<State> {
    let changes: [Vec<Change>; 5] = [
        numbers(0).map(|n| Change::ConfigKey { key: name(n), value: Some(Bytes::new()) }).collect(),
        numbers(0).map(|osd| Change::OsdMetadata { osd, metadata: Some(BTreeMap::new()) }).collect(),
        vec![Change::OsdMetadata {
            osd: 1,
            metadata: Some(numbers(0).map(|n| (name(n), name(n))).collect()),
        }],
        numbers(0).map(|_| Change::Log(line())).collect(),
        numbers(0)
            .map(|n| Change::Config {
                section: crate::state::config::Section::Global,
                name: name(n),
                value: Some(name(n)),
            })
            .collect(),
    ];
    let small = changes.into_iter().map(|changes| with(small_cluster(), changes));
    let epochs =
        (0..MANY).fold(small_cluster(), |state, n| edited(state, |map| map.flags.0 ^= n.unsigned_abs()));
    let maps = EDITS.iter().map(|edit| {
        let half = edited(small_cluster(), |map| edit(map, 0));
        edited(half, |map| edit(map, 1))
    });
    small.chain([epochs]).chain(maps).collect()
}

fn with(mut state: State, changes: Vec<Change>) -> State {
    match state.apply(&Entry { time: NOW, changes }) {
        Ok(_) => state,
        Err(error) => panic!("{error}"),
    }
}

fn edited(state: State, edit: impl FnOnce(&mut OsdMap)) -> State {
    let change = state.osd_maps.edit::<MapFull>(NOW, |map| {
        edit(map);
        Ok(())
    });
    match change {
        Ok(change) => with(state, vec![change]),
        Err(full) => panic!("{full}"),
    }
}

fn change<K: Ord, V>(map: &mut BTreeMap<K, V>, half: i32, element: impl Fn(i32) -> (K, V)) {
    map.extend(numbers(half).map(&element));
    if half == 1 {
        for n in numbers(0).filter(|n| n % 16 != 1) {
            map.remove(&element(n).0);
        }
    }
}

/// The odd numbers, or the even ones.
fn numbers(half: i32) -> impl Iterator<Item = i32> {
    (0..MANY).map(move |n| 2 * n + 1 - half)
}

fn name(n: i32) -> String {
    format!("n{n:03}")
}

fn pg(n: i32) -> PgId {
    PgId::new(1, n.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use wire::codec::{decode_exact, encode_to_bytes};

    use super::*;

    #[test]
    fn they_can_be_read() {
        for state in states() {
            assert_eq!(decode_exact::<State>("snapshot", encode_to_bytes(&state)).unwrap(), state);
        }
    }
}
