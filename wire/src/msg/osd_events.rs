//! What an OSD tells a client unasked: back-offs, notifications.

use bytes::Bytes;

use crate::codec::{DecodeResult, Reader, Writer};
use crate::msg::{Payload, no_data};
use crate::msgr2::Data;
use crate::types::{Epoch, HObject, ShardPgId};

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
