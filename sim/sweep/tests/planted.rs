//! The sweep has teeth: each planted mistake that a crash can show is found.

#![cfg(feature = "planted")]

use std::sync::Arc;

use crash_sweep::{Counts, Setup, Thoroughness, rocks, simulated, small_blocks, sweep_workload, workload};
use store::{Fault, Options, Planted};

/// These need no crash to be seen.
const SHOWS_AT_ONCE: [Planted; 3] =
    [Planted::SharedFreedByOne, Planted::EmptyBlobKept, Planted::ChecksumOfStaleBlock];

/// Tries one setup after another; what was found first.
fn found(planted: Planted, setups: impl IntoIterator<Item = Setup>, rounds: u32) -> Option<String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let how = Thoroughness {
        images_max: 12,
        kill_one_in: 6,
        nest_one_in: 40,
        failures_max: 1,
        ..Thoroughness::full(threads)
    };
    let plan = Arc::new(workload(rounds));
    setups.into_iter().find_map(|setup| {
        let options = Options { fault: Fault::planted(planted), ..setup.options.clone() };
        let counts = Counts::default();
        let swept = sweep_workload(&Arc::new(Setup { options, ..setup }), &plan, &how, &counts);
        if let Err(reason) = swept {
            // Of most mistakes, that they are noticed without any crash is not what this is about.
            assert!(SHOWS_AT_ONCE.contains(&planted), "{reason}");
            return Some(format!("without a crash: {reason}"));
        }
        let failure = counts.failures.lock().ok()?.first().map(|failure| format!("{failure:?}"))?;
        Some(format!("{failure} after {}", counts.line()))
    })
}

macro_rules! planted {
    ($($test:ident: $planted:ident,)+) => {
        $(#[test]
        fn $test() {
            match found(Planted::$planted, [simulated(), small_blocks()], 3) {
                Some(what) => println!("{:?}: {what:.600}", Planted::$planted),
                None => panic!("{:?} was not found", Planted::$planted),
            }
        })+
    };
}

planted! {
    flush_skipped: FlushSkipped,
    torn_record_accepted: TornRecordAccepted,
    freed_space_reused_early: FreedSpaceReusedEarly,
    stale_epoch_accepted: StaleEpochAccepted,
    deferred_applied_to_foreign_range: DeferredAppliedToForeignRange,
    merge_applied_twice_on_replay: MergeAppliedTwiceOnReplay,
    ack_before_durable: AckBeforeDurable,
    deferred_of_shared_dropped: DeferredOfSharedDropped,
    shared_freed_by_one: SharedFreedByOne,
    taken_forgotten_by_replay: TakenForgottenByReplay,
    freed_forgotten_by_replay: FreedForgottenByReplay,
    freed_missing_in_free_list: FreedMissingInFreeList,
    empty_blob_kept: EmptyBlobKept,
    checksum_of_stale_block: ChecksumOfStaleBlock,
}

#[test]
fn acknowledgement_before_durability_over_rocksdb() {
    let what = found(Planted::AckBeforeDurable, [rocks()], 1).expect("it is found");
    println!("AckBeforeDurable over RocksDB: {what:.600}");
}

#[test]
fn a_skipped_flush_over_rocksdb() {
    let what = found(Planted::FlushSkipped, [rocks()], 1).expect("it is found");
    println!("FlushSkipped over RocksDB: {what:.600}");
}
