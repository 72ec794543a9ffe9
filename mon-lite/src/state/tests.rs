//! The state machine: replay and snapshots give equal states, old maps are rebuilt, nonsense is refused.

use bytes::Bytes;
use uuid::Uuid;
use wire::codec::{decode_exact, encode_to_bytes};
use wire::osdmap::{MapFlags, OsdMap};
use wire::types::{AddrVec, Epoch, UTime};

use super::config::Section;
use super::{Change, Entry, State, StateError, first_mon_map};
use crate::limits::OSD_INCREMENTALS_MAX;
use crate::osd_life::{self, NewOsd};

const FSID: Uuid = Uuid::from_u128(7);

fn time(seconds: u32) -> UTime {
    UTime { seconds, nanoseconds: 0 }
}

fn osd(id: i32) -> NewOsd {
    NewOsd {
        id,
        uuid: Uuid::from_u128(9),
        host: "h".into(),
        device: "d".into(),
        class: "ssd".into(),
        size_bytes: 1 << 40,
    }
}

fn entry(changes: Vec<Change>) -> Bytes {
    encode_to_bytes(&Entry { time: time(1), changes })
}

fn made() -> State {
    let mut state = State::new(FSID);
    let first = osd_life::first_map(FSID, time(1), &[osd(0), osd(1)]).unwrap();
    state.apply_bytes(entry(vec![first])).unwrap();
    state
}

/// The change to the next epoch, which differs from the one before in its flags.
fn next_map(state: &State) -> Change {
    let edit = |map: &mut OsdMap| map.flags = MapFlags(map.flags.0 ^ MapFlags::NOOUT.0);
    state.osd_maps.edit_within(time(state.osd_maps.epoch().0 + 1), edit)
}

#[test]
fn a_snapshot_is_the_state_and_replay_is_too() {
    let mut state = made();
    let mut log = Vec::new();
    let addrs = AddrVec::default();
    let changes = vec![
        Change::MonMap(encode_to_bytes(&first_mon_map(FSID, "a", addrs, time(2)))),
        Change::Config { section: Section::Global, name: "x".into(), value: Some("1".into()) },
        Change::ConfigKey { key: "k".into(), value: Some(Bytes::from_static(b"v")) },
        Change::GlobalIds { next: 9000 },
        Change::OsdMetadata { osd: 1, metadata: Some([("a".to_owned(), "b".to_owned())].into()) },
    ];
    log.push(entry(changes));
    state.apply_bytes(log[0].clone()).unwrap();
    for _ in 0..3 {
        log.push(entry(vec![next_map(&state)]));
        state.apply_bytes(log.last().unwrap().clone()).unwrap();
    }
    let mut replayed = made();
    for payload in log {
        replayed.apply_bytes(payload).unwrap();
    }
    assert_eq!(replayed, state);
    let snapshot = encode_to_bytes(&state);
    assert_eq!(decode_exact::<State>("snapshot", snapshot.clone()).unwrap(), state);
    // A truncated one is an error, never a smaller state.
    for cut in (0..snapshot.len()).step_by(97) {
        assert!(decode_exact::<State>("snapshot", snapshot.slice(..cut)).is_err(), "{cut}");
    }
}

#[test]
fn old_maps_are_rebuilt_and_the_oldest_forgotten() {
    let mut state = made();
    let mut flags = vec![(Epoch(1), state.osd_maps.newest().flags)];
    for _ in 0..OSD_INCREMENTALS_MAX + 20 {
        let change = next_map(&state);
        state.apply_bytes(entry(vec![change])).unwrap();
        flags.push((state.osd_maps.epoch(), state.osd_maps.newest().flags));
    }
    let maps = &state.osd_maps;
    assert_eq!(maps.oldest_epoch(), Epoch(21));
    for (epoch, flags) in flags {
        let found = maps.full(epoch).map(|map| (map.epoch, map.flags));
        let kept = epoch >= maps.oldest_epoch();
        assert_eq!(found, kept.then_some((epoch, flags)));
        assert_eq!(maps.incremental(epoch).is_some(), epoch > maps.oldest_epoch());
    }
    assert_eq!(maps.full(maps.epoch().next()), None);
    assert_eq!(decode_exact::<State>("snapshot", encode_to_bytes(&state)).unwrap(), state);
}

#[test]
fn what_does_not_follow_is_refused() {
    let mut state = made();
    let stale = next_map(&state);
    let change = next_map(&state);
    state.apply_bytes(entry(vec![change])).unwrap();
    assert!(matches!(state.apply_bytes(entry(vec![stale])), Err(StateError::OsdMap(_))));
    let other = first_mon_map(Uuid::from_u128(8), "a", AddrVec::default(), time(1));
    let other = Change::MonMap(encode_to_bytes(&other));
    assert!(matches!(state.apply_bytes(entry(vec![other])), Err(StateError::Fsid { .. })));
    let mut skipped = first_mon_map(FSID, "a", AddrVec::default(), time(1));
    skipped.epoch = Epoch(2);
    let skipped = Change::MonMap(encode_to_bytes(&skipped));
    assert!(matches!(state.apply_bytes(entry(vec![skipped])), Err(StateError::MonMap { .. })));
    // A kind of change that only a later version knows.
    let mut unknown = entry(vec![Change::GlobalIds { next: 1 }]).to_vec();
    let kind = unknown.len() - 9;
    unknown[kind] = 200;
    let error = state.apply_bytes(unknown.into()).unwrap_err();
    assert!(error.to_string().contains("a kind of change that this version knows, got 200"), "{error}");
}

#[test]
fn osds_come_into_the_map_and_never_where_they_would_take_pgs() {
    let boot = |id: i32, uuid: u128, port: u16| wire::msg::OsdBoot {
        fsid: FSID,
        osd: id,
        uuid: Uuid::from_u128(uuid),
        epoch: Epoch(0),
        public_addrs: AddrVec::from(wire::types::Addr::msgr2(([127, 0, 0, 1], port).into(), 1)),
        metadata: [(osd_life::metadata::HOSTNAME.to_owned(), "other host".to_owned())].into(),
    };
    let mut state = made();
    let weight = |state: &State, id| state.osd_maps.newest().crush.weight_of(id);
    assert_eq!(weight(&state, 0), Some(0x1_0000), "a TiB weighs 1");
    let changes = osd_life::boot(&state, time(5), &boot(0, 9, 6800)).unwrap();
    state.apply_bytes(entry(changes)).unwrap();
    assert!(state.osd_maps.newest().is_up(0));
    let again = osd_life::boot(&state, time(6), &boot(0, 9, 6800)).unwrap();
    assert_eq!(again, [], "nothing changes");
    let moved = osd_life::boot(&state, time(7), &boot(0, 9, 6900)).unwrap();
    state.apply_bytes(entry(moved)).unwrap();
    let up = state.osd_maps.newest().osd(0).unwrap().clone();
    assert_eq!((up.info.up_from, up.client_addrs.to_string().as_str()), (Epoch(3), "v2:127.0.0.1:6900/1"));

    let refused = |state: &State, boot| osd_life::boot(state, time(8), &boot).unwrap_err().to_string();
    assert!(refused(&state, boot(0, 10, 6800)).contains("another OSD"));
    assert!(refused(&state, boot(-1, 9, 6800)).contains("not between"));
    assert!(refused(&state, wire::msg::OsdBoot { fsid: Uuid::nil(), ..boot(0, 9, 1) }).contains("cluster"));
    let no_address = wire::msg::OsdBoot { public_addrs: AddrVec::default(), ..boot(0, 9, 1) };
    assert!(refused(&state, no_address).contains("no address"));

    // A new one is taken as long as there is no pool.
    let changes = osd_life::boot(&state, time(9), &boot(2, 11, 6802)).unwrap();
    state.apply_bytes(entry(changes)).unwrap();
    assert!(state.osd_maps.newest().crush.item_named("other-host").is_some());
    let pool = state.osd_maps.edit_within(time(10), |map: &mut OsdMap| {
        map.pools.insert(1, wire::osdmap::Pool::replicated(8, 1, 1, 0, time(10)));
        map.pool_names.insert(1, "p".into());
        map.pool_max = 1;
    });
    state.apply_bytes(entry(vec![pool])).unwrap();
    assert!(refused(&state, boot(3, 12, 6803)).contains("would move data"));

    let down = osd_life::mark_down(&state, time(11), &[0, 1, 2]);
    state.apply_bytes(entry(down)).unwrap();
    let map = state.osd_maps.newest();
    assert!((0..3).all(|id| !map.is_up(id) && map.osd(id).unwrap().is_in()), "never out");
    assert_eq!(osd_life::mark_down(&state, time(12), &[0, 1, 2]), []);
}
