//! libFuzzer over every decoder. The target is named by the environment variable `SPIRULA_FUZZ_TARGET`; `list` as only
//! input file name is not used: scripts/fuzz asks `SPIRULA_FUZZ_TARGET=list` for the names.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

/// Every registry of decoders there is.
fn targets() -> Vec<(&'static str, Target)> {
    let mut all: Vec<(&'static str, Target)> = Vec::new();
    for registry in [
        bluefs::fuzzing::targets(),
        osd::fuzzing::targets(),
        wire::fuzzing::targets(),
        pg::fuzzing::targets(),
        mon_lite::fuzzing::targets(),
        store::fuzzing::targets(),
    ] {
        all.extend_from_slice(registry);
    }
    all
}

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("SPIRULA_FUZZ_TARGET").unwrap_or_default();
        if name == "list" {
            for (name, _) in targets() {
                println!("{name}");
            }
            std::process::exit(0);
        }
        match targets().into_iter().find(|(known, _)| *known == name) {
            Some((_, target)) => target,
            None => {
                eprintln!("SPIRULA_FUZZ_TARGET='{name}' is not a target; 'list' prints them");
                std::process::exit(2);
            }
        }
    })
}

fuzz_target!(|data: &[u8]| chosen()(data));
