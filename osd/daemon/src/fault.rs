//! Deliberate mistakes for tests that must find them. Without the feature `planted` none can be set, so code built for
//! use cannot have one: [`Planted`]'s only way in is a call that does not exist then.

use std::cell::Cell;

/// A mistake, at the place that its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// A request that the store refused is remembered as done, and so answered if it comes again.
    RefusedRemembered,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::RefusedRemembered];
}

/// The mistake that an OSD makes, if any.
#[derive(Debug, Default)]
pub struct Fault {
    planted: Cell<Option<Planted>>,
}

impl Fault {
    /// Makes it from now on.
    #[cfg(feature = "planted")]
    pub(crate) fn plant(&self, planted: Planted) {
        self.planted.set(Some(planted));
    }

    /// Whether this one was planted: never, in a build without the feature.
    pub(crate) fn is(&self, planted: Planted) -> bool {
        self.planted.get() == Some(planted)
    }
}
