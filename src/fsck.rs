//! `spirula fsck`: checks the stores of a cluster that is not running.

use std::process::ExitCode;

use anyhow::Context;
use rt::CoreId;
use rt::uring::Config;
use serde_json::json;
use store::{FsckLevel, FsckReport, ObjectStore};
use uuid::Uuid;

use crate::backend::{self, SliceStore};
use crate::cli::FsckOptions;
use crate::cluster_dir::ClusterDir;
use crate::daemons::DeviceFiles;
use crate::progress;

/// Exit status when something is wrong.
const DAMAGED: u8 = 2;

/// Runs the command.
pub fn run(options: &FsckOptions) -> anyhow::Result<ExitCode> {
    let (_dir, plan) = ClusterDir::existing(&options.dir)?;
    let ids = plan.osds_meant(options.id);
    let level = if options.deep { FsckLevel::Deep } else { FsckLevel::Metadata };
    let mut files = DeviceFiles::default();
    let mut clean = true;
    for osd in ids {
        let (device, slice) =
            plan.osd(osd).with_context(|| format!("there is no osd.{osd} in this cluster"))?;
        let slice = files.slice(device, slice, osd)?;
        let report = check(slice, plan.fsid, level).with_context(|| format!("osd.{osd}"))?;
        clean &= report.findings.is_empty();
        print(osd, &report, options.json);
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

fn check(slice: SliceStore, fsid: Uuid, level: FsckLevel) -> anyhow::Result<FsckReport> {
    let bar = progress::bar(&format!("checking osd.{}", slice.osd), 0);
    let shown = bar.clone();
    let checked = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let opened = backend::open_read_only(&core, &slice, fsid).await?;
        let progress = move |done, total| {
            shown.set_length(total);
            shown.set_position(done);
        };
        let report = opened.store.fsck(level, Box::new(progress)).await?;
        opened.store.close().await?;
        anyhow::Ok(report)
    });
    bar.finish_and_clear();
    checked.context("io_uring cannot be used on this machine")?
}

fn print(osd: u32, report: &FsckReport, as_json: bool) {
    if as_json {
        let findings: Vec<_> = report
            .findings
            .iter()
            .map(|finding| {
                let severity = format!("{:?}", finding.severity).to_lowercase();
                json!({ "severity": severity, "kind": finding.kind, "detail": finding.detail })
            })
            .collect();
        let report = json!({
            "osd": osd, "objects": report.objects, "bytes_verified": report.bytes_verified, "findings": findings,
        });
        println!("{report}");
        return;
    }
    for finding in &report.findings {
        let severity = format!("{:?}", finding.severity).to_lowercase();
        println!("osd.{osd}: {severity}: {}: {}", finding.kind, finding.detail);
    }
    let verdict = if report.findings.is_empty() { "clean" } else { "DAMAGED" };
    println!("osd.{osd}: {verdict}, {} objects, {} bytes verified", report.objects, report.bytes_verified);
}
