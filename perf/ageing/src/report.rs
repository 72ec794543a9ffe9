//! [`Row`]: a line of the table.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::aged::Costs;

const TIB: f64 = (1_u64 << 40) as f64;

/// What allocations of one size cost in one space.
#[derive(Serialize)]
pub struct Row {
    allocator: &'static str,
    full_percent: f64,
    fragmentation: f64,
    free_runs: u64,
    blocks: u64,
    samples: u64,
    p50_ns: u64,
    p99_ns: u64,
    p99_99_ns: u64,
    max_ns: u64,
    clock_ns: u64,
    words_mean: f64,
    words_max: u64,
    extents_mean: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_per_written: Option<f64>,
    memory_mb_per_tib: f64,
    #[serde(skip)]
    times: Histogram<u64>,
}

impl Row {
    /// `memory` in bytes.
    pub(crate) fn new(allocator: &'static str, costs: Costs, memory: usize) -> Self {
        let at = |quantile| costs.times.value_at_quantile(quantile);
        Self {
            allocator,
            full_percent: 100.0 * costs.full,
            fragmentation: costs.fragmentation,
            free_runs: costs.free_runs,
            blocks: costs.blocks,
            samples: costs.times.len(),
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            p99_99_ns: at(0.9999),
            max_ns: costs.times.max(),
            clock_ns: costs.clock_ns,
            words_mean: costs.words_mean,
            words_max: costs.words_max,
            extents_mean: costs.extents_mean,
            moved_per_written: costs.moved,
            memory_mb_per_tib: memory as f64 / 1e6 * TIB / costs.capacity as f64,
            times: costs.times,
        }
    }

    /// Allocator and fullness.
    pub fn space(&self) -> String {
        format!("{}, {:.0} % full", self.allocator, self.full_percent)
    }

    /// Blocks that each allocation asked for.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// What each allocation took, nanoseconds.
    pub fn times(&self) -> &Histogram<u64> {
        &self.times
    }

    /// Above the rows.
    pub fn heading() -> String {
        format!(
            "{:<8}{:>7}{:>7}{:>12}{:>7}{:>9}{:>9}{:>11}{:>11}{:>9}{:>9}{:>9}{:>7}{:>9}",
            "kind",
            "full",
            "frag",
            "free runs",
            "blocks",
            "p50 ns",
            "p99 ns",
            "p99.99 ns",
            "p100 ns",
            "words",
            "most",
            "extents",
            "moved",
            "MB/TiB"
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.words_max {
            // It has no bitmap.
            0 => format!("{:>9}{:>9}", "-", "-"),
            max => format!("{:>9.1}{max:>9}", self.words_mean),
        };
        let moved = self.moved_per_written.map_or("-".to_owned(), |moved| format!("{moved:.2}"));
        write!(
            f,
            "{:<8}{:>6.1}%{:>7.3}{:>12}{:>7}{:>9}{:>9}{:>11}{:>11}{words:>18}{:>9.2}{moved:>7}{:>9.2}",
            self.allocator,
            self.full_percent,
            self.fragmentation,
            self.free_runs,
            self.blocks,
            self.p50_ns,
            self.p99_ns,
            self.p99_99_ns,
            self.max_ns,
            self.extents_mean,
            self.memory_mb_per_tib
        )
    }
}
