//! Following maps, and the maps of a small cluster to try things on.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use wire::codec::encode_to_bytes;
use wire::crush::{CrushMap, Location, ReplicatedRule, TYPE_OSD, WEIGHT_ONE};
use wire::msg::{OsdMapMessage, Payload};
use wire::osdmap::{OsdMap, OsdState, Pool, Step};
use wire::types::{Addr, Epoch, UTime};

use super::{Choices, message};
use crate::maps::{Followed, follow as step};

/// A message of maps, to a client that knows none or one of the small cluster's: first byte which. Every increment whose
/// value is one byte stands for the sound one of that number.
pub(super) fn follow(input: &[u8]) {
    let mut choices = Choices(input);
    let known = usize::from(choices.byte()) % (small_cluster().len() + 1);
    let current = known.checked_sub(1).map(|known| Arc::new(small_cluster()[known].map.clone()));
    let front = Bytes::copy_from_slice(choices.0);
    let received = message(OsdMapMessage::KIND, OsdMapMessage::VERSION, 0, front, Bytes::new());
    let Ok(mut maps) = OsdMapMessage::from_message(&received) else {
        return;
    };
    let sound = |bytes: &Bytes| match bytes[..] {
        [number] => small_cluster().get(usize::from(number)),
        _ => None,
    };
    for bytes in maps.incrementals.values_mut() {
        if let Some(step) = sound(bytes) {
            *bytes = encode_to_bytes(&step.incremental);
        }
    }
    for bytes in maps.full.values_mut() {
        if let Some(step) = sound(bytes) {
            *bytes = step.full.clone();
        }
    }
    if let Followed::Newer(newer) = step(current.as_ref(), &maps) {
        assert!(current.is_none_or(|current| current.epoch < newer.epoch && current.fsid == maps.fsid));
    }
}

/// The cluster's history: two OSDs and a pool of four groups; then osd.1 is down; then up elsewhere; then there is no
/// pool.
pub(super) fn small_cluster() -> &'static [Step] {
    static STEPS: OnceLock<Vec<Step>> = OnceLock::new();
    STEPS.get_or_init(|| {
        let first = first();
        let down = next(&first.map, |map| map.osds[1].state = OsdState::EXISTS);
        let moved = next(&down.map, |map| {
            map.osds[1].state = OsdState::EXISTS | OsdState::UP;
            map.osds[1].client_addrs = Addr::msgr2(([127, 0, 0, 1], 7000).into(), 2).into();
        });
        let empty = next(&moved.map, |map| drop(map.pools.remove(&1)));
        vec![first, down, moved, empty]
    })
}

fn first() -> Step {
    let mut draft = OsdMap::default().draft_next(UTime::default());
    draft.fsid = uuid::Uuid::from_u128(1);
    let mut crush = CrushMap::with_default_root();
    for osd in 0..2u16 {
        let location = Location { root: "default".into(), host: "h".into(), device: format!("d{osd}") };
        if let Err(error) = crush.place_osd(osd.into(), WEIGHT_ONE, "ssd", &location) {
            panic!("{error}");
        }
        draft.osds.push(Default::default());
        if let Some(entry) = draft.osds.last_mut() {
            entry.state = OsdState::EXISTS | OsdState::UP;
            entry.weight = WEIGHT_ONE;
            entry.client_addrs = Addr::msgr2(([127, 0, 0, 1], 6800 + osd).into(), 1).into();
        }
    }
    let rule =
        ReplicatedRule { name: "r".into(), root: "default".into(), failure_domain: TYPE_OSD, class: None };
    match crush.add_replicated_rule(&rule) {
        Ok(rule) => {
            draft.pools.insert(1, Pool::replicated(4, 1, 1, rule, UTime::default()));
        }
        Err(error) => panic!("{error}"),
    }
    draft.crush = crush.into();
    Step::between(&OsdMap::default(), draft)
}

fn next(map: &OsdMap, change: impl FnOnce(&mut OsdMap)) -> Step {
    let mut draft = map.draft_next(UTime::default());
    change(&mut draft);
    Step::between(map, draft)
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let steps = small_cluster();
    let with = |full: &[usize], increments: &[usize]| {
        let number = |step: &usize| Bytes::from(vec![u8::try_from(*step).unwrap_or(0)]);
        let entry = |step: &usize| (steps[*step].map.epoch, number(step));
        OsdMapMessage {
            fsid: steps[0].map.fsid,
            incrementals: increments.iter().map(entry).collect(),
            full: full.iter().map(entry).collect(),
            oldest: Epoch(1),
            newest: steps[steps.len() - 1].map.epoch,
            trim_lower_bound: Epoch(0),
        }
    };
    let all = [with(&[0], &[1, 2, 3]), with(&[2], &[]), with(&[], &[2, 3]), with(&[1], &[3])];
    let known = [0u8, 1, 2, 3];
    let each = |message: &OsdMapMessage| {
        let front = message.to_message(0).front;
        known.map(|known| [&[known][..], &front].concat())
    };
    all.iter().flat_map(each).collect()
}
