//! What our OSDs tell our monitor: message types of our own, from 0x7f00 on, which Ceph does not use.
//!
//! Each front is one versioned envelope, so that fields can be appended without a new type.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::msg::{Payload, StoreStatfs, no_data};
use crate::msgr2::Data;
use crate::types::{AddrVec, Epoch, PgId, PoolId};

/// A front that is one envelope.
macro_rules! enveloped {
    ($name:ident = $kind:literal, $text:literal) => {
        impl Payload for $name {
            const KIND: u16 = $kind;
            const VERSION: u16 = 1;
            const COMPAT: u16 = 1;
            const NAME: &'static str = $text;

            fn encode(&self, front: &mut Writer) -> Data {
                front.put(self);
                Data::new()
            }
            fn decode(front: &mut Reader, data: Data) -> DecodeResult<Self> {
                no_data(front, &data)?;
                front.get()
            }
        }
    };
}

macro_rules! envelope {
    ($(#[$doc:meta])* $name:ident, $text:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    } $(since $since:literal {
        $($(#[$later_doc:meta])* $later:ident: $later_type:ty,)*
    })?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            $($($(#[$later_doc])* pub $later: $later_type,)*)?
        }

        impl Wire for $name {
            const BYTES_MIN: usize = 6 $(+ <$type as Wire>::BYTES_MIN)*;
            fn encode(&self, w: &mut Writer) {
                let newest = *[1 $(, $since)?].last().unwrap_or(&1);
                w.env(newest, 1, |w| {
                    $(w.put(&self.$field);)*
                    $($(w.put(&self.$later);)*)?
                });
            }
            fn decode(r: &mut Reader) -> DecodeResult<Self> {
                r.env($text, 1, |r, version| {
                    let _ = version;
                    Ok(Self {
                        $($field: r.get()?,)*
                        $($($later: if version >= $since { r.get()? } else { <$later_type>::default() },)*)?
                    })
                })
            }
        }
    };
}

envelope! {
    /// OSD_BOOT: an OSD is ready and wants to be up.
    OsdBoot, "OSD_BOOT" {
        /// Cluster that its store belongs to.
        fsid: Uuid,
        /// Its id.
        osd: i32,
        /// Identity of its store.
        uuid: Uuid,
        /// Newest map that it has.
        epoch: Epoch,
        /// Where it listens for clients.
        public_addrs: AddrVec,
        /// Host, device, slice, core, backend and the like.
        metadata: BTreeMap<String, String>,
    }
}
enveloped!(OsdBoot = 0x7f00, "OSD_BOOT");

envelope! {
    /// OSD_BEACON: an OSD is alive.
    OsdBeacon, "OSD_BEACON" {
        /// Its id.
        osd: i32,
        /// Newest map that it has.
        epoch: Epoch,
        /// Oldest map that one of its placement groups still needs.
        oldest_needed: Epoch,
    }
}
enveloped!(OsdBeacon = 0x7f01, "OSD_BEACON");

envelope! {
    /// OSD_STATS: space and activity.
    OsdStats, "OSD_STATS" {
        /// Its id.
        osd: i32,
        /// Its map.
        epoch: Epoch,
        /// Number of the report, ascending in one life of the OSD.
        seq: u64,
        /// Space of its store.
        statfs: OsdStatfs,
        /// By pool.
        pools: BTreeMap<PoolId, PoolReport>,
        /// By placement group that it leads.
        pgs: BTreeMap<PgId, PgReport>,
    }
}
enveloped!(OsdStats = 0x7f02, "OSD_STATS");

envelope! {
    /// OSD_ALERT: what an operator should know, as a whole: the monitor forgets what an earlier one said.
    OsdAlert, "OSD_ALERT" {
        /// Its id.
        osd: i32,
        /// All that is the matter now.
        alerts: Vec<Alert>,
    }
}
enveloped!(OsdAlert = 0x7f03, "OSD_ALERT");

envelope! {
    /// Space of one store.
    OsdStatfs, "OSD statfs" {
        /// As Ceph has it.
        store: StoreStatfs,
        /// Bytes in segments that are not lent to any slice of the device, and this OSD's fair share of them;
        /// contained in `store.available`.
        shared_available: i64,
    }
}

envelope! {
    /// One pool on one OSD.
    PoolReport, "pool report" {
        /// Objects.
        objects: i64,
        /// Logical bytes.
        bytes: i64,
        /// Bytes of device space allocated to data.
        allocated: i64,
        /// Bytes written by clients and stored.
        stored: i64,
        /// Omap keys.
        omap_keys: i64,
        /// Bytes of omap keys and values.
        omap_bytes: i64,
        /// Read operations since the OSD started.
        reads: i64,
        /// KiB read since the OSD started.
        reads_kb: i64,
        /// Write operations since the OSD started.
        writes: i64,
        /// KiB written since the OSD started.
        writes_kb: i64,
    } since 2 {
        /// Bytes of device space of compressed data.
        compressed: i64,
        /// Of `stored`, what is stored compressed.
        compressed_original: i64,
    }
}

envelope! {
    /// One placement group, from its primary.
    PgReport, "PG report" {
        /// Such as "active+clean".
        state: String,
        /// Objects.
        objects: i64,
        /// Logical bytes.
        bytes: i64,
        /// Last version given.
        version: u64,
        /// In this epoch.
        version_epoch: Epoch,
    }
}

/// How bad an [`Alert`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// HEALTH_WARN.
    Warning,
    /// HEALTH_ERR.
    Error,
}

impl Wire for Severity {
    fn encode(&self, w: &mut Writer) {
        w.u8(match self {
            Self::Warning => 1,
            Self::Error => 2,
        });
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        match r.u8()? {
            1 => Ok(Self::Warning),
            2 => Ok(Self::Error),
            other => Err(r.error("severity 1 or 2", other.to_string())),
        }
    }
}

envelope! {
    /// One thing that is the matter.
    Alert, "alert" {
        /// Such as "OSD_STORE_FAILED".
        code: String,
        /// How bad.
        severity: Severity,
        /// A sentence.
        text: String,
    }
}
