//! One entry for what a device that is to be formatted may hold, and one for what the system tells about devices, for
//! fuzzers and for replaying their corpora.
//!
//! Each entry takes any bytes and panics when an invariant breaks: something is recognised outside the device, or a
//! limit that the system gave cannot be computed with. Pure.

use crate::{file, probe};

/// Name of an entry, and the function that takes the bytes of one test case.
pub type Target = (&'static str, fn(&[u8]));

/// All entries.
pub const fn targets() -> &'static [Target] {
    TARGETS
}

static TARGETS: &[Target] =
    &[("nvme_signatures", probe::fuzzing::signatures), ("nvme_system_texts", file::fuzzing::system_texts)];

/// Sound test cases for the entry of this name; none for some.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "nvme_signatures" => probe::fuzzing::seeds(),
        "nvme_system_texts" => file::fuzzing::seeds(),
        _ => Vec::new(),
    }
}
