//! Space, statistics and changes of pools, asked of the monitor.

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;

use crate::codec::{DecodeResult, Reader, Writer};
use crate::msg::{Payload, PoolStat, decode_paxos, encode_paxos, no_data};
use crate::msgr2::{Data, priority};
use crate::types::{Epoch, PoolId, SnapId};

/// STATFS: how much space is there?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatFs {
    /// Version of the statistics that the client has seen.
    pub version: u64,
    /// Cluster.
    pub fsid: Uuid,
    /// Only what this pool can use.
    pub pool: Option<PoolId>,
}

impl Payload for StatFs {
    const KIND: u16 = 13;
    const VERSION: u16 = 2;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "STATFS";

    fn encode(&self, front: &mut Writer) -> Data {
        encode_paxos(front, self.version);
        front.put(&self.fsid);
        front.opt(self.pool.as_ref());
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { version: decode_paxos(front)?, fsid: front.get()?, pool: front.opt()? })
    }
}

/// STATFS_REPLY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatFsReply {
    /// Cluster.
    pub fsid: Uuid,
    /// Version of the statistics.
    pub version: u64,
    /// KiB in all stores.
    pub total_kb: u64,
    /// KiB used, copies included.
    pub used_kb: u64,
    /// KiB free.
    pub available_kb: u64,
    /// Objects.
    pub objects: u64,
}

impl Payload for StatFsReply {
    const KIND: u16 = 14;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "STATFS_REPLY";

    fn encode(&self, front: &mut Writer) -> Data {
        front.put(&self.fsid);
        front.u64(self.version);
        front.u64(self.total_kb);
        front.u64(self.used_kb);
        front.u64(self.available_kb);
        front.u64(self.objects);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self {
            fsid: front.get()?,
            version: front.u64()?,
            total_kb: front.u64()?,
            used_kb: front.u64()?,
            available_kb: front.u64()?,
            objects: front.u64()?,
        })
    }
}

/// GETPOOLSTATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetPoolStats {
    /// Version of the statistics that the client has seen.
    pub version: u64,
    /// Cluster.
    pub fsid: Uuid,
    /// Names of the pools.
    pub pools: Vec<String>,
}

impl Payload for GetPoolStats {
    const KIND: u16 = 58;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "GETPOOLSTATS";

    fn encode(&self, front: &mut Writer) -> Data {
        encode_paxos(front, self.version);
        front.put(&self.fsid);
        front.list(&self.pools);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { version: decode_paxos(front)?, fsid: front.get()?, pools: front.list()? })
    }
}

/// GETPOOLSTATS_REPLY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetPoolStatsReply {
    /// Version of the statistics.
    pub version: u64,
    /// Cluster.
    pub fsid: Uuid,
    /// By name; unknown pools are left out.
    pub pools: BTreeMap<String, PoolStat>,
    /// Whether the stores count space per pool.
    pub per_pool: bool,
}

impl Payload for GetPoolStatsReply {
    const KIND: u16 = 59;
    const VERSION: u16 = 2;
    const COMPAT: u16 = 1;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "GETPOOLSTATS_REPLY";

    fn encode(&self, front: &mut Writer) -> Data {
        encode_paxos(front, self.version);
        front.put(&self.fsid);
        front.map(&self.pools);
        front.bool(self.per_pool);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self {
            version: decode_paxos(front)?,
            fsid: front.get()?,
            pools: front.map()?,
            per_pool: front.bool()?,
        })
    }
}

/// What a [`PoolOp`] changes. Others are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolOpKind(pub u32);

impl PoolOpKind {
    /// Makes the pool `name`.
    pub const CREATE: Self = Self(1);
    /// Deletes the pool.
    pub const DELETE: Self = Self(2);
    /// Obsolete.
    pub const CHANGE_AUID: Self = Self(3);
    /// Makes the pool snapshot `name`.
    pub const CREATE_SNAP: Self = Self(0x11);
    /// Deletes the pool snapshot `name`.
    pub const DELETE_SNAP: Self = Self(0x12);
    /// Gives out a snapshot id.
    pub const CREATE_UNMANAGED_SNAP: Self = Self(0x21);
    /// Takes it back.
    pub const DELETE_UNMANAGED_SNAP: Self = Self(0x22);
}

/// POOLOP: a change of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOp {
    /// Version of the osdmap that the client has seen.
    pub version: u64,
    /// Cluster.
    pub fsid: Uuid,
    /// Pool.
    pub pool: u32,
    /// The change.
    pub op: PoolOpKind,
    /// For [`PoolOpKind::DELETE_UNMANAGED_SNAP`].
    pub snap: SnapId,
    /// Of a pool or snapshot.
    pub name: String,
    /// Rule of a new pool; −1 for the default.
    pub crush_rule: i16,
}

impl Payload for PoolOp {
    const KIND: u16 = 49;
    const VERSION: u16 = 4;
    const COMPAT: u16 = 2;
    const NAME: &'static str = "POOLOP";

    fn encode(&self, front: &mut Writer) -> Data {
        encode_paxos(front, self.version);
        front.put(&self.fsid);
        front.u32(self.pool);
        front.u32(self.op.0);
        front.u64(0);
        front.put(&self.snap);
        front.str(&self.name);
        front.u8(0);
        front.s16(self.crush_rule);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        let version = decode_paxos(front)?;
        let fsid = front.get()?;
        let pool = front.u32()?;
        let op = PoolOpKind(front.u32()?);
        front.skip(8)?;
        let snap = front.get()?;
        let name = front.str()?;
        front.skip(1)?;
        Ok(Self { version, fsid, pool, op, snap, name, crush_rule: front.s16()? })
    }
}

/// POOLOP_REPLY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOpReply {
    /// Version of the osdmap.
    pub version: u64,
    /// Cluster.
    pub fsid: Uuid,
    /// 0 or a negative errno.
    pub result: i32,
    /// The client waits for this map before it goes on.
    pub epoch: Epoch,
    /// The new snapshot's id, 8 bytes, for [`PoolOpKind::CREATE_UNMANAGED_SNAP`].
    pub output: Option<Bytes>,
}

impl Payload for PoolOpReply {
    const KIND: u16 = 48;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "POOLOP_REPLY";

    fn encode(&self, front: &mut Writer) -> Data {
        encode_paxos(front, self.version);
        front.put(&self.fsid);
        front.s32(self.result);
        front.put(&self.epoch);
        front.opt(self.output.as_ref());
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self {
            version: decode_paxos(front)?,
            fsid: front.get()?,
            result: front.s32()?,
            epoch: front.get()?,
            output: front.opt()?,
        })
    }
}
