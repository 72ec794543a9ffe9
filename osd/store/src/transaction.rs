//! A transaction as a value: a list of ops, encodable, no callbacks.

mod codec;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::check::length;
use crate::types::Hints;
use crate::types::{CollectionId, LogVersion, ObjectId};

/// Changes that become readable together and durable together, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// In order; each sees the effect of those before it.
    pub ops: Vec<Op>,
}

/// One change. An op on an object creates it unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what their names say")]
pub enum Op {
    /// Creates an empty collection of objects whose lowest `bits` hash bits equal the id's seed. `Exists` if there.
    CreateCollection { collection: CollectionId, bits: u8 },
    /// Removes a collection that has no objects, with its log. `NotEmpty` if it has.
    RemoveCollection { collection: CollectionId },
    /// Halves a collection: it and the new `target` have `bits` bits, one more than it had, and each the objects whose
    /// hash says so. No object is touched. Metadata and log stay; `target` has none.
    SplitCollection { collection: CollectionId, bits: u8, target: CollectionId },
    /// The reverse: `target`, the half with the lower seed, has `bits` bits and the objects of both. The collection ends
    /// with its metadata and its log.
    MergeCollection { collection: CollectionId, bits: u8, target: CollectionId },
    /// Sets the collection's metadata (the placement group's info), replacing what was there.
    SetCollectionMeta { collection: CollectionId, value: Bytes },
    /// Creates the object if it does not exist.
    Touch { collection: CollectionId, object: ObjectId },
    /// Writes the chunks one after another from `offset`; grows the object if needed.
    Write { collection: CollectionId, object: ObjectId, offset: u64, data: Vec<Bytes> },
    /// The range reads as zeroes; grows the object if needed; gives space back.
    Zero { collection: CollectionId, object: ObjectId, offset: u64, len: u64 },
    /// Sets the size; what is beyond reads as zeroes if the object grows again.
    Truncate { collection: CollectionId, object: ObjectId, size: u64 },
    /// Removes the object with its attributes and omap. `NotFound` if it does not exist.
    Remove { collection: CollectionId, object: ObjectId },
    /// Makes `target` a copy of the object: data, attributes, omap and its header. What it was before is gone. The two
    /// share their device space until either changes. Their hashes are the same; `NotFound` if the object does not exist.
    Clone { collection: CollectionId, object: ObjectId, target: ObjectId },
    /// Writes `len` bytes of the object, from `offset` on, to `target` at `target_offset`, which is created or grows if
    /// needed. Holes stay holes. Whole blocks that do not move share their device space. The hashes are the same, and the
    /// object may be its own target; `NotFound` if it does not exist, `Invalid` if it ends before the range does.
    CloneRange {
        collection: CollectionId,
        object: ObjectId,
        offset: u64,
        len: u64,
        target: ObjectId,
        target_offset: u64,
    },
    /// Moves what the range holds of the object to new space that is in fewer pieces, or joins pieces of free space, as far as
    /// there is such space and nobody shares it. Nothing that can be read changes. `NotFound` if the object does not exist.
    Defragment { collection: CollectionId, object: ObjectId, offset: u64, len: u64 },
    /// Says of the object's data whether it compresses. It holds for what this and later transactions write.
    SetHints { collection: CollectionId, object: ObjectId, hints: Hints },
    /// Sets extended attributes.
    SetAttrs { collection: CollectionId, object: ObjectId, attrs: BTreeMap<Bytes, Bytes> },
    /// Removes an extended attribute; absent is fine. `NotFound` if the object does not exist.
    RemoveAttr { collection: CollectionId, object: ObjectId, name: Bytes },
    /// Sets omap entries.
    OmapSet { collection: CollectionId, object: ObjectId, entries: BTreeMap<Bytes, Bytes> },
    /// Removes omap keys; absent ones are fine. `NotFound` if the object does not exist.
    OmapRemove { collection: CollectionId, object: ObjectId, keys: Vec<Bytes> },
    /// Removes the omap keys in `[first, end)`. `NotFound` if the object does not exist.
    OmapRemoveRange { collection: CollectionId, object: ObjectId, first: Bytes, end: Bytes },
    /// Sets the omap header.
    OmapSetHeader { collection: CollectionId, object: ObjectId, header: Bytes },
    /// Removes all omap entries and the header. `NotFound` if the object does not exist.
    OmapClear { collection: CollectionId, object: ObjectId },
    /// Appends to the placement group's log. Versions ascend. The store keeps at least the newest
    /// `limits::PG_LOG_ENTRIES_MIN` entries of a collection and may forget older ones.
    LogAppend { collection: CollectionId, version: LogVersion, entry: Bytes },
}

impl Transaction {
    /// Payload of all ops, bytes.
    pub fn payload_bytes(&self) -> u64 {
        self.ops.iter().fold(0, |sum, op| sum.saturating_add(op.payload_bytes()))
    }

    /// The collections that the ops work on; one may come several times.
    pub fn collections(&self) -> impl Iterator<Item = CollectionId> {
        self.ops.iter().flat_map(|op| [Some(op.collection()), op.other_collection()]).flatten()
    }
}

impl Op {
    /// The collection the op works on.
    pub fn collection(&self) -> CollectionId {
        match self {
            Self::CreateCollection { collection, .. }
            | Self::RemoveCollection { collection }
            | Self::SplitCollection { collection, .. }
            | Self::MergeCollection { collection, .. }
            | Self::SetCollectionMeta { collection, .. }
            | Self::Touch { collection, .. }
            | Self::Write { collection, .. }
            | Self::Zero { collection, .. }
            | Self::Truncate { collection, .. }
            | Self::Remove { collection, .. }
            | Self::Clone { collection, .. }
            | Self::CloneRange { collection, .. }
            | Self::Defragment { collection, .. }
            | Self::SetHints { collection, .. }
            | Self::SetAttrs { collection, .. }
            | Self::RemoveAttr { collection, .. }
            | Self::OmapSet { collection, .. }
            | Self::OmapRemove { collection, .. }
            | Self::OmapRemoveRange { collection, .. }
            | Self::OmapSetHeader { collection, .. }
            | Self::OmapClear { collection, .. }
            | Self::LogAppend { collection, .. } => *collection,
        }
    }

    /// The object the op works on, if it is one on an object.
    pub fn object(&self) -> Option<&ObjectId> {
        match self {
            Self::Touch { object, .. }
            | Self::Write { object, .. }
            | Self::Zero { object, .. }
            | Self::Truncate { object, .. }
            | Self::Remove { object, .. }
            | Self::Clone { object, .. }
            | Self::CloneRange { object, .. }
            | Self::Defragment { object, .. }
            | Self::SetHints { object, .. }
            | Self::SetAttrs { object, .. }
            | Self::RemoveAttr { object, .. }
            | Self::OmapSet { object, .. }
            | Self::OmapRemove { object, .. }
            | Self::OmapRemoveRange { object, .. }
            | Self::OmapSetHeader { object, .. }
            | Self::OmapClear { object, .. } => Some(object),
            Self::CreateCollection { .. }
            | Self::RemoveCollection { .. }
            | Self::SplitCollection { .. }
            | Self::MergeCollection { .. }
            | Self::SetCollectionMeta { .. }
            | Self::LogAppend { .. } => None,
        }
    }

    /// The other collection that the op works on.
    pub fn other_collection(&self) -> Option<CollectionId> {
        match self {
            Self::SplitCollection { target, .. } | Self::MergeCollection { target, .. } => Some(*target),
            _ => None,
        }
    }

    /// The other object that the op works on.
    pub fn target(&self) -> Option<&ObjectId> {
        match self {
            Self::Clone { target, .. } | Self::CloneRange { target, .. } => Some(target),
            _ => None,
        }
    }

    /// Bytes of data, values and names that the op carries, and of data that it may copy.
    pub fn payload_bytes(&self) -> u64 {
        let map = |entries: &BTreeMap<Bytes, Bytes>| {
            entries.iter().fold(0, |sum: u64, (k, v)| sum.saturating_add(length(k)).saturating_add(length(v)))
        };
        let names = self.object().into_iter().chain(self.target());
        let name = names.map(|o| length(&o.name) + length(&o.key) + length(&o.namespace)).sum::<u64>();
        let carried = match self {
            Self::SetCollectionMeta { value, .. } => length(value),
            Self::Write { data, .. } => data.iter().fold(0, |sum: u64, c| sum.saturating_add(length(c))),
            Self::SetAttrs { attrs, .. } => map(attrs),
            Self::RemoveAttr { name, .. } => length(name),
            Self::OmapSet { entries, .. } => map(entries),
            Self::OmapRemove { keys, .. } => keys.iter().fold(0, |sum: u64, k| sum.saturating_add(length(k))),
            Self::OmapRemoveRange { first, end, .. } => length(first).saturating_add(length(end)),
            Self::OmapSetHeader { header, .. } => length(header),
            Self::LogAppend { entry, .. } => length(entry),
            Self::CloneRange { len, .. } | Self::Defragment { len, .. } => *len,
            Self::CreateCollection { .. }
            | Self::RemoveCollection { .. }
            | Self::SplitCollection { .. }
            | Self::MergeCollection { .. }
            | Self::Touch { .. }
            | Self::Zero { .. }
            | Self::Truncate { .. }
            | Self::Remove { .. }
            | Self::Clone { .. }
            | Self::SetHints { .. }
            | Self::OmapClear { .. } => 0,
        };
        name.saturating_add(carried)
    }
}
