//! libFuzzer over one entry: the one after which this program is named.
//!
//! The entry is found while compiling, so that the linker leaves all others out. libFuzzer looks at the counters of
//! every edge in the program after each execution; with all entries in one, that took longer than most executions.

#![no_main]

mod registries;

use libfuzzer_sys::fuzz_target;
use registries::{ALL, Target};

const RUN: fn(&[u8]) = named(env!("CARGO_BIN_NAME"));

const fn named(name: &str) -> fn(&[u8]) {
    let mut registry = 0;
    while registry < ALL.len() {
        let targets: &[Target] = ALL[registry];
        let mut at = 0;
        while at < targets.len() {
            if is_same(targets[at].0.as_bytes(), name.as_bytes()) {
                return targets[at].1;
            }
            at += 1;
        }
        registry += 1;
    }
    panic!("no entry has this program's name")
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

fuzz_target!(|data: &[u8]| RUN(data));
