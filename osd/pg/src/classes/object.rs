//! The object of a request as a class's method sees it.
//!
//! Invariant: a method's changes go into the same view as those of the request's other ops, so that they are made with
//! them or not at all; each step does what the client's op of the same name does, with the same limits.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cls::{CallResult, Object, ObjectFuture, ObjectStat, OmapPage};

use crate::chunks;
use crate::errno::{OpError, OpResult};
use crate::execute::Output;
use crate::limits::{OMAP_BYTES_MAX, OMAP_ENTRIES_MAX};
use crate::object_view::ObjectView;
use crate::operation::Extent;
use crate::{ops_attr, ops_omap, ops_write};
use wire::Errno;

/// The object.
pub struct ClassObject<'v> {
    /// Under the request's changes.
    pub view: &'v mut ObjectView,
}

impl ClassObject<'_> {
    fn change(&mut self, change: impl FnOnce(&mut ObjectView) -> OpResult<Output>) -> CallResult<()> {
        change(self.view)?;
        Ok(())
    }

    fn must_exist(&self) -> OpResult<()> {
        if self.view.exists() { Ok(()) } else { Err(Errno::ENOENT.into()) }
    }
}

impl Object for ClassObject<'_> {
    fn stat(&self) -> Option<ObjectStat> {
        let stat = ObjectStat { size: self.view.size(), mtime: self.view.info().mtime };
        self.view.exists().then_some(stat)
    }

    fn version(&self) -> u64 {
        self.view.base().map_or(0, |state| state.info.user_version)
    }

    fn read(&self, offset: u64, length: u64) -> ObjectFuture<'_, Bytes> {
        Box::pin(async move {
            self.must_exist()?;
            Ok(chunks::concat(&self.view.read(offset, length).await.map_err(OpError::from)?))
        })
    }

    fn attr<'a>(&'a self, name: &'a Bytes) -> ObjectFuture<'a, Option<Bytes>> {
        Box::pin(async move {
            self.must_exist()?;
            Ok(self.view.attr(name).await.map_err(OpError::from)?)
        })
    }

    fn attrs(&self) -> ObjectFuture<'_, BTreeMap<Bytes, Bytes>> {
        Box::pin(async move {
            self.must_exist()?;
            Ok(self.view.attrs().await.map_err(OpError::from)?)
        })
    }

    fn omap_header(&self) -> ObjectFuture<'_, Bytes> {
        Box::pin(async move {
            self.must_exist()?;
            Ok(self.view.omap_header().await.map_err(OpError::from)?)
        })
    }

    fn omap_values(&self, keys: BTreeSet<Bytes>) -> ObjectFuture<'_, BTreeMap<Bytes, Bytes>> {
        Box::pin(async move {
            self.must_exist()?;
            Ok(self.view.omap_values(keys).await.map_err(OpError::from)?)
        })
    }

    fn omap_scan<'a>(
        &'a self,
        start_after: &'a Bytes,
        prefix: &'a Bytes,
        max: usize,
    ) -> ObjectFuture<'a, OmapPage> {
        Box::pin(async move {
            self.must_exist()?;
            let max = max.min(OMAP_ENTRIES_MAX);
            let page = self.view.omap_scan(start_after, prefix, max, OMAP_BYTES_MAX).await;
            let page = page.map_err(OpError::from)?;
            Ok(OmapPage { entries: page.entries, more: page.more })
        })
    }

    fn create(&mut self, exclusive: bool) -> CallResult<()> {
        self.change(|view| ops_write::create(view, exclusive))
    }

    fn remove(&mut self) -> CallResult<()> {
        self.change(ops_write::delete)
    }

    fn write(&mut self, offset: u64, data: Bytes) -> CallResult<()> {
        let extent = Extent { offset, length: data.len() as u64, ..Extent::default() };
        self.change(|view| ops_write::write(view, extent, data))
    }

    fn write_full(&mut self, data: Bytes) -> CallResult<()> {
        self.change(|view| ops_write::write_full(view, data.len() as u64, data))
    }

    fn truncate(&mut self, size: u64) -> CallResult<()> {
        self.change(|view| ops_write::truncate(view, Extent { offset: size, ..Extent::default() }))
    }

    fn zero(&mut self, offset: u64, length: u64) -> CallResult<()> {
        self.change(|view| ops_write::zero(view, Extent { offset, length, ..Extent::default() }))
    }

    fn set_attr(&mut self, name: Bytes, value: Bytes) -> CallResult<()> {
        self.change(|view| ops_attr::set(view, name, value))
    }

    fn remove_attr(&mut self, name: Bytes) -> CallResult<()> {
        self.change(|view| ops_attr::remove(view, name))
    }

    fn omap_set(&mut self, entries: BTreeMap<Bytes, Bytes>) -> CallResult<()> {
        self.change(|view| ops_omap::set(view, entries))
    }

    fn omap_set_header(&mut self, header: Bytes) -> CallResult<()> {
        self.change(|view| ops_omap::set_header(view, header))
    }

    fn omap_remove(&mut self, keys: BTreeSet<Bytes>) -> CallResult<()> {
        self.change(|view| ops_omap::remove(view, keys))
    }

    fn omap_remove_range(&mut self, first: Bytes, end: Bytes) -> CallResult<()> {
        self.change(|view| ops_omap::remove_range(view, first, end))
    }

    fn omap_clear(&mut self) -> CallResult<()> {
        self.change(ops_omap::clear)
    }
}
