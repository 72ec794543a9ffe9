//! The command that measures allocators on an aged device; see the library.

use std::path::PathBuf;

use ageing::{Row, Settings, measure};
use anyhow::Context;
use clap::Parser;

/// Measure allocators on an aged device: time, words and pieces per allocation, and memory.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release -p ageing
  cargo run --release -p ageing -- --allocator bitmap --full 95 --json bitmap.json
  cargo run --release -p ageing -- --allocator zoned --size 64 --zone 1024 --full 80
  ceph-bluestore-tool free-dump --path /var/lib/ceph/osd/ceph-0 > free.json
  cargo run --release -p ageing -- --free-dump free.json")]
struct Command {
    #[command(flatten)]
    settings: Settings,
    /// Write JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let Command { settings, json } = Command::parse();
    let mut rows = Vec::new();
    println!("{}", Row::heading());
    measure(&settings, |row| {
        println!("{row}");
        rows.push(row);
    })?;
    if let Some(path) = json {
        let json = serde_json::json!({ "seed": settings.seed(), "rows": rows });
        std::fs::write(&path, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
