//! What a record's items mean. One function for records that take effect now and for those that replay finds, so
//! that the two cannot differ.

use allocator::Extent;
use bytes::Bytes;

use super::pg_log::LogChange;
use super::space::Change;
use super::state::{Collection, Inner, Purpose};
use crate::codec::{DecodeError, DecodeResult, Decoder, Encoder};
use crate::fault::Planted;
use crate::journal::item::Item;
use crate::keys;
use crate::types::PoolStats;

/// Why a record cannot be applied: a mistake of the writer, or corruption that no checksum found.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A value cannot be decoded.
    #[error("a value in record {0} cannot be decoded: {1}")]
    Decode(u64, DecodeError),
    /// Space is used or freed twice.
    #[error("record {0} does not fit the allocation: {1}")]
    Space(u64, allocator::AllocError),
    /// Space comes back that is not lent.
    #[error("record {0} takes back {1}, which is not lent")]
    Loan(u64, allocator::Extent),
}

/// Now, or after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The record takes effect now; its space was taken from the allocator.
    Live,
    /// Replay: the allocator is as of the record before. Deferred payloads are the caller's.
    Replay,
}

impl Inner {
    /// Applies a record to everything in memory.
    pub fn apply(&self, record: u64, items: &[Item], mode: Mode) -> Result<(), ApplyError> {
        for item in items {
            self.apply_item(record, item, mode)?;
        }
        Ok(())
    }

    fn apply_item(&self, record: u64, item: &Item, mode: Mode) -> Result<(), ApplyError> {
        match item {
            Item::Put(key, value) => {
                self.note_key(key, Some(value)).map_err(|error| ApplyError::Decode(record, error))?;
                self.overlay.put(key.clone(), value.clone());
            }
            Item::Delete(key) => {
                self.note_key(key, None).map_err(|error| ApplyError::Decode(record, error))?;
                self.overlay.delete(key.clone());
            }
            Item::DeleteRange(start, end) => self.overlay.delete_range(start.clone(), end.clone()),
            Item::Statistics(pool, delta) => {
                add(&mut self.pools.borrow_mut(), *pool, delta);
                add(&mut self.pending.borrow_mut().statistics, *pool, delta);
            }
            Item::Allocate(extent) => match mode {
                Mode::Live => self.space.used(*extent),
                Mode::Replay if self.options.fault.is(Planted::TakenForgottenByReplay) => {}
                Mode::Replay => self.replay_space(record, Change::Use(*extent))?,
            },
            Item::Free(extent) => match mode {
                Mode::Live => {
                    self.forget_blocks(*extent);
                    self.space.freed(record, *extent);
                }
                Mode::Replay if self.options.fault.is(Planted::FreedForgottenByReplay) => {}
                Mode::Replay => self.replay_space(record, Change::Free(*extent))?,
            },
            Item::Lend(extent) => {
                match mode {
                    Mode::Live => self.space.used(*extent),
                    Mode::Replay => self.replay_space(record, Change::Use(*extent))?,
                }
                self.space.lend(*extent);
            }
            Item::Return(extent) => {
                if !self.space.take_lent(*extent) {
                    return self.unless_repaired(ApplyError::Loan(record, *extent));
                }
                match mode {
                    Mode::Live => self.space.freed(record, *extent),
                    Mode::Replay => self.replay_space(record, Change::Free(*extent))?,
                }
            }
            Item::Deferred(deferred) => {
                if mode == Mode::Live {
                    self.deferred.add(record, deferred.address, &deferred.payload);
                    self.replace_blocks(deferred.address, &deferred.payload);
                }
            }
            Item::InFlight(..) => {}
            Item::LogEntry(id, version, entry) => {
                if let Some(collection) = self.collections.borrow_mut().get_mut(id) {
                    let keep = self.options.pg_log_entries;
                    self.pg_log.borrow_mut().append(collection, *version, entry.clone(), keep);
                }
                let change = LogChange::Entry(*id, *version, entry.clone());
                self.pending.borrow_mut().log.push(change);
            }
            Item::LogDrop(id) => {
                if let Some(collection) = self.collections.borrow_mut().get_mut(id) {
                    self.pg_log.borrow_mut().clear(collection);
                }
                self.pending.borrow_mut().log.push(LogChange::Drop(*id));
            }
            Item::NextOmapId(id) => self.next_omap_id.set(self.next_omap_id.get().max(*id)),
        }
        Ok(())
    }

    /// Nobody's blocks need not be kept.
    fn forget_blocks(&self, extent: Extent) {
        let mut blocks = self.blocks.borrow_mut();
        let step = usize::try_from(self.block).unwrap_or(usize::MAX);
        for address in (extent.start..extent.end()).step_by(step) {
            if blocks.is_blank() {
                return;
            }
            blocks.forget(address);
        }
    }

    /// Blocks that are kept change with what changes them.
    fn replace_blocks(&self, address: u64, payload: &Bytes) {
        let mut blocks = self.blocks.borrow_mut();
        let step = usize::try_from(self.block).unwrap_or(usize::MAX);
        for (address, start) in (address..).step_by(step).zip((0..payload.len()).step_by(step)) {
            blocks.replace(address, &payload.slice(start..(start + step).min(payload.len())));
        }
    }

    fn replay_space(&self, record: u64, change: Change) -> Result<(), ApplyError> {
        let replayed = self.space.replay(change);
        replayed.or_else(|error| self.unless_repaired(ApplyError::Space(record, error)))
    }

    /// What is free, and what is lent, follows from everything else if the store is being repaired.
    fn unless_repaired(&self, error: ApplyError) -> Result<(), ApplyError> {
        if self.purpose != Purpose::Repair {
            return Err(error);
        }
        self.free_list_problem.borrow_mut().get_or_insert_with(|| error.to_string());
        Ok(())
    }

    /// Keeps what is in memory beside the overlay equal to the keys.
    fn note_key(&self, key: &Bytes, value: Option<&Bytes>) -> DecodeResult<()> {
        if key.starts_with(b"C") {
            let id = keys::parse_collection(key)?;
            let mut collections = self.collections.borrow_mut();
            match value {
                Some(value) => {
                    let (bits, meta) = decode_collection(value.clone())?;
                    if collections.get(&id).is_none_or(|known| known.bits != bits) {
                        self.collections_version.set(self.collections_version.get() + 1);
                    }
                    let collection = collections.entry(id).or_default();
                    (collection.bits, collection.meta) = (bits, meta);
                }
                None => {
                    self.collections_version.set(self.collections_version.get() + 1);
                    if let Some(mut gone) = collections.remove(&id) {
                        self.pg_log.borrow_mut().clear(&mut gone);
                    }
                }
            }
        } else if key.starts_with(b"Sreap.") {
            let id = keys::parse_reap(key)?;
            let mut reaps = self.reaps.borrow_mut();
            match value {
                Some(_) => reaps.push_back(id),
                None => reaps.retain(|other| *other != id),
            }
        }
        Ok(())
    }
}

fn add(pools: &mut std::collections::BTreeMap<i64, PoolStats>, pool: i64, delta: &PoolStats) {
    let stats = pools.entry(pool).or_default();
    *stats = stats.plus(delta);
    if *stats == PoolStats::default() {
        pools.remove(&pool);
    }
}

/// Value of a collection's key.
pub fn encode_collection(collection: &Collection) -> Bytes {
    let mut e = Encoder::new();
    e.u8(1);
    e.u8(collection.bits);
    e.bytes(&collection.meta);
    e.into_bytes()
}

/// Reads the value of a collection's key.
pub fn decode_collection(value: Bytes) -> DecodeResult<(u8, Bytes)> {
    let mut d = Decoder::new(value);
    let version = d.u8("version of a collection")?;
    if version != 1 {
        return d.invalid("version of a collection", 0, version.into());
    }
    let bits = d.u8("bits of a collection")?;
    if bits > 32 {
        return d.invalid("bits of a collection", 1, bits.into());
    }
    let meta = d.bytes("metadata of a collection")?;
    d.end("collection")?;
    Ok((bits, meta))
}
