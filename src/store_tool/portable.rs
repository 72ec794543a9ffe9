//! Exports and imports.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use indicatif::ProgressBar;
use pg::hash_bits;
use serde_json::json;
use store::{
    CollectionId, ExportHeader, ExportReader, ExportWriter, Hints, ObjectId, ObjectStore, Op, StoreError,
    Transaction,
};

use wire::placement::map_pg;
use wire::types::PgId;

use super::Look;
use super::args::{ExportOptions, ImportOptions};
use super::objects::text;
use crate::progress;

/// Bytes of data, or about as many of keys, in one transaction.
const TRANSACTION_BYTES: u64 = 1 << 20;
const LIST_PAGE: usize = 1024;
const OMAP_PAGE: usize = 1024;
/// Entries of a log in one transaction.
const LOG_PAGE: usize = 128;

/// Where an export goes: what is half written goes away again.
struct Target {
    out: Box<dyn Write>,
    /// The file, for as long as it is not whole.
    partial: Option<PathBuf>,
}

impl Target {
    fn new(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { out: Box::new(io::stdout().lock()), partial: None });
        }
        let file = File::create_new(path).with_context(|| format!("'{}' cannot be made", path.display()))?;
        Ok(Self { out: Box::new(BufWriter::with_capacity(1 << 20, file)), partial: Some(path.to_owned()) })
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush()?;
        if let Some(path) = &self.partial {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            for written in [path, folder.unwrap_or(Path::new("."))] {
                File::open(written)?.sync_all().with_context(|| format!("'{}'", written.display()))?;
            }
        }
        self.partial = None;
        Ok(())
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(path) = &self.partial {
            // What failed is told already.
            let _ = fs::remove_file(path);
        }
    }
}

type Writer = ExportWriter<Target>;

fn name_of(group: CollectionId) -> String {
    format!("{}.{:x}", group.pool, group.seed)
}

impl Look {
    pub async fn export(&self, options: &ExportOptions) -> anyhow::Result<bool> {
        let group = options.group;
        let collections = self.store().collections().await?;
        let Some((_, bits, meta)) = collections.into_iter().find(|(found, ..)| *found == group) else {
            return Ok(false);
        };
        let object = options.object().map(|name| name.id());
        if let Some(object) = &object {
            match self.store().stat(group, object).await {
                Err(StoreError::NotFound(_) | StoreError::Invalid(_)) => return Ok(false),
                stat => drop(stat?),
            }
        }
        let header = ExportHeader { fsid: self.fsid, group, bits, object: object.clone() };
        let mut writer = ExportWriter::new(Target::new(&options.file)?, header)?;
        let mut left_out = Vec::new();
        let objects = match object {
            Some(object) => {
                self.export_object(&mut writer, group, &object).await?;
                1
            }
            None => {
                let exported = self.export_group(&mut writer, group, bits, meta, options.skip_unreadable);
                let (objects, unreadable) = exported.await?;
                left_out = unreadable;
                objects
            }
        };
        if !options.skip_unreadable
            && let Some(first) = left_out.first()
        {
            bail!(
                "{} of {objects} objects cannot be read, the first is {first}: --skip-unreadable exports the others",
                left_out.len()
            );
        }
        for object in &left_out {
            writer.left_out(object.clone())?;
        }
        writer.end()?.finish()?;
        let objects = objects - left_out.len() as u64;
        // Standard output may be the export.
        match self.json {
            true => {
                let all = json!({
                    "osd": self.osd, "pg": name_of(group), "objects": objects, "left_out": names(&left_out),
                });
                writeln!(io::stderr(), "{all}")?;
            }
            false => writeln!(io::stderr(), "osd.{}: {}: {objects} objects", self.osd, name_of(group))?,
        }
        if let Some(first) = left_out.first() {
            let count = left_out.len();
            bail!("the export is made without what cannot be read: {count} objects, the first is {first}");
        }
        Ok(true)
    }

    /// Exports a group; how many objects it has, and which of them cannot be read. With these it is an export of the others if
    /// `skips`, else of nothing.
    async fn export_group(
        &self,
        writer: &mut Writer,
        group: CollectionId,
        bits: u8,
        meta: Bytes,
        skips: bool,
    ) -> anyhow::Result<(u64, Vec<ObjectId>)> {
        write(writer, vec![Op::CreateCollection { collection: group, bits }])?;
        let bar = progress::bar(&format!("exporting {}", name_of(group)), 0);
        let (mut objects, mut from, mut unreadable) = (0, None, Vec::new());
        loop {
            let (page, next) = self.store().list(group, from, LIST_PAGE).await?;
            bar.inc_length(page.len() as u64);
            for object in &page {
                // Once there will be no export, it is only looked at.
                let is_exported = skips || unreadable.is_empty();
                let mut is_begun = false;
                let mut into = |ops| {
                    is_begun |= is_exported;
                    if is_exported { write(writer, ops) } else { Ok(()) }
                };
                if let Err(error) = self.object_into(&mut into, group, object).await {
                    if !matches!(error.downcast_ref(), Some(StoreError::Io(_))) {
                        return Err(error.context(object.to_string()));
                    }
                    log::error!("osd.{}: {object}: {error:#}", self.osd);
                    if is_begun {
                        // A part of it would be taken for all of it.
                        write(writer, vec![Op::Remove { collection: group, object: object.clone() }])?;
                    }
                    unreadable.push(object.clone());
                }
                objects += 1;
                bar.inc(1);
            }
            if next.is_none() {
                break;
            }
            from = next;
        }
        bar.finish_and_clear();
        for entries in self.store().log(group).await?.chunks(LOG_PAGE) {
            let append = |(version, entry): &_| Op::LogAppend {
                collection: group,
                version: *version,
                entry: Bytes::clone(entry),
            };
            write(writer, entries.iter().map(append).collect())?;
        }
        // At the end: without it no OSD takes what there is for a whole group.
        write(writer, vec![Op::SetCollectionMeta { collection: group, value: meta }])?;
        Ok((objects, unreadable))
    }

    async fn export_object(
        &self,
        writer: &mut Writer,
        collection: CollectionId,
        object: &ObjectId,
    ) -> anyhow::Result<()> {
        let mut into = |ops| write(writer, ops);
        self.object_into(&mut into, collection, object).await.with_context(|| object.to_string())
    }

    /// The attributes come last: without them no OSD takes what there is for a whole object.
    async fn object_into(
        &self,
        into: &mut impl FnMut(Vec<Op>) -> anyhow::Result<()>,
        collection: CollectionId,
        object: &ObjectId,
    ) -> anyhow::Result<()> {
        let (store, id) = (self.store(), || object.clone());
        let stat = store.stat(collection, object).await?;
        let size = stat.size;
        let mut first = vec![Op::Touch { collection, object: id() }];
        if stat.hints != Hints::default() {
            first.push(Op::SetHints { collection, object: id(), hints: stat.hints });
        }
        into(first)?;
        for (start, length) in store.extents(collection, object, 0, size).await? {
            let end = start + length;
            for offset in (start..end).step_by(TRANSACTION_BYTES as usize) {
                let len = TRANSACTION_BYTES.min(end - offset);
                let data = store.read(collection, object, offset, len).await?;
                into(vec![Op::Write { collection, object: id(), offset, data }])?;
            }
        }
        let header = store.omap_header(collection, object).await?;
        if !header.is_empty() {
            into(vec![Op::OmapSetHeader { collection, object: id(), header }])?;
        }
        let mut after = None;
        loop {
            let most = TRANSACTION_BYTES as usize;
            let page = store.omap_scan(collection, object, after, Bytes::new(), OMAP_PAGE, most).await?;
            after = page.entries.last().map(|(key, _)| key.clone());
            let entries: BTreeMap<_, _> = page.entries.into_iter().collect();
            if !entries.is_empty() {
                into(vec![Op::OmapSet { collection, object: id(), entries }])?;
            }
            if !page.more {
                break;
            }
            ensure!(after.is_some(), "an empty page of an omap says that there is more");
        }
        let attrs = store.attrs(collection, object).await?.into_iter().collect();
        let last = vec![
            Op::Truncate { collection, object: id(), size },
            Op::SetAttrs { collection, object: id(), attrs },
        ];
        into(last)
    }

    pub async fn import(&self, options: &ImportOptions) -> anyhow::Result<bool> {
        let name = options.file.display().to_string();
        let import = Import::open(&options.file).with_context(|| format!("'{name}'"))?;
        let left_out = self.check_import(&import, options).await.with_context(|| format!("'{name}'"))?;
        let header = &import.header;
        let what = match &header.object {
            Some(object) => object.to_string(),
            None => format!("placement group {}", name_of(header.group)),
        };
        if !options.dry_run
            && let Err(error) = self.take(&import).await
        {
            let then = match self.undo(header).await {
                Ok(()) => "nothing of it was kept".to_owned(),
                Err(undo) => format!("a part of it is there, and cannot be removed: {undo:#}"),
            };
            return Err(error.context(format!("'{name}': {what} was not taken, {then}")));
        }
        let done = if options.dry_run { "could be imported" } else { "is imported" };
        if self.json {
            let object = header.object.as_ref().map(|object| text(&object.name));
            let all = json!({
                "osd": self.osd, "pg": name_of(header.group), "object": object, "dry_run": options.dry_run,
                "left_out": names(&left_out),
            });
            writeln!(io::stdout(), "{all}")?;
        } else {
            writeln!(io::stdout(), "osd.{}: {what} {done}", self.osd)?;
            for object in &left_out {
                writeln!(io::stdout(), "osd.{}: without {object}", self.osd)?;
            }
        }
        Ok(true)
    }

    /// Whether all of it is as it was written, is not there, belongs there, and fits; gives the objects that it lacks.
    async fn check_import(&self, import: &Import, options: &ImportOptions) -> anyhow::Result<Vec<ObjectId>> {
        let header = &import.header;
        let (osd, group) = (self.osd, header.group);
        ensure!(
            options.from_other_cluster || header.fsid == self.fsid,
            "it is of cluster {}, and this is {}: --from-other-cluster takes it all the same",
            header.fsid,
            self.fsid
        );
        let (bytes, left_out) = import.check()?;
        ensure!(
            options.incomplete || left_out.is_empty(),
            "it lacks {} objects that could not be read when it was made: {}; --incomplete takes the others",
            left_out.len(),
            names(&left_out).join(", ")
        );
        self.check_belongs(header).await?;
        let available = self.store().stats().available;
        ensure!(bytes <= available, "it has {bytes} bytes, and osd.{osd} has room for {available}");
        let there = self.store().collections().await?;
        let Some(object) = &header.object else {
            // A group is a range of hashes: another that has a part of them has the objects in it.
            if let Some((found, ..)) =
                there.iter().find(|(found, bits, _)| found.overlaps(*bits, group, header.bits))
            {
                let found = name_of(*found);
                bail!(
                    "osd.{osd} has placement group {found}: 'spirula store --id {osd} remove-pg {found}' removes it"
                );
            }
            return Ok(left_out);
        };
        let has = there.iter().any(|(found, bits, _)| *found == group && *bits == header.bits);
        ensure!(has, "osd.{osd} does not have placement group {}", name_of(group));
        match self.store().stat(group, object).await {
            Err(StoreError::NotFound(_)) => Ok(left_out),
            Err(error) => Err(error.into()),
            Ok(_) => bail!("{object} is there: 'spirula store --id {osd} remove' removes it"),
        }
    }

    /// By the newest map that the OSD knows: an OSD removes groups of pools that are gone, and serves those that it leads.
    async fn check_belongs(&self, header: &ExportHeader) -> anyhow::Result<()> {
        let (osd, group) = (self.osd, header.group);
        let map = osd::stored_map(self.store()).await?;
        let by_map = format!("by the newest map that osd.{osd} knows, of epoch {},", map.epoch.0);
        let Some(pool) = map.pools.get(&group.pool) else {
            bail!("{by_map} there is no pool {}: make it first", group.pool);
        };
        ensure!(
            group.seed < pool.pg_num && hash_bits(group.seed, pool.pg_num) == header.bits,
            "{by_map} pool {} has {} placement groups, and this was exported from one with another number",
            group.pool,
            pool.pg_num
        );
        let leader = map_pg(&map, PgId::new(group.pool, group.seed)).acting_primary;
        ensure!(
            leader < 0 || i64::from(leader) == i64::from(osd),
            "{by_map} osd.{leader} serves placement group {}: import it there",
            name_of(group)
        );
        Ok(())
    }

    /// Removes what an import that failed made.
    async fn undo(&self, header: &ExportHeader) -> anyhow::Result<()> {
        let group = header.group;
        match &header.object {
            Some(object) => match self.store().stat(group, object).await {
                Err(StoreError::NotFound(_)) => Ok(()),
                Err(error) => Err(error.into()),
                Ok(_) => self.submit(vec![Op::Remove { collection: group, object: object.clone() }]).await,
            },
            None if self.has(group).await? => self.empty(group).await.map(drop),
            None => Ok(()),
        }
    }

    async fn take(&self, import: &Import) -> anyhow::Result<()> {
        let (mut reader, bar) = import.read("importing")?;
        while let Some(transaction) = reader.next_transaction()? {
            // The file may be another by now.
            transaction.ops.iter().try_for_each(|op| check_op(op, &import.header))?;
            // In order anyway; and not many in memory.
            self.submit(transaction.ops).await?;
            bar.set_position(reader.position());
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// A file to import.
struct Import {
    file: File,
    header: ExportHeader,
}

impl Import {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path)?;
        ensure!(file.metadata()?.is_file(), "it is no file, and it must be one: it is read twice");
        let (_, header) = ExportReader::new(BufReader::new(&file))?;
        Ok(Self { file, header })
    }

    /// Reads it from the beginning.
    fn read(&self, doing: &str) -> anyhow::Result<(ExportReader<BufReader<&File>>, ProgressBar)> {
        (&self.file).seek(SeekFrom::Start(0))?;
        let bar = progress::bar(doing, self.file.metadata()?.len());
        let (reader, header) = ExportReader::new(BufReader::with_capacity(1 << 20, &self.file))?;
        ensure!(header == self.header, "it has changed meanwhile");
        Ok((reader, bar))
    }

    /// Checks all of it; gives the bytes that it carries, and the objects that it lacks.
    fn check(&self) -> anyhow::Result<(u64, Vec<ObjectId>)> {
        let (mut reader, bar) = self.read("checking")?;
        let (mut bytes, mut first, mut last) = (0, None, None);
        while let Some(transaction) = reader.next_transaction()? {
            bar.set_position(reader.position());
            transaction.ops.iter().try_for_each(|op| check_op(op, &self.header))?;
            bytes += transaction.payload_bytes();
            first = first.or_else(|| transaction.ops.first().map(is_creation));
            last = transaction.ops.last().map(is_metadata);
        }
        bar.finish_and_clear();
        let is_whole = self.header.object.is_some() || (first, last) == (Some(true), Some(true));
        ensure!(is_whole, "it does not make a placement group from beginning to end");
        Ok((bytes, reader.left_out().to_vec()))
    }
}

fn names(objects: &[ObjectId]) -> Vec<String> {
    objects.iter().map(ToString::to_string).collect()
}

fn is_creation(op: &Op) -> bool {
    matches!(op, Op::CreateCollection { .. })
}

fn is_metadata(op: &Op) -> bool {
    matches!(op, Op::SetCollectionMeta { .. })
}

fn write(writer: &mut Writer, ops: Vec<Op>) -> anyhow::Result<()> {
    writer.transaction(Transaction { ops }).context("the export cannot be written")
}

/// An export makes what its header says, and touches nothing else. Of a group, which was not there before, it may remove objects:
/// those that it began with and could not end.
fn check_op(op: &Op, header: &ExportHeader) -> anyhow::Result<()> {
    let is_meant = match op {
        Op::RemoveCollection { .. }
        | Op::SplitCollection { .. }
        | Op::MergeCollection { .. }
        | Op::Clone { .. } => false,
        Op::CreateCollection { bits, .. } => header.object.is_none() && *bits == header.bits,
        op => match (op.object(), &header.object) {
            (Some(object), Some(only)) => object == only && !matches!(op, Op::Remove { .. }),
            (Some(object), None) => {
                object.pool == header.group.pool && header.group.has_hash(header.bits, object.hash)
            }
            (None, only) => only.is_none(),
        },
    };
    ensure!(
        op.collection() == header.group && is_meant,
        "it would change something else than it says that it is of"
    );
    Ok(())
}
