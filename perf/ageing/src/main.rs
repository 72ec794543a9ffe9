//! Allocators on an aged device: what an allocation costs when the space is nearly full and in pieces.
//!
//! Expected before the first run: a bitmap's allocation of a few blocks looks at one page and changes one word, some 50 ns
//! while its page is in the processor's cache and as much again for each line that is not; a tree of extents costs four
//! searches among millions of nodes, above 500 ns.
//!
//! The allocator for zones is not here: what is released there is free only after somebody cleaned the zone.
//!
//! Times are less what reading the clock takes. On a shared machine the slowest ones are the machine's; words are exact.

mod aged;
mod dice;
mod dump;
mod report;

use std::path::PathBuf;

use allocator::{Allocator, BitmapAllocator, BtreeAllocator, HybridAllocator};
use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};

use aged::Aged;
use dump::FreeDump;
use report::Row;

const BLOCK: u64 = 4096;

/// Measure allocators on an aged device: time, words and pieces per allocation, and memory.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release -p ageing
  cargo run --release -p ageing -- --allocator bitmap --full 95 --json bitmap.json
  ceph-bluestore-tool free-dump --path /var/lib/ceph/osd/ceph-0 > free.json
  cargo run --release -p ageing -- --free-dump free.json")]
struct Settings {
    /// One kind only.
    #[arg(long)]
    allocator: Option<Kind>,
    /// Size of the device, GiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=16384))]
    size: u64,
    /// How full it is kept, percent.
    #[arg(long, default_values_t = [50, 80, 95], value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=99))]
    full: Vec<u64>,
    /// How often all that is in use is written anew before anything is measured.
    #[arg(long, default_value_t = 2)]
    turns: u64,
    /// Allocations measured of each size.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1000..))]
    samples: u64,
    /// Of the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Starts from this device, as `ceph-bluestore-tool free-dump` writes it, instead of one that is aged here.
    #[arg(long, value_name = "FILE")]
    free_dump: Option<PathBuf>,
    /// Write JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// The hierarchical bitmap.
    Bitmap,
    /// The same with hints of long runs.
    Hybrid,
    /// Trees of free runs, best fit.
    Btree,
}

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let dump = settings.free_dump.as_deref().map(FreeDump::read).transpose()?;
    let mut rows = Vec::new();
    println!("{}", Row::heading());
    for kind in Kind::value_variants() {
        if settings.allocator.is_some_and(|only| only as usize != *kind as usize) {
            continue;
        }
        match kind {
            Kind::Bitmap => {
                measure("bitmap", &settings, dump.as_ref(), BitmapAllocator::new, &mut rows)?;
            }
            Kind::Hybrid => {
                measure("hybrid", &settings, dump.as_ref(), HybridAllocator::new, &mut rows)?;
            }
            Kind::Btree => {
                measure("btree", &settings, dump.as_ref(), BtreeAllocator::new, &mut rows)?;
            }
        }
    }
    if let Some(path) = &settings.json {
        let json = serde_json::json!({ "seed": settings.seed, "rows": rows });
        std::fs::write(path, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Measures one kind at every fullness, or on what was dumped.
fn measure<A: Allocator>(
    name: &'static str,
    settings: &Settings,
    dump: Option<&FreeDump>,
    make: impl Fn(u64, u64) -> A,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let mut tell = |aged: &mut Aged<A>| {
        for blocks in aged::SIZES_MEASURED {
            let row = Row::new(name, aged.measure(blocks, settings.samples), aged.space().memory_bytes());
            println!("{row}");
            rows.push(row);
        }
    };
    if let Some(dump) = dump {
        let mut space = make(dump.capacity, dump.alloc_unit);
        ensure!(space.capacity() == dump.capacity, "its capacity is not a multiple of its unit");
        dump.free_in(&mut space)?;
        tell(&mut Aged::found(space, settings.seed));
        return Ok(());
    }
    for full in &settings.full {
        let mut space = make(settings.size << 30, BLOCK);
        space.mark_free(allocator::Extent::new(0, space.capacity()))?;
        let mut aged = Aged::filled(space, *full, settings.seed);
        aged.age(settings.turns);
        tell(&mut aged);
    }
    Ok(())
}
