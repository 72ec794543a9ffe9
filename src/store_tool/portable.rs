//! Exports and imports.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::json;
use store::{
    CollectionId, ExportHeader, ExportReader, ExportWriter, ObjectId, ObjectStore, Op, StoreError,
    Transaction,
};

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
            File::open(path)?.sync_all().with_context(|| format!("'{}'", path.display()))?;
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
        let objects = match object {
            Some(object) => {
                self.export_object(&mut writer, group, &object).await?;
                1
            }
            None => self.export_group(&mut writer, group, bits, meta).await?,
        };
        writer.end(objects)?.finish()?;
        // Standard output may be the export.
        match self.json {
            true => {
                let all = json!({ "osd": self.osd, "pg": name_of(group), "objects": objects });
                writeln!(io::stderr(), "{all}")?;
            }
            false => writeln!(io::stderr(), "osd.{}: {}: {objects} objects", self.osd, name_of(group))?,
        }
        Ok(true)
    }

    async fn export_group(
        &self,
        writer: &mut Writer,
        group: CollectionId,
        bits: u8,
        meta: Bytes,
    ) -> anyhow::Result<u64> {
        write(writer, vec![Op::CreateCollection { collection: group, bits }])?;
        let bar = progress::bar(&format!("exporting {}", name_of(group)), 0);
        let (mut objects, mut from) = (0, None);
        loop {
            let (page, next) = self.store().list(group, from, LIST_PAGE).await?;
            bar.inc_length(page.len() as u64);
            for object in &page {
                self.export_object(writer, group, object).await?;
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
        // At the end: without it no OSD takes what there is for a group.
        write(writer, vec![Op::SetCollectionMeta { collection: group, value: meta }])?;
        Ok(objects)
    }

    /// The attributes come last: without them no OSD takes what there is for an object.
    async fn export_object(
        &self,
        writer: &mut Writer,
        collection: CollectionId,
        object: &ObjectId,
    ) -> anyhow::Result<()> {
        let (store, id) = (self.store(), || object.clone());
        let size = store.stat(collection, object).await?.size;
        write(writer, vec![Op::Touch { collection, object: id() }])?;
        for (start, length) in store.extents(collection, object, 0, size).await? {
            let end = start + length;
            for offset in (start..end).step_by(TRANSACTION_BYTES as usize) {
                let len = TRANSACTION_BYTES.min(end - offset);
                let data = store.read(collection, object, offset, len).await?;
                write(writer, vec![Op::Write { collection, object: id(), offset, data }])?;
            }
        }
        let header = store.omap_header(collection, object).await?;
        if !header.is_empty() {
            write(writer, vec![Op::OmapSetHeader { collection, object: id(), header }])?;
        }
        let mut after = None;
        loop {
            let most = TRANSACTION_BYTES as usize;
            let page = store.omap_scan(collection, object, after, Bytes::new(), OMAP_PAGE, most).await?;
            after = page.entries.last().map(|(key, _)| key.clone());
            let entries: BTreeMap<_, _> = page.entries.into_iter().collect();
            if !entries.is_empty() {
                write(writer, vec![Op::OmapSet { collection, object: id(), entries }])?;
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
        write(writer, last)
    }

    pub async fn import(&self, options: &ImportOptions) -> anyhow::Result<bool> {
        let name = options.file.display().to_string();
        let header = self.check_import(options).await.with_context(|| format!("'{name}'"))?;
        let what = match &header.object {
            Some(object) => object.to_string(),
            None => format!("placement group {}", name_of(header.group)),
        };
        if !options.dry_run
            && let Err(error) = self.take(&options.file).await
        {
            let then = match self.undo(&header).await {
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
            });
            writeln!(io::stdout(), "{all}")?;
        } else {
            writeln!(io::stdout(), "osd.{}: {what} {done}", self.osd)?;
        }
        Ok(true)
    }

    /// Reads all of it, and says whether there is place for it.
    async fn check_import(&self, options: &ImportOptions) -> anyhow::Result<ExportHeader> {
        let (mut reader, header, bar) = open(&options.file, "checking")?;
        ensure!(
            options.from_other_cluster || header.fsid == self.fsid,
            "it is of cluster {}, and this is {}: --from-other-cluster takes it all the same",
            header.fsid,
            self.fsid
        );
        let group = header.group;
        while let Some(transaction) = reader.next_transaction()? {
            bar.set_position(reader.position());
            for op in &transaction.ops {
                check_op(op, &header)?;
            }
        }
        bar.finish_and_clear();
        let there = self.has(group).await?;
        match &header.object {
            None => ensure!(
                !there,
                "osd.{} has placement group {}: 'spirula store remove-pg' removes it",
                self.osd,
                name_of(group)
            ),
            Some(object) => {
                ensure!(there, "osd.{} does not have placement group {}", self.osd, name_of(group));
                match self.store().stat(group, object).await {
                    Err(StoreError::NotFound(_)) => {}
                    Err(error) => return Err(error.into()),
                    Ok(_) => anyhow::bail!("{object} is there: 'spirula store remove' removes it"),
                }
            }
        }
        Ok(header)
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

    async fn take(&self, path: &Path) -> anyhow::Result<()> {
        let (mut reader, _, bar) = open(path, "importing")?;
        while let Some(transaction) = reader.next_transaction()? {
            // In order anyway; and not many in memory.
            self.submit(transaction.ops).await?;
            bar.set_position(reader.position());
        }
        bar.finish_and_clear();
        Ok(())
    }
}

fn write(writer: &mut Writer, ops: Vec<Op>) -> anyhow::Result<()> {
    writer.transaction(Transaction { ops }).context("the export cannot be written")
}

fn open(
    path: &Path,
    doing: &str,
) -> anyhow::Result<(ExportReader<BufReader<File>>, ExportHeader, ProgressBar)> {
    let file = File::open(path)?;
    let bar = progress::bar(doing, file.metadata()?.len());
    let (reader, header) = ExportReader::new(BufReader::with_capacity(1 << 20, file))?;
    Ok((reader, header, bar))
}

/// An export makes what its header says, and touches nothing else.
fn check_op(op: &Op, header: &ExportHeader) -> anyhow::Result<()> {
    let is_of_object = match (op.object(), &header.object) {
        (Some(object), Some(only)) => object == only,
        (Some(_), None) => true,
        (None, only) => only.is_none(),
    };
    let removes = matches!(op, Op::Remove { .. } | Op::RemoveCollection { .. });
    ensure!(
        op.collection() == header.group && is_of_object && !removes,
        "it would change something else than it says that it is of"
    );
    Ok(())
}
