//! Arithmetic on times.

use std::time::Duration;

use rt::Nanos;

/// `duration` after `time`; saturates.
pub(crate) fn after(time: Nanos, duration: Duration) -> Nanos {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Nanos(time.0.saturating_add(nanos))
}

/// `first`, doubled `times` times, at most `most`.
pub(crate) fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.checked_mul(1u32.checked_shl(times.min(16)).unwrap_or(1)).unwrap_or(most).min(most)
}
