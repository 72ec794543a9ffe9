//! Looks at the store's free space, so that requests need not.
//!
//! Lives on one core.

use std::rc::Rc;

use rt::sync::{Either, select};

use crate::limits::SPACE_CHECK_INTERVAL;
use crate::osd::Osd;

/// Name of the option with the share of the store, 0 to 1, beyond which nothing grows.
pub const FULL_RATIO_OPTION: &str = "osd_failsafe_full_ratio";
const FULL_RATIO_DEFAULT: f64 = 0.97;

/// Looks until the OSD stops.
pub async fn watch_loop(osd: Rc<Osd>) {
    loop {
        look(&osd);
        if let Either::Left(()) = select(osd.stopping(), osd.core.sleep(SPACE_CHECK_INTERVAL)).await {
            return;
        }
    }
}

/// Looks once.
pub fn look(osd: &Osd) {
    let stats = osd.store.stats();
    let option = osd.options.get(FULL_RATIO_OPTION).and_then(|text| text.parse().ok());
    let full = is_full(stats.total, stats.available, option.unwrap_or(FULL_RATIO_DEFAULT));
    if osd.store_full.replace(full) != full {
        let state = if full { "full: nothing may grow" } else { "no longer full" };
        log::warn!("osd.{}: the store is {state}", osd.config.whoami);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no precision")]
fn is_full(total: u64, available: u64, ratio: f64) -> bool {
    let used = total.saturating_sub(available) as f64;
    total > 0 && used >= total as f64 * ratio
}

#[cfg(test)]
mod tests {
    use super::is_full;

    #[test]
    fn full_means_the_ratio_is_reached() {
        assert!(!is_full(0, 0, 0.97));
        assert!(!is_full(100, 4, 0.97));
        assert!(is_full(100, 3, 0.97));
        assert!(is_full(100, 0, 1.0));
        assert!(!is_full(100, 1, 1.0));
    }
}
