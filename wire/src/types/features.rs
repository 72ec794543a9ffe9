//! Feature bits of peers.

use std::fmt;
use std::ops::BitOr;

use crate::codec::{DecodeResult, Reader, Wire, Writer};

/// A set of feature bits. Some bits were given a second or third meaning; such a bit counts only together
/// with its incarnation's bits, which the constants include.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Features(pub u64);

impl Features {
    /// Nothing.
    pub const NONE: Self = Self(0);
    //= ceph 16.2 features: the set that stock daemons and clients advertise
    /// What Ceph 16.2 advertises. With the same set on our side, clients use exactly the encodings of this
    /// crate.
    pub const PACIFIC: Self = Self(0x3f01_cfbd_fffd_ffff);

    const INCARNATION_2: u64 = 1 << 57;
    const INCARNATION_3: u64 = 1 << 57 | 1 << 28;

    /// Peers answer requests on one connection per OSD.
    pub const OSD_REPLY_MUX: Self = Self(1 << 12);
    /// CRUSH tunables, first set.
    pub const CRUSH_TUNABLES: Self = Self(1 << 18);
    /// Server of release 16.
    pub const SERVER_PACIFIC: Self = Self(1 << 20 | Self::INCARNATION_3);
    /// Server of release 12; also back-offs, upmaps, CRUSH choose_args.
    pub const SERVER_LUMINOUS: Self = Self(1 << 21 | Self::INCARNATION_2);
    /// CRUSH tunables, second set.
    pub const CRUSH_TUNABLES2: Self = Self(1 << 25);
    /// Server of release 13.
    pub const SERVER_MIMIC: Self = Self(1 << 28 | Self::INCARNATION_2);
    /// Hashed placement seeds of pools.
    pub const OSD_HASH_PS_POOL: Self = Self(1 << 30);
    /// CRUSH: indep rules and set_* steps.
    pub const CRUSH_V2: Self = Self(1 << 36);
    /// CRUSH tunables, third set, and primary affinity.
    pub const CRUSH_TUNABLES3: Self = Self(1 << 41);
    /// KEEPALIVE2 frames.
    pub const MSGR_KEEPALIVE2: Self = Self(1 << 42);
    /// Resend when a pool asks for it.
    pub const OSD_POOL_RESEND: Self = Self(1 << 43);
    /// CRUSH straw2 buckets.
    pub const CRUSH_V4: Self = Self(1 << 48);
    /// OSD operations in the new encoding.
    pub const NEW_OSD_OP_ENCODING: Self = Self(1 << 56);
    /// Subscriptions whose state the monitor keeps (no acknowledgement).
    pub const MON_STATEFUL_SUB: Self = Self(1 << 57);
    /// CRUSH tunables, fifth set, and OSD replies in the new encoding.
    pub const CRUSH_TUNABLES5: Self = Self(1 << 58);
    /// Addresses with type and several per entity.
    pub const MSG_ADDR2: Self = Self(1 << 59);

    /// Whether all of `wanted` is in.
    pub const fn contains(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// What of `wanted` is not in.
    pub const fn missing(self, wanted: Self) -> Self {
        Self(wanted.0 & !self.0)
    }
}

impl BitOr for Features {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Wire for Features {
    const BYTES_MIN: usize = 8;
    fn encode(&self, w: &mut Writer) {
        w.u64(self.0);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.u64().map(Self)
    }
}

const _: () = {
    assert!(Features::PACIFIC.contains(Features::SERVER_PACIFIC));
    assert!(Features::PACIFIC.contains(Features::MSG_ADDR2));
    // The reserved bit is never advertised.
    assert!(!Features::PACIFIC.contains(Features(1 << 62)));
};
