//! What goes through the log: changes that are already decided, so that replaying them needs no rules.
//!
//! Invariant: applying a change is total on any state it was decided on; a later version of the program, with other
//! rules, replays an old log to the same state. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::codec::{DecodeResult, Reader, Wire, Writer};
use wire::msg::LogEntry;
use wire::types::UTime;

use super::config::Section;

/// One decided change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The next epoch of the OSD map, as an encoded increment.
    OsdMap(Bytes),
    /// The next epoch of the monitor map, encoded.
    MonMap(Bytes),
    /// An option set, or removed.
    Config {
        /// For whom.
        section: Section,
        /// Normalised name.
        name: String,
        /// None removes it.
        value: Option<String>,
    },
    /// A key of the config-key store set, or removed.
    ConfigKey {
        /// Key.
        key: String,
        /// None removes it.
        value: Option<Bytes>,
    },
    /// An entry of the cluster log.
    Log(LogEntry),
    /// Global ids below this one may have been given out.
    GlobalIds {
        /// The first id that certainly was not.
        next: u64,
    },
    /// What an OSD said of itself when it booted; none forgets it.
    OsdMetadata {
        /// Id.
        osd: i32,
        /// By property.
        metadata: Option<BTreeMap<String, String>>,
    },
}

/// What one record of the log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// When it was decided, by the deciding monitor's clock.
    pub time: UTime,
    /// In order.
    pub changes: Vec<Change>,
}

const OSD_MAP: u8 = 1;
const MON_MAP: u8 = 2;
const CONFIG: u8 = 3;
const CONFIG_KEY: u8 = 4;
const LOG: u8 = 5;
const GLOBAL_IDS: u8 = 6;
const OSD_METADATA: u8 = 7;

impl Wire for Change {
    const BYTES_MIN: usize = 5;

    fn encode(&self, w: &mut Writer) {
        match self {
            Self::OsdMap(incremental) => {
                w.u8(OSD_MAP);
                w.put(incremental);
            }
            Self::MonMap(monmap) => {
                w.u8(MON_MAP);
                w.put(monmap);
            }
            Self::Config { section, name, value } => {
                w.u8(CONFIG);
                w.put(section);
                w.put(name);
                w.put(value);
            }
            Self::ConfigKey { key, value } => {
                w.u8(CONFIG_KEY);
                w.put(key);
                w.put(value);
            }
            Self::Log(entry) => {
                w.u8(LOG);
                w.put(entry);
            }
            Self::GlobalIds { next } => {
                w.u8(GLOBAL_IDS);
                w.u64(*next);
            }
            Self::OsdMetadata { osd, metadata } => {
                w.u8(OSD_METADATA);
                w.s32(*osd);
                w.put(metadata);
            }
        }
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.within("change", |r| match r.u8()? {
            OSD_MAP => r.get().map(Self::OsdMap),
            MON_MAP => r.get().map(Self::MonMap),
            CONFIG => Ok(Self::Config { section: r.get()?, name: r.get()?, value: r.get()? }),
            CONFIG_KEY => Ok(Self::ConfigKey { key: r.get()?, value: r.get()? }),
            LOG => r.get().map(Self::Log),
            GLOBAL_IDS => Ok(Self::GlobalIds { next: r.u64()? }),
            OSD_METADATA => Ok(Self::OsdMetadata { osd: r.s32()?, metadata: r.get()? }),
            // Skipping one would make this monitor's state differ from the others'.
            other => Err(r.error("a kind of change that this version knows", other.to_string())),
        })
    }
}

impl Wire for Entry {
    const BYTES_MIN: usize = 6 + 8 + 4;

    fn encode(&self, w: &mut Writer) {
        w.env(1, 1, |w| {
            w.put(&self.time);
            w.list(&self.changes);
        });
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.env("log entry of the monitor", 1, |r, _| Ok(Self { time: r.get()?, changes: r.get()? }))
    }
}
