//! What the map says of one OSD.

use std::ops::{BitAnd, BitOr, BitXor};

use uuid::Uuid;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::types::{AddrVec, Epoch, Features, UTime};

/// Weight of an OSD that is in; 0 is out.
pub const WEIGHT_IN: u32 = 0x1_0000;
/// Primary affinity of an OSD that is as good a primary as any.
pub const AFFINITY_DEFAULT: u32 = 0x1_0000;

/// State bits of an OSD. Bits we do not know are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OsdState(pub u32);

impl OsdState {
    //= ceph 16.2 osdmap: state bits
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The id is taken.
    pub const EXISTS: Self = Self(1 << 0);
    /// Running, at the addresses given.
    pub const UP: Self = Self(1 << 1);
    /// Marked out by the monitor rather than by the operator.
    pub const AUTO_OUT: Self = Self(1 << 2);
    /// Never in so far.
    pub const NEW: Self = Self(1 << 3);
    /// Above the full ratio.
    pub const FULL: Self = Self(1 << 4);
    /// Above the nearfull ratio.
    pub const NEAR_FULL: Self = Self(1 << 5);
    /// Above the backfillfull ratio.
    pub const BACKFILL_FULL: Self = Self(1 << 6);
    /// Destroyed; the id waits to be reused.
    pub const DESTROYED: Self = Self(1 << 7);
    /// May not be marked up.
    pub const NO_UP: Self = Self(1 << 8);
    /// May not be marked down.
    pub const NO_DOWN: Self = Self(1 << 9);
    /// May not be marked in.
    pub const NO_IN: Self = Self(1 << 10);
    /// May not be marked out.
    pub const NO_OUT: Self = Self(1 << 11);
    /// Told to stop.
    pub const STOP: Self = Self(1 << 12);

    /// Whether all of `bits` are set.
    pub const fn contains(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// These without `bits`.
    pub const fn without(self, bits: Self) -> Self {
        Self(self.0 & !bits.0)
    }
}

impl BitOr for OsdState {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for OsdState {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitXor for OsdState {
    type Output = Self;
    fn bitxor(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }
}

impl Wire for OsdState {
    const BYTES_MIN: usize = 4;
    fn encode(&self, w: &mut Writer) {
        w.u32(self.0);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.u32().map(Self)
    }
}

/// One OSD id of the map. The default is an id that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Osd {
    /// State bits.
    pub state: OsdState,
    /// Share of its capacity that is used, 16.16: [`WEIGHT_IN`] to 0.
    pub weight: u32,
    /// Where clients connect.
    pub client_addrs: AddrVec,
    /// Where other OSDs connect.
    pub cluster_addrs: AddrVec,
    /// Heartbeats on the cluster network.
    pub heartbeat_back_addrs: AddrVec,
    /// Heartbeats on the clients' network.
    pub heartbeat_front_addrs: AddrVec,
    /// Epochs of its life.
    pub info: OsdInfo,
    /// Identity of its store.
    pub uuid: Uuid,
    /// Statistics for the monitor.
    pub xinfo: OsdXInfo,
}

impl Osd {
    /// Whether the id is taken.
    pub fn exists(&self) -> bool {
        self.state.contains(OsdState::EXISTS)
    }

    /// Whether it exists and is up.
    pub fn is_up(&self) -> bool {
        self.state.contains(OsdState::EXISTS | OsdState::UP)
    }

    /// Whether it exists and holds data.
    pub fn is_in(&self) -> bool {
        self.exists() && self.weight != 0
    }
}

/// Epochs of an OSD's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OsdInfo {
    /// Last interval that ended with a clean shutdown: first epoch.
    pub last_clean_begin: Epoch,
    /// Last interval that ended with a clean shutdown: last epoch.
    pub last_clean_end: Epoch,
    /// Up since.
    pub up_from: Epoch,
    /// Known to have been alive at.
    pub up_thru: Epoch,
    /// Marked down at.
    pub down_at: Epoch,
    /// Declared lost at.
    pub lost_at: Epoch,
}

impl Wire for OsdInfo {
    const BYTES_MIN: usize = 25;
    fn encode(&self, w: &mut Writer) {
        w.u8(1);
        for epoch in [
            self.last_clean_begin,
            self.last_clean_end,
            self.up_from,
            self.up_thru,
            self.down_at,
            self.lost_at,
        ] {
            w.put(&epoch);
        }
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.within("osd info", |r| {
            let version = r.u8()?;
            if version != 1 {
                return Err(r.error("version 1", version.to_string()));
            }
            Ok(Self {
                last_clean_begin: r.get()?,
                last_clean_end: r.get()?,
                up_from: r.get()?,
                up_thru: r.get()?,
                down_at: r.get()?,
                lost_at: r.get()?,
            })
        })
    }
}

/// Statistics about an OSD that the monitor keeps in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OsdXInfo {
    /// When it was last marked down.
    pub down_stamp: UTime,
    /// How likely it is slow rather than dead, 16.16.
    pub laggy_probability: u32,
    /// How long it is slow for, in seconds.
    pub laggy_interval: u32,
    /// Features it had when it booted.
    pub features: Features,
    /// Weight before it was marked out automatically.
    pub old_weight: u32,
    /// Last scrub of purged snapshots.
    pub last_purged_snaps_scrub: UTime,
    /// Known to be dead at.
    pub dead_epoch: Epoch,
}

impl Wire for OsdXInfo {
    const BYTES_MIN: usize = 6 + 40;
    fn encode(&self, w: &mut Writer) {
        w.env(4, 1, |w| {
            w.put(&self.down_stamp);
            w.u32(self.laggy_probability);
            w.u32(self.laggy_interval);
            w.put(&self.features);
            w.u32(self.old_weight);
            w.put(&self.last_purged_snaps_scrub);
            w.put(&self.dead_epoch);
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("osd xinfo", 4, |r, version| {
            if version < 4 {
                return Err(r.error("version 4 or newer", version.to_string()));
            }
            Ok(Self {
                down_stamp: r.get()?,
                laggy_probability: r.u32()?,
                laggy_interval: r.u32()?,
                features: r.get()?,
                old_weight: r.u32()?,
                last_purged_snaps_scrub: r.get()?,
                dead_epoch: r.get()?,
            })
        })
    }
}
