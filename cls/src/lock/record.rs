//! The record of a lock as it is kept with its object, and the values in it.
//!
//! The encodings are Ceph's: clients see them in replies and may read the attribute itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::codec::{DecodeResult, Reader, Wire, Writer};
use wire::types::{Addr, EntityName, UTime};

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockType {
    /// By one.
    Exclusive,
    /// By many.
    Shared,
    /// By one, and the object goes with the lock.
    ExclusiveEphemeral,
}

impl LockType {
    /// From its number on the wire; `None` if nothing can be locked so.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Exclusive),
            2 => Some(Self::Shared),
            3 => Some(Self::ExclusiveEphemeral),
            _ => None,
        }
    }

    /// The number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Exclusive => 1,
            Self::Shared => 2,
            Self::ExclusiveEphemeral => 3,
        }
    }

    /// Whether nobody else may hold it.
    pub fn is_exclusive(self) -> bool {
        self != Self::Shared
    }
}

/// Who holds a lock: a client may hold it several times with different cookies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockerId {
    /// The client.
    pub locker: EntityName,
    /// Its own name for this hold.
    pub cookie: Bytes,
}

/// What is known of a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockerInfo {
    /// When the hold ends by itself; zero is never.
    pub expiration: UTime,
    /// The client's address, for shutting it out.
    pub addr: Addr,
    /// For humans.
    pub description: Bytes,
}

impl LockerInfo {
    /// Whether the hold has ended by itself.
    pub fn is_expired(&self, now: UTime) -> bool {
        self.expiration != UTime::default() && self.expiration < now
    }
}

/// The lock. The type is kept as a number, 0 if it was never locked: clients can write anything into the attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockRecord {
    /// Who holds it.
    pub lockers: BTreeMap<LockerId, LockerInfo>,
    /// [`LockType`] in force or last in force.
    pub lock_type: u8,
    /// What all holders must agree on.
    pub tag: Bytes,
}

impl Wire for LockerId {
    const BYTES_MIN: usize = 19;

    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.locker);
            w.blob(&self.cookie);
        });
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("locker id", 1, |r, _| Ok(Self { locker: r.get()?, cookie: r.blob()? }))
    }
}

impl Wire for LockerInfo {
    const BYTES_MIN: usize = 37;

    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.expiration);
            w.put(&self.addr);
            w.blob(&self.description);
        });
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("locker info", 1, |r, _| {
            Ok(Self { expiration: r.get()?, addr: r.get()?, description: r.blob()? })
        })
    }
}

impl Wire for LockRecord {
    const BYTES_MIN: usize = 15;

    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.map(&self.lockers);
            w.u8(self.lock_type);
            w.blob(&self.tag);
        });
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("lock record", 1, |r, _| Ok(Self { lockers: r.map()?, lock_type: r.u8()?, tag: r.blob()? }))
    }
}
