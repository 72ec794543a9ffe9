//! A client's request from its decoding to its reply: what is dropped, what is refused, what is run.
//!
//! Invariants: a request takes its place in its object's line before the next message of its client is looked at; a
//! request that is dropped is one its client sends again by itself. Lives on one core.

use std::rc::Rc;

use pg::{Caller, Request};
use rt::Group;
use store::ObjectId;
use wire::Errno;
use wire::msg::{Op, OpArgs, OpCode, OsdOp, OsdOpReply, Payload};
use wire::msgr2::Data;
use wire::osdmap::{OsdMap, PoolFlags};
use wire::types::UTime;

use crate::answer::{Answer, Room, Served};
use crate::link::Admission;
use crate::osd::Osd;
use crate::placement_group::{Circumstances, PlacementGroup};
use crate::session::Session;
use crate::space;
use crate::tracker::{Description, OPS_SHOWN, Stage, Timeline};

/// What to do with a request by the map in force.
enum Decision {
    /// Nothing: the client sends it again when it has a newer map, or never should have sent it.
    Drop(&'static str),
    /// Tell this.
    Refuse(Errno),
    /// Run it.
    Run(Rc<PlacementGroup>),
}

/// Whether a request's ops have their payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payloads {
    /// They have.
    Whole,
    /// It was too long to be kept.
    Dropped,
}

/// Handles a request. The map in force is at least as new as the client's.
pub fn dispatch(
    osd: &Rc<Osd>,
    session: &Rc<Session>,
    op: OsdOp,
    payloads: Payloads,
    tid: u64,
    admission: Admission,
) {
    osd.counters.requests.set(osd.counters.requests.get() + 1);
    if op.epoch < osd.maps.epoch() {
        session.share_maps(osd, op.epoch);
    }
    let map = osd.maps.current();
    match decide(osd, session, &map, &op) {
        Decision::Drop(reason) => {
            osd.counters.dropped.set(osd.counters.dropped.get() + 1);
            log::debug!("{}: request {tid} on pg {}: {reason}", session.entity(), op.pg);
        }
        Decision::Refuse(errno) => {
            let reply = reply_to(op, Answer::refused(errno), &map);
            send(osd, session, &reply, tid, admission);
        }
        Decision::Run(group) => run(osd, session, group, op, payloads, tid, admission),
    }
}

fn decide(osd: &Osd, session: &Session, map: &OsdMap, op: &OsdOp) -> Decision {
    let pg = op.pg.pg;
    if !osd.is_up() {
        return Decision::Drop("this OSD is not up in the map");
    }
    let Some(pool) = map.pools.get(&pg.pool) else { return Decision::Drop("no such pool") };
    let is_group_request = op.ops.iter().any(|op| op.code.is_pg_op());
    if !is_group_request && pool.pg_of_hash(pg.pool, op.hash) != pg {
        return Decision::Drop("the hash is not in the group");
    }
    let Some(group) = osd.group(pg) else { return Decision::Drop("the group is not here") };
    let Some(since) = group.serving_since() else { return Decision::Drop("the group is not served here") };
    //= ceph 16.2 osd: a client whose request is older than a change of its group sends it again by itself
    if op.epoch < since || op.epoch < pool.last_force_op_resend {
        return Decision::Drop("the group changed since");
    }
    if !map.blocklist.0.is_empty() && map.blocklist.blocks(&session.peer_addrs()) {
        return Decision::Refuse(Errno::EBLOCKLISTED);
    }
    if pool.flags.contains(PoolFlags::EIO) {
        return Decision::Refuse(Errno::EIO);
    }
    // Writing without cloning would change what the pool's snapshots show.
    if !pool.snaps.is_empty() && op.ops.iter().any(pg::may_write) {
        return Decision::Refuse(Errno::EOPNOTSUPP);
    }
    Decision::Run(group)
}

fn run(
    osd: &Rc<Osd>,
    session: &Rc<Session>,
    group: Rc<PlacementGroup>,
    mut op: OsdOp,
    payloads: Payloads,
    tid: u64,
    admission: Admission,
) {
    let request = Request {
        reqid: op.request_id(session.entity(), tid),
        caller: Caller {
            name: session.entity(),
            addr: session.peer_addr(),
            now: UTime::from_nanoseconds(osd.core.wall_clock().0),
        },
        object: object_of(&op),
        snap: op.snap,
        snap_seq: op.snap_seq,
        snaps: std::mem::take(&mut op.snaps),
        flags: op.flags,
        mtime: op.mtime,
        ops: std::mem::take(&mut op.ops),
    };
    let checked = match payloads {
        Payloads::Whole => request.check(),
        Payloads::Dropped => Err(request.refusal_without_payload()),
    };
    if let Err(errno) = checked {
        op.ops = request.ops;
        let reply = reply_to(op, Answer::refused(errno), &osd.maps.current());
        return send(osd, session, &reply, tid, admission);
    }
    let timeline = osd.tracker.start(osd.core.now(), describe(&request, &group));
    let session = session.clone();
    let place = (!request.is_group_request()).then(|| group.enter(&request));
    let (Some(pass), osd) = (osd.enter(), osd.clone()) else { return };
    let core = osd.core.clone();
    let task = async move {
        let map = osd.maps.current();
        let served = match place {
            None => list(&group, &request).await,
            Some(place) => {
                let at = Circumstances {
                    epoch: map.epoch,
                    room: &|| osd.room(group.id().pool),
                    wanted: &|| !session.link.is_closed(),
                    no_space: &|reason| space::refused(&osd, group.id(), reason),
                    timeline: &timeline,
                    fault: &osd.fault,
                };
                group.serve(place, &request, at).await
            }
        };
        op.ops = request.ops;
        finish(&osd, &session, served, op, tid, admission, &timeline);
        drop(pass);
    };
    drop(core.spawn(Group::Client, "request", task));
}

/// Requests on a whole group: listings, one page each.
async fn list(group: &PlacementGroup, request: &Request) -> Result<Served, String> {
    let [op] = request.ops.as_slice() else { return Ok(Served::Answer(Answer::refused(Errno::EINVAL))) };
    let answer = match op.code {
        OpCode::PGNLS => group.list(op, &request.object.namespace).await?,
        OpCode::PGNLS_FILTER => Answer::refused(Errno::EINVAL),
        // What scrubbing found is no inconsistency between copies; `dump_scrubs` tells it.
        OpCode::SCRUBLS => Answer::refused(Errno::ENOENT),
        _ => Answer::refused(Errno::EOPNOTSUPP),
    };
    Ok(Served::Answer(answer))
}

fn finish(
    osd: &Rc<Osd>,
    session: &Session,
    served: Result<Served, String>,
    op: OsdOp,
    tid: u64,
    admission: Admission,
    timeline: &Rc<Timeline>,
) {
    match served {
        Ok(Served::Answer(answer)) => {
            let reply = reply_to(op, answer, &osd.maps.current());
            send(osd, session, &reply, tid, admission);
            timeline.mark(Stage::Answered, osd.core.now());
        }
        Ok(Served::Silence) => {}
        Err(reason) => osd.fail(&reason),
    }
    osd.tracker.finish(timeline, osd.core.now());
}

fn reply_to(op: OsdOp, answer: Answer, map: &OsdMap) -> OsdOpReply {
    let mut reply = OsdOpReply::to_request(&op, answer.result, !answer.early, map.epoch);
    reply.bad_replay_version = answer.versions.bad_replay;
    reply.replay_version = answer.versions.replay;
    reply.user_version = answer.versions.user;
    for ((op, result), output) in reply.ops.iter_mut().zip(&mut reply.results).zip(answer.outputs) {
        *result = output.value;
        let mut data = Data::new();
        let mut sums = output.sums.into_iter();
        for piece in output.data {
            match sums.next().flatten() {
                //= ceph 16.2 crc32c: as the name has it everywhere else, but not inverted at the end
                Some(crc32c) => data.push_with_checksum(piece, !crc32c),
                None => data.push(piece),
            }
        }
        *op = with_output(op, data);
    }
    reply
}

/// The op as replies carry it. //= ceph 16.2 osd: lengths in READ and GETXATTR become those of the output
fn with_output(op: &Op, data: Data) -> Op {
    let length = data.len() as u64;
    let args = match (op.code, op.args()) {
        (OpCode::READ | OpCode::SYNC_READ, OpArgs::Extent { offset, truncate_size, truncate_seq, .. }) => {
            OpArgs::Extent { offset, length, truncate_size, truncate_seq }
        }
        (OpCode::GETXATTR, OpArgs::Xattr { name_length, compare_op, compare_mode, .. }) => OpArgs::Xattr {
            name_length,
            value_length: u32::try_from(length).unwrap_or(u32::MAX),
            compare_op,
            compare_mode,
        },
        _ => return op.reply(data),
    };
    Op::new(op.code, args, data).with_flags(op.flags)
}

fn send(osd: &Osd, session: &Session, reply: &OsdOpReply, tid: u64, admission: Admission) {
    osd.counters.replies.set(osd.counters.replies.get() + 1);
    if session.link.send(reply.to_message(tid), admission).is_err() {
        session.link.close();
    }
}

fn object_of(op: &OsdOp) -> ObjectId {
    let target = op.target();
    ObjectId {
        pool: target.pool,
        hash: target.hash,
        namespace: target.nspace,
        key: target.key,
        name: target.oid,
        snap: ObjectId::HEAD,
    }
}

fn describe(request: &Request, group: &PlacementGroup) -> Description {
    let mut codes = [OpCode(0); OPS_SHOWN];
    codes.iter_mut().zip(&request.ops).for_each(|(code, op)| *code = op.code);
    Description {
        reqid: request.reqid,
        pg: group.id(),
        object: request.object.name.clone(),
        codes,
        ops: request.ops.len(),
        writes: request.may_write(),
    }
}

/// Whether a pool may grow by the map in force.
pub fn pool_room(map: &OsdMap, pool: i64) -> Room {
    match map.pools.get(&pool) {
        Some(pool) if pool.flags.contains(PoolFlags::FULL) => {
            Room::PoolFull { quota: pool.flags.contains(PoolFlags::FULL_QUOTA) }
        }
        _ => Room::Enough,
    }
}
