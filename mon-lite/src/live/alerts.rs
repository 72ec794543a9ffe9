//! What OSDs complain about: shown in `ceph health` until they say otherwise.
//!
//! Invariant: at most [`ALERTS_PER_OSD_MAX`] per OSD, its newest word. Host view of one monitor.

use std::collections::BTreeMap;

use wire::msg::Alert;

use crate::limits::{ALERT_TEXT_BYTES_MAX, ALERTS_PER_OSD_MAX};

/// The complaints of all OSDs.
#[derive(Clone, Debug, Default)]
pub struct Alerts(BTreeMap<i32, Vec<Alert>>);

impl Alerts {
    /// Takes all that an OSD has to complain about, in place of what it said before. True if that differs.
    pub fn accept(&mut self, osd: i32, mut alerts: Vec<Alert>) -> bool {
        alerts.truncate(ALERTS_PER_OSD_MAX);
        for alert in &mut alerts {
            alert.text = alert.text.chars().take(ALERT_TEXT_BYTES_MAX / 4).collect();
            // Codes are keys of the health's checks, so they have the shape of those.
            alert.code.retain(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            alert.code.make_ascii_uppercase();
        }
        if alerts.is_empty() {
            return self.0.remove(&osd).is_some();
        }
        self.0.insert(osd, alerts.clone()).is_none_or(|before| before != alerts)
    }

    /// By OSD.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Alert)> {
        self.0.iter().flat_map(|(osd, alerts)| alerts.iter().map(|alert| (*osd, alert)))
    }
}
