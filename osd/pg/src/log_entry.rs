//! One entry of a placement group's log: a write, what came of it, and enough to answer it again.

use bytes::Bytes;
use store::ObjectId;
use wire::codec::{DecodeResult, Reader, Writer};
use wire::types::{EVersion, RequestId, UTime};

const VERSION: u8 = 1;

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// The object exists and was changed.
    Modify,
    /// The object was removed.
    Delete,
    /// Nothing changed; kept so that the same request gets the same answer.
    Outcome,
}

/// Result and bytes of one op, for requests that asked for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpReturn {
    /// Its own result.
    pub value: i32,
    /// Its bytes, few.
    pub data: Bytes,
}

/// The entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What was done.
    pub kind: LogKind,
    /// Its version in the group.
    pub version: EVersion,
    /// Version told to the client.
    pub user_version: u64,
    /// Newest user version of the group afterwards.
    pub last_user_version: u64,
    /// Who asked.
    pub reqid: RequestId,
    /// Modification time the client gave.
    pub mtime: UTime,
    /// Result told to the client.
    pub result: i32,
    /// Per-op results, only for requests that asked for them.
    pub returns: Vec<OpReturn>,
    /// The object.
    pub object: ObjectId,
}

impl LogEntry {
    /// As the store keeps it.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(160);
        w.env(VERSION, 1, |w| {
            w.u8(match self.kind {
                LogKind::Modify => 1,
                LogKind::Delete => 2,
                LogKind::Outcome => 3,
            });
            w.put(&self.version);
            w.u64(self.user_version);
            w.u64(self.last_user_version);
            w.put(&self.reqid);
            w.put(&self.mtime);
            w.s32(self.result);
            w.list_with(&self.returns, |w, one| {
                w.s32(one.value);
                w.blob(&one.data);
            });
            w.s64(self.object.pool);
            w.u32(self.object.hash);
            w.blob(&self.object.namespace);
            w.blob(&self.object.key);
            w.blob(&self.object.name);
            w.u64(self.object.snap);
        });
        w.finish()
    }

    /// Reads what [`LogEntry::encode`] wrote.
    pub fn decode(value: Bytes) -> DecodeResult<Self> {
        Reader::new("log entry", value).env("log entry", VERSION, |r, _| {
            let kind = match r.u8()? {
                1 => LogKind::Modify,
                2 => LogKind::Delete,
                3 => LogKind::Outcome,
                other => return Err(r.error("a kind from 1 to 3", other.to_string())),
            };
            Ok(Self {
                kind,
                version: r.get()?,
                user_version: r.u64()?,
                last_user_version: r.u64()?,
                reqid: r.get()?,
                mtime: r.get()?,
                result: r.s32()?,
                returns: r.list_with(8, |r| Ok(OpReturn { value: r.s32()?, data: r.name()? }))?,
                object: ObjectId {
                    pool: r.s64()?,
                    hash: r.u32()?,
                    namespace: r.name()?,
                    key: r.name()?,
                    name: r.name()?,
                    snap: r.u64()?,
                },
            })
        })
    }
}
