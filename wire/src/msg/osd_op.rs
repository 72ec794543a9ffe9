//! OSD_OP: a client's request to an OSD.

use bytes::Bytes;

use crate::codec::{DecodeResult, Reader, Writer};
use crate::msg::op::{decode_ops, decode_without_data};
use crate::msg::{MessageError, Op, Payload, read};
use crate::msgr2::{Data, Message, priority};
use crate::types::{
    EntityName, Epoch, Features, HObject, ObjectLocator, RequestId, ShardPgId, SnapId, UTime,
};

/// Three numbers of a tracing system that nobody here uses.
pub(super) const TRACE_BYTES: usize = 24;

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
    pub fn request_id(&self, client: EntityName, tid: u64) -> RequestId {
        if self.id.name.number == 0 && self.id.tid == 0 {
            let incarnation = i32::try_from(self.client_incarnation).unwrap_or_default();
            return RequestId { name: client, incarnation, tid };
        }
        self.id
    }

    /// Understands a request whose data, of `data_bytes`, was dropped: its operations come without payload.
    pub fn without_data(message: &Message, data_bytes: usize) -> Result<Self, MessageError> {
        read(message, |r| {
            Self::decode_with(r, |r, count| {
                let ops = decode_without_data(r, count, data_bytes)?;
                Ok(ops.into_iter().map(|(op, _)| op).collect())
            })
        })
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
        Self::decode_with(r, |r, count| decode_ops(r, count, data))
    }
}

impl OsdOp {
    fn decode_with(
        r: &mut Reader,
        ops: impl FnOnce(&mut Reader, usize) -> DecodeResult<Vec<Op>>,
    ) -> DecodeResult<Self> {
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
        let ops = ops(r, count)?;
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
