//! The cluster log.

use uuid::Uuid;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::msg::{Payload, decode_paxos, encode_paxos, no_data};
use crate::msgr2::{Data, priority};
use crate::types::{AddrVec, AuthName, EntityName, UTime};

/// How important an entry is. Others are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPriority(pub u16);

impl LogPriority {
    /// For developers.
    pub const DEBUG: Self = Self(0);
    /// Normal.
    pub const INFO: Self = Self(1);
    /// Security.
    pub const SECURITY: Self = Self(2);
    /// Somebody should look.
    pub const WARNING: Self = Self(3);
    /// Somebody must act.
    pub const ERROR: Self = Self(4);
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Who wrote it, by name.
    pub name: AuthName,
    /// Who wrote it, by number.
    pub rank: EntityName,
    /// From where.
    pub addrs: AddrVec,
    /// When.
    pub stamp: UTime,
    /// Number of the entry at its writer.
    pub seq: u64,
    /// How important.
    pub priority: LogPriority,
    /// The line.
    pub text: String,
    /// "cluster" or "audit".
    pub channel: String,
}

impl Wire for LogEntry {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(5, 5, |w| {
            w.put(&self.name);
            w.put(&self.rank);
            w.put(&self.addrs);
            w.put(&self.stamp);
            w.u64(self.seq);
            w.u16(self.priority.0);
            w.str(&self.text);
            w.str(&self.channel);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("log entry", 5, |r, version| {
            if version < 5 {
                return Err(r.error("log entry version 5 or newer", version.to_string()));
            }
            Ok(Self {
                name: r.get()?,
                rank: r.get()?,
                addrs: r.get()?,
                stamp: r.get()?,
                seq: r.u64()?,
                priority: LogPriority(r.u16()?),
                text: r.str()?,
                channel: r.str()?,
            })
        })
    }
}

/// LOG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Version of the log.
    pub version: u64,
    /// Cluster.
    pub fsid: Uuid,
    /// The lines.
    pub entries: Vec<LogEntry>,
}

impl Payload for Log {
    const KIND: u16 = 52;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "LOG";

    fn encode(&self, front: &mut Writer) -> Data {
        encode_paxos(front, self.version);
        front.put(&self.fsid);
        front.list(&self.entries);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { version: decode_paxos(front)?, fsid: front.get()?, entries: front.list()? })
    }
}

/// LOGACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogAck {
    /// Cluster.
    pub fsid: Uuid,
    /// Entries up to here are stored.
    pub last: u64,
    /// Of this channel.
    pub channel: String,
}

impl Payload for LogAck {
    const KIND: u16 = 53;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "LOGACK";

    fn encode(&self, front: &mut Writer) -> Data {
        front.put(&self.fsid);
        front.u64(self.last);
        front.str(&self.channel);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { fsid: front.get()?, last: front.u64()?, channel: front.str()? })
    }
}
