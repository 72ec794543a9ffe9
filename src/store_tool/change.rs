//! Changing what is in a store.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use pg::USER_ATTR_PREFIX;
use serde_json::json;
use store::{CollectionId, ObjectId, ObjectStore, Op, Transaction, limits};

use super::Look;
use super::args::{SizeOptions, ValueOptions};
use super::objects::{describe, text};

impl Look {
    /// Does all of this, or nothing.
    pub(super) async fn submit(&self, ops: Vec<Op>) -> anyhow::Result<()> {
        let submitted = self.store().submit(Transaction { ops });
        submitted.readable.await?;
        submitted.durable.await?;
        Ok(())
    }

    /// Makes a change to an object and tells of it. False if the object is not there, and then `ops` is not called: standard
    /// input is for the store that has it.
    async fn change(
        &self,
        object: &ObjectId,
        what: &str,
        ops: impl FnOnce(CollectionId, ObjectId) -> anyhow::Result<Vec<Op>>,
    ) -> anyhow::Result<bool> {
        let Some(collection) = self.collection_of(object).await? else { return Ok(false) };
        self.submit(ops(collection, object.clone())?).await?;
        self.tell(collection, object, what)
    }

    fn tell(&self, collection: CollectionId, object: &ObjectId, what: &str) -> anyhow::Result<bool> {
        if self.json {
            let mut all = describe(self.osd, collection, object);
            all["done"] = what.into();
            writeln!(io::stdout(), "{all}")?;
        } else {
            let (pool, seed) = (collection.pool, collection.seed);
            writeln!(io::stdout(), "osd.{} {pool}.{seed:x} {what} {}", self.osd, text(&object.name))?;
        }
        Ok(true)
    }

    pub async fn put(&self, object: &ObjectId) -> anyhow::Result<bool> {
        let Some(collection) = self.collection_of(object).await? else { return Ok(false) };
        // As one transaction: whoever stops this half way has the old bytes.
        let data = input(limits::OBJECT_BYTES_MAX)?;
        let (object, size) = (object.clone(), data.len() as u64);
        let truncate = |size| Op::Truncate { collection, object: object.clone(), size };
        let mut ops = vec![truncate(0)];
        if size > 0 {
            ops.push(Op::Write { collection, object: object.clone(), offset: 0, data: vec![data] });
        }
        self.submit(ops).await?;
        self.tell(collection, &object, "put")
    }

    pub async fn set_size(&self, options: &SizeOptions) -> anyhow::Result<bool> {
        let size = options.bytes;
        let ops = |collection, object| Ok(vec![Op::Truncate { collection, object, size }]);
        self.change(&options.object.id(), "set-size", ops).await
    }

    pub async fn set_attr(&self, options: &ValueOptions) -> anyhow::Result<bool> {
        self.change(&options.object.id(), "set-attr", |collection, object| {
            let attrs = BTreeMap::from([(attr(&options.of), input(limits::ATTRS_BYTES_MAX as u64)?)]);
            Ok(vec![Op::SetAttrs { collection, object, attrs }])
        })
        .await
    }

    pub async fn remove_attr(&self, options: &ValueOptions) -> anyhow::Result<bool> {
        let (object, name) = (options.object.id(), attr(&options.of));
        let Some(collection) = self.collection_of(&object).await? else { return Ok(false) };
        let attrs = self.store().attrs(collection, &object).await?;
        ensure!(attrs.iter().any(|(found, _)| *found == name), "{object} has no attribute {:?}", options.of);
        self.change(&object, "rm-attr", |collection, object| {
            Ok(vec![Op::RemoveAttr { collection, object, name }])
        })
        .await
    }

    pub async fn set_omap(&self, options: &ValueOptions) -> anyhow::Result<bool> {
        self.change(&options.object.id(), "set-omap", |collection, object| {
            let entries = BTreeMap::from([(key(&options.of), input(limits::OMAP_VALUE_BYTES_MAX as u64)?)]);
            Ok(vec![Op::OmapSet { collection, object, entries }])
        })
        .await
    }

    pub async fn remove_omap(&self, options: &ValueOptions) -> anyhow::Result<bool> {
        let (object, key) = (options.object.id(), key(&options.of));
        let Some(collection) = self.collection_of(&object).await? else { return Ok(false) };
        let found = self.store().omap_values(collection, &object, vec![key.clone()]).await?;
        ensure!(!found.is_empty(), "the omap of {object} has no key {:?}", options.of);
        self.change(&object, "rm-omap", |collection, object| {
            Ok(vec![Op::OmapRemove { collection, object, keys: vec![key] }])
        })
        .await
    }

    pub async fn set_omap_header(&self, object: &ObjectId) -> anyhow::Result<bool> {
        self.change(object, "set-omap-header", |collection, object| {
            let header = input(limits::OMAP_VALUE_BYTES_MAX as u64)?;
            Ok(vec![Op::OmapSetHeader { collection, object, header }])
        })
        .await
    }

    pub async fn remove(&self, object: &ObjectId) -> anyhow::Result<bool> {
        self.change(object, "remove", |collection, object| Ok(vec![Op::Remove { collection, object }])).await
    }

    pub async fn remove_group(&self, group: CollectionId) -> anyhow::Result<bool> {
        ensure!(group != CollectionId::META, "what an OSD keeps for itself is no placement group");
        if !self.has(group).await? {
            return Ok(false);
        }
        let objects = self.empty(group).await?;
        let name = format!("{}.{:x}", group.pool, group.seed);
        match self.json {
            true => writeln!(io::stdout(), "{}", json!({ "osd": self.osd, "pg": name, "objects": objects }))?,
            false => writeln!(io::stdout(), "osd.{}: {name} is removed, with {objects} objects", self.osd)?,
        }
        Ok(true)
    }

    pub(super) async fn has(&self, group: CollectionId) -> anyhow::Result<bool> {
        Ok(self.store().collections().await?.iter().any(|(found, ..)| *found == group))
    }

    /// Removes a group and what is in it; how many objects those were. Its metadata goes first: no OSD starts with what is
    /// left if this is stopped half way.
    pub(super) async fn empty(&self, group: CollectionId) -> anyhow::Result<u64> {
        self.submit(vec![Op::SetCollectionMeta { collection: group, value: Bytes::new() }]).await?;
        let removed = store::remove_objects(self.store(), group, || true).await?;
        self.submit(vec![Op::RemoveCollection { collection: group }]).await?;
        Ok(removed)
    }
}

fn attr(name: &str) -> Bytes {
    [&[USER_ATTR_PREFIX], name.as_bytes()].concat().into()
}

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

/// All of standard input.
fn input(most: u64) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(most + 1).read_to_end(&mut bytes).context("standard input")?;
    if bytes.len() as u64 > most {
        bail!(
            "standard input has more than {most} bytes, the most that is possible here; it begins with {:?}",
            text(&bytes[..16])
        );
    }
    Ok(bytes.into())
}
