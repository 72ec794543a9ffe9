//! The sweep over RocksDB on BlueFS, a sample of it: opening RocksDB takes many milliseconds. The command does the whole.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crash_sweep::{Counts, Setup, Thoroughness, rocks, rocks_with_db, sweep_workload, workload};

#[test]
fn cuts_leave_what_was_acknowledged() {
    let full = Thoroughness::full(std::thread::available_parallelism().map_or(1, usize::from));
    let nested = full.nested.clone().map(|nested| {
        Box::new(Thoroughness { cut_one_in: 8, images_max: 1, nest_one_in: 0, kill_one_in: 0, ..*nested })
    });
    let how = Thoroughness { cut_one_in: 8, images_max: 2, nest_one_in: 60, kill_one_in: 30, nested, ..full };
    let touched = ["journal_wraps", "checkpoints", "deferred_blocks", "omaps_reaped"];
    swept(rocks(), &how, &[&touched[..], &["lent_bytes"]].concat());
    // Keys have a device of their own there, and nothing is lent as long as that has room.
    swept(rocks_with_db(), &Thoroughness { cut_one_in: 24, ..how }, &touched);
}

fn swept(setup: Setup, how: &Thoroughness, touched: &[&str]) {
    let (plan, counts) = (Arc::new(workload(2)), Counts::default());
    let (totals, tape) =
        sweep_workload(&Arc::new(setup), &plan, how, &counts).expect("the life itself is good");
    println!("{} device writes, {} flushes, {}", tape.writes(), tape.flushes(), counts.line());
    let failures = counts.failures.lock().expect("nobody panicked with it");
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(tape.writes() > 200 && counts.images.load(Ordering::Relaxed) > 60, "{}", counts.line());
    for name in touched {
        assert!(totals.counters[name] > 0, "{name} is worth a sweep: {:?}", totals.counters);
    }
}
