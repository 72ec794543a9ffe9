//! One object while a transaction is tried on it. Pure.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use super::clone_range::Lent;
use super::content::Content;
use super::known_omap::{Entries, KnownOmap};
use super::load::{not_found, shard_range, total};
use super::needs::{Basis, WholeOmap};
use crate::attrs::Attrs;
use crate::check::{self, length};
use crate::checksum::ChecksumKind;
use crate::journal::item::Item;
use crate::keys;
use crate::limits;
use crate::object_store::{StoreError, StoreResult};
use crate::onode::Onode;
use crate::shard::{BLOB_BYTES_MAX, PIECE_BYTES_MAX, Shard};
use crate::transaction::Op;
use crate::types::{Hints, ObjectId};

/// See the module.
pub struct StagedObject {
    object: ObjectId,
    /// Key of the onode.
    pub key: Bytes,
    /// As the store has it.
    pub base: Option<Rc<Onode>>,
    /// As it would be; its shards, `stored` and `allocated` are filled in when the data is laid out.
    pub now: Option<Onode>,
    /// Loaded shards of the base.
    base_shards: BTreeMap<u32, Rc<Shard>>,
    /// The object of the base was removed (and perhaps created again): all its shards go.
    pub replaced: bool,
    /// Shards touched, by number.
    pub contents: BTreeMap<u32, Content>,
    omap: StagedOmap,
}

/// Bytes that a part of a block takes in a shard at worst: a blob with one checksum, and a piece.
pub const PART_BYTES: usize = BLOB_BYTES_MAX + ChecksumKind::BYTES_MAX + PIECE_BYTES_MAX;

/// What is longer is most of the buffer that it came in.
const OWNED_BYTES_MAX: usize = 64 << 10;

/// What a clone of an object begins as.
pub struct Copied {
    size: u64,
    attrs: Attrs,
    hints: Hints,
    shard_span: u32,
    contents: BTreeMap<u32, Content>,
    omap: WholeOmap,
}

impl Copied {
    /// At most so many bytes of a record, as it is reckoned.
    pub fn record_bytes(&self, block: u64) -> u64 {
        let content = |content: &Content| {
            let whole = u64::try_from(content.base.packed_checksum_bytes()).unwrap_or(u64::MAX / 4);
            let inline = content.new_bytes().min(limits::INLINE_BYTES_MAX);
            content.pieces_max(block) * PART_BYTES as u64 + whole + inline
        };
        self.contents.values().map(content).sum::<u64>() + self.omap.bytes()
    }
}

/// A range of another object, or of another place.
pub struct Taken {
    /// What there is of it, by shard.
    pub lent: Vec<(u32, Lent)>,
    /// Where it begins.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Where it goes.
    pub target_offset: u64,
    /// Blocks may be shared: it goes to another object, whose shards are as long, and does not move.
    pub shares: bool,
}

#[derive(Default)]
struct StagedOmap {
    /// Existing entries that the transaction touches and did not remove by a range; empty once the omap was replaced.
    base: KnownOmap,
    ranges: Vec<(Bytes, Bytes)>,
    entries: BTreeMap<Bytes, Option<Bytes>>,
    header: Option<Bytes>,
    /// Ids that the store knows and nobody uses any more.
    reaps: Vec<u64>,
    /// The id is new in this transaction.
    fresh: bool,
}

impl StagedObject {
    /// As the store has it.
    pub fn new(object: &ObjectId, basis: &Basis) -> Self {
        let base = basis.loaded.onode.clone();
        Self {
            object: object.clone(),
            key: basis.loaded.key.clone(),
            now: base.as_deref().cloned(),
            base,
            base_shards: basis.loaded.shards.clone(),
            replaced: false,
            contents: BTreeMap::new(),
            omap: StagedOmap { base: basis.omap.clone(), ..StagedOmap::default() },
        }
    }

    /// Whether it would exist.
    pub fn exists(&self) -> bool {
        self.now.is_some()
    }

    /// Shards of the base that go because the object was removed.
    pub fn dropped(&self) -> impl Iterator<Item = (u32, &Rc<Shard>)> {
        self.base_shards.iter().filter(|_| self.replaced).map(|(number, shard)| (*number, shard))
    }

    /// Tries an op.
    pub fn apply(&mut self, op: &Op, shard_span: u32, next_omap_id: &Cell<u64>) -> StoreResult<()> {
        match op {
            Op::Touch { .. } => {
                self.create(shard_span);
            }
            Op::Write { offset, data, .. } => self.write(*offset, data, shard_span),
            Op::Zero { offset, len, .. } => self.zero(*offset, *len, shard_span),
            Op::Truncate { size, .. } => self.truncate(*size, shard_span),
            Op::Remove { .. } => self.remove()?,
            Op::Defragment { offset, len, .. } => {
                self.existing()?;
                self.move_range(*offset, *len);
            }
            Op::SetHints { hints, .. } => self.create(shard_span).hints = *hints,
            Op::SetAttrs { attrs, .. } => {
                let onode = self.create(shard_span);
                for (name, value) in attrs {
                    onode.attrs.set(name, owned(value), owned);
                }
                check::check_attrs(onode.attrs.iter())?;
            }
            Op::RemoveAttr { name, .. } => {
                self.existing()?.attrs.remove(name);
            }
            Op::OmapSet { entries, .. } => {
                self.create(shard_span);
                for (key, value) in entries {
                    self.omap_change(key, Some(value), next_omap_id)?;
                }
            }
            Op::OmapRemove { keys, .. } => {
                self.existing()?;
                for key in keys {
                    self.omap_change(key, None, next_omap_id)?;
                }
            }
            Op::OmapRemoveRange { first, end, .. } => {
                self.existing()?;
                self.omap_remove_range(first, end, next_omap_id)?;
            }
            Op::OmapSetHeader { header, .. } => {
                self.create(shard_span);
                self.omap_id(next_omap_id);
                self.omap.header = Some(header.clone());
            }
            Op::OmapClear { .. } => {
                self.existing()?;
                self.omap_clear();
            }
            Op::Clone { .. }
            | Op::CloneRange { .. }
            | Op::CreateCollection { .. }
            | Op::RemoveCollection { .. }
            | Op::SplitCollection { .. }
            | Op::MergeCollection { .. }
            | Op::SetCollectionMeta { .. }
            | Op::LogAppend { .. } => {}
        }
        Ok(())
    }

    /// What little there is at the beginning of an object goes into its first shard, if all of it is new.
    pub fn choose_inline(&mut self, bytes_max: u64) {
        if let Some(content) = self.contents.get_mut(&0) {
            // Who only takes away needs no block, also where there were more bytes than would go there now.
            let was_inline = content.base.inline_end();
            let is_less = content.new_bytes() <= content.base.stored();
            let most = if is_less { bytes_max.max(was_inline) } else { bytes_max };
            content.is_inline = content.is_new() && content.end() <= most;
        }
    }

    /// The object as it would be, for another one to become. `stored` is its omap as the store has it.
    pub fn copy(&mut self, stored: &WholeOmap) -> StoreResult<Copied> {
        let onode = self.existing()?;
        let (size, attrs, hints) = (onode.size, onode.attrs.clone(), onode.hints);
        let (shard_span, omap_id) = (onode.shard_span, onode.omap_id);
        let held: Vec<u32> = self.held().collect();
        let contents = held.into_iter().map(|number| (number, self.content(number.into()).copy())).collect();
        let mut omap = WholeOmap::default();
        if self.base.as_ref().is_some_and(|base| base.omap_id == omap_id) {
            omap = stored.clone();
            let gone = |key: &Bytes| self.omap.ranges.iter().any(|(first, end)| first <= key && key < end);
            omap.entries.retain(|key, _| !gone(key));
        }
        for (key, value) in &self.omap.entries {
            match value {
                Some(value) => omap.entries.insert(key.clone(), value.clone()),
                None => omap.entries.remove(key),
            };
        }
        if let Some(header) = &self.omap.header {
            omap.header = header.clone();
        }
        Ok(Copied { size, attrs, hints, shard_span, contents, omap })
    }

    /// Becomes what was copied.
    pub fn become_copy(&mut self, copied: Copied, next_omap_id: &Cell<u64>) -> StoreResult<()> {
        if self.exists() {
            self.remove()?;
        }
        let Copied { size, attrs, hints, shard_span, contents, omap } = copied;
        self.now = Some(Onode { size, attrs, hints, ..Onode::new(self.object.owned(), shard_span) });
        self.contents = contents;
        for (key, value) in &omap.entries {
            self.omap_change(key, Some(value), next_omap_id)?;
        }
        if !omap.header.is_empty() {
            self.omap_id(next_omap_id);
            self.omap.header = Some(omap.header);
        }
        Ok(())
    }

    /// Bytes of one shard, if it exists.
    pub fn shard_span(&self) -> Option<u32> {
        self.now.as_ref().map(|onode| onode.shard_span)
    }

    /// What it has of a range, by shard, for another object or another place of its own. `shares` if blocks may be shared.
    pub fn lend(&mut self, offset: u64, len: u64, shares: bool) -> StoreResult<Vec<(u32, Lent)>> {
        let onode = self.existing()?;
        let (size, span) = (onode.size, onode.shard_span);
        check::check_clone_range(&self.object, size, offset, len)?;
        if len == 0 {
            return Ok(Vec::new());
        }
        let (first, last) = shard_range(offset, len, span);
        let held: Vec<u32> = self.held().filter(|number| (first..=last).contains(number)).collect();
        let lend = |number: u32| (number, self.content(number.into()).lend(offset, offset + len, shares));
        Ok(held.into_iter().map(lend).collect())
    }

    /// Puts what was lent in the place of what is there.
    pub fn take(&mut self, taken: Taken, shard_span: u32, block: u64) -> StoreResult<()> {
        let Taken { lent, offset, len, target_offset, shares } = taken;
        self.zero(target_offset, len, shard_span);
        let span = u64::from(self.existing()?.shard_span);
        for (number, lent) in lent {
            if shares {
                self.content(number.into()).share(lent, block).map_err(|address| {
                    let problem = "is corrupt: another object claims the block at";
                    StoreError::Io(format!("{} {problem} {address:#x}; fsck tells more", self.object))
                })?;
                continue;
            }
            for (at, part) in lent.into_copies() {
                let mut done = 0;
                while done < part.len {
                    let to = at - offset + target_offset + done;
                    let some = (part.len - done).min(span - to % span);
                    self.content(to / span).put(to, part.cut(done, some));
                    done += some;
                }
            }
        }
        Ok(())
    }

    /// The omap's changes as items.
    pub fn omap_items(&self) -> Vec<Item> {
        let mut items: Vec<Item> =
            self.omap.reaps.iter().map(|id| Item::Put(keys::reap(*id), Bytes::new())).collect();
        let Some(id) = self.now.as_ref().map(|onode| onode.omap_id).filter(|id| *id != 0) else {
            return items;
        };
        let entry = |key: &Bytes| keys::omap_entry(id, key);
        items.extend(self.omap.ranges.iter().map(|(first, end)| Item::DeleteRange(entry(first), entry(end))));
        items.extend(self.omap.entries.iter().map(|(key, value)| match value {
            Some(value) => Item::Put(entry(key), owned(value)),
            None => Item::Delete(entry(key)),
        }));
        items.extend(self.omap.header.iter().map(|header| Item::Put(keys::omap_header(id), owned(header))));
        items
    }

    /// Whether the omap got a new id.
    pub fn omap_is_fresh(&self) -> bool {
        self.omap.fresh
    }

    fn create(&mut self, shard_span: u32) -> &mut Onode {
        self.now.get_or_insert_with(|| Onode::new(self.object.owned(), shard_span))
    }

    fn existing(&mut self) -> StoreResult<&mut Onode> {
        self.now.as_mut().ok_or_else(|| not_found(&self.object))
    }

    fn write(&mut self, offset: u64, data: &[Bytes], shard_span: u32) {
        let len = total(data);
        let onode = self.create(shard_span);
        if len == 0 {
            return;
        }
        onode.size = onode.size.max(offset + len);
        let span = u64::from(onode.shard_span);
        let mut at = offset;
        for chunk in data {
            let mut chunk = chunk.clone();
            while !chunk.is_empty() {
                let room = span - at % span;
                let some = chunk.split_to(chunk.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
                let moved = length(&some);
                self.content(at / span).write(at, some);
                at += moved;
            }
        }
    }

    fn zero(&mut self, offset: u64, len: u64, shard_span: u32) {
        let onode = self.create(shard_span);
        if len == 0 {
            return;
        }
        onode.size = onode.size.max(offset + len);
        let span = onode.shard_span;
        let (first, last) = shard_range(offset, len, span);
        self.punch(first, last, offset, offset + len);
    }

    fn truncate(&mut self, size: u64, shard_span: u32) {
        let onode = self.create(shard_span);
        let old = std::mem::replace(&mut onode.size, size);
        let span = onode.shard_span;
        if old > size {
            let (first, last) = shard_range(size, old - size, span);
            self.punch(first, last, size, old);
        }
    }

    /// What these bytes lie in is to move.
    fn move_range(&mut self, offset: u64, len: u64) {
        let Some(span) = self.shard_span().filter(|_| len > 0) else { return };
        let (first, last) = shard_range(offset, len, span);
        let held: Vec<u32> = self.held().filter(|number| (first..=last).contains(number)).collect();
        for number in held {
            self.content(number.into()).moved.push(offset..offset + len);
        }
    }

    /// Punches those shards that hold something.
    fn punch(&mut self, first: u32, last: u32, start: u64, end: u64) {
        let held: Vec<u32> = self.held().filter(|number| (first..=last).contains(number)).collect();
        for number in held {
            self.content(number.into()).punch(start, end);
        }
    }

    /// Numbers of the shards that may hold something.
    fn held(&self) -> impl Iterator<Item = u32> {
        let base = self.base.iter().filter(|_| !self.replaced).flat_map(|onode| onode.shards.iter());
        let touched = self.contents.keys().copied();
        let mut all: Vec<u32> = base.chain(touched).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter()
    }

    fn content(&mut self, number: u64) -> &mut Content {
        let Ok(number) = u32::try_from(number) else { panic!("shard {number} of an object") };
        let (replaced, base, shards) = (self.replaced, &self.base, &self.base_shards);
        self.contents.entry(number).or_insert_with(|| {
            let exists = !replaced && base.as_ref().is_some_and(|onode| onode.shards.contains(number));
            let shard = shards.get(&number).filter(|_| exists).cloned();
            assert!(shard.is_some() == exists, "shard {number} was not loaded");
            Content::of(shard.unwrap_or_default())
        })
    }

    fn remove(&mut self) -> StoreResult<()> {
        self.existing()?;
        self.omap_clear();
        self.now = None;
        self.replaced = self.base.is_some();
        self.contents.clear();
        Ok(())
    }

    fn omap_id(&mut self, next_omap_id: &Cell<u64>) {
        let Some(onode) = self.now.as_mut() else { return };
        if onode.omap_id == 0 {
            onode.omap_id = next_omap_id.replace(next_omap_id.get() + 1);
            self.omap.fresh = true;
        }
    }

    /// Bytes of an entry as the transaction sees it.
    fn omap_entry(&self, key: &Bytes) -> Option<u64> {
        match self.omap.entries.get(key) {
            Some(staged) => staged.as_ref().map(|value| length(key) + length(value)),
            None => self.omap.base.named(key),
        }
    }

    fn omap_change(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        next_omap_id: &Cell<u64>,
    ) -> StoreResult<()> {
        let old = self.omap_entry(key);
        if value.is_none() && old.is_none() && !self.omap.entries.contains_key(key) {
            return Ok(());
        }
        self.omap_id(next_omap_id);
        self.omap.entries.insert(key.clone(), value.cloned());
        let new = value.map(|value| length(key) + length(value));
        self.omap_count(Entries::of(new), Entries::of(old))
    }

    /// Counts entries that come and that go. An error if the onode counts less than what goes.
    fn omap_count(&mut self, come: Entries, gone: Entries) -> StoreResult<()> {
        let Some(onode) = self.now.as_mut() else { return Ok(()) };
        let keys = (onode.omap_keys + come.keys).checked_sub(gone.keys);
        let bytes = (onode.omap_bytes + come.bytes).checked_sub(gone.bytes);
        let (Some(keys), Some(bytes)) = (keys, bytes) else {
            let problem = "is corrupt: its omap has more than its onode counts; fsck tells more";
            return Err(StoreError::Io(format!("{} {problem}", self.object)));
        };
        (onode.omap_keys, onode.omap_bytes) = (keys, bytes);
        Ok(())
    }

    fn omap_remove_range(&mut self, first: &Bytes, end: &Bytes, next_omap_id: &Cell<u64>) -> StoreResult<()> {
        if first >= end {
            return Ok(());
        }
        let staged = self.omap.entries.range(first.clone()..end.clone()).map(|(key, _)| key);
        let staged: Vec<Bytes> = staged.cloned().collect();
        for key in &staged {
            let old = self.omap_entry(key);
            self.omap_count(Entries::default(), Entries::of(old))?;
            // What is staged hides what there is: that counts no more.
            self.omap.base.forget(key);
        }
        let gone = self.omap.base.remove_range(first, end);
        if staged.is_empty() && gone == Entries::default() {
            return Ok(());
        }
        self.omap_id(next_omap_id);
        self.omap_count(Entries::default(), gone)?;
        self.omap.entries.retain(|key, _| key < first || key >= end);
        self.omap.ranges.push((first.clone(), end.clone()));
        Ok(())
    }

    fn omap_clear(&mut self) {
        let Some(onode) = self.now.as_mut() else { return };
        if onode.omap_id != 0 && !self.omap.fresh {
            self.omap.reaps.push(onode.omap_id);
        }
        (onode.omap_id, onode.omap_keys, onode.omap_bytes) = (0, 0, 0);
        let reaps = std::mem::take(&mut self.omap.reaps);
        self.omap = StagedOmap { reaps, ..StagedOmap::default() };
    }
}

/// What stays in memory, in memory of its own: a short part of a long buffer would keep all of that.
pub fn owned(bytes: &Bytes) -> Bytes {
    if bytes.len() < OWNED_BYTES_MAX { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
}
