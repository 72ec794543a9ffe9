//! Blocks that cannot be read and that somebody else has: asked for, verified, served, and written anew.
//!
//! What a copy gives is verified against the checksum that is stored here, so nothing that was not written is ever served; blocks
//! under one checksum are asked for together. A block of which a part was punched out or zeroed since it was written cannot be
//! verified so, as no copy has what is no longer visible; nor can a compressed blob, or one whose checksums are of less than 32
//! bits. Those stay unreadable until whoever keeps the copies writes the object anew.

use std::rc::Rc;

use bytes::Bytes;
use nvme::DeviceError;
use rt::Group;
use rt::sync::oneshot;

use super::state::{Inner, Purpose};
use crate::check;
use crate::object_store::StoreResult;
use crate::shard::Place;
use crate::transaction::{Op, Transaction};
use crate::types::{AccessHints, CollectionId, ObjectId};

/// Bytes of a checksum that nothing else has by chance.
const STRONG_BYTES: usize = 4;

impl Inner {
    /// Whether a read that failed so may be made good by a copy.
    pub fn may_heal(&self, error: &DeviceError) -> bool {
        matches!(error, DeviceError::Io { .. }) && self.copies.borrow().is_some()
    }

    /// What is under the checksum of a place of the newest state as a copy has it, if one has what was written.
    pub async fn heal(self: &Rc<Self>, object: &ObjectId, place: &Place) -> Option<Bytes> {
        // A weak checksum would take nearly anything for what was written.
        if place.is_packed || place.checksum.kind().bytes() < STRONG_BYTES {
            return None;
        }
        let asked = self
            .copies
            .borrow()
            .as_ref()
            .map(|copies| copies.fetch(object, place.chunk_logical(), place.chunk(self.block).len));
        let found = asked?.await?;
        let block = padded(found, usize::try_from(place.chunk(self.block).len).ok()?)?;
        if !place.checksum.matches(&block) {
            let at = place.chunk_logical();
            log::warn!("{object}, byte {at}: what a copy has is not what was written here");
            return None;
        }
        self.counters.blocks_healed.add(place.chunk_blocks.into());
        self.write_anew(object, *place, block.clone());
        Some(block)
    }

    /// Writes what is bad on the device to new space, or in place where that is how blocks are overwritten, unless
    /// somebody else does, or did in the meantime.
    fn write_anew(self: &Rc<Self>, object: &ObjectId, place: Place, block: Bytes) {
        if self.purpose != Purpose::Serve {
            return;
        }
        let Some(collection) = self.collection_of(object) else { return };
        if !self.healing.borrow_mut().insert(place.chunk) {
            return;
        }
        let (this, object) = (Rc::clone(self), object.clone());
        let pass = self.gate.enter();
        self.spawn(Group::Background, "healing", async move {
            if pass.is_some() {
                match this.overwrite_if_there(collection, &object, &place, &block).await {
                    Ok(()) => {}
                    // The next one to read it tries again.
                    Err(error) => {
                        log::warn!("{object}, byte {}, cannot be written anew: {error}", place.logical)
                    }
                }
            }
            this.healing.borrow_mut().remove(&place.chunk);
        });
    }

    async fn overwrite_if_there(
        self: &Rc<Self>,
        collection: CollectionId,
        object: &ObjectId,
        place: &Place,
        block: &Bytes,
    ) -> StoreResult<()> {
        // While it is our turn nobody else changes the object.
        let mut turn = self.sequencer.enter(std::iter::once(collection));
        turn.come().await;
        let start = place.chunk_logical();
        let end = start + place.chunk(self.block).len;
        let loaded =
            self.load(object, |onode, number| u64::from(number) == start / u64::from(onode.shard_span));
        let loaded = loaded.await?;
        let mut ops = Vec::new();
        for shard in loaded.shards.values() {
            let same = |found: &Place| {
                (found.chunk, found.birth, found.checksum) == (place.chunk, place.birth, place.checksum)
            };
            if !shard.place(start, self.block).as_ref().is_some_and(same) {
                continue;
            }
            for (at, len) in shard.ranges() {
                let (from, to) = (at.max(start), (at + len).min(end));
                if from < to {
                    let within = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
                    let data = vec![block.slice(within(from)..within(to))];
                    ops.push(Op::Write { collection, object: object.clone(), offset: from, data });
                }
            }
        }
        drop(loaded);
        if ops.is_empty() {
            return Ok(());
        }
        let (record_durable, receiver) = oneshot();
        let mut at = self.core.now();
        self.execute(&Transaction { ops }, AccessHints::default(), record_durable, &mut at).await?;
        drop(turn);
        super::submit::answer(self, receiver).await
    }

    fn collection_of(&self, object: &ObjectId) -> Option<CollectionId> {
        let collections = self.collections.borrow();
        let mut all = collections.iter();
        all.find(|(id, collection)| check::check_member(**id, collection.bits, object).is_ok())
            .map(|(id, _)| *id)
    }
}

/// Behind an object's end a block has zeroes.
fn padded(found: Bytes, len: usize) -> Option<Bytes> {
    if found.len() >= len {
        return (found.len() == len).then_some(found);
    }
    let mut block = found.to_vec();
    block.resize(len, 0);
    Some(Bytes::from(block))
}
