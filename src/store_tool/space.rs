//! What a store and its device are, and where there is room.

use std::io::{self, Write};

use serde_json::json;
use store::ObjectStore;
use store::devices::Role;

use super::Look;
use crate::size::show_size;

impl Look {
    pub fn statfs(&self) -> anyhow::Result<bool> {
        let (osd, stats) = (self.osd, self.opened.store.stats());
        let pools = self.opened.store.pool_stats();
        if self.json {
            let pools: Vec<_> = pools
                .iter()
                .map(|(pool, use_)| {
                    json!({
                        "pool": pool, "objects": use_.objects, "bytes": use_.bytes, "stored": use_.stored,
                        "allocated": use_.allocated, "omap_keys": use_.omap_keys, "omap_bytes": use_.omap_bytes,
                    })
                })
                .collect();
            let all = json!({
                "osd": osd, "total": stats.total, "available": stats.available, "allocated": stats.allocated,
                "stored": stats.stored, "omap": stats.omap, "metadata": stats.metadata,
                "db": { "total": stats.fast, "available": stats.fast_available, "spilled": stats.spilled },
                "pools": pools,
            });
            writeln!(io::stdout(), "{all}")?;
            return Ok(true);
        }
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "osd.{osd}: {} in all, {} available, {} of data in {}, {} of omap, {} of metadata",
            show_size(stats.total),
            show_size(stats.available),
            show_size(stats.stored),
            show_size(stats.allocated),
            show_size(stats.omap),
            show_size(stats.metadata)
        )?;
        if stats.fast > 0 {
            writeln!(
                out,
                "osd.{osd}: {} of a device for keys, {} available; {} of keys are on the main device",
                show_size(stats.fast),
                show_size(stats.fast_available),
                show_size(stats.spilled)
            )?;
        }
        for (pool, used) in pools {
            writeln!(
                out,
                "osd.{osd}: pool {pool}: {} objects, {} bytes, {} allocated, {} omap keys of {} bytes",
                used.objects, used.bytes, used.allocated, used.omap_keys, used.omap_bytes
            )?;
        }
        Ok(true)
    }

    pub fn label(&self) -> anyhow::Result<bool> {
        let (label, superblock) = (&self.opened.label, &self.opened.superblock);
        let region = |extent: allocator::Extent| json!({ "offset": extent.start, "length": extent.len });
        let parts: serde_json::Map<_, _> = Role::BESIDE
            .into_iter()
            .filter_map(|role| {
                let part = superblock.parts.get(role)?;
                Some((role.name().to_owned(), json!({ "id": part.id.to_string(), "length": part.len })))
            })
            .collect();
        let slices: Vec<_> = label.slices.iter().map(ToString::to_string).collect();
        let all = json!({
            "osd": self.osd,
            "device": {
                "id": label.device.to_string(), "fsid": label.fsid.to_string(), "generation": label.generation,
                "size": label.size, "block_size": label.block_size, "segment_bytes": label.segment_bytes,
                "slices": slices, "keys": label.keys,
            },
            "store": {
                "id": superblock.store.to_string(), "generation": superblock.generation,
                "window": superblock.window, "block": superblock.block, "epoch": superblock.epoch,
                "journal": region(superblock.journal), "pg_log": region(superblock.pg_log),
                "kv": region(superblock.kv), "free_list": superblock.free_list().name(),
                "parts": parts,
            },
        });
        // A label is for scripts; people read it indented.
        match self.json {
            true => writeln!(io::stdout(), "{all}")?,
            false => writeln!(io::stdout(), "{all:#}")?,
        }
        Ok(true)
    }

    pub fn free_dump(&self) -> anyhow::Result<bool> {
        let free = self.opened.store.free_space();
        let extents: Vec<_> = free
            .extents
            .iter()
            .map(|extent| {
                json!({ "offset": format!("{:#x}", extent.start), "length": format!("{:#x}", extent.len) })
            })
            .collect();
        let all = json!({
            "capacity": free.capacity, "alloc_unit": free.block, "alloc_type": "hybrid", "alloc_name": "block",
            "extents": extents,
        });
        writeln!(io::stdout(), "{all:#}")?;
        Ok(true)
    }

    pub fn free_score(&self) -> anyhow::Result<bool> {
        let free = self.opened.store.free_space();
        let bytes: u64 = free.extents.iter().map(|extent| extent.len).sum();
        let (osd, runs, rating) = (self.osd, free.extents.len(), free.fragmentation);
        if self.json {
            let all = json!({ "osd": osd, "fragmentation_rating": rating, "free_bytes": bytes, "free_runs": runs,
                "memory_bytes": free.memory });
            writeln!(io::stdout(), "{all}")?;
        } else {
            let memory = show_size(free.memory);
            let free = show_size(bytes);
            writeln!(io::stdout(), "osd.{osd}: {rating:.6}, {free} free in {runs} runs, {memory} of memory")?;
        }
        Ok(true)
    }
}
