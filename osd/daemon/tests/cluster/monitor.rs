//! A monitor that knows maps and nothing else.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use rt::sim::address;
use rt::{Core, Group};
use wire::codec::encode_to_bytes;
use wire::crush::{CrushMap, Location, ReplicatedRule, TYPE_OSD};
use wire::msg::{Alert, Body, ConfigMessage, OsdBoot, OsdMapMessage, OsdStats, Payload, decode_message};
use wire::msgr2::{Config, Connection, Event, Message};
use wire::osdmap::{MapFlags, OsdMap, OsdState, Pool, Step, WEIGHT_IN};
use wire::types::{Addr, AddrVec, EntityKind, Epoch, Features, UTime};

use super::pump::Pump;
use super::{FSID, MONITOR_HOST, MONITOR_PORT, POOL};

/// The monitor; clones are the same.
#[derive(Clone)]
pub struct Monitor(Rc<RefCell<State>>);

struct State {
    map: OsdMap,
    full: Bytes,
    increments: BTreeMap<Epoch, Bytes>,
    subscribers: Vec<(Rc<Pump>, u64)>,
    pub boots: Vec<OsdBoot>,
    pub beacons: u64,
    pub stats: Option<OsdStats>,
    alerts: Option<Vec<Alert>>,
    /// New maps stay here.
    mute: bool,
}

impl Monitor {
    /// Listens, with a first map that has two OSDs that are down and one pool of 8 groups.
    pub fn start(core: &Core) -> Self {
        let map = first_map();
        let full = map.encode_with_crc().0;
        let monitor = Self(Rc::new(RefCell::new(State {
            map,
            full,
            increments: BTreeMap::new(),
            subscribers: Vec::new(),
            boots: Vec::new(),
            beacons: 0,
            stats: None,
            alerts: None,
            mute: false,
        })));
        let mut listener = core.listen(address(MONITOR_HOST, MONITOR_PORT)).expect("a free port");
        let (accepting, this) = (core.clone(), monitor.clone());
        drop(core.spawn(Group::Client, "test monitor", async move {
            while let Ok(stream) = listener.accept().await {
                let config = Config {
                    kind: EntityKind::MON,
                    number: 0,
                    addrs: AddrVec(vec![Addr::msgr2(listener.local_addr(), 0)]),
                    nonce: 0,
                    supported: Features::PACIFIC,
                    required: Features::MSG_ADDR2,
                    revision_21: true,
                    global_seq: 1,
                    peer_socket: stream.peer,
                };
                let (pump, mut events) = Pump::start(&accepting, stream, Connection::accept(config, true));
                let this = this.clone();
                drop(accepting.spawn(Group::Client, "test monitor session", async move {
                    while let Some(event) = events.recv().await {
                        if let Event::Message(message) = event {
                            this.take(&pump, &message);
                        }
                    }
                }));
            }
        }));
        monitor
    }

    fn take(&self, pump: &Rc<Pump>, message: &Message) {
        match decode_message(message).expect("OSDs send well formed messages") {
            Body::MonSubscribe(subscribe) => {
                if subscribe.what.contains_key("config") {
                    pump.send(ConfigMessage::default().to_message(0));
                }
                if let Some(wanted) = subscribe.what.get("osdmap") {
                    let mut state = self.0.borrow_mut();
                    state.subscribers.retain(|(one, _)| !Rc::ptr_eq(one, pump));
                    state.subscribers.push((pump.clone(), wanted.start));
                }
                self.publish();
            }
            Body::OsdBoot(boot) => {
                self.0.borrow_mut().boots.push(boot.clone());
                self.change(|draft| {
                    let osd = &mut draft.osds[boot.osd as usize];
                    osd.state = osd.state | OsdState::EXISTS | OsdState::UP;
                    osd.client_addrs = boot.public_addrs.clone();
                    osd.uuid = boot.uuid;
                    osd.weight = WEIGHT_IN;
                });
            }
            Body::OsdBeacon(_) => self.0.borrow_mut().beacons += 1,
            Body::OsdStats(stats) => self.0.borrow_mut().stats = Some(stats),
            Body::OsdAlert(alert) => self.0.borrow_mut().alerts = Some(alert.alerts),
            other => panic!("an OSD sent {}", other.name()),
        }
    }

    /// Makes the next map and tells those who subscribed.
    pub fn change(&self, edit: impl FnOnce(&mut OsdMap)) {
        {
            let mut state = self.0.borrow_mut();
            let mut draft = state.map.draft_next(UTime::default());
            edit(&mut draft);
            let step = Step::between(&state.map, draft);
            let epoch = step.map.epoch;
            state.increments.insert(epoch, encode_to_bytes(&step.incremental));
            state.full = step.full;
            state.map = step.map;
        }
        self.publish();
    }

    fn publish(&self) {
        let mut state = self.0.borrow_mut();
        if state.mute {
            return;
        }
        let (map, full, increments) = (state.map.clone(), state.full.clone(), state.increments.clone());
        let newest = map.epoch;
        for (pump, next) in &mut state.subscribers {
            if *next > u64::from(newest.0) {
                continue;
            }
            let mut message = OsdMapMessage {
                fsid: FSID,
                incrementals: BTreeMap::new(),
                full: BTreeMap::new(),
                oldest: Epoch(1),
                newest,
                trim_lower_bound: Epoch(0),
            };
            if *next == 0 {
                message.full.insert(newest, full.clone());
            } else {
                let from = Epoch(u32::try_from(*next).expect("an epoch"));
                message.incrementals =
                    increments.range(from..).map(|(epoch, bytes)| (*epoch, bytes.clone())).collect();
            }
            *next = u64::from(newest.0) + 1;
            pump.send(message.to_message(0));
        }
    }

    /// Keeps new maps to itself, or no longer.
    pub fn set_mute(&self, mute: bool) {
        self.0.borrow_mut().mute = mute;
        self.publish();
    }

    /// The newest map.
    pub fn map(&self) -> OsdMap {
        self.0.borrow().map.clone()
    }

    /// Boots seen.
    pub fn boots(&self) -> usize {
        self.0.borrow().boots.len()
    }

    /// The newest statistics.
    pub fn stats(&self) -> Option<OsdStats> {
        self.0.borrow().stats.clone()
    }

    /// What the OSD complains about by its newest word; none if it said nothing yet.
    pub fn alerts(&self) -> Option<Vec<Alert>> {
        self.0.borrow().alerts.clone()
    }

    /// Forgets that, as a monitor does that starts.
    pub fn forget_alerts(&self) {
        self.0.borrow_mut().alerts = None;
    }

    /// Drops all sessions.
    pub fn drop_sessions(&self) {
        for (pump, _) in std::mem::take(&mut self.0.borrow_mut().subscribers) {
            pump.close();
        }
    }
}

/// A pool of copies of size 1.
pub fn pool(groups: u32) -> Pool {
    Pool::replicated(groups, 1, 1, 0, UTime::default())
}

fn first_map() -> OsdMap {
    let mut crush = CrushMap::with_default_root();
    for osd in 0..2 {
        let location = Location { root: "default".into(), host: "h".into(), device: format!("d{osd}") };
        crush.place_osd(osd, WEIGHT_IN, "ssd", &location).expect("a new place");
    }
    let rule =
        ReplicatedRule { name: "osds".into(), root: "default".into(), failure_domain: TYPE_OSD, class: None };
    crush.add_replicated_rule(&rule).expect("a new rule");
    let mut map = OsdMap {
        fsid: FSID,
        epoch: Epoch(1),
        flags: MapFlags::NEW_CLUSTER,
        crush: crush.into(),
        osds: vec![Default::default(), Default::default()],
        pool_max: 1,
        ..OsdMap::default()
    };
    map.pools.insert(POOL, pool(8));
    map.pool_names.insert(POOL, "test".into());
    map
}
