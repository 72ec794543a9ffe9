//! Messages that ask for and bring cluster maps and settings.

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::msg::{MonMap, Payload, no_data};
use crate::msgr2::{Data, priority};
use crate::types::{AddrVec, AuthName, Epoch};

/// MON_GET_MAP: wants the monmap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonGetMap;

impl Payload for MonGetMap {
    const KIND: u16 = 5;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const NAME: &'static str = "MON_GET_MAP";

    fn encode(&self, _: &mut Writer) -> Data {
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self)
    }
}

/// MON_MAP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonMapMessage {
    /// The map, encoded; see [`MonMap`].
    pub map: Bytes,
}

impl MonMapMessage {
    /// Encodes the map.
    pub fn new(map: &MonMap) -> Self {
        Self { map: crate::codec::encode_to_bytes(map) }
    }
}

impl Payload for MonMapMessage {
    const KIND: u16 = 4;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "MON_MAP";

    fn encode(&self, front: &mut Writer) -> Data {
        front.blob(&self.map);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self { map: front.blob()? })
    }
}

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

/// OSD_MAP: OSD maps or the changes between them, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsdMapMessage {
    /// Cluster.
    pub fsid: Uuid,
    /// Changes, by the epoch that they lead to.
    pub incrementals: BTreeMap<Epoch, Bytes>,
    /// Whole maps.
    pub full: BTreeMap<Epoch, Bytes>,
    /// Oldest epoch that the sender has.
    pub oldest: Epoch,
    /// Newest epoch that the sender has.
    pub newest: Epoch,
    /// Below this, maps may be forgotten cluster-wide; between daemons only, else 0.
    pub trim_lower_bound: Epoch,
}

impl Payload for OsdMapMessage {
    const KIND: u16 = 41;
    const VERSION: u16 = 4;
    const COMPAT: u16 = 3;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "OSD_MAP";

    fn encode(&self, front: &mut Writer) -> Data {
        front.put(&self.fsid);
        front.map(&self.incrementals);
        front.map(&self.full);
        front.put(&self.oldest);
        front.put(&self.newest);
        front.put(&self.trim_lower_bound);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        Ok(Self {
            fsid: front.get()?,
            incrementals: front.map()?,
            full: front.map()?,
            oldest: front.get()?,
            newest: front.get()?,
            trim_lower_bound: front.get()?,
        })
    }
}

/// MGR_MAP: the manager. The cluster has none, and says so; what a real manager's map has beyond its address
/// is kept undecoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MgrMap {
    /// Version of the encoding of `details`.
    pub encoding: u8,
    /// Epoch.
    pub epoch: Epoch,
    /// Where the active one listens.
    pub active_addrs: AddrVec,
    /// Its global id.
    pub active_gid: u64,
    /// Whether it serves.
    pub available: bool,
    /// Its name.
    pub active_name: String,
    /// Standbys, modules, services and clients, encoded.
    pub details: Bytes,
}

impl MgrMap {
    const ENCODING_NONE: u8 = 11;
    /// Standbys, modules, services, module infos (4 empty collections), time of the last change,
    /// always-on modules, features of the active one, OSD epoch of the last failure, clients.
    const DETAILS_NONE: &'static [u8] = &[0; 4 * 4 + 8 + 4 + 8 + 4 + 4];

    /// No manager.
    pub fn none(epoch: Epoch) -> Self {
        Self {
            encoding: Self::ENCODING_NONE,
            epoch,
            active_addrs: AddrVec::default(),
            active_gid: 0,
            available: false,
            active_name: String::new(),
            details: Bytes::from_static(Self::DETAILS_NONE),
        }
    }
}

impl Wire for MgrMap {
    const BYTES_MIN: usize = 6;
    fn encode(&self, w: &mut Writer) {
        w.env(self.encoding, 6, |w| {
            w.put(&self.epoch);
            w.put(&self.active_addrs);
            w.u64(self.active_gid);
            w.bool(self.available);
            w.str(&self.active_name);
            w.raw(&self.details);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("mgrmap", 12, |r, encoding| {
            Ok(Self {
                encoding,
                epoch: r.get()?,
                active_addrs: r.get()?,
                active_gid: r.u64()?,
                available: r.bool()?,
                active_name: r.str()?,
                details: r.rest(),
            })
        })
    }
}

impl Payload for MgrMap {
    const KIND: u16 = 0x704;
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: u16 = priority::HIGH;
    const NAME: &'static str = "MGR_MAP";

    fn encode(&self, front: &mut Writer) -> Data {
        front.put(self);
        Data::new()
    }
    fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
        no_data(front, &data)?;
        front.get()
    }
}
