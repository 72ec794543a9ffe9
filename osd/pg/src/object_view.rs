//! One object as a request sees it: the stored object under the changes the request has made so far.
//!
//! Reads go through the changes; changes collect store ops and submit nothing. Invariants: `state` is `None` exactly
//! if the object does not exist for the request; `changes` applied to the stored object gives what reads show.

mod change;
mod read;

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use store::{AccessHints, CollectionId, Keep, ObjectId, ObjectStore, Op, StoreError, StoreResult};

use crate::data_overlay::DataOverlay;
use crate::hints;
use crate::object_info::{INFO_ATTR, ObjectInfo, ObjectState};
use crate::omap_overlay::OmapOverlay;

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
    /// Of the op that runs.
    hints: AccessHints,
    /// Of all ops that write.
    keep: Keep,
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
    /// Whether the client will read what it writes.
    pub keep: Keep,
}

impl ObjectView {
    /// A view on `object` whose stored state is `base`. Boxed, as it is passed from future to future.
    pub fn new(
        store: Rc<dyn ObjectStore>,
        collection: CollectionId,
        object: ObjectId,
        base: Option<ObjectState>,
    ) -> Box<Self> {
        let absent = base.is_none();
        Box::new(Self {
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
            hints: AccessHints::default(),
            keep: Keep::default(),
        })
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

    /// Takes what the next op says of its data.
    pub fn advise(&mut self, hints: AccessHints, writes: bool) {
        self.hints = hints;
        if writes {
            self.keep = hints::together(self.keep, hints.keep);
        }
    }

    /// Ends the request.
    pub fn into_changes(self) -> Changes {
        let grew = self.grew || self.size() > self.base.map_or(0, |state| state.size);
        let created = self.base.is_none() && self.state.is_some();
        Changes { ops: self.changes, after: self.state, grew: grew || created, keep: self.keep }
    }
}
