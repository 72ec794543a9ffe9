//! Looks at the store's free space, so that requests need not; and tells the operator when the store itself refuses,
//! which it may do before space looks short: what counts is room for the data, its keys and the journal, each by itself.
//!
//! Lives on one core.

use std::cell::RefCell;
use std::rc::Rc;

use rt::sync::{Either, select};
use rt::{Nanos, Seldom};
use wire::msg::{Alert, Severity};
use wire::types::PgId;

use crate::limits::{
    SPACE_CHECK_INTERVAL, SPACE_REFUSAL_REMEMBERED, SPACE_REFUSALS_LOGGED, SPACE_REFUSALS_PERIOD,
};
use crate::osd::Osd;

/// Code of the health check that an OSD raises while its store refuses what grows.
const ALERT_CODE: &str = "OSD_STORE_FULL";

/// Code of the health check while keys are on the main device although there is a fast one for them.
//= ceph 16.2 mon: the name of this health check
const SPILLOVER_CODE: &str = "BLUEFS_SPILLOVER";

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

/// What the store refused for want of space.
pub struct Refusals {
    /// Bounds the log of them.
    log: Seldom,
    /// When it did last, and why.
    last: RefCell<Option<(Nanos, String)>>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { log: Seldom::new(SPACE_REFUSALS_LOGGED, SPACE_REFUSALS_PERIOD), last: RefCell::default() }
    }
}

/// The store refused a transaction of a group.
pub fn refused(osd: &Osd, pg: PgId, reason: &str) {
    let now = osd.core.now();
    osd.space_refusals.last.replace(Some((now, reason.to_owned())));
    if let Some(more) = osd.space_refusals.log.admit(now) {
        let whoami = osd.config.whoami;
        log::warn!("osd.{whoami}: the store refuses a write to pg {pg} for want of space: {reason}{more}");
    }
}

/// What the operator should know of space now. That the device is nearly full the monitor sees by itself.
pub fn alert(osd: &Osd) -> Option<Alert> {
    let last = osd.space_refusals.last.borrow();
    let (when, reason) = last.as_ref()?;
    let age = osd.core.now().0.saturating_sub(when.0);
    (u128::from(age) < SPACE_REFUSAL_REMEMBERED.as_nanos()).then(|| Alert {
        code: ALERT_CODE.to_owned(),
        severity: Severity::Error,
        text: format!("the store is full and refuses writes: {reason}"),
    })
}

/// That the device for keys is too small for them: the store works on, and is slower.
pub fn spillover(osd: &Osd) -> Option<Alert> {
    let stats = osd.store.stats();
    let text = spillover_text(stats.fast, stats.fast_available, stats.spilled)?;
    Some(Alert { code: SPILLOVER_CODE.to_owned(), severity: Severity::Warning, text })
}

fn spillover_text(fast: u64, available: u64, spilled: u64) -> Option<String> {
    (spilled > 0).then(|| {
        format!(
            "{} MiB of keys are on the main device: of the {} MiB of the db device {} MiB are free; they move back when \
             it has room",
            spilled.div_ceil(1 << 20),
            fast >> 20,
            available >> 20
        )
    })
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no precision")]
fn is_full(total: u64, available: u64, ratio: f64) -> bool {
    let used = total.saturating_sub(available) as f64;
    total > 0 && used >= total as f64 * ratio
}

#[cfg(test)]
mod tests {
    use super::{is_full, spillover_text};

    #[test]
    fn spilled_keys_are_told_of() {
        assert_eq!(spillover_text(64 << 20, 0, 0), None);
        let text = spillover_text(64 << 20, 3 << 20, 1).expect("told");
        assert!(
            text.starts_with("1 MiB of keys") && text.contains("64 MiB") && text.contains("3 MiB are free")
        );
    }

    #[test]
    fn full_means_the_ratio_is_reached() {
        assert!(!is_full(0, 0, 0.97));
        assert!(!is_full(100, 4, 0.97));
        assert!(is_full(100, 3, 0.97));
        assert!(is_full(100, 0, 1.0));
        assert!(!is_full(100, 1, 1.0));
    }
}
