//! Requests, maps, links that come and go, and OSDs that say anything.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rt::Nanos;
use uuid::Uuid;
use wire::msg::{
    Backoff, CommandReply, Op, OpArgs, OpCode, OsdMapMessage, OsdOp, OsdOpReply, Payload, RequestFlags,
};
use wire::msgr2::Message;
use wire::types::{Epoch, ObjectLocator, UTime};

use super::maps::small_cluster;
use super::{Choices, message};
use crate::link::{LinkId, LinkIds};
use crate::objecter::{Action, Objecter};
use crate::request::{Body, Request, Target};
use crate::time::after;

const STEPS_MAX: usize = 40;
const REQUESTS_MAX: usize = 8;

/// Steps that the input spells out, and what the machine does about them.
pub(super) fn history(input: &[u8]) {
    let mut choices = Choices(input);
    let mut world = World::new();
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        world.step(&mut choices);
        world.act();
    }
    // Whatever came before: with the last map, and time, everything that has an end ends.
    for tid in world.objecter.shut_down() {
        assert!(world.waiting.remove(&tid), "request {tid} was answered before");
    }
    assert!(world.waiting.is_empty(), "{:?} are forgotten", world.waiting);
    world.act();
}

struct World {
    objecter: Objecter,
    now: Nanos,
    /// Steps of the small cluster's maps that the machine knows.
    maps: usize,
    /// Requests without an answer.
    waiting: BTreeSet<u64>,
    requests: usize,
    /// Links there are, to which OSD, and whether the handshake is over.
    links: BTreeMap<LinkId, (i32, bool)>,
    newest_link: LinkId,
    /// The last request for an object that was sent.
    sent: Option<(i32, LinkId, u64, OsdOp)>,
}

impl World {
    fn new() -> Self {
        Self {
            objecter: Objecter::new(LinkIds::default()),
            now: Nanos(1_000_000_000),
            maps: 0,
            waiting: BTreeSet::new(),
            requests: 0,
            links: BTreeMap::new(),
            newest_link: LinkId(0),
            sent: None,
        }
    }

    fn step(&mut self, c: &mut Choices<'_>) {
        match c.byte() % 12 {
            0 | 1 => self.submit(c),
            2 => self.have_map(),
            3 => {
                if let Some((link, osd)) = self.link(c) {
                    self.links.entry(link).and_modify(|found| found.1 = true);
                    self.objecter.connected(osd, link, self.now);
                }
            }
            4 => {
                if let Some((link, osd)) = self.link(c) {
                    self.links.remove(&link);
                    self.objecter.closed(osd, link, self.now);
                }
            }
            // Messages follow the handshake, or come late, from a link that is gone.
            5 => {
                if let Some((link, osd)) = self.link(c)
                    && self.links.get(&link).is_none_or(|(_, is_open)| *is_open)
                {
                    self.objecter.message(osd, link, &any_message(c), self.now);
                }
            }
            6 => self.answer(i32::from(c.byte().cast_signed()), c.byte()),
            7 => self.pass(Duration::from_millis(u64::from(c.byte()) * 200)),
            8 => self.objecter.latest_is(Epoch(u32::from(c.byte() % 6)), self.now),
            9 => {
                if let Some(&tid) = self.waiting.iter().nth(usize::from(c.byte()) % REQUESTS_MAX) {
                    self.waiting.remove(&tid);
                    self.objecter.forget(tid);
                }
            }
            10 => {
                if let Some((link, osd)) = self.link(c) {
                    self.objecter.alive(osd, link, self.now);
                }
            }
            _ => {
                if let Some(deadline) = self.objecter.deadline() {
                    self.now = self.now.max(deadline);
                    self.objecter.tick(self.now);
                    assert!(self.objecter.deadline().is_none_or(|next| next > self.now), "time stands still");
                }
            }
        }
    }

    fn submit(&mut self, c: &mut Choices<'_>) {
        if self.requests >= REQUESTS_MAX {
            return;
        }
        self.requests += 1;
        let (kind, choice) = (c.byte(), c.byte());
        let ops = vec![Op::new(OpCode::WRITE_FULL, OpArgs::extent(0, 1), Bytes::from_static(b"x"))];
        let flags = if kind & 8 == 0 { RequestFlags::WRITE } else { RequestFlags::READ };
        let body = Body::Ops { ops, flags, mtime: UTime::default() };
        let pool = if kind & 16 == 0 { 1 } else { 2 };
        let request = match kind % 4 {
            0 => Request::command(i32::from(choice % 3), Uuid::nil(), "{}".into(), Bytes::new()),
            1 => {
                let target = Target::Group { pool, hash: u32::from(choice), nspace: Bytes::new() };
                Request { target, body }
            }
            _ => {
                let name = Bytes::copy_from_slice(&[choice]);
                Request { target: Target::Object { locator: ObjectLocator::pool(pool), name }, body }
            }
        };
        let limit = (kind & 32 != 0).then(|| Duration::from_secs(u64::from(choice)));
        let tid = self.objecter.submit(Rc::new(request), limit, self.now);
        assert!(self.waiting.insert(tid), "tid {tid} is used again");
    }

    fn have_map(&mut self) {
        if let Some(step) = small_cluster().get(self.maps) {
            self.maps += 1;
            self.objecter.have_map(Arc::new(step.map.clone()), self.now);
        }
    }

    fn link(&self, c: &mut Choices<'_>) -> Option<(LinkId, i32)> {
        let choice = usize::from(c.byte());
        // Now and then a link that is gone: its events may be late.
        let old = LinkId(self.newest_link.0 / 2);
        if choice >= 250 && !self.links.contains_key(&old) {
            return Some((old, 0));
        }
        let number = choice % self.links.len().max(1);
        self.links.iter().nth(number).map(|(link, (osd, _))| (*link, *osd))
    }

    /// A sound answer to the last request that was sent.
    fn answer(&mut self, result: i32, attempt: u8) {
        if let Some((osd, link, tid, op)) = self.sent.take() {
            let mut reply = OsdOpReply::to_request(&op, result, true, Epoch(1));
            if attempt >= 128 {
                reply.attempt = i32::from(attempt) - 129;
            }
            self.objecter.message(osd, link, &reply.to_message(tid), self.now);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = after(self.now, time);
        self.objecter.tick(self.now);
    }

    /// Does what the machine says.
    fn act(&mut self) {
        for action in self.objecter.take_actions() {
            match action {
                Action::Open { osd, link, .. } => {
                    assert!(link > self.newest_link, "{link:?} is used again");
                    self.newest_link = link;
                    assert!(self.links.values().all(|(other, _)| *other != osd), "two links to osd.{osd}");
                    self.links.insert(link, (osd, false));
                }
                Action::Close(link) => assert!(self.links.remove(&link).is_some(), "{link:?} is not there"),
                Action::Send(link, message) => {
                    let found = self.links.get(&link).copied();
                    let Some((osd, true)) = found else { panic!("{link:?} is {found:?}, not open") };
                    if message.header.kind == OsdOp::KIND {
                        match OsdOp::from_message(&message) {
                            Ok(op) => self.sent = Some((osd, link, message.header.tid, op)),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                Action::Keepalive(link) => assert!(self.links.contains_key(&link), "{link:?} is not there"),
                Action::Done { tid, .. } => {
                    assert!(self.waiting.remove(&tid), "request {tid} is answered twice");
                }
                Action::OsdMap(_) | Action::RenewMap | Action::AskLatest => {}
            }
        }
    }
}

fn any_message(c: &mut Choices<'_>) -> Message {
    let (kind, version) = match c.byte() % 5 {
        0 => (OsdOpReply::KIND, OsdOpReply::VERSION),
        1 => (CommandReply::KIND, CommandReply::VERSION),
        2 => (OsdMapMessage::KIND, OsdMapMessage::VERSION),
        3 => (Backoff::KIND, Backoff::VERSION),
        _ => (u16::from(c.byte()), 1),
    };
    let tid = u64::from(c.byte());
    let front = c.bytes();
    message(kind, version, tid, front, c.bytes())
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let backoff = Backoff {
        pg: wire::types::ShardPgId::replicated(wire::types::PgId::new(1, 0)),
        epoch: Epoch(1),
        step: wire::msg::BackoffStep::BLOCK,
        id: 1,
        begin: wire::types::HObject::minimum(),
        end: wire::types::HObject::maximum(),
    };
    let front = backoff.to_message(0).front;
    let length = u8::try_from(front.len()).unwrap_or(u8::MAX);
    // A map, a write, its link, its answer; then all again with a map that sends it elsewhere.
    let simple = vec![2, 0, 2, 65, 3, 0, 6, 0, 0];
    let moved = vec![2, 0, 2, 65, 0, 2, 66, 0, 2, 67, 3, 0, 3, 1, 2, 2, 2, 3, 0, 3, 1, 6, 0, 0, 11, 11, 8, 4];
    let commands = vec![2, 0, 0, 0, 0, 32, 1, 3, 0, 4, 0, 11, 3, 0, 7, 255, 11, 11, 11];
    let held =
        [&[2, 0, 2, 65, 3, 0, 5, 0, 3, 0, length][..], &front, &[0, 0, 2, 66, 0, 2, 67, 6, 0, 0]].concat();
    vec![simple, moved, commands, held]
}
