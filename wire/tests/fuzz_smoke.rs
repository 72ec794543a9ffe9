//! Every fuzz entry on real encodings and on deterministic mutations of them, and on the saved corpora.

mod common;
#[path = "common/fuzz_seeds.rs"]
mod fuzz_seeds;
#[path = "../../fuzz/smoke.rs"]
mod smoke;

use wire::fuzzing::targets;
use wire::msg::KINDS;

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
fn every_message_has_an_entry() {
    for (_, name) in KINDS {
        let entry = format!("msg_{}", name.to_lowercase());
        // MON_GET_MAP has no content.
        assert!(targets().iter().any(|(known, _)| *known == entry) || *name == "MON_GET_MAP", "{name}");
    }
}
