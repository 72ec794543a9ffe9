//! Deliberate mistakes for tests that must find them. Without the feature `planted` none can be set, so code built
//! for use cannot have one: [`Planted`]'s only way in is a field that does not exist then.

/// A mistake, each one line at the place that its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// A group counts as durable although the device was not flushed.
    FlushSkipped,
    /// Replay takes a group whose checksum does not match.
    TornRecordAccepted,
    /// Freed space is reused at once instead of after `durable_through`.
    FreedSpaceReusedEarly,
    /// Replay takes what an earlier mount left in the ring for the next group of the chain.
    StaleEpochAccepted,
    /// Replay writes a deferred payload although its blob no longer owns the range.
    DeferredAppliedToForeignRange,
    /// Replay counts statistics that the checkpoint already holds or counts them twice.
    MergeAppliedTwiceOnReplay,
    /// A generation's entries go although a read holds them.
    OverlayEntryDroppedWhilePinned,
    /// A read gives bytes whatever their checksum.
    ChecksumNotVerified,
    /// A transaction is called durable when its group is written, before the flush.
    AckBeforeDurable,
    /// Replay takes a group whose data in flight is not what was written.
    DataNotVerified,
    /// What a durable group freed or deferred is overwritten before a later durable group says that it is durable.
    ReusedWithoutLaterProof,
    /// Freed space is reused although a read that may see it still runs.
    ReleasedUnderRead,
    /// A deferred payload is written in place as soon as its record is durable.
    DeferredBeforeAllowed,
    /// A load that a change overtook counts as the newest state.
    StaleLoadTaken,
    /// The journal is trimmed when the checkpoint is applied, before it is durable.
    JournalTrimmedEarly,
    /// Space is handed over to the key-value store's file system before the record of the loan is durable.
    LentBeforeDurable,
    /// A loan that a crash made the file system forget is not handed over again.
    ForgottenLoanLost,
    /// Freed space is reused although a deferred write to it is outstanding.
    ReleasedUnderDeferred,
    /// Replay drops a deferred payload whose object is gone, although a clone still has the block.
    DeferredOfSharedDropped,
    /// The last but one object that lets go of a shared block frees it.
    SharedFreedByOne,
    /// Replay leaves out that a record took space, which is then given away twice.
    TakenForgottenByReplay,
    /// Replay leaves out that a record freed space, which is then nobody's.
    FreedForgottenByReplay,
    /// The free list that a checkpoint stores lacks what was freed.
    FreedMissingInFreeList,
    /// A blob of which every block was freed stays, with none.
    EmptyBlobKept,
    /// The checksum of a block that is changed in part is taken before the change.
    ChecksumOfStaleBlock,
    /// Space that the key-value store's file system gave back, and that cannot be journalled now, is forgotten.
    ReturnDropped,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::FlushSkipped,
        Self::TornRecordAccepted,
        Self::FreedSpaceReusedEarly,
        Self::StaleEpochAccepted,
        Self::DeferredAppliedToForeignRange,
        Self::MergeAppliedTwiceOnReplay,
        Self::OverlayEntryDroppedWhilePinned,
        Self::ChecksumNotVerified,
        Self::AckBeforeDurable,
        Self::DataNotVerified,
        Self::ReusedWithoutLaterProof,
        Self::ReleasedUnderRead,
        Self::DeferredBeforeAllowed,
        Self::StaleLoadTaken,
        Self::JournalTrimmedEarly,
        Self::LentBeforeDurable,
        Self::ForgottenLoanLost,
        Self::ReleasedUnderDeferred,
        Self::DeferredOfSharedDropped,
        Self::SharedFreedByOne,
        Self::TakenForgottenByReplay,
        Self::FreedForgottenByReplay,
        Self::FreedMissingInFreeList,
        Self::EmptyBlobKept,
        Self::ChecksumOfStaleBlock,
        Self::ReturnDropped,
    ];

    /// Whether it shows only where there are clones.
    pub fn needs_clones(self) -> bool {
        matches!(self, Self::DeferredOfSharedDropped | Self::SharedFreedByOne)
    }
}

/// The mistake a store was opened with, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    #[cfg(any(test, feature = "planted"))]
    planted: Option<Planted>,
}

impl Fault {
    /// With a mistake.
    #[cfg(any(test, feature = "planted"))]
    pub fn planted(planted: Planted) -> Self {
        Self { planted: Some(planted) }
    }

    /// Whether this one was planted.
    #[cfg(any(test, feature = "planted"))]
    pub(crate) fn is(self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    /// Whether this one was planted: never, in a build without the feature.
    #[cfg(not(any(test, feature = "planted")))]
    #[expect(clippy::unused_self, reason = "the same call in both builds")]
    pub(crate) const fn is(self, _planted: Planted) -> bool {
        false
    }
}
