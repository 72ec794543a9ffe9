//! Prints the names of all entries; if `SPIRULA_FUZZ_SEEDS` names a folder, writes the sound test cases of each there.
//!
//! Not a fuzzer, but linked as one, because what is instrumented needs libFuzzer's runtime.

#![no_main]

mod registries;
mod seeds;

use libfuzzer_sys::fuzz_target;

fn run() -> ! {
    let folder = std::env::var_os("SPIRULA_FUZZ_SEEDS").map(std::path::PathBuf::from);
    for (name, _) in registries::ALL.iter().copied().flatten() {
        println!("{name}");
        if let Some(folder) = &folder {
            if let Err(error) = seeds::write(&folder.join(name), name) {
                eprintln!("cannot write the test cases of {name} to {}: {error}", folder.display());
                std::process::exit(1);
            }
        }
    }
    std::process::exit(0);
}

fuzz_target!(init: { run() }, |_data: &[u8]| {});
