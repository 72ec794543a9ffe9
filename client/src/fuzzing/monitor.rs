//! A session with monitors that say anything.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use rt::Nanos;
use uuid::Uuid;
use wire::codec::encode_to_bytes;
use wire::msg::{MonGetVersionReply, MonInfo, MonMap, MonMapMessage, OsdMapMessage, Payload, StatFs};
use wire::types::{Addr, AddrVec, Epoch, UTime};

use super::{Choices, message};
use crate::link::{LinkId, LinkIds};
use crate::monitor::{MonAction, Monitor};
use crate::time::after;

const STEPS_MAX: usize = 40;
const REQUESTS_MAX: usize = 8;

/// Steps that the input spells out, and what the machine does about them.
pub(super) fn history(input: &[u8]) {
    let mut choices = Choices(input);
    let addrs = (0..3).map(|number| Addr::msgr2(([127, 0, 0, 1], 3300 + number).into(), 0)).collect();
    let mut world = World {
        monitor: Monitor::new(addrs, u64::from(choices.byte()), "here".into(), LinkIds::default()),
        now: Nanos(1),
        link: None,
        is_open: false,
        waiting: BTreeSet::new(),
    };
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        let actions = world.step(&mut choices);
        world.act(actions);
    }
}

struct World {
    monitor: Monitor,
    now: Nanos,
    link: Option<LinkId>,
    is_open: bool,
    waiting: BTreeSet<u64>,
}

impl World {
    fn step(&mut self, c: &mut Choices<'_>) -> Vec<MonAction> {
        let link = self.link.unwrap_or(LinkId(99));
        match c.byte() % 10 {
            0 => {
                self.now = self.now.max(self.monitor.deadline());
                self.monitor.tick(self.now)
            }
            1 => {
                self.now = after(self.now, Duration::from_millis(u64::from(c.byte()) * 100));
                self.monitor.tick(self.now)
            }
            2 => {
                self.is_open = self.link.is_some();
                self.monitor.connected(link, u64::from(c.byte()), self.now)
            }
            3 => {
                self.monitor.closed(link, self.now);
                (self.link, self.is_open) = (None, false);
                Vec::new()
            }
            4 | 5 => {
                let (kind, version) = match c.byte() % 4 {
                    0 => (MonMapMessage::KIND, MonMapMessage::VERSION),
                    1 => (OsdMapMessage::KIND, OsdMapMessage::VERSION),
                    2 => (MonGetVersionReply::KIND, MonGetVersionReply::VERSION),
                    _ => (u16::from(c.byte()), 1),
                };
                let tid = u64::from(c.byte() % 12);
                self.monitor.message(link, message(kind, version, tid, c.bytes(), Bytes::new()), self.now)
            }
            6 if self.waiting.len() < REQUESTS_MAX => {
                let ask = StatFs { version: 0, fsid: Default::default(), pool: None };
                let (tid, action) = if c.byte() & 1 == 0 {
                    self.monitor.request(&ask)
                } else {
                    self.monitor.request_version("osdmap")
                };
                assert!(self.waiting.insert(tid), "tid {tid} is used again");
                action.into_iter().collect()
            }
            7 => {
                self.monitor.have_osdmap(u32::from(c.byte()));
                self.monitor.need_full_osdmap().into_iter().collect()
            }
            8 => {
                if let Some(tid) = self.waiting.pop_first() {
                    self.monitor.forget(tid);
                }
                self.monitor.renew_osdmap().into_iter().collect()
            }
            _ => self.monitor.distrust(link, self.now),
        }
    }

    fn act(&mut self, actions: Vec<MonAction>) {
        for action in actions {
            match action {
                MonAction::Open { link, .. } => {
                    assert!(self.link.is_none(), "one link at a time");
                    (self.link, self.is_open) = (Some(link), false);
                }
                MonAction::Close(link) => {
                    assert_eq!(self.link.take(), Some(link));
                    self.is_open = false;
                }
                MonAction::Send(link, _) | MonAction::Keepalive(link) => {
                    assert_eq!((self.link, self.is_open), (Some(link), true));
                }
                MonAction::Answered { tid, .. } => {
                    assert!(self.waiting.remove(&tid), "request {tid} is answered twice");
                }
                MonAction::OsdMap(link, _) => assert_eq!(self.link, Some(link)),
            }
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let addrs = AddrVec::from(Addr::msgr2(([127, 0, 0, 1], 3305).into(), 0));
    let info = MonInfo { name: "a".to_owned(), addrs, ..MonInfo::default() };
    let map = MonMap {
        fsid: Uuid::from_u128(1),
        epoch: Epoch(3),
        last_changed: UTime::default(),
        created: UTime::default(),
        persistent_features: MonMap::PERSISTENT_FEATURES,
        optional_features: 0,
        mons: [("a".to_owned(), info)].into(),
        ranks: vec!["a".to_owned()],
        min_mon_release: MonMap::RELEASE_PACIFIC,
        removed_ranks: BTreeSet::new(),
        election_strategy: MonMap::ELECTION_CLASSIC,
        disallowed_leaders: BTreeSet::new(),
        stretch_mode: false,
        tiebreaker: String::new(),
        stretch_marked_down: BTreeSet::new(),
    };
    let front = MonMapMessage { map: encode_to_bytes(&map) }.to_message(0).front;
    let length = u8::try_from(front.len()).unwrap_or(u8::MAX);
    let version = MonGetVersionReply { handle: 2, version: 7, oldest: 1 }.to_message(2).front;
    let version_length = u8::try_from(version.len()).unwrap_or(u8::MAX);
    vec![
        [&[0, 0, 2, 5, 4, 0, 0, length][..], &front, &[3, 0, 2, 5, 7, 9, 8]].concat(),
        [&[1, 6, 0, 6, 1, 0, 2, 5, 4, 3, 9, 1, 0, 4, 2, 2, version_length][..], &version, &[9, 0]].concat(),
    ]
}
