//! Each planted bug is found within 200 seeds: what the simulator checks would otherwise be a belief.

use sim::{Floors, Planted, Scenario};

/// Seeds within which each must be found.
const SEEDS: u64 = 200;

fn is_found(name: &str) {
    sim::catch_panics();
    let planted = Planted::by_name(name).expect("a known one");
    let run = |seed| sim::run(&Scenario::new(seed, Floors::default(), false).with_planted(planted), None);
    let found = (1..=SEEDS).map(run).find_map(|outcome| Some((outcome.seed, outcome.failure?)));
    let Some((seed, failure)) = found else { panic!("{planted} was not found within {SEEDS} seeds") };
    println!("{planted}: seed {seed}: {failure:.300}");
}

macro_rules! planted {
    ($($test:ident: $planted:ident,)+) => {
        $(#[test]
        fn $test() {
            is_found(stringify!($planted));
        })+

        #[test]
        fn none_is_forgotten() {
            let known: Vec<String> = Planted::all().iter().map(ToString::to_string).collect();
            assert_eq!(known, vec![$(stringify!($planted)),+]);
        }
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
    released_under_read: ReleasedUnderRead,
    deferred_before_allowed: DeferredBeforeAllowed,
    stale_load_taken: StaleLoadTaken,
    journal_trimmed_early: JournalTrimmedEarly,
    lent_before_durable: LentBeforeDurable,
    forgotten_loan_lost: ForgottenLoanLost,
    released_under_deferred: ReleasedUnderDeferred,
    taken_forgotten_by_replay: TakenForgottenByReplay,
    freed_forgotten_by_replay: FreedForgottenByReplay,
    freed_missing_in_free_list: FreedMissingInFreeList,
    empty_blob_kept: EmptyBlobKept,
    checksum_of_stale_block: ChecksumOfStaleBlock,
    return_dropped: ReturnDropped,
    freed_before_logged: FreedBeforeLogged,
    log_replaced_at_once: LogReplacedAtOnce,
    copies_replaced_together: CopiesReplacedTogether,
    moved_before_logged: MovedBeforeLogged,
    refused_remembered: RefusedRemembered,
}
