//! A client by hand: one connection to one OSD.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use rt::Core;
use rt::sync::{QueueReceiver, timeout};
use std::time::Duration;
use wire::msg::{
    Body, Command, CommandReply, Op, OpArgs, OpCode, OsdMapMessage, OsdOp, OsdOpReply, Payload, PgListReply,
    RequestFlags, decode_message,
};
use wire::msgr2::auth::Claim;
use wire::msgr2::{Config, Connection, Event, Session};
use wire::osdmap::OsdMap;
use wire::types::{
    Addr, AddrVec, AuthName, EntityKind, Epoch, Features, HObject, ObjectLocator, PgId, RequestId, ShardPgId,
    SnapId, UTime,
};

use super::pump::Pump;
use super::{FSID, Monitor, POOL, within};

/// The client.
pub struct Client {
    core: Core,
    pub pump: Rc<Pump>,
    events: RefCell<QueueReceiver<Event>>,
    pub map: RefCell<OsdMap>,
    /// Maps that the OSD sent.
    pub told: RefCell<Vec<OsdMapMessage>>,
    replies: RefCell<Vec<(u64, OsdOpReply)>>,
    command_replies: RefCell<Vec<(u64, CommandReply)>>,
    next_tid: Cell<u64>,
}

impl Client {
    /// Connects, with the monitor's newest map.
    pub async fn connect(core: &Core, monitor: &Monitor, osd: &AddrVec, id: u64) -> Self {
        let target = *osd.msgr2().expect("a msgr2 address");
        let (pump, mut events) = Self::open(core, &target, id, id as u32 + 1, 1).await;
        loop {
            match within(core, events.recv()).await {
                Some(Event::Connected(_)) => break,
                Some(_) => {}
                None => panic!("the connection closed before it was established"),
            }
        }
        Self {
            core: core.clone(),
            pump,
            events: RefCell::new(events),
            map: RefCell::new(monitor.map()),
            told: RefCell::default(),
            replies: RefCell::default(),
            command_replies: RefCell::default(),
            next_tid: Cell::new(1),
        }
    }

    /// Opens a connection as client `id`.
    pub async fn open(
        core: &Core,
        target: &Addr,
        id: u64,
        nonce: u32,
        global_seq: u64,
    ) -> (Rc<Pump>, QueueReceiver<Event>) {
        let socket = target.socket_addr().expect("an address");
        let stream = within(core, core.connect(socket)).await.expect("a listening OSD");
        let config = Config {
            kind: EntityKind::CLIENT,
            number: id as i64,
            addrs: AddrVec(vec![Addr::any("10.0.0.1:0".parse().expect("an address"), nonce)]),
            nonce,
            supported: Features::PACIFIC,
            required: Features::MSG_ADDR2,
            revision_21: true,
            global_seq,
            peer_socket: stream.peer,
        };
        let name = AuthName { kind: EntityKind::CLIENT, id: "admin".into() };
        let claim = Claim { name, global_id: id };
        let connection = Connection::connect(config, *target, EntityKind::OSD, claim, Session::lossy());
        Pump::start(core, stream, connection)
    }

    /// Continues the numbers of an earlier connection of the same client.
    pub fn start_at(&self, tid: u64) {
        self.next_tid.set(tid);
    }

    /// A request on an object of the test pool.
    pub fn request(&self, object: &str, ops: Vec<Op>) -> OsdOp {
        self.request_in("", object, ops)
    }

    /// A request on an object of a namespace.
    pub fn request_in(&self, nspace: &str, object: &str, ops: Vec<Op>) -> OsdOp {
        let map = self.map.borrow();
        let pool = map.pools.get(&POOL).expect("the pool");
        let hash = pool.hash_object(object.as_bytes(), b"", nspace.as_bytes());
        let writes = ops.iter().any(pg::may_write);
        OsdOp {
            pg: ShardPgId::replicated(pool.pg_of_hash(POOL, hash)),
            hash,
            epoch: map.epoch,
            flags: RequestFlags::ON_DISK.with(if writes { RequestFlags::WRITE } else { RequestFlags::READ }),
            id: RequestId::default(),
            client_incarnation: 0,
            mtime: UTime { seconds: 5, nanoseconds: 6 },
            locator: ObjectLocator {
                nspace: Bytes::copy_from_slice(nspace.as_bytes()),
                ..ObjectLocator::pool(POOL)
            },
            object: Bytes::copy_from_slice(object.as_bytes()),
            ops,
            snap: SnapId::HEAD,
            snap_seq: SnapId(0),
            snaps: Vec::new(),
            attempt: 0,
            features: Features::PACIFIC,
        }
    }

    /// Sends; the tid.
    pub fn send(&self, op: &OsdOp) -> u64 {
        let tid = self.next_tid.get();
        self.next_tid.set(tid + 1);
        self.pump.send(op.to_message(tid));
        tid
    }

    /// Takes in what comes for as long as `limit`.
    pub async fn listen(&self, limit: Duration) {
        let all = async { while self.take_one().await {} };
        let _ = timeout(&self.core, limit, all).await;
    }

    async fn take_one(&self) -> bool {
        let event = self.events.borrow_mut().recv().await;
        let Some(event) = event else { return false };
        if let Event::Message(message) = event {
            match decode_message(&message).expect("OSDs send well formed messages") {
                Body::OsdOpReply(reply) => self.replies.borrow_mut().push((message.header.tid, reply)),
                Body::OsdMapMessage(maps) => self.told.borrow_mut().push(maps),
                Body::CommandReply(reply) => {
                    self.command_replies.borrow_mut().push((message.header.tid, reply));
                }
                other => panic!("an OSD sent {}", other.name()),
            }
        }
        true
    }

    /// The reply to `tid` if it came.
    pub fn reply_to(&self, tid: u64) -> Option<OsdOpReply> {
        let mut replies = self.replies.borrow_mut();
        let at = replies.iter().position(|(of, _)| *of == tid)?;
        Some(replies.remove(at).1)
    }

    /// Waits for the reply to `tid`.
    pub async fn wait(&self, tid: u64) -> OsdOpReply {
        let reply = async {
            loop {
                if let Some(reply) = self.reply_to(tid) {
                    return reply;
                }
                assert!(self.take_one().await, "the connection closed before reply {tid}");
            }
        };
        within(&self.core, reply).await
    }

    /// Asks and waits.
    pub async fn ask(&self, op: &OsdOp) -> OsdOpReply {
        self.wait(self.send(op)).await
    }

    /// Runs ops on an object of the test pool.
    pub async fn run(&self, object: &str, ops: Vec<Op>) -> OsdOpReply {
        self.ask(&self.request(object, ops)).await
    }

    /// Content of an object, or the error.
    pub async fn read(&self, object: &str) -> Result<Vec<u8>, i32> {
        let reply = self.run(object, vec![read()]).await;
        if reply.result < 0 { Err(reply.result) } else { Ok(reply.ops[0].data.to_bytes().to_vec()) }
    }

    /// A listing of one group from a cursor.
    pub fn list_request(&self, seed: u32, cursor: &HObject, count: u64, nspace: &str) -> OsdOp {
        let cursor = wire::codec::encode_to_bytes(cursor);
        let op = Op::new(OpCode::PGNLS, OpArgs::PgList { count, start_epoch: 1 }, cursor);
        let mut request = self.request_in(nspace, "", vec![op]);
        request.pg = ShardPgId::replicated(PgId::new(POOL, seed));
        request.hash = seed;
        request.flags = RequestFlags::READ.with(RequestFlags::PG_OP);
        request
    }

    /// Everything in the test pool, page by page as clients do it.
    pub async fn list(&self, nspace: &str, count: u64) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut cursor = HObject::minimum();
        while !cursor.max {
            let seed = self.map.borrow().pools[&POOL].pg_of_hash(POOL, cursor.hash).seed;
            let reply = self.ask(&self.list_request(seed, &cursor, count, nspace)).await;
            assert!(reply.result >= 0, "listing gave {}", reply.result);
            let page: PgListReply =
                wire::codec::decode_exact("page", reply.ops[0].data.to_bytes()).expect("a page");
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            all.extend(page.objects.iter().map(|one| (text(&one.nspace), text(&one.object))));
            cursor = page.handle;
        }
        all
    }

    /// `ceph tell`.
    pub async fn tell(&self, command: serde_json::Value) -> (i32, String, serde_json::Value) {
        let tid = self.next_tid.get();
        self.next_tid.set(tid + 1);
        let command = Command { fsid: FSID, command: vec![command.to_string()], input: Default::default() };
        self.pump.send(command.to_message(tid));
        let reply = async {
            loop {
                if let Some((_, reply)) = self.command_replies.borrow_mut().pop() {
                    return reply;
                }
                assert!(self.take_one().await, "the connection closed before the command's reply");
            }
        };
        let reply = within(&self.core, reply).await;
        let output = serde_json::from_slice(&reply.output.to_bytes()).unwrap_or_default();
        (reply.result, reply.status, output)
    }

    /// Epoch of the newest map that the OSD told of.
    pub fn told_epoch(&self) -> Option<Epoch> {
        self.told.borrow().iter().map(|message| message.newest).max()
    }
}

/// Reads the whole object.
pub fn read() -> Op {
    Op::new(OpCode::READ, OpArgs::extent(0, 0), Bytes::new())
}

/// An op with data on a range.
pub fn write(code: OpCode, offset: u64, data: &[u8]) -> Op {
    Op::new(code, OpArgs::extent(offset, data.len() as u64), Bytes::copy_from_slice(data))
}

/// An op without arguments.
pub fn op(code: OpCode) -> Op {
    Op::new(code, OpArgs::NONE, Bytes::new())
}
