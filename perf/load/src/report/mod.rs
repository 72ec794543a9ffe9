//! [`Report`]: a measurement with all that is needed to repeat it, as text, JSON and one page of HTML.

mod html;
mod json;
mod plots;
mod text;

use hdrhistogram::Histogram;

use crate::driver::Measured;
use crate::job::{Job, Length};
use crate::machine::Machine;
use crate::recorder::Lane;

pub use html::{page, preformatted, table};
pub use json::machine as machine_json;
pub use plots::by_percentile;

/// Of the workspace, so it is the command's as well.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Percentiles that are told, with their names.
pub const QUANTILES: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// See the module.
pub struct Report {
    /// What was measured, as `device`.
    pub target: &'static str,
    /// What the target was like, by name.
    pub about: Vec<(&'static str, String)>,
    /// The command that measured.
    pub command: String,
    /// What was done.
    pub job: Job,
    /// Where.
    pub machine: Machine,
    /// What came of it.
    pub measured: Measured,
}

impl Report {
    /// Whether verification found something wrong.
    pub fn is_wrong(&self) -> bool {
        self.measured.verified.as_ref().is_some_and(|verified| verified.wrong > 0)
    }

    fn lanes(&self) -> impl Iterator<Item = (&'static str, &Lane)> {
        let lanes = [("read", &self.measured.reads), ("write", &self.measured.writes)];
        lanes.into_iter().filter(|(_, lane)| lane.operations() > 0)
    }

    fn operations(&self) -> u64 {
        self.measured.reads.operations() + self.measured.writes.operations()
    }

    fn per_second(&self, operations: u64) -> f64 {
        let seconds = self.measured.elapsed.as_secs_f64();
        if seconds > 0.0 { operations as f64 / seconds } else { 0.0 }
    }

    /// Bytes written to the device for a byte that was asked to be written; none if nobody counts, or nothing was written.
    fn amplification(&self) -> Option<f64> {
        let client = self.measured.writes.operations() * self.job.block_size;
        self.measured.device_bytes.filter(|_| client > 0).map(|bytes| bytes as f64 / client as f64)
    }

    /// All latencies, of reads and writes.
    fn latencies(&self) -> Histogram<u64> {
        let mut all = self.measured.reads.latencies.clone();
        match all.add(&self.measured.writes.latencies) {
            Ok(()) => all,
            Err(error) => unreachable!("both have the same bounds: {error}"),
        }
    }

    /// What was done, by name, as people read it.
    fn job_rows(&self) -> Vec<(&'static str, String)> {
        let job = &self.job;
        let length = match job.length {
            Length::Seconds(seconds) => format!("{seconds} s"),
            Length::Operations(operations) => format!("{operations} operations"),
        };
        let arrival = match job.rate {
            Some(rate) => format!(
                "open: {rate} arrivals per second, {} spacing, at most {} in flight",
                job.spacing.name(),
                job.depth
            ),
            None => format!("closed: {} in flight", job.depth),
        };
        vec![
            ("block size", show_bytes(job.block_size)),
            ("blocks", self.measured.positions.to_string()),
            ("loop", arrival),
            ("mix", format!("{} % reads, {} % writes", job.mix, 100 - job.mix)),
            ("distribution", job.distribution.to_string()),
            ("measured for", length),
            ("warm-up", format!("{} s", job.warm_up)),
            ("filled before", if job.fill { "yes, in order" } else { "no" }.to_owned()),
            ("aged before", format!("{} times all blocks overwritten at random", job.age)),
            ("verification", if job.verify { "yes" } else { "no" }.to_owned()),
            ("seed", job.seed.to_string()),
        ]
    }

    fn machine_rows(&self) -> Vec<(&'static str, String)> {
        machine_rows(&self.machine)
    }
}

/// A machine, by name, as people read it.
pub fn machine_rows(machine: &Machine) -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    vec![
        ("processor", machine.cpu.clone().unwrap_or_else(unknown)),
        ("logical processors", machine.cores.to_string()),
        ("architecture", machine.architecture.clone()),
        ("kernel", machine.kernel.clone()),
        ("memory", machine.memory_bytes.map_or_else(unknown, show_bytes)),
        ("instructions", machine.instructions.clone()),
        ("spirula", VERSION.to_owned()),
    ]
}

/// As `4.0 KiB`.
pub fn show_bytes(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift {
            return format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64);
        }
    }
    format!("{bytes} bytes")
}

fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}
