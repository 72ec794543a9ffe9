//! Objects of one pool and namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use wire::msg::{AccessKind, OpCode, RequestFlags};
use wire::types::{ObjectLocator, PoolId, UTime};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::limits::OPS_PER_OPERATION_MAX;
use crate::listing::Lister;
use crate::operation::{Creation, ObjectOperation, OmapPage, OpOutput, Reply, Stat};
use crate::request::{Body, Outcome, Request, Target};
use wire::Errno;

//= ceph 16.2 osd: a bit that clients set on every request
const KNOWS_REDIRECTS: RequestFlags = RequestFlags(0x40_0000);

/// Objects of one pool, in one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    client: Client,
    locator: ObjectLocator,
}

impl Client {
    /// The pool of this name. Asks the monitor if it is not known here yet.
    pub async fn pool(&self, name: &str) -> Result<Pool> {
        let id = match self.osdmap().pool_id(name) {
            Some(id) => id,
            None => {
                let latest = self.wait_for_latest_map().await?;
                latest.pool_id(name).ok_or_else(|| Error::NoSuchPool(name.to_owned()))?
            }
        };
        Ok(self.pool_by_id(id))
    }

    /// The pool of this id, which need not exist.
    pub fn pool_by_id(&self, id: PoolId) -> Pool {
        Pool { client: self.clone(), locator: ObjectLocator::pool(id) }
    }

    /// Sends ops to whom they belong.
    pub(crate) async fn operate_on(&self, target: Target, operation: ObjectOperation) -> Result<Reply> {
        let writes = operation.may_write();
        let (ops, mut flags) = operation.into_parts();
        flags = flags.with(RequestFlags::ON_DISK).with(KNOWS_REDIRECTS);
        let mut mtime = UTime::default();
        if writes {
            flags = flags.with(RequestFlags::WRITE);
            mtime = UTime::from_nanoseconds(self.core().wall_clock().0);
        }
        if ops.iter().any(|op| matches!(op.code.access(), AccessKind::Read | AccessKind::ReadWrite)) {
            flags = flags.with(RequestFlags::READ);
        }
        if ops.iter().any(|op| op.code == OpCode::CALL) {
            flags = flags.with(RequestFlags::EXEC);
        }
        let request = Rc::new(Request { target, body: Body::Ops { ops, flags, mtime } });
        match self.ask_osd(request.clone()).await? {
            Outcome::Failed(error) => Err(error),
            Outcome::Command(_) => {
                let reason = "the answer to a command came".to_owned();
                Err(Error::Unexpected { what: request.to_string(), reason })
            }
            Outcome::Ops(reply) => {
                if let Some(errno) = Errno::from_code(reply.result) {
                    let failed = reply.ops.iter().zip(&reply.results).find(|(_, result)| **result < 0);
                    let at = failed.map(|(op, _)| format!(", at {:?}", op.code)).unwrap_or_default();
                    return Err(Error::Refused { what: format!("{request}{at}"), errno });
                }
                let results = reply.ops.iter().zip(&reply.results);
                let outputs =
                    results.map(|(op, &result)| OpOutput { result, data: op.data.to_bytes() }).collect();
                Ok(Reply { request, result: reply.result, version: reply.user_version, outputs })
            }
        }
    }
}

impl Pool {
    /// The same pool, another namespace; empty for the default one.
    pub fn with_namespace(&self, nspace: impl Into<Bytes>) -> Self {
        let locator = ObjectLocator { nspace: nspace.into(), ..self.locator.clone() };
        Self { client: self.client.clone(), locator }
    }

    /// The same pool; objects are placed by this key, not by their names.
    pub fn with_key(&self, key: impl Into<Bytes>) -> Self {
        let locator = ObjectLocator { key: key.into(), ..self.locator.clone() };
        Self { client: self.client.clone(), locator }
    }

    /// Id of the pool.
    pub fn id(&self) -> PoolId {
        self.locator.pool
    }

    /// The namespace.
    pub fn namespace(&self) -> &Bytes {
        &self.locator.nspace
    }

    /// The client it belongs to.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// All objects of the namespace.
    pub fn list(&self) -> Lister {
        Lister::new(self.clone())
    }

    /// Runs an operation on an object: all of it, or nothing. It is done once, however often it has to be sent.
    pub async fn operate(&self, name: impl Into<Bytes>, operation: ObjectOperation) -> Result<Reply> {
        let name = name.into();
        if operation.len() > OPS_PER_OPERATION_MAX {
            return Err(Error::TooMuch {
                what: format!("operation on '{}': number of ops", name.escape_ascii()),
                got: u64::try_from(operation.len()).unwrap_or(u64::MAX),
                limit: u64::try_from(OPS_PER_OPERATION_MAX).unwrap_or(u64::MAX),
            });
        }
        let target = Target::Object { locator: self.locator.clone(), name };
        self.client.operate_on(target, operation).await
    }

    /// Reads; fewer bytes come at the object's end. Length 0 is all that follows.
    pub async fn read(&self, name: impl Into<Bytes>, offset: u64, length: u64) -> Result<Bytes> {
        let mut operation = ObjectOperation::new();
        let data = operation.read(offset, length);
        self.operate(name, operation).await?.get(&data)
    }

    /// Writes at an offset.
    pub async fn write(&self, name: impl Into<Bytes>, offset: u64, data: impl Into<Bytes>) -> Result<u64> {
        let mut operation = ObjectOperation::new();
        operation.write(offset, data.into());
        Ok(self.operate(name, operation).await?.version)
    }

    /// Replaces the content.
    pub async fn write_full(&self, name: impl Into<Bytes>, data: impl Into<Bytes>) -> Result<u64> {
        let mut operation = ObjectOperation::new();
        operation.write_full(data.into());
        Ok(self.operate(name, operation).await?.version)
    }

    /// Writes at the end.
    pub async fn append(&self, name: impl Into<Bytes>, data: impl Into<Bytes>) -> Result<u64> {
        let mut operation = ObjectOperation::new();
        operation.append(data.into());
        Ok(self.operate(name, operation).await?.version)
    }

    /// Sets the size.
    pub async fn truncate(&self, name: impl Into<Bytes>, size: u64) -> Result<u64> {
        let mut operation = ObjectOperation::new();
        operation.truncate(size);
        Ok(self.operate(name, operation).await?.version)
    }

    /// Makes a range read as zeros.
    pub async fn zero(&self, name: impl Into<Bytes>, offset: u64, length: u64) -> Result<u64> {
        let mut operation = ObjectOperation::new();
        operation.zero(offset, length);
        Ok(self.operate(name, operation).await?.version)
    }

    /// Creates an object.
    pub async fn create(&self, name: impl Into<Bytes>, creation: Creation) -> Result<u64> {
        let mut operation = ObjectOperation::new();
        operation.create(creation);
        Ok(self.operate(name, operation).await?.version)
    }

    /// Removes an object.
    pub async fn remove(&self, name: impl Into<Bytes>) -> Result<()> {
        let mut operation = ObjectOperation::new();
        operation.remove();
        self.operate(name, operation).await.map(drop)
    }

    /// Size and modification time.
    pub async fn stat(&self, name: impl Into<Bytes>) -> Result<Stat> {
        let mut operation = ObjectOperation::new();
        let stat = operation.stat();
        self.operate(name, operation).await?.get(&stat)
    }

    /// Value of an attribute.
    pub async fn get_xattr(&self, name: impl Into<Bytes>, attribute: &[u8]) -> Result<Bytes> {
        let mut operation = ObjectOperation::new();
        let value = operation.get_xattr(attribute);
        self.operate(name, operation).await?.get(&value)
    }

    /// All attributes.
    pub async fn get_xattrs(&self, name: impl Into<Bytes>) -> Result<BTreeMap<Bytes, Bytes>> {
        let mut operation = ObjectOperation::new();
        let values = operation.get_xattrs();
        self.operate(name, operation).await?.get(&values)
    }

    /// Sets an attribute.
    pub async fn set_xattr(&self, name: impl Into<Bytes>, attribute: &[u8], value: &[u8]) -> Result<u64> {
        let mut operation = ObjectOperation::new();
        operation.set_xattr(attribute, value);
        Ok(self.operate(name, operation).await?.version)
    }

    /// Removes an attribute.
    pub async fn remove_xattr(&self, name: impl Into<Bytes>, attribute: &[u8]) -> Result<u64> {
        let mut operation = ObjectOperation::new();
        operation.remove_xattr(attribute);
        Ok(self.operate(name, operation).await?.version)
    }

    /// Entries of the omap after `after`, at most `max`.
    pub async fn omap(
        &self,
        name: impl Into<Bytes>,
        after: &[u8],
        max: u64,
    ) -> Result<OmapPage<BTreeMap<Bytes, Bytes>>> {
        let mut operation = ObjectOperation::new();
        let page = operation.omap_values(after, max, b"");
        self.operate(name, operation).await?.get(&page)
    }

    /// Sets entries of the omap.
    pub async fn set_omap(&self, name: impl Into<Bytes>, entries: &BTreeMap<Bytes, Bytes>) -> Result<u64> {
        let mut operation = ObjectOperation::new();
        operation.set_omap(entries);
        Ok(self.operate(name, operation).await?.version)
    }

    /// Removes entries of the omap.
    pub async fn remove_omap_keys(&self, name: impl Into<Bytes>, keys: &BTreeSet<Bytes>) -> Result<u64> {
        let mut operation = ObjectOperation::new();
        operation.remove_omap_keys(keys);
        Ok(self.operate(name, operation).await?.version)
    }
}
