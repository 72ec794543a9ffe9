//! An OSD of the fake cluster: a few ops, in memory, with duplicates recognized.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rt::sim::Sim;
use rt::{Core, Group};
use wire::codec::{Reader, decode_exact, encode_to_bytes};
use wire::msg::{
    Backoff, BackoffStep, Body, CommandReply, ListedObject, Op, OpArgs, OpCode, OsdOp, OsdOpReply,
    PgListReply, RequestFlags, decode_message, pg_list_cursor,
};
use wire::msgr2::{Data, Message};
use wire::osdmap::OsdMap;
use wire::placement::map_pg;
use wire::types::{EVersion, EntityKind, HObject};

use super::serve::{Peer, listen};
use super::{Cluster, OSD_HOST, Object, State, osd_addr, page_of};

pub fn start(sim: &Sim, osd: u16, cluster: &Cluster) {
    let core = sim.core(OSD_HOST + osd);
    let cluster = cluster.clone();
    let on = core.clone();
    let handle = move |peer: &Peer, message: Message| handle(&on, osd, &cluster, peer, message);
    listen(&core, osd_addr(osd), EntityKind::OSD, None, Rc::new(handle));
}

fn handle(core: &Core, osd: u16, cluster: &Cluster, peer: &Peer, message: Message) {
    let tid = message.header.tid;
    match decode_message(&message).unwrap() {
        Body::OsdOp(op) => {
            let delay = {
                let mut state = cluster.0.borrow_mut();
                state.received += 1;
                if op.attempt > 0 {
                    assert!(op.flags.contains(RequestFlags::RETRY));
                    state.retries += 1;
                }
                state.in_flight += 1;
                state.in_flight_max = state.in_flight_max.max(state.in_flight);
                state.delay_us
            };
            if delay == 0 {
                return answer(osd, cluster, peer, tid, op);
            }
            let (cluster, peer, on) = (cluster.clone(), peer.clone(), core.clone());
            drop(core.spawn(Group::Client, "fake op", async move {
                on.sleep(Duration::from_micros(delay)).await;
                answer(osd, &cluster, &peer, tid, op);
            }));
        }
        Body::Command(command) => {
            let known = command.command[0].contains("version");
            let result = if known { 0 } else { -22 };
            peer.send(&CommandReply { result, status: "s".into(), output: command.input }, tid);
        }
        Body::Backoff(backoff) => assert_eq!(backoff.step, BackoffStep::ACK_BLOCK),
        other => panic!("the fake OSD does not know {}", other.name()),
    }
}

fn answer(osd: u16, cluster: &Cluster, peer: &Peer, tid: u64, op: OsdOp) {
    let mut state = cluster.0.borrow_mut();
    state.in_flight -= 1;
    // What does not belong here is dropped without a word, as is what is muted.
    let at = map_pg(&state.map, op.pg.pg);
    let is_here = at.acting_primary == i32::from(osd);
    let folded = state.map.pools.get(&op.pg.pg.pool).map(|pool| pool.pg_of_hash(op.pg.pg.pool, op.hash));
    // So is what was sent before the group was split.
    let pg_num = |epoch| {
        let map: OsdMap = decode_exact("osd map", state.full[&epoch].clone()).unwrap();
        map.pools.get(&op.pg.pg.pool).map(|pool| pool.pg_num)
    };
    let was_split = op.epoch < state.map.epoch && pg_num(op.epoch) != pg_num(state.map.epoch);
    if state.mute || !is_here || folded != Some(op.pg.pg) || was_split {
        return;
    }
    if state.backoff {
        let backoff = Backoff {
            pg: op.pg,
            epoch: state.map.epoch,
            step: BackoffStep::BLOCK,
            id: tid,
            begin: HObject { pool: op.pg.pg.pool, ..HObject::minimum() },
            end: HObject::maximum(),
        };
        state.backed_off.push((peer.clone(), backoff.clone()));
        return peer.send(&backoff, 0);
    }
    if state.try_again > 0 {
        state.try_again -= 1;
        return peer.send(&OsdOpReply::to_request(&op, -11, false, state.map.epoch), tid);
    }
    let reply = execute(&mut state, peer, tid, &op);
    peer.send(&reply, tid);
}

fn execute(state: &mut State, peer: &Peer, tid: u64, op: &OsdOp) -> OsdOpReply {
    let writes = op.flags.contains(RequestFlags::WRITE);
    let id = op.request_id(peer.name(), tid);
    let mut reply = OsdOpReply::to_request(op, 0, true, state.map.epoch);
    if writes && let Some(&result) = state.answers.get(&id) {
        state.duplicates += 1;
        reply.result = result;
        return reply;
    }
    let target = op.target();
    let mut object = state.objects.get(&target).cloned();
    for (index, one) in op.ops.iter().enumerate() {
        match run(state, op, one, &mut object) {
            Ok((result, output)) => {
                reply.ops[index].data = Data::from(output);
                reply.results[index] = result;
                reply.result = result;
            }
            Err(errno) => {
                reply.results[index] = -errno;
                if !one.flags.contains(wire::msg::OpFlags::FAIL_OK) {
                    reply.result = -errno;
                    break;
                }
            }
        }
    }
    if writes {
        if reply.result >= 0 {
            let version = state.answers.len() as u64 + 1;
            match object {
                Some(mut object) => {
                    object.version = version;
                    state.objects.insert(target, object);
                }
                None => drop(state.objects.remove(&target)),
            }
            reply.set_versions(EVersion::new(state.map.epoch, version), version);
        }
        state.answers.insert(id, reply.result);
    }
    reply
}

fn run(state: &State, request: &OsdOp, op: &Op, object: &mut Option<Object>) -> Result<(i32, Bytes), i32> {
    let done = Ok((0, Bytes::new()));
    let bytes = op.data.to_bytes();
    let (offset, length) = match op.args() {
        OpArgs::Extent { offset, length, .. } => (offset as usize, length as usize),
        _ => (0, 0),
    };
    match op.code {
        OpCode::PGNLS => {
            let from = pg_list_cursor(bytes).unwrap();
            let (pool, seed) = (request.pg.pg.pool, request.pg.pg.seed);
            let (page, handle, end) = page_of(state, seed, pool, &request.locator.nspace, &from);
            let listed = |id: HObject| ListedObject { nspace: id.nspace, object: id.oid, key: id.key };
            let reply = PgListReply { handle, objects: page.into_iter().map(listed).collect() };
            Ok((i32::from(end), encode_to_bytes(&reply)))
        }
        OpCode::CREATE => {
            if object.is_some() && op.flags.contains(wire::msg::OpFlags::EXCLUSIVE) {
                return Err(17);
            }
            object.get_or_insert_default();
            done
        }
        OpCode::WRITE => {
            let data = &mut object.get_or_insert_default().data;
            data.resize(data.len().max(offset + length), 0);
            data[offset..offset + length].copy_from_slice(&bytes);
            done
        }
        OpCode::WRITE_FULL => {
            object.get_or_insert_default().data = bytes.to_vec();
            done
        }
        OpCode::APPEND => {
            object.get_or_insert_default().data.extend_from_slice(&bytes);
            done
        }
        OpCode::SETXATTR => {
            let (name, value) = op.xattr().unwrap();
            object.get_or_insert_default().xattrs.insert(name, value);
            done
        }
        OpCode::OMAP_SET_VALUES => {
            let entries = Reader::new("entries", bytes).map().unwrap();
            object.get_or_insert_default().omap.extend::<std::collections::BTreeMap<Bytes, Bytes>>(entries);
            done
        }
        OpCode::DELETE => object.take().map(|_| (0, Bytes::new())).ok_or(2),
        _ => read(op, object.as_ref().ok_or(2)?, offset, length),
    }
}

fn read(op: &Op, object: &Object, offset: usize, length: usize) -> Result<(i32, Bytes), i32> {
    let mut w = wire::codec::Writer::new();
    match op.code {
        OpCode::READ => {
            let length = if length == 0 { usize::MAX } else { length };
            w.raw(&object.data.iter().skip(offset).take(length).copied().collect::<Vec<u8>>());
        }
        OpCode::STAT => {
            w.u64(object.data.len() as u64);
            w.u64(0);
        }
        OpCode::GETXATTR => w.raw(object.xattrs.get(&op.xattr().unwrap().0).ok_or(61)?),
        OpCode::GETXATTRS => w.map(&object.xattrs),
        OpCode::OMAP_GET_VALUES => {
            let mut r = Reader::new("arguments", op.data.to_bytes());
            let (after, max) = (r.blob().unwrap(), r.u64().unwrap());
            let page =
                object.omap.range::<Bytes, _>((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
            let mut page: std::collections::BTreeMap<Bytes, Bytes> =
                page.map(|(k, v)| (k.clone(), v.clone())).collect();
            let more = page.len() as u64 > max;
            while page.len() as u64 > max {
                page.pop_last();
            }
            w.map(&page);
            w.bool(more);
        }
        OpCode::ASSERT_VERSION => match op.args() {
            OpArgs::AssertVersion { version } if version < object.version => return Err(34),
            OpArgs::AssertVersion { version } if version > object.version => return Err(75),
            _ => {}
        },
        other => panic!("the fake OSD does not know {other:?}"),
    }
    Ok((0, w.finish()))
}
