//! Inputs and outputs of the operations that list objects, watchers and clones.

use bytes::Bytes;

use crate::codec::{DecodeResult, Reader, Wire, Writer, decode_exact};
use crate::types::{Addr, EntityName, HObject, SnapId};

/// The cursor in the payload of a PGNLS operation.
pub fn pg_list_cursor(payload: Bytes) -> DecodeResult<HObject> {
    decode_exact("PGNLS cursor", payload)
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedObject {
    /// Namespace.
    pub nspace: Bytes,
    /// Name.
    pub object: Bytes,
    /// Locator key; empty for none.
    pub key: Bytes,
}

impl Wire for ListedObject {
    const BYTES_MIN: usize = 12;
    fn encode(&self, w: &mut Writer) {
        w.blob(&self.nspace);
        w.blob(&self.object);
        w.blob(&self.key);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        Ok(Self { nspace: r.name()?, object: r.name()?, key: r.name()? })
    }
}

/// Output of PGNLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgListReply {
    /// Where to go on.
    pub handle: HObject,
    /// The objects.
    pub objects: Vec<ListedObject>,
}

impl Wire for PgListReply {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.handle);
            w.list(&self.objects);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("PGNLS reply", 1, |r, _| Ok(Self { handle: r.get()?, objects: r.list()? }))
    }
}

/// One watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchItem {
    /// Client.
    pub watcher: EntityName,
    /// Its number of the watch.
    pub cookie: u64,
    /// Seconds without a ping until it ends.
    pub timeout_seconds: u32,
    /// Where it is.
    pub addr: Addr,
}

impl Wire for WatchItem {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(2, 1, |w| {
            w.put(&self.watcher);
            w.u64(self.cookie);
            w.u32(self.timeout_seconds);
            w.put(&self.addr);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("watch item", 2, |r, version| {
            if version < 2 {
                return Err(r.error("watch item version 2 or newer", version.to_string()));
            }
            Ok(Self { watcher: r.get()?, cookie: r.u64()?, timeout_seconds: r.u32()?, addr: r.get()? })
        })
    }
}

/// Output of LIST_WATCHERS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListWatchersReply {
    /// The watchers.
    pub watchers: Vec<WatchItem>,
}

impl Wire for ListWatchersReply {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| w.list(&self.watchers));
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("LIST_WATCHERS reply", 1, |r, _| Ok(Self { watchers: r.list()? }))
    }
}

/// One clone, or the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneInfo {
    /// Clone id, or [`SnapId::HEAD`].
    pub id: SnapId,
    /// Snapshots that see it.
    pub snaps: Vec<SnapId>,
    /// Ranges (offset, length) that it shares with the next newer one.
    pub overlap: Vec<(u64, u64)>,
    /// Bytes.
    pub size: u64,
}

impl Wire for CloneInfo {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.id);
            w.list(&self.snaps);
            w.list(&self.overlap);
            w.u64(self.size);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("clone info", 1, |r, _| {
            Ok(Self { id: r.get()?, snaps: r.list()?, overlap: r.list()?, size: r.u64()? })
        })
    }
}

/// Output of LIST_SNAPS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListSnapsReply {
    /// Clones ascending, then the head if it exists.
    pub clones: Vec<CloneInfo>,
    /// Newest snapshot that the object knows of.
    pub seq: SnapId,
}

impl Wire for ListSnapsReply {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(2, 1, |w| {
            w.list(&self.clones);
            w.put(&self.seq);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("LIST_SNAPS reply", 2, |r, version| {
            let clones = r.list()?;
            let seq = if version >= 2 { r.get()? } else { SnapId::default() };
            Ok(Self { clones, seq })
        })
    }
}
