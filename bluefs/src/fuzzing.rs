//! One entry per format of BlueFS and of the simulated key-value store on it, for fuzzers and for replaying their
//! corpora.
//!
//! Each entry takes any bytes and panics when an invariant breaks: a decoder panics or gives more than its input holds;
//! encoding what was decoded does not give the same; a record that is refused changes something; a damaged log gives
//! what was never written. What is refused is fine.

use crate::fs::fuzzing as fs;
use crate::kv::fuzzing as kv;

/// Name of an entry, and the function that takes the bytes of one test case.
pub type Target = (&'static str, fn(&[u8]));

/// All entries.
pub const fn targets() -> &'static [Target] {
    TARGETS
}

/// Sound test cases for the entry of this name; none for some.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    [fs::seeds(name), kv::seeds(name)].concat()
}

static TARGETS: &[Target] = &[
    ("bluefs_superblock", fs::superblock),
    ("bluefs_records", fs::records),
    ("bluefs_log", fs::log),
    ("bluefs_raw_log", fs::raw_log),
    ("bluefs_log_damage", fs::log_damage),
    ("sim_kv_manifest", kv::manifest),
    ("sim_kv_run", kv::run),
];
