//! `spirula bench`: one job, on a raw device, the engine, an OSD or a cluster, with what it took and how long, so that it can be repeated
//! elsewhere. What is put on them, and what is told, is the crate `load`.

mod allocator;
mod cluster;
mod device;
mod engine;
pub mod options;
mod osd;
mod place;
mod store;

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use load::{Job, Machine, Measured, Report, Watch};

use crate::progress;
use options::{BenchAction, BenchOptions, OutputOptions};

/// Runs the command.
pub fn run(options: &BenchOptions) -> anyhow::Result<ExitCode> {
    match &options.action {
        BenchAction::Allocator(options) => allocator::run(options),
        BenchAction::Cluster(options) => cluster::run(options),
        BenchAction::Device(options) => device::run(options),
        BenchAction::Engine(options) => engine::run(options),
        BenchAction::Osd(options) => osd::run(options),
    }
}

/// What was measured on what.
struct Outcome {
    target: &'static str,
    about: Vec<(&'static str, String)>,
    job: Job,
    measured: Measured,
}

/// Tells what was measured; an error if verification found something wrong.
fn tell(outcome: Outcome, output: &OutputOptions) -> anyhow::Result<ExitCode> {
    let Outcome { target, about, job, measured } = outcome;
    let report = Report { target, about, command: command(), job, machine: Machine::this(), measured };
    if let Some(path) = &output.html {
        write_page(path, &report.to_html()?)?;
    }
    match output.json {
        true => println!("{}", report.to_json()),
        false => print!("{}", report.to_text()),
    }
    let Some(verified) = report.measured.verified.as_ref().filter(|_| report.is_wrong()) else {
        return Ok(ExitCode::SUCCESS);
    };
    let places: Vec<String> =
        verified.findings.iter().map(|finding| format!("\n  {}: {}", finding.place, finding.wrong)).collect();
    let more = match verified.wrong - places.len() as u64 {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    bail!(
        "verification: {} of {} reads are wrong:{}{more}",
        verified.wrong,
        verified.checked,
        places.concat()
    )
}

fn write_page(path: &Path, page: &str) -> anyhow::Result<()> {
    fs::write(path, page).with_context(|| format!("cannot write the page {}", path.display()))
}

/// The command as it was given, for a shell.
fn command() -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    let quote = |word: String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    let words = std::env::args_os().skip(1).map(|word| quote(word.to_string_lossy().into_owned()));
    std::iter::once("spirula".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Progress bars, one for each phase.
#[derive(Default)]
struct Bars(RefCell<Option<ProgressBar>>);

impl Watch for Bars {
    fn phase(&self, name: &'static str, total: u64) {
        self.clear();
        *self.0.borrow_mut() = Some(progress::bar(name, total));
    }

    fn at(&self, done: u64) {
        if let Some(bar) = &*self.0.borrow() {
            bar.set_position(done);
        }
    }
}

impl Bars {
    fn clear(&self) {
        if let Some(bar) = self.0.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}
