//! What a method gets: its object, as far as its flags allow, its caller, and the time.
//!
//! Invariant: a method that is registered as reading changes nothing, and one registered as writing sees nothing, so
//! that the flags by which its request was treated hold.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire::types::{Addr, EntityName, UTime};

use crate::error::CallResult;
use crate::host::Access;
use crate::object::{Object, ObjectStat, OmapPage};
use wire::Errno;

/// Who calls, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Name of the client.
    pub name: EntityName,
    /// Its address.
    pub addr: Addr,
    /// When the request arrived. This is the only clock a method sees: all calls of a request see the same time, and
    /// what a call grants for a while ends no later than the client must expect.
    pub now: UTime,
}

impl Caller {
    /// A client at no address, at the beginning of time: for tests.
    pub fn client(id: i64) -> Self {
        Self { name: EntityName::client(id), addr: Addr::default(), now: UTime::default() }
    }
}

/// The object as one method may use it.
pub struct ObjectContext<'o> {
    object: &'o mut dyn Object,
    caller: &'o Caller,
    access: Access,
}

impl<'o> ObjectContext<'o> {
    /// For a method with this access.
    pub fn new(object: &'o mut dyn Object, caller: &'o Caller, access: Access) -> Self {
        Self { object, caller, access }
    }

    /// Who calls.
    pub fn caller(&self) -> &Caller {
        self.caller
    }

    /// The time.
    pub fn now(&self) -> UTime {
        self.caller.now
    }

    // Existence, size and version are not content: any method may ask for them.

    /// Size and time.
    pub fn stat(&self) -> CallResult<ObjectStat> {
        Ok(self.object.stat().ok_or(Errno::ENOENT)?)
    }

    /// Whether the object exists.
    pub fn exists(&self) -> bool {
        self.object.stat().is_some()
    }

    /// See [`Object::version`].
    pub fn version(&self) -> u64 {
        self.object.version()
    }

    /// See [`Object::read`].
    pub async fn read(&self, offset: u64, length: u64) -> CallResult<Bytes> {
        self.readable()?.read(offset, length).await
    }

    /// See [`Object::attr`].
    pub async fn attr(&self, name: &Bytes) -> CallResult<Option<Bytes>> {
        self.readable()?.attr(name).await
    }

    /// See [`Object::attrs`].
    pub async fn attrs(&self) -> CallResult<BTreeMap<Bytes, Bytes>> {
        self.readable()?.attrs().await
    }

    /// See [`Object::omap_header`].
    pub async fn omap_header(&self) -> CallResult<Bytes> {
        self.readable()?.omap_header().await
    }

    /// See [`Object::omap_values`].
    pub async fn omap_values(&self, keys: BTreeSet<Bytes>) -> CallResult<BTreeMap<Bytes, Bytes>> {
        self.readable()?.omap_values(keys).await
    }

    /// See [`Object::omap_scan`].
    pub async fn omap_scan(&self, start_after: &Bytes, prefix: &Bytes, max: usize) -> CallResult<OmapPage> {
        self.readable()?.omap_scan(start_after, prefix, max).await
    }

    /// The object, for changing; EIO for a method that only reads.
    pub fn writable(&mut self) -> CallResult<&mut dyn Object> {
        if self.access.may_write() { Ok(&mut *self.object) } else { Err(Errno::EIO.into()) }
    }

    /// The object if it exists, for reading; EIO for a method that only writes.
    fn readable(&self) -> CallResult<&dyn Object> {
        if !self.access.may_read() {
            return Err(Errno::EIO.into());
        }
        self.stat()?;
        Ok(&*self.object)
    }
}
