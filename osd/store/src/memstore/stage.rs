//! A transaction being tried on the memory store: changes are collected beside the state and either all go in or none.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::object::MemObject;
use super::{MemCollection, State};
use crate::check;
use crate::limits;
use crate::object_store::{StoreError, StoreResult};
use crate::transaction::Op;
use crate::types::{CollectionId, LogVersion, ObjectId, PoolStats};

/// What the transaction sees: its own changes over the state.
pub(super) struct Stage<'a> {
    state: &'a State,
    change: Change,
}

/// `None` is a removal.
#[derive(Default)]
pub(super) struct Change {
    collections: BTreeMap<CollectionId, Option<MemCollection>>,
    objects: BTreeMap<ObjectId, Option<MemObject>>,
    before: BTreeMap<i64, PoolStats>,
    after: BTreeMap<i64, PoolStats>,
}

impl<'a> Stage<'a> {
    pub fn new(state: &'a State) -> Self {
        Self { state, change: Change::default() }
    }

    /// Tries one op.
    pub fn apply(&mut self, op: &Op) -> StoreResult<()> {
        let id = op.collection();
        match op {
            Op::CreateCollection { bits, .. } => {
                if self.collection(id).is_some() {
                    return Err(StoreError::Exists(format!("collection {id:?}")));
                }
                let stored =
                    self.state.collections.iter().map(|(other, collection)| (*other, collection.bits));
                let kept = stored.filter(|(other, _)| !self.change.collections.contains_key(other));
                let staged = self.change.collections.iter();
                let staged = staged.filter_map(|(other, change)| Some((*other, change.as_ref()?.bits)));
                check::check_disjoint(id, *bits, kept.chain(staged))?;
                let created = MemCollection { bits: *bits, ..MemCollection::default() };
                self.change.collections.insert(id, Some(created));
                Ok(())
            }
            Op::RemoveCollection { .. } => {
                self.existing(id)?;
                if self.has_objects(id) {
                    return Err(StoreError::NotEmpty(format!("collection {id:?}")));
                }
                self.change.collections.insert(id, None);
                Ok(())
            }
            Op::SplitCollection { bits, target, .. } => {
                let mut collection = self.existing(id)?.clone();
                if self.collection(*target).is_some() {
                    return Err(StoreError::Exists(format!("collection {target:?}")));
                }
                check::check_bits(id, collection.bits, bits.saturating_sub(1))?;
                collection.bits = *bits;
                self.change.collections.insert(id, Some(collection));
                let other = MemCollection { bits: *bits, ..MemCollection::default() };
                self.change.collections.insert(*target, Some(other));
                Ok(())
            }
            Op::MergeCollection { bits, target, .. } => {
                let (gone, mut collection) = (self.existing(id)?, self.existing(*target)?.clone());
                check::check_bits(id, gone.bits, bits.saturating_add(1))?;
                check::check_bits(*target, collection.bits, bits.saturating_add(1))?;
                collection.bits = *bits;
                self.change.collections.insert(*target, Some(collection));
                self.change.collections.insert(id, None);
                Ok(())
            }
            Op::SetCollectionMeta { value, .. } => {
                let mut collection = self.existing(id)?.clone();
                collection.meta = value.clone();
                self.change.collections.insert(id, Some(collection));
                Ok(())
            }
            Op::LogAppend { version, entry, .. } => self.append_log(id, *version, entry),
            Op::Clone { object, target, .. } => {
                let bits = self.existing(id)?.bits;
                check::check_member(id, bits, object)?;
                check::check_member(id, bits, target)?;
                let copy = self.found(object).ok_or_else(|| StoreError::NotFound(super::describe(object)))?;
                self.change.objects.insert(target.clone(), Some(copy));
                Ok(())
            }
            Op::CloneRange { object, offset, len, target, target_offset, .. } => {
                let bits = self.existing(id)?.bits;
                check::check_member(id, bits, object)?;
                check::check_member(id, bits, target)?;
                let from = self.found(object).ok_or_else(|| StoreError::NotFound(super::describe(object)))?;
                check::check_clone_range(object, from.size, *offset, *len)?;
                let mut to = self.found(target).unwrap_or_default();
                to.take(&from, *offset, *len, *target_offset);
                self.change.objects.insert(target.clone(), Some(to));
                Ok(())
            }
            _ => self.apply_to_object(id, op),
        }
    }

    /// The object as the transaction has it so far.
    fn found(&self, name: &ObjectId) -> Option<MemObject> {
        match self.change.objects.get(name) {
            Some(staged) => staged.clone(),
            None => self.base(name).cloned(),
        }
    }

    /// Bytes allocated by the touched objects before the transaction.
    pub fn allocated_before(&self) -> u64 {
        self.change.objects.keys().map(|name| self.base(name).map_or(0, MemObject::allocated)).sum()
    }

    /// The same afterwards.
    pub fn allocated_after(&self) -> u64 {
        self.change.objects.values().flatten().map(MemObject::allocated).sum()
    }

    /// The change with its effect on the pools' statistics.
    pub fn finish(mut self) -> Change {
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        for (name, object) in &self.change.objects {
            if let Some(old) = self.base(name) {
                add(before.entry(name.pool).or_default(), old);
            }
            if let Some(new) = object {
                add(after.entry(name.pool).or_default(), new);
            }
        }
        self.change.before = before;
        self.change.after = after;
        self.change
    }

    fn base(&self, name: &ObjectId) -> Option<&'a MemObject> {
        self.state.objects.get(name)
    }

    fn collection(&self, id: CollectionId) -> Option<&MemCollection> {
        match self.change.collections.get(&id) {
            Some(staged) => staged.as_ref(),
            None => self.state.collections.get(&id),
        }
    }

    fn existing(&self, id: CollectionId) -> StoreResult<&MemCollection> {
        self.collection(id).ok_or_else(|| StoreError::NotFound(format!("collection {id:?}")))
    }

    fn has_objects(&self, id: CollectionId) -> bool {
        let bits = self.collection(id).map_or(0, |collection| collection.bits);
        let is_member = |name: &&ObjectId| check::check_member(id, bits, name).is_ok();
        let mut known = self.state.objects.keys().chain(self.change.objects.keys()).filter(is_member);
        known.any(|name| self.found(name).is_some())
    }

    fn append_log(&mut self, id: CollectionId, version: LogVersion, entry: &Bytes) -> StoreResult<()> {
        let mut collection = self.existing(id)?.clone();
        if let Some((last, _)) = collection.log.last().filter(|(last, _)| *last >= version) {
            return Err(StoreError::Invalid(format!("log version {version:?} does not follow {last:?}")));
        }
        collection.log.push((version, entry.clone()));
        if collection.log.len() >= limits::PG_LOG_ENTRIES_MAX {
            let forget = collection.log.len() - limits::PG_LOG_ENTRIES_MIN;
            collection.log.drain(..forget);
        }
        self.change.collections.insert(id, Some(collection));
        Ok(())
    }

    fn apply_to_object(&mut self, id: CollectionId, op: &Op) -> StoreResult<()> {
        let Some(name) = op.object() else { return Ok(()) };
        check::check_member(id, self.existing(id)?.bits, name)?;
        let found = self.found(name);
        let missing = || StoreError::NotFound(super::describe(name));
        let after = match op {
            Op::Remove { .. } => {
                found.ok_or_else(missing)?;
                None
            }
            Op::RemoveAttr { .. }
            | Op::Defragment { .. }
            | Op::OmapRemove { .. }
            | Op::OmapRemoveRange { .. }
            | Op::OmapClear { .. } => {
                let mut object = found.ok_or_else(missing)?;
                change_object(&mut object, op)?;
                Some(object)
            }
            _ => {
                let mut object = found.unwrap_or_default();
                change_object(&mut object, op)?;
                Some(object)
            }
        };
        self.change.objects.insert(name.clone(), after);
        Ok(())
    }
}

fn change_object(object: &mut MemObject, op: &Op) -> StoreResult<()> {
    match op {
        Op::Write { offset, data, .. } => {
            let mut at = *offset;
            for chunk in data {
                object.write(at, chunk.clone());
                at += check::length(chunk);
            }
        }
        Op::Zero { offset, len, .. } if *len > 0 => {
            object.punch(*offset, offset + len);
            object.size = object.size.max(offset + len);
        }
        Op::Truncate { size, .. } => object.truncate(*size),
        Op::SetHints { hints, .. } => object.hints = *hints,
        Op::SetAttrs { attrs, .. } => {
            object.attrs.extend(attrs.iter().map(|(name, value)| (name.clone(), value.clone())));
            check::check_attrs(object.attrs.iter())?;
        }
        Op::RemoveAttr { name, .. } => {
            object.attrs.remove(name);
        }
        Op::OmapSet { entries, .. } => {
            object.omap.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        Op::OmapRemove { keys, .. } => object.omap.retain(|key, _| !keys.contains(key)),
        Op::OmapRemoveRange { first, end, .. } => {
            object.omap.retain(|key, _| key < first || key >= end);
        }
        Op::OmapSetHeader { header, .. } => object.omap_header = header.clone(),
        Op::OmapClear { .. } => {
            object.omap.clear();
            object.omap_header = Bytes::new();
        }
        _ => {}
    }
    Ok(())
}

impl Change {
    /// Bytes of data space gained (positive) or given back.
    pub fn allocated_delta(&self) -> i64 {
        let sum = |pools: &BTreeMap<i64, PoolStats>| pools.values().map(|pool| pool.allocated).sum::<i64>();
        sum(&self.after) - sum(&self.before)
    }

    /// Puts everything into the state.
    pub fn commit(self, state: &mut State) {
        for (id, collection) in self.collections {
            match collection {
                Some(collection) => {
                    state.collections.insert(id, collection);
                }
                None => {
                    state.collections.remove(&id);
                }
            }
        }
        for (name, object) in self.objects {
            match object {
                Some(object) => {
                    state.objects.insert(name, object);
                }
                None => {
                    state.objects.remove(&name);
                }
            }
        }
        for (pool, gone) in self.before {
            let stats = state.pools.entry(pool).or_default();
            *stats = stats.minus(&gone);
        }
        for (pool, new) in self.after {
            let stats = state.pools.entry(pool).or_default();
            *stats = stats.plus(&new);
        }
        state.pools.retain(|_, stats| *stats != PoolStats::default());
    }
}

fn add(stats: &mut PoolStats, object: &MemObject) {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    *stats = stats.plus(&PoolStats {
        objects: 1,
        bytes: signed(object.size),
        allocated: signed(object.allocated()),
        stored: signed(object.stored()),
        omap_keys: i64::try_from(object.omap.len()).unwrap_or(i64::MAX),
        omap_bytes: signed(object.omap_bytes()),
        ..PoolStats::default()
    });
}
