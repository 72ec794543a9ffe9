//! A report as JSON: one object. Latencies are in microseconds, unless the name says otherwise.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::{QUANTILES, Report, VERSION, us};
use crate::job::Length;
use crate::machine::Machine;
use crate::meter::Party;
use crate::recorder::Lane;

/// Points of a curve of latency by percentile for each halving of what is above.
const STEPS_PER_HALF: u32 = 2;

impl Report {
    /// Everything.
    pub fn to_json(&self) -> Value {
        let (job, measured) = (&self.job, &self.measured);
        let (seconds, operations) = match job.length {
            Length::Seconds(seconds) => (Some(seconds), None),
            Length::Operations(operations) => (None, Some(operations)),
        };
        let all = self.operations();
        let rate = self.per_second(all);
        let about: Map<String, Value> =
            self.about.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({
            "target": self.target,
            "about": about,
            "command": self.command,
            "version": VERSION,
            "machine": machine(&self.machine),
            "job": {
                "block_size": job.block_size, "blocks": measured.positions, "depth": job.depth, "rate": job.rate,
                "spacing": job.rate.map(|_| job.spacing.name()), "mix": job.mix,
                "distribution": job.distribution.to_string(), "seconds": seconds, "operations": operations,
                "warm_up": job.warm_up, "fill": job.fill, "age": job.age, "verify": job.verify, "seed": job.seed,
            },
            "seconds": measured.elapsed.as_secs_f64(),
            "operations": all,
            "operations_per_s": rate,
            "bytes_per_s": rate * job.block_size as f64,
            "latency_us": latency(&self.latencies()),
            "reads": self.lane(&measured.reads),
            "writes": self.lane(&measured.writes),
            "open_loop": measured.open_loop.map(|open| json!({
                "arrivals": open.arrivals, "delayed": open.delayed, "not_started": open.not_started,
                "not_started_us": us(open.not_started_ns), "delay_us_mean": open.delay_ns_mean / 1000.0,
                "delay_us_max": us(open.delay_ns_max), "in_flight_max": open.in_flight_max,
            })),
            "spent": measured.parties.iter().map(|party| spent(party, all)).collect::<Vec<_>>(),
            "device_bytes_written": measured.device_bytes,
            "device_bytes_per_client_byte": self.amplification(),
            "verified": measured.verified.as_ref().map(|verified| json!({
                "checked": verified.checked, "wrong": verified.wrong,
                "findings": verified.findings.iter().map(|finding| json!({
                    "block": finding.position, "place": finding.place, "what": finding.wrong.to_string(),
                })).collect::<Vec<_>>(),
            })),
        })
    }

    fn lane(&self, lane: &Lane) -> Value {
        let rate = self.per_second(lane.operations());
        json!({
            "operations": lane.operations(),
            "operations_per_s": rate,
            "bytes_per_s": rate * self.job.block_size as f64,
            "latency_us": latency(&lane.latencies),
            "latency_us_by_percentile": curve(&lane.latencies),
            "interval_s": lane.intervals.length_ns as f64 / 1e9,
            "operations_by_interval": lane.intervals.operations,
            "latency_us_max_by_interval": lane.intervals.latency_ns_max.iter().map(|ns| us(*ns)).collect::<Vec<_>>(),
        })
    }
}

/// A machine.
pub fn machine(machine: &Machine) -> Value {
    json!({
        "cpu": machine.cpu, "cores": machine.cores, "architecture": machine.architecture, "kernel": machine.kernel,
        "memory_bytes": machine.memory_bytes, "instructions": machine.instructions,
    })
}

/// Null if there are none.
fn latency(latencies: &Histogram<u64>) -> Value {
    if latencies.is_empty() {
        return Value::Null;
    }
    let mut told = Map::from_iter([("mean".to_owned(), json!(latencies.mean() / 1000.0))]);
    for (quantile, name) in QUANTILES {
        told.insert(name.to_owned(), json!(us(latencies.value_at_quantile(quantile))));
    }
    told.insert("max".to_owned(), json!(us(latencies.max())));
    Value::Object(told)
}

/// Pairs of percentile and latency.
fn curve(latencies: &Histogram<u64>) -> Vec<[f64; 2]> {
    let steps = latencies.iter_quantiles(STEPS_PER_HALF);
    steps.map(|step| [step.quantile_iterated_to() * 100.0, us(step.value_iterated_to())]).collect()
}

fn spent(party: &Party, operations: u64) -> Value {
    let each = |value: f64| if operations > 0 { Some(value / operations as f64) } else { None };
    let spent = &party.spent;
    json!({
        "who": party.name,
        "cpu_s": spent.cpu.map(|cpu| cpu.as_secs_f64()),
        "cpu_us_per_operation": spent.cpu.and_then(|cpu| each(cpu.as_secs_f64() * 1e6)),
        "instructions": spent.instructions,
        "instructions_per_operation": spent.instructions.and_then(|count| each(count as f64)),
        "enters": spent.enters,
        "enters_per_operation": spent.enters.and_then(|count| each(count as f64)),
    })
}
