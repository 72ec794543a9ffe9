//! The machine alone: what it does about each thing that can come.

use wire::crush::{CrushMap, Location, ReplicatedRule, TYPE_OSD, WEIGHT_ONE};
use wire::msg::{Op, OpArgs, OpCode};
use wire::osdmap::{OsdState, Pool, Step};
use wire::types::UTime;

use super::*;

/// A map with two OSDs and a pool of four groups.
fn map() -> OsdMap {
    let nothing = OsdMap::default();
    let mut draft = nothing.draft_next(UTime::default());
    let mut crush = CrushMap::with_default_root();
    for osd in 0..2u16 {
        let device = format!("d{osd}");
        let location = Location { root: "default".into(), host: "h".into(), device };
        crush.place_osd(osd.into(), WEIGHT_ONE, "ssd", &location).unwrap();
        draft.osds.push(Default::default());
        let entry = draft.osds.last_mut().unwrap();
        entry.state = OsdState::EXISTS | OsdState::UP;
        entry.weight = WEIGHT_ONE;
        entry.client_addrs = Addr::msgr2(([127, 0, 0, 1], 6800 + osd).into(), 1).into();
    }
    let rule =
        ReplicatedRule { name: "r".into(), root: "default".into(), failure_domain: TYPE_OSD, class: None };
    let rule = crush.add_replicated_rule(&rule).unwrap();
    draft.crush = crush.into();
    draft.pools.insert(1, Pool::replicated(4, 1, 1, rule, UTime::default()));
    Step::between(&nothing, draft).map
}

fn next(map: &OsdMap, change: impl FnOnce(&mut OsdMap)) -> OsdMap {
    let mut draft = map.draft_next(UTime::default());
    change(&mut draft);
    Step::between(map, draft).map
}

fn write(name: &'static str) -> Rc<Request> {
    let target = Target::Object { locator: ObjectLocator::pool(1), name: name.into() };
    let ops = vec![Op::new(OpCode::WRITE_FULL, OpArgs::extent(0, 1), bytes::Bytes::from("x"))];
    Rc::new(Request { target, body: Body::Ops { ops, flags: RequestFlags::WRITE, mtime: UTime::default() } })
}

const NOW: Nanos = Nanos(1_000_000_000);

/// Opens sessions as wanted; gives the requests sent, by link, with their tids.
fn settle(objecter: &mut Objecter, now: Nanos) -> Vec<(i32, LinkId, u64, OsdOp)> {
    let mut sent = Vec::new();
    let mut opened = BTreeMap::new();
    loop {
        let actions = objecter.take_actions();
        if actions.is_empty() {
            return sent;
        }
        for action in actions {
            match action {
                Action::Open { osd, link, .. } => {
                    opened.insert(link, osd);
                    objecter.connected(osd, link, now);
                }
                Action::Send(link, message) if message.header.kind == OsdOp::KIND => {
                    let osd = objecter.sessions.iter().find(|(_, session)| session.link() == Some(link));
                    let op = OsdOp::from_message(&message).unwrap();
                    sent.push((*osd.unwrap().0, link, message.header.tid, op));
                }
                _ => {}
            }
        }
    }
}

fn reply(op: &OsdOp, result: i32, tid: u64) -> Message {
    OsdOpReply::to_request(op, result, true, Epoch(1)).to_message(tid)
}

fn done(objecter: &mut Objecter) -> Vec<(u64, Outcome)> {
    let is_done = |action| match action {
        Action::Done { tid, outcome } => Some((tid, outcome)),
        _ => None,
    };
    objecter.take_actions().into_iter().filter_map(is_done).collect()
}

#[test]
fn late_and_foreign_answers_are_passed_over() {
    let mut objecter = Objecter::new(LinkIds::default());
    objecter.have_map(map().into(), NOW);
    let tid = objecter.submit(write("a"), None, NOW);
    let (osd, link, sent_tid, op) = settle(&mut objecter, NOW).remove(0);
    assert_eq!((sent_tid, op.attempt, op.flags.contains(RequestFlags::RETRY)), (tid, 0, false));
    // The connection fails; the request goes again with the same tid.
    objecter.closed(osd, link, NOW);
    let later = after(NOW, Duration::from_secs(1));
    objecter.tick(later);
    let (osd, again, sent_tid, second) = settle(&mut objecter, later).remove(0);
    assert_eq!((sent_tid, second.attempt, second.flags.contains(RequestFlags::RETRY)), (tid, 1, true));
    assert!(again > link);
    // Answers: on the old link, from another OSD, to the first attempt, to another tid.
    objecter.message(osd, link, &reply(&second, 0, tid), later);
    objecter.message(1 - osd, again, &reply(&second, 0, tid), later);
    objecter.message(osd, again, &reply(&op, 0, tid), later);
    objecter.message(osd, again, &reply(&second, 0, tid + 1), later);
    assert_eq!(done(&mut objecter), []);
    objecter.message(osd, again, &reply(&second, -2, tid), later);
    let done = done(&mut objecter);
    assert!(matches!(&done[..], [(t, Outcome::Ops(reply))] if *t == tid && reply.result == -2));
}

#[test]
fn requests_are_sent_again_in_their_order() {
    let mut objecter = Objecter::new(LinkIds::default());
    let tids: Vec<u64> = (0..20).map(|_| objecter.submit(write("same"), None, NOW)).collect();
    assert_eq!(objecter.take_actions(), [], "nothing is done without a map");
    let first = map();
    objecter.have_map(first.clone().into(), NOW);
    let sent = settle(&mut objecter, NOW);
    assert_eq!(sent.iter().map(|(_, _, tid, _)| *tid).collect::<Vec<_>>(), tids);
    let old = sent[0].0;
    // Their OSD is marked down: all go to the other one.
    let second = next(&first, |map| map.osds[usize::try_from(old).unwrap()].state = OsdState::EXISTS);
    objecter.have_map(second.clone().into(), NOW);
    // It is down but in: nobody serves the group.
    assert_eq!(settle(&mut objecter, NOW), []);
    let third = next(&second, |map| map.osds[usize::try_from(old).unwrap()].weight = 0);
    objecter.have_map(third.into(), NOW);
    let sent = settle(&mut objecter, NOW);
    assert_eq!(sent.iter().map(|(_, _, tid, _)| *tid).collect::<Vec<_>>(), tids);
    assert!(sent.iter().all(|(osd, _, _, op)| *osd == 1 - old && op.attempt == 1 && op.epoch == Epoch(3)));
}

#[test]
fn a_map_that_changes_nothing_for_a_request_does_not_repeat_it() {
    let mut objecter = Objecter::new(LinkIds::default());
    let first = map();
    objecter.have_map(first.clone().into(), NOW);
    objecter.submit(write("a"), None, NOW);
    assert_eq!(settle(&mut objecter, NOW).len(), 1);
    let second = next(&first, |map| map.pool_max = 9);
    objecter.have_map(second.clone().into(), NOW);
    assert_eq!(settle(&mut objecter, NOW).len(), 0);
    // A pool that wants everything again gets it, and so does a split one.
    let third = next(&second, |map| map.pools.get_mut(&1).unwrap().last_force_op_resend = Epoch(3));
    objecter.have_map(third.clone().into(), NOW);
    assert_eq!(settle(&mut objecter, NOW).len(), 1);
    let fourth = next(&third, |map| map.pools.get_mut(&1).unwrap().pg_num = 8);
    objecter.have_map(fourth.into(), NOW);
    assert_eq!(settle(&mut objecter, NOW).len(), 1);
}

#[test]
fn an_osd_that_says_nothing_is_asked_then_dropped() {
    let mut objecter = Objecter::new(LinkIds::default());
    objecter.have_map(map().into(), NOW);
    objecter.submit(write("a"), None, NOW);
    settle(&mut objecter, NOW);
    let (mut asked, mut closed, mut renewed) = (0, 0, 0);
    for second in 1..=31 {
        objecter.tick(after(NOW, Duration::from_secs(second)));
        for action in objecter.take_actions() {
            match action {
                Action::Keepalive(_) => asked += 1,
                Action::Close(_) => closed += 1,
                Action::RenewMap => renewed += 1,
                _ => {}
            }
        }
    }
    assert_eq!((asked, closed), (2, 1));
    assert!((15..=25).contains(&renewed), "{renewed}");
}

#[test]
fn requests_end_when_their_time_is_up_or_their_caller_is_gone() {
    let mut objecter = Objecter::new(LinkIds::default());
    let limit = Duration::from_secs(5);
    let tid = objecter.submit(write("a"), Some(limit), NOW);
    let other = objecter.submit(write("b"), Some(limit), NOW);
    objecter.forget(other);
    assert_eq!(objecter.deadline(), Some(after(NOW, limit)));
    objecter.tick(after(NOW, limit));
    let done = done(&mut objecter);
    assert!(matches!(&done[..], [(t, Outcome::Failed(Error::TimedOut { .. }))] if *t == tid));
    assert_eq!(objecter.deadline(), None);
    assert!(objecter.pending.is_empty());
}
