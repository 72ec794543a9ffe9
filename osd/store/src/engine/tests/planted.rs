//! Planted mistakes are found by the random crash test: what it checks would otherwise be a belief. One that needs
//! more than it has, slow reads or aimed crashes, is the cluster simulator's, or has a test that aims at it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::crash::{Setup, run};
use crate::fault::{Fault, Planted};

/// Seeds within which each must be found.
const SEEDS: u64 = 2000;

fn found_within(planted: Planted) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| {
        let setup = Setup {
            seed,
            lives: 8,
            life_max: Duration::from_millis(60),
            fault: Fault::planted(planted),
            spills: false,
        };
        match catch_unwind(AssertUnwindSafe(|| run(&setup))) {
            Ok(Ok(_)) => None,
            Ok(Err(failure)) => Some((seed, failure)),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                Some((seed, text.unwrap_or_else(|| "a broken invariant".to_owned())))
            }
        }
    })
}

fn is_found(planted: Planted) {
    let Some((seed, failure)) = found_within(planted) else {
        panic!("{planted:?} was not found within {SEEDS} seeds")
    };
    println!("{planted:?}: seed {seed}: {failure:.300}");
}

macro_rules! planted {
    ($($test:ident: $planted:ident,)+) => {
        $(#[test]
        fn $test() {
            is_found(Planted::$planted);
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
    overlay_entry_dropped_while_pinned: OverlayEntryDroppedWhilePinned,
    checksum_not_verified: ChecksumNotVerified,
    ack_before_durable: AckBeforeDurable,
    data_not_verified: DataNotVerified,
    reused_without_later_proof: ReusedWithoutLaterProof,
    deferred_before_allowed: DeferredBeforeAllowed,
    stale_load_taken: StaleLoadTaken,
    journal_trimmed_early: JournalTrimmedEarly,
    shared_freed_by_one: SharedFreedByOne,
    taken_forgotten_by_replay: TakenForgottenByReplay,
    freed_forgotten_by_replay: FreedForgottenByReplay,
    freed_missing_in_free_list: FreedMissingInFreeList,
    empty_blob_kept: EmptyBlobKept,
    checksum_of_stale_block: ChecksumOfStaleBlock,
}
