//! Options of pools by number, name and type, as they are in the OSD map.

use wire::osdmap::{FloatBits, PoolOption};

/// Type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionType {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// A number from 0 to 1.
    Ratio,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// The name of a kind of checksum; stored as its number.
    Checksum,
}

use OptionType::{Checksum, Choice, Float, Integer, Ratio, Text};

/// Kinds of checksums by number, from 1 on.
const CHECKSUMS: [&str; 6] = ["none", "xxhash32", "xxhash64", "crc32c", "crc32c_16", "crc32c_8"];

//= ceph 16.2 osdmap: pool options by key number
const OPTIONS: [(&str, OptionType); 23] = [
    ("scrub_min_interval", Float),
    ("scrub_max_interval", Float),
    ("deep_scrub_interval", Float),
    ("recovery_priority", Integer),
    ("recovery_op_priority", Integer),
    ("scrub_priority", Integer),
    ("compression_mode", Choice(&["none", "passive", "aggressive", "force"])),
    ("compression_algorithm", Choice(&["none", "lz4", "snappy", "zlib", "zstd"])),
    ("compression_required_ratio", Ratio),
    ("compression_max_blob_size", Integer),
    ("compression_min_blob_size", Integer),
    ("csum_type", Checksum),
    ("csum_max_block", Integer),
    ("csum_min_block", Integer),
    ("fingerprint_algorithm", Text),
    ("pg_num_min", Integer),
    ("target_size_bytes", Integer),
    ("target_size_ratio", Float),
    ("pg_autoscale_bias", Float),
    ("read_lease_interval", Float),
    ("dedup_tier", Integer),
    ("dedup_chunk_algorithm", Text),
    ("dedup_cdc_chunk_size", Integer),
];

/// Name of the option with this number, if it is known.
pub fn static_name(key: i32) -> Option<&'static str> {
    usize::try_from(key).ok().and_then(|index| OPTIONS.get(index)).map(|(name, _)| *name)
}

/// Name of the option with this number.
pub fn name_of(key: i32) -> String {
    static_name(key).map_or_else(|| format!("option{key}"), str::to_owned)
}

/// Number and type of the option with this name.
pub fn key_of(name: &str) -> Option<(i32, OptionType)> {
    (0..).zip(OPTIONS).find(|(_, (other, _))| *other == name).map(|(key, (_, kind))| (key, kind))
}

/// Reads a value of this type.
pub fn parse(kind: OptionType, value: &str) -> Option<PoolOption> {
    match kind {
        Text => Some(PoolOption::Text(value.to_owned())),
        Choice(choices) => choices.contains(&value).then(|| PoolOption::Text(value.to_owned())),
        Integer => value.parse().ok().map(PoolOption::Integer),
        Float | Ratio => value
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite() && (kind == Float || (0.0..=1.0).contains(value)))
            .map(|v| PoolOption::Float(FloatBits::new(v))),
        Checksum => {
            (1..).zip(CHECKSUMS).find(|(_, name)| *name == value).map(|(n, _)| PoolOption::Integer(n))
        }
    }
}

/// What a value of this type may be, for messages.
pub fn describe(kind: OptionType) -> String {
    match kind {
        Text => "a text".to_owned(),
        Choice(choices) => format!("one of {}, or unset", choices.join(", ")),
        Integer => "a whole number".to_owned(),
        Float => "a number".to_owned(),
        Ratio => "a number from 0 to 1".to_owned(),
        Checksum => format!("one of {}, or unset", CHECKSUMS.join(", ")),
    }
}

/// The name that an option's number stands for.
pub fn value_name(key: i32, option: &PoolOption) -> Option<&'static str> {
    let (_, kind) = usize::try_from(key).ok().and_then(|index| OPTIONS.get(index))?;
    match (kind, option) {
        (Checksum, PoolOption::Integer(number)) => {
            (1..).zip(CHECKSUMS).find(|(n, _)| n == number).map(|(_, name)| name)
        }
        _ => None,
    }
}

/// The value that unsets an option: an empty text, or 0.
pub fn unsets(option: &PoolOption) -> bool {
    match option {
        PoolOption::Text(text) => text.is_empty(),
        PoolOption::Integer(value) => *value == 0,
        PoolOption::Float(bits) => bits.get() == 0.0,
    }
}
