//! Every fuzz entry on real encodings and on deterministic mutations of them, and on the saved corpora.

#[path = "../../../fuzz/smoke.rs"]
mod smoke;

use pg::fuzzing::{seeds, targets};

#[test]
fn entries_hold_on_mutations() {
    smoke::hold_on_mutations(targets(), 4000, seeds);
}

#[test]
fn entries_hold_on_their_corpora() {
    smoke::hold_on_corpora(targets(), env!("CARGO_MANIFEST_DIR"));
}
