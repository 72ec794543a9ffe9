//! How fast work in the background goes: others have their turn after each piece, and while clients wait for something it goes
//! slowly. Lives on one core.

use std::cell::Cell;

use crate::limits::{BACKGROUND_BYTES, BACKGROUND_PAUSE};
use crate::osd::Osd;

/// Of one kind of work.
#[derive(Default)]
pub struct Pace {
    /// Bytes since the last pause.
    unpaused: Cell<u64>,
}

impl Pace {
    /// After so many bytes others have their turn; while clients wait for something, a longer one for every so many of them.
    pub async fn pause(&self, osd: &Osd, bytes: u64) {
        let unpaused = self.unpaused.get() + bytes;
        if osd.tracker.in_flight() == 0 || unpaused < BACKGROUND_BYTES {
            self.unpaused.set(unpaused.min(BACKGROUND_BYTES));
            return osd.core.yield_now().await;
        }
        self.unpaused.set(0);
        // What was done in one piece is paid for as if it had been done in several.
        let pauses = u32::try_from(unpaused / BACKGROUND_BYTES).unwrap_or(u32::MAX);
        osd.core.sleep(BACKGROUND_PAUSE.saturating_mul(pauses)).await;
    }
}
