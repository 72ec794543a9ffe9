//! Every fuzz entry on real encodings and on deterministic mutations of them, and on the saved corpora.

mod common;
#[path = "common/fuzz_seeds.rs"]
mod fuzz_seeds;
#[path = "../../fuzz/smoke.rs"]
mod smoke;

use wire::codec::{decode_exact, encode_to_bytes};
use wire::fuzzing::targets;
use wire::msg::KINDS;
use wire::osdmap::{Incremental, OsdMap};

#[test]
fn entries_hold_on_mutated_real_encodings() {
    let messages = fuzz_seeds::messages();
    smoke::hold_on_mutations(targets(), 4000, |name| fuzz_seeds::seeds(name, &messages));
}

#[test]
fn entries_hold_on_their_corpora() {
    smoke::hold_on_corpora(targets(), env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn large_maps_and_their_changes_are_sound() {
    let base = fuzz_seeds::small_map();
    let placements = fuzz_seeds::fuzz_maps::placements(&base, &fuzz_seeds::trees());
    for map in fuzz_seeds::fuzz_maps::maps(&base).into_iter().chain(placements) {
        assert_eq!(decode_exact::<OsdMap>("map", encode_to_bytes(&map)).unwrap(), map);
    }
    for (map, next) in fuzz_seeds::fuzz_maps::changes(&base) {
        let map = map.apply(&next).unwrap();
        assert_eq!(decode_exact::<OsdMap>("map", encode_to_bytes(&map)).unwrap(), map);
        assert_eq!(decode_exact::<Incremental>("change", encode_to_bytes(&next)).unwrap(), next);
    }
}

#[test]
fn sealed_maps_start_from_every_program_on_several_trees() {
    // A map whose seeds are left out as too long for all trees would leave the fuzzer to find what they are for.
    let plain = fuzz_seeds::seeds("osdmap", &[]).len();
    let placed = fuzz_seeds::seeds("osdmap_sealed", &[]).len() - plain;
    let programs = fuzz_seeds::fuzz_maps::PROGRAMS as usize;
    assert!(placed % programs == 0 && placed / programs >= 4, "{placed} seeds of {programs} programs");
}

#[test]
fn every_message_has_an_entry() {
    for (_, name) in KINDS {
        let entry = format!("msg_{}", name.to_lowercase());
        // MON_GET_MAP has no content.
        assert!(targets().iter().any(|(known, _)| *known == entry) || *name == "MON_GET_MAP", "{name}");
    }
}
