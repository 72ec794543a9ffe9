//! A seed is one history: run twice it gives the same hash, which covers every message and device write.

use sim::{Floors, Scenario};

#[test]
fn a_seed_runs_the_same_twice_and_unlike_others() {
    sim::catch_panics();
    let floors = Floors { operations: 100, journal_wraps: 1, reuse_permille: 0, ..Floors::default() };
    let run = |seed| sim::run(&Scenario::new(seed, floors, false), None);
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 1..=4 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.failure, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 4);
}

#[test]
fn a_run_that_cannot_reach_its_floors_fails() {
    let floors = Floors { operations: 20, operations_max: 60, journal_wraps: 1_000_000, ..Floors::default() };
    let outcome = sim::run(&Scenario::new(1, floors, false), None);
    let failure = outcome.failure.expect("no journal goes around so often");
    assert!(failure.contains("did not reach its floors"), "{failure}");
}
