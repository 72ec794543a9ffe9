//! The seam between a class and whoever keeps the object: one object inside one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use bytes::Bytes;
use wire::types::UTime;

use crate::error::CallResult;

/// A step that may have to wait for the store. Not sent between cores.
pub type ObjectFuture<'a, T> = Pin<Box<dyn Future<Output = CallResult<T>> + 'a>>;

/// Size and time of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectStat {
    /// Size, bytes.
    pub size: u64,
    /// Modification time as the last writer gave it.
    pub mtime: UTime,
}

/// Some omap entries, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OmapPage {
    /// The entries.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// The object. Reads see the changes made before them in the same transaction; changes are made when the transaction
/// is committed, all or none, and not by these calls. The order of changes is the order of calls.
///
/// Reads of a missing object are ENOENT, and so are changes that do not say that they create it. Errors of limits
/// (names, sizes) are those that clients get for the corresponding op.
pub trait Object {
    /// Size and time; `None` if the object does not exist.
    fn stat(&self) -> Option<ObjectStat>;

    /// The version that clients see, from before the transaction; 0 if there is none.
    fn version(&self) -> u64;

    /// The bytes of a range, clipped to the object.
    fn read(&self, offset: u64, length: u64) -> ObjectFuture<'_, Bytes>;

    /// An attribute; `None` if the object has none of this name.
    fn attr<'a>(&'a self, name: &'a Bytes) -> ObjectFuture<'a, Option<Bytes>>;

    /// All attributes.
    fn attrs(&self) -> ObjectFuture<'_, BTreeMap<Bytes, Bytes>>;

    /// The omap header, empty if there is none.
    fn omap_header(&self) -> ObjectFuture<'_, Bytes>;

    /// The omap entries with these keys, as far as they exist.
    fn omap_values(&self, keys: BTreeSet<Bytes>) -> ObjectFuture<'_, BTreeMap<Bytes, Bytes>>;

    /// Entries after `start_after` whose keys begin with `prefix`, at most `max`, or fewer.
    fn omap_scan<'a>(
        &'a self,
        start_after: &'a Bytes,
        prefix: &'a Bytes,
        max: usize,
    ) -> ObjectFuture<'a, OmapPage>;

    /// Creates the object; if it exists, touches it, or is EEXIST if `exclusive`.
    fn create(&mut self, exclusive: bool) -> CallResult<()>;

    /// Removes the object.
    fn remove(&mut self) -> CallResult<()>;

    /// Writes a range; creates the object.
    fn write(&mut self, offset: u64, data: Bytes) -> CallResult<()>;

    /// Replaces the data, keeps attributes and omap; creates the object.
    fn write_full(&mut self, data: Bytes) -> CallResult<()>;

    /// Sets the size; a missing object stays missing and that is no error.
    fn truncate(&mut self, size: u64) -> CallResult<()>;

    /// Makes a range read as zeroes; a missing object stays missing and that is no error.
    fn zero(&mut self, offset: u64, length: u64) -> CallResult<()>;

    /// Sets an attribute; creates the object.
    fn set_attr(&mut self, name: Bytes, value: Bytes) -> CallResult<()>;

    /// Removes an attribute; one that is not there is no error.
    fn remove_attr(&mut self, name: Bytes) -> CallResult<()>;

    /// Sets omap entries; creates the object.
    fn omap_set(&mut self, entries: BTreeMap<Bytes, Bytes>) -> CallResult<()>;

    /// Sets the omap header; creates the object.
    fn omap_set_header(&mut self, header: Bytes) -> CallResult<()>;

    /// Removes omap entries; absent keys are no error.
    fn omap_remove(&mut self, keys: BTreeSet<Bytes>) -> CallResult<()>;

    /// Removes the omap entries with keys in `[first, end)`.
    fn omap_remove_range(&mut self, first: Bytes, end: Bytes) -> CallResult<()>;

    /// Removes all omap entries and the header.
    fn omap_clear(&mut self) -> CallResult<()>;
}
