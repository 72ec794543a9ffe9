//! One entry per decoder and per way to change the state, for fuzzers and for replaying their corpora.
//!
//! Each entry takes any bytes and panics when an invariant breaks: a decoder panics or gives a value larger than its
//! input allows; encoding what was decoded and decoding that again does not give the same; a decision cannot be
//! applied or does not fit an entry of the log; a damaged log gives an entry that was never written. What is refused
//! is fine.

mod cluster;
mod commands;
mod disk;
mod messages;
mod seeds;
mod values;

pub use seeds::seeds;

/// Name of an entry, and the function that takes the bytes of one test case.
pub type Target = (&'static str, fn(&[u8]));

/// All entries.
pub const fn targets() -> &'static [Target] {
    TARGETS
}

static TARGETS: &[Target] = &[
    ("mon_log_superblock", disk::superblock),
    ("mon_log_record", disk::record),
    ("mon_log_damage", disk::damage),
    ("mon_entry", values::entry),
    ("mon_state", values::state),
    ("mon_state_apply", values::apply),
    ("mon_command_json", commands::json),
    ("mon_commands", commands::history),
    ("mon_pool_op", messages::pool_op),
    ("mon_osd_boot", messages::osd_boot),
    ("mon_osd_stats", messages::osd_stats),
    ("mon_log_message", messages::log),
];
