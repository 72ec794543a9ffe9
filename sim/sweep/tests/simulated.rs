//! The sweep over the simulated key-value store: every cut and every image of it; of the recoveries, and of the device
//! with small blocks, a sample. The command sweeps those too.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crash_sweep::{
    Counts, Setup, Thoroughness, Totals, large_units, rocks, rocks_with_db, simulated, small_blocks,
    sweep_workload, untouched, with_db, with_db_and_wal, workload,
};
use store::{ChecksumKind, FreeList};

const KINDS: usize = 22;

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
fn did_everything(setup: &Setup, totals: &Totals) {
    assert_eq!(totals.mounts, 3);
    assert_eq!(untouched(setup, totals), Vec::<String>::new(), "{:?}", totals.counters);
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
    did_everything(&simulated(), &totals);
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
    did_everything(&small_blocks(), &totals);
}

#[test]
fn cuts_with_units_of_several_blocks() {
    let how = Thoroughness {
        cut_one_in: 4,
        images_max: 8,
        kill_one_in: 15,
        whole_one_in: 15,
        nest_one_in: 1000,
        ..Thoroughness::full(threads())
    };
    let (_, totals, _) = swept(large_units(), &how);
    did_everything(&large_units(), &totals);
}

#[test]
fn cuts_of_devices_of_which_each_has_a_cache_of_its_own() {
    for setup in [with_db(), with_db_and_wal()] {
        let how = Thoroughness {
            cut_one_in: 6,
            images_max: 8,
            kill_one_in: 20,
            whole_one_in: 20,
            nest_one_in: 1000,
            ..Thoroughness::full(threads())
        };
        let (_, totals, _) = swept(setup.clone(), &how);
        did_everything(&setup, &totals);
    }
}

#[test]
fn the_setups_have_every_kind_of_checksum_and_free_list() {
    let all = [simulated(), small_blocks(), with_db(), with_db_and_wal(), rocks(), rocks_with_db()];
    for kind in ChecksumKind::ALL {
        assert!(all.iter().any(|setup| setup.options.checksum == kind), "{kind:?}");
    }
    for kind in FreeList::ALL {
        assert!(all.iter().any(|setup| setup.free_list == kind && setup.devices.db.is_some()), "{kind:?}");
    }
}
