//! Reading an object through the changes of its request.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{OmapPage, StoreError, StoreResult, Summed};

use super::ObjectView;
use crate::chunks;
use crate::data_overlay::Piece;
use crate::object_info::USER_ATTR_PREFIX;
use crate::omap_overlay::OmapLookup;

impl ObjectView {
    /// The bytes of a range, clipped to the object.
    pub async fn read(&self, offset: u64, len: u64) -> StoreResult<Vec<Bytes>> {
        let end = offset.saturating_add(len).min(self.size());
        if offset >= end {
            return Ok(Vec::new());
        }
        if !self.data.is_touched() {
            return self.read_stored(offset, end - offset).await;
        }
        let mut out = Vec::new();
        for piece in self.data.pieces(offset, end - offset) {
            match piece {
                Piece::Stored { offset, len } => out.extend(self.read_stored(offset, len).await?),
                Piece::Zeroes(len) => chunks::push_zeroes(&mut out, len),
                Piece::Bytes(data) => out.extend(data),
            }
        }
        Ok(out)
    }

    /// The same with what the store knows of the pieces.
    pub async fn read_summed(&self, offset: u64, len: u64) -> StoreResult<Vec<Summed>> {
        if self.data.is_touched() {
            return Ok(self.read(offset, len).await?.into_iter().map(|bytes| (bytes, None)).collect());
        }
        let len = offset.saturating_add(len).min(self.size()).saturating_sub(offset);
        if len == 0 {
            return Ok(Vec::new());
        }
        let read = self.store.read_summed(self.collection, &self.object, offset, len, self.hints).await?;
        self.check_length(read.iter().map(|(bytes, _)| bytes.len() as u64).sum(), offset, len)?;
        Ok(read)
    }

    async fn read_stored(&self, offset: u64, len: u64) -> StoreResult<Vec<Bytes>> {
        let data = self.store.read_with(self.collection, &self.object, offset, len, self.hints).await?;
        self.check_length(chunks::total(&data), offset, len)?;
        Ok(data)
    }

    fn check_length(&self, got: u64, offset: u64, len: u64) -> StoreResult<()> {
        if got == len {
            return Ok(());
        }
        Err(StoreError::Io(format!("{:?}: {got} of {len} bytes at {offset}", self.object)))
    }

    /// The parts of a range that hold data; one part if the request changed the data.
    pub async fn extents(&self, offset: u64, len: u64) -> StoreResult<Vec<(u64, u64)>> {
        let end = offset.saturating_add(len).min(self.size());
        if offset >= end {
            return Ok(Vec::new());
        }
        if self.data.is_touched() {
            return Ok(vec![(offset, end - offset)]);
        }
        self.store.extents(self.collection, &self.object, offset, end - offset).await
    }

    /// Clients' attributes by the names clients use.
    pub async fn attrs(&self) -> StoreResult<BTreeMap<Bytes, Bytes>> {
        let mut all = BTreeMap::new();
        if !self.attrs_base_hidden {
            for (name, value) in self.store.attrs(self.collection, &self.object).await? {
                if name.first() == Some(&USER_ATTR_PREFIX) {
                    all.insert(name.slice(1..), value);
                }
            }
        }
        for (name, value) in &self.attrs {
            match value {
                Some(value) => all.insert(name.clone(), value.clone()),
                None => all.remove(name),
            };
        }
        Ok(all)
    }

    /// A client's attribute.
    pub async fn attr(&self, name: &Bytes) -> StoreResult<Option<Bytes>> {
        match self.attrs.get(name) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.attrs().await?.remove(name)),
        }
    }

    /// The omap header, empty if there is none.
    pub async fn omap_header(&self) -> StoreResult<Bytes> {
        match self.omap.header() {
            Some(header) => Ok(header),
            None => self.store.omap_header(self.collection, &self.object).await,
        }
    }

    /// Values of `keys`, absent ones left out.
    pub async fn omap_values(
        &self,
        keys: impl IntoIterator<Item = Bytes>,
    ) -> StoreResult<BTreeMap<Bytes, Bytes>> {
        let mut found = BTreeMap::new();
        let mut stored = Vec::new();
        for key in keys {
            match self.omap.lookup(&key) {
                OmapLookup::Value(value) => {
                    found.insert(key, value);
                }
                OmapLookup::Absent => {}
                OmapLookup::Stored => stored.push(key),
            }
        }
        if !stored.is_empty() {
            found.extend(self.store.omap_values(self.collection, &self.object, stored).await?);
        }
        Ok(found)
    }

    /// Entries after `start_after` that begin with `prefix`, at most `max` and about `max_bytes`.
    pub async fn omap_scan(
        &self,
        start_after: &Bytes,
        prefix: &Bytes,
        max: usize,
        max_bytes: usize,
    ) -> StoreResult<OmapPage> {
        if !self.omap.has_key_changes() && max > 0 {
            return self.scan_stored(start_after.clone(), prefix, max, max_bytes).await;
        }
        let mut entries: BTreeMap<Bytes, Bytes> =
            self.omap.entries_after(start_after, prefix).into_iter().collect();
        // One more than asked for tells whether there is more.
        let wanted = max.saturating_add(1);
        let (mut cursor, mut stored, mut bytes) = (start_after.clone(), 0, 0);
        // Entries beyond this key may be incomplete.
        let mut complete_through = None;
        while !self.omap.hides_base() {
            let page = self.scan_stored(cursor, prefix, wanted - stored, max_bytes).await?;
            let Some((last, _)) = page.entries.last() else { break };
            cursor = last.clone();
            for (key, value) in page.entries {
                if self.omap.lookup(&key) == OmapLookup::Stored {
                    stored += 1;
                    bytes += key.len() + value.len();
                    entries.insert(key, value);
                }
            }
            if !page.more {
                break;
            }
            if stored >= wanted || bytes >= max_bytes {
                complete_through = Some(cursor);
                break;
            }
        }
        let mut more = complete_through.is_some();
        if let Some(last) = complete_through {
            entries.retain(|key, _| *key <= last);
        }
        more |= entries.len() > max;
        Ok(OmapPage { entries: entries.into_iter().take(max).collect(), more })
    }

    async fn scan_stored(
        &self,
        start_after: Bytes,
        prefix: &Bytes,
        max: usize,
        max_bytes: usize,
    ) -> StoreResult<OmapPage> {
        self.store
            .omap_scan(self.collection, &self.object, Some(start_after), prefix.clone(), max, max_bytes)
            .await
    }
}
