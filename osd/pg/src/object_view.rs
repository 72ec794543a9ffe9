//! One object as a request sees it: the stored object under the changes the request has made so far.
//!
//! Reads go through the changes; changes collect store ops and submit nothing. Invariants: `state` is `None` exactly
//! if the object does not exist for the request; `changes` applied to the stored object gives what reads show.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use store::{CollectionId, ObjectId, ObjectStore, OmapPage, Op, StoreError, StoreResult};

use crate::chunks;
use crate::data_overlay::{DataOverlay, Piece};
use crate::object_info::{INFO_ATTR, ObjectInfo, ObjectState, USER_ATTR_PREFIX, user_attr};
use crate::omap_overlay::{OmapLookup, OmapOverlay};

/// Reads size and metadata of an object; `None` if it does not exist.
pub async fn load_state(
    store: &dyn ObjectStore,
    collection: CollectionId,
    object: &ObjectId,
) -> StoreResult<Option<ObjectState>> {
    let attrs = match store.attrs(collection, object).await {
        Ok(attrs) => attrs,
        Err(StoreError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some((_, value)) = attrs.into_iter().find(|(name, _)| name == INFO_ATTR) else {
        return Err(StoreError::Io(format!("{object:?} has no object info")));
    };
    let info = ObjectInfo::decode(value)
        .map_err(|error| StoreError::Io(format!("{object:?}: object info: {error}")))?;
    let size = store.stat(collection, object).await?.size;
    Ok(Some(ObjectState { size, info }))
}

/// The object.
pub struct ObjectView {
    store: Rc<dyn ObjectStore>,
    collection: CollectionId,
    object: ObjectId,
    base: Option<ObjectState>,
    state: Option<ObjectState>,
    data: DataOverlay,
    attrs: BTreeMap<Bytes, Option<Bytes>>,
    attrs_base_hidden: bool,
    omap: OmapOverlay,
    changes: Vec<Op>,
    modified: bool,
    grew: bool,
}

/// What a request did to its object.
#[derive(Debug)]
pub struct Changes {
    /// Store ops, without the object's metadata, which gets its version later.
    pub ops: Vec<Op>,
    /// The object afterwards.
    pub after: Option<ObjectState>,
    /// Whether the request adds objects, bytes, attributes or omap entries.
    pub grew: bool,
}

impl ObjectView {
    /// A view on `object` whose stored state is `base`.
    pub fn new(
        store: Rc<dyn ObjectStore>,
        collection: CollectionId,
        object: ObjectId,
        base: Option<ObjectState>,
    ) -> Self {
        let absent = base.is_none();
        Self {
            store,
            collection,
            object,
            base,
            state: base,
            data: DataOverlay::new(base.map_or(0, |state| state.size)),
            attrs: BTreeMap::new(),
            attrs_base_hidden: absent,
            omap: OmapOverlay::new(absent),
            changes: Vec::new(),
            modified: false,
            grew: false,
        }
    }

    /// Whether the object exists.
    pub fn exists(&self) -> bool {
        self.state.is_some()
    }

    /// Size, 0 if it does not exist.
    pub fn size(&self) -> u64 {
        self.state.map_or(0, |state| state.size)
    }

    /// Metadata; the default if it does not exist.
    pub fn info(&self) -> ObjectInfo {
        self.state.map_or_else(ObjectInfo::default, |state| state.info)
    }

    /// The metadata, for changing; `None` if the object does not exist.
    pub fn info_mut(&mut self) -> Option<&mut ObjectInfo> {
        self.state.as_mut().map(|state| &mut state.info)
    }

    /// The object before the request.
    pub fn base(&self) -> Option<&ObjectState> {
        self.base.as_ref()
    }

    /// Whether the request changed the object, if only by touching it.
    pub fn is_modified(&self) -> bool {
        self.modified
    }

    /// Ends the request.
    pub fn into_changes(self) -> Changes {
        let grew = self.grew || self.size() > self.base.map_or(0, |state| state.size);
        let created = self.base.is_none() && self.state.is_some();
        Changes { ops: self.changes, after: self.state, grew: grew || created }
    }

    // Reading.

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

    async fn read_stored(&self, offset: u64, len: u64) -> StoreResult<Vec<Bytes>> {
        let data = self.store.read(self.collection, &self.object, offset, len).await?;
        let got = chunks::total(&data);
        if got != len {
            return Err(StoreError::Io(format!("{:?}: {got} of {len} bytes at {offset}", self.object)));
        }
        Ok(data)
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

    // Changing.

    /// Creates the object if it does not exist. Counts as a change either way.
    pub fn touch(&mut self) {
        self.modified = true;
        if self.state.is_none() {
            self.state = Some(ObjectState::default());
            self.push(|collection, object| Op::Touch { collection, object });
        }
    }

    /// Writes; creates and grows the object as needed.
    pub fn write(&mut self, offset: u64, data: Vec<Bytes>) {
        let end = offset + chunks::total(&data);
        if data.iter().all(Bytes::is_empty) {
            self.touch();
            return;
        }
        self.modified = true;
        let state = self.state.get_or_insert_default();
        state.size = state.size.max(end);
        self.data.write(offset, data.clone());
        self.push(|collection, object| Op::Write { collection, object, offset, data });
    }

    /// Makes a range of the existing object read as zeroes.
    pub fn zero(&mut self, offset: u64, len: u64) {
        let Some(state) = &mut self.state else { return };
        self.modified = true;
        state.size = state.size.max(offset + len);
        self.data.zero(offset, len);
        self.push(|collection, object| Op::Zero { collection, object, offset, len });
    }

    /// Sets the size; creates the object if it does not exist.
    pub fn truncate(&mut self, size: u64) {
        self.modified = true;
        let state = self.state.get_or_insert_default();
        state.size = size;
        self.data.truncate(size);
        self.push(|collection, object| Op::Truncate { collection, object, size });
    }

    /// Removes the object, which exists.
    pub fn remove(&mut self) {
        assert!(self.state.is_some(), "invariant: only an existing object is removed");
        self.modified = true;
        self.grew = false;
        self.state = None;
        self.data = DataOverlay::new(0);
        self.data.truncate(0);
        self.attrs.clear();
        self.attrs_base_hidden = true;
        self.omap.clear();
        // All changes so far concern this object only, so they go with it.
        self.changes.clear();
        if self.base.is_some() {
            self.push(|collection, object| Op::Remove { collection, object });
        }
    }

    /// Sets a client's attribute; creates the object.
    pub fn set_attr(&mut self, name: Bytes, value: Bytes) {
        self.modified = true;
        self.grew = true;
        self.state.get_or_insert_default();
        let stored = BTreeMap::from([(user_attr(&name), value.clone())]);
        self.attrs.insert(name, Some(value));
        self.push(|collection, object| Op::SetAttrs { collection, object, attrs: stored });
    }

    /// Removes a client's attribute of the existing object.
    pub fn remove_attr(&mut self, name: Bytes) {
        self.modified = true;
        let stored = user_attr(&name);
        self.attrs.insert(name, None);
        self.push(|collection, object| Op::RemoveAttr { collection, object, name: stored });
    }

    /// Sets omap entries; creates the object.
    pub fn omap_set(&mut self, entries: BTreeMap<Bytes, Bytes>) {
        self.modified = true;
        self.grew |= !entries.is_empty();
        self.state.get_or_insert_default();
        self.omap.set(&entries);
        self.push(|collection, object| Op::OmapSet { collection, object, entries });
    }

    /// Sets the omap header; creates the object.
    pub fn omap_set_header(&mut self, header: Bytes) {
        self.modified = true;
        self.grew = true;
        self.state.get_or_insert_default();
        self.omap.set_header(header.clone());
        self.push(|collection, object| Op::OmapSetHeader { collection, object, header });
    }

    /// Removes omap keys of the existing object.
    pub fn omap_remove(&mut self, keys: Vec<Bytes>) {
        self.modified = true;
        self.omap.remove(&keys);
        self.push(|collection, object| Op::OmapRemove { collection, object, keys });
    }

    /// Removes the omap keys in `[first, end)` of the existing object.
    pub fn omap_remove_range(&mut self, first: Bytes, end: Bytes) {
        self.modified = true;
        self.omap.remove_range(&first, &end);
        self.push(|collection, object| Op::OmapRemoveRange { collection, object, first, end });
    }

    /// Removes all omap entries and the header of the existing object.
    pub fn omap_clear(&mut self) {
        self.modified = true;
        self.omap.clear();
        self.push(|collection, object| Op::OmapClear { collection, object });
    }

    fn push(&mut self, op: impl FnOnce(CollectionId, ObjectId) -> Op) {
        self.changes.push(op(self.collection, self.object.clone()));
    }
}
