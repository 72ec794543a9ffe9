//! An object in memory: the plainest thing that keeps the promises of [`Object`], for tests of classes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire::types::UTime;

use crate::error::{CallError, CallResult};
use crate::object::{Object, ObjectFuture, ObjectStat, OmapPage};
use wire::Errno;

/// The object. A transaction is a clone that replaces the original when it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryObject {
    content: Option<Content>,
    /// What [`Object::version`] tells.
    pub version: u64,
    /// What [`Object::stat`] tells of an object that exists.
    pub mtime: UTime,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    data: Vec<u8>,
    attrs: BTreeMap<Bytes, Bytes>,
    omap: BTreeMap<Bytes, Bytes>,
    omap_header: Bytes,
}

impl MemoryObject {
    fn existing(&self) -> CallResult<&Content> {
        Ok(self.content.as_ref().ok_or(Errno::ENOENT)?)
    }

    fn existing_mut(&mut self) -> CallResult<&mut Content> {
        Ok(self.content.as_mut().ok_or(Errno::ENOENT)?)
    }

    fn created(&mut self) -> &mut Content {
        self.content.get_or_insert_default()
    }
}

/// An offset or a size in memory. More than memory holds is out of range.
fn position(offset: u64) -> CallResult<usize> {
    usize::try_from(offset).map_err(|_| CallError::from(Errno::ERANGE))
}

fn ready<'a, T: 'a>(result: CallResult<T>) -> ObjectFuture<'a, T> {
    Box::pin(std::future::ready(result))
}

impl Object for MemoryObject {
    fn stat(&self) -> Option<ObjectStat> {
        let content = self.content.as_ref()?;
        Some(ObjectStat { size: content.data.len() as u64, mtime: self.mtime })
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn read(&self, offset: u64, length: u64) -> ObjectFuture<'_, Bytes> {
        ready(self.existing().map(|content| {
            let size = content.data.len() as u64;
            let range = offset.min(size)..offset.saturating_add(length).min(size);
            // Both ends are within a size that is a length in memory.
            Bytes::copy_from_slice(&content.data[range.start as usize..range.end as usize])
        }))
    }

    fn attr<'a>(&'a self, name: &'a Bytes) -> ObjectFuture<'a, Option<Bytes>> {
        ready(self.existing().map(|content| content.attrs.get(name).cloned()))
    }

    fn attrs(&self) -> ObjectFuture<'_, BTreeMap<Bytes, Bytes>> {
        ready(self.existing().map(|content| content.attrs.clone()))
    }

    fn omap_header(&self) -> ObjectFuture<'_, Bytes> {
        ready(self.existing().map(|content| content.omap_header.clone()))
    }

    fn omap_values(&self, keys: BTreeSet<Bytes>) -> ObjectFuture<'_, BTreeMap<Bytes, Bytes>> {
        ready(self.existing().map(|content| {
            let found = content.omap.iter().filter(|(key, _)| keys.contains(*key));
            found.map(|(key, value)| (key.clone(), value.clone())).collect()
        }))
    }

    fn omap_scan<'a>(
        &'a self,
        start_after: &'a Bytes,
        prefix: &'a Bytes,
        max: usize,
    ) -> ObjectFuture<'a, OmapPage> {
        ready(self.existing().map(|content| {
            let mut entries: Vec<(Bytes, Bytes)> = content
                .omap
                .iter()
                .filter(|(key, _)| *key > start_after && key.starts_with(prefix))
                .take(max.saturating_add(1))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let more = entries.len() > max;
            entries.truncate(max);
            OmapPage { entries, more }
        }))
    }

    fn create(&mut self, exclusive: bool) -> CallResult<()> {
        if exclusive && self.content.is_some() {
            return Err(Errno::EEXIST.into());
        }
        self.created();
        Ok(())
    }

    fn remove(&mut self) -> CallResult<()> {
        self.existing()?;
        self.content = None;
        Ok(())
    }

    fn write(&mut self, offset: u64, data: Bytes) -> CallResult<()> {
        let start = position(offset)?;
        let end = start.checked_add(data.len()).ok_or(Errno::ERANGE)?;
        let all = &mut self.created().data;
        if all.len() < end {
            all.resize(end, 0);
        }
        all[start..end].copy_from_slice(&data);
        Ok(())
    }

    fn write_full(&mut self, data: Bytes) -> CallResult<()> {
        self.created().data = data.into();
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> CallResult<()> {
        let size = position(size)?;
        if let Some(content) = &mut self.content {
            content.data.resize(size, 0);
        }
        Ok(())
    }

    fn zero(&mut self, offset: u64, length: u64) -> CallResult<()> {
        let [start, end] = [position(offset)?, position(offset.saturating_add(length))?];
        if let Some(content) = &mut self.content {
            if end >= content.data.len() {
                content.data.truncate(start);
            } else {
                content.data[start..end].fill(0);
            }
        }
        Ok(())
    }

    fn set_attr(&mut self, name: Bytes, value: Bytes) -> CallResult<()> {
        self.created().attrs.insert(name, value);
        Ok(())
    }

    fn remove_attr(&mut self, name: Bytes) -> CallResult<()> {
        self.existing_mut()?.attrs.remove(&name);
        Ok(())
    }

    fn omap_set(&mut self, entries: BTreeMap<Bytes, Bytes>) -> CallResult<()> {
        self.created().omap.extend(entries);
        Ok(())
    }

    fn omap_set_header(&mut self, header: Bytes) -> CallResult<()> {
        self.created().omap_header = header;
        Ok(())
    }

    fn omap_remove(&mut self, keys: BTreeSet<Bytes>) -> CallResult<()> {
        self.existing_mut()?.omap.retain(|key, _| !keys.contains(key));
        Ok(())
    }

    fn omap_remove_range(&mut self, first: Bytes, end: Bytes) -> CallResult<()> {
        self.existing_mut()?.omap.retain(|key, _| *key < first || *key >= end);
        Ok(())
    }

    fn omap_clear(&mut self) -> CallResult<()> {
        let content = self.existing_mut()?;
        content.omap.clear();
        content.omap_header = Bytes::new();
        Ok(())
    }
}
