//! `spirula bench allocator`: the allocators alone on an aged device, as `perf/ageing` measures them.

use std::process::ExitCode;

use ageing::Row;
use load::Machine;
use load::report::{VERSION, by_percentile, machine_json, machine_rows, page, preformatted, table};
use serde_json::json;

use super::command;
use super::options::AllocatorOptions;
use super::write_page;
use crate::progress;

/// Runs the command.
pub fn run(options: &AllocatorOptions) -> anyhow::Result<ExitCode> {
    let json = options.output.json;
    let bar = progress::bar("sizes of allocations", options.settings.rows() as u64);
    let mut rows: Vec<Row> = Vec::new();
    ageing::measure(&options.settings, |row| {
        rows.push(row);
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    if let Some(path) = &options.output.html {
        write_page(path, &html(&rows)?)?;
    }
    match json {
        true => println!(
            "{}",
            json!({
                "target": "allocator", "command": command(), "version": VERSION, "machine": machine_json(&Machine::this()),
                "seed": options.settings.seed(), "rows": rows,
            })
        ),
        false => println!("{}", lines(&rows)),
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(rows: &[Row]) -> String {
    let rows = rows.iter().map(Row::to_string);
    std::iter::once(Row::heading()).chain(rows).collect::<Vec<_>>().join("\n")
}

/// A plot for each space, with a curve for each size of allocation.
fn html(rows: &[Row]) -> anyhow::Result<String> {
    let mut body = preformatted(&lines(rows));
    // The sizes ascend in each.
    for space in rows.chunk_by(|one, next| one.blocks() < next.blocks()) {
        let Some(first) = space.first() else { continue };
        let names: Vec<String> = space.iter().map(|row| format!("{} blocks", row.blocks())).collect();
        let parts: Vec<_> = names.iter().map(String::as_str).zip(space.iter().map(Row::times)).collect();
        body += &by_percentile(&format!("Time of an allocation: {}", first.space()), &parts)?;
    }
    body += &format!("<h2>Machine</h2>\n{}", table(&machine_rows(&Machine::this())));
    Ok(page("spirula bench allocator", &command(), &body))
}
