//! Trying a transaction: its ops change staged values beside the store's state; if one fails nothing happened. Pure
//! over what was loaded, except that omap ids are drawn (an id that is not used is no loss).

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::needs::{Bases, WholeOmap};
use super::options::Options;
use super::read::no_collection;
use super::stage_object::{PART_BYTES, StagedObject, Taken};
use super::state::Collection;
use crate::check;
use crate::journal::item::Item;
use crate::object_store::{StoreError, StoreResult};
use crate::transaction::{Op, Transaction};
use crate::types::{CollectionId, LogVersion, ObjectId};

/// What a transaction would change.
pub struct Stage<'a> {
    bases: &'a Bases,
    collections: &'a BTreeMap<CollectionId, Collection>,
    options: &'a Options,
    next_omap_id: &'a Cell<u64>,
    block: u64,
    /// Bytes of a record that are left for what clones begin as.
    copies_left: u64,
    /// By object.
    pub objects: BTreeMap<ObjectId, StagedObject>,
    /// Bits and metadata; none if removed.
    pub changed: BTreeMap<CollectionId, Option<(u8, Bytes)>>,
    /// Entries and removals of logs, in order.
    pub log: Vec<Item>,
    last_versions: BTreeMap<CollectionId, Option<LogVersion>>,
    /// An op gives space back or removes keys.
    pub removes: bool,
}

impl<'a> Stage<'a> {
    /// Nothing changed yet.
    pub fn new(
        bases: &'a Bases,
        collections: &'a BTreeMap<CollectionId, Collection>,
        options: &'a Options,
        next_omap_id: &'a Cell<u64>,
        block: u64,
        record_bytes_max: u64,
    ) -> Self {
        Self {
            bases,
            collections,
            options,
            next_omap_id,
            block,
            copies_left: record_bytes_max,
            objects: BTreeMap::new(),
            changed: BTreeMap::new(),
            log: Vec::new(),
            last_versions: BTreeMap::new(),
            removes: false,
        }
    }

    /// Tries all ops.
    pub fn apply(&mut self, transaction: &Transaction) -> StoreResult<()> {
        for op in &transaction.ops {
            self.apply_op(op)?;
        }
        Ok(())
    }

    fn apply_op(&mut self, op: &Op) -> StoreResult<()> {
        let id = op.collection();
        match op {
            Op::CreateCollection { bits, .. } => {
                if self.collection(id).is_some() {
                    return Err(StoreError::Exists(format!("collection {}.{:x}", id.pool, id.seed)));
                }
                let stored = self.collections.iter().map(|(other, collection)| (*other, collection.bits));
                let kept = stored.filter(|(other, _)| !self.changed.contains_key(other));
                let staged = self.changed.iter();
                let staged = staged.filter_map(|(other, change)| Some((*other, change.as_ref()?.0)));
                check::check_disjoint(id, *bits, kept.chain(staged))?;
                self.changed.insert(id, Some((*bits, Bytes::new())));
                Ok(())
            }
            Op::RemoveCollection { .. } => {
                self.existing(id)?;
                if self.has_objects(id) {
                    return Err(StoreError::NotEmpty(format!("collection {}.{:x}", id.pool, id.seed)));
                }
                self.drop_collection(id);
                Ok(())
            }
            Op::SplitCollection { bits, target, .. } => {
                let (had, meta) = self.existing(id)?;
                if self.collection(*target).is_some() {
                    return Err(StoreError::Exists(format!("collection {}.{:x}", target.pool, target.seed)));
                }
                check::check_bits(id, had, bits.saturating_sub(1))?;
                let meta = meta.clone();
                self.changed.insert(id, Some((*bits, meta)));
                self.changed.insert(*target, Some((*bits, Bytes::new())));
                Ok(())
            }
            Op::MergeCollection { bits, target, .. } => {
                let ((had, _), (other, meta)) = (self.existing(id)?, self.existing(*target)?);
                check::check_bits(id, had, bits.saturating_add(1))?;
                check::check_bits(*target, other, bits.saturating_add(1))?;
                let meta = meta.clone();
                self.changed.insert(*target, Some((*bits, meta)));
                self.drop_collection(id);
                Ok(())
            }
            Op::SetCollectionMeta { value, .. } => {
                let (bits, _) = self.existing(id)?;
                self.changed.insert(id, Some((bits, value.clone())));
                Ok(())
            }
            Op::LogAppend { version, entry, .. } => {
                self.existing(id)?;
                let before =
                    || self.collections.get(&id).and_then(|c| c.log.back()).map(|(version, _)| *version);
                let last = self.last_versions.get(&id).copied().unwrap_or_else(before);
                if let Some(last) = last.filter(|last| last >= version) {
                    let problem = format!("log version {version:?} does not follow {last:?}");
                    return Err(StoreError::Invalid(problem));
                }
                self.last_versions.insert(id, Some(*version));
                self.log.push(Item::LogEntry(id, *version, entry.clone()));
                Ok(())
            }
            Op::Clone { object, target, .. } => self.clone_object(id, object, target),
            Op::CloneRange { .. } => self.clone_range(id, op),
            _ => self.apply_to_object(id, op),
        }
    }

    fn drop_collection(&mut self, id: CollectionId) {
        self.changed.insert(id, None);
        self.log.push(Item::LogDrop(id));
        self.last_versions.insert(id, None);
        self.removes = true;
    }

    fn clone_object(&mut self, id: CollectionId, source: &ObjectId, target: &ObjectId) -> StoreResult<()> {
        let stored = self.bases.objects.get(source).map(|basis| &basis.whole_omap);
        let copied = self.object(id, source)?.copy(stored.unwrap_or(&WholeOmap::default()))?;
        self.count_copy(copied.record_bytes(self.block))?;
        let next_omap_id = self.next_omap_id;
        self.object(id, target)?.become_copy(copied, next_omap_id)
    }

    fn clone_range(&mut self, id: CollectionId, op: &Op) -> StoreResult<()> {
        let Op::CloneRange { object, offset, len, target, target_offset, .. } = op else { return Ok(()) };
        let (shard_span, block) = (self.options.shard_span, self.block);
        let span = self.object(id, target)?.shard_span().unwrap_or(shard_span);
        let source = self.object(id, object)?;
        let shares = object != target && offset == target_offset && source.shard_span() == Some(span);
        let lent = source.lend(*offset, *len, shares)?;
        self.count_copy(
            lent.iter().map(|(_, lent)| lent.pieces_max(block)).sum::<u64>() * PART_BYTES as u64,
        )?;
        let taken = Taken { lent, offset: *offset, len: *len, target_offset: *target_offset, shares };
        self.object(id, target)?.take(taken, shard_span, block)
    }

    /// Thousands of clones that no record takes should not fill the memory first.
    fn count_copy(&mut self, bytes: u64) -> StoreResult<()> {
        let left = self.copies_left.checked_sub(bytes).ok_or_else(|| {
            StoreError::TooLarge("clones that need more than the journal holds, in one transaction".into())
        })?;
        self.copies_left = left;
        Ok(())
    }

    fn apply_to_object(&mut self, id: CollectionId, op: &Op) -> StoreResult<()> {
        let Some(name) = op.object() else { return Ok(()) };
        self.removes |= matches!(
            op,
            Op::Remove { .. }
                | Op::Truncate { .. }
                | Op::Zero { .. }
                | Op::OmapRemove { .. }
                | Op::OmapRemoveRange { .. }
                | Op::OmapClear { .. }
                | Op::RemoveAttr { .. }
        );
        let (shard_span, next_omap_id) = (self.options.shard_span, self.next_omap_id);
        self.object(id, name)?.apply(op, shard_span, next_omap_id)
    }

    /// The object as the transaction has it so far.
    fn object(&mut self, id: CollectionId, name: &ObjectId) -> StoreResult<&mut StagedObject> {
        check::check_member(id, self.existing(id)?.0, name)?;
        let bases = self.bases;
        Ok(self.objects.entry(name.clone()).or_insert_with(|| {
            let Some(basis) = bases.objects.get(name) else { panic!("an op's object was not loaded") };
            StagedObject::new(name, basis)
        }))
    }

    /// Bits and metadata of a collection as the transaction has it so far.
    fn collection(&self, id: CollectionId) -> Option<(u8, &Bytes)> {
        match self.changed.get(&id) {
            Some(staged) => staged.as_ref().map(|(bits, meta)| (*bits, meta)),
            None => self.collections.get(&id).map(|c| (c.bits, &c.meta)),
        }
    }

    fn existing(&self, id: CollectionId) -> StoreResult<(u8, &Bytes)> {
        self.collection(id).ok_or_else(|| no_collection(id))
    }

    fn has_objects(&self, id: CollectionId) -> bool {
        let Some((bits, _)) = self.collection(id) else { return false };
        let staged: BTreeSet<&ObjectId> = self.objects.keys().collect();
        let Some(first) = self.bases.first_objects.get(&(id, bits)) else {
            panic!("what is in a collection to be removed was not loaded")
        };
        first.iter().any(|name| !staged.contains(name))
            || self
                .objects
                .iter()
                .any(|(name, object)| check::check_member(id, bits, name).is_ok() && object.exists())
    }
}
