//! Epochs, versions, placement groups and request ids.

use std::fmt;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::types::EntityName;

/// Version of a cluster map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The epoch after this one. Panics at 2³²−1, which no cluster reaches.
    pub fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(next) => Self(next),
            None => panic!("invariant: epochs stay below 2^32"),
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Wire for Epoch {
    const BYTES_MIN: usize = 4;
    fn encode(&self, w: &mut Writer) {
        w.u32(self.0);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.u32().map(Self)
    }
}

/// Number of a pool; −1 for none, −2⁶³ in the extreme objects.
pub type PoolId = i64;

/// `eversion`: a placement group's version, ordered by epoch first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EVersion {
    /// Epoch of the map in which it was given.
    pub epoch: Epoch,
    /// Counts the group's changes.
    pub version: u64,
}

impl EVersion {
    /// A version.
    pub fn new(epoch: Epoch, version: u64) -> Self {
        Self { epoch, version }
    }
}

impl fmt::Display for EVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}'{}", self.epoch, self.version)
    }
}

/// On the wire the version comes first.
impl Wire for EVersion {
    const BYTES_MIN: usize = 12;
    fn encode(&self, w: &mut Writer) {
        w.u64(self.version);
        w.put(&self.epoch);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        let version = r.u64()?;
        Ok(Self { epoch: r.get()?, version })
    }
}

/// `pg`: a placement group of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PgId {
    /// Pool.
    pub pool: PoolId,
    /// Placement seed; below the pool's pg_num when folded.
    pub seed: u32,
}

impl PgId {
    /// A placement group.
    pub fn new(pool: PoolId, seed: u32) -> Self {
        Self { pool, seed }
    }
}

impl fmt::Display for PgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.pool, self.seed)
    }
}

impl Wire for PgId {
    const BYTES_MIN: usize = 17;
    fn encode(&self, w: &mut Writer) {
        w.u8(1);
        w.s64(self.pool);
        w.u32(self.seed);
        w.s32(-1);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.within("pg", |r| {
            let version = r.u8()?;
            if version == 0 {
                return Err(r.error("version 1 or newer", "0"));
            }
            let pg = Self { pool: r.s64()?, seed: r.u32()? };
            // The preferred OSD of ancient releases; always −1 now and never looked at.
            r.skip(4)?;
            Ok(pg)
        })
    }
}

/// `spg`: a placement group and, in erasure-coded pools, the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardPgId {
    /// Placement group.
    pub pg: PgId,
    /// Shard; −1 in replicated pools.
    pub shard: i8,
}

impl ShardPgId {
    /// The only shard of a replicated pool's placement group.
    pub fn replicated(pg: PgId) -> Self {
        Self { pg, shard: -1 }
    }
}

impl fmt::Display for ShardPgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pg.fmt(f)?;
        if self.shard >= 0 { write!(f, "s{}", self.shard) } else { Ok(()) }
    }
}

impl Wire for ShardPgId {
    const BYTES_MIN: usize = 24;
    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.pg);
            w.s8(self.shard);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("spg", 1, |r, _| Ok(Self { pg: r.get()?, shard: r.s8()? }))
    }
}

/// `reqid`: a client request, the same at every resend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RequestId {
    /// The client.
    pub name: EntityName,
    /// Incarnation of the client; 0 today.
    pub incarnation: i32,
    /// The client's transaction id.
    pub tid: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}:{}", self.name, self.incarnation, self.tid)
    }
}

impl Wire for RequestId {
    const BYTES_MIN: usize = 27;
    fn encode(&self, w: &mut Writer) {
        w.env(2, 2, |w| {
            w.put(&self.name);
            w.u64(self.tid);
            w.s32(self.incarnation);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("reqid", 2, |r, _| {
            let name = r.get()?;
            let tid = r.u64()?;
            Ok(Self { name, incarnation: r.s32()?, tid })
        })
    }
}
