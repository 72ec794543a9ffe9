//! What was measured, as text and as JSON.

use engine::spread;
use serde_json::{Value, json};

use crate::load::Load;
use crate::server::Spent;
use crate::{Sample, Samples, Settings};

/// Prints medians, and gives everything.
pub fn tell(settings: &Settings, samples: &Samples) -> Value {
    let operations = settings.operations as f64;
    let us = |sample: &Sample| sample.spent.cpu.as_secs_f64() * 1e6 / operations;
    let latency = |sample: &Sample| sample.took.as_secs_f64() * 1e6 / operations * f64::from(settings.depth);
    let echo = samples.iter().find(|(load, _)| *load == Load::Echo);
    let echo = echo.map(|(_, samples)| spread(samples.iter().map(us))[1]);
    let results: Vec<Value> = samples
        .iter()
        .map(|(load, samples)| {
            let cpu = spread(samples.iter().map(us));
            let each = |of: fn(&Spent) -> u64| {
                spread(samples.iter().map(|sample| of(&sample.spent) as f64 / operations))[1]
            };
            let allocations = each(|spent| spent.allocations);
            let enters = each(|spent| spent.enters);
            let tasks = each(|spent| spent.tasks);
            let bytes = each(|spent| spent.device_bytes);
            let groups = each(|spent| spent.groups);
            let flushes = each(|spent| spent.flushes);
            let foreign_wakes = each(|spent| spent.foreign_wakes);
            let latency = spread(samples.iter().map(latency))[1];
            let ratio = echo.map(|echo| cpu[1] / echo);
            println!(
                "{:10} depth {:3}: {:6.2} us CPU each ({:.2} to {:.2}), {:7.0} per second of the core, {:5.2} times the echo; \
                 {allocations:5.1} allocations, {enters:.3} calls into the kernel, {tasks:.1} tasks of the store, \
                 {bytes:5.0} device bytes, {groups:.3} groups, {flushes:.3} flushes, {foreign_wakes:.4} wakes by other threads; \
                 {latency:.1} us from request to answer",
                load.name(),
                settings.depth,
                cpu[1],
                cpu[0],
                cpu[2],
                1e6 / cpu[1],
                ratio.unwrap_or(f64::NAN),
            );
            json!({
                "load": load.name(), "cpu_us_min": cpu[0], "cpu_us_median": cpu[1], "cpu_us_max": cpu[2],
                "times_echo": ratio, "allocations": allocations, "enters": enters, "tasks": tasks,
                "device_bytes": bytes, "groups": groups, "flushes": flushes, "foreign_wakes": foreign_wakes,
                "latency_us_median": latency,
            })
        })
        .collect();
    json!({
        "operations": settings.operations, "depth": settings.depth, "together": settings.together, "results": results,
    })
}
