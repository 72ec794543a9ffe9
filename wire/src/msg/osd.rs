//! Messages between clients and OSDs.

use bytes::Bytes;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::msg::op::{OP_BYTES, decode_ops};
use crate::msg::{Op, OpArgs, OpCode, Payload, no_data};
use crate::msgr2::{Data, priority};
use crate::types::{
    EVersion, Epoch, Features, HObject, ObjectLocator, PgId, RequestId, ShardPgId, SnapId, UTime,
};

/// Three numbers of a tracing system that nobody here uses.
const TRACE_BYTES: usize = 24;

/// Flags of a request, and of its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RequestFlags(pub u32);

impl RequestFlags {
    /// Wants an answer; in replies always.
    pub const ACK: Self = Self(0x1);
    /// Obsolete.
    pub const ON_NVRAM: Self = Self(0x2);
    /// Wants an answer when durable; in replies always.
    pub const ON_DISK: Self = Self(0x4);
    /// Sent before.
    pub const RETRY: Self = Self(0x8);
    /// May read.
    pub const READ: Self = Self(0x10);
    /// May write.
    pub const WRITE: Self = Self(0x20);
    /// Refuse an old snapshot context.
    pub const ORDER_SNAP: Self = Self(0x40);
    /// A replica may serve the read.
    pub const BALANCE_READS: Self = Self(0x100);
    /// Refused.
    pub const PARALLEL_EXEC: Self = Self(0x200);
    /// Addressed to a placement group.
    pub const PG_OP: Self = Self(0x400);
    /// Contains a CALL.
    pub const EXEC: Self = Self(0x800);
    /// A near replica may serve the read.
    pub const LOCALIZE_READS: Self = Self(0x2000);
    /// Keep reads in order with writes.
    pub const RW_ORDERED: Self = Self(0x4000);
    /// The snapshot id names a clone.
    pub const MAP_SNAP_CLONE: Self = Self(0x8_0000);
    /// Use this snapshot context even in a pool with pool snapshots.
    pub const ENFORCE_SNAP_CONTEXT: Self = Self(0x10_0000);
    /// Execute although full, fail if it would grow.
    pub const FULL_TRY: Self = Self(0x80_0000);
    /// Execute although full.
    pub const FULL_FORCE: Self = Self(0x100_0000);
    /// Return the outputs of a write.
    pub const RETURN_VECTOR: Self = Self(0x400_0000);

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Both.
    #[must_use]
    pub fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }
}

/// OSD_OP: operations on one object, or on one placement group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsdOp {
    /// Where the client believes it belongs; the seed is folded.
    pub pg: ShardPgId,
    /// Full placement hash.
    pub hash: u32,
    /// The client's map.
    pub epoch: Epoch,
    /// Flags.
    pub flags: RequestFlags,
    /// All zero from clients: see [`OsdOp::request_id`].
    pub id: RequestId,
    /// Incarnation of the client; 0.
    pub client_incarnation: u32,
    /// Modification time to give to what is written.
    pub mtime: UTime,
    /// Pool, key, namespace.
    pub locator: ObjectLocator,
    /// Name; empty for a placement group.
    pub object: Bytes,
    /// The operations.
    pub ops: Vec<Op>,
    /// Head, or the snapshot to read.
    pub snap: SnapId,
    /// Newest snapshot that a write knows of.
    pub snap_seq: SnapId,
    /// Snapshots that a write knows of, descending.
    pub snaps: Vec<SnapId>,
    /// How often it was sent before.
    pub attempt: i32,
    /// The client's features.
    pub features: Features,
}

impl OsdOp {
    /// The id under which duplicates are recognized: the message's own, or made from the client's name and
    /// the header's transaction id.
    pub fn request_id(&self, client: crate::types::EntityName, tid: u64) -> RequestId {
        if self.id.name.number == 0 && self.id.tid == 0 {
            let incarnation = i32::try_from(self.client_incarnation).unwrap_or_default();
            return RequestId { name: client, incarnation, tid };
        }
        self.id
    }

    /// The object or, for operations on a placement group, an object without name.
    pub fn target(&self) -> HObject {
        HObject {
            key: if self.locator.key == self.object { Bytes::new() } else { self.locator.key.clone() },
            oid: self.object.clone(),
            snap: self.snap,
            hash: self.hash,
            max: false,
            nspace: self.locator.nspace.clone(),
            pool: self.pg.pg.pool,
        }
    }
}

impl Payload for OsdOp {
    const KIND: u16 = 42;
    const VERSION: u16 = 8;
    const COMPAT: u16 = 3;
    const PRIORITY: u16 = priority::OSD_OP;
    const NAME: &'static str = "OSD_OP";

    fn encode(&self, w: &mut Writer) -> Data {
        w.put(&self.pg);
        w.u32(self.hash);
        w.put(&self.epoch);
        w.u32(self.flags.0);
        w.put(&self.id);
        w.zeros(TRACE_BYTES);
        w.u32(self.client_incarnation);
        w.put(&self.mtime);
        w.put(&self.locator);
        w.blob(&self.object);
        match u16::try_from(self.ops.len()) {
            Ok(count) => w.u16(count),
            Err(_) => panic!("invariant: a request has fewer than 65536 operations"),
        }
        let mut data = Data::new();
        for op in &self.ops {
            op.encode(w);
            data.append_data(&op.data);
        }
        w.put(&self.snap);
        w.put(&self.snap_seq);
        w.list(&self.snaps);
        w.s32(self.attempt);
        w.put(&self.features);
        data
    }

    fn decode(r: &mut Reader, data: Data) -> DecodeResult<Self> {
        let pg = r.get()?;
        let hash = r.u32()?;
        let epoch = r.get()?;
        let flags = RequestFlags(r.u32()?);
        let id = r.get()?;
        r.skip(TRACE_BYTES)?;
        let client_incarnation = r.u32()?;
        let mtime = r.get()?;
        let locator = r.get()?;
        let object = r.name()?;
        let count = usize::from(r.u16()?);
        let ops = decode_ops(r, count, data)?;
        Ok(Self {
            pg,
            hash,
            epoch,
            flags,
            id,
            client_incarnation,
            mtime,
            locator,
            object,
            ops,
            snap: r.get()?,
            snap_seq: r.get()?,
            snaps: r.list()?,
            attempt: r.s32()?,
            features: r.get()?,
        })
    }
}

/// Where a client is sent to instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Pool, key, namespace.
    pub locator: ObjectLocator,
    /// Name; empty for the same.
    pub object: Bytes,
}

/// OSD_OPREPLY, with the request's transaction id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsdOpReply {
    /// Name.
    pub object: Bytes,
    /// Placement group.
    pub pg: PgId,
    /// Flags: the request's, and what kind of answer it is.
    pub flags: u64,
    /// 0, a positive result of the last operation, or a negative errno.
    pub result: i32,
    /// Epoch of `replay_version`, and `user_version`.
    pub bad_replay_version: EVersion,
    /// The OSD's map.
    pub epoch: Epoch,
    /// The request's operations with their outputs.
    pub ops: Vec<Op>,
    /// Copied from the request.
    pub attempt: i32,
    /// Result of each operation; as many as `ops`.
    pub results: Vec<i32>,
    /// The placement group's version given to a write; zero for reads.
    pub replay_version: EVersion,
    /// The object's version.
    pub user_version: u64,
    /// Cache tiering.
    pub redirect: Option<Redirect>,
}

impl OsdOpReply {
    /// An answer to `request` with `result`, its operations without output and results of 0. `executed` is
    /// false for errors found before execution.
    pub fn to_request(request: &OsdOp, result: i32, executed: bool, epoch: Epoch) -> Self {
        //= ceph 16.2 MOSDOpReply: flags are the request's without bits 0-2, plus ONDISK, plus ACK when executed
        let mut flags = u64::from(request.flags.0 & !7 | RequestFlags::ON_DISK.0);
        if executed {
            flags |= u64::from(RequestFlags::ACK.0);
        }
        Self {
            object: request.object.clone(),
            pg: request.pg.pg,
            flags,
            result,
            bad_replay_version: EVersion::default(),
            epoch,
            ops: request.ops.iter().map(|op| op.reply(Data::new())).collect(),
            attempt: request.attempt,
            results: vec![0; request.ops.len()],
            replay_version: EVersion::default(),
            user_version: 0,
            redirect: None,
        }
    }

    /// Sets both versions, and the old field that repeats them.
    pub fn set_versions(&mut self, replay_version: EVersion, user_version: u64) {
        self.replay_version = replay_version;
        self.user_version = user_version;
        self.bad_replay_version = EVersion::new(replay_version.epoch, user_version);
    }
}

impl Payload for OsdOpReply {
    const KIND: u16 = 43;
    const VERSION: u16 = 8;
    const COMPAT: u16 = 2;
    const NAME: &'static str = "OSD_OPREPLY";

    fn encode(&self, w: &mut Writer) -> Data {
        assert_eq!(self.ops.len(), self.results.len(), "invariant: each operation has a result");
        w.blob(&self.object);
        w.put(&self.pg);
        w.u64(self.flags);
        w.s32(self.result);
        w.put(&self.bad_replay_version);
        w.put(&self.epoch);
        w.count(self.ops.len());
        let mut data = Data::new();
        for op in &self.ops {
            op.encode(w);
            data.append_data(&op.data);
        }
        w.s32(self.attempt);
        for result in &self.results {
            w.s32(*result);
        }
        w.put(&self.replay_version);
        w.u64(self.user_version);
        w.bool(self.redirect.is_some());
        if let Some(redirect) = &self.redirect {
            w.put(redirect);
        }
        w.zeros(TRACE_BYTES);
        data
    }

    fn decode(r: &mut Reader, data: Data) -> DecodeResult<Self> {
        let object = r.name()?;
        let pg = r.get()?;
        let flags = r.u64()?;
        let result = r.s32()?;
        let bad_replay_version = r.get()?;
        let epoch = r.get()?;
        let count = r.count(OP_BYTES)?;
        let ops = decode_ops(r, count, data)?;
        let attempt = r.s32()?;
        let results = ops.iter().map(|_| r.s32()).collect::<DecodeResult<_>>()?;
        let replay_version = r.get()?;
        let user_version = r.u64()?;
        let redirect = if r.bool()? { Some(r.get()?) } else { None };
        r.skip(TRACE_BYTES)?;
        Ok(Self {
            object,
            pg,
            flags,
            result,
            bad_replay_version,
            epoch,
            ops,
            attempt,
            results,
            replay_version,
            user_version,
            redirect,
        })
    }

    //= ceph 16.2 MOSDOpReply: data_off is the low half of the read offset, for aligning the client's buffer
    fn data_offset(&self) -> u16 {
        let read = self.ops.iter().find(|op| matches!(op.code, OpCode::READ | OpCode::SYNC_READ));
        match read.map(Op::args) {
            Some(OpArgs::Extent { offset, .. }) => u16::try_from(offset & 0xffff).unwrap_or_default(),
            _ => 0,
        }
    }
}

impl Wire for Redirect {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.locator);
            w.blob(&self.object);
            w.u32(0);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("redirect", 1, |r, _| {
            let locator = r.get()?;
            let object = r.name()?;
            // Instructions that were never given.
            let length = r.count(1)?;
            r.skip(length)?;
            Ok(Self { locator, object })
        })
    }
}

/// Step of a back-off. Others are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffStep(pub u8);

impl BackoffStep {
    /// OSD: hold operations in this range.
    pub const BLOCK: Self = Self(1);
    /// Client: they are held.
    pub const ACK_BLOCK: Self = Self(2);
    /// OSD: go on.
    pub const UNBLOCK: Self = Self(3);
}

/// OSD_BACKOFF: a range of a placement group cannot be served now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// Placement group.
    pub pg: ShardPgId,
    /// Sender's map.
    pub epoch: Epoch,
    /// Which step.
    pub step: BackoffStep,
    /// Number of the back-off.
    pub id: u64,
    /// First object held.
    pub begin: HObject,
    /// First object not held; `begin` when only that one is.
    pub end: HObject,
}

impl Payload for Backoff {
    const KIND: u16 = 61;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "OSD_BACKOFF";

    fn encode(&self, w: &mut Writer) -> Data {
        w.put(&self.pg);
        w.put(&self.epoch);
        w.u8(self.step.0);
        w.u64(self.id);
        w.put(&self.begin);
        w.put(&self.end);
        Data::new()
    }
    fn decode(r: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(r, &data)?;
        Ok(Self {
            pg: r.get()?,
            epoch: r.get()?,
            step: BackoffStep(r.u8()?),
            id: r.u64()?,
            begin: r.get()?,
            end: r.get()?,
        })
    }
}

/// What happened to a watch or notification. Others are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchEvent(pub u8);

impl WatchEvent {
    /// To a watcher: somebody notified.
    pub const NOTIFY: Self = Self(1);
    /// To the notifier: all watchers answered, or time is up.
    pub const NOTIFY_COMPLETE: Self = Self(2);
    /// To a watcher: the watch is gone.
    pub const DISCONNECT: Self = Self(3);
}

/// WATCH_NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchNotify {
    /// What happened.
    pub event: WatchEvent,
    /// The receiver's number of its watch or notification.
    pub cookie: u64,
    /// Version of the object.
    pub version: u64,
    /// The OSD's number of the notification.
    pub notify_id: u64,
    /// What the notifier sent.
    pub payload: Bytes,
    /// For a completion: 0, or a negative errno when a watcher missed it.
    pub result: i32,
    /// Global id of the notifier.
    pub notifier: u64,
    /// For a completion: the answers.
    pub replies: Data,
}

impl Payload for WatchNotify {
    const KIND: u16 = 44;
    const VERSION: u16 = 3;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "WATCH_NOTIFY";

    fn encode(&self, w: &mut Writer) -> Data {
        w.u8(1);
        w.u8(self.event.0);
        w.u64(self.cookie);
        w.u64(self.version);
        w.u64(self.notify_id);
        w.blob(&self.payload);
        w.s32(self.result);
        w.u64(self.notifier);
        self.replies.clone()
    }
    fn decode(r: &mut Reader, data: Data) -> DecodeResult<Self> {
        r.skip(1)?;
        Ok(Self {
            event: WatchEvent(r.u8()?),
            cookie: r.u64()?,
            version: r.u64()?,
            notify_id: r.u64()?,
            payload: r.blob()?,
            result: r.s32()?,
            notifier: r.u64()?,
            replies: data,
        })
    }
}
