//! A placement group on a memory store, for tests: requests in, replies out.

#![allow(dead_code, reason = "each test program uses a part")]

use std::rc::Rc;

use bytes::Bytes;
use futures_util::FutureExt;
use pg::{Caller, Execution, Group, ObjectView, ReplyVersions, Request, execute, hash_bits, load_state};
use store::{MemStore, ObjectId, ObjectStore};
use wire::codec::Writer;
use wire::msg::{Op, OpArgs, OpCode, RequestFlags};
use wire::types::{Addr, EntityName, Epoch, PgId, RequestId, SnapId, UTime};

/// The epoch of all requests.
pub const EPOCH: Epoch = Epoch(27);

/// The group and its store.
pub struct World {
    pub store: Rc<MemStore>,
    pub group: Group,
    tid: u64,
}

/// A reply as the client sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub result: i32,
    pub values: Vec<i32>,
    pub data: Vec<Vec<u8>>,
    pub versions: ReplyVersions,
}

impl World {
    pub fn new() -> Self {
        Self::of(MemStore::new(1 << 30), PgId::new(1, 0), hash_bits(0, 1))
    }

    pub fn of(store: MemStore, pg: PgId, bits: u8) -> Self {
        let store = Rc::new(store);
        let (group, transaction) = Group::create(pg, bits, EPOCH);
        store.apply(&transaction).expect("a new collection");
        Self { store, group, tid: 0 }
    }

    /// The same group after a restart.
    pub fn restart(self) -> Self {
        let collection = self.group.collection();
        let store = Rc::new(self.store.reopen());
        let all = now(store.collections()).expect("collections");
        let meta = all.into_iter().find(|one| one.0 == collection).expect("the group's").2;
        let log = now(store.log(collection)).expect("the log");
        let group = Group::open(self.group.id(), meta, log).expect("what was written");
        Self { store, group, tid: self.tid }
    }

    /// A request with a fresh id.
    pub fn request(&mut self, name: &str, ops: &[Op]) -> Request {
        self.tid += 1;
        Request {
            reqid: RequestId { name: EntityName::client(4100), incarnation: 0, tid: self.tid },
            caller: caller(4100),
            object: object(name),
            snap: SnapId::HEAD,
            snap_seq: SnapId(0),
            snaps: Vec::new(),
            flags: RequestFlags::default(),
            mtime: UTime { seconds: 1000, nanoseconds: 5 },
            ops: ops.to_vec(),
        }
    }

    /// Runs ops on an object.
    pub fn run(&mut self, name: &str, ops: &[Op]) -> Reply {
        let request = self.request(name, ops);
        self.serve(&request)
    }

    /// Runs a request as the daemon does.
    pub fn serve(&mut self, request: &Request) -> Reply {
        let early = |result| Reply {
            result,
            values: vec![0; request.ops.len()],
            data: vec![Vec::new(); request.ops.len()],
            versions: ReplyVersions::default(),
        };
        if let Err(errno) = request.check() {
            return early(errno.code());
        }
        let collection = self.group.collection();
        let store: Rc<dyn ObjectStore> = self.store.clone();
        let before = now(load_state(&*store, collection, &request.object)).expect("a readable object");
        if before.is_none() && !request.may_write() {
            return early(wire::Errno::ENOENT.code());
        }
        let view = ObjectView::new(store, collection, request.object.clone(), before);
        let mut execution = now(execute(request, view)).expect("a store that is up");
        let versions = match self.group.seal(EPOCH, request, &mut execution, before) {
            Some(sealed) => {
                self.store.apply(&sealed.transaction).expect("a transaction the store takes");
                let after = now(load_state(&*self.store, collection, &request.object)).expect("readable");
                assert_eq!(after, sealed.after, "the state foretold is the state stored");
                sealed.versions
            }
            None => self.group.versions_of_read(execution.result, before.as_ref()),
        };
        reply(execution, versions)
    }
}

fn reply(execution: Execution, versions: ReplyVersions) -> Reply {
    Reply {
        result: execution.result,
        values: execution.outputs.iter().map(|output| output.value).collect(),
        data: execution.outputs.iter().map(|output| output.data.concat()).collect(),
        versions,
    }
}

/// Client `id`, at second 1000.
pub fn caller(id: i64) -> Caller {
    Caller {
        name: EntityName::client(id),
        addr: Addr::any("127.0.0.1:0".parse().expect("an address"), 77),
        now: UTime { seconds: 1000, nanoseconds: 0 },
    }
}

/// Futures on the memory store are ready at once.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the memory store never waits")
}

/// An object of the group.
pub fn object(name: &str) -> ObjectId {
    ObjectId {
        pool: 1,
        hash: 7,
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::copy_from_slice(name.as_bytes()),
        snap: ObjectId::HEAD,
    }
}

/// An op without arguments.
pub fn op(code: OpCode) -> Op {
    Op::new(code, OpArgs::NONE, Bytes::new())
}

/// An op with arguments of its own kind.
pub fn args(code: OpCode, args: OpArgs) -> Op {
    Op::new(code, args, Bytes::new())
}

/// An op on a range.
pub fn extent(code: OpCode, offset: u64, length: u64) -> Op {
    Op::new(code, OpArgs::extent(offset, length), Bytes::new())
}

/// The same, of a client that knows of a truncation.
pub fn truncated(op: Op, seq: u32, size: u64) -> Op {
    let OpArgs::Extent { offset, length, .. } = op.args() else { panic!("{op:?} has no range") };
    let args = OpArgs::Extent { offset, length, truncate_size: size, truncate_seq: seq };
    Op::new(op.code, args, op.data)
}

/// An op with a payload.
pub fn with(op: Op, input: &[u8]) -> Op {
    op.reply(Bytes::copy_from_slice(input))
}

/// WRITE and its like.
pub fn write(code: OpCode, offset: u64, data: &[u8]) -> Op {
    with(extent(code, offset, data.len() as u64), data)
}

/// An attribute op.
pub fn attr(code: OpCode, name: &str, value: &[u8], (compare_op, compare_mode): (u8, u8)) -> Op {
    let [name_length, value_length] = [name.len(), value.len()].map(|length| length as u32);
    let args = OpArgs::Xattr { name_length, value_length, compare_op, compare_mode };
    Op::new(code, args, Bytes::from([name.as_bytes(), value].concat()))
}

/// CALL.
pub fn class_call(class: &str, method: &str, input: &[u8]) -> Op {
    let args = OpArgs::Call {
        class_length: class.len() as u8,
        method_length: method.len() as u8,
        argument_count: 0,
        input_length: input.len() as u32,
    };
    Op::new(OpCode::CALL, args, Bytes::from([class.as_bytes(), method.as_bytes(), input].concat()))
}

/// An op with an encoded payload.
pub fn encoded(code: OpCode, write: impl FnOnce(&mut Writer)) -> Op {
    let mut w = Writer::new();
    write(&mut w);
    with(op(code), &w.finish())
}

/// Encodes.
pub fn bytes(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new();
    write(&mut w);
    w.finish().to_vec()
}

/// A map of byte strings.
pub fn map(w: &mut Writer, entries: &[(&str, &str)]) {
    w.count(entries.len());
    for (key, value) in entries {
        w.blob(key.as_bytes());
        w.blob(value.as_bytes());
    }
}

/// A list of byte strings.
pub fn names(w: &mut Writer, names: &[&str]) {
    w.count(names.len());
    for name in names {
        w.blob(name.as_bytes());
    }
}
