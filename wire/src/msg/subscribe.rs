//! Subscriptions, settings and versions, asked of the monitor.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::msg::{Payload, no_data};
use crate::msgr2::{Data, priority};
use crate::types::AuthName;

/// What a subscriber wants of one kind of map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// First version wanted; 0 is the newest as a whole.
    pub start: u64,
    /// Only one answer.
    pub once: bool,
}

const SUBSCRIBE_ONCE: u8 = 1;

impl Wire for Subscription {
    const BYTES_MIN: usize = 9;
    fn encode(&self, w: &mut Writer) {
        w.u64(self.start);
        w.u8(if self.once { SUBSCRIBE_ONCE } else { 0 });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        Ok(Self { start: r.u64()?, once: r.u8()? & SUBSCRIBE_ONCE != 0 })
    }
}

/// MON_SUBSCRIBE: wants maps now and when they change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonSubscribe {
    /// By name: "osdmap", "monmap", "config", "mgrmap", "log-info", …
    pub what: BTreeMap<String, Subscription>,
    /// Where the subscriber runs.
    pub hostname: String,
}

impl Payload for MonSubscribe {
    const KIND: u16 = 15;
    const VERSION: u16 = 3;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "MON_SUBSCRIBE";

    fn encode(&self, front: &mut Writer) -> Data {
        front.map(&self.what);
        front.str(&self.hostname);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { what: front.map()?, hostname: front.str()? })
    }
}

/// MON_SUBSCRIBE_ACK: only for clients without MON_STATEFUL_SUB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonSubscribeAck {
    /// Seconds until the subscription must be renewed.
    pub interval_seconds: u32,
    /// Cluster.
    pub fsid: Uuid,
}

impl Payload for MonSubscribeAck {
    const KIND: u16 = 16;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "MON_SUBSCRIBE_ACK";

    fn encode(&self, front: &mut Writer) -> Data {
        front.u32(self.interval_seconds);
        front.put(&self.fsid);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { interval_seconds: front.u32()?, fsid: front.get()? })
    }
}

/// CONFIG: options for the receiver to apply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigMessage {
    /// Option → value.
    pub options: BTreeMap<String, String>,
}

impl Payload for ConfigMessage {
    const KIND: u16 = 62;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "CONFIG";

    fn encode(&self, front: &mut Writer) -> Data {
        front.map(&self.options);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { options: front.map()? })
    }
}

/// GET_CONFIG: a daemon asks for its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetConfig {
    /// Who.
    pub name: AuthName,
    /// Where it runs.
    pub host: String,
    /// Device class of an OSD.
    pub device_class: String,
}

impl Payload for GetConfig {
    const KIND: u16 = 63;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "GET_CONFIG";

    fn encode(&self, front: &mut Writer) -> Data {
        front.put(&self.name);
        front.str(&self.host);
        front.str(&self.device_class);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { name: front.get()?, host: front.str()?, device_class: front.str()? })
    }
}

/// MON_GET_VERSION: which version of a map is the newest?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonGetVersion {
    /// Comes back in the reply.
    pub handle: u64,
    /// "osdmap", "monmap", "mdsmap" or "fsmap".
    pub what: String,
}

impl Payload for MonGetVersion {
    const KIND: u16 = 19;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "MON_GET_VERSION";

    fn encode(&self, front: &mut Writer) -> Data {
        front.u64(self.handle);
        front.str(&self.what);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { handle: front.u64()?, what: front.str()? })
    }
}

/// MON_GET_VERSION_REPLY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonGetVersionReply {
    /// The request's.
    pub handle: u64,
    /// Newest.
    pub version: u64,
    /// Oldest kept.
    pub oldest: u64,
}

impl Payload for MonGetVersionReply {
    const KIND: u16 = 20;
    const VERSION: u16 = 2;
    const COMPAT: u16 = 2;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "MON_GET_VERSION_REPLY";

    fn encode(&self, front: &mut Writer) -> Data {
        front.u64(self.handle);
        front.u64(self.version);
        front.u64(self.oldest);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { handle: front.u64()?, version: front.u64()?, oldest: front.u64()? })
    }
}
