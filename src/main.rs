//! The command `spirula`.

fn main() {}
