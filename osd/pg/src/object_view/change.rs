//! Changing an object: each change is kept for later reads of the request and as an op for the store.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{CollectionId, Hints, ObjectId, Op};

use super::ObjectView;
use crate::chunks;
use crate::data_overlay::DataOverlay;
use crate::object_info::{ObjectState, user_attr};

impl ObjectView {
    /// Creates the object if it does not exist. Counts as a change either way.
    pub fn touch(&mut self) {
        self.modified = true;
        if self.state.is_none() {
            self.state = Some(ObjectState::default());
            self.push(|collection, object| Op::Touch { collection, object });
        }
    }

    /// Tells the store what a client said of the data.
    pub fn hint(&mut self, hints: Hints) {
        self.modified = true;
        self.push(|collection, object| Op::SetHints { collection, object, hints });
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
