//! The options of which the monitor knows what they may be, its own and OSDs', with their defaults. Others are kept and handed
//! to whom they are for.
//! Pure.

use wire::types::{AuthName, EntityKind};

use crate::state::State;

/// A known option.
#[derive(Clone, Copy, Debug)]
pub struct OptionInfo {
    /// Name.
    pub name: &'static str,
    /// How its value reads.
    pub kind: OptionKind,
    /// Value if nobody sets it.
    pub default: &'static str,
    /// For `ceph config help`.
    pub description: &'static str,
}

/// How a value reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// `true` or `false`.
    Bool,
    /// A whole number, not negative.
    Uint,
    /// A number, not negative.
    Seconds,
}

/// Whether pools may be deleted.
pub const ALLOW_POOL_DELETE: &str = "mon_allow_pool_delete";
/// PGs of a pool that does not say.
pub const POOL_PG_NUM: &str = "osd_pool_default_pg_num";
/// PGs that pools may put on each OSD.
pub const MAX_PG_PER_OSD: &str = "mon_max_pg_per_osd";
/// Seconds without a beacon after which an OSD is taken for dead.
pub const BEACON_GRACE_SECONDS: &str = "osd_heartbeat_grace";

/// Seconds after which an OSD scrubs a placement group again; the OSD obeys it.
pub const DEEP_SCRUB_INTERVAL: &str = "osd_deep_scrub_interval";

/// Bytes of memory that an OSD may take; the OSD obeys it.
pub const OSD_MEMORY_TARGET: &str = "osd_memory_target";

/// All of them.
pub const OPTIONS: [OptionInfo; 6] = [
    OptionInfo {
        name: ALLOW_POOL_DELETE,
        kind: OptionKind::Bool,
        default: "false",
        description: "allow pools to be deleted",
    },
    OptionInfo {
        name: POOL_PG_NUM,
        kind: OptionKind::Uint,
        default: "32",
        description: "number of placement groups of a new pool that does not say",
    },
    OptionInfo {
        name: MAX_PG_PER_OSD,
        kind: OptionKind::Uint,
        default: "250",
        description: "placement groups that pools may put on each OSD on average",
    },
    OptionInfo {
        name: BEACON_GRACE_SECONDS,
        kind: OptionKind::Uint,
        default: "20",
        description: "seconds of silence after which an OSD is marked down",
    },
    OptionInfo {
        name: DEEP_SCRUB_INTERVAL,
        kind: OptionKind::Seconds,
        default: "604800",
        description: "seconds after which an OSD scrubs a placement group again, 0 for never",
    },
    OptionInfo {
        name: OSD_MEMORY_TARGET,
        kind: OptionKind::Uint,
        default: "0",
        description: "bytes of memory that an OSD may take with its store, 0 for no bound",
    },
];

impl OptionInfo {
    /// The option of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        OPTIONS.iter().find(|option| option.name == name)
    }

    /// Whether the option can have this value.
    pub fn accepts(&self, value: &str) -> bool {
        match self.kind {
            OptionKind::Bool => parse_bool(value).is_some(),
            OptionKind::Uint => value.parse::<u64>().is_ok(),
            OptionKind::Seconds => {
                value.parse::<f64>().is_ok_and(|seconds| seconds.is_finite() && seconds >= 0.0)
            }
        }
    }
}

/// A flag, as the monitor `name` sees it.
pub fn flag(state: &State, name: &str, option: &str) -> bool {
    parse_bool(&value(state, name, option)).unwrap_or(false)
}

/// A number, as the monitor `name` sees it.
pub fn uint(state: &State, name: &str, option: &str) -> u64 {
    value(state, name, option).parse().unwrap_or(0)
}

fn value(state: &State, name: &str, option: &str) -> String {
    let who = AuthName { kind: EntityKind::MON, id: name.to_owned() };
    let set = state.config.effective(&who).remove(option).map(|(_, value)| value);
    let known = OptionInfo::find(option);
    let sound = set.filter(|value| known.is_some_and(|known| known.accepts(value)));
    sound.unwrap_or_else(|| known.map_or("", |known| known.default).to_owned())
}

fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_default_is_a_value_and_nonsense_is_none() {
        for option in OPTIONS {
            assert!(option.accepts(option.default), "{option:?}");
            assert!(!option.accepts("1w") && !option.accepts("-1") && !option.accepts("NaN"), "{option:?}");
        }
    }
}
