//! The monitor of the fake cluster.

use std::rc::Rc;

use rt::sim::{Sim, address};
use wire::msg::{
    Body, CommandReply, MonCommandAck, MonGetVersionReply, MonInfo, MonMap, MonMapMessage, OsdMapMessage,
    PoolOpKind, PoolOpReply, decode_message,
};
use wire::msgr2::Message;
use wire::osdmap::Pool;
use wire::types::{Addr, EntityKind, Epoch, UTime};

use super::serve::{Peer, listen};
use super::{Cluster, MON_PORT};

pub fn start(sim: &Sim, host: u16, cluster: &Cluster) {
    let core = sim.core(host);
    let own = Addr::msgr2(address(host, MON_PORT), 0);
    let ids = cluster.clone();
    let give_id = move || {
        let mut state = ids.0.borrow_mut();
        state.next_global_id += 1;
        state.next_global_id
    };
    let cluster = cluster.clone();
    let handle = move |peer: &Peer, message: Message| handle(&cluster, peer, &message);
    listen(&core, own, EntityKind::MON, Some(Rc::new(give_id)), Rc::new(handle));
}

/// Sends new maps to those who subscribed.
pub fn push_maps(cluster: &Cluster) {
    let mut state = cluster.0.borrow_mut();
    state.subscribers.retain(|(peer, _)| !peer.has_ended());
    let newest = state.map.epoch;
    let mut subscribers = std::mem::take(&mut state.subscribers);
    for (peer, start) in &mut subscribers {
        if *start > u64::from(newest.0) {
            continue;
        }
        let mut message = OsdMapMessage {
            fsid: state.fsid,
            incrementals: Default::default(),
            full: Default::default(),
            oldest: Epoch(1),
            newest,
            trim_lower_bound: Epoch(0),
        };
        if *start == 0 {
            message.full.insert(newest, state.full[&newest].clone());
        } else {
            let from = Epoch(u32::try_from(*start).unwrap());
            let range = state.incrementals.range(from..);
            message.incrementals = range.map(|(&epoch, bytes)| (epoch, bytes.clone())).collect();
        }
        peer.send(&message, 0);
        *start = u64::from(newest.0) + 1;
    }
    state.subscribers = subscribers;
}

fn handle(cluster: &Cluster, peer: &Peer, message: &Message) {
    let tid = message.header.tid;
    match decode_message(message).unwrap() {
        Body::MonSubscribe(subscribe) => {
            if let Some(subscription) = subscribe.what.get("osdmap") {
                let mut state = cluster.0.borrow_mut();
                state.subscribers.retain(|(other, _)| !other.is_same(peer));
                state.subscribers.push((peer.clone(), subscription.start));
            }
            if subscribe.what.contains_key("monmap") {
                peer.send(&MonMapMessage::new(&monmap(cluster)), 0);
            }
            push_maps(cluster);
        }
        Body::MonGetVersion(get) => {
            let version = cluster.0.borrow().map.epoch.0.into();
            // The real one does not echo the tid.
            peer.send(&MonGetVersionReply { handle: get.handle, version, oldest: 1 }, 0);
        }
        Body::MonCommand(command) => {
            let known = command.command[0].contains("status");
            let ack = MonCommandAck {
                version: 0,
                result: if known { 0 } else { -22 },
                status: if known { String::new() } else { "command not known".into() },
                command: command.command,
                output: if known { command.input } else { Default::default() },
            };
            peer.send(&ack, tid);
        }
        Body::PoolOp(op) => {
            cluster.0.borrow_mut().poolops += 1;
            let mut result = 0;
            cluster.change(|map| match op.op {
                PoolOpKind::CREATE if map.pool_id(&op.name).is_some() => result = -17,
                PoolOpKind::CREATE => {
                    map.pool_max += 1;
                    let id = i64::from(map.pool_max);
                    map.pools.insert(id, Pool::replicated(4, 1, 1, 0, UTime::default()));
                    map.pool_names.insert(id, op.name.clone());
                }
                _ => {
                    map.pools.remove(&i64::from(op.pool));
                    map.pool_names.remove(&i64::from(op.pool));
                }
            });
            let epoch = cluster.0.borrow().map.epoch;
            let fsid = cluster.0.borrow().fsid;
            peer.send(&PoolOpReply { version: 0, fsid, result, epoch, output: None }, tid);
        }
        Body::Command(command) => {
            peer.send(&CommandReply { result: 0, status: String::new(), output: command.input }, tid);
        }
        other => panic!("the fake monitor does not know {}", other.name()),
    }
}

fn monmap(cluster: &Cluster) -> MonMap {
    let mut map = MonMap {
        fsid: cluster.0.borrow().fsid,
        epoch: Epoch(1),
        last_changed: UTime::default(),
        created: UTime::default(),
        persistent_features: MonMap::PERSISTENT_FEATURES,
        optional_features: 0,
        mons: Default::default(),
        ranks: Vec::new(),
        min_mon_release: MonMap::RELEASE_PACIFIC,
        removed_ranks: Default::default(),
        election_strategy: MonMap::ELECTION_CLASSIC,
        disallowed_leaders: Default::default(),
        stretch_mode: false,
        tiebreaker: String::new(),
        stretch_marked_down: Default::default(),
    };
    for (index, &host) in cluster.0.borrow().mons.iter().enumerate() {
        let name = format!("m{index}");
        let addrs = Addr::msgr2(address(host, MON_PORT), 0).into();
        map.mons.insert(name.clone(), MonInfo { name: name.clone(), addrs, ..MonInfo::default() });
        map.ranks.push(name);
    }
    map
}
