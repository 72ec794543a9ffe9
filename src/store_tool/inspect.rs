//! What a store keeps of objects besides their data: one object's metadata whole, its attributes, and how large the parts of
//! all objects are.

use std::io::{self, Write};

use bytes::Bytes;
use serde_json::{Value, json};
use store::{Blob, Checksum, CollectionId, ObjectDump, ObjectId, ObjectStore, Shard, Sizes};

use super::Look;
use super::args::HistogramOptions;
use super::objects::{attr_name, describe, text};
use crate::size::show_size;

impl Look {
    pub async fn dump(&self, object: &ObjectId) -> anyhow::Result<bool> {
        let Some(collection) = self.collection_of(object).await? else { return Ok(false) };
        let dump = self.store().dump(collection, object).await?;
        let header = self.store().omap_header(collection, object).await?;
        let block = u64::from(self.opened.superblock.block);
        let onode = &dump.onode;
        let mut all = describe(self.osd, collection, object);
        let fields = json!({
            "size": onode.size, "stored": onode.stored, "allocated": onode.allocated, "shared": onode.shared,
            "compressed": onode.compressed, "compressed_original": onode.compressed_original,
            "hints": format!("{:?}", onode.hints.compression).to_lowercase(), "streamed": onode.hints.is_streamed,
            "omap": {
                "id": onode.omap_id, "keys": onode.omap_keys, "bytes": onode.omap_bytes,
                "header": text(&header), "header_bytes": header.len(),
            },
            "attrs": onode.attrs.iter().map(|(name, value)| attr(name, value)).collect::<Vec<_>>(),
            "shard_span": onode.shard_span,
            "shards": dump.shards.iter().map(|(number, found)| shard(*number, found, &dump, block)).collect::<Vec<_>>(),
        });
        if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
            all.extend(fields);
        }
        match self.json {
            true => writeln!(io::stdout(), "{all}")?,
            false => writeln!(io::stdout(), "{all:#}")?,
        }
        Ok(true)
    }

    pub async fn list_attrs(&self, object: &ObjectId) -> anyhow::Result<bool> {
        let Some(collection) = self.collection_of(object).await? else { return Ok(false) };
        let mut out = io::stdout().lock();
        for (name, value) in self.store().attrs(collection, object).await? {
            // The others are the placement group's own.
            let Some(name) = attr_name(&name).map(text) else { continue };
            if self.json {
                let all =
                    json!({ "osd": self.osd, "name": name, "value": text(&value), "bytes": value.len() });
                writeln!(out, "{all}")?;
            } else {
                writeln!(out, "{name}\t{}", text(&value))?;
            }
        }
        Ok(true)
    }

    pub async fn histogram(&self, options: &HistogramOptions) -> anyhow::Result<bool> {
        let pool = options.pool;
        let wants = move |found| pool.map_or(found != CollectionId::META.pool, |pool| found == pool);
        let found = self.store().histogram(wants).await?;
        let kinds = [
            ("objects", &found.objects, "bytes of an object"),
            ("blobs", &found.blobs, "bytes of the device of a blob"),
            ("extents", &found.extents, "bytes of an object that lie in one piece"),
            ("inline", &found.inline, "bytes of an object among the keys"),
            ("omap_keys", &found.omap_keys, "keys of an omap"),
            ("omap_bytes", &found.omap_bytes, "bytes of an omap"),
        ];
        let mut out = io::stdout().lock();
        if self.json {
            let mut all = json!({ "osd": self.osd });
            kinds.into_iter().for_each(|(name, sizes, _)| all[name] = counted(sizes));
            writeln!(out, "{all}")?;
            return Ok(true);
        }
        for (name, sizes, what) in kinds {
            let (osd, count, sum) = (self.osd, sizes.count(), sizes.sum());
            writeln!(out, "osd.{osd}: {name}: {count}, {sum} in all, at most {} ({what})", sizes.largest())?;
            let most = sizes.ranges().map(|(_, _, count)| count).max().unwrap_or(0).max(1);
            for (from, to, count) in sizes.ranges() {
                let bar = "#".repeat(usize::try_from(count * 40 / most)?);
                // Keys are not bytes.
                let (from, to) = match name == "omap_keys" {
                    true => (from.to_string(), to.to_string()),
                    false => (show_size(from), show_size(to.saturating_add(1))),
                };
                writeln!(out, "  {from:>12} … {to:<12} {count:>10} {bar}")?;
            }
        }
        Ok(true)
    }
}

fn counted(sizes: &Sizes) -> Value {
    let ranges: Vec<_> =
        sizes.ranges().map(|(from, to, count)| json!({ "from": from, "to": to, "count": count })).collect();
    json!({ "count": sizes.count(), "sum": sizes.sum(), "max": sizes.largest(), "histogram": ranges })
}

fn attr(name: &Bytes, value: &Bytes) -> Value {
    let (shown, owner) = match attr_name(name) {
        Some(clients) => (text(clients), "client"),
        None => (text(name), "group"),
    };
    json!({ "name": shown, "owner": owner, "value": text(value), "bytes": value.len() })
}

fn shard(number: u32, shard: &Shard, dump: &ObjectDump, block: u64) -> Value {
    let inline: Vec<_> =
        shard.inline.iter().map(|(at, bytes)| json!({ "offset": at, "length": bytes.len() })).collect();
    let blobs: Vec<_> =
        shard.blobs.iter().map(|(address, found)| blob(*address, found, dump, block)).collect();
    let extents: Vec<_> = shard
        .pieces
        .iter()
        .map(|(at, piece)| {
            json!({ "offset": at, "length": piece.len, "blob": piece.blob, "blob_offset": piece.blob_offset })
        })
        .collect();
    json!({ "number": number, "inline": inline, "blobs": blobs, "extents": extents })
}

fn blob(address: u64, blob: &Blob, dump: &ObjectDump, block: u64) -> Value {
    // Without the kind, which is there once.
    let without_kind =
        |checksum: Checksum| checksum.to_string().split(' ').nth(1).unwrap_or_default().to_owned();
    let checksums: Vec<_> = blob.checksums.chunks().map(|chunk| without_kind(chunk.checksum)).collect();
    let blocks: Vec<_> = blob.checksums.chunks().map(|chunk| chunk.blocks).collect();
    let share = blob.share.map(|share| {
        let uses = dump.shares.get(&(blob.birth, share)).map(|share| share.uses.to_vec());
        json!({ "address": share, "uses": uses })
    });
    let compressed = blob.packed.map(|packed| {
        let original = u64::from(packed.raw_blocks) * block;
        json!({ "algorithm": packed.algorithm.name(), "bytes": packed.bytes, "original": original })
    });
    json!({
        "address": address, "length": blob.bytes(block), "birth": blob.birth,
        "csum_type": blob.checksums.kind().name(), "checksums": checksums, "blocks": blocks, "share": share, "compressed": compressed,
    })
}
