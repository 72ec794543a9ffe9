//! Objects and logs of a store.

use std::io::{self, Write};

use anyhow::{Context, ensure};
use bytes::Bytes;
use pg::{INFO_ATTR, LogEntry, ObjectInfo, USER_ATTR_PREFIX};
use serde_json::{Value, json};
use store::{CollectionId, ObjectId, ObjectStore, StoreError};

use super::Look;
use super::args::{GetOptions, ListOptions, ValueOptions};

const LIST_PAGE: usize = 1024;
const READ_BYTES: u64 = 4 << 20;
const OMAP_PAGE: usize = 1024;
const OMAP_PAGE_BYTES: usize = 4 << 20;

/// Bytes as text; what is not UTF-8 is escaped, and so is what would break a line.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// The name that clients know an attribute by; none for what a placement group keeps for itself.
pub(super) fn attr_name(name: &Bytes) -> Option<&[u8]> {
    name.strip_prefix(&[USER_ATTR_PREFIX])
}

pub(super) fn describe(osd: u32, collection: CollectionId, object: &ObjectId) -> Value {
    json!({
        "osd": osd, "pg": format!("{}.{:x}", collection.pool, collection.seed), "pool": object.pool,
        "namespace": text(&object.namespace), "key": text(&object.key), "name": text(&object.name),
        "hash": format!("{:08x}", object.hash),
    })
}

impl Look {
    pub(super) fn store(&self) -> &store::Engine {
        &self.opened.store
    }

    pub async fn list(&self, options: &ListOptions) -> anyhow::Result<bool> {
        for (collection, _, _) in self.store().collections().await? {
            let is_wanted = match options.pool {
                Some(pool) => pool == collection.pool,
                None => options.meta || collection.pool != CollectionId::META.pool,
            };
            if !is_wanted {
                continue;
            }
            let mut from = None;
            loop {
                let (objects, next) = self.store().list(collection, from, LIST_PAGE).await?;
                for object in &objects {
                    let namespace = options.namespace.as_ref().map(String::as_bytes);
                    if namespace.is_none_or(|namespace| namespace == object.namespace) {
                        self.print_object(collection, object).await?;
                    }
                }
                if next.is_none() {
                    break;
                }
                from = next;
            }
        }
        Ok(true)
    }

    async fn print_object(&self, collection: CollectionId, object: &ObjectId) -> anyhow::Result<()> {
        let stat = self.store().stat(collection, object).await?;
        let mut out = io::stdout().lock();
        if self.json {
            let mut described = describe(self.osd, collection, object);
            described["size"] = stat.size.into();
            described["allocated"] = stat.allocated.into();
            writeln!(out, "{described}")?;
        } else {
            let (pool, seed, size) = (collection.pool, collection.seed, stat.size);
            writeln!(out, "osd.{} {pool}.{seed:x} {size:>12} {}", self.osd, text(&object.name))?;
        }
        Ok(())
    }

    /// The collection that has this object.
    pub(super) async fn collection_of(&self, object: &ObjectId) -> anyhow::Result<Option<CollectionId>> {
        for (collection, _, _) in self.store().collections().await? {
            if collection.pool != object.pool {
                continue;
            }
            match self.store().stat(collection, object).await {
                Ok(_) => return Ok(Some(collection)),
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    pub async fn info(&self, object: &ObjectId) -> anyhow::Result<bool> {
        let Some(collection) = self.collection_of(object).await? else { return Ok(false) };
        let store = self.store();
        let stat = store.stat(collection, object).await?;
        let mut all = describe(self.osd, collection, object);
        all["size"] = stat.size.into();
        all["allocated"] = stat.allocated.into();
        all["compressed"] = stat.compressed.into();
        let attrs = store.attrs(collection, object).await?;
        let named =
            attrs.iter().filter_map(|(name, value)| Some((text(attr_name(name)?), json!(value.len()))));
        all["attr_bytes"] = Value::Object(named.collect());
        if let Some((_, info)) = attrs.iter().find(|(name, _)| name == INFO_ATTR) {
            let info = ObjectInfo::decode(info.clone()).context("what the placement group keeps of it")?;
            let mtime = format!("{}.{:09}", info.mtime.seconds, info.mtime.nanoseconds);
            all["user_version"] = info.user_version.into();
            all["mtime"] = mtime.into();
        }
        let (mut keys, mut bytes) = (0_usize, 0_usize);
        self.each_omap_entry(collection, object, |key, value| {
            keys += 1;
            bytes += key.len() + value.len();
            Ok(())
        })
        .await?;
        all["omap"] = json!({
            "header_bytes": store.omap_header(collection, object).await?.len(), "keys": keys, "bytes": bytes,
        });
        let block = u64::from(self.opened.superblock.block);
        let mut runs: Vec<(u64, u64, u64, bool)> = Vec::new();
        for place in store.block_places(collection, object).await? {
            match runs.last_mut() {
                Some((offset, address, len, is_packed))
                    if (*offset + *len, *is_packed) == (place.offset, place.is_packed)
                        && *address + if *is_packed { 0 } else { *len } == place.address =>
                {
                    *len += block;
                }
                _ => runs.push((place.offset, place.address, block, place.is_packed)),
            }
        }
        let runs: Vec<_> = runs
            .into_iter()
            .map(
                |(offset, address, length, compressed)| json!({ "offset": offset, "address": address, "length": length, "compressed": compressed }),
            )
            .collect();
        all["extents"] = runs.into();
        match self.json {
            true => writeln!(io::stdout(), "{all}")?,
            false => writeln!(io::stdout(), "{all:#}")?,
        }
        Ok(true)
    }

    pub async fn get(&self, options: &GetOptions) -> anyhow::Result<bool> {
        let object = options.object.id();
        let Some(collection) = self.collection_of(&object).await? else { return Ok(false) };
        let size = self.store().stat(collection, &object).await?.size;
        let end = options.offset.saturating_add(options.length).min(size);
        let mut at = options.offset;
        while at < end {
            let len = (end - at).min(READ_BYTES);
            let pieces = self.store().read(collection, &object, at, len).await?;
            pieces.iter().try_for_each(|piece| io::stdout().write_all(piece))?;
            at += len;
        }
        io::stdout().flush()?;
        Ok(true)
    }

    pub async fn get_attr(&self, options: &ValueOptions) -> anyhow::Result<bool> {
        let object = options.object.id();
        let Some(collection) = self.collection_of(&object).await? else { return Ok(false) };
        let attrs = self.store().attrs(collection, &object).await?;
        let found = attrs.into_iter().find(|(name, _)| attr_name(name) == Some(options.of.as_bytes()));
        let (_, value) = found.with_context(|| format!("{object} has no attribute {:?}", options.of))?;
        write_value(&value)
    }

    pub async fn get_omap(&self, options: &ValueOptions) -> anyhow::Result<bool> {
        let object = options.object.id();
        let Some(collection) = self.collection_of(&object).await? else { return Ok(false) };
        let key = Bytes::copy_from_slice(options.of.as_bytes());
        let found = self.store().omap_values(collection, &object, vec![key]).await?;
        let (_, value) =
            found.first().with_context(|| format!("the omap of {object} has no key {:?}", options.of))?;
        write_value(value)
    }

    pub async fn get_omap_header(&self, object: &ObjectId) -> anyhow::Result<bool> {
        let Some(collection) = self.collection_of(object).await? else { return Ok(false) };
        write_value(&self.store().omap_header(collection, object).await?)
    }

    pub async fn list_omap(&self, object: &ObjectId) -> anyhow::Result<bool> {
        let Some(collection) = self.collection_of(object).await? else { return Ok(false) };
        self.each_omap_entry(collection, object, |key, value| {
            if self.json {
                let all =
                    json!({ "osd": self.osd, "key": text(key), "value": text(value), "bytes": value.len() });
                writeln!(io::stdout(), "{all}")?;
            } else {
                writeln!(io::stdout(), "{}\t{}", text(key), text(value))?;
            }
            Ok(())
        })
        .await?;
        Ok(true)
    }

    async fn each_omap_entry(
        &self,
        collection: CollectionId,
        object: &ObjectId,
        mut each: impl FnMut(&Bytes, &Bytes) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let page =
                self.store().omap_scan(collection, object, after, Bytes::new(), OMAP_PAGE, OMAP_PAGE_BYTES);
            let page = page.await?;
            page.entries.iter().try_for_each(|(key, value)| each(key, value))?;
            after = page.entries.last().map(|(key, _)| key.clone());
            if !page.more {
                return Ok(());
            }
            ensure!(after.is_some(), "an empty page of an omap says that there is more");
        }
    }

    pub async fn log(&self, group: CollectionId) -> anyhow::Result<bool> {
        let entries = match self.store().log(group).await {
            Err(StoreError::NotFound(_)) => return Ok(false),
            entries => entries?,
        };
        for (version, bytes) in entries {
            let at = format!("{}'{}", version.epoch, version.version);
            let entry = LogEntry::decode(bytes).with_context(|| format!("log entry {at}"))?;
            let kind = format!("{:?}", entry.kind).to_lowercase();
            if self.json {
                let all = json!({
                    "osd": self.osd, "version": at, "kind": kind, "user_version": entry.user_version,
                    "result": entry.result, "reqid": entry.reqid.to_string(),
                    "namespace": text(&entry.object.namespace), "name": text(&entry.object.name),
                });
                writeln!(io::stdout(), "{all}")?;
            } else {
                let (reqid, name) = (&entry.reqid, text(&entry.object.name));
                writeln!(io::stdout(), "osd.{} {at} {kind} {} {reqid} {name}", self.osd, entry.result)?;
            }
        }
        Ok(true)
    }
}

fn write_value(value: &[u8]) -> anyhow::Result<bool> {
    io::stdout().write_all(value)?;
    io::stdout().flush()?;
    Ok(true)
}
