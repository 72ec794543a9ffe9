//! Every registry of fuzz entries there is, by crate.

/// An entry: its name, and the function that takes the bytes of one test case.
pub type Target = (&'static str, fn(&[u8]));

/// All registries. The constant evaluation in `main.rs` needs them by name, so that a program holds one entry only.
pub const ALL: &[&[Target]] = &[
    bluefs::fuzzing::targets(),
    client::fuzzing::targets(),
    cls::fuzzing::targets(),
    mon_lite::fuzzing::targets(),
    nvme::fuzzing::targets(),
    osd::fuzzing::targets(),
    pg::fuzzing::targets(),
    store::fuzzing::targets(),
    wire::fuzzing::targets(),
];
