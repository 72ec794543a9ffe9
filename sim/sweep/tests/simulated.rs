//! The sweep over the simulated key-value store: every cut and every image of it; of the recoveries, and of the device
//! with small blocks, a sample. The command sweeps those too.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crash_sweep::{Counts, Setup, Thoroughness, Totals, simulated, small_blocks, sweep_workload, workload};

const KINDS: usize = 21;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn swept(setup: Setup, how: &Thoroughness) -> (Counts, Totals, u64) {
    let (plan, counts) = (Arc::new(workload(3)), Counts::default());
    assert_eq!(plan.kinds().len(), KINDS, "the workload has every kind of op: {:?}", plan.kinds());
    let (totals, tape) =
        sweep_workload(&Arc::new(setup), &plan, how, &counts).expect("the life itself is good");
    println!("{} device writes, {}", tape.writes(), counts.line());
    let failures = counts.failures.lock().expect("nobody panicked with it");
    assert!(failures.is_empty(), "{failures:#?}");
    drop(failures);
    (counts, totals, tape.writes())
}

/// The workload did what it is for.
fn did_everything(totals: &Totals) {
    assert_eq!(totals.mounts, 3);
    let least = [
        ("journal_wraps", 3),
        ("checkpoints", 8),
        ("deferred_blocks", 10),
        ("lent_bytes", 64 << 10),
        ("omaps_reaped", 3),
        ("pg_log_bytes_written", 64 << 10),
        ("released_bytes", 256 << 10),
        ("groups_bare", 3),
    ];
    for (name, least) in least {
        let count = totals.counters.get(name).copied().unwrap_or_default();
        assert!(count >= least, "{name} is {count}, at least {least} is worth a sweep");
    }
    assert!(totals.reads > 20, "{} reads beside the writes", totals.reads);
}

#[test]
fn every_cut_leaves_what_was_acknowledged() {
    let how = Thoroughness {
        kill_one_in: 15,
        whole_one_in: 10,
        nest_one_in: 1500,
        ..Thoroughness::full(threads())
    };
    let (counts, totals, writes) = swept(simulated(), &how);
    did_everything(&totals);
    let get = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    assert!(writes > 300 && get(&counts.cuts) > writes, "{writes} writes");
    assert!(get(&counts.images) > 8000 && get(&counts.not_formatted) > 20);
    assert!(get(&counts.recoveries) > 10 && get(&counts.nested_images) > 500);
}

#[test]
fn cuts_of_a_device_that_seeks_with_small_blocks() {
    let how = Thoroughness {
        cut_one_in: 4,
        images_max: 8,
        kill_one_in: 10,
        whole_one_in: 10,
        nest_one_in: 500,
        ..Thoroughness::full(threads())
    };
    let (_, totals, _) = swept(small_blocks(), &how);
    did_everything(&totals);
}
