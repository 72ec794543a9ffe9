//! Messages that ask for and bring cluster maps.

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::msg::{MonMap, Payload, no_data};
use crate::msgr2::{Data, priority};
use crate::types::{AddrVec, Epoch};

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
