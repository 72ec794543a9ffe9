//! What a log of writes consists of: writes, flushes and bytes by what they were for. It shows that a load exercised what
//! it should. Pure but for reading the log.

use std::collections::BTreeMap;

use nvme::{Geometry, Image, MemoryDevice};
use rt::sim::{Config, Sim};
use serde_json::{Value, json};

use crate::log::{Kind, Log};
use crate::mark::Mark;
use crate::slices::{self, Regions};

#[derive(Default)]
struct Sum {
    writes: u64,
    bytes: u64,
}

/// As JSON.
pub fn survey(log: &Log, geometry: &Geometry) -> anyhow::Result<Value> {
    let mut image = Image::new();
    for entry in &log.entries {
        if let Kind::Write { at, len } = entry.kind {
            image.write(entry.offset, &log.data(at, len)?);
        }
    }
    let device = MemoryDevice::from_image("after all", geometry.clone(), image);
    let slices =
        Sim::new(0, Config::default()).run(0, move |_| async move { slices::regions(&device).await })?;
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    let (mut flushes, mut marks, mut discards) = (0_u64, 0_u64, 0_u64);
    for entry in &log.entries {
        flushes += u64::from(entry.flush);
        match &entry.kind {
            Kind::Write { len: 0, .. } => {}
            Kind::Write { len, .. } => {
                let sum = sums.entry(purpose(&slices, entry.offset)).or_default();
                sum.writes += 1;
                sum.bytes += len;
            }
            Kind::Discard { .. } => discards += 1,
            Kind::Mark(text) => {
                marks += 1;
                if let Some(Mark::Event(name)) = Mark::parse(text) {
                    *events.entry(name).or_default() += 1;
                }
            }
        }
    }
    let journal: u64 = slices.iter().map(|slice| slice.superblock.journal.len).sum();
    let journal_bytes = sums.get("journal").map_or(0, |sum| sum.bytes);
    let sums: BTreeMap<_, _> =
        sums.iter().map(|(name, sum)| (*name, json!({ "writes": sum.writes, "bytes": sum.bytes }))).collect();
    Ok(json!({
        "entries": log.entries.len(), "flushes": flushes, "marks": marks, "discards": discards, "events": events,
        "writes": sums, "sorted_files": slices.iter().map(|slice| slice.sorted_files).sum::<u64>(),
        "sorted_file_numbers": slices.iter().map(|slice| slice.sorted_file_last).sum::<u64>(), "journal_wraps": journal_bytes as f64 / journal.max(1) as f64,
    }))
}

fn purpose(slices: &[Regions], offset: u64) -> &'static str {
    let Some(slice) = slices.iter().find(|slice| (slice.window.start..slice.window.end()).contains(&offset))
    else {
        return "label";
    };
    let at = offset - slice.window.start;
    let within = |extent: allocator::Extent| (extent.start..extent.end()).contains(&at);
    let superblock = &slice.superblock;
    let bluefs = slices::kv_places(superblock).0;
    if within(superblock.journal) {
        "journal"
    } else if within(superblock.pg_log) {
        "pg log"
    } else if bluefs.contains(&at) {
        "BlueFS superblock"
    } else if within(superblock.kv) {
        "BlueFS, its own space"
    } else if at < superblock.journal.start || at + u64::from(superblock.block) >= superblock.window {
        "superblock"
    } else {
        "data, and BlueFS's borrowed space"
    }
}
