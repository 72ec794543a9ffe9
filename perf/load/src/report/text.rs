//! A report as lines of text.

use std::fmt::{self, Write};

use super::{QUANTILES, Report, show_bytes, us};
use crate::meter::Party;

impl Report {
    /// Lines, each with its end.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        match self.write_to(&mut text) {
            Ok(()) => text,
            Err(error) => unreachable!("memory takes all: {error}"),
        }
    }

    fn write_to(&self, out: &mut impl Write) -> fmt::Result {
        let rows = |rows: &[(&str, String)]| {
            rows.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join("; ")
        };
        writeln!(out, "{}: {}", self.target, rows(&self.about))?;
        writeln!(out, "job: {}", rows(&self.job_rows()))?;
        writeln!(out, "machine: {}", rows(&self.machine_rows()))?;
        writeln!(out, "{} operations in {:.3} s", self.operations(), self.measured.elapsed.as_secs_f64())?;
        for (name, lane) in self.lanes() {
            let rate = self.per_second(lane.operations());
            let bandwidth = show_bytes((rate * self.job.block_size as f64) as u64);
            write!(
                out,
                "{name:5}: {} operations, {rate:.0}/s, {bandwidth}/s; latency us: ",
                lane.operations()
            )?;
            write!(out, "mean {:.1}", lane.latencies.mean() / 1000.0)?;
            for (quantile, name) in QUANTILES {
                write!(out, ", {name} {:.1}", us(lane.latencies.value_at_quantile(quantile)))?;
            }
            writeln!(out, ", max {:.1}", us(lane.latencies.max()))?;
        }
        if let Some(sentence) = self.open_loop_sentence() {
            writeln!(out, "open loop: {sentence}")?;
        }
        for party in &self.measured.parties {
            writeln!(out, "{}", self.spent_sentence(party))?;
        }
        match self.amplification() {
            Some(times) => writeln!(out, "device bytes written: {times:.3} for each client byte")?,
            None if self.measured.writes.operations() == 0 => {}
            None => writeln!(out, "device bytes written: not counted here")?,
        }
        if let Some(sentence) = self.verified_sentence() {
            writeln!(out, "verification: {sentence}")?;
        }
        Ok(())
    }

    /// What is to be known of an open loop.
    pub(super) fn open_loop_sentence(&self) -> Option<String> {
        let open = self.measured.open_loop?;
        let mut text = format!(
            "{} arrivals, latencies counted from when each was to start; {} found too many in flight and started later; starts were \
             late by {:.1} us on average, {:.1} at most; {} in flight at most",
            open.arrivals,
            open.delayed,
            open.delay_ns_mean / 1000.0,
            us(open.delay_ns_max),
            open.in_flight_max
        );
        if open.not_started > 0 {
            text += &format!(
                "; NOT STARTED: {} ({:.2} %), the first of them {:.1} us late at the end. They are not among the latencies: \
                 this rate is more than the target takes",
                open.not_started,
                open.not_started as f64 * 100.0 / open.arrivals as f64,
                us(open.not_started_ns)
            );
        }
        Some(text)
    }

    /// What verification found.
    pub(super) fn verified_sentence(&self) -> Option<String> {
        let verified = self.measured.verified.as_ref()?;
        Some(match verified.wrong {
            0 => format!("{} reads compared with what was written, none is wrong", verified.checked),
            wrong => format!("{wrong} of {} reads are WRONG", verified.checked),
        })
    }

    /// What somebody spent for an operation.
    pub(super) fn spent_sentence(&self, party: &Party) -> String {
        let operations = self.operations().max(1) as f64;
        let spent = &party.spent;
        let cpu = spent.cpu.map(|cpu| {
            let us = cpu.as_secs_f64() * 1e6 / operations;
            let share =
                cpu.as_secs_f64() * 100.0 / self.measured.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
            format!("{us:.2} us CPU ({share:.0} % of a core)")
        });
        let instructions = match spent.instructions {
            Some(count) => format!("{:.0} instructions", count as f64 / operations),
            None => "instructions not counted".to_owned(),
        };
        let enters =
            spent.enters.map(|count| format!("{:.3} calls into the kernel", count as f64 / operations));
        let parts = [cpu, Some(instructions), enters];
        format!(
            "{}, each operation: {}",
            party.name,
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        )
    }
}
