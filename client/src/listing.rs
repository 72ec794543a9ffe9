//! Listing the objects of a pool: one placement group after the other, in the order of the reversed hash.
//!
//! Objects that exist all the time come exactly once, also when placement groups split meanwhile: a cursor is a place
//! in the order of objects, not a number of a group.

use bytes::Bytes;
use wire::codec::encode_to_bytes;
use wire::msg::ListedObject;
use wire::types::{HObject, SnapId};

use crate::error::{Error, Result};
use crate::io::Pool;
use crate::limits::LIST_ENTRIES_MAX;
use crate::operation::ObjectOperation;
use crate::request::Target;

/// The namespace that stands for all.
pub const ALL_NAMESPACES: &[u8] = b"\x01";

/// A place in a listing, between two objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(HObject);

impl Cursor {
    /// Whether nothing follows.
    pub fn is_end(&self) -> bool {
        self.0.max
    }
}

/// A listing in progress.
pub struct Lister {
    pool: Pool,
    cursor: Cursor,
}

impl Lister {
    pub(crate) fn new(pool: Pool) -> Self {
        let cursor = Cursor(HObject { snap: SnapId::HEAD, ..HObject::hash_start(pool.id(), 0) });
        Self { pool, cursor }
    }

    /// Where the listing is: what was given comes before.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Goes on at a place that an earlier listing of this pool and namespace gave.
    pub fn seek(&mut self, cursor: Cursor) {
        self.cursor = cursor;
    }

    /// The next objects; none when there are no more. The size of a page is the OSD's choice.
    pub async fn next_page(&mut self) -> Result<Option<Vec<ListedObject>>> {
        while !self.cursor.is_end() {
            let page = self.ask().await?;
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// All that follow.
    pub async fn collect(mut self) -> Result<Vec<ListedObject>> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }

    async fn ask(&mut self) -> Result<Vec<ListedObject>> {
        let (pool, hash) = (self.pool.id(), self.cursor.0.hash);
        let target = Target::Group { pool, hash, nspace: self.pool.namespace().clone() };
        let client = self.pool.client();
        let mut operation = ObjectOperation::new();
        let cursor: Bytes = encode_to_bytes(&self.cursor.0);
        let slot = operation.list(LIST_ENTRIES_MAX, client.osdmap().epoch.0, cursor);
        let reply = client.operate_on(target, operation).await?;
        let page = reply.get(&slot)?;
        // Going back or standing still would never end.
        if page.handle <= self.cursor.0 {
            let reason = format!("the listing goes from {:?} to {:?}", self.cursor.0, page.handle);
            return Err(Error::Unexpected { what: format!("listing of pool {pool}"), reason });
        }
        self.cursor = Cursor(page.handle);
        Ok(page.objects)
    }
}
