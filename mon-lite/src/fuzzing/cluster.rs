//! The state of a small cluster, to try things on: one monitor, three OSDs that are up, a pool.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use bytes::Bytes;
use uuid::Uuid;
use wire::codec::{decode_exact, encode_to_bytes};
use wire::msg::{MonInfo, MonMap, OsdBoot};
use wire::types::{Addr, AddrKind, AddrVec, Epoch, SocketBytes, UTime};

use crate::commands::{Request, Table, run};
use crate::limits::{ENTRY_BYTES_TARGET, LOG_ENTRY_BYTES_MAX};
use crate::live::{Live, PgMap};
use crate::osd_life::{self, NewOsd};
use crate::state::{Change, Entry, State};
use crate::view::View;

/// Placement groups above which the map of them is left as it was, to save time.
const PGS_MAPPED_MAX: usize = 128;

/// Time of everything that is decided here.
pub(super) const NOW: UTime = UTime { seconds: 1_700_000_000, nanoseconds: 0 };

/// The cluster's id.
pub(super) const FSID: Uuid = Uuid::from_u128(0x5eed);

/// A copy of the cluster's state.
pub(super) fn small_cluster() -> State {
    static MADE: OnceLock<State> = OnceLock::new();
    MADE.get_or_init(make).clone()
}

/// What the monitor knows besides about a cluster in this state.
pub(super) fn live(state: &State) -> Live {
    let map = state.osd_maps.newest();
    let groups: usize =
        map.pools.values().map(|pool| usize::try_from(pool.pg_num).unwrap_or(usize::MAX)).sum();
    let pg_map = if groups <= PGS_MAPPED_MAX { PgMap::of(map) } else { PgMap::default() };
    let mut live = Live { pg_map, ..Live::default() };
    live.monitor.name = "a".into();
    live
}

/// Applies what was decided on this state, which must succeed, fit an entry and survive being written.
pub(super) fn apply(state: &mut State, changes: Vec<Change>) {
    let entry = Entry { time: NOW, changes };
    let encoded = encode_to_bytes(&entry);
    assert!(
        encoded.len() <= LOG_ENTRY_BYTES_MAX - ENTRY_BYTES_TARGET,
        "a decision of {} bytes",
        encoded.len()
    );
    match decode_exact::<Entry>("fuzz", encoded) {
        Ok(again) => assert_eq!(again, entry),
        Err(error) => panic!("{entry:?} cannot be read back: {error}"),
    }
    if let Err(error) = state.apply(&entry) {
        panic!("{entry:?} was decided on this state but does not apply: {error}");
    }
}

fn make() -> State {
    let mut state = State::new(FSID);
    let osds: Vec<NewOsd> = (0..3).map(new_osd).collect();
    let must = |result: Result<Vec<Change>, osd_life::BootRefusal>| match result {
        Ok(changes) => changes,
        Err(error) => panic!("{error}"),
    };
    let first = must(osd_life::first_map(FSID, NOW, &osds).map(|change| vec![change]));
    apply(&mut state, first);
    apply(&mut state, vec![Change::MonMap(encode_to_bytes(&mon_map()))]);
    for osd in 0..3 {
        let changes = must(osd_life::boot(&state, NOW, &boot(osd)));
        apply(&mut state, changes);
    }
    let pieces = [r#"{"prefix":"osd pool create","pool":"rbd","pg_num":8}"#.to_owned()];
    let changes = match Request::parse(&pieces, Bytes::new()) {
        Ok(request) => {
            run(&View { state: &state, live: &live(&state), now: NOW }, Table::Cluster, &request).changes
        }
        Err(refusal) => panic!("{refusal}"),
    };
    assert!(!changes.is_empty(), "a pool can be made");
    apply(&mut state, changes);
    state
}

fn mon_map() -> MonMap {
    MonMap {
        fsid: FSID,
        epoch: Epoch(1),
        last_changed: NOW,
        created: NOW,
        persistent_features: MonMap::PERSISTENT_FEATURES,
        optional_features: 0,
        mons: [("a".to_owned(), MonInfo { name: "a".to_owned(), ..MonInfo::default() })].into(),
        ranks: vec!["a".to_owned()],
        min_mon_release: MonMap::RELEASE_PACIFIC,
        removed_ranks: BTreeSet::new(),
        election_strategy: MonMap::ELECTION_CLASSIC,
        disallowed_leaders: BTreeSet::new(),
        stretch_mode: false,
        tiebreaker: String::new(),
        stretch_marked_down: BTreeSet::new(),
    }
}

fn new_osd(id: i32) -> NewOsd {
    NewOsd {
        id,
        uuid: store_id(id),
        host: "host".into(),
        device: format!("device{id}"),
        class: "nvme".into(),
        size_bytes: 8 << 30,
    }
}

fn store_id(osd: i32) -> Uuid {
    Uuid::from_u128(osd.unsigned_abs().into())
}

/// The message with which an OSD of the cluster starts.
pub(super) fn boot(osd: i32) -> OsdBoot {
    let socket = SocketBytes::from(std::net::SocketAddr::from(([127, 0, 0, 1], 6800)));
    OsdBoot {
        fsid: FSID,
        osd,
        uuid: store_id(osd),
        epoch: Epoch(1),
        public_addrs: AddrVec::from(Addr { kind: AddrKind::MSGR2, nonce: 0, socket }),
        metadata: BTreeMap::from([("hostname".to_owned(), "host".to_owned())]),
    }
}
