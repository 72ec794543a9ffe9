//! The sound test cases of every entry, as the crates give them; those of `wire` are what was recorded.

#[path = "../../wire/tests/common/mod.rs"]
mod common;
#[path = "../../wire/tests/common/fuzz_seeds.rs"]
mod recorded;

use std::path::Path;
use std::sync::OnceLock;

use wire::msgr2::Message;

/// Writes the test cases of an entry into a folder, which is made.
pub fn write(folder: &Path, name: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (number, seed) in of(name).iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}

fn of(name: &str) -> Vec<Vec<u8>> {
    if wire::fuzzing::targets().iter().any(|(known, _)| *known == name) {
        static MESSAGES: OnceLock<Vec<Message>> = OnceLock::new();
        return recorded::seeds(name, MESSAGES.get_or_init(recorded::messages));
    }
    // Each gives seeds for the entries of its own.
    let crates = [
        bluefs::fuzzing::seeds,
        client::fuzzing::seeds,
        cls::fuzzing::seeds,
        mon_lite::fuzzing::seeds,
        nvme::fuzzing::seeds,
        osd::fuzzing::seeds,
        pg::fuzzing::seeds,
        store::fuzzing::seeds,
    ];
    crates.iter().flat_map(|seeds| seeds(name)).collect()
}
