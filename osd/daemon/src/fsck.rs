//! Checking the store beside clients, on request: everything of one moment, in the background and in small steps, while what
//! changes later goes on. What was found is told by `ceph health` until a later check finds nothing. Lives on one core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rt::sync::{Notify, select};
use rt::{LocalBoxFuture, Nanos};
use serde_json::{Value, json};
use store::{FsckFinding, FsckLevel, FsckReport, FsckSeverity, StoreError, Watch};
use wire::msg::{Alert, Severity};

use crate::limits::FSCK_FINDINGS_KEPT;
use crate::osd::Osd;
use crate::pace::Pace;

/// Code of the health check that an OSD raises while its store is known to be damaged.
const ALERT_CODE: &str = "OSD_FSCK_ERRORS";

/// The check that goes on, and what the last one found.
#[derive(Default)]
pub struct Checks {
    wanted: Cell<Option<FsckLevel>>,
    running: RefCell<Option<Running>>,
    last: RefCell<Option<Ended>>,
    /// The running one is to end.
    cut: Cell<bool>,
    changed: Notify,
    pace: Pace,
}

#[derive(Clone, Copy)]
struct Running {
    level: FsckLevel,
    began: Nanos,
    /// Objects.
    done: u64,
    /// Of about so many.
    total: u64,
}

struct Ended {
    level: FsckLevel,
    /// Seconds since 1970.
    stamp: u64,
    seconds: u64,
    objects: u64,
    bytes_verified: u64,
    is_whole: bool,
    findings: usize,
    worst: Option<FsckSeverity>,
    /// The first ones.
    kept: Vec<FsckFinding>,
}

/// Who slows the check down while clients wait for something.
struct Watcher(Rc<Osd>);

impl Watch for Watcher {
    fn progress(&self, done: u64, total: u64) {
        if let Some(running) = self.0.checks.running.borrow_mut().as_mut() {
            (running.done, running.total) = (done, total);
        }
    }

    fn pause(&self, bytes: u64) -> LocalBoxFuture<'static, bool> {
        let osd = self.0.clone();
        Box::pin(async move {
            osd.checks.pace.pause(&osd, bytes).await;
            goes_on(&osd) && !osd.checks.cut.get()
        })
    }
}

impl Checks {
    /// Wants the store to be checked.
    pub fn want(&self, level: FsckLevel) {
        self.wanted.set(Some(level));
        self.changed.notify_all();
    }

    /// None is wanted any more, and one that goes on is cut off.
    pub fn stop(&self) {
        self.wanted.set(None);
        self.cut.set(true);
    }

    /// What the last check found.
    pub fn findings(&self) -> usize {
        self.last.borrow().as_ref().map_or(0, |last| last.findings)
    }
}

/// Checks when that is wanted, until the OSD stops.
pub async fn check_loop(osd: Rc<Osd>) {
    while goes_on(&osd) {
        let Some(level) = osd.checks.wanted.take() else {
            select(osd.stopping(), osd.checks.changed.notified()).await;
            continue;
        };
        osd.checks.cut.set(false);
        let began = osd.core.now();
        osd.checks.running.replace(Some(Running { level, began, done: 0, total: 0 }));
        let report = osd.store.fsck(level, Rc::new(Watcher(osd.clone()))).await;
        osd.checks.running.replace(None);
        match report {
            Ok(report) => note(&osd, level, began, report),
            Err(StoreError::Down(reason)) if goes_on(&osd) => return osd.fail(&reason),
            Err(error) => log::warn!("osd.{}: the store cannot be checked: {error}", osd.config.whoami),
        }
    }
}

fn goes_on(osd: &Osd) -> bool {
    !osd.is_stopping() && !osd.has_failed()
}

fn note(osd: &Osd, level: FsckLevel, began: Nanos, report: FsckReport) {
    let FsckReport { findings, objects, bytes_verified, is_whole } = report;
    let whoami = osd.config.whoami;
    for finding in findings.iter().take(FSCK_FINDINGS_KEPT) {
        log::error!("osd.{whoami}: fsck: {:?}: {}: {}", finding.severity, finding.kind, finding.detail);
    }
    let seconds = seconds(Nanos(osd.core.now().0.saturating_sub(began.0)));
    let counters = &osd.counters;
    counters.fscks.set(counters.fscks.get() + 1);
    let found = u64::try_from(findings.len()).unwrap_or(u64::MAX);
    counters.fsck_errors.set(counters.fsck_errors.get() + found);
    // One that was cut off and found nothing says nothing of what was found before.
    if !is_whole && findings.is_empty() && osd.checks.findings() > 0 {
        return;
    }
    let worst = findings.iter().map(|finding| finding.severity).max();
    let stamp = self::seconds(osd.core.wall_clock());
    let (count, mut kept) = (findings.len(), findings);
    kept.truncate(FSCK_FINDINGS_KEPT);
    let ended =
        Ended { level, stamp, seconds, objects, bytes_verified, is_whole, findings: count, worst, kept };
    osd.checks.last.replace(Some(ended));
}

/// What the operator should know.
pub fn alert(osd: &Osd) -> Option<Alert> {
    let last = osd.checks.last.borrow();
    let last = last.as_ref().filter(|last| last.findings > 0)?;
    let is_bad = last.worst > Some(FsckSeverity::Warning);
    let whoami = osd.config.whoami;
    Some(Alert {
        code: ALERT_CODE.to_owned(),
        severity: if is_bad { Severity::Error } else { Severity::Warning },
        text: format!(
            "{} problems in the store of osd.{whoami}: 'ceph tell osd.{whoami} dump_fsck' names them, 'spirula fsck --repair' \
             repairs a store that is stopped",
            last.findings
        ),
    })
}

/// For `dump_fsck`.
pub fn show(osd: &Osd) -> Value {
    let running = *osd.checks.running.borrow();
    let running = running.map(|running| {
        let elapsed = seconds(Nanos(osd.core.now().0.saturating_sub(running.began.0)));
        let left = running.total.saturating_sub(running.done);
        json!({
            "level": name(running.level),
            "objects": running.done,
            "objects_expected": running.total,
            "progress": (100 * running.done).checked_div(running.total).unwrap_or(0).min(100),
            "seconds": elapsed,
            "seconds_left": (elapsed * left).checked_div(running.done),
        })
    });
    let last = osd.checks.last.borrow();
    let last = last.as_ref().map(|last| {
        let findings = last.kept.iter().map(|finding| {
            json!({
                "severity": lower(finding.severity), "remedy": lower(finding.remedy), "kind": finding.kind,
                "detail": finding.detail,
            })
        });
        json!({
            "level": name(last.level),
            "stamp": last.stamp,
            "seconds": last.seconds,
            "objects": last.objects,
            "bytes_verified": last.bytes_verified,
            "cut_off": !last.is_whole,
            "errors": last.findings,
            "findings": findings.collect::<Vec<_>>(),
        })
    });
    let wanted = osd.checks.wanted.get().map(name);
    json!({ "running": running, "wanted": wanted, "last": last })
}

fn name(level: FsckLevel) -> &'static str {
    match level {
        FsckLevel::Metadata => "metadata",
        FsckLevel::Deep => "deep",
    }
}

fn lower(value: impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

fn seconds(time: Nanos) -> u64 {
    time.0 / 1_000_000_000
}
