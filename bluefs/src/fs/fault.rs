//! Deliberate mistakes for tests that must find them. Without the feature `planted` none can be set, so code built for
//! use cannot have one: [`Planted`]'s only way in is a call that does not exist then.

/// A mistake, at the place that its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// What a file let go of is allocated again before the record that says so is durable.
    FreedBeforeLogged,
    /// A new log and the superblocks that name it are written with one flush for all.
    LogReplacedAtOnce,
    /// Both copies of the superblock are replaced at once.
    CopiesReplacedTogether,
    /// A file that was cut goes on writing where its end was, although that is given away.
    CutSpaceKept,
    /// The old place of what moved is allocated again before the move is durable.
    MovedBeforeLogged,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::FreedBeforeLogged,
        Self::LogReplacedAtOnce,
        Self::CopiesReplacedTogether,
        Self::CutSpaceKept,
        Self::MovedBeforeLogged,
    ];
}

/// The mistake that a mount makes, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    #[cfg(feature = "planted")]
    planted: Option<Planted>,
}

impl Fault {
    /// With a mistake.
    #[cfg(feature = "planted")]
    pub(super) fn planted(planted: Planted) -> Self {
        Self { planted: Some(planted) }
    }

    /// Whether this one was planted.
    #[cfg(feature = "planted")]
    pub(super) fn is(self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    /// Whether this one was planted: never, in a build without the feature.
    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "the same call in both builds")]
    pub(super) const fn is(self, _planted: Planted) -> bool {
        false
    }
}
