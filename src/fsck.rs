//! `spirula fsck`: checks, and repairs, the stores of a cluster that is not running.

use std::process::ExitCode;
use std::rc::Rc;

use anyhow::Context;
use indicatif::ProgressBar;
use rt::CoreId;
use rt::uring::Config;
use serde_json::{Value, json};
use store::{
    FsckFinding, FsckLevel, FsckReport, Loss, Lost, ObjectStore, RepairOptions, RepairReport, Watch,
};
use uuid::Uuid;

use crate::backend::{self, SliceStore};
use crate::cli::FsckOptions;
use crate::cluster_dir::ClusterDir;
use crate::daemons::DeviceFiles;
use crate::progress;

/// Exit status when something is wrong.
const DAMAGED: u8 = 2;
/// Exit status when something is wrong after a repair.
const LEFT: u8 = 3;

/// What became of one store.
struct Outcome {
    osd: u32,
    /// What was found; an error if it could not even be opened to look.
    found: Result<FsckReport, String>,
    /// What was repaired, and what is wrong after that.
    repaired: Option<(RepairReport, FsckReport)>,
}

/// Runs the command.
pub fn run(options: &FsckOptions) -> anyhow::Result<ExitCode> {
    let (_dir, plan) = ClusterDir::existing(&options.dir)?;
    let ids = plan.osds_meant(options.id);
    let mut files = DeviceFiles::default();
    let mut status = 0;
    for osd in ids {
        let (device, slice) =
            plan.osd(osd).with_context(|| format!("there is no osd.{osd} in this cluster"))?;
        let mut open = || files.slice(device, slice, osd);
        let outcome = look_after(osd, &mut open, plan.fsid, options).with_context(|| format!("osd.{osd}"))?;
        status = status.max(outcome.status());
        outcome.print(options.json);
    }
    Ok(ExitCode::from(status))
}

fn look_after(
    osd: u32,
    open: &mut dyn FnMut() -> anyhow::Result<SliceStore>,
    fsid: Uuid,
    options: &FsckOptions,
) -> anyhow::Result<Outcome> {
    let level = if options.deep { FsckLevel::Deep } else { FsckLevel::Metadata };
    let found = check(open()?, fsid, level);
    let found = match found {
        Err(error) if options.repair => Err(format!("{error:#}")),
        found => Ok(found?),
    };
    let is_clean = found.as_ref().is_ok_and(|report| report.findings.is_empty());
    let repaired = match options.repair && !is_clean {
        true => {
            let report = repair(open()?, fsid, RepairOptions { discards: options.discard })?;
            Some((report, check(open()?, fsid, level).context("after the repair")?))
        }
        false => None,
    };
    Ok(Outcome { osd, found, repaired })
}

/// Shows how far a check is.
struct Shown(ProgressBar);

impl Watch for Shown {
    fn progress(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

fn check(slice: SliceStore, fsid: Uuid, level: FsckLevel) -> anyhow::Result<FsckReport> {
    let bar = progress::bar(&format!("checking osd.{}", slice.osd), 0);
    let shown = bar.clone();
    let checked = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let opened = backend::open_read_only(&core, &slice, fsid).await?;
        let report = opened.store.fsck(level, Rc::new(Shown(shown))).await?;
        opened.store.close().await?;
        anyhow::Ok(report)
    });
    bar.finish_and_clear();
    checked.context("io_uring cannot be used on this machine")?
}

fn repair(slice: SliceStore, fsid: Uuid, how: RepairOptions) -> anyhow::Result<RepairReport> {
    let bar = progress::bar(&format!("repairing osd.{}", slice.osd), 0);
    let shown = bar.clone();
    let repaired = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        backend::repair(&core, &slice, fsid, how, Rc::new(Shown(shown))).await
    });
    bar.finish_and_clear();
    repaired.context("io_uring cannot be used on this machine")?
}

impl Outcome {
    fn status(&self) -> u8 {
        match (&self.found, &self.repaired) {
            (_, Some((_, left))) if left.findings.is_empty() => 0,
            (_, Some(_)) => LEFT,
            (Ok(found), None) if found.findings.is_empty() => 0,
            _ => DAMAGED,
        }
    }

    fn print(&self, as_json: bool) {
        if as_json { println!("{}", self.to_json()) } else { self.print_text() }
    }

    fn to_json(&self) -> Value {
        let mut value = json!({ "osd": self.osd });
        match &self.found {
            Ok(report) => {
                value["objects"] = report.objects.into();
                value["bytes_verified"] = report.bytes_verified.into();
                value["findings"] = report.findings.iter().map(finding_json).collect();
            }
            Err(problem) => value["problem"] = problem.as_str().into(),
        }
        if let Some((report, left)) = &self.repaired {
            let repaired = report.repaired.iter();
            value["repaired"] =
                repaired.map(|one| json!({ "kind": one.kind, "detail": one.detail })).collect();
            value["lost"] = report.lost.iter().map(loss_json).collect();
            value["left"] = left.findings.iter().map(finding_json).collect();
        }
        value
    }

    fn print_text(&self) {
        let osd = self.osd;
        match &self.found {
            Ok(report) => print_report(osd, report, "DAMAGED"),
            Err(problem) => println!("osd.{osd}: cannot be checked as it is: {problem}"),
        }
        let Some((report, left)) = &self.repaired else { return };
        for one in &report.repaired {
            println!("osd.{osd}: repaired: {}: {}", one.kind, one.detail);
        }
        for loss in &report.lost {
            let what = match loss.lost {
                Lost::Object => "the object".to_owned(),
                Lost::Omap => "its omap".to_owned(),
                Lost::Bytes { from, to } => format!("bytes {from} to {to}"),
            };
            println!("osd.{osd}: LOST: {}: {what}: {}", loss.object, loss.reason);
        }
        print_report(osd, left, "DAMAGED after the repair");
    }
}

fn print_report(osd: u32, report: &FsckReport, damaged: &str) {
    for finding in &report.findings {
        let (severity, remedy) = (lower(finding.severity), lower(finding.remedy));
        println!("osd.{osd}: {severity}: {}: {} (remedy: {remedy})", finding.kind, finding.detail);
    }
    let verdict = if report.findings.is_empty() { "clean" } else { damaged };
    println!("osd.{osd}: {verdict}, {} objects, {} bytes verified", report.objects, report.bytes_verified);
}

fn finding_json(finding: &FsckFinding) -> Value {
    json!({
        "severity": lower(finding.severity), "remedy": lower(finding.remedy), "kind": finding.kind,
        "detail": finding.detail,
    })
}

fn loss_json(loss: &Loss) -> Value {
    let mut value = json!({ "object": loss.object.to_string(), "reason": loss.reason });
    match loss.lost {
        Lost::Object => value["what"] = "object".into(),
        Lost::Omap => value["what"] = "omap".into(),
        Lost::Bytes { from, to } => {
            value["what"] = "bytes".into();
            (value["from"], value["to"]) = (from.into(), to.into());
        }
    }
    value
}

fn lower(value: impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}
