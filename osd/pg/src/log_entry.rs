//! One entry of a placement group's log: a write, what came of it, and enough to answer it again.

use bytes::Bytes;
use store::ObjectId;
use wire::codec::{DecodeResult, Reader, Writer};
use wire::types::{EVersion, RequestId, UTime};

const VERSION: u8 = 2;
/// Of an entry's first byte: the number of its kind.
const KIND: u8 = 3;
/// Flag of an entry: result and returns follow; else they are 0 and none.
const OUTCOME: u8 = 4;
/// Flag of an entry: the object's namespace and locator key follow; else they are empty.
const ELSEWHERE: u8 = 8;
/// Flag of an entry: the object's snapshot follows; else it is the head.
const SNAP: u8 = 16;
/// Flag of an entry: the group's newest user version follows; else it is this write's.
const LAST: u8 = 32;
/// Flag of an entry: the client's incarnation follows; else it is 0.
const INCARNATION: u8 = 64;
/// All there are.
const FLAGS: u8 = KIND | OUTCOME | ELSEWHERE | SNAP | LAST | INCARNATION;

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

impl LogKind {
    /// Its number, which fits [`KIND`].
    fn number(self) -> u8 {
        match self {
            Self::Modify => 1,
            Self::Delete => 2,
            Self::Outcome => 3,
        }
    }

    fn read(r: &Reader, number: u8) -> DecodeResult<Self> {
        match number {
            1 => Ok(Self::Modify),
            2 => Ok(Self::Delete),
            3 => Ok(Self::Outcome),
            other => Err(r.error("a kind from 1 to 3", other.to_string())),
        }
    }
}

impl LogEntry {
    /// As the store keeps it. Every write has one, so what is nearly always the same is left out.
    pub fn encode(&self) -> Bytes {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let has_outcome = self.result != 0 || !self.returns.is_empty();
        let is_elsewhere = !self.object.namespace.is_empty() || !self.object.key.is_empty();
        let is_snap = self.object.snap != ObjectId::HEAD;
        let is_behind = self.last_user_version != self.user_version;
        let mut w = Writer::with_capacity(160);
        w.env(VERSION, VERSION, |w| {
            w.u8(self.kind.number()
                | flag(has_outcome, OUTCOME)
                | flag(is_elsewhere, ELSEWHERE)
                | flag(is_snap, SNAP)
                | flag(is_behind, LAST)
                | flag(self.reqid.incarnation != 0, INCARNATION));
            w.put(&self.version);
            w.u64(self.user_version);
            if is_behind {
                w.u64(self.last_user_version);
            }
            w.put(&self.reqid.name);
            w.u64(self.reqid.tid);
            if self.reqid.incarnation != 0 {
                w.s32(self.reqid.incarnation);
            }
            w.put(&self.mtime);
            if has_outcome {
                w.s32(self.result);
                w.list_with(&self.returns, |w, one| {
                    w.s32(one.value);
                    w.blob(&one.data);
                });
            }
            w.s64(self.object.pool);
            w.u32(self.object.hash);
            if is_elsewhere {
                w.blob(&self.object.namespace);
                w.blob(&self.object.key);
            }
            w.blob(&self.object.name);
            if is_snap {
                w.u64(self.object.snap);
            }
        });
        w.finish()
    }

    /// Reads what [`LogEntry::encode`] wrote, in any version.
    pub fn decode(value: Bytes) -> DecodeResult<Self> {
        Reader::new("log entry", value).env("log entry", VERSION, |r, version| {
            if version < VERSION {
                return Self::decode_whole(r);
            }
            let flags = r.u8()?;
            if flags & !FLAGS != 0 {
                return Err(r.error("flags of a log entry", format!("{flags:#x}")));
            }
            let has = |flag| flags & flag != 0;
            let kind = LogKind::read(r, flags & KIND)?;
            let (version, user_version) = (r.get()?, r.u64()?);
            let last_user_version = if has(LAST) { r.u64()? } else { user_version };
            let (name, tid) = (r.get()?, r.u64()?);
            let incarnation = if has(INCARNATION) { r.s32()? } else { 0 };
            let mtime = r.get()?;
            let (result, returns) =
                if has(OUTCOME) { (r.s32()?, r.list_with(8, read_return)?) } else { (0, Vec::new()) };
            let (pool, hash) = (r.s64()?, r.u32()?);
            let (namespace, key) =
                if has(ELSEWHERE) { (r.name()?, r.name()?) } else { (Bytes::new(), Bytes::new()) };
            let object = ObjectId {
                pool,
                hash,
                namespace,
                key,
                name: r.name()?,
                snap: if has(SNAP) { r.u64()? } else { ObjectId::HEAD },
            };
            let reqid = RequestId { name, incarnation, tid };
            Ok(Self { kind, version, user_version, last_user_version, reqid, mtime, result, returns, object })
        })
    }

    /// The first version, which had everything.
    fn decode_whole(r: &mut Reader) -> DecodeResult<Self> {
        let number = r.u8()?;
        Ok(Self {
            kind: LogKind::read(r, number)?,
            version: r.get()?,
            user_version: r.u64()?,
            last_user_version: r.u64()?,
            reqid: r.get()?,
            mtime: r.get()?,
            result: r.s32()?,
            returns: r.list_with(8, read_return)?,
            object: ObjectId {
                pool: r.s64()?,
                hash: r.u32()?,
                namespace: r.name()?,
                key: r.name()?,
                name: r.name()?,
                snap: r.u64()?,
            },
        })
    }
}

fn read_return(r: &mut Reader) -> DecodeResult<OpReturn> {
    Ok(OpReturn { value: r.s32()?, data: r.name()? })
}

#[cfg(test)]
mod tests {
    use wire::types::{EntityName, Epoch};

    use super::*;

    fn plain() -> LogEntry {
        LogEntry {
            kind: LogKind::Modify,
            version: EVersion::new(Epoch(3), 70),
            user_version: 70,
            last_user_version: 70,
            reqid: RequestId { name: EntityName::client(4100), incarnation: 0, tid: 9 },
            mtime: UTime { seconds: 1, nanoseconds: 2 },
            result: 0,
            returns: Vec::new(),
            object: ObjectId {
                pool: 2,
                hash: 0xdead_beef,
                namespace: Bytes::new(),
                key: Bytes::new(),
                name: Bytes::from_static(b"rbd_data.1234567890ab.0000000000000000"),
                snap: ObjectId::HEAD,
            },
        }
    }

    fn samples() -> Vec<LogEntry> {
        let returns = vec![OpReturn { value: -2, data: Bytes::from_static(b"why") }, OpReturn::default()];
        let elsewhere = ObjectId { key: Bytes::from_static(b"k"), ..plain().object };
        let named = ObjectId { namespace: Bytes::from_static(b"n"), snap: 4, ..plain().object };
        let reqid = RequestId { incarnation: -1, ..plain().reqid };
        vec![
            plain(),
            LogEntry { kind: LogKind::Delete, last_user_version: 71, ..plain() },
            LogEntry { kind: LogKind::Outcome, result: -2, returns, ..plain() },
            LogEntry { result: 1, object: elsewhere, ..plain() },
            LogEntry { reqid, object: named, ..plain() },
        ]
    }

    #[test]
    fn round_trips_and_is_short() {
        for entry in samples() {
            let value = entry.encode();
            assert_eq!(LogEntry::decode(value.clone()), Ok(entry));
            for len in 0..value.len() {
                assert!(LogEntry::decode(value.slice(..len)).is_err());
            }
        }
        assert_eq!(plain().encode().len(), 106);
    }

    #[test]
    fn the_first_version_is_read() {
        for entry in samples() {
            let mut w = Writer::new();
            w.env(1, 1, |w| {
                w.u8(entry.kind.number());
                w.put(&entry.version);
                w.u64(entry.user_version);
                w.u64(entry.last_user_version);
                w.put(&entry.reqid);
                w.put(&entry.mtime);
                w.s32(entry.result);
                w.list_with(&entry.returns, |w, one| {
                    w.s32(one.value);
                    w.blob(&one.data);
                });
                w.s64(entry.object.pool);
                w.u32(entry.object.hash);
                w.blob(&entry.object.namespace);
                w.blob(&entry.object.key);
                w.blob(&entry.object.name);
                w.u64(entry.object.snap);
            });
            assert_eq!(LogEntry::decode(w.finish()), Ok(entry));
        }
    }
}
