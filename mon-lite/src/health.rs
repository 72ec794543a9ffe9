//! The health of the cluster: checks over the state and what OSDs report. Pure.
//!
//! A check is raised only if somebody can do something about it; that every pool has one copy is no check as long as
//! there cannot be more.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use wire::msg::Severity;
use wire::osdmap::{MapFlags, PoolFlags};

use crate::view::View;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// How bad.
    pub severity: Severity,
    /// In one line.
    pub summary: String,
    /// How many things it is about.
    pub count: usize,
    /// A line for each.
    pub detail: Vec<String>,
}

/// All checks that are raised, by code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health(BTreeMap<String, Check>);

fn status_of(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "HEALTH_WARN",
        Severity::Error => "HEALTH_ERR",
    }
}

fn tag_of(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "[WRN]",
        Severity::Error => "[ERR]",
    }
}

impl Health {
    /// Runs all checks.
    pub fn of(view: &View<'_>) -> Self {
        let mut health = Self::default();
        health.check_osds(view);
        health.check_pgs(view);
        health.check_space(view);
        health.check_pools(view);
        health.check_flags(view);
        health.check_alerts(view);
        health
    }

    /// `HEALTH_OK`, `HEALTH_WARN` or `HEALTH_ERR`.
    pub fn status(&self) -> &'static str {
        self.0.values().map(|check| check.severity).max().map_or("HEALTH_OK", status_of)
    }

    /// By code.
    pub fn checks(&self) -> impl Iterator<Item = (&str, &Check)> {
        self.0.iter().map(|(code, check)| (code.as_str(), check))
    }

    /// The text of `ceph health`, or of `ceph health detail`.
    pub fn text(&self, detail: bool) -> String {
        let summaries: Vec<&str> = self.0.values().map(|check| check.summary.as_str()).collect();
        let mut text = format!("{} {}", self.status(), summaries.join("; ")).trim_end().to_owned();
        for (code, check) in self.0.iter().filter(|_| detail) {
            text.push_str(&format!("\n{} {code}: {}", tag_of(check.severity), check.summary));
            check.detail.iter().for_each(|line| text.push_str(&format!("\n    {line}")));
        }
        text.push('\n');
        text
    }

    /// The value of `ceph health`, or of `ceph health detail`.
    pub fn value(&self, detail: bool) -> Value {
        let check = |(code, check): (&String, &Check)| {
            let mut value = Map::new();
            value.insert("severity".into(), status_of(check.severity).into());
            value.insert("summary".into(), json!({"message": check.summary, "count": check.count}));
            if detail {
                let lines = check.detail.iter().map(|line| json!({"message": line})).collect();
                value.insert("detail".into(), Value::Array(lines));
            }
            value.insert("muted".into(), false.into());
            (code.clone(), Value::Object(value))
        };
        let checks: Map<String, Value> = self.0.iter().map(check).collect();
        json!({"status": self.status(), "checks": checks, "mutes": []})
    }

    fn raise(&mut self, code: &str, severity: Severity, summary: String, detail: Vec<String>) {
        let count = detail.len();
        self.0.insert(code.to_owned(), Check { severity, summary, count, detail });
    }

    fn check_osds(&mut self, view: &View<'_>) {
        let map = view.osd_map();
        let existing = || (0..).zip(&map.osds).filter(|(_, osd)| osd.exists());
        if existing().next().is_none() {
            let detail = vec!["start one with 'spirula up' or 'spirula osd'".to_owned()];
            self.raise("TOO_FEW_OSDS", Severity::Warning, "there is no OSD yet".into(), detail);
        }
        let down: Vec<i32> =
            existing().filter(|(_, osd)| osd.is_in() && !osd.is_up()).map(|(id, _)| id).collect();
        if !down.is_empty() {
            let line = |id: &i32| format!("osd.{id} ({}) is down", crate::crush_view::location(map, *id));
            let detail = down.iter().map(line).collect();
            self.raise("OSD_DOWN", Severity::Warning, format!("{} osds down", down.len()), detail);
        }
    }

    fn check_pgs(&mut self, view: &View<'_>) {
        const LINES_MAX: usize = 50;
        let idle = || {
            view.live
                .pg_map
                .iter()
                .map(|(pg, _)| (pg, view.pg_state(pg)))
                .filter(|(_, state)| !is_active(state))
        };
        let count = idle().count();
        if count == 0 {
            return;
        }
        let mut by_state = BTreeMap::<&str, usize>::new();
        idle().for_each(|(_, state)| *by_state.entry(state).or_default() += 1);
        let states: Vec<String> = by_state.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let summary = format!("Reduced data availability: {count} pgs inactive ({})", states.join(", "));
        let lines: Vec<String> =
            idle().take(LINES_MAX).map(|(pg, state)| format!("pg {pg} is {state}")).collect();
        self.0.insert(
            "PG_AVAILABILITY".into(),
            Check { severity: Severity::Warning, summary, count, detail: lines },
        );
    }

    fn check_space(&mut self, view: &View<'_>) {
        let map = view.osd_map();
        let (nearfull, full) = (f64::from(map.nearfull_ratio.get()), f64::from(map.full_ratio.get()));
        let over = |from: f64, to: f64| -> Vec<String> {
            let within = |ratio: f64| ratio >= from && ratio < to;
            let reports = view.live.reports.iter().filter(|(osd, _)| map.exists(*osd));
            let reports = reports.filter(|(_, report)| within(report.space.ratio()));
            reports
                .map(|(osd, report)| format!("osd.{osd} is {:.0}% full", report.space.ratio() * 100.0))
                .collect()
        };
        let (is_full, is_near) = (over(full, f64::INFINITY), over(nearfull, full));
        if !is_full.is_empty() {
            self.raise("OSD_FULL", Severity::Error, format!("{} full osd(s)", is_full.len()), is_full);
        }
        if !is_near.is_empty() {
            self.raise(
                "OSD_NEARFULL",
                Severity::Warning,
                format!("{} nearfull osd(s)", is_near.len()),
                is_near,
            );
        }
    }

    fn check_pools(&mut self, view: &View<'_>) {
        let map = view.osd_map();
        let name = |id| map.pool_names.get(id).map_or("?", String::as_str);
        let untagged = map.pools.iter().filter(|(_, pool)| pool.applications.is_empty());
        let untagged = untagged.filter(|(id, _)| view.live.reports.pool(**id).objects > 0);
        let lines: Vec<String> =
            untagged.map(|(id, _)| format!("pool '{}' has no application", name(id))).collect();
        if !lines.is_empty() {
            let summary = format!("{} pool(s) hold objects but have no application enabled", lines.len());
            let hint =
                "name what uses a pool with 'ceph osd pool application enable <pool> <rbd|rgw|cephfs|other>'";
            let count = lines.len();
            let detail = lines.into_iter().chain([hint.to_owned()]).collect();
            let check = Check { severity: Severity::Warning, summary, count, detail };
            self.0.insert("POOL_APP_NOT_ENABLED".into(), check);
        }
        let full = map.pools.iter().filter(|(_, pool)| pool.flags.contains(PoolFlags::FULL_QUOTA));
        let lines: Vec<String> = full.map(|(id, _)| format!("pool '{}' is at its quota", name(id))).collect();
        if !lines.is_empty() {
            self.raise("POOL_FULL", Severity::Warning, format!("{} pool(s) full", lines.len()), lines);
        }
    }

    fn check_flags(&mut self, view: &View<'_>) {
        const PERMANENT: u32 = MapFlags::NEW_CLUSTER.0;
        let flags = MapFlags(view.osd_map().flags.0 & !PERMANENT);
        let names = crate::osd_flags::names(flags);
        if !names.is_empty() {
            let summary = format!("{} flag(s) set", names.join(","));
            self.raise("OSDMAP_FLAGS", Severity::Warning, summary, Vec::new());
        }
    }

    fn check_alerts(&mut self, view: &View<'_>) {
        for (osd, alert) in view.live.alerts.iter() {
            let line = format!("osd.{osd}: {}", alert.text);
            let check = self.0.entry(alert.code.clone()).or_insert_with(|| Check {
                severity: alert.severity,
                summary: String::new(),
                count: 0,
                detail: Vec::new(),
            });
            check.severity = check.severity.max(alert.severity);
            check.count += 1;
            check.summary = format!("{} osd(s) report: {}", check.count, alert.text);
            check.detail.push(line);
        }
    }
}

/// Whether a PG in this state serves clients.
pub fn is_active(state: &str) -> bool {
    state.split('+').any(|part| part == "active")
}
